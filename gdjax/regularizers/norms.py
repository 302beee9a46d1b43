"""Norms and their kin, each with its proximal operator in closed form."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.projections.vectors import each, flat, total, unit
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import Params, ScalarLike

__all__ = ["elastic_net", "huber", "l1", "l2", "magnitude", "soft", "squared_l2"]


def magnitude(x: jax.Array) -> jax.Array:
    r""":math:`|x|` with the derivative :math:`\operatorname{sign}(x)`, which is 0 at 0.

    That of `jax.numpy.abs` is 1 there (JAX 0.7.2 to 0.12.0), a subgradient like any other, and yet one that leads away
    from the minimum.
    """
    return x * jnp.sign(x)


def soft(x: jax.Array, threshold: jax.Array) -> jax.Array:
    r"""Soft thresholding, :math:`\operatorname{sign}(x) \max(|x| - t, 0)`, as what :math:`[-t, t]` leaves of x."""
    return x - jnp.clip(x, -threshold, threshold)


def _l1_value(weight, params):
    return total(lambda x, w: w * magnitude(x), params, weight)


def _l1_prox(weight, params, step):
    return each(lambda x, w, s: soft(x, s * w), params, weight, step)


def l1(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The 1-norm, :math:`r(x) = \sum_i w_i |x_i|`: makes solutions sparse.

    .. math:: \operatorname{prox}_{s r}(x)_i = \operatorname{sign}(x_i) \max(|x_i| - s w_i, 0)

    Args:
      weight: :math:`w \ge 0`, a number, an array of the shape of the parameters, or a tree that is a prefix of
        theirs.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.5.2.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.l1(0.5).prox(jnp.array([3.0, -0.25]), 2.0).tolist()
      [2.0, 0.0]
    """
    checks.weights("l1", weight=weight)
    return Regularizer(Partial(_l1_value, weight), Partial(_l1_prox, weight))


def _l2_value(weight, params):
    x, _ = flat(params)
    _, norm, size = unit(x)
    return weight * size * norm


def _l2_prox(weight, params, step):
    x, back = flat(params)
    direction, norm, size = unit(x)
    left = norm - jnp.asarray(step * weight, x.dtype) / size
    return back(jnp.where(left > 0, left, 0) * size * direction)


def l2(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The 2-norm of all parameters together, not squared: :math:`r(x) = w \|x\|_2`. All of them go to zero at once.

    .. math:: \operatorname{prox}_{s r}(x) = \max(1 - s w / \|x\|_2, 0) \, x

    Args:
      weight: :math:`w \ge 0`, a number.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.5.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.l2().prox(jnp.array([6.0, 8.0]), 5.0).tolist()
      [3.0, 4.0]
    """
    checks.concrete("l2", low=0, weight=weight)
    return Regularizer(Partial(_l2_value, weight), Partial(_l2_prox, weight))


def _squared_l2_value(weight, params):
    return total(lambda x, w: 0.5 * w * jnp.square(x), params, weight)


def _squared_l2_prox(weight, params, step):
    return each(lambda x, w, s: x / (1 + s * w), params, weight, step)


def squared_l2(weight: ScalarLike = 1.0) -> Regularizer:
    r"""Ridge, :math:`r(x) = \tfrac12 \sum_i w_i x_i^2`.

    .. math:: \operatorname{prox}_{s r}(x)_i = x_i / (1 + s w_i)

    Args:
      weight: :math:`w \ge 0`, a number, an array, or a tree that is a prefix of the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.squared_l2(3.0).prox(jnp.array([4.0]), 1.0).tolist()
      [1.0]
    """
    checks.weights("squared_l2", weight=weight)
    return Regularizer(Partial(_squared_l2_value, weight), Partial(_squared_l2_prox, weight))


def _elastic_net_value(l1_weight, l2_weight, params):
    return _l1_value(l1_weight, params) + _squared_l2_value(l2_weight, params)


def _elastic_net_prox(l1_weight, l2_weight, params, step):
    return each(lambda x, a, b, s: soft(x, s * a) / (1 + s * b), params, l1_weight, l2_weight, step)


def elastic_net(l1_weight: ScalarLike = 1.0, l2_weight: ScalarLike = 1.0) -> Regularizer:
    r"""Lasso and ridge, :math:`r(x) = \sum_i a_i |x_i| + \tfrac12 b_i x_i^2`.

    .. math:: \operatorname{prox}_{s r}(x)_i = \operatorname{sign}(x_i) \max(|x_i| - s a_i, 0) / (1 + s b_i)

    Args:
      l1_weight: :math:`a \ge 0`, a number, an array, or a tree that is a prefix of the parameters.
      l2_weight: :math:`b \ge 0`, likewise.

    Reference:
      Zou and Hastie, Regularization and variable selection via the elastic net, JRSS B 67, 2005, eq. 3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.elastic_net(1.0, 1.0).prox(jnp.array([3.0, 0.5]), 1.0).tolist()
      [1.0, 0.0]
    """
    checks.weights("elastic_net", l1_weight=l1_weight, l2_weight=l2_weight)
    numbers = (l1_weight, l2_weight)
    return Regularizer(Partial(_elastic_net_value, *numbers), Partial(_elastic_net_prox, *numbers))


def _huber_value(weight, width, params):
    def one(x, w, d):
        size = magnitude(x)
        inner = jnp.minimum(size, d)
        return w * inner * (size - 0.5 * inner)

    return total(one, params, weight, width)


def _huber_prox(weight, width, params: Params, step):
    def one(x, w, d, s):
        return x - s * w * jnp.clip(x / (1 + s * w), -d, d)

    return each(one, params, weight, width, step)


def huber(weight: ScalarLike = 1.0, width: ScalarLike = 1.0) -> Regularizer:
    r"""Quadratic near zero and linear far from it: the 1-norm without its kink.

    .. math::
       r(x) = w \sum_i \begin{cases} \tfrac12 x_i^2 & |x_i| \le \delta \\
       \delta (|x_i| - \tfrac12 \delta) & \text{else} \end{cases}, \quad
       \operatorname{prox}_{s r}(x) = x - s w \min(\max(x / (1 + s w), -\delta), \delta)

    Args:
      weight: :math:`w \ge 0`, a number, an array, or a tree that is a prefix of the parameters.
      width: :math:`\delta > 0`, likewise.

    Reference:
      Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35(1), 1964.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.huber().prox(jnp.array([1.0, 5.0]), 1.0).tolist()
      [0.5, 4.0]
    """
    checks.weights("huber", weight=weight, width=width)
    return Regularizer(Partial(_huber_value, weight, width), Partial(_huber_prox, weight, width))
