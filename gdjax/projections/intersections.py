"""Intersections of sets whose projections are known."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import arguments, checks, control_flow
from gdjax.projections.numbers import floating, projection
from gdjax.projections.vectors import flat, unit, wide
from gdjax.types import Params, Projection, Scalar, ScalarLike

__all__ = ["intersection"]


class _Turn(NamedTuple):
    """Where the algorithm stands.

    Attributes:
      params: the point.
      corrections: one for each set.
      changed: by how much one of them moved in the last turn, at most.
      first: the same for the first turn.
      before: the point a turn ago.
    """

    params: Params
    corrections: tuple[Params, ...]
    changed: Scalar
    first: Scalar
    before: Params


def _size(tree: Params) -> Scalar:
    _, norm, size = unit(flat(tree)[0])
    return norm * size


def _apart(end: _Turn, start: Params, count: ScalarLike) -> Scalar:
    """Whether sets are disjoint, as far as the last turn tells.

    Between disjoint sets the point comes to rest while corrections grow by their distance in every turn, beyond
    all bounds. Where the sets meet, corrections that grow move the point, or have a first one to consume.
    """
    resting = _size(jax.tree.map(jnp.subtract, end.params, end.before)) <= 1e-3 * end.changed
    # 3: a correction that is consumed at this pace would have been by now.
    beyond = count * end.changed > 3 * end.first
    size = jnp.maximum(_size(start), _size(end.params))
    seen = end.changed > jnp.finfo(size.dtype).eps ** 0.5 * size
    return resting & beyond & seen & (count >= 10)


def intersection(
    params: Params,
    projections: Sequence[Projection],
    *,
    rounds: int | Scalar = 100,
    tolerance: ScalarLike | None = None,
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

    Raises:
      ValueError: if ten rounds or more show that the sets have no point in common; NaN where numbers are traced.

    Reference:
      Boyle and Dykstra, A method for finding projections onto the intersection of convex sets in Hilbert spaces,
      1986; Birgin and Raydan, Robust stopping criteria for Dykstra's algorithm, SIAM J. Sci. Comput. 26(4), 2005.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections
      >>> sets = (projections.non_negative, lambda x: projections.hyperplane(x, 1.0, 1.0))
      >>> found = projections.intersection(jnp.array([2.0, 0.5, -3.0]), sets)
      >>> abs(found.round(5)).tolist()
      [1.0, 0.0, 0.0]
    """
    if callable(projections) or not len(projections):
        raise ValueError("intersection: give at least one projection, in a sequence")
    for i, each in enumerate(projections):
        projection("intersection", False, **{f"projections[{i}]": each})
    checks.concrete("intersection", low=1, rounds=rounds)
    checks.optional("intersection", low=0, tolerance=tolerance)
    floating("intersection", params)
    start = jax.tree.map(wide, params)

    def turn(state):
        x, corrections, first = state.params, state.corrections, state.first
        moved, changed = [], jnp.zeros_like(first)
        for onto, correction in zip(projections, corrections, strict=True):
            target = jax.tree.map(jnp.add, x, correction)
            x = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), onto(target), target)
            moved.append(jax.tree.map(jnp.subtract, target, x))
            changed = jnp.maximum(changed, _size(jax.tree.map(jnp.subtract, moved[-1], correction)))
        first = jnp.where(jnp.isinf(first), changed, first)
        return _Turn(x, tuple(moved), changed, first, state.params)

    nothing = jax.tree.map(jnp.zeros_like, start)
    unknown = jnp.full((), jnp.inf, flat(start)[0].dtype)
    state = _Turn(start, (nothing,) * len(projections), unknown, unknown, start)
    if tolerance is None:
        count, end = rounds, control_flow.fori_loop(0, rounds, lambda _, s: turn(s), state)
    else:

        def unfinished(counted):
            count, state = counted
            return (count < rounds) & (state.changed > tolerance * _size(state.params))

        count, end = control_flow.while_loop(
            unfinished, lambda c: (c[0] + 1, turn(c[1])), (jnp.int32(0), state)
        )
    apart = _apart(end, start, count)
    is_known = arguments.known(apart)
    if is_known is not None and is_known:
        raise ValueError(
            f"intersection: the sets seem to have no point in common: after {count} rounds they stay "
            f"{float(end.changed):.3g} apart"
        )

    def kept(new, old):
        new = new if is_known is not None else jnp.where(apart, jnp.nan, new)
        return new.astype(jnp.asarray(old).dtype)

    return jax.tree.map(kept, end.params, params)
