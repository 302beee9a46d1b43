r"""ADMM, the alternating direction method of multipliers, for :math:`f(x) + g(z)` with :math:`A x = z`.

.. math::
    x_{k+1} &\approx \arg\min_x \; f(x) + \tfrac{\rho}{2} \lVert A x - z_k + u_k \rVert^2 \\
    z_{k+1} &= \operatorname{prox}_{g / \rho}\bigl(\hat x + u_k\bigr), \qquad
    \hat x = \alpha A x_{k+1} + (1 - \alpha) z_k \\
    u_{k+1} &= u_k + \hat x - z_{k+1}

:math:`y = \rho u_{k+1}` is a subgradient of :math:`g` at :math:`z_{k+1}`: however roughly :math:`x` was found, the
residual is the larger of the dual one and of the primal one in its unit,

.. math::
    \lVert \nabla f(x_k) + A^T y_k \rVert \quad\text{and}\quad
    \frac{\max_j \lVert \nabla f(x_j) \rVert}{\max_j \lVert A x_j \rVert} \lVert A x_k - z_k \rVert,

Boyd's two tests (3.12), both relative to the same length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax import linalg
from gdjax._internal import arguments, checks, trees
from gdjax.linalg.vectors import landing
from gdjax.objectives import derivatives
from gdjax.objectives.implicit import Split, split_point, split_value
from gdjax.optimizers.blocks.acceptance import operator_at
from gdjax.optimizers.nonsmooth.admm_penalties import balanced, fixed
from gdjax.regularizers import Regularizer
from gdjax.types import (
    Answer,
    Curvature,
    Optimality,
    Params,
    PyTree,
    Scalar,
    ScalarLike,
    State,
    Status,
    Transformation,
)

__all__ = [
    "AdmmState",
    "GradientSteps",
    "NewtonStep",
    "admm",
    "balanced",
    "fixed",
    "gradient_steps",
    "newton_step",
]


class NewtonStep(NamedTuple):
    """One Newton step on the augmented objective; see `newton_step`."""

    curvature: Curvature
    tolerance: ScalarLike


def newton_step(curvature: Curvature = derivatives.hessian, *, tolerance: ScalarLike = 1e-6) -> NewtonStep:
    r"""The x-update by conjugate gradients on :math:`(\nabla^2 f + \rho A^T A)\, p = -\nabla f - \rho A^T (A x - v)`.

    Exact for a quadratic :math:`f` up to the tolerance; one step toward the minimizer for any other.

    Args:
      curvature: as in `gdjax.trust_region`; positive semidefinite, as `hessian` is for convex :math:`f`.
      tolerance: how much smaller the linear system's residual becomes.
    """
    checks.concrete("newton_step", above=0, tolerance=tolerance)
    return NewtonStep(Partial(derivatives.checked("newton_step", curvature)), tolerance)


class GradientSteps(NamedTuple):
    """Steps of another transformation on the augmented objective; see `gradient_steps`."""

    optimizer: optax.GradientTransformation
    steps: int


def gradient_steps(optimizer: optax.GradientTransformation, steps: int = 1) -> GradientSteps:
    r"""The x-update by a few steps of any transformation, which sees the augmented objective and its gradient.

    With one gradient step of rate t this is linearized ADMM.

    Args:
      optimizer: a gradient transformation without an ``answer`` of its own; its state outlives an x-update.
      steps: how many, at least 1; each is one evaluation.
    """
    checks.integer("gradient_steps", 1, steps=steps)
    return GradientSteps(checks.transformation(optimizer), trees.Count(steps))


class AdmmState(NamedTuple):
    r"""State of `admm`. Vectors are flat.

    Attributes:
      answer: the point that the user wants.
      optimality: :math:`\nabla f(x) + A^T y = 0`, :math:`y \in \partial g(z)` and :math:`z = A x`.
      split: :math:`z`.
      dual: :math:`u = y / \rho`.
      rho: :math:`\rho`.
      inner: the state of the transformation inside, or an empty tuple.
      sizes: :math:`\max_j \lVert \nabla f(x_j) \rVert` and the largest :math:`\lVert A x_j \rVert` and
        :math:`\lVert z_j \rVert`.
      count: updates made.
    """

    answer: Answer
    optimality: Optimality
    split: jax.Array
    dual: jax.Array
    rho: Scalar
    inner: State
    sizes: jax.Array
    count: Scalar


class _Settings(NamedTuple):
    regularizer: Any
    linear: Any
    x_update: Any
    rho: Any
    relaxation: Any
    balance: Any


def _conditions(split, value_fn, params, state):
    return split_point(split, state.rho * state.dual, value_fn, params)


def _linear(settings, params):
    """The map on flat vectors, its transpose, and the way back from its flat outputs."""
    x, back = trees.flat(params)
    if settings.linear is None:
        return (lambda v: v), (lambda v: v), back
    image, unflatten = Split(settings.regularizer, settings.linear).image(params)
    transpose = jax.linear_transpose(settings.linear, params)

    def forward(v):
        return image(back(v)).astype(x.dtype)

    return forward, lambda w: trees.flat(transpose(unflatten(w))[0])[0].astype(x.dtype), unflatten


def _init(settings, params):
    forward, _, _ = _linear(settings, params)
    x, _ = trees.flat(params)
    z = forward(x)
    inner = ()
    if isinstance(settings.x_update, GradientSteps):
        inner = trees.strong(settings.x_update.optimizer.init(params))
        if trees.own_answer(inner, params) is not None:
            raise ValueError("admm: the optimizer of gradient_steps judges trial points itself; take another")
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    optimality = trees.optimality(Split(settings.regularizer, settings.linear), _conditions, split_value)
    rho = jnp.asarray(settings.rho, x.dtype)
    sizes = jnp.zeros(2, unknown.dtype)
    return AdmmState(answer, optimality, z, jnp.zeros_like(z), rho, inner, sizes, jnp.int32(0))


def _residual(sizes, grad, dual_gap, reached, z):
    """The residual of the module's docstring, and the largest lengths so far."""
    lengths = jnp.stack([trees.norm(grad), jnp.maximum(trees.norm(reached), trees.norm(z))])
    sizes = jnp.fmax(sizes, jnp.where(jnp.isfinite(lengths), lengths, 0).astype(sizes.dtype))
    gap = trees.norm(reached - z).astype(sizes.dtype)
    # Where all lengths are zero so is the gap.
    primal = jnp.where(gap > 0, gap / jnp.where(sizes[1] > 0, sizes[1], 1) * sizes[0], 0)
    return jnp.maximum(trees.norm(dual_gap).astype(sizes.dtype), primal), sizes


def _split(settings, state, reached, before, unflatten):
    """The z- and u-updates, given the image of x."""
    relaxed = settings.relaxation * reached + (1 - settings.relaxation) * before
    z, _ = trees.flat(settings.regularizer.prox(unflatten(relaxed + state.dual), 1 / state.rho))
    z = z.astype(reached.dtype)
    return z, state.dual + relaxed - z


def _balance(settings, state, transpose, reached, z, before, u):
    """The next penalty, and the scaled multipliers that go with it."""
    tiny = jnp.finfo(z.dtype).tiny
    primal = trees.norm(reached - z) / jnp.maximum(jnp.maximum(trees.norm(reached), trees.norm(z)), tiny)
    dual = trees.norm(transpose(z - before)) / jnp.maximum(trees.norm(transpose(u)), tiny)
    rho = jnp.asarray(settings.balance(state.count, primal, dual, state.rho), z.dtype)
    rho = jnp.where(state.count > 0, rho, state.rho)
    return rho, u * (state.rho / rho)


def _next_x(settings, state, rho, v, maps, point, given):
    """The x-update from ``point = (x, grad)``."""
    (x, grad), (forward, transpose, unflatten) = point, maps
    _, back = trees.flat(given[0])
    params, value, extra = given
    rule = settings.x_update
    if isinstance(rule, NewtonStep):
        checks.require("admm", value_fn=extra.get("value_fn"))
        operator = operator_at("newton_step", rule.curvature, extra["value_fn"], params)
        right = -grad - rho * transpose(forward(x) - v)
        found = linalg.cg(
            lambda p: operator.product(p) + rho * transpose(forward(p)), right, tolerance=rule.tolerance
        )
        return x + found.solution, state.inner
    if isinstance(rule, GradientSteps):
        gap = forward(x) - v
        slope = back(grad + rho * transpose(gap))
        height = value + 0.5 * rho * jnp.sum(gap * gap)
        update = optax.with_extra_args_support(rule.optimizer).update
        extra = {**extra, "grad": slope}
        moves, inner = update(slope, state.inner, params, value=height.astype(value.dtype), **extra)
        return x + trees.flat(moves)[0], trees.keep_types(inner, state.inner)
    return trees.flat(rule(unflatten(v), rho, params))[0], state.inner


def _at_z(settings, updates, state, params, value):
    """One iteration where the x-update is a formula and A the identity: evaluated at z, which is the answer."""
    (z, back), (grad, _) = trees.flat(params), trees.flat(updates)
    f = value.astype(state.answer.value.dtype)
    slope = trees.norm(grad + state.rho * state.dual).astype(f.dtype)
    total = f + jnp.asarray(settings.regularizer.value(params)).astype(f.dtype)
    x, _ = trees.flat(settings.x_update(back(z - state.dual), state.rho, params))
    after, u = _split(settings, state, x, z, back)
    rho, dual = _balance(settings, state, lambda w: w, x, after, z, u)
    shown = jnp.where(jnp.isfinite(total), total, f)
    return (
        after,
        (shown, jnp.where(state.count == 0, jnp.inf, slope)),
        (after, dual, rho, state.inner, state.sizes),
    )


def _at_x(settings, updates, state, params, value, extra):
    """One update where :math:`x` itself is evaluated; z and u move when the x-update is done."""
    forward, transpose, unflatten = _linear(settings, params)
    (x, _), (grad, _) = trees.flat(params), trees.flat(updates)
    f = value.astype(state.answer.value.dtype)
    reached = forward(x)
    before = jnp.where(state.count == 0, reached, state.split)
    steps = settings.x_update.steps if isinstance(settings.x_update, GradientSteps) else 1
    due = state.count % steps == 0
    z, u = _split(settings, state, reached, before, unflatten)
    residual, sizes = _residual(state.sizes, grad, grad + state.rho * transpose(u), reached, z)
    here, there = (
        jnp.asarray(settings.regularizer.value(unflatten(w))).astype(f.dtype) for w in (reached, z)
    )
    total = f + jnp.where(jnp.isfinite(here), here, there)
    rho, dual = _balance(settings, state, transpose, reached, z, before, u)
    z, u, rho = trees.choose(due, (z, dual, rho), (before, state.dual, state.rho))
    after, inner = _next_x(
        settings, state, rho, z - u, (forward, transpose, unflatten), (x, grad), (params, value, extra)
    )
    shown = trees.choose(due, (total, residual), (state.answer.value, state.answer.residual))
    return after, shown, (z, u, rho, inner, sizes), due


def _update(settings, updates, state, params: Any = None, *, value: Any = None, **extra):
    checks.require("admm", params=params, value=value)
    value = jnp.asarray(value)
    rule = settings.x_update
    if settings.linear is None and not isinstance(rule, NewtonStep | GradientSteps):
        target, (total, residual), carried = _at_z(settings, updates, state, params, value)
        due = jnp.asarray(True)
    else:
        target, (total, residual), carried, due = _at_x(settings, updates, state, params, value, extra)
    (x, back), sound = trees.flat(params), jnp.all(jnp.isfinite(target)) & jnp.all(jnp.isfinite(carried[1]))
    good = (jnp.isfinite(value) & jnp.isfinite(residual)) | (state.count == 0)
    status = jnp.where(sound & good, Status.RUNNING, Status.NONFINITE).astype(jnp.int8)
    residual = jnp.where(jnp.isnan(residual), jnp.inf, residual)
    answer = trees.choose(due & good, Answer(params, total, residual, status), state.answer)
    new = AdmmState(answer._replace(status=status), state.optimality, *carried, state.count + 1)
    return back(landing(x, jnp.where(sound, target, x))), trees.keep_types(new, state)


def admm(
    regularizer: Regularizer,
    *,
    linear: Callable[[Params], PyTree] | None = None,
    x_update: NewtonStep | GradientSteps | Callable[..., Params] | None = None,
    rho: ScalarLike = 1.0,
    relaxation: ScalarLike = 1.6,
    balance: Callable[..., Scalar] | None = None,
) -> Transformation:
    r"""ADMM for :math:`\min f(x) + g(A x)`, where the objective of the run is :math:`f`.

    The value of the answer is :math:`f(x) + g(A x)`; where that is infinite, because :math:`A x` is on a
    constraint only in the limit, it is :math:`f(x) + g(z)`. Where :math:`A` is the identity and the x-update a
    formula, the answer is :math:`z` (sparse, feasible) and everything is evaluated there. One evaluation an
    update.

    | x_update | costs an update | choose it |
    |---|---|---|
    | `newton_step` | products with the Hessian | by default |
    | a formula ``(v, rho, params) -> params`` | what it costs | the x-update with :math:`v = z - u` is known |
    | `gradient_steps` | a few evaluations | the Hessian is out of reach |

    All are in `gdjax.optimizers.nonsmooth.admm`. With `gdjax.regularizers.agreement` it is consensus ADMM.

    Args:
      regularizer: :math:`g`, from `gdjax.regularizers`.
      linear: :math:`A`, a linear function of params; by default the identity.
      x_update: see above; :math:`v` has the structure of :math:`A x`.
      rho: the first :math:`\rho > 0`.
      relaxation: :math:`\alpha` in (0, 2).
      balance: ``(count, primal, dual, rho) -> rho``: `balanced` by default, or `fixed`.

    Reference:
      Boyd, Parikh, Chu, Peleato, Eckstein, Distributed optimization and statistical learning via ADMM, Found.
      Trends Mach. Learn. 3(1), 2011, sections 3.1, 3.3, 3.4 and 7; Eckstein, Bertsekas, On the
      Douglas-Rachford splitting method, Math. Program. 55, 1992 (over-relaxation).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> steps = gdjax.regularizers.l1(1.0)  # of the signal's differences: total variation
      >>> f = lambda x: 0.5 * jnp.sum((x - jnp.array([0.0, 0.0, 9.0, 9.0])) ** 2)
      >>> run = gdjax.minimize(f, jnp.zeros(4), gdjax.admm(steps, linear=jnp.diff))
      >>> [round(float(x), 3) for x in run.params]
      [0.5, 0.5, 8.5, 8.5]
    """
    if not isinstance(regularizer, Regularizer):
        raise TypeError(f"admm takes a Regularizer, got {arguments.named(regularizer)}")
    checks.concrete("admm", above=0, rho=rho)
    checks.concrete("admm", above=0, below=2, relaxation=relaxation)
    checks.function("admm", "params", "such as jnp.diff", True, linear=linear)
    checks.function("admm", "count, primal, dual, rho", "such as balanced()", True, balance=balance)
    rule, balance = x_update or newton_step(), balance or balanced()
    return trees.with_settings(_init, _update, _Settings(regularizer, linear, rule, rho, relaxation, balance))
