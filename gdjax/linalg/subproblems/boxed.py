r"""A trust-region subproblem between bounds, for a dense matrix of any sign.

.. math:: m(p) = g^T p + \tfrac12 p^T B p \quad\text{over}\quad \lVert p\rVert_2 \le \Delta, \; l \le p \le u

with :math:`l \le 0 \le u`. Rounds of two searches lower it: down the projected gradient, which finds the bounds
that hold, and toward the exact minimizer in the ball over the variables that are free of them. The first round
goes at least as low as the Cauchy point, and where no bound holds it is the whole solution.

Reference:
  Moré, Toraldo, On the solution of large quadratic programming problems with bound constraints, SIAM J. Optim. 1,
  1991; Lin, Moré, Newton's method for large bound-constrained optimization problems, SIAM J. Optim. 9, 1999;
  Conn, Gould, Toint, Trust-Region Methods, SIAM 2000, sections 12.2 and 12.4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow
from gdjax.linalg import small
from gdjax.linalg.subproblems.model import Move, norm, safe
from gdjax.linalg.subproblems.spectral import eigen, exact
from gdjax.types import Scalar, ScalarLike

__all__ = ["between", "lowest_on_path"]

_ROUNDS = 12
"""The most rounds of a solution."""
_WORTHWHILE = 1e-3
"""The share of the gain that a round must add for another to follow."""


class _Model(NamedTuple):
    matrix: jax.Array
    grad: jax.Array
    radius: Scalar
    low: jax.Array
    high: jax.Array


class _Round(NamedTuple):
    step: jax.Array
    slope: jax.Array
    value: Scalar
    scale: Scalar
    count: Scalar
    going: Scalar


def lowest_on_path(
    matrix: jax.Array,
    start: jax.Array,
    slope: jax.Array,
    way: jax.Array,
    box: tuple[jax.Array, jax.Array],
    longest: ScalarLike,
):
    r"""The lowest point of a quadratic along :math:`P(s + t d)`, :math:`0 \le t \le t_{\max}`, bends and all.

    Between two knots, where a variable meets its bound, the path is straight and the quadratic a parabola; all of
    them are looked at together.

    Args:
      matrix: :math:`B`, shape ``(n, n)``, symmetric.
      start: :math:`s`, inside the box.
      slope: the gradient there.
      way: :math:`d`.
      box: ``(lower, upper)``.
      longest: :math:`t_{\max}`, finite.

    Reference:
      Conn, Gould, Toint (2000), section 12.2.1, with all segments in place of the first minimum.
    """
    low, high = box
    bound = jnp.where(way > 0, high, low)
    ends = jnp.where(way != 0, (bound - start) / safe(way), jnp.inf)
    knots = jnp.pad(small.ascending(jnp.minimum(ends, longest)), (1, 0))
    lengths = jnp.diff(knots, append=jnp.asarray(longest, knots.dtype)[None])
    met = ends[None] <= knots[:, None]
    turns = jnp.where(met, 0, way[None])
    points = jnp.where(met, bound[None], start[None] + knots[:, None] * turns) - start[None]
    images = small.product(turns, matrix)
    slopes = turns @ slope + jnp.sum(images * points, axis=1)
    curvatures_along = jnp.sum(images * turns, axis=1)
    inner = jnp.where(curvatures_along > 0, jnp.clip(-slopes / safe(curvatures_along), 0, lengths), 0)
    ended = (slopes + 0.5 * curvatures_along * lengths) * lengths
    shares = jnp.where((curvatures_along <= 0) & (ended < 0), lengths, inner)
    before = jnp.pad(jnp.cumsum(ended)[:-1], (1, 0))
    best = jnp.argmin(before + (slopes + 0.5 * curvatures_along * shares) * shares)
    return jnp.clip(start + points[best] + shares[best] * turns[best], low, high)


def _to_sphere(step, way, radius):
    """How far a unit vector may be followed inside the ball."""
    along, room = jnp.dot(step / radius, way), jnp.maximum(1 - jnp.square(norm(step) / radius), 0)
    root = jnp.sqrt(along * along + room)
    return radius * jnp.where(along > 0, room / safe(along + root), root - along)


def _inward(model: _Model, step, slope):
    """The steepest descent that the bounds leave."""
    kept = ((step <= model.low) & (slope > 0)) | ((step >= model.high) & (slope < 0))
    return jnp.where(kept, 0, -slope)


def _down(model: _Model, step, slope):
    """To the lowest point along the projected gradient, as far as the ball reaches."""
    way = _inward(model, step, slope)
    way = way / safe(norm(way))
    longest = _to_sphere(step, way, model.radius)
    return lowest_on_path(model.matrix, step, slope, way, (model.low, model.high), longest)


def _on_face(model: _Model, step):
    """The exact minimizer in the ball over the variables that are at no bound."""
    free = (step > model.low) & (step < model.high)
    held = jnp.where(free, 0, step)
    grad = jnp.where(free, model.grad + model.matrix @ held, 0)
    largest = jnp.max(jnp.abs(model.matrix))
    face = jnp.where(free[:, None] & free[None], model.matrix, 0)
    face += jnp.diag(jnp.where(free, 0, jnp.where(largest > 0, largest, 1)))
    share = norm(held) / model.radius
    reach = model.radius * jnp.sqrt(jnp.maximum((1 - share) * (1 + share), jnp.finfo(grad.dtype).eps))
    move = exact.solve(eigen(face), lambda v: v, grad, reach)
    return jnp.where(free, move.step, held), move.scale


def _round(model: _Model, state: _Round) -> _Round:
    corner = _down(model, state.step, state.slope)
    target, scale = _on_face(model, corner)
    slope = model.grad + model.matrix @ corner
    box = (model.low, model.high)
    step = lowest_on_path(model.matrix, corner, slope, target - corner, box, 1.0)
    image = model.matrix @ step
    slope, value = model.grad + image, jnp.dot(model.grad + 0.5 * image, step)
    better = value < state.value
    step, slope = jnp.where(better, step, state.step), jnp.where(better, slope, state.slope)
    inside = jnp.all((target >= model.low) & (target <= model.high))
    at_walls = (step <= model.low) | (step >= model.high)
    solved = inside & ~jnp.any(at_walls & (model.low < model.high) & (_inward(model, step, slope) != 0))
    going = (value - state.value < _WORTHWHILE * state.value) & ~solved
    scale = jnp.maximum(scale, state.scale)
    return _Round(step, slope, jnp.minimum(value, state.value), scale, state.count + 1, going)


def between(matrix: jax.Array, grad: jax.Array, radius: ScalarLike, low: jax.Array, high: jax.Array) -> Move:
    r"""A low point of the quadratic in ball and box; the global one where no bound is in the way.

    Args:
      matrix: :math:`B`, shape ``(n, n)``; counts as zero where it is not finite.
      grad: :math:`g`, shape ``(n,)``.
      radius: :math:`\Delta > 0`, finite.
      low: :math:`l \le 0`, ``-inf`` where there is no bound; ``low == high`` holds a variable.
      high: :math:`u \ge 0`.

    Example:
      >>> import jax.numpy as jnp
      >>> low, high = jnp.array([-1.0, -9.0]), jnp.array([1.0, 9.0])
      >>> between(jnp.diag(jnp.array([1.0, 2.0])), jnp.array([3.0, -4.0]), 5.0, low, high).step.tolist()
      [-1.0, 2.0]
    """
    matrix = jnp.where(jnp.all(jnp.isfinite(matrix)), 0.5 * (matrix + matrix.T), 0)
    model = _Model(matrix, grad, jnp.asarray(radius, grad.dtype), low, high)
    zero = jnp.zeros((), grad.dtype)
    start = _Round(jnp.zeros_like(grad), grad, zero, zero, jnp.int32(0), jnp.asarray(True))
    end = control_flow.while_loop(
        lambda state: state.going & (state.count < _ROUNDS), lambda state: _round(model, state), start
    )
    return Move(end.step, jnp.dot(grad, end.step), jnp.dot(end.step, matrix @ end.step), end.scale)
