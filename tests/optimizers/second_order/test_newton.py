"""Newton's methods: one step on quadratics, saddles, parts of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.optimizers import partition
from gdjax.optimizers.second_order import newton

Status = gdjax.Status


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def quadratic(seed, values):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    matrix, center = (
        jnp.asarray(basis * np.asarray(values) @ basis.T),
        jnp.asarray(rng.normal(size=len(values))),
    )
    return (lambda x: 0.5 * (x - center) @ matrix @ (x - center)), np.asarray(matrix), np.asarray(center)


@pytest.mark.slow
@pytest.mark.parametrize("solve", [newton.absolute, newton.shifted, newton.damped])
@pytest.mark.parametrize("step", [None, 1.0])
def test_a_quadratic_takes_one_step(x64, solve, step):
    f, _, center = quadratic(0, [1.0, 4.0, 9.0])
    run = gdjax.minimize(f, jnp.zeros(3), gdjax.newton(step, solve=solve()))
    assert run.steps == 1
    np.testing.assert_allclose(run.params, center, rtol=1e-10)


def test_absolute_inverts_the_size_of_the_eigenvalues(x64):
    f, matrix, _ = quadratic(1, [-3.0, 0.5, 2.0])
    x = jnp.ones(3)
    grad = jax.grad(f)(x)
    method = gdjax.newton(1.0, solve=newton.absolute(1e-3))
    updates, _ = method.update(grad, method.init(x), x, value_fn=f)
    values, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(updates, -vectors @ ((vectors.T @ grad) / np.abs(values)), rtol=1e-10)


@pytest.mark.slow
def test_damping_and_shift_are_the_textbooks(x64):
    f, matrix, _ = quadratic(2, [0.5, 2.0, 3.0])
    x = jnp.ones(3)
    grad = jax.grad(f)(x)
    method = gdjax.newton(0.5, solve=newton.damped(2.0))
    updates, _ = method.update(grad, method.init(x), x, value_fn=f)
    np.testing.assert_allclose(updates, -0.5 * np.linalg.solve(matrix + 2 * np.eye(3), grad), rtol=1e-10)
    indefinite, _, _ = quadratic(2, [-5.0, 2.0, 3.0])
    grad = jax.grad(indefinite)(x)
    method = gdjax.newton(1.0, solve=newton.shifted())
    assert float(jnp.dot(method.update(grad, method.init(x), x, value_fn=indefinite)[0], grad)) < 0


@pytest.mark.slow
def test_saddle_free_escapes_where_pure_newton_is_caught(x64):
    def saddle(x):
        return jnp.sum(x**4 / 4 - x**2 / 2)

    x = jnp.array([0.05, -0.05])
    free = gdjax.minimize(saddle, x, gdjax.newton())
    caught = gdjax.minimize(saddle, x, gdjax.newton(1.0, solve=newton.damped()))
    np.testing.assert_allclose(np.abs(free.params), 1.0, atol=1e-5)
    np.testing.assert_allclose(caught.params, 0.0, atol=1e-5)


METHODS = {
    "newton": gdjax.newton,
    "newton_cg": gdjax.newton_cg,
    "shifted": lambda: gdjax.newton(solve=newton.shifted()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("wide", [False, True])
def test_rosenbrock(name, wide):
    with jax.enable_x64(wide):
        run = gdjax.minimize(rosenbrock, jnp.array([-1.2, 1.0]), METHODS[name]())
        assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
        np.testing.assert_allclose(run.params, 1.0, atol=1e-5 if wide else 1e-2)
        assert float(run.value) == pytest.approx(float(rosenbrock(run.params)), rel=1e-4, abs=1e-14)


@pytest.mark.slow
def test_forcing_tightens_as_the_gradient_falls(x64):
    def f(x):
        return jnp.sum(jnp.cosh(x * jnp.arange(1.0, 21.0)))

    method = gdjax.newton_cg(1.0)
    x = jnp.full(20, 0.1)
    state, tolerances = method.init(x), []
    for _ in range(6):
        grad = jax.grad(f)(x)
        updates, state = method.update(grad, state, x, value_fn=f)
        x = x + updates
        tolerances.append(float(state[0].memory.forcing.tolerance))
    assert tolerances[0] == 0.5
    assert tolerances[-1] < 1e-2
    assert float(jnp.max(jnp.abs(x))) < 1e-3


@pytest.mark.slow
def test_negative_curvature_is_followed_to_the_boundary(x64):
    """The model along the gradient falls without end: the first step is as long as the parameters."""
    x = jnp.array([0.3, 0.4])
    method = gdjax.newton_cg()

    def dome(z):
        return -jnp.sum(z**2)

    value, grad = jax.value_and_grad(dome)(x)
    updates, state = method.update(grad, method.init(x), x, value=value, value_fn=dome)
    np.testing.assert_allclose(updates, x, rtol=1e-12)
    assert float(state.memory.region.radius) == pytest.approx(0.5)
    # Foretold well and at the boundary: the next may be twice as long.
    x = x + updates
    value, grad = jax.value_and_grad(dome)(x)
    updates, state = method.update(grad, state, x, value=value, value_fn=dome)
    np.testing.assert_allclose(updates, x, rtol=1e-12)
    assert float(state.memory.region.radius) == pytest.approx(1.0)


@pytest.mark.slow
def test_the_region_follows_the_gains_told_by_gradients(x64):
    """The rule in NumPy along a run on Rosenbrock's function, whose search shortens some steps."""
    x = jnp.array([-1.2, 1.0])
    method = gdjax.newton_cg()
    state, update = (
        method.init(x),
        jax.jit(lambda s, z, v, g: method.update(g, s, z, value=v, value_fn=rosenbrock)),
    )
    shortened = 0
    for _ in range(40):
        value, grad = jax.value_and_grad(rosenbrock)(x)
        before, tried = state, x
        updates, state = update(state, x, value, grad)
        x = x + updates
        step, base = np.asarray(tried - before.answer.params), before.memory.region
        if not np.isfinite(before.answer.value) or not np.array_equal(state.answer.params, tried):
            continue
        length = np.linalg.norm(step)
        along = length / np.linalg.norm(before.direction)
        radius = min(base.radius, length) if along < 0.9 else base.radius
        shortened += along < 0.9
        predicted = -along * (base.slope + 0.5 * along * base.curvature_along)
        ratio = -0.5 * np.dot(before.grad + grad, step) / predicted
        if ratio >= 0.75 and length >= 0.9 * radius:
            radius = max(radius, 2 * length)
        elif ratio < 0.25:
            radius = 0.5 * length
        assert float(state.memory.region.radius) == pytest.approx(float(radius), rel=1e-9)
    assert shortened > 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 50])
def test_a_crooked_valley_takes_no_more_steps_than_a_trust_region_of_its_kind(x64, size):
    def valley(x):
        return 1 + jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1) ** 2)

    x = jnp.arange(1.0, size + 1) / (size + 1)
    method = gdjax.trust_region(subproblem=gdjax.linalg.subproblems.steihaug)
    run, other = (gdjax.minimize(valley, x, m) for m in (gdjax.newton_cg(), method))
    assert run.status == Status.CONVERGED
    assert run.steps < 1.3 * other.steps
    np.testing.assert_allclose(run.value, 1.0, rtol=1e-9)


def test_no_matrix_in_truncated_newton():
    n = 40
    x = jnp.ones(n)
    method = gdjax.newton_cg(1.0)

    def f(z):
        return jnp.sum(z**4)

    program = str(jax.make_jaxpr(lambda s: method.update(4 * x**3, s, x, value_fn=f))(method.init(x)))
    assert f"[{n},{n}]" not in program


@pytest.mark.slow
def test_vmap_is_a_loop(x64):
    starts = jnp.array([[-1.2, 1.0], [0.0, 0.0]])
    for method in (gdjax.newton(), gdjax.newton_cg()):
        both = jax.vmap(lambda x, m=method: gdjax.minimize(rosenbrock, x, m, max_steps=200))(starts)
        for i in range(2):
            alone = gdjax.minimize(rosenbrock, starts[i], method, max_steps=200)
            np.testing.assert_allclose(both.params[i], alone.params, rtol=1e-9)


@pytest.mark.slow
def test_schedules_and_tracers(x64):
    f, _, center = quadratic(3, [1.0, 2.0])

    def last(rate):
        return gdjax.minimize(f, jnp.zeros(2), gdjax.newton(rate), stop=None, max_steps=2).params

    rates = jnp.array([0.5, 1.0])
    np.testing.assert_allclose(jax.vmap(last)(rates), [0.75 * center, center], rtol=1e-9)
    decay = gdjax.newton(lambda count: 1.0 / (count + 1))
    np.testing.assert_allclose(gdjax.minimize(f, jnp.zeros(2), decay).params, center, rtol=1e-9)


# --- parts of the parameters ---


def coupled(p):
    return jnp.sum(jnp.cosh(p["head"] - p["body"])) + 3 * (p["body"] - 1) ** 2 * jnp.sum(p["head"] ** 2)


LABELS = {"head": "second", "body": "first"}
START = {"head": jnp.array([1.0, 2.0]), "body": jnp.array(0.5)}
INNER = {
    "newton": lambda: gdjax.newton(1.0),
    "newton, searched": gdjax.newton,
    "newton_cg": lambda: gdjax.newton_cg(1.0),
    "trust_region": gdjax.trust_region,
    "cubic_newton": gdjax.cubic_newton,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INNER)
def test_a_part_is_minimized_while_the_rest_is_held(x64, name):
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
    method = gdjax.partition({"second": INNER[name](), "first": optax.set_to_zero()}, LABELS)
    run = gdjax.minimize(coupled, start, method, max_steps=40, stop=None)
    assert float(run.params["body"]) == 0.5
    np.testing.assert_allclose(jax.grad(coupled)(run.params)["head"], 0, atol=1e-6)
    alone = gdjax.minimize(
        lambda head: coupled({"head": head, "body": start["body"]}), start["head"], INNER[name]()
    )
    np.testing.assert_allclose(run.params["head"], alone.params, atol=1e-6)


@pytest.mark.slow
def test_newton_on_the_head_and_adam_on_the_body(x64):
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
    method = gdjax.partition({"second": gdjax.newton(1.0), "first": optax.adam(0.05)}, LABELS)

    def f(p):
        return coupled(p) + jnp.sum((p["head"] - 2) ** 2)

    run = gdjax.minimize(f, start, method, max_steps=1000)
    assert run.status == Status.CONVERGED

    # One step, computed by hand: the block of the Hessian, and Adam's first step, which is its rate.
    one = gdjax.minimize(f, start, method, stop=None, max_steps=1).params
    block = jax.hessian(lambda head: f({**start, "head": head}))(start["head"])
    grad = jax.grad(f)(start)
    np.testing.assert_allclose(one["head"], start["head"] - jnp.linalg.solve(block, grad["head"]), rtol=1e-9)
    np.testing.assert_allclose(one["body"], 0.5 - 0.05 * np.sign(grad["body"]), rtol=1e-6)


def test_masked_leaves_the_others_gradients_alone(x64):
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
    method = gdjax.masked(gdjax.newton(1.0), {"head": True, "body": False})
    grad = jax.grad(coupled)(start)
    updates, _ = method.update(grad, method.init(start), start, value_fn=coupled)
    assert updates["body"] == grad["body"]
    assert not np.allclose(updates["head"], grad["head"])


def test_a_composite_stays_one():
    f = gdjax.least_squares(lambda p: p["a"] - p["b"])
    part = partition.completed(f, {"a": jnp.array([1.0]), "b": jnp.array([4.0])})
    assert isinstance(part, gdjax.Composite)
    assert float(part({"a": jnp.array([2.0]), "b": optax.MaskedNode()})) == 2.0


def test_errors_at_the_door():
    x = jnp.ones(2)
    for method in (gdjax.newton(), gdjax.newton(1.0), gdjax.newton_cg(1.0)):
        with pytest.raises(TypeError, match="value_fn"):
            method.update(x, method.init(x), x, value=jnp.array(1.0))
