"""L-BFGS between bounds: its linear algebra against the paper's in NumPy, its answers against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import optimized, rosenbrock
from scipy import optimize

import gdjax
from gdjax import Status
from gdjax.linalg import boxes

learn, toward = jax.jit(boxes.learn), jax.jit(boxes.toward)


@jax.jit
def cauchy_point(pairs, x, grad, lower, upper):
    return boxes.cauchy_point(boxes.compact(pairs, jnp.ones(())), x, grad, lower, upper)


def bfgs_matrix(steps, changes, memory):
    """Nocedal and Wright, equations 7.20 and 6.19, from the last pairs."""
    theta = changes[-1] @ changes[-1] / (steps[-1] @ changes[-1])
    B = theta * np.eye(steps[-1].size)
    for s, y in list(zip(steps, changes, strict=True))[-memory:]:
        B += np.outer(y, y) / (s @ y) - np.outer(B @ s, B @ s) / (s @ B @ s)
    return B


def first_minimum(B, x, g, lower, upper):
    """Algorithm CP, segment by segment with the dense matrix."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.where(g < 0, (x - upper) / g, np.where(g > 0, (x - lower) / g, np.inf))
    d, z, t = np.where(ends > 0, -g, 0.0), np.zeros_like(x), 0.0
    for end in [*np.sort(ends[ends > 0]), np.inf]:
        slope, bend = g @ d + d @ B @ z, d @ B @ d
        best = -slope / bend if bend > 0 else 0.0
        if best < end - t:
            return x + z + max(best, 0) * d
        z, t = z + (end - t) * d, end
        d = np.where(ends <= t, 0.0, d)
    return x + z


def drawn(seed, n=7, memory=4, count=6):
    """Pairs of a convex function, a point in a box, a gradient."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A = A @ A.T + 0.1 * np.eye(n)
    steps = list(rng.normal(size=(count, n)))
    changes = [A @ s + 0.1 * s**3 for s in steps]
    pairs = boxes.no_pairs(memory, jnp.zeros(n))
    for s, y in zip(steps, changes, strict=True):
        pairs = learn(pairs, s, y, True)
    x, g = rng.normal(size=n), rng.normal(size=n)
    walls = rng.uniform(0, 1, (2, n)) * rng.choice([0.0, 0.1, 1.0, 10.0], (2, n))
    return pairs, bfgs_matrix(steps, changes, memory), x, g, x - walls[0], x + walls[1]


@pytest.mark.parametrize("seed", range(12))
def test_cauchy_point_and_subspace_step_are_the_papers(x64, seed):
    pairs, B, x, g, lower, upper = drawn(seed)
    corner = first_minimum(B, x, g, lower, upper)
    np.testing.assert_allclose(cauchy_point(pairs, x, g, lower, upper), corner, atol=1e-10)

    free = (corner > lower) & (corner < upper)
    step = np.zeros_like(x)
    slope = g + B @ (corner - x)
    step[free] = -np.linalg.solve(B[np.ix_(free, free)], slope[free])
    onto = np.clip(corner + step, lower, upper) - x
    direction = toward(pairs, x, g, lower, upper, 1.0)
    if g @ onto < 0:
        np.testing.assert_allclose(direction, onto, atol=1e-9)
    assert g @ np.asarray(direction) <= 0


def test_without_walls_the_direction_is_quasi_newton(x64):
    for seed in range(4):
        pairs, B, x, g, _, _ = drawn(seed)
        far = np.full_like(x, np.inf)
        direction = toward(pairs, x, g, -far, far, 1.0)
        np.testing.assert_allclose(direction, -np.linalg.solve(B, g), rtol=1e-9, atol=1e-12)


def test_pairs_without_curvature_are_left_out(x64):
    pairs = boxes.no_pairs(3, jnp.zeros(2))
    good = learn(pairs, jnp.ones(2), jnp.ones(2), True)
    for step, change, usable in [([1.0, 0.0], [-1.0, 0.0], True), ([1.0, 0.0], [1.0, 0.0], False)]:
        same = learn(good, jnp.asarray(step), jnp.asarray(change), usable)
        jax.tree.map(np.testing.assert_array_equal, same, good)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rounded_sum_stays_inside(x64, dtype):
    """x + (l - x) is below l for a third of random pairs; the corrected update never is."""
    rng = np.random.default_rng(0)
    size = 20_000
    lower = (rng.normal(size=size) * 10.0 ** rng.integers(-8, 8, size)).astype(dtype)
    width = (rng.uniform(size=size) * 10.0 ** rng.integers(-8, 8, size)).astype(dtype)
    upper = np.maximum(lower + width, lower)
    x = np.clip(lower + (upper - lower) * rng.uniform(size=size).astype(dtype), lower, upper)
    naive = x + (lower - x)
    assert np.mean(naive < lower) > 0.05
    for target in (lower, upper, 0.5 * (lower + upper)):
        update = np.asarray(boxes.stay_inside(*map(jnp.asarray, (x, target, lower, upper))))
        assert np.all((x + update >= lower) & (x + update <= upper))
        spacing = np.spacing(np.maximum(np.abs(x), np.abs(target)))
        assert np.all(np.abs(x + update - target) <= 2 * spacing)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "low", "high"), [(5, -1.5, 0.8), (10, 1.2, 3.0)])
def test_finds_what_scipy_finds_with_no_more_evaluations(x64, n, low, high):
    start = np.clip(-1.2 * np.ones(n), low, high)
    both = jax.jit(jax.value_and_grad(rosenbrock))
    peer = optimize.minimize(
        lambda x: tuple(np.asarray(part) for part in both(x)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high)] * n,
        options={"ftol": 0, "gtol": 1e-6},
    )
    run = gdjax.minimize(rosenbrock, jnp.asarray(start), gdjax.lbfgsb(low, high))
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.value, peer.fun, rtol=1e-9, atol=1e-9)
    assert run.steps <= 1.3 * peer.nfev + 3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_point_outside_is_ever_evaluated(x64, dtype):
    """Roots and logarithms that are NaN beyond the walls, from a start beyond them."""
    lower, upper = jnp.asarray([0.1, -jnp.inf, 0.3], dtype), jnp.asarray([jnp.inf, 0.7, 0.9], dtype)

    def objective(x):
        walls = (
            jnp.sqrt(x[0] - lower[0])
            + jnp.sqrt(upper[1] - x[1])
            + jnp.sqrt((x[2] - lower[2]) * (upper[2] - x[2]))
        )
        return jnp.sum((x - jnp.asarray([-1.0, 1.0, 0.5], dtype)) ** 2) + 1e-3 * jnp.log(1 + walls**2)

    run = gdjax.Run(objective, jnp.asarray([-3.0, 0.0, 5.0], dtype), gdjax.lbfgsb(lower, upper), max_steps=40)
    states = jax.jit(lambda run: jax.lax.scan(lambda s, _: (run.step(s), s.params), run.init(), length=40))(
        run
    )[1]
    assert bool(jnp.all((states >= lower[None]) & (states <= upper[None])))
    result = gdjax.minimize(objective, run.params, run.optimizer)
    assert bool(jnp.isfinite(result.value))
    assert bool(jnp.all((result.params >= lower) & (result.params <= upper)))


@pytest.mark.slow
def test_residual_is_the_projected_gradient(x64):
    run = gdjax.minimize(rosenbrock, -jnp.ones(6), gdjax.lbfgsb(-2.0, 0.5))
    grad = jax.grad(rosenbrock)(run.params)
    short = jnp.clip(run.params - grad, -2.0, 0.5) - run.params
    np.testing.assert_allclose(run.residual, jnp.linalg.norm(short), rtol=1e-6, atol=1e-12)
    assert run.residual < 1e-6 < jnp.linalg.norm(grad)


@pytest.mark.slow
def test_bounds_come_as_numbers_trees_prefixes_and_none(x64):
    start = {"a": jnp.zeros(2), "b": (jnp.zeros(()), jnp.zeros((1, 2)))}

    def objective(p):
        return sum(jnp.sum((leaf - 2) ** 2) for leaf in jax.tree.leaves(p))

    whole = jax.tree.map(lambda leaf: jnp.ones_like(leaf), start)
    for upper in (whole, {"a": jnp.ones(2), "b": 1.0}):
        run = gdjax.minimize(objective, start, gdjax.lbfgsb(upper=upper))
        assert run.status == Status.CONVERGED
        jax.tree.map(np.testing.assert_array_equal, run.params, whole)
    run = gdjax.minimize(objective, start, gdjax.lbfgsb({"a": None, "b": 3.0}, {"a": 1.0, "b": None}))
    np.testing.assert_allclose(run.params["a"], 1.0)
    np.testing.assert_allclose(run.params["b"][1], 3.0)


@pytest.mark.slow
def test_equal_bounds_fix_a_variable(x64):
    lower, upper = jnp.array([-2.0, 0.25, -2.0]), jnp.array([2.0, 0.25, 2.0])
    run = gdjax.minimize(rosenbrock, jnp.zeros(3), gdjax.lbfgsb(lower, upper))
    assert run.status == Status.CONVERGED
    assert run.params[1] == 0.25
    rest = optimize.minimize(
        lambda v: float(rosenbrock(jnp.array([v[0], 0.25, v[1]]))),
        np.zeros(2),
        bounds=[(-2, 2)] * 2,
        tol=1e-12,
    )
    np.testing.assert_allclose(run.value, rest.fun, rtol=1e-7)


@pytest.mark.slow
def test_bounds_are_an_axis():
    def trial(upper):
        return gdjax.minimize(rosenbrock, jnp.zeros(4), gdjax.lbfgsb(-upper, upper))

    uppers = jnp.array([0.3, 0.8, 5.0])
    mapped, trial = optimized(jax.vmap(trial))(uppers), optimized(trial)
    for lane, upper in enumerate(uppers):
        np.testing.assert_allclose(mapped.params[lane], trial(upper).params, atol=2e-3)
        assert mapped.status[lane] in (Status.CONVERGED, Status.NOISE_FLOOR)


def test_bad_bounds_meet_an_error():
    with pytest.raises(ValueError, match="must not exceed"):
        gdjax.lbfgsb(1.0, 0.0)
    with pytest.raises(ValueError, match="must not exceed"):
        gdjax.lbfgsb({"a": jnp.zeros(2), "b": 0.0}, {"a": jnp.array([1.0, -1.0]), "b": 1.0})
    with pytest.raises(ValueError, match="memory"):
        gdjax.lbfgsb(memory=0)
    with pytest.raises(ValueError, match="upper does not fit"):
        gdjax.minimize(rosenbrock, jnp.zeros(3), gdjax.lbfgsb(upper=jnp.ones(2)))


@pytest.mark.slow
def test_an_open_end_is_unbounded_and_a_wall_ends_it():
    start = jnp.zeros(3)
    run = gdjax.minimize(jnp.sum, start, gdjax.lbfgsb(upper=1.0))
    assert run.status == Status.UNBOUNDED
    run = gdjax.minimize(jnp.sum, start, gdjax.lbfgsb(lower=-4.0))
    assert run.status == Status.CONVERGED
    np.testing.assert_array_equal(run.params, -4.0)


@pytest.mark.slow
def test_its_own_answer_on_new_data_is_taken_without_a_test(x64):
    method = gdjax.lbfgsb(-1.0, 1.0)
    x = jnp.array([0.5, 0.5])
    state = method.init(x)
    update = jax.jit(lambda grad, state, value: method.update(grad, state, x, value=value))
    moves, state = update(2 * x, state, jnp.sum(x**2))
    _, again = update(2 * x + 7, state, jnp.asarray(100.0))
    assert again.answer.value == 100
    np.testing.assert_array_equal(again.grad, 2 * x + 7)
    jax.tree.map(np.testing.assert_array_equal, again.pairs, state.pairs)
    assert float(jnp.linalg.norm(moves)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.lbfgsb, gdjax.bounded_trust_region])
def test_derivatives_pass_through_walls(x64, method):
    """Bounds and data are arguments; a variable on its wall moves with the wall."""
    stop = gdjax.stopping.residual_below(1e-11)

    def solve(t):
        def objective(x):
            return jnp.sum((x - t[:3]) ** 2) + 0.1 * jnp.sum(x[:-1] * x[1:]) + 0.05 * jnp.sum(x**4)

        run = gdjax.minimize(objective, jnp.zeros(3), method(t[3], t[4]), stop=stop)
        return jnp.append(run.params, run.value)

    t, step = jnp.array([1.0, -2.0, 0.3, -0.5, 0.6]), 1e-5
    solve = jax.jit(solve)
    np.testing.assert_allclose(solve(t)[:2], [0.6, -0.5])
    columns = [(solve(t + step * e) - solve(t - step * e)) / (2 * step) for e in jnp.eye(5)]
    np.testing.assert_allclose(jax.jit(jax.jacrev(solve))(t), jnp.stack(columns, -1), atol=1e-7)
