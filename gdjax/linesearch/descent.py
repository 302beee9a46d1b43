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

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.termination import ended, faded, fell
from gdjax._internal.trees import flat, power_of_two, unit
from gdjax.linesearch.lengths import carried_gain
from gdjax.linesearch.searches import ACCEPT, GIVE_UP, Bracket, Point, Search, chosen, strong_wolfe
from gdjax.types import Answer, Scalar, Status, Transformation

__all__ = ["DescentState", "Direction", "Move", "descend"]

_PATIENCE = 60
"""Updates without progress before a method gives up."""
_RESTART = 30
"""What a failed search counts among them."""
_LONGEST = 1e3
"""The longest move, in units of the point's norm (at least one)."""
_BESIDE_OTHERS = 1e-2
"""What counts as eps where other methods move other params between the evaluations."""
_BEYOND_ROUNDING = 100
"""The shortest first step down the gradient, in units of the point's rounding."""
_SHORT = 0.1
"""The first step down the gradient, in units of the point's norm; one near the origin."""
_RESOLVED = 10
"""The shortest step that tells of curvature, in units of eps times the point's norm."""
_FAR = 2.0**20
"""A unit of params, beside one: squares of numbers up to 1e25 in float32 do not overflow, and what vanishes is tiny."""
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
      units: powers of two :math:`(u_s, u_y, u_g)` near the sizes of ``step``, of the two gradients that ``change``
        lies between, and of ``grad``: inner products are taken of vectors over their units, and do not overflow.
      squares: :math:`s^T s / u_s^2` and :math:`y^T y / u_y^2`.
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
    units: tuple[Scalar, Scalar, Scalar]
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
    """Records.

    Attributes:
      value: the lowest value seen.
      residual: that at the last progress.
      curvature: the largest along a step, fading.
      first: the size of the first value.
      predicted: the largest gain that a direction learnt has promised since the last progress, to first order.
    """

    value: Scalar
    residual: Scalar
    curvature: Scalar
    first: Scalar
    predicted: Scalar


class DescentState(NamedTuple):
    """State of every method that searches along a direction.

    Attributes:
      answer: the accepted point.
      grad: the gradient there, flat.
      direction: the direction searched, flat.
      length: its 2-norm.
      bracket: the search's state; ``trials`` is -1 where nothing learnt leads to the proposal.
      memory: what the direction remembers.
      best: records that tell progress from rounding.
      idle: updates since there was progress; a failed search counts as many.
    """

    answer: Answer
    grad: jax.Array
    direction: jax.Array
    length: Scalar
    bracket: Bracket
    memory: Any
    best: Best
    idle: Scalar


class _Acceptance(NamedTuple):
    accept: Scalar
    give_up: Scalar
    fresh: Scalar
    noise: Scalar
    along: Scalar
    bracket: Bracket


def _dot(a, b):
    return jnp.sum(a * b)


def _range(dtype):
    """Between which sizes a first-order gain is looked at as it is: a factor of 1000 within the range of the type."""
    info = jnp.finfo(dtype)
    return 2.0**10 * float(info.tiny), 2.0**-10 * float(info.max)


def _init(direction, search, params):
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    return DescentState(
        answer=Answer(params, unknown, unknown, jnp.int8(Status.RUNNING)),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        length=jnp.zeros_like(unknown),
        bracket=search.init(unknown, unknown, unknown),
        memory=direction.init(params, x),
        best=Best(unknown, unknown, *[jnp.zeros_like(unknown)] * 3),
        idle=jnp.int32(0),
    )


def _eps(params, value):
    """The coarsest rounding among params and value; beside other methods, what their moves may do to the value."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        return _BESIDE_OTHERS
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return max(float(jnp.finfo(dtype).eps) for dtype in [*dtypes, value.dtype])


def _judge(search, state, eps, f, grad, s, us, ss, size):
    """Lets the search judge the point given; a point that is the base itself is taken without a test."""
    wide, p, lowest = f.dtype, state.direction, state.best.value
    along = _dot(s / us, p / state.length.astype(p.dtype)).astype(wide) * (us / state.length)  # s = a p
    first, still = ~(lowest < jnp.inf), ss == 0
    fresh = first | (still & (state.bracket.trials <= 0))
    noise = _ROUNDING * eps * jnp.abs(state.answer.value)
    noise = jnp.where(first, 0, jnp.clip(lowest + noise - state.answer.value, 0, noise))
    slope = _dot(grad, p).astype(wide)
    trial = Point(along, jnp.where(jnp.isfinite(f), f, jnp.inf), slope)
    longest = _LONGEST * jnp.maximum(1, size) / state.length
    decision, bracket = control_flow.cond(
        fresh,
        lambda: (jnp.int32(ACCEPT), state.bracket),
        lambda: search.update(state.bracket, trial, noise, longest),
    )
    accept = fresh | (~still & (decision == ACCEPT))
    give_up = ~accept & (still | (decision == GIVE_UP))
    return _Acceptance(accept, give_up, fresh, noise, along, bracket)


def _aim(direction, search, state, move, residual, value, size, found):
    """The direction to search and the bracket on it: new where the point is, or the old ones."""
    moved, g, wide = move.accepted | move.failed, move.grad, value.dtype
    gain = state.answer.value - value
    gain = jnp.where(move.paired & (gain > found.noise), gain, 0)

    def ask():
        asked, memory = direction.update(state.memory, move)
        return asked.astype(g.dtype), trees.keep_types(memory, state.memory)

    asked, memory = control_flow.cond(moved, ask, lambda: (state.direction, state.memory))
    up, _ = unit(asked)
    p = asked / up
    slope, length, up = _dot(g, p).astype(wide), jnp.sqrt(_dot(p, p)).astype(wide), up.astype(wide)
    bad = moved & ~(slope < -jnp.finfo(g.dtype).eps * residual * length)
    # A direction whose slope leaves the range of its type is searched in units of its size.
    low, high = _range(wide)
    predicted = residual * (length * up)
    extreme = moved & ~bad & ~((predicted > low) & (predicted < high))
    p = jnp.where(extreme, p, asked)
    slope, length = (jnp.where(extreme, v, v * up) for v in (slope, length))
    # So is the gradient where it is next to nothing: a step as short would be none.
    most = jnp.where(residual < low**0.5, 1 / jnp.where(residual > 0, residual, 1), 1)
    down = jnp.minimum(most, jnp.maximum(1, _SHORT * size) / residual)
    # In large units a gradient may be short of a unit in the last place of the params.
    least = _BEYOND_ROUNDING * float(jnp.finfo(g.dtype).eps) * size
    down = jnp.where(residual > 0, jnp.maximum(down, least / residual), down)
    slope = jnp.where(bad, -residual * (residual * down), slope)
    length = jnp.where(bad, residual * down, length)
    p = jnp.where(bad, -down.astype(g.dtype) * g, p)
    before = found.bracket.origin.slope
    carried = carried_gain(move.along, before, slope, gain)
    step = direction.first_step(move.along, before, slope, gain)
    step = jnp.where(bad, carried, jnp.where(extreme, jnp.minimum(up, carried), step))
    step = jnp.minimum(jnp.where(move.failed, 1, step), _LONGEST * jnp.maximum(1, size) / length)
    start = search.init(value, slope, step)._replace(trials=-bad.astype(jnp.int32))
    return p, length, memory, trees.choose(moved, start, found.bracket)


def _update(direction, search, updates, state, params=None, *, value=None, **extra):
    checks.require("a line search", params=params, value=value)
    x, back = flat(params)
    if x.size == 0:
        return updates, state
    (grad, _), (base, _) = flat(updates), flat(state.answer.params)
    f, eps = jnp.asarray(value).astype(state.answer.value.dtype), _eps(params, value)
    s, y = x - base, grad - state.grad
    ug, whole = unit(grad)
    # The units of what is known before it is looked at: of the gradient at the base, and of the step asked for.
    uy = jnp.maximum(ug, power_of_two(jnp.where(state.best.value < jnp.inf, state.answer.residual, 0)))
    uy, us = uy.astype(x.dtype), power_of_two(state.length * state.bracket.step).astype(x.dtype)
    ss, yy, gg = (_dot(v / u, v / u) for v, u in ((s, us), (y, uy), (grad, ug)))
    size = (_FAR * jnp.sqrt(_dot(base / _FAR, base / _FAR))).astype(f.dtype)
    f = jnp.where(whole | (state.best.value == jnp.inf), f, jnp.inf)
    found = _judge(search, state, eps, f, grad, s, us, ss, size)
    accept = found.accept
    failed = found.give_up | (accept & (state.bracket.trials < 0))
    g, here = jnp.where(accept, grad, state.grad), jnp.where(accept, x, base)
    fhere = jnp.where(accept, f, state.answer.value)
    residual = jnp.where(accept, (ug * jnp.sqrt(gg)).astype(f.dtype), state.answer.residual)
    units, given = (us, uy, jnp.where(accept, ug, uy)), (params, updates, value, extra)
    paired = accept & ~found.fresh
    move = Move(g, s, y, state.direction, found.along, units, (ss, yy), accept, paired, failed, given)
    p, length, memory, bracket = _aim(direction, search, state, move, residual, fhere, size, found)

    sound = jnp.isfinite(residual) & jnp.isfinite(2 * _LONGEST * size)
    proposal = jnp.where(sound, here + bracket.step.astype(x.dtype) * p, here)
    stuck = jnp.all(proposal == here)
    lowest, mark, largest_curvature, before, predicted = state.best
    renewed = found.fresh & ((f != state.answer.value) | (yy > 0))
    progress = accept & (renewed | (fhere < lowest - found.noise) | (residual < 0.5 * mark))
    idle = jnp.where(progress, 0, state.idle + 1 + _RESTART * (found.give_up | stuck))
    over = idle >= _PATIENCE
    curvature = (jnp.sqrt(yy / ss) * (uy / us)).astype(f.dtype)
    told = paired & (jnp.sqrt(ss) * us > _RESOLVED * eps * size)
    below_noise = residual <= 10 * eps * size * jnp.where(
        told, jnp.minimum(curvature, largest_curvature), largest_curvature
    )
    # Coordinates differ: one may hide in the rounding that others suffer, while a gain is predicted that values show.
    before = jnp.where(lowest < jnp.inf, before, jnp.abs(f))
    hope = jnp.where(bracket.trials == 0, -bracket.origin.slope * bracket.step, 0)
    predicted = jnp.maximum(jnp.where(progress, 0, predicted), hope)
    below_noise &= predicted <= _ROUNDING * eps * jnp.maximum(jnp.abs(fhere), before)
    status = jnp.where(
        fell(jnp.fmin(f, fhere), x.dtype), jnp.int8(Status.UNBOUNDED), ended(over, below_noise)
    )
    # A base is taken without a test: where its gradient is not finite nothing leads away from it.
    status = jnp.where(jnp.isfinite(residual), status, jnp.int8(Status.NONFINITE))
    largest_curvature = faded(largest_curvature, curvature, told)
    best = Best(
        jnp.where(renewed, f, jnp.minimum(lowest, fhere)),
        jnp.where(progress, residual, mark),
        largest_curvature,
        before,
        predicted,
    )
    proposal = jnp.where(over, here, proposal)
    bracket = bracket._replace(trials=jnp.where(stuck | over, -1, bracket.trials))
    answer = Answer(back(here), fhere, residual, status)
    new = DescentState(answer, g, p, length, bracket, memory, best, idle)
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
