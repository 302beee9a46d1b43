r"""Trust regions: a quadratic model, believed within a radius.

.. math:: p_k \approx \arg\min_{\lVert p \rVert \le \Delta_k} \; g_k^T p + \tfrac12 p^T B_k p, \qquad
    \rho_k = \frac{f(x_k) - f(x_k + p_k)}{-g_k^T p_k - \tfrac12 p_k^T B_k p_k}

The trial is accepted where :math:`\rho_k > 10^{-4}`; the radius shrinks where the model predicted badly
(:math:`\rho_k < 1/4`) and grows where it predicted well and the radius was in the way. Where the predicted gain
is below the rounding of the value, gradients judge (see `gdjax.optimizers.blocks.acceptance`).

Where a local model does not get ahead, `gdjax.optimizers.second_order.rough_landscapes` helps it on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import checks, control_flow, trees
from gdjax.linalg.secant import Secant, learned
from gdjax.linalg.subproblems import Subproblem, exact, norm
from gdjax.linalg.subproblems.model import scales
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Base
from gdjax.optimizers.second_order import rough_landscapes as rough
from gdjax.optimizers.second_order.rough_landscapes import Pattern
from gdjax.types import Answer, Curvature, MatVec, PyTree, Scalar, ScalarLike, Transformation

__all__ = ["Pattern", "TrustRegionState", "trust_region"]


class _Settings(NamedTuple):
    subproblem: Subproblem
    curvature: Curvature | Secant
    radius: ScalarLike | None


class TrustRegionState(NamedTuple):
    """The accepted point, the model there and the radius.

    Attributes:
      answer: the accepted point.
      base: what has been tried from it.
      radius: the trust region's, for the step times the scales.
      scales: ones, or where columns of the curvature differ beyond rounding their sizes.
      factors: what the subproblem made of the curvature there, over the scales.
      matrix: the secant matrix, shape (n, n), or an empty tuple where the subproblem keeps no factors.
      pattern: where the last steps led.
      spell: how the model has fared of late, or an empty tuple.
    """

    answer: Answer
    base: Base
    radius: Scalar
    scales: jax.Array
    factors: PyTree
    matrix: PyTree
    pattern: Pattern
    spell: PyTree


def _shapes(subproblem: Subproblem, x: jax.Array) -> Any:
    """The subproblem's factors before there are any: zeros."""
    made = jax.eval_shape(lambda v: subproblem.factor(lambda: v[:, None] * v[None, :], lambda u: u), x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made)


def _init(settings, params):
    subproblem, curvature, _ = settings
    x, _ = trees.flat(params)
    base, factors = acceptance.start(params), _shapes(subproblem, x)
    dense = isinstance(curvature, Secant) or bool(jax.tree.leaves(factors))
    matrix = jnp.zeros((x.size, x.size), x.dtype) if dense else ()
    return TrustRegionState(
        base.answer,
        acceptance.split(base),
        jnp.zeros((), x.dtype),
        jnp.ones_like(x),
        factors,
        matrix,
        rough.start_pattern(x, base.answer.value),
        rough.start_spell(base.answer.value) if dense else (),
    )


def _modelled(subproblem, dense, product, state, anew):
    """The factors and the scales of the model, new where it is; those of matrix-free methods are ones."""
    if isinstance(state.matrix, tuple):
        made = control_flow.cond(anew, lambda: subproblem.factor(dense, product), lambda: state.factors)
        return made, state.scales

    def make():
        matrix = dense()
        scale = scales(jnp.diagonal(matrix), state.scales)
        return subproblem.factor(lambda: matrix / scale[:, None] / scale[None, :], product), scale

    return make() if anew is None else control_flow.cond(anew, make, lambda: (state.factors, state.scales))


def _times(matrix: Any) -> Callable[[Any], Any]:
    return lambda v: matrix @ v


class _Model(NamedTuple):
    """The quadratic model at the accepted point.

    Attributes:
      factors: what the subproblem made of the curvature, over the scales.
      product: ``vector -> curvature @ vector``.
      scale: the scales.
      matrix: the secant matrix.
      spell: how the model has fared of late.
    """

    factors: Any
    product: MatVec
    scale: jax.Array
    matrix: Any
    spell: Any


def _model(settings, state, old, base, tested, pair, value_fn) -> _Model:
    """The model, renewed where the point has moved."""
    subproblem, curvature, _ = settings
    matrix, spell, anew, change = state.matrix, state.spell, tested.accept, jnp.asarray(False)
    origin, _ = trees.flat(base.answer.params)
    # A pair from a walk that failed spans too much to say anything of the curvature here.
    useful = ~(tested.fresh | (state.pattern.trial & ~tested.accept))
    slope = norm(base.grad) / jnp.maximum(1, norm(origin))
    if isinstance(curvature, Secant):
        matrix = learned(curvature, matrix, pair, useful, slope, old.count)
        product, dense, anew = _times(matrix), lambda: matrix, None
    else:
        checks.require("trust_region", value_fn=value_fn)
        operator = acceptance.operator_at("trust_region", curvature, value_fn, base.answer.params)
        product, dense = operator.product, operator.dense
        if not isinstance(matrix, tuple):
            spell, change = rough.look_at(spell, tested, base.answer.value, state.radius, old.move.slope)
            matrix = rough.learn(matrix, pair, useful, slope, spell, change)
            anew |= (spell[0] > 0) | change

            def dense():
                return jnp.where(spell[0] > 0, matrix, operator.dense())

    factors, scale = _modelled(subproblem, dense, product, state, anew)
    return _Model(factors, product, scale, matrix, spell)


def _radius(settings, state, model, base, tested, first):
    """The radius for the next trial: at the start from the model, on new data and after a walk as it was."""
    subproblem, _, radius = settings
    origin = model.scale * trees.flat(base.answer.params)[0]
    start = acceptance.first_radius(
        radius,
        origin,
        base.grad / model.scale,
        lambda v: subproblem.form(model.factors, model.product, v),
    )
    kept = acceptance.revived(state.radius, tested.fresh, origin)
    following = rough.next_radius(state.radius, tested, model.spell)
    size = jnp.where(tested.fresh | state.pattern.trial, kept, following)
    return acceptance.capped(jnp.where(first, start, size))


def _update(settings, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    checks.require("trust_region", params=params, value=value)
    (x, back), (grad, _) = trees.flat(params), trees.flat(updates)

    # The acceptance test.
    old = acceptance.join(state.base, state.answer)
    tested, s = acceptance.test(old, x, value, grad), x - trees.flat(old.answer.params)[0]
    tested = tested._replace(length=norm(state.scales * s))
    base = acceptance.move_to(old, tested, params, value, grad)
    origin, _ = trees.flat(base.answer.params)

    # The model, the radius, and the step that minimizes the one within the other.
    model = _model(settings, state, old, base, tested, (s, grad - old.grad), value_fn)
    first = old.count == 0
    size = _radius(settings, state, model, base, tested, first)
    move = settings.subproblem.solve(model.factors, model.product, base.grad / model.scale, size)
    length = norm(move.step)
    if settings.radius is None:  # a first step that ends inside sets the radius
        size = jnp.where(first & (length > 0), jnp.minimum(size, length), size)
    move = move._replace(step=move.step / model.scale)

    # Or the way of the last steps again.
    pattern = rough.tried(state.pattern, tested, x, base.answer.value)
    move, pattern = rough.walk_on(pattern, move, origin, base.answer.value, length >= 0.9 * size)
    base, moves = acceptance.propose(base, move, x, back)
    state = TrustRegionState(
        base.answer,
        acceptance.split(base),
        size,
        model.scale,
        model.factors,
        model.matrix,
        pattern,
        model.spell,
    )
    return moves, state


def trust_region(
    radius: ScalarLike | None = None,
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
      A transformation that keeps an `Answer`. Its statuses: `Status.NOISE_FLOOR` where the gain that is left
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
    return trees.with_settings(_init, _update, _Settings(subproblem, curvature, radius))
