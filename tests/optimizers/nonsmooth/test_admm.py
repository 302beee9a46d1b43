"""ADMM against Boyd's iteration in NumPy, against direct methods, and with every kind of x-update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax import Status, projections, regularizers
from gdjax.optimizers.nonsmooth import admm
from gdjax.stopping import residual_below

GENERATOR = np.random.default_rng(7)
A, B = GENERATOR.normal(size=(30, 12)), GENERATOR.normal(size=30)
WEIGHT = 3.0


def half_squares(a, b, x):
    return 0.5 * jnp.sum((a @ x - b) ** 2)


def squares():
    return Partial(half_squares, jnp.asarray(A), jnp.asarray(B))


def ridge_step(a, b, v, rho, params):
    del params
    return jnp.linalg.solve(a.T @ a + rho * jnp.eye(v.size), a.T @ b + rho * v)


def formula():
    return Partial(ridge_step, jnp.asarray(A), jnp.asarray(B))


def soft(x, t):
    return np.sign(x) * np.maximum(np.abs(x) - t, 0)


def gap(x):
    """The relative duality gap of the lasso."""
    rest = B - A @ x
    primal = 0.5 * rest @ rest + WEIGHT * np.abs(x).sum()
    dual = rest * min(1, WEIGHT / np.abs(A.T @ rest).max())
    return (primal - 0.5 * B @ B + 0.5 * (B - dual) @ (B - dual)) / primal


@pytest.mark.slow
def test_iterates_are_those_of_boyd(x64):
    rho, alpha, count = 5.0, 1.5, 20
    method = gdjax.admm(
        regularizers.l1(WEIGHT), x_update=formula(), rho=rho, relaxation=alpha, balance=admm.fixed
    )
    run = gdjax.minimize(
        squares(), jnp.zeros(12), method, stop=None, max_steps=count, record=lambda s: (s.params, s.value)
    )
    z, u = np.zeros(12), np.zeros(12)
    for k in range(count + 1):
        np.testing.assert_allclose(run.trace[0][k], z, atol=1e-12)
        total = 0.5 * np.sum((A @ z - B) ** 2) + WEIGHT * np.abs(z).sum()
        np.testing.assert_allclose(run.trace[1][k], total, rtol=1e-12)
        x = np.linalg.solve(A.T @ A + rho * np.eye(12), A.T @ B + rho * (z - u))
        hat = alpha * x + (1 - alpha) * z
        z = soft(hat + u, WEIGHT / rho)
        u = u + hat - z


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["formula", "newton", "steps", "momentum"])
def test_every_x_update_closes_the_gap(kind, x64):
    x_update = {
        "formula": formula(),
        "newton": None,
        "steps": admm.gradient_steps(optax.sgd(0.008), 3),
        "momentum": admm.gradient_steps(optax.sgd(0.005, 0.5), 5),
    }[kind]
    method = gdjax.admm(regularizers.l1(WEIGHT), x_update=x_update, rho=10.0)
    run = gdjax.minimize(squares(), jnp.zeros(12), method, stop=residual_below(1e-8), max_steps=6000)
    assert run.status == Status.CONVERGED
    x = np.asarray(run.params)
    assert abs(gap(x)) < 1e-8
    if kind == "formula":
        assert (x == 0).any()
        g = A.T @ (A @ x - B)
        least = np.where(x != 0, g + WEIGHT * np.sign(x), soft(g, WEIGHT))
        assert np.linalg.norm(least) <= run.residual + 1e-12


@pytest.mark.slow
def test_total_variation_by_differences_equals_the_direct_method(x64):
    signal = np.repeat([0.0, 3.0, 1.0], 15) + 0.3 * GENERATOR.normal(size=45)
    direct = regularizers.total_variation(1.0).prox(jnp.asarray(signal), 1.0)

    def f(x):
        return 0.5 * jnp.sum((x - signal) ** 2)

    method = gdjax.admm(regularizers.l1(1.0), linear=jnp.diff)
    run = gdjax.minimize(f, jnp.zeros(45), method, stop=residual_below(1e-10), max_steps=4000)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, direct, atol=1e-8)
    np.testing.assert_allclose(run.value, f(direct) + jnp.sum(jnp.abs(jnp.diff(direct))), rtol=1e-10)


@pytest.mark.slow
def test_penalties_far_off_are_balanced(x64):
    steps = {}
    for name, balance in (("fixed", admm.fixed), ("balanced", admm.balanced())):
        for rho in (1e-3, 1e3):
            method = gdjax.admm(regularizers.l1(WEIGHT), x_update=formula(), rho=rho, balance=balance)
            run = gdjax.minimize(squares(), jnp.zeros(12), method, stop=residual_below(1e-8), max_steps=3000)
            steps[name, rho] = int(run.steps)
    assert steps["balanced", 1e3] < 0.2 * steps["fixed", 1e3]
    assert max(steps["balanced", 1e-3], steps["balanced", 1e3]) < 300


@pytest.mark.slow
def test_consensus_agrees_with_the_sum(x64):
    """Three blocks of rows, each with its own copy of x; the l1 norm on what they agree on."""
    blocks_a, blocks_b = jnp.asarray(A.reshape(3, 10, 12)), jnp.asarray(B.reshape(3, 10))

    def f(copies):
        return sum(half_squares(blocks_a[i], blocks_b[i], copies[i]) for i in range(3))

    method = gdjax.admm(regularizers.agreement(regularizers.l1(WEIGHT)), rho=5.0)
    run = gdjax.minimize(f, jnp.zeros((3, 12)), method, stop=residual_below(1e-9), max_steps=3000)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params[0], run.params[2], atol=1e-8)
    assert abs(gap(np.asarray(run.params[0]))) < 1e-8


@pytest.mark.slow
def test_constraints_hold_in_the_limit_and_values_stay_finite(x64):
    """min f(x) with A x in a box: g(A x) is infinite on the way, and the value shows f there."""
    box = regularizers.indicator(Partial(projections.box, lower=0.0, upper=0.2))

    def mean_of_pairs(x):
        return x.reshape(6, 2).mean(axis=1)

    run = gdjax.minimize(
        squares(),
        jnp.zeros(12),
        gdjax.admm(box, linear=mean_of_pairs),
        stop=residual_below(1e-9),
        max_steps=3000,
    )
    assert run.status == Status.CONVERGED
    means = np.asarray(mean_of_pairs(run.params))
    assert means.min() > -1e-8
    assert means.max() < 0.2 + 1e-8
    np.testing.assert_allclose(run.value, squares()(run.params), rtol=1e-12)
    from scipy.optimize import minimize

    rows = np.kron(np.eye(6), [[0.5, 0.5]])
    limits = [{"type": "ineq", "fun": lambda x: rows @ x}, {"type": "ineq", "fun": lambda x: 0.2 - rows @ x}]
    peer = minimize(
        lambda x: 0.5 * np.sum((A @ x - B) ** 2), np.zeros(12), constraints=limits, method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    np.testing.assert_allclose(run.params, peer.x, atol=1e-5)


@pytest.mark.slow
def test_numbers_are_axes_and_errors_meet_at_the_door(x64):
    def solve(weight, rho):
        method = gdjax.admm(regularizers.l1(weight), x_update=formula(), rho=rho)
        return gdjax.minimize(squares(), jnp.zeros(12), method, stop=residual_below(1e-9), max_steps=2000)

    runs = jax.vmap(solve)(jnp.array([WEIGHT, 1e3]), jnp.array([1.0, 20.0]))
    np.testing.assert_array_equal(runs.status, Status.CONVERGED)
    assert abs(gap(np.asarray(runs.params[0]))) < 1e-8
    np.testing.assert_array_equal(runs.params[1], 0)
    lost = gdjax.minimize(lambda x: jnp.nan * jnp.sum(x), jnp.ones(2), gdjax.admm(regularizers.l1(1.0)))
    assert lost.status == Status.NONFINITE
    np.testing.assert_array_equal(lost.params, 1)
    with pytest.raises(TypeError, match="Regularizer"):
        gdjax.admm(projections.simplex)
    with pytest.raises(ValueError, match="relaxation"):
        gdjax.admm(regularizers.l1(1.0), relaxation=2.5)
    with pytest.raises(ValueError, match="steps"):
        admm.gradient_steps(optax.sgd(0.1), 0)
    judging = gdjax.admm(regularizers.l1(1.0), x_update=admm.gradient_steps(gdjax.bfgs()))
    with pytest.raises(ValueError, match="judges trial points"):
        gdjax.minimize(squares(), jnp.zeros(12), judging)
