r"""How Levenberg-Marquardt chooses :math:`\mu` from one trial to the next: by a radius, or by the gain ratio."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow
from gdjax.linalg.jacobians import Spectrum, damped_solve
from gdjax.linalg.subproblems import norm
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Acceptance
from gdjax.types import Scalar, ScalarLike

__all__ = ["Damping", "nielsen", "region"]


class Damping(NamedTuple):
    r"""How :math:`\mu` is chosen; two numbers a run, whatever they mean to it.

    Attributes:
      first: ``(spectrum, scaled_norm_of_x) -> numbers`` of shape (2,).
      next: ``(numbers, acceptance) -> numbers`` after a trial.
      shift: ``(numbers, spectrum) -> mu``.
    """

    first: Callable[[Spectrum, Scalar], jax.Array]
    next: Callable[[jax.Array, Acceptance], jax.Array]
    shift: Callable[[jax.Array, Spectrum], Scalar]


_SECULAR_STEPS = 30
"""Newton steps on the secular equation: two are the rule (Moré, 1978, section 5); where they fail it is halved."""


def _region_shift(numbers: jax.Array, found: Spectrum) -> Scalar:
    r"""The :math:`\mu \ge 0` at which the step is as long as the radius; 0 where Gauss-Newton's fits in."""
    radius = numbers[0]
    zero = jnp.zeros_like(radius)
    fits = norm(damped_solve(found, zero, found.rest)) <= radius
    high = norm(found.values * found.rest) / radius

    def off(state):
        *_, gap, count = state
        # Rounding of the length is what is left; where the whole step fits, nothing is asked for.
        return (gap > 4 * float(jnp.finfo(radius.dtype).eps)) & (count < _SECULAR_STEPS)

    def body(state):
        low, high, shift, _, count = state
        p = damped_solve(found, shift, found.rest) / radius
        size = norm(p)
        long = size > 1
        low, high = jnp.where(long, shift, low), jnp.where(long, high, shift)
        below = found.values**2 + shift
        steep = jnp.sum(jnp.where(below > 0, (p / size) ** 2 / jnp.where(below > 0, below, 1), 0))
        trial = shift + (size - 1) / steep
        middle = jnp.where(low > 1e-3 * high, 0.5 * (low + high), jnp.sqrt(high) * jnp.sqrt(1e-3 * high))
        following = jnp.where((trial > low) & (trial < high), trial, jnp.maximum(middle, low))
        return low, high, following, jnp.abs(size - 1), count + 1

    start = (zero, high, 1e-3 * high, jnp.where(fits, 0, jnp.inf).astype(radius.dtype), jnp.int32(0))
    shift = control_flow.while_loop(off, body, start)[2]
    return jnp.where(fits | ~jnp.isfinite(shift), 0, shift)


def _region_first(factor, found, size):
    slope = found.values * found.rest
    steepest = norm(slope)
    curved = norm(found.values * (slope / jnp.where(steepest > 0, steepest, 1)))
    point = steepest / jnp.where(curved > 0, curved, 1) / jnp.where(curved > 0, curved, 1)
    radius = factor * jnp.where(size > 0, size, jnp.where(point > 0, point, 1))
    # A first step that ends inside sets the scale.
    whole = norm(damped_solve(found, jnp.zeros_like(radius), found.rest))
    radius = jnp.where(whole > 0, jnp.minimum(radius, whole), radius)
    return jnp.stack([radius, radius])


def _region_next(numbers, tested):
    radius = numbers[0]
    reach = tested.length / tested.along
    good = (tested.ratio >= 0.75) & (reach >= 0.9 * radius)
    grown = jnp.where(good, jnp.maximum(radius, 2 * reach), radius)
    radius = acceptance.capped(jnp.where(tested.ratio < 0.25, tested.shrink * tested.length, grown))
    return jnp.stack([radius, radius])


def region(factor: ScalarLike = 1.0) -> Damping:
    r"""Damping by a radius: :math:`\mu` such that :math:`\lVert D p \rVert \le \Delta`.

    Args:
      factor: the first radius over :math:`\lVert D x_0 \rVert` (over the Cauchy step at :math:`x_0 = 0`), at
        most the length of the first Gauss-Newton step.

    Reference:
      Moré, The Levenberg-Marquardt algorithm: implementation and theory, LNM 630 (1978), sections 3 to 5.
    """
    checks.concrete("region", above=0, factor=factor)
    return Damping(Partial(_region_first, factor), _region_next, _region_shift)


def _nielsen_first(relative, found, size):
    del size
    first = relative * jnp.max(found.values) ** 2
    return jnp.stack([jnp.where(first > 0, first, 1), jnp.full_like(first, 2)])


def _nielsen_next(numbers, tested):
    shift, growth = numbers
    ratio = jnp.clip(tested.ratio, -1, 2)
    good = tested.ratio > 0
    least = jnp.finfo(shift.dtype).tiny
    lower = jnp.maximum(shift * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), least)
    higher = jnp.minimum(shift * growth, jnp.finfo(shift.dtype).max ** 0.5)
    return jnp.where(good, jnp.stack([lower, jnp.full_like(shift, 2)]), jnp.stack([higher, 2 * growth]))


def nielsen(relative: ScalarLike = 1e-3) -> Damping:
    r"""Damping that follows the gain ratio: :math:`\mu \max(\tfrac13, 1 - (2\rho - 1)^3)`, or times 2, 4, 8
    ...

    Args:
      relative: the first :math:`\mu` over the largest squared singular value.

    Reference:
      Madsen, Nielsen, Tingleff, Methods for non-linear least squares problems, 2004, equation 2.21.
    """
    checks.concrete("nielsen", above=0, relative=relative)
    return Damping(Partial(_nielsen_first, relative), _nielsen_next, lambda numbers, found: numbers[0])
