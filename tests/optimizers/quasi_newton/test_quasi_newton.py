"""Quasi-Newton updates against the published formulas in float64 NumPy, and what the methods promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import rosenbrock

import gdjax
from gdjax import Status, linesearch
from gdjax.linesearch import Move
from gdjax.optimizers.quasi_newton import dense, lbfgs


def bowl(x):
    curvature = jnp.diag(jnp.array([1.0, 3.0, 10.0])) + 0.3
    return 0.5 * x @ curvature @ x + 0.1 * jnp.sum(jnp.cos(x))


def trail(method, value_fn, params, count):
    """States after each of ``count`` updates, stacked."""

    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = method.update(grad, state, params, value=value)
        return (optax.apply_updates(params, updates), state), state

    return jax.jit(lambda p: jax.lax.scan(step, (p, method.init(p)), length=count)[1])(params)


def accepted(states):
    """Points, gradients and directions where the accepted point changed."""
    x, g, p = (np.asarray(part) for part in (states.answer.params, states.grad, states.direction))
    keep = np.r_[True, np.any(np.diff(x, axis=0) != 0, axis=1)]
    return x[keep], g[keep], p[keep]


def bfgs_inverse(H, s, y):
    """Nocedal and Wright, equation 6.17."""
    rho = 1 / (y @ s)
    left = np.eye(s.size) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


def dfp_inverse(H, s, y):
    """Nocedal and Wright, equation 6.15."""
    return H - np.outer(H @ y, H @ y) / (y @ H @ y) + np.outer(s, s) / (y @ s)


def sr1_inverse(H, s, y):
    """Nocedal and Wright, equation 6.25."""
    r = s - H @ y
    return H + np.outer(r, r) / (r @ y)


def broyden_inverse(phi, H, s, y):
    """Nocedal and Wright, equation 6.32, inverted by brute force."""
    B = np.linalg.inv(H)
    Bs, sBs, ys = B @ s, s @ B @ s, y @ s
    v = y / ys - Bs / sBs
    return np.linalg.inv(B - np.outer(Bs, Bs) / sBs + np.outer(y, y) / ys + phi * sBs * np.outer(v, v))


def first_inverse(s, y, name=""):
    """Nocedal and Wright, equation 6.20; for SR1 that of Osborne and Sun (1999)."""
    if name == "sr1":
        rho = s @ s / (s @ y)
        return (rho - np.sqrt(rho**2 - s @ s / (y @ y))) * np.eye(s.size)
    return (s @ y) / (y @ y) * np.eye(s.size)


METHODS = {
    "bfgs": (lambda: gdjax.bfgs(scaling=None), bfgs_inverse),
    "dfp": (gdjax.dfp, dfp_inverse),
    "sr1": (gdjax.sr1, sr1_inverse),
    "broyden 0": (lambda: gdjax.broyden(0.0), bfgs_inverse),
    "broyden 0.4": (lambda: gdjax.broyden(0.4), functools.partial(broyden_inverse, 0.4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_directions_follow_the_published_update(name, x64):
    method, inverse = METHODS[name]
    x, g, p = accepted(trail(method(), bowl, jnp.array([1.0, -2.0, 0.5]), 9))
    assert len(x) >= 6
    np.testing.assert_allclose(p[0], -g[0] * min(1, 1 / np.linalg.norm(g[0])), rtol=1e-12)
    H = None
    for k in range(1, len(x)):
        s, y = x[k] - x[k - 1], g[k] - g[k - 1]
        H = first_inverse(s, y, name) if H is None else H
        H = inverse(H, s, y)
        np.testing.assert_allclose(p[k], -H @ g[k], rtol=1e-6, atol=1e-9 * np.linalg.norm(g[0]))
        np.testing.assert_allclose(H @ y, s, rtol=1e-8, atol=1e-10)  # the secant equation


@pytest.mark.slow
def test_self_scaling_enlarges_the_inverse_before_the_update(x64):
    """Where s^T B s exceeds s^T y; with B inverted by brute force."""
    x, g, p = accepted(trail(gdjax.bfgs(), rosenbrock, jnp.array([-1.2, 1.0, 0.5]), 25))
    s, y = np.diff(x, axis=0), np.diff(g, axis=0)
    H, factors = first_inverse(s[0], y[0]), [1.0]
    for k in range(len(s)):
        if k:
            factors.append(np.sqrt(max(1, s[k] @ np.linalg.solve(H, s[k]) / (s[k] @ y[k]))))
        H = bfgs_inverse(factors[-1] * H, s[k], y[k])
        np.testing.assert_allclose(p[k + 1], -H @ g[k + 1], rtol=1e-6, atol=1e-9)
    assert max(factors) > 1.5
    assert min(factors[1:]) == 1


def test_first_update_of_rank_one_is_best_conditioned(x64):
    """Osborne and Sun: no multiple of the identity leads to a smaller condition number."""
    s, y = np.array([1.0, 0.5, -0.2]), np.array([2.0, 0.1, 0.3])
    best = np.linalg.cond(sr1_inverse(first_inverse(s, y, "sr1"), s, y))
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1):
        H = sr1_inverse(factor * first_inverse(s, y, "sr1"), s, y)
        assert np.linalg.eigvalsh(H)[0] > 0
        assert np.linalg.cond(H) > best


def two_loops(g, pairs):
    """Nocedal and Wright, algorithm 7.4, with the largest of the ratios in equation 7.20."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (y @ s))
        q = q - alphas[-1] * y
    r = max((s @ y) / (y @ y) for s, y in pairs) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - (y @ r) / (y @ s))
    return -r


@pytest.mark.slow
@pytest.mark.parametrize("memory", [1, 3, 10])
def test_compact_form_is_the_two_loop_recursion(memory, x64):
    x, g, p = accepted(trail(gdjax.lbfgs(memory), rosenbrock, jnp.array([-1.2, 1.0, 0.5, 2.0]), 40))
    assert len(x) >= 20
    pairs = []
    for k in range(1, len(x)):
        pairs = [*pairs, (x[k] - x[k - 1], g[k] - g[k - 1])][-memory:]
        np.testing.assert_allclose(p[k], two_loops(g[k], pairs), rtol=1e-7, atol=1e-10)


def test_full_memory_is_bfgs_from_a_scaled_identity(x64):
    x, g, p = accepted(trail(gdjax.lbfgs(30), rosenbrock, jnp.array([-1.2, 1.0, 0.5]), 25))
    s, y = np.diff(x, axis=0), np.diff(g, axis=0)
    H = max(np.sum(s * y, 1) / np.sum(y * y, 1)) * np.eye(3)
    for k in range(len(s)):
        H = bfgs_inverse(H, s[k], y[k])
    np.testing.assert_allclose(p[-1], -H @ g[-1], rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.bfgs, gdjax.dfp, gdjax.lbfgs])
def test_quadratics_end_within_n_steps_of_an_exact_search(method, x64):
    n = 6
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    curvature = jnp.asarray(basis * np.geomspace(1, 50, n) @ basis.T)
    f = lambda x: 0.5 * x @ curvature @ x  # noqa: E731
    states = trail(method(search=linesearch.strong_wolfe(c2=1e-8)), f, jnp.asarray(rng.normal(size=n)), 5 * n)
    _, g, _ = accepted(states)
    norms = np.linalg.norm(g, axis=1)
    assert norms[: n + 1].min() <= 1e-9 * norms[0]


def moves(g, s, y, p, along, paired=True, failed=False):
    us, uy, _ = units = jnp.asarray(0.5), jnp.asarray(4.0), jnp.asarray(2.0)
    return Move(
        g,
        s,
        y,
        p,
        along,
        units,
        (jnp.sum(s * s) / us**2, jnp.sum(y * y) / uy**2),
        jnp.asarray(True),
        jnp.asarray(paired),
        jnp.asarray(failed),
        None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("kind", ["dense", "pairs"])
def test_negative_curvature_is_skipped_or_damped(kind, damped, x64):
    """Powell's procedure 18.2 of Nocedal and Wright with B s = -a g."""
    damping = dense.powell_damping if damped else None
    method = gdjax.bfgs(damping=damping) if kind == "dense" else gdjax.lbfgs(4, damping=damping)
    direction = method.init.args[0]
    before, p, along = np.array([1.0, -2.0, 0.5]), np.array([-1.0, 2.0, -0.5]), 0.5
    s, y = along * p, np.array([0.3, -0.4, 0.1])  # s @ y < 0
    memory = direction.init(jnp.zeros(3), jnp.zeros(3))
    g = before + y
    found, memory = direction.update(memory, moves(*map(jnp.asarray, (g, s, y, p)), jnp.asarray(along)))
    if not damped:
        np.testing.assert_array_equal(found, 0)  # nothing learnt: steepest descent
        return
    Bs = -along * before
    theta = 0.8 * (s @ Bs) / (s @ Bs - s @ y)
    bent = theta * y + (1 - theta) * Bs
    np.testing.assert_allclose(s @ bent, 0.2 * s @ Bs, rtol=1e-12)
    H = bfgs_inverse((s @ bent) / (bent @ bent) * np.eye(3), s, bent)
    np.testing.assert_allclose(found, -H @ g, rtol=1e-12)


def test_no_square_array_in_lbfgs():
    n, memory = 1000, 5
    method = gdjax.lbfgs(memory)
    params = jnp.ones(n)
    program = jax.make_jaxpr(lambda g, s, p: method.update(g, s, p, value=jnp.sum(p)))(
        params, method.init(params), params
    )

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (variable.aval.size for variable in equation.outvars)
            for part in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")
            ):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    assert max(sizes(program.jaxpr)) <= 2 * memory * n
    assert sum(leaf.size for leaf in jax.tree.leaves(method.init(params))) <= (2 * memory + 4) * n + 100


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.bfgs, gdjax.lbfgs, gdjax.sr1])
def test_lanes_equal_single_runs(method, x64):
    starts = jnp.asarray(np.random.default_rng(3).uniform(-2, 2, (4, 4)))
    solve = jax.jit(lambda x: gdjax.minimize(rosenbrock, x, method()))
    lanes = jax.jit(jax.vmap(lambda x: gdjax.minimize(rosenbrock, x, method())))(starts)
    for k, start in enumerate(starts):
        alone = solve(start)
        assert int(alone.status) == int(lanes.status[k]) == Status.CONVERGED
        np.testing.assert_allclose(lanes.value[k], alone.value, atol=1e-10)
        assert abs(int(alone.steps) - int(lanes.steps[k])) <= 0.2 * int(alone.steps)


@pytest.mark.slow
def test_trees_are_vectors(x64):
    """The same problem as a tree and as one vector: the same steps."""
    tree = {"a": jnp.array([[-1.2, 1.0]]), "b": (jnp.array(0.5), jnp.array([2.0]))}
    flatten = lambda t: jnp.concatenate([t["a"].ravel(), t["b"][0][None], t["b"][1]])  # noqa: E731
    together = gdjax.minimize(rosenbrock, flatten(tree), gdjax.bfgs())
    apart = gdjax.minimize(lambda t: rosenbrock(flatten(t)), tree, gdjax.bfgs())
    assert int(together.steps) == int(apart.steps)
    np.testing.assert_allclose(flatten(apart.params), together.params, rtol=1e-9)


@pytest.mark.slow
def test_needs_fewer_evaluations_than_scipy(x64):
    """Rosenbrock in 10 dimensions, the same tolerance on the same norm at least."""
    from scipy import optimize

    both = jax.jit(jax.value_and_grad(rosenbrock))
    start = np.linspace(-1.2, 1.2, 10)
    ours = gdjax.minimize(rosenbrock, jnp.asarray(start), gdjax.bfgs())
    theirs = optimize.minimize(
        lambda x: tuple(map(np.asarray, both(x))), start, jac=True, method="BFGS", options={"gtol": 1e-6}
    )
    assert int(ours.status) == Status.CONVERGED
    assert int(ours.steps) + 1 <= 1.1 * theirs.nfev


@pytest.mark.parametrize("memory", [0, -1, 2.5, True])
def test_memory_is_checked(memory):
    with pytest.raises(ValueError, match="memory"):
        gdjax.lbfgs(memory)


@pytest.mark.slow
def test_empty_parts_are_left_alone():
    """A partition whose label no leaf carries."""
    optimizer = optax.partition({"a": optax.sgd(0.1), "b": gdjax.bfgs()}, {"x": "a"})
    run = gdjax.minimize(lambda t: jnp.sum(t["x"] ** 2), {"x": jnp.ones(2)}, optimizer)
    assert int(run.status) == Status.CONVERGED


def test_pairs_memory_is_named():
    assert lbfgs.PairMemory._fields == ("steps", "changes", "inverse", "scales")


@pytest.mark.slow
def test_rounding_beside_a_stiff_wall_is_called_rounding():
    """On a circle of weight 1e6 float32 resolves no descent along it, however small the last pairs' curvature."""

    def objective(x):
        return x[0] + 1e6 * (x[0] ** 2 + x[1] ** 2 - 1) ** 2

    start = jnp.array([1.1, 0.1], jnp.float32)
    run = gdjax.minimize(objective, start, gdjax.bfgs())
    assert run.status == Status.NOISE_FLOOR
    moved = jax.grad(objective)(run.params * (1 + jnp.finfo(jnp.float32).eps))
    assert run.residual <= 10 * jnp.linalg.norm(moved - jax.grad(objective)(run.params)) + 1


def test_a_search_is_asked_for_by_name():
    for constructor in (gdjax.bfgs, gdjax.lbfgs, gdjax.nonlinear_cg):
        with pytest.raises(TypeError, match=r"search must be a Search .* got float"):
            constructor(search=0.1)
