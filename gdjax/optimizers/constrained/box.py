r"""What methods between bounds share: the box :math:`l \le x \le u`, moves inside, and what holds at answers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdjax._internal.trees import flat
from gdjax.linalg import boxes
from gdjax.types import Params, Prefix, ValueFn

__all__ = ["Box", "Limits", "box_of", "held_by"]


class Box(NamedTuple):
    """The bounds as flat vectors in the type that methods compute in, and as trees in that of the params."""

    lower: jax.Array
    upper: jax.Array
    trees: tuple[Params, Params]

    def moves(self, params: Params, target: Params) -> Params:
        """The updates whose *rounded* sum with the params is next to the target and in the box."""
        return jax.tree.map(boxes.stay_inside, params, target, *self.trees)


def _spread(owner: str, name: str, bound: Prefix, params: Params, absent: float) -> Params:
    """A bound for every number of the params, in its type."""
    bound = absent if bound is None else bound
    try:
        full = jax.tree.broadcast(bound, params, is_leaf=lambda leaf: leaf is None)
        return jax.tree.map(
            lambda b, p: jnp.broadcast_to(jnp.asarray(absent if b is None else b, p.dtype), p.shape),
            full,
            params,
            is_leaf=lambda leaf: leaf is None,
        )
    except ValueError:
        found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (bound, params))
        raise ValueError(
            f"{owner}: {name} does not fit the params: its shapes are {found}, theirs {wanted}; a bound is a number, "
            "an array, or a tree with the structure of the params or a prefix of it; a list of numbers is a tree, "
            "jnp.asarray(list) an array, and SciPy's pairs are apart here: all lower bounds, then all upper ones"
        ) from None


def box_of(owner: str, bounds: tuple[Prefix, Prefix], params: Params) -> Box:
    """The box for params, from numbers, arrays, trees or None.

    Args:
      owner: who asks, for the error.
      bounds: ``(lower, upper)``.
      params: for structure, shapes and types.

    Raises:
      ValueError: if a bound does not fit the params.

    Example:
      >>> import jax.numpy as jnp
      >>> box_of("here", (0.0, None), jnp.ones(2)).upper.tolist()
      [inf, inf]
    """
    lower = _spread(owner, "lower", bounds[0], params, -np.inf)
    upper = _spread(owner, "upper", bounds[1], params, np.inf)
    return Box(flat(lower)[0], flat(upper)[0], (lower, upper))


class Limits(NamedTuple):
    """The bounds as they were given."""

    lower: Prefix
    upper: Prefix


def held_by(
    box: Box, grad: jax.Array, value_fn: ValueFn, params: Params
) -> tuple[tuple[Params], Callable[[tuple[Params]], tuple[jax.Array]]]:
    """The unknowns and equations of answers between bounds: where no bound holds, the gradient is zero.

    Args:
      box: the bounds.
      grad: the gradient at the answer, flat.
      value_fn: the objective.
      params: the answer.
    """
    x = flat(params)[0]
    fixed = box.lower == box.upper
    low = jax.lax.stop_gradient((x <= box.lower) & ((grad > 0) | fixed))
    high = jax.lax.stop_gradient((x >= box.upper) & (grad < 0) & ~fixed)

    def equations(unknowns):
        point, slope = flat(unknowns[0])[0], flat(jax.grad(value_fn)(unknowns[0]))[0]
        bounds = jnp.where(low, jnp.where(low, box.lower, 0), jnp.where(high, box.upper, 0))
        return (jnp.where(low | high, point - bounds, slope),)

    return (params,), equations
