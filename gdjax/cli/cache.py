"""Compiled programs, kept on disk from one command to the next by JAX's own cache."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import typer
from jax.experimental.compilation_cache import compilation_cache

__all__ = ["folder", "programs", "trim"]

BYTES = 2**27
"""What the folder may hold before and after a command: some hundred times what `gdjax demo` compiles."""

_BLOCK = 2**12
"""The least that a file takes on most disks."""

_SETTINGS = {
    # JAX keeps what took a second to compile and more; most programs here take less, and there are many of them.
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,  # whatever its size
}


def folder() -> Path:
    """Where programs are kept: in the user's cache folder, as the platform has it.

    Raises:
      RuntimeError: if the user has no home.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        # As the standard of these folders says, a relative one does not count.
        base = base if os.path.isabs(base) else Path.home() / ".cache"
    return Path(base) / "gdjax" / "programs"


def _made(where: Path) -> None:
    """Makes the folder the user's own: programs that others could have put there are not to be run.

    Raises:
      OSError: if it cannot be that.
    """
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        found = where.stat()
        if found.st_uid != os.getuid():
            raise PermissionError(f"{where} belongs to another user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others may write to {where}")
    if not os.access(where, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"{where} cannot be written")


def trim(where: Path, limit: int) -> None:
    """Removes the programs that were not used for longest, until the others take no more than ``limit`` bytes."""
    found = []
    for path in where.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another command removed it
            file = path.stat()
            found.append((max(file.st_atime, file.st_mtime), max(file.st_size, _BLOCK), path))
    held = 0
    for _, size, path in sorted(found, reverse=True):
        held += size
        if held > limit:
            with contextlib.suppress(OSError):  # in use, on Windows
                path.unlink()


def _usable() -> Path | None:
    """The folder, made and within bounds; None, and a word why, where there is none to be had."""
    try:
        where = folder()
        _made(where)
        trim(where, BYTES)
    except (OSError, RuntimeError) as error:
        typer.echo(f"gdjax: goes on without compiled programs of earlier commands: {error}", err=True)
        return None
    return where


@contextlib.contextmanager
def programs(keep: bool) -> Iterator[None]:
    """Has JAX keep what a command compiles, and find what an earlier one compiled.

    A cache that the user has set by JAX's own settings, or turned off, is left as it is. Where the folder cannot be
    used, the command goes on without.

    Args:
      keep: whether to do so.
    """
    config: Any = jax.config
    own = config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache
    where = None if own or not keep else _usable()
    if where is None:
        yield
        return
    settings = {name: value for name, value in _SETTINGS.items() if name.upper() not in os.environ}
    settings["jax_compilation_cache_dir"] = str(where)
    before = {name: getattr(config, name) for name in settings}
    try:
        for name, value in settings.items():
            config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            config.update(name, value)
        compilation_cache.reset_cache()  # JAX settles the folder when it first compiles
        with contextlib.suppress(OSError):
            trim(where, BYTES)
