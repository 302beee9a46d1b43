"""Functions with a saddle, to see which methods get away from it."""

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.problems.problem import Problem, box_start, known, square_window
from gdjax.types import Scalar

__all__ = ["monkey_saddle", "strict_saddle"]


def _strict_saddle(x: jax.Array) -> Scalar:
    a, b = x[0], x[1]
    return 0.5 * jnp.square(a) + 0.25 * b**4 - 0.5 * jnp.square(b)


def strict_saddle() -> Problem:
    r"""Two minima with a strict saddle between them.

    .. math:: f(x, y) = \tfrac12 x^2 + \tfrac14 y^4 - \tfrac12 y^2

    Minima -1/4 at :math:`(0, \pm 1)`; at the origin the Hessian is diag(1, -1). The line :math:`y = 0` leads
    straight into the saddle; the start (1, 0.001) lies just beside it. Random starts in
    :math:`[-1.5, 1.5]^2`.

    Reference:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, Example 1.2.2.

    Example:
      >>> import gdjax
      >>> gdjax.problems.strict_saddle().optimum.value
      -0.25
    """
    return Problem(
        name="strict_saddle",
        objective=_strict_saddle,
        start=box_start([1.0, 1e-3], -1.5, 1.5),
        optima=(known([0.0, 1.0], -0.25), known([0.0, -1.0], -0.25)),
        saddles=(np.zeros(2),),
        window=square_window(-1.5, 1.5),
        tags=frozenset({"smooth", "saddle", "multimodal"}),
    )


def _monkey_saddle(x: jax.Array) -> Scalar:
    a, b = x[0], x[1]
    return a**3 - 3.0 * a * jnp.square(b)


def monkey_saddle() -> Problem:
    r"""A degenerate saddle: the Hessian at the origin is zero, and the function is unbounded below.

    .. math:: f(x, y) = x^3 - 3 x y^2

    Three valleys (two legs and a tail) leave the origin; there is no minimum. Start (0.5, 0.1), random
    starts in :math:`[-1, 1]^2`.

    Reference:
      Hilbert, Cohn-Vossen, Geometry and the Imagination, 1952, Chapter IV.

    Example:
      >>> import gdjax
      >>> gdjax.problems.monkey_saddle().optimum is None
      True
    """
    return Problem(
        name="monkey_saddle",
        objective=_monkey_saddle,
        start=box_start([0.5, 0.1], -1.0, 1.0),
        saddles=(np.zeros(2),),
        window=square_window(-1.0, 1.0),
        tags=frozenset({"smooth", "saddle", "unbounded"}),
    )
