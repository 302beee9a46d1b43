"""Reading what a sweep came to: the best run or setting, all of them in order, and a table of runs.

A run that failed never wins, whatever its number: it counts as worse than any other. A run that is not
finished, in a store that is not complete, counts as no run at all.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gdjax.sweeps.ranking import bounds, labels, ranking, run_dimensions
from gdjax.types import Status

__all__ = ["best", "rank", "to_dataframe"]


def rank(
    dataset: xr.Dataset,
    by: str = "value",
    over: str | Iterable[str] | None = "seed",
    level: float = 0.95,
    samples: int = 1000,
    key: int = 0,
    maximize: bool = False,
) -> pd.DataFrame:
    r"""All settings from the best to the worst, by the median over seeds, with bootstrap intervals.

    Runs that failed count as infinite (:math:`-\infty` where more is better), so the median of a setting where
    half of them or more failed is infinite, and so is a bound that may well lie among them. Runs that are not
    finished do not count.

    Args:
      dataset: what `gdjax.sweep` returned.
      by: a variable with one number a run; of one along ``step`` the last that was recorded.
      over: the dimensions that the median is over; None makes a setting of every run.
      level: of the intervals, in (0, 1).
      samples: of the bootstrap, at least 1.
      key: an integer; the same draws the same samples.
      maximize: whether more is better, as of an accuracy.

    Returns:
      A row a setting, in order: its coordinates, ``median``, ``low`` and ``high`` (`intervals`; NaN with
      fewer than two runs), ``failed`` (the share of runs that did), ``runs`` (how many are finished).

    Raises:
      ValueError: an unknown variable or dimension, a level outside of (0, 1).

    Example:
      >>> import xarray as xr
      >>> from gdjax import sweeps
      >>> runs = xr.Dataset({"value": (("rate", "seed"), [[3.0, 5.0, 4.0], [1.0, 2.0, 9.0]])},
      ...                   coords={"rate": [0.1, 0.2]})
      >>> sweeps.rank(runs)[["rate", "median", "failed", "runs"]].values.tolist()
      [[0.2, 2.0, 0.0, 3.0], [0.1, 4.0, 0.0, 3.0]]
    """
    found = ranking(dataset, by, over, maximize)
    low, high = bounds(found, None, level, samples, key)
    columns: dict[str, Any] = {
        name: values[found.index[:, found.dims.index(dim)]]
        for name, dim, values in labels(dataset, found.dims)
    }
    columns |= {"median": found.medians, "low": low, "high": high}
    columns |= {"failed": found.failed, "runs": found.counts}
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(found.medians) + 1, name="rank"))


def best(
    dataset: xr.Dataset,
    by: str = "value",
    over: str | Iterable[str] | None = None,
    maximize: bool = False,
) -> xr.Dataset:
    """The run with the lowest number, or the setting with the lowest median; the highest, with ``maximize``.

    Args:
      dataset: what `gdjax.sweep` returned.
      by: a variable with one number a run; of one along ``step`` the last that was recorded.
      over: None for the best run. Such as ``"seed"`` for the best setting by the median over seeds, in
        which runs that failed count as infinite.
      maximize: whether more is better, as of an accuracy.

    Returns:
      That part of the dataset: of the dimensions those of ``over`` are left.

    Raises:
      ValueError: an unknown variable or dimension; if all runs failed, or half of them at every setting.

    Example:
      >>> import xarray as xr
      >>> from gdjax import sweeps
      >>> runs = xr.Dataset({"value": (("rate", "seed"), [[3.0, 0.0], [1.0, 2.0]]),
      ...                    "status": (("rate", "seed"), [[2, 5], [2, 2]])}, coords={"rate": [0.1, 0.2]})
      >>> float(sweeps.best(runs).value), float(sweeps.best(runs, over="seed").rate)
      (1.0, 0.2)
      >>> float(sweeps.best(runs, maximize=True).value)
      3.0
    """
    found = ranking(dataset, by, over, maximize)
    if not len(found.medians) or not np.isfinite(found.medians[0]):
        if not found.counts.any():
            raise ValueError("best: no run is finished")
        what = "every run failed" if over is None else "at every setting half of the runs or more failed"
        raise ValueError(f"best: {what}, by {by!r} and status; there is no best one")
    return dataset.isel(dict(zip(found.dims, map(int, found.index[0]), strict=True)))


def to_dataframe(dataset: xr.Dataset) -> pd.DataFrame:
    """A table with a row a run: its coordinates and what it came to, statuses by name.

    Variables that are an array in each run, such as traces, are left out.

    Args:
      dataset: what `gdjax.sweep` returned.

    Returns:
      The table, in the order of the grid. The status ``RUNNING`` is of runs that a store does not hold yet.

    Example:
      >>> import xarray as xr
      >>> from gdjax import sweeps
      >>> runs = xr.Dataset({"value": ("rate", [3.0, 1.0]), "status": ("rate", [1, 5])}, coords={"rate": [0.1, 0.2]})
      >>> print(sweeps.to_dataframe(runs))
         rate  value     status
      0   0.1    3.0  CONVERGED
      1   0.2    1.0  NONFINITE
    """
    dims = run_dimensions(dataset)
    shape = [dataset.sizes[dim] for dim in dims]
    places = np.indices(shape).reshape(len(dims), int(np.prod(shape)))
    columns: dict[str, Any] = {
        name: values[places[dims.index(dim)]] for name, dim, values in labels(dataset, dims)
    }
    for name, array in dataset.data_vars.items():
        if set(array.dims) == set(dims):
            columns[str(name)] = array.transpose(*dims).values.reshape(-1)
    if "status" in columns:
        names = {int(each): each.name for each in Status}
        numbers, inverse = np.unique(columns["status"], return_inverse=True)
        words = np.array([names.get(int(number), str(number)) for number in numbers], object)
        columns["status"] = words[inverse]
    return pd.DataFrame(columns)
