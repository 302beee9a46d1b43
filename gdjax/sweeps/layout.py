"""How a sweep's dataset is cut into boxes, and these into the files of a zarr group."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gdjax.sweeps.axes import Axis
from gdjax.sweeps.plan import Box, pieces

__all__ = ["Layout", "Region", "place"]

LARGEST = 2**28
"""Bytes of a zarr chunk, about: a longer box of a trace is cut along ``step``."""


class Layout(NamedTuple):
    """How a dataset is cut.

    Attributes:
      axes: all axes, in the user's order.
      shapes: for each variable the shape that it has in one run.
      dtypes: their types.
      tiles: the size of a call of the program along each array axis.
      boxes: the size of a box along each of them, some tiles.
    """

    axes: list[Axis]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype]
    tiles: list[int]
    boxes: list[int]

    def regions(self) -> Iterator["Region"]:
        """All boxes of all static choices, in order."""
        choices = math.prod(axis.size for axis in self.axes if axis.choices is not None)
        whole = tuple(slice(0, axis.size) for axis in self.axes if axis.choices is None)
        every = itertools.product(range(choices), list(pieces(whole, self.boxes)))
        return (Region(i, choice, box) for i, (choice, box) in enumerate(every))

    def place(self, region: "Region") -> Box:
        """The part of the dataset that a region covers, one slice an axis."""
        return place(self.axes, region.choice, region.box)

    def chunks(self, name: str) -> tuple[int, ...]:
        """The zarr chunks of a variable."""
        free, shape = iter(self.boxes), self.shapes[name]
        leading = [next(free) if axis.choices is None else 1 for axis in self.axes]
        own = [max(1, size) for size in shape]
        if own:
            row = math.prod(leading) * math.prod(own[1:]) * self.dtypes[name].itemsize
            own[0] = max(1, min(own[0], LARGEST // row))
        return (*leading, *own)

    def keys(self, name: str, region: "Region") -> list[str]:
        """The files of a variable that a region is."""
        chunks, axes = self.chunks(name), len(self.axes)
        leading = [part.start // size for part, size in zip(self.place(region), chunks, strict=False)]
        own = [range(math.ceil(n / c)) for n, c in zip(self.shapes[name], chunks[axes:], strict=True)]
        return [".".join(map(str, [*leading, *key])) or "0" for key in itertools.product(*own)]


class Region(NamedTuple):
    """A box of one static choice.

    Attributes:
      index: its place among all, and its row in the manifest.
      choice: the number of the static choice.
      box: one slice an array axis.
    """

    index: int
    choice: int
    box: Box


def place(axes: list[Axis], choice: int, box: Box) -> Box:
    """The part of the dataset that a box of a static choice covers, one slice an axis.

    Args:
      axes: all of them, in the user's order.
      choice: the number of the static choice.
      box: one slice an array axis.
    """
    sizes = [axis.size for axis in axes if axis.choices is not None]
    fixed, free = iter(np.unravel_index(choice, sizes) if sizes else ()), iter(box)
    return tuple(
        next(free) if axis.choices is None else slice(index := int(next(fixed)), index + 1) for axis in axes
    )
