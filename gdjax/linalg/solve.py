r"""Krylov solvers: a symmetric matrix known only by its products with pytrees.

Right-hand sides are brought to unit size first, so that squares neither overflow nor vanish in float32.
Every number may be a tracer; each loop has a cap, and takes part in ``vmap``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow, trees
from gdjax._internal.trees import choose
from gdjax.linalg.vectors import add, norm, ratio, times, unit, vdot
from gdjax.types import MatVec, Params, Scalar, ScalarLike

__all__ = ["Solution", "cg", "minres"]


class Solution(NamedTuple):
    """What an iterative solver found.

    Attributes:
      solution: a pytree as the right-hand side.
      residual: the 2-norm of what is left, by the solver's own recurrence.
      steps: products taken, int32.
      definite: whether all curvature met was positive (always True for `minres`, which does not ask).
    """

    solution: Params
    residual: Scalar
    steps: Scalar
    definite: Scalar


def _identity(tree: Params) -> Params:
    return tree


class _CGState(NamedTuple):
    solution: Params
    residual: Params
    direction: Params
    product: Scalar
    norm: Scalar
    steps: Scalar
    definite: Scalar


def cg(
    product: MatVec,
    right: Params,
    *,
    preconditioner: MatVec = _identity,
    tolerance: ScalarLike = 1e-5,
    max_steps: int | Scalar | None = None,
) -> Solution:
    r"""Conjugate gradients for :math:`A x = b` with a positive definite A.

    .. math::
       x_{k+1} = x_k + \alpha_k p_k, \quad \alpha_k = \frac{r_k^T M r_k}{p_k^T A p_k}, \quad
       p_{k+1} = M r_{k+1} + \frac{r_{k+1}^T M r_{k+1}}{r_k^T M r_k} p_k

    Stops at :math:`\|r_k\| \le \tau \|b\|`. Where curvature is not positive it stops too, says so, and keeps
    what it has: the start of a truncated Newton step. At the first product that is :math:`x = 0`.

    Args:
      product: ``v -> A v``.
      right: :math:`b`, a pytree of floating arrays.
      preconditioner: ``r -> M r`` with M positive definite and near the inverse of A.
      tolerance: :math:`\tau \ge 0`.
      max_steps: the most products; the number of unknowns by default.

    Reference:
      Hestenes, Stiefel, Methods of conjugate gradients for solving linear systems, 1952; Nocedal, Wright,
      Numerical Optimization, 2nd ed., Algorithm 5.3.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import linalg
      >>> linalg.cg(lambda v: 2.0 * v, jnp.array([2.0, 4.0])).solution.tolist()
      [1.0, 2.0]
    """
    right, size = unit(right)
    most = trees.size(right) if max_steps is None else max_steps
    direction = preconditioner(right)
    goal = tolerance * norm(right)
    start = _CGState(
        solution=jax.tree.map(jnp.zeros_like, right),
        residual=right,
        direction=direction,
        product=vdot(right, direction),
        norm=norm(right),
        steps=jnp.int32(0),
        definite=jnp.asarray(True),
    )

    def unfinished(state):
        return (state.steps < most) & (state.norm > goal) & state.definite

    def iterate(state):
        image = product(state.direction)
        curvature_along = vdot(state.direction, image)
        definite = (curvature_along > 0) & (state.product > 0) & jnp.isfinite(curvature_along)
        length = jnp.where(definite, ratio(state.product, curvature_along), 0)
        solution = add(state.solution, length, state.direction)
        residual = choose(definite, add(state.residual, -length, image), state.residual)
        preconditioned = preconditioner(residual)
        next_product = vdot(residual, preconditioned)
        direction = add(preconditioned, ratio(next_product, state.product), state.direction)
        return _CGState(
            solution, residual, direction, next_product, norm(residual), state.steps + 1, definite
        )

    end = control_flow.while_loop(unfinished, iterate, start)
    return Solution(times(size, end.solution), size * end.norm, end.steps, end.definite)


class _MinresState(NamedTuple):
    solution: Params
    previous: Params
    vector: Params
    beta: Scalar
    older: Params
    newer: Params
    cosine: Scalar
    sine: Scalar
    delta: Scalar
    epsilon: Scalar
    norm: Scalar
    scale: Scalar
    steps: Scalar
    finished: Scalar


def minres(
    product: MatVec, right: Params, *, tolerance: ScalarLike = 1e-5, max_steps: int | Scalar | None = None
) -> Solution:
    r"""MINRES for :math:`A x = b` with any symmetric A: the least residual in each Krylov space.

    Lanczos vectors :math:`v_k` with Givens rotations on their tridiagonal matrix; indefinite and consistent
    singular systems included. Stops at :math:`\|r_k\| \le \tau \|b\|`.

    Args:
      product: ``v -> A v``.
      right: :math:`b`, a pytree of floating arrays.
      tolerance: :math:`\tau \ge 0`.
      max_steps: the most products; twice the number of unknowns by default.

    Reference:
      Paige, Saunders, Solution of sparse indefinite systems of linear equations, SIAM J. Numer. Anal. 12(4),
      1975, Section 6; in the notation of Choi, Paige, Saunders, MINRES-QLP, SIAM J. Sci. Comput. 33(4), 2011.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import linalg
      >>> found = linalg.minres(lambda v: jnp.array([1.0, -2.0]) * v, jnp.array([1.0, 2.0]))
      >>> [round(x, 5) for x in found.solution.tolist()]
      [1.0, -1.0]
    """
    right, size = unit(right)
    most = 2 * trees.size(right) if max_steps is None else max_steps
    start_norm = norm(right)
    one, zero = jnp.ones_like(start_norm), jnp.zeros_like(start_norm)
    goal = tolerance * start_norm
    zeros = jax.tree.map(jnp.zeros_like, right)
    start = _MinresState(
        solution=zeros,
        previous=zeros,
        vector=times(ratio(one, start_norm), right),
        beta=zero,
        older=zeros,
        newer=zeros,
        cosine=-one,
        sine=zero,
        delta=zero,
        epsilon=zero,
        norm=start_norm,
        scale=zero,
        steps=jnp.int32(0),
        finished=~(start_norm > 0),
    )

    def unfinished(state):
        return (state.steps < most) & (state.norm > goal) & ~state.finished

    def iterate(state):
        image = product(state.vector)
        alpha = vdot(state.vector, image)
        image = add(add(image, -alpha, state.vector), -state.beta, state.previous)
        beta = norm(image)
        delta = state.cosine * state.delta + state.sine * alpha
        gamma = state.sine * state.delta - state.cosine * alpha
        pivot = jnp.hypot(gamma, beta)
        scale = jnp.maximum(state.scale, jnp.hypot(alpha, beta))
        broken = ~(pivot > jnp.finfo(pivot.dtype).eps * scale)
        cosine, sine = ratio(gamma, pivot), ratio(beta, pivot)
        direction = add(add(state.vector, -delta, state.newer), -state.epsilon, state.older)
        direction = times(jnp.where(broken, 0, ratio(one, pivot)), direction)
        solution = add(state.solution, jnp.where(broken, 0, cosine * state.norm), direction)
        return _MinresState(
            solution=choose(broken, state.solution, solution),
            previous=state.vector,
            vector=times(ratio(one, beta), image),
            beta=beta,
            older=state.newer,
            newer=direction,
            cosine=cosine,
            sine=sine,
            delta=-state.cosine * beta,
            epsilon=state.sine * beta,
            norm=jnp.where(broken, state.norm, sine * state.norm),
            scale=scale,
            steps=state.steps + 1,
            finished=broken,
        )

    end = control_flow.while_loop(unfinished, iterate, start)
    return Solution(times(size, end.solution), size * end.norm, end.steps, jnp.asarray(True))
