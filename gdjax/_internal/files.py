"""Files that are there whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["settle", "write_whole"]


def settle(path: Path) -> None:
    """Waits until a file is on the disk, so that it outlives a loss of power.

    Args:
      path: the file, complete.

    Raises:
      OSError: if the disk does not take it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file beside its place and renames it there once it is on the disk.

    A process that dies on the way leaves what was there before, and a file ``.name.*.tmp`` that nobody
    reads.

    Args:
      path: where to; what is there is replaced.
      write: writes the content.

    Raises:
      OSError: of the kind that the system reports, with the path.

    Example:
      >>> import pathlib, tempfile
      >>> from gdjax._internal.files import write_whole
      >>> path = pathlib.Path(tempfile.mkdtemp(), "note")
      >>> write_whole(path, lambda file: file.write(b"all of it"))
      >>> path.read_bytes(), len(list(path.parent.iterdir()))
      (b'all of it', 1)
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
