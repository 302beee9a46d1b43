"""How methods that judge their own progress end: the words that several of them share."""

from typing import Any

import jax.numpy as jnp

from gdjax.types import Scalar, Status

__all__ = ["ended", "faded", "fell"]

_FADING = 0.9
"""What is left of the largest curvature with each step: what held far away says nothing of rounding here."""


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
