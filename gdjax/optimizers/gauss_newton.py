r"""Gauss-Newton, and the covariance of what a least-squares fit finds.

The systems are solved by singular values and not by the normal equations: rank-deficient and
under-determined residuals get the shortest step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdjax import checks, control_flow, trees
from gdjax.linalg.jacobians import damped_solve, require_composite, rows_at, spectrum
from gdjax.linesearch import Direction, Search, backtracking, descend, unit_step
from gdjax.types import Params, Transformation

__all__ = ["covariance", "gauss_newton"]


def _rows_step(composite, params, dtype):
    rows, rest = rows_at(composite, params, dtype)
    found = spectrum(rows, rest, jnp.ones(rows.shape[1], dtype))
    return found.vectors @ damped_solve(found, jnp.zeros((), dtype), found.rest)


def _no_memory(params, x):
    del params, x
    return ()


def _direction(memory, move):
    params, _, _, extra = move.given
    value_fn = extra.get("value_fn")
    checks.require("gauss_newton", value_fn=value_fn)
    composite = require_composite(value_fn, "gauss_newton")
    dtype = move.grad.dtype
    step = control_flow.cond(
        move.accepted,
        lambda: _rows_step(composite, params, dtype),
        lambda: jnp.zeros_like(move.grad),
    )
    return step, memory


def _plain(updates, state, params=None, *, value_fn: Any = None, **extra):
    del extra
    checks.require("gauss_newton", params=params, value_fn=value_fn)
    composite = require_composite(value_fn, "gauss_newton")
    grad, _ = trees.flat(updates)
    _, back = trees.flat(params)
    return back(_rows_step(composite, params, grad.dtype)), state


def gauss_newton(step: Any = None) -> Transformation:
    r"""Gauss-Newton: the minimizer of the model that is linear in its residuals, and the shortest of them.

    .. math:: p = -J^+ r

    by singular values, so that rank-deficient and under-determined residuals have a step too. Choose it where
    residuals are small or nearly linear, and `levenberg_marquardt` where they are not. As
    `levenberg_marquardt` for its cost.

    Args:
      step: a line search of `gdjax.linesearch`, by default ``backtracking()``; or a learning rate, a number
        or a schedule, for the plain method that takes every step.

    Raises:
      TypeError: in ``update``, where ``value_fn`` is not a `Composite`, or has a penalty.

    Reference:
      Nocedal and Wright (2006), section 10.3; with the pseudo-inverse Ben-Israel, A Newton-Raphson method for
      the solution of systems of equations, J. Math. Anal. Appl. 15 (1966).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = gdjax.least_squares(lambda x: jnp.array([x[0] + x[1] - 2.0]))
      >>> run = gdjax.minimize(f, jnp.zeros(2), gdjax.gauss_newton())
      >>> run.params.round(3).tolist()
      [1.0, 1.0]
    """
    step = backtracking() if step is None else step
    if isinstance(step, Search):
        return descend(Direction(_no_memory, _direction, unit_step), step)
    plain = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), _plain)
    return optax.chain(plain, optax.scale_by_learning_rate(step, flip_sign=False))


def covariance(objective: Any, params: Params) -> jax.Array:
    r"""The covariance of the parameters of a least-squares fit, to first order.

    .. math:: \hat\sigma^2 (J^T J)^+, \qquad \hat\sigma^2 = \frac{\lVert r \rVert^2}{m - \operatorname{rank}
    J}

    Infinite along what the data do not determine would be honest for a rank-deficient Jacobian; the
    pseudo-inverse gives the covariance of the determined part. NaN where there are no more residuals than
    parameters that they determine.

    Args:
      objective: of `gdjax.least_squares`, with residuals on one scale.
      params: the solution, n numbers in all.

    Returns:
      A matrix of shape (n, n), in the order of ``ravel_pytree(params)``.

    Raises:
      TypeError: if ``objective`` is not a `Composite`.

    Reference:
      Seber and Wild, Nonlinear Regression, 1989, section 2.1.2.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = gdjax.least_squares(lambda x: x - jnp.array([1.0, 2.0, 3.0]))
      >>> round(float(gdjax.covariance(f, jnp.array([2.0]))[0, 0]), 4)
      0.3333
    """
    composite = require_composite(objective, "covariance")
    x, _ = trees.flat(params)
    rows, rest = rows_at(composite, params, x.dtype)
    found = spectrum(rows, rest, jnp.ones_like(x))
    residuals, _ = ravel_pytree(composite.model(params))
    freedom = residuals.size - jnp.sum(found.values > 0)
    variance = jnp.where(freedom > 0, jnp.sum(residuals**2) / freedom, jnp.nan)
    inverse = jnp.where(found.values > 0, 1 / jnp.where(found.values > 0, found.values, 1), 0)
    half = found.vectors * inverse[None, :]
    return variance * (half @ half.T)
