"""Levenberg-Marquardt and Gauss-Newton beside SciPy, and the covariance of a fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import gdjax
from gdjax.linalg.jacobians import rows_at
from gdjax.optimizers.least_squares import damping_rules, levenberg_marquardt

Status = gdjax.Status
TIMES = np.linspace(0, 4, 20)
SEEN = 3 * np.exp(-0.5 * TIMES) + 0.1 * np.sin(9 * TIMES)


def decay(p):
    return p[0] * jnp.exp(-p[1] * TIMES.astype(p.dtype)) - SEEN.astype(p.dtype)


def valley(x):
    return jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def helix(x):
    angle = jnp.arctan2(x[1], x[0]) / (2 * jnp.pi)
    return jnp.array([10 * (x[2] - 10 * angle), 10 * (jnp.hypot(x[0], x[1]) - 1), x[2]])


RESIDUALS = {
    "decay": (decay, [1.0, 1.0]),
    "valley": (valley, [-1.2, 1.0]),
    "helix": (helix, [-1.0, 0.1, 0.0]),
}
METHODS = {
    "region": gdjax.levenberg_marquardt,
    "nielsen": lambda: gdjax.levenberg_marquardt(damping=damping_rules.nielsen()),
    "uniform": lambda: gdjax.levenberg_marquardt(scaling=levenberg_marquardt.uniform),
    "geodesic": lambda: gdjax.levenberg_marquardt(geodesic=0.75),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "problem"), [*(("region", problem) for problem in RESIDUALS), *((m, "helix") for m in METHODS)]
)
def test_finds_what_scipy_finds(x64, method, problem):
    residual, start = RESIDUALS[problem]
    run = gdjax.minimize(gdjax.least_squares(residual), jnp.array(start), METHODS[method](), max_steps=200)
    known = scipy.optimize.least_squares(
        jax.jit(residual), start, jac=jax.jit(jax.jacobian(residual)), xtol=1e-14, ftol=1e-14
    )
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, known.x, atol=1e-5)
    value = float(gdjax.least_squares(residual)(run.params))
    assert float(run.value) == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("problem", RESIDUALS)
def test_float32(problem):
    residual, start = RESIDUALS[problem]
    run = gdjax.minimize(
        gdjax.least_squares(residual), jnp.array(start), gdjax.levenberg_marquardt(), max_steps=200
    )
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    assert run.params.dtype == jnp.float32
    known = scipy.optimize.least_squares(
        lambda x: np.asarray(residual(jnp.asarray(x))), np.asarray(start), diff_step=1e-3
    )
    np.testing.assert_allclose(run.params, known.x, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "constructor", [gdjax.gauss_newton, lambda: gdjax.gauss_newton(1.0), gdjax.levenberg_marquardt]
)
def test_rank_deficient_and_under_determined_residuals(x64, constructor):
    matrix, target = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]), np.array([1.0, 3.0, 0.0])
    run = gdjax.minimize(gdjax.least_squares(lambda x: matrix @ x - target), jnp.zeros(2), constructor())
    np.testing.assert_allclose(run.params, np.linalg.lstsq(matrix, target, rcond=None)[0], atol=1e-6)
    wide = np.random.default_rng(0).normal(size=(2, 5))
    run = gdjax.minimize(gdjax.least_squares(lambda x: wide @ x - target[:2]), jnp.zeros(5), constructor())
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(wide @ run.params, target[:2], atol=1e-5)


@pytest.mark.slow
def test_an_ill_conditioned_jacobian_is_not_squared(x64):
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    matrix, target = basis[:, :4] * np.logspace(0, -10, 4), basis @ np.ones(8)
    f = gdjax.least_squares(lambda x: matrix @ x - target)
    run = gdjax.minimize(f, jnp.zeros(4), gdjax.gauss_newton(1.0), stop=None, max_steps=1)
    np.testing.assert_allclose(run.params, np.logspace(0, 10, 4), rtol=1e-4)


def test_factors_give_matrix_and_gradient(x64):
    matrix, target = np.random.default_rng(2).normal(size=(7, 3)), np.arange(7) % 2
    losses = (
        gdjax.least_squares(lambda x: jnp.tanh(matrix @ x) - target),
        gdjax.Composite(lambda x: matrix @ x, lambda z: jnp.sum(jnp.logaddexp(0, z) - target * z)),
    )
    x = jnp.array([0.1, 0.2, 0.3])
    for f in losses:
        rows, rest = rows_at(f, x, x.dtype)
        np.testing.assert_allclose(rows.T @ rows, gdjax.derivatives.gauss_newton(f, x).dense(), atol=1e-12)
        np.testing.assert_allclose(rows.T @ rest, jax.grad(f)(x), atol=1e-12)


@pytest.mark.parametrize("outputs", [2, 7])
def test_factors_take_one_pass_through_the_model(outputs):
    matrix, passes = np.random.default_rng(6).normal(size=(outputs, 3)), []

    def residual(x):
        jax.debug.callback(lambda: passes.append(1))
        return jnp.asarray(matrix, x.dtype) @ x

    jax.block_until_ready(rows_at(gdjax.least_squares(residual), jnp.ones(3), jnp.float32))
    jax.effects_barrier()
    assert len(passes) == 1


@pytest.mark.slow
def test_other_convex_losses(x64):
    matrix, target = np.random.default_rng(3).normal(size=(30, 3)), np.arange(30) % 2
    f = gdjax.Composite(lambda x: matrix @ x, lambda z: jnp.sum(jnp.logaddexp(0, z) - target * z))
    run = gdjax.minimize(f, jnp.zeros(3), gdjax.levenberg_marquardt())
    assert run.status == Status.CONVERGED
    assert run.steps < 15
    np.testing.assert_allclose(jax.grad(f)(run.params), 0, atol=1e-6)


def test_covariance_of_a_linear_fit_is_the_textbooks(x64):
    rng = np.random.default_rng(4)
    matrix, target = rng.normal(size=(20, 3)), rng.normal(size=20)
    f = gdjax.least_squares(lambda x: matrix @ x - target)
    best, squares, _, _ = np.linalg.lstsq(matrix, target, rcond=None)
    expected = squares[0] / 17 * np.linalg.inv(matrix.T @ matrix)
    np.testing.assert_allclose(gdjax.covariance(f, jnp.asarray(best)), expected, rtol=1e-9)


@pytest.mark.slow
def test_covariance_agrees_with_curve_fit(x64):
    run = gdjax.minimize(gdjax.least_squares(decay), jnp.array([1.0, 1.0]), gdjax.levenberg_marquardt())
    known = scipy.optimize.curve_fit(lambda t, a, b: a * np.exp(-b * t), TIMES, SEEN, [1.0, 1.0])[1]
    np.testing.assert_allclose(gdjax.covariance(gdjax.least_squares(decay), run.params), known, rtol=1e-4)
    exact = gdjax.covariance(gdjax.least_squares(lambda x: x - 1.0), jnp.zeros(2))
    assert np.isnan(exact).all()


@pytest.mark.slow
def test_vmap_is_a_loop(x64):
    starts = jnp.array([[-1.2, 1.0], [2.0, 2.0], [0.0, 0.0]])
    method = gdjax.levenberg_marquardt()
    both = jax.vmap(lambda x: gdjax.minimize(gdjax.least_squares(valley), x, method, max_steps=100))(starts)
    for i in range(3):
        alone = gdjax.minimize(gdjax.least_squares(valley), starts[i], method, max_steps=100)
        np.testing.assert_allclose(both.params[i], alone.params, rtol=1e-9)


@pytest.mark.slow
def test_numbers_may_be_traced_and_the_state_keeps_its_types(x64):
    f = gdjax.least_squares(valley)

    def steps(factor):
        method = gdjax.levenberg_marquardt(damping=damping_rules.region(factor))
        return gdjax.minimize(f, jnp.array([-1.2, 1.0]), method).steps

    np.testing.assert_array_equal(jax.vmap(steps)(jnp.array([0.1, 1.0])), [steps(0.1), steps(1.0)])
    method, x = gdjax.levenberg_marquardt(), jnp.array([-1.2, 1.0])
    state = method.init(x)
    value, grad = jax.value_and_grad(f)(x)
    _, new = method.update(grad, state, x, value=value, value_fn=f)
    same = jax.tree.map(
        lambda a, b: (jnp.shape(a), jnp.asarray(a).dtype) == (jnp.shape(b), jnp.asarray(b).dtype), new, state
    )
    assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_a_part_of_the_parameters(x64):
    f = gdjax.least_squares(lambda p: jnp.concatenate([p["w"] * p["b"] - 2, p["w"][:1] - 1]))
    start = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}
    for inner in (gdjax.levenberg_marquardt(), gdjax.gauss_newton()):
        method = gdjax.partition({"fit": inner, "held": optax.set_to_zero()}, {"w": "fit", "b": "held"})
        run = gdjax.minimize(f, start, method, stop=None, max_steps=20)
        np.testing.assert_allclose(run.params["w"], [1.6, 4.0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("constructor", [gdjax.levenberg_marquardt, gdjax.gauss_newton])
def test_errors_at_the_door(constructor):
    with pytest.raises(TypeError, match="least_squares"):
        gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), constructor())
    penalized = gdjax.Composite(lambda x: x, lambda z: jnp.sum(z**2), lambda x: jnp.sum(x**2))
    with pytest.raises(TypeError, match="penalty"):
        gdjax.minimize(penalized, jnp.ones(2), constructor())


@pytest.mark.slow
def test_a_gradient_that_only_reverse_mode_loses(x64):
    t = jnp.linspace(0.0, 4.0, 30)

    def onset(p):  # where t < p[0], reverse mode multiplies the 0 of the other branch by NaN
        return p[1] * jnp.where(t > p[0], jnp.sqrt(t - p[0]), 0.0)

    objective = gdjax.least_squares(lambda p: onset(p) - onset(jnp.array([1.2, 3.0])))
    start = jnp.array([0.5, 1.0])
    assert not jnp.isfinite(jax.grad(objective)(start)).all()
    run = gdjax.minimize(objective, start, gdjax.levenberg_marquardt())
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, [1.2, 3.0], atol=1e-6)


@pytest.mark.slow
def test_a_jacobian_that_is_not_finite_is_not_taken(x64):
    objective = gdjax.least_squares(lambda p: jnp.stack([jnp.sqrt(p[0]), p[1] - 1.0]))
    run = gdjax.minimize(objective, jnp.array([0.0, 3.0]), gdjax.levenberg_marquardt())
    assert run.status == Status.NONFINITE
    run = gdjax.minimize(objective, jnp.array([1.0, 3.0]), gdjax.levenberg_marquardt())
    assert run.status in (Status.STALLED, Status.MAX_STEPS, Status.NOISE_FLOOR)
    assert jnp.isfinite(run.params).all()
    assert 0 < run.value < 0.1


@pytest.mark.slow
def test_an_under_determined_jacobian_that_only_reverse_mode_loses(x64):
    def residual(p):
        return jnp.array([jnp.where(p[0] > 0, jnp.sqrt(p[0]), 0.0) + p[1] * p[2] - 2])

    run = gdjax.minimize(
        gdjax.least_squares(residual), jnp.array([0.0, 1.0, 1.0]), gdjax.levenberg_marquardt()
    )
    assert run.status == Status.CONVERGED
    assert run.value < 1e-12
