"""Shampoo and SOAP against their papers' updates, transcribed in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax

GRADS = np.random.default_rng(0).normal(size=(12, 4, 3))


def inverse_root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-power) @ vectors.T


def updates_of(optimizer, grads):
    state = optimizer.init(jnp.zeros(grads.shape[1:]))
    out = []
    for grad in grads:
        update, state = optimizer.update(jnp.asarray(grad), state)
        out.append(update)
    return np.stack(out)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1, 3])
def test_shampoo_on_a_matrix(x64, interval):
    eps, rate = 1e-4, 0.1
    left, right = eps * np.eye(4), eps * np.eye(3)
    expected, roots = [], (left, right)
    for t, grad in enumerate(GRADS):
        left, right = left + grad @ grad.T, right + grad.T @ grad
        if t % interval == 0:
            roots = inverse_root(left, 0.25), inverse_root(right, 0.25)
        expected.append(-rate * roots[0] @ grad @ roots[1])
    found = updates_of(gdjax.shampoo(rate, eps, interval=interval), GRADS)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_shampoo_on_a_tensor_and_a_vector(x64):
    grads = np.random.default_rng(1).normal(size=(5, 3, 2, 4))
    factors, expected = [1e-4 * np.eye(d) for d in (3, 2, 4)], None
    for grad in grads:
        unfolded = [np.moveaxis(grad, i, 0).reshape(grad.shape[i], -1) for i in range(3)]
        factors = [f + u @ u.T for f, u in zip(factors, unfolded, strict=True)]
        roots = [inverse_root(f, 1 / 6) for f in factors]
        expected = -np.einsum("abc,ax,by,cz->xyz", grad, *roots)
    np.testing.assert_allclose(updates_of(gdjax.shampoo(1.0), grads)[-1], expected, rtol=1e-8)

    vectors = GRADS[:, :, 0]
    matrix = 1e-4 * np.eye(4) + vectors.T @ vectors
    expected = -inverse_root(matrix, 0.5) @ vectors[-1]
    np.testing.assert_allclose(updates_of(gdjax.shampoo(1.0), vectors)[-1], expected, rtol=1e-7)


@pytest.mark.slow
def test_soap_on_a_matrix(x64):
    b1, b2, eps, rate, interval = 0.9, 0.95, 1e-8, 0.01, 2
    left, right = np.zeros((4, 4)), np.zeros((3, 3))
    mean, square, expected = np.zeros((4, 3)), np.zeros((4, 3)), []
    ql, qr = left, right
    for t, grad in enumerate(GRADS, start=1):
        left = b2 * left + (1 - b2) * grad @ grad.T
        right = b2 * right + (1 - b2) * grad.T @ grad
        if t == 1:
            ql, qr = np.linalg.eigh(left)[1], np.linalg.eigh(right)[1]
        mean = b1 * mean + (1 - b1) * grad
        square = b2 * square + (1 - b2) * (ql.T @ grad @ qr) ** 2
        turned = (ql.T @ mean @ qr) / (1 - b1**t)
        expected.append(-rate * ql @ (turned / (np.sqrt(square / (1 - b2**t)) + eps)) @ qr.T)
        if t % interval == 0:
            ql, qr = np.linalg.qr(left @ ql)[0], np.linalg.qr(right @ qr)[0]
    # The first left factor has rank 3 of 4: the basis of its null space is anyone's choice, and the
    # step does not depend on it while the gradient's component there is zero, as at the first step.
    found = updates_of(gdjax.soap(rate, b1, b2, eps, interval=interval), GRADS)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-6, atol=1e-9)


def test_soap_is_adam_where_no_axis_is_rotated(x64):
    grads = GRADS.reshape(12, 12)
    found = updates_of(gdjax.soap(0.01, 0.9, 0.999, max_size=4), grads)
    np.testing.assert_allclose(found, updates_of(optax.adam(0.01), grads), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.shampoo, gdjax.soap])
def test_half_precision_zero_gradients_and_trees(method):
    params = {"w": jnp.ones((3, 2), jnp.float16), "b": jnp.float32(1.0), "c": jnp.ones(4, jnp.bfloat16)}
    optimizer = method(0.1)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    for update, leaf in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert update.dtype == leaf.dtype
        assert update.shape == leaf.shape
        assert not jnp.any(update)


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.shampoo, gdjax.soap])
def test_numbers_may_be_tracers(method):
    def value_after(rate):
        run = gdjax.minimize(
            lambda w: jnp.sum((w - 1.0) ** 2), jnp.zeros((2, 2)), method(rate), stop=None, max_steps=5
        )
        return run.value

    rates = jnp.array([0.01, 0.1])
    # All inside of jit: entries of a rotated gradient that are rounding are divided by their own size.
    alone = [jax.jit(functools.partial(value_after, float(r)))() for r in rates]
    np.testing.assert_allclose(jax.vmap(value_after)(rates), alone, rtol=1e-5)


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match="interval must be an integer of at least 1"):
        gdjax.soap(interval=0)


@pytest.mark.slow
def test_perturbed_leaves_a_saddle_and_kicks_within_its_ball():
    saddle = gdjax.perturbed(gdjax.gradient_descent(0.05), radius=0.01, wait=50, key=3)
    params, zero = jnp.zeros(5), jnp.zeros(5)
    kick, state = saddle.update(zero, saddle.init(params), params)
    assert 0 < float(jnp.linalg.norm(kick)) <= 0.01
    again, state = saddle.update(zero, state, params)
    assert not jnp.any(again)

    def objective(x):
        return jnp.sum(x[:4] ** 2) - x[4] ** 2 + x[4] ** 4

    still = gdjax.minimize(objective, params, gdjax.gradient_descent(0.05), stop=None, max_steps=400)
    assert still.value == 0
    left = gdjax.minimize(objective, params, saddle, stop=None, max_steps=400)
    np.testing.assert_allclose(left.value, -0.25, atol=1e-2)
