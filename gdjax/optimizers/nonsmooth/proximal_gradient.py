r"""Proximal gradients, for :math:`F(x) = f(x) + r(x)` with a smooth :math:`f` and a regularizer :math:`r`.

.. math:: y_k = x_k + \beta_k (x_k - x_{k-1}), \qquad
    x_{k+1} = \operatorname{prox}_{t_k r}\bigl(y_k - t_k h_k\bigr), \qquad
    h_k = \nabla f(x_k) + \beta_k \bigl(\nabla f(x_k) - \nabla f(x_{k-1})\bigr)

Every evaluation is at an :math:`x_k`: what the user gets is what was evaluated. :math:`h_k` is
:math:`\nabla f(y_k)` where :math:`f` is quadratic, and differs from it by
:math:`O(\lVert x_k - x_{k-1} \rVert^2)` elsewhere. The residual is the norm of a subgradient of :math:`F` at
:math:`x_{k+1}`, :math:`\nabla f(x_{k+1}) + (y_k - x_{k+1}) / t_k - h_k`, which bounds the gradient mapping from
above.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import arguments, checks, trees
from gdjax._internal.termination import Progress, ended, fell
from gdjax._internal.trees import flat, length
from gdjax.linalg.vectors import landing
from gdjax.objectives.implicit import fixed_point
from gdjax.optimizers.nonsmooth.momentum import (
    Seen,
    by_gradient,
    by_value,
    constant,
    fista,
    never,
    plain,
    strongly_convex,
)
from gdjax.optimizers.nonsmooth.step_lengths import ROUNDING, Backtracking, Trial, backtracked, test
from gdjax.regularizers import Regularizer
from gdjax.types import Answer, Optimality, Scalar, ScalarOrSchedule, Status, Transformation

__all__ = [
    "Backtracking",
    "ProximalState",
    "Seen",
    "backtracked",
    "by_gradient",
    "by_value",
    "constant",
    "fista",
    "never",
    "plain",
    "proximal_gradient",
    "strongly_convex",
]

_PATIENCE = 12
"""Steps at the level of rounding before a method says so."""


class _Settings(NamedTuple):
    rate: Backtracking | ScalarOrSchedule
    regularizer: Regularizer
    momentum: Callable[[Scalar, Scalar], tuple[Scalar, Scalar]]
    restart: Callable[[Seen], Scalar]


class ProximalState(NamedTuple):
    r"""State of `proximal_gradient`. Vectors are flat.

    Attributes:
      answer: :math:`x_k` and :math:`F(x_k)`.
      optimality: :math:`x = \operatorname{prox}_{t r}(x - t \nabla f(x))`.
      total: :math:`F(x_k)`, infinite at an infeasible start, whose answer shows :math:`f` alone.
      grad: :math:`\nabla f(x_k)`.
      step: :math:`x_k - x_{k-1}`; zero after a restart.
      change: :math:`\nabla f(x_k) - \nabla f(x_{k-1})`.
      normal: a subgradient of :math:`r` at :math:`x_k`.
      rate: the step length :math:`t` of the pending trial.
      beta: its momentum.
      theta: what the momentum remembers.
      still: whether the pending trial is :math:`x_k` itself.
      count: updates made.
      failures: trials rejected in a row.
      rejected: trials rejected.
      progress: that of the residual.
    """

    answer: Answer
    optimality: Optimality
    total: Scalar
    grad: jax.Array
    step: jax.Array
    change: jax.Array
    normal: jax.Array
    rate: Scalar
    beta: Scalar
    theta: Scalar
    still: Scalar
    count: Scalar
    failures: Scalar
    rejected: Scalar
    progress: Progress


class _Point(NamedTuple):
    """The accepted point, and what the next step is extrapolated from; as in `ProximalState`."""

    x: jax.Array
    grad: jax.Array
    total: Scalar
    step: jax.Array
    change: jax.Array
    normal: jax.Array
    beta: Scalar
    theta: Scalar


def _conditions(regularizer, value_fn, params, state):
    rate = jax.lax.stop_gradient(state.rate)
    return fixed_point(lambda p: regularizer.prox(p, rate), rate, value_fn, params)


def _penalty(regularizer, params, state):
    del state
    return regularizer.value(params)


def _init(settings, params):
    x, _ = flat(params)
    zero, none = jnp.zeros_like(x), jnp.int32(0)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    one = jnp.ones((), x.dtype)
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    still, rest = jnp.asarray(False), (none, none, none, Progress(none, unknown))
    optimality = trees.optimality(settings.regularizer, _conditions, _penalty)
    return ProximalState(answer, optimality, unknown, zero, zero, zero, zero, one, 0 * one, one, still, *rest)


def _evaluated(settings, state, x, grad, params, value) -> Trial:
    """The trial with its values, beside the point that it was extrapolated from."""
    base, _ = flat(state.answer.params)
    smooth = jnp.asarray(value).astype(state.total.dtype)
    total = smooth + jnp.asarray(settings.regularizer.value(params)).astype(smooth.dtype)
    finite = jnp.isfinite(total) & jnp.all(jnp.isfinite(grad))
    y, h = base + state.beta * state.step, state.grad + state.beta * state.change
    return Trial(x, grad, smooth, total, finite, base, y, h, state.count == 0, jnp.all(x == base))


def _taken(settings, state, trial, tested) -> _Point:
    """The accepted point after the test, with its momentum or without, after a restart."""
    took, small = tested.accept & ~tested.fresh, trial.x.dtype
    seen = Seen(state.total, trial.total, jnp.sum((trial.y - trial.x) * (trial.x - trial.base)))
    over = tested.forget | (took & settings.restart(seen)) | trial.first
    beta, theta = settings.momentum(state.theta, tested.rate)

    def now(new, old):
        return jnp.where(tested.accept, new, old)

    def carried(new, old, restarted=0):
        return jnp.where(over, restarted, jnp.where(took, new, old))

    return _Point(
        now(trial.x, trial.base),
        now(trial.grad, state.grad),
        now(trial.total, state.total),
        carried(trial.x - trial.base, state.step),
        carried(jnp.where(trial.same, 0, trial.grad - state.grad), state.change),
        jnp.where(took, (trial.y - trial.x) / state.rate - trial.h, state.normal),
        carried(beta, state.beta).astype(small),
        carried(theta, state.theta, restarted=1).astype(small),
    )


def _propose(regularizer, point, rate, back):
    """The proximal step from the extrapolated point, and whether it is finite; where not, the point itself."""
    reach = point.x + point.beta * point.step - rate * (point.grad + point.beta * point.change)
    target, _ = flat(regularizer.prox(back(reach), rate))
    finite = jnp.all(jnp.isfinite(target))
    return jnp.where(finite, target.astype(point.x.dtype), point.x), finite


def _residual(state, trial, tested, point, target, sound):
    """The norm of a subgradient of F at the accepted point; at the start that of the gradient mapping."""
    mapped = length(point.x - target) / jnp.minimum(tested.rate, 1)
    mapped = jnp.where(sound & trial.finite, mapped, jnp.inf)
    residual = jnp.where(trial.first, mapped, length(point.grad + point.normal)).astype(point.total.dtype)
    return jnp.where(tested.accept, residual, state.answer.residual)


def _status(state, trial, tested, point, residual, sound):
    """The termination status, and the progress that it comes from."""
    size = length(point.grad) + length(point.x) / tested.rate
    below_noise = residual <= ROUNDING * jnp.finfo(point.x.dtype).eps * size
    below_noise = below_noise & jnp.isfinite(residual)
    progress = state.progress.after(residual, below_noise)
    worn = progress.idle >= _PATIENCE
    status = ended(tested.dead | ~sound | worn, below_noise | worn, trial.finite & sound)
    return jnp.where(fell(point.total, point.x.dtype), jnp.int8(Status.UNBOUNDED), status), progress


def _update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("proximal_gradient", params=params, value=value)
    (x, back), (grad, _) = flat(params), flat(updates)
    trial = _evaluated(settings, state, x, grad, params, value)
    tested = test(settings.rate, state, trial)
    point = _taken(settings, state, trial, tested)
    target, sound = _propose(settings.regularizer, point, tested.rate, back)
    residual = _residual(state, trial, tested, point, target, sound)
    status, progress = _status(state, trial, tested, point, residual, sound)
    shown = jnp.where(trial.first, trial.smooth, state.answer.value)
    shown = jnp.where(jnp.isfinite(point.total), point.total, shown)
    new = ProximalState(
        answer=Answer(back(point.x), shown, residual, status),
        optimality=state.optimality,
        total=point.total,
        grad=point.grad,
        step=point.step,
        change=point.change,
        normal=point.normal,
        rate=tested.rate,
        beta=point.beta,
        theta=point.theta,
        still=jnp.all(target == point.x) & ~trial.first,
        count=state.count + 1,
        failures=jnp.where(tested.accept, 0, state.failures + 1),
        rejected=state.rejected + ~tested.accept,
        progress=progress,
    )
    return back(landing(x, target)), trees.keep_types(new, state)


def proximal_gradient(
    learning_rate: ScalarOrSchedule | Backtracking | None = None,
    regularizer: Regularizer | None = None,
    *,
    momentum: Callable[[Scalar, Scalar], tuple[Scalar, Scalar]] = plain,
    restart: Callable[[Seen], Scalar] = by_gradient,
) -> Transformation:
    r"""Proximal gradient: a gradient step on the smooth part, then the proximal step of the regularizer.

    The objective of the run is :math:`f`; the value of the answer, and of the result, is
    :math:`F = f + r`, which is what is minimized. Flat: one evaluation of :math:`f` an update, rejected trials
    included. Where the start is not feasible (:math:`r = \infty`) its value shows :math:`f` alone.

    | momentum | rate for convex f | choose it |
    |---|---|---|
    | `plain` | :math:`O(1/k)` | to compare; a well-conditioned :math:`f` |
    | `fista` | :math:`O(1/k^2)`, with restarts linear where :math:`f` allows it | otherwise |
    | `strongly_convex`, `constant` | :math:`(1 - \sqrt{\mu/L})^k` | the least curvature is known |

    All of them, the restarts `by_gradient`, `by_value`, `never` and the search `backtracked` are in
    `gdjax.optimizers.nonsmooth.proximal_gradient`.

    Args:
      learning_rate: :math:`t`, at most :math:`1/L` for curvature up to :math:`L`: a positive number, a
        schedule of the updates made, or `backtracked`, which is the default and needs no :math:`L`.
      regularizer: :math:`r`, from `gdjax.regularizers`.
      momentum: :math:`(\theta_k, t) \to (\beta_k, \theta_{k+1})`, from :math:`\theta = 1` after a restart.
      restart: from what was `Seen`, whether to forget the momentum.

    Raises:
      TypeError: without a regularizer.

    Reference:
      Beck, Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems, SIAM J.
      Imaging Sci. 2, 2009; O'Donoghue, Candès (2015) for restarts.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: 0.5 * jnp.sum((x - jnp.array([3.0, 0.4])) ** 2)
      >>> run = gdjax.minimize(f, jnp.zeros(2), gdjax.proximal_gradient(1.0, gdjax.regularizers.l1(1.0)))
      >>> run.params, round(float(run.value), 4)
      (Array([2., 0.], dtype=float32), 2.58)
    """
    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            f"proximal_gradient needs a regularizer, after the learning rate or by name, got "
            f"{arguments.named(regularizer)}: proximal_gradient(regularizer=gdjax.regularizers.l1(0.1))"
        )
    rule = backtracked() if learning_rate is None else learning_rate
    if not isinstance(rule, Backtracking):
        checks.rate("proximal_gradient", learning_rate=rule)
    checks.function(
        "proximal_gradient",
        "theta, rate",
        "such as fista of the module momentum",
        momentum=momentum,
    )
    checks.function("proximal_gradient", "seen", "such as never of the module momentum", restart=restart)
    return trees.with_settings(_init, _update, _Settings(rule, regularizer, momentum, restart))
