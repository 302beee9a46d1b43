r"""Gauss-Newton, and the covariance of what a least-squares fit finds.

The systems are solved by singular values and not by the normal equations: rank-deficient and
under-determined residuals get the shortest step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks, control_flow, trees
from gdjax.linalg.jacobians import (
    Spectrum,
    damped_solve,
    factored,
    gram,
    linearized,
    require_composite,
    rows_at,
    spectrum,
)
from gdjax.linesearch import Direction, Search, backtracking, descend, unit_step
from gdjax.objectives import Composite, check_residuals
from gdjax.types import Params, ScalarOrSchedule, Transformation

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


def gauss_newton(step: Search | ScalarOrSchedule | None = None) -> Transformation:
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
    checks.rate("gauss_newton", step=step)
    plain = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), _plain)
    rate: Any = step  # optax names fewer kinds of numbers than it takes
    return optax.chain(plain, optax.scale_by_learning_rate(rate, flip_sign=False))


def _sizes(jacobian: jax.Array) -> jax.Array:
    """The norms of the columns, 1 for columns of zeros."""
    largest = jnp.max(jnp.abs(jacobian), 0)
    largest = jnp.where(largest > 0, largest, 1)  # squares of what is divided by it do not overflow
    sizes = jnp.sqrt(jnp.sum(jnp.square(jacobian / largest[None, :]), 0))
    return largest * jnp.where(sizes > 0, sizes, 1)


@jax.custom_jvp
def _attached(inverse: jax.Array, matrix: jax.Array, full: jax.Array) -> jax.Array:
    """``inverse`` as a function of the ``matrix`` that it is the inverse of, where that has full rank."""
    return inverse


@_attached.defjvp
def _attached_jvp(primals, tangents):
    inverse = _attached(*primals)
    moved = -inverse @ tangents[1] @ inverse
    return inverse, jnp.where(primals[2], moved, jnp.nan)


def _without_bound(found: Spectrum, known: jax.Array, rounding: float) -> jax.Array:
    """The kernel's projector where its entries are not rounding, else zero: what grows without bound."""
    least = jnp.min(jnp.where(known, found.values, jnp.inf))
    # What is left of a zero after rounding: Golub and Van Loan, Matrix Computations, theorem 8.6.5.
    level = jnp.minimum(rounding / least, 0.1)
    kernel = jnp.where(known[None, :], 0, found.vectors)
    lengths = jnp.sqrt(jnp.sum(jnp.square(kernel), 1))
    projector = kernel @ kernel.T
    zero = jnp.abs(projector) <= level * jnp.maximum(lengths[:, None], lengths[None, :])
    return jnp.where(zero, 0, projector)


def covariance(objective: object, params: Params) -> jax.Array:
    r"""The covariance of the parameters of a least-squares fit, to first order.

    .. math:: \hat\sigma^2 (J^T J)^{-1}, \qquad \hat\sigma^2 = \frac{\lVert r \rVert^2}{m - \operatorname{rank}
    J}

    The same in every unit of the parameters: the columns of J are brought to one size before its rank is
    tested. Where J has not full rank this is the limit of :math:`\hat\sigma^2 (J^T J + \epsilon D^2)^{-1}`: a
    parameter that the data do not determine has an infinite variance, two of which only the sum is determined
    have a covariance of minus infinity, and what the data determine keeps its finite entries. NaN where the
    Jacobian or a residual is not finite, and, for what is determined, where there are no more residuals than
    parameters that they determine.

    Works under ``jit`` and ``vmap``, and has derivatives where J has full rank.

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
    params = checks.float_params(params, "covariance")
    check_residuals(jax.eval_shape(composite.model, params))
    return _covariance(trees.callables_as_trees(composite), params)


@control_flow.one_program
def _covariance(composite: Composite, params: Params) -> jax.Array:
    x, _ = trees.flat(params)
    at = linearized(composite, params, x.dtype)
    sound = jnp.all(jnp.isfinite(at.jacobian)) & jnp.all(jnp.isfinite(at.outputs))
    jacobian = jnp.where(sound, at.jacobian, 0)
    sizes = jax.lax.stop_gradient(_sizes(jacobian))
    at = at._replace(jacobian=jacobian / sizes[None, :])
    outputs, matrix = jax.lax.stop_gradient((at.outputs, at.jacobian))
    found = spectrum(*factored(at._replace(outputs=outputs, jacobian=matrix)), jnp.ones_like(x))
    # A column is right to some eps and the matrix to sqrt(n) of them: of ten times that one digit is right.
    rounding = 10 * x.size**0.5 * float(jnp.finfo(x.dtype).eps)
    known = found.values > rounding
    half = found.vectors * jnp.where(known, 1 / jnp.where(known, found.values, 1), 0)[None, :]
    inverse = _attached(half @ half.T, gram(at), jnp.all(known))
    freedom = at.outputs.size - jnp.sum(known)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(at.outputs)).astype(x.dtype))
    largest = jnp.where(sound & (largest > 0), largest, 1)
    squares = jnp.sum(jnp.square(at.outputs.astype(x.dtype) / largest))
    variance = jnp.where(sound & (freedom > 0), squares / jnp.maximum(freedom, 1), jnp.nan)
    units = largest / sizes
    free = jnp.where(sound, _without_bound(found, known, rounding), 0)
    determined = variance * (units[:, None] * inverse * units[None, :])
    return jnp.where(free != 0, jnp.sign(free) * jnp.inf, determined)
