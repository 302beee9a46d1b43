r"""Mirror descent: gradient steps taken where another geometry is flat.

.. math:: x_{k+1} = (\nabla \varphi)^{-1}\bigl(\nabla \varphi(x_k) - \eta_k g_k\bigr)
    = \arg\min_x \; \eta_k g_k^T x + D_\varphi(x, x_k)

with the Bregman distance :math:`D_\varphi` of a strictly convex :math:`\varphi`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments, checks, trees
from gdjax._internal.trees import flat
from gdjax.linalg.boxes import NEAR
from gdjax.linalg.vectors import landing
from gdjax.types import Answer, Optimality, Scalar, ScalarLike, ScalarOrSchedule, Status, Transformation

__all__ = [
    "Bregman",
    "MirrorState",
    "euclidean",
    "mirror_descent",
    "orthant_entropy",
    "power_norm",
    "simplex_entropy",
]


class Bregman(NamedTuple):
    r"""A geometry. All functions act on one flat vector.

    Attributes:
      grad: :math:`x \mapsto \nabla \varphi(x)`.
      inverse: :math:`z \mapsto x` with :math:`\nabla \varphi(x) = z` up to what the constraint adds.
      residual: ``(x, g) -> scalar``, zero at stationary points of the set and there only; seen in units of the params
        in which the largest that they have had is one, so that it may compare coordinates with one.
      conditions: ``(x, g) -> vector``, zero at stationary points and smooth about them, which derivatives of
        answers go through; by default how far a mirror step goes.
    """

    grad: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]
    residual: Callable[[jax.Array, jax.Array], Scalar]
    conditions: Callable[[jax.Array, jax.Array], jax.Array] | None = None


def _norm_of_grad(x, g):
    del x
    return jnp.sqrt(jnp.sum(g * g))


def _gradient(x, g):
    del x
    return g


def _same(x):
    return x


def euclidean() -> Bregman:
    r""":math:`\varphi(x) = \tfrac12 \lVert x \rVert^2`: gradient descent.

    Example:
      >>> euclidean().inverse(3.0)
      3.0
    """
    return Bregman(Partial(_same), Partial(_same), Partial(_norm_of_grad), Partial(_gradient))


def _log(x):
    """Constant where x is zero, as the coordinate itself is there."""
    inside = x >= jnp.finfo(x.dtype).tiny
    return jnp.where(inside, jnp.log(jnp.where(inside, x, 1)), -jnp.inf)


def _softmax(total, z):
    return total * jax.nn.softmax(z)


def _simplex_gap(x, g):
    return jnp.sum(x * (g - jnp.min(g)))


def simplex_entropy(total: ScalarLike = 1.0) -> Bregman:
    r""":math:`\varphi(x) = \sum_i x_i \log x_i` on the simplex :math:`\{x \ge 0, \sum x = c\}`: exponentiated gradient.

    .. math:: x_{k+1} \propto x_k\, e^{-\eta g_k}

    The residual is the gap :math:`g^T x - c \min_i g_i` over the largest coordinate so far. Coordinates that are zero
    stay zero: start inside.

    Args:
      total: :math:`c > 0`.

    Reference:
      Kivinen, Warmuth, Exponentiated gradient versus gradient descent for linear predictors, Inform. Comput.
      132, 1997, section 4.

    Example:
      >>> import jax.numpy as jnp
      >>> simplex_entropy(2.0).inverse(jnp.zeros(2)).tolist()
      [1.0, 1.0]
    """
    checks.concrete("simplex_entropy", above=0, total=total)
    return Bregman(Partial(_log), Partial(_softmax, total), Partial(_simplex_gap))


def _orthant_gap(x, g):
    held = jnp.where(g > 0, g * jnp.minimum(x / NEAR, 1), g)
    return jnp.sqrt(jnp.sum(held * held))


def orthant_entropy() -> Bregman:
    r""":math:`\varphi(x) = \sum_i x_i \log x_i - x_i` on :math:`x \ge 0`: multiplicative updates.

    The residual is the norm of the gradient, which counts where it is positive as far as there is room to zero:
    :math:`g_i \min(1, 100\, x_i)` with x in units of its size. Coordinates that are zero stay zero: start inside.

    Reference:
      Kivinen, Warmuth (1997), section 3, unnormalized.

    Example:
      >>> import jax.numpy as jnp
      >>> float(orthant_entropy().inverse(jnp.log(jnp.array([2.0])))[0])
      2.0
    """
    return Bregman(Partial(_log), Partial(jnp.exp), Partial(_orthant_gap))


def _power(power, x):
    size = jnp.max(jnp.abs(x))
    unit = jnp.abs(x) / jnp.where(size > 0, size, 1)
    norm = jnp.sum(unit**power) ** (1 / power)
    return size * jnp.sign(x) * unit ** (power - 1) * jnp.where(norm > 0, norm, 1) ** (2 - power)


def power_norm(power: ScalarLike = 1.5) -> Bregman:
    r""":math:`\varphi(x) = \tfrac12 \lVert x \rVert_p^2`, whose inverse is the same with :math:`q = p / (p - 1)`.

    Args:
      power: :math:`p` in (1, 2]; near 1 it suits sparse solutions in many dimensions.

    Reference:
      Beck, Teboulle, Mirror descent and nonlinear projected subgradient methods, Oper. Res. Lett. 31, 2003;
      Gentile, The robustness of the p-norm algorithms, Mach. Learn. 53, 2003, equation (1).

    Example:
      >>> import jax.numpy as jnp
      >>> geometry = power_norm(1.5)
      >>> bool(jnp.allclose(geometry.inverse(geometry.grad(jnp.array([1.0, -2.0]))), jnp.array([1.0, -2.0])))
      True
    """
    checks.concrete("power_norm", above=1, high=2, power=power)
    back = Partial(_power, power / (power - 1))
    return Bregman(Partial(_power, power), back, Partial(_norm_of_grad), Partial(_gradient))


class MirrorState(NamedTuple):
    """State of `mirror_descent`.

    Attributes:
      answer: the point that was given.
      optimality: a mirror step from it leads nowhere.
      steps: steps taken, what a schedule sees.
      count: updates made.
      still: whether the pending trial is the answer itself.
      size: the largest entry that the params have had.
    """

    answer: Answer
    optimality: Optimality
    steps: Scalar
    count: Scalar
    still: Scalar
    size: Scalar


class _Settings(NamedTuple):
    learning_rate: ScalarOrSchedule
    bregman: Bregman


def _conditions(bregman, value_fn, params, state):
    del state
    unit = jax.lax.stop_gradient(jnp.maximum(1, jnp.max(jnp.abs(flat(params)[0]))))

    def equations(unknowns):
        x, g = flat(unknowns[0])[0], flat(jax.grad(value_fn)(unknowns[0]))[0]
        if bregman.conditions is not None:
            return (bregman.conditions(x, g),)
        return ((x - bregman.inverse(bregman.grad(x) - g)) / unit,)

    return (params,), equations


def _init(settings, params):
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    answer = Answer(params, unknown, unknown, jnp.int8(Status.RUNNING))
    optimality, size = trees.optimality(settings.bregman, _conditions), jnp.zeros((), x.dtype)
    return MirrorState(answer, optimality, jnp.int32(0), jnp.int32(0), jnp.asarray(False), size)


def _update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("mirror_descent", params=params, value=value)
    learning_rate, bregman = settings
    (x, back), (grad, _), (base, _) = flat(params), flat(updates), flat(state.answer.params)
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    again = (state.count > 0) & jnp.all(x == base) & ~state.still
    steps = jnp.where(again | (state.count == 0), state.steps, state.steps + 1)
    rate = learning_rate(steps) if callable(learning_rate) else learning_rate
    good = (state.count == 0) | (jnp.isfinite(f) & jnp.all(jnp.isfinite(grad)))
    trial = bregman.inverse(bregman.grad(x) - jnp.asarray(rate, x.dtype) * grad).astype(x.dtype)
    sound = good & jnp.all(jnp.isfinite(trial))
    trial = jnp.where(sound, trial, jnp.where(good, x, base))
    status = jnp.where(sound, Status.RUNNING, Status.NONFINITE).astype(jnp.int8)
    size = jnp.where(good, jnp.maximum(state.size, jnp.max(jnp.abs(x), initial=0)), state.size)
    unit = jnp.where(size > 0, size, 1)
    residual = (bregman.residual(x / unit, grad * unit) / unit).astype(f.dtype)
    residual = jnp.where(jnp.isnan(residual), jnp.inf, residual)
    answer = trees.choose(good, Answer(params, f, residual, status), state.answer._replace(status=status))
    new = MirrorState(answer, state.optimality, steps, state.count + 1, jnp.all(trial == x), size)
    return back(landing(x, trial)), trees.keep_types(new, state)


def mirror_descent(learning_rate: ScalarOrSchedule, bregman: Bregman) -> Transformation:
    r"""Mirror descent in the geometry of a Bregman distance.

    Converges for :math:`\eta \le 1 / L` where :math:`L \varphi - f` is convex, stochastic gradients with falling
    :math:`\eta`. With the entropy of a simplex of n coordinates the error grows with :math:`\log n` and not
    with n.

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule of the steps taken.
      bregman: `simplex_entropy`, `orthant_entropy`, `power_norm` or `euclidean` of
        `gdjax.optimizers.nonsmooth.mirror`, or any other triple of functions.

    Reference:
      Nemirovski, Yudin, Problem Complexity and Method Efficiency in Optimization, 1983; Beck, Teboulle, Mirror
      descent and nonlinear projected subgradient methods for convex optimization, Oper. Res. Lett. 31, 2003,
      equations (3.9) to (3.11) and section 5.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> from gdjax.optimizers.nonsmooth.mirror import simplex_entropy
      >>> cost = jnp.array([3.0, 1.0, 2.0])
      >>> f = lambda x: jnp.sum(cost * x)
      >>> run = gdjax.minimize(f, jnp.full(3, 1 / 3), gdjax.mirror_descent(1.0, simplex_entropy()))
      >>> [round(float(x), 4) for x in run.params]
      [0.0, 1.0, 0.0]
    """
    checks.rate("mirror_descent", learning_rate=learning_rate)
    if not isinstance(bregman, Bregman):
        raise TypeError(
            f"mirror_descent: bregman must be a Bregman such as simplex_entropy(), got {arguments.named(bregman)}"
        )
    return trees.with_settings(_init, _update, _Settings(learning_rate, bregman))
