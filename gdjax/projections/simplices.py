"""The simplex, and what is made of it: the ball and the sphere of the 1-norm."""

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow
from gdjax.projections.numbers import floating, within
from gdjax.projections.vectors import about, flat
from gdjax.types import Params, Prefix, ScalarLike

__all__ = ["l1_ball", "l1_sphere", "shares", "simplex"]


@control_flow.one_program
def shares(x: jax.Array, total: jax.Array) -> jax.Array:
    r""":math:`\max(x - \tau, 0)` with the :math:`\tau` that makes the sum ``total``, for a vector ``x``.

    With the sorted :math:`u_1 \ge u_2 \ge \dots` it is :math:`\tau = \max_k (u_1 + \dots + u_k - \text{total}) / k`.
    All is measured from the largest entry, so that what the sum is made of is not lost beside large entries,
    and what rounding left of the sum is spread at the end.
    """
    x = x - jax.lax.stop_gradient(jnp.max(x))
    largest_first = -jnp.sort(-jax.lax.stop_gradient(x))
    counts = jnp.arange(1, x.size + 1, dtype=x.dtype)
    first = jnp.max((jnp.cumsum(largest_first) - jax.lax.stop_gradient(total)) / counts)
    support = x > first
    count = jnp.maximum(jnp.sum(support), 1).astype(x.dtype)
    shift = (jnp.sum(jnp.where(support, x, 0)) - total) / count
    part = jnp.where(support & (x > shift), x - shift, 0)
    support = part > 0
    rest = (total - jnp.sum(part)) / jnp.maximum(jnp.sum(support), 1).astype(x.dtype)
    part = jnp.where(support, jnp.maximum(part + rest, 0), 0)
    return jnp.where(jnp.isnan(first), first, part)


def simplex(params: Params, total: ScalarLike = 1.0) -> Params:
    r"""Projects onto :math:`\{x : x \ge 0, \; \sum_i x_i = s\}`, over all leaves together.

    The sum is right to a few units of rounding whatever the size of the entries.

    Args:
      params: a pytree of floating arrays.
      total: :math:`s > 0`.

    Reference:
      Held, Wolfe, Crowder, Validation of subgradient optimization, Mathematical Programming 6, 1974, p. 69.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.simplex(jnp.array([1e8, 1e8 + 8, 1.0])).tolist()
      [0.0, 1.0, 0.0]
    """
    floating("simplex", params)
    x, back = flat(params)
    return back(shares(x, within("simplex", x.dtype, total=total)))


def l1_ball(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \|x - c\|_1 \le r\}`, over all leaves together.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Reference:
      Duchi et al., Efficient projections onto the l1-ball for learning in high dimensions, ICML 2008, Section 4.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.l1_ball(jnp.array([3.0, -1.0]), 3.0).tolist()
      [2.5, -0.5]
    """
    floating("l1_ball", params)
    x, origin, back = about(params, center)
    offset = x - origin
    radius = within("l1_ball", x.dtype, radius=radius)
    inside = jnp.sum(jnp.abs(offset)) <= radius
    return back(jnp.where(inside, x, origin + jnp.sign(offset) * shares(jnp.abs(offset), radius)))


def l1_sphere(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \|x - c\|_1 = r\}`; of several nearest points, the one in the direction of plus.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.l1_sphere(jnp.zeros(2)).tolist()
      [0.5, 0.5]
    """
    floating("l1_sphere", params)
    x, origin, back = about(params, center)
    offset = x - origin
    radius = within("l1_sphere", x.dtype, radius=radius)
    signs = jnp.where(offset < 0, -1, 1).astype(x.dtype)
    return back(origin + signs * shares(signs * offset, radius))
