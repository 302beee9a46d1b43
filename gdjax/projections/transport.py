"""The transport polytope: matrices with given sums of rows and columns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax.projections.simplices import shares
from gdjax.projections.vectors import wide
from gdjax.types import Params, Scalar

__all__ = ["transport_polytope"]

_TURNS = 100


class _Dual(NamedTuple):
    shifted: jax.Array
    gap: Scalar
    least: Scalar
    turns: Scalar


def _gaps(shifted, rows, columns):
    plan = jnp.maximum(shifted, 0)
    return rows - jnp.sum(plan, axis=1), columns - jnp.sum(plan, axis=0)


def _largest(gaps):
    return jnp.maximum(jnp.max(jnp.abs(gaps[0])), jnp.max(jnp.abs(gaps[1])))


def _aligned(shifted, totals):
    """Each row moved by the number that makes its positive part sum to its total."""
    parts = jax.vmap(shares)(shifted, totals)
    best = jnp.argmax(shifted, axis=1)[:, None]
    shift = jnp.take_along_axis(parts, best, axis=1) - jnp.take_along_axis(shifted, best, axis=1)
    return jnp.where(parts > 0, parts, jnp.minimum(shifted + shift, 0))


def _newton(shifted, gaps):
    """The shift of rows and columns that closes the gaps while the support stays as it is."""
    support = jax.lax.stop_gradient((shifted > 0).astype(shifted.dtype))
    rows, columns = jnp.sum(support, axis=1), jnp.sum(support, axis=0)
    matrix = jnp.block([[jnp.diag(rows), support], [support.T, jnp.diag(columns)]])
    largest = jnp.maximum(jnp.maximum(jnp.max(rows), jnp.max(columns)), 1)
    matrix = matrix + 10 * jnp.finfo(shifted.dtype).eps * largest * jnp.eye(
        matrix.shape[0], dtype=matrix.dtype
    )
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    moves = jax.scipy.linalg.cho_solve(factor, jnp.concatenate(gaps))
    moves = jnp.where(jnp.all(jnp.isfinite(moves)), moves, 0)
    return shifted + moves[: rows.size, None] + moves[None, rows.size :]


def _solve(matrix, rows, columns):
    """The matrix shifted by multipliers of rows and columns, so that its positive part is the projection."""
    goal = 4 * jnp.finfo(matrix.dtype).eps * jnp.maximum(jnp.max(rows), jnp.max(columns))

    def turn(dual):
        shifted = _aligned(_aligned(dual.shifted, rows).T, columns).T
        gaps = _gaps(shifted, rows, columns)
        trial = _newton(shifted, gaps)
        gap, trial_gap = _largest(gaps), _largest(_gaps(trial, rows, columns))
        better = trial_gap <= jnp.minimum(0.5 * dual.least, gap)
        least = jnp.where(better, trial_gap, dual.least)
        return _Dual(
            jnp.where(better, trial, shifted), jnp.where(better, trial_gap, gap), least, dual.turns + 1
        )

    def unfinished(dual):
        return (dual.turns < _TURNS) & (dual.gap > goal)

    infinite = jnp.full((), jnp.inf, matrix.dtype)
    return jax.lax.while_loop(unfinished, turn, _Dual(matrix, infinite, infinite, jnp.int32(0))).shifted


def transport_polytope(params: Params, rows: Any, columns: Any) -> Params:
    r"""Projects onto :math:`\{X \ge 0 : X 1 = a, \; X^T 1 = b\}` in the Euclidean sense.

    The point is :math:`\max(X + \alpha 1^T + 1 \beta^T, 0)`. Its multipliers maximize a concave dual: exact steps in
    all :math:`\alpha`, then in all :math:`\beta` (each a projection onto simplices), and a step of Newton's method on
    both wherever it halves the largest error that was left. The method stops at rounding, or after 100 turns, of a
    dense system of size m + n each. (Sinkhorn's scaling solves another problem: it minimizes relative entropy.)

    Args:
      params: an array of shape ``(m, n)``.
      rows: :math:`a \ge 0`, shape ``(m,)``.
      columns: :math:`b \ge 0`, shape ``(n,)``, with the same sum: it is scaled to that of ``rows``. For doubly
        stochastic matrices both are ones.

    Reference:
      Blondel, Seguy, Rolet, Smooth and sparse optimal transport, AISTATS 2018, eq. 7; Li, Sun, Toh, On the
      efficient computation of a generalized Jacobian of the projector over the Birkhoff polytope, Mathematical
      Programming 179, 2020.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> plan = projections.transport_polytope(jnp.eye(2), jnp.ones(2), jnp.ones(2))
      >>> plan.round(5).tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    original = jnp.asarray(params)
    matrix = wide(original)
    rows, columns = jnp.asarray(rows, matrix.dtype), jnp.asarray(columns, matrix.dtype)
    if matrix.shape != (rows.size, columns.size) or rows.ndim != 1 or columns.ndim != 1:
        raise ValueError(
            f"transport_polytope: params of shape {matrix.shape} with rows of shape {rows.shape} and columns "
            f"of shape {columns.shape}; expected (m, n), (m,) and (n,)"
        )
    mass = jnp.sum(columns)
    columns = columns * (jnp.sum(rows) / jnp.where(mass > 0, mass, 1))
    fixed = jax.lax.stop_gradient((matrix, rows, columns))
    shifted = _solve(*fixed) + (matrix - fixed[0])
    # One more step from the solution: it moves nothing, and its derivative is that of the solution.
    gaps = _gaps(jnp.where(shifted > 0, shifted, 0), rows, columns)
    moved = _newton(shifted, gaps)
    return jnp.where(shifted > 0, jnp.maximum(moved, 0), 0).astype(original.dtype)
