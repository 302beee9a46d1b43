r"""Trust regions: a quadratic model, believed within a radius.

.. math:: p_k \approx \arg\min_{\lVert p \rVert \le \Delta_k} \; g_k^T p + \tfrac12 p^T B_k p, \qquad
    \rho_k = \frac{f(x_k) - f(x_k + p_k)}{-g_k^T p_k - \tfrac12 p_k^T B_k p_k}

The trial is accepted where :math:`\rho_k > 10^{-4}`; the radius shrinks where the model predicted badly
(:math:`\rho_k < 1/4`) and grows where it predicted well and the radius was in the way. Where the predicted gain
is below the rounding of the value, gradients judge (see `gdjax.optimizers.blocks.acceptance`).

A local model sees the finest structure of an objective and no more, and on a rough slope its radius stays as
small as that; and where curvature is below the noise level, each step falls as short as the one before. So where ten
trials were accepted and the radius is in the way, or the next step predicts about as much as these have gained,
one trial walks the way of these ten again, and further each time that this succeeds.

Second derivatives of an objective that oscillates speak of the next wave and not of the slope. Where most of forty
trials in a row were rejected or ended at the radius, a secant matrix (`gdjax.linalg.secant.bfgs`), which sees what
steps see, stands in for them; it stays if it then gains as much in eighty as they did in twenty, or would in the
radius that they had left: beside a kink that collapses, and the matrix learns to go along.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow, trees
from gdjax.linalg.secant import Secant, bfgs, learned
from gdjax.linalg.subproblems import Move, Subproblem, exact, norm
from gdjax.linalg.subproblems.model import scales
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Base
from gdjax.types import Answer, Curvature, Scalar, Transformation

__all__ = ["Pattern", "TrustRegionState", "trust_region"]

_WALK = 10
_STRIDE = 4.0
_STEADY = 0.25
"""The share of their mean gain that the next step must predict for the last steps to have gone a steady pace."""


_SPELL = 40
"""Trials after which a model is looked at: most problems are solved in fewer."""
_HINDERED = 0.75
"""The share of trials rejected or ended by the radius that makes second derivatives a bad guide."""
_REGAIN = 10.0
"""How much further than a step that the secant matrix has made the next may go: a line search begins anew at each."""
_STEPS = 4.0
"""How many steps like its last a model is thought to have left at least: as many as a radius that is halved by each."""
_WORTH = 1e-3
"""The gain, in units of the value, with which a slope is still gone down: oscillations leave 0.1, kinks 1e-5."""


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
    factors: Any
    matrix: Any
    pattern: Pattern
    spell: Any


def _shapes(subproblem: Subproblem, x: jax.Array) -> Any:
    """The subproblem's factors before there are any: zeros."""
    made = jax.eval_shape(lambda v: subproblem.factor(lambda: v[:, None] * v[None, :], lambda u: u), x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made)


def _init(parts, params):
    subproblem, curvature, _ = parts
    x, _ = trees.flat(params)
    base, factors = acceptance.start(params), _shapes(subproblem, x)
    dense = isinstance(curvature, Secant) or bool(jax.tree.leaves(factors))
    matrix = jnp.zeros((x.size, x.size), x.dtype) if dense else ()
    one = jnp.ones((), base.answer.value.dtype)
    zero, none, no, unknown = jnp.zeros((), x.dtype), jnp.int32(0), jnp.asarray(False), base.answer.value
    pattern = Pattern(x, unknown, none, zero + 1, no)
    spell = jnp.stack([0 * one, 0 * one, 0 * one, unknown, unknown]) if dense else ()
    scale = jnp.ones_like(x)
    return TrustRegionState(base.answer, acceptance.split(base), zero, scale, factors, matrix, pattern, spell)


def _walked(pattern, tested, x, value):
    """The pattern after a trial: it begins anew with data, where it was followed, and where it is long past."""
    anew = tested.fresh | (pattern.trial & tested.accept) | (pattern.count >= 2 * _WALK)
    reach = jnp.where(tested.accept, _STRIDE * pattern.reach, jnp.maximum(pattern.reach / _STRIDE, 1))
    return Pattern(
        jnp.where(anew, x, pattern.origin),
        jnp.where(anew, value, pattern.value),
        jnp.where(anew, 0, pattern.count + tested.accept),
        jnp.where(pattern.trial, reach, pattern.reach),
        jnp.asarray(False),
    )


def _walk_on(pattern, move, origin, value, far):
    """The way of the last steps again, where they gained by small and equal steps: it has to gain as one of them."""
    step = pattern.reach * (origin - pattern.origin)
    gain = ((pattern.value - value) / jnp.maximum(pattern.count, 1)).astype(step.dtype)
    steady = -(move.slope + 0.5 * move.curvature_along) >= _STEADY * gain
    go = (pattern.count >= _WALK) & (steady | far) & (gain > 0)
    go &= jnp.all(jnp.isfinite(origin + step))
    again = Move(step, -gain / acceptance.ACCEPT, jnp.zeros_like(gain), move.scale)
    started = Pattern(origin, value, jnp.zeros_like(pattern.count), pattern.reach, go)
    return trees.choose(go, again, move), trees.choose(go, started, pattern)


def _looked_at(spell: jax.Array, tested, value, radius, slope) -> tuple[jax.Array, Scalar]:
    """The spell after a trial, and whether the model changes with it; new data start anew.

    A spell holds whether the secant matrix is in use, the trials since the model was looked at, how many of them were
    hindered, the objective at their beginning (with second derivatives at their middle, since the first steps gain
    most with any model), and what second derivatives had gained when the matrix took over. It is one vector, since
    each array of a state is a program of its own to the compiler.
    """
    learned, count, hindered, begun, asked = spell
    hindered, count = hindered + (~tested.accept | (tested.length >= 0.9 * radius)), count + 1
    over, gain = count >= _SPELL, begun - value
    # Where next to nothing is gained, as at a kink, no other model is asked: the radius may collapse, and say so.
    misled = (hindered >= _HINDERED * count) & (gain >= _WORTH * jnp.abs(value))
    change = over & jnp.where(learned > 0, ~(gain >= asked), misled) & ~tested.fresh
    begin = over | tested.fresh
    early = begin | ((learned == 0) & (2 * count <= _SPELL))
    # Where the matrix was worse, second derivatives have four times as long.
    restart = jnp.where(change, jnp.where(learned > 0, -3.0, -1.0) * _SPELL, 0)
    new = [
        jnp.where(tested.fresh, 0, jnp.where(change, 1 - learned, learned)),
        jnp.where(begin, restart, count),
        jnp.where(begin, 0, hindered),
        jnp.where(early, value, begun),
        # What it has to gain is asked of the matrix once. Where the radius collapses, as beside a kink, what second
        # derivatives have gained they would not gain again.
        jnp.where(over, jnp.where(change, jnp.minimum(gain, -_STEPS * slope), -jnp.inf), asked),
    ]
    return jnp.stack(new).astype(spell.dtype), change


def _next_radius(radius: Scalar, tested, spell: Any) -> Scalar:
    """The radius after a trial; while the secant matrix stands in, every step that is accepted opens it again.

    A kink makes any model predict badly, and a radius that has shrunk there would not grow again. The matrix learns
    from rejected trials how steep it is across the kink, and goes along it where it is let.
    """
    after = acceptance.next_radius(radius, tested)
    if isinstance(spell, tuple):
        return after
    return jnp.where((spell[0] > 0) & tested.accept, jnp.maximum(after, _REGAIN * tested.length), after)


def _relearned(matrix, pair, useful, slope, change, second):
    """The secant matrix that stands by for second derivatives, from a multiple of one where it takes over."""
    s, y = pair
    curved = jnp.dot(s, y)
    scale = jnp.where(change, slope, jnp.dot(y, y) / curved)
    anew = change | (second & (curved > 0))
    start = jnp.where(anew & jnp.isfinite(scale), scale * jnp.eye(s.size, dtype=s.dtype), matrix)
    return jnp.where(useful & ~change, bfgs.update(start, s, y), start)


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


def _update(parts, updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
    del extra
    subproblem, curvature, radius = parts
    checks.require("trust_region", params=params, value=value)
    x, back = trees.flat(params)
    grad, _ = trees.flat(updates)
    old = acceptance.join(state.base, state.answer)
    tested, s = acceptance.test(old, x, value, grad), x - trees.flat(old.answer.params)[0]
    tested = tested._replace(length=norm(state.scales * s))
    base = acceptance.move_to(old, tested, params, value, grad)
    origin, _ = trees.flat(base.answer.params)
    walked, first, change = state.pattern.trial, old.count == 0, jnp.asarray(False)
    pattern = _walked(state.pattern, tested, x, base.answer.value)

    # A pair from a walk that failed spans too much to say anything of the curvature here.
    useful = ~(tested.fresh | (walked & ~tested.accept))
    pair, slope = (s, grad - old.grad), norm(base.grad) / jnp.maximum(1, norm(origin))
    matrix, spell, anew = state.matrix, state.spell, tested.accept
    if isinstance(curvature, Secant):
        matrix = learned(curvature, matrix, pair, useful, slope, old.count)
        product, dense, anew = _times(matrix), lambda: matrix, None
    else:
        checks.require("trust_region", value_fn=value_fn)
        operator = acceptance.operator_at("trust_region", curvature, value_fn, base.answer.params)
        product, dense = operator.product, operator.dense
        if not isinstance(matrix, tuple):
            spell, change = _looked_at(spell, tested, base.answer.value, state.radius, old.move.slope)
            second = (spell[0] > 0) & (spell[1] == 1 - _SPELL)
            matrix = _relearned(matrix, pair, useful, slope, change, second)
            anew |= (spell[0] > 0) | change

            def dense():
                return jnp.where(spell[0] > 0, matrix, operator.dense())

    factors, scale = _modelled(subproblem, dense, product, state, anew)
    downhill = base.grad / scale
    start = acceptance.first_radius(
        radius, scale * origin, downhill, lambda v: subproblem.form(factors, product, v)
    )
    kept = acceptance.revived(state.radius, tested.fresh, scale * origin)
    size = jnp.where(tested.fresh | walked, kept, _next_radius(state.radius, tested, spell))
    size = acceptance.capped(jnp.where(first, start, size))
    move = subproblem.solve(factors, product, downhill, size)
    # A first step that ends inside sets the scale.
    length = norm(move.step)
    size = jnp.where(first & (length > 0), jnp.minimum(size, length), size) if radius is None else size
    move = move._replace(step=move.step / scale)
    move, pattern = _walk_on(pattern, move, origin, base.answer.value, length >= 0.9 * size)
    base, moves = acceptance.propose(base, move, x, back)
    state = TrustRegionState(
        base.answer, acceptance.split(base), size, scale, factors, matrix, pattern, spell
    )
    return moves, state


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
    parts = trees.callables_as_trees((subproblem, curvature, radius))
    return optax.GradientTransformationExtraArgs(Partial(_init, parts), Partial(_update, parts))
