"""Solvers that use the eigendecomposition: the exact one, cubic steps, dogleg, and a plane."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow
from gdjax.linalg import small
from gdjax.linalg.subproblems.model import Move, Product, Subproblem, norm, safe
from gdjax.linalg.subproblems.products import cauchy_step
from gdjax.types import Scalar

__all__ = ["Eigen", "cubic_step", "dogleg", "eigen", "exact", "two_dimensional"]


class Eigen(NamedTuple):
    """Eigenvalues, each with the rounding that it carries, and eigenvectors."""

    values: jax.Array
    vectors: jax.Array
    rounding: jax.Array


def _eigen(dense, product):
    del product
    return eigen(dense())


def eigen(matrix: jax.Array) -> Eigen:
    """The eigendecomposition of the symmetric part; of zero where the matrix is not finite."""
    matrix = jnp.where(jnp.all(jnp.isfinite(matrix)), 0.5 * (matrix + matrix.T), 0)
    values, vectors = small.eigh(matrix)
    # A change of each entry by its own rounding moves an eigenvalue by at most |v|^T |B| |v| eps: a graded
    # matrix shows its small eigenvalues well, a rotated one does not.
    size = jnp.abs(vectors)
    rounding = 4 * jnp.finfo(values.dtype).eps * jnp.sum(size * (small.product(jnp.abs(matrix), size)), 0)
    return Eigen(values, vectors, rounding)


def _eigen_form(factors, product, v):
    del product
    a = factors.vectors.T @ v
    return jnp.sum(factors.values * a * a)


_SECULAR_STEPS = 30
"""Newton steps on the secular equation: two or three are the rule, and where they fail the bracket is halved."""


def _secular_root(a: jax.Array, gaps: jax.Array, low: Scalar, radius: Scalar) -> Scalar:
    r"""The :math:`t \ge low` with :math:`\lVert a / (gaps + t) \rVert = \Delta`, by safeguarded Newton steps.

    Newton's iteration runs on :math:`1/\Delta - 1/\lVert p(t) \rVert`, which is nearly linear in :math:`t`.
    """
    high = jnp.maximum(norm(a) / radius, low)

    def far(state):
        _, _, _, size, count = state
        return (jnp.abs(size - 1) > jnp.finfo(a.dtype).eps ** 0.6) & (count < _SECULAR_STEPS)

    def body(state):
        low, high, t, _, count = state
        d = gaps + t
        p = a / safe(d) / radius
        size = norm(p)
        long = ~(size <= 1)
        low, high = jnp.where(long, t, low), jnp.where(long, high, t)
        unit = p / safe(size)
        trial = t + (size - 1) / safe(jnp.sum(unit * unit / safe(d)))
        middle = jnp.where(low > 1e-3 * high, 0.5 * (low + high), jnp.sqrt(low) * jnp.sqrt(high))
        inside = (trial > low) & (trial < high)
        return low, high, jnp.where(inside, trial, jnp.where(size == 1, t, middle)), size, count + 1

    start = jnp.where(low > 0, low, 1e-3 * high)
    unknown = jnp.full_like(start, jnp.inf)
    return control_flow.while_loop(far, body, (low, high, start, unknown, jnp.int32(0)))[2]


def _more_sorensen(factors: Eigen, product: Product | None, grad: jax.Array, radius: Scalar) -> Move:
    del product
    values, vectors, rounding = factors
    scale = jnp.max(jnp.abs(values))
    a = vectors.T @ grad
    # Eigenvalues within rounding of zero count as barely positive: no step follows their sign.
    values = jnp.where(jnp.abs(values) <= rounding, rounding, values)
    lowest = jnp.min(values)
    newton = -a / safe(values)
    interior = (lowest > 0) & (norm(newton) <= radius)

    gaps = values - lowest
    bottom = jnp.argmin(values)
    here = jnp.arange(values.size) == bottom
    # The least shift counts in units of its own eigenvalue's rounding: others may be larger by far.
    least = jnp.maximum(0.25 * rounding[bottom], jnp.finfo(values.dtype).tiny)
    floor = jnp.maximum(lowest, least)
    low = jnp.maximum(floor, jnp.max(jnp.abs(a) / radius - gaps))
    t = _secular_root(a, gaps, low, radius)
    boundary = -a / (gaps + t)
    # The hard case: at the least shift the step is still short, so the lowest eigenvector fills it up.
    rest = norm(jnp.where(here, 0, boundary)) / radius
    fill = radius * jnp.sqrt(jnp.maximum((1 - rest) * (1 + rest), 0))
    hard = (lowest < 0) & (norm(boundary) < (1 - 1e-3) * radius)
    filled = jnp.where(boundary[bottom] < 0, -fill, fill)
    boundary = jnp.where(hard & here, filled, boundary)
    size = norm(boundary)
    boundary = jnp.where(size > radius, boundary * (radius / safe(size)), boundary)
    p = jnp.where(interior, newton, boundary)
    return Move(vectors @ p, jnp.sum(a * p), jnp.sum(values * p * p), scale)


def cubic_step(factors: Eigen, grad: jax.Array, weight: Scalar) -> Move:
    r"""The global minimizer of :math:`g^T p + \tfrac12 p^T B p + \tfrac\sigma3 \lVert p \rVert^3`.

    It is the trust-region step whose shift is :math:`\mu = \sigma \lVert p \rVert`, so that bisection over
    the logarithm of its length finds it; with ``curvature_along`` that of the quadratic part.

    Reference:
      Cartis, Gould, Toint, Math. Programming 127 (2011), theorem 3.1.
    """
    values, vectors, rounding = factors
    a = vectors.T @ grad
    lowest = jnp.min(jnp.where(jnp.abs(values) <= rounding, rounding, values))
    size = norm(a)
    # With mu = sigma |p|: the length is at least what the lowest eigenvalue asks for, and at most where
    # sigma L^2 exceeds the gradient and the negative curvature together.
    least = jnp.maximum(-lowest, 0) / weight
    high = least + jnp.sqrt(size) / jnp.sqrt(weight) + jnp.finfo(grad.dtype).tiny

    def body(_, bracket):
        low, high = bracket
        middle = jnp.where(low > 1e-3 * high, 0.5 * (low + high), jnp.sqrt(low) * jnp.sqrt(high))
        middle = jnp.where(low == 0, 1e-3 * high, middle)
        d = values + weight * middle
        long = ~(norm(a / jnp.where(d > 0, d, jnp.inf)) <= middle) | jnp.any(d < 0)
        return jnp.where(long, middle, low), jnp.where(long, high, middle)

    _, length = control_flow.fori_loop(0, 60, body, (least, high))
    return _more_sorensen(factors, None, grad, length)


exact = Subproblem(_eigen, _more_sorensen, _eigen_form)
r"""The global minimizer, by eigendecomposition and the secular equation; the hard case included.

:math:`p` solves it if and only if :math:`(B + \mu I) p = -g`, :math:`\mu \ge 0`, :math:`B + \mu I \succeq 0`
and :math:`\mu (\Delta - \lVert p \rVert) = 0`. Costs one eigendecomposition an accepted point,
:math:`O(n^3)`, and :math:`O(n^2)` a rejected one. Choose it for up to some hundreds of parameters.

Reference: Moré and Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983), Theorem 2.1.
"""


def _eigen_product(factors: Eigen, v: jax.Array) -> jax.Array:
    return factors.vectors @ (factors.values * (factors.vectors.T @ v))


def _convex_newton(factors: Eigen, grad: jax.Array) -> jax.Array:
    r"""The Newton step of :math:`|B|`, its eigenvalues at least a rounding error."""
    size = jnp.maximum(jnp.abs(factors.values), factors.rounding)
    return -factors.vectors @ ((factors.vectors.T @ grad) / safe(size))


def _dogleg(factors, product, grad, radius):
    del product
    first = cauchy_step(grad, _eigen_product(factors, grad), radius)
    newton = _convex_newton(factors, grad)
    leg = newton - first.step
    # The larger root of |c + t leg| = radius, in units of the radius and without cancellation.
    c, d = first.step / radius, leg / radius
    cd, dd, room = jnp.dot(c, d), jnp.dot(d, d), jnp.maximum(1 - jnp.dot(c, c), 0)
    root = jnp.sqrt(cd * cd + dd * room)
    t = jnp.where(cd > 0, room / safe(cd + root), (root - cd) / safe(dd))
    fits = norm(newton) <= radius
    p = jnp.where(fits, newton, first.step + jnp.where(jnp.isfinite(t), t, 0) * leg)
    scale = jnp.max(jnp.abs(factors.values))
    bent = Move(p, jnp.dot(grad, p), _eigen_form(factors, None, p), scale)
    better = bent.slope + 0.5 * bent.curvature_along < first.slope + 0.5 * first.curvature_along
    return jax.tree.map(lambda b, f: jnp.where(better, b, f), bent, first._replace(scale=scale))


dogleg = Subproblem(_eigen, _dogleg, _eigen_form)
r"""Powell's path: to the Cauchy point, then straight to the Newton point, as far as the radius allows.

Where :math:`B` is indefinite the Newton point is that of :math:`|B|`, and the Cauchy point is kept if the
model says that it is lower. Costs as `exact`, without its secular equation; made for positive definite
curvature (`gdjax.derivatives.gauss_newton`, BFGS).

Reference: Powell, A new algorithm for unconstrained optimization, 1970; Nocedal and Wright (2006), section
  4.1.
"""


def _two_dimensional(factors, product, grad, radius):
    values, vectors, rounding = factors
    lowest, bottom = jnp.min(values), vectors[:, jnp.argmin(values)]
    a = vectors.T @ grad
    scale = jnp.max(jnp.abs(values))
    least = jnp.max(rounding)
    shift = jnp.where(lowest > least, 0, 1.5 * jnp.abs(lowest) + least)
    shifted = vectors @ (a / safe(values + shift))
    across = jnp.abs(jnp.dot(bottom, grad)) < 1e-3 * norm(grad)
    second = jnp.where((lowest <= least) & across, bottom, shifted)
    # An orthonormal basis of the plane; a second vector that vanishes makes it a line.
    one = grad / safe(norm(grad))
    two = second / safe(norm(second))
    two = two - jnp.dot(one, two) * one
    two = two - jnp.dot(one, two) * one
    two = jnp.where(norm(two) > 1e-8, two / safe(norm(two)), 0)
    plane = jnp.stack([one, two], 1)
    small = plane.T @ (vectors @ (values[:, None] * (vectors.T @ plane)))
    move = _more_sorensen(_eigen(lambda: small, product), product, plane.T @ grad, radius)
    return move._replace(step=plane @ move.step, scale=scale)


two_dimensional = Subproblem(_eigen, _two_dimensional, _eigen_form)
r"""The lowest point in the plane of the gradient and the Newton direction.

Where :math:`B` is not positive definite the second direction solves :math:`(B + \alpha I) v = g` with
:math:`\alpha = -\tfrac32 \lambda_1`, or is the lowest eigenvector where the gradient has no share of it.

Reference: Byrd, Schnabel, Shultz, Approximate solution of the trust region problem by minimization over
two-dimensional subspaces, Math. Programming 40 (1988).
"""
