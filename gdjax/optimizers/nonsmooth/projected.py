r"""Methods that stay in a set :math:`C` by projecting onto it: any optimizer's step, or a spectral gradient's.

.. math:: x_{k+1} = P_C(x_k + u_k), \qquad P_C(x) = \arg\min_{z \in C} \lVert z - x \rVert

A point is stationary where :math:`x = P_C(x - t \nabla f(x))`, and measured by :math:`\lVert x - P_C(x - t \nabla
f(x)) \rVert / t` with a :math:`t` at which the gradient's step is a hundredth of the point: in whatever units, and
however near the boundary.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks, trees
from gdjax._internal.termination import Progress, ended, fell
from gdjax._internal.trees import flat, length
from gdjax.linalg.boxes import NEAR
from gdjax.linalg.vectors import landing
from gdjax.objectives.implicit import fixed_point
from gdjax.projections import numbers
from gdjax.types import Answer, Optimality, Projection, Scalar, ScalarLike, State, Status, Transformation

__all__ = ["ProjectedState", "SpectralState", "projected", "spectral_projected_gradient"]

_ROUNDING = 10
"""Rounding of values and gradients, in units of eps times their size."""
_PATIENCE = 12
"""Steps at the level of rounding before a method says so."""
_SUFFICIENT = 1e-4
"""Sufficient decrease: gamma of Birgin, Martínez, Raydan (2000)."""
_LONGEST, _SHORTEST = 1e10, 1e-10
"""The range of step lengths, in units of the first."""


def _near(x, grad):
    """A gradient step as long as what is near a bound (`gdjax.linalg.boxes.NEAR`), and what its length was times."""
    size, steep = (jnp.max(jnp.abs(v), initial=0) for v in (x, grad))
    known = (size > 0) & (steep > 0) & jnp.isfinite(steep)
    size, steep = jnp.where(known, NEAR * size, 1), jnp.where(known, steep, 1)
    return size * (grad / steep), steep / size


def _conditions(projection, value_fn, params, state):
    del state
    return fixed_point(projection, 1, value_fn, params)


class _Projected(NamedTuple):
    optimizer: optax.GradientTransformation
    projection: Projection


class ProjectedState(NamedTuple):
    """State of `projected`.

    Attributes:
      answer: the point that was given.
      optimality: it is the projection of a gradient step from it.
      inner: the optimizer's state.
      before: that state before its last update, for a point that is shown again on new data.
      still: whether the pending trial is the answer itself.
      count: updates made.
    """

    answer: Answer
    optimality: Optimality
    inner: State
    before: State
    still: Scalar
    count: Scalar


def _projected_init(settings, params):
    state = trees.strong(settings.optimizer.init(params))
    if trees.own_answer(state, params) is not None:
        raise ValueError(
            "projected: the optimizer judges trial points itself, and a projection would change them behind its "
            "back; use spectral_projected_gradient, proximal_gradient or lbfgsb"
        )
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    optimality = trees.optimality(settings.projection, _conditions)
    return ProjectedState(answer, optimality, state, state, jnp.asarray(False), jnp.int32(0))


def _projected_update(settings, updates, state, params: Any = None, *, value: Any = None, **extra):
    checks.require("projected", params=params, value=value)
    again = (state.count > 0) & trees.all_equal(params, state.answer.params) & ~state.still
    memory = trees.choose(again, state.before, state.inner)
    projection, update = settings.projection, optax.with_extra_args_support(settings.optimizer).update
    moves, after = update(updates, memory, params, value=value, **extra)
    (x, back), (grad, _) = flat(params), flat(updates)
    target, _ = flat(numbers.nearest("projected", projection, optax.apply_updates(params, moves)))
    sound = jnp.all(jnp.isfinite(target))
    target = jnp.where(sound, target, x)
    short, times = _near(x, grad)
    nearest, _ = flat(projection(back(x - short)))
    wide = state.answer.value.dtype
    status = jnp.where(sound, Status.RUNNING, Status.NONFINITE).astype(jnp.int8)
    good = (state.count == 0) | (jnp.isfinite(value) & jnp.all(jnp.isfinite(grad)))
    here = Answer(params, jnp.asarray(value, wide), (times * length(x - nearest)).astype(wide), status)
    lost = state.answer._replace(status=jnp.int8(Status.NONFINITE))
    after = trees.keep_types(after, state.inner)
    answer, still = trees.choose(good, here, lost), jnp.all(target == x)
    new = ProjectedState(answer, state.optimality, after, memory, still, state.count + 1)
    return back(landing(x, target)), trees.keep_types(new, state)


def projected(optimizer: optax.GradientTransformation, projection: Projection) -> Transformation:
    r"""Makes an optimizer feasible: :math:`x_{k+1} = P_C(x_k + u_k)` with its updates :math:`u_k`.

    Every point but the start is in the set up to rounding, and the *rounded* sum of params and update is the
    projected point itself wherever such an update exists. The residual is the projected gradient's,
    :math:`\lVert x - P_C(x - t \nabla f(x)) \rVert / t` at :math:`t = \lVert x \rVert / 100 \lVert \nabla f(x) \rVert`.
    A step costs two projections.

    A gradient step is projected gradient descent; with momentum or Adam the limit may fail to be stationary
    where the set is not a box. With mini-batches each point is seen on two of them.

    Args:
      optimizer: a gradient transformation of optax or gdjax that keeps no ``answer`` of its own.
      projection: ``params -> params``, from `gdjax.projections`, its numbers bound by
        `jax.tree_util.Partial`.

    Raises:
      ValueError: when ``init`` meets an optimizer that judges trial points itself.

    Reference:
      Goldstein, Convex programming in Hilbert space, Bull. Amer. Math. Soc. 70, 1964; Levitin, Polyak,
      Constrained minimization methods, USSR Comput. Math. Math. Phys. 6(5), 1966, section 5.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.projected(gdjax.gradient_descent(0.5), gdjax.projections.non_negative)
      >>> run = gdjax.minimize(lambda x: jnp.sum((x - jnp.array([1.0, -1.0])) ** 2), jnp.ones(2), method)
      >>> run.params, gdjax.Status(int(run.status)).name
      (Array([1., 0.], dtype=float32), 'CONVERGED')
    """
    numbers.projection("projected", projection=projection)
    settings = _Projected(checks.transformation(optimizer), projection)
    return trees.with_settings(_projected_init, _projected_update, settings)


class _Spectral(NamedTuple):
    projection: Projection
    first_step: Any
    memory: trees.Count


class SpectralState(NamedTuple):
    r"""State of `spectral_projected_gradient`. Vectors are flat.

    Attributes:
      answer: :math:`x_k`.
      optimality: it is the projection of a gradient step from it.
      grad: the gradient there.
      direction: :math:`d_k`, from it to a projected point.
      values: the last values, shape ``(memory,)``.
      rate: :math:`\alpha_k`, the spectral step length.
      first: the first of them.
      along: :math:`\lambda` of the pending trial.
      count: updates made.
      failures: trials rejected in a row.
      progress: that of the residual.
    """

    answer: Answer
    optimality: Optimality
    grad: jax.Array
    direction: jax.Array
    values: jax.Array
    rate: Scalar
    first: Scalar
    along: Scalar
    count: Scalar
    failures: Scalar
    progress: Progress


def _spectral_init(settings, params):
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    one, none, zero = jnp.ones((), x.dtype), jnp.int32(0), jnp.zeros_like(x)
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    values = jnp.full((int(settings.memory),), -jnp.inf, unknown.dtype)
    optimality = trees.optimality(settings.projection, _conditions)
    return SpectralState(
        answer, optimality, zero, zero, values, one, one, one, none, none, Progress(none, unknown)
    )


class _Acceptance(NamedTuple):
    step: jax.Array
    fresh: Scalar
    accept: Scalar
    finite: Scalar
    shorter: Scalar


def _test(state, x, base, f, grad, eps):
    """Armijo's test against the highest of the last values; a shorter share of the way where it fails."""
    step = x - base
    fresh = (state.count <= 1) | jnp.all(step == 0)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    slope = jnp.sum(state.grad * step).astype(f.dtype)
    noise = _ROUNDING * eps * jnp.abs(state.answer.value)
    accept = fresh | (finite & (f <= jnp.max(state.values) + _SUFFICIENT * slope + noise))
    share = (-0.5 * slope / (f - state.answer.value - slope)).astype(x.dtype)
    usual = finite & (share >= 0.1) & (share <= 0.9)
    shorter = jnp.where(usual, share, jnp.where(finite, 0.5, 0.1)) * state.along
    return _Acceptance(step, fresh, accept, finite, shorter)


def _step_length(state, given, tested, x, grad):
    """Barzilai and Borwein's first, within a range of the start's."""
    size, far = length(grad), length(x)
    now = jnp.maximum(1, far) / jnp.where(size > 0, size, 1)
    guess = now if given is None else jnp.asarray(given, now.dtype)
    first = jnp.where(state.count <= 1, guess, state.first)
    s, curved = tested.step, jnp.sum(tested.step * (grad - state.grad))
    spectral = jnp.where(curved > 0, jnp.sum(s * s) / jnp.where(curved > 0, curved, 1), jnp.inf)
    # Where gradients fall by more than the range allows for, by what the first step would be from here.
    spectral = jnp.clip(spectral, _SHORTEST * jnp.minimum(first, now), _LONGEST * jnp.maximum(first, now))
    learnt = tested.accept & ~tested.fresh
    return jnp.where(state.count <= 1, first, jnp.where(learnt, spectral, state.rate)), first


def _spectral_status(state, tested, residual, value, size, failures, sound):
    """The termination status, and the progress that it comes from."""
    eps = jnp.finfo(size.dtype).eps
    below_noise = jnp.isfinite(residual) & (residual <= _ROUNDING * eps * size)
    progress = state.progress.after(residual, below_noise)
    # After so many halvings in a row, and twice as many, a step no longer moves the point.
    dead = (failures >= 2 * jnp.finfo(size.dtype).nmant) | ~sound
    worn = progress.idle >= _PATIENCE
    status = ended(dead | worn, below_noise | worn, tested.finite & sound)
    status = jnp.where(fell(value, size.dtype), jnp.int8(Status.UNBOUNDED), status)
    # A base without a gradient: nothing leads away from it.
    return jnp.where(tested.accept & ~tested.finite, jnp.int8(Status.NONFINITE), status), progress


def _spectral_update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("spectral_projected_gradient", params=params, value=value)
    projection, given, _ = settings
    (x, back), (grad, _), (base, _) = flat(params), flat(updates), flat(state.answer.params)
    value = jnp.asarray(value)
    f = value.astype(state.answer.value.dtype)

    # The nonmonotone acceptance test.
    tested = _test(state, x, base, f, grad, float(jnp.finfo(value.dtype).eps))
    accept = tested.accept

    def now(new, old):
        return jnp.where(accept, new, old)

    here, slope, best = now(x, base), now(grad, state.grad), now(f, state.answer.value)
    values = jnp.roll(state.values, 1).at[0].set(f)
    values = jnp.where(tested.fresh, jnp.full_like(values, -jnp.inf).at[0].set(f), values)

    # The projected step of the spectral length.
    rate, first = _step_length(state, given, tested, x, grad)
    start = state.count == 0  # the first move is onto the set
    point = back(jnp.where(start, here, here - rate * slope))
    target, _ = flat(numbers.nearest("spectral_projected_gradient", projection, point))
    sound = jnp.all(jnp.isfinite(target))
    target = jnp.where(sound, target, here)
    mapped = jnp.maximum(length(target - here) / rate, _near(here, slope)[1] * length(target - here))
    mapped = jnp.where(sound & ~start, mapped, jnp.inf).astype(f.dtype)
    residual = now(mapped, state.answer.residual)

    # The next trial: all of it, or less of the one that was rejected.
    direction = now(target - here, state.direction)
    along = now(jnp.ones_like(rate), tested.shorter)
    trial = jnp.where(accept, target, base + along * direction)

    failures = jnp.where(accept, 0, state.failures + 1)
    size = length(slope) + length(here) / rate
    status, progress = _spectral_status(state, tested, residual, best, size, failures, sound)
    new = SpectralState(
        answer=Answer(back(here), best, residual, status),
        optimality=state.optimality,
        grad=slope,
        direction=direction,
        values=now(values, state.values),
        rate=rate,
        first=first,
        along=along,
        count=state.count + 1,
        failures=failures,
        progress=progress,
    )
    return back(landing(x, trial)), trees.keep_types(new, state)


def spectral_projected_gradient(
    projection: Projection, *, first_step: ScalarLike | None = None, memory: int = 10
) -> Transformation:
    r"""Projected gradients with Barzilai and Borwein's step length and values that may rise for a while.

    .. math:: d_k = P_C(x_k - \alpha_k g_k) - x_k, \qquad x_{k+1} = x_k + \lambda_k d_k, \qquad
        \alpha_{k+1} = \frac{s_k^T s_k}{s_k^T y_k}

    with :math:`f(x_{k+1}) \le \max_{j < m} f(x_{k-j}) + 10^{-4} \lambda_k g_k^T d_k`. The search goes along a
    segment of the set, so a rejected trial needs no projection of its own. Flat: one evaluation and one
    projection an update; the first projects the start. The residual is the projected gradient at a step of a
    hundredth of the point, or an upper bound of it.

    Choose it where projecting is cheap and the gradient's scale unknown: simplices, balls, boxes, the cone of
    positive semidefinite matrices.

    Args:
      projection: ``params -> params``, from `gdjax.projections`, its numbers bound by
        `jax.tree_util.Partial`.
      first_step: :math:`\alpha_0 > 0`; by default the one that moves about as far as the point's size.
      memory: :math:`m`, how many values a trial is compared with; 1 lets no value rise.

    Reference:
      Birgin, Martínez, Raydan, Nonmonotone spectral projected gradient methods on convex sets, SIAM J. Optim.
      10, 2000, algorithm 2.2 (SPG2).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.spectral_projected_gradient(gdjax.projections.simplex)
      >>> f = lambda x: jnp.sum((x - jnp.array([0.9, 0.5, -1.0])) ** 2)
      >>> [round(float(x), 4) for x in gdjax.minimize(f, jnp.zeros(3), method).params]
      [0.7, 0.3, 0.0]
    """
    numbers.projection("spectral_projected_gradient", projection=projection)
    checks.optional("spectral_projected_gradient", above=0, first_step=first_step)
    checks.integer("spectral_projected_gradient", 1, memory=memory)
    settings = _Spectral(projection, first_step, trees.Count(memory))
    return trees.with_settings(_spectral_init, _spectral_update, settings)
