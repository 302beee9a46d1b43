"""Finished runs on the host: for writers of logs, and for whoever looks on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from gdjax.sweeps.axes import Axis
from gdjax.sweeps.dataset import assemble
from gdjax.sweeps.plan import Box

__all__ = ["Watch", "as_watch", "labelled"]

Watch = Callable[[xarray.Dataset], Any]
"""Called with the dataset of each box that has just been finished."""


def as_watch(watch: object) -> Watch | None:
    """Checks what the user gave."""
    if watch is not None and not callable(watch):
        raise TypeError(f"sweep: watch must be a function of a dataset, got {type(watch).__name__}")
    return watch


def labelled(
    axes: list[Axis], place: Box, found: dict[str, np.ndarray], strides: dict[str, int]
) -> xarray.Dataset:
    """The results of one box as a dataset, with all axes and the labels of this box.

    Args:
      axes: all of them.
      place: the part of each that the box covers.
      found: the box's results; their leading axes are those of the array axes.
      strides: for each recorded variable, the steps between its rows.
    """
    parts = [axis.part(part) for axis, part in zip(axes, place, strict=True)]
    free = sum(axis.choices is None for axis in axes)
    sizes = [axis.size for axis in parts]
    arrays = {name: array.reshape((*sizes, *array.shape[free:])) for name, array in found.items()}
    return assemble(parts, arrays, strides, {})
