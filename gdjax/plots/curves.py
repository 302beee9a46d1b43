"""Curves over the steps of runs, as a median and a band."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from gdjax.plots import selection, styles

__all__ = ["convergence"]

_OWNER = "convergence"

_FACTOR = 5.0
"""Numbers closer together, such as accuracies, are drawn on a linear scale: it has no more than one power of ten."""


def _measure(array: xr.DataArray, optimum: Any) -> tuple[xr.DataArray, str]:
    """The number to draw at each step, and what it is called."""
    name = styles.title_of(array.name)
    extra = list(array.dims[array.dims.index("step") + 1 :])
    if optimum is None:
        if extra:
            raise ValueError(
                f"convergence: {name} is an array of dimensions {', '.join(map(str, extra))} at each step; "
                "pass optimum= to draw its distance"
            )
        return array, name
    optimum = np.asarray(optimum, float)
    if optimum.shape != tuple(array.sizes[each] for each in extra):
        raise ValueError(
            f"convergence: optimum has shape {optimum.shape}, one step of {name} has "
            f"{tuple(array.sizes[each] for each in extra)}"
        )
    if not extra:
        return (array - optimum).clip(min=0).rename(array.name), f"{name} above optimum"
    gap = array - xr.DataArray(optimum, dims=extra)
    distance = ((gap**2).sum(extra, skipna=False) ** 0.5).rename(array.name)
    return distance, f"distance of {name} to optimum"


def _bands(array: xr.DataArray, over: list[str], band: tuple[float, float]) -> xr.Dataset:
    """Median and quantiles over some dimensions; runs that failed count as infinite."""
    if not over:
        return xr.Dataset({"median": array, "low": array, "high": array})
    values = array.transpose(*over, ...).values
    flat = values.reshape(-1, *values.shape[len(over) :])
    rest = array.isel(dict.fromkeys(over, 0), drop=True)
    # Order statistics, never interpolation: half of infinity is no number of any run.
    low = np.quantile(flat, band[0], axis=0, method="lower")
    median = np.quantile(flat, 0.5, axis=0, method="inverted_cdf")
    high = np.quantile(flat, band[1], axis=0, method="higher")
    return xr.Dataset(
        {
            name: rest.copy(data=np.where(np.isfinite(each), each, np.nan if name != "high" else np.inf))
            for name, each in (("low", low), ("median", median), ("high", high))
        }
    )


def convergence(
    data: xr.Dataset | xr.DataArray,
    variable: str | None = None,
    *,
    over: str | Iterable[str] = (),
    optimum: ArrayLike | None = None,
    band: tuple[float, float] = (0.25, 0.75),
    facet: str | None = None,
    ax: Axes | None = None,
) -> Any:
    r"""Draws what runs recorded against their steps: one line a setting, a band over the rest.

    A run that stopped early stays at its last number; one that failed counts as infinite from then
    on, so a median line ends where half of its runs have failed. The vertical axis is logarithmic
    unless a number is negative or all are within a factor of five; a line that gets far above all others leaves
    it at the top.

    Args:
      data: what `gdjax.sweep` returned, or one variable of it.
      variable: what to draw, a variable along ``step`` such as a recorded value, residual or point;
        the only such variable by default.
      over: the dimensions that the median and the band are taken over, such as ``"seed"``; every
        combination of the others is a line.
      optimum: where given, the distance to it is drawn: :math:`f - f^\star` for numbers,
        :math:`\lVert x - x^\star \rVert_2` for arrays.
      band: the quantiles between which the band lies, in [0, 1].
      facet: a dimension, one picture for each of its values in a new figure, on the same scales.
      ax: the Axes to draw into; a new figure's by default.

    Returns:
      The Axes; with ``facet``, an array of Axes.

    Raises:
      ValueError: an unknown variable or dimension, more lines than can be told apart, a band that is
        not an interval in [0, 1], ``facet`` with ``ax`` or in ``over``.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from gdjax import plots
      >>> trace = xr.DataArray(np.geomspace(1, 1e-6, 50), dims="step", coords={"step": range(50)})
      >>> plots.convergence(trace.rename("value")).get_yscale()
      'log'
    """
    if not 0 <= band[0] <= band[1] <= 1:
        raise ValueError(f"convergence: band must be two quantiles 0 <= low <= high <= 1, got {band}")
    array = selection.traced(data, variable, _OWNER)
    over = selection.dimensions(array, over, _OWNER)
    if facet is not None:
        facet = selection.dimension(array, facet, _OWNER)
        if facet in ("step", *over):
            raise ValueError(f"convergence: facet {facet!r} is no dimension of the lines")
        if ax is not None:
            raise ValueError("convergence: facet makes a figure of its own, so it takes no ax")
    bad = selection.failed(data, array)
    array, name = _measure(array, optimum)
    array = selection.carried_forward(array, bad, np.inf)
    table = _bands(array, over, band)
    if facet is None:
        return _lines(styles.axes(ax), table, name, bool(over))
    grid, _ = styles.small_multiples(table.sizes[facet])
    for place, each in enumerate(grid):
        _lines(each, table.isel({facet: place}), name, bool(over))
        each.set_title(selection.label([facet], [table[facet].values[place]]), fontsize="medium")
        each.label_outer()
        if place and (legend := each.get_legend()) is not None:
            legend.remove()  # the first one's holds for all
    return grid


def _lines(ax: Axes, table: xr.Dataset, name: str, shaded: bool) -> Axes:
    """One picture of medians and bands: a line for every combination of the dimensions left."""
    names = [each for each in table["median"].dims if each != "step"]
    low, median, high = (selection.lines(table[each], names, _OWNER) for each in ("low", "median", "high"))
    drawn = list(zip(low, median, high, strict=True))
    ordered = len(names) == 1 and selection.is_numeric(table["median"], names[0])
    looks = styles.sequence(len(drawn)) if ordered else styles.cycle(len(drawn))
    return _draw(ax, drawn, looks, name, shaded)


def _draw(ax: Axes, drawn: list, looks: list, name: str, shaded: bool) -> Axes:
    medians = np.concatenate([median.values for _, (_, median), _ in drawn])
    finite = medians[np.isfinite(medians)]
    positive = finite[finite > 0]
    logarithmic = bool(positive.size and np.all(finite >= 0) and finite.max() > _FACTOR * positive.min())
    top = finite.max() * 10 if finite.size else 1.0
    for i, (((_, low), (label, median), (_, high)), look) in enumerate(zip(drawn, looks, strict=True)):
        steps, middle = median["step"].values, median.values
        if logarithmic:
            middle = np.where(middle > 0, middle, np.nan)
        every = max(len(steps) // 8, 1)
        start = min(i * every // max(len(drawn), 1), every - 1)
        ax.plot(steps, middle, label=label or None, markevery=(start, every), markersize=4.5, lw=1.6, **look)
        if shaded:
            bottom = (
                low.values
                if not logarithmic
                else np.where(low.values > 0, low.values, finite[finite > 0].min())
            )
            shown = np.isfinite(middle)
            ax.fill_between(
                steps,
                bottom,
                np.minimum(high.values, top),
                where=shown,
                color=look["color"],
                alpha=0.18,
                lw=0,
            )
    ax.set_yscale("log" if logarithmic else "linear")
    tops = [
        values.max() for _, (_, line), _ in drawn if (values := line.values[np.isfinite(line.values)]).size
    ]
    if (found := styles.limits(tops)).above:  # one that runs away leaves the picture at the top
        ax.set_ylim(top=2 * found.high if logarithmic else found.high + 0.05 * (found.high - finite.min()))
    ax.set_xlabel("step")
    ax.set_ylabel(name)
    ax.margins(x=0.01)
    ax.grid(True, which="major", color="0.9", lw=0.7)
    ax.set_axisbelow(True)
    if any(label for _, (label, _), _ in drawn):
        styles.legend(ax, len(drawn))
    return ax
