"""Projections that act on each number by itself."""

import jax.numpy as jnp

from gdjax._internal import checks
from gdjax.projections.numbers import floating, ordered, traced
from gdjax.projections.vectors import each
from gdjax.types import Params, Prefix, ScalarLike

__all__ = ["box", "hypercube", "non_negative"]


def non_negative(params: Params) -> Params:
    r"""Projects onto :math:`\{x : x \ge 0\}`.

    Args:
      params: a pytree of floating arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.non_negative(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    floating("non_negative", params)
    return each(lambda x: jnp.where(x < 0, 0, x), params)


def _clipped(params, lower, upper):
    """Between bounds; NaN where traced ones turn out to leave no room."""
    onto = params
    if lower is not None:
        onto = each(lambda x, low: jnp.where(x < low, low, x), onto, lower)
    if upper is not None:
        onto = each(lambda x, up: jnp.where(x > up, up, x), onto, upper)
    if not traced(lower, upper):
        return onto
    low, up = -jnp.inf if lower is None else lower, jnp.inf if upper is None else upper
    return each(
        lambda x, low, up: jnp.where((low <= up) & (low < jnp.inf) & (up > -jnp.inf), x, jnp.nan),
        onto,
        low,
        up,
    )


def box(params: Params, lower: Prefix = None, upper: Prefix = None) -> Params:
    r"""Projects onto :math:`\{x : l \le x \le u\}`.

    Args:
      params: a pytree of floating arrays.
      lower: :math:`l`, a number, an array, or a tree that is a prefix of ``params``; none by default.
      upper: :math:`u \ge l`, likewise.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.box(jnp.array([-3.0, 0.5, 3.0]), -1.0, 1.0).tolist()
      [-1.0, 0.5, 1.0]
    """
    ordered("box", lower, upper)
    floating("box", params)
    return _clipped(params, lower, upper)


def hypercube(params: Params, scale: ScalarLike = 1.0) -> Params:
    r"""Projects onto :math:`\{x : 0 \le x \le s\}`.

    Args:
      params: a pytree of floating arrays.
      scale: :math:`s \ge 0`, a number, an array, or a tree that is a prefix of ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> projections.hypercube(jnp.array([-3.0, 0.5, 3.0])).tolist()
      [0.0, 0.5, 1.0]
    """
    floating("hypercube", params)
    checks.weights("hypercube", infinite=True, scale=scale)
    return _clipped(params, 0.0, scale)
