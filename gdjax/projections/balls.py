"""Balls and spheres of the 2-norm and of the largest entry."""

import jax.numpy as jnp

from gdjax.projections.numbers import floating, within
from gdjax.projections.vectors import about, unit
from gdjax.types import Params, Prefix, ScalarLike

__all__ = ["l2_ball", "l2_sphere", "linf_ball", "linf_sphere"]


def l2_ball(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \|x - c\|_2 \le r\}`, over all leaves together.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> [round(entry, 6) for entry in projections.l2_ball(jnp.array([3e25, 4e25])).tolist()]
      [0.6, 0.8]
    """
    floating("l2_ball", params)
    x, origin, back = about(params, center)
    radius = within("l2_ball", x.dtype, radius=radius)
    direction, norm, size = unit(x - origin)
    return back(jnp.where(norm * size <= radius, x, origin + radius * direction))


def l2_sphere(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \|x - c\|_2 = r\}`; from the centre, where all points are nearest, along ones.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.l2_sphere(jnp.array([0.0, -0.25])).tolist()
      [0.0, -1.0]
    """
    floating("l2_sphere", params)
    x, origin, back = about(params, center)
    radius = within("l2_sphere", x.dtype, radius=radius)
    direction, norm, _ = unit(x - origin)
    direction = jnp.where(norm > 0, direction, x.size**-0.5)
    return back(origin + radius * direction)


def linf_ball(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \max_i |x_i - c_i| \le r\}`, over all leaves together.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.linf_ball(jnp.array([3.0, -0.5])).tolist()
      [1.0, -0.5]
    """
    floating("linf_ball", params)
    x, origin, back = about(params, center)
    radius = within("linf_ball", x.dtype, radius=radius)
    offset = x - origin
    return back(jnp.where(jnp.abs(offset) <= radius, x, origin + radius * jnp.sign(offset)))


def linf_sphere(params: Params, radius: ScalarLike = 1.0, center: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : \max_i |x_i - c_i| = r\}`: from inside, the largest entry goes to its face.

    Args:
      params: a pytree of floating arrays.
      radius: :math:`r \ge 0`.
      center: :math:`c`, a tree that is a prefix of ``params``; the origin by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.linf_sphere(jnp.array([0.25, -0.5])).tolist()
      [0.25, -1.0]
    """
    floating("linf_sphere", params)
    x, origin, back = about(params, center)
    radius = within("linf_sphere", x.dtype, radius=radius)
    offset = x - origin
    face = jnp.arange(x.size) == jnp.argmax(jnp.abs(offset))
    onto = face | ~(jnp.abs(offset) <= radius)
    return back(jnp.where(onto, origin + radius * jnp.where(offset < 0, -1, 1), x))
