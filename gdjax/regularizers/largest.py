"""The largest entry, and the largest in size: proximal operators that cut peaks."""

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.projections.simplices import l1_ball, shares
from gdjax.projections.vectors import flat
from gdjax.regularizers.norms import magnitude
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import ScalarLike

__all__ = ["linf", "maximum"]


def _linf_value(weight, params):
    x, _ = flat(params)
    return weight * jnp.max(magnitude(x))


def _linf_prox(weight, params, step):
    x, back = flat(params)
    return back(x - l1_ball(x, step * weight))


def linf(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The largest entry in size over all leaves, :math:`r(x) = w \|x\|_\infty`.

    .. math:: \operatorname{prox}_{s r}(x) = x - P(x), \quad P \text{ onto } \{u : \|u\|_1 \le s w\}

    Args:
      weight: :math:`w \ge 0`, a number.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.5.3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.linf().prox(jnp.array([3.0, -1.0]), 1.0).tolist()
      [2.0, -1.0]
    """
    checks.concrete("linf", low=0, weight=weight)
    return Regularizer(Partial(_linf_value, weight), Partial(_linf_prox, weight))


def _maximum_value(weight, params):
    x, _ = flat(params)
    return weight * jnp.max(x)


def _maximum_prox(weight, params, step):
    x, back = flat(params)
    return back(x - shares(x, jnp.asarray(step * weight, x.dtype)))


def maximum(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The largest entry over all leaves, :math:`r(x) = w \max_i x_i`.

    .. math:: \operatorname{prox}_{s r}(x) = x - P(x), \quad P \text{ onto } \{u : u \ge 0, \; 1^T u = s w\}

    Args:
      weight: :math:`w \ge 0`, a number.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.4.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.maximum().prox(jnp.array([3.0, 2.5, -9.0]), 1.5).tolist()
      [2.0, 2.0, -9.0]
    """
    checks.concrete("maximum", low=0, weight=weight)
    return Regularizer(Partial(_maximum_value, weight), Partial(_maximum_prox, weight))
