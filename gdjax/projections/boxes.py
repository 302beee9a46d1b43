"""Projections that act on each number by itself."""

from typing import Any

import jax.numpy as jnp

from gdjax.projections.vectors import each
from gdjax.types import Params

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
    return each(lambda x: jnp.where(x < 0, 0, x), params)


def box(params: Params, lower: Any = None, upper: Any = None) -> Params:
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
    if lower is not None:
        params = each(lambda x, low: jnp.where(x < low, low, x), params, lower)
    if upper is not None:
        params = each(lambda x, up: jnp.where(x > up, up, x), params, upper)
    return params


def hypercube(params: Params, scale: Any = 1.0) -> Params:
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
    return box(params, 0.0, scale)
