r"""Trust regions: a quadratic model, believed within a radius.

.. math:: p_k \approx \arg\min_{\lVert p \rVert \le \Delta_k} \; g_k^T p + \tfrac12 p^T B_k p, \qquad
    \rho_k = \frac{f(x_k) - f(x_k + p_k)}{-g_k^T p_k - \tfrac12 p_k^T B_k p_k}

The trial is accepted where :math:`\rho_k > 10^{-4}`; the radius shrinks where the model foretold badly
(:math:`\rho_k < 1/4`) and grows where it foretold well and the radius was in the way. Where the foretold gain
is below the rounding of the value, gradients judge (see `gdjax.trials`).

A local model sees the finest structure of an objective and no more, and on a rough slope its radius stays as
small as that; and where curvature drowns in rounding, each step falls as short as the one before. So where ten
trials were accepted and the radius is in the way, or the next step foretells about as much as these have gained,
one trial walks the way of these ten again, and further each time that this succeeds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax import checks, control_flow, derivatives, trees, trials
from gdjax.linalg.secant import Secant
from gdjax.linalg.subproblems import Move, Subproblem, exact, norm
from gdjax.trials import Base
from gdjax.types import Answer, Curvature, Scalar, Transformation

__all__ = ["Pattern", "TrustRegionState", "trust_region"]

_WALK = 10
_STRIDE = 4.0
_STEADY = 0.25
"""The share of their mean gain that the next step must foretell for the last steps to have gone a steady pace."""


class Pattern(NamedTuple):
    """Where the last accepted steps led.

    Attributes:
      origin: where they began, flat.
      value: the objective there.
      count: how many they are.
      reach: how far their way is walked again, as a multiple of it.
      trial: whether the pending trial does so.
    """

    origin: jax.Array
    value: Scalar
    count: Scalar
    reach: Scalar
    trial: Scalar


class TrustRegionState(NamedTuple):
    """The accepted point, the model there and the radius.

    Attributes:
      answer: the accepted point.
      base: what has been tried from it.
      radius: the trust region's.
      factors: what the subproblem made of the curvature there.
      matrix: the secant matrix, shape (n, n), or an empty tuple.
      pattern: where the last steps led.
    """

    answer: Answer
    base: Base
    radius: Scalar
    factors: Any
    matrix: Any
    pattern: Pattern


def _shapes(subproblem: Subproblem, x: jax.Array) -> Any:
    """The subproblem's factors before there are any: zeros."""
    made = jax.eval_shape(lambda v: subproblem.factor(lambda: v[:, None] * v[None, :], lambda u: u), x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made)


def _init(parts, params):
    subproblem, curvature, _ = parts
    x, _ = trees.flat(params)
    matrix = jnp.zeros((x.size, x.size), x.dtype) if isinstance(curvature, Secant) else ()
    base = trials.start(params)
    zero = jnp.zeros((), x.dtype)
    pattern = Pattern(x, base.answer.value, jnp.int32(0), zero + 1, jnp.asarray(False))
    return TrustRegionState(base.answer, trials.split(base), zero, _shapes(subproblem, x), matrix, pattern)


def _walked(pattern, judged, x, value):
    """The pattern after a trial: it begins anew with data, where it was followed, and where it is long past."""
    anew = judged.fresh | (pattern.trial & judged.accept) | (pattern.count >= 2 * _WALK)
    reach = jnp.where(judged.accept, _STRIDE * pattern.reach, jnp.maximum(pattern.reach / _STRIDE, 1))
    return Pattern(
        jnp.where(anew, x, pattern.origin),
        jnp.where(anew, value, pattern.value),
        jnp.where(anew, 0, pattern.count + judged.accept),
        jnp.where(pattern.trial, reach, pattern.reach),
        jnp.asarray(False),
    )


def _walk_on(pattern, move, origin, value, radius):
    """The way of the last steps again, where they gained by small and equal steps: it has to gain as one of them."""
    step = pattern.reach * (origin - pattern.origin)
    gain = ((pattern.value - value) / jnp.maximum(pattern.count, 1)).astype(step.dtype)
    steady = -(move.slope + 0.5 * move.bend) >= _STEADY * gain
    go = (pattern.count >= _WALK) & (steady | (norm(move.step) >= 0.9 * radius)) & (gain > 0)
    go &= jnp.all(jnp.isfinite(origin + step))
    again = Move(step, -gain / trials.ACCEPT, jnp.zeros_like(gain), move.scale)
    started = Pattern(origin, value, jnp.zeros_like(pattern.count), pattern.reach, go)
    return trees.choose(go, again, move), trees.choose(go, started, pattern)


def _learned(secant, matrix, base, judged, x, grad):
    """The secant matrix after a trial, rejected ones included; before the first it is a multiple of one."""
    origin, _ = trees.flat(base.answer.params)
    s, y = x - origin, grad - base.grad
    curved, size = jnp.dot(s, y), jnp.dot(s, s)
    scale = jnp.where((base.count == 1) & (curved > 0), jnp.dot(y, y) / curved, 0)
    identity = jnp.eye(x.size, dtype=x.dtype)
    start = jnp.where((scale > 0) & jnp.isfinite(scale), scale * identity, matrix)
    usable = ~judged.fresh & (size > 0) & jnp.all(jnp.isfinite(y))
    new = jnp.where(usable, secant.update(start, s, y), matrix)
    slope = norm(grad) / jnp.maximum(1, norm(x))
    return jnp.where(base.count == 0, jnp.where(jnp.isfinite(slope), slope, 1) * identity, new)


def _times(matrix: Any) -> Callable[[Any], Any]:
    return lambda v: matrix @ v


def _update(parts, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    subproblem, curvature, radius = parts
    checks.require("trust_region", params=params, value=value)
    x, back = trees.flat(params)
    grad, _ = trees.flat(updates)
    old = trials.join(state.base, state.answer)
    judged = trials.judge(old, x, value, grad)
    base = trials.move_to(old, judged, params, value, grad)
    origin, _ = trees.flat(base.answer.params)
    walked = state.pattern.trial
    pattern = _walked(state.pattern, judged, x, base.answer.value)

    if isinstance(curvature, Secant):
        # A pair from a walk that failed spans too much to say anything of the curvature here.
        unlearned = judged.fresh | (walked & ~judged.accept)
        matrix = _learned(curvature, state.matrix, old, judged._replace(fresh=unlearned), x, grad)
        product = _times(matrix)
        factors = subproblem.factor(lambda: matrix, product)
    else:
        checks.require("trust_region", value_fn=value_fn)
        operator = trials.operator_at(curvature, value_fn, base.answer.params)
        matrix, product = (), operator.product
        factors = control_flow.cond(
            judged.accept, lambda: subproblem.factor(operator.dense, product), lambda: state.factors
        )

    first = old.count == 0
    start = trials.first_radius(radius, origin, base.grad, subproblem.form(factors, product, base.grad))
    kept = trials.revived(state.radius, judged.fresh, origin)
    size = jnp.where(judged.fresh | walked, kept, trials.next_radius(state.radius, judged))
    size = trials.capped(jnp.where(first, start, size))
    move = subproblem.solve(factors, product, base.grad, size)
    # A first step that ends inside sets the scale.
    length = norm(move.step)
    size = jnp.where(first & (length > 0), jnp.minimum(size, length), size) if radius is None else size
    move, pattern = _walk_on(pattern, move, origin, base.answer.value, size)
    base, moves = trials.propose(base, move, x, back)
    return moves, TrustRegionState(base.answer, trials.split(base), size, factors, matrix, pattern)


def trust_region(
    radius: Any = None,
    *,
    subproblem: Subproblem = exact,
    curvature: Curvature | Secant = derivatives.hessian,
) -> Transformation:
    r"""A trust region around a quadratic model.

    Flat: one evaluation of value and gradient an update. Second derivatives are taken at accepted points only
    (under ``vmap``, where a conditional becomes a choice, at every update).

    | subproblem | costs an update, beside the evaluation | choose it |
    |---|---|---|
    | `exact` | the matrix, one eigendecomposition | up to some hundreds of parameters |
    | `two_dimensional`, `dogleg` | the same | to compare; dogleg with positive curvature |
    | `steihaug` | products with the matrix, memory O(n) | many parameters |
    | `cauchy` | one product | as a yardstick |

    All are in `gdjax.linalg.subproblems`. As ``curvature``, `gdjax.derivatives.hessian` finds minima among
    saddles, `gauss_newton` and ``fisher(family)`` see inside a `Composite`, and `gdjax.linalg.secant.sr1`
    and ``secant.bfgs`` learn a matrix from gradients and need no second derivatives.

    Args:
      radius: the first radius, positive; by default the length of the model's first step within the
        larger of the distance to the Cauchy point and of the norm of the parameters.
      subproblem: a `gdjax.linalg.subproblems.Subproblem`.
      curvature: ``(objective, params) -> Operator``, or a `Secant`.

    Returns:
      A transformation that keeps an `Answer`. Its verdicts: `Status.NOISE_FLOOR` where the gain that is left
      is below what rounding resolves, `Status.STALLED` where the radius has collapsed otherwise,
      `Status.UNBOUNDED` where the value falls out of the range of its type, `Status.NONFINITE` where the
      gradient at the start is not finite.

    Raises:
      TypeError: without ``value`` (or ``value_fn``, where the curvature needs it) in ``update``.

    Reference:
      Conn, Gould, Toint, Trust-Region Methods, SIAM 2000, algorithm 6.1.1 and chapter 17; the walk is the
      pattern move of Hooke and Jeeves, "Direct search" solution of numerical and statistical problems, J. ACM 8
      (1961).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> run = gdjax.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gdjax.trust_region())
      >>> gdjax.Status(int(run.status)).name, bool(run.steps < 30)
      ('CONVERGED', True)
    """
    if not isinstance(subproblem, Subproblem):
        raise TypeError(f"trust_region: subproblem must be a Subproblem, got {type(subproblem).__name__}")
    if not isinstance(curvature, Secant):
        derivatives.checked("trust_region", curvature)
    checks.optional("trust_region", above=0, radius=radius)
    parts = trees.callables_as_trees((subproblem, curvature, radius))
    return optax.GradientTransformationExtraArgs(Partial(_init, parts), Partial(_update, parts))
