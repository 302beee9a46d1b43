"""Sizes out of the ordinary: squares that overflow, gradients that are not finite, columns of unlike size, waves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import optimized

import gdjax
from gdjax._internal import trees
from gdjax.linalg.subproblems.model import scales
from gdjax.optimizers.catalogue import CATALOGUE


def status(run):
    return gdjax.Status(int(run.status)).name


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-30, 1e-15, 1.0, 3e27, 1e38])
def test_norms_survive_the_squares(size):
    """Against NumPy in float64; a unit is a power of two, so that scaling rounds nothing."""
    v = (np.random.default_rng(0).normal(size=37) / 3).astype(np.float32) * np.float32(size)
    exact = np.linalg.norm(v.astype(np.float64))
    tree = {"a": jnp.asarray(v[:30]), "b": jnp.asarray(v[30:])}
    np.testing.assert_allclose(jax.jit(trees.norm)(tree), exact, rtol=1e-6)
    np.testing.assert_allclose(trees.length(jnp.asarray(v)), exact, rtol=1e-6)
    unit, finite = trees.unit(jnp.asarray(v))
    assert np.frexp(float(unit))[0] == 0.5
    assert bool(finite)
    assert abs(v).max() / 1000 < float(unit) <= abs(v).max()


def test_units_of_nothing_and_of_no_number():
    assert trees.unit(jnp.zeros(3)) == (1, True)
    assert trees.unit(jnp.array([1.0, jnp.nan])) == (1, False)
    assert not bool(trees.unit(jnp.array([jnp.inf]))[1])
    assert float(trees.norm(jnp.zeros(2))) == 0
    assert float(jax.vmap(trees.norm)(jnp.array([[3e30, 4e30], [3.0, 4.0]]))[1]) == 5
    assert bool(jnp.isnan(trees.norm(jnp.array([1e30, jnp.nan]))))


def steep(x):
    """Values up to 1e26, whose gradients' squares are out of the range of float32."""
    return sum(jnp.sum(jnp.exp(20 * leaf) - leaf) for leaf in jax.tree.leaves(x))


STEEP = {
    "bfgs": gdjax.bfgs(),
    "damped": gdjax.bfgs(
        gdjax.linesearch.backtracking(), damping=gdjax.optimizers.quasi_newton.dense.powell_damping
    ),
    "dfp": gdjax.dfp(),
    "sr1": gdjax.sr1(),
    "lbfgs": gdjax.lbfgs(),
    "newton": gdjax.newton(),
    "newton_cg": gdjax.newton_cg(),
    "nonlinear_cg": gdjax.nonlinear_cg(),
    "hager_zhang": gdjax.nonlinear_cg(search=gdjax.linesearch.hager_zhang()),
    "barzilai_borwein": gdjax.barzilai_borwein(),
    "line_search": gdjax.line_search(optax.sgd(1.0)),
    "trust_region": gdjax.trust_region(),
    "cubic_newton": gdjax.cubic_newton(),
    "lbfgsb": gdjax.lbfgsb(-10.0, 10.0),
    "bounded_trust_region": gdjax.bounded_trust_region(-10.0, 10.0),
    "spectral": gdjax.spectral_projected_gradient(lambda x: x),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEEP)
def test_squares_of_gradients_may_overflow(name):
    start = {"a": jnp.array([3.0, 2.5]), "b": jnp.float32(2.0)}
    if name in ("dfp", "line_search"):  # they take thousands of steps to the end of a valley, of any size
        start = {"a": jnp.array([3.0, 3.0]), "b": jnp.float32(3.0)}
    run = gdjax.minimize(steep, start, STEEP[name], max_steps=500)
    assert status(run) in ("CONVERGED", "NOISE_FLOOR")
    for leaf in jax.tree.leaves(run.params):
        np.testing.assert_allclose(leaf, -np.log(20) / 20, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-25, 1e30])
@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "nonlinear_cg", "trust_region"])
def test_objectives_of_any_size(name, size):
    """Quadratics with gradients of 1e-25, whose squares vanish, and of 1e32."""
    weights = jnp.array([1.0, 2.0, 5.0]) * size
    run = gdjax.minimize(
        lambda x: jnp.sum(weights * (x - 0.3) ** 2), jnp.full(3, 30.0), getattr(gdjax, name)()
    )
    assert status(run) in ("CONVERGED", "NOISE_FLOOR")
    np.testing.assert_allclose(run.params, 0.3, rtol=2e-2)  # as near as the stop asks for


@pytest.mark.slow
def test_wide_types_overflow_too(x64):
    f = lambda x: jnp.sum(jnp.exp(200 * x) - x)  # noqa: E731 - 1e208 at the start
    run = gdjax.minimize(f, jnp.array([2.4, 2.0]), gdjax.bfgs())
    np.testing.assert_allclose(run.params, -np.log(200) / 200, rtol=1e-6)


@pytest.mark.slow
def test_residuals_of_any_size():
    f = gdjax.least_squares(lambda x: 1e17 * jnp.array([x[0] - 1, 10 * (x[1] - x[0] ** 2), x[0] * 1e-3]))
    run = gdjax.minimize(f, jnp.array([-1.2, 1.0]), gdjax.levenberg_marquardt())
    np.testing.assert_allclose(run.params, 1, rtol=1e-3)


def broken(value, slope, lost):
    """A function whose gradient is not finite where ``lost`` says so."""

    @jax.custom_jvp
    def f(x):
        return value(x)

    def jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        grad = jnp.where(lost(x), jnp.asarray(slope, x.dtype), jax.grad(value)(x))
        return f(x), jnp.sum(grad * t)

    f.defjvp(jvp)
    return f


def bowl(x):
    return jnp.sum(x**2)


EVERY = {
    name: CATALOGUE[name]()
    for name in CATALOGUE
    if name not in ("kfac", "gauss_newton", "levenberg_marquardt")
}
EVERY |= {
    "spectral": gdjax.spectral_projected_gradient(lambda x: x),
    "projected": gdjax.projected(gdjax.gradient_descent(0.1), lambda x: x),
    "multipliers": gdjax.augmented_lagrangian(equality=lambda x: x[0] - 0.5),
    "multipliers in bounds": gdjax.augmented_lagrangian(
        gdjax.lbfgsb(0.0, 2.0), equality=lambda x: x[0] - 0.5
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_gradient_that_is_no_number_ends_the_run_at_once(name):
    """With the value that the start has (Optim.jl, issue 948); one coordinate is enough."""
    f = broken(bowl, jnp.array([jnp.nan, 1.0]), lambda x: True)
    if name == "natural_gradient":
        f = gdjax.Composite(lambda x: x, broken(bowl, jnp.array([jnp.nan, 1.0]), lambda x: True))
    run = gdjax.minimize(f, jnp.array([1.0, 0.5]), EVERY[name])
    # The first point that admm proposes is the start again, as z.
    assert (status(run), int(run.steps), float(run.value)) == ("NONFINITE", int(name == "admm"), 1.25)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("name", ["bfgs", "newton_cg", "trust_region", "lbfgsb"])
def test_a_trial_without_a_gradient_was_too_long(name, slope):
    """The ring around the minimum has values and no slopes: trials beyond it are taken back."""
    method = gdjax.lbfgsb(-20.0, 20.0) if name == "lbfgsb" else getattr(gdjax, name)()
    f = broken(lambda x: jnp.sum((x - 5) ** 4), slope, lambda x: jnp.any(x > 6))
    run = gdjax.minimize(f, jnp.array([-9.0, -2.0]), method)
    assert status(run) == "CONVERGED"
    np.testing.assert_allclose(run.params, 5, atol=0.05)


@pytest.mark.slow
def test_a_slope_that_is_infinite_into_a_wall_is_none():
    """The minimum of the root of x is at the bound, where its slope is infinite."""
    for method in (gdjax.lbfgsb(0.0, 4.0), gdjax.bounded_trust_region(0.0, 4.0)):
        assert status(gdjax.minimize(lambda x: jnp.sum(jnp.sqrt(x)), jnp.zeros(2), method)) == "CONVERGED"


def test_scales_are_ones_unless_rounding_hides_columns():
    one = jnp.ones(3)
    np.testing.assert_array_equal(scales(jnp.array([1.0, 1e4, 1e-2]), one), 1)
    uneven = jnp.array([4e-4, 0.0, 1e10])
    found = scales(uneven, one)
    np.testing.assert_array_equal(found, [2.0**-6, 2.0**-6, 2.0**16])
    np.testing.assert_array_equal(scales(jnp.array([1.0, 1.0, 1.0]), found), [1, 1, 2.0**16])
    np.testing.assert_array_equal(scales(jnp.array([jnp.nan, 1.0, 1.0]), one), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "newton", "lbfgs", "bfgs", "newton_cg", "nonlinear_cg"])
def test_columns_of_unlike_size(name):
    """A logistic regression with columns from 0.01 to 1e5: solved, or said not to be."""
    rng, n = np.random.default_rng(0), 8
    features, weights = rng.normal(size=(200, n)), rng.normal(size=n)
    labels = rng.uniform(size=200) < 1 / (1 + np.exp(-features @ weights))
    data = jnp.asarray(features * np.geomspace(1e-2, 1e5, n), jnp.float32)

    def loss(p):
        score = data @ p[:n] + p[n]
        return jnp.mean(jnp.logaddexp(0, score) - labels * score)

    method = name and getattr(gdjax, name)()
    run = optimized(lambda start: gdjax.minimize(loss, start, method, max_steps=1000))(jnp.zeros(n + 1))
    solved = float(run.value) < 0.37940427571596624 + 1e-6  # by NumPy and SciPy's BFGS, columns of one size
    assert solved or (name not in (None, "newton", "lbfgs") and status(run) in ("STALLED", "MAX_STEPS"))
    if name is None:
        assert int(run.steps) < 30


def oscillated(x):
    safe = jnp.where(x != 0, x, 1.0)
    log, up = jnp.log(jnp.abs(safe)), x > 0
    wave = jnp.sin(jnp.where(up, 10.0, 5.5) * log) + jnp.sin(jnp.where(up, 7.9, 3.1) * log)
    return jnp.where(x != 0, jnp.sign(safe) * jnp.exp(log + 0.049 * wave), x)


@pytest.mark.slow
def test_the_default_gets_over_waves(x64):
    """BBOB's f2 (Hansen et al., INRIA RR-6829, 2009): second derivatives see the next wave only."""
    optimum = jnp.array([1.3, -2.1, 0.7, 3.2, -0.4])
    f = lambda x: jnp.sum(10.0 ** (6 * jnp.arange(5) / 4) * oscillated(x - optimum) ** 2)  # noqa: E731
    starts = jnp.asarray(np.random.default_rng(0).uniform(-5, 5, (3, 5)))
    runs = jax.vmap(lambda x: gdjax.minimize(f, x))(starts)
    assert np.all(np.asarray(runs.value) < 1e-8)
    assert np.all(np.asarray(runs.steps) < 600)
