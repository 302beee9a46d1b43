"""Intersections of sets whose projections are known."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gdjax import control_flow
from gdjax.projections.vectors import flat, unit, wide
from gdjax.types import Params

__all__ = ["intersection"]


def intersection(
    params: Params,
    projections: Sequence[Callable[[Params], Params]],
    *,
    rounds: Any = 100,
    tolerance: Any = None,
) -> Params:
    r"""Projects onto the intersection of convex sets by Dykstra's algorithm.

    .. math:: x \leftarrow P_i(x + p_i), \quad p_i \leftarrow x_{\text{before}} + p_i - x

    for each set i in turn, over and over. Alternating without the corrections :math:`p_i` finds a point of the
    intersection; with them it is the nearest one. Convergence is linear for polyhedra and can be slow for sets
    that meet at a small angle, so say how far to go.

    Args:
      params: a pytree of floating arrays.
      projections: functions of the parameters alone, one for each set.
      rounds: the most turns through all sets; exactly so many where there is no ``tolerance``.
      tolerance: stops when the corrections have moved by less than this, relative to the norm of the point.
        With it the result is not differentiable in reverse.

    Reference:
      Boyle and Dykstra, A method for finding projections onto the intersection of convex sets in Hilbert spaces,
      1986; Birgin and Raydan, Robust stopping criteria for Dykstra's algorithm, SIAM J. Sci. Comput. 26(4), 2005.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> sets = (projections.non_negative, lambda x: projections.hyperplane(x, 1.0, 1.0))
      >>> found = projections.intersection(jnp.array([2.0, 0.5, -3.0]), sets)
      >>> [round(x, 5) for x in found.tolist()]
      [1.0, 0.0, 0.0]
    """
    if not projections:
        raise ValueError("intersection: give at least one projection")
    start = jax.tree.map(wide, params)

    def turn(state):
        x, corrections, _ = state
        moved, changed = [], jnp.zeros((), flat(start)[0].dtype)
        for projection, correction in zip(projections, corrections, strict=True):
            target = jax.tree.map(jnp.add, x, correction)
            x = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), projection(target), target)
            moved.append(jax.tree.map(jnp.subtract, target, x))
            _, norm, size = unit(flat(jax.tree.map(jnp.subtract, moved[-1], correction))[0])
            changed = jnp.maximum(changed, norm * size)
        return x, tuple(moved), changed

    nothing = jax.tree.map(jnp.zeros_like, start)
    vector, _ = flat(start)
    state = (start, (nothing,) * len(projections), jnp.full((), jnp.inf, vector.dtype))
    if tolerance is None:
        end, _, _ = control_flow.fori_loop(0, rounds, lambda _, s: turn(s), state)
    else:

        def unfinished(counted):
            count, (x, _, changed) = counted
            _, norm, size = unit(flat(x)[0])
            return (count < rounds) & (changed > tolerance * norm * size)

        end = control_flow.while_loop(unfinished, lambda c: (c[0] + 1, turn(c[1])), (jnp.int32(0), state))[1][
            0
        ]
    return jax.tree.map(lambda new, old: new.astype(jnp.asarray(old).dtype), end, params)
