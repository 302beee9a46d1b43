r"""Rounds of a method for constraints: an inner method that sees a merit function, and what changes between rounds.

.. math:: \min_x f(x) \quad\text{subject to}\quad h(x) = 0, \; g(x) \le 0

A merit function :math:`f(x) + \psi(h(x), g(x); \lambda, \mu, \rho)` is minimized by any transformation, one update at a
time. Where it is low enough for now, the round ends: multipliers and penalty are renewed, and the inner method meets
its own answer again, with the value and gradient of the new function. The residual is that of the
Karush-Kuhn-Tucker conditions,

.. math:: \max\{\lVert \nabla_x L \rVert_2,\; \pi \lVert (h, \max(0, g)) \rVert_\infty,\;
    \lVert \min(-g, \mu) \rVert_\infty\}, \qquad \pi = \max(1, \lVert (\lambda, \mu) \rVert_\infty),

with violations at their price in the value, and complementarity last.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax import answers, checks, trees
from gdjax.constraints.doors import functions, not_nested, transformation_inside, values
from gdjax.constraints.merit import Constraints, Merit, MeritState, Point
from gdjax.constraints.optimality import added_within, conditions, penalty_within
from gdjax.types import Answer, Params, Scalar, Status, Transformation

__all__ = ["around"]

_LONGEST_ROUND = 100
"""Inner updates before a round ends though the inner method goes on."""
_STUBBORN = 6
"""Rounds in a row that do not lower the violation by a tenth, before it is taken to be as low as it gets."""
_PATIENCE = 10
"""Rounds in a row without progress before the method gives up."""
_FEASIBLE = 1e-6
"""Below this violation a point without a lower bound counts as unbounded, not as infeasible."""
_RETURN = 10
"""Updates that a larger penalty is given to lead back from beyond the constraints."""
_CANCELLED = 1e-2
"""How small the slope of the violation is, against the violation, where it counts as stationary."""
_TIGHTER = 0.1
"""What each round makes of the tolerance of the one before."""


def _largest(vector: jax.Array) -> Scalar:
    return jnp.max(jnp.abs(vector), initial=0)


def _violation(c: Point) -> Scalar:
    return jnp.maximum(_largest(c.equality), jnp.max(c.inequality, initial=0))


class _Settings(NamedTuple):
    merit: Merit
    inner: Transformation
    constraints: Constraints
    penalty: Any


def _init(settings, params):
    merit, inner, constraints, penalty = settings
    for name, function in constraints._asdict().items():
        if function is not None:
            jax.eval_shape(partial(values, merit.owner, name, function), params)
    shapes = jax.eval_shape(constraints.__call__, params)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    state = trees.strong(inner.init(params))
    not_nested(merit.owner, state)
    wide = trees.value_type(zeros.equality.dtype)
    unknown, none = jnp.asarray(jnp.inf, wide), jnp.int32(0)
    return MeritState(
        answer=Answer(answers.start(state, params), unknown, unknown, jnp.int8(Status.RUNNING)),
        optimality=trees.optimality(constraints, conditions, penalty_within),
        multipliers=constraints.structured(params, zeros),
        inner=state,
        penalty=jnp.asarray(penalty, zeros.equality.dtype),
        shift=zeros,
        constraints=zeros,
        tolerance=unknown,
        violation=unknown,
        slope=jnp.ones_like(unknown),
        lowest=-unknown,
        count=jnp.int32(-1),
        best=unknown,
        stubborn=none,
        idle=none,
    )


def _added(merit, constraints, shift, penalty, value_fn, params):
    extra = merit.value(constraints(params), shift, penalty)
    value = value_fn(params)
    return value + extra.astype(value.dtype)


class _Judged(NamedTuple):
    """What the inner method has made of the point given."""

    state: Any
    moves: Params
    accepted: Scalar
    params: Params
    stationarity: Scalar
    status: Scalar
    lost: Scalar


def _inner_update(inner, state, params, grad, value, value_fn, extra, before) -> _Judged:
    update = optax.with_extra_args_support(inner).update
    moves, new = update(grad, state, params, value=value, grad=grad, value_fn=value_fn, **extra)
    new = trees.keep_types(new, state)
    own = answers.seen(new, params, value, grad, before)
    if own is None:
        size = trees.norm(grad)
        lost = ~(jnp.isfinite(value) & jnp.isfinite(size))
        return _Judged(new, moves, jnp.asarray(True), params, size, jnp.int8(Status.RUNNING), lost)
    accepted, status = trees.all_equal(own.params, params), jnp.asarray(own.status, jnp.int8)
    lost = (status == Status.NONFINITE) & ~jnp.isfinite(own.residual)
    return _Judged(new, moves, accepted, own.params, own.residual, status, lost)


def _verdict(state, judged, violation, ended, value, eps) -> Scalar:
    """The method's own word: what the rounds have come to."""
    open_end = (judged.status == Status.UNBOUNDED) & (violation <= _FEASIBLE)
    bottom = -(eps**-2.5)
    floor = (judged.status == Status.NOISE_FLOOR) & (violation <= eps ** (2 / 3))
    tired = jnp.where(floor, Status.NOISE_FLOOR, Status.STALLED)
    status = jnp.where(ended & (state.idle >= _PATIENCE), tired, Status.RUNNING)
    lost = (state.stubborn >= _STUBBORN) & (violation > eps**0.25)
    status = jnp.where(lost, Status.INFEASIBLE, status)
    status = jnp.where(open_end | ((value < bottom) & (violation <= _FEASIBLE)), Status.UNBOUNDED, status)
    return status.astype(jnp.int8)


def _back_to(params: Params, target: Params) -> Params:
    """The update from one point to another, exact where a number allows it."""

    def one(x, q):
        update = q - x
        return update + (q - (x + update))

    return jax.tree.map(one, params, target)


class _Round(NamedTuple):
    """What has come of a round.

    Attributes:
      ended: whether it is over.
      still: whether the inner method could do nothing with its multipliers: moved again, they would run away.
      stuck: whether it ended because the inner method got no further.
      runaway: whether the objective fell beyond the constraints.
      hopeless: whether no direction lowers the violation.
    """

    ended: Scalar
    still: Scalar
    stuck: Scalar
    runaway: Scalar
    hopeless: Scalar


def _next_round(merit, state, seen: _Round, weights, violation, residual, eps):
    """Multipliers, penalty and tolerance for the round to come, where one has ended."""
    runaway = seen.runaway
    # No penalty lowers what rounding has left of a violation.
    enough = seen.stuck & (violation <= eps**0.5)
    enough |= violation <= jnp.maximum(0.25 * state.violation, eps**0.75)
    shift, penalty = merit.renew(weights, state.shift, state.penalty, enough)
    # The multipliers of a merit function that falls without limit mean nothing.
    shift = trees.choose(runaway | seen.still, state.shift, shift)
    # Walls may hold a point whatever the penalty: a larger one tells whether the objective or the violation does.
    kept = seen.still & (violation <= eps**0.25)
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
        stubborn=jnp.where(held, state.stubborn + 1, 0),
        idle=jnp.where(better, 0, state.idle + 1),
        count=jnp.int32(0),
    )
    return trees.choose(seen.ended, trees.keep_types(new, state), state)


def _update(
    settings, updates, state: MeritState, params=None, *, value: Any = None, value_fn: Any = None, **extra
):
    merit, inner, constraints, _ = settings
    checks.require("a method with constraints", params=params, value=value)
    extra.pop("grad", None)
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    c, pull = jax.vjp(constraints.__call__, params)
    eps = float(jnp.finfo(c.equality.dtype).eps)
    first = state.count < 0
    seen = trees.norm(updates).astype(f.dtype)
    seen = jnp.where(jnp.isfinite(seen), seen, state.slope)
    penalty = merit.start(state.penalty, f.astype(c.equality.dtype), c)
    state = state._replace(
        penalty=jnp.where(first & jnp.isfinite(penalty), penalty, state.penalty),
        tolerance=jnp.where(first, _TIGHTER * jnp.maximum(1, seen), state.tolerance),
        lowest=jnp.where(first, -jnp.maximum(1, jnp.abs(f)) / eps, state.lowest),
    )

    weights = merit.weights(c, state.shift, state.penalty)
    (slopes,) = pull(weights)
    grad = jax.tree.map(jnp.add, updates, slopes)
    total = f + merit.value(c, state.shift, state.penalty).astype(f.dtype)
    total = jnp.where(trees.all_finite(c), total, jnp.inf).astype(jnp.asarray(value).dtype)
    total_fn = None
    if value_fn is not None:
        total_fn = Partial(_added, merit, constraints, state.shift, state.penalty, value_fn)
    judged = _inner_update(inner, state.inner, params, grad, total, total_fn, extra, state.answer)

    keep = judged.accepted
    multipliers = trees.choose(keep, constraints.structured(params, weights), state.multipliers)
    c = trees.choose(keep, c, state.constraints)
    weights = merit.weights(c, state.shift, state.penalty)
    total = f + added_within(inner, judged.state, judged.params)
    f = jnp.where(keep, total.astype(f.dtype), state.answer.value)
    violation = _violation(c).astype(f.dtype)
    both = _largest(jnp.minimum(-c.inequality, weights.inequality)).astype(f.dtype)
    # A violation counts by what it is worth: the value that it hides is the multiplier times it.
    price = jnp.maximum(1, jnp.maximum(_largest(weights.equality), _largest(weights.inequality))).astype(
        f.dtype
    )
    residual = jnp.maximum(judged.stationarity.astype(f.dtype), jnp.maximum(price * violation, both))

    # The objective's slope where the answer is: that of a rejected trial may be infinite, at a root or a logarithm.
    slope, pull_back = jnp.where(keep, seen, state.slope), trees.norm(slopes).astype(f.dtype)
    # A sum is no more exact than its terms.
    terms = jnp.maximum(jnp.maximum(1, slope), jnp.where(keep & jnp.isfinite(pull_back), pull_back, 0))
    floor = jnp.maximum(state.tolerance, 10 * eps * terms)
    over = judged.status != Status.RUNNING
    # The penalty is too small to hold the objective: what is below all reason is beyond the constraints.
    runaway = (violation > _FEASIBLE) & ((f < state.lowest) | (judged.status == Status.UNBOUNDED))
    runaway = runaway & (state.count >= _RETURN)
    # So it is where the way down ends in a slope without end, a root's or a logarithm's, beyond the constraints.
    sheer = jnp.isfinite(total) & ~trees.all_finite(grad) | (total == -jnp.inf)
    runaway |= sheer & (violation > _FEASIBLE)
    # New multipliers deserve a step before they change again.
    settled = ((judged.stationarity <= floor) & (state.count > 0)) | over | runaway
    ended = settled | (state.count >= _LONGEST_ROUND)
    # Large multipliers that the constraints' slopes cancel: no direction lowers the violation. Where walls of the
    # inner method hold they need not cancel, but beside them the objective counts for nothing at a stationary point.
    still = (judged.stationarity <= floor) | (judged.status == Status.NOISE_FLOOR)
    aside = jnp.where(still, jnp.minimum(slope, pull_back), pull_back)
    hopeless = settled & (aside <= _CANCELLED * trees.norm(weights))
    count = jnp.maximum(state.count + 1, 1)
    new = state._replace(inner=judged.state, constraints=c, multipliers=multipliers, slope=slope, count=count)
    measure = jnp.maximum(violation, both)
    stuck = (judged.status == Status.NOISE_FLOOR) | (judged.status == Status.STALLED)
    seen = _Round(ended, over & (state.count == 0), stuck, runaway, hopeless)
    new = _next_round(merit, new, seen, weights, measure, residual, eps)
    status = _verdict(new, judged, violation, ended, f, eps)
    outside = first & merit.interior & ~(jnp.max(c.inequality, initial=-jnp.inf) < 0)
    # From a start whose gradient is not finite no round leads on.
    status = jnp.where(first & judged.lost, jnp.int8(Status.NONFINITE), status)
    status = jnp.where(outside, jnp.int8(Status.INFEASIBLE), status)
    answer = Answer(judged.params, f, residual, status)
    moves = trees.choose(ended, _back_to(params, judged.params), judged.moves)
    return moves, trees.keep_types(new._replace(answer=answer), state)


def around(
    merit: Merit, inner: Transformation, equality: Any, inequality: Any, penalty: Any
) -> Transformation:
    """The flat method that minimizes a merit function by an inner method.

    Args:
      merit: what is added to the objective.
      inner: any transformation.
      equality: ``params -> h``, an array or a pytree of arrays, or None.
      inequality: ``params -> g``, likewise.
      penalty: the first penalty parameter.
    """
    method: Any = transformation_inside(merit.owner, inner)
    functions(merit.owner, merit.interior, equality=equality, inequality=inequality)
    settings = _Settings(merit, method, Constraints(equality, inequality), penalty)
    return trees.with_settings(_init, _update, settings)
