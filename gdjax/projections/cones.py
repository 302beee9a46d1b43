"""The second-order cone."""

import jax.numpy as jnp

from gdjax.projections.numbers import floating
from gdjax.projections.vectors import flat, unit, wide
from gdjax.types import Params

__all__ = ["second_order_cone"]


def second_order_cone(params: Params) -> Params:
    r"""Projects a pair onto :math:`\{(x, t) : \|x\|_2 \le t\}`, the ice-cream cone.

    .. math::
       P(x, t) = \begin{cases} (x, t) & \|x\| \le t \\ (0, 0) & \|x\| \le -t \\
       \tfrac12 (\|x\| + t) \, (x / \|x\|, 1) & \text{else} \end{cases}

    Args:
      params: ``(x, t)`` with x a pytree of floating arrays and t a scalar.

    Raises:
      ValueError: if ``params`` is not such a pair.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.3.2.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> vector, height = projections.second_order_cone((jnp.array([0.0, 2.0]), 0.0))
      >>> vector.tolist(), float(height)
      ([0.0, 1.0], 1.0)
    """
    if not isinstance(params, tuple | list) or len(params) != 2 or jnp.shape(params[1]) != ():
        raise ValueError("second_order_cone: params must be a pair (x, t) with t a scalar")
    floating("second_order_cone", params)
    x, back = flat(params[0])
    height = wide(params[1]).astype(x.dtype)
    direction, norm, size = unit(x)
    length = norm * size
    inside, below = length <= height, length <= -height
    half = jnp.where(below, 0, 0.5 * (length + height))
    vector = back(jnp.where(inside, x, half * direction))
    return type(params)((vector, jnp.where(inside, height, half).astype(jnp.asarray(params[1]).dtype)))
