"""What the pictures share on the side of the data: named choices, failed runs, labels of lines."""

import difflib
import itertools
import math
from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr

from gdjax.types import FAILED

__all__ = [
    "MANY",
    "carried_forward",
    "dimension",
    "dimensions",
    "failed",
    "is_numeric",
    "label",
    "lines",
    "traced",
    "unknown",
    "variable",
]

MANY = 14
"""Lines that can be told apart."""


def unknown(owner: str, kind: str, name: object, known: Iterable[object]) -> str:
    """The message for a name that is not there, with near matches first."""
    known = [str(each) for each in known]
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"{owner}: no {kind} {str(name)!r}; {hint}"


def variable(data: xr.Dataset | xr.DataArray, name: str | None, owner: str) -> xr.DataArray:
    """The variable ``name`` of a Dataset; a DataArray stands for itself."""
    if isinstance(data, xr.DataArray):
        return data
    if not isinstance(data, xr.Dataset):
        raise TypeError(f"{owner} takes an xarray Dataset or DataArray, got {type(data).__name__}")
    if name not in data.data_vars:
        raise ValueError(unknown(owner, "variable", name, data.data_vars))
    return data[name]


def traced(data: xr.Dataset | xr.DataArray, name: str | None, owner: str) -> xr.DataArray:
    """The variable ``name``, or the only one along ``step`` where no name is given."""
    if name is None and isinstance(data, xr.Dataset):
        along = [each for each in data.data_vars if "step" in data[each].dims]
        if len(along) != 1:
            found = f"there are {', '.join(map(str, along))}: pass variable=" if along else "there is none"
            raise ValueError(
                f"{owner} draws a variable along the dimension step, and {found}"
                + ("" if along else "; give the runs record=lambda step: step.value")
            )
        name = str(along[0])
    array = variable(data, name, owner)
    if "step" not in array.dims:
        raise ValueError(
            f"{owner}: {array.name or 'the array'} has no dimension step (it has "
            f"{', '.join(map(str, array.dims)) or 'none'}); give the runs record=..."
        )
    return array


def dimension(array: xr.DataArray, name: str, owner: str) -> str:
    """``name`` if it is a dimension of the array."""
    if name not in array.dims:
        raise ValueError(unknown(owner, "dimension", name, array.dims))
    return name


def dimensions(array: xr.DataArray, names: str | Iterable[str], owner: str) -> list[str]:
    """Each of ``names``, one name or several, if all are dimensions of the array."""
    names = [names] if isinstance(names, str) else list(names)
    return [dimension(array, name, owner) for name in names]


def is_numeric(array: xr.DataArray | xr.Dataset, name: Hashable) -> bool:
    """Whether the coordinate of a dimension is made of numbers."""
    return bool(np.issubdtype(array[name].dtype, np.number))


def failed(data: xr.Dataset | xr.DataArray, array: xr.DataArray) -> xr.DataArray:
    """Which runs have failed, by their status or by a number that is not finite.

    The dimensions are those of ``array`` without ``step`` and whatever comes after it.
    """
    bad = array.copy(data=~np.isfinite(array.values))
    if "step" in array.dims:
        place = array.dims.index("step")
        bad = bad.all(dim=array.dims[place:])
    status = data.get("status") if isinstance(data, xr.Dataset) else None
    if status is not None and set(status.dims) <= set(bad.dims):
        bad = bad | status.isin([int(each) for each in FAILED])
    return bad


def carried_forward(array: xr.DataArray, bad: xr.DataArray, worst: float) -> xr.DataArray:
    """A trace whose runs all last as long: one that has ended stays put, one that failed turns ``worst``.

    Leaving ended runs out would make the median one over the slow runs alone.
    """
    array = array.transpose(..., "step")
    values = np.array(array.values, dtype=float)
    seen = np.where(np.isnan(values), 0, np.arange(values.shape[-1]))
    last = np.maximum.accumulate(seen, axis=-1)
    filled = np.take_along_axis(values, last, axis=-1)
    lost = np.broadcast_to(bad.broadcast_like(array).transpose(*array.dims).values, values.shape)
    return array.copy(data=np.where(np.isnan(values) & lost, worst, filled))


def label(names: Iterable[Hashable], values: Iterable[object]) -> str:
    """The words for one line of several: a name by itself, a number with its dimension."""
    parts = []
    for name, value in zip(names, values, strict=True):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        parts.append(f"{str(name).replace('_', ' ')} {value:.3g}" if number else str(value))
    return ", ".join(parts)


def lines(array: xr.DataArray, names: list[Hashable], owner: str) -> list[tuple[str, xr.DataArray]]:
    """Each line of a picture with its label: one for every combination of the dimensions ``names``."""
    coordinates = [array[name].values for name in names]
    count = math.prod(len(each) for each in coordinates)
    if count > MANY:
        raise ValueError(
            f"{owner}: {count} lines, one for each of {' x '.join(map(str, names))}; at most {MANY} can be "
            "told apart: select with data.sel(...) or data.isel(...), or take medians where over= is offered"
        )
    found = []
    for index in itertools.product(*(range(len(each)) for each in coordinates)):
        point = [each[i] for each, i in zip(coordinates, index, strict=True)]
        found.append((label(names, point), array.isel(dict(zip(names, index, strict=True)))))
    return found
