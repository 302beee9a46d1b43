"""What the pictures share on the side of the drawing: an Axes, line styles that read in grey, words."""

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

__all__ = ["Limits", "axes", "cycle", "legend", "limits", "sequence", "short", "small_multiples", "title_of"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


_SPREAD = 30.0
"""Positive numbers over more than a decade and a half are told apart on a logarithmic scale."""
_FENCE = 3.0
"""Tukey's outer fence: what lies further from the quartiles than so many times their distance is far out."""
_PLAIN_FENCE = 10.0
"""The same where there are no logarithms: with so long a scale most numbers still have a tenth of it."""
_NEAR = 100.0
"""Positive numbers within two decades of the quartiles are never far out: a logarithmic scale shows them."""
_WORTH = 3.0
"""Numbers are left out of a scale where it is so many times as long with them."""


class Limits(NamedTuple):
    """What a scale runs between; numbers beyond are drawn at its ends, and marked.

    Attributes:
      low: its lower end.
      high: its upper end.
      logarithmic: whether all numbers are positive, and span more than a decade and a half of it.
      below: whether there are numbers below.
      above: whether there are numbers above.
    """

    low: float
    high: float
    logarithmic: bool
    below: bool
    above: bool


def limits(numbers: ArrayLike) -> Limits:
    """A scale on which most numbers can be told apart, whatever a few of them are.

    Those far from the quartiles by logarithms, or where not all are positive from the first and last tenth, are
    left out where the scale would be mostly theirs.

    Reference:
      Tukey, J. W. (1977). Exploratory Data Analysis, section 2D: the fences.

    Example:
      >>> from gdjax.plots import styles
      >>> styles.limits([1.0, 2.0, 3.0, 4.0, 5.0, 2e29])
      Limits(low=1.0, high=5.0, logarithmic=False, below=False, above=True)
    """
    numbers = np.asarray(numbers, float)
    numbers = np.sort(numbers[np.isfinite(numbers)], axis=None)
    if not numbers.size:
        return Limits(0.0, 1.0, False, False, False)
    positive, last = bool(numbers[0] > 0), numbers.size - 1
    places, share, fence = (np.log(numbers), 0.25, _FENCE) if positive else (numbers, 0.1, _PLAIN_FENCE)
    first, third = places[math.ceil(share * last)], places[math.floor((1 - share) * last)]
    reach = max(fence * (third - first), math.log(_NEAR) if positive else 0.0)
    inside = (places >= first - reach) & (places <= third + reach)
    if reach == 0:
        inside = np.ones(places.shape, bool)
    kept = places[inside]
    with np.errstate(over="ignore"):  # two ends of opposite sign may be further apart than any number
        if not places[-1] - places[0] > _WORTH * (kept[-1] - kept[0]):
            inside = np.ones(places.shape, bool)
    low, high = float(numbers[inside][0]), float(numbers[inside][-1])
    return Limits(
        low, high, positive and high / low > _SPREAD, bool(numbers[0] < low), bool(numbers[-1] > high)
    )


def short(text: str, most: int = 26) -> str:
    """A label that leaves room for what it labels."""
    return text if len(text) <= most else text[: most - 1] + "…"


def axes(ax: Axes | None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    """``ax``, or the Axes of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=size, layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes, got {type(ax).__name__}")
    return ax


def small_multiples(count: int) -> tuple[np.ndarray, Figure]:
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


def title_of(name: Hashable) -> str:
    """A variable's or dimension's name as words."""
    return str(name if name is not None else "value").replace("_", " ")


def legend(ax: Axes, count: int) -> None:
    """A legend where it hides least: inside for a few lines, beside the Axes for many."""
    if count > 7:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    else:
        ax.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize="small")
