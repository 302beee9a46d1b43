"""The transport polytope: matrices with given sums of rows and columns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gdjax._internal import arguments, checks, control_flow
from gdjax.projections.numbers import floating, traced
from gdjax.projections.simplices import shares
from gdjax.projections.vectors import wide
from gdjax.types import Params, Scalar

__all__ = ["transport_polytope"]

_TURNS = 300
"""Newton steps before it is given up."""
_GROWTH = 2.0
"""From one multiple of the matrix to the next: the multipliers of the last are near those of the next."""
_NEAR = 0.01
"""How exactly a multiple is solved before the next: it only has to show the way."""
_HALVINGS = 30
"""Of a Newton step: after them it is below the rounding of float32."""


class _Dual(NamedTuple):
    shifted: jax.Array
    gap: Scalar
    part: Scalar
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


def _move(shifted, gaps, damping):
    """The moves of rows and columns that close the gaps while the support stays as it is."""
    support = (shifted > 0).astype(shifted.dtype)
    counts = jnp.concatenate([jnp.sum(support, axis=1), jnp.sum(support, axis=0)])
    rows = shifted.shape[0]
    matrix = jnp.diag(counts + damping * jnp.maximum(jnp.max(counts), 1))
    matrix = matrix.at[:rows, rows:].set(support).at[rows:, :rows].set(support.T)
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    moves = jax.scipy.linalg.cho_solve(factor, jnp.concatenate(gaps))
    moves = jnp.where(jnp.all(jnp.isfinite(moves)), moves, 0)
    return moves[:rows], moves[rows:]


def _searched(shifted, rows, columns):
    """A damped Newton step on the dual, halved until the slope of the dual along it has nearly gone."""
    gaps = _gaps(shifted, rows, columns)
    scale = jnp.maximum(jnp.max(rows), jnp.max(columns))
    least = 10 * jnp.finfo(shifted.dtype).eps
    left, right = _move(shifted, gaps, jnp.clip(1e-5 * _largest(gaps) / scale, least, 1e-5))
    direction = left[:, None] + right[None, :]

    def slope(gaps):
        return jnp.sum(gaps[0] * left) + jnp.sum(gaps[1] * right)

    first = slope(gaps)

    def too_long(search):
        length, count = search
        return (count < _HALVINGS) & (
            slope(_gaps(shifted + length * direction, rows, columns)) < -0.25 * first
        )

    length, _ = control_flow.while_loop(
        too_long, lambda s: (0.5 * s[0], s[1] + 1), (jnp.ones((), shifted.dtype), jnp.int32(0))
    )
    return shifted + length * direction


def _solve(matrix, rows, columns):
    """The matrix shifted by multipliers of rows and columns, so that its positive part is the projection.

    Entries that are large beside the sums make a problem of assignment. So it is solved roughly for a small
    multiple of the matrix first, and then for larger ones, each from the last.
    """
    largest = jnp.maximum(jnp.max(rows), jnp.max(columns))
    goal = 4 * jnp.finfo(matrix.dtype).eps * largest
    spread = jnp.max(matrix) - jnp.min(matrix)
    first = jnp.where(spread > largest, largest / jnp.where(spread > largest, spread, 1), 1)

    def turn(dual):
        shifted = _searched(dual.shifted, rows, columns)
        shifted = _aligned(_aligned(shifted, rows).T, columns).T
        gap = _largest(_gaps(shifted, rows, columns))
        ready = (dual.part < 1) & (gap <= _NEAR * largest)
        part = jnp.where(ready, jnp.minimum(_GROWTH * dual.part, 1), dual.part)
        return _Dual(shifted * (part / dual.part), jnp.where(ready, jnp.inf, gap), part, dual.turns + 1)

    def unfinished(dual):
        return (dual.turns < _TURNS) & ((dual.gap > goal) | (dual.part < 1))

    start = _Dual(first * matrix, jnp.full((), jnp.inf, matrix.dtype), first, jnp.int32(0))
    return control_flow.while_loop(unfinished, turn, start)


@control_flow.one_program
def _nearest(matrix, rows, columns):
    """The projection, and whether there is nothing to project onto."""
    mass = jnp.sum(columns)
    empty = jnp.any(rows < 0) | jnp.any(columns < 0) | ((mass <= 0) & (jnp.sum(rows) > 0))
    columns = columns * (jnp.sum(rows) / jnp.where(mass > 0, mass, 1))
    fixed = jax.lax.stop_gradient((matrix, rows, columns))
    fixed_shift = _solve(*fixed).shifted
    shifted = fixed_shift + (matrix - fixed[0])
    # One more step from the solution, of which only the derivative is taken: it is that of the solution.
    support = ~(fixed_shift <= 0)
    gaps = _gaps(jnp.where(support, shifted, 0), rows, columns)
    left, right = _move(fixed_shift, gaps, jnp.finfo(matrix.dtype).eps ** 0.75)
    change = matrix + left[:, None] + right[None, :]
    change = change - jax.lax.stop_gradient(change)
    return jnp.where(support, fixed_shift + change, 0), empty


def transport_polytope(params: Params, rows: ArrayLike, columns: ArrayLike) -> Params:
    r"""Projects onto :math:`\{X \ge 0 : X 1 = a, \; X^T 1 = b\}` in the Euclidean sense.

    The point is :math:`\max(X + \alpha 1^T + 1 \beta^T, 0)`. Its multipliers maximize a concave dual: steps of Newton's
    method with a line search, each followed by exact steps in all :math:`\alpha` and in all :math:`\beta`, which are
    projections onto simplices. Entries that are large beside the sums are reached from small multiples of them. The
    method stops at rounding, or after 300 steps with a dense system of size m + n each. (Sinkhorn's scaling solves
    another problem: it minimizes relative entropy.)

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
    floating("transport_polytope", params)
    checks.weights("transport_polytope", rows=rows, columns=columns)
    unknown = traced(rows, columns)
    original = jnp.asarray(params)
    matrix = wide(original)
    rows, columns = jnp.asarray(rows, matrix.dtype), jnp.asarray(columns, matrix.dtype)
    if matrix.shape != (rows.size, columns.size) or rows.ndim != 1 or columns.ndim != 1:
        raise ValueError(
            f"transport_polytope: params of shape {matrix.shape} with rows of shape {rows.shape} and columns "
            f"of shape {columns.shape}; expected (m, n), (m,) and (n,)"
        )
    plan, empty = _nearest(matrix, rows, columns)
    if not unknown and arguments.known(empty):
        raise ValueError("transport_polytope: rows have a positive sum, columns none")
    plan = plan.astype(original.dtype)
    return jnp.where(empty, jnp.nan, plan) if unknown else plan
