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
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdjax import control_flow, jaxprs, loops, trees
from gdjax.types import Params, Scalar, ValueFn

__all__ = ["detached", "minimizer", "root"]

DENSE_UP_TO = 256
"""Below this many unknowns the Hessian is laid out and factored, above it conjugate gradients run."""


def _solve_symmetric(product: Callable, right: Params) -> Params:
    """Solves H x = b for a symmetric H that is known by its products."""
    flat, unravel = ravel_pytree(right)

    def flat_product(v):
        return ravel_pytree(product(unravel(v)))[0]

    solve = _dense if flat.size <= DENSE_UP_TO else _conjugate_gradients
    return unravel(jax.lax.custom_linear_solve(flat_product, flat, solve, symmetric=True))


def _dense(product: Callable, right: jax.Array) -> jax.Array:
    matrix = jax.vmap(product)(jnp.eye(right.size, dtype=right.dtype))
    return jnp.linalg.solve(0.5 * (matrix + matrix.T), right)


def _conjugate_gradients(product: Callable, right: jax.Array) -> jax.Array:
    tolerance = 100 * float(jnp.finfo(right.dtype).eps)
    return jax.scipy.sparse.linalg.cg(product, right, tol=tolerance, maxiter=10 * right.size)[0]


def detached(function: Callable, *arguments: Any, evaluate: Callable = jaxprs.evaluate) -> Any:
    """Calls ``function`` with no derivative passing in or out, by arguments or by what it closes over.

    Args:
      function: what is called.
      arguments: what it is called with.
      evaluate: ``(program, constants, arguments) -> leaves``, how its program is evaluated.
    """
    program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    given = jax.lax.stop_gradient((program.consts, jax.tree.leaves(arguments)))
    leaves = evaluate(program.jaxpr, *given)
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)


def _solve(product: Callable, right: jax.Array) -> jax.Array:
    """Solves A x = b for an A that is known by its products."""
    if right.size <= DENSE_UP_TO:
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
    value_fn: ValueFn, optimality: Callable[[ValueFn, Params, Any], Any], solve: Callable[[], Any]
) -> tuple[Params, Scalar, Any]:
    """As `minimizer`, for solutions that are roots of other conditions: at a bound or on a constraint.

    Args:
      value_fn: the objective.
      optimality: ``(value_fn, params, state) -> (unknowns, conditions, value)`` with the params first among the
        unknowns, ``conditions(unknowns)`` of the same size, zero at the solution, and ``value(params)`` what is
        minimized in all. Which bounds and constraints hold is read off the state.
      solve: as `minimizer` takes it, with ``rest.state`` the method's state.

    Returns:
      ``params``, ``value`` and ``rest``, as `minimizer` does.
    """
    params, value, residual, sound, rest = detached(solve, evaluate=loops.evaluate)
    unknowns, conditions, total = optimality(value_fn, params, rest.state)
    program = jaxprs.Program(lambda z: (total(z[0]), conditions(z)), unknowns)
    unknowns, value = _attach_root(program, program.constants, unknowns, value, residual, sound)
    return unknowns[0], value, rest


class FixedPoint(optax.GradientTransformationExtraArgs):
    r"""A transformation whose answers are fixed points, :math:`x = \operatorname{prox}_{t r}(x - t \nabla f(x))`.

    What is derived from it says of what, by ``splits``.
    """

    def splits(self, state: Any) -> tuple[Callable[[Params], Params], Callable[[Params], Any], Any]:
        r"""The proximal operator at :math:`t` as a function of params, the value of :math:`r`, and :math:`t`."""
        raise TypeError("this transformation does not say what its answers are fixed points of")

    def optimality(self, value_fn: ValueFn, params: Params, state: Any) -> Any:
        """The conditions that `root` differentiates: the gradient mapping is zero."""
        prox, penalty, rate = self.splits(state)

        def conditions(unknowns):
            point, back = ravel_pytree(unknowns[0])
            slope = ravel_pytree(jax.grad(value_fn)(unknowns[0]))[0]
            target = ravel_pytree(prox(back(point - rate * slope)))[0]
            return ((point - target) / rate,)

        return (params,), conditions, lambda p: value_fn(p) + penalty(p)


class SplitPoint(optax.GradientTransformationExtraArgs):
    r"""Answers meet :math:`\nabla f(x) + A^T y = 0`, :math:`y \in \partial g(z)` and :math:`z = A x`.

    The multipliers have to be unique: the rows of :math:`A` where :math:`g` bends are independent.
    """

    def pieces(self, state: Any) -> tuple[Any, Callable[[Params], Any] | None, jax.Array, jax.Array]:
        r"""The regularizer :math:`g`, :math:`A` or None for the identity, and :math:`z` and :math:`y`, flat."""
        raise TypeError("this transformation does not say what it splits")

    def optimality(self, value_fn: ValueFn, params: Params, state: Any) -> Any:
        """The conditions that `root` differentiates."""
        regularizer, linear, split, dual = self.pieces(state)
        image = params if linear is None else jax.eval_shape(linear, params)
        _, back = trees.flat(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), image))

        def through(p):
            return trees.flat(p if linear is None else linear(p))[0]

        def conditions(unknowns):
            point, *duals = unknowns
            image, pull = jax.vjp(through, point)
            slope = jax.grad(value_fn)(point)
            y = duals[0] if duals else -trees.flat(slope)[0]
            gap = image - trees.flat(regularizer.prox(back(image + y), 1))[0]
            return (jax.tree.map(jnp.add, slope, pull(y)[0]), gap) if duals else (0.5 * gap,)

        def total(p):
            here = jnp.asarray(regularizer.value(back(through(p))))
            return value_fn(p) + jnp.where(jnp.isfinite(here), here, regularizer.value(back(split)))

        return (params,) if linear is None else (params, dual), conditions, total


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

    (_, gradient), (value_dot, mixed) = jax.jvp(at_solution, (constants,), (tangents[0],))
    stationary = trees.norm(gradient) <= 2 * residual + jnp.finfo(value.dtype).tiny
    params_dot = jax.tree.map(jnp.negative, _solve_symmetric(hessian_product, mixed))

    def flagged(tangent):
        return tangent * jnp.where(sound & stationary, 1, jnp.nan).astype(tangent.dtype)

    return (params, value), jax.tree.map(flagged, (params_dot, value_dot.astype(value.dtype)))


def minimizer(
    value_fn: ValueFn,
    solve: Callable[[], tuple[Params, Scalar, Scalar, Scalar, Any]],
) -> tuple[Params, Scalar, Any]:
    """Calls ``solve`` and makes what it finds differentiable in all that ``value_fn`` closes over.

    Args:
      value_fn: the objective, twice differentiable at the solution.
      solve: ``() -> (params, value, residual, sound, rest)``; ``sound`` says whether ``params`` solves
        the problem, so that the theorem holds.

    Returns:
      ``params``, ``value`` and ``rest``. Derivatives of the first two are implicit, NaN where the
      solution is not sound, or where the gradient is above the residual (a constrained or nonsmooth
      solution is no root of the gradient); ``rest`` has none.
    """
    params, value, residual, sound, rest = detached(solve, evaluate=loops.evaluate)
    value_at = jaxprs.Program(value_fn, params)
    params, value = _attach(value_at, value_at.constants, params, value, residual, sound)
    return params, value, rest
