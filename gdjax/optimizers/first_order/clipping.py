r"""Clipping by norm that survives zero and overflowing norms; clipping by value is ``optax.clip``."""

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks
from gdjax.optimizers.blocks.precision import bound
from gdjax.types import ScalarLike, Transformation

__all__ = ["clip_by_global_norm", "clip_by_norm"]


def _clip(leaves, max_norm):
    """``leaves`` scaled to a joint norm of at most ``max_norm``."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    unit = jnp.minimum(largest, jnp.finfo(largest.dtype).max / 64)  # its reciprocal is a normal number
    unit = jax.lax.stop_gradient(jnp.where(unit > 0, unit, 1))
    scaled = [leaf / unit for leaf in leaves]
    square = sum(jnp.sum(leaf * leaf) for leaf in scaled)
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    over = (square > 0) & (norm > max_norm / unit)
    shrink = max_norm / jnp.where(over, norm, 1)
    return [jnp.where(over, s * shrink, leaf) for s, leaf in zip(scaled, leaves, strict=True)]


def _clip_all(max_norm):
    def update(updates, state, params=None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        return jax.tree.unflatten(structure, _clip(leaves, max_norm) if leaves else leaves), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_global_norm(max_norm: ScalarLike) -> Transformation:
    r"""Scales a gradient whose norm over all leaves is above ``max_norm`` down to it.

    .. math:: g \mapsto g \min(1, c / \lVert g \rVert)

    Norms are taken of :math:`g / \max |g_i|`, so that a gradient whose squares overflow keeps its
    direction (``optax.clip_by_global_norm`` turns it into zero, in float16 from a norm of 256 on).
    Gradients that hold a NaN or an infinity have no direction: they come out NaN or infinite.

    Args:
      max_norm: :math:`c`, positive.

    Reference:
      Pascanu, Mikolov, Bengio, On the difficulty of training recurrent neural networks, ICML 2013,
      Algorithm 1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> clip = gdjax.clip_by_global_norm(1.0)
      >>> clip.update(jnp.array([3e30, 4e30]), clip.init(None))[0]
      Array([0.6, 0.8], dtype=float32)
    """
    checks.concrete("clip_by_global_norm", above=0, max_norm=max_norm)
    return bound(_clip_all, max_norm)


def _clip_each(max_norm):
    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda leaf: _clip([leaf], max_norm)[0], updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_norm(max_norm: ScalarLike) -> Transformation:
    """Scales each leaf of a gradient whose norm is above ``max_norm`` down to it, leaf by leaf.

    Args:
      max_norm: positive; see `clip_by_global_norm`.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> clip = gdjax.clip_by_norm(1.0)
      >>> clip.update({"w": jnp.array([3.0, 4.0]), "b": jnp.array(0.5)}, clip.init(None))[0]
      {'b': Array(0.5, dtype=float32), 'w': Array([0.6, 0.8], dtype=float32)}
    """
    checks.concrete("clip_by_norm", above=0, max_norm=max_norm)
    return bound(_clip_each, max_norm)
