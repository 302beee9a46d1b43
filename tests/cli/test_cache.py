"""Programs kept from one command to the next: found again, within bounds, and left out where they cannot be kept."""

import os
import stat
import sys

import jax
import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

from gdjax.cli import app, cache


@pytest.fixture
def home(tmp_path, user, monkeypatch):
    """A user whose cache folder is empty, and who has set nothing."""
    user(tmp_path)
    for name in [name for name in os.environ if "CACHE" in name and name.startswith("JAX_")]:
        monkeypatch.delenv(name)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


COMMAND = """
import jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rpartition("/")[2]))
from gdjax.cli import app
app(["race", "adam=0.1", "--steps", "3", "--out", {out!r}, *{options!r}], standalone_mode=False)
print("found", seen.count("cache_hits"), "made", seen.count("cache_misses"))
"""


def raced(python, home, *options):
    """How many programs a race found and made, in a process of its own."""
    said = python(COMMAND.format(out=str(home / "race.png"), options=options)).split()
    return int(said[-3]), int(said[-1])


@pytest.mark.slow
def test_the_same_command_again_compiles_nothing(python, home):
    assert raced(python, home, "--no-cache") == (0, 0)
    assert not cache.folder().exists()
    found, made = raced(python, home)
    assert found == 0
    assert made >= 2
    assert raced(python, home) == (made, 0)
    if sys.platform != "win32":
        assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_cache_of_the_users_own_is_kept(python, home, monkeypatch):
    own = home / "own"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(own))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    _, made = raced(python, home)
    assert made == len([*own.iterdir()]) >= 2
    assert not cache.folder().exists()


def kept():
    """Where JAX keeps programs inside a command."""
    with cache.programs(True):
        return jax.config.jax_compilation_cache_dir


@pytest.mark.smoke
def test_settings_of_the_user_are_left_as_they_are(home, monkeypatch):
    assert kept() == str(cache.folder())
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    with cache.programs(True):
        assert jax.config.jax_persistent_cache_min_compile_time_secs == before
        assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
    jax.config.update("jax_compilation_cache_dir", str(home / "own"))
    assert kept() == str(home / "own")
    jax.config.update("jax_compilation_cache_dir", "")
    assert kept() == ""


@pytest.mark.smoke
def test_a_command_goes_on_where_nothing_can_be_kept(home, user, capsys):
    user(home / "file")
    (home / "file").write_text("no folder")
    assert kept() is None
    said = capsys.readouterr().err
    assert said.startswith("gdjax: goes on without compiled programs")
    assert said.count("\n") == 1
    result = CliRunner().invoke(app, ["race", "adam=0.1", "--steps", "0"])
    assert result.exit_code == 2  # a mistake is still named


@pytest.mark.smoke
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_programs_that_others_may_have_put_there_are_not_run(home, mode, capsys):
    cache.folder().mkdir(parents=True)
    cache.folder().chmod(mode)
    assert kept() is None
    assert "others may write to" in capsys.readouterr().err


@pytest.mark.smoke
def test_what_was_not_used_for_longest_goes(home):
    where = cache.folder()
    where.mkdir(parents=True)
    for age in range(5):
        (where / f"program-{age}").write_bytes(bytes(10_000))
        os.utime(where / f"program-{age}", (1e9 - age, 1e9 - age))
    cache.trim(where, cache.BYTES)
    assert len([*where.iterdir()]) == 5
    cache.trim(where, 25_000)
    assert sorted(path.name for path in where.iterdir()) == ["program-0", "program-1"]


@pytest.mark.smoke
def test_the_folder_is_within_bounds_after_a_command(home, monkeypatch):
    monkeypatch.setattr(cache, "BYTES", 5_000)
    with cache.programs(True):
        for scale in (2.0, 3.0, 4.0):
            jax.jit(lambda x, scale=scale: jnp.sin(scale * x))(jnp.ones(3))
        assert len([*cache.folder().iterdir()]) >= 3
    assert len([*cache.folder().iterdir()]) <= 1
