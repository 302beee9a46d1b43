r"""How well a point meets the conditions of Karush, Kuhn and Tucker.

.. math::

    \nabla f + J_h^T \lambda + J_g^T \mu - \nu_l + \nu_u = 0, \qquad h = 0, \; g \le 0, \; l \le x \le u, \qquad
    \mu, \nu_l, \nu_u \ge 0, \qquad \mu^T g = \nu_l^T (x - l) = \nu_u^T (u - x) = 0
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdjax.optimizers.constrained import checks
from gdjax.optimizers.constrained.merit import Multipliers
from gdjax.types import Params, Prefix, PyTree, ValueFn

__all__ = ["KKT", "kkt"]


class KKT(NamedTuple):
    r"""The four residuals, zero at a solution, and the multipliers they were measured with.

    Attributes:
      stationarity: the 2-norm of the Lagrangian's gradient.
      primal: the largest violation of a constraint or bound.
      dual: how far the lowest multiplier of an inequality or bound is below zero.
      complementarity: the largest product of such a multiplier and its constraint's slack.
      multipliers: :math:`\lambda` and :math:`\mu`, with the structures that the constraints return.
      lower: :math:`\nu_l`, with the structure of the params.
      upper: :math:`\nu_u`, likewise.
    """

    stationarity: float
    primal: float
    dual: float
    complementarity: float
    multipliers: Multipliers
    lower: Params
    upper: Params


class _Side(NamedTuple):
    """Constraints of one kind at the point: values, Jacobian, and the way back to their structure."""

    values: np.ndarray
    jacobian: np.ndarray
    back: Callable[[Any], Any]


def _side(name: str, function: Any, x: jax.Array, unravel: Callable) -> _Side:
    if function is None:
        return _Side(np.zeros(0), np.zeros((0, x.size)), lambda vector: None)
    checks.functions("kkt", **{name: function})

    def vector(flat):
        return ravel_pytree(function(unravel(flat)))[0]

    back = ravel_pytree(checks.values("kkt", name, function, unravel(x)))[1]
    return _Side(np.asarray(vector(x), float), np.asarray(jax.jacobian(vector)(x), float), back)


def _bound(bound: Prefix, params: Params, absent: float) -> np.ndarray:
    full = jax.tree.broadcast(absent if bound is None else bound, params)
    spread = jax.tree.map(lambda b, p: jnp.broadcast_to(jnp.asarray(b, p.dtype), p.shape), full, params)
    return np.asarray(ravel_pytree(spread)[0], float)


def _fitted(grad, h: _Side, g: _Side, near: np.ndarray, low: np.ndarray, high: np.ndarray):
    """The multipliers for which the Lagrangian's gradient is least; those of slack constraints are zero."""
    from scipy.optimize import nnls

    n = grad.size
    identity = np.eye(n)
    free = h.jacobian.T
    signed = np.concatenate([g.jacobian[near].T, -identity[:, low], identity[:, high]], axis=1)
    columns = np.concatenate([free, -free, signed], axis=1)
    found = nnls(columns, -grad, maxiter=30 * max(1, columns.shape[1]))[0] if columns.size else np.zeros(0)
    m = free.shape[1]
    rest = found[2 * m :]
    mu, lower, upper = np.zeros(len(g.values)), np.zeros(n), np.zeros(n)
    mu[near] = rest[: near.sum()]
    lower[low] = rest[near.sum() : near.sum() + low.sum()]
    upper[high] = rest[near.sum() + low.sum() :]
    return found[:m] - found[m : 2 * m], mu, lower, upper


def kkt(
    objective: ValueFn,
    params: Params,
    *,
    equality: Callable[[Params], PyTree] | None = None,
    inequality: Callable[[Params], PyTree] | None = None,
    lower: Prefix = None,
    upper: Prefix = None,
    multipliers: Multipliers | None = None,
) -> KKT:
    r"""The four residuals of the Karush-Kuhn-Tucker conditions at a point.

    Args:
      objective: ``params -> scalar``.
      params: the point.
      equality: :math:`h`, ``params -> array`` or pytree of arrays.
      inequality: :math:`g`, likewise; :math:`g \le 0` is asked for.
      lower: lower bounds: a number, an array or a pytree.
      upper: upper bounds, likewise.
      multipliers: such as ``result.state.multipliers``; by default those, not negative where they must not be, for
        which the Lagrangian's gradient is least. Those of bounds are always found.

    Returns:
      A `KKT`, numbers in float64.

    Raises:
      TypeError: if a constraint is no function, or returns a comparison or nothing.
      ValueError: if a constraint returns an empty array.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, equation 12.34.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> report = gdjax.analysis.kkt(lambda x: jnp.sum(x), -jnp.ones(2), equality=lambda x: jnp.sum(x**2) - 2)
      >>> round(float(report.multipliers.equality), 6), round(report.stationarity, 6), report.primal
      (0.5, 0.0, 0.0)
    """
    params = jax.tree.map(jnp.asarray, params)
    flat, unravel = ravel_pytree(params)
    x = np.asarray(flat, float)
    grad = np.asarray(ravel_pytree(jax.grad(objective)(params))[0], float)
    h, g = _side("equality", equality, flat, unravel), _side("inequality", inequality, flat, unravel)
    low, high = _bound(lower, params, -np.inf), _bound(upper, params, np.inf)
    margin = float(jnp.finfo(flat.dtype).eps) ** (1 / 3) * (1 + np.abs(x))
    at_low, at_high = x - low <= margin, high - x <= margin
    if multipliers is None:
        near = g.values >= -float(np.max(margin))
        lam, mu, nu_low, nu_high = _fitted(grad, h, g, near, at_low, at_high)
    else:
        lam, mu = (
            np.asarray(ravel_pytree(part)[0], float) if side.values.size else np.zeros(0)
            for part, side in zip(multipliers[:2], (h, g), strict=True)
        )
        rest = grad + lam @ h.jacobian + mu @ g.jacobian
        nu_low, nu_high = np.where(at_low, np.maximum(rest, 0), 0), np.where(at_high, np.maximum(-rest, 0), 0)
    slope = grad + lam @ h.jacobian + mu @ g.jacobian - nu_low + nu_high
    products = [mu * g.values, nu_low[at_low] * (x - low)[at_low], nu_high[at_high] * (high - x)[at_high]]
    outside = np.concatenate([np.abs(h.values), g.values, low - x, x - high])
    return KKT(
        stationarity=float(np.linalg.norm(slope)),
        primal=float(np.max(outside, initial=0)),
        dual=float(np.max(-mu, initial=0)),
        complementarity=float(np.max(np.abs(np.concatenate(products)), initial=0)),
        multipliers=Multipliers(h.back(jnp.asarray(lam)), g.back(jnp.asarray(mu))),
        lower=unravel(jnp.asarray(nu_low, flat.dtype)),
        upper=unravel(jnp.asarray(nu_high, flat.dtype)),
    )
