r"""Minimization between bounds: :math:`\min f(x)` subject to :math:`l \le x \le u`.

Flat: each update judges one trial along the way from the accepted point to where a limited-memory model sees its
minimum in the box, and proposes the next. No trial is outside the box.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.termination import ended, faded, fell
from gdjax._internal.trees import flat, length, unit
from gdjax.linalg import boxes
from gdjax.linalg.boxes import Pairs
from gdjax.linesearch import ACCEPT, GIVE_UP, Bracket, Point, Search, carried_gain, chosen, strong_wolfe
from gdjax.optimizers.constrained.box import Box, Limits, box_of, held_by
from gdjax.projections.numbers import ordered
from gdjax.types import Answer, Optimality, Prefix, Scalar, Status, Transformation

__all__ = ["BoundedState", "lbfgsb"]

_PATIENCE = 60
"""Updates without progress before the method gives up."""
_RESTART = 30
"""What a failed search counts among them."""
_LONGEST = 1e3
"""The longest move, in units of the point's norm (at least one)."""
_BEYOND_ROUNDING = 100
"""The shortest first step down the gradient, in units of the point's rounding."""
_ROUNDING = 10
"""Rounding of a value, in units of eps times its size."""


class BoundedState(NamedTuple):
    """The accepted point, the search from it and what is known of the curvature.

    Attributes:
      answer: the accepted point; its residual is that of the gradient as far as there is room.
      optimality: where no bound holds it, its gradient is zero.
      grad: the gradient there, flat.
      direction: the direction searched, flat.
      bracket: the search's state.
      pairs: the last steps and changes of the gradient.
      lowest: the lowest value seen.
      mark: the residual at the last progress.
      largest_curvature: the largest curvature seen along a step, fading.
      idle: updates since there was progress; a failed search counts as many.
    """

    answer: Answer
    optimality: Optimality
    grad: jax.Array
    direction: jax.Array
    bracket: Bracket
    pairs: Pairs
    lowest: Scalar
    mark: Scalar
    largest_curvature: Scalar
    idle: Scalar


class _Trial(NamedTuple):
    """The point given, and what the search says about it."""

    point: jax.Array
    step: jax.Array
    accept: Scalar
    give_up: Scalar
    fresh: Scalar
    noise: Scalar
    along: Scalar
    bracket: Bracket


class _Base(NamedTuple):
    """The accepted point: where it is, the gradient and the objective there, and the residual between bounds."""

    x: jax.Array
    grad: jax.Array
    value: Scalar
    residual: Scalar


class _Settings(NamedTuple):
    memory: Any
    search: Search
    bounds: Limits


def _conditions(bounds, value_fn, params, state):
    return held_by(box_of("lbfgsb", bounds, params), state.grad, value_fn, params)


def _init(settings, params):
    search = settings.search
    box = box_of("lbfgsb", settings.bounds, params)
    x, back = flat(params)
    start = back(jnp.clip(x, box.lower, box.upper))
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    return BoundedState(
        answer=Answer(start, unknown, unknown, jnp.int8(Status.RUNNING)),
        optimality=trees.optimality(settings.bounds, _conditions),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        bracket=search.init(unknown, unknown, unknown),
        pairs=settings.memory(x),
        lowest=unknown,
        mark=unknown,
        largest_curvature=jnp.zeros_like(unknown),
        idle=jnp.int32(0),
    )


def _reach(box: Box, x, p):
    """The longest step along a direction: to the first bound, but never less than one, nor far out."""
    far = _LONGEST * jnp.maximum(1, length(x)) / length(p)
    return jnp.minimum(jnp.maximum(boxes.room(x, p, box.lower, box.upper), 1), far)


def _test(search, state: BoundedState, box: Box, params, value, grad) -> _Trial:
    """The search tests the point given; one that is the base itself is taken without a test."""
    (x, _), (base, _) = flat(params), flat(state.answer.params)
    p, wide = state.direction, value.dtype
    s = x - base
    first = ~(state.lowest < jnp.inf)
    fresh = first | jnp.all(s == 0)
    types = [leaf.dtype for leaf in jax.tree.leaves(params)]
    eps = max(float(jnp.finfo(dtype).eps) for dtype in [*types, value.dtype])
    noise = _ROUNDING * eps * jnp.abs(state.answer.value)
    noise = jnp.where(first, 0, jnp.clip(state.lowest + noise - state.answer.value, 0, noise))
    us, up = unit(s)[0], unit(p)[0]
    share = jnp.sum((s / us) * (p / up)) / jnp.sum(jnp.square(p / up))
    along, slope = (share * (us / up)).astype(wide), jnp.sum(grad * p).astype(wide)
    sound = jnp.isfinite(value) & (jnp.all(jnp.isfinite(grad)) | first)
    value = jnp.where(sound, value, jnp.inf)
    longest = _reach(box, base, p).astype(wide)
    decision, bracket = search.update(state.bracket, Point(along, value, slope), noise, longest)
    accept = fresh | (decision == ACCEPT)
    give_up = ~accept & (decision == GIVE_UP)
    return _Trial(x, s, accept, give_up, fresh, noise, along, bracket)


def _taken(state, box, trial, given, value) -> _Base:
    """The accepted point after the test."""
    base, _ = flat(state.answer.params)
    here, grad = jnp.where(trial.accept, trial.point, base), jnp.where(trial.accept, given, state.grad)
    short = boxes.criticality(here, grad, box.lower, box.upper)
    value = jnp.where(trial.accept, value, state.answer.value)
    return _Base(here, grad, value, length(short).astype(value.dtype))


def _aim(search, state, box, trial, base):
    """The direction to search and the bracket on it: new where the point is, or the old ones."""
    moved, wide = trial.accept | trial.give_up, base.value.dtype
    here, grad, change = base.x, base.grad, base.grad - state.grad
    forgotten = trial.give_up | (trial.accept & (state.bracket.trials < 0))

    def ask():
        pairs = boxes.forget(state.pairs, forgotten)
        pairs = boxes.learn(pairs, trial.step, change, trial.accept & ~trial.fresh)
        gradient = boxes.projected(here, grad, box.lower, box.upper)
        residual, slant = length(gradient), length(grad)
        # In large units a gradient may be short of a unit in the last place of the params; what bounds hold is no step.
        least = _BEYOND_ROUNDING * float(jnp.finfo(here.dtype).eps) * length(here)
        most = jnp.where((least > 0) & (residual > 0), residual / least, jnp.inf)
        steep = jnp.minimum(jnp.maximum(1, slant), most)
        walled = jnp.all(jnp.isfinite(box.upper - box.lower))
        unknown = jnp.where(walled, jnp.minimum(1, most), steep)
        p = boxes.toward(pairs, here, grad, box.lower, box.upper, unknown)
        slope, size = jnp.sum(grad * p), length(p)
        bad = ~(slope < -jnp.finfo(p.dtype).eps * residual * size) | ~jnp.isfinite(size)
        down = boxes.projected(here, grad / steep, box.lower, box.upper)
        p = jnp.where(bad, down, p)
        slope = jnp.where(bad, jnp.sum(grad * down), slope).astype(wide)
        carried = carried_gain(trial.along, state.bracket.origin.slope, slope)
        unknown = (bad | ~(pairs.scale > 0)) & ~trial.give_up
        first = jnp.minimum(jnp.where(unknown, carried, 1), _reach(box, here, p).astype(wide))
        bracket = search.init(base.value, slope, first)._replace(trials=-bad.astype(jnp.int32))
        return p, trees.keep_types(bracket, trial.bracket), pairs

    return control_flow.cond(moved, ask, lambda: (state.direction, trial.bracket, state.pairs))


def _propose(box, base, p, step):
    """The next trial, in the box to the last bit; the accepted point where nothing finite leads away from it."""
    target = boxes.landed(base.x, step.astype(base.x.dtype) * p, box.lower, box.upper)
    return jnp.where(jnp.isfinite(base.residual) & jnp.all(jnp.isfinite(target)), target, base.x)


def _largest_curvature(state, trial, change, base):
    """The largest curvature along late steps, and the one to judge rounding by: no larger than the last step's."""
    moved = length(trial.step)
    curvature = (length(change) / moved).astype(base.value.dtype)
    # A step that is rounding itself tells of no curvature.
    told = jnp.isfinite(curvature) & (moved > float(jnp.finfo(base.x.dtype).eps) ** 0.5 * length(base.x))
    curvature = jnp.where(told, curvature, state.largest_curvature)
    largest = faded(state.largest_curvature, curvature, trial.accept & ~trial.fresh)
    return largest, jnp.minimum(curvature, largest)


def _status(base, value, over, curvature):
    """The termination status."""
    noise = _ROUNDING * float(jnp.finfo(base.x.dtype).eps) * length(base.x) * curvature
    status = ended(over, base.residual <= noise)
    lowest = fell(jnp.fmin(value, base.value), base.x.dtype)
    status = jnp.where(lowest, jnp.int8(Status.UNBOUNDED), status)
    # A base is taken without a test; where its gradient is infinite into a bound, nothing is left to do.
    finite = jnp.isfinite(base.residual) & (jnp.all(jnp.isfinite(base.grad)) | (base.residual == 0))
    return jnp.where(finite, status, jnp.int8(Status.NONFINITE))


def _update(settings, updates, state: BoundedState, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("lbfgsb", params=params, value=value)
    _, search, bounds = settings
    box = box_of("lbfgsb", bounds, params)
    given, back = flat(updates)
    if given.size == 0:
        return updates, state
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    trial = _test(search, state, box, params, f, given)
    base = _taken(state, box, trial, given, f)
    p, bracket, pairs = _aim(search, state, box, trial, base)
    target = _propose(box, base, p, bracket.step)

    stuck = jnp.all(target == base.x)
    renewed = trial.fresh & ((f != state.answer.value) | jnp.any(given != state.grad))
    lower = trial.accept & (base.value < state.lowest - trial.noise)
    progress = trial.accept & (renewed | lower | (base.residual < 0.5 * state.mark))
    idle = jnp.where(progress, 0, state.idle + 1 + _RESTART * (trial.give_up | stuck))
    over = idle >= _PATIENCE
    largest_curvature, curvature = _largest_curvature(state, trial, given - state.grad, base)
    status = _status(base, f, over, curvature)
    target = jnp.where(over, base.x, target)
    new = BoundedState(
        answer=Answer(back(base.x), base.value, base.residual, status),
        optimality=state.optimality,
        grad=base.grad,
        direction=p,
        bracket=bracket,
        pairs=pairs,
        lowest=jnp.where(renewed, f, jnp.minimum(state.lowest, base.value)),
        mark=jnp.where(progress, base.residual, state.mark),
        largest_curvature=largest_curvature,
        idle=idle,
    )
    return box.moves(params, back(target)), trees.keep_types(new, state)


class _Memory(NamedTuple):
    """How many pairs: static, like a shape."""

    pairs: int

    def __call__(self, x):
        return boxes.no_pairs(self.pairs, x)


def lbfgsb(
    lower: Prefix = None, upper: Prefix = None, *, memory: int = 10, search: Search | None = None
) -> Transformation:
    r"""L-BFGS between bounds.

    .. math:: \min_x f(x) \quad\text{subject to}\quad l \le x \le u

    From each accepted point the model of `gdjax.linalg.boxes` is minimized in the box: along the projected path of
    the gradient down to its first minimum, then over the variables that met no bound there. The search goes toward
    that point, up to the first bound on the way.

    One evaluation an update; besides it products with ``(2m, n)`` arrays, a sort, and matrices of size 2m. Trials
    are inside the box to the last bit, and a run of `gdjax.minimize` starts at the projection of its starting
    point, so that the objective is never seen outside.

    Args:
      lower: lower bounds: a number, an array, or a pytree with the structure of the params or a prefix of it;
        ``-inf`` and None where there are none. Where ``lower == upper`` a variable is fixed.
      upper: upper bounds, likewise.
      memory: how many pairs to keep, a Python integer of at least 1.
      search: how far to go along the direction; `strong_wolfe` by default.

    Returns:
      A transformation that keeps an `Answer`, whose residual is the norm of the gradient as far as the box leaves
      room to follow it, :math:`g_i \min(1, 100\, d_i / \lVert x \rVert_\infty)` with the distance :math:`d_i` to
      the bound.

    Raises:
      ValueError: if ``memory`` is below 1, or a lower bound above an upper one where both are known.

    Reference:
      Byrd, Lu, Nocedal, Zhu, A limited memory algorithm for bound constrained optimization, SIAM J. Sci. Comput.
      16, 1995; Morales, Nocedal, Remark on algorithm 778, ACM Trans. Math. Softw. 38, 2011.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum((x - jnp.array([2.0, 0.5])) ** 2)
      >>> gdjax.minimize(f, jnp.zeros(2), gdjax.lbfgsb(0.0, 1.0)).params.round(3).tolist()
      [1.0, 0.5]
    """
    checks.integer("lbfgsb", 1, memory=memory)
    ordered("lbfgsb", lower, upper)
    search = chosen("lbfgsb", search, strong_wolfe)
    settings = _Settings(Partial(_Memory(int(memory))), search, Limits(lower, upper))
    return trees.with_settings(_init, _update, settings)
