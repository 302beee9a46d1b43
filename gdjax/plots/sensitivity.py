"""How much the learning rate matters: the best that each gives, and how wide the good range is."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gdjax.plots import selection, styles
from gdjax.types import ScalarLike

__all__ = ["basins", "learning_rate_sensitivity"]

_OWNER = "learning_rate_sensitivity"


def _worst(best: Callable) -> float:
    """The number that loses against any other under ``best``."""
    return np.inf if float(best(np.array([0.0, 1.0]))) == 0.0 else -np.inf


def basins(
    data: xr.Dataset | xr.DataArray,
    variable: str = "value",
    *,
    rate: str = "learning_rate",
    over: str | Iterable[str] = "seed",
    best: Callable[[np.ndarray], ScalarLike] = np.min,
    tolerance: float = 0.01,
) -> xr.Dataset:
    """The best learning rates and the range around them within a tolerance: the numbers behind the picture.

    Runs that failed count as the worst there is; of a variable along ``step`` the best so far is
    taken. The range is the stretch of neighbouring rates around the best whose median m has
    ``abs(m - m_best) <= tolerance * abs(m_best)``.

    Args:
      data: what `gdjax.sweep` returned, or one variable of it.
      variable: the number by which rates are judged.
      rate: the dimension of learning rates.
      over: the dimensions that median and quartiles are taken over.
      best: ``np.min`` where less is better, ``np.max`` where more is.
      tolerance: relative, at least 0.

    Returns:
      A Dataset over ``rate`` and the dimensions left: ``median``, ``lower``, ``upper`` (the
      quartiles), ``inside`` (whether the rate is in the range), and without ``rate``: ``best``,
      ``best_rate``, ``lowest_rate``, ``highest_rate`` (NaN where every rate failed).

    Example:
      >>> import xarray as xr
      >>> from gdjax import plots
      >>> loss = xr.DataArray([[3.0], [1.0], [2.0]], {"learning_rate": [0.1, 0.2, 0.3]}, ("learning_rate", "seed"))
      >>> float(plots.basins(loss).best_rate)
      0.2
    """
    array = selection.variable(data, variable, _OWNER)
    rate = selection.dimension(array, rate, _OWNER)
    over = selection.dimensions(array, over, _OWNER)
    if rate in over:
        raise ValueError(f"{_OWNER}: {rate} cannot be both the axis and averaged over")
    if not tolerance >= 0:
        raise ValueError(f"{_OWNER}: tolerance must be at least 0, got {tolerance}")
    worst = _worst(best)
    bad = selection.failed(data, array)
    if "step" in array.dims:
        array = array.where(np.isfinite(array), worst).reduce(best, "step")
    array = array.astype(float).where(~bad & np.isfinite(array), worst)
    rest = [each for each in array.dims if each not in (rate, *over)]
    array = array.transpose(*over, *rest, rate)
    flat = array.values.reshape(-1, *array.shape[len(over) :])
    middle = array.isel(dict.fromkeys(over, 0), drop=True)
    quantiles = {
        "lower": middle.copy(data=np.quantile(flat, 0.25, axis=0, method="lower")),
        "median": middle.copy(data=np.quantile(flat, 0.5, axis=0, method="inverted_cdf")),
        "upper": middle.copy(data=np.quantile(flat, 0.75, axis=0, method="higher")),
    }
    return xr.Dataset({**quantiles, **_ranges(quantiles["median"], rate, best, tolerance)})


def _ranges(median: xr.DataArray, rate: str, best: Callable, tolerance: float) -> dict[str, xr.DataArray]:
    rates, values = median[rate].values, median.values
    inside = np.zeros(values.shape, bool)
    numbers = np.full((4, *values.shape[:-1]), np.nan)
    for row in np.ndindex(values.shape[:-1]):
        line = values[row]
        finite = np.isfinite(line)
        if not finite.any():
            continue
        top = best(line[finite])
        near = finite & (np.abs(line - top) <= tolerance * np.abs(top))
        ties = np.nonzero(line == top)[0]
        place = first = last = int(ties[len(ties) // 2])
        while first > 0 and near[first - 1]:
            first -= 1
        while last < len(line) - 1 and near[last + 1]:
            last += 1
        inside[row][first : last + 1] = True
        ends = sorted((rates[first], rates[last]))
        numbers[(slice(None), *row)] = top, rates[place], *ends
    rest = median.isel({rate: 0}, drop=True)
    names = ("best", "best_rate", "lowest_rate", "highest_rate")
    return {
        "inside": median.copy(data=inside),
        **{name: rest.copy(data=each) for name, each in zip(names, numbers, strict=True)},
    }


def learning_rate_sensitivity(
    data: xr.Dataset | xr.DataArray,
    variable: str = "value",
    *,
    over: str | Iterable[str] = "seed",
    best: Callable[[np.ndarray], ScalarLike] = np.min,
    tolerance: float = 0.01,
    ax: Axes | None = None,
) -> Axes:
    """Draws a number against the learning rate: one line an optimizer, a band over the seeds.

    The line is the median, the band the quartiles, the star the best rate, and the broad stroke the
    rates around it that do as well within ``tolerance``. A line ends where half of the runs fail.

    Args:
      data: what `gdjax.sweep` returned, with a dimension ``learning_rate``, or one variable of it.
      variable: the number by which rates are judged; of one along ``step``, the best so far.
      over: the dimensions that median and quartiles are taken over.
      best: ``np.min`` where less is better, ``np.max`` where more is.
      tolerance: of the broad stroke, relative to the best median.
      ax: the Axes to draw into; a new figure's by default.

    Returns:
      The Axes. `basins` gives the numbers in it.

    Raises:
      ValueError: an unknown variable or dimension, more lines than can be told apart.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from gdjax import plots
      >>> rates = np.geomspace(1e-3, 1, 7)
      >>> loss = xr.DataArray(np.log(rates)[:, None] ** 2 + np.arange(3) + 1, dims=("learning_rate", "seed"),
      ...                     coords={"learning_rate": rates, "seed": range(3)}, name="loss")
      >>> plots.learning_rate_sensitivity(loss).get_xscale()
      'log'
      >>> float(plots.basins(loss).best_rate)
      1.0
    """
    rate = "learning_rate"
    table = basins(data, variable, over=over, best=best, tolerance=tolerance)
    names = [each for each in table["median"].dims if each != rate]
    drawn = selection.lines(table["median"], names, _OWNER)
    ax = styles.axes(ax)
    name = data.name if isinstance(data, xr.DataArray) else variable
    for (word, median), look in zip(drawn, styles.cycle(len(drawn)), strict=True):
        point = {each: median[each] for each in names}
        _draw_line(ax, table.sel(point) if names else table, rate, word, look)
    found, rates = styles.limits(table["median"].values), table[rate].values
    if selection.is_numeric(table, rate) and np.all(rates > 0) and np.max(rates) > 30 * np.min(rates):
        ax.set_xscale("log")
    if found.logarithmic:
        ax.set_yscale("log")
    _fit(ax, table["median"], rate, found)
    ax.set_xlabel(styles.title_of(rate))
    ax.set_ylabel(styles.title_of(name))
    ax.grid(True, which="major", color="0.9", lw=0.7)
    ax.set_axisbelow(True)
    if any(word for word, _ in drawn):
        styles.legend(ax, len(drawn))
    return ax


def _fit(ax: Axes, median: xr.DataArray, rate: str, found: styles.Limits) -> None:
    """Ends the axis where a few medians are far from all others, and marks where those are."""
    if not (found.below or found.above):
        return
    low, high = (np.log(found[:2]) if found.logarithmic else np.array(found[:2])).tolist()
    room = 0.08 * (high - low)
    ends = low - room, high + room
    ends = tuple(map(np.exp, ends)) if found.logarithmic else ends
    ax.set_ylim(*ends)
    values = median.transpose(..., rate).values.reshape(-1, median.sizes[rate])
    for marker, end, beyond in (("^", ends[1], values > found.high), ("v", ends[0], values < found.low)):
        columns = np.nonzero(beyond & np.isfinite(values))[1]
        at = median[rate].values[columns]
        ax.plot(
            at, np.full(len(at), end), ls="none", marker=marker, ms=8, mfc="white", mec="0.2", clip_on=False
        )


def _draw_line(ax: Axes, table: xr.Dataset, rate: str, word: str, look: dict[str, Any]) -> None:
    rates, median = table[rate].values, table["median"].values
    median = np.where(np.isfinite(median), median, np.nan)
    low, high = (
        np.where(np.isfinite(table[each].values), table[each].values, median) for each in ("lower", "upper")
    )
    ax.fill_between(rates, low, high, color=look["color"], alpha=0.15, lw=0)
    basin = np.where(table["inside"].values, median, np.nan)
    ax.plot(rates, basin, color=look["color"], lw=8, alpha=0.3, solid_capstyle="round")
    ax.plot(rates, median, label=word or None, lw=1.6, ms=4, **look)
    ax.plot(
        [float(table["best_rate"])], [float(table["best"])],
        ls="none", marker="*", ms=13, mfc=look["color"], mec="white", mew=1, zorder=4,
    )  # fmt: skip
