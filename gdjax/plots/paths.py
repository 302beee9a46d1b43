"""Paths of runs over the contours of a function of two variables, still or moving."""

from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import matplotlib.patheffects as effects
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from gdjax.plots import selection, styles
from gdjax.problems.problem import Problem
from gdjax.types import ValueFn

__all__ = ["animate", "trajectories"]

Window: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
"""``((left, right), (bottom, top))``."""

_OWNER = "trajectories"
_GREYS = LinearSegmentedColormap.from_list("greys", ["0.72", "0.98"])
_HALO = [effects.Stroke(linewidth=3.2, foreground="white"), effects.Normal()]


def _paths(data: Any, variable: str | None) -> list[tuple[str, np.ndarray]]:
    """Each path with its label, an array of shape (steps, 2) that ends where the run does."""
    array = selection.traced(data, variable, _OWNER)
    place = array.dims.index("step")
    if array.shape[place + 1 :] != (2,):
        raise ValueError(
            f"{_OWNER}: {array.name or 'the array'} must be a point of 2 numbers at each step, it has shape "
            f"{array.shape[place + 1 :]}; record=lambda step: step.params of a function of two variables"
        )
    names = list(array.dims[:place])
    found = []
    for label, path in selection.lines(array, names, _OWNER):
        points = np.asarray(path.values, float)
        reached = np.isfinite(points).all(axis=1)
        found.append((label, points[: int(np.argmin(reached)) if not reached.all() else len(points)]))
    return found


def _window(objective: Any, window: Any, paths: list[tuple[str, np.ndarray]]) -> tuple:
    """((left, right), (bottom, top)): as asked, the problem's own, or around the paths."""
    window = getattr(objective, "window", None) if window is None else window
    if window is not None:
        bounds = np.asarray(window, float)
        if bounds.shape != (2, 2) or not np.all(bounds[:, 0] < bounds[:, 1]):
            raise ValueError(f"{_OWNER}: window must be ((left, right), (bottom, top)), got {window}")
        return tuple(map(tuple, bounds))
    points = np.concatenate([path for _, path in paths])
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-3)
    return tuple(zip(low - margin, high + margin, strict=True))


def _heights(objective: Any, window: tuple, count: int = 201) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The function on a grid over the window, as height above the lowest point of the grid."""
    value_fn = getattr(objective, "objective", objective)
    x, y = (np.linspace(low, high, count) for low, high in window)
    points = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), float)
    z = np.asarray(jax.jit(jax.vmap(value_fn))(points), float).reshape(count, count)
    return x, y, z - np.nanmin(np.where(np.isfinite(z), z, np.nan))


def _levels(z: np.ndarray) -> np.ndarray:
    """Logarithmic levels from the floor of the valley to the rim."""
    positive = z[np.isfinite(z) & (z > 0)]
    if not positive.size:
        return np.array([])
    high = positive.max()
    low = max(np.quantile(positive, 0.002), high * 1e-5)
    return np.geomspace(low, high, 14) if low < high else np.array([])


def _scene(ax: Axes, objective: Any, window: tuple) -> None:
    """Contours, the optimum, limits and labels."""
    if objective is not None:
        x, y, z = _heights(objective, window)
        levels = _levels(z)
        if levels.size:
            norm = LogNorm(levels[0], levels[-1])
            ax.contourf(x, y, np.maximum(z, levels[0]), levels, cmap=_GREYS, norm=norm, zorder=0)
            ax.contour(x, y, z, levels, colors="0.55", linewidths=0.5, zorder=1)
    for i, point in enumerate(np.atleast_2d(_optimum(objective))):
        ax.plot(
            *point, ls="none", marker="*", ms=15, mfc="#F0E442", mec="black", mew=0.9, zorder=5,
            label="optimum" if i == 0 else None,
        )  # fmt: skip
    ax.set_xlim(*window[0])
    ax.set_ylim(*window[1])
    ax.set_xlabel("x[0]")
    ax.set_ylabel("x[1]")


def _optimum(objective: Any) -> np.ndarray:
    optimum = getattr(objective, "optimum", None)
    points = getattr(optimum, "params", optimum)
    if points is None:
        return np.zeros((0, 2))
    points = np.asarray(points, float)
    return points if points.size and points.shape[-1] == 2 else np.zeros((0, 2))


def _walk(ax: Axes, paths: list[tuple[str, np.ndarray]]) -> list[tuple[Any, Any]]:
    """Each path as a line and the marker at its end; the starts as open circles."""
    drawn = []
    for (label, path), look in zip(paths, styles.cycle(len(paths)), strict=True):
        marker = look.pop("marker")
        (line,) = ax.plot(
            *path.T, lw=1.7, path_effects=_HALO, zorder=3, marker=marker, markevery=[-1] if len(path) else [],
            ms=7.5, mec="white", mew=0.9, label=label or None, **look,
        )  # fmt: skip
        drawn.append((line, path))
    starts = np.unique([path[0] for _, path in paths if len(path)], axis=0)
    ax.plot(
        *starts.T, ls="none", marker="o", ms=7, mfc="white", mec="black", mew=1.2, zorder=4, label="start"
    )  # fmt: skip
    return drawn


def _draw(ax: Axes, objective: Any, window: tuple, paths: list) -> tuple[Axes, list[tuple[Any, Any]]]:
    _scene(ax, objective, window)
    lines = _walk(ax, paths)
    styles.legend(ax, len(paths))
    return ax, lines


def trajectories(
    data: xr.Dataset | xr.DataArray,
    objective: Problem | ValueFn | None = None,
    *,
    variable: str | None = None,
    window: Window | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draws the paths of runs over logarithmic contours of their objective.

    Starts are open circles, ends the marker of the line, optima stars.

    Args:
      data: what `gdjax.sweep` returned for runs with ``record=lambda step: step.params``, or that
        variable of it: dimensions (..., step, 2); every combination of the others is a path.
      objective: a `gdjax.problems.Problem`, which brings its window and optimum, or a function of
        an array of shape (2,); None draws no contours.
      variable: the variable to draw; the only one along ``step`` by default.
      window: ((left, right), (bottom, top)); the problem's, else around the paths.
      ax: the Axes to draw into; a new figure's by default.

    Returns:
      The Axes.

    Raises:
      ValueError: an unknown variable, points that are not of two numbers, too many paths.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from gdjax import plots
      >>> path = 0.9 ** np.arange(30)[:, None] * np.array([1.0, -2.0])
      >>> data = xr.DataArray(path, dims=("step", "trace_0"), name="trace")
      >>> plots.trajectories(data, lambda x: x @ x).get_xlabel()
      'x[0]'
    """
    paths = _paths(data, variable)
    window = _window(objective, window, paths)
    return _draw(styles.axes(ax, (6.0, 4.8)), objective, window, paths)[0]


def animate(
    data: xr.Dataset | xr.DataArray,
    objective: Problem | ValueFn,
    path: str | Path,
    *,
    variable: str | None = None,
    window: Window | None = None,
    frames: int = 60,
) -> Path:
    """Writes the picture of `trajectories` as an animated GIF, 20 frames a second.

    Frames lie closer where runs start, which is where they move most.

    Args:
      data: as for `trajectories`.
      objective: as for `trajectories`.
      path: the file to write.
      variable: as for `trajectories`.
      window: as for `trajectories`.
      frames: how many, at least 2.

    Returns:
      The path of the file.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from gdjax import plots
      >>> path = 0.9 ** np.arange(5)[:, None] * np.array([1.0, -2.0])
      >>> data = xr.DataArray(path, dims=("step", "x_0"), coords={"step": range(5)}, name="x")
      >>> plots.animate(data, lambda x: x @ x, "path.gif", frames=2).name
      'path.gif'
    """
    from matplotlib.animation import PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if frames < 2:
        raise ValueError(f"animate: frames must be at least 2, got {frames}")
    array = selection.traced(data, variable, "animate")
    steps = array["step"].values
    figure = Figure(figsize=(6.0, 4.8), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    paths = _paths(data, variable)
    ax, lines = _draw(figure.add_subplot(), objective, _window(objective, window, paths), paths)
    rows = np.unique((np.linspace(0, 1, frames) ** 2 * (len(steps) - 1)).round().astype(int))
    writer = PillowWriter(fps=20)
    with writer.saving(figure, str(path), dpi=90):
        for row in [*rows, *[rows[-1]] * 20]:
            for line, points in lines:
                shown = points[: row + 1]
                line.set_data(*shown.T)
                line.set_markevery([len(shown) - 1])
            ax.set_title(f"step {steps[row]}", fontsize="medium")
            writer.grab_frame()
    return Path(path)
