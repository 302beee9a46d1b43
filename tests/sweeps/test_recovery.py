"""Runs of fixed length that are lost on the way: a sweep says of them what a run alone says."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax import Status
from gdjax.sweeps import cache

DATA = jnp.asarray(np.random.default_rng(0).normal(size=(24, 2)), jnp.float32)
RATES = np.geomspace(1e-3, 3.0, 7, dtype=np.float32)


def quartic(x):
    return jnp.sum(x**4)


def batched(w, batch):
    return jnp.mean(jnp.sum((w[None] - batch) ** 4, -1))


def plain(rate, **axes):
    return gdjax.Run(quartic, jnp.array([1.5, -2.0]), optax.sgd(rate), stop=None, max_steps=60)


def recorded(rate):
    record = gdjax.every(7, lambda step: {"loss": step.value, "move": step.move})
    return gdjax.Run(quartic, jnp.array([1.5, -2.0]), optax.sgd(rate), stop=None, max_steps=60, record=record)


def mini_batches(rate):
    objective = gdjax.finite_sum(batched, DATA, 6)
    return gdjax.Run(objective, 3 * jnp.ones(2), optax.adam(rate), stop=None, max_steps=50, key=3)


def one_batch_a_seed(rate):
    objective = gdjax.finite_sum(batched, DATA, 6)
    return gdjax.Run(objective, 3 * jnp.ones(2), optax.sgd(rate), stop=None, max_steps=50, key=3)


def uneven(rate):
    """A number of steps that no block divides."""
    return gdjax.Run(quartic, jnp.array([1.5, -2.0]), optax.sgd(rate), stop=None, max_steps=61)


def uneven_mini_batches(rate):
    objective = gdjax.finite_sum(batched, DATA, 6)
    return gdjax.Run(objective, 3 * jnp.ones(2), optax.sgd(rate), stop=None, max_steps=61, key=3)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "trial", [plain, recorded, mini_batches, one_batch_a_seed, uneven, uneven_mini_batches]
)
def test_every_run_is_the_run_alone(trial):
    found = gdjax.sweep(trial, {"rate": RATES}, params=True, progress=False)
    alone = jax.jit(jax.vmap(lambda rate: trial(rate).solve()._replace(state=None)))(RATES)
    if trial is not mini_batches:  # Adam's steps are as long as its rate: none is lost
        assert {Status.NONFINITE, Status.MAX_STEPS} == {Status(int(s)) for s in alone.status}
    np.testing.assert_array_equal(found.status, alone.status)
    np.testing.assert_array_equal(found.steps, alone.steps)
    for name in ("value", "residual", "params"):
        np.testing.assert_allclose(found[name].values, getattr(alone, name), rtol=1e-4)
    for name, rows in (alone.trace or {}).items():
        np.testing.assert_allclose(found[name].values, rows, rtol=1e-4, atol=1e-6)


def test_the_way_back_is_made_once_and_only_where_runs_are_lost():
    trial = lambda rate: plain(rate)  # noqa: E731
    kept = cache.kept_for(trial, cache.PROGRAMS)
    gdjax.sweep(trial, {"rate": RATES[:2]}, progress=False)
    assert len(kept) == 1
    found = gdjax.sweep(trial, {"rate": np.linspace(2.0, 2.001, 200)}, chunk=150, progress=False)
    assert len(kept) == 3  # the program of the chunks, and one way back for all their runs
    assert (found.status == Status.NONFINITE).all()
    again = gdjax.sweep(trial, {"rate": np.linspace(2.0, 2.001, 200)}, chunk=150, progress=False)
    assert again.attrs["compile_seconds"] == 0
    np.testing.assert_array_equal(found.value, again.value)


def test_without_axes_and_with_two():
    lost = gdjax.sweep(lambda: plain(jnp.float32(2.0)), {}, params=True, progress=False)
    alone = plain(jnp.float32(2.0)).solve()
    assert int(lost.status) == int(alone.status) == Status.NONFINITE
    np.testing.assert_allclose(lost.value, alone.value, rtol=1e-5)
    both = gdjax.sweep(plain, {"rate": RATES, "other": np.arange(3)}, params=True, progress=False)
    each = gdjax.sweep(plain, {"rate": RATES}, params=True, progress=False)
    for other in range(3):
        np.testing.assert_array_equal(both.status.sel(other=other), each.status)
        np.testing.assert_allclose(both.params.sel(other=other), each.params, rtol=1e-5)


def test_what_the_way_back_takes_to_compile_is_counted_once(tmp_path):
    begin = time.perf_counter()
    found = gdjax.sweep(
        lambda rate: one_batch_a_seed(rate), {"rate": RATES}, store=tmp_path / "r.zarr", progress=False
    )
    assert 0 < found.attrs["compile_seconds"] < found.attrs["wall_seconds"] < time.perf_counter() - begin
