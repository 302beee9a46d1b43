"""Schedules that rise before they fall."""

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments, checks
from gdjax.schedules.decay import Schedule, half_cosine, progress
from gdjax.types import ScalarLike

__all__ = ["cyclic", "one_cycle", "one_cycle_linear", "warmup"]


def _warmup(schedule, steps, start, count):
    risen = start + (schedule(0) - start) * progress(count, steps)
    return jnp.where(count < steps, risen, schedule(jnp.maximum(count - steps, 0)))


def warmup(schedule: Schedule, steps: ScalarLike, *, start: ScalarLike = 0.0) -> Schedule:
    """A straight line from ``start`` to the schedule's first value, then the schedule from its beginning.

    Args:
      schedule: any schedule, of gdjax or optax; not shortened by the warm-up.
      steps: the length of the line, at least 0.
      start: the value at count 0, at least 0.

    Reference:
      Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017, section 2.2.

    Example:
      >>> import gdjax
      >>> rate = gdjax.schedules.warmup(gdjax.schedules.inverse_sqrt(1.0), 10)
      >>> [float(rate(t)) for t in (0, 5, 10, 13)]
      [0.0, 0.5, 1.0, 0.5]
    """
    checks.function("warmup", "count", "such as gdjax.schedules.cosine(0.1, 1000)", schedule=schedule)
    checks.concrete("warmup", low=0, steps=steps, start=start)
    schedule = schedule if isinstance(schedule, Partial) else Partial(schedule)
    return Partial(_warmup, schedule, steps, start)


def _cyclic(low, high, half, shrink, count):
    cycle = jnp.floor(count / (2 * half))
    height = 1 - jnp.abs(count / half - 2 * cycle - 1)
    return low + (high - low) * jnp.maximum(height, 0) * jnp.power(shrink, cycle)


def cyclic(low: ScalarLike, high: ScalarLike, half: ScalarLike, *, shrink: ScalarLike = 1.0) -> Schedule:
    """Triangles: up from ``low`` to ``high`` in ``half`` steps, down in as many, and again.

    Args:
      low: the least value, at least 0.
      high: the value at the first peak, at least 0.
      half: half the length of a cycle, positive.
      shrink: each cycle's height over the one before; 0.5 is the paper's ``triangular2``.

    Reference:
      Smith, Cyclical learning rates for training neural networks, WACV 2017, section 3.1.

    Example:
      >>> import gdjax
      >>> [float(gdjax.schedules.cyclic(0.0, 1.0, 10, shrink=0.5)(t)) for t in (0, 10, 20, 30)]
      [0.0, 1.0, 0.0, 0.5]
    """
    checks.number("cyclic", "low", low, arguments.Range(low=0))
    checks.number("cyclic", "high", high, arguments.Range(low=0))
    checks.concrete("cyclic", above=0, half=half, shrink=shrink)
    return Partial(_cyclic, low, high, half, shrink)


def _bend(fractions, steps, count):
    """Progress through the phases that end at ``fractions`` of ``steps`` (whole steps) and at its end."""
    ends = [jnp.floor(fraction * steps) for fraction in fractions] + [steps]
    starts = [0, *ends[:-1]]
    return [progress(count - a, b - a) for a, b in zip(starts, ends, strict=True)]


def _one_cycle(peak, steps, rise, divisor, final_divisor, count):
    up, down = _bend((rise,), steps, count)
    low = peak / divisor
    last = low / final_divisor
    risen = peak + (low - peak) * half_cosine(up)
    return jnp.where(up < 1, risen, last + (peak - last) * half_cosine(down))


def one_cycle(
    peak: ScalarLike,
    steps: ScalarLike,
    *,
    rise: ScalarLike = 0.3,
    divisor: ScalarLike = 25.0,
    final_divisor: ScalarLike = 1e4,
) -> Schedule:
    """One cycle with cosine slopes, as optax's ``cosine_onecycle_schedule``.

    From ``peak / divisor`` up to ``peak``, then down to ``peak / (divisor * final_divisor)``.

    Args:
      peak: the largest value, at least 0.
      steps: the length of the cycle, positive.
      rise: the part of it that goes up, in (0, 1), to whole steps.
      divisor: peak over the first value, positive.
      final_divisor: the first value over the last, positive.

    Reference:
      Smith, Topin, Super-convergence: very fast training of neural networks using large learning
      rates, 2017, section 3, with cosines for its straight lines.

    Example:
      >>> import gdjax
      >>> [round(float(gdjax.schedules.one_cycle(1.0, 100)(t)), 4) for t in (0, 30, 65, 100)]
      [0.04, 1.0, 0.5, 0.0]
    """
    checks.concrete("one_cycle", low=0, peak=peak)
    checks.concrete("one_cycle", above=0, steps=steps, divisor=divisor, final_divisor=final_divisor)
    checks.concrete("one_cycle", above=0, below=1, rise=rise)
    return Partial(_one_cycle, peak, steps, rise, divisor, final_divisor)


def _one_cycle_linear(peak, steps, rise, fall, divisor, final_divisor, count):
    up, down, out = _bend((rise, fall), steps, count)
    low = peak / divisor
    last = low / final_divisor
    return low + (peak - low) * (up - down) + (last - low) * out


def one_cycle_linear(
    peak: ScalarLike,
    steps: ScalarLike,
    *,
    rise: ScalarLike = 0.3,
    fall: ScalarLike = 0.85,
    divisor: ScalarLike = 25.0,
    final_divisor: ScalarLike = 1e4,
) -> Schedule:
    """One cycle of three straight lines, as optax's ``linear_onecycle_schedule``.

    From ``peak / divisor`` up to ``peak``, back, and on to ``peak / (divisor * final_divisor)``.

    Args:
      peak: the largest value, at least 0.
      steps: the length of the cycle, positive.
      rise: where the rise ends, as a part of ``steps``, in (0, 1), to whole steps.
      fall: where the fall ends, likewise, above ``rise``.
      divisor: peak over the first value, positive.
      final_divisor: the first value over the last, positive.

    Reference:
      Smith, Topin, Super-convergence: very fast training of neural networks using large learning
      rates, 2017, section 3.

    Example:
      >>> import gdjax
      >>> rate = gdjax.schedules.one_cycle_linear(1.0, 100, rise=0.4, fall=0.8, divisor=10.0)
      >>> [round(float(rate(t)), 2) for t in (0, 20, 40, 80, 100)]
      [0.1, 0.55, 1.0, 0.1, 0.0]
    """
    checks.concrete("one_cycle_linear", low=0, peak=peak)
    checks.concrete("one_cycle_linear", above=0, steps=steps, divisor=divisor, final_divisor=final_divisor)
    checks.concrete("one_cycle_linear", above=0, below=1, rise=rise, fall=fall)
    ends = arguments.known(rise), arguments.known(fall)
    if ends[0] is not None and ends[1] is not None and ends[0] >= ends[1]:
        raise ValueError(f"one_cycle_linear: fall must be above rise, got rise={rise} and fall={fall}")
    return Partial(_one_cycle_linear, peak, steps, rise, fall, divisor, final_divisor)
