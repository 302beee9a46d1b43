r"""What penalty, barrier and augmented Lagrangian methods share: an inner method that sees a merit function.

.. math:: \min_x f(x) \quad\text{subject to}\quad h(x) = 0, \; g(x) \le 0

A merit function :math:`f(x) + \psi(h(x), g(x); \lambda, \mu, \rho)` is minimized by any transformation, one update at a
time. Where it is low enough for now, the round ends: multipliers and penalty are renewed, and the inner method meets
its own answer again, with the value and gradient of the new function. The residual is that of the
Karush-Kuhn-Tucker conditions,

.. math:: \max\{\lVert \nabla_x L \rVert_2,\; \lVert h \rVert_\infty,\;
    \lVert \min(-g, \mu) \rVert_\infty\},

whose last part is the violation of :math:`g \le 0` and of complementarity in one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax import checks, trees
from gdjax.types import Answer, Params, Scalar, Status, Transformation

__all__ = ["Merit", "MeritState", "Multipliers", "around"]

_LONGEST_ROUND = 100
"""Inner updates before a round ends though the inner method goes on."""
_STUBBORN = 6
"""Rounds in a row that do not lower the violation by a tenth, before it is taken to be as low as it gets."""
_PATIENCE = 10
"""Rounds in a row without progress before the method gives up."""
_FEASIBLE = 1e-6
"""Below this violation a point without a lower bound counts as unbounded, not as infeasible."""
_TIGHTER = 0.1
"""What each round makes of the tolerance of the one before."""


class Multipliers(NamedTuple):
    r"""What the constraints cost: :math:`\nabla f + J_h^T \lambda + J_g^T \mu = 0` at a solution.

    Attributes:
      equality: :math:`\lambda`, with the structure that the equality constraints return, or None.
      inequality: :math:`\mu \ge 0`, likewise.
    """

    equality: Any
    inequality: Any


class Point(NamedTuple):
    """Constraints and multipliers as vectors: one pair of each."""

    equality: jax.Array
    inequality: jax.Array


class MeritState(NamedTuple):
    """State of every method that minimizes a merit function.

    Attributes:
      answer: the point that the inner method has accepted; its value is that of the objective alone.
      multipliers: the estimates there.
      inner: the inner method's state.
      penalty: the penalty parameter.
      shift: the multipliers that the merit function is built on.
      constraints: their values at the answer.
      tolerance: how low the gradient of the merit function has to be for the round to end.
      violation: of the answer of the round before.
      count: updates in this round; -1 before the first of all.
      best: the lowest residual at the end of a round.
      stubborn: rounds in a row that have not lowered the violation.
      idle: rounds in a row without progress.
    """

    answer: Answer
    multipliers: Multipliers
    inner: Any
    penalty: Scalar
    shift: Point
    constraints: Point
    tolerance: Scalar
    violation: Scalar
    count: Scalar
    best: Scalar
    stubborn: Scalar
    idle: Scalar


class Merit(NamedTuple):
    r"""What is added to the objective.

    Attributes:
      value: ``(constraints, shift, penalty) ->`` :math:`\psi`.
      weights: ``(constraints, shift, penalty) ->`` its derivatives in the constraints, which
        estimate the multipliers.
      renew: ``(weights, shift, penalty, enough) -> (shift, penalty)`` at the end of a round; ``enough`` says whether
        the violation has fallen.
      interior: whether it is defined only where :math:`g < 0`.
    """

    value: Callable[[Point, Point, Scalar], Scalar]
    weights: Callable[[Point, Point, Scalar], Point]
    renew: Callable[[Point, Point, Scalar, Scalar], tuple[Point, Scalar]]
    interior: Any = False


class _Constraints(NamedTuple):
    equality: Any
    inequality: Any

    def __call__(self, params: Params) -> Point:
        like = jnp.result_type(jnp.float32, *jax.tree.leaves(params))

        def vector(function):
            if function is None:
                return jnp.zeros(0, like)
            return ravel_pytree(function(params))[0].astype(like)

        return Point(vector(self.equality), vector(self.inequality))

    def structured(self, params: Params, point: Point) -> Multipliers:
        """The vectors in the structures that the constraints return."""

        def back(function, vector):
            if function is None:
                return None
            shapes = jax.eval_shape(function, params)
            return ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, vector.dtype), shapes))[1](vector)

        return Multipliers(back(self.equality, point.equality), back(self.inequality, point.inequality))


def _largest(vector: jax.Array) -> Scalar:
    return jnp.max(jnp.abs(vector), initial=0)


def _violation(c: Point) -> Scalar:
    return jnp.maximum(_largest(c.equality), jnp.max(c.inequality, initial=0))


def _init(parts, params):
    _, inner, constraints, penalty = parts
    shapes = jax.eval_shape(constraints.__call__, params)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    state = trees.strong(inner.init(params))
    own = trees.own_answer(state, params)
    wide = jnp.promote_types(zeros.equality.dtype, float)
    unknown, none = jnp.asarray(jnp.inf, wide), jnp.int32(0)
    return MeritState(
        answer=Answer(params if own is None else own.params, unknown, unknown, jnp.int8(Status.RUNNING)),
        multipliers=constraints.structured(params, zeros),
        inner=state,
        penalty=jnp.asarray(penalty, zeros.equality.dtype),
        shift=zeros,
        constraints=zeros,
        tolerance=unknown,
        violation=unknown,
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


def _inner_update(inner, state, params, grad, value, value_fn, extra) -> _Judged:
    update = optax.with_extra_args_support(inner).update
    moves, new = update(grad, state, params, value=value, grad=grad, value_fn=value_fn, **extra)
    new = trees.keep_types(new, state)
    own = trees.own_answer(new, params)
    if own is None:
        return _Judged(new, moves, jnp.asarray(True), params, trees.norm(grad), jnp.int8(Status.RUNNING))
    accepted = trees.all_equal(own.params, params)
    return _Judged(new, moves, accepted, own.params, own.residual, jnp.asarray(own.status, jnp.int8))


def _verdict(state, judged, violation, ended, value, eps) -> Scalar:
    """The method's own word: what the rounds have come to."""
    open_end = (judged.status == Status.UNBOUNDED) & (violation <= _FEASIBLE)
    bottom = -(eps**-2.5)
    floor = (judged.status == Status.NOISE_FLOOR) & (violation <= eps**0.5)
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


def _next_round(merit, state, ended, weights, violation, residual, runaway, eps):
    """Multipliers, penalty and tolerance for the round to come, where one has ended."""
    enough = violation <= jnp.maximum(0.25 * state.violation, 0.1 * eps**0.5)
    shift, penalty = merit.renew(weights, state.shift, state.penalty, enough)
    # The multipliers of a merit function that falls without limit mean nothing.
    shift = trees.choose(runaway, state.shift, shift)
    penalty = jnp.where(runaway, 10 * state.penalty, penalty)
    penalty = jnp.minimum(penalty, eps**-0.75)
    finite = trees.all_finite(shift)
    better = residual < 0.9 * state.best
    held = (violation > 0.9 * state.violation) & (violation > eps**0.25)
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
    return trees.choose(ended, trees.keep_types(new, state), state)


def _update(
    parts, updates, state: MeritState, params=None, *, value: Any = None, value_fn: Any = None, **extra
):
    merit, inner, constraints, _ = parts
    checks.require("a method with constraints", params=params, value=value)
    extra.pop("grad", None)
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    c, pull = jax.vjp(constraints.__call__, params)
    eps = float(jnp.finfo(c.equality.dtype).eps)
    first = state.count < 0
    size = jnp.maximum(1, trees.norm(updates)).astype(f.dtype)
    state = state._replace(tolerance=jnp.where(first, _TIGHTER * size, state.tolerance))

    weights = merit.weights(c, state.shift, state.penalty)
    (slopes,) = pull(weights)
    grad = jax.tree.map(jnp.add, updates, slopes)
    total = f + merit.value(c, state.shift, state.penalty).astype(f.dtype)
    total = jnp.where(trees.all_finite(c), total, jnp.inf).astype(jnp.asarray(value).dtype)
    total_fn = None
    if value_fn is not None:
        total_fn = Partial(_added, merit, constraints, state.shift, state.penalty, value_fn)
    judged = _inner_update(inner, state.inner, params, grad, total, total_fn, extra)

    keep = judged.accepted
    multipliers = trees.choose(keep, constraints.structured(params, weights), state.multipliers)
    c = trees.choose(keep, c, state.constraints)
    weights = merit.weights(c, state.shift, state.penalty)
    f = jnp.where(keep, f, state.answer.value)
    violation = _violation(c).astype(f.dtype)
    both = _largest(jnp.minimum(-c.inequality, weights.inequality)).astype(f.dtype)
    residual = jnp.maximum(judged.stationarity.astype(f.dtype), jnp.maximum(violation, both))

    floor = jnp.maximum(state.tolerance, 0.1 * eps**0.5 * size)
    over = judged.status != Status.RUNNING
    runaway = judged.status == Status.UNBOUNDED
    ended = (judged.stationarity <= floor) | over | (state.count >= _LONGEST_ROUND)
    new = state._replace(inner=judged.state, constraints=c, multipliers=multipliers, count=state.count + 1)
    new = new._replace(count=jnp.maximum(new.count, 1))
    measure = jnp.maximum(violation, both)
    new = _next_round(merit, new, ended, weights, measure, residual, runaway, eps)
    status = _verdict(new, judged, violation, ended, f, eps)
    outside = first & merit.interior & ~(jnp.max(c.inequality, initial=-jnp.inf) < 0)
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
    inner = checks.transformation(inner)
    for name, function in (("equality", equality), ("inequality", inequality)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function of params, got {type(function).__name__}")
    if equality is None and inequality is None:
        raise ValueError("a method with constraints needs equality or inequality")
    parts = (*trees.callables_as_trees((merit, inner, _Constraints(equality, inequality))), penalty)
    return optax.GradientTransformationExtraArgs(Partial(_init, parts), Partial(_update, parts))
