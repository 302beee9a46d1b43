"""How methods that test their own trials end: what several of them share."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gdjax.types import Scalar, Status

__all__ = ["Progress", "ended", "faded", "fell"]

_FADING = 0.9
"""What is left of the largest curvature with each step: what held far away says nothing of rounding here."""


class Progress(NamedTuple):
    """Whether a residual still falls where it is below the noise level.

    Attributes:
      idle: steps below the noise level since it last halved.
      least: the residual then.
    """

    idle: Scalar
    least: Scalar

    def after(self, residual: Scalar, below_noise: Scalar) -> "Progress":
        """The progress after a step.

        Args:
          residual: after it.
          below_noise: whether that is as small as rounding allows.
        """
        # Rounding moves a residual, but seldom to its half.
        better = residual < 0.5 * self.least
        return Progress(
            jnp.where(below_noise & ~better, self.idle + 1, 0), jnp.where(better, residual, self.least)
        )


def ended(over: Scalar, below_noise: Scalar, finite: Any = True) -> Scalar:
    """RUNNING until it is over; then NOISE_FLOOR below the noise level, else STALLED or NONFINITE.

    Args:
      over: whether no progress is to be expected.
      below_noise: whether the residual is as small as rounding allows.
      finite: whether the last trial was.
    """
    lost = jnp.where(finite, Status.STALLED, Status.NONFINITE)
    status = jnp.where(over, jnp.where(below_noise, Status.NOISE_FLOOR, lost), Status.RUNNING)
    return status.astype(jnp.int8)


def faded(largest: Scalar, curvature: Scalar, told: Scalar) -> Scalar:
    """The largest curvature along late steps, from which rounding of gradients is judged.

    Args:
      largest: before this step.
      curvature: the change of the gradient over the step's length.
      told: whether the step tells of it, and is not rounding itself.
    """
    return jnp.where(told, jnp.maximum(curvature, _FADING * largest), largest)


def fell(value: Scalar, dtype: Any = None) -> Scalar:
    """Whether a value has fallen out of the range in which differences mean anything.

    Args:
      value: the objective's.
      dtype: whose range; the value's by default.
    """
    limit = float(jnp.finfo(value.dtype if dtype is None else dtype).max) ** 0.5
    return value < -limit
