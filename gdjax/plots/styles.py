"""What the pictures share on the side of the drawing: an Axes, line styles that read in grey, words."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

__all__ = ["axes", "cycle", "legend", "sequence", "small_multiples", "title_of"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def axes(ax: Axes | None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    """``ax``, or the Axes of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=size, layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes, got {type(ax).__name__}")
    return ax


def small_multiples(count: int) -> tuple[np.ndarray, Any]:
    """``count`` Axes in rows of at most three on one scale, and their new figure."""
    import matplotlib.pyplot as plt

    columns = min(count, 3)
    rows = -(-count // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.6 * columns + 1, 2.9 * rows), squeeze=False, layout="constrained",
        sharex=True, sharey=True,
    )  # fmt: skip
    for ax in grid.flat[count:]:
        ax.set_visible(False)
    return grid.reshape(-1)[:count], figure


def cycle(count: int) -> list[dict[str, Any]]:
    """Colour, dashes and marker of ``count`` lines, no two alike in grey."""
    return [
        {
            "color": _COLOURS[i % len(_COLOURS)],
            "linestyle": _DASHES[i % len(_DASHES)],
            "marker": _MARKERS[(i + i // len(_MARKERS)) % len(_MARKERS)],
        }
        for i in range(count)
    ]


def sequence(count: int) -> list[dict[str, Any]]:
    """Colours of ``count`` lines in an order, dark to light but never pale."""
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, max(count, 2)))
    styles = cycle(count)
    return [{**style, "color": tuple(colour)} for style, colour in zip(styles, colours, strict=False)]


def title_of(name: Any) -> str:
    """A variable's or dimension's name as words."""
    return str(name if name is not None else "value").replace("_", " ")


def legend(ax: Axes, count: int) -> None:
    """A legend where it hides least: inside for a few lines, beside the Axes for many."""
    if count > 7:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    else:
        ax.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize="small")
