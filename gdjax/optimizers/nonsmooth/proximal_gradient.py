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
from gdjax._internal.trees import flat, length, unit
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
from gdjax.regularizers import Regularizer
from gdjax.types import Answer, Optimality, Scalar, ScalarLike, Status, Transformation

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
_ROUNDING = 8
"""Rounding of values and gradients, in units of eps times their size."""


class Backtracking(NamedTuple):
    """How the step length is found; see `backtracked`."""

    first: Any
    shrink: Any
    grow: Any


def backtracked(first: Any = None, *, shrink: ScalarLike = 0.7, grow: ScalarLike = 1.05) -> Backtracking:
    r"""A step length that the objective itself bounds.

    A trial is taken where it satisfies, with :math:`d = x_{k+1} - y_k`,

    .. math:: (\nabla f(x_{k+1}) - h_k)^T d \le \lVert d \rVert^2 / t, \qquad
        F(x_{k+1}) + \tfrac{1}{2t} \lVert x_{k+1} - x_k \rVert^2
            \le F(x_k) + \tfrac{\beta_k^2}{2t} \lVert x_k - x_{k-1} \rVert^2

    For quadratic :math:`f` the first is the quadratic upper bound itself, written in gradients: it stays
    sharp where values are below the noise level. The second follows from the bound for convex :math:`f`, and makes an
    energy fall where :math:`f` is anything else. A rejected trial costs one evaluation.

    Args:
      first: the first step length; by default the one that moves about as far as the point's size.
      shrink: the factor after a rejected trial, in (0, 1); steeper where the curvature seen asks for it.
      grow: the factor after an accepted one, at least 1; up to ten and to the curvature seen before the first
        rejection.

    Reference:
      Beck, Teboulle (2009), section 4, FISTA with backtracking; Chambolle, Dossal, On the convergence of the
      iterates of FISTA, J. Optim. Theory Appl. 166, 2015, section 3 (the energy).
    """
    checks.concrete("backtracked", above=0, below=1, shrink=shrink)
    checks.concrete("backtracked", low=1, grow=grow)
    checks.optional("backtracked", above=0, first=first)
    return Backtracking(first, shrink, grow)


class _Settings(NamedTuple):
    rate: Any
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


class _Acceptance(NamedTuple):
    fresh: Scalar
    accept: Scalar
    rate: Scalar
    forget: Scalar
    dead: Scalar


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


def _as_told(rule, state, finite, fresh):
    """A number or a schedule: every finite trial is taken."""
    rate = rule(state.count) if callable(rule) else rule
    no = jnp.zeros_like(fresh)
    return _Acceptance(fresh, fresh | finite, jnp.asarray(rate, state.rate.dtype), no, ~fresh & ~finite)


def _as_found(rule, state, x, grad, total, trial, finite, fresh):
    """Backtracking: the trial against the bound and the energy."""
    base, y, h = trial
    t, wide, eps = state.rate, total.dtype, jnp.finfo(x.dtype).eps
    move = x - y
    slope, way = length(grad), length(x)
    # The move and the change of the gradient over their sizes: no product overflows.
    um, uh = unit(move)[0], jnp.maximum(unit(grad)[0], unit(h)[0])
    far, curvature_along = jnp.sum(jnp.square(move / um)), jnp.sum((grad / uh - h / uh) * (move / um))
    room = _ROUNDING * eps * (slope / uh + way / t / uh)
    bound = curvature_along <= far * (um / t / uh) + room * jnp.sqrt(far)
    noise = _ROUNDING * eps * jnp.maximum(jnp.abs(state.total), jnp.abs(total))
    before, here = state.beta * length(state.step), length(x - base)
    pull = 0.5 * (before * (before / t) - here * (here / t))
    energy = total <= state.total + pull.astype(wide) + jnp.where(jnp.isfinite(noise), noise, 0)
    accept = fresh | (finite & bound & energy)
    forget = ~accept & finite & bound & (state.beta > 0)
    seen = jnp.where(curvature_along > 0, far / curvature_along * (um / uh), jnp.inf)
    shorter = jnp.where(finite, jnp.clip(seen, 0.05 * t, rule.shrink * t), 0.1 * t)
    shorter = jnp.where(forget, t, shorter)
    early = jnp.clip(seen, t, 10 * t)
    longer = jnp.where(state.rejected == 0, early, rule.grow * t)
    longer = jnp.where(jnp.isfinite(longer), longer, t)
    rate = jnp.where(fresh, t, jnp.where(accept, longer, shorter))
    guess = jnp.maximum(1, way) / jnp.where(slope > 0, slope, 1)
    start = guess if rule.first is None else jnp.asarray(rule.first, t.dtype)
    dead = state.failures >= 2 * jnp.finfo(x.dtype).nmant
    rate = jnp.where(state.count == 0, start, rate).astype(t.dtype)
    return _Acceptance(fresh, accept, rate, forget, ~accept & dead)


def _update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("proximal_gradient", params=params, value=value)
    rule, regularizer, momentum, restart = settings
    (x, back), (grad, _), (base, _) = flat(params), flat(updates), flat(state.answer.params)
    wide, small, t, beta = state.total.dtype, x.dtype, state.rate, state.beta
    y, h = base + beta * state.step, state.grad + beta * state.change
    f = jnp.asarray(value).astype(wide)
    total = f + jnp.asarray(regularizer.value(params)).astype(wide)
    finite = jnp.isfinite(total) & jnp.all(jnp.isfinite(grad))
    first, same = state.count == 0, jnp.all(x == base)
    fresh = first | (same & ~state.still)
    if isinstance(rule, Backtracking):
        tested = _as_found(rule, state, x, grad, total, (base, y, h), finite, fresh)
    else:
        tested = _as_told(rule, state, finite, fresh)
    took = tested.accept & ~fresh
    seen = Seen(state.total, total, jnp.sum((y - x) * (x - base)))
    over = tested.forget | (took & restart(seen)) | first

    def now(new, old):
        return jnp.where(tested.accept, new, old)

    step = jnp.where(over, 0, jnp.where(took, x - base, state.step))
    change = jnp.where(over, 0, jnp.where(took, jnp.where(same, 0, grad - state.grad), state.change))
    normal = jnp.where(took, (y - x) / t - h, state.normal)
    here, slope, best = now(x, base), now(grad, state.grad), now(total, state.total)
    asked, advanced = momentum(state.theta, tested.rate)
    beta = jnp.where(over, 0, jnp.where(took, asked, beta)).astype(small)
    theta = jnp.where(over, 1, jnp.where(took, advanced, state.theta)).astype(small)

    reach = here + beta * step - tested.rate * (slope + beta * change)
    target, _ = flat(regularizer.prox(back(reach), tested.rate))
    sound = jnp.all(jnp.isfinite(target))
    target = jnp.where(sound, target.astype(small), here)
    mapped = length(here - target) / jnp.minimum(tested.rate, 1)
    mapped = jnp.where(sound & finite, mapped, jnp.inf)
    residual = jnp.where(first, mapped, length(slope + normal)).astype(wide)
    residual = now(residual, state.answer.residual)
    below_noise = residual <= _ROUNDING * jnp.finfo(small).eps * (length(slope) + length(here) / tested.rate)
    below_noise = below_noise & jnp.isfinite(residual)
    progress = state.progress.after(residual, below_noise)
    worn = progress.idle >= _PATIENCE
    status = ended(tested.dead | ~sound | worn, below_noise | worn, finite & sound)
    status = jnp.where(fell(best, small), jnp.int8(Status.UNBOUNDED), status)
    shown = jnp.where(jnp.isfinite(best), best, jnp.where(first, f, state.answer.value))
    new = ProximalState(
        Answer(back(here), shown, residual, status),
        state.optimality,
        best,
        slope,
        step,
        change,
        normal,
        tested.rate,
        beta,
        theta,
        jnp.all(target == here) & ~first,
        state.count + 1,
        jnp.where(tested.accept, 0, state.failures + 1),
        state.rejected + ~tested.accept,
        progress,
    )
    return back(landing(x, target)), trees.keep_types(new, state)


def proximal_gradient(
    learning_rate: Any = None,
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
