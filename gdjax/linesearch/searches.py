r"""Line searches without a loop: each call judges one trial and names the next.

Along a direction :math:`p` from the point :math:`x`, with :math:`\phi(a) = f(x + a p)`, a search is told
:math:`\phi(0)` and :math:`\phi'(0)` once and then one trial :math:`(a, \phi(a), \phi'(a))` a call. It keeps a bracket and
answers: accept, try another step, or give up. A trial that is NaN or infinite counts as too long.
Where a change in value is below ``noise``, the rounding of values, slopes decide instead (approximate Wolfe).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax.trees import choose
from gdjax.types import Scalar

__all__ = ["ACCEPT", "CONTINUE", "GIVE_UP", "Bracket", "Point", "Search", "backtracking", "hager_zhang", "strong_wolfe"]

CONTINUE, ACCEPT, GIVE_UP = 0, 1, 2
"""What a search decides about a trial."""

_MOST_TRIALS = 30
_GROWTH = 10.0


class Point(NamedTuple):
    r"""A step :math:`a` along the direction, :math:`\phi(a)` and :math:`\phi'(a)`."""

    step: Scalar
    value: Scalar
    slope: Scalar


class Bracket(NamedTuple):
    """What a search knows.

    Attributes:
      origin: the point at step zero.
      low: the lowest point that gains enough.
      high: the other end; an infinite step while there is none.
      step: the next trial.
      longest: the longest step allowed.
      width: the bracket's width two trials ago.
      trials: trials judged so far.
      settled: whether the next trial is `low` again, to be accepted as the best to be had.
    """

    origin: Point
    low: Point
    high: Point
    step: Scalar
    longest: Scalar
    width: Scalar
    trials: Scalar
    settled: Scalar


class Search(NamedTuple):
    """A pure pair.

    Attributes:
      init: ``(value, slope, step) -> Bracket`` from the origin and the first trial step.
      update: ``(Bracket, Point, noise) -> (decision, Bracket)``.
    """

    init: Callable[[Scalar, Scalar, Scalar, Scalar], Bracket]
    update: Callable[[Bracket, Point, Scalar], tuple[Scalar, Bracket]]


def _start(value, slope, step, longest):
    origin = Point(jnp.zeros_like(step), value, slope)
    infinite = jnp.full_like(step, jnp.inf)
    nowhere = Point(infinite, infinite, jnp.zeros_like(step))
    return Bracket(origin, origin, nowhere, jnp.minimum(step, longest), longest, infinite, jnp.int32(0), jnp.asarray(False))


def _cubic(a: Point, b: Point) -> Scalar:
    """The minimizer of the cubic through two points (Nocedal and Wright, equation 3.59); NaN where none is."""
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    d2 = jnp.sign(b.step - a.step) * jnp.sqrt(d1 * d1 - a.slope * b.slope)
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)


def _secant(a: Point, b: Point) -> Scalar:
    """Where the slope vanishes, if it is linear."""
    return a.step - a.slope * (b.step - a.step) / (b.slope - a.slope)


def _finite(point: Point) -> Scalar:
    return jnp.isfinite(point.value) & jnp.isfinite(point.slope)


def _decide(accept, give_up):
    return jnp.where(accept, ACCEPT, jnp.where(give_up, GIVE_UP, CONTINUE))


def _gains(origin, trial, noise, c1):
    """The Armijo condition, or where values drown in rounding its form in slopes (Hager and Zhang, T2)."""
    by_value = trial.value <= origin.value + c1 * trial.step * origin.slope
    by_slope = (trial.value <= origin.value + noise) & (trial.slope <= (2 * c1 - 1) * origin.slope)
    return _finite(trial) & (by_value | by_slope)


def _inside(low, high, width, noise):
    """The next trial between the ends: interpolated, kept off the ends, halved where the bracket shrinks slowly."""
    span = high.step - low.step
    drowned = jnp.abs(high.value - low.value) <= noise
    fraction = (jnp.where(drowned, _secant(low, high), _cubic(low, high)) - low.step) / span
    fraction = jnp.where(jnp.isfinite(fraction), jnp.clip(fraction, 0.1, 0.9), 0.5)
    fraction = jnp.where(jnp.isfinite(high.value), fraction, 0.2)
    slow = jnp.abs(span) > 0.66 * width
    return low.step + span * jnp.where(slow & jnp.isfinite(high.value), 0.5, fraction)


def _beyond(before, trial):
    """The next trial where the slope is still steep and nothing bounds the step yet."""
    guess = _cubic(before, trial)
    guess = jnp.where(jnp.isfinite(guess) & (guess > trial.step), guess, jnp.inf)
    return jnp.clip(guess, 2 * trial.step, _GROWTH * trial.step)


def _wolfe_update(c1, c2, state, trial, noise):
    origin, low, high = state.origin, state.low, state.high
    gains = _gains(origin, trial, noise, c1)
    flat_enough = jnp.abs(trial.slope) <= -c2 * origin.slope
    accept = gains & flat_enough | state.settled & (trial.value <= origin.value + noise)

    shorter = ~gains | (trial.value > low.value + noise)
    turned = ~shorter & (trial.slope * (high.step - low.step) >= 0)
    trial = choose(_finite(trial), trial, Point(trial.step, jnp.full_like(trial.value, jnp.inf), trial.slope * 0))
    new_high = choose(shorter, trial, choose(turned, low, high))
    new_low = choose(shorter, low, trial)
    open_end = jnp.isinf(new_high.step)
    accept |= open_end & (trial.step >= 0.99 * state.longest)
    step = jnp.where(open_end, jnp.minimum(_beyond(low, trial), state.longest), _inside(new_low, new_high, state.width, noise))

    trials = state.trials + 1
    width = jnp.abs(new_high.step - new_low.step)
    eps = jnp.finfo(step.dtype).eps
    done = (trials >= _MOST_TRIALS) | (width <= 4 * eps * new_low.step)
    settle = done & (new_low.step > 0) & ~state.settled
    step = jnp.where(settle, new_low.step, step)
    give_up = (done & (new_low.step <= 0)) | state.settled
    before = jnp.abs(high.step - low.step)
    return _decide(accept, give_up), Bracket(origin, new_low, new_high, step, state.longest, before, trials, settle)


def strong_wolfe(c1: Any = 1e-4, c2: Any = 0.9) -> Search:
    return Search(Partial(_start), Partial(_wolfe_update, c1, c2))


def _weak_update(c1, c2, state, trial, noise):
    return _wolfe_update(c1, c2, state, trial, noise)


def backtracking(c1: Any = 1e-4) -> Search:
    return Search(Partial(_start), Partial(_backtrack_update, c1))


def _backtrack_update(c1, state, trial, noise):
    origin = state.origin
    accept = _gains(origin, trial, noise, c1)
    a = trial.step
    guess = -0.5 * origin.slope * a * a / (trial.value - origin.value - a * origin.slope)
    step = jnp.clip(jnp.where(jnp.isfinite(guess), guess, 0), 0.1 * a, 0.5 * a)
    trials = state.trials + 1
    return _decide(accept, trials >= _MOST_TRIALS), state._replace(step=step, trials=trials)


def hager_zhang(c1: Any = 0.1, c2: Any = 0.9) -> Search:
    return strong_wolfe(c1, c2)
