"""Reading sweeps: who wins, who never does, what intervals hold; designs and their labels."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.stats import qmc

import gdjax
from gdjax import Status, sweeps
from gdjax.sweeps.ranking import intervals, judged, ranking


def dataset(values, statuses=None, **more):
    axes = ("rate", "seed")
    values = np.asarray(values, float)
    statuses = np.full(values.shape, Status.MAX_STEPS, np.int8) if statuses is None else statuses
    coords = {"rate": 0.1 * np.arange(1, len(values) + 1), "seed": np.arange(values.shape[1])}
    return xr.Dataset(
        {"value": (axes, values), "status": (axes, np.asarray(statuses, np.int8))} | more, coords
    )


# What a number is worth


@pytest.mark.parametrize("status", [Status.NONFINITE, Status.DIVERGED, Status.UNBOUNDED, Status.INFEASIBLE])
def test_a_run_that_failed_never_wins(status):
    runs = dataset([[-1e30, 3.0], [2.0, 4.0]], [[status, 2], [2, 2]])
    assert float(sweeps.best(runs).value) == 2.0
    assert np.isposinf(judged(runs).values[0, 0])
    assert float(sweeps.best(runs, over="seed").rate) == pytest.approx(0.2)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_never_wins_whatever_the_status(number):
    runs = dataset([[number, number], [2.0, 4.0]], np.full((2, 2), Status.CONVERGED))
    assert float(sweeps.best(runs).value) == 2.0
    table = sweeps.rank(runs)
    assert table.failed.tolist() == [0.0, 1.0]
    assert table["median"].tolist() == [3.0, np.inf]


def test_best_says_when_there_is_none():
    lost = dataset([[np.nan, 1.0]], [[5, 9]])
    with pytest.raises(ValueError, match="every run failed"):
        sweeps.best(lost)
    with pytest.raises(ValueError, match="at every setting half of the runs"):
        sweeps.best(dataset([[1.0, 2.0], [0.0, np.nan]], [[2, 9], [2, 5]]), over="seed")
    with pytest.raises(ValueError, match="no run is finished"):
        sweeps.best(dataset([[np.nan]], [[Status.RUNNING]]))


def test_best_keeps_everything_of_its_cell():
    runs = dataset(
        [[3.0, 1.0], [2.0, 4.0]], loss=(("rate", "seed", "step"), np.arange(12.0).reshape(2, 2, 3))
    )
    one = sweeps.best(runs)
    assert (float(one.rate), int(one.seed)) == (pytest.approx(0.1), 1)
    assert one.loss.values.tolist() == [3.0, 4.0, 5.0]
    setting = sweeps.best(runs, over="seed")
    assert setting.sizes == {"seed": 2, "step": 3}
    assert float(setting.rate) == pytest.approx(0.1)


def test_by_a_trace_takes_the_last_number_that_was_recorded():
    loss = [[[9.0, 5.0, np.nan], [9.0, 8.0, 7.0]], [[9.0, 4.0, 6.0], [np.nan] * 3]]
    runs = dataset(np.zeros((2, 2)), loss=(("rate", "seed", "step"), loss))
    assert judged(runs, "loss").values.tolist() == [[5.0, 7.0], [6.0, np.inf]]
    assert sweeps.rank(runs, by="loss")["median"].tolist() == [6.0, np.inf]


def test_runs_that_are_not_finished_do_not_count():
    runs = dataset([[1.0, np.nan], [0.5, 0.7], [np.nan, np.nan]], [[1, 0], [1, 1], [0, 0]])
    table = sweeps.rank(runs)
    assert table.runs.tolist() == [2, 1, 0]
    assert table["median"].tolist()[:2] == [0.6, 1.0]
    assert math.isnan(table["median"].tolist()[2])
    assert table.failed.tolist()[:2] == [0.0, 0.0]
    assert sweeps.to_dataframe(runs).status.tolist().count("RUNNING") == 3


@pytest.mark.parametrize("runs_each", [1, 2, 3, 4, 7])
def test_medians_are_numpys_with_failures_infinite(runs_each):
    rng = np.random.default_rng(runs_each)
    values = rng.normal(size=(40, runs_each))
    lost = rng.random(values.shape) < 0.3
    found = ranking(dataset(values, np.where(lost, 5, 2)))
    with np.errstate(invalid="ignore"):
        expected = np.median(np.where(lost, np.inf, values), axis=1)
    assert found.medians.tolist() == sorted(expected)
    np.testing.assert_array_equal(found.medians, expected[found.index[:, 0]])
    np.testing.assert_allclose(found.failed, lost.mean(1)[found.index[:, 0]])


def test_more_dimensions_and_orders_of_dimensions():
    values = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    names = ("optimizer", "seed", "rate", "fold")
    runs = xr.Dataset({"value": (names, values), "slow": (names[::-1], values.T)})
    runs = runs.assign_coords(optimizer=list("abc"), seed=[0, 1], rate=np.arange(4), fold=np.arange(5))
    table = sweeps.rank(runs, over=["seed", "fold"])
    assert list(table.columns[:2]) == ["optimizer", "rate"]
    medians = runs.value.median(["seed", "fold"])
    for row in table.itertuples():
        assert row.median == pytest.approx(float(medians.sel(optimizer=row.optimizer, rate=row.rate)))
    assert table["median"].is_monotonic_increasing
    assert len(sweeps.rank(runs, over=None)) == values.size
    again = sweeps.rank(runs, by="slow", over=["fold", "seed"])
    assert again.equals(table)


# Intervals


def test_intervals_are_the_exact_bootstrap_of_few_runs():
    """Of three runs all 27 samples: the median is the lowest or the highest in 7 of 27, 0.26, each."""
    values = np.array([1.0, 2.0, 5.0])
    medians = np.sort([np.median(sample) for sample in itertools.product(values, repeat=3)])
    assert [np.sum(medians == value) for value in values] == [7, 13, 7]
    rows, counts = values[None], np.array([3])
    low, high = intervals(rows, counts, level=0.4, samples=4000)
    assert (low[0], high[0]) == (2.0, 2.0)
    low, high = intervals(rows, counts, level=0.6, samples=4000)
    assert (low[0], high[0]) == (1.0, 5.0)


def test_intervals_cover_the_median_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    rows = np.sort(rng.exponential(size=(600, 25)), axis=1)
    low, high = intervals(rows, np.full(600, 25), level=0.9, samples=500)
    share = np.mean((low <= np.log(2)) & (np.log(2) <= high))
    assert 0.87 < share < 0.97


def test_intervals_hold_failures_and_one_run_has_none():
    runs = dataset([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 9.0, 9.0]], [[2, 2, 2, 2], [2, 2, 2, 5]])
    table = sweeps.rank(runs)
    assert table.low.tolist() == [1.0, 1.0]
    assert table.high.tolist() == [4.0, np.inf]
    single = sweeps.rank(runs.isel(seed=[0]))
    assert single.low.isna().all()
    assert single.high.isna().all()


def test_the_same_key_draws_the_same_samples():
    runs = dataset(np.random.default_rng(1).normal(size=(6, 8)))
    assert sweeps.rank(runs, key=3).equals(sweeps.rank(runs, key=3))
    assert not sweeps.rank(runs, key=3, samples=50).equals(sweeps.rank(runs, key=4, samples=50))


# Words for mistakes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda runs: sweeps.best(runs, by="valu"), "no variable 'valu'; did you mean value"),
        (lambda runs: sweeps.rank(runs, over="seeds"), "no dimension 'seeds'; did you mean seed"),
        (lambda runs: sweeps.rank(runs, by="x"), "'x' is an array over x_0 in each run"),
        (lambda runs: sweeps.rank(runs, level=95), "level must be in"),
        (lambda runs: sweeps.rank(runs, samples=0), "samples must be at least 1"),
        (lambda runs: sweeps.best(xr.Dataset()), "no variables"),
    ],
)
def test_mistakes_are_named(call, words):
    runs = dataset(np.ones((2, 2)), x=(("rate", "seed", "x_0"), np.ones((2, 2, 3))))
    with pytest.raises(ValueError, match=words):
        call(runs)


def test_an_array_is_no_dataset():
    with pytest.raises(TypeError, match="DataArray"):
        sweeps.to_dataframe(dataset(np.ones((1, 1))).value)


# The table of runs


def test_to_dataframe_has_a_row_a_run_and_statuses_by_name():
    runs = dataset(
        [[1.0, 2.0], [3.0, 4.0]], [[1, 5], [9, 2]], x=(("rate", "seed", "x_0"), np.ones((2, 2, 3)))
    )
    runs["turned"] = runs.value.T * 10
    table = sweeps.to_dataframe(runs)
    assert list(table.columns) == ["rate", "seed", "value", "status", "turned"]
    assert table.status.tolist() == ["CONVERGED", "NONFINITE", "DIVERGED", "MAX_STEPS"]
    assert table.turned.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert table.seed.tolist() == [0, 1, 0, 1]


# Designs

SPACE = {
    "rate": sweeps.log_uniform(1e-4, 1.0),
    "decay": sweeps.uniform(0.5, 0.99),
    "depth": sweeps.integers(1, 4),
}


@pytest.mark.parametrize("make", [lambda n: sweeps.random(SPACE, n, 0), lambda n: sweeps.sobol(SPACE, n)])
def test_designs_lie_in_their_ranges_and_spread_as_they_say(make):
    design = make(512)
    assert set(design) == set(SPACE)
    for name, each in SPACE.items():
        assert each.low <= design[name].min() <= design[name].max() <= each.high
    assert np.log10(design["rate"]).mean() == pytest.approx(-2.0, abs=0.15)
    assert design["decay"].mean() == pytest.approx(0.745, abs=0.02)
    assert design["depth"].dtype.kind == "i"
    assert np.bincount(design["depth"])[1:].min() > 90


def test_sobol_has_one_value_in_each_part_and_is_more_even_than_chance():
    design = sweeps.sobol({"a": sweeps.uniform(0.0, 1.0), "b": sweeps.uniform(0.0, 1.0)}, 64, seed=3)
    for values in design.values():
        assert sorted(np.floor(values * 64)) == list(range(64))
    points = np.stack(list(design.values()), 1)
    cells = np.floor(points * 8).astype(int) @ [8, 1]
    assert len(set(cells)) == 64  # a net: one point in each cell of 8 x 8
    chance = sweeps.random({"a": sweeps.uniform(0.0, 1.0), "b": sweeps.uniform(0.0, 1.0)}, 64, 0)
    assert qmc.discrepancy(points) < qmc.discrepancy(np.stack(list(chance.values()), 1)) / 4


def test_sobol_is_continued_and_shifted_by_its_seed():
    longer, shorter = sweeps.sobol(SPACE, 40, seed=1), sweeps.sobol(SPACE, 13, seed=1)
    for name in SPACE:
        np.testing.assert_array_equal(longer[name][:13], shorter[name])
    assert not np.array_equal(longer["rate"], sweeps.sobol(SPACE, 40, seed=2)["rate"])
    assert sweeps.sobol(SPACE, 1)["rate"].shape == (1,)


def test_random_takes_a_key_or_an_integer():
    one, other = sweeps.random(SPACE, 5, 7), sweeps.random(SPACE, 5, jax.random.key(7))
    for name in SPACE:
        np.testing.assert_array_equal(one[name], other[name])
    assert abs(np.corrcoef(*list(sweeps.random(SPACE, 4000, 0).values())[:2])[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("space", "count", "error", "words"),
    [
        ({}, 3, ValueError, "must map names to ranges"),
        ({"a": (0.0, 1.0)}, 3, TypeError, "'a' must be a range"),
        ({"a": sweeps.uniform(0.0, math.inf)}, 3, ValueError, "range of 'a' must be finite"),
        (SPACE, 0, ValueError, "count must be at least 1"),
    ],
)
def test_designs_name_mistakes(space, count, error, words):
    for make in (lambda: sweeps.random(space, count, 0), lambda: sweeps.sobol(space, count)):
        with pytest.raises(error, match=words):
            make()


def descent(sample, seed):
    start = 1.0 + 0.1 * jax.random.normal(jax.random.key(seed), (2,))
    return gdjax.Run(
        lambda x: sample["scale"] * jnp.sum(x**2),
        start,
        gdjax.gradient_descent(sample["rate"]),
        stop=None,
        max_steps=10,
    )


@pytest.mark.slow
def test_a_design_is_one_axis_with_its_values_as_labels(tmp_path):
    space = {"rate": sweeps.log_uniform(0.01, 0.4), "scale": sweeps.uniform(0.5, 1.0)}
    design, seen = sweeps.sobol(space, 6), []
    design = {name: values.astype(np.float32) for name, values in design.items()}  # as the trial sees it
    axes = {"sample": design, "seed": range(3)}
    runs = gdjax.sweep(descent, axes, chunk=6, watch=seen.append, progress=False)
    assert runs.value.dims == ("sample", "seed")
    for name, values in design.items():
        assert runs[name].dims == ("sample",)
        np.testing.assert_array_equal(runs[name], values)
    np.testing.assert_array_equal(np.concatenate([part.rate for part in seen]), design["rate"])
    alone = {name: jnp.float32(values[4]) for name, values in design.items()}
    run = descent(alone, 1)
    one = gdjax.minimize(run.objective, run.params, run.optimizer, stop=None, max_steps=10)
    assert float(runs.value[4, 1]) == pytest.approx(float(one.value), rel=1e-5)

    table = sweeps.rank(runs)
    assert list(table.columns[:3]) == ["sample", "rate", "scale"]
    np.testing.assert_array_equal(table.rate, design["rate"][table["sample"]])
    assert set(sweeps.to_dataframe(runs).columns) >= {"sample", "seed", "rate", "scale", "value"}

    stored = gdjax.sweep(descent, axes, store=tmp_path / "runs.zarr", progress=False)
    assert stored.rate.dims == ("sample",)
    loaded = xr.open_zarr(tmp_path / "runs.zarr")
    np.testing.assert_array_equal(loaded.coords["scale"], design["scale"])


@pytest.mark.slow
def test_a_member_called_like_something_else_keeps_its_axis_name():
    def trial(sample, rate):
        return {"value": sample["value"] * sample["rate"] * rate}

    design = {"value": np.array([1.0, 2.0]), "rate": np.array([3.0, 4.0]), "matrix": np.ones((2, 3))}
    runs = gdjax.sweep(trial, {"sample": design, "rate": [0.5, 1.0, 2.0]}, progress=False)
    assert set(runs.coords) == {"sample", "rate", "sample.value", "sample.rate"}
    np.testing.assert_array_equal(runs["sample.rate"], [3.0, 4.0])
    assert runs.value.values[1].tolist() == [4.0, 8.0, 16.0]


def accuracies():
    """Accuracies of three rates over five seeds; some of the highest failed."""
    values = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5], [0.99, 0.98, 0.97, 0.2, 0.1]])
    status = np.full((3, 5), gdjax.Status.MAX_STEPS, np.int8)
    status[2, :3] = gdjax.Status.DIVERGED
    axes = ("rate", "seed")
    return xr.Dataset(
        {"value": (axes, 1 - values), "accuracy": (axes, values), "status": (axes, status)},
        {"rate": [0.1, 0.2, 0.3], "seed": range(5)},
    )


def test_more_is_better():
    runs = accuracies()
    table = sweeps.rank(runs, by="accuracy", maximize=True)
    assert table.rate.tolist() == [0.2, 0.1, 0.3]
    assert table["median"].tolist() == [0.7, 0.3, -np.inf]
    assert (table.low <= table["median"]).all()
    assert (table["median"] <= table.high).all()
    turned = sweeps.rank(runs.assign(loss=-runs.accuracy), by="loss")
    assert turned.rate.tolist() == table.rate.tolist()
    np.testing.assert_array_equal(-turned["low"], table["high"])
    np.testing.assert_array_equal(turned["failed"], table["failed"])
    assert float(sweeps.best(runs, by="accuracy", over="seed", maximize=True).rate) == 0.2
    one = sweeps.best(runs, by="accuracy", maximize=True)
    assert (float(one.accuracy), int(one.seed)) == (0.9, 0)
    with pytest.raises(ValueError, match="no best one"):
        sweeps.best(runs.isel(rate=[2]), by="accuracy", over="seed", maximize=True)
