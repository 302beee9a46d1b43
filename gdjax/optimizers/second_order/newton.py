r"""Newton's method: exact with dense second derivatives, or truncated with products alone.

.. math:: p_k = -\tilde B_k^{-1} g_k, \qquad x_{k+1} = x_k + \alpha_k p_k

with :math:`\tilde B_k` the Hessian made positive definite. The length :math:`\alpha_k` comes from a line
search (the default), a rate or a schedule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax import linalg
from gdjax._internal import checks, control_flow, trees
from gdjax.linalg.subproblems import norm
from gdjax.linalg.subproblems.model import scales
from gdjax.linesearch import Direction, Search, backtracking, descend, unit_step
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import acceptance
from gdjax.types import (
    Curvature,
    Method,
    Operator,
    Scalar,
    ScalarLike,
    ScalarOrSchedule,
    State,
    Transformation,
)

__all__ = ["Forcing", "Region", "Truncation", "absolute", "damped", "newton", "newton_cg", "shifted"]


Solver: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""``(matrix, grad) -> step``."""


def _absolute(floor, matrix, grad):
    if floor is not None:
        return -linalg.eigh_solve(matrix, grad, floor=floor).solution
    scale = scales(jnp.diagonal(matrix), jnp.ones_like(grad))
    scaled = matrix / scale[:, None] / scale[None, :]
    return -linalg.eigh_solve(scaled, grad / scale).solution / scale


def absolute(floor: ScalarLike | None = None) -> Solver:
    r"""Eigenvalues replaced by :math:`\max(|\lambda|, \delta)`: saddle-free Newton.

    Args:
      floor: :math:`\delta > 0`; by default :math:`\sqrt\epsilon \max|\lambda|`, and where the diagonal differs
        beyond rounding, in variables in which it is about one.

    Reference:
      Dauphin et al., Identifying and attacking the saddle point problem, NeurIPS 2014, algorithm 1.
    """
    checks.optional("absolute", above=0, floor=floor)
    return Partial(_absolute, floor)


def _shifted(margin, matrix, grad):
    return -linalg.shifted_cholesky(matrix, margin=margin).solve(grad)


def shifted(margin: ScalarLike = 1e-3) -> Solver:
    r"""The least tried multiple of the identity is added that lets Cholesky's factorization succeed.

    Args:
      margin: the first shift over :math:`\lVert B \rVert_\infty`, positive.

    Reference:
      Nocedal and Wright (2006), algorithm 3.3.
    """
    checks.concrete("shifted", above=0, margin=margin)
    return Partial(_shifted, margin)


def _damped(amount, matrix, grad):
    return -jnp.linalg.solve(matrix + amount * jnp.eye(grad.size, dtype=grad.dtype), grad)


def damped(amount: ScalarLike = 0.0) -> Solver:
    r"""The matrix plus :math:`\lambda I`, and nothing else: with 0 the pure method, drawn to saddles as to
    minima.

    Args:
      amount: :math:`\lambda \ge 0`.
    """
    checks.concrete("damped", low=0, amount=amount)
    return Partial(_damped, amount)


def _dense_direction(solve, memory, operator: Operator, grad, move=None):
    del move
    return solve(operator.dense(), grad), memory


class Forcing(NamedTuple):
    """The relative residual to which a system was solved, and the gradient's norm there."""

    tolerance: Scalar
    size: Scalar


class Region(NamedTuple):
    """How far the model is believed, and the slope and the curvature that it had along the last step."""

    radius: Scalar
    slope: Scalar
    curvature_along: Scalar


class Truncation(NamedTuple):
    """Where the inner iteration of `newton_cg` ends."""

    forcing: Forcing
    region: Region


_GAMMA, _POWER, _LOOSEST = 0.9, 1.618, 0.5
"""Of the forcing terms: gamma and alpha of choice 2 in Eisenstat and Walker (1996), and the loosest that is taken."""
_SHORTENED = 0.9
"""A step length below which a search has shortened the step, and not rounding."""


def _tightened(before: Forcing, size: Scalar) -> Forcing:
    """Eisenstat and Walker's second choice, with its safeguard."""
    tolerance = _GAMMA * (size / before.size) ** _POWER
    kept = _GAMMA * before.tolerance**_POWER
    tolerance = jnp.where(kept > 0.1, jnp.maximum(tolerance, kept), tolerance)
    tolerance = jnp.where(jnp.isfinite(tolerance), jnp.minimum(tolerance, _LOOSEST), _LOOSEST)
    return Forcing(tolerance.astype(size.dtype), size)


def _next_radius(region: Region, move, x):
    """As in a trust region, with the gain told by gradients; a step that the search has shortened bounds it."""
    length, along = norm(move.step), move.along.astype(x.dtype)
    radius = jnp.where(along < _SHORTENED, jnp.minimum(region.radius, length), region.radius)
    predicted = -along * (region.slope + 0.5 * along * region.curvature_along)
    gain = 0.5 * jnp.dot(move.change, move.step) - jnp.dot(move.grad, move.step)
    grown = jnp.where(length >= 0.9 * radius, jnp.maximum(radius, 2 * length), radius)
    radius = jnp.where(
        gain >= 0.75 * predicted, grown, jnp.where(gain < 0.25 * predicted, 0.5 * length, radius)
    )
    radius = jnp.where(move.failed, length, radius)
    return jnp.where(move.paired, radius, acceptance.revived(region.radius, ~move.paired, x))


def _radius(memory: Truncation, operator: Operator, grad, move):
    """How far the model is believed; without a search, which would tell, without a bound."""
    if move is None:
        return jnp.asarray(jnp.inf, grad.dtype)
    x, _ = trees.flat(move.given[0])

    def first():
        return acceptance.first_radius(None, x, grad, lambda v: jnp.dot(v, operator.product(v)))

    known = memory.forcing.size > 0
    return acceptance.capped(control_flow.cond(known, lambda: _next_radius(memory.region, move, x), first))


def _truncated_direction(max_products, memory: Truncation, operator: Operator, grad, move=None):
    forcing, radius = _tightened(memory.forcing, norm(grad)), _radius(memory, operator, grad, move)
    most = 2 * grad.size if max_products is None else max_products
    found = linalg.truncated_cg(operator.product, grad, radius, tolerance=forcing.tolerance, max_steps=most)
    slope, length = jnp.dot(grad, found.step), norm(found.step)
    # A first step that ends inside sets the scale.
    radius = jnp.where(memory.forcing.size > 0, radius, jnp.minimum(radius, length))
    return found.step, Truncation(forcing, Region(radius, slope, -2 * (found.decrease + slope)))


def _nothing(x):
    del x
    return ()


def _truncation(x):
    zero = jnp.zeros((), x.dtype)
    return Truncation(Forcing(zero + _LOOSEST, zero), Region(zero, zero, zero))


def _downhill(step, grad):
    """The step, or steepest descent where there is none."""
    found = jnp.all(jnp.isfinite(step)) & jnp.any(step != 0)
    return jnp.where(found, step, -grad)


class _Settings(NamedTuple):
    begin: Callable[[jax.Array], Any]
    solve: Callable[..., tuple[jax.Array, Any]]
    curvature: Curvature
    owner: Method


def _direction_init(settings, params, x):
    del params
    return settings.begin(x)


def _direction_update(settings, memory, move):
    owner = settings.owner
    params, _, _, extra = move.given
    value_fn = extra.get("value_fn")
    checks.require(owner, value_fn=value_fn)
    operator = acceptance.operator_at(owner, settings.curvature, value_fn, params)
    return control_flow.cond(
        move.accepted,
        lambda: settings.solve(memory, operator, move.grad, move),
        lambda: (jnp.zeros_like(move.grad), memory),
    )


class NewtonState(NamedTuple):
    """State of the methods that take every step.

    Attributes:
      memory: a `Truncation`, or an empty tuple.
    """

    memory: State


def _plain_init(settings, params):
    return NewtonState(settings.begin(trees.flat(params)[0]))


def _plain_update(settings, updates, state, params=None, *, value_fn: Any = None, **extra):
    del extra
    checks.require(settings.owner, params=params, value_fn=value_fn)
    grad, back = trees.flat(updates)
    operator = acceptance.operator_at(settings.owner, settings.curvature, value_fn, params)
    step, memory = settings.solve(state.memory, operator, grad)
    return back(_downhill(step, grad)), NewtonState(memory)


def _method(owner, begin, solve, curvature, step) -> Transformation:
    derivatives.checked(owner, curvature)
    settings = trees.callables_as_trees(_Settings(begin, solve, curvature, Method(owner)))
    step = backtracking() if step is None else step
    if isinstance(step, Search):
        init, update = Partial(_direction_init, settings), Partial(_direction_update, settings)
        return descend(Direction(init, update, unit_step), step)
    checks.rate(owner, step=step)
    plain = trees.with_settings(_plain_init, _plain_update, settings)
    return optax.chain(plain, optax.scale_by_learning_rate(step, flip_sign=False))


def newton(
    step: Search | ScalarOrSchedule | None = None,
    *,
    curvature: Curvature = derivatives.hessian,
    solve: Solver | None = None,
) -> Transformation:
    r"""Newton's method with a dense matrix.

    Cost an accepted step: the matrix (as n products) and :math:`O(n^3)` for its factors. Choose it for up to
    some hundreds of parameters; with a rate it needs no acceptance test, and suits mini-batches and parts
    of a model: ``gdjax.partition({"head": gdjax.newton(1.0), "body": optax.adam(1e-3)}, labels)``.

    Args:
      step: a line search of `gdjax.linesearch`, by default ``backtracking()``; or a rate, a number or a
        schedule, which takes every step.
      curvature: of `gdjax.derivatives`, the Hessian by default.
      solve: ``(matrix, grad) -> step``: `absolute` (the default), `shifted` or `damped` of this module,
        called.

    Raises:
      TypeError: without ``params`` and ``value_fn`` in ``update``.

    Reference:
      Nocedal and Wright (2006), section 3.4.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2), gdjax.newton())
      >>> run.params.tolist(), int(run.steps)
      ([3.0, 3.0], 1)
    """
    solve = absolute() if solve is None else solve
    checks.function("newton", "matrix, grad", "such as damped(1e-3) of its module", solve=solve)
    return _method(
        "newton", _nothing, Partial(_dense_direction, trees.callables_as_trees(solve)), curvature, step
    )


def newton_cg(
    step: Search | ScalarOrSchedule | None = None,
    *,
    curvature: Curvature = derivatives.hessian,
    max_products: int | Scalar | None = None,
) -> Transformation:
    r"""Truncated Newton: the system is solved by conjugate gradients, as exactly as it pays.

    Stops the inner iteration at :math:`\lVert B p + g \rVert \le \eta_k \lVert g \rVert` with
    :math:`\eta_k = 0.9 (\lVert g_k \rVert / \lVert g_{k-1} \rVert)^{1.618}`, at most 0.5. With a line search
    it also stops at the boundary of a region: where curvature is not positive it goes there along it, as a trust
    region would; but a step too long is shortened by the search, at no more products, and bounds the next.
    With a rate there is no region, and the inner iteration stops where curvature is not positive.
    Matrix-free: O(n) memory, a product costs about two gradients. Choose it for many parameters.

    Args:
      step: as in `newton`.
      curvature: of `gdjax.derivatives`, the Hessian by default.
      max_products: the most products a step; twice the number of parameters by default.

    Raises:
      TypeError: without ``params`` and ``value_fn`` in ``update``.

    Reference:
      Eisenstat and Walker, Choosing the forcing terms in an inexact Newton method, SIAM J. Sci. Comput. 17
      (1996), choice 2; Steihaug, SIAM J. Numer. Anal. 20 (1983); Nocedal, Yuan, Combining trust region and line
      search techniques, in Advances in Nonlinear Programming (1998), algorithm 2.1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(jnp.cosh(x - 1.0)), jnp.zeros(3), gdjax.newton_cg())
      >>> run.params.round(3).tolist()
      [1.0, 1.0, 1.0]
    """
    checks.optional("newton_cg", low=1, max_products=max_products)
    return _method("newton_cg", _truncation, Partial(_truncated_direction, max_products), curvature, step)
