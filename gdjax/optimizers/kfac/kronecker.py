r"""Matrices that are a Kronecker product for each dense layer, :math:`A_l \otimes G_l`, kept by their factors.

Factors are held for every leaf that is a matrix, one for each of its axes and with room for a bias, so that what is
held has a shape that the parameters alone decide; which is the factor of the inputs, and which of its rows are in
use, the layer knows.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gdjax._internal.programs.dense_layers import Dense, Network, Passed
from gdjax.types import PyTree, Scalar

__all__ = ["averaged", "blank", "inverse", "inverted", "joined", "measured", "preconditioned", "wide"]

Held = list[tuple[jax.Array, ...]]
"""For each leaf its factors."""


def wide(leaf: jax.Array) -> jax.Array:
    """In float32 at least."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def blank(leaves: Sequence[jax.Array]) -> Held:
    """Zeros for the factors of all leaves."""
    return [tuple(jnp.zeros((n + 1, n + 1), x.dtype) for n in x.shape) if x.ndim == 2 else () for x in leaves]


def _padded(matrix: jax.Array, like: jax.Array) -> jax.Array:
    room = like.shape[0] - matrix.shape[0]
    return jnp.pad(matrix, ((0, room), (0, room))).astype(like.dtype)


def joined(layer: Dense, leaves: Sequence[jax.Array]) -> jax.Array:
    """A layer's leaves as one matrix ``(inputs, outputs)``, the bias below."""
    weight = leaves[layer.weight]
    weight = weight if layer.inputs == 0 else weight.T
    return weight if layer.bias is None else jnp.concatenate([weight, leaves[layer.bias][None]])


def _apart(layer: Dense, matrix: jax.Array) -> dict[int, jax.Array]:
    weight = matrix if layer.bias is None else matrix[:-1]
    found = {layer.weight: weight if layer.inputs == 0 else weight.T}
    return found if layer.bias is None else {**found, layer.bias: matrix[-1]}


def _pair(layer: Dense, held: Held) -> tuple[jax.Array, jax.Array]:
    """What is held for the inputs of a layer, and for its outputs."""
    inputs, outputs = held[layer.weight][layer.inputs], held[layer.weight][1 - layer.inputs]
    return inputs[:-1, :-1] if layer.bias is None else inputs, outputs[:-1, :-1]


def _with(layer: Dense, held: Held, inputs: jax.Array, outputs: jax.Array) -> Held:
    both = (inputs, outputs) if layer.inputs == 0 else (outputs, inputs)
    both = tuple(_padded(new, old) for new, old in zip(both, held[layer.weight], strict=True))
    return [both if i == layer.weight else one for i, one in enumerate(held)]


def _gram(rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows.T, rows, precision=jax.lax.Precision.HIGHEST)


def measured(network: Network, found: Passed, columns: PyTree) -> list[tuple[jax.Array, jax.Array]]:
    """The factors of each layer on this batch."""
    pairs = []
    for layer, a, g in zip(network.layers, found.activations, jax.vmap(found.back)(columns), strict=True):
        a, g = wide(a), wide(g.reshape(-1, g.shape[-1]))
        if layer.bias is not None:
            a = jnp.concatenate([a, jnp.ones((a.shape[0], 1), a.dtype)], axis=1)
        pairs.append((_gram(a) / a.shape[0], _gram(g)))
    return pairs


def inverse(matrix: jax.Array, shift: Scalar) -> jax.Array:
    """Of a positive semidefinite matrix plus a multiple of the identity and of rounding; of zero, the identity."""
    rounding = 4 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.diagonal(matrix))
    shift = jnp.where(shift + rounding > 0, shift + rounding, 1)
    eye = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix + shift * eye), eye)


def _damped_inverses(a: jax.Array, g: jax.Array, level: Scalar) -> tuple[jax.Array, jax.Array]:
    r"""Factored Tikhonov: :math:`\pi \sqrt\lambda` is added to one factor, :math:`\sqrt\lambda / \pi` to the other."""
    ratio = (jnp.trace(a) / a.shape[0]) / (jnp.trace(g) / g.shape[0])
    ratio = jnp.sqrt(jnp.where(jnp.isfinite(ratio) & (ratio > 0), ratio, 1))
    level = jnp.sqrt(level)
    return inverse(a, ratio * level), inverse(g, level / ratio)


def averaged(
    network: Network, held: Held, pairs: Sequence[tuple[jax.Array, jax.Array]], keep: Scalar
) -> Held:
    """The factors, the new ones weighed in."""
    for layer, pair in zip(network.layers, pairs, strict=True):
        a, g = (keep * old + (1 - keep) * new for old, new in zip(_pair(layer, held), pair, strict=True))
        held = _with(layer, held, a, g)
    return held


def inverted(network: Network, factors: Held, old: Held, levels: Sequence[Scalar]) -> Held:
    """The inverses of damped factors; ``old`` has those of leaves that are in no layer."""
    for layer, level in zip(network.layers, levels, strict=True):
        old = _with(layer, old, *_damped_inverses(*_pair(layer, factors), level))
    return old


def preconditioned(network: Network, inverses: Held, grads: list[jax.Array]) -> dict[int, jax.Array]:
    """Products of the inverses with the gradients, for the leaves that are in layers."""
    found: dict[int, jax.Array] = {}
    for layer in network.layers:
        a, g = _pair(layer, inverses)
        found |= _apart(layer, a @ joined(layer, grads) @ g)
    return found
