"""Solvers that need products with the matrix only: the Cauchy point and Steihaug-Toint."""

import jax
import jax.numpy as jnp

from gdjax.linalg.subproblems.model import Move, Subproblem, no_factors, norm, product_form, safe
from gdjax.linalg.truncated import truncated_cg
from gdjax.types import Scalar

__all__ = ["cauchy", "cauchy_step", "steihaug"]


def cauchy_step(grad: jax.Array, image: jax.Array, radius: Scalar) -> Move:
    """The lowest point along the steepest descent; ``image`` is the matrix times ``grad``."""
    size = norm(grad)
    unit = grad / safe(size)
    curvature = jnp.dot(unit, image / safe(size))
    length = jnp.where(curvature * radius > size, size / safe(curvature), radius)
    return Move(-length * unit, -length * size, length * length * curvature, jnp.abs(curvature))


def _cauchy(factors, product, grad, radius):
    del factors
    return cauchy_step(grad, product(grad), radius)


cauchy = Subproblem(no_factors, _cauchy, product_form)
r"""The lowest point of the model along :math:`-g`: the least that a trust region must achieve.

One product an update. Converges like steepest descent; the yardstick for the others.

Reference: Nocedal and Wright (2006), equations 4.11 and 4.12.
"""


def _steihaug(factors, product, grad, radius):
    del factors
    tolerance = jnp.minimum(0.1, jnp.sqrt(norm(grad)))
    found = truncated_cg(product, grad, radius, tolerance=tolerance, max_steps=2 * grad.size)
    slope = jnp.dot(grad, found.step)
    return Move(found.step, slope, -2 * (found.decrease + slope), found.scale)


steihaug = Subproblem(no_factors, _steihaug, product_form)
r"""Conjugate gradients on the model, stopped at the radius or where curvature is not positive.

Matrix-free: needs products only, :math:`O(n)` memory. Stops at a residual of
:math:`\min(0.1, \sqrt{\lVert g \rVert}) \lVert g \rVert`, which makes the trust region converge
superlinearly. Choose it for many parameters.

Reference: Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J.
Numer. Anal. 20 (1983); Nocedal and Wright (2006), algorithm 7.2.
"""
