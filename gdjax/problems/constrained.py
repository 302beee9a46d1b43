r"""Convex problems with constraints, each with a certificate of how far a feasible point is from the optimum.

The objective of each `Problem` is smooth, ``constraints`` is the projection onto the set and ``regularizer`` its
indicator. ``metrics["gap"]`` is a relative duality gap, :math:`(f(x) - D) / |f(x)|` with a dual value
:math:`D \le \min f` made from the point itself.

Reference:
  Boyd and Vandenberghe, Convex Optimization, 2004, section 5.1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gdjax import projections
from gdjax.problems import datasets
from gdjax.problems.convex import (
    at_zero,
    convex_problem,
    half_squares,
    quadratic,
    standardized_features,
    uniform,
)
from gdjax.problems.problem import Problem
from gdjax.types import Params, Scalar, ScalarLike

__all__ = ["nonnegative_least_squares", "portfolio", "simplex_least_squares", "support_vector_dual"]


def _images(count: int) -> tuple[jax.Array, jax.Array]:
    """The first image of digits as a combination of ``count`` others: columns and target."""
    features = datasets.digits().features / 16
    return jnp.asarray(features[1 : count + 1].T), jnp.asarray(features[0])


def _cone_gap(matrix, target, x) -> Scalar:
    r"""The dual point is :math:`c\, (b - A x)`, shifted into :math:`A^T \theta \le 0` along the mean image."""
    rest = target - matrix @ x
    inward = jnp.mean(matrix, axis=1)
    slack = matrix.T @ inward  # positive: images have no negative ink
    worst = jnp.max((matrix.T @ rest) / slack)
    dual = rest - jnp.maximum(worst, 0) * inward
    primal = 0.5 * jnp.sum(rest**2)
    return (primal - 0.5 * jnp.sum(target**2) + 0.5 * jnp.sum((target - dual) ** 2)) / primal


def nonnegative_least_squares(count: int = 40) -> Problem:
    r"""A handwritten digit as a sum of others, none of them taken away.

    .. math:: \min_x \tfrac12 \lVert A x - b \rVert^2, \quad x \ge 0

    Args:
      count: how many other images, at least 1; at most 64 pixels tell them apart.

    Reference:
      Lawson, Hanson, Solving Least Squares Problems, 1974, chapter 23.
    """
    matrix, target = _images(count)
    return convex_problem(
        "nonnegative_least_squares",
        Partial(half_squares, matrix, target),
        Partial(at_zero, (count,)),
        Partial(_cone_gap, matrix, target),
        {"data", "constrained"},
        projection=Partial(projections.non_negative),
    )


def _linear_gap(objective: Callable[[Params], Scalar], x: Params) -> Scalar:
    """Frank and Wolfe's gap on the unit simplex."""
    value, grad = jax.value_and_grad(objective)(x)
    return jnp.sum(x * (grad - jnp.min(grad))) / jnp.abs(value)


def simplex_least_squares(count: int = 40) -> Problem:
    r"""A handwritten digit's nearest point among the averages of others: the weights lie in a simplex.

    Args:
      count: as in `nonnegative_least_squares`.

    Reference:
      Jaggi, Revisiting Frank-Wolfe, ICML 2013, section 2 (the gap).
    """
    matrix, target = _images(count)
    objective = Partial(half_squares, matrix, target)
    return convex_problem(
        "simplex_least_squares",
        objective,
        Partial(uniform, (count,)),
        Partial(_linear_gap, objective),
        {"data", "constrained"},
        projection=Partial(projections.simplex),
    )


def _machine_gap(matrix, signs, limit, a) -> Scalar:
    r"""The largest gain of a linear function over the box and plane, :math:`\min_b` of a piecewise linear one."""
    grad = matrix @ a - 1
    offsets = -grad * signs
    gains = jnp.maximum(-(grad[None, :] + offsets[:, None] * signs[None, :]), 0)
    value = 0.5 * jnp.sum(a * (matrix @ a)) - jnp.sum(a)
    return (jnp.sum(grad * a) + limit * jnp.min(jnp.sum(gains, axis=1))) / jnp.abs(value)


def support_vector_dual(limit: ScalarLike = 1.0, count: int = 569) -> Problem:
    r"""The dual of a support vector machine with a Gaussian kernel and an intercept (breast_cancer).

    .. math:: \min_a \tfrac12 a^T Q a - \mathbf 1^T a, \quad 0 \le a \le C, \quad t^T a = 0, \qquad
        Q_{ij} = t_i t_j e^{-\lVert x_i - x_j \rVert^2 / 30}

    Args:
      limit: :math:`C > 0`.
      count: how many of the 569 tumours.

    Reference:
      Cortes, Vapnik, Support-vector networks, Mach. Learn. 20, 1995, equations (14) to (17).
    """
    data = datasets.breast_cancer()
    features = standardized_features(data)[:count].astype(np.float64)
    signs = 2.0 * data.targets[:count] - 1
    squares = np.sum((features[:, None] - features[None]) ** 2, axis=-1)
    matrix = jnp.asarray(np.exp(-squares / 30) * signs[:, None] * signs[None], float)
    signs = jnp.asarray(signs, matrix.dtype)
    section = Partial(projections.box_and_hyperplane, lower=0.0, upper=limit, normal=signs, offset=0.0)
    return convex_problem(
        "support_vector_dual",
        Partial(quadratic, matrix, jnp.ones_like(signs)),
        Partial(at_zero, (count,)),
        Partial(_machine_gap, matrix, signs, limit),
        {"data", "constrained"},
        projection=section,
    )


def portfolio(count: int = 100, *, risk: ScalarLike = 5.0) -> Problem:
    r"""Markowitz's portfolio, long only and fully invested, on drawn returns: five factors and noise.

    .. math:: \min_w \tfrac{\gamma}{2} w^T \Sigma w - \mu^T w, \quad w \ge 0, \quad \textstyle\sum_i w_i = 1

    Args:
      count: how many assets.
      risk: :math:`\gamma > 0`.

    Reference:
      Markowitz, Portfolio selection, J. Finance 7, 1952.
    """
    draw = np.random.default_rng(0)
    loadings = draw.normal(size=(count, 5))
    covariance = loadings @ loadings.T / 5 + np.diag(draw.uniform(0.05, 0.5, count))
    returns = draw.normal(0.1, 0.2, count)
    objective = Partial(quadratic, jnp.asarray(risk * covariance, float), jnp.asarray(returns, float))
    return convex_problem(
        "portfolio",
        objective,
        Partial(uniform, (count,)),
        Partial(_linear_gap, objective),
        {"constrained"},
        projection=Partial(projections.simplex),
    )
