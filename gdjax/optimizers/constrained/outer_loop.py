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

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow, trees
from gdjax.optimizers import answers
from gdjax.optimizers.constrained.checks import functions, not_nested, transformation_inside, values
from gdjax.optimizers.constrained.ending import (
    InnerUpdate,
    Way,
    next_round,
    residual_of,
    seen_of,
    slackness,
    termination_status,
    violation_of,
)
from gdjax.optimizers.constrained.merit import Constraints, Merit, MeritState, Point, Scales
from gdjax.optimizers.constrained.optimality import added_within, conditions, penalty_within
from gdjax.optimizers.constrained.scaling import constraint_scales, length_of, objective_scale
from gdjax.types import Answer, Params, PyTree, Scalar, ScalarLike, Status, Transformation

__all__ = ["around"]

_TIGHTER = 0.1
"""What each round makes of the tolerance of the one before."""


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
    state = trees.strong(inner.init(params))
    not_nested(merit.owner, state)
    start = answers.start(state, params)
    scales = constraint_scales(constraints, start)
    zeros = jax.tree.map(jnp.zeros_like, scales)
    one, wide = jnp.ones((), zeros.equality.dtype), trees.value_type(zeros.equality.dtype)
    unknown, none = jnp.asarray(jnp.inf, wide), jnp.int32(0)
    return MeritState(
        answer=Answer(start, unknown, unknown, jnp.int8(Status.RUNNING)),
        optimality=trees.optimality(constraints, conditions, penalty_within),
        multipliers=constraints.structured(params, zeros),
        inner=state,
        penalty=jnp.asarray(penalty, zeros.equality.dtype),
        shift=zeros,
        constraints=zeros,
        scales=Scales(one, scales, one),
        tolerance=unknown,
        violation=unknown,
        slope=jnp.ones_like(unknown),
        lowest=-unknown,
        count=jnp.int32(-1),
        best=unknown,
        no_progress=none,
        idle=none,
    )


def _added(merit, constraints, scales, shift, penalty, value_fn, params):
    extra = merit.value(scales.seen(constraints(params)), shift, penalty)
    value = value_fn(params)
    return scales.objective.astype(value.dtype) * value + extra.astype(value.dtype)


def _inner_update(inner, state, params, grad, value, value_fn, extra, before) -> InnerUpdate:
    update = optax.with_extra_args_support(inner).update
    moves, new = update(grad, state, params, value=value, grad=grad, value_fn=value_fn, **extra)
    new = trees.keep_types(new, state)
    own = answers.seen(new, params, value, grad, before)
    if own is None:
        size = trees.norm(grad)
        lost = ~(jnp.isfinite(value) & jnp.isfinite(size))
        return InnerUpdate(new, moves, jnp.asarray(True), params, value, size, jnp.int8(Status.RUNNING), lost)
    accepted, status = trees.all_equal(own.params, params), jnp.asarray(own.status, jnp.int8)
    lost = (status == Status.NONFINITE) & ~jnp.isfinite(own.residual)
    return InnerUpdate(new, moves, accepted, own.params, own.value, own.residual, status, lost)


def _back_to(params: Params, target: Params) -> Params:
    """The update from one point to another, exact where a number allows it."""

    def one(x, q):
        update = q - x
        return update + (q - (x + update))

    return jax.tree.map(one, params, target)


class _Evaluated(NamedTuple):
    """Objective and constraints at the point given.

    Attributes:
      value: of the objective, as it was given.
      grad: of the objective, as the method scales it.
      slope: its norm; that of the answer where it is not finite.
      raw: the constraints, as they were given.
      pull: their transposed Jacobian, as they were given.
      first: whether it is the start.
    """

    value: Scalar
    grad: Params
    slope: Scalar
    raw: Point
    pull: Callable[[Point], tuple[Params]]
    first: Scalar


def _evaluated(settings, state, params, updates, value) -> tuple[_Evaluated, Scales]:
    """The point given, and the scales, of which the objective's are found where its gradient is first seen."""
    f = jnp.asarray(value).astype(state.answer.value.dtype)

    def constrained(params):
        # Inside shard_map multipliers vary as the value does, even those of no constraints.
        c = settings.constraints(params)
        return control_flow.vary_like(c, jax.tree.map(lambda leaf: f, c))

    raw, pull = jax.vjp(constrained, params)
    first, scales = state.count < 0, state.scales
    # What the inner method adds to the objective, a regularizer, is in the units of the objective.
    if isinstance(added_within(settings.inner, state.inner, params), float):
        unit, length = (
            jnp.where(first, find(params, updates).astype(old.dtype), old)
            for find, old in ((objective_scale, scales.objective), (length_of, scales.length))
        )
        scales = scales._replace(objective=unit, length=length)
    unit = scales.objective.astype(f.dtype)
    grad = jax.tree.map(lambda leaf: leaf * unit.astype(leaf.dtype), updates)
    slope = trees.norm(grad).astype(f.dtype)
    slope = jnp.where(jnp.isfinite(slope), slope, state.slope)
    return _Evaluated(f, grad, slope, raw, pull, first), scales


def _begun(merit, state, scales, at, eps) -> MeritState:
    """The state with what the start decides: scales, the first penalty and tolerance, what is beyond all reason."""
    f = scales.objective.astype(at.value.dtype) * at.value
    penalty = merit.start(state.penalty, f.astype(at.raw.equality.dtype), scales.seen(at.raw))
    least = (1 / scales.length).astype(f.dtype)
    return state._replace(
        penalty=jnp.where(at.first & jnp.isfinite(penalty), penalty, state.penalty),
        scales=scales,
        tolerance=jnp.where(at.first, _TIGHTER * jnp.maximum(least, at.slope), state.tolerance),
        lowest=jnp.where(at.first, -jnp.maximum(1, jnp.abs(f)) / eps, state.lowest),
    )


class _Merit(NamedTuple):
    """The merit function at the point given.

    Attributes:
      value: of it; infinite where a constraint is not finite.
      grad: of it.
      weights: the multiplier estimates, as the method scales them.
      pull: the norm of what the constraints add to the gradient.
    """

    value: Scalar
    grad: Params
    weights: Point
    pull: Scalar


def _merit(merit, state, at, value) -> _Merit:
    """The merit function in place of the objective."""
    scales, wide = state.scales, at.value.dtype
    c = scales.seen(at.raw)
    weights = merit.weights(c, state.shift, state.penalty)
    (slopes,) = at.pull(scales.seen(weights))
    total = scales.objective.astype(wide) * at.value + merit.value(c, state.shift, state.penalty).astype(wide)
    total = jnp.where(trees.all_finite(c), total, jnp.inf).astype(jnp.asarray(value).dtype)
    return _Merit(total, jax.tree.map(jnp.add, at.grad, slopes), weights, trees.norm(slopes).astype(wide))


def _status(merit, state, updated, seen, c, violation, value, first, eps):
    """The termination status; a start that is no start comes before all that the outer iterations have come to."""
    status = termination_status(state, updated.status, violation, seen, value, eps)
    # From a start whose gradient is not finite no round leads on.
    status = jnp.where(first & updated.lost, jnp.int8(Status.NONFINITE), status)
    outside = first & merit.interior & ~(jnp.max(c.inequality, initial=-jnp.inf) < 0)
    return jnp.where(outside, jnp.int8(Status.INFEASIBLE), status)


def _update(
    settings, updates, state: MeritState, params=None, *, value: Any = None, value_fn: Any = None, **extra
):
    merit, inner, constraints, _ = settings
    checks.require("a method with constraints", params=params, value=value)
    extra.pop("grad", None)
    at, scales = _evaluated(settings, state, params, updates, value)
    eps, wide = float(jnp.finfo(at.raw.equality.dtype).eps), at.value.dtype
    state = _begun(merit, state, scales, at, eps)

    # One update of the inner method, which sees the merit function.
    trial = _merit(merit, state, at, value)
    total_fn = None
    if value_fn is not None:
        total_fn = Partial(_added, merit, constraints, scales, state.shift, state.penalty, value_fn)
    updated = _inner_update(
        inner, state.inner, params, trial.grad, trial.value, total_fn, extra, state.answer
    )

    # The point that it has accepted: multipliers, violation, residual.
    keep = updated.accepted
    multipliers = constraints.structured(params, scales.given(trial.weights))
    multipliers = trees.choose(keep, multipliers, state.multipliers)
    raw = trees.choose(keep, at.raw, state.constraints)
    c = scales.seen(raw)
    weights = merit.weights(c, state.shift, state.penalty)
    added = at.value + added_within(inner, updated.state, updated.params)
    f = jnp.where(keep, added.astype(wide), state.answer.value)
    # The slope is the answer's: that of a rejected trial may be infinite, at a root or a logarithm.
    slope = jnp.where(keep, at.slope, state.slope)
    violation = violation_of(c).astype(wide)
    residual = residual_of(updated.stationarity, scales, raw, c, weights, eps).astype(wide)
    measure = jnp.maximum(violation, slackness(c, weights).astype(wide))

    # What has come of the round, and the next one where it has ended.
    least, scaled = (1 / scales.length).astype(wide), scales.objective.astype(wide) * f
    way = Way(scaled, slope, trial.pull, trees.norm(weights), least, violation)
    sheer = (trial.value < updated.value) & ~trees.all_finite(trial.grad)
    seen = seen_of(updated, state, way, keep, sheer, eps)
    new = state._replace(
        inner=updated.state,
        constraints=raw,
        multipliers=multipliers,
        slope=slope,
        count=jnp.maximum(state.count + 1, 1),
    )
    new = next_round(merit, new, seen, weights, measure, residual, eps)
    status = _status(merit, new, updated, seen, c, violation, scaled, at.first, eps)
    answer = Answer(updated.params, f, residual, status)
    moves = trees.choose(seen.ended, _back_to(params, updated.params), updated.moves)
    return moves, trees.keep_types(new._replace(answer=answer), state)


def around(
    merit: Merit,
    inner: Transformation,
    equality: Callable[[Params], PyTree] | None,
    inequality: Callable[[Params], PyTree] | None,
    penalty: ScalarLike,
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
