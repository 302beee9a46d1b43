"""Solvers that need products with the matrix only: the Cauchy point and Steihaug-Toint."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax.linalg.subproblems.model import Move, Subproblem, no_factors, norm, product_form, safe
from gdjax.types import Scalar

__all__ = ["cauchy", "cauchy_step", "steihaug"]


def cauchy_step(grad: jax.Array, image: jax.Array, radius: Scalar) -> Move:
    """The lowest point along the steepest descent; ``image`` is the matrix times ``grad``."""
    size, bend = norm(grad), jnp.dot(grad, image)
    unit = grad / safe(size)
    curvature = jnp.dot(unit, image / safe(size))
    length = jnp.where(curvature * radius > size, size / safe(curvature), radius)
    del bend
    return Move(-length * unit, -length * size, length * length * curvature, jnp.abs(curvature))


def _cauchy(factors, product, grad, radius):
    del factors
    return cauchy_step(grad, product(grad), radius)


cauchy = Subproblem(no_factors, _cauchy, product_form)
r"""The lowest point of the model along :math:`-g`: the least that a trust region must achieve.

One product an update. Converges like steepest descent; the yardstick for the others.

Reference: Nocedal and Wright (2006), equations 4.11 and 4.12.
"""


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
    size = safe(norm(d))
    z, d = z / radius, d / size
    zd, room = jnp.dot(z, d), jnp.maximum(1 - jnp.dot(z, z), 0)
    root = jnp.sqrt(zd * zd + room)
    tau = jnp.where(zd > 0, room / safe(zd + root), root - zd)
    return tau * radius / size


def _steihaug(factors, product, grad, radius):
    del factors
    n, eps = grad.size, jnp.finfo(grad.dtype).eps
    size = norm(grad)
    goal = size * jnp.minimum(0.1, jnp.sqrt(size))
    # Conjugate gradients run on g / |g|, so that squares neither overflow nor vanish.
    unit = safe(size)

    def body(path):
        z, d = path.step, path.direction
        image = product(d)
        rr, dd, curvature = jnp.dot(path.rest, path.rest), jnp.dot(d, d), jnp.dot(d, image)
        scale = jnp.maximum(path.scale, jnp.abs(curvature) / safe(dd))
        bent = curvature > eps * scale * dd
        alpha = rr / jnp.where(bent, curvature, 1)
        out = ~bent | (norm(z + alpha * d) >= radius / unit)
        alpha = jnp.where(out, _to_boundary(z, d, radius / unit), alpha)
        z, rest = z + alpha * d, path.rest + alpha * image
        new = jnp.dot(rest, rest)
        small = jnp.sqrt(new) <= goal / unit
        done = out | small | ~jnp.isfinite(new)
        return _Path(
            z, path.image + alpha * image, rest, -rest + new / safe(rr) * d, scale, path.count + 1, done
        )

    zero = jnp.zeros_like(grad)
    g = grad / unit
    start = _Path(zero, zero, g, -g, jnp.zeros((), grad.dtype), jnp.int32(0), size == 0)
    path = jax.lax.while_loop(lambda path: ~path.done & (path.count < 2 * n), body, start)
    p, image = path.step * unit, path.image * unit
    return Move(p, jnp.dot(grad, p), jnp.dot(p, image), path.scale)


steihaug = Subproblem(no_factors, _steihaug, product_form)
r"""Conjugate gradients on the model, stopped at the radius or where curvature is not positive.

Matrix-free: needs products only, :math:`O(n)` memory. Stops at a residual of
:math:`\min(0.1, \sqrt{\lVert g \rVert}) \lVert g \rVert`, which makes the trust region converge
superlinearly. Choose it for many parameters.

Reference: Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J.
Numer. Anal. 20 (1983); Nocedal and Wright (2006), algorithm 7.2.
"""
