r"""Trial points of model-based methods: accepted or not, how well the model predicted them, and when to give
up.

A trust region, cubic regularization and Levenberg-Marquardt share a shape: a model predicts what a step
gains, the driver evaluates the point, and `test` compares. Where the gain is below the rounding of the
value, gradients are the witness instead: along :math:`s`, :math:`-\tfrac12 (g + g_+)^T s` is the gain up to
third order, and its rounding is relative to the gain and not to :math:`|f|`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import checks
from gdjax._internal.termination import fell
from gdjax._internal.trees import flat, value_type
from gdjax.linalg.subproblems import Move, norm
from gdjax.objectives import differentiability
from gdjax.types import Answer, Curvature, Operator, Params, Scalar, ScalarLike, Status, ValueFn

__all__ = [
    "ACCEPT",
    "Base",
    "Acceptance",
    "aim",
    "capped",
    "first_radius",
    "join",
    "test",
    "move_to",
    "next_radius",
    "operator_at",
    "propose",
    "revived",
    "split",
    "start",
]

ACCEPT = 1e-4
"""The least share of the predicted reduction with which a trial is accepted: that of lmder in MINPACK."""
_PATIENCE = 12
"""Trials in a row below the noise level before the method gives up."""
_SMOOTH = 0.5
"""The power of eps by which, at a kink, gradients have not fallen and the curvature has risen all the same."""


class Base(NamedTuple):
    """The accepted point and what has been tried from it.

    Attributes:
      answer: the accepted point as the driver reads it.
      grad: the gradient there, flat.
      move: the step to the pending trial, as the model sees it.
      count: updates made.
      failures: trials rejected in a row.
      idle: updates since the residual last halved while gains were below the noise level.
      least: the residual then.
      seen: the largest residual at an accepted point, and the smallest curvature that set the scale of a move.
    """

    answer: Answer
    grad: jax.Array
    move: Move
    count: Scalar
    failures: Scalar
    idle: Scalar
    least: Scalar
    seen: jax.Array


class Acceptance(NamedTuple):
    """What a trial has shown.

    Attributes:
      accept: whether it becomes the base.
      fresh: whether it *is* the base, shown for the first time or on new data: taken without a test.
      ratio: gain seen over gain predicted; -inf where the trial is not finite.
      length: the 2-norm of the step that was taken.
      along: the share of the step proposed that was taken: one, but for transformations behind.
      shrink: the factor in [0.1, 0.5] by which interpolation would shorten the step.
      below_noise: whether the predicted gain is below what the value can resolve.
    """

    accept: Scalar
    fresh: Scalar
    ratio: Scalar
    length: Scalar
    along: Scalar
    shrink: Scalar
    below_noise: Scalar


def start(params: Params) -> Base:
    """The base before the first evaluation."""
    x, _ = flat(params)
    zero, unknown = jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    none = jnp.int32(0)
    value = unknown.astype(value_type(x.dtype))
    answer = Answer(params, value, unknown, jnp.int8(Status.RUNNING))
    move = Move(jnp.zeros_like(x), zero, zero, zero)
    return Base(answer, jnp.zeros_like(x), move, none, none, none, unknown, jnp.stack([zero, unknown]))


def _gain(base: Base, s, value, grad, predicted):
    """The gain seen: by values, or by gradients where the predicted one is below the values' rounding."""
    f = base.answer.value
    rounding = 10 * jnp.finfo(value.dtype).eps * jnp.maximum(jnp.abs(f), jnp.abs(value))
    rounding = rounding.astype(s.dtype)
    below_noise = predicted <= 10 * rounding
    by_value = (f - value).astype(s.dtype)
    by_slope = -0.5 * (jnp.dot(base.grad, s) + jnp.dot(grad, s))
    credible = by_value >= -rounding
    return jnp.where(below_noise, jnp.where(credible, by_slope, by_value), by_value), below_noise


def test(base: Base, x: jax.Array, value: Scalar, grad: jax.Array) -> Acceptance:
    """Compares the trial ``x`` with the base and the move that led to it."""
    origin, _ = flat(base.answer.params)
    fresh = (base.count == 0) | jnp.all(x == origin)
    s, p = x - origin, base.move.step
    unit = jnp.max(jnp.abs(p))  # of both, with which no square overflows
    along = jnp.dot(s / unit, p / unit) / jnp.dot(p / unit, p / unit)
    along = jnp.where(jnp.isfinite(along), along, 1)  # below one where a transformation behind shortened it
    slope, curvature_along = along * base.move.slope, along * along * base.move.curvature_along
    predicted = -(slope + 0.5 * curvature_along)
    gain, below_noise = _gain(base, s, value, grad, predicted)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    ratio = jnp.where(finite & (predicted > 0), gain / predicted, -jnp.inf)
    # Conn, Gould, Toint (2000), section 17.1, serves a slope of zero too.
    shrink = 0.75 * slope / (0.75 * slope - 0.25 * predicted + gain)
    shrink = jnp.where(finite & (shrink > 0), jnp.clip(shrink, 0.1, 0.5), jnp.where(finite, 0.5, 0.1))
    accept = fresh | (ratio >= ACCEPT)
    return Acceptance(accept, fresh, ratio, norm(s), along, shrink, below_noise & ~fresh)


def move_to(
    base: Base,
    tested: Acceptance,
    params: Params,
    value: Scalar,
    grad: jax.Array,
    residual: Scalar | None = None,
) -> Base:
    """The base after the acceptance test: the trial where it was accepted.

    Args:
      base: the base before.
      tested: the acceptance test.
      params: the trial.
      value: the objective there.
      grad: the gradient there, flat.
      residual: the optimality measure there; the gradient's norm by default.
    """

    def take(new, old):
        return jnp.where(tested.accept, jnp.asarray(new, old.dtype), old)

    residual = norm(grad) if residual is None else residual
    answer = Answer(
        jax.tree.map(take, params, base.answer.params),
        take(value, base.answer.value),
        take(residual, base.answer.residual),
        base.answer.status,
    )
    better = tested.accept & (residual < 0.5 * base.least)
    return base._replace(
        answer=answer,
        grad=take(grad, base.grad),
        count=base.count + 1,
        failures=jnp.where(tested.accept, 0, base.failures + 1),
        idle=jnp.where(better | ~tested.below_noise, 0, base.idle + 1),
        least=jnp.where(better, residual, jnp.minimum(base.least, answer.residual)),
        seen=jnp.stack([jnp.maximum(base.seen[0], answer.residual), base.seen[1]]),
    )


def _at_kink(base: Base, move: Move, eps: float) -> Scalar:
    """Whether the curvature has grown beyond all measure and the slope is still there: no rounding, but a kink."""
    steepest, flattest = base.seen
    risen = (flattest > 0) & (move.scale * eps**_SMOOTH > flattest)
    return risen & (base.answer.residual > eps**_SMOOTH * steepest)


def _termination(base: Base, move: Move, trial: jax.Array) -> Scalar:
    """Whether steps from here can still progress, as a `Status`."""
    origin, _ = flat(base.answer.params)
    value, eps = base.answer.value, jnp.finfo(origin.dtype).eps
    predicted = -(move.slope + 0.5 * move.curvature_along)
    small = predicted <= 10 * eps * jnp.abs(value)
    unresolved = base.answer.residual <= 4 * eps * move.scale * norm(origin)
    still = jnp.all(trial == origin)
    limit = 2 * jnp.finfo(origin.dtype).nmant
    idle = (small | unresolved) & ((base.failures >= 4) | (base.idle >= _PATIENCE))
    # A step that has collapsed meets next to no curvature: its gain is small for being short.
    whole = move.curvature_along > -(eps**0.5) * move.slope
    noise = (still | idle) & ((small & whole) | unresolved) & ~_at_kink(base, move, float(eps))
    status = jnp.where(still | idle | (base.failures >= limit), Status.STALLED, Status.RUNNING)
    status = jnp.where(noise, Status.NOISE_FLOOR, status)
    status = jnp.where(fell(value, origin.dtype), Status.UNBOUNDED, status)
    # A gradient that is infinite into a bound leaves nothing to do: the projected one is zero.
    residual = base.answer.residual
    whole = jnp.isfinite(residual) & (jnp.all(jnp.isfinite(base.grad)) | (residual == 0))
    return jnp.where(whole, status, Status.NONFINITE).astype(jnp.int8)


def aim(
    base: Base, move: Move, trial: jax.Array, back: Callable[[jax.Array], Params]
) -> tuple[Base, jax.Array]:
    """The base with its status, and the next trial: the one asked for where that is finite, else the base."""
    origin, _ = flat(base.answer.params)
    trial = jnp.where(jnp.all(jnp.isfinite(trial)), trial, origin)
    landing, _ = flat(back(trial))
    answer = base.answer._replace(status=_termination(base, move, landing))
    flattest = jnp.where(move.scale > 0, jnp.minimum(base.seen[1], move.scale), base.seen[1])
    seen = jnp.stack([base.seen[0], flattest])
    return base._replace(answer=answer, move=move, seen=seen), trial


def propose(base: Base, move: Move, x: jax.Array, back: Callable[[jax.Array], Params]) -> tuple[Base, Params]:
    """The base with its termination status, and the updates that lead from ``x`` to the next trial, finite always."""
    origin, _ = flat(base.answer.params)
    base, trial = aim(base, move, origin + move.step, back)
    return base, back(trial - x)


def first_radius(
    given: ScalarLike | None, x: jax.Array, grad: jax.Array, form: Callable[[jax.Array], Scalar]
) -> Scalar:
    r"""As asked for, else the larger of the way to the Cauchy point, |g|^3 / |g^T B g|, and of |x|.

    Args:
      given: the radius asked for, or None.
      x: the point.
      grad: the gradient there.
      form: ``v -> v^T B v``; seen at a vector of length one, so that no square overflows.
    """
    size = norm(grad)
    point = size / jnp.abs(form(grad / jnp.where(size > 0, size, 1)))
    far = jnp.where(jnp.isfinite(point) & (point > 0), point, 1)
    automatic = jnp.maximum(far, norm(x))
    return automatic if given is None else jnp.asarray(given, x.dtype)


def next_radius(radius: Scalar, tested: Acceptance) -> Scalar:
    """Conn, Gould, Toint (2000), section 17.1, without a largest radius."""
    reach = tested.length / tested.along
    grown = jnp.maximum(radius, 2 * reach)
    good = (tested.ratio >= 0.75) & (reach >= 0.9 * radius)
    return jnp.where(tested.ratio < 0.25, tested.shrink * tested.length, jnp.where(good, grown, radius))


def revived(radius: Scalar, fresh: Scalar, x: jax.Array) -> Scalar:
    """The radius where nothing was tried: on new data at least what rounding leaves room for.

    The old data may have made it collapse.
    """
    least = jnp.finfo(radius.dtype).eps ** 0.5 * norm(x)
    return jnp.where(fresh, jnp.maximum(radius, least), radius)


def capped(radius: Scalar) -> Scalar:
    """A radius from which no coordinate overflows."""
    largest = jnp.finfo(radius.dtype).max ** 0.9
    return jnp.where(jnp.isfinite(radius), jnp.minimum(radius, largest), largest)


def split(base: Base) -> Base:
    """The base without its answer, which a state holds beside it."""
    return base._replace(answer=())


def join(base: Base, answer: Answer) -> Base:
    """Undoes `split`."""
    return base._replace(answer=answer)


def operator_at(owner: str, curvature: Curvature, value_fn: ValueFn, params: Params) -> Operator:
    """The curvature at ``params`` as an operator on flat vectors, for the method ``owner``."""
    x, back = flat(params)

    def at_need():
        return differentiability.needed(owner, "second", value_fn, params)

    with at_need():
        operator = checks.operator(curvature(value_fn, params))
        differentiability.traced(operator.product, params)  # to be refused here and not by the compiler

    def product(v):
        with at_need():
            return flat(operator.product(back(v)))[0]

    def dense():
        with at_need():
            return operator.dense().astype(x.dtype)

    return Operator(product, dense)
