r"""A trust region between bounds: :math:`\min f(x)` subject to :math:`l \le x \le u`.

.. math:: p_k \approx \arg\min_p \; g_k^T p + \tfrac12 p^T B_k p
    \quad\text{over}\quad \lVert p \rVert_2 \le \Delta_k, \; l \le x_k + p \le u

Trials are judged and the radius moves as in `gdjax.trust_region`. No trial is outside the box.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import checks, control_flow, trees
from gdjax.linalg import boxes
from gdjax.linalg.subproblems import between, norm
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Base
from gdjax.optimizers.constrained.box import Limits, box_of, held_by
from gdjax.projections.numbers import ordered
from gdjax.types import Answer, Curvature, Optimality, Prefix, Scalar, ScalarLike, Transformation

__all__ = ["BoundedTrustRegionState", "bounded_trust_region"]


class BoundedTrustRegionState(NamedTuple):
    """The accepted point, the model there and the radius.

    Attributes:
      answer: the accepted point; its residual is that of the gradient as far as there is room.
      optimality: where no bound holds it, its gradient is zero.
      base: what has been tried from it.
      radius: the trust region's.
      matrix: the curvature there, shape ``(n, n)``.
    """

    answer: Answer
    optimality: Optimality
    base: Base
    radius: Scalar
    matrix: jax.Array


class _Settings(NamedTuple):
    bounds: Limits
    radius: ScalarLike | None
    curvature: Curvature


def _box(bounds, params):
    return box_of("bounded_trust_region", bounds, params)


def _conditions(bounds, value_fn, params, state):
    return held_by(_box(bounds, params), state.base.grad, value_fn, params)


def _reach(box, x):
    """How far each variable may be expected to go: as far as it is from zero, or across half of its box."""
    half = 0.5 * (box.upper - box.lower)
    return jnp.maximum(jnp.abs(x), jnp.where(jnp.isfinite(half), half, 0))


def _init(settings, params):
    box = _box(settings.bounds, params)
    x, back = trees.flat(params)
    base = acceptance.start(back(jnp.clip(x, box.lower, box.upper)))
    matrix = jnp.zeros((x.size, x.size), x.dtype)
    optimality = trees.optimality(settings.bounds, _conditions)
    radius = jnp.zeros((), x.dtype)
    return BoundedTrustRegionState(base.answer, optimality, acceptance.split(base), radius, matrix)


def _update(settings, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    checks.require("bounded_trust_region", params=params, value=value, value_fn=value_fn)
    bounds, radius, curvature = settings
    box = _box(bounds, params)
    x, back = trees.flat(params)
    grad, _ = trees.flat(updates)
    old = acceptance.join(state.base, state.answer)
    tested = acceptance.test(old, x, value, grad)
    residual = norm(boxes.criticality(x, grad, box.lower, box.upper))
    base = acceptance.move_to(old, tested, params, value, grad, residual)
    origin, _ = trees.flat(base.answer.params)
    operator = acceptance.operator_at("bounded_trust_region", curvature, value_fn, base.answer.params)
    matrix = control_flow.cond(tested.accept, operator.dense, lambda: state.matrix)

    first = old.count == 0
    downhill = boxes.projected(origin, base.grad, box.lower, box.upper)
    start = acceptance.first_radius(radius, _reach(box, origin), downhill, lambda v: jnp.dot(v, matrix @ v))
    kept = acceptance.revived(state.radius, tested.fresh, origin)
    size = jnp.where(tested.fresh, kept, acceptance.next_radius(state.radius, tested))
    size = acceptance.capped(jnp.where(first, start, size))
    low, high = box.lower - origin, box.upper - origin
    move = between(matrix, base.grad, size, low, high)
    # A first step that ends inside sets the scale.
    length = norm(move.step)
    size = jnp.where(first & (length > 0), jnp.minimum(size, length), size) if radius is None else size
    target = jnp.where(
        move.step <= low, box.lower, jnp.where(move.step >= high, box.upper, origin + move.step)
    )
    base, trial = acceptance.aim(base, move, jnp.clip(target, box.lower, box.upper), back)
    new = BoundedTrustRegionState(base.answer, state.optimality, acceptance.split(base), size, matrix)
    return box.moves(params, back(trial)), new


def bounded_trust_region(
    lower: Prefix = None,
    upper: Prefix = None,
    radius: ScalarLike | None = None,
    *,
    curvature: Curvature = derivatives.hessian,
) -> Transformation:
    r"""A trust region around a quadratic model, between bounds.

    .. math:: \min_x f(x) \quad\text{subject to}\quad l \le x \le u

    The model is lowered down its projected gradient, at least as far as the Cauchy point, and then toward its
    exact minimizer in the ball over the variables that are at no bound, for a few rounds (see
    `gdjax.linalg.subproblems.between`). Curvature may have any sign: saddles are left, and once the bounds that hold
    are found, steps are Newton's on the others.

    Flat: one evaluation of value and gradient an update, second derivatives at accepted points only, and one or a
    few eigendecompositions: up to some hundreds of parameters. For more there is `gdjax.lbfgsb`. Trials are inside
    the box to the last bit, and a run of `gdjax.minimize` starts at the projection of its starting point, so that
    the objective is never seen outside.

    Args:
      lower: lower bounds: a number, an array, or a pytree with the structure of the params or a prefix of it;
        ``-inf`` and None where there are none. Where ``lower == upper`` a variable is fixed.
      upper: upper bounds, likewise.
      radius: the first radius, positive; by default the length of the model's first step, in a ball as in
        `gdjax.trust_region` that also reaches half across the box where it is closed.
      curvature: ``(objective, params) -> Operator``: `gdjax.derivatives.hessian`, `gauss_newton`,
        ``fisher(family)``.

    Returns:
      A transformation that keeps an `Answer`, whose residual is the norm of the gradient as far as the box leaves
      room to follow it, :math:`g_i \min(1, 100\, d_i / \lVert x \rVert_\infty)` with the distance :math:`d_i` to
      the bound.
      Its termination statuses are those of `gdjax.trust_region`.

    Raises:
      ValueError: if a lower bound is above an upper one where both are known.
      TypeError: if ``curvature`` is no function; without ``value`` and ``value_fn`` in ``update``.

    Reference:
      Lin, Moré, Newton's method for large bound-constrained optimization problems, SIAM J. Optim. 9, 1999; Conn,
      Gould, Toint, Trust-Region Methods, SIAM 2000, algorithm 12.1.1 and chapter 17.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> run = gdjax.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gdjax.bounded_trust_region(-2.0, 0.5))
      >>> run.params.round(4).tolist(), gdjax.Status(int(run.status)).name
      ([0.5, 0.25], 'CONVERGED')
    """
    derivatives.checked("bounded_trust_region", curvature)
    checks.optional("bounded_trust_region", above=0, radius=radius)
    ordered("bounded_trust_region", lower, upper)
    return trees.with_settings(_init, _update, _Settings(Limits(lower, upper), radius, curvature))
