r"""Derivatives of a solution, by the implicit function theorem.

At a minimizer :math:`\nabla f(x^\star(\theta), \theta) = 0`, so

.. math:: \frac{dx^\star}{d\theta} = -\left[\nabla^2_{xx} f\right]^{-1} \nabla^2_{x\theta} f,
   \qquad \frac{d}{d\theta} f(x^\star(\theta), \theta) = \partial_\theta f.

No step of the method is differentiated: the cost is one linear solve with the Hessian, however the
solution was found.

Reference:
  Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, section A.2 (implicit function theorem);
  Blondel et al., Efficient and modular implicit differentiation, NeurIPS 2022, eq. (2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax._internal import control_flow, trees
from gdjax._internal.programs import jaxprs
from gdjax.objectives import differentiability
from gdjax.types import Params, PyTree, Scalar, ScalarLike, State, ValueFn

__all__ = ["Found", "Split", "detached", "fixed_point", "minimizer", "root", "split_point", "split_value"]


class Found(NamedTuple):
    """What a run has come to.

    Attributes:
      params: its answer.
      value: there.
      residual: there.
      sound: whether the answer solves the problem, so that the theorem holds.
    """

    params: Params
    value: Scalar
    residual: Scalar
    sound: Scalar


DENSE_UP_TO = 256
"""Below this many unknowns the Hessian is laid out and factored, above it conjugate gradients run."""


def _solve_symmetric(product: Callable, right: Params) -> Params:
    """Solves H x = b for a symmetric H that is known by its products."""
    flat, unravel = ravel_pytree(right)

    def flat_product(v):
        return ravel_pytree(product(unravel(v)))[0]

    solve = _dense if trees.at_most(flat.size, DENSE_UP_TO) else _conjugate_gradients
    return unravel(jax.lax.custom_linear_solve(flat_product, flat, solve, symmetric=True))


def _dense(product: Callable, right: jax.Array) -> jax.Array:
    matrix = jax.vmap(product)(jnp.eye(right.size, dtype=right.dtype))
    return jnp.linalg.solve(0.5 * (matrix + matrix.T), right)


def _conjugate_gradients(product: Callable, right: jax.Array) -> jax.Array:
    tolerance = 100 * float(jnp.finfo(right.dtype).eps)
    return jax.scipy.sparse.linalg.cg(product, right, tol=tolerance, maxiter=10 * right.size)[0]


def detached(function: Callable, *arguments: PyTree) -> PyTree:
    """Calls ``function`` with no derivative passing in or out, by arguments or by what it closes over.

    Args:
      function: what is called.
      arguments: what it is called with.
    """
    program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    given = jax.lax.stop_gradient((program.consts, jax.tree.leaves(arguments)))
    leaves = jaxprs.evaluate(program.jaxpr, *given)
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)


def _solve(product: Callable, right: jax.Array) -> jax.Array:
    """Solves A x = b for an A that is known by its products."""
    if trees.at_most(right.size, DENSE_UP_TO):
        return jnp.linalg.solve(jax.vmap(product)(jnp.eye(right.size, dtype=right.dtype)).T, right)
    tolerance = 100 * float(jnp.finfo(right.dtype).eps)
    return jax.scipy.sparse.linalg.gmres(product, right, tol=tolerance, restart=50)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attach_root(
    program: jaxprs.Program, constants: Any, unknowns: Any, value: Scalar, residual: Scalar, sound: Scalar
) -> Any:
    """``(unknowns, value)`` as functions of what objective and conditions close over."""
    return unknowns, value


@_attach_root.defjvp
def _attach_root_jvp(program, primals, tangents):
    constants, unknowns, value, residual, sound = primals
    unknowns, value = _attach_root(program, *primals)  # so that these have derivatives too
    flat, unravel = ravel_pytree(unknowns)

    def at(c, z):
        found, conditions = program(c, unravel(z))
        return found, ravel_pytree(conditions)[0].astype(flat.dtype)

    (_, conditions), (value_dot, mixed) = jax.jvp(lambda c: at(c, flat), (constants,), (tangents[0],))
    rounding = 10 * jnp.finfo(flat.dtype).eps * jnp.sqrt(jnp.sum(jnp.square(flat)))
    allowed = 2 * (flat.size**0.5) * (residual + rounding) + jnp.finfo(value.dtype).tiny
    met = jnp.sqrt(jnp.sum(jnp.square(conditions))) <= allowed

    def product(v):
        v = control_flow.vary_like(v, flat)
        return jax.jvp(lambda z: at(constants, z)[1], (flat,), (v,))[1]

    moved = -jax.lax.custom_linear_solve(product, mixed, _solve, _solve)
    value_dot = value_dot + jax.jvp(lambda z: at(constants, z)[0], (flat,), (moved,))[1]

    def flagged(tangent):
        return tangent * jnp.where(sound & met, 1, jnp.nan).astype(tangent.dtype)

    return (unknowns, value), jax.tree.map(flagged, (unravel(moved), value_dot.astype(value.dtype)))


def root(
    unknowns: tuple[Params, ...],
    equations: Callable[[tuple[PyTree, ...]], PyTree],
    value_fn: ValueFn,
    found: Found,
) -> tuple[Params, Scalar]:
    """As `minimizer`, for solutions that are roots of other equations: at a bound or on a constraint.

    Args:
      unknowns: the params found, then multipliers.
      equations: as many as unknowns, zero at the solution.
      value_fn: of the params, what is minimized in all.
      found: as `minimizer` takes it.

    Returns:
      Params and value, as `minimizer` does.
    """
    program = jaxprs.Program(lambda z: (value_fn(z[0]), equations(z)), unknowns)
    unknowns, value = _attach_root(
        program, program.constants, unknowns, found.value, found.residual, found.sound
    )
    return unknowns[0], value


def fixed_point(
    prox: Callable[[Params], Params], rate: ScalarLike, value_fn: ValueFn, params: Params
) -> tuple[tuple[Params], Callable]:
    r"""The unknowns and equations of answers that are fixed points, :math:`x = \operatorname{prox}(x - t \nabla f(x))`.

    Args:
      prox: the proximal operator of :math:`t r`.
      rate: :math:`t`.
      value_fn: :math:`f`.
      params: the answer.
    """

    def equations(unknowns):
        point, back = ravel_pytree(unknowns[0])
        slope = ravel_pytree(jax.grad(value_fn)(unknowns[0]))[0]
        target = ravel_pytree(prox(back(point - rate * slope)))[0]
        return ((point - target) / rate,)

    return (params,), equations


class Split(NamedTuple):
    r"""What is added to the objective by a linear map: :math:`g(A x)`.

    Attributes:
      regularizer: :math:`g`, by its ``value`` and ``prox``.
      linear: :math:`A`; None for the identity.
    """

    regularizer: Any
    linear: Callable[[Params], PyTree] | None

    def image(self, params: Params) -> tuple[Callable[[Params], jax.Array], Callable[[jax.Array], PyTree]]:
        """The map to one flat vector, and the way from there to the structure of its outputs."""
        shapes = params if self.linear is None else jax.eval_shape(self.linear, params)
        _, back = trees.flat(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        return lambda p: trees.flat(p if self.linear is None else self.linear(p))[0], back


def split_value(split: Split, params: Params, state: State) -> Scalar:
    """The regularizer's, or that at ``state.split``, z, where the image is on a constraint only in the limit."""
    through, back = split.image(params)
    here = jnp.asarray(split.regularizer.value(back(through(params))))
    return jnp.where(jnp.isfinite(here), here, split.regularizer.value(back(state.split)))


def split_point(
    split: Split, dual: jax.Array, value_fn: ValueFn, params: Params
) -> tuple[tuple[PyTree, ...], Callable]:
    r"""The unknowns and equations of :math:`\nabla f(x) + A^T y = 0`, :math:`y \in \partial g(z)`, :math:`z = A x`.

    The multipliers have to be unique: the rows of :math:`A` where :math:`g` bends are independent.

    Args:
      split: :math:`g` and :math:`A`.
      dual: :math:`y`, flat; where :math:`A` is the identity it is known from the gradient.
      value_fn: :math:`f`.
      params: the answer.
    """
    through, back = split.image(params)

    def equations(unknowns):
        point, *duals = unknowns
        image, pull = jax.vjp(through, point)
        slope = jax.grad(value_fn)(point)
        y = duals[0] if duals else -trees.flat(slope)[0]
        gap = image - trees.flat(split.regularizer.prox(back(image + y), 1))[0]
        return (jax.tree.map(jnp.add, slope, pull(y)[0]), gap) if duals else (0.5 * gap,)

    return (params,) if split.linear is None else (params, dual), equations


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attach(
    value_at: jaxprs.Program, constants: Any, params: Params, value: Scalar, residual: Scalar, sound: Scalar
) -> Any:
    """``(params, value)`` as functions of what the objective closes over."""
    return params, value


@_attach.defjvp
def _attach_jvp(value_at, primals, tangents):
    constants, params, value, residual, sound = primals
    params, value = _attach(value_at, *primals)  # so that these have derivatives too

    def at_solution(c):
        return jax.value_and_grad(lambda p: value_at(c, p))(params)

    def hessian_product(v):
        v = control_flow.vary_like(v, params)
        return jax.jvp(jax.grad(lambda p: value_at(constants, p)), (params,), (v,))[1]

    with differentiability.needed(
        "the derivative of a solution", "second", partial(value_at, constants), params
    ):
        (_, gradient), (value_dot, mixed) = jax.jvp(at_solution, (constants,), (tangents[0],))
        params_dot = jax.tree.map(jnp.negative, _solve_symmetric(hessian_product, mixed))
    stationary = trees.norm(gradient) <= 2 * residual + jnp.finfo(value.dtype).tiny

    def flagged(tangent):
        return tangent * jnp.where(sound & stationary, 1, jnp.nan).astype(tangent.dtype)

    return (params, value), jax.tree.map(flagged, (params_dot, value_dot.astype(value.dtype)))


def minimizer(value_fn: ValueFn, found: Found) -> tuple[Params, Scalar]:
    """Makes what was found differentiable in all that ``value_fn`` closes over.

    Args:
      value_fn: the objective, twice differentiable at the solution.
      found: what a run has come to, itself without derivatives.

    Returns:
      Params and value. Their derivatives are implicit, NaN where the solution is not sound, or where the
      gradient is above the residual (a constrained or nonsmooth solution is no root of the gradient).
    """
    value_at = jaxprs.Program(value_fn, found.params)
    return _attach(value_at, value_at.constants, *found)
