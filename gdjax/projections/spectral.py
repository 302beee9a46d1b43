"""Functions of eigenvalues and singular values: the positive semidefinite cone and balls of matrix norms."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gdjax._internal import checks
from gdjax.projections.balls import linf_ball
from gdjax.projections.boxes import non_negative
from gdjax.projections.numbers import floating, within
from gdjax.projections.simplices import l1_ball
from gdjax.projections.vectors import wide
from gdjax.types import Params, ScalarLike

__all__ = [
    "nuclear_ball",
    "on_eigenvalues",
    "on_singular_values",
    "positive_semidefinite",
    "spectral_ball",
]

_times = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _scaled(left, values, right):
    """``left @ diag(values) @ right.T``."""
    return _times(left * values[None, :], right.T)


def _differences(values, images, jacobian):
    r""":math:`(f_i - f_j) / (\lambda_i - \lambda_j)`, and its limit from the Jacobian where two values are one."""
    gaps = values[:, None] - values[None, :]
    equal = jnp.abs(gaps) <= jnp.finfo(values.dtype).eps ** 0.5 * jnp.max(jnp.abs(values))
    limits = jnp.diagonal(jacobian)[:, None] - jacobian
    quotients = (images[:, None] - images[None, :]) / jnp.where(equal, 1, gaps)
    return jnp.where(equal, 0.5 * (limits + limits.T), quotients)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_eigenvalues(function, matrix, numbers):
    values, basis = jnp.linalg.eigh(matrix)
    return _scaled(basis, function(values, *numbers), basis)


@_of_eigenvalues.defjvp
def _of_eigenvalues_jvp(function, primals, tangents):
    (matrix, numbers), (change, number_changes) = primals, tangents
    values, basis = jnp.linalg.eigh(matrix)
    turned = _times(_times(basis.T, 0.5 * (change + change.T)), basis)
    images, moved = jax.jvp(
        lambda v, n: function(v, *n), (values, numbers), (jnp.diagonal(turned), number_changes)
    )
    jacobian = jax.jacfwd(lambda v: function(v, *numbers))(values)
    mixed = _differences(values, images, jacobian) * turned * (1 - jnp.eye(values.size, dtype=values.dtype))
    tangent = _times(_times(basis, mixed + jnp.diag(moved)), basis.T)
    return _scaled(basis, images, basis), tangent


def _svd(matrix):
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return left, values, right.T


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_singular_values(function, matrix, numbers):
    left, values, right = _svd(matrix)
    return _scaled(left, function(values, *numbers), right)


@_of_singular_values.defjvp
def _of_singular_values_jvp(function, primals, tangents):
    (matrix, numbers), (change, number_changes) = primals, tangents
    left, values, right = _svd(matrix)
    turned = _times(_times(left.T, change), right)
    images, moved = jax.jvp(
        lambda v, n: function(v, *n), (values, numbers), (jnp.diagonal(turned), number_changes)
    )
    jacobian = jax.jacfwd(lambda v: function(v, *numbers))(values)
    slopes = jnp.diagonal(jacobian)
    tiny = jnp.finfo(values.dtype).eps ** 0.5 * jnp.max(values)
    zero = values <= tiny
    ratios = jnp.where(zero, slopes, images / jnp.where(zero, 1, values))
    sums = values[:, None] + values[None, :]
    both = sums <= 2 * tiny
    means = 0.5 * (slopes[:, None] + slopes[None, :])
    sum_ratios = jnp.where(both, means, (images[:, None] + images[None, :]) / jnp.where(both, 1, sums))
    even, odd = 0.5 * (turned + turned.T), 0.5 * (turned - turned.T)
    even = even * (1 - jnp.eye(values.size, dtype=values.dtype))
    core = _differences(values, images, jacobian) * even + sum_ratios * odd + jnp.diag(moved)
    tangent = _times(_times(left, core), right.T)
    across = change - _times(left, _times(left.T, change))
    along = change - _times(_times(change, right), right.T)
    tangent = tangent + _scaled(_times(across, right), ratios, right)
    tangent = tangent + _scaled(left, ratios, _times(along.T, left))
    return _scaled(left, images, right), tangent


def _each_matrix(owner, rule, function, params, square):
    """``rule`` at each matrix of each leaf, with what ``function`` closes over as its own argument."""
    checks.function(owner, "values", "such as gdjax.projections.simplex", function=function)
    floating(owner, params)

    def one(leaf):
        x = wide(leaf)
        if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
            shape = "(..., n, n)" if square else "(..., m, n)"
            raise ValueError(f"{owner}: params must be matrices of shape {shape}, got {x.shape}")
        values = jnp.zeros(min(x.shape[-2:]), x.dtype)
        pure, numbers = jax.closure_convert(function, values)
        apply = functools.partial(rule, pure)
        for _ in range(x.ndim - 2):
            apply = jax.vmap(apply, in_axes=(0, None))
        return apply(x, numbers).astype(jnp.asarray(leaf).dtype)

    return jax.tree.map(one, params)


def on_eigenvalues(params: Params, function: Callable[[jax.Array], jax.Array]) -> Params:
    r"""Applies a function to the eigenvalues: :math:`Q \operatorname{diag}(f(\lambda)) Q^T`.

    Where f is the projection onto a set that does not change when entries change places, this is the projection
    onto the symmetric matrices with eigenvalues in it: with the `gdjax.projections.simplex`, matrices of density.
    Derivatives are right where eigenvalues coincide too.

    Args:
      params: a pytree of arrays of shape ``(..., n, n)``; their symmetric parts are meant.
      function: of eigenvalues, shape ``(n,)``, ascending.

    Reference:
      Lewis, Malick, Alternating projections on manifolds, 2008, Theorem A.1; for the derivative, Horn and
      Johnson, Topics in Matrix Analysis, 1991, Theorem 6.6.30.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> density = projections.on_eigenvalues(jnp.diag(jnp.array([3.0, 2.5])), projections.simplex)
      >>> [round(x, 5) for x in jnp.diagonal(density).tolist()]
      [0.75, 0.25]
    """

    return _each_matrix("on_eigenvalues", _of_eigenvalues, function, params, True)


def on_singular_values(params: Params, function: Callable[[jax.Array], jax.Array]) -> Params:
    r"""Applies a function to the singular values: :math:`U \operatorname{diag}(f(\sigma)) V^T`.

    Where f is the projection onto a set that does not change when entries change places or signs, this is the
    projection onto the matrices with singular values in it. Derivatives are right where singular values coincide
    or vanish too.

    Args:
      params: a pytree of arrays of shape ``(..., m, n)``.
      function: of singular values, shape ``(min(m, n),)``, descending; odd in each of them.

    Reference:
      Lewis, The convex analysis of unitarily invariant matrix functions, J. Convex Analysis 2, 1995; for the
      derivative, Horn and Johnson, Topics in Matrix Analysis, 1991, Section 6.6.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> half = projections.on_singular_values(jnp.diag(jnp.array([3.0, -1.0])), lambda s: 0.5 * s)
      >>> [round(x, 5) for x in jnp.diagonal(half).tolist()]
      [1.5, -0.5]
    """
    return _each_matrix("on_singular_values", _of_singular_values, function, params, False)


def positive_semidefinite(params: Params) -> Params:
    r"""Projects onto symmetric matrices without negative eigenvalues, in the Frobenius norm.

    .. math:: P(X) = Q \max(\Lambda, 0) Q^T, \qquad \tfrac12 (X + X^T) = Q \Lambda Q^T

    Args:
      params: a pytree of arrays of shape ``(..., n, n)``, each matrix by itself.

    Reference:
      Higham, Computing a nearest symmetric positive semidefinite matrix, Linear Algebra and its Applications 103,
      1988, Theorem 2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.positive_semidefinite(jnp.diag(jnp.array([1.0, -2.0]))).tolist()
      [[1.0, 0.0], [0.0, 0.0]]
    """
    floating("positive_semidefinite", params)
    return on_eigenvalues(params, non_negative)


def nuclear_ball(params: Params, radius: ScalarLike = 1.0) -> Params:
    r"""Projects onto matrices whose singular values sum to at most :math:`r`: low rank.

    Args:
      params: a pytree of arrays of shape ``(..., m, n)``, each matrix by itself.
      radius: :math:`r \ge 0`.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> low = projections.nuclear_ball(jnp.diag(jnp.array([3.0, 1.0])), 2.0)
      >>> [round(x, 5) for x in jnp.diagonal(low).tolist()]
      [2.0, 0.0]
    """
    floating("nuclear_ball", params)
    within("nuclear_ball", jnp.float32, radius=radius)
    return on_singular_values(params, lambda values: l1_ball(values, radius))


def spectral_ball(params: Params, radius: ScalarLike = 1.0) -> Params:
    r"""Projects onto matrices whose largest singular value is at most :math:`r`.

    For singular values in a ball of the 2-norm, the Frobenius norm, take `l2_ball`.

    Args:
      params: a pytree of arrays of shape ``(..., m, n)``, each matrix by itself.
      radius: :math:`r \ge 0`.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> short = projections.spectral_ball(jnp.diag(jnp.array([3.0, 0.5])))
      >>> [round(x, 5) for x in jnp.diagonal(short).tolist()]
      [1.0, 0.5]
    """
    floating("spectral_ball", params)
    within("spectral_ball", jnp.float32, radius=radius)
    return on_singular_values(params, lambda values: linf_ball(values, radius))
