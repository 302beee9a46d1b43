"""Natural gradient: the three solvers agree, the path ignores the parametrization, momentum is SPRING's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax.objectives import derivatives, distributions
from gdjax.optimizers.blocks.damping import Levenberg
from gdjax.optimizers.second_order.natural_gradient import conjugate_gradients, dense, sample_space

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(6, 3))
LABELS = RNG.integers(0, 3, size=6)


def model(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


def start():
    return {"hidden": jnp.asarray(RNG_HIDDEN), "out": jnp.asarray(RNG_OUT)}


RNG_HIDDEN, RNG_OUT = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 3))


def objective():
    return gdjax.objectives.supervised(model, distributions.categorical.loss, (INPUTS, LABELS))


def path(optimizer, steps=5, at=None):
    run = gdjax.minimize(
        at or objective(), start(), optimizer, stop=None, max_steps=steps, record=lambda step: step.params
    )
    return jax.tree.map(np.asarray, run.trace)


@pytest.mark.slow
@pytest.mark.parametrize("solve", [conjugate_gradients(100, 1e-14), sample_space])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_solvers_agree(x64, solve, momentum):
    def steps(solver):
        return path(gdjax.natural_gradient(0.5, 0.1, momentum, solve=solver))

    for a, b in zip(jax.tree.leaves(steps(dense)), jax.tree.leaves(steps(solve)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_steps_are_those_of_the_formula(x64):
    """Against the dense formula in NumPy, with the Fisher matrix from the divergence."""
    rate, damping, momentum = 0.5, 0.1, 0.7
    at = objective().at(None)
    curvature = derivatives.divergence_hessian(distributions.categorical)
    x, unravel = jax.flatten_util.ravel_pytree(start())
    direction = np.zeros(x.size)
    for _ in range(4):
        matrix = np.asarray(curvature(at, unravel(x)).dense())
        gradient = np.asarray(jax.flatten_util.ravel_pytree(jax.grad(at)(unravel(x)))[0])
        right = gradient + momentum * matrix @ direction
        direction = momentum * direction - np.linalg.solve(matrix + damping * np.eye(x.size), right)
        x = x + rate * direction
    fisher = derivatives.fisher(distributions.categorical)
    found = path(gdjax.natural_gradient(rate, damping, momentum, curvature=fisher), steps=4)
    last, _ = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf: leaf[-1], found))
    np.testing.assert_allclose(last, x, rtol=1e-8)


@pytest.mark.slow
def test_the_path_does_not_depend_on_the_parametrization(x64):
    """Full-rank Fisher, no damping: w = A v gives the same models; gradient descent gives others."""
    x, y = jnp.asarray(RNG.normal(size=(30, 2))), jnp.asarray(RNG.integers(0, 2, size=30))
    change = jnp.array([[2.0, 1.0], [0.0, 0.3]])

    def weights(optimizer, matrix):
        f = gdjax.objectives.supervised(lambda v, x: x @ (matrix @ v), distributions.bernoulli.loss, (x, y))
        run = gdjax.minimize(f, jnp.zeros(2), optimizer, stop=None, max_steps=10, record=lambda s: s.params)
        return run.trace @ matrix.T

    natural, plain = gdjax.natural_gradient(0.3, 1e-13), gdjax.gradient_descent(0.3)
    np.testing.assert_allclose(weights(natural, change), weights(natural, jnp.eye(2)), rtol=1e-8, atol=1e-10)
    assert np.max(np.abs(weights(plain, change) - weights(plain, jnp.eye(2)))) > 0.1


@pytest.mark.slow
def test_a_linear_gaussian_model_is_solved_in_one_step(x64):
    x, y = jnp.asarray(RNG.normal(size=(20, 3))), jnp.asarray(RNG.normal(size=20))
    f = gdjax.least_squares(lambda w: x @ w - y)
    run = gdjax.minimize(f, jnp.zeros(3), gdjax.natural_gradient(damping=1e-12), max_steps=1, stop=None)
    np.testing.assert_allclose(run.params, np.linalg.lstsq(np.asarray(x), np.asarray(y))[0], rtol=1e-8)


@pytest.mark.slow
def test_levenberg_damping_falls_where_the_model_is_good(x64):
    optimizer = gdjax.natural_gradient(damping=Levenberg(1.0))
    run = gdjax.minimize(objective(), start(), optimizer, stop=None, max_steps=60)
    plain = gdjax.minimize(objective(), start(), gdjax.natural_gradient(damping=1.0), stop=None, max_steps=60)
    assert run.state[0].damping < 0.1
    assert run.value < 0.1 * plain.value


@pytest.mark.slow
def test_numbers_may_be_tracers(x64):
    def final(rate, damping, momentum):
        optimizer = gdjax.natural_gradient(rate, damping, momentum)
        return gdjax.minimize(objective(), start(), optimizer, stop=None, max_steps=3).value

    grid = [jnp.array([0.3, 1.0]), jnp.array([0.1, 1.0]), jnp.array([0.0, 0.5])]
    np.testing.assert_allclose(
        jax.vmap(final)(*grid), [final(*(g[i] for g in grid)) for i in (0, 1)], rtol=1e-9
    )


@pytest.mark.slow
def test_mini_batches_are_seen_inside():
    data = (np.repeat(INPUTS, 8, 0).astype(np.float32), np.repeat(LABELS, 8, 0))
    batches = gdjax.objectives.supervised(model, distributions.categorical.loss, data, 12)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), start())
    optimizer = gdjax.natural_gradient(0.5, 1e-2)
    run = gdjax.minimize(batches, params, optimizer, stop=None, max_steps=60, key=0)
    assert run.value < 0.05


@pytest.mark.slow
def test_errors_at_the_door():
    optimizer = gdjax.natural_gradient()
    with pytest.raises(TypeError, match="natural_gradient needs params and value_fn"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    with pytest.raises(TypeError, match="needs an objective whose model and loss it can see apart"):
        gdjax.minimize(lambda w: jnp.sum(w**2), jnp.ones(2), optimizer)

    penalized = gdjax.objectives.supervised(
        model, distributions.categorical.loss, (INPUTS, LABELS), penalty=lambda p: jnp.sum(p["out"] ** 2)
    )
    with pytest.raises(TypeError, match="sample_space needs a curvature of the form"):
        gdjax.minimize(penalized, start(), gdjax.natural_gradient(solve=sample_space))
