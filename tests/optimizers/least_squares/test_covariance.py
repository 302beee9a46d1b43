"""The covariance of a fit: in any unit, of what the data do not determine, and of Jacobians that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax import covariance, least_squares

TIMES = jnp.linspace(0.0, 1.0, 12)
SEEN = 1.0 + 2.0 * TIMES + 0.1 * jnp.sin(40.0 * TIMES)
KNOWN = np.linalg.inv(np.array([[np.sum(np.square(TIMES)), np.sum(TIMES)], [np.sum(TIMES), 12.0]]))


def line(unit):
    return least_squares(lambda p: p[0] * unit * TIMES.astype(p.dtype) + p[1] - SEEN)


def at(unit):
    return jnp.array([2.0 / unit, 1.0])


@pytest.mark.slow
def test_nist_misra1a_in_float32():
    x = jnp.array(
        [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0]
    )
    y = jnp.array(
        [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.4, 75.47, 81.78]
    )
    fit = least_squares(lambda p: p[0] * (1 - jnp.exp(-p[1] * x)) - y)
    found = covariance(fit, jnp.array([2.3894212918e02, 5.5015643181e-04]))
    # the certified standard deviations: NIST Statistical Reference Datasets, Misra1a
    np.testing.assert_allclose(np.sqrt(np.diagonal(found)), [2.7070075241, 7.2668688436e-06], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e4, 1e8, 1e-6, 1e15])
def test_units_change_nothing_but_units(unit):
    found = np.asarray(covariance(line(unit), at(unit)), float)
    units = np.array([1 / unit, 1.0])
    variance = np.sum(np.square(line(1.0).model(at(1.0)))) / 10
    np.testing.assert_allclose(found / units / units[:, None], variance * KNOWN, rtol=1e-4)


@pytest.mark.slow
def test_units_further_apart_than_float64_has_digits(x64):
    one, other = covariance(line(1.0), at(1.0)), covariance(line(1e150), at(1e150))
    np.testing.assert_allclose(np.diagonal(other) * [1e300, 1.0], np.diagonal(one), rtol=1e-9)


def test_residuals_whose_squares_overflow():
    large = least_squares(lambda p: 1e25 * line(1.0).model(p))
    np.testing.assert_allclose(covariance(large, at(1.0)), covariance(line(1.0), at(1.0)), rtol=1e-4)


@pytest.mark.slow
def test_a_jacobian_or_a_residual_that_is_not_finite_gives_nan():
    steep = least_squares(lambda p: jnp.sqrt(p - 1.0) * jnp.ones(4) - 2.0)
    assert np.isnan(covariance(steep, jnp.array([1.0]))).all()
    lost = least_squares(lambda p: p[0] / jnp.arange(4.0) - p[1])
    assert np.isnan(covariance(lost, jnp.ones(2))).all()


@pytest.mark.slow
def test_what_the_data_do_not_determine_is_infinite():
    unused = covariance(
        least_squares(lambda p: p[0] - jnp.array([1.0, 2.0, 4.0]) + 0 * p[1]), jnp.array([7 / 3, 5.0])
    )
    np.testing.assert_allclose(unused, [[7 / 9, 0.0], [0.0, np.inf]], rtol=1e-5)
    both = covariance(
        least_squares(lambda p: (p[0] * p[1]) * TIMES + p[2] - SEEN), jnp.array([1.3, 0.7, 1.0])
    )
    assert np.isinf(np.diagonal(both)[:2]).all()
    assert both[0, 1] == -np.inf
    assert np.isfinite(both[2]).all()
    assert both[2, 2] > 0


@pytest.mark.slow
def test_too_few_residuals_and_exact_fits():
    few = covariance(least_squares(lambda p: jnp.stack([p[0] + p[1] - 1.0])), jnp.ones(2))
    np.testing.assert_array_equal(few, [[np.inf, -np.inf], [-np.inf, np.inf]])
    exact = covariance(least_squares(lambda p: p[0] * jnp.ones(3)), jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(exact, [[0.0, 0.0], [0.0, np.inf]])


@pytest.mark.slow
def test_it_maps_and_has_derivatives(x64):
    def slope(y, unit):
        fit = least_squares(lambda p: p[0] * jnp.exp(-p[1] * unit * TIMES) - y)
        return covariance(fit, jnp.array([2.0, 1.0]))[1, 1]

    targets = jnp.stack([SEEN, SEEN + TIMES**2])
    mapped = jax.jit(jax.vmap(slope, (0, None)))(targets, 1.0)
    np.testing.assert_allclose(mapped, [slope(y, 1.0) for y in targets], rtol=1e-9)
    derivative = jax.jit(jax.grad(slope, 1))
    h = 1e-4
    by_differences = (slope(SEEN, 1 + h) - slope(SEEN, 1 - h)) / (2 * h)
    np.testing.assert_allclose(derivative(SEEN, 1.0), by_differences, rtol=1e-6)
    twice = jax.jit(jax.jacfwd(derivative, 1))(SEEN, 1.0)
    by_differences = (derivative(SEEN, 1 + h) - derivative(SEEN, 1 - h)) / (2 * h)
    np.testing.assert_allclose(twice, by_differences, rtol=1e-6)


def test_of_a_function_whose_residuals_nothing_sees():
    with pytest.raises(TypeError, match="covariance minimizes a loss of residuals"):
        covariance(jnp.sum, jnp.ones(2))


def test_reverse_mode_only():
    @jax.custom_vjp
    def model(p):
        return p[0] * TIMES + p[1] - SEEN

    model.defvjp(lambda p: (model(p), None), lambda _, c: (jnp.stack([jnp.vdot(TIMES, c), jnp.sum(c)]),))
    np.testing.assert_allclose(
        covariance(least_squares(model), at(1.0)), covariance(line(1.0), at(1.0)), rtol=1e-5
    )
    assert gdjax.least_squares(model)(at(1.0)) > 0
