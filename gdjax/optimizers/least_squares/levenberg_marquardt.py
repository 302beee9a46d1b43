r"""Levenberg-Marquardt.

.. math:: f(x) = \ell(m(x)), \qquad (J^T M J + \mu D^2)\, p = -J^T u

with the Jacobian :math:`J` of the model, :math:`u = \nabla \ell`, :math:`M = \nabla^2 \ell` at its outputs:
for `gdjax.least_squares`, :math:`u` are the residuals and :math:`M = I`. The systems are solved by singular
values and not by the normal equations: rank-deficient and under-determined residuals get the shortest step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax._internal import arguments, checks, control_flow, trees
from gdjax.linalg.jacobians import Spectrum, damped_solve, require_composite, rows_at, spectrum
from gdjax.linalg.subproblems import Move, norm
from gdjax.objectives import differentiability
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Base
from gdjax.optimizers.least_squares.damping_rules import Damping, region
from gdjax.types import Answer, Scalar, ScalarLike, Status, Transformation

__all__ = [
    "LevenbergMarquardtState",
    "columns",
    "levenberg_marquardt",
    "uniform",
]


def columns(rows: jax.Array, previous: jax.Array) -> jax.Array:
    """Marquardt's scaling: the largest norm that each column of the Jacobian has had.

    Reference:
      Moré (1978), equation 6.3.
    """
    most = trees.power_of_two(jnp.max(jnp.abs(rows), 0))
    sizes = most * jnp.sqrt(jnp.sum((rows / most[None, :]) ** 2, 0))
    largest = jnp.max(sizes)
    floor = jnp.sqrt(jnp.finfo(rows.dtype).eps) * jnp.where(largest > 0, largest, 1)
    return jnp.maximum(previous, jnp.where(sizes > 0, sizes, floor))


def uniform(rows: jax.Array, previous: jax.Array) -> jax.Array:
    """Levenberg's scaling: none."""
    return jnp.ones_like(previous)


class _Settings(NamedTuple):
    damping: Damping
    scaling: Callable[[jax.Array, jax.Array], jax.Array]
    geodesic: ScalarLike | None


class LevenbergMarquardtState(NamedTuple):
    """The accepted point, its Jacobian by singular values, and the damping.

    Attributes:
      answer: the accepted point.
      base: what has been tried from it.
      spectrum: of the scaled Jacobian there.
      numbers: the damping's.
      sizes: the largest norm that each column of the Jacobian has had.
    """

    answer: Answer
    base: Base
    spectrum: Spectrum
    numbers: jax.Array
    sizes: jax.Array


def _init(settings, params):
    del settings
    base = acceptance.start(params)
    n, dtype = base.grad.size, base.grad.dtype
    vector = jnp.zeros(n, dtype)
    empty = Spectrum(vector, jnp.zeros((n, n), dtype), vector, vector)
    return LevenbergMarquardtState(base.answer, acceptance.split(base), empty, jnp.zeros(2, dtype), vector)


def _bent(composite, params, step, found, shift, limit):
    r"""The step with its geodesic acceleration, :math:`p + \tfrac12 a`, where that is short enough.

    Reference:
      Transtrum, Sethna, Improvements to the Levenberg-Marquardt algorithm, arXiv:1201.5885, equations 5 and
      15.
    """
    x, back = ravel_pytree(params)
    outputs, unravel = ravel_pytree(composite.model(params))

    def model(v):
        return trees.replicated(ravel_pytree(composite.model(back(v)))[0])

    def velocity(v):
        return jax.jvp(model, (v,), (step.astype(x.dtype),))[1]

    turn = jax.jvp(velocity, (x,), (step.astype(x.dtype),))[1]
    slope = jax.grad(lambda z: composite.loss(unravel(z)))
    pulled = jax.vjp(model, x)[1](jax.jvp(slope, (outputs,), (turn,))[1])[0].astype(step.dtype)
    below = found.values**2 + shift
    inner = found.vectors.T @ (pulled / found.scales) / jnp.where(below > 0, below, jnp.inf)
    half = -0.5 * (found.vectors @ inner) / found.scales
    short = 4 * norm(half * found.scales) <= limit * norm(step * found.scales)
    return jnp.where(short & jnp.all(jnp.isfinite(half)), step + half, step)


def _move(found, shift, grad):
    p = damped_solve(found, shift, found.rest)
    step = (found.vectors @ p) / found.scales
    steep = (found.values * found.scales)[0]
    scale = jnp.where(steep < jnp.finfo(steep.dtype).max ** 0.5, steep * steep, jnp.finfo(steep.dtype).max)
    return Move(step, jnp.dot(grad, step), jnp.sum((found.values * p) ** 2), scale)


class _Linearized(NamedTuple):
    """The residuals' linear model at a point.

    Attributes:
      spectrum: of the scaled Jacobian.
      grad: the gradient by the Jacobian; NaN where that has vanished whole.
      sizes: the largest norm that each column has had.
      vanished: how large the gradient may be along columns that have vanished, at the norms they had.
    """

    spectrum: Spectrum
    grad: jax.Array
    sizes: jax.Array
    vanished: Scalar


def _linearize(composite, params, scaling, state, dtype) -> _Linearized:
    """One Jacobian, factored."""
    rows, rest = rows_at(composite, params, dtype)
    grad = jnp.where(jnp.any(rows != 0), rows.T @ rest, jnp.nan)
    sizes = jnp.sqrt(jnp.sum(rows * rows, 0))
    # Below this the singular values do not count, and a step leaves the parameter where it is.
    cut = 2 * jnp.asarray(rows.shape[1], dtype) ** 1.5 * float(jnp.finfo(dtype).eps)
    vanished = norm(rest) * jnp.max(jnp.where(sizes <= cut * state.sizes, state.sizes, 0))
    scaled = spectrum(rows, rest, scaling(rows, state.spectrum.scales))
    return _Linearized(scaled, grad, jnp.maximum(state.sizes, sizes), vanished)


def _damped(damping, state, found, tested, first, x):
    """The damping's numbers after the test: at the start its first ones, on new data those it has."""
    begin = damping.first(found, norm(found.scales * x))
    numbers = jnp.where(tested.fresh, state.numbers, damping.next(state.numbers, tested))
    return jnp.where(first, begin, numbers)


def _honest(answer, grad):
    """A plateau where columns have vanished is no point as low as rounding allows: STALLED, not NOISE_FLOOR."""
    status = jnp.asarray(answer.status)
    hollow = (status == Status.NOISE_FLOOR) & (answer.residual > 2 * norm(grad))
    return answer._replace(status=jnp.where(hollow, jnp.int8(Status.STALLED), status))


def _update(settings, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    damping, scaling, geodesic = settings
    checks.require("levenberg_marquardt", params=params, value=value, value_fn=value_fn)
    composite = require_composite(value_fn, "levenberg_marquardt")
    (x, back), (grad, _) = trees.flat(params), trees.flat(updates)
    old = acceptance.join(state.base, state.answer)
    origin, _ = trees.flat(old.answer.params)

    # The linear model, where the trial will be accepted. Reverse mode may overflow where forward mode does not: then
    # the gradient is the Jacobian's.
    finite = jnp.all(jnp.isfinite(grad))
    likely = acceptance.test(old, x, value, jnp.where(finite, grad, old.grad)).accept
    stale = _Linearized(state.spectrum, grad, state.sizes, jnp.zeros((), x.dtype))
    model = control_flow.cond(
        likely, lambda: _linearize(composite, params, scaling, state, x.dtype), lambda: stale
    )
    grad = jnp.where(finite, grad, model.grad)

    # The acceptance test. Where a column has vanished, exp(-x) far out, a gradient of zero says nothing: no parameter
    # was fitted there.
    tested = acceptance.test(old, x, value, grad)
    tested = tested._replace(length=norm(state.spectrum.scales * (x - origin)))
    residual = jnp.maximum(norm(grad), model.vanished)
    base = acceptance.move_to(old, tested, params, value, grad, residual)
    found = trees.choose(tested.accept, model.spectrum, state.spectrum)
    sizes = jnp.where(tested.accept, model.sizes, state.sizes)

    # The damped step, bent along the residuals' second derivative where that is asked for.
    numbers = _damped(damping, state, found, tested, old.count == 0, x)
    shift = damping.shift(numbers, found)
    move = _move(found, shift, base.grad)
    if geodesic is not None:
        here = base.answer.params
        with differentiability.needed("levenberg_marquardt(geodesic=...)", "second", composite, here):
            bent = Partial(_bent, composite)
            step = differentiability.isolated(bent, here, move.step, found, shift, geodesic)
        move = move._replace(step=step)
    base, moves = acceptance.propose(base, move, x, back)
    answer = _honest(base.answer, base.grad)
    return moves, LevenbergMarquardtState(answer, acceptance.split(base), found, numbers, sizes)


def levenberg_marquardt(
    *,
    damping: Damping | None = None,
    scaling: Callable[[jax.Array, jax.Array], jax.Array] = columns,
    geodesic: ScalarLike | None = None,
) -> Transformation:
    r"""Levenberg-Marquardt.

    Flat: one evaluation of value and gradient an update, and one Jacobian an accepted point, with its QR
    factors and singular values, :math:`O(m n^2 + n^3)`. Choose it for residuals of up to some hundreds of
    parameters. Other convex losses of a model are welcome (`gdjax.Composite`), with the generalized
    Gauss-Newton matrix.

    Args:
      damping: ``region()`` (the default) or ``nielsen()`` of `gdjax.optimizers.least_squares.damping_rules`.
      scaling: ``(rows, previous) -> D``: `columns` or `uniform`.
      geodesic: the longest acceleration, relative to the step, for which the step is bent along the model's
        geodesic, 0.75 in the paper; one more pass through the model an update. None takes straight steps.

    Returns:
      A transformation that keeps an `Answer`; for its statuses see `gdjax.trust_region`. Its residual is the norm of
      the gradient; where a column of the Jacobian has vanished beside what it was (a rate that ran off, so that
      exp(-x) is zero), it is the norm of the residuals times the largest that the column was, and the run ends
      `Status.STALLED`: neither a solution nor a matter of rounding.

    Raises:
      TypeError: in ``update``, where ``value_fn`` is not a `Composite`, or has a penalty.

    Reference:
      Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, SIAM J. Appl. Math. 11 (1963); Moré, LNM 630 (1978).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> t = jnp.arange(5.0)
      >>> y = 3.0 * jnp.exp(-0.5 * t)
      >>> f = gdjax.least_squares(lambda p: p[0] * jnp.exp(-p[1] * t) - y)
      >>> run = gdjax.minimize(f, jnp.array([1.0, 1.0]), gdjax.levenberg_marquardt())
      >>> [round(float(p), 4) for p in run.params]
      [3.0, 0.5]
    """
    if damping is not None and not isinstance(damping, Damping):
        raise TypeError(
            f"levenberg_marquardt: damping must be a Damping such as nielsen(1e-3), got {arguments.named(damping)}"
        )
    checks.function("levenberg_marquardt", "rows, previous", "such as columns of its module", scaling=scaling)
    checks.optional("levenberg_marquardt", above=0, geodesic=geodesic)
    settings = _Settings(region() if damping is None else damping, scaling, geodesic)
    return trees.with_settings(_init, _update, settings)
