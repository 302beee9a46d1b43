"""First trials: how far along a new direction a search looks first."""

import jax.numpy as jnp

from gdjax.types import Scalar

__all__ = ["careful_unit", "carried_gain", "unit_step"]


def unit_step(along: Scalar, before: Scalar, slope: Scalar, gain: Scalar) -> Scalar:
    """The first trial of directions that know their length, such as Newton's: one.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., 2006, section 3.5.
    """
    del along, before, gain
    return jnp.ones_like(slope)


def careful_unit(along: Scalar, before: Scalar, slope: Scalar, gain: Scalar) -> Scalar:
    r"""The first trial :math:`\min(1, 4 (f_{k-1} - f_k) / |g_k^T p_k|)`: one, but at most twice the last gain.

    Meant for directions of bold length, such as those of a self-scaling quasi-Newton method. A quadratic gains half
    the slope by a step to its minimizer.

    Args:
      along: the last accepted step length; not looked at.
      before: the slope it started from; not looked at.
      slope: the slope of the new direction.
      gain: the last fall in value; 0 where there is none above rounding.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 3.60, with 2 in place of 1.01.
    """
    del along, before
    return jnp.where(gain > 0, jnp.minimum(1, -4 * gain / slope), 1)


def carried_gain(along: Scalar, before: Scalar, slope: Scalar, gain: Scalar | None = None) -> Scalar:
    r"""The first trial :math:`a_{k-1}\, g_{k-1}^T p_{k-1} / g_k^T p_k`: a first-order gain as large as the last.

    Args:
      along: the last accepted step length.
      before: the slope it started from.
      slope: the slope of the new direction.
      gain: the last fall in value; not looked at.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., section 3.5, initial step length.
    """
    del gain
    guess = along * before / slope
    return jnp.where(jnp.isfinite(guess) & (guess > 0), guess, 1)
