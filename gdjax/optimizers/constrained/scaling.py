r"""Units: what objective and constraints are multiplied by, so that a method need not know what they are measured in.

A function whose first-order change, as the params change by their own size, is beyond 1000 or below 0.01 at the
start is brought to about one by a power of two, which rounds nothing:

.. math:: \max_j |\partial_j f(x_0)| \, |x_{0j}|

For a constraint its value counts too, since a level is a size. What lies between is left as it is.

Reference:
  Waechter, Biegler, On the implementation of an interior-point filter line-search algorithm for large-scale nonlinear
  programming, Math. Program. 106, 2006, section 3.8: by gradients, and downward alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdjax.optimizers.constrained.merit import LARGE, Point
from gdjax.types import Params, Scalar

__all__ = ["constraint_scales", "length_of", "objective_scale"]

_LARGEST, _SMALLEST = 1e3, 1e-2
"""Sizes between these are left as they are; Waechter and Biegler's largest is 100, of slopes without |x|."""
_PROBES = 8
"""Directions along which the changes of constraints are looked at, where there are more params than these."""


def _power(size: jax.Array) -> jax.Array:
    """The power of two next to the inverse of a size; one where there is none."""
    known = jnp.isfinite(size) & (size > 0)
    exponent = jnp.round(jnp.log2(jnp.where(known, size, 1)))
    # Half of the type's range on either side, so that squares of what is scaled have room too.
    limit = 0.5 * jnp.finfo(size.dtype).maxexp
    return jnp.ldexp(jnp.ones_like(size), -jnp.clip(exponent, -limit, limit).astype(jnp.int32))


def _scale(change: jax.Array, cautious: jax.Array) -> jax.Array:
    """Down where the change is large, up where even the cautious look at it is small."""
    small = (cautious < _SMALLEST) & (cautious > 0)
    return jnp.where(change > _LARGEST, _power(change), jnp.where(small, _power(cautious), 1))


def _lengths(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How far each number may be expected to go: its size, that of the others where it is zero; and at least one."""
    largest = jnp.max(jnp.abs(x), initial=0)
    length = jnp.where(x != 0, jnp.abs(x), jnp.where(largest > 0, largest, 1))
    return length, jnp.maximum(length, 1)


def _largest(vectors: jax.Array) -> jax.Array:
    """Over the first axis, of what is finite."""
    return jnp.max(jnp.where(jnp.isfinite(vectors), jnp.abs(vectors), 0), axis=0, initial=0)


def _wide(tree: Params) -> jax.Array:
    vector, _ = ravel_pytree(tree)
    return vector.astype(jnp.promote_types(vector.dtype, jnp.float32))


def objective_scale(params: Params, grad: Params) -> Scalar:
    """What the objective is multiplied by."""
    x, slopes = _wide(params), _wide(grad)
    return _scale(*(_largest(slopes * length) for length in _lengths(x)))


def length_of(params: Params, grad: Params) -> Scalar:
    """How far the params go for a change of the objective by its slope, where that is beyond 100; else one.

    Params in small units (grams for tons) are large and slopes in them small: what is left of a slope counts by the
    change that it stands for.
    """
    x, slopes = _wide(params), _wide(grad)
    change, steepest = _largest(slopes * _lengths(x)[0]), _largest(slopes)
    length = jnp.where(steepest > 0, change / jnp.where(steepest > 0, steepest, 1), _largest(x))
    return jnp.where(length > LARGE, length, 1)


def _changes(
    constraints: Callable[[jax.Array], Point], x: jax.Array, directions: jax.Array
) -> tuple[Point, Point]:
    """Values, and derivatives along directions, a row each; by rows of the Jacobian where there is no forward mode."""
    try:
        return jax.vmap(lambda v: jax.jvp(constraints, (x,), (v,)), out_axes=(None, 0))(directions)
    except TypeError:  # a custom_vjp
        values, pull = jax.vjp(lambda x: jnp.concatenate(constraints(x)), x)
        rows = jax.lax.map(lambda unit: directions @ pull(unit)[0], jnp.eye(values.size, dtype=values.dtype))
        count = jax.eval_shape(constraints, x).equality.size
        return Point(values[:count], values[count:]), Point(rows.T[:, :count], rows.T[:, count:])


def constraint_scales(constraints: Callable[[Params], Point], params: Params) -> Point:
    """What each constraint is multiplied by, found along a few directions."""
    flat, back = ravel_pytree(params)
    some = np.random.default_rng(0).choice([-1.0, 1.0], (_PROBES, flat.size))
    units = jnp.asarray(np.eye(flat.size) if flat.size <= _PROBES else some, flat.dtype)
    plain, cautious = _lengths(flat)
    directions = jnp.concatenate([units * plain[None], units * cautious[None]])
    values, changes = _changes(lambda x: constraints(back(x)), flat, directions)

    def one(level, rows):
        level = _largest(level[None])
        return _scale(*(jnp.maximum(_largest(half), level) for half in jnp.split(rows, 2)))

    return jax.tree.map(one, values, changes)
