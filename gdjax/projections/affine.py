"""Hyperplanes, halfspaces, affine sets, and a box cut by a hyperplane."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax import control_flow
from gdjax.projections.vectors import flat, like, unit
from gdjax.types import Params

__all__ = ["affine", "affine_set", "box_and_hyperplane", "halfspace", "hyperplane"]

_HIGHEST = jax.lax.Precision.HIGHEST


def _plane(params, normal, offset):
    """``(x, back, a, b)`` with a of length one, or zero where the normal is."""
    x, back = flat(params)
    direction, norm, size = unit(like(normal, params))
    some = norm > 0
    level = jnp.asarray(offset, x.dtype) / size / jnp.where(some, norm, 1)
    return x, back, direction, jnp.where(some, level, 0)


def hyperplane(params: Params, normal: Any, offset: Any) -> Params:
    r"""Projects onto :math:`\{x : a^T x = b\}`.

    .. math:: P(x) = x - \frac{a^T x - b}{a^T a} a

    Taken twice, so that the equation holds to rounding of the result even where ``params`` was far off.

    Args:
      params: a pytree of floating arrays.
      normal: :math:`a`, a tree that is a prefix of ``params`` (1.0 sums all entries); where it is zero
        nothing moves.
      offset: :math:`b`, a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> [round(x, 6) for x in projections.hyperplane(jnp.array([1.0, 2.0]), 1.0, 1.0).tolist()]
      [0.0, 1.0]
    """
    x, back, direction, level = _plane(params, normal, offset)
    for _ in range(2):
        x = x - (jnp.sum(direction * x) - level) * direction
    return back(x)


def halfspace(params: Params, normal: Any, offset: Any) -> Params:
    r"""Projects onto :math:`\{x : a^T x \le b\}`.

    .. math:: P(x) = x - \frac{\max(a^T x - b, 0)}{a^T a} a

    Args:
      params: a pytree of floating arrays.
      normal: :math:`a`, a tree that is a prefix of ``params``; where it is zero nothing moves.
      offset: :math:`b`, a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.halfspace(jnp.array([1.0, 2.0]), 1.0, 5.0).tolist()
      [1.0, 2.0]
    """
    x, back, direction, level = _plane(params, normal, offset)
    outside = jnp.sum(direction * x) > level
    onto = x
    for _ in range(2):
        onto = onto - (jnp.sum(direction * onto) - level) * direction
    return back(jnp.where(outside, onto, x))


def _pseudo_inverse(matrix):
    matrix = jax.lax.stop_gradient(matrix)
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    floor = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * jnp.max(values)
    some = values > floor
    inverses = jnp.where(some, 1 / jnp.where(some, values, 1), 0)
    return jnp.dot(right.T * inverses[None, :], left.T, precision=_HIGHEST)


def _onto_affine(matrix, offset, inverse, params):
    """A projection, and then a step of Newton's method on its two equations, which also carries derivatives."""
    x, back = flat(params)

    def times(a, b):
        return jnp.dot(a, b, precision=_HIGHEST)

    start = jax.lax.stop_gradient(x - times(inverse, times(matrix, x) - offset))
    multipliers = jax.lax.stop_gradient(times(inverse.T, x - start))
    slope = start - x + times(matrix.T, multipliers)
    within = slope - times(inverse, times(jax.lax.stop_gradient(matrix), slope))
    return back(start - within - times(inverse, times(matrix, start) - offset))


def affine_set(matrix: Any, offset: Any) -> Partial:
    r"""The projection onto :math:`\{x : A x = b\}` as a function of the parameters alone, A factored once.

    Args:
      matrix: :math:`A`, shape ``(m, n)`` for n parameters in the order of ``jax.flatten_util.ravel_pytree``; of
        any rank.
      offset: :math:`b`, shape ``(m,)``; where :math:`A x = b` has no solution, its least-squares solutions are
        meant.

    Returns:
      ``params -> params``, differentiable in parameters, matrix and offset where the rows are independent.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> sums_to_one = projections.affine_set(jnp.ones((1, 2)), jnp.ones(1))
      >>> [round(x, 6) for x in sums_to_one(jnp.array([1.0, 2.0])).tolist()]
      [0.0, 1.0]
    """
    matrix = jnp.asarray(matrix, jnp.result_type(matrix, jnp.float32))
    return Partial(_onto_affine, matrix, jnp.asarray(offset, matrix.dtype), _pseudo_inverse(matrix))


def affine(params: Params, matrix: Any, offset: Any) -> Params:
    r"""Projects onto :math:`\{x : A x = b\}`; to do so often, factor A once with `affine_set`.

    Args:
      params: a pytree of floating arrays.
      matrix: :math:`A`, shape ``(m, n)``, of any rank.
      offset: :math:`b`, shape ``(m,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> found = projections.affine(jnp.array([1.0, 2.0]), jnp.ones((1, 2)), jnp.ones(1))
      >>> [round(x, 6) for x in found.tolist()]
      [0.0, 1.0]
    """
    return affine_set(matrix, offset)(params)


def _multiplier(x, lower, upper, normal, offset):
    r""":math:`\nu` with :math:`a^T \min(\max(x - \nu a, l), u) = b`: a piecewise linear equation, falling in it."""

    def image(at):
        return jnp.clip(x - at * normal, lower, upper)

    fixed, rising = normal == 0, normal < 0
    divisor = jnp.where(fixed, 1, normal)
    to_lower, to_upper = (x - lower) / divisor, (x - upper) / divisor
    leaves = jnp.where(fixed, -jnp.inf, jnp.where(rising, to_lower, to_upper))
    arrives = jnp.where(fixed, -jnp.inf, jnp.where(rising, to_upper, to_lower))
    leaves, arrives = jax.lax.stop_gradient((leaves, arrives))
    knots = jnp.sort(jnp.concatenate([leaves, arrives]))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        knot = knots[middle]
        known = jnp.where(jnp.isfinite(knot), knot, 0)
        enough = jnp.where(jnp.isfinite(knot), jnp.sum(normal * image(known)) >= offset, knot < 0)
        more = high - low > 1
        return jnp.where(more & enough, middle, low), jnp.where(more & ~enough, middle, high)

    bounds = (jnp.int32(-1), jnp.int32(knots.size))
    low, high = control_flow.fori_loop(0, knots.size.bit_length() + 1, halve, bounds)
    below = jnp.where(low >= 0, knots[jnp.maximum(low, 0)], -jnp.inf)
    above = jnp.where(high < knots.size, knots[jnp.minimum(high, knots.size - 1)], jnp.inf)
    start = jnp.where(jnp.isfinite(below), below, jnp.where(jnp.isfinite(above), above, 0))
    between = (leaves <= below) & (arrives >= above) & ~fixed
    slope = jnp.sum(jnp.where(between, normal**2, 0))
    here = jnp.where(between, x - start * normal, image(start))
    return start + jnp.where(slope > 0, (jnp.sum(normal * here) - offset) / jnp.where(slope > 0, slope, 1), 0)


def box_and_hyperplane(params: Params, lower: Any, upper: Any, normal: Any, offset: Any) -> Params:
    r"""Projects onto :math:`\{x : l \le x \le u, \; a^T x = b\}`: long-only budgets, the dual of an SVM.

    The point is :math:`\min(\max(x - \nu a, l), u)`; its one multiplier is found among the sorted kinks exactly, in
    :math:`O(n \log n)`. The equation is solved a second time around the first solution, so that it holds to
    rounding of the result. Where the hyperplane misses the box, the corner of the box toward it comes back.

    Args:
      params: a pytree of floating arrays.
      lower: :math:`l`, a number, an array, or a tree that is a prefix of ``params``; ``-jnp.inf`` for none.
      upper: :math:`u \ge l`, likewise.
      normal: :math:`a`, likewise; 1.0 for a sum.
      offset: :math:`b`, a number.

    Reference:
      Dai and Fletcher, New algorithms for singly linearly constrained quadratic programs, Mathematical
      Programming 106, 2006, eq. 7.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.box_and_hyperplane(jnp.array([3.0, 1.0, 0.5]), 0.0, 1.0, 1.0, 2.0).tolist()
      [1.0, 0.75, 0.25]
    """
    x, back = flat(params)
    low, high, normal = like(lower, params), like(upper, params), like(normal, params)
    size = jnp.max(jnp.abs(normal))
    size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))
    normal, offset = normal / size, jnp.asarray(offset, x.dtype) / size
    for _ in range(2):
        x = x - _multiplier(x, low, high, normal, offset) * normal
    return back(jnp.clip(x, low, high))
