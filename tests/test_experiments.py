"""The experiments: short runs of each, against references of their own."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

FOLDER = Path(__file__).resolve().parent.parent / "experiments"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_rosenbrock_race_agrees_with_numpy(tmp_path, capsys):
    before = jax.config.jax_enable_x64
    load("rosenbrock_race").main(tmp_path)
    assert jax.config.jax_enable_x64 == before
    assert "all within 1e-09 of NumPy" in capsys.readouterr().out
    data = xr.open_zarr(tmp_path / "rosenbrock_race.zarr")
    assert data.sizes == {"optimizer": 4, "step": 5001, "coordinate": 2}
    assert float(data.error.max()) < 1e-9
    np.testing.assert_array_equal(data.x.isel(step=0), np.broadcast_to([-1.0, 1.5], (4, 2)))
    np.testing.assert_array_equal(data.x.isel(step=-1), data.end)
    assert float(data.value.isel(step=-1).sel(optimizer="Adam")) < 1e-3
    assert (tmp_path / "rosenbrock_race.png").stat().st_size > 20_000


@pytest.fixture(scope="module")
def logistic():
    return load("logistic_sgd")


def test_logistic_loss_and_minimum(logistic, x64):
    x, y = logistic.synthetic()
    assert x.shape == (2000, 20)
    assert set(y) == {0.0, 1.0}
    w = np.linspace(-1, 1, 20)
    p = 1 / (1 + np.exp(-x @ w))
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)) + 0.5e-3 * w @ w
    np.testing.assert_allclose(logistic.loss(jnp.asarray(w), (jnp.asarray(x), jnp.asarray(y))), expected)
    assert logistic.minimum(x, y) < expected


@pytest.mark.slow
def test_logistic_sgd_writes_falling_curves(logistic, tmp_path):
    logistic.main(tmp_path, steps=120)
    data = xr.open_zarr(tmp_path / "logistic_sgd.zarr")
    assert data.sizes == {"data": 2, "rate": 2, "step": 121}
    above = (data.loss - data.minimum).load()
    assert float(above.min()) > 0
    assert (above.isel(step=-1) < 0.5 * above.isel(step=0)).all()
    np.testing.assert_allclose(data.loss.isel(step=0), np.log(2), rtol=1e-6)
    assert (tmp_path / "logistic_sgd.png").stat().st_size > 10_000


@pytest.mark.slow
def test_second_order_race_converges_where_first_order_does_not(tmp_path):
    race = load("second_order_race")
    race.main(tmp_path, steps=100)
    data = xr.open_zarr(tmp_path / "second_order_race.zarr").load()
    counts = race.evaluations_to_solve(data)
    assert counts["gradient descent"] == counts["Adam"] == np.inf
    assert all(counts[name] < 100 for name in counts if name not in ("gradient descent", "Adam"))
    region = data.sel(optimizer="trust region")
    moves = np.linalg.norm(np.diff(region.x.values, axis=0), axis=1)
    inside = moves <= 1.0001 * region.radius.values[:-1]
    assert (inside | np.isnan(moves)).all(), "a step of the trust region leaves its circle"
    ends = [path[np.isfinite(path).all(axis=1)][-1] for path in data.past_saddle.values]
    np.testing.assert_allclose(ends, [[0, 0], [0, 1]], atol=1e-3)
    assert (tmp_path / "second_order_race.png").stat().st_size > 20_000


@pytest.mark.slow
def test_curvature_on_data_reaches_its_target_in_few_steps(tmp_path):
    study = load("curvature_on_data").study("logistic regression", shrink=4)
    steps = dict(zip(study.method.values, study.steps.values, strict=True))
    assert steps["natural gradient"] == np.inf or steps["natural gradient"] <= 10
    assert study.loss.isel(row=0).values.std() == 0, "all start at the same loss"
    assert float(study.loss.min()) >= study.target - 2e-6


@pytest.mark.slow
def test_search_race_draws_what_was_spent(tmp_path, monkeypatch, capsys):
    race = load("search_race")
    monkeypatch.setattr(race, "ways", lambda: {"grid": race.grid, "random": race.random})
    race.main(tmp_path, steps=5, runs=8, repetitions=1)
    data = xr.open_zarr(tmp_path / "search_race.zarr").load()
    assert data.sizes == {"way": 2, "repetition": 1, "spent": 200}
    assert (np.diff(data.loss.values[..., 100:]) <= 0).all()
    assert "random" in capsys.readouterr().out


@pytest.mark.slow
def test_lasso_path_agrees_with_scikit_learn(tmp_path, capsys):
    load("lasso_path").main(tmp_path, count=12)
    assert "all within 1e-06" in capsys.readouterr().out
    data = xr.open_zarr(tmp_path / "lasso_path.zarr").load()
    assert data.sizes == {"weight": 12, "feature": 10}
    assert (data.coefficient.isel(weight=0) == 0).all()
    assert (tmp_path / "lasso_path.png").stat().st_size > 20_000


@pytest.mark.slow
def test_ista_fista_orders_the_methods(tmp_path, capsys):
    load("ista_fista").main(tmp_path, steps=200)
    assert "FISTA stays below its bound" in capsys.readouterr().out
    gap = xr.open_zarr(tmp_path / "ista_fista.zarr").gap.load().isel(step=-1).values
    assert (np.diff(gap[:3]) < 0).all()
    assert gap[3] < 1e-9
    assert (tmp_path / "ista_fista.png").stat().st_size > 20_000


@pytest.mark.slow
def test_constrained_trajectories_stay_inside(tmp_path, capsys):
    load("constrained_trajectories").main(tmp_path, steps=40)
    assert "no point outside its set" in capsys.readouterr().out
    data = xr.open_zarr(tmp_path / "constrained_trajectories.zarr").load()
    assert data.sizes["run"] == 12
    assert float(data.outside.max()) < 1e-12
    assert (tmp_path / "constrained_trajectories.png").stat().st_size > 20_000


@pytest.mark.parametrize("path", sorted((FOLDER / "speed").glob("*.py")), ids=lambda path: path.stem)
def test_commands_that_make_the_figures_can_be_asked_what_they_do(path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(path.parent))
    module = load(f"speed/{path.stem}")
    if hasattr(module, "main"):
        monkeypatch.setattr("sys.argv", [path.name, "--help"])
        with pytest.raises(SystemExit, match="0"):
            module.main(["--help"]) if module.main.__code__.co_argcount else module.main()
        assert "usage" in capsys.readouterr().out


def test_import_time_is_measured_in_processes_of_their_own(monkeypatch):
    times = load("speed/import_time")
    asked = []
    monkeypatch.setattr(times, "import_seconds", lambda statement: asked.append(statement) or len(asked))
    assert times.ratio("import json", repeats=3) == (4 / 3, 4, 3)
    assert asked[1::2] == ["import json"] * 3
