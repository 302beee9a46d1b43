r"""Trust-region subproblems: the step that a quadratic model allows within a radius.

All of them look for :math:`p` with a low

.. math:: m(p) = g^T p + \tfrac12 p^T B p \quad\text{over}\quad \lVert p\rVert_2 \le \Delta

and none evaluates the objective. A `Subproblem` is a pair of pure functions: ``factor`` does what depends on
the curvature alone (an eigendecomposition, say), ``solve`` what depends on the radius. A trust region factors
at accepted points only and solves again, cheaply, wherever a trial was rejected.

Reference: Conn, Gould, Toint, Trust-Region Methods, SIAM 2000, chapter 7; Nocedal and Wright, Numerical
Optimization, 2nd edition, chapter 4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax.types import Scalar

__all__ = [
    "Eigen",
    "Move",
    "Subproblem",
    "cauchy",
    "cubic_step",
    "dogleg",
    "eigen",
    "exact",
    "norm",
    "steihaug",
    "two_dimensional",
]

Product = Callable[[jax.Array], jax.Array]


class Move(NamedTuple):
    """A step and what the model says about it.

    Attributes:
      step: :math:`p`, shape (n,).
      slope: :math:`g^T p`, not positive.
      bend: :math:`p^T B p`; the model falls by ``-(slope + bend / 2)``.
      scale: an estimate of the 2-norm of :math:`B`, for judging what rounding can resolve.
    """

    step: jax.Array
    slope: Scalar
    bend: Scalar
    scale: Scalar


class Subproblem(NamedTuple):
    """A way to solve the subproblem.

    Attributes:
      factor: ``(dense, product) -> factors``; ``dense()`` makes the (n, n) matrix, ``product(v)`` multiplies
        by it. A matrix-free method calls neither.
      solve: ``(factors, product, grad, radius) -> Move``.
      form: ``(factors, product, v) -> v^T B v``.
    """

    factor: Callable[[Callable[[], jax.Array], Product], Any]
    solve: Callable[[Any, Product, jax.Array, Scalar], Move]
    form: Callable[[Any, Product, jax.Array], Scalar]

    def __call__(self, matrix: jax.Array, grad: jax.Array, radius: Any) -> Move:
        """Solves for a dense matrix at once."""

        def product(v):
            return matrix @ v

        radius = jnp.asarray(radius, grad.dtype)
        return self.solve(self.factor(lambda: matrix, product), product, grad, radius)


def norm(v: jax.Array) -> Scalar:
    """The 2-norm, safe from overflow and underflow of the squares."""
    largest = jnp.max(jnp.abs(v))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit * jnp.sqrt(jnp.sum(jnp.square(v / unit)))


def _safe(divisor: jax.Array) -> jax.Array:
    return jnp.where(divisor == 0, 1, divisor)


# --- exact -------------------------------------------------------------------------------------------------


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
    values, vectors = jnp.linalg.eigh(matrix)
    # A change of each entry by its own rounding moves an eigenvalue by at most |v|^T |B| |v| eps: a graded
    # matrix shows its small eigenvalues well, a rotated one does not.
    size = jnp.abs(vectors)
    rounding = 4 * jnp.finfo(values.dtype).eps * jnp.sum(size * (jnp.abs(matrix) @ size), 0)
    return Eigen(values, vectors, rounding)


def _eigen_form(factors, product, v):
    del product
    a = factors.vectors.T @ v
    return jnp.sum(factors.values * a * a)


_SECULAR_STEPS = 30


def _secular_root(a: jax.Array, gaps: jax.Array, low: Scalar, radius: Scalar) -> Scalar:
    r"""The :math:`t \ge low` with :math:`\lVert a / (gaps + t) \rVert = \Delta`, by safeguarded Newton steps.

    Newton's iteration runs on :math:`1/\Delta - 1/\lVert p(t) \rVert`, which is nearly linear in :math:`t`.
    """
    high = jnp.maximum(norm(a) / radius, low)

    def body(_, bracket):
        low, high, t = bracket
        d = gaps + t
        p = a / _safe(d) / radius
        size = norm(p)
        long = ~(size <= 1)
        low, high = jnp.where(long, t, low), jnp.where(long, high, t)
        unit = p / _safe(size)
        trial = t + (size - 1) / _safe(jnp.sum(unit * unit / _safe(d)))
        middle = jnp.where(low > 1e-3 * high, 0.5 * (low + high), jnp.sqrt(low) * jnp.sqrt(high))
        inside = (trial > low) & (trial < high)
        return low, high, jnp.where(inside, trial, jnp.where(size == 1, t, middle))

    start = jnp.where(low > 0, low, 1e-3 * high)
    return jax.lax.fori_loop(0, _SECULAR_STEPS, body, (low, high, start))[2]


def _more_sorensen(factors: Eigen, product: Product, grad: jax.Array, radius: Scalar) -> Move:
    del product
    values, vectors, rounding = factors
    n, eps = values.size, jnp.finfo(values.dtype).eps
    scale = jnp.max(jnp.abs(values))
    a = vectors.T @ grad
    # Eigenvalues within rounding of zero count as barely positive: no step follows their sign.
    values = jnp.where(jnp.abs(values) <= rounding, rounding, values)
    lowest = jnp.min(values)
    newton = -a / _safe(values)
    interior = (lowest > 0) & (norm(newton) <= radius)

    gaps = values - lowest
    floor = jnp.maximum(lowest, eps * jnp.maximum(scale, jnp.finfo(values.dtype).tiny))
    low = jnp.maximum(floor, jnp.max(jnp.abs(a) / radius - gaps))
    t = _secular_root(a, gaps, low, radius)
    boundary = -a / (gaps + t)
    # The hard case: at the least shift the step is still short, so the lowest eigenvector fills it up.
    bottom = jnp.argmin(values)
    rest = norm(jnp.where(jnp.arange(n) == bottom, 0, boundary)) / radius
    fill = radius * jnp.sqrt(jnp.maximum((1 - rest) * (1 + rest), 0))
    hard = (lowest <= 0) & (norm(boundary) < (1 - 1e-3) * radius)
    filled = jnp.where(boundary[bottom] < 0, -fill, fill)
    boundary = jnp.where(hard & (jnp.arange(n) == bottom), filled, boundary)
    size = norm(boundary)
    boundary = jnp.where(size > radius, boundary * (radius / _safe(size)), boundary)
    p = jnp.where(interior, newton, boundary)
    return Move(vectors @ p, jnp.sum(a * p), jnp.sum(values * p * p), scale)


def cubic_step(factors: Eigen, grad: jax.Array, weight: Scalar) -> Move:
    r"""The global minimizer of :math:`g^T p + \tfrac12 p^T B p + \tfrac\sigma3 \lVert p \rVert^3`.

    It is the trust-region step whose shift is :math:`\mu = \sigma \lVert p \rVert`, so that bisection over
    the logarithm of its length finds it; with ``bend`` that of the quadratic part.

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
    high = least + jnp.sqrt(size / weight) + jnp.finfo(grad.dtype).tiny

    def body(_, bracket):
        low, high = bracket
        middle = jnp.where(low > 1e-3 * high, 0.5 * (low + high), jnp.sqrt(low) * jnp.sqrt(high))
        middle = jnp.where(low == 0, 1e-3 * high, middle)
        d = values + weight * middle
        long = ~(norm(a / jnp.where(d > 0, d, jnp.inf)) <= middle) | jnp.any(d < 0)
        return jnp.where(long, middle, low), jnp.where(long, high, middle)

    _, length = jax.lax.fori_loop(0, 60, body, (least, high))
    return _more_sorensen(factors, None, grad, length)


exact = Subproblem(_eigen, _more_sorensen, _eigen_form)
r"""The global minimizer, by eigendecomposition and the secular equation; the hard case included.

:math:`p` solves it if and only if :math:`(B + \mu I) p = -g`, :math:`\mu \ge 0`, :math:`B + \mu I \succeq 0`
and :math:`\mu (\Delta - \lVert p \rVert) = 0`. Costs one eigendecomposition an accepted point,
:math:`O(n^3)`, and :math:`O(n^2)` a rejected one. Choose it for up to some hundreds of parameters.

Reference: Moré and Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983), Theorem 2.1.
"""


# --- Cauchy, dogleg, two dimensions -------------------------------------------------------------------------


def _no_factors(dense, product):
    del dense, product
    return ()


def _product_form(factors, product, v):
    del factors
    return jnp.dot(v, product(v))


def _cauchy_step(grad: jax.Array, image: jax.Array, radius: Scalar) -> Move:
    """The lowest point along the steepest descent; ``image`` is the matrix times ``grad``."""
    size, bend = norm(grad), jnp.dot(grad, image)
    unit = grad / _safe(size)
    curvature = jnp.dot(unit, image / _safe(size))
    length = jnp.where(curvature * radius > size, size / _safe(curvature), radius)
    del bend
    return Move(-length * unit, -length * size, length * length * curvature, jnp.abs(curvature))


def _cauchy(factors, product, grad, radius):
    del factors
    return _cauchy_step(grad, product(grad), radius)


cauchy = Subproblem(_no_factors, _cauchy, _product_form)
r"""The lowest point of the model along :math:`-g`: the least that a trust region must achieve.

One product an update. Converges like steepest descent; the yardstick for the others.

Reference: Nocedal and Wright (2006), equations 4.11 and 4.12.
"""


def _eigen_product(factors: Eigen, v: jax.Array) -> jax.Array:
    return factors.vectors @ (factors.values * (factors.vectors.T @ v))


def _convex_newton(factors: Eigen, grad: jax.Array) -> jax.Array:
    r"""The Newton step of :math:`|B|`, its eigenvalues at least a rounding error."""
    size = jnp.maximum(jnp.abs(factors.values), factors.rounding)
    return -factors.vectors @ ((factors.vectors.T @ grad) / _safe(size))


def _dogleg(factors, product, grad, radius):
    del product
    first = _cauchy_step(grad, _eigen_product(factors, grad), radius)
    newton = _convex_newton(factors, grad)
    leg = newton - first.step
    # The larger root of |c + t leg| = radius, in units of the radius and without cancellation.
    c, d = first.step / radius, leg / radius
    cd, dd, room = jnp.dot(c, d), jnp.dot(d, d), jnp.maximum(1 - jnp.dot(c, c), 0)
    root = jnp.sqrt(cd * cd + dd * room)
    t = jnp.where(cd > 0, room / _safe(cd + root), (root - cd) / _safe(dd))
    fits = norm(newton) <= radius
    p = jnp.where(fits, newton, first.step + jnp.where(jnp.isfinite(t), t, 0) * leg)
    scale = jnp.max(jnp.abs(factors.values))
    bent = Move(p, jnp.dot(grad, p), _eigen_form(factors, None, p), scale)
    better = bent.slope + 0.5 * bent.bend < first.slope + 0.5 * first.bend
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
    shifted = vectors @ (a / _safe(values + shift))
    across = jnp.abs(jnp.dot(bottom, grad)) < 1e-3 * norm(grad)
    second = jnp.where((lowest <= least) & across, bottom, shifted)
    # An orthonormal basis of the plane; a second vector that vanishes makes it a line.
    one = grad / _safe(norm(grad))
    two = second / _safe(norm(second))
    two = two - jnp.dot(one, two) * one
    two = two - jnp.dot(one, two) * one
    two = jnp.where(norm(two) > 1e-8, two / _safe(norm(two)), 0)
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


# --- Steihaug -----------------------------------------------------------------------------------------------


class _Path(NamedTuple):
    step: jax.Array
    image: jax.Array
    rest: jax.Array
    direction: jax.Array
    scale: Scalar
    count: Scalar
    done: Scalar


def _to_boundary(z: jax.Array, d: jax.Array, radius: Scalar) -> Scalar:
    r"""The :math:`\tau \ge 0` with :math:`\lVert z + \tau d \rVert = \Delta`."""
    size = _safe(norm(d))
    z, d = z / radius, d / size
    zd, room = jnp.dot(z, d), jnp.maximum(1 - jnp.dot(z, z), 0)
    root = jnp.sqrt(zd * zd + room)
    tau = jnp.where(zd > 0, room / _safe(zd + root), root - zd)
    return tau * radius / size


def _steihaug(factors, product, grad, radius):
    del factors
    n, eps = grad.size, jnp.finfo(grad.dtype).eps
    size = norm(grad)
    goal = size * jnp.minimum(0.1, jnp.sqrt(size))
    # Conjugate gradients run on g / |g|, so that squares neither overflow nor vanish.
    unit = _safe(size)

    def body(path):
        z, d = path.step, path.direction
        image = product(d)
        rr, dd, curvature = jnp.dot(path.rest, path.rest), jnp.dot(d, d), jnp.dot(d, image)
        scale = jnp.maximum(path.scale, jnp.abs(curvature) / _safe(dd))
        bent = curvature > eps * scale * dd
        alpha = rr / jnp.where(bent, curvature, 1)
        out = ~bent | (norm(z + alpha * d) >= radius / unit)
        alpha = jnp.where(out, _to_boundary(z, d, radius / unit), alpha)
        z, rest = z + alpha * d, path.rest + alpha * image
        new = jnp.dot(rest, rest)
        small = jnp.sqrt(new) <= goal / unit
        done = out | small | ~jnp.isfinite(new)
        return _Path(
            z, path.image + alpha * image, rest, -rest + new / _safe(rr) * d, scale, path.count + 1, done
        )

    zero = jnp.zeros_like(grad)
    g = grad / unit
    start = _Path(zero, zero, g, -g, jnp.zeros((), grad.dtype), jnp.int32(0), size == 0)
    path = jax.lax.while_loop(lambda path: ~path.done & (path.count < 2 * n), body, start)
    p, image = path.step * unit, path.image * unit
    return Move(p, jnp.dot(grad, p), jnp.dot(p, image), path.scale)


steihaug = Subproblem(_no_factors, _steihaug, _product_form)
r"""Conjugate gradients on the model, stopped at the radius or where curvature is not positive.

Matrix-free: needs products only, :math:`O(n)` memory. Stops at a residual of
:math:`\min(0.1, \sqrt{\lVert g \rVert}) \lVert g \rVert`, which makes the trust region converge
superlinearly. Choose it for many parameters.

Reference: Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J.
Numer. Anal. 20 (1983); Nocedal and Wright (2006), algorithm 7.2.
"""
