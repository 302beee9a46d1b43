"""Schedules that fall."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.types import Scalar, ScalarLike

__all__ = [
    "constant",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "polynomial",
    "step_decay",
]

Schedule = Callable[[Any], Scalar]


def progress(count: ScalarLike, steps: ScalarLike) -> Scalar:
    """How much of ``steps`` has passed, in [0, 1]; all of it where ``steps`` is not positive."""
    within = jnp.clip(count, 0, steps)
    return jnp.where(steps > 0, within / jnp.where(steps > 0, steps, 1), 1.0)


def _constant(value, count):
    del count
    return value


def constant(value: ScalarLike) -> Schedule:
    """The same value at every count, as optax's ``constant_schedule``.

    Example:
      >>> import gdjax
      >>> gdjax.schedules.constant(0.5)(100)
      0.5
    """
    checks.concrete("constant", low=0, value=value)
    return Partial(_constant, value)


def _inverse_time(initial, count):
    return initial / jnp.maximum(count, 1)


def inverse_time(initial: ScalarLike) -> Schedule:
    r""":math:`\eta_0 / t`, and :math:`\eta_0` at :math:`t = 0`, where the formula has no value.

    Args:
      initial: :math:`\eta_0`, at least 0.

    Reference:
      Robbins, Monro, A stochastic approximation method, Ann. Math. Statist. 22, 1951, section 4.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.inverse_time(1.0)(t)) for t in (0, 1, 2, 4)]
      [1.0, 1.0, 0.5, 0.25]
    """
    checks.concrete("inverse_time", low=0, initial=initial)
    return Partial(_inverse_time, initial)


def _inverse_sqrt(initial, count):
    return initial / jnp.sqrt(count + 1.0)


def inverse_sqrt(initial: ScalarLike) -> Schedule:
    r""":math:`\eta_0 / \sqrt{t + 1}`.

    Args:
      initial: :math:`\eta_0`, at least 0.

    Reference:
      Zinkevich, Online convex programming and generalized infinitesimal gradient ascent, ICML 2003,
      Theorem 1.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.inverse_sqrt(1.0)(t)) for t in (0, 3, 15)]
      [1.0, 0.5, 0.25]
    """
    checks.concrete("inverse_sqrt", low=0, initial=initial)
    return Partial(_inverse_sqrt, initial)


def _step_decay(initial, factor, every, count):
    return initial * jnp.power(factor, jnp.floor_divide(count, every) * 1.0)


def step_decay(initial: ScalarLike, factor: ScalarLike, every: ScalarLike) -> Schedule:
    r""":math:`\eta_0 \gamma^{\lfloor t / n \rfloor}`, as optax's ``exponential_decay`` with ``staircase``.

    Args:
      initial: :math:`\eta_0`, at least 0.
      factor: :math:`\gamma`, positive.
      every: :math:`n`, steps between two falls, at least 1.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.step_decay(1.0, 0.5, 10)(t)) for t in (0, 9, 10, 25)]
      [1.0, 1.0, 0.5, 0.25]
    """
    checks.concrete("step_decay", low=0, initial=initial)
    checks.concrete("step_decay", above=0, factor=factor)
    checks.concrete("step_decay", low=1, every=every)
    return Partial(_step_decay, initial, factor, every)


def _exponential(initial, factor, steps, end, count):
    value = initial * jnp.power(factor, count / steps)
    if end is None:
        return value
    return jnp.where(factor < 1, jnp.maximum(value, end), jnp.minimum(value, end))


def exponential(
    initial: ScalarLike, factor: ScalarLike, steps: ScalarLike = 1, *, end: ScalarLike | None = None
) -> Schedule:
    r""":math:`\eta_0 \gamma^{t / n}`, as optax's ``exponential_decay``.

    Args:
      initial: :math:`\eta_0`, at least 0.
      factor: :math:`\gamma`, positive: the fall (or rise) over ``steps``.
      steps: :math:`n`, positive.
      end: the value, at least 0, at which the schedule stops to fall (or to rise); None: nowhere.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.exponential(1.0, 0.25, 10)(t)) for t in (0, 5, 10)]
      [1.0, 0.5, 0.25]
    """
    checks.concrete("exponential", low=0, initial=initial)
    checks.concrete("exponential", above=0, factor=factor, steps=steps)
    checks.optional("exponential", low=0, end=end)
    return Partial(_exponential, initial, factor, steps, end)


def _polynomial(initial, end, power, steps, begin, count):
    left = 1 - progress(count - begin, steps)
    return end + (initial - end) * jnp.where(left > 0, jnp.power(jnp.where(left > 0, left, 1), power), 0)


def polynomial(
    initial: ScalarLike, end: ScalarLike, power: ScalarLike, steps: ScalarLike, *, begin: ScalarLike = 0
) -> Schedule:
    r""":math:`\eta_T + (\eta_0 - \eta_T)(1 - t/T)^p`, then :math:`\eta_T`, as ``optax.polynomial_schedule``.

    Args:
      initial: :math:`\eta_0`, at least 0.
      end: :math:`\eta_T`, at least 0.
      power: :math:`p`, positive.
      steps: :math:`T`, positive.
      begin: how many steps stay at ``initial`` before, at least 0.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.polynomial(1.0, 0.0, 2, 10)(t)) for t in (0, 5, 10, 11)]
      [1.0, 0.25, 0.0, 0.0]
    """
    checks.concrete("polynomial", low=0, initial=initial, end=end, begin=begin)
    checks.concrete("polynomial", above=0, power=power, steps=steps)
    return Partial(_polynomial, initial, end, power, steps, begin)


def linear(initial: ScalarLike, end: ScalarLike, steps: ScalarLike, *, begin: ScalarLike = 0) -> Schedule:
    """A straight line from ``initial`` to ``end``, then ``end``, as optax's ``linear_schedule``.

    Args:
      initial: the value at the start, at least 0.
      end: the value from ``begin + steps`` on, at least 0.
      steps: the length of the line, positive.
      begin: how many steps stay at ``initial`` before, at least 0.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.linear(1.0, 0.0, 10)(t)) for t in (0, 5, 10, 11)]
      [1.0, 0.5, 0.0, 0.0]
    """
    checks.concrete("linear", low=0, initial=initial, end=end, begin=begin)
    checks.concrete("linear", above=0, steps=steps)
    return Partial(_polynomial, initial, end, 1.0, steps, begin)


def half_cosine(progress):
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _cosine(initial, steps, end, exponent, count):
    fall = half_cosine(progress(count, steps))
    return end + (initial - end) * jnp.where(fall > 0, jnp.power(jnp.where(fall > 0, fall, 1), exponent), 0)


def cosine(
    initial: ScalarLike, steps: ScalarLike, *, end: ScalarLike = 0.0, exponent: ScalarLike = 1.0
) -> Schedule:
    r"""Half a wave of a cosine, then ``end``, as optax's ``cosine_decay_schedule``.

    .. math:: \eta_T + (\eta_0 - \eta_T) \left[\tfrac12 (1 + \cos(\pi t / T))\right]^p

    Args:
      initial: :math:`\eta_0`, at least 0.
      steps: :math:`T`, positive.
      end: :math:`\eta_T`, a value of at least 0 (optax's ``alpha`` is the fraction ``end / initial``).
      exponent: :math:`p`, positive.

    Reference:
      Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation (5).

    Example:
      >>> import gdjax
      >>> [round(float(gdjax.schedules.cosine(1.0, 30)(t)), 4) for t in (0, 10, 30, 31)]
      [1.0, 0.75, 0.0, 0.0]
    """
    checks.concrete("cosine", low=0, initial=initial, end=end)
    checks.concrete("cosine", above=0, steps=steps, exponent=exponent)
    return Partial(_cosine, initial, steps, end, exponent)
