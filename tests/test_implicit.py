"""Derivatives of a solution against finite differences, closed forms and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax

STOP = gdjax.stopping.residual_below(1e-10)
ADAM = optax.adam(0.05)
THETA = np.array([1.0, 2.0, 3.0])


def solve(theta, max_steps=2000):
    def objective(x):
        return jnp.sum((x - theta) ** 2) + 0.3 * theta[0] * jnp.sum(x**4)

    return gdjax.minimize(objective, jnp.zeros(3), ADAM, max_steps=max_steps, stop=STOP)


@pytest.mark.parametrize("field", ["params", "value"])
def test_forward_reverse_and_finite_differences_agree(x64, field):
    def answer(theta):
        return getattr(solve(theta), field)

    theta = jnp.asarray(THETA)
    reverse, forward = jax.jacrev(answer)(theta), jax.jacfwd(answer)(theta)
    step = 1e-5
    columns = [(answer(theta + step * e) - answer(theta - step * e)) / (2 * step) for e in jnp.eye(3)]
    np.testing.assert_allclose(reverse, forward, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(reverse, jnp.stack(columns, -1), rtol=1e-7, atol=1e-8)


def test_a_run_that_did_not_converge_has_nan_derivatives(x64):
    theta = jnp.asarray(THETA)
    short = solve(theta, max_steps=5)
    assert short.status == gdjax.Status.MAX_STEPS
    assert bool(jnp.all(jnp.isfinite(short.params)))
    assert bool(jnp.all(jnp.isnan(jax.grad(lambda t: solve(t, max_steps=5).value)(theta))))


def test_maps_over_problems(x64):
    thetas = jnp.stack([jnp.asarray(THETA), 2 * jnp.asarray(THETA)])
    mapped = jax.vmap(jax.grad(lambda t: solve(t).value))(thetas)
    looped = jnp.stack([jax.grad(lambda t: solve(t).value)(t) for t in thetas])
    np.testing.assert_allclose(mapped, looped, rtol=1e-9)


def test_derivative_in_the_data_of_a_finite_sum_is_the_pseudo_inverse(x64):
    features = jax.random.normal(jax.random.key(0), (30, 3))

    def first_weight(targets):
        def loss(w, batch):
            return jnp.mean((batch[0] @ w - batch[1]) ** 2)

        objective = gdjax.finite_sum(loss, (features, targets))
        return gdjax.minimize(objective, jnp.zeros(3), ADAM, max_steps=3000, stop=STOP).params[0]

    gradient = jax.grad(first_weight)(features @ jnp.arange(3.0))
    np.testing.assert_allclose(gradient, jnp.linalg.pinv(features)[0], atol=1e-12)


def test_large_problems_use_products_only(x64):
    n = 400
    scale = jnp.linspace(1.0, 3.0, n)

    def total(shift):
        stop = gdjax.stopping.residual_below(1e-9)
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum(scale * (x - shift) ** 2),
            jnp.zeros(n),
            gdjax.gradient_descent(0.4),
            stop=stop,
        )
        return jnp.sum(run.params**2)

    np.testing.assert_allclose(jax.grad(total)(2.0), 2 * 2.0 * n, rtol=1e-8)


def test_a_learning_rate_is_learned_through_an_unrolled_run(x64):
    def loss_after(log_rate):
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * x**2),
            jnp.ones(2),
            gdjax.gradient_descent(jnp.exp(log_rate)),
            stop=None,
            max_steps=20,
        )
        return jnp.log(run.value)

    outer = gdjax.minimize(loss_after, jnp.log(0.05), gdjax.adam(0.02), max_steps=200, stop=None)
    rates = np.linspace(0.05, 0.21, 10001)
    best = rates[np.argmin((1 - rates) ** 40 + 9 * (1 - 9 * rates) ** 40)]
    np.testing.assert_allclose(jnp.exp(outer.params), best, rtol=0.02)


def bytes_to_differentiate(method, steps):
    def final(rate):
        slopes = jnp.linspace(1.0, 2.0, 40)
        run = gdjax.minimize(
            lambda x: jnp.sum(slopes * jnp.cosh(x - 1 - rate)),
            jnp.zeros(40),
            method(rate),
            stop=None,
            max_steps=steps,
        )
        return run.value

    return jax.jit(jax.grad(final)).lower(0.01).compile().memory_analysis().temp_size_in_bytes


def test_unrolled_runs_keep_memory_for_the_root_of_their_steps():
    assert bytes_to_differentiate(gdjax.adam, 4096) < 8 * bytes_to_differentiate(gdjax.adam, 64)


def test_unrolled_flat_runs_keep_states_alone():
    hessian = 40 * 40 * 4
    assert bytes_to_differentiate(lambda rate: gdjax.newton(), 512) < 512 * hessian


def test_the_lasso_is_differentiated_through_its_fixed_point(x64):
    """Coordinates apart: x = soft(b, w), F = (x - b)^2 / 2 + w |x|."""
    b = jnp.array([3.0, -0.4, -2.0])
    stop = gdjax.stopping.residual_below(1e-10)

    def solved(weight):
        method = gdjax.proximal_gradient(None, gdjax.regularizers.l1(weight))
        return gdjax.minimize(lambda x: 0.5 * jnp.sum((x - b) ** 2), jnp.zeros(3), method, stop=stop)

    slopes = jax.jacobian(lambda weight: solved(weight).params)(1.0)
    np.testing.assert_allclose(slopes, [-1.0, 0.0, 1.0], atol=1e-8)
    np.testing.assert_allclose(jax.grad(lambda weight: solved(weight).value)(1.0), 2.0 + 1.0, rtol=1e-8)


def test_correlated_lasso_against_finite_differences(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 8)), rng.normal(size=30)
    stop = gdjax.stopping.residual_below(1e-11)

    def total(weight):
        method = gdjax.proximal_gradient(None, gdjax.regularizers.l1(weight))
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum((a @ x - b) ** 2), jnp.zeros(8), method, stop=stop, max_steps=20_000
        )
        return jnp.sum(run.params * jnp.arange(8.0))

    np.testing.assert_allclose(
        jax.grad(total)(2.0), (total(2.0 + 1e-5) - total(2.0 - 1e-5)) / 2e-5, rtol=1e-5
    )


def test_a_projected_answer_is_differentiated(x64):
    """The projection of c onto the simplex: entries off the support stand still."""
    stop = gdjax.stopping.residual_below(1e-10)

    def nearest(c):
        method = gdjax.spectral_projected_gradient(gdjax.projections.simplex)
        return gdjax.minimize(lambda x: jnp.sum((x - c) ** 2), jnp.full(3, 1 / 3), method, stop=stop).params

    expected = [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(jax.jacobian(nearest)(jnp.array([0.6, 0.5, -1.0])), expected, atol=1e-8)
