"""The command line as a user meets it: what is printed and written, exit codes, words for mistakes."""

import subprocess
import sys

import pytest
import xarray as xr
from typer.testing import CliRunner

from gdjax.cli import app

SWEEP = """
problem = "{problem}"
optimizers = ["adam", "momentum"]
steps = 20
seeds = 2
record_every = 10
out = "{out}"
heatmap = "{picture}"

[axes]
learning_rate = {{ geomspace = [1e-3, 1e-1, 3] }}
"""


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def plain(result):
    """What was said, without the frame that typer draws around it."""
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("kind", "names"),
    [("optimizers", ["adam", "momentum"]), ("problems", ["rosenbrock", "mlp"]), ("schedules", ["cosine"])],
)
def test_list(kind, names):
    result = invoke("list", kind)
    assert result.exit_code == 0
    for name in names:
        assert name in result.output


@pytest.mark.slow
def test_race_writes_a_picture_and_prints_where_everyone_ends(tmp_path):
    picture = tmp_path / "new" / "race.png"
    result = invoke("race", "adam=0.1", "gradient_descent=1e-3", "--steps", 30, "--out", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "adam, 0.1" in result.output
    assert "gradient_descent, 0.001" in result.output


@pytest.mark.slow
def test_race_moves_and_finds_a_rate(tmp_path):
    picture = tmp_path / "race.gif"
    result = invoke("race", "adam", "--problem", "booth", "--start=-1,1.5", "--steps", 20, "--out", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"GIF89a")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["race", "adamx"], "no optimizer 'adamx'; did you mean adam"),
        (["race", "adam=fast"], "the learning rate in 'adam=fast' is not a number"),
        (["race", "--problem", "rosenbrok"], "no problem 'rosenbrok'; did you mean rosenbrock?"),
        (["race", "--problem", "mlp"], "mlp is no function of two variables to draw"),
        (["race", "--start=1,b"], "--start must be numbers separated by commas"),
        (["race", "--start=1"], "--start must be two numbers"),
        (["race", "--out", "race.txt"], "--out must end in .png"),
        (["race", "--steps", "0"], "--steps"),
        (["sweep", "no-such-file.toml"], "does not exist"),
        (["list", "problem"], "'problem' is not one of"),
        (["rase"], "No such command 'rase'"),
    ],
)
def test_mistakes_are_named_and_exit_with_2(arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in plain(result)


@pytest.mark.smoke
def test_sweep_of_a_file(tmp_path):
    store, picture, file = tmp_path / "runs.zarr", tmp_path / "runs.png", tmp_path / "sweep.toml"
    file.write_text(SWEEP.format(problem="beale", out=store, picture=picture))
    result = invoke("sweep", file)
    assert result.exit_code == 0, result.output
    runs = xr.open_zarr(store)
    assert dict(runs.sizes) == {"optimizer": 2, "learning_rate": 3, "seed": 2, "step": 3}
    assert list(runs.optimizer.values) == ["adam", "momentum"]
    assert 'problem = "beale"' in runs.attrs["description"]
    assert picture.exists()
    again = invoke("sweep", file)
    assert again.exit_code == 0, again.output
    xr.testing.assert_identical(xr.open_zarr(store).load(), runs.load())
    file.write_text(SWEEP.format(problem="booth", out=store, picture=picture))
    other = invoke("sweep", file)
    assert isinstance(other.exception, ValueError)
    assert "holds another sweep" in str(other.exception)
    alone = invoke("sweep", file, "--processes", 2)
    assert "need --distributed" in plain(alone)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"adam"', '"adamx"'), "no optimizer 'adamx'; did you mean adam"),
        (("seeds", "sedes"), "no key 'sedes'; did you mean seeds"),
        (("steps = 20", 'steps = "20"'), "steps must be of type int"),
        (("steps = 20", "steps = 0"), "steps must be at least 1"),
        (
            ("learning_rate =", "learning_rat ="),
            "no argument of adam 'learning_rat'; did you mean learning_rate",
        ),
        (("geomspace", "geospace"), "no space 'geospace'; did you mean geomspace"),
        (("[1e-3, 1e-1, 3]", "[1e-3, 1e-1]"), "must be [low, high, count]"),
        (('problem = "beale"', ""), "needs the key 'problem'"),
        (("=", "=="), "is not TOML"),
    ],
)
def test_mistakes_in_a_file(tmp_path, change, words):
    file = tmp_path / "sweep.toml"
    file.write_text(
        SWEEP.format(problem="beale", out=tmp_path / "r.zarr", picture=tmp_path / "r.png").replace(*change)
    )
    result = invoke("sweep", file)
    assert result.exit_code == 2
    assert words in plain(result)


@pytest.mark.slow
def test_a_store_is_not_written_over_what_is_none(tmp_path):
    store, file = tmp_path / "precious", tmp_path / "sweep.toml"
    store.mkdir()
    (store / "letter").write_text("dear")
    file.write_text(SWEEP.format(problem="beale", out=store, picture=tmp_path / "r.png"))
    command = [sys.executable, "-m", "gdjax", "sweep", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "exists and is no store of a sweep" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_demo(tmp_path):
    result = invoke("demo", "--out", tmp_path, "--epochs", 1, "--seeds", 2, "--rates", 3)
    assert result.exit_code == 0, result.output
    for name in ("sweep.png", "race.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    runs = xr.open_zarr(tmp_path / "runs.zarr")
    assert dict(runs.sizes) == {"optimizer": 5, "learning_rate": 3, "seed": 2, "step": 2}
    best = float(runs.test_accuracy.isel(step=-1).max())
    assert best > 0.7
    assert f"{5 * 3 * 2} runs in" in result.output
