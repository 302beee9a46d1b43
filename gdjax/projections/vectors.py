"""What projections and regularizers share: leaves in float32 at least, prefixes of trees, norms at any scale."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from gdjax.types import Params, Prefix, PyTree, Scalar

__all__ = ["about", "each", "flat", "like", "spread", "total", "unit", "wide"]


def wide(leaf: ArrayLike) -> jax.Array:
    """An array of float32 at least: half precision is only for keeping."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def spread(prefix: Prefix, tree: Params) -> PyTree:
    """``prefix`` with each of its leaves repeated over the leaves of ``tree`` below it."""

    def one(part, leaf):
        if jnp.broadcast_shapes(jnp.shape(part), jnp.shape(leaf)) != jnp.shape(leaf):
            raise ValueError
        return part

    try:
        return jax.tree.map(
            lambda part, below: jax.tree.map(lambda leaf: one(part, leaf), below), prefix, tree
        )
    except ValueError:
        found, wanted = (jax.tree.map(jnp.shape, each) for each in (prefix, tree))
        raise ValueError(
            f"numbers of shapes {found} do not fit params of shapes {wanted}: they are one number, an array, or a tree "
            "with their structure or a prefix of it (a list of numbers is a tree, jnp.asarray(list) an array)"
        ) from None


def _kept(new: jax.Array, old: Any) -> jax.Array:
    """``new`` in the type of ``old``."""
    dtype = jnp.asarray(old).dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"params is {dtype}; proximal operators and projections need real floating numbers, "
            "e.g. jnp.asarray(x, float)"
        )
    return new.astype(dtype)


def each(function: Callable[..., jax.Array], params: Params, *numbers: Prefix) -> Params:
    """``function(leaf, *numbers)`` at each leaf, computed wide and kept in the leaf's type.

    Args:
      function: of an array and numbers in its type.
      params: the tree whose structure and types come back.
      *numbers: each a number, an array, or a tree that is a prefix of ``params``.
    """

    def one(leaf, *here):
        x = wide(leaf)
        return _kept(function(x, *(jnp.asarray(n, x.dtype) for n in here)), leaf)

    return jax.tree.map(one, params, *(spread(n, params) for n in numbers))


def total(function: Callable[..., jax.Array], params: Params, *numbers: Prefix) -> Scalar:
    """The sum over all leaves of ``function(leaf, *numbers)``, with numbers as in `each`."""

    def one(leaf, *here):
        x = wide(leaf)
        return jnp.sum(function(x, *(jnp.asarray(n, x.dtype) for n in here)))

    sums: list[jax.Array] = jax.tree.leaves(jax.tree.map(one, params, *(spread(n, params) for n in numbers)))
    return sum(sums[1:], sums[0])


def flat(params: Params) -> tuple[jax.Array, Callable[[jax.Array], Params]]:
    """``params`` as one wide vector, and the way back to their structure and types."""
    arrays = jax.tree.map(jnp.asarray, params)
    if not any(leaf.size for leaf in jax.tree.leaves(arrays)):
        raise ValueError("params has no numbers in it")
    vector, unravel = ravel_pytree(jax.tree.map(wide, arrays))

    def back(x):
        return jax.tree.map(_kept, unravel(x), arrays)

    return vector, back


def like(prefix: Prefix, params: Params) -> jax.Array:
    """The numbers of a prefix of ``params`` as one wide vector, in the order and of the length of `flat`."""

    def one(leaf, number):
        x = wide(leaf)
        return jnp.broadcast_to(jnp.asarray(number, x.dtype), x.shape)

    return flat(jax.tree.map(one, params, spread(prefix, params)))[0]


def about(params: Params, center: Prefix) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], Params]]:
    """``(x, center, back)`` as vectors with `flat`'s way back; no center is the origin."""
    x, back = flat(params)
    return x, jnp.zeros_like(x) if center is None else like(center, params), back


def unit(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""``(direction, norm, size)`` with :math:`x = \text{size} \cdot \text{norm} \cdot \text{direction}`.

    The largest entry of ``x`` is taken out as ``size`` before squaring, so that neither 1e25 nor 1e-25 leaves
    the range of float32 on the way. At zero all are defined, ``direction`` and ``norm`` are 0, and so are
    derivatives.

    Args:
      x: any array.
      axis: the axes of one vector; all by default. The norms keep them with length one.
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=axis is not None))
    largest = float(jnp.finfo(x.dtype).max) / 16  # the inverse of a larger one is not a normal number
    size = jnp.where((size > 0) & jnp.isfinite(size), jnp.minimum(size, largest), 1)
    scaled = x / size
    square = jnp.sum(jnp.square(scaled), axis=axis, keepdims=axis is not None)
    some = square != 0  # of a NaN too: it is not to be taken for a zero
    square = jnp.where(some, square, 1)
    # By the inverse root: XLA makes one division of two, by size * norm, which may overflow.
    direction = jnp.where(some, scaled * jax.lax.rsqrt(square), 0)
    return direction, jnp.where(some, jnp.sqrt(square), 0), size
