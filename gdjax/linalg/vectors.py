"""Vectors as pytrees: the few operations that Krylov solvers are made of."""

import jax
import jax.numpy as jnp

from gdjax.types import Params, Scalar

__all__ = ["add", "landing", "norm", "ratio", "times", "unit", "vdot"]


def _wide(tree: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree)


def vdot(a: Params, b: Params) -> Scalar:
    """The inner product over all leaves, accumulated in float32 at least."""
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, _wide(a), _wide(b)))


def _largest(tree: Params) -> Scalar:
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(_wide(tree))]
    return jnp.max(jnp.stack([size.astype(jnp.result_type(*sizes)) for size in sizes]))


def times(scale: Scalar, tree: Params) -> Params:
    """``scale * tree``, in the types of the tree."""
    return jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), tree)


def add(a: Params, scale: Scalar, b: Params) -> Params:
    """``a + scale * b``, in the types of ``a``."""
    return jax.tree.map(lambda x, y: (x + scale * y).astype(x.dtype), a, b)


def unit(tree: Params) -> tuple[Params, Scalar]:
    """``tree`` with its largest entry of size one, and what it was."""
    size = _largest(tree)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, jnp.ones_like(size))
    return jax.tree.map(lambda leaf: (leaf / size).astype(leaf.dtype), tree), size


def norm(tree: Params) -> Scalar:
    """The 2-norm, without overflow on the way."""
    scaled, size = unit(tree)
    return size * jnp.sqrt(vdot(scaled, scaled))


def ratio(a: Scalar, b: Scalar) -> Scalar:
    """``a / b``, or 0 where b is 0."""
    return jnp.where(b != 0, a / jnp.where(b != 0, b, 1), 0)


def landing(x: jax.Array, target: jax.Array) -> jax.Array:
    """The update :math:`u` for which the *rounded* sum :math:`x + u` is the target, where such a number exists.

    It does unless ``x`` is so much larger that its spacing swallows the target's digits.
    """
    update = target - x
    return update + (target - (x + update))
