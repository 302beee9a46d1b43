r"""Secant updates: curvature learned from how the gradient changes along a step, as dense matrices.

For a step :math:`s` and the change :math:`y` of the gradient along it, the new matrix :math:`B_+` meets the
secant equation :math:`B_+ s = y`. Where a pair cannot be used the matrix stays as it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal.trees import unit
from gdjax.types import Scalar

__all__ = ["Secant", "bfgs", "learned", "sr1"]


class Secant(NamedTuple):
    """A secant update; a trust region takes one as its ``curvature``.

    Attributes:
      update: ``(matrix, step, change) -> matrix`` with shapes (n, n), (n,), (n,).
    """

    update: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _outer(u: jax.Array, v: jax.Array) -> jax.Array:
    return u[:, None] * v[None, :]


def _bfgs(matrix, step, change):
    image = matrix @ step
    curved, held = jnp.dot(step, change), jnp.dot(step, image)
    # Powell's damping: the pair is mixed with what the matrix holds already until the curvature is positive.
    short = curved < 0.2 * held
    share = jnp.where(short, 0.8 * held / jnp.where(short, held - curved, 1), 1)
    change = share * change + (1 - share) * image
    curved = jnp.dot(step, change)
    new = matrix + _outer(change, change / curved) - _outer(image, image / held)
    return jnp.where((held > 0) & (curved > 0) & jnp.all(jnp.isfinite(new)), new, matrix)


def _sr1(matrix, step, change):
    rest = change - matrix @ step
    below = jnp.dot(rest, step)
    new = matrix + _outer(rest, rest / jnp.where(below == 0, 1, below))
    apart = jnp.abs(below) > 1e-8 * jnp.sqrt(jnp.dot(rest, rest)) * jnp.sqrt(jnp.dot(step, step))
    return jnp.where(apart & jnp.all(jnp.isfinite(new)), new, matrix)


bfgs = Secant(_bfgs)
r"""Damped BFGS: :math:`B_+ = B - \frac{B s s^T B}{s^T B s} + \frac{r r^T}{r^T s}`, always positive definite.

:math:`r = \theta y + (1 - \theta) B s` with the largest :math:`\theta \le 1` for which :math:`s^T r \ge 0.2\,
s^T B s`.

Reference: Nocedal and Wright (2006), procedure 18.2.
"""

sr1 = Secant(_sr1)
r"""Symmetric rank one: :math:`B_+ = B + \frac{v v^T}{v^T s}`, :math:`v = y - B s`; follows negative curvature
too.

Skipped where :math:`|v^T s| \le 10^{-8} \lVert v \rVert \lVert s \rVert`.

Reference: Nocedal and Wright (2006), equations 6.24 and 6.26.
"""


def learned(
    secant: Secant,
    matrix: jax.Array,
    pair: tuple[jax.Array, jax.Array],
    usable: Scalar,
    slope: Scalar,
    count: Scalar,
) -> jax.Array:
    r"""The matrix after a pair; before the first it is a multiple of one.

    Args:
      secant: the update.
      matrix: :math:`B`, shape (n, n).
      pair: :math:`(s, y)`.
      usable: whether it says anything of the curvature.
      slope: the multiple of one to begin with.
      count: 0 to begin, 1 where the first pair then sets the scale by :math:`y^T y / s^T y`, more afterwards.
    """
    # Over powers of two, with which squares stay in range; the matrix over that of y by that of s.
    us, uy = unit(pair[0])[0], unit(pair[1])[0]
    s, y, steep = pair[0] / us, pair[1] / uy, uy / us
    curved, size = jnp.dot(s, y), jnp.dot(s, s)
    scale = jnp.where((count == 1) & (curved > 0), jnp.dot(y, y) / curved, 0)
    identity = jnp.eye(s.size, dtype=s.dtype)
    start = jnp.where((scale > 0) & jnp.isfinite(scale), scale * identity, matrix / steep)
    usable &= (size > 0) & jnp.all(jnp.isfinite(y)) & (steep > 0) & jnp.isfinite(steep)
    new = jnp.where(usable, steep * secant.update(start, s, y), matrix)
    return jnp.where(count == 0, jnp.where(jnp.isfinite(slope), slope, 1) * identity, new)
