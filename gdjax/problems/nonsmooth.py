r"""Nonsmooth convex problems, each with a certificate of how far a point is from the optimum.

The objective of each `Problem` is the smooth part :math:`f`, its ``regularizer`` the rest. ``metrics["gap"]`` is a
relative duality gap, :math:`(F(x) - D) / |F(x)|` with a dual value :math:`D \le \min F` made from the point
itself.

Reference:
  Boyd and Vandenberghe, Convex Optimization, 2004, section 5.1; for the scaled dual points, El Ghaoui, Viallon,
  Rabbani, Safe feature elimination for the lasso, Pac. J. Optim. 8, 2012.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gdjax import regularizers
from gdjax.problems import datasets
from gdjax.problems.convex import at_zero, convex_problem, half_squares, standardized_features
from gdjax.problems.problem import Problem
from gdjax.types import Scalar, ScalarLike

__all__ = [
    "completion",
    "elastic_net",
    "lasso",
    "sparse_logistic_regression",
    "total_variation_denoising",
]


def _lasso_gap(matrix, target, weight, x) -> Scalar:
    """With the residual scaled into the dual's set."""
    rest = target - matrix @ x
    primal = 0.5 * jnp.sum(rest**2) + weight * jnp.sum(jnp.abs(x))
    dual = rest * jnp.minimum(1, weight / jnp.max(jnp.abs(matrix.T @ rest)))
    return (primal - 0.5 * jnp.sum(target**2) + 0.5 * jnp.sum((target - dual) ** 2)) / primal


def _diabetes(share: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Standardized measurements over the root of their number, the centred response, and a weight."""
    data = datasets.diabetes()
    root = len(data.targets) ** 0.5
    matrix = jnp.asarray(standardized_features(data)) / root
    target = jnp.asarray(data.targets - data.targets.mean()) / root
    return matrix, target, share * jnp.max(jnp.abs(matrix.T @ target))


def lasso(share: ScalarLike = 0.05) -> Problem:
    r"""The lasso: the progression of diabetes from few of 10 measurements (442 patients).

    .. math:: F(w) = \tfrac{1}{2n} \lVert X w - y \rVert^2 + \lambda \lVert w \rVert_1, \qquad
        \lambda = s\, \lVert X^T y \rVert_\infty / n

    Args:
      share: :math:`s` in (0, 1]; at 1 the solution is zero. May be a tracer.

    Reference:
      Tibshirani, Regression shrinkage and selection via the lasso, J. R. Stat. Soc. B 58, 1996; the data of
      Efron et al., Least angle regression, Ann. Statist. 32, 2004.

    Example:
      >>> problem = lasso(1.0)
      >>> bool(abs(problem.metrics["gap"](problem.start())) < 1e-6)
      True
    """
    matrix, target, weight = _diabetes(share)
    return convex_problem(
        "lasso",
        Partial(half_squares, matrix, target),
        Partial(at_zero, (10,)),
        Partial(_lasso_gap, matrix, target, weight),
        {"data", "sparse"},
        regularizers.l1(weight),
    )


def _elastic_gap(matrix, target, weight, ridge, x) -> Scalar:
    """The lasso's, with a ridge as more rows of the matrix."""
    rows = jnp.concatenate([matrix, jnp.sqrt(ridge) * jnp.eye(x.size, dtype=matrix.dtype)])
    return _lasso_gap(rows, jnp.concatenate([target, jnp.zeros_like(x)]), weight, x)


def elastic_net(share: ScalarLike = 0.05, ridge: ScalarLike = 0.1) -> Problem:
    r"""The elastic net on the data of `lasso`: :math:`F` with :math:`\tfrac{b}{2} \lVert w \rVert^2` more.

    Args:
      share: as in `lasso`.
      ridge: :math:`b \ge 0`.

    Reference:
      Zou, Hastie, Regularization and variable selection via the elastic net, J. R. Stat. Soc. B 67, 2005.
    """
    matrix, target, weight = _diabetes(share)
    return convex_problem(
        "elastic_net",
        Partial(half_squares, matrix, target),
        Partial(at_zero, (10,)),
        Partial(_elastic_gap, matrix, target, weight, jnp.asarray(ridge, matrix.dtype)),
        {"data", "sparse"},
        regularizers.elastic_net(weight, ridge),
    )


def _logistic_loss(rows, w):
    return jnp.mean(jax.nn.softplus(-(rows @ w)))


def _logistic_gap(rows, weight, w) -> Scalar:
    margins = rows @ w
    primal = jnp.mean(jax.nn.softplus(-margins)) + weight * jnp.sum(jnp.abs(w))
    slopes = jax.nn.sigmoid(-margins)
    slopes = slopes * jnp.minimum(1, weight * len(slopes) / jnp.max(jnp.abs(slopes @ rows)))
    entropy = jax.scipy.special.entr(slopes) + jax.scipy.special.entr(1 - slopes)
    return (primal - jnp.mean(entropy)) / primal


def sparse_logistic_regression(share: ScalarLike = 0.05) -> Problem:
    r"""Logistic regression with a 1-norm: benign or malignant from few of 30 measurements (569 tumours).

    .. math:: F(w) = \tfrac1n \sum_i \log(1 + e^{-t_i x_i^T w}) + \lambda \lVert w \rVert_1, \qquad
        \lambda = s\, \lVert X^T t \rVert_\infty / 2n

    Args:
      share: :math:`s` in (0, 1]; at 1 the solution is zero. May be a tracer.

    Reference:
      Koh, Kim, Boyd, An interior-point method for large-scale l1-regularized logistic regression, J. Mach. Learn.
      Res. 8, 2007, section 3 (the dual).
    """
    data = datasets.breast_cancer()
    rows = jnp.asarray(standardized_features(data) * (2.0 * data.targets - 1)[:, None], float)
    weight = share * jnp.max(jnp.abs(jnp.sum(rows, axis=0))) / (2 * len(rows))
    return convex_problem(
        "sparse_logistic_regression",
        Partial(_logistic_loss, rows),
        Partial(at_zero, (30,)),
        Partial(_logistic_gap, rows, weight),
        {"data", "sparse"},
        regularizers.l1(weight),
    )


def _denoise_loss(signal, x):
    return 0.5 * jnp.sum(jnp.square(x - signal))


def _variation_gap(signal, weight, x) -> Scalar:
    primal = _denoise_loss(signal, x) + weight * jnp.sum(jnp.abs(jnp.diff(x)))
    flow = jnp.clip(jnp.cumsum(x - signal)[:-1], -weight, weight)
    change = jnp.diff(flow, prepend=0, append=0)
    return (primal + jnp.sum(signal * change) + 0.5 * jnp.sum(change**2)) / primal


def total_variation_denoising(count: int = 200, *, weight: ScalarLike = 1.0) -> Problem:
    r"""A drawn signal of five steps and noise, its steps to be found again.

    .. math:: F(x) = \tfrac12 \lVert x - b \rVert^2 + \lambda \sum_i |x_{i+1} - x_i|

    Args:
      count: samples.
      weight: :math:`\lambda \ge 0`.

    Reference:
      Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 60, 1992.
    """
    draw = np.random.default_rng(0)
    steps = np.repeat(draw.normal(0, 2, 5), -(-count // 5))[:count]
    signal = jnp.asarray(steps + 0.3 * draw.normal(size=count), float)
    return convex_problem(
        "total_variation_denoising",
        Partial(_denoise_loss, signal),
        Partial(at_zero, (count,)),
        Partial(_variation_gap, signal, weight),
        {"piecewise"},
        regularizers.total_variation(weight),
    )


def _seen_loss(mask, target, x):
    return 0.5 * jnp.sum(mask * jnp.square(x - target))


def _spectral_gap(mask, target, weight, x) -> Scalar:
    rest = mask * (target - x)
    size = jnp.linalg.norm(rest, 2)
    primal = 0.5 * jnp.sum(rest**2) + weight * jnp.sum(jnp.linalg.svd(x, compute_uv=False))
    dual = rest * jnp.minimum(1, weight / size)
    known = mask * target
    return (primal - 0.5 * jnp.sum(known**2) + 0.5 * jnp.sum((known - dual) ** 2)) / primal


def completion(count: int = 60, *, weight: ScalarLike = 1.0, seen: float = 0.5) -> Problem:
    r"""Pixels of handwritten digits that were not seen, from a matrix of low rank (images in rows).

    .. math:: F(X) = \tfrac12 \sum_{(i, j) \text{ seen}} (X_{ij} - M_{ij})^2 + \lambda \lVert X \rVert_*

    Args:
      count: how many images, of 64 pixels each.
      weight: :math:`\lambda \ge 0`.
      seen: the share of pixels seen.

    Reference:
      Mazumder, Hastie, Tibshirani, Spectral regularization algorithms for learning large incomplete matrices, J.
      Mach. Learn. Res. 11, 2010, equation (8).
    """
    target = jnp.asarray(datasets.digits().features[:count] / 16)
    mask = jnp.asarray(np.random.default_rng(0).random(target.shape) < seen, target.dtype)
    return convex_problem(
        "completion",
        Partial(_seen_loss, mask, target),
        Partial(at_zero, tuple(target.shape)),
        Partial(_spectral_gap, mask, target, weight),
        {"data", "matrix"},
        regularizers.nuclear(weight),
    )
