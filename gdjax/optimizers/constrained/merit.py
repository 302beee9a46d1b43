r"""Nouns of methods for constraints: multipliers, merit functions and the state that they share.

.. math:: \min_x f(x) \quad\text{subject to}\quad h(x) = 0, \; g(x) \le 0
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax.types import Answer, Method, Optimality, Params, PyTree, Scalar, State

__all__ = ["LARGE", "Constraints", "Merit", "MeritState", "Multipliers", "Point", "Scales"]

LARGE = 100
"""Params up to this count as being in units of their own: the g_max of Waechter and Biegler (2006), section 3.8."""


class Multipliers(NamedTuple):
    r"""What the constraints cost: :math:`\nabla f + J_h^T \lambda + J_g^T \mu = 0` at a solution.

    Attributes:
      equality: :math:`\lambda`, with the structure that the equality constraints return, or None.
      inequality: :math:`\mu \ge 0`, likewise.
    """

    equality: PyTree
    inequality: PyTree


class Point(NamedTuple):
    """Constraints and multipliers as vectors: one pair of each."""

    equality: jax.Array
    inequality: jax.Array


class Scales(NamedTuple):
    """What objective and constraints are multiplied by before a method sees them.

    Attributes:
      objective: one factor.
      constraints: one for each.
      length: how far the params go, where that is beyond 100: their units are small. Else one.
    """

    objective: Scalar
    constraints: Point
    length: Scalar

    def seen(self, c: Point) -> Point:
        """Constraints as a method sees them."""
        return jax.tree.map(jnp.multiply, c, self.constraints)

    def given(self, weights: Point) -> Point:
        """Multipliers for objective and constraints as they were given."""
        return jax.tree.map(lambda w, scale: w * (scale / self.objective), weights, self.constraints)


class MeritState(NamedTuple):
    """State of every method that minimizes a merit function.

    Attributes:
      answer: the point that the inner method has accepted; its value is that of the objective, and of the inner
        method's regularizer, alone.
      optimality: the conditions of Karush, Kuhn and Tucker.
      multipliers: the estimates there.
      inner: the inner method's state.
      penalty: the penalty parameter.
      shift: the multipliers that the merit function is built on.
      constraints: their values at the answer.
      scales: the units that all below and the inner method are in.
      tolerance: how low the gradient of the merit function has to be for the round to end.
      violation: of the answer of the round before.
      slope: the norm of the objective's gradient at the answer.
      lowest: a value of the objective that no feasible point should have.
      count: updates in this round; -1 before the first of all.
      best: the lowest residual at the end of a round.
      no_progress: rounds in a row that have not lowered the violation.
      idle: rounds in a row without progress.
    """

    answer: Answer
    optimality: Optimality
    multipliers: Multipliers
    inner: State
    penalty: Scalar
    shift: Point
    constraints: Point
    scales: Scales
    tolerance: Scalar
    violation: Scalar
    slope: Scalar
    lowest: Scalar
    count: Scalar
    best: Scalar
    no_progress: Scalar
    idle: Scalar


class Merit(NamedTuple):
    r"""What is added to the objective.

    Attributes:
      value: ``(constraints, shift, penalty) ->`` :math:`\psi`.
      weights: ``(constraints, shift, penalty) ->`` its derivatives in the constraints, which
        estimate the multipliers.
      renew: ``(weights, shift, penalty, enough) -> (shift, penalty)`` at the end of a round; ``enough`` says whether
        the violation has fallen.
      start: ``(penalty, value, constraints) -> penalty`` at the starting point.
      owner: the method, for errors.
      interior: whether it is defined only where :math:`g < 0`.
    """

    value: Callable[[Point, Point, Scalar], Scalar]
    weights: Callable[[Point, Point, Scalar], Point]
    renew: Callable[[Point, Point, Scalar, Scalar], tuple[Point, Scalar]]
    start: Callable[[Scalar, Scalar, Point], Scalar]
    owner: Method
    interior: bool = False


class Constraints(NamedTuple):
    """The functions of the params, either of them None; called, their values as vectors."""

    equality: Callable[[Params], PyTree] | None
    inequality: Callable[[Params], PyTree] | None

    def __call__(self, params: Params) -> Point:
        like = jnp.result_type(jnp.float32, *jax.tree.leaves(params))

        def vector(function):
            if function is None:
                return jnp.zeros(0, like)
            return ravel_pytree(function(params))[0].astype(like)

        return Point(vector(self.equality), vector(self.inequality))

    def structured(self, params: Params, point: Point) -> Multipliers:
        """The vectors in the structures that the constraints return."""

        def back(function, vector):
            if function is None:
                return None
            shapes = jax.eval_shape(function, params)
            return ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, vector.dtype), shapes))[1](vector)

        return Multipliers(back(self.equality, point.equality), back(self.inequality, point.inequality))
