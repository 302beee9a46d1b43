r"""Line searches without a loop: each call judges one trial and names the next.

Along a direction :math:`p` from a point :math:`x`, with :math:`\phi(a) = f(x + a p)`, a search is told
:math:`\phi(0)` and :math:`\phi'(0)` at its start, then one trial :math:`(a, \phi(a), \phi'(a))` a call. It keeps a
bracket in its state and answers: accept, try another step, or give up. A trial that is NaN or infinite
counts as too long. Where changes in value are below ``noise``, the rounding of values, slopes decide
instead, as in Hager and Zhang's approximate Wolfe conditions.

A point is an array of three numbers, ``[step, value, slope]``, so that a choice between points is one operation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax.types import Scalar

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "GIVE_UP",
    "Bracket",
    "Search",
    "backtracking",
    "hager_zhang",
    "strong_wolfe",
]

CONTINUE, ACCEPT, GIVE_UP = 0, 1, 2
"""What a search decides about a trial."""

_MOST_TRIALS = 30
_SETTLED = 1000


class Bracket(NamedTuple):
    """What a search knows.

    Attributes:
      points: shape ``(3, 3)``: the origin, the lowest point that gains enough, and the other end,
        at an infinite step while there is none; each row is ``[step, value, slope]``.
      step: the next trial.
      trials: trials judged so far; above a thousand when the next trial is the lowest point again,
        to be accepted as the best to be had.
    """

    points: jax.Array
    step: Scalar
    trials: Scalar


class Search(NamedTuple):
    """A pure pair.

    Attributes:
      init: ``(value, slope, step) -> Bracket``, from the origin and the first trial step.
      update: ``(bracket, trial, noise, longest) -> (decision, bracket)`` with a trial point, the rounding
        of values, and the longest step allowed.
    """

    init: Callable[[Scalar, Scalar, Scalar], Bracket]
    update: Callable[[Bracket, jax.Array, Scalar, Scalar], tuple[Scalar, Bracket]]


def _start(value, slope, step):
    zero, infinite = jnp.zeros_like(value), jnp.full_like(value, jnp.inf)
    points = jnp.stack([zero, value, slope, zero, value, slope, infinite, infinite, zero]).reshape(3, 3)
    return Bracket(points, step, jnp.int32(0))


def _cubic(a, b):
    """The minimizer of the cubic through two points (Nocedal and Wright, equation 3.59); NaN where none is."""
    span = b[0] - a[0]
    d1 = a[2] + b[2] + 3 * (a[1] - b[1]) / span
    d2 = jnp.sign(span) * jnp.sqrt(d1 * d1 - a[2] * b[2])
    return b[0] - span * (b[2] + d2 - d1) / (b[2] - a[2] + 2 * d2)


def _secant(a, b):
    """Where the slope vanishes, if it is linear."""
    return a[0] - a[2] * (b[0] - a[0]) / (b[2] - a[2])


def _by_cubic(before, low, high, trial, trials, noise):
    del before, trial, trials
    drowned = jnp.abs(high[1] - low[1]) <= noise
    return jnp.where(drowned, _secant(low, high), _cubic(low, high))


def _by_secants(before, low, high, trial, trials, noise):
    """Secant, second secant from the end that was replaced, bisection, in turn."""
    del noise
    middle = 0.5 * (low[0] + high[0])
    second = _secant(before, trial)
    turn = trials % 3
    return jnp.where(turn == 0, middle, jnp.where(turn == 1, _secant(low, high), second))


def _bracket_update(rule, interpolate, constants, bracket, trial, noise, longest):
    """Zooms: one trial narrows the bracket or moves its open end (Nocedal and Wright, algorithms 3.5 and 3.6)."""
    origin, low, high = bracket.points
    settled, open_before = bracket.trials >= _SETTLED, jnp.isinf(high[0])
    finite = jnp.isfinite(trial[1]) & jnp.isfinite(trial[2])
    trial = jnp.where(
        jnp.stack([True | finite, finite, finite]),
        trial,
        jnp.stack([trial[0], high[1] + jnp.inf, 0 * trial[0]]),
    )
    gains, flat_enough = rule(constants, origin, trial, noise)
    shorter = ~gains | (trial[1] > low[1] + noise)
    turned = (trial[2] >= 0) == (high[0] >= low[0])
    new_high = jnp.where(shorter, trial, jnp.where(turned, low, high))
    new_low = jnp.where(shorter, low, trial)
    open_end = jnp.isinf(new_high[0])
    accept = gains & (flat_enough | (open_end & (trial[0] >= 0.99 * longest)))
    accept |= settled & (trial[1] <= origin[1] + noise)

    ahead = _cubic(low, trial)
    ahead = jnp.where(ahead > trial[0], ahead, jnp.inf)
    ahead = jnp.minimum(jnp.clip(ahead, 2 * trial[0], 10 * trial[0]), longest)
    span = new_high[0] - new_low[0]
    before = jnp.where(shorter & ~open_before, high, low)
    inside = (interpolate(before, new_low, new_high, trial, bracket.trials, noise) - new_low[0]) / span
    inside = jnp.where(jnp.isfinite(inside) & (bracket.trials % 4 < 3), jnp.clip(inside, 0.1, 0.9), 0.5)
    inside = jnp.where(jnp.isfinite(new_high[1]), inside, 0.2)
    step = jnp.where(open_end, ahead, new_low[0] + span * inside)

    done = (bracket.trials >= _MOST_TRIALS) | (jnp.abs(span) <= 4 * jnp.finfo(span.dtype).eps * new_low[0])
    settle = done & (new_low[0] > 0) & ~settled
    decision = jnp.where(accept, ACCEPT, jnp.where(done & ~settle, GIVE_UP, CONTINUE)).astype(jnp.int32)
    step = jnp.where(settle, new_low[0], step)
    trials = jnp.where(settle, _SETTLED, bracket.trials + 1).astype(jnp.int32)
    return decision, Bracket(jnp.stack([origin, new_low, new_high]), step, trials)


def _gains(c1, origin, trial, noise):
    """The Armijo condition, or its form in slopes where values drown in rounding."""
    by_value = trial[1] <= origin[1] + c1 * trial[0] * origin[2]
    by_slope = (trial[1] <= origin[1] + noise) & (trial[2] <= (2 * c1 - 1) * origin[2])
    return jnp.isfinite(trial[1]) & (by_value | by_slope)


def _strong_rule(constants, origin, trial, noise):
    c1, c2 = constants
    return _gains(c1, origin, trial, noise), jnp.abs(trial[2]) <= -c2 * origin[2]


def _weak_rule(constants, origin, trial, noise):
    c1, c2 = constants
    return _gains(c1, origin, trial, noise), trial[2] >= c2 * origin[2]


def strong_wolfe(c1: Any = 1e-4, c2: Any = 0.9) -> Search:
    return Search(
        Partial(_start), Partial(_bracket_update, Partial(_strong_rule), Partial(_by_cubic), (c1, c2))
    )


def hager_zhang(c1: Any = 0.1, c2: Any = 0.9) -> Search:
    return Search(
        Partial(_start), Partial(_bracket_update, Partial(_weak_rule), Partial(_by_secants), (c1, c2))
    )


def _backtracking_update(c1, bracket, trial, noise, longest):
    del longest
    origin, a = bracket.points[0], trial[0]
    accept = _gains(c1, origin, trial, noise) & jnp.isfinite(trial[2])
    guess = -0.5 * origin[2] * a * a / (trial[1] - origin[1] - a * origin[2])
    step = jnp.clip(jnp.where(jnp.isfinite(guess), guess, 0), 0.1 * a, 0.5 * a)
    done = bracket.trials >= _MOST_TRIALS
    decision = jnp.where(accept, ACCEPT, jnp.where(done, GIVE_UP, CONTINUE)).astype(jnp.int32)
    return decision, bracket._replace(step=step, trials=bracket.trials + 1)


def backtracking(c1: Any = 1e-4) -> Search:
    return Search(Partial(_start), Partial(_backtracking_update, c1))
