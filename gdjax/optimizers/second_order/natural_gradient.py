r"""Natural gradient: the steepest direction where distance is measured between distributions.

.. math:: d_t = -(F_t + \lambda I)^{-1} g_t

with the Fisher matrix :math:`F_t` of the model's outputs at the current parameters, by any curvature of
`gdjax.derivatives`, solved for by any of `dense`, `conjugate_gradients`, `sample_space`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdjax._internal import checks
from gdjax.objectives import derivatives, differentiability
from gdjax.objectives.derivatives import gauss_newton
from gdjax.optimizers.blocks.damping import Levenberg, reduction_ratio, sound_damping
from gdjax.types import Curvature, Operator, Params, Scalar, ScalarLike, ScalarOrSchedule, Transformation

__all__ = [
    "NaturalState",
    "conjugate_gradients",
    "dense",
    "natural_gradient",
    "sample_space",
]

Solver = Callable[[Operator, jax.Array, Callable[[jax.Array], Params], Scalar], jax.Array]
"""``(operator, right, unravel, damping) -> (F + damping I)^-1 right``, on raveled vectors."""


def _product(operator: Operator, unravel: Callable[[jax.Array], Params]) -> Callable[[jax.Array], jax.Array]:
    return lambda vector: ravel_pytree(operator.product(unravel(vector)))[0]


def dense(
    operator: Operator, right: jax.Array, unravel: Callable[[jax.Array], Params], damping: Scalar
) -> jax.Array:
    """Solves with the n x n matrix by Cholesky: n^3 / 3 operations, n^2 memory, for n up to thousands."""
    del unravel
    matrix = operator.dense()
    rounding = 4 * right.size * jnp.finfo(right.dtype).eps * jnp.max(jnp.abs(jnp.diagonal(matrix)))
    shifted = matrix + (damping + rounding) * jnp.eye(right.size, dtype=right.dtype)
    return jax.scipy.linalg.solve(shifted, right, assume_a="pos")


def conjugate_gradients(max_products: int = 50, tolerance: ScalarLike = 1e-5) -> Solver:
    """Solves by at most ``max_products`` products with the matrix: O(n) memory, for any n.

    Args:
      max_products: a Python integer, at least 1.
      tolerance: on the residual relative to the right-hand side.
    """
    checks.integer("conjugate_gradients", 1, max_products=max_products)
    checks.concrete("conjugate_gradients", above=0, tolerance=tolerance)

    tol: Any = tolerance  # a number, as JAX names it; a tracer too

    def solve(operator, right, unravel, damping):
        product = _product(operator, unravel)
        return jax.scipy.sparse.linalg.cg(
            lambda v: product(v) + damping * v, right, tol=tol, maxiter=max_products
        )[0]

    return solve


def sample_space(
    operator: Operator, right: jax.Array, unravel: Callable[[jax.Array], Params], damping: Scalar
) -> jax.Array:
    r"""Solves through the Gram matrix of the outputs: N^3 + N^2 n, for fewer outputs N than parameters n.

    With :math:`F = J^T M J` and :math:`K = J J^T`, Woodbury's identity gives

    .. math::
       (J^T M J + \lambda I)^{-1} v = \tfrac1\lambda \left( v - J^T (\lambda I + M K)^{-1} M J v \right),

    so ``damping`` must be positive. This is minSR, and with momentum SPRING.

    Reference:
      Chen, Heyl, Empowering deep neural quantum states through efficient optimization, Nature Physics 20,
      2024, eq. (10); Goldshlager, Abrahamsen, Lin, A Kaczmarz-inspired approach to accelerate the
      optimization of neural network wavefunctions, J. Comput. Phys. 516, 2024.
    """
    del unravel
    if operator.factors is None:
        raise TypeError(
            "sample_space needs a curvature of the form J^T M J: gauss_newton or fisher of a Composite "
            "without penalty (weight decay can be chained: optax.add_decayed_weights)"
        )
    jacobian, metric = operator.factors()
    gram = metric @ (jacobian @ jacobian.T) + damping * jnp.eye(metric.shape[0], dtype=right.dtype)
    inner = jnp.linalg.solve(gram, metric @ (jacobian @ right))
    return (right - jacobian.T @ inner) / damping


class NaturalState(NamedTuple):
    """The last direction, and what the model predicted along it."""

    count: Scalar
    damping: Scalar
    direction: jax.Array
    slope: Scalar
    curvature_along: Scalar
    value: Scalar
    origin: jax.Array


def _ratio(state: NaturalState, x: jax.Array, value: Scalar) -> Scalar:
    """The change in the objective over the model's, for the part of the direction that was taken."""
    d = state.direction
    along = jnp.dot(x - state.origin, d) / jnp.maximum(jnp.dot(d, d), jnp.finfo(d.dtype).tiny)
    predicted = along * state.slope + 0.5 * along**2 * state.curvature_along
    return reduction_ratio(value - state.value, predicted)


def natural_gradient(
    learning_rate: ScalarOrSchedule = 1.0,
    damping: ScalarLike | Levenberg = 1e-3,
    momentum: ScalarLike = 0.0,
    *,
    curvature: Curvature = gauss_newton,
    solve: Solver = dense,
) -> Transformation:
    r"""Natural gradient descent.

    .. math:: d_t = \mu\, d_{t-1} - (F_t + \lambda I)^{-1} (g_t + \mu F_t d_{t-1}), \qquad
       x_{t+1} = x_t + \eta\, d_t,

    which is :math:`-(F_t + \lambda I)^{-1} g_t` without momentum: the minimizer of the quadratic model
    :math:`g_t^T d + \tfrac12 d^T F_t d + \tfrac\lambda2 \lVert d - \mu d_{t-1} \rVert^2`. Without damping
    the path does not depend on how the model is parametrized, up to the length of the steps.

    Cost a step: one evaluation, and what ``solve`` takes. It takes every step that it proposes; for
    steps that are judged first, use `trust_region` or `levenberg_marquardt` with the same curvature.
    Choose it for models whose outputs are distributions.

    Args:
      learning_rate: :math:`\eta`, a number or a schedule.
      damping: :math:`\lambda > 0`, or `gdjax.damping.Levenberg` to let it adapt (for objectives without
        mini-batches, where two values in a row compare).
      momentum: :math:`\mu` in [0, 1).
      curvature: F as a function of objective and params; by default the Gauss-Newton matrix, which is
        the Fisher matrix for exponential families in natural parameters. See `gdjax.derivatives`.
      solve: `dense`, ``conjugate_gradients(...)`` or `sample_space`.

    Raises:
      TypeError: in ``update``, without ``value_fn`` or with one that ``curvature`` cannot see inside.

    Reference:
      Amari, Natural gradient works efficiently in learning, Neural Computation 10(2), 1998; with momentum
      Goldshlager, Abrahamsen, Lin, J. Comput. Phys. 516, 2024.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> x, y = jnp.array([[-1.0], [0.5], [2.0]]), jnp.array([0, 1, 0])
      >>> objective = gdjax.objectives.supervised(
      ...     lambda w, x: x[:, 0] * w[0] + w[1], gdjax.distributions.bernoulli.loss, (x, y))
      >>> run = gdjax.minimize(objective, jnp.zeros(2), gdjax.natural_gradient(damping=1e-6))
      >>> int(run.steps) < 10
      True
    """
    checks.rate("natural_gradient", learning_rate=learning_rate)
    sound_damping("natural_gradient", damping)
    checks.concrete("natural_gradient", low=0, below=1, momentum=momentum)
    derivatives.checked("natural_gradient", curvature)
    checks.function(
        "natural_gradient", "operator, right, unravel, damping", "such as dense of its module", solve=solve
    )
    adaptive = isinstance(damping, Levenberg)

    def init(params):
        x, _ = ravel_pytree(params)
        zero = jnp.zeros((), x.dtype)
        first = jnp.asarray(damping.initial if isinstance(damping, Levenberg) else damping, x.dtype)
        origin = x if adaptive else zero
        return NaturalState(jnp.int32(0), first, jnp.zeros_like(x), zero, zero, zero, origin)

    def update(updates, state, params=None, *, value: Any = None, value_fn: Any = None, **extra):
        del extra
        checks.require("natural_gradient", params=params, value_fn=value_fn)
        g, unravel = ravel_pytree(updates)
        x, _ = ravel_pytree(params)
        level = state.damping if adaptive else jnp.asarray(damping, x.dtype)
        if isinstance(damping, Levenberg):
            checks.require("natural_gradient with Levenberg damping", value=value)
            ratio = jnp.where(state.count == 0, 0.5, _ratio(state, x, value))
            level = damping.after(level, ratio)
        with differentiability.needed("natural_gradient", "second", value_fn, params):
            operator = checks.operator(curvature(value_fn, params))
        product = _product(operator, unravel)
        kept = momentum * state.direction
        direction = kept - solve(operator, g + product(kept), unravel, level)
        direction = direction.astype(g.dtype)
        if not adaptive:
            state = state._replace(count=state.count + 1, direction=direction)
            return unravel(direction), state
        curvature_along = jnp.dot(direction, product(direction))
        value = jnp.asarray(value, x.dtype)
        state = NaturalState(
            state.count + 1, level, direction, jnp.dot(g, direction), curvature_along, value, x
        )
        return unravel(direction), state

    rate: Any = learning_rate  # optax names fewer kinds of numbers than it takes
    return optax.chain(
        optax.GradientTransformationExtraArgs(init, update),
        optax.scale_by_learning_rate(rate, flip_sign=False),
    )
