r"""Newton's method with adaptive cubic regularization.

.. math:: p_k \in \arg\min_p \; g_k^T p + \tfrac12 p^T B_k p + \tfrac{\sigma_k}{3} \lVert p \rVert^3

The weight :math:`\sigma_k` plays the part of an inverse radius: it grows where the model predicted badly and
shrinks where it predicted well.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gdjax._internal import checks, control_flow, trees
from gdjax.linalg.subproblems import Eigen, cubic_step, eigen, norm
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Base
from gdjax.types import Answer, Curvature, Scalar, ScalarLike, Transformation

__all__ = ["CubicState", "cubic_newton"]


class _Settings(NamedTuple):
    curvature: Curvature
    weight: ScalarLike | None


class CubicState(NamedTuple):
    """The accepted point, its curvature and the weight.

    Attributes:
      answer: the accepted point.
      base: what has been tried from it.
      factors: the eigendecomposition there.
      weight: :math:`\\sigma`.
    """

    answer: Answer
    base: Base
    factors: Eigen
    weight: Scalar


def _init(settings, params):
    del settings
    base = acceptance.start(params)
    n, dtype = base.grad.size, base.grad.dtype
    vector = jnp.zeros(n, dtype)
    factors = Eigen(vector, jnp.zeros((n, n), dtype), vector)
    return CubicState(base.answer, acceptance.split(base), factors, jnp.zeros((), dtype))


def _first_weight(given, x, grad, factors):
    """The weight at which steepest descent under the cubic goes as far as to the Cauchy point."""
    size = norm(grad)
    a = factors.vectors.T @ (grad / jnp.where(size > 0, size, 1))
    curvature = jnp.abs(jnp.sum(factors.values * a * a))
    length = jnp.where(curvature * jnp.maximum(1, norm(x)) > size, size / curvature, jnp.maximum(1, norm(x)))
    automatic = size / length / length
    automatic = jnp.where((automatic > 0) & jnp.isfinite(automatic), automatic, 1)
    return automatic if given is None else jnp.asarray(given, x.dtype)


def _next_weight(weight, tested):
    tiny, huge = jnp.finfo(weight.dtype).tiny, jnp.finfo(weight.dtype).max ** 0.9
    up = jnp.where(tested.ratio < acceptance.ACCEPT, 1 / tested.shrink**2, 2.0)
    down = jnp.where(tested.ratio >= 0.9, 0.2, 1.0)
    return jnp.clip(weight * jnp.where(tested.ratio < 0.1, up, down), tiny, huge)


def _update(settings, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    checks.require("cubic_newton", params=params, value=value, value_fn=value_fn)
    curvature, weight = settings
    (x, back), (grad, _) = trees.flat(params), trees.flat(updates)
    old = acceptance.join(state.base, state.answer)
    tested = acceptance.test(old, x, value, grad)
    base = acceptance.move_to(old, tested, params, value, grad)
    origin, _ = trees.flat(base.answer.params)
    operator = acceptance.operator_at("cubic_newton", curvature, value_fn, base.answer.params)
    factors = control_flow.cond(tested.accept, lambda: eigen(operator.dense()), lambda: state.factors)
    first = _first_weight(weight, origin, base.grad, factors)
    size = jnp.where(tested.fresh, state.weight, _next_weight(state.weight, tested))
    size = jnp.where(old.count == 0, first, size)
    move = cubic_step(factors, base.grad, size)
    # The model's gain counts the cubic too, as the acceptance test of the paper has it.
    length = norm(move.step)
    counted = move._replace(curvature_along=move.curvature_along + 2 / 3 * (size * length) * length * length)
    base, moves = acceptance.propose(base, counted, x, back)
    return moves, CubicState(base.answer, acceptance.split(base), factors, size)


def cubic_newton(
    weight: ScalarLike | None = None, *, curvature: Curvature = derivatives.hessian
) -> Transformation:
    r"""Adaptive regularization by cubics (ARC), with exact subproblems.

    Flat: one evaluation of value and gradient an update; one dense matrix and its eigendecomposition,
    :math:`O(n^3)`, an accepted point. Finds points where the Hessian is positive semidefinite, in
    :math:`O(\epsilon^{-3/2})` evaluations. Choose it where a trust region would be chosen, for that
    guarantee.

    Args:
      weight: the first :math:`\sigma`, positive; by default from the Cauchy point.
      curvature: of `gdjax.derivatives`, the Hessian by default.

    Returns:
      A transformation that keeps an `Answer`; for its termination statuses see `gdjax.trust_region`.

    Raises:
      TypeError: without ``params``, ``value`` and ``value_fn`` in ``update``.

    Reference:
      Cartis, Gould, Toint, Adaptive cubic regularisation methods for unconstrained optimization, Math.
      Programming 127 (2011), algorithm 2.1; Nesterov and Polyak, Math. Programming 108 (2006).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> well = lambda x: jnp.sum(x**4 / 4 - x**2 / 2)
      >>> run = gdjax.minimize(well, jnp.array([0.05, -0.05]), gdjax.cubic_newton())
      >>> run.params.round(3).tolist()
      [1.0, -1.0]
    """
    checks.optional("cubic_newton", above=0, weight=weight)
    derivatives.checked("cubic_newton", curvature)
    return trees.with_settings(_init, _update, _Settings(curvature, weight))
