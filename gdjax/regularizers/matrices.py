"""The nuclear norm."""

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.projections.spectral import on_singular_values
from gdjax.projections.vectors import total
from gdjax.regularizers.norms import magnitude, soft
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import ScalarLike

__all__ = ["nuclear"]


def _nuclear_value(weight, params):
    return total(lambda x, w: w * jnp.sum(magnitude(jnp.linalg.svd(x, compute_uv=False))), params, weight)


def _nuclear_prox(weight, params, step):
    return on_singular_values(params, lambda values: soft(values, jnp.asarray(step * weight, values.dtype)))


def nuclear(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The sum of singular values, :math:`r(X) = w \sum_i \sigma_i(X)`: makes matrices of low rank.

    .. math:: \operatorname{prox}_{s r}(X) = U \operatorname{diag}(\max(\sigma - s w, 0)) V^T

    For parameters of shape ``(..., m, n)``, each matrix by itself. The cost is a singular value decomposition.

    Args:
      weight: :math:`w \ge 0`, a number.

    Reference:
      Cai, Candès, Shen, A singular value thresholding algorithm for matrix completion, SIAM J. Optimization 20(4),
      2010, Theorem 2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> shrunk = regularizers.nuclear().prox(jnp.diag(jnp.array([3.0, 0.5])), 1.0)
      >>> [round(x, 5) for x in jnp.diagonal(shrunk).tolist()]
      [2.0, 0.0]
    """
    checks.concrete("nuclear", low=0, weight=weight)
    return Regularizer(Partial(_nuclear_value, weight), Partial(_nuclear_prox, weight))
