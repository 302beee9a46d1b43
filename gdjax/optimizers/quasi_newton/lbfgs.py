r"""Limited-memory BFGS: the last few pairs instead of a matrix."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax._internal.trees import power_of_two
from gdjax.linesearch import Direction, Move, Search, chosen, descend, strong_wolfe, unit_step
from gdjax.types import Scalar, Transformation

__all__ = ["PairMemory", "lbfgs"]


class PairMemory(NamedTuple):
    r"""The last m pairs, oldest first, each times a power of two; rows of zeros where there are fewer.

    Attributes:
      steps: the :math:`s_i`, shape ``(m, n)``.
      changes: the :math:`y_i`, shape ``(m, n)``.
      inverse: :math:`R^{-1}` with :math:`R_{ij} = s_i^T y_j` for :math:`i \le j`, upper triangular, shape ``(m, m)``.
      scales: the :math:`s_i^T y_i / y_i^T y_i`, shape ``(m,)``.
    """

    steps: jax.Array
    changes: jax.Array
    inverse: jax.Array
    scales: jax.Array


class _Empty(NamedTuple):
    memory: int

    def __call__(self, params, x):
        del params
        m = self.memory
        rows, square = jnp.zeros((m, x.size), x.dtype), jnp.zeros((m, m), x.dtype)
        return PairMemory(rows, rows, square, jnp.zeros(m, x.dtype))


def _push(rows, new):
    return jnp.concatenate([rows[1:], new[None]])


def _with_pair(memory, s, y, sy, yy):
    """Drops the oldest pair. The inverse of a triangular matrix bordered by a column needs no solve.

    A pair and its multiples make the same matrix.
    """
    steps, changes = _push(memory.steps, s), _push(memory.changes, y)
    m = steps.shape[0]
    column = steps @ y  # the last column of R; its last entry is sy
    shifted = jnp.pad(memory.inverse[1:, 1:], (0, 1))
    border = (jnp.eye(m, dtype=s.dtype)[-1] - shifted @ column) / sy
    inverse = jnp.concatenate([shifted[:, :-1], border[:, None]], axis=1)
    return PairMemory(steps, changes, inverse, _push(memory.scales, sy / yy))


def _times_gradient(memory, g):
    r"""The product :math:`H g` in compact form, with the work of the two-loop recursion and no loop."""
    inverse, scale = memory.inverse, jnp.max(memory.scales)
    diagonal = jnp.diagonal(inverse)
    curvature = jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)
    u = inverse @ (memory.steps @ g)
    q = g - u @ memory.changes
    w = (curvature * u - scale * (memory.changes @ q)) @ inverse
    return scale * q + w @ memory.steps


def _update(damping, memory, move: Move):
    us, uy, ug = move.units
    s, y, g, fall = move.step / us, move.change / uy, move.grad / ug, ug / uy
    ss, yy = move.squares
    sy = jnp.sum(s * y)
    if damping is not None:
        along, sg = move.along.astype(g.dtype), jnp.sum(s * g)
        theta = damping(sy, along * (sy - fall * sg))  # B s = -a (g - y)
        y = theta * y - (1 - theta) * along * (fall * g - y)
        sy, yy = jnp.sum(s * y), jnp.sum(y * y)
    eps, steep = jnp.finfo(g.dtype).eps, uy / us
    good = move.paired & (sy > eps * jnp.sqrt(ss) * jnp.sqrt(yy)) & (steep > 0) & jnp.isfinite(steep / sy)
    old = jax.tree.map(lambda leaf: jnp.where(move.failed, 0, leaf), memory)
    # Of the multiples of the pair the one with an inner product near one.
    cs = power_of_two(jnp.sqrt(1 / steep))
    cy = cs * steep
    s, y, sy, yy = cs * s, cy * y, cs * cy * sy, cy * cy * yy
    new = _with_pair(
        old, jnp.where(good, s, 0), jnp.where(good, y, 0), jnp.where(good, sy, 1), jnp.where(good, yy, 1)
    )
    new = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
    return -ug * _times_gradient(new, g), new


def lbfgs(
    memory: int = 10,
    search: Search | None = None,
    *,
    damping: Callable[[Scalar, Scalar], Scalar] | None = None,
) -> Transformation:
    r"""L-BFGS in compact form, with a flat strong Wolfe search.

    .. math::

        u = R^{-1} S g, \quad q = g - Y^T u, \quad w = R^{-T}(D u - \gamma Y q), \quad p = -(\gamma q + S^T w)

    with the rows of :math:`S, Y` the last :math:`m` steps and gradient changes, :math:`R` the upper triangle and
    :math:`D` the diagonal of :math:`S Y^T`. This is the product of the two-loop recursion, as matrix products.
    :math:`\gamma = \max_i s_i^T y_i / y_i^T y_i` is the largest of the last :math:`m` ratios where Nocedal and Wright
    (7.20) take the last: the pairs shorten what is too long sooner than they lengthen what is too short.

    A step costs one evaluation and five products with ``(m, n)`` arrays; memory is :math:`2 m n` and a few vectors.
    Choose it where an n x n matrix is too large, from some hundred parameters on; `bfgs` needs fewer steps
    where it fits.

    Args:
      memory: how many pairs to keep, a Python integer of at least 1.
      search: how far to go along the direction; `strong_wolfe` by default.
      damping: what to do with pairs of small or negative curvature: None skips them,
        `powell_damping` bends them.

    Raises:
      ValueError: if ``memory`` is below 1.

    Reference:
      Byrd, Nocedal, Schnabel, Representations of quasi-Newton matrices and their use in limited memory
      methods, Math. Programming 63, 1994, equation 3.1; Nocedal and Wright, algorithm 7.4.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
      >>> run = gdjax.minimize(f, jnp.zeros(10), gdjax.lbfgs(memory=5))
      >>> bool(run.value < 1e-10)
      True
    """
    checks.integer("lbfgs", 1, memory=memory)
    checks.function("lbfgs", "sy, sBs", "such as powell_damping", True, damping=damping)
    damping = None if damping is None else Partial(damping)
    direction = Direction(Partial(_Empty(int(memory))), Partial(_update, damping), Partial(unit_step))
    return descend(direction, chosen("lbfgs", search, strong_wolfe))
