"""What a problem is: an objective, where to start, and what is known of its solution."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.objectives import Objective
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import Params, Projection, Scalar, ScalarLike, ValueFn

__all__ = [
    "Optimum",
    "Problem",
    "Window",
    "alternating",
    "at_least",
    "box_start",
    "known",
    "square_window",
]

Window = tuple[tuple[float, float], tuple[float, float]]
"""The ranges of the first and second coordinate that a plot should show."""


class Optimum(NamedTuple):
    """A known minimizer and the objective's value there.

    Attributes:
      params: as float64 NumPy arrays, so that no precision is lost before it is asked for.
      value: a Python float.
    """

    params: Params
    value: float


class Problem(NamedTuple):
    """A named objective with its starting points and what is known of its solution.

    Attributes:
      name: as in the catalogue.
      objective: a function of params, or a `gdjax.Objective` on data.
      start: ``start()`` is the starting point of the literature, ``start(key)`` a random one.
      optima: all known global minimizers; empty where none is known or none exists.
      saddles: known critical points that are no minima.
      window: the ranges to plot, for problems with two coordinates that matter.
      tags: words to select by, such as "convex" or "data".
      regularizer: what a proximal method adds to the objective, or None.
      constraints: what the answer has to satisfy, or None.
      metrics: functions ``params -> scalar`` on held-out data, by name.
    """

    name: str
    objective: ValueFn | Objective
    start: Callable[..., Params]
    optima: tuple[Optimum, ...] = ()
    saddles: tuple[Params, ...] = ()
    window: Window | None = None
    tags: frozenset[str] = frozenset()
    regularizer: Regularizer | None = None
    constraints: Projection | None = None
    metrics: Mapping[str, Callable[[Params], Scalar]] | None = None

    @property
    def optimum(self) -> Optimum | None:
        """The first of the known optima."""
        return self.optima[0] if self.optima else None

    @property
    def value_fn(self) -> ValueFn:
        """The objective as a function of params alone, over all data."""
        if not isinstance(self.objective, Objective):
            return self.objective
        return self.objective.at(None) if self.objective.full is None else self.objective.full


def box_start(
    classic: Sequence[float], low: ScalarLike | Sequence[float], high: ScalarLike | Sequence[float]
) -> Callable[..., jax.Array]:
    """A start function: the ``classic`` point, or with a key a uniform draw between ``low`` and ``high``.

    Args:
      classic: the coordinates.
      low: a number, or one for each coordinate.
      high: the same.
    """
    shape = (len(classic),)
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)

    def start(key: jax.Array | None = None) -> jax.Array:
        if key is None:
            return jnp.asarray(classic, float)
        unit = jax.random.uniform(key, shape, float)
        return jnp.asarray(low, unit.dtype) + unit * jnp.asarray(high - low, unit.dtype)

    return start


def alternating(dim: int, odd: float, even: float) -> list[float]:
    """The coordinates ``odd, even, odd, ...``."""
    return [(odd, even)[i % 2] for i in range(dim)]


def at_least(owner: str, dim: int, least: int) -> None:
    """Raises where a problem is asked for in too few dimensions."""
    if dim < least:
        raise ValueError(f"{owner}: dim must be at least {least}, got {dim}")


def known(params: Params, value: float) -> Optimum:
    """An `Optimum` at the given coordinates."""
    return Optimum(np.asarray(params, np.float64), value)


def square_window(low: float, high: float) -> Window:
    """The same range for both coordinates."""
    return ((low, high), (low, high))
