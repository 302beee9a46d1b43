"""Where settings may lie, and designs: points of such a space instead of a grid."""

from typing import NamedTuple

__all__ = ["Range", "integers", "log_uniform", "uniform"]


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
