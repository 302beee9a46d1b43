r"""Nonlinear conjugate gradients: :math:`p_k = -g_k + \beta_k p_{k-1}`, each :math:`\beta` one formula.

A formula is a function of four vectors: the gradient ``g``, the one before ``previous``, the direction before ``d`` and
the change ``y = g - previous``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.linesearch import Direction, Move, Search, carried_gain, chosen, descend, strong_wolfe
from gdjax.types import Scalar, ScalarLike, Transformation

__all__ = [
    "dai_yuan",
    "fletcher_reeves",
    "hager_zhang",
    "hestenes_stiefel",
    "nonlinear_cg",
    "polak_ribiere",
]


def _dot(a, b):
    return jnp.sum(a * b)


def fletcher_reeves(g: jax.Array, previous: jax.Array, d: jax.Array, y: jax.Array) -> Scalar:
    r""":math:`\beta = g^T g / g_-^T g_-`.

    Reference:
      Fletcher, Reeves, Function minimization by conjugate gradients, Computer J. 7, 1964.
    """
    del d, y
    return _dot(g, g) / _dot(previous, previous)


def polak_ribiere(g: jax.Array, previous: jax.Array, d: jax.Array, y: jax.Array) -> Scalar:
    r""":math:`\beta = \max(0,\; g^T y / g_-^T g_-)`, the version "plus", which restarts by itself.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equations 5.44 and 5.45.
    """
    del d
    return jnp.maximum(0, _dot(g, y) / _dot(previous, previous))


def hestenes_stiefel(g: jax.Array, previous: jax.Array, d: jax.Array, y: jax.Array) -> Scalar:
    r""":math:`\beta = g^T y / d^T y`.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 5.46.
    """
    del previous
    return _dot(g, y) / _dot(d, y)


def dai_yuan(g: jax.Array, previous: jax.Array, d: jax.Array, y: jax.Array) -> Scalar:
    r""":math:`\beta = g^T g / d^T y`.

    Reference:
      Dai, Yuan, A nonlinear conjugate gradient method with a strong global convergence property,
      SIAM J. Optim. 10, 1999, equation 1.6.
    """
    del previous
    return _dot(g, g) / _dot(d, y)


def hager_zhang(g: jax.Array, previous: jax.Array, d: jax.Array, y: jax.Array) -> Scalar:
    r""":math:`\beta = \max(\eta_k,\; (y - 2 d\, y^T y / d^T y)^T g / d^T y)`.

    The bound :math:`\eta_k = -1 / (\lVert d \rVert \min(0.01, \lVert g_- \rVert))` keeps it convergent.

    Reference:
      Hager, Zhang, A new conjugate gradient method with guaranteed descent and an efficient line search,
      SIAM J. Optim. 16, 2005, equations 1.3 and 1.6.
    """
    dy = _dot(d, y)
    beta = _dot(y - 2 * (_dot(y, y) / dy) * d, g) / dy
    bound = -1 / (jnp.sqrt(_dot(d, d)) * jnp.minimum(0.01, jnp.sqrt(_dot(previous, previous))))
    return jnp.maximum(beta, bound)


def _init(params, x):
    del params, x
    return ()


def _update(formula, restart, memory, move: Move):
    _, unit, _ = move.units  # of both gradients
    g, y = move.grad / unit, move.change / unit
    previous, d = g - y, move.direction / unit
    beta = formula(g, previous, d, y)
    along_old = jnp.abs(_dot(g, previous)) >= restart * _dot(g, g)
    use = move.paired & ~move.failed & ~along_old & jnp.isfinite(beta)
    p = jnp.where(use, beta, 0) * jnp.where(use, move.direction, 0) - move.grad
    return p, memory


def nonlinear_cg(
    formula: Callable[..., Scalar] = hager_zhang,
    search: Search | None = None,
    *,
    restart: ScalarLike = float("inf"),
) -> Transformation:
    r"""Nonlinear conjugate gradients with a flat line search.

    .. math:: p_k = -g_k + \beta_k p_{k-1}, \qquad x_{k+1} = x_k + a_k p_k

    The first trial of each search predicts the gain of the last step. The direction goes back to
    the negative gradient where it is no descent, where a search fails, and where successive gradients are far from
    orthogonal, :math:`|g_k^T g_{k-1}| \ge \nu\, g_k^T g_k`.

    A step costs one evaluation or two and a few inner products; memory is four vectors. Choose it over `lbfgs`
    where memory is scarce.

    Args:
      formula: :math:`\beta`: `fletcher_reeves`, `polak_ribiere`, `hestenes_stiefel`, `dai_yuan`, `hager_zhang`, or
        any function of the same four vectors.
      search: how far to go; `strong_wolfe` with ``c2=0.1`` by default, since conjugacy lives on good steps.
      restart: :math:`\nu` of Powell's restarts, at least 0; 0.1 in Nocedal and Wright, infinite for none.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., section 5.2; restarts equation 5.52.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * x**2)
      >>> run = gdjax.minimize(f, jnp.ones(2), gdjax.nonlinear_cg())
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.function("nonlinear_cg", "g, previous, d, y", "such as hager_zhang of its module", formula=formula)
    checks.concrete("nonlinear_cg", low=0, infinite=True, restart=restart)
    direction = Direction(Partial(_init), Partial(_update, Partial(formula), restart), Partial(carried_gain))
    return descend(direction, chosen("nonlinear_cg", search, lambda: strong_wolfe(c2=0.1)))
