"""Step lengths of proximal methods: given, or found by backtracking from the quadratic upper bound."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import checks
from gdjax._internal.trees import length, unit
from gdjax.types import Scalar, ScalarLike, ScalarOrSchedule, State

__all__ = ["ROUNDING", "Acceptance", "Backtracking", "Trial", "backtracked", "test"]

ROUNDING = 8
"""Rounding of values and gradients, in units of eps times their size."""


class Backtracking(NamedTuple):
    """How the step length is found; see `backtracked`."""

    first: ScalarLike | None
    shrink: ScalarLike
    grow: ScalarLike


def backtracked(
    first: ScalarLike | None = None, *, shrink: ScalarLike = 0.7, grow: ScalarLike = 1.05
) -> Backtracking:
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


class Trial(NamedTuple):
    """What was evaluated, and what it came from.

    Attributes:
      x: the point, :math:`x_{k+1}`.
      grad: the gradient there.
      smooth: :math:`f` there.
      total: :math:`F` there.
      finite: whether both are.
      base: the accepted point, :math:`x_k`.
      y: the extrapolated point.
      h: the extrapolated gradient.
      first: whether it is the start.
      same: whether it is the accepted point.
    """

    x: jax.Array
    grad: jax.Array
    smooth: Scalar
    total: Scalar
    finite: Scalar
    base: jax.Array
    y: jax.Array
    h: jax.Array
    first: Scalar
    same: Scalar


class Acceptance(NamedTuple):
    """How a trial was tested: whether there was nothing to test, and what follows.

    Attributes:
      fresh: whether it is taken without a test.
      accept: whether it is taken.
      rate: the next step length.
      forget: whether it was rejected for its momentum.
      dead: whether no step length is left.
    """

    fresh: Scalar
    accept: Scalar
    rate: Scalar
    forget: Scalar
    dead: Scalar


def test(rule: Backtracking | ScalarOrSchedule, state: State, trial: Trial) -> Acceptance:
    """The acceptance test; the start, and a new look at the accepted point, pass without one."""
    fresh = trial.first | (trial.same & ~state.still)
    return (_backtrack if isinstance(rule, Backtracking) else _follow)(rule, state, trial, fresh)


def _follow(rule, state, trial, fresh):
    """A number or a schedule: every finite trial is taken."""
    rate = rule(state.count) if callable(rule) else rule
    no = jnp.zeros_like(fresh)
    return Acceptance(
        fresh, fresh | trial.finite, jnp.asarray(rate, state.rate.dtype), no, ~fresh & ~trial.finite
    )


def _backtrack(rule, state, trial, fresh):
    """Backtracking: the trial against the upper bound and the energy, and the next step length."""
    x, grad, total, finite, t = trial.x, trial.grad, trial.total, trial.finite, state.rate
    eps, move = jnp.finfo(x.dtype).eps, x - trial.y
    slope, size = length(grad), length(x)

    # The move and the change of the gradient over their sizes: no product overflows.
    um, uh = unit(move)[0], jnp.maximum(unit(grad)[0], unit(trial.h)[0])
    far = jnp.sum(jnp.square(move / um))
    curvature_along = jnp.sum((grad / uh - trial.h / uh) * (move / um))
    noise = ROUNDING * eps * (slope / uh + size / t / uh)
    bound = curvature_along <= far * (um / t / uh) + noise * jnp.sqrt(far)

    noise = ROUNDING * eps * jnp.maximum(jnp.abs(state.total), jnp.abs(total))
    before, here = state.beta * length(state.step), length(x - trial.base)
    pull = 0.5 * (before * (before / t) - here * (here / t))
    energy = total <= state.total + pull.astype(total.dtype) + jnp.where(jnp.isfinite(noise), noise, 0)

    accept = fresh | (finite & bound & energy)
    forget = ~accept & finite & bound & (state.beta > 0)
    # 1/L of the curvature seen; no further than 20 times down at once, 10 times where nothing was seen.
    seen = jnp.where(curvature_along > 0, far / curvature_along * (um / uh), jnp.inf)
    shorter = jnp.where(finite, jnp.clip(seen, 0.05 * t, rule.shrink * t), 0.1 * t)
    shorter = jnp.where(forget, t, shorter)
    # Until the first rejection nothing says that t is near 1/L: up to ten times as long.
    longer = jnp.where(state.rejected == 0, jnp.clip(seen, t, 10 * t), rule.grow * t)
    longer = jnp.where(jnp.isfinite(longer), longer, t)
    rate = jnp.where(fresh, t, jnp.where(accept, longer, shorter))
    guess = jnp.maximum(1, size) / jnp.where(slope > 0, slope, 1)
    start = guess if rule.first is None else jnp.asarray(rule.first, t.dtype)
    rate = jnp.where(trial.first, start, rate).astype(t.dtype)
    # After so many halvings in a row, and twice as many, a step no longer moves the point.
    dead = state.failures >= 2 * jnp.finfo(x.dtype).nmant
    return Acceptance(fresh, accept, rate, forget, ~accept & dead)
