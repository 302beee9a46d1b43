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

from gdjax._internal import checks, control_flow, trees
from gdjax.optimizers import answers
from gdjax.optimizers.constrained.checks import functions, not_nested, transformation_inside, values
from gdjax.optimizers.constrained.ending import (
    Way,
    next_round,
    residual_of,
    seen_of,
    slackness,
    termination_status,
    violation_of,
)
from gdjax.optimizers.constrained.merit import Constraints, Merit, MeritState, Scales
from gdjax.optimizers.constrained.optimality import added_within, conditions, penalty_within
from gdjax.optimizers.constrained.scaling import constraint_scales, length_of, objective_scale
from gdjax.types import Answer, Params, Scalar, Status, Transformation

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


class _InnerUpdate(NamedTuple):
    """What the inner method has made of the point given."""

    state: Any
    moves: Params
    accepted: Scalar
    params: Params
    value: Scalar
    stationarity: Scalar
    status: Scalar
    lost: Scalar


def _inner_update(inner, state, params, grad, value, value_fn, extra, before) -> _InnerUpdate:
    update = optax.with_extra_args_support(inner).update
    moves, new = update(grad, state, params, value=value, grad=grad, value_fn=value_fn, **extra)
    new = trees.keep_types(new, state)
    own = answers.seen(new, params, value, grad, before)
    if own is None:
        size = trees.norm(grad)
        lost = ~(jnp.isfinite(value) & jnp.isfinite(size))
        return _InnerUpdate(
            new, moves, jnp.asarray(True), params, value, size, jnp.int8(Status.RUNNING), lost
        )
    accepted, status = trees.all_equal(own.params, params), jnp.asarray(own.status, jnp.int8)
    lost = (status == Status.NONFINITE) & ~jnp.isfinite(own.residual)
    return _InnerUpdate(new, moves, accepted, own.params, own.value, own.residual, status, lost)


def _back_to(params: Params, target: Params) -> Params:
    """The update from one point to another, exact where a number allows it."""

    def one(x, q):
        update = q - x
        return update + (q - (x + update))

    return jax.tree.map(one, params, target)


def _scales(state: MeritState, first: Scalar, params: Params, grad: Params) -> Scales:
    """The objective's are found where its gradient is first seen."""
    old = state.scales
    unit, length = (find(params, grad).astype(old.length.dtype) for find in (objective_scale, length_of))
    return old._replace(
        objective=jnp.where(first, unit, old.objective), length=jnp.where(first, length, old.length)
    )


def _update(
    settings, updates, state: MeritState, params=None, *, value: Any = None, value_fn: Any = None, **extra
):
    merit, inner, constraints, _ = settings
    checks.require("a method with constraints", params=params, value=value)
    extra.pop("grad", None)
    f = jnp.asarray(value).astype(state.answer.value.dtype)

    def constrained(params):
        # Inside shard_map multipliers vary as the value does, even those of no constraints.
        c = constraints(params)
        return control_flow.vary_like(c, jax.tree.map(lambda leaf: f, c))

    raw, pull = jax.vjp(constrained, params)
    eps = float(jnp.finfo(raw.equality.dtype).eps)
    first = state.count < 0
    # What the inner method adds to the objective, a regularizer, is in the units of the objective.
    bare = isinstance(added_within(inner, state.inner, params), float)
    scales = _scales(state, first, params, updates) if bare else state.scales
    c, unit = scales.seen(raw), scales.objective.astype(f.dtype)
    updates = jax.tree.map(lambda leaf: leaf * unit.astype(leaf.dtype), updates)
    seen = trees.norm(updates).astype(f.dtype)
    seen, least = jnp.where(jnp.isfinite(seen), seen, state.slope), (1 / scales.length).astype(f.dtype)
    penalty = merit.start(state.penalty, (unit * f).astype(raw.equality.dtype), c)
    state = state._replace(
        penalty=jnp.where(first & jnp.isfinite(penalty), penalty, state.penalty),
        scales=scales,
        tolerance=jnp.where(first, _TIGHTER * jnp.maximum(least, seen), state.tolerance),
        lowest=jnp.where(first, -jnp.maximum(1, jnp.abs(unit * f)) / eps, state.lowest),
    )

    weights = merit.weights(c, state.shift, state.penalty)
    (slopes,) = pull(scales.seen(weights))
    grad = jax.tree.map(jnp.add, updates, slopes)
    total = unit * f + merit.value(c, state.shift, state.penalty).astype(f.dtype)
    total = jnp.where(trees.all_finite(c), total, jnp.inf).astype(jnp.asarray(value).dtype)
    total_fn = None
    if value_fn is not None:
        total_fn = Partial(_added, merit, constraints, scales, state.shift, state.penalty, value_fn)
    updated = _inner_update(inner, state.inner, params, grad, total, total_fn, extra, state.answer)

    keep = updated.accepted
    multipliers = trees.choose(keep, constraints.structured(params, scales.given(weights)), state.multipliers)
    raw = trees.choose(keep, raw, state.constraints)
    c = scales.seen(raw)
    weights = merit.weights(c, state.shift, state.penalty)
    added = f + added_within(inner, updated.state, updated.params)
    f = jnp.where(keep, added.astype(f.dtype), state.answer.value)
    slope, pull_back = jnp.where(keep, seen, state.slope), trees.norm(slopes).astype(f.dtype)
    violation = violation_of(c).astype(f.dtype)
    residual = residual_of(updated.stationarity, scales, raw, c, weights, eps).astype(f.dtype)
    both = slackness(c, weights).astype(f.dtype)

    # The slope is the answer's: that of a rejected trial may be infinite, at a root or a logarithm.
    way = Way(unit * f, slope, pull_back, trees.norm(weights), least, violation)
    seen = seen_of(updated, state, way, keep, (total < updated.value) & ~trees.all_finite(grad), eps)
    count = jnp.maximum(state.count + 1, 1)
    new = state._replace(
        inner=updated.state, constraints=raw, multipliers=multipliers, slope=slope, count=count
    )
    measure = jnp.maximum(violation, both)
    new = next_round(merit, new, seen, weights, measure, residual, eps)
    status = termination_status(new, updated.status, violation, seen, unit * f, eps)
    outside = first & merit.interior & ~(jnp.max(c.inequality, initial=-jnp.inf) < 0)
    # From a start whose gradient is not finite no round leads on.
    status = jnp.where(first & updated.lost, jnp.int8(Status.NONFINITE), status)
    status = jnp.where(outside, jnp.int8(Status.INFEASIBLE), status)
    answer = Answer(updated.params, f, residual, status)
    moves = trees.choose(seen.ended, _back_to(params, updated.params), updated.moves)
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
