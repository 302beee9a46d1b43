r"""Nouns of methods for constraints: multipliers, merit functions and the state that they share.

.. math:: \min_x f(x) \quad\text{subject to}\quad h(x) = 0, \; g(x) \le 0
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax.types import Answer, Method, Params, Scalar

__all__ = ["Constraints", "Merit", "MeritState", "Multipliers", "Point", "constraint_values"]

_FORMS = {"equality": ("x - 1", "x == 1", "= 0"), "inequality": ("x - 1", "x <= 1", "<= 0")}
"""How a constraint is written: what is returned, for which relation, and what is asked of it."""


def constraint_values(owner: str, name: str, function: Callable[[Params], Any], params: Params) -> Any:
    """What a constraint returns at params, or an error that says what is wrong with it.

    Args:
      owner: who asks, for the error.
      name: ``"equality"`` or ``"inequality"``.
      function: the constraint.
      params: the point.

    Raises:
      TypeError: if there are no values, or one is not of real floating type: a comparison, a count, a word.
      ValueError: if all are empty arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> constraint_values("here", "inequality", lambda x: x - 1, jnp.ones(2)).tolist()
      [0.0, 0.0]
    """
    values, (form, relation, asked) = function(params), _FORMS[name]
    wanted = f"return numbers of which {name} asks {asked}, such as {form} for {relation}"
    leaves = tree_leaves_with_path(values)
    if not leaves:
        found = "None" if values is None else f"a {type(values).__name__} without arrays"
        raise TypeError(f"{owner}: {name} returned {found} (a missing `return`?); {wanted}")
    for path, leaf in leaves:
        where = f"{name}(params){keystr(path)}"
        try:
            dtype = jnp.asarray(leaf).dtype
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: {where} is a {type(leaf).__name__}; {wanted}") from None
        if jnp.issubdtype(dtype, bool):
            raise TypeError(f"{owner}: {where} is {dtype}, as comparisons are, without a slope; {wanted}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{owner}: {where} is {dtype}, not a real floating number; {wanted}")
    if all(jnp.size(leaf) == 0 for _, leaf in leaves):
        raise ValueError(f"{owner}: {name} returned no numbers, shape {jnp.shape(leaves[0][1])}; {wanted}")
    return values


class Multipliers(NamedTuple):
    r"""What the constraints cost: :math:`\nabla f + J_h^T \lambda + J_g^T \mu = 0` at a solution.

    Attributes:
      equality: :math:`\lambda`, with the structure that the equality constraints return, or None.
      inequality: :math:`\mu \ge 0`, likewise.
    """

    equality: Any
    inequality: Any


class Point(NamedTuple):
    """Constraints and multipliers as vectors: one pair of each."""

    equality: jax.Array
    inequality: jax.Array


class MeritState(NamedTuple):
    """State of every method that minimizes a merit function.

    Attributes:
      answer: the point that the inner method has accepted; its value is that of the objective alone.
      multipliers: the estimates there.
      inner: the inner method's state.
      penalty: the penalty parameter.
      shift: the multipliers that the merit function is built on.
      constraints: their values at the answer.
      tolerance: how low the gradient of the merit function has to be for the round to end.
      violation: of the answer of the round before.
      lowest: a value of the objective that no feasible point should have.
      count: updates in this round; -1 before the first of all.
      best: the lowest residual at the end of a round.
      stubborn: rounds in a row that have not lowered the violation.
      idle: rounds in a row without progress.
    """

    answer: Answer
    multipliers: Multipliers
    inner: Any
    penalty: Scalar
    shift: Point
    constraints: Point
    tolerance: Scalar
    violation: Scalar
    lowest: Scalar
    count: Scalar
    best: Scalar
    stubborn: Scalar
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
    interior: Any = False


class Constraints(NamedTuple):
    """The functions of the params, either of them None; called, their values as vectors."""

    equality: Any
    inequality: Any

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
