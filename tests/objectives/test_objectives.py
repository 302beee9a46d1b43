"""Objectives: the shuffle, mini-batches with and without replacement, data as arguments."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gdjax
from gdjax.objectives.permutation import shuffled


def orders(n):
    draw = jax.jit(jax.vmap(lambda key, positions: shuffled(key, positions, n), in_axes=(0, None)))
    return lambda keys: draw(keys, jnp.arange(n, dtype=jnp.int32))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000])
def test_shuffled_is_a_permutation(n):
    found = np.asarray(orders(n)(jax.random.split(jax.random.key(0), 20)))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(n), (20, n)))
    if n >= 64:
        assert len({tuple(order) for order in found}) == 20


def test_orders_are_uniform():
    """Chi-square over all 24 orders of 4, over places and over neighbours of 10; shares fixed by seed."""
    keys = jax.random.split(jax.random.key(1), 6000)
    four = np.asarray(orders(4)(keys))
    codes = four @ np.array([64, 16, 4, 1])
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    ten = np.asarray(orders(10)(keys))
    for place in (0, 4, 9):
        assert stats.chisquare(np.bincount(ten[:, place], minlength=10)).pvalue > 1e-3
    gaps = (ten[:, 1] - ten[:, 0]) % 10
    assert stats.chisquare(np.bincount(gaps, minlength=10)[1:]).pvalue > 1e-3


def batches(objective, count, key=0):
    draw = jax.jit(jax.vmap(lambda i: objective.sample(jax.random.key(key), i)))
    return np.asarray(draw(jnp.arange(count)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size"), [(12, 4), (12, 12), (13, 4), (5, 1)])
def test_an_epoch_visits_each_example_once(n, size):
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean(batch) * w, jnp.arange(n), size)
    drawn = batches(objective, 3 * (n // size)).reshape(3, -1)
    for epoch in drawn:
        assert len(set(epoch)) == (n // size) * size
    assert n == 1 or not (drawn[0] == drawn[1]).all()
    assert (batches(objective, 3) == batches(objective, 3)).all()
    assert not (batches(objective, 3) == batches(objective, 3, key=1)).all() or n == size == 1


def test_leftovers_take_turns():
    """13 examples in batches of 4: the one left over is another one in other epochs."""
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean(batch) * w, jnp.arange(13), 4)
    drawn = batches(objective, 3 * 60).reshape(60, 12)
    left = [(set(range(13)) - set(epoch)).pop() for epoch in drawn]
    assert len(set(left)) > 9


def test_with_replacement_draws_uniformly_and_repeats():
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean(batch) * w, jnp.arange(10), 10, replacement=True)
    drawn = batches(objective, 500)
    assert stats.chisquare(np.bincount(drawn.ravel(), minlength=10)).pvalue > 1e-3
    assert any(len(set(batch)) < 10 for batch in drawn)


@pytest.mark.smoke
def test_rows_of_a_tree_stay_together():
    data = {"x": jnp.arange(20.0).reshape(10, 2), "y": jnp.arange(10) * 2}
    objective = gdjax.finite_sum(lambda w, batch: w * jnp.mean(batch["x"]), data, 5)
    assert objective.sample is not None
    batch = objective.sample(jax.random.key(0), 3)
    np.testing.assert_array_equal(batch["x"][:, 0], batch["y"])


def test_batches_average_to_the_whole():
    data = jnp.asarray(np.random.default_rng(0).normal(size=24), jnp.float32)
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data, 6)
    assert objective.sample is not None
    grads = [jax.grad(objective.at(objective.sample(jax.random.key(0), i)))(0.3) for i in range(4)]
    np.testing.assert_allclose(np.mean(grads), jax.grad(objective.full)(0.3), rtol=1e-5)
    whole = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data)
    assert whole.sample is None
    assert objective.full is not None
    np.testing.assert_allclose(whole.at(None)(0.3), objective.full(0.3), rtol=1e-6)


@pytest.mark.slow
def test_full_batch_is_gradient_descent_on_the_mean():
    data = jnp.arange(10.0)
    whole = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data)
    stop = gdjax.stopping.residual_below(1e-4)
    run = gdjax.minimize(whole, 0.0, gdjax.gradient_descent(0.1), stop=stop)
    np.testing.assert_allclose(run.params, 4.5, rtol=1e-5)
    assert run.status == gdjax.Status.CONVERGED


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 64])
def test_data_are_arguments_not_constants(size):
    """The compiled program holds no array of the data's size, and another data set compiles nothing."""
    data = jnp.asarray(np.random.default_rng(0).normal(size=4096), jnp.float32)
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data, size)
    run = gdjax.Run(objective, 0.0, gdjax.gradient_descent(0.1), stop=None, max_steps=3, key=0)
    jaxpr = jax.make_jaxpr(gdjax.Run.solve)(run)
    assert not [const for const in jaxpr.consts if np.size(const) > 64]
    text = jax.jit(gdjax.Run.solve).lower(run).as_text()
    assert "tensor<4096xf32>" in text  # the data come in
    assert not re.search(r"constant dense<.*tensor<4096x", text)


@pytest.mark.slow
def test_least_squares_and_composite_are_their_formulas():
    f = gdjax.least_squares(lambda x: {"a": x - 3.0, "b": 2.0 * x[:1]})
    x = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(f(x), 0.5 * (4 + 1 + 4))
    np.testing.assert_allclose(jax.grad(f)(x), [-2 + 4, -1])
    g = gdjax.Composite(lambda x: x**2, jnp.sum)
    assert g(x) == 5
    run = gdjax.minimize(f, x, gdjax.gradient_descent(0.2))
    assert run.status == gdjax.Status.CONVERGED


def test_errors_at_the_door():
    loss = lambda w, batch: w  # noqa: E731
    with pytest.raises(ValueError, match="batch_size is 11, but there are 10"):
        gdjax.finite_sum(loss, jnp.arange(10), 11)
    with pytest.raises(ValueError, match="batch_size is 0"):
        gdjax.finite_sum(loss, jnp.arange(10), 0)
    with pytest.raises(ValueError, match="leading axis of examples"):
        gdjax.finite_sum(loss, jnp.asarray(3.0), 1)
    with pytest.raises(ValueError, match="differ in their leading axis"):
        gdjax.finite_sum(loss, (jnp.arange(3), jnp.arange(4)), 1)
