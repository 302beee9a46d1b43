r"""A direction and a search make a flat method: one evaluation an update, no loop around the objective.

The state names the accepted point as its ``answer``; the point that ``update`` is given is the trial
:math:`x_k + a p_k` that the update before proposed. The search judges it. Accepted, it becomes
:math:`x_{k+1}`, and the direction sees the pair :math:`s = x_{k+1} - x_k`, :math:`y = g_{k+1} - g_k`;
rejected, the update is the move back to a better trial. Where a search gives up, the direction forgets the
past and steepest descent has its turn; where that gives up too, the status says so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax import checks, control_flow, trees
from gdjax.linesearch.lengths import carried_gain
from gdjax.linesearch.searches import ACCEPT, GIVE_UP, Bracket, Point, Search, chosen, strong_wolfe
from gdjax.trees import flat
from gdjax.types import Answer, Scalar, Status, Transformation
from gdjax.verdicts import ended, faded, fell

__all__ = ["DescentState", "Direction", "Move", "descend"]

_PATIENCE = 60
"""Updates without progress before a method gives up."""
_RESTART = 30
"""What a failed search counts among them."""
_LONGEST = 1e3
"""The longest move, in units of the point's norm (at least one)."""
_BESIDE_OTHERS = 1e-2
"""What counts as eps where other methods move other params between the evaluations."""
_SHORT = 0.1
"""The first step down the gradient, in units of the point's norm; one near the origin."""
_RESOLVED = 10
"""The shortest step that tells of curvature, in units of eps times the point's norm."""
_ROUNDING = 10
"""Rounding of a value, in units of eps times its size."""


class Move(NamedTuple):
    r"""What a direction sees.

    Attributes:
      grad: the gradient at the accepted point, shape ``(n,)`` like the other vectors.
      step: :math:`s`, from the accepted point before to the point given.
      change: :math:`y`, the change of the gradient along it.
      direction: :math:`p`, along which it went.
      along: the step length :math:`a`, so that :math:`s = a p`.
      squares: :math:`s^T s` and :math:`y^T y`.
      accepted: whether the point given has become the accepted one.
      paired: whether ``step`` and ``change`` belong together: not at a start, nor on new data.
      failed: whether to forget the past, because a search gave up or the direction was no descent.
      given: the arguments of ``update``, for directions that are transformations themselves.
    """

    grad: jax.Array
    step: jax.Array
    change: jax.Array
    direction: jax.Array
    along: Scalar
    squares: tuple[Scalar, Scalar]
    accepted: Scalar
    paired: Scalar
    failed: Scalar
    given: Any


class Direction(NamedTuple):
    """Where to go next; pure, like a transformation, and asked at accepted points only.

    Attributes:
      init: ``(params, x) -> memory`` with ``x`` the params as one vector.
      update: ``(memory, Move) -> (direction, memory)``; zeros ask for steepest descent. The memory must
        stay as it is unless ``move.accepted`` or ``move.failed``.
      first_step: ``(along, slope before, slope, last fall in value) -> first trial step``.
    """

    init: Callable[[Any, jax.Array], Any]
    update: Callable[[Any, Move], tuple[jax.Array, Any]]
    first_step: Callable[[Scalar, Scalar, Scalar, Scalar], Scalar]


class Best(NamedTuple):
    """The lowest value seen, the residual at the last progress, the largest curvature along a step, fading."""

    value: Scalar
    residual: Scalar
    curvature: Scalar


class DescentState(NamedTuple):
    """State of every method that searches along a direction.

    Attributes:
      answer: the accepted point.
      grad: the gradient there, flat.
      direction: the direction searched, flat.
      bracket: the search's state; ``trials`` is -1 where nothing learnt leads to the proposal.
      memory: what the direction remembers.
      best: records that tell progress from rounding.
      idle: updates since there was progress; a failed search counts as many.
    """

    answer: Answer
    grad: jax.Array
    direction: jax.Array
    bracket: Bracket
    memory: Any
    best: Best
    idle: Scalar


class _Verdict(NamedTuple):
    accept: Scalar
    give_up: Scalar
    fresh: Scalar
    noise: Scalar
    along: Scalar
    bracket: Bracket


def _dot(a, b):
    return jnp.sum(a * b)


def _init(direction, search, params):
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, jnp.promote_types(x.dtype, float))
    return DescentState(
        answer=Answer(params, unknown, unknown, jnp.int8(Status.RUNNING)),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        bracket=search.init(unknown, unknown, unknown),
        memory=direction.init(params, x),
        best=Best(unknown, unknown, jnp.zeros_like(unknown)),
        idle=jnp.int32(0),
    )


def _eps(params, value):
    """The coarsest rounding among params and value; beside other methods, what their moves may do to the value."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        return _BESIDE_OTHERS
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return max(float(jnp.finfo(dtype).eps) for dtype in [*dtypes, value.dtype])


def _judge(search, state, eps, f, grad, s, ss, size):
    """Lets the search judge the point given; a point that is the base itself is taken without a test."""
    wide, p, lowest = f.dtype, state.direction, state.best.value
    pp = _dot(p, p).astype(wide)
    along = _dot(s, p).astype(wide) / pp
    first, still = ~(lowest < jnp.inf), ss == 0
    fresh = first | (still & (state.bracket.trials <= 0))
    noise = _ROUNDING * eps * jnp.abs(state.answer.value)
    noise = jnp.where(first, 0, jnp.clip(lowest + noise - state.answer.value, 0, noise))
    slope = _dot(grad, p).astype(wide)
    trial = Point(along, jnp.where(jnp.isfinite(f), f, jnp.inf), slope)
    longest = _LONGEST * jnp.maximum(1, size) / jnp.sqrt(pp)
    decision, bracket = control_flow.cond(
        fresh,
        lambda: (jnp.int32(ACCEPT), state.bracket),
        lambda: search.update(state.bracket, trial, noise, longest),
    )
    accept = fresh | (~still & (decision == ACCEPT))
    give_up = ~accept & (still | (decision == GIVE_UP))
    return _Verdict(accept, give_up, fresh, noise, along, bracket)


def _aim(direction, search, state, move, residual, value, size, found):
    """The direction to search and the bracket on it: new where the point is, or the old ones."""
    moved, g, wide = move.accepted | move.failed, move.grad, value.dtype
    gain = state.answer.value - value
    gain = jnp.where(move.paired & (gain > found.noise), gain, 0)

    def ask():
        asked, memory = direction.update(state.memory, move)
        return asked.astype(g.dtype), trees.keep_types(memory, state.memory)

    asked, memory = control_flow.cond(moved, ask, lambda: (state.direction, state.memory))
    slope, length = _dot(g, asked).astype(wide), jnp.sqrt(_dot(asked, asked)).astype(wide)
    bad = moved & ~(slope < -jnp.finfo(g.dtype).eps * residual * length)
    down = jnp.minimum(1, jnp.maximum(1, _SHORT * size) / residual)
    slope = jnp.where(bad, -residual * residual * down, slope)
    length = jnp.where(bad, residual * down, length)
    p = jnp.where(bad, -down.astype(g.dtype) * g, asked)
    before = found.bracket.origin.slope
    carried = carried_gain(move.along, before, slope, gain)
    step = jnp.where(bad, carried, direction.first_step(move.along, before, slope, gain))
    step = jnp.minimum(jnp.where(move.failed, 1, step), _LONGEST * jnp.maximum(1, size) / length)
    start = search.init(value, slope, step)._replace(trials=-bad.astype(jnp.int32))
    return p, memory, trees.choose(moved, start, found.bracket)


def _update(direction, search, updates, state, params=None, *, value=None, **extra):
    checks.require("a line search", params=params, value=value)
    x, back = flat(params)
    if x.size == 0:
        return updates, state
    (grad, _), (base, _) = flat(updates), flat(state.answer.params)
    f, eps = jnp.asarray(value).astype(state.answer.value.dtype), _eps(params, value)
    s, y = x - base, grad - state.grad
    ss, yy, gg, xx = _dot(s, s), _dot(y, y), _dot(grad, grad), _dot(base, base)
    size = jnp.sqrt(xx).astype(f.dtype)
    f = jnp.where(jnp.isfinite(gg) | (state.best.value == jnp.inf), f, jnp.inf)
    found = _judge(search, state, eps, f, grad, s, ss, size)
    accept = found.accept
    failed = found.give_up | (accept & (state.bracket.trials < 0))
    g, here = jnp.where(accept, grad, state.grad), jnp.where(accept, x, base)
    fhere = jnp.where(accept, f, state.answer.value)
    residual = jnp.where(accept, jnp.sqrt(gg).astype(f.dtype), state.answer.residual)
    given = (params, updates, value, extra)
    move = Move(g, s, y, state.direction, found.along, (ss, yy), accept, accept & ~found.fresh, failed, given)
    p, memory, bracket = _aim(direction, search, state, move, residual, fhere, size, found)

    sound = jnp.isfinite(residual + 2 * _LONGEST * size)
    proposal = jnp.where(sound, here + bracket.step.astype(x.dtype) * p, here)
    stuck = jnp.all(proposal == here)
    lowest, mark, bend = state.best
    renewed = found.fresh & ((f != state.answer.value) | (yy > 0))
    progress = accept & (renewed | (fhere < lowest - found.noise) | (residual < 0.5 * mark))
    idle = jnp.where(progress, 0, state.idle + 1 + _RESTART * (found.give_up | stuck))
    over = idle >= _PATIENCE
    curvature = jnp.sqrt(yy / ss).astype(f.dtype)
    told = move.paired & (ss > (_RESOLVED * eps) ** 2 * xx)
    drowned = residual <= 10 * eps * size * jnp.where(told, jnp.minimum(curvature, bend), bend)
    status = jnp.where(fell(jnp.fmin(f, fhere)), jnp.int8(Status.UNBOUNDED), ended(over, drowned))
    bend = faded(bend, curvature, told)
    best = Best(jnp.where(renewed, f, jnp.minimum(lowest, fhere)), jnp.where(progress, residual, mark), bend)
    proposal = jnp.where(over, here, proposal)
    bracket = bracket._replace(trials=jnp.where(stuck | over, -1, bracket.trials))
    answer = Answer(back(here), fhere, residual, status)
    new = DescentState(answer, g, p, bracket, memory, best, idle)
    return back(proposal - x), trees.keep_types(new, state)


def descend(direction: Direction, search: Search) -> Transformation:
    """The flat method that searches along a direction.

    Memory: four vectors besides the direction's own. Under ``optax.masked`` and ``optax.partition`` the
    value is that of all params while others move too between evaluations: the method then compares values
    that owe to both, and takes a failed search as the sign to look at its base afresh.

    Args:
      direction: where to go from an accepted point.
      search: how far.

    Raises:
      TypeError: if ``search`` is none.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> from gdjax.linesearch import Direction, backtracking, descend, unit_step
      >>> steepest = Direction(lambda params, x: (), lambda memory, move: (-move.grad, memory), unit_step)
      >>> run = gdjax.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(2), descend(steepest, backtracking()))
      >>> bool(jnp.allclose(run.params, 3))
      True
    """
    chosen("descend", search, strong_wolfe)
    return optax.GradientTransformationExtraArgs(
        Partial(_init, direction, search), Partial(_update, direction, search)
    )
