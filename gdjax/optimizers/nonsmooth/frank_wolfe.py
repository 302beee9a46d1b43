r"""Frank and Wolfe's conditional gradient: only linear functions are minimized over the set, nothing is projected.

.. math:: s_k = \arg\min_{s \in C} g_k^T s, \qquad x_{k+1} = x_k + \gamma_k (s_k - x_k)

The residual is the gap :math:`g_k^T (x_k - s_k)`, which for convex :math:`f` bounds :math:`f(x_k) - f^\star`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax import projections
from gdjax._internal import checks, trees
from gdjax._internal.termination import Progress, ended
from gdjax._internal.trees import flat
from gdjax.linalg.vectors import landing
from gdjax.objectives.implicit import fixed_point
from gdjax.projections import numbers
from gdjax.types import (
    Answer,
    Optimality,
    Params,
    Scalar,
    ScalarLike,
    ScalarOrSchedule,
    Status,
    Transformation,
)

__all__ = [
    "FrankWolfeState",
    "ShortStep",
    "box_vertex",
    "frank_wolfe",
    "l1_vertex",
    "nuclear_vertex",
    "open_loop",
    "short_step",
    "simplex_away",
    "simplex_vertex",
]

_ROUNDING = 8
"""Rounding of the gap, in units of eps times the sizes of its terms."""
_PATIENCE = 30
"""Steps below the noise level before a method says so: the gap does not fall at each step."""


def simplex_vertex(grad: Params, total: ScalarLike = 1.0) -> Params:
    r"""The vertex :math:`c\, e_i` of the simplex :math:`\{x \ge 0, \sum x = c\}` with the least :math:`g_i`.

    Example:
      >>> simplex_vertex(jnp.array([2.0, -1.0, 0.0])).tolist()
      [0.0, 1.0, 0.0]
    """
    g, back = flat(grad)
    return back(total * jax.nn.one_hot(jnp.argmin(g), g.size, dtype=g.dtype))


def l1_vertex(grad: Params, radius: ScalarLike = 1.0) -> Params:
    r"""The vertex :math:`-c \operatorname{sign}(g_i)\, e_i` of the 1-norm's ball with the largest :math:`|g_i|`.

    Example:
      >>> l1_vertex(jnp.array([2.0, -3.0]), 0.5).round(1).tolist()
      [0.0, 0.5]
    """
    g, back = flat(grad)
    top = jnp.argmax(jnp.abs(g))
    return back(-radius * jnp.sign(g[top]) * jax.nn.one_hot(top, g.size, dtype=g.dtype))


def nuclear_vertex(grad: Params, radius: ScalarLike = 1.0) -> Params:
    r"""The rank-one :math:`-c\, u_1 v_1^T` of the nuclear norm's ball, from the first singular pair of each leaf.

    Args:
      grad: one matrix, or a tree with one.
      radius: :math:`c > 0`.

    Reference:
      Jaggi, Revisiting Frank-Wolfe, ICML 2013, section 4.3.
    """

    leaves = jax.tree.leaves(grad)
    if len(leaves) != 1 or leaves[0].ndim != 2:
        raise ValueError("nuclear_vertex: params must be one matrix")
    left, _, right = jnp.linalg.svd(leaves[0], full_matrices=False)
    return jax.tree.map(lambda leaf: (-radius * left[:, :1] * right[:1, :]).astype(leaf.dtype), grad)


def box_vertex(grad: Params, lower: ScalarLike = 0.0, upper: ScalarLike = 1.0) -> Params:
    """The corner of a box that lies furthest down.

    Example:
      >>> box_vertex(jnp.array([2.0, -3.0]), -1.0, 1.0).tolist()
      [-1.0, 1.0]
    """
    g, back = flat(grad)
    return back(jnp.where(g > 0, jnp.asarray(lower, g.dtype), jnp.asarray(upper, g.dtype)))


def simplex_away(grad: Params, params: Params, total: ScalarLike = 1.0) -> tuple[Params, Scalar]:
    r"""The vertex in use with the largest :math:`g_i`, and how far one may go away from it: the coordinate is zero
    then.

    Reference:
      Guélat, Marcotte, Some comments on Wolfe's away step, Math. Program. 35, 1986.
    """
    (g, back), (x, _) = flat(grad), flat(params)
    used = x > 4 * jnp.finfo(x.dtype).eps * total
    worst = jnp.argmax(jnp.where(used, g, -jnp.inf))
    share = x[worst] / total
    longest = jnp.where(share < 1, share / jnp.where(share < 1, 1 - share, 1), 0)
    return back(total * jax.nn.one_hot(worst, g.size, dtype=g.dtype)), longest


def open_loop(count: Scalar) -> Scalar:
    r"""The step :math:`2 / (k + 2)`, which looks at nothing; values fall like :math:`O(1/k)`.

    Reference:
      Frank, Wolfe, An algorithm for quadratic programming, Naval Res. Logist. Q. 3, 1956; Jaggi (2013),
      algorithm 1.

    Example:
      >>> [float(open_loop(k)) for k in (0, 2)]
      [1.0, 0.5]
    """
    return 2.0 / (count + 2.0)


class ShortStep(NamedTuple):
    """A step that minimizes a parabola; see `short_step`."""

    curvature: ScalarLike | None


def short_step(curvature: ScalarLike | None = None) -> ShortStep:
    r"""The step :math:`\gamma = \min(\gamma_{\max}, -g^T d / (L \lVert d \rVert^2))` along :math:`d`.

    :math:`L` is found on the way: a trial along which the gradient bends more than :math:`L` is rejected and
    :math:`L` raised, an accepted one lowers it by a tenth.

    Args:
      curvature: the first :math:`L`, positive; by default learnt from the first step.

    Reference:
      Demyanov, Rubinov, Approximate Methods in Optimization Problems, 1970; Pedregosa, Negiar, Askari, Jaggi,
      Linearly convergent Frank-Wolfe with backtracking line-search, AISTATS 2020, algorithm 2.
    """
    checks.optional("short_step", above=0, curvature=curvature)
    return ShortStep(curvature)


class FrankWolfeState(NamedTuple):
    """State of `frank_wolfe`.

    Attributes:
      answer: the accepted point.
      optimality: it is the projection of a gradient step from it; None where no projection is known.
      grad: the gradient there, flat.
      curvature: the estimate of L.
      count: updates made.
      accepted: points accepted after the start.
      failures: trials rejected in a row.
      progress: that of the gap.
    """

    answer: Answer
    optimality: Optimality | None
    grad: jax.Array
    curvature: Scalar
    count: Scalar
    accepted: Scalar
    failures: Scalar
    progress: Progress


class _Settings(NamedTuple):
    oracle: Callable[[Params], Params]
    step: Any
    away: Callable[[Params, Params], tuple[Params, Scalar]] | None
    projection: Callable[[Params], Params] | None


def _conditions(projection, value_fn, params, state):
    unknowns, equations = fixed_point(projection, 1, value_fn, params)
    # The gap bounds the *square* of a projected step.
    size = jnp.sqrt(jnp.clip(state.answer.residual, jnp.finfo(state.grad.dtype).eps ** 2, 1))
    size = jax.lax.stop_gradient(size)
    return unknowns, lambda z: jax.tree.map(lambda leaf: size * leaf, equations(z))


def _init(settings, params):
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    none = jnp.int32(0)
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    one = jnp.ones((), x.dtype)
    projection = settings.projection
    optimality = None if projection is None else trees.optimality(projection, _conditions)
    return FrankWolfeState(
        answer, optimality, jnp.zeros_like(x), one, none, none, none, Progress(none, unknown)
    )


def _holds(state, x, base, grad):
    """Whether the curvature along the step is at most what was believed, and what to believe next."""
    s = x - base
    far, curvature_along = jnp.sum(s * s), jnp.sum((grad - state.grad) * s)
    slack = _ROUNDING * jnp.finfo(x.dtype).eps
    size = jnp.sqrt(jnp.sum(grad * grad)) + state.curvature * jnp.sqrt(jnp.sum(x * x))
    holds = curvature_along <= state.curvature * far + slack * size * jnp.sqrt(far)
    seen = jnp.where(far > 0, curvature_along / jnp.where(far > 0, far, 1), 0)
    higher = jnp.where(jnp.isfinite(seen), jnp.maximum(2 * state.curvature, seen), 10 * state.curvature)
    return holds, jnp.where(holds, 0.9 * state.curvature, higher)


def _toward(settings, back, x, grad):
    """The direction, how far it may be followed, and the gap."""
    away = settings.away
    vertex, _ = flat(settings.oracle(back(grad)))
    forward = vertex - x
    gap = -jnp.sum(grad * forward)
    if away is None:
        return forward, jnp.ones_like(gap), gap
    corner, longest = away(back(grad), back(x))
    backward = x - flat(corner)[0]
    leave = (-jnp.sum(grad * backward) > gap) & (longest > 0)
    return jnp.where(leave, backward, forward), jnp.where(leave, longest, 1), gap


def _update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("frank_wolfe", params=params, value=value)
    step = settings.step
    (x, back), (grad, _), (base, _) = flat(params), flat(updates), flat(state.answer.params)
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    first = state.count == 0
    fresh = first | jnp.all(x == base)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    curvature, accept = state.curvature, fresh | finite
    if isinstance(step, ShortStep):
        holds, believed = _holds(state, x, base, grad)
        accept = fresh | (finite & holds)
        curvature = jnp.where(fresh, curvature, jnp.where(finite, believed, 10 * curvature))
    here, slope = jnp.where(accept, x, base), jnp.where(accept, grad, state.grad)
    accepted = state.accepted + (accept & ~fresh)

    direction, longest, gap = _toward(settings, back, here, slope)
    squares = jnp.sum(direction * direction)
    down = -jnp.sum(slope * direction)
    if isinstance(step, ShortStep):
        guess = down / jnp.where(squares > 0, squares, 1)  # the whole way, if the bend allows it
        start = jnp.where(guess > 0, guess, 1) if step.curvature is None else step.curvature
        curvature = jnp.where(first, jnp.asarray(start, curvature.dtype), curvature)
        along = down / jnp.where(squares > 0, curvature * squares, 1)
    else:
        along = step(accepted) if callable(step) else step
    along = jnp.clip(jnp.asarray(along, x.dtype), 0, longest)
    trial = here + along * direction
    sound = jnp.all(jnp.isfinite(trial))
    trial = jnp.where(sound, trial, here)

    gap = jnp.maximum(gap, 0).astype(f.dtype)
    gap = jnp.where(jnp.isfinite(gap), gap, jnp.inf)
    best = jnp.where(accept, f, state.answer.value)
    noise = _ROUNDING * jnp.finfo(x.dtype).eps * jnp.sum(jnp.abs(slope) * jnp.abs(here))
    below_noise = jnp.isfinite(gap) & (gap <= noise)
    progress = state.progress.after(gap, below_noise)
    failures = jnp.where(accept, 0, state.failures + 1)
    dead = (failures >= 2 * jnp.finfo(x.dtype).nmant) | ~sound | (~accept & (not isinstance(step, ShortStep)))
    worn = progress.idle >= _PATIENCE
    status = ended(dead | worn, below_noise | worn, finite & sound)
    answer, counts = Answer(back(here), best, gap, status), (state.count + 1, accepted, failures)
    new = FrankWolfeState(answer, state.optimality, slope, curvature, *counts, progress)
    return back(landing(x, trial)), trees.keep_types(new, state)


_ONTO = {
    simplex_vertex: projections.simplex,
    l1_vertex: projections.l1_ball,
    nuclear_vertex: projections.nuclear_ball,
    box_vertex: projections.box,
}


def _onto(oracle):
    """The projection onto an oracle's set, where it is known."""
    if not isinstance(oracle, functools.partial):
        return _ONTO.get(oracle)
    projection = _onto(oracle.func)
    return projection and Partial(projection, **oracle.keywords)


def frank_wolfe(
    oracle: Callable[[Params], Params],
    *,
    step: ShortStep | ScalarOrSchedule | None = None,
    away: Callable[[Params, Params], tuple[Params, Scalar]] | None = None,
    projection: Callable[[Params], Params] | None = None,
) -> Transformation:
    r"""Frank-Wolfe: goes toward the vertex of the set that lies furthest down.

    Iterates are few vertices' combinations: sparse on a simplex or a 1-norm ball, of low rank on a nuclear
    norm's. The start must lie in the set. Flat: one evaluation and one call of the oracle an update. On a
    polytope with the solution on a face, steps away from vertices make the rate linear.

    Choose it where the oracle is much cheaper than a projection, or the sparsity of the way is the point.

    Args:
      oracle: :math:`g \mapsto \arg\min_{s \in C} g^T s`: `simplex_vertex`, `l1_vertex`, `nuclear_vertex`,
        `box_vertex` of `gdjax.optimizers.nonsmooth.frank_wolfe`, their numbers bound by `jax.tree_util.Partial`.
      step: `short_step`, the default; or a number or a schedule of the points accepted, such as `open_loop`.
      away: ``(grad, params) -> (vertex, longest)``, a vertex in use to move away from: `simplex_away`.
      projection: onto the set, which only derivatives of answers go through; known for the oracles named above.
        Without one they are NaN where the solution is on the boundary.

    Reference:
      Frank, Wolfe (1956); Jaggi, Revisiting Frank-Wolfe: projection-free sparse convex optimization, ICML
      2013; Lacoste-Julien, Jaggi, On the global linear convergence of Frank-Wolfe optimization variants,
      NeurIPS 2015, algorithm 1 (away steps).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> from gdjax.optimizers.nonsmooth.frank_wolfe import simplex_away, simplex_vertex
      >>> f = lambda x: jnp.sum((x - jnp.array([0.9, 0.5, -1.0])) ** 2)
      >>> method = gdjax.frank_wolfe(simplex_vertex, away=simplex_away)
      >>> [round(float(x), 4) for x in gdjax.minimize(f, jnp.array([0.0, 0.0, 1.0]), method).params]
      [0.7, 0.3, 0.0]
    """
    rule = short_step() if step is None else step
    if not isinstance(rule, ShortStep):
        checks.rate("frank_wolfe", step=rule)
    numbers.oracle("frank_wolfe", oracle, away)
    numbers.projection("frank_wolfe", True, projection=projection)
    projection = _onto(oracle) if projection is None else projection
    return trees.with_settings(_init, _update, _Settings(oracle, rule, away, projection))
