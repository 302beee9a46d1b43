"""How a grid is cut into boxes of runs, and what memory there is for one."""

import itertools
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gdjax.sweeps.axes import Axis
from gdjax.types import PyTree

__all__ = ["Box", "Plan", "budget", "halved", "lengths", "pieces", "runs_of", "tiling"]

Box = tuple[slice, ...]
"""A part of the grid, one slice an array axis."""


def tiling(sizes: list[int], runs: int) -> list[int]:
    """The largest box of at most ``runs`` runs, cut along the first axes first, into equal parts."""
    tiles = list(sizes)
    for i, size in enumerate(sizes):
        others = math.prod(tiles) // tiles[i]
        if others * size <= runs:
            break
        parts = math.ceil(size / max(1, runs // others))
        tiles[i] = math.ceil(size / parts)
    return tiles


def halved(tiles: list[int]) -> list[int]:
    """A box of half the runs, cut along the first axis that can be."""
    first = next((i for i, tile in enumerate(tiles) if tile > 1), None)
    return [math.ceil(tile / 2) if i == first else tile for i, tile in enumerate(tiles)]


def lengths(box: Box) -> tuple[int, ...]:
    """How many values of each axis a box covers."""
    return tuple(part.stop - part.start for part in box)


def runs_of(box: Box) -> int:
    """How many points of the grid a box covers."""
    return math.prod(lengths(box))


def pieces(box: Box, tiles: list[int]) -> Iterator[Box]:
    """The parts of a box that are no larger than a tile."""
    starts = [range(part.start, part.stop, tile) for part, tile in zip(box, tiles, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + tile, part.stop))
            for start, tile, part in zip(corner, tiles, box, strict=True)
        )


def budget() -> int:
    """Bytes that one chunk may take: a quarter of the device's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] // 4
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 2**30


class Plan:
    """How the array axes are cut into chunks.

    Attributes:
      axes: the array axes, outermost first.
      sizes: how many values each has.
      runs: points of the grid.
      auto: whether the chunk may be cut to fit the memory.
      chunk: the most runs in one box.
      mesh: the devices that share a box's runs; None for the default one.
      order: the axes by which comes first where the grid is cut.
    """

    def __init__(self, axes: list[Axis], chunk: Any, mesh: Mesh | None = None):
        self.axes = axes
        self.mesh = mesh if axes else None
        self.order = list(range(len(axes)))
        self._fixed: list[int] | None = None
        self.sizes = [axis.size for axis in axes]
        self.runs = math.prod(self.sizes)
        self.auto = chunk == "auto"
        if not self.auto and (isinstance(chunk, bool) or not hasattr(chunk, "__index__") or chunk < 1):
            raise ValueError(f"sweep: chunk must be 'auto' or a number of runs, at least 1, got {chunk!r}")
        self.chunk = self.runs if self.auto else int(chunk)

    @property
    def names(self) -> list[str]:
        return [axis.name for axis in self.axes]

    @property
    def owners(self) -> list[int]:
        """For each array of the inputs the axis that it belongs to."""
        return [i for i, axis in enumerate(self.axes) for _ in jax.tree.leaves(axis.values)]

    @property
    def tiles(self) -> list[int]:
        """The size of a box along each axis."""
        if self._fixed is not None:
            return list(self._fixed)
        cut = tiling([self.sizes[i] for i in self.order], self.chunk)
        return [cut[self.order.index(i)] for i in range(len(cut))]

    def fix(self, tiles: list[int]) -> None:
        """Keeps to these boxes, whatever the memory."""
        self._fixed, self.auto = list(tiles), False

    def boxes(self) -> Iterator[Box]:
        """All parts of the grid, in order."""
        return pieces(tuple(slice(0, size) for size in self.sizes), self.tiles)

    def abstract(self, tiles: list[int]) -> list[PyTree]:
        """The shapes and types of a box's inputs."""

        def one(tile, leaf):
            return jax.ShapeDtypeStruct((tile, *leaf.shape[1:]), leaf.dtype)

        return [
            jax.tree.map(lambda leaf, t=tile: one(t, leaf), axis.values)
            for axis, tile in zip(self.axes, tiles, strict=True)
        ]

    def inputs(self, box: Box, tiles: list[int]) -> list[PyTree]:
        """The inputs of a box: always of the tiles' shape; a shorter one repeats its last values."""
        values = []
        for axis, part, tile in zip(self.axes, box, tiles, strict=True):
            if part == slice(0, axis.size) and tile == axis.size:
                values.append(axis.values)
                continue
            index = np.minimum(np.arange(part.start, part.start + tile), part.stop - 1)
            values.append(jax.tree.map(lambda leaf, index=index: leaf[index], axis.values))
        return values
