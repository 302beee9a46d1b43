r"""Dense symmetric solves that turn any Hessian into a direction of descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow
from gdjax.linalg import small
from gdjax.types import Scalar, ScalarLike

__all__ = ["Cholesky", "Spectral", "eigh_solve", "shifted_cholesky"]

_ATTEMPTS = 40
"""Doublings of the shift: from a thousandth of the norm on, ten of them make the matrix definite but for rounding."""


class Cholesky(NamedTuple):
    r""":math:`A + \tau I = L L^T`.

    Attributes:
      factor: :math:`L`, lower triangular, shape ``(n, n)``; NaN where no shift was found.
      shift: :math:`\tau \ge 0`.
    """

    factor: jax.Array
    shift: Scalar

    def solve(self, right: jax.Array) -> jax.Array:
        r""":math:`(A + \tau I)^{-1} b` for ``right`` of shape ``(n,)`` or ``(n, k)``."""
        return jax.scipy.linalg.cho_solve((self.factor, True), right)


def shifted_cholesky(matrix: jax.Array, *, margin: ScalarLike = 1e-3) -> Cholesky:
    r"""Cholesky factors of the matrix, with a multiple of the identity added where it needs one.

    Starts from no shift where the diagonal is positive, else from one that makes it so, and doubles the
    shift, from :math:`\beta = \text{margin} \cdot \|A\|_\infty` on, until the factorization succeeds: a dozen
    times at most, as a shift of :math:`\|A\|_\infty` always does.

    Args:
      matrix: symmetric, shape ``(n, n)``.
      margin: the first shift relative to the matrix, positive.

    Returns:
      A `Cholesky`; its shift is exactly 0 for a positive definite matrix.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, Algorithm 3.3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import linalg
      >>> found = linalg.shifted_cholesky(jnp.diag(jnp.array([1.0, -2.0])))
      >>> bool(found.shift > 2)
      True
    """
    scale = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
    first = jnp.where(scale > 0, margin * scale, jnp.ones_like(scale))
    least = jnp.min(jnp.diagonal(matrix))
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def attempt(shift):
        return jnp.linalg.cholesky(matrix + shift * identity, symmetrize_input=False)

    def failed(state):
        factor, _, count = state
        return (count < _ATTEMPTS) & ~jnp.all(jnp.isfinite(factor))

    def larger(state):
        _, shift, count = state
        shift = jnp.maximum(2.0 * shift, first)
        return attempt(shift), shift, count + 1

    start = jnp.where(least > 0, jnp.zeros_like(scale), first - least)
    factor, shift, _ = control_flow.while_loop(failed, larger, (attempt(start), start, jnp.int32(0)))
    return Cholesky(factor, shift)


class Spectral(NamedTuple):
    """A solution with the spectrum it was made from.

    Attributes:
      solution: as `eigh_solve` describes it.
      eigenvalues: ascending, shape ``(n,)``.
      eigenvectors: in columns, shape ``(n, n)``.
    """

    solution: jax.Array
    eigenvalues: jax.Array
    eigenvectors: jax.Array


def eigh_solve(matrix: jax.Array, right: jax.Array, *, floor: ScalarLike | None = None) -> Spectral:
    r"""Solves with absolute eigenvalues, :math:`x = Q \max(|\Lambda|, \delta)^{-1} Q^T b`.

    The saddle-free Newton step: along negative curvature it goes downhill, and nowhere is it longer than
    :math:`\|b\| / \delta`.

    Args:
      matrix: symmetric, shape ``(n, n)``.
      right: :math:`b`, shape ``(n,)``.
      floor: :math:`\delta > 0`; by default the root of the rounding unit times the largest :math:`|\lambda|`.

    Reference:
      Dauphin et al., Identifying and attacking the saddle point problem, NeurIPS 2014, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import linalg
      >>> linalg.eigh_solve(jnp.diag(jnp.array([2.0, -4.0])), jnp.array([2.0, 4.0])).solution.tolist()
      [1.0, 1.0]
    """
    eigenvalues, basis = small.eigh(matrix)
    sizes = jnp.abs(eigenvalues)
    largest = jnp.max(sizes)
    if floor is None:
        floor = jnp.where(largest > 0, jnp.finfo(matrix.dtype).eps ** 0.5 * largest, 1.0)
    highest = jax.lax.Precision.HIGHEST
    coordinates = jnp.dot(basis.T, right, precision=highest) / jnp.maximum(sizes, floor)
    return Spectral(jnp.dot(basis, coordinates, precision=highest), eigenvalues, basis)
