"""Logarithms: the barrier of the positive orthant, and the negative entropy."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow
from gdjax.projections.vectors import each, total
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import ScalarLike

__all__ = ["entropy", "log_barrier", "wright_omega"]


def _log_barrier_value(weight, params):
    def one(x, w):
        inside = x > 0
        return jnp.where(inside, -w * jnp.log(jnp.where(inside, x, 1)), jnp.inf)

    return total(one, params, weight)


def _log_barrier_prox(weight, params, step):
    def one(x, w, s):
        length = jnp.hypot(x, 2 * jnp.sqrt(s * w))
        above = x > 0
        gap = jnp.where(above, 1, length - x)
        return jnp.where(above, 0.5 * (x + length), 2 * s * w / jnp.where(gap <= 0, 1, gap))

    return each(one, params, weight, step)


def log_barrier(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The logarithmic barrier, :math:`r(x) = -\sum_i w_i \log x_i`: keeps every entry positive.

    .. math:: \operatorname{prox}_{s r}(x)_i = \tfrac12 \left(x_i + \sqrt{x_i^2 + 4 s w_i}\right)

    Args:
      weight: :math:`w > 0`, a number, an array, or a tree that is a prefix of the parameters.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 6.1.3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.log_barrier().prox(jnp.array([0.0, 1.5, -1.5]), 1.0).tolist()
      [1.0, 2.0, 0.5]
    """
    checks.weights("log_barrier", weight=weight)
    return Regularizer(Partial(_log_barrier_value, weight), Partial(_log_barrier_prox, weight))


@jax.custom_jvp
@control_flow.one_program
def wright_omega(z: jax.Array) -> jax.Array:
    r"""The solution :math:`\omega > 0` of :math:`\omega + \log \omega = z`, which is :math:`W(e^z)`, for real z.

    Three steps of the fourth-order iteration of Fritsch, Shafer and Crowley; no exponential of a large number
    is formed.

    Args:
      z: a real array of any shape.

    Reference:
      Lawrence, Corless, Jeffrey, Algorithm 917: complex double-precision evaluation of the Wright omega function,
      ACM Trans. Math. Softw. 38(3), 2012, Section 3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax.regularizers.barriers import wright_omega
      >>> float(wright_omega(jnp.float32(1.0)))
      1.0
    """
    low = jnp.exp(jnp.minimum(z, 0))
    log = jnp.log(jnp.maximum(z, 1))
    offset = jnp.clip(z, -2, 5) - 1
    middle = 1 + offset / 2 + offset**2 / 16 - offset**3 / 192
    w = jnp.where(z < -2, low / (1 + low), jnp.where(z < 4, middle, z - log + log / jnp.maximum(z, 1)))
    w = jnp.maximum(w, jnp.exp(-40.0).astype(z.dtype))
    for _ in range(3):
        gap = z - w - jnp.log(w)
        up = 1 + w
        turn = (gap / up) / (up + 2 * gap / 3)
        w = w * (1 + gap / up * (1 - 0.5 * turn) / (1 - turn))
    return jnp.where(z < -39, low, w)


@wright_omega.defjvp
def _wright_omega_jvp(primals, tangents):
    (z,), (change,) = primals, tangents
    w = wright_omega(z)
    return w, w / (1 + w) * change


def _entropy_value(weight, params):
    def one(x, w):
        inside = x > 0
        term = w * x * jnp.log(jnp.where(inside, x, 1))
        return jnp.where(inside, term, jnp.where(x < 0, jnp.inf, 0))

    return total(one, params, weight)


def _entropy_prox(weight, params, step):
    def one(x, w, s):
        width = s * w
        some = width > 0
        width = jnp.where(some, width, 1)
        z = x / width - 1 - jnp.log(width)
        finite = some & jnp.isfinite(z)
        return jnp.where(finite, width * wright_omega(jnp.where(finite, z, 0)), jnp.maximum(x, 0))

    return each(one, params, weight, step)


def entropy(weight: ScalarLike = 1.0) -> Regularizer:
    r"""The negative entropy, :math:`r(x) = \sum_i w_i x_i \log x_i` for :math:`x \ge 0`.

    .. math:: \operatorname{prox}_{s r}(x)_i = t\, W\!\left(\tfrac1t e^{x_i / t - 1}\right), \qquad t = s w_i

    with Lambert's W, evaluated without its large exponential by `wright_omega`.

    Args:
      weight: :math:`w \ge 0`, a number, an array, or a tree that is a prefix of the parameters.

    Reference:
      Combettes, Pesquet, Proximal splitting methods in signal processing, 2011, Table 10.2, xiii; Corless et al.,
      On the Lambert W function, Advances in Computational Mathematics 5, 1996.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> float(regularizers.entropy().prox(jnp.array(2.0), 1.0))  # u + log u = x - 1
      1.0
    """
    checks.weights("entropy", weight=weight)
    return Regularizer(Partial(_entropy_value, weight), Partial(_entropy_prox, weight))
