"""Conjugate gradients and Barzilai-Borwein against their formulas in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import rosenbrock

import gdjax
from gdjax import Status, linesearch
from gdjax.optimizers.quasi_newton import barzilai_borwein, nonlinear_cg

FORMULAS = {
    "fletcher_reeves": lambda g, h, d, y: g @ g / (h @ h),
    "polak_ribiere": lambda g, h, d, y: max(0, g @ (g - h) / (h @ h)),
    "hestenes_stiefel": lambda g, h, d, y: g @ (g - h) / ((g - h) @ d),
    "dai_yuan": lambda g, h, d, y: g @ g / ((g - h) @ d),
    "hager_zhang": lambda g, h, d, y: max(
        (y - 2 * d * (y @ y) / (d @ y)) @ g / (d @ y),
        -1 / (np.linalg.norm(d) * min(0.01, np.linalg.norm(h))),
    ),
}


def trail(method, value_fn, params, count):
    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = method.update(grad, state, params, value=value)
        return (optax.apply_updates(params, updates), state), state

    states = jax.jit(lambda p: jax.lax.scan(step, (p, method.init(p)), length=count)[1])(params)
    x, g, p = (np.asarray(part) for part in (states.answer.params, states.grad, states.direction))
    keep = np.r_[True, np.any(np.diff(x, axis=0) != 0, axis=1)]
    return x[keep], g[keep], p[keep]


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, x64):
    rng = np.random.default_rng(4)
    g, before, d = rng.normal(size=(3, 5))
    found = getattr(nonlinear_cg, name)(*map(jnp.asarray, (g, before, d, g - before)))
    np.testing.assert_allclose(found, FORMULAS[name](g, before, d, g - before), rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_directions_follow_the_formula(name, x64):
    method = gdjax.nonlinear_cg(getattr(nonlinear_cg, name))
    x, g, p = trail(method, rosenbrock, jnp.array([-1.2, 1.0, 0.3]), 30)
    assert len(x) >= 8
    followed = 0
    for k in range(1, len(x)):
        beta = FORMULAS[name](g[k], g[k - 1], p[k - 1], g[k] - g[k - 1])
        expected = -g[k] + beta * p[k - 1]
        if expected @ g[k] >= 0 or p[k] @ g[k] == -(g[k] @ g[k]):
            continue
        followed += np.allclose(p[k], expected, rtol=1e-9)
    assert followed >= 0.7 * (len(x) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_linear_cg_on_quadratics(name, x64):
    """With an exact search all formulas are linear CG: n steps to 1e-12, and its very iterates."""
    n = 8
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A, b = basis * np.linspace(1, 20, n) @ basis.T, rng.normal(size=n)
    f = lambda x: 0.5 * x @ jnp.asarray(A) @ x - jnp.asarray(b) @ x  # noqa: E731
    method = gdjax.nonlinear_cg(getattr(nonlinear_cg, name), linesearch.strong_wolfe(c2=1e-10))
    x, g, _ = trail(method, f, jnp.zeros(n), 4 * n)
    z, r = np.zeros(n), -b
    d = -r
    for k in range(min(4, len(x))):
        np.testing.assert_allclose(x[k], z, rtol=1e-7, atol=1e-9)
        a = r @ r / (d @ A @ d)
        z, following = z + a * d, r + a * A @ d
        d, r = -following + following @ following / (r @ r) * d, following
    assert np.linalg.norm(g[: n + 2], axis=1).min() <= 1e-12 * np.linalg.norm(b) * 10


def test_powell_restarts(x64):
    """With a threshold of zero every direction is the negative gradient."""
    method = gdjax.nonlinear_cg(nonlinear_cg.polak_ribiere, restart=0.0)
    _, g, p = trail(method, rosenbrock, jnp.array([-1.2, 1.0]), 12)
    cosines = np.sum(-g * p, axis=1) / (np.linalg.norm(g, axis=1) * np.linalg.norm(p, axis=1))
    np.testing.assert_allclose(cosines, 1, rtol=1e-9)


@pytest.mark.parametrize("length", [barzilai_borwein.short_step, barzilai_borwein.long_step])
def test_barzilai_borwein_steps(length, x64):
    curvature = np.array([1.0, 4.0, 9.0])
    f = lambda x: 0.5 * jnp.sum(jnp.asarray(curvature) * x**2)  # noqa: E731
    x, g, p = trail(gdjax.barzilai_borwein(length=length), f, jnp.array([1.0, -1.0, 2.0]), 30)
    assert np.linalg.norm(g[-1]) < 1e-3
    for k in range(1, len(x)):
        s, y = x[k] - x[k - 1], g[k] - g[k - 1]
        rate = s @ y / (y @ y) if length is barzilai_borwein.short_step else s @ s / (s @ y)
        np.testing.assert_allclose(p[k], -rate * g[k], rtol=1e-9)


def test_any_formula_of_the_four_vectors():
    run = gdjax.minimize(
        rosenbrock, jnp.zeros(2), gdjax.nonlinear_cg(lambda g, h, d, y: 0.0 * jnp.sum(g)), max_steps=5
    )
    assert run.value < 1


@pytest.mark.slow
def test_lanes_equal_single_runs(x64):
    starts = jnp.asarray(np.random.default_rng(3).uniform(-2, 2, (3, 3)))
    lanes = jax.jit(jax.vmap(lambda x: gdjax.minimize(rosenbrock, x, gdjax.nonlinear_cg())))(starts)
    solve = jax.jit(lambda x: gdjax.minimize(rosenbrock, x, gdjax.nonlinear_cg()))
    for k, start in enumerate(starts):
        alone = solve(start)
        assert int(alone.status) == int(lanes.status[k]) == Status.CONVERGED
        np.testing.assert_allclose(lanes.params[k], alone.params, atol=1e-4)
