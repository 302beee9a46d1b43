r"""Where settings may lie, and designs: points of such a space instead of a grid.

A design is used as one axis, whose trial receives one point as a dictionary::

    design = sweeps.sobol({"learning_rate": sweeps.log_uniform(1e-4, 1.0)}, 64)
    sweep(trial, {"sample": design, "seed": range(8)})      # trial(sample, seed)
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from gdjax.sweeps.axes import Static, static
from gdjax.types import KeyLike

__all__ = ["Choices", "Range", "as_place", "integers", "log_uniform", "random", "sobol", "uniform"]

Space = Mapping[str, Any]
"""From names to a `Range`, a list of numbers to choose from, or one of Optuna's distributions."""


class Range(NamedTuple):
    """Where a setting may lie.

    Attributes:
      low: the least value.
      high: the largest.
      log: whether its logarithm is what is spread evenly.
      whole: whether it is an integer, ``low`` and ``high`` included.
      step: the distance of neighbouring values, counted from ``low``; 0 for all numbers, or all integers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    step: float = 0.0

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """The values below which these shares, in [0, 1), of the range lie, by its logarithm where it has one.

        Example:
          >>> import numpy as np
          >>> from gdjax import sweeps
          >>> sweeps.log_uniform(0.01, 1.0).spread(np.array([0.0, 0.5])).round(3).tolist()
          [0.01, 0.1]
          >>> sweeps.Range(0.0, 1.0, step=0.25).spread(np.array([0.0, 0.5, 0.99])).tolist()
          [0.0, 0.5, 1.0]
        """
        shares, step = np.asarray(shares, float), self.step or float(self.whole)
        if self.log and self.whole:  # an integer for each interval of numbers that round to it
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return np.clip(np.round(np.exp(low + shares * (high - low))), self.low, self.high).astype(int)
        if step:
            # Of 0 to 0.3 in steps of 0.1 there are 4, though 0.3 / 0.1 is 2.9999999999999996.
            count = math.floor((self.high - self.low) / step * (1 + 1e-12)) + 1
            values = self.low + step * np.minimum(np.floor(shares * count), count - 1)
            return values.astype(int) if self.whole else values
        if self.log:
            values = np.exp(math.log(self.low) + shares * (math.log(self.high) - math.log(self.low)))
        else:
            values = self.low * (1 - shares) + self.high * shares
        return np.clip(values, self.low, self.high)


class Choices(NamedTuple):
    """What a setting may be, without an order.

    Attributes:
      offered: what a study sees, plain values: those of the trial, or their labels.
      values: what the trial receives.
      labels: a word for each.
      numbers: the values as an array where they are numbers, which one program serves; else None.
    """

    offered: tuple[Any, ...]
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    numbers: np.ndarray | None

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """As many of each, by shares in [0, 1)."""
        assert self.numbers is not None
        count = len(self.values)
        return self.numbers[np.minimum((np.asarray(shares) * count).astype(int), count - 1)]


def _choices(values: Any) -> Choices:
    if isinstance(values, Static):
        return Choices(values.labels, values.values, values.labels, None)
    values = tuple(each.item() if isinstance(each, np.generic) else each for each in values)
    labels = static([str(each) for each in values] if all(map(_is_plain, values)) else values).labels
    numbers = all(isinstance(each, bool | int | float) for each in values)
    return Choices(
        values if all(map(_is_plain, values)) else labels,
        values,
        labels,
        np.asarray(values) if numbers else None,
    )


def _is_plain(value: Any) -> bool:
    """What Optuna takes as a choice."""
    return value is None or isinstance(value, bool | int | float | str)


def as_place(owner: str, name: str, value: object) -> Range | Choices:
    """Where a setting may lie, from what the user wrote for it.

    Args:
      owner: who asks.
      name: the setting's.
      value: a `Range`; a list or array of choices; `static` choices; one of Optuna's distributions, known by its
        attributes, since Optuna need not be there.

    Raises:
      TypeError: if it is something else, such as a pair, which might mean a range or two choices.
      ValueError: a range that is infinite or has no numbers, choices that are none or twice the same.
    """
    given: Any = value  # whose attributes tell what it is
    if isinstance(value, Static | list | range):
        found: Range | Choices = _choices(value)
    elif isinstance(value, np.ndarray | jax.Array) and np.ndim(value) == 1:
        found = _choices(np.asarray(value))
    elif not isinstance(value, Range) and hasattr(given, "choices"):
        found = _choices(list(given.choices))
    elif hasattr(given, "low") and hasattr(given, "high"):
        whole = getattr(given, "whole", isinstance(given.low, int) and type(given).__name__.startswith("Int"))
        step = float(getattr(given, "step", None) or 0)
        found = Range(given.low, given.high, bool(given.log), whole, 0.0 if whole and step == 1 else step)
    else:
        pair = " (of a pair it is not known whether it is a range or two choices)" if _is_pair(value) else ""
        raise TypeError(
            f"{owner}: {name!r} must be a range, such as uniform(0.0, 0.9), or a list of choices, got "
            f"{type(value).__name__}{pair}"
        )
    if isinstance(found, Range):
        if not (math.isfinite(found.low) and math.isfinite(found.high)):
            raise ValueError(
                f"{owner}: the range of {name!r} must be finite, got {found.low} to {found.high}"
            )
        if found.low > found.high or (found.log and found.low <= 0):
            raise ValueError(
                f"{owner}: the range of {name!r} has no numbers, got {found.low} to {found.high}"
            )
    return found


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _checked(owner: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{owner}: low must be below high, got {low} and {high}")


def uniform(low: float, high: float) -> Range:
    """Evenly from ``low`` to ``high``.

    Example:
      >>> import gdjax
      >>> gdjax.sweeps.uniform(0.0, 0.9).log
      False
    """
    _checked("uniform", low, high)
    return Range(low, high)


def log_uniform(low: float, high: float) -> Range:
    """Evenly by the logarithm from ``low`` > 0 to ``high``.

    Example:
      >>> import gdjax
      >>> gdjax.sweeps.log_uniform(1e-4, 1.0).log
      True
    """
    _checked("log_uniform", low, high)
    if low <= 0:
        raise ValueError(f"log_uniform: low must be positive, got {low}")
    return Range(low, high, log=True)


def integers(low: int, high: int) -> Range:
    """The integers from ``low`` to ``high``, both included.

    Example:
      >>> import gdjax
      >>> gdjax.sweeps.integers(1, 6).whole
      True
    """
    _checked("integers", low, high)
    return Range(low, high, whole=True)


def _places(owner: str, space: Any, count: int) -> dict[str, Range | Choices]:
    """A space, checked, for designs: all of its settings are numbers."""
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"{owner}: space must map names to ranges, such as uniform(0.0, 0.9)")
    places = {name: as_place(owner, name, each) for name, each in space.items()}
    for name, place in places.items():
        if isinstance(place, Choices) and place.numbers is None:
            raise TypeError(
                f"{owner}: the choices of {name!r} are not numbers; let them be an axis of their own beside the "
                f"design: {name}=gdjax.static([...])"
            )
    if count < 1:
        raise ValueError(f"{owner}: count must be at least 1, got {count}")
    return places


def random(space: Space, count: int, key: KeyLike) -> dict[str, np.ndarray]:
    """Independent points of a space: of many settings of which few matter, more values of each than a grid.

    Args:
      space: from names to ranges (`uniform`, `log_uniform`, `integers`), lists of numbers to choose from, or
        Optuna's distributions.
      count: how many points.
      key: a ``jax.random`` key, or an integer to make one of.

    Returns:
      An array of ``count`` values for each name; one axis of a sweep, see `sobol`.

    Raises:
      ValueError: an empty or infinite space, or no points.
      TypeError: if the space holds something else than ranges and choices of numbers.

    Reference:
      Bergstra, J., & Bengio, Y. (2012). Random search for hyper-parameter optimization. JMLR 13, 281-305.

    Example:
      >>> from gdjax import sweeps
      >>> design = sweeps.random({"rate": sweeps.log_uniform(1e-3, 1.0), "depth": sweeps.integers(1, 3)}, 5, 0)
      >>> {name: values.shape for name, values in design.items()}
      {'rate': (5,), 'depth': (5,)}
    """
    places = _places("random", space, count)
    key = jax.random.key(key) if isinstance(key, int) else key
    keys = jax.random.split(key, len(space))
    bits = [np.asarray(jax.random.bits(each, (count,), "uint32"), float) for each in keys]
    return {
        name: each.spread((drawn + 0.5) / 2**32)
        for (name, each), drawn in zip(places.items(), bits, strict=True)
    }


def sobol(space: Space, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Points that fill a space evenly: Sobol's sequence, its binary digits flipped alike by a random shift.

    With a count that is a power of two every setting alone has one value in each ``count``-th part of its
    range. The first points of a longer design are those of a shorter one.

    Args:
      space: from names to ranges (`uniform`, `log_uniform`, `integers`), lists of numbers to choose from, or
        Optuna's distributions.
      count: how many points.
      seed: of the shift, an integer.

    Returns:
      An array of ``count`` values for each name. As one axis of a sweep, ``{"sample": design}``, the trial
      receives ``sample``, a dictionary of one value for each name, and the dataset has the values as
      coordinates along ``sample``.

    Raises:
      ValueError: an empty or infinite space, or no points.
      TypeError: if the space holds something else than ranges and choices of numbers.
      ImportError: without SciPy.

    Reference:
      Joe, S., & Kuo, F. Y. (2008). Constructing Sobol sequences with better two-dimensional projections.
      SIAM J. Sci. Comput. 30(5), 2635-2654. L'Ecuyer, P., & Lemieux, C. (2002). Recent advances in
      randomized quasi-Monte Carlo methods, section 3.3: the digital shift.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> from gdjax import sweeps
      >>> design = sweeps.sobol({"rate": sweeps.log_uniform(0.01, 1.0), "scale": sweeps.uniform(1.0, 2.0)}, 8)
      >>> def trial(sample):
      ...     return gdjax.Run(lambda x: sample["scale"] * x**2, jnp.ones(()),
      ...                      gdjax.gradient_descent(sample["rate"]), stop=None, max_steps=20)
      >>> runs = gdjax.sweep(trial, {"sample": design}, progress=False)
      >>> runs.rate.dims
      ('sample',)
    """
    places = _places("sobol", space, count)
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise ImportError("sobol needs SciPy: pip install scipy") from error
    number = (count - 1).bit_length()
    bits = max(30, number)
    points = qmc.Sobol(len(space), scramble=False, bits=bits).random_base2(number)[:count]
    shift = np.random.default_rng(seed).integers(2**bits, size=len(space))
    shares = (((points * 2**bits).astype(np.int64) ^ shift) + 0.5) / 2**bits
    return {name: each.spread(shares[:, i]) for i, (name, each) in enumerate(places.items())}
