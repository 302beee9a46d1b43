"""Two dimensions of a sweep as a map."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.patches import Patch

from gdjax.plots import selection, styles
from gdjax.types import ScalarLike

__all__ = ["heatmap"]

_OWNER = "heatmap"

_FEW = 10
"""Numbers along an axis that are each written beside it."""

_ACROSS = 60
"""Letters that fit below a map."""


def _cells(data: Any, array: xr.DataArray, keep: list[str], reduce: Callable) -> tuple[xr.DataArray, ...]:
    """The number in each cell over the runs that did not fail, and the share of runs that did."""
    bad = selection.failed(data, array).transpose(*array.dims)
    over = [each for each in array.dims if each not in keep]
    share = bad.mean(over) if over else bad.astype(float)
    good = array.astype(float).where(~bad).transpose(..., *keep)
    flat = good.values.reshape(-1, *(good.sizes[each] for each in keep))
    numbers = np.full(flat.shape[1:], np.nan)
    for cell in np.ndindex(numbers.shape):
        column = flat[(slice(None), *cell)]
        column = column[np.isfinite(column)]
        if column.size:
            numbers[cell] = reduce(column)
    coords = {each: good[each] for each in keep}
    return xr.DataArray(numbers, dims=keep, coords=coords), share.transpose(*keep)


def _scale(array: xr.DataArray, name: str) -> tuple[np.ndarray, str]:
    """Edges of the cells along a dimension, and the kind of axis: log, linear or category."""
    count = array.sizes[name]
    categories = np.arange(count + 1) - 0.5
    if not selection.is_numeric(array, name) or count < 2:
        return categories, "category"
    values = np.asarray(array[name].values, float)
    if np.all(values > 0) and np.ptp(np.diff(np.log(values))) < 1e-3 * abs(np.log(values[-1] / values[0])):
        kind, places = "log", np.log(values)
    elif np.all(np.diff(values) > 0) or np.all(np.diff(values) < 0):
        kind, places = "linear", values
    else:
        return categories, "category"
    middle = (places[1:] + places[:-1]) / 2
    edges = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return (np.exp(edges) if kind == "log" else edges), kind


def _colours(found: styles.Limits) -> Normalize:
    return (LogNorm if found.logarithmic else Normalize)(found.low, found.high)


def _axis(ax: Axes, which: str, array: xr.DataArray, name: str, kind: str) -> None:
    axis = getattr(ax, f"{which}axis")
    if kind == "category":
        words = [styles.short(_word(value)) for value in array[name].values]
        axis.set_ticks(range(len(words)), labels=words)
        axis.set_tick_params(length=0)
        if which == "y":
            ax.invert_yaxis()
        elif max(map(len, words)) * len(words) > _ACROSS:
            axis.set_tick_params(rotation=30)
            for label in axis.get_ticklabels():
                label.set_horizontalalignment("right")
    else:
        getattr(ax, f"set_{which}scale")(kind)
        values = np.asarray(array[name].values, float)
        if len(values) <= _FEW and (which == "y" or sum(len(_word(value)) for value in values) < _ACROSS / 2):
            axis.set_ticks(values, labels=[_word(value) for value in values])
            axis.set_ticks([], minor=True)
    getattr(ax, f"set_{which}label")(styles.title_of(name))


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)


def _draw(ax: Axes, numbers: xr.DataArray, share: xr.DataArray, norm: Normalize) -> Any:
    """One map: x along the second dimension, y along the first; what is beyond the colours has a triangle."""
    y, x = map(str, numbers.dims)
    (x_edges, x_kind), (y_edges, y_kind) = _scale(numbers, x), _scale(numbers, y)
    colours = matplotlib.colormaps["viridis"]
    lost = share.values >= 0.5
    shown = np.ma.masked_where(lost | ~np.isfinite(numbers.values), numbers.values)
    ax.set_facecolor("0.94")
    mesh = ax.pcolormesh(x_edges, y_edges, shown, cmap=colours, norm=norm, edgecolors="white", linewidth=0.4)
    if lost.any():
        hatched = np.ma.masked_where(~lost, np.ones(lost.shape))
        grey = ListedColormap(["0.94"])
        ax.pcolor(x_edges, y_edges, hatched, cmap=grey, hatch="////", edgecolor="0.6", linewidth=0)
    some = (share.values > 0) & ~lost
    if some.any():
        rows, columns = np.nonzero(some)
        ax.plot(
            _centres(x_edges, x_kind)[columns], _centres(y_edges, y_kind)[rows],
            ls="none", marker="x", ms=5, mew=1.4, color="white", markeredgecolor="white", label="some",
        )  # fmt: skip
    values = np.where(lost, np.nan, numbers.values)
    for marker, beyond in (("^", values > norm.vmax), ("v", values < norm.vmin)):
        rows, columns = np.nonzero(beyond)
        ax.plot(
            _centres(x_edges, x_kind)[columns], _centres(y_edges, y_kind)[rows],
            ls="none", marker=marker, ms=7, mfc="white", mec="0.2", mew=0.8,
        )  # fmt: skip
    _axis(ax, "x", numbers, x, x_kind)
    _axis(ax, "y", numbers, y, y_kind)
    return mesh, bool(lost.any()), bool(some.any())


def _centres(edges: np.ndarray, kind: str) -> np.ndarray:
    return np.sqrt(edges[1:] * edges[:-1]) if kind == "log" else (edges[1:] + edges[:-1]) / 2


def _extend(found: styles.Limits) -> str:
    """Which ends of a colour bar go on, in matplotlib's words."""
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        found.below, found.above
    ]


def _key(ax: Axes, lost: bool, some: bool, found: styles.Limits) -> None:
    """Words for the cells that failed or are beyond the colours, above the map and outside of it."""
    handles: list[Any] = []
    if found.above or found.below:
        mark, word = ("^", "above") if found.above else ("v", "below")
        mark, word = ("D", "beyond") if found.above and found.below else (mark, word)
        handles.append(
            ax.plot(
                [], [], ls="none", marker=mark, ms=6, mfc="white", mec="0.2", label=f"{word} the colours"
            )[0]
        )
    if lost:
        handles.append(Patch(facecolor="0.94", edgecolor="0.55", hatch="////", label="half or more diverged"))
    if some:
        handles.append(
            ax.plot([], [], ls="none", marker="X", ms=6, mfc="white", mec="0.3", label="some diverged")[0]
        )
    if handles:
        ax.legend(
            handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3,
            frameon=False, fontsize="small",
        )  # fmt: skip


def heatmap(
    data: xr.Dataset | xr.DataArray,
    x: str,
    y: str,
    variable: str = "value",
    *,
    reduce: Callable[[np.ndarray], ScalarLike] = np.median,
    facet: str | None = None,
    ax: Axes | None = None,
) -> Any:
    """Draws two dimensions of a sweep as a map, the others reduced.

    Cells where half of the runs or more diverged are hatched; a cross marks those where some did,
    whose colour is that of the runs that did not. Positive values over more than a decade and a half get
    logarithmic colours, coordinates with a constant ratio a logarithmic axis. A few values far from all
    others do not stretch the colours: their cells have the colour of the end, and a triangle.

    Args:
      data: what `gdjax.sweep` returned, or one variable of it.
      x: the dimension across.
      y: the dimension upwards; names run downwards.
      variable: the variable to draw, ``"value"`` by default; of one along ``step``, the last.
      reduce: takes the numbers of one cell, 1-D, to one.
      facet: a third dimension, one map for each of its values in a new figure.
      ax: the Axes to draw into; a new figure's by default.

    Returns:
      The Axes; with ``facet``, an array of Axes.

    Raises:
      ValueError: an unknown variable or dimension, a dimension used twice, ``facet`` with ``ax``.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from gdjax import plots
      >>> grid = xr.DataArray(np.ones((3, 2)), {"rate": [0.1, 1.0, 10.0], "seed": [0, 1]}, ("rate", "seed"))
      >>> plots.heatmap(grid, "rate", "seed").get_xscale()
      'log'
    """
    array = selection.variable(data, variable, _OWNER)
    if "step" in array.dims:
        array = selection.carried_forward(array, selection.failed(data, array), np.nan).isel(step=-1)
    keep = selection.dimensions(array, [y, x] if facet is None else [facet, y, x], _OWNER)
    if len(set(keep)) < len(keep):
        raise ValueError(f"heatmap: x, y and facet must differ, got {', '.join(keep)}")
    if facet is not None and ax is not None:
        raise ValueError("heatmap: facet makes a figure of its own, so it takes no ax")
    numbers, share = _cells(data, array, keep, reduce)
    found = styles.limits(np.where(share.values < 0.5, numbers.values, np.nan))
    name = styles.title_of(array.name)
    if facet is None:
        ax = styles.axes(ax, (7.2, 1.6 + 0.42 * min(numbers.sizes[y], 10)))
        mesh, lost, some = _draw(ax, numbers, share, _colours(found))
        _key(ax, lost, some, found)
        ax.figure.colorbar(mesh, ax=ax, label=name, pad=0.02, extend=_extend(found))
        return ax
    return _facets(numbers, share, found, name, facet)


def _facets(
    numbers: xr.DataArray, share: xr.DataArray, found: styles.Limits, name: str, facet: str
) -> np.ndarray:
    grid, figure = styles.small_multiples(numbers.sizes[facet])
    mesh: Any = None
    for i, ax in enumerate(grid):
        mesh, _, _ = _draw(ax, numbers.isel({facet: i}), share.isel({facet: i}), _colours(found))
        words = selection.label([facet], [numbers[facet].values[i]])
        ax.set_title(styles.short(words, 34), fontsize="medium")
        ax.label_outer()
    figure.colorbar(mesh, ax=grid, label=name, pad=0.02, extend=_extend(found))
    return grid
