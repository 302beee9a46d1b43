"""Runs as numbers to compare, settings in order, and how far their medians can be trusted."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdjax.types import FAILED, Status

__all__ = ["Ranking", "bounds", "intervals", "judged", "labels", "last", "ranking", "run_dimensions"]

_ROWS = 4096
"""Settings that are resampled at a time."""


def _unknown(kind: str, name: Any, known: Iterable[Any]) -> str:
    known = [str(each) for each in known]
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"no {kind} {str(name)!r}; {hint}"


def run_dimensions(dataset: xr.Dataset) -> tuple[str, ...]:
    """The dimensions that tell runs apart: those that all variables have, without ``step``."""
    if not isinstance(dataset, xr.Dataset):
        raise TypeError(f"what a sweep returns is an xarray.Dataset, got {type(dataset).__name__}")
    if not dataset.data_vars:
        raise ValueError("the dataset has no variables")
    if "status" in dataset:
        return tuple(map(str, dataset["status"].dims))
    first, *others = (dataset[name].dims for name in dataset.data_vars)
    shared = [dim for dim in first if all(dim in dims for dims in others)]
    return tuple(str(dim) for dim in shared if dim != "step")


def last(array: xr.DataArray) -> xr.DataArray:
    """Of what was recorded along ``step`` the last number of each run that is not NaN; others as they are.

    Example:
      >>> import xarray as xr
      >>> from gdjax.sweeps.ranking import last
      >>> trace = xr.DataArray([[3.0, 2.0, float("nan")], [5.0, 4.0, 1.0]], dims=("seed", "step"))
      >>> last(trace).values.tolist()
      [2.0, 1.0]
    """
    if "step" not in array.dims:
        return array
    array = array.transpose(..., "step")
    values = np.asarray(array.values, float)
    at = np.where(np.isnan(values), 0, np.arange(values.shape[-1])).max(-1, initial=0)
    ends = np.take_along_axis(values, at[..., None], axis=-1)[..., 0]
    return array.isel(step=-1, drop=True).copy(data=ends)


def judged(dataset: xr.Dataset, by: str = "value", maximize: bool = False) -> xr.DataArray:
    r"""One number a run to compare runs by: :math:`+\infty` where it failed, NaN where it is not finished.

    Where more is better, a run that failed has :math:`-\infty`.

    A run has failed if its status says so (`gdjax.Status`: ``NONFINITE``, ``DIVERGED``, ``UNBOUNDED``,
    ``INFEASIBLE``), or if the number is not finite.

    Args:
      dataset: what `gdjax.sweep` returned.
      by: a variable with one number a run; of one along ``step`` the last that was recorded.
      maximize: whether more is better.

    Raises:
      ValueError: if there is no such variable, or if it is an array in each run.

    Example:
      >>> import xarray as xr
      >>> from gdjax.sweeps.ranking import judged
      >>> runs = xr.Dataset({"value": ("rate", [0.5, -9.0]), "status": ("rate", [1, 5])})
      >>> judged(runs).values.tolist()
      [0.5, inf]
    """
    dims = run_dimensions(dataset)
    if by not in dataset.data_vars:
        raise ValueError(_unknown("variable", by, dataset.data_vars))
    array = dataset[by]
    own = [str(dim) for dim in array.dims if dim not in (*dims, "step")]
    if own:
        raise ValueError(f"{by!r} is an array over {', '.join(own)} in each run; runs compare by one number")
    array = last(array).transpose(*dims).astype(float)
    lost, worst = ~np.isfinite(array), -np.inf if maximize else np.inf
    if "status" not in dataset:
        return array.where(~lost, worst)
    status = dataset["status"]
    lost |= status.isin([int(each) for each in FAILED])
    return array.where(~lost, worst).where(status != int(Status.RUNNING))


class Ranking(NamedTuple):
    """Settings from the best to the worst, without intervals; made by `ranking`.

    Attributes:
      dims: the dimensions of a setting.
      index: for each setting its place along each of ``dims``, shape ``(settings, dims)``.
      rows: the numbers of its runs, times ``sign``, ascending, ``inf`` for those that failed and NaN, last of
        all, for those that are not finished; shape ``(settings, runs)``.
      counts: finished runs of each.
      medians: over the finished runs; infinite where half of them or more failed, NaN without any.
      sign: -1 where more is better, else 1.
    """

    dims: tuple[str, ...]
    index: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    medians: np.ndarray
    sign: int = 1

    @property
    def failed(self) -> np.ndarray:
        """The share of finished runs that failed; NaN without any."""
        counts = np.where(self.counts == 0, np.nan, self.counts)
        return np.isposinf(self.rows).sum(1) / counts


def _halfway(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(low == high, low, low / 2 + high / 2)  # nothing overflows, and infinity stays


def ranking(
    dataset: xr.Dataset,
    by: str = "value",
    over: str | Iterable[str] | None = "seed",
    maximize: bool = False,
) -> Ranking:
    """Orders settings by the median over some dimensions; those that tie, by the share that failed.

    Args:
      dataset: what `gdjax.sweep` returned.
      by: as `judged` takes it.
      over: the dimensions that the median is over; None makes a setting of every run.
      maximize: whether more is better.

    Raises:
      ValueError: an unknown variable or dimension.

    Example:
      >>> import xarray as xr
      >>> from gdjax.sweeps.ranking import ranking
      >>> runs = xr.Dataset({"value": (("rate", "seed"), [[3.0, 5.0], [1.0, 2.0]])})
      >>> ranking(runs).medians.tolist()
      [1.5, 4.0]
    """
    sign = -1 if maximize else 1
    numbers = sign * judged(dataset, by, maximize)
    over = [over] if isinstance(over, str) else list(over or ())
    for name in over:
        if name not in numbers.dims:
            raise ValueError(_unknown("dimension", name, numbers.dims))
    dims = tuple(str(dim) for dim in numbers.dims if dim not in over)
    shape = [numbers.sizes[dim] for dim in dims]
    rows = np.sort(numbers.transpose(*dims, *over).values.reshape(int(np.prod(shape)), -1), axis=1)
    counts = (~np.isnan(rows)).sum(1)
    each, top = np.arange(len(rows)), np.maximum(counts - 1, 0)
    medians = _halfway(rows[each, top // 2], rows[each, (top + 1) // 2])
    found = Ranking(dims, np.empty(0), rows, counts, medians)
    order = np.lexsort((found.failed, medians))
    index = np.stack(np.unravel_index(order, shape), 1) if dims else np.zeros((1, 0), int)
    return Ranking(dims, index, rows[order], counts[order], sign * medians[order], sign)


def bounds(
    found: Ranking, shown: int | None = None, level: float = 0.95, samples: int = 1000, key: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap intervals of the medians of a ranking.

    Args:
      found: the ranking.
      shown: of how many settings, the best first; None for all.
      level: as `intervals` takes it.
      samples: as `intervals` takes it.
      key: as `intervals` takes it.
    """
    low, high = intervals(found.rows[:shown], found.counts[:shown], level, samples, key)
    return (low, high) if found.sign > 0 else (-high, -low)


def intervals(
    rows: np.ndarray, counts: np.ndarray, level: float = 0.95, samples: int = 1000, key: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    r"""Percentile bootstrap intervals of medians.

    The runs of a setting are drawn again with replacement; between the quantiles
    :math:`(1 - c)/2` and :math:`(1 + c)/2` of the medians of these samples lies the interval of level
    :math:`c`. A failed run is drawn like any other, so that a bound may be infinite.

    Args:
      rows: ascending numbers, shape ``(settings, runs)``, NaN last where there are fewer.
      counts: how many of each row are no NaN.
      level: of the interval, in (0, 1).
      samples: how many, at least 1.
      key: an integer; the same draws the same samples, for all settings.

    Returns:
      The lower and the upper bounds, NaN where there are fewer than two runs.

    Reference:
      Efron, B., & Tibshirani, R. J. (1993). An Introduction to the Bootstrap, section 13.3.

    Example:
      >>> import numpy as np
      >>> from gdjax.sweeps.ranking import intervals
      >>> low, high = intervals(np.arange(9.0)[None], np.array([9]))
      >>> float(low[0]), float(high[0])
      (1.0, 7.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    first = int(np.floor((1 - level) / 2 * (samples - 1)))
    low, high = np.full((2, len(rows)), np.nan)
    for count in np.unique(counts[counts > 1]):
        # The rows ascend, so the median of a sample stands at the middle of the sorted places drawn.
        drawn = np.sort(np.random.default_rng(key).integers(count, size=(samples, count)), axis=1)
        left, right = drawn[:, (count - 1) // 2], drawn[:, count // 2]
        members = np.flatnonzero(counts == count)
        for part in np.split(members, range(_ROWS, len(members), _ROWS)):
            medians = np.sort(_halfway(rows[part][:, left], rows[part][:, right]), axis=1)
            low[part], high[part] = medians[:, first], medians[:, samples - 1 - first]
    return low, high


def labels(dataset: xr.Dataset, dims: Iterable[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """What tells settings apart: ``(name, dimension, labels)`` of dimensions and what lies along one."""
    for dim in dims:
        yield dim, dim, dataset[dim].values
        for name, coordinate in dataset.coords.items():
            if coordinate.dims == (dim,) and name != dim:
                yield str(name), dim, coordinate.values
