r"""Gauss-Newton models kept in factors, so that the condition of the Jacobian is never squared.

With :math:`f = \ell \circ m`, the Jacobian :math:`J` of the model, :math:`u = \nabla \ell` and
:math:`M = \nabla^2 \ell \succeq 0` at its outputs, the Gauss-Newton matrix is :math:`J^T M J = R^T R` and the
gradient :math:`J^T u = R^T r`, with a square :math:`R` found from :math:`J = Q R_0` and the root of
:math:`Q^T M Q`. For least squares :math:`M = I`, and R is the QR factor of J.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax._internal import control_flow, trees
from gdjax._internal.trees import power_of_two
from gdjax.linalg import small
from gdjax.linalg.triangles import triangular
from gdjax.objectives import Composite, differentiability, is_half_squares
from gdjax.types import Params, Scalar

__all__ = [
    "Linearized",
    "Spectrum",
    "damped_solve",
    "factored",
    "gram",
    "linearized",
    "require_composite",
    "rows_at",
    "spectrum",
]


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


def _by_columns(model, x):
    outputs, forward = jax.linearize(model, x)
    return outputs, jax.vmap(forward, out_axes=1)(control_flow.vary_like(jnp.eye(x.size, dtype=x.dtype), x))


def _by_rows(model, x):
    outputs, back = jax.vjp(model, x)

    def row(direction):
        return back(direction)[0]

    identity = control_flow.vary_like(jnp.eye(outputs.size, dtype=outputs.dtype), outputs)
    try:
        return outputs, differentiability.isolated(jax.vmap(row), identity)
    except Exception:  # a callback may say that it does not map
        return outputs, jax.lax.map(row, identity)


def _outputs_and_jacobian(model, x, size):
    """Both, by one pass through the model: in the mode that takes fewer, or in the one that the model bears.

    By a second pass where reverse mode loses what forward mode does not.
    """
    short, other = (_by_columns, _by_rows) if trees.at_most(x.size - size, 0) else (_by_rows, _by_columns)
    mode = short
    try:
        outputs, jacobian = short(model, x)
    except Exception as refusal:
        mode = other
        try:
            outputs, jacobian = other(model, x)
        except Exception:
            raise refusal from None
    if mode is _by_rows:
        lost = jnp.all(jnp.isfinite(outputs)) & ~jnp.all(jnp.isfinite(jacobian))
        jacobian = control_flow.cond(lost, lambda: _or_else(model, x, jacobian), lambda: jacobian)
    return outputs, jacobian


def _or_else(model, x, jacobian):
    """The Jacobian by columns where the model bears it."""
    try:
        return differentiability.isolated(lambda x: _by_columns(model, x)[1], x)
    except Exception:
        return jacobian


class Linearized(NamedTuple):
    """A model at a point.

    Attributes:
      outputs: of the model, flat, of shape (m,).
      jacobian: of shape (m, n).
      loss: of flat outputs.
      squares: whether it is half the sum of their squares.
    """

    outputs: jax.Array
    jacobian: jax.Array
    loss: Callable[[jax.Array], Scalar]
    squares: bool


def linearized(composite: Composite, params: Params, dtype) -> Linearized:
    """The outputs of the model, its Jacobian as it is, and the loss as a function of flat outputs."""
    x, back = ravel_pytree(params)
    shapes = jax.eval_shape(composite.model, params)
    blank, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def model(v):
        return trees.replicated(ravel_pytree(composite.model(back(v)))[0])

    outputs, jacobian = _outputs_and_jacobian(model, x, blank.size)
    return Linearized(
        outputs, jacobian.astype(dtype), lambda z: composite.loss(unravel(z)), is_half_squares(composite.loss)
    )


def gram(found: Linearized) -> jax.Array:
    """:math:`J^T M J`."""
    metric = jax.linearize(jax.grad(found.loss), found.outputs)[1]
    moved = jax.vmap(metric, 1, 1)(found.jacobian.astype(found.outputs.dtype))
    return found.jacobian.T @ moved.astype(found.jacobian.dtype)


def factored(found: Linearized) -> tuple[jax.Array, jax.Array]:
    """:math:`R` of shape (n, n) and :math:`r` of shape (n,); rows of zeros where outputs are fewer."""
    outputs, jacobian, dtype = found.outputs, found.jacobian, found.jacobian.dtype
    n = jacobian.shape[1]
    if found.squares:
        # The residuals as one more column: so they are turned with the others, and no Q is laid out.
        both = triangular(jnp.concatenate([jacobian, outputs.astype(dtype)[:, None]], 1))
        fill = max(n - both.shape[0], 0)
        return jnp.pad(both[:n, :n], ((0, fill), (0, 0))), jnp.pad(jnp.squeeze(both[:n, n:], 1), (0, fill))
    slope, metric = jax.linearize(jax.grad(found.loss), outputs)
    basis, upper = jnp.linalg.qr(jacobian)
    inner = (basis.T @ jax.vmap(metric, 1, 1)(basis.astype(outputs.dtype)).astype(dtype)).astype(dtype)
    values, vectors = jnp.linalg.eigh(0.5 * (inner + inner.T))
    largest = jnp.max(jnp.abs(values))
    roots = jnp.sqrt(jnp.where(values > values.size * jnp.finfo(dtype).eps * largest, values, 0))
    rest = (vectors.T @ (basis.T @ slope.astype(dtype))) / jnp.where(roots > 0, roots, 1)
    rows = roots[:, None] * (vectors.T @ upper)
    fill = n - rest.size
    return jnp.pad(rows, ((0, fill), (0, 0))), jnp.pad(jnp.where(roots > 0, rest, 0), (0, fill))


def rows_at(composite: Composite, params: Params, dtype) -> tuple[jax.Array, jax.Array]:
    """:math:`R` and :math:`r` at ``params``, as `factored`; zero where the Jacobian is not finite."""
    found = linearized(composite, params, dtype)
    finite = jnp.all(jnp.isfinite(found.jacobian))
    return factored(found._replace(jacobian=jnp.where(finite, found.jacobian, 0)))


def spectrum(rows: jax.Array, rest: jax.Array, scales: jax.Array) -> Spectrum:
    """The singular values of the rows, with the columns divided by ``scales``."""
    left, values, right = small.svd(rows / scales[None, :])
    noise = max(rows.shape) * jnp.finfo(rows.dtype).eps * values[0]
    values = jnp.where(values > noise, values, 0)
    return Spectrum(values, right, left.T @ rest, scales)


def damped_solve(found: Spectrum, shift: Scalar, rest: jax.Array) -> jax.Array:
    """The scaled step in the basis of singular vectors."""
    # In units of the largest, whose square may be out of range.
    size = power_of_two(found.values[0])
    values = found.values / size
    below = values**2 + shift / size / size
    return -jnp.where(below > 0, values * (rest / size) / jnp.where(below > 0, below, 1), 0)
