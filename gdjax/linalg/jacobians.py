r"""Gauss-Newton models kept in factors, so that the condition of the Jacobian is never squared.

With :math:`f = \ell \circ m`, the Jacobian :math:`J` of the model, :math:`u = \nabla \ell` and
:math:`M = \nabla^2 \ell \succeq 0` at its outputs, the Gauss-Newton matrix is :math:`J^T M J = R^T R` and the
gradient :math:`J^T u = R^T r`, with a square :math:`R` found from :math:`J = Q R_0` and the root of
:math:`Q^T M Q`. For least squares :math:`M = I`, and R is the QR factor of J.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax import control_flow
from gdjax.objectives import Composite
from gdjax.types import Params, Scalar

__all__ = ["Spectrum", "damped_solve", "require_composite", "rows_at", "spectrum"]


class Spectrum(NamedTuple):
    r"""A scaled Jacobian by its singular values, :math:`R D^{-1} = U \Sigma V^T`.

    Attributes:
      values: :math:`\sigma`, descending, shape (n,); noise is set to 0.
      vectors: :math:`V`, shape (n, n).
      rest: :math:`U^T r`, shape (n,); the scaled gradient is :math:`V \Sigma U^T r`.
      scales: :math:`D`, shape (n,).
    """

    values: jax.Array
    vectors: jax.Array
    rest: jax.Array
    scales: jax.Array


def require_composite(objective, owner: str) -> Composite:
    """The objective if its model and loss can be seen apart, else a clear error."""
    if not isinstance(objective, Composite):
        raise TypeError(
            f"{owner} minimizes a loss of residuals and has to see them: make the objective with "
            f"gdjax.least_squares(residual_fn) or gdjax.Composite; got {type(objective).__name__}"
        )
    if objective.penalty is not None:
        raise TypeError(
            f"{owner} takes no penalty: make it residuals of their own, or use "
            "gdjax.trust_region(curvature=gdjax.derivatives.gauss_newton)"
        )
    return objective


def _outputs_and_jacobian(model, x, size, dtype) -> tuple[jax.Array, jax.Array]:
    """Both, by one pass through the model; by a second one where reverse mode loses what forward mode does not."""

    def by_columns():
        outputs, forward = jax.linearize(model, x)
        return outputs, jax.vmap(forward, out_axes=1)(jnp.eye(x.size, dtype=x.dtype))

    if x.size <= size:
        outputs, jacobian = by_columns()
    else:
        outputs, backward = jax.vjp(model, x)
        jacobian = jax.vmap(backward)(jnp.eye(size, dtype=outputs.dtype))[0]
        lost = jnp.all(jnp.isfinite(outputs)) & ~jnp.all(jnp.isfinite(jacobian))
        jacobian = control_flow.cond(lost, lambda: by_columns()[1], lambda: jacobian)
    jacobian = jacobian.astype(dtype)
    return outputs, jnp.where(jnp.all(jnp.isfinite(jacobian)), jacobian, 0)


def rows_at(composite: Composite, params: Params, dtype) -> tuple[jax.Array, jax.Array]:
    """:math:`R` of shape (n, n) and :math:`r` of shape (n,); rows of zeros where outputs are fewer."""
    x, back = ravel_pytree(params)
    shapes = jax.eval_shape(composite.model, params)
    blank, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def model(v):
        return ravel_pytree(composite.model(back(v)))[0]

    outputs, jacobian = _outputs_and_jacobian(model, x, blank.size, dtype)
    slope, metric = jax.linearize(jax.grad(lambda z: composite.loss(unravel(z))), outputs)
    basis, upper = jnp.linalg.qr(jacobian)
    inner = (basis.T @ jax.vmap(metric, 1, 1)(basis.astype(outputs.dtype)).astype(dtype)).astype(dtype)
    values, vectors = jnp.linalg.eigh(0.5 * (inner + inner.T))
    largest = jnp.max(jnp.abs(values))
    roots = jnp.sqrt(jnp.where(values > values.size * jnp.finfo(dtype).eps * largest, values, 0))
    rest = (vectors.T @ (basis.T @ slope.astype(dtype))) / jnp.where(roots > 0, roots, 1)
    rows = roots[:, None] * (vectors.T @ upper)
    fill = x.size - rest.size
    return jnp.pad(rows, ((0, fill), (0, 0))), jnp.pad(jnp.where(roots > 0, rest, 0), (0, fill))


def spectrum(rows: jax.Array, rest: jax.Array, scales: jax.Array) -> Spectrum:
    """The singular values of the rows, with the columns divided by ``scales``."""
    left, values, right = jnp.linalg.svd(rows / scales[None, :], full_matrices=False)
    noise = max(rows.shape) * jnp.finfo(rows.dtype).eps * values[0]
    values = jnp.where(values > noise, values, 0)
    return Spectrum(values, right.T, left.T @ rest, scales)


def damped_solve(found: Spectrum, shift: Scalar, rest: jax.Array) -> jax.Array:
    """The scaled step in the basis of singular vectors."""
    below = found.values**2 + shift
    return -jnp.where(below > 0, found.values * rest / jnp.where(below > 0, below, 1), 0)
