"""What a subproblem is, what a step is, and what the solvers share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal.trees import power_of_two
from gdjax.types import PyTree, Scalar, ScalarLike

__all__ = ["Move", "Product", "Subproblem", "no_factors", "norm", "product_form", "safe", "scales"]

Product = Callable[[jax.Array], jax.Array]


class Move(NamedTuple):
    """A step and what the model says about it.

    Attributes:
      step: :math:`p`, shape (n,).
      slope: :math:`g^T p`, not positive.
      curvature_along: :math:`p^T B p`; the model falls by ``-(slope + curvature_along / 2)``.
      scale: an estimate of the 2-norm of :math:`B`, for judging what rounding can resolve.
    """

    step: jax.Array
    slope: Scalar
    curvature_along: Scalar
    scale: Scalar


class Subproblem(NamedTuple):
    """A way to solve the subproblem.

    Attributes:
      factor: ``(dense, product) -> factors``; ``dense()`` makes the (n, n) matrix, ``product(v)`` multiplies
        by it. A matrix-free method calls neither.
      solve: ``(factors, product, grad, radius) -> Move``.
      form: ``(factors, product, v) -> v^T B v``.
    """

    factor: Callable[[Callable[[], jax.Array], Product], PyTree]
    solve: Callable[[PyTree, Product, jax.Array, Scalar], Move]
    form: Callable[[PyTree, Product, jax.Array], Scalar]

    def __call__(self, matrix: jax.Array, grad: jax.Array, radius: ScalarLike) -> Move:
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


def scales(diagonal: jax.Array, before: jax.Array) -> jax.Array:
    r"""Powers of two about :math:`\sqrt{|B_{ii}|}` where columns differ beyond rounding, else ones.

    An eigendecomposition shows nothing of what is smaller than the rounding of the largest entry: in float32 columns
    of a regression that are 3000 times as large as others are enough. In variables times these the diagonal is one.

    Args:
      diagonal: of the matrix, shape (n,).
      before: the scales before: once they are there they only grow, as in the Levenberg-Marquardt method.

    Reference:
      Moré, The Levenberg-Marquardt algorithm: implementation and theory, LNM 630 (1978), section 6.
    """
    size = jnp.where(jnp.isfinite(diagonal), jnp.abs(diagonal), 0)
    largest, eps = jnp.max(size), float(jnp.finfo(size.dtype).eps)
    # Curvature below eps^2.5 of the largest has vanished, as on the flank of an exponential, and tells of no unit;
    # columns up to eps^1.25 apart, 5e8 in float32, are told.
    known = size > eps**2.5 * largest
    least = jnp.min(jnp.where(known, size, largest))
    found = power_of_two(jnp.sqrt(jnp.where(known, size, least)))
    there = jnp.any(before != 1)
    uneven = least < eps * largest
    return jnp.where(there, jnp.maximum(before, found), jnp.where(uneven, found, 1)).astype(size.dtype)


def safe(divisor: jax.Array) -> jax.Array:
    """``divisor``, with one in place of zero."""
    return jnp.where(divisor == 0, 1, divisor)


def no_factors(dense, product):
    """For methods that need products only."""
    del dense, product
    return ()


def product_form(factors, product, v):
    """The quadratic form by one product."""
    del factors
    return jnp.dot(v, product(v))
