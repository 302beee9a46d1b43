r"""A direction and a search make a flat method: one evaluation an update, no loop around the objective.

The state names the accepted point as its ``answer``; the point that ``update`` is given is the trial
:math:`x_k + a p_k` that the update before proposed. The search judges it. Accepted, it becomes
:math:`x_{k+1}`, and the direction sees the pair :math:`s = x_{k+1} - x_k`, :math:`y = g_{k+1} - g_k`;
rejected, the update is the move back to a better trial. Where a search gives up, the direction forgets the
past and steepest descent has its turn; where that gives up too, the status says so.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.termination import ended, faded, fell
from gdjax._internal.trees import flat, power_of_two, unit
from gdjax.linesearch.directions import LONGEST, Base, Direction, Move, aim, dot
from gdjax.linesearch.searches import ACCEPT, GIVE_UP, Bracket, Point, Search, chosen, strong_wolfe
from gdjax.types import Answer, Scalar, State, Status, Transformation

__all__ = ["DescentState", "descend"]

_PATIENCE = 60
"""Updates without progress before a method gives up."""
_RESTART = 30
"""What a failed search counts among them."""
_BESIDE_OTHERS = 1e-2
"""What counts as eps where other methods move other params between the evaluations."""
_RESOLVED = 10
"""The shortest step that tells of curvature, in units of eps times the point's norm."""
_FAR = 2.0**20
"""A unit of params, beside one: squares of numbers up to 1e25 in float32 do not overflow, and what vanishes is tiny."""
_ROUNDING = 10
"""Rounding of a value, in units of eps times its size."""


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
    memory: State
    best: Best
    idle: Scalar


class _Trial(NamedTuple):
    """The point given, beside the accepted one; what `Move` has too is there as it is here.

    Attributes:
      x: the point.
      grad: the gradient there.
      value: the objective there; infinite where the gradient is not finite.
      base: the accepted point.
      size: its norm.
      step: from it to the point given.
      change: that of the gradient.
      units: sizes of step, change and gradient.
      squares: of step and change, over their units.
      residual: the norm of the gradient.
      eps: the rounding of params and value.
    """

    x: jax.Array
    grad: jax.Array
    value: Scalar
    base: jax.Array
    size: Scalar
    step: jax.Array
    change: jax.Array
    units: tuple[Scalar, Scalar, Scalar]
    squares: tuple[Scalar, Scalar]
    residual: Scalar
    eps: float


class _Acceptance(NamedTuple):
    """What the search decides of a trial.

    Attributes:
      accept: whether it becomes the accepted point.
      give_up: whether the search has failed.
      fresh: whether it was taken without a test.
      noise: the rounding of values that the test allows for.
      along: the step length of the trial.
      bracket: the search's state after it.
    """

    accept: Scalar
    give_up: Scalar
    fresh: Scalar
    noise: Scalar
    along: Scalar
    bracket: Bracket


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


def _evaluated(state, x, grad, params, value) -> _Trial:
    """The trial and the pair that it makes with the accepted point, by inner products that do not overflow."""
    base, _ = flat(state.answer.params)
    f, s, y = jnp.asarray(value).astype(state.answer.value.dtype), x - base, grad - state.grad
    ug, finite = unit(grad)
    first = ~(state.best.value < jnp.inf)
    # The units of what is known before it is looked at: of the gradient at the base, and of the step asked for.
    uy = jnp.maximum(ug, power_of_two(jnp.where(first, 0, state.answer.residual))).astype(x.dtype)
    us = power_of_two(state.length * state.bracket.step).astype(x.dtype)
    ss, yy, gg = (dot(v / u, v / u) for v, u in ((s, us), (y, uy), (grad, ug)))
    size = (_FAR * jnp.sqrt(dot(base / _FAR, base / _FAR))).astype(f.dtype)
    f = jnp.where(finite | first, f, jnp.inf)
    residual = (ug * jnp.sqrt(gg)).astype(f.dtype)
    return _Trial(x, grad, f, base, size, s, y, (us, uy, ug), (ss, yy), residual, _eps(params, value))


def _test(search, state, trial) -> _Acceptance:
    """The search tests the point given; one that is the base itself is taken without a test."""
    f, (us, _, _), (ss, _) = trial.value, trial.units, trial.squares
    wide, p, lowest = f.dtype, state.direction, state.best.value
    along = dot(trial.step / us, p / state.length.astype(p.dtype)).astype(wide) * (
        us / state.length
    )  # s = a p
    first, still = ~(lowest < jnp.inf), ss == 0
    fresh = first | (still & (state.bracket.trials <= 0))
    noise = _ROUNDING * trial.eps * jnp.abs(state.answer.value)
    noise = jnp.where(first, 0, jnp.clip(lowest + noise - state.answer.value, 0, noise))
    slope = dot(trial.grad, p).astype(wide)
    tried = Point(along, jnp.where(jnp.isfinite(f), f, jnp.inf), slope)
    longest = LONGEST * jnp.maximum(1, trial.size) / state.length
    decision, bracket = control_flow.cond(
        fresh,
        lambda: (jnp.int32(ACCEPT), state.bracket),
        lambda: search.update(state.bracket, tried, noise, longest),
    )
    accept = fresh | (~still & (decision == ACCEPT))
    give_up = ~accept & (still | (decision == GIVE_UP))
    return _Acceptance(accept, give_up, fresh, noise, along, bracket)


def _taken(state, trial, tested, given) -> tuple[Base, Move]:
    """The accepted point after the test, and what the direction sees of it."""
    accept, (us, uy, ug) = tested.accept, trial.units
    value = jnp.where(accept, trial.value, state.answer.value)
    gain, paired = state.answer.value - value, accept & ~tested.fresh
    base = Base(
        x=jnp.where(accept, trial.x, trial.base),
        value=value,
        residual=jnp.where(accept, trial.residual, state.answer.residual),
        gain=jnp.where(paired & (gain > tested.noise), gain, 0),
        size=trial.size,
    )
    move = Move(
        grad=jnp.where(accept, trial.grad, state.grad),
        step=trial.step,
        change=trial.change,
        direction=state.direction,
        along=tested.along,
        units=(us, uy, jnp.where(accept, ug, uy)),
        squares=trial.squares,
        accepted=accept,
        paired=paired,
        failed=tested.give_up | (accept & (state.bracket.trials < 0)),
        given=given,
    )
    return base, move


def _propose(base, p, step):
    """The next trial; the accepted point itself where nothing finite leads away from it."""
    sound = jnp.isfinite(base.residual) & jnp.isfinite(2 * LONGEST * base.size)
    return jnp.where(sound, base.x + step.astype(p.dtype) * p, base.x)


def _records(state, trial, tested, base, move, bracket) -> tuple[Best, Scalar, Scalar]:
    """The records after the trial, whether it was progress, and whether the residual is below the noise level."""
    (us, uy, _), (ss, yy), eps, size = trial.units, trial.squares, trial.eps, trial.size
    lowest, mark, largest_curvature, first, predicted = state.best
    renewed = tested.fresh & ((trial.value != state.answer.value) | (yy > 0))
    fallen = (base.value < lowest - tested.noise) | (base.residual < 0.5 * mark)
    progress = tested.accept & (renewed | fallen)

    curvature = (jnp.sqrt(yy / ss) * (uy / us)).astype(base.value.dtype)
    told = move.paired & (jnp.sqrt(ss) * us > _RESOLVED * eps * size)
    least = jnp.where(told, jnp.minimum(curvature, largest_curvature), largest_curvature)
    below_noise = base.residual <= _ROUNDING * eps * size * least
    # Coordinates differ: one may hide in the rounding that others suffer, while a gain is predicted that values show.
    first = jnp.where(lowest < jnp.inf, first, jnp.abs(trial.value))
    hope = jnp.where(bracket.trials == 0, -bracket.origin.slope * bracket.step, 0)
    predicted = jnp.maximum(jnp.where(progress, 0, predicted), hope)
    below_noise &= predicted <= _ROUNDING * eps * jnp.maximum(jnp.abs(base.value), first)
    best = Best(
        jnp.where(renewed, trial.value, jnp.minimum(lowest, base.value)),
        jnp.where(progress, base.residual, mark),
        faded(largest_curvature, curvature, told),
        first,
        predicted,
    )
    return best, progress, below_noise


def _status(trial, base, over, below_noise):
    """The termination status."""
    lowest = fell(jnp.fmin(trial.value, base.value), trial.x.dtype)
    status = jnp.where(lowest, jnp.int8(Status.UNBOUNDED), ended(over, below_noise))
    # A base is taken without a test: where its gradient is not finite nothing leads away from it.
    return jnp.where(jnp.isfinite(base.residual), status, jnp.int8(Status.NONFINITE))


def _update(direction, search, updates, state, params=None, *, value=None, **extra):
    checks.require("a line search", params=params, value=value)
    (x, back), (grad, _) = flat(params), flat(updates)
    if x.size == 0:
        return updates, state
    trial = _evaluated(state, x, grad, params, value)
    tested = _test(search, state, trial)
    base, move = _taken(state, trial, tested, (params, updates, value, extra))
    p, length, memory, bracket = aim(direction, search, state.memory, tested.bracket, move, base)
    proposal = _propose(base, p, bracket.step)
    best, progress, below_noise = _records(state, trial, tested, base, move, bracket)

    stuck = jnp.all(proposal == base.x)
    idle = jnp.where(progress, 0, state.idle + 1 + _RESTART * (tested.give_up | stuck))
    over = idle >= _PATIENCE
    status = _status(trial, base, over, below_noise)
    proposal = jnp.where(over, base.x, proposal)
    bracket = bracket._replace(trials=jnp.where(stuck | over, -1, bracket.trials))
    answer = Answer(back(base.x), base.value, base.residual, status)
    new = DescentState(answer, move.grad, p, length, bracket, memory, best, idle)
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
