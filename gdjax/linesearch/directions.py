r"""Where to go from an accepted point: a direction is asked for, and made one that can be searched.

A direction sees the pair :math:`s = x_{k+1} - x_k`, :math:`y = g_{k+1} - g_k`. What it answers is taken where it is
one of descent, in units of its size where its slope leaves the range of its type; else the way is down the gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow, trees
from gdjax._internal.trees import unit
from gdjax.linesearch.lengths import carried_gain
from gdjax.linesearch.searches import Bracket, Search
from gdjax.types import Params, PyTree, Scalar, State

__all__ = ["LONGEST", "Base", "Direction", "Move", "aim", "dot"]

LONGEST = 1e3
"""The longest move, in units of the point's norm (at least one)."""
_BEYOND_ROUNDING = 100
"""The shortest first step down the gradient, in units of the point's rounding."""
_SHORT = 0.1
"""The first step down the gradient, in units of the point's norm; one near the origin."""


def dot(a: jax.Array, b: jax.Array) -> Scalar:
    """The inner product of two vectors."""
    return jnp.sum(a * b)


def _range(dtype):
    """Between which sizes a first-order gain is looked at as it is: a factor of 1000 within the range of the type."""
    info = jnp.finfo(dtype)
    return 2.0**10 * float(info.tiny), 2.0**-10 * float(info.max)


class Move(NamedTuple):
    r"""What a direction sees.

    Attributes:
      grad: the gradient at the accepted point, shape ``(n,)`` like the other vectors.
      step: :math:`s`, from the accepted point before to the point given.
      change: :math:`y`, the change of the gradient along it.
      direction: :math:`p`, along which it went.
      along: the step length :math:`a`, so that :math:`s = a p`.
      units: powers of two :math:`(u_s, u_y, u_g)` near the sizes of ``step``, of the two gradients that ``change``
        lies between, and of ``grad``: inner products are taken of vectors over their units, and do not overflow.
      squares: :math:`s^T s / u_s^2` and :math:`y^T y / u_y^2`.
      accepted: whether the point given has become the accepted one.
      paired: whether ``step`` and ``change`` belong together: not at a start, nor on new data.
      failed: whether to forget the past, because a search gave up or the direction was no descent.
      given: the arguments of ``update``, for directions that are transformations themselves.
    """

    grad: jax.Array
    step: jax.Array
    change: jax.Array
    direction: jax.Array
    along: Scalar
    units: tuple[Scalar, Scalar, Scalar]
    squares: tuple[Scalar, Scalar]
    accepted: Scalar
    paired: Scalar
    failed: Scalar
    given: PyTree


class Direction(NamedTuple):
    """Where to go next; pure, like a transformation, and asked at accepted points only.

    Attributes:
      init: ``(params, x) -> memory`` with ``x`` the params as one vector.
      update: ``(memory, Move) -> (direction, memory)``; zeros ask for steepest descent. The memory must
        stay as it is unless ``move.accepted`` or ``move.failed``.
      first_step: ``(along, slope before, slope, last fall in value) -> first trial step``.
    """

    init: Callable[[Params, jax.Array], State]
    update: Callable[[State, Move], tuple[jax.Array, State]]
    first_step: Callable[[Scalar, Scalar, Scalar, Scalar], Scalar]


class Base(NamedTuple):
    """The accepted point.

    Attributes:
      x: the point.
      value: the objective there.
      residual: the gradient's norm.
      gain: how far the value has just fallen, 0 where that is not known.
      size: the norm of the point, as far as the search has come to know it.
    """

    x: jax.Array
    value: Scalar
    residual: Scalar
    gain: Scalar
    size: Scalar


def aim(
    direction: Direction, search: Search, memory: State, bracket: Bracket, move: Move, base: Base
) -> tuple[jax.Array, Scalar, State, Bracket]:
    """The direction to search and the bracket on it: new ones where the point has moved or the past is forgotten.

    Args:
      direction: what is asked.
      search: what begins along it.
      memory: what the direction remembers.
      bracket: of the search so far.
      move: what the direction sees.
      base: the accepted point.

    Returns:
      The direction, its 2-norm, what it remembers, and the bracket.
    """
    moved, g, wide = move.accepted | move.failed, move.grad, base.value.dtype
    residual, size = base.residual, base.size

    def ask():
        asked, new = direction.update(memory, move)
        return asked.astype(g.dtype), trees.keep_types(new, memory)

    asked, memory = control_flow.cond(moved, ask, lambda: (move.direction, memory))
    up, _ = unit(asked)
    p = asked / up
    slope, length, up = dot(g, p).astype(wide), jnp.sqrt(dot(p, p)).astype(wide), up.astype(wide)
    bad = moved & ~(slope < -jnp.finfo(g.dtype).eps * residual * length)

    # A direction whose slope leaves the range of its type is searched in units of its size.
    low, high = _range(wide)
    predicted = residual * (length * up)
    extreme = moved & ~bad & ~((predicted > low) & (predicted < high))
    p = jnp.where(extreme, p, asked)
    slope, length = (jnp.where(extreme, v, v * up) for v in (slope, length))

    # In place of one that is none of descent: the gradient, in such units where it is next to nothing, for a step as
    # short would be none. In large units a gradient may be short of a unit in the last place of the params.
    most = jnp.where(residual < low**0.5, 1 / jnp.where(residual > 0, residual, 1), 1)
    down = jnp.minimum(most, jnp.maximum(1, _SHORT * size) / residual)
    least = _BEYOND_ROUNDING * float(jnp.finfo(g.dtype).eps) * size
    down = jnp.where(residual > 0, jnp.maximum(down, least / residual), down)
    slope = jnp.where(bad, -residual * (residual * down), slope)
    length = jnp.where(bad, residual * down, length)
    p = jnp.where(bad, -down.astype(g.dtype) * g, p)

    before = bracket.origin.slope
    carried = carried_gain(move.along, before, slope, base.gain)
    step = direction.first_step(move.along, before, slope, base.gain)
    step = jnp.where(bad, carried, jnp.where(extreme, jnp.minimum(up, carried), step))
    step = jnp.minimum(jnp.where(move.failed, 1, step), LONGEST * jnp.maximum(1, size) / length)
    start = search.init(base.value, slope, step)._replace(trials=-bad.astype(jnp.int32))
    return p, length, memory, trees.choose(moved, start, bracket)
