"""Hyperplanes, halfspaces, affine sets, and a box cut by a hyperplane."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike

from gdjax._internal import arguments, checks, control_flow
from gdjax.projections.numbers import finite, floating, ordered, traced
from gdjax.projections.vectors import flat, like, unit
from gdjax.types import Params, Prefix, ScalarLike

__all__ = ["affine", "affine_set", "box_and_hyperplane", "halfspace", "hyperplane"]

_HIGHEST = jax.lax.Precision.HIGHEST


def _plane(owner, params, normal, offset, solvable):
    """``(x, back, a, b)`` with a of length one, or zero where the normal is.

    Without a normal a ``solvable`` offset leaves all of space; any other leaves nothing, and b is NaN.
    """
    floating(owner, params)
    finite(owner, normal=normal)
    checks.concrete(owner, infinite=True, offset=offset)
    unknown = traced(normal, offset)
    without = not unknown and not any(np.any(arguments.known(leaf)) for leaf in jax.tree.leaves(normal))
    if without and not solvable(arguments.known(offset)):
        raise ValueError(f"{owner}: normal is zero and offset {offset}, so that no point is in the set")
    x, back = flat(params)
    direction, norm, size = unit(like(normal, params))
    some, level = norm > 0, jnp.asarray(offset, x.dtype)
    without = jnp.where(solvable(level), 0, jnp.nan) if unknown else 0
    return x, back, direction, jnp.where(some, level / size / jnp.where(some, norm, 1), without)


def hyperplane(params: Params, normal: Prefix, offset: ScalarLike) -> Params:
    r"""Projects onto :math:`\{x : a^T x = b\}`.

    .. math:: P(x) = x - \frac{a^T x - b}{a^T a} a

    Taken twice, so that the equation holds to rounding of the result even where ``params`` was far off.

    Args:
      params: a pytree of floating arrays.
      normal: :math:`a`, a tree that is a prefix of ``params`` (1.0 sums all entries); where it is zero and
        :math:`b = 0` nothing moves.
      offset: :math:`b`, a number.

    Raises:
      ValueError: if all of :math:`a` is zero and :math:`b` is not; NaN where they are traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> [round(x, 6) for x in projections.hyperplane(jnp.array([1.0, 2.0]), 1.0, 1.0).tolist()]
      [0.0, 1.0]
    """
    x, back, direction, level = _plane("hyperplane", params, normal, offset, lambda b: b == 0)
    for _ in range(2):
        x = x - (jnp.sum(direction * x) - level) * direction
    return back(x)


def halfspace(params: Params, normal: Prefix, offset: ScalarLike) -> Params:
    r"""Projects onto :math:`\{x : a^T x \le b\}`.

    .. math:: P(x) = x - \frac{\max(a^T x - b, 0)}{a^T a} a

    Args:
      params: a pytree of floating arrays.
      normal: :math:`a`, a tree that is a prefix of ``params``; where it is zero and :math:`b \ge 0` nothing moves.
      offset: :math:`b`, a number.

    Raises:
      ValueError: if all of :math:`a` is zero and :math:`b < 0`; NaN where they are traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.halfspace(jnp.array([1.0, 2.0]), 1.0, 5.0).tolist()
      [1.0, 2.0]
    """
    x, back, direction, level = _plane("halfspace", params, normal, offset, lambda b: b >= 0)
    inside = jnp.sum(direction * x) <= level
    onto = x
    for _ in range(2):
        onto = onto - (jnp.sum(direction * onto) - level) * direction
    return back(jnp.where(inside, x, onto))


@control_flow.one_program
def _pseudo_inverse(matrix):
    matrix = jax.lax.stop_gradient(matrix)
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    floor = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * jnp.max(values)
    some = values > floor
    inverses = jnp.where(some, 1 / jnp.where(some, values, 1), 0)
    return jnp.dot(right.T * inverses[None, :], left.T, precision=_HIGHEST)


def _onto_affine(matrix, offset, inverse, params):
    """A projection, and then a step of Newton's method on its two equations, which also carries derivatives."""
    floating("affine", params)
    x, back = flat(params)
    if matrix.shape[1] != x.size:
        raise ValueError(f"affine: matrix has {matrix.shape[1]} columns, but there are {x.size} parameters")

    def times(a, b):
        return jnp.dot(a, b, precision=_HIGHEST)

    start = jax.lax.stop_gradient(x - times(inverse, times(matrix, x) - offset))
    multipliers = jax.lax.stop_gradient(times(inverse.T, x - start))
    slope = start - x + times(matrix.T, multipliers)
    within = slope - times(inverse, times(jax.lax.stop_gradient(matrix), slope))
    return back(start - within - times(inverse, times(matrix, start) - offset))


def affine_set(matrix: ArrayLike, offset: ArrayLike) -> Partial:
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
    finite("affine_set", matrix=matrix, offset=offset)
    matrix = jnp.asarray(matrix, jnp.result_type(matrix, jnp.float32))
    if matrix.ndim != 2 or jnp.shape(offset) not in ((), matrix.shape[:1]):
        shapes = f"matrix of shape {matrix.shape} and offset of shape {jnp.shape(offset)}"
        raise ValueError(f"affine_set: {shapes}; expected (m, n) and (m,)")
    return Partial(_onto_affine, matrix, jnp.asarray(offset, matrix.dtype), _pseudo_inverse(matrix))


def affine(params: Params, matrix: ArrayLike, offset: ArrayLike) -> Params:
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


@control_flow.one_program
def _between(x, lower, upper, normal, offset):
    """The point of the box on the hyperplane that is nearest; a NaN stays one."""
    size = jnp.max(jnp.abs(normal))
    size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))
    normal, offset = normal / size, offset / size
    for _ in range(2):
        x = x - _multiplier(x, lower, upper, normal, offset) * normal
    return jnp.clip(x, lower, upper)


@control_flow.one_program
def _reaches(low: Any, high: Any, normal: Any, offset: Any) -> Any:
    r"""Whether :math:`a^T x = b` for an x of the box, to rounding; in NumPy's arrays or JAX's."""
    ends = [jnp.where(normal == 0, 0, normal * jnp.where(normal == 0, 0, bound)) for bound in (low, high)]
    least, most = jnp.minimum(*ends), jnp.maximum(*ends)
    sizes = [jnp.sum(jnp.where(jnp.isfinite(end), jnp.abs(end), 0)) for end in (least, most)]
    # 100: what a sum of the terms may lose, in units of rounding.
    slack = 100 * jnp.finfo(normal.dtype).eps * (jnp.abs(offset) + sizes[0] + sizes[1])
    return (jnp.sum(least) <= offset + slack) & (jnp.sum(most) >= offset - slack)


def _meets(params, lower, upper, normal, offset):
    """Raises where a hyperplane that is known misses a box that is known."""
    shapes = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), jnp.result_type(leaf)), params)
    with jax.ensure_compile_time_eval():
        x = flat(shapes)[0]
        low, high, normal = like(lower, shapes), like(upper, shapes), like(normal, shapes)
        if not _reaches(low, high, normal, jnp.asarray(offset, x.dtype)):
            raise ValueError(
                f"box_and_hyperplane: the box does not meet the hyperplane: within it the sum of normal times x is "
                f"never {offset}"
            )


def box_and_hyperplane(
    params: Params, lower: Prefix, upper: Prefix, normal: Prefix, offset: ScalarLike
) -> Params:
    r"""Projects onto :math:`\{x : l \le x \le u, \; a^T x = b\}`: long-only budgets, the dual of an SVM.

    The point is :math:`\min(\max(x - \nu a, l), u)`; its one multiplier is found among the sorted kinks exactly, in
    :math:`O(n \log n)`. The equation is solved a second time around the first solution, so that it holds to
    rounding of the result.

    Args:
      params: a pytree of floating arrays.
      lower: :math:`l`, a number, an array, or a tree that is a prefix of ``params``; ``-jnp.inf`` for none.
      upper: :math:`u \ge l`, likewise.
      normal: :math:`a`, likewise; 1.0 for a sum.
      offset: :math:`b`, a number.

    Raises:
      ValueError: if the hyperplane misses the box by more than rounding; NaN where the numbers are traced.

    Reference:
      Dai and Fletcher, New algorithms for singly linearly constrained quadratic programs, Mathematical
      Programming 106, 2006, eq. 7.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.box_and_hyperplane(jnp.array([3.0, 1.0, 0.5]), 0.0, 1.0, 1.0, 2.0).tolist()
      [1.0, 0.75, 0.25]
    """
    floating("box_and_hyperplane", params)
    ordered("box_and_hyperplane", lower, upper)
    finite("box_and_hyperplane", normal=normal)
    checks.concrete("box_and_hyperplane", offset=offset)
    x, back = flat(params)
    unknown = traced(lower, upper, normal, offset)
    if not unknown:
        _meets(params, lower, upper, normal, offset)
    low, high, normal = like(lower, params), like(upper, params), like(normal, params)
    if unknown:
        found = _reaches(low, high, normal, jnp.asarray(offset, x.dtype))
        x = jnp.where(found & jnp.all(low <= high), x, jnp.nan)
    return back(_between(x, low, high, normal, jnp.asarray(offset, x.dtype)))
