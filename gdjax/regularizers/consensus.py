"""Consensus: copies of the parameters that have to agree."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments
from gdjax.regularizers.regularizer import Regularizer

__all__ = ["agreement"]


def _agreement_value(inner, params):
    rows = [(leaf, jnp.mean(leaf, axis=0, keepdims=True)) for leaf in jax.tree.leaves(params)]
    apart = jnp.stack([jnp.max(jnp.abs(leaf - mean)) for leaf, mean in rows])
    size = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf, _ in rows])
    near = jnp.all(apart <= 100 * jnp.finfo(size.dtype).eps * size)
    return jnp.where(near, inner.value(jax.tree.map(lambda leaf: leaf[0], params)), jnp.inf)


def _agreement_prox(inner, params, step):
    copies = jax.tree.leaves(params)[0].shape[0]
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), params)
    one = inner.prox(mean, step / copies)
    return jax.tree.map(lambda leaf, m: jnp.broadcast_to(m[None], leaf.shape), params, one)


def agreement(regularizer: Regularizer) -> Regularizer:
    r"""All copies along the leading axis are equal, and their common point is regularized: consensus.

    .. math:: g(x_1, \dots, x_N) = r(x_1) \text{ where } x_1 = \dots = x_N, \text{ else } \infty, \qquad
        \operatorname{prox}_{s g}(x) = \operatorname{prox}_{s r / N}(\bar x)

    Args:
      regularizer: :math:`r`, on one copy.

    Reference:
      Boyd et al. (2011), section 7.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.agreement(regularizers.l1(2.0)).prox(jnp.array([[1.0], [5.0]]), 1.0).tolist()
      [[2.0], [2.0]]
    """
    if not isinstance(regularizer, Regularizer):
        raise TypeError(f"agreement: expected a Regularizer, got {arguments.named(regularizer)}")
    return Regularizer(Partial(_agreement_value, regularizer), Partial(_agreement_prox, regularizer))
