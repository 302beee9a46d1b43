"""Sweeps: equal to single runs, one program a static choice, chunks, errors at the door."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray

import gdjax
from gdjax.sweeps import cache, programs, tracing
from gdjax.sweeps.plan import tiling
from gdjax.types import Status

DATA = np.random.default_rng(0).normal(size=(24, 3))


def regression(x, batch):
    return jnp.mean((batch @ x - 1.0) ** 2)


def make_trial(record=None, calls=None):
    def trial(rate, seed, optimizer=optax.sgd):
        if calls is not None:
            calls.append(optimizer)
        return gdjax.Run(
            gdjax.finite_sum(regression, jnp.asarray(DATA, float), batch_size=6),
            jax.random.normal(jax.random.key(seed), (3,)),
            optimizer(rate),
            stop=None,
            max_steps=30,
            key=jax.random.key(seed),
            record=record,
        )

    return trial


def quick(rate, seed=0):
    return gdjax.Run(lambda x: x**2, 1.0 + seed, optax.sgd(rate), stop=None, max_steps=4)


def grid():
    return {
        "rate": [1e-3, 1e-2, 0.1],
        "optimizer": gdjax.static([optax.sgd, optax.adam]),
        "seed": np.arange(4),
    }


def assert_equals_single_runs(dataset, trial, axes, rtol):
    choices = dict(zip(axes["optimizer"].labels, axes["optimizer"].values, strict=True))
    single = {
        name: jax.jit(lambda rate, seed, o=optimizer: trial(rate, seed, o).solve())
        for name, optimizer in choices.items()
    }
    for rate in axes["rate"]:
        for name in choices:
            for seed in axes["seed"]:
                cell = dataset.sel(rate=rate, optimizer=name, seed=seed)
                run = single[name](rate, seed)
                for variable in ("value", "residual", "params"):
                    np.testing.assert_allclose(cell[variable], getattr(run, variable), rtol=rtol, atol=rtol)
                np.testing.assert_allclose(cell["f"], run.trace["f"], rtol=rtol, atol=rtol)
                assert int(cell.steps) == int(run.steps)
                assert int(cell.status) == int(run.status)


@pytest.mark.slow
def test_equals_single_runs_in_float32():
    trial = make_trial(gdjax.every(10, lambda step: {"f": step.value}))
    found = gdjax.sweep(trial, grid(), params=True)
    assert_equals_single_runs(found, trial, grid(), 1e-5)


@pytest.mark.slow
def test_equals_single_runs_in_float64(x64):
    trial = make_trial(gdjax.every(10, lambda step: {"f": step.value}))
    found = gdjax.sweep(trial, grid(), params=True)
    assert found.value.dtype == np.float64
    assert_equals_single_runs(found, trial, grid(), 1e-12)


@pytest.mark.smoke
def test_shape_of_the_dataset():
    trial = make_trial(gdjax.every(7, lambda step: {"f": step.value, "x": step.params}))
    found = gdjax.sweep(trial, grid(), params=True)
    axes = ("rate", "optimizer", "seed")
    assert {name: found[name].dims for name in found} == {
        "value": axes,
        "residual": axes,
        "steps": axes,
        "status": axes,
        "f": (*axes, "step"),
        "x": (*axes, "step", "x_0"),
        "params": (*axes, "params_0"),
    }
    assert found.step.values.tolist() == [0, 7, 14, 21, 28]
    assert found.rate.values.tolist() == np.float32([1e-3, 1e-2, 0.1]).tolist()  # as the trial sees them
    assert found.optimizer.values.tolist() == ["sgd", "adam"]
    assert found.status.dtype == np.int8
    assert found.steps.dtype == np.int32
    for name in ("gdjax", "jax", "jaxlib", "optax", "numpy", "python", "device", "created", "engine"):
        assert isinstance(found.attrs[name], str)
    assert (found.attrs["runs"], found.attrs["chunk"], found.attrs["programs"]) == (24, 12, 2)
    assert found.attrs["program_bytes"] > 0
    assert 0 < found.attrs["compile_seconds"] < found.attrs["wall_seconds"]


@pytest.mark.slow
def test_one_trace_a_static_choice_however_many_values():
    calls = []
    trial = make_trial(calls=calls)
    gdjax.sweep(trial, grid())
    assert calls == [optax.sgd, optax.adam]
    again = gdjax.sweep(trial, grid() | {"rate": [0.5, 0.2, 0.3]})
    assert len(calls) == 2
    assert again.attrs["compile_seconds"] == 0
    gdjax.sweep(trial, grid() | {"rate": [0.5, 0.2]}, chunk=4)
    assert len(calls) == 2  # another program of the same trace


@pytest.mark.slow
def test_programs_go_with_their_trial():
    def trial(rate):
        return rate

    gdjax.sweep(trial, {"rate": [0.1]})
    kept = len(cache.PROGRAMS)
    del trial
    assert len(cache.PROGRAMS) < kept


@pytest.mark.smoke
@pytest.mark.parametrize("chunk", [1, 5])
def test_chunks_change_nothing(chunk):
    trial = make_trial(calls=(calls := []))
    axes = {"rate": [1e-3, 1e-2, 0.1], "seed": np.arange(4)}
    whole = gdjax.sweep(trial, axes, params=True)
    calls.clear()
    parts = gdjax.sweep(trial, axes, chunk=chunk, params=True)
    assert not calls  # the trace of the whole serves all chunks
    assert parts.attrs["chunk"] <= chunk
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("sizes", "runs", "expected"),
    [([3, 4], 12, [3, 4]), ([3, 4], 5, [1, 4]), ([5, 4], 12, [3, 4]), ([3, 4], 3, [1, 2]), ([], 1, [])],
)
def test_tiles(sizes, runs, expected):
    assert tiling(sizes, runs) == expected


@pytest.mark.slow
def test_a_small_budget_makes_chunks(monkeypatch):
    from gdjax.sweeps import engine

    def trial(rate):
        return gdjax.Run(lambda x: x**2, jnp.ones(()), optax.sgd(rate), stop=None, max_steps=20)

    axes = {"rate": np.linspace(0.01, 0.1, 8)}
    whole = gdjax.sweep(trial, axes)
    monkeypatch.setattr(engine, "budget", lambda: 256)
    parts = gdjax.sweep(trial, axes)
    assert parts.attrs["chunk"] < whole.attrs["chunk"] == 8
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-5)


@pytest.mark.slow
def test_chunks_keep_to_the_caches(monkeypatch):
    from gdjax.sweeps import engine

    def trial(rate, scale):
        return gdjax.Run(
            lambda x: scale * jnp.sum(jnp.tanh(x) ** 2),
            jnp.ones(1000),
            optax.sgd(rate),
            stop=None,
            max_steps=5,
        )

    axes = {"rate": np.linspace(0.01, 0.1, 12), "scale": np.linspace(1, 2, 5)}
    whole = gdjax.sweep(trial, axes)
    monkeypatch.setattr(engine, "CACHED", 30 * engine.AT_ONCE * 1000 * 4)
    monkeypatch.setattr(engine, "FEWEST", 1)
    parts = gdjax.sweep(trial, axes)
    assert 1 < parts.attrs["chunk"] < whole.attrs["chunk"] == 60
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-5)


@pytest.mark.slow
def test_a_lost_run_touches_no_other():
    def trial(rate):
        return gdjax.Run(
            lambda x: x**4 / 4,
            jnp.array(1.0),
            optax.sgd(rate),
            stop=None,
            max_steps=60,
            record=lambda s: s.value,
        )

    sound = gdjax.sweep(trial, {"rate": [0.1, 0.2]})
    both = gdjax.sweep(trial, {"rate": [0.1, 3.0, 0.2]}, params=True)
    lost = both.sel(rate=3.0)
    assert int(lost.status) == Status.NONFINITE
    assert np.isfinite(lost.params)
    assert np.isfinite(lost.value)
    np.testing.assert_allclose(lost.value, lost.params.astype(float) ** 4 / 4, rtol=1e-5)
    assert np.isfinite(lost.trace[: int(lost.steps) + 1]).all()
    assert np.isnan(lost.trace[int(lost.steps) + 1 :]).all()
    rest = both.drop_sel(rate=3.0)
    for name in sound:
        np.testing.assert_allclose(rest[name], sound[name], rtol=1e-6)


@pytest.mark.slow
def test_runs_that_stop_early():
    def trial(rate):
        return gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), optax.sgd(rate), max_steps=500)

    found = gdjax.sweep(trial, {"rate": [0.01, 0.1, 0.4]})
    assert (np.diff(found.steps) < 0).all()
    for rate in found.rate.values:
        run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), optax.sgd(rate), max_steps=500)
        assert int(run.steps) == int(found.steps.sel(rate=rate))


def whole(trial, values):
    """A trial of a rate and a seed over both axes."""
    point = [jax.ShapeDtypeStruct((), value.dtype) for value in values]
    return programs.mapped(tracing.traced(trial, point, False, lambda run: False), values)


def main_loop(jaxpr):
    """The first scan of more than one step, wherever it is."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan" and eqn.params["length"] > 1:
            return str(eqn.params["jaxpr"])
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda p: hasattr(p, "jaxpr")):
            if hasattr(inner, "jaxpr") and (found := main_loop(inner.jaxpr)):
                return found
    return None


def test_what_an_axis_does_not_touch_is_not_repeated():
    """The batch drawn by a seed is shared by all rates: it has no axis of 7 rates."""
    values = [jax.ShapeDtypeStruct((7,), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.int32)]
    program = whole(make_trial(), values)
    loop = main_loop(jax.make_jaxpr(program)(*values).jaxpr)
    assert "f32[5,7,3]" in loop
    assert "f32[5,6,3]" in loop
    assert "f32[5,7,6,3]" not in loop


def test_nothing_to_share_is_one_batch():
    """Without batches, each point is on its own: one batch dimension, of all 35 points."""
    values = [jax.ShapeDtypeStruct((7,), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.float32)]

    def trial(rate, seed):
        return gdjax.Run(lambda x: jnp.sum(x**2), jnp.full(3, seed), optax.sgd(rate), stop=None, max_steps=30)

    program = whole(trial, values)
    loop = main_loop(jax.make_jaxpr(program)(*values).jaxpr)
    assert "f32[35,3]" in loop
    assert "f32[7,5" not in loop


@pytest.mark.smoke
def test_trials_of_any_arrays():
    found = gdjax.sweep(
        lambda a, b: {"sum": a + b, "outer": {"row": a * jnp.arange(3)}}, {"a": [1, 2], "b": [0.5]}
    )
    np.testing.assert_array_equal(found["sum"], [[1.5], [2.5]])
    assert found["outer.row"].dims == ("a", "b", "outer.row_0")
    np.testing.assert_array_equal(found["outer.row"][1, 0], [0, 2, 4])
    bare = gdjax.sweep(lambda a: a**2, {"a": jnp.arange(3.0)})
    np.testing.assert_array_equal(bare.result, [0, 1, 4])


@pytest.mark.smoke
def test_axes_of_keys_and_pytrees():
    keys = jax.random.split(jax.random.key(0), 3)
    starts = {"x": jnp.arange(2.0), "y": jnp.ones((2, 4))}
    found = gdjax.sweep(
        lambda key, start: start["x"] + jnp.sum(start["y"]) + jax.random.normal(key),
        {"key": keys, "start": starts},
    )
    assert found.key.values.tolist() == [0, 1, 2]
    assert found.start.values.tolist() == [0, 1]
    noise = jax.vmap(jax.random.normal)(keys)
    np.testing.assert_allclose(found.result, noise[:, None] + jnp.array([[4.0, 5.0]]), rtol=1e-6)


@pytest.mark.slow
def test_static_axes_alone_and_of_widths():
    found = gdjax.sweep(lambda width: jnp.sum(jnp.ones(width)), {"width": gdjax.static([2, 5])})
    assert found.width.values.tolist() == ["2", "5"]
    np.testing.assert_array_equal(found.result, [2, 5])


@pytest.mark.slow
def test_named_params():
    def trial(rate):
        start = {"layer": [jnp.ones(2), jnp.zeros(())]}
        return gdjax.Run(
            lambda p: jnp.sum(p["layer"][0] ** 2) + p["layer"][1] ** 2,
            start,
            optax.sgd(rate),
            stop=None,
            max_steps=3,
        )

    found = gdjax.sweep(trial, {"rate": [0.1]}, params=True)
    assert found["params.layer.0"].dims == ("rate", "params.layer.0_0")
    assert found["params.layer.1"].dims == ("rate",)


@pytest.mark.slow
def test_store(tmp_path):
    path = tmp_path / "runs.zarr"
    found = gdjax.sweep(make_trial(lambda step: step.value), grid(), store=path)
    with xarray.open_zarr(path) as stored:
        xarray.testing.assert_identical(stored.load(), found)
    with pytest.raises(ValueError, match="holds another sweep: the trial computes something else"):
        gdjax.sweep(make_trial(), grid(), store=path)


@pytest.mark.slow
def test_progress_moves_between_chunks():
    from rich.console import Console
    from rich.progress import Progress

    axes = {"rate": [0.1, 0.2, 0.3], "seed": np.arange(2.0)}
    with Progress(console=Console(file=io.StringIO())) as bar:
        gdjax.sweep(quick, axes, chunk=2, progress=bar)
        assert [task.completed for task in bar.tasks] == [6]
    with pytest.raises(TypeError, match=r"rich\.progress"):
        gdjax.sweep(quick, axes, progress=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"rates": [0.1], "seed": [0]}, ValueError, "no argument 'rates'; did you mean 'rate'"),
        ({"rate": [0.1]}, ValueError, "trial needs 'seed'"),
        ({"rate": [], "seed": [0]}, ValueError, "'rate' is empty"),
        ({"rate": np.zeros((0,)), "seed": [0]}, ValueError, "'rate' is empty"),
        ({"rate": 0.1, "seed": [0]}, ValueError, "'rate' is a single number"),
        ({"rate": [[1.0], [1.0, 2.0]], "seed": [0]}, ValueError, "unequal shapes"),
        (
            {"rate": {"a": np.zeros(2), "b": np.zeros(3)}, "seed": [0]},
            ValueError,
            r"differ in length: \[2, 3\]",
        ),
        ({"rate": ["fast"], "seed": [0]}, TypeError, r"did you mean rate=gdjax.static"),
        ({"rate": [optax.sgd], "seed": [0]}, TypeError, r"did you mean rate=gdjax.static"),
        ({"rate": "fast", "seed": [0]}, TypeError, r"did you mean rate=gdjax.static"),
        ([("rate", [0.1])], TypeError, "axes must map names"),
    ],
)
def test_errors_in_axes(axes, error, message):
    with pytest.raises(error, match=message):
        gdjax.sweep(make_trial(), axes)


@pytest.mark.slow
def test_errors_in_trials():
    with pytest.raises(TypeError, match="trial must be a function"):
        gdjax.sweep(3, {})
    with pytest.raises(TypeError, match="returned a str"):
        gdjax.sweep(lambda a: "no", {"a": [1]})
    with pytest.raises(TypeError, match="must return a gdjax"):
        gdjax.sweep(lambda a: None, {"a": [1]})
    with pytest.raises(ValueError, match="static choices return different"):
        gdjax.sweep(lambda n: jnp.zeros(n), {"n": gdjax.static([1, 2])})
    with pytest.raises(ValueError, match="'value', which is a result's name"):
        gdjax.sweep(make_trial(lambda step: {"value": step.value}), grid())
    with pytest.raises(ValueError, match="chunk must be"):
        gdjax.sweep(make_trial(), grid(), chunk=0)
    with pytest.raises(ValueError, match="several values are called"):
        gdjax.static([lambda x: x, lambda x: 2 * x])
    with pytest.raises(ValueError, match="no values"):
        gdjax.static([])
