"""How rounds of a method for constraints end: what they have come to, what changes for the next, and the last word."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import trees
from gdjax.optimizers.constrained.merit import Merit, MeritState, Point, Scales
from gdjax.types import Params, Scalar, State, Status

__all__ = [
    "InnerUpdate",
    "Round",
    "Way",
    "next_round",
    "residual_of",
    "seen_of",
    "slackness",
    "termination_status",
    "violation_of",
]

_LONGEST_ROUND = 100
"""Inner updates before a round ends though the inner method goes on."""
_NO_PROGRESS = 6
"""Rounds in a row that do not lower the violation by a tenth, before it is taken to be as low as it gets."""
_PATIENCE = 10
"""Rounds in a row without progress before the method gives up."""
_FEASIBLE = 1e-6
"""Below this violation a point without a lower bound counts as unbounded, not as infeasible."""
_RETURN = 10
"""Updates that a larger penalty is given to lead back from beyond the constraints."""
_CANCELLED = 1e-2
"""How small the slope of the violation is, against the violation, where it counts as stationary."""
_ROUNDING = 10
"""That of constraints and gradients, in units of eps times their size."""
_TIGHTER = 0.1
"""What each round makes of the tolerance of the one before."""


def _largest(vector: jax.Array) -> Scalar:
    return jnp.max(jnp.abs(vector), initial=0)


def violation_of(c: Point) -> Scalar:
    """The largest violation."""
    return jnp.maximum(_largest(c.equality), jnp.max(c.inequality, initial=0))


def slackness(c: Point, weights: Point) -> Scalar:
    """How far inequalities and their multipliers are from one of them being zero."""
    return _largest(jnp.minimum(-c.inequality, weights.inequality))


def residual_of(
    stationarity: Scalar, scales: Scales, raw: Point, c: Point, weights: Point, eps: float
) -> Scalar:
    """That of the Karush-Kuhn-Tucker conditions, in the units of params and of the objective as the method scales it.

    In its own, rounding alone of a large one is more than any tolerance, and beside what the first violations promise
    a small one leaves room for others.

    Args:
      stationarity: the inner method's residual.
      scales: the units.
      raw: the constraints as they were given.
      c: as the method sees them.
      weights: their multipliers.
      eps: the unit of rounding.
    """
    # A violation counts by what it is worth: the value that it hides is the multiplier times it.
    price = jnp.maximum(1, jnp.maximum(_largest(weights.equality), _largest(weights.inequality)))
    # In large units it is to be small in these too, as far as their numbers go.
    spacing = jax.tree.map(lambda scale: _ROUNDING * eps / scale, scales.constraints)
    beyond = Point(
        jnp.maximum(jnp.abs(raw.equality) - spacing.equality, 0), raw.inequality - spacing.inequality
    )
    # A slope is a value over a length: so that values compare with slopes.
    worth = jnp.maximum(price * violation_of(c), slackness(c, weights)) / scales.length
    return jnp.maximum(stationarity, jnp.maximum(worth, violation_of(beyond)))


class Way(NamedTuple):
    """Where the answer stands, in the units of the method.

    Attributes:
      value: of the objective.
      slope: the norm of its gradient.
      pull: the norm of what the constraints add to it at the point given.
      weights: the norm of the multipliers.
      least: the smallest slope that counts.
      violation: the largest.
    """

    value: Scalar
    slope: Scalar
    pull: Scalar
    weights: Scalar
    least: Scalar
    violation: Scalar


class Round(NamedTuple):
    """What has come of a round.

    Attributes:
      ended: whether it is over.
      still: whether the inner method could do nothing with its multipliers: moved again, they would run away.
      stuck: whether it ended because the inner method got no further.
      rounded: whether the slope that is left is the rounding of those that it is the sum of.
      runaway: whether the objective fell beyond the constraints.
      hopeless: whether no direction lowers the violation.
    """

    ended: Scalar
    still: Scalar
    stuck: Scalar
    rounded: Scalar
    runaway: Scalar
    hopeless: Scalar


class InnerUpdate(NamedTuple):
    """What the inner method has made of the point given."""

    state: State
    moves: Params
    accepted: Scalar
    params: Params
    value: Scalar
    stationarity: Scalar
    status: Scalar
    lost: Scalar


def seen_of(
    updated: InnerUpdate, state: MeritState, way: Way, keep: Scalar, sheer: Scalar, eps: float
) -> Round:
    """What has come of a round.

    Args:
      updated: what the inner method has made of the point given.
      state: before it.
      way: where the answer stands.
      keep: whether it is the point given.
      sheer: whether the point given lies lower, at the foot of a slope without end.
      eps: the unit of rounding.
    """
    # A sum is no more exact than its terms.
    terms = jnp.maximum(
        jnp.maximum(way.least, way.slope), jnp.where(keep & jnp.isfinite(way.pull), way.pull, 0)
    )
    rounding = _ROUNDING * eps * terms
    floor = jnp.maximum(state.tolerance, rounding)
    over = updated.status != Status.RUNNING
    # The penalty is too small to hold the objective: what is below all reason is beyond the constraints.
    beyond = way.violation > _FEASIBLE
    runaway = beyond & ((way.value < state.lowest) | (updated.status == Status.UNBOUNDED))
    runaway = runaway & (state.count >= _RETURN)
    # So it is where the way down ends in a slope without end, a root's or a logarithm's, beyond the constraints.
    runaway |= beyond & sheer
    # New multipliers deserve a step before they change again.
    settled = ((updated.stationarity <= floor) & (state.count > 0)) | over | runaway
    ended = settled | (state.count >= _LONGEST_ROUND)
    # Large multipliers that the constraints' slopes cancel: no direction lowers the violation. Where bounds of the
    # inner method hold they need not cancel, but beside them the objective counts for nothing at a stationary point.
    still = (updated.stationarity <= floor) | (updated.status == Status.NOISE_FLOOR)
    aside = jnp.where(still, jnp.minimum(way.slope, way.pull), way.pull)
    hopeless = settled & (aside <= _CANCELLED * way.least * way.weights)
    stuck = (updated.status == Status.NOISE_FLOOR) | (updated.status == Status.STALLED)
    rounded = updated.stationarity <= rounding
    return Round(ended, over & (state.count == 0), stuck, rounded, runaway, hopeless)


def next_round(
    merit: Merit,
    state: MeritState,
    seen: Round,
    weights: Point,
    violation: Scalar,
    residual: Scalar,
    eps: float,
) -> MeritState:
    """Multipliers, penalty and tolerance for the round to come, where one has ended."""
    runaway = seen.runaway
    # No penalty lowers what rounding has left of a violation.
    enough = seen.stuck & (violation <= eps**0.5)
    enough |= violation <= jnp.maximum(0.25 * state.violation, eps**0.75)
    shift, penalty = merit.renew(weights, state.shift, state.penalty, enough)
    # The multipliers of a merit function that falls without limit mean nothing.
    shift = trees.choose(runaway | seen.still, state.shift, shift)
    # Bounds may hold a point whatever the penalty: a larger one tells whether the objective or the violation does.
    kept = seen.still & (violation <= max(_FEASIBLE, eps**0.5))
    penalty = jnp.where(runaway, 10 * state.penalty, jnp.where(kept, state.penalty, penalty))
    penalty = jnp.minimum(penalty, eps**-0.75)
    finite = trees.all_finite(shift)
    better = residual < 0.9 * state.best
    held = (violation > 0.9 * state.violation) & (violation > eps**0.25) & seen.hopeless
    new = state._replace(
        shift=trees.choose(finite, shift, state.shift),
        penalty=penalty.astype(state.penalty.dtype),
        tolerance=_TIGHTER * state.tolerance,
        violation=violation,
        best=jnp.minimum(residual, state.best),
        no_progress=jnp.where(held, state.no_progress + 1, 0),
        idle=jnp.where(better, 0, state.idle + 1),
        count=jnp.int32(0),
    )
    return trees.choose(seen.ended, trees.keep_types(new, state), state)


def termination_status(
    state: MeritState, inner: Scalar, violation: Scalar, seen: Round, value: Scalar, eps: float
) -> Scalar:
    """The method's own word: what the rounds have come to."""
    open_end = (inner == Status.UNBOUNDED) & (violation <= _FEASIBLE)
    bottom = -(eps**-2.5)
    # The inner method may have no time to say so, where each round ends at a slope that is rounding.
    exact = seen.rounded & (state.violation <= eps ** (2 / 3))
    floor = ((inner == Status.NOISE_FLOOR) & (violation <= eps ** (2 / 3))) | exact
    stalled = jnp.where(floor, Status.NOISE_FLOOR, Status.STALLED)
    status = jnp.where(seen.ended & (state.idle >= _PATIENCE), stalled, Status.RUNNING)
    lost = (state.no_progress >= _NO_PROGRESS) & (violation > eps**0.25)
    status = jnp.where(lost, Status.INFEASIBLE, status)
    status = jnp.where(open_end | ((value < bottom) & (violation <= _FEASIBLE)), Status.UNBOUNDED, status)
    return status.astype(jnp.int8)
