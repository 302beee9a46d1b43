"""Lanes with refill: every run as if alone, whatever the lanes, the order or the chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.sweeps import Lanes, engine, programs
from gdjax.sweeps.lanes import as_lanes
from gdjax.types import Status

RATES = np.array([0.3, 0.01, 0.1, 1.5, 0.02, 0.45, 0.2], np.float32)
AXES = {"rate": RATES, "seed": np.arange(3)}
CURVES = np.array([1.0, 3.0], np.float32)


def quadratic(x):
    return 0.5 * jnp.sum(jnp.asarray(CURVES, x.dtype) * x**2)


def descent(rate, seed, record=None):
    start = jax.random.normal(jax.random.key(seed), (2,))
    return gdjax.Run(quadratic, start, optax.sgd(rate), max_steps=300, record=record)


def rosenbrock(start):
    run = gdjax.Run(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, start, gdjax.bfgs())
    return run


def alone(trial, axes):
    """What every run comes to by itself, one after the other."""
    one = jax.jit(lambda point: trial(**point).solve())
    names = list(axes)
    grid = np.meshgrid(*(np.arange(len(axes[name])) for name in names), indexing="ij")
    index = [each.ravel() for each in grid]
    found = [
        one({n: axes[n][i] for n, i in zip(names, point, strict=True)}) for point in zip(*index, strict=True)
    ]
    shape = grid[0].shape
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[run._replace(state=None) for run in found])
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), stacked)


def assert_same(found, runs, rtol, variables=("value", "residual", "params")):
    for name in variables:
        np.testing.assert_allclose(found[name], getattr(runs, name), rtol=rtol, atol=rtol, err_msg=name)
    np.testing.assert_array_equal(found.steps, runs.steps)
    np.testing.assert_array_equal(found.status, runs.status)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 4, "auto"])
def test_each_run_as_if_alone(lanes):
    found = gdjax.sweep(descent, AXES, lanes=lanes, params=True)
    assert found.attrs["engine"] == "lanes"
    assert len(np.unique(found.steps)) > 10
    assert (found.status[3] == Status.NONFINITE).all()
    assert_same(found, alone(descent, AXES), 1e-6)


@pytest.mark.slow
def test_each_run_as_if_alone_in_float64(x64):
    starts = np.random.default_rng(0).uniform(-2, 2, (12, 2))
    found = gdjax.sweep(rosenbrock, {"start": starts}, lanes=5, params=True)
    assert (found.status == Status.CONVERGED).all()
    runs = alone(rosenbrock, {"start": starts})
    np.testing.assert_allclose(found.params, runs.params, rtol=1e-6)
    assert np.abs(found.steps - runs.steps).max() <= 2
    one = gdjax.sweep(rosenbrock, {"start": starts}, lanes=None, params=True)
    assert one.attrs["engine"] == "grid"
    assert (one.attrs["lanes"], one.attrs["ticks"]) == (0, 0)
    np.testing.assert_allclose(found.params, one.params, rtol=1e-6)


CHUNKED = 0.0 if jax.__version_info__ >= (0, 8) else 2e-7
"""JAX 0.7 rounds in another program of the same lanes in another way: the last bit of a run that diverges."""


@pytest.mark.smoke
def test_order_lanes_and_chunks_change_no_bit():
    found = gdjax.sweep(descent, AXES, lanes=4, params=True)
    backwards = gdjax.sweep(
        descent, {name: values[::-1] for name, values in AXES.items()}, lanes=4, params=True
    )
    parts = gdjax.sweep(descent, AXES, lanes=4, chunk=4, params=True)
    turns = gdjax.sweep(descent, AXES, lanes=Lanes(4, ticks=7), params=True)
    assert parts.attrs["chunk"] < found.attrs["chunk"] == 21
    for name in found:
        np.testing.assert_array_equal(backwards[name][::-1, ::-1], found[name], err_msg=name)
        np.testing.assert_allclose(parts[name], found[name], rtol=CHUNKED, err_msg=name)
        np.testing.assert_array_equal(turns[name], found[name], err_msg=name)


def test_a_second_sweep_traces_and_compiles_nothing():
    calls = []

    def trial(rate, seed):
        calls.append(rate)
        return descent(rate, seed)

    first = gdjax.sweep(trial, AXES, lanes=4)
    assert len(calls) == 1
    second = gdjax.sweep(trial, AXES | {"rate": 0.5 * RATES}, lanes=4)
    assert len(calls) == 1
    assert second.attrs["compile_seconds"] == 0 < first.attrs["compile_seconds"]
    assert (second.steps.values != first.steps.values).any()


def test_lanes_do_not_wait():
    """The ticks are about what the steps need, not the longest run times the batches."""
    axes = {"rate": np.where(np.arange(64) % 8 == 0, 0.02, 0.3).astype(np.float32), "seed": [0]}
    found = gdjax.sweep(descent, axes, lanes=8)
    evaluations = int((found.steps + 1).sum())
    longest = int(found.steps.max()) + 1
    assert evaluations / 8 <= found.attrs["ticks"] < evaluations / 8 + 2 * longest
    assert found.attrs["ticks"] < 0.5 * 8 * longest
    assert found.attrs["lanes"] == 8


@pytest.mark.slow
def test_traces_are_those_of_the_runs():
    def trial(rate, seed):
        return descent(rate, seed, gdjax.every(20, lambda step: {"f": step.value, "x": step.params}))

    found = gdjax.sweep(trial, AXES, lanes=4)
    runs = alone(trial, AXES)
    assert found["f"].dims == ("rate", "seed", "step")
    assert np.isnan(found["f"]).any()
    np.testing.assert_allclose(found["f"], runs.trace["f"], rtol=1e-5)
    np.testing.assert_allclose(found["x"], runs.trace["x"], rtol=1e-5)
    assert found.step.values[1] == 20


@pytest.mark.slow
def test_mini_batches():
    data = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)

    def trial(rate, seed):
        return gdjax.Run(
            gdjax.finite_sum(lambda x, batch: jnp.mean((batch @ x - 1.0) ** 2), data, batch_size=6),
            jnp.zeros(3),
            optax.sgd(rate),
            stop=gdjax.stopping.value_below(0.9),
            max_steps=50,
            key=jax.random.key(seed),
        )

    axes = {"rate": np.array([0.003, 0.03, 0.1], np.float32), "seed": np.arange(4)}
    found = gdjax.sweep(trial, axes, lanes=4, params=True)
    assert len(np.unique(found.steps)) > 3
    assert_same(found, alone(trial, axes), 1e-5)


@pytest.mark.smoke
def test_what_no_axis_touches_is_kept_once():
    """Data and starts that all runs share are not copied for each lane."""
    data = jnp.ones((1000, 30))

    def trial(rate):
        centred = data - jnp.mean(data, axis=0, keepdims=True)
        return gdjax.Run(lambda x: jnp.mean((centred @ x - 1.0) ** 2), jnp.zeros(30), optax.sgd(rate))

    values = [jax.ShapeDtypeStruct((32,), jnp.float32)]
    program, _ = programs.compiled(
        trial, {}, ["rate"], values, programs.ProgramOptions(False, as_lanes(8), None)
    )
    assert program.lanes == Lanes(8)
    assert program.nbytes < 3 * data.nbytes


def test_trials_that_are_no_runs_and_static_choices_of_both_kinds():
    def trial(rate, stop):
        return gdjax.Run(quadratic, jnp.ones(2), optax.sgd(rate), stop=stop, max_steps=20)

    stops = gdjax.static({"fixed": None, "early": gdjax.stopping.residual_below(1e-3)})
    found = gdjax.sweep(trial, {"rate": RATES, "stop": stops}, lanes=2)
    assert found.attrs["engine"] == "grid, lanes"
    assert (found.steps.sel(stop="early") <= found.steps.sel(stop="fixed")).all()
    plain = gdjax.sweep(lambda rate: rate**2, {"rate": RATES}, lanes=2)
    assert plain.attrs["engine"] == "grid"
    np.testing.assert_allclose(plain.result, RATES**2)


def test_one_run_and_no_axis():
    assert int(gdjax.sweep(descent, {"rate": [0.3], "seed": [0]}).steps[0, 0]) > 0
    found = gdjax.sweep(lambda: gdjax.Run(quadratic, jnp.ones(2), optax.sgd(0.3)), {})
    assert found.value.shape == ()
    assert int(found.status) == Status.CONVERGED


def test_tolerances_starts_and_keys_can_be_axes():
    def trial(start, tolerance):
        stop = gdjax.stopping.residual_below(tolerance)
        return gdjax.Run(quadratic, start["x"], optax.sgd(start["rate"]), stop=stop)

    starts = {
        "x": np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]], np.float32),
        "rate": np.float32([0.1, 0.2, 0.3]),
    }
    axes = {"start": starts, "tolerance": np.float32([1e-1, 1e-3, 1e-5])}
    found = gdjax.sweep(trial, axes, lanes=2, params=True)
    assert (found.steps.diff("tolerance") > 0).all()
    assert (found.status == Status.CONVERGED).all()


@pytest.mark.slow
@pytest.mark.parametrize("lanes", ["auto", None])
def test_memory_that_runs_out_halves_the_chunk(lanes, monkeypatch):
    whole = gdjax.sweep(descent, AXES, lanes=lanes)
    failures = []
    make = engine.compiled

    def failing(*arguments):
        program, seconds = make(*arguments)

        def run(values, lengths):
            if len(failures) < 2:
                failures.append(lengths)
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
            return program.run(values, lengths)

        return program._replace(run=run), seconds

    monkeypatch.setattr(engine, "compiled", failing)
    parts = gdjax.sweep(descent, AXES, lanes=lanes)
    assert failures == [(7, 3), (4, 3)]
    assert parts.attrs["chunk"] == 6
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6, err_msg=name)


def test_other_errors_and_one_run_that_does_not_fit_are_raised(monkeypatch):
    for message in ("RESOURCE_EXHAUSTED: Out of memory", "INTERNAL: broken"):

        def failing(*arguments, message=message):
            raise jax.errors.JaxRuntimeError(message)

        monkeypatch.setattr(engine, "compiled", failing)
        with pytest.raises(jax.errors.JaxRuntimeError, match=message):
            gdjax.sweep(descent, AXES)


@pytest.mark.parametrize("lanes", [-1, 2.5, "many", True, Lanes(0), Lanes(2, 0)])
def test_errors_in_lanes(lanes):
    with pytest.raises(ValueError, match="lanes must be"):
        gdjax.sweep(descent, AXES, lanes=lanes)


@pytest.mark.slow
def test_tuned_lanes_tries_every_candidate_on_one_sample(monkeypatch):
    from gdjax.sweeps import tuning

    tried, take = [], tuning._seconds

    def seconds(trial, plan, box, lanes):
        spent = take(trial, plan, box, lanes)
        tried.append((lanes, plan.runs))
        assert spent > 0
        return {4: 2.0, 8: 1.0}[lanes.count] + lanes.ticks

    monkeypatch.setattr(tuning, "_seconds", seconds)

    def trial(rate, power):
        return gdjax.Run(lambda x: jnp.sum(x**power), jnp.ones(2), gdjax.gradient_descent(rate), max_steps=50)

    axes = {"rate": np.linspace(0.1, 0.4, 40), "power": gdjax.static([2, 4])}
    found = gdjax.sweeps.tuned_lanes(trial, axes, counts=(4, 8), ticks=(1, 2), runs=24)
    assert found == gdjax.sweeps.Lanes(8, 1)
    assert tried == [(gdjax.sweeps.Lanes(count, ticks), 24) for count in (4, 8) for ticks in (1, 2)]


def test_tuned_lanes_names_what_it_cannot_tune():
    def fixed(rate):
        return gdjax.Run(jnp.sum, jnp.ones(2), gdjax.gradient_descent(rate), stop=None, max_steps=3)

    axes = {"rate": np.linspace(0.1, 0.4, 4)}
    with pytest.raises(ValueError, match="fixed length"):
        gdjax.sweeps.tuned_lanes(fixed, axes, counts=(2,))
    with pytest.raises(ValueError, match="no candidates"):
        gdjax.sweeps.tuned_lanes(fixed, axes, counts=())
    with pytest.raises(ValueError, match="lanes must be"):
        gdjax.sweeps.tuned_lanes(fixed, axes, counts=(0,))
