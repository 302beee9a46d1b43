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

__all__ = ["Range", "integers", "log_uniform", "random", "sobol", "uniform"]

Space = Mapping[str, "Range"]


class Range(NamedTuple):
    """Where a setting may lie.

    Attributes:
      low: the least value.
      high: the largest.
      log: whether its logarithm is what is spread evenly.
      whole: whether it is an integer, ``low`` and ``high`` included.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """The values below which these shares, in [0, 1), of the range lie, by its logarithm where it has one.

        Example:
          >>> import numpy as np
          >>> from gdjax import sweeps
          >>> sweeps.log_uniform(0.01, 1.0).spread(np.array([0.0, 0.5])).round(3).tolist()
          [0.01, 0.1]
        """
        shares = np.asarray(shares, float)
        if self.whole:
            return np.minimum(self.low + np.floor(shares * (self.high - self.low + 1)), self.high).astype(int)
        if self.log:
            values = np.exp(math.log(self.low) + shares * (math.log(self.high) - math.log(self.low)))
        else:
            values = self.low * (1 - shares) + self.high * shares
        return np.clip(values, self.low, self.high)


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


def _check(owner: str, space: Any, count: int) -> None:
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"{owner}: space must map names to ranges, such as uniform(0.0, 0.9)")
    for name, each in space.items():
        if not isinstance(each, Range):
            raise TypeError(
                f"{owner}: {name!r} must be a range, such as uniform(0.0, 0.9), got {type(each).__name__}"
            )
        if not (math.isfinite(each.low) and math.isfinite(each.high)):
            raise ValueError(f"{owner}: the range of {name!r} must be finite, got {each.low} to {each.high}")
    if count < 1:
        raise ValueError(f"{owner}: count must be at least 1, got {count}")


def random(space: Space, count: int, key: Any) -> dict[str, np.ndarray]:
    """Independent points of a space: of many settings of which few matter, more values of each than a grid.

    Args:
      space: from names to ranges: `uniform`, `log_uniform`, `integers`.
      count: how many points.
      key: a ``jax.random`` key, or an integer to make one of.

    Returns:
      An array of ``count`` values for each name; one axis of a sweep, see `sobol`.

    Raises:
      ValueError: an empty or infinite space, or no points.
      TypeError: if the space holds something else than ranges.

    Reference:
      Bergstra, J., & Bengio, Y. (2012). Random search for hyper-parameter optimization. JMLR 13, 281-305.

    Example:
      >>> from gdjax import sweeps
      >>> design = sweeps.random({"rate": sweeps.log_uniform(1e-3, 1.0), "depth": sweeps.integers(1, 3)}, 5, 0)
      >>> {name: values.shape for name, values in design.items()}
      {'rate': (5,), 'depth': (5,)}
    """
    _check("random", space, count)
    key = jax.random.key(key) if isinstance(key, int) else key
    keys = jax.random.split(key, len(space))
    bits = [np.asarray(jax.random.bits(each, (count,), "uint32"), float) for each in keys]
    return {
        name: each.spread((drawn + 0.5) / 2**32)
        for (name, each), drawn in zip(space.items(), bits, strict=True)
    }


def sobol(space: Space, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Points that fill a space evenly: Sobol's sequence, its binary digits flipped alike by a random shift.

    With a count that is a power of two every setting alone has one value in each ``count``-th part of its
    range. The first points of a longer design are those of a shorter one.

    Args:
      space: from names to ranges: `uniform`, `log_uniform`, `integers`.
      count: how many points.
      seed: of the shift, an integer.

    Returns:
      An array of ``count`` values for each name. As one axis of a sweep, ``{"sample": design}``, the trial
      receives ``sample``, a dictionary of one value for each name, and the dataset has the values as
      coordinates along ``sample``.

    Raises:
      ValueError: an empty or infinite space, or no points.
      TypeError: if the space holds something else than ranges.
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
    _check("sobol", space, count)
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise ImportError("sobol needs SciPy: pip install scipy") from error
    number = (count - 1).bit_length()
    bits = max(30, number)
    points = qmc.Sobol(len(space), scramble=False, bits=bits).random_base2(number)[:count]
    shift = np.random.default_rng(seed).integers(2**bits, size=len(space))
    shares = (((points * 2**bits).astype(np.int64) ^ shift) + 0.5) / 2**bits
    return {name: each.spread(shares[:, i]) for i, (name, each) in enumerate(space.items())}
