"""Stores: a sweep's dataset on disk, laid out first, filled box by box, with a manifest of what is complete.

A store is a zarr group (format 2) that ``xarray.open_zarr`` reads. Its chunks are the boxes of the sweep, so
that no two writers share a file. The manifest is a zarr group in it: its attributes say which sweep this
is, and its array ``record`` has a row, which is a file, for each box. The row is written when the box's
data are on the disk: a box without its row has not been run.
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import xarray
import zarr

from gdjax._internal import files
from gdjax.sweeps.dataset import coordinates, dimensions
from gdjax.sweeps.identity import differences
from gdjax.sweeps.layout import Layout, Region

__all__ = ["Store", "annotate", "create", "find", "local"]

FORMAT = 1
"""Of the manifest; a store with another one is refused by name."""
FIELDS = ("seconds", "compile_seconds", "lanes", "ticks")
"""What the manifest knows of a box, besides the bytes of its files."""


def local(store: object) -> Path:
    """The store's path; stores are folders of this machine or of a file system that it mounts."""
    if not isinstance(store, str | os.PathLike):
        raise TypeError(f"sweep: store must be the path of a folder, got {type(store).__name__}")
    return Path(os.fspath(store))


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"sweep: the store {path} is damaged: {what}")


class Store:
    """A store that is there.

    Attributes:
      path: its folder.
      layout: how it is cut.
      rows: the manifest's rows by the index of their region; those of complete boxes only.
    """

    def __init__(self, path: Path, layout: Layout):
        self.path, self.layout = path, layout
        self.regions = list(layout.regions())
        self.rows: dict[int, np.ndarray] = {}
        self._arrays: dict[str, Any] = {}
        self._read()

    def _read(self) -> None:
        """Reads the manifest, and looks whether the files that it names are there and whole."""
        width = 8 * (len(FIELDS) + len(self.layout.shapes))
        with os.scandir(self.path / "manifest" / "record") as entries:
            names = [entry.name for entry in entries]
        for name in names:
            index = name.removesuffix(".0")
            if not index.isdecimal():  # zarr's own, or of a writer that was killed
                continue
            row = (self.path / "manifest" / "record" / name).read_bytes()
            if len(row) != width or int(index) >= len(self.regions):
                raise _damaged(self.path, f"manifest/record/{name} is not what was written")
            self.rows[int(index)] = np.frombuffer(row, "<f8")
        for index, row in self.rows.items():
            sizes = dict(zip(self.layout.shapes, row[len(FIELDS) :], strict=True))
            for name, size in sizes.items():
                if self._bytes(name, self.regions[index]) != size:
                    raise _damaged(
                        self.path,
                        f"box {index} of {name!r} is missing or truncated (files {name}/"
                        f"{self.layout.keys(name, self.regions[index])[0]} ...). "
                        f"Remove manifest/record/{index}.0 to have that box run again",
                    )

    def _bytes(self, name: str, region: Region) -> int:
        try:
            return sum((self.path / name / key).stat().st_size for key in self.layout.keys(name, region))
        except FileNotFoundError:
            return -1

    @property
    def complete(self) -> bool:
        return len(self.rows) == len(self.regions)

    def lanes(self, choice: int) -> tuple[int, int] | None:
        """The lanes and ticks a turn by which a static choice was run before."""
        for index, row in self.rows.items():
            if self.regions[index].choice == choice and row[2] > 0:
                return int(row[2]), int(row[3])
        return None

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            where, config = str(self.path / name), {"write_empty_chunks": True}
            self._arrays[name] = zarr.open_array(where, mode="r+", zarr_format=2, config=config)
        return self._arrays[name]

    def put(self, region: Region, found: dict[str, np.ndarray], notes: dict[str, float]) -> None:
        """Writes a box, and when it is on the disk its row in the manifest.

        Raises:
          OSError: if it cannot; all boxes with a row stay as they are.
        """
        place, size = (
            self.layout.place(region),
            [part.stop - part.start for part in self.layout.place(region)],
        )
        try:
            for name, array in found.items():
                self._array(name)[place if place else ...] = array.reshape((*size, *self.layout.shapes[name]))
                for key in self.layout.keys(name, region):
                    files.settle(self.path / name / key)
            sizes = [self._bytes(name, region) for name in self.layout.shapes]
            row = np.array([*(notes[field] for field in FIELDS), *sizes], "<f8")
            self._array("manifest/record")[region.index] = row
            files.settle(self.path / "manifest" / "record" / f"{region.index}.0")
        except OSError as error:
            complete = f"{len(self.rows)} of {len(self.regions)} boxes are complete and stay readable"
            raise OSError(
                error.errno,
                f"sweep: cannot write to the store: {error.strerror or error}; {complete}, and the same call "
                "goes on from there",
                str(self.path),
            ) from error
        self.rows[region.index] = row

    def totals(self) -> dict[str, Any]:
        """The attributes that add up over boxes."""
        seconds = {
            name: float(sum(row[FIELDS.index(name)] for row in self.rows.values())) for name in FIELDS[:2]
        }
        return {
            "compile_seconds": seconds["compile_seconds"],
            "wall_seconds": seconds["seconds"] + seconds["compile_seconds"],
            "complete": int(self.complete),
        }

    def finish(self) -> None:
        """Writes the attributes of a complete store, once, and removes what killed writers left in it."""
        if self.complete and not _read_json(self.path, ".zattrs").get("complete"):
            # zarr writes a chunk beside its place and renames it; a kill between leaves NAME.uuid.partial.
            # Here every chunk is in its place, so nobody is about to rename one.
            for left in self.path.rglob("*.partial"):
                left.unlink(missing_ok=True)
            annotate(self.path, self.totals())

    def dataset(self) -> xarray.Dataset:
        """What is there, read when it is looked at. Cells of boxes that are not complete are NaN or 0."""
        self._read()  # what other processes have written
        self.finish()
        try:
            found = xarray.open_zarr(str(self.path), chunks=None, consolidated=True)
        except (ValueError, KeyError) as error:
            raise _damaged(self.path, f"its metadata cannot be read ({error})") from error
        return found[list(self.layout.shapes)].assign_attrs(self.totals())


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((path / name).read_text(encoding="utf-8"))
    except ValueError:
        raise _damaged(path, f"{name} is not what was written") from None


def annotate(path: Path, attrs: dict[str, Any]) -> None:
    """Adds attributes to a store."""
    plain = _read_json(path, ".zattrs") | attrs
    everything = _read_json(path, ".zmetadata")
    everything["metadata"][".zattrs"] = plain
    for name, content in ((".zmetadata", everything), (".zattrs", plain)):
        text = json.dumps(content, indent=1).encode()
        files.write_whole(path / name, lambda file, text=text: file.write(text))


def find(path: Path, identity: dict[str, Any], layout: Layout) -> Store | None:
    """The store at a path, if there is one and it is of this sweep; None if there is nothing.

    Args:
      path: where.
      identity: which sweep this is.
      layout: its axes and variables; how it is cut is read from the store.

    Raises:
      FileExistsError: if what is there is no store.
      ValueError: if it is the store of another sweep, or damaged.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise FileExistsError(f"sweep: {path} exists and is no store but a file; choose another path")
    if not any(path.iterdir()):
        return None
    if not _manifest(path).exists():
        raise FileExistsError(
            f"sweep: {path} exists and is no store of a sweep; remove it or choose another path"
        )
    manifest = _read_json(path / "manifest", ".zattrs")
    if manifest.get("format") != FORMAT or not {"sweep", "tiles", "boxes"} <= manifest.keys():
        raise _damaged(path, "manifest/.zattrs is not what was written")
    different = differences(manifest["sweep"], identity)
    if different:
        raise ValueError(
            f"sweep: {path} holds another sweep: {'; '.join(different)}. Choose another path, or remove it"
        )
    return Store(path, layout._replace(tiles=manifest["tiles"], boxes=manifest["boxes"]))


def create(
    path: Path, identity: dict[str, Any], layout: Layout, strides: dict[str, int], attrs: dict[str, Any]
) -> Store:
    """Lays out a dataset in which nothing is complete yet; of several processes the first one does.

    Args:
      path: where; nothing, or an empty folder.
      identity: which sweep this is.
      layout: how it is cut.
      strides: for each recorded variable, the steps between its rows.
      attrs: the dataset's attributes.

    Raises:
      OSError: if it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _lay_out(beside, identity, layout, strides, attrs)
        for folder, _, names in os.walk(beside):
            for name in names:
                files.settle(Path(folder, name))
        os.rename(beside, path)
    except OSError as error:
        if not _manifest(path).exists():  # else another process was first
            raise OSError(
                error.errno, f"sweep: cannot make the store: {error.strerror or error}", str(path)
            ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    found = find(path, identity, layout)
    assert found is not None
    return found


def _manifest(path: Path) -> Path:
    return path / "manifest" / ".zattrs"


def _lay_out(
    path: Path, identity: dict[str, Any], layout: Layout, strides: dict[str, int], attrs: dict[str, Any]
) -> None:
    checksums = numcodecs.Zstd(level=1, checksum=True)
    sizes = tuple(axis.size for axis in layout.axes)
    labels = coordinates(layout.axes, layout.shapes, strides)
    xarray.Dataset(coords=labels, attrs=attrs).to_zarr(str(path), zarr_format=2, consolidated=False)
    group = zarr.open_group(str(path), mode="r+", zarr_format=2)
    for name, shape in layout.shapes.items():
        dtype = layout.dtypes[name]
        if dtype.kind not in "biufc":
            raise TypeError(
                f"sweep: {name!r} is of type {dtype}, which zarr cannot hold; return it as another type"
            )
        dims = dimensions(layout.axes, name, len(shape), strides)
        group.create_array(
            name,
            shape=(*sizes, *shape),
            chunks=layout.chunks(name),
            dtype=dtype,
            compressors=checksums,
            fill_value=np.nan if dtype.kind in "fc" else None,
            attributes={"_ARRAY_DIMENSIONS": list(dims)},
        )
    written = {"format": FORMAT, "sweep": identity, "tiles": layout.tiles, "boxes": layout.boxes}
    written["fields"] = [*FIELDS, *(f"bytes of {name}" for name in layout.shapes)]
    manifest = group.create_group("manifest", attributes=written)
    width = len(FIELDS) + len(layout.shapes)
    rows = sum(1 for _ in layout.regions())
    manifest.create_array(
        "record", shape=(rows, width), chunks=(1, width), dtype="<f8", fill_value=0, compressors=None
    )
    zarr.consolidate_metadata(str(path), zarr_format=2)
