"""A sweep in a few numbers: its runs by status, its settings in order, what it was made with."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdjax.sweeps.ranking import Ranking, bounds, judged, labels, ranking, run_dimensions
from gdjax.types import FAILED, Status, explain

__all__ = ["Kind", "Settings", "Subject", "number", "subject", "word"]

SETTINGS = 1000
"""Rows of the table."""


class Kind(NamedTuple):
    """How runs may end.

    Attributes:
      name: in a word or two.
      failed: whether their numbers stand for no solution.
      text: in a sentence.
    """

    name: str
    failed: bool
    text: str


class Settings(NamedTuple):
    """The best settings, in order.

    Attributes:
      total: how many there are.
      ranking: all of them.
      coordinates: from names to one label for each setting that is shown.
      low: the lower bounds of the intervals.
      high: the upper ones.
    """

    total: int
    ranking: Ranking
    coordinates: dict[str, np.ndarray]
    low: np.ndarray
    high: np.ndarray


class Subject(NamedTuple):
    """What a report is of.

    Attributes:
      dataset: what the sweep returned.
      dims: the dimensions that tell runs apart.
      by: the variable that runs are judged by.
      over: the dimensions that medians are over.
      judged: one number a run, infinite where it failed, NaN where it is not finished.
      maximize: whether more is better.
      kinds: how runs have ended.
      ends: for each run the place of its kind among ``kinds``.
      settings: the best of them.
    """

    dataset: xr.Dataset
    dims: tuple[str, ...]
    by: str
    over: tuple[str, ...]
    judged: xr.DataArray
    maximize: bool
    kinds: list[Kind]
    ends: np.ndarray
    settings: Settings


def word(value: object) -> str:
    """A label as it is shown: numbers by four digits."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def number(value: Any) -> float | None:
    """A number by five digits for JSON, None where it is not finite."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _kinds(dataset: xr.Dataset, numbers: xr.DataArray) -> tuple[list[Kind], np.ndarray]:
    if "status" not in dataset:
        kinds = [Kind("finite", False, "the number is finite"), Kind("not finite", True, "NaN or infinite")]
        return kinds, np.isinf(numbers.values).astype(int)
    codes, places = np.unique(dataset["status"].values, return_inverse=True)
    kinds = []
    for code in map(int, codes):
        known = code in set(Status)
        name = Status(code).name.lower().replace("_", " ") if known else f"status {code}"
        kinds.append(Kind(name, code in FAILED, explain(code) if known else "an unknown status"))
        if code == Status.RUNNING:
            kinds[-1] = Kind("not finished", False, "the store does not hold it yet")
    ends, lost = places.reshape(dataset["status"].shape), np.isinf(numbers.values)
    odd = lost & ~np.array([kind.failed for kind in kinds], bool)[ends]
    if odd.any():
        ends = np.where(odd, len(kinds), ends)
        kinds.append(Kind("not finite", True, f"{numbers.name} is NaN or infinite"))
    return kinds, ends


def subject(dataset: xr.Dataset, by: str, over: tuple[str, ...], maximize: bool = False) -> Subject:
    """Judges the runs and orders the settings.

    Args:
      dataset: what the sweep returned.
      by: the variable that runs are judged by.
      over: the dimensions that medians are over; ``seed`` may be missing.
      maximize: whether more is better.
    """
    dims = run_dimensions(dataset)
    dataset = dataset.assign_coords({dim: dataset[dim] for dim in dims})
    over = tuple(dim for dim in over if dim != "seed" or dim in dims)
    numbers = judged(dataset, by, maximize)
    found = ranking(dataset, by, over, maximize)
    low, high = bounds(found, SETTINGS)
    coordinates = {
        name: values[found.index[:SETTINGS, found.dims.index(dim)]]
        for name, dim, values in labels(dataset, found.dims)
    }
    settings = Settings(len(found.medians), found, coordinates, low, high)
    return Subject(dataset, dims, by, over, numbers, maximize, *_kinds(dataset, numbers), settings)
