"""A direction and a search make a flat method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax import checks, trees
from gdjax.linesearch.searches import ACCEPT, GIVE_UP, Bracket, Point, Search
from gdjax.types import Answer, Params, Scalar, Status, Transformation

__all__ = ["Direction", "LineSearchState", "Move", "descend"]

_PATIENCE = 50
_LONGEST = 1e3
_ROUNDING = 10


class Move(NamedTuple):
    """What a direction sees, once an accepted point.

    Attributes:
      grad: the gradient at the accepted point, shape ``(n,)``, like all that follow.
      step: the move :math:`s` that led there.
      change: the change :math:`y` of the gradient along it.
      image: :math:`B s = -a g`, what the model held for ``change``, where the direction was :math:`-H g`.
      previous: the gradient before.
      direction: the direction before.
      paired: whether ``step`` and ``change`` are a pair; not at a start, on new data or at a restart.
      moved: whether a new direction is wanted; otherwise nothing may change.
      restart: whether to forget the past.
    """

    grad: jax.Array
    step: jax.Array
    change: jax.Array
    image: jax.Array
    previous: jax.Array
    direction: jax.Array
    paired: Scalar
    moved: Scalar
    restart: Scalar
    ratio: Scalar
    context: Any


class Direction(NamedTuple):
    init: Callable[[Params], Any]
    update: Callable[[Any, Move], tuple[jax.Array, Any, Scalar]]


class LineSearchState(NamedTuple):
    answer: Answer
    grad: jax.Array
    direction: jax.Array
    search: Bracket
    memory: Any
    lowest: Scalar
    mark: Point
    stiffness: jax.Array
    count: Scalar
    idle: Scalar
    strikes: Scalar
    stuck: Scalar


def flatten(tree):
    vector, back = ravel_pytree(tree)
    dtype = jnp.promote_types(vector.dtype, jnp.float32)
    return vector.astype(dtype), lambda v: back(v.astype(vector.dtype))


def _init(direction, search, params):
    x, _ = flatten(params)
    wide = jnp.promote_types(x.dtype, float)
    zero, unknown = jnp.zeros((), wide), jnp.asarray(jnp.inf, wide)
    none = jnp.int32(0)
    return LineSearchState(
        answer=Answer(params, unknown, unknown, jnp.int8(Status.RUNNING)),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        search=search.init(zero, zero, zero, zero),
        memory=direction.init(x),
        lowest=unknown,
        mark=Point(zero, unknown, unknown),
        stiffness=jnp.zeros_like(x),
        count=none,
        idle=none,
        strikes=none,
        stuck=jnp.asarray(False),
    )


def _eps(params, value):
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return max(float(jnp.finfo(d).eps) for d in [*dtypes, value.dtype])


def _norm(v):
    return jnp.sqrt(jnp.sum(v * v))


def _update(direction, search, updates, state, params=None, *, value=None, **extra):
    checks.require("a line search", value=value, params=params)
    answer, wide = state.answer, state.answer.value.dtype
    eps = _eps(params, value)
    x, back = flatten(params)
    grad, _ = flatten(updates)
    base, _ = flatten(answer.params)
    f = value.astype(wide)
    p = state.direction
    s = x - base
    pp = jnp.sum(p * p)
    first = state.count == 0
    fresh = first | (jnp.all(s == 0) & (state.search.trials == 0))
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    along = jnp.where(pp > 0, jnp.sum(s * p) / pp, 0).astype(wide)
    slope = jnp.sum(grad * p).astype(wide)
    trial = Point(along, jnp.where(finite, f, jnp.inf), slope)
    noise = jnp.minimum(_ROUNDING * eps * jnp.abs(answer.value), jnp.inf)
    allowed = jnp.clip(state.lowest + noise - answer.value, 0, noise)
    decision, bracket = search.update(state.search, trial, jnp.where(first, 0, allowed))

    accept = fresh | (decision == ACCEPT)
    give_up = ~accept & ((decision == GIVE_UP) | jnp.all(s == 0))
    y = grad - state.grad
    g = jnp.where(accept, grad, state.grad)
    here = jnp.where(accept, x, base)
    fhere = jnp.where(accept, f, answer.value)
    residual = _norm(g).astype(wide)
    restart = give_up | state.stuck & accept
    paired = accept & ~fresh
    moved = accept | give_up
    context = (params, updates, value, extra, here)
    move = Move(g, s, y, (-along).astype(x.dtype) * state.grad, state.grad, p, paired, moved, restart | first,
                bracket.origin.slope * along, context)
    new_p, memory, guess = direction.update(state.memory, move)
    p = jnp.where(moved, new_p, p)
    slope = jnp.sum(g * p).astype(wide)
    pnorm = _norm(p).astype(wide)
    bad = moved & ~((slope < -1e-2 * eps * residual * pnorm))
    steep = jnp.minimum(1, 1 / residual)
    p = jnp.where(bad, jnp.where(jnp.isfinite(g), -g, 0), p)
    slope = jnp.where(bad, -residual * residual, slope)
    pnorm = jnp.where(bad, residual, pnorm)
    guess = jnp.where(bad, steep, guess.astype(wide))
    longest = _LONGEST * jnp.maximum(1, _norm(here).astype(wide)) / pnorm
    longest = jnp.where(longest > 0, longest, 0)
    bracket = trees.choose(moved, search.init(fhere, slope, guess, longest), bracket)
    step = bracket.step

    nxt = here + step.astype(x.dtype) * p
    nxt = jnp.where(jnp.isfinite(nxt), nxt, here)
    stuck = jnp.all(nxt == here)

    progress = accept & ((fhere < state.mark.value - noise) | (residual < 0.5 * state.mark.slope)) | first
    mark = trees.choose(progress, Point(jnp.zeros_like(fhere), fhere, residual), state.mark)
    idle = jnp.where(progress, 0, state.idle + 1)
    strikes = jnp.where(progress, 0, state.strikes) + restart
    over = (strikes + stuck >= 2) | (idle >= _PATIENCE)
    size = jnp.max(jnp.abs(here))
    length = jnp.max(jnp.abs(s))
    bend = jnp.where(paired & (length > jnp.sqrt(eps) * size), jnp.abs(y) / length, 0)
    stiffness = jnp.maximum(state.stiffness, jnp.where(jnp.isfinite(bend), bend, 0))
    drowned = jnp.all(jnp.abs(g) <= 10 * eps * stiffness * size)
    status = jnp.where(over, jnp.where(drowned, Status.NOISE_FLOOR, Status.STALLED), Status.RUNNING)
    status = jnp.where(f == -jnp.inf, Status.UNBOUNDED, status).astype(jnp.int8)
    nxt = jnp.where(over, here, nxt)
    stuck = stuck | over
    bracket = bracket._replace(trials=jnp.where(stuck, 0, bracket.trials))
    new = LineSearchState(
        Answer(trees.choose(accept, params, answer.params), fhere, residual, status),
        g, p, bracket, memory,
        jnp.minimum(state.lowest, fhere), mark, stiffness,
        state.count + 1, idle, strikes, stuck | bad,
    )
    return back(nxt - x), trees.keep_types(new, state)


def descend(direction: Direction, search: Search) -> Transformation:
    return optax.GradientTransformationExtraArgs(
        Partial(_init, direction, search), Partial(_update, direction, search)
    )
