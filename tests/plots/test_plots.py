"""Pictures: what is drawn, into which Axes, and what is said when there is nothing to draw."""

import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection, QuadMesh
from PIL import Image

import gdjax
from gdjax import plots
from gdjax.plots import styles

RATES = np.geomspace(1e-3, 1.0, 4)
STEPS = np.arange(0, 50, 5)


@pytest.fixture
def runs():
    """Two optimizers, four rates, three seeds; the second optimizer's last rate diverges everywhere."""
    shape = (2, 4, 3)
    value = 1.0 + np.log(RATES / [[1e-2], [1e-1]])[..., None] ** 2 + 0.1 * np.arange(3)
    status = np.full(shape, gdjax.Status.MAX_STEPS, np.int8)
    status[1, 3] = gdjax.Status.NONFINITE
    status[0, 3, 0] = gdjax.Status.NONFINITE
    loss = value[..., None] + 10.0 * 0.8**STEPS
    path = np.stack([0.9**STEPS, 2 * 0.8**STEPS], -1) * np.ones((*shape, 1, 1))
    axes = ("optimizer", "learning_rate", "seed")
    return xr.Dataset(
        {
            "value": (axes, value),
            "status": (axes, status),
            "loss": ((*axes, "step"), loss),
            "x": ((*axes, "step", "x_0"), path),
        },
        coords={"optimizer": ["sgd", "adam"], "learning_rate": RATES, "seed": range(3), "step": STEPS},
    )


@pytest.fixture(autouse=True)
def no_figures_are_left():
    plt.close("all")
    yield
    plt.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_all_draw_into_the_axes_that_are_passed_and_leave_the_backend_alone(runs):
    backend = matplotlib.get_backend()
    one = runs.isel(learning_rate=0)
    for draw in (
        lambda ax: plots.heatmap(runs, "learning_rate", "optimizer", ax=ax),
        lambda ax: plots.learning_rate_sensitivity(runs, ax=ax),
        lambda ax: plots.convergence(one, "loss", over="seed", ax=ax),
        lambda ax: plots.trajectories(one.isel(seed=0), variable="x", ax=ax),
    ):
        figure, ax = plt.subplots()
        assert draw(ax) is ax
        assert plt.get_fignums() == [figure.number]
        plt.close(figure)
    assert matplotlib.get_backend() == backend


@pytest.mark.smoke
def test_heatmap_hatches_what_diverged(runs):
    ax = plots.heatmap(runs, "learning_rate", "optimizer")
    (mesh,) = [each for each in ax.collections if isinstance(each, QuadMesh)]
    drawn = mesh.get_array()
    assert drawn is not None
    assert drawn.shape == (2, 4)
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), [[False] * 4, [False] * 3 + [True]])
    assert drawn[0, 1] == pytest.approx(1.1)  # the median of 1.0, 1.1 and 1.2
    (hatched,) = [each for each in ax.collections if isinstance(each, PolyCollection) and each.get_hatch()]
    assert len(hatched.get_paths()) == 1
    assert labels(ax) == ["half or more diverged", "some diverged"]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["sgd", "adam"]


def test_convergence_facets_on_one_scale(runs):
    pictures = plots.convergence(runs, "loss", over="seed", facet="optimizer")
    assert [ax.get_title() for ax in pictures] == ["sgd", "adam"]
    assert pictures[0].get_ylim() == pictures[1].get_ylim()
    assert len(pictures[0].get_legend().get_texts()) == 4
    assert pictures[1].get_legend() is None
    whole = plots.convergence(runs.sel(optimizer="adam"), "loss", over="seed")
    for line, other in zip(pictures[1].get_lines(), whole.get_lines(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), other.get_ydata())
    with pytest.raises(ValueError, match="at most 14"):
        plots.convergence(runs.isel(learning_rate=[0, 1] * 4), "loss", facet="seed")


def test_heatmap_reduces_and_facets(runs):
    ax = plots.heatmap(runs.value, "learning_rate", "optimizer", reduce=np.max)
    assert ax.collections[0].get_array()[0, 1] == pytest.approx(1.2)
    maps = plots.heatmap(runs, "learning_rate", "optimizer", facet="seed")
    assert [each.get_title() for each in maps] == ["seed 0", "seed 1", "seed 2"]


def test_basins_count_failed_runs_as_the_worst(runs):
    table = plots.basins(runs)
    np.testing.assert_allclose(table.best_rate, [1e-2, 1e-1])
    np.testing.assert_allclose(table.best, [1.1, 1.1])
    np.testing.assert_allclose(table.lowest_rate, [1e-2, 1e-1])
    assert table["median"].sel(optimizer="adam").values[3] == np.inf
    assert np.isfinite(table["median"].sel(optimizer="sgd").values[3])
    wide = plots.basins(runs, tolerance=5.0)
    np.testing.assert_allclose(wide.lowest_rate, [1e-3, 1e-2])
    np.testing.assert_allclose(wide.highest_rate, [1e-1, 1e-1])
    most = plots.basins(-runs.value, best=np.max)
    np.testing.assert_allclose(most.best_rate, [1e-2, 1e-1])


def test_sensitivity_has_a_line_an_optimizer_and_a_star_each(runs):
    ax = plots.learning_rate_sensitivity(runs)
    assert labels(ax) == ["sgd", "adam"]
    assert ax.get_xscale() == "log"
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [float(star.get_xdata()[0]) for star in stars] == pytest.approx([1e-2, 1e-1])
    lines = {line.get_label(): line for line in ax.lines}
    assert np.isnan(lines["adam"].get_ydata()[-1])
    assert lines["sgd"].get_linestyle() != lines["adam"].get_linestyle()


@pytest.mark.smoke
def test_convergence_is_a_median_and_a_band(runs):
    ax = plots.convergence(runs.isel(learning_rate=1), "loss", over="seed")
    lines = {line.get_label(): line for line in ax.lines}
    expected = runs.loss.isel(learning_rate=1).median("seed")
    for name in ("sgd", "adam"):
        np.testing.assert_allclose(lines[name].get_ydata(), expected.sel(optimizer=name))
    assert len(ax.collections) == 2
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")


def test_convergence_of_points_is_their_distance_to_the_optimum(runs):
    one = runs.isel(learning_rate=0, seed=0, optimizer=0)
    ax = plots.convergence(one, "x", optimum=[0.0, 0.0])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.linalg.norm(one.x, axis=-1))


def test_convergence_of_negative_numbers_is_linear(runs):
    assert plots.convergence(-runs.loss.isel(learning_rate=0, seed=0)).get_yscale() == "linear"


@pytest.mark.smoke
def test_trajectories_mark_start_end_and_optimum(runs):
    problem = gdjax.problems.himmelblau()
    ax = plots.trajectories(runs.isel(learning_rate=0, seed=0), problem, variable="x")
    assert sorted(labels(ax)) == ["adam", "optimum", "sgd", "start"]
    assert problem.window is not None
    assert problem.optimum is not None
    assert ax.get_xlim() == problem.window[0]
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["sgd"].get_xdata(), 0.9**STEPS)
    assert lines["start"].get_xdata()[0] == 1.0
    star = [line for line in ax.lines if line.get_marker() == "*"]
    np.testing.assert_allclose(star[0].get_xdata(), problem.optimum.params[0])


def test_a_path_ends_where_its_run_does(runs):
    path = runs.x.isel(learning_rate=0, seed=0, optimizer=0).copy()
    path[5:] = np.nan
    ax = plots.trajectories(path)
    assert len(ax.lines[0].get_xdata()) == 5


@pytest.mark.slow
def test_animate_writes_a_gif(runs, tmp_path):
    paths = runs.isel(learning_rate=0, seed=0)
    file = plots.animate(paths, gdjax.problems.booth(), tmp_path / "race.gif", variable="x", frames=4)
    with Image.open(file) as picture:
        assert picture.format == "GIF"
        assert picture.n_frames >= 4
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            lambda r: plots.heatmap(r, "learning_rat", "seed"),
            "no dimension 'learning_rat'; did you mean learning_rate?",
        ),
        (lambda r: plots.heatmap(r, "seed", "optimizer", "valu"), "no variable 'valu'; did you mean value?"),
        (lambda r: plots.heatmap(r, "seed", "seed"), "x, y and facet must differ"),
        (lambda r: plots.heatmap(r, "seed", "optimizer", facet="learning_rate", ax=plt.gca()), "takes no ax"),
        (lambda r: plots.convergence(r, "loss", over="seed", facet="optimizer", ax=plt.gca()), "takes no ax"),
        (lambda r: plots.convergence(r, "loss", over="seed", facet="seed"), "facet 'seed' is no dimension"),
        (lambda r: plots.convergence(r, "loss", facet="optimiser"), "did you mean optimizer"),
        (lambda r: plots.convergence(r, "value"), "step"),
        (lambda r: plots.convergence(r, "x"), "pass optimum="),
        (lambda r: plots.convergence(r, "loss", band=(0.9, 0.1)), "band must be two quantiles"),
        (lambda r: plots.convergence(r, "loss"), "24"),
        (lambda r: plots.trajectories(r, variable="loss"), "must be a point of 2 numbers"),
        (lambda r: plots.learning_rate_sensitivity(r, over="learning_rate"), "cannot be both"),
        (lambda r: plots.animate(r, None, "x.gif", variable="x", frames=1), "frames must be at least 2"),
    ],
)
def test_mistakes_are_named(runs, draw, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        draw(runs)


def test_what_is_no_dataset_is_refused():
    with pytest.raises(TypeError, match="takes an xarray Dataset or DataArray, got list"):
        plots.heatmap([1.0], "x", "y")


# Scales


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 2e29], (1, 5, False, False, True)),
        ([0.01, 0.1, 1.0, 2.0, 5.0, 2e29], (0.01, 5, True, False, True)),
        ([1e-30, 1.0, 2.0, 3.0, 4.0], (1, 4, False, True, False)),
        ([-1e30, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 1e30], (-2, 3, False, True, True)),
        ([1.0, 2.0, 3.0, 50.0], (1, 50, True, False, False)),  # a logarithmic scale shows it
        ([0.0, 1.0, 5.0, 40.0], (0, 40, False, False, False)),  # zero has no logarithm
        ([6.4, 6.4, 6.4, 1.1, 22.0], (1.1, 22, False, False, False)),
        ([1.0, 1.0, 1.0], (1, 1, False, False, False)),
        ([np.nan, np.inf, 2.0], (2, 2, False, False, False)),
        ([], (0, 1, False, False, False)),
        ([-1.7e308, 0.0, 1.7e308], (-1.7e308, 1.7e308, False, False, False)),
    ],
)
def test_limits_keep_most_numbers_apart(numbers, expected):
    assert styles.limits(numbers) == expected


def test_one_cell_does_not_take_all_colours():
    values = 1.0 + np.arange(36.0).reshape(4, 9)
    values[2, 8] = 2e29
    runs = xr.DataArray(values, {"width": [1, 2, 4, 8], "rate": np.geomspace(1e-4, 1, 9)}, ("width", "rate"))
    ax = plots.heatmap(runs, "rate", "width")
    (mesh,) = [each for each in ax.collections if isinstance(each, QuadMesh)]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1, 36)
    colours = mesh.norm(np.delete(values.reshape(-1), 26))
    assert len(np.unique(colours)) == 35
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1.0, 4.0]])  # the triangle
    assert labels(ax) == ["above the colours"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2", "4", "8"]


def test_long_names_leave_room_for_the_map():
    names = ["an optimizer with all of its settings spelled out", "b"]
    runs = xr.DataArray(np.ones((2, 3)), {"name": names, "rate": [1.0, 2.0, 3.0]}, ("name", "rate"))
    ax = plots.heatmap(runs, "rate", "name")
    assert ax.get_yticklabels()[0].get_text() == "an optimizer with all of …"
    ax.figure.canvas.draw()
    assert ax.get_position().width > 0.5


def test_sensitivity_keeps_lines_apart_when_one_runs_away(runs):
    far = runs.copy(deep=True)
    far["status"][:] = gdjax.Status.MAX_STEPS
    far["value"][1, 3] = 1e25
    ax = plots.learning_rate_sensitivity(far)
    assert ax.get_ylim()[1] < 100
    marks = [line for line in ax.lines if line.get_marker() == "^" and line.get_linestyle() == "None"]
    assert [float(x) for line in marks for x in np.asarray(line.get_xdata())] == [RATES[3]]


def test_convergence_of_like_numbers_is_linear_and_one_line_that_runs_away_leaves_it():
    steps = np.arange(20)
    accuracy = 0.5 + 0.02 * steps + 0.01 * np.arange(5)[:, None]
    axes = ("name", "step")
    runs = xr.DataArray(accuracy, {"name": list("abcde"), "step": steps}, axes, "accuracy")
    assert plots.convergence(runs).get_yscale() == "linear"
    loss = np.geomspace(10, 0.1, 20) * np.ones((5, 1))
    loss[4] = np.geomspace(10, 1e30, 20)
    ax = plots.convergence(xr.DataArray(loss, runs.coords, axes, "loss"))
    assert ax.get_yscale() == "log"
    assert 10 < ax.get_ylim()[1] < 100
