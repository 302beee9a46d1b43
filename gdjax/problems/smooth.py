r"""Smooth test functions with one basin or a few, each with its formula, source, starts and optima.

The objectives are plain module-level functions of an array (those with parameters bind them with
``Partial``), so that building a problem twice compiles nothing twice.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gdjax.problems.problem import Problem, alternating, at_least, box_start, known, square_window
from gdjax.types import Scalar, ScalarLike

__all__ = [
    "beale",
    "booth",
    "himmelblau",
    "quadratic",
    "rosenbrock",
]


def _rosenbrock(x: jax.Array) -> Scalar:
    if x.shape == (2,):  # two scalars: measured 1.2 to 1.6 times as fast as slices under vmap
        first, second = jnp.unstack(jnp.asarray(x))
        return 100.0 * jnp.square(second - first * first) + jnp.square(1.0 - first)
    first, second = x[:-1], x[1:]
    return jnp.sum(100.0 * jnp.square(second - first * first) + jnp.square(1.0 - first))


def rosenbrock(dim: int = 2) -> Problem:
    r"""The banana valley.

    .. math:: f(x) = \sum_{i=1}^{n-1} 100\,(x_{i+1} - x_i^2)^2 + (1 - x_i)^2

    Minimum 0 at :math:`(1, \dots, 1)`; from four dimensions on there is also a local one near
    :math:`(-1, 1, \dots, 1)`. Start :math:`(-1.2, 1, -1.2, 1, \dots)`, random starts in
    :math:`[-2, 2]^n`.

    Args:
      dim: :math:`n`, at least 2.

    Reference:
      Rosenbrock, An automatic method for finding the greatest or least value of a function, Computer
      Journal 3(3), 1960, pp. 175-184; the chained form: Shang, Qiu, Evolutionary Computation 14(1), 2006.

    Example:
      >>> import gdjax
      >>> problem = gdjax.problems.rosenbrock()
      >>> round(float(problem.objective(problem.start())), 4)
      24.2
    """
    at_least("rosenbrock", dim, 2)
    return Problem(
        name="rosenbrock",
        objective=_rosenbrock,
        start=box_start(alternating(dim, -1.2, 1.0), -2.0, 2.0),
        optima=(known(np.ones(dim), 0.0),),
        window=((-2.0, 2.0), (-1.0, 3.0)),
        tags=frozenset({"smooth", "scalable", "valley"}),
    )


def _diagonal_quadratic(eigenvalues: jax.Array, x: jax.Array) -> Scalar:
    x = jnp.asarray(x)
    return 0.5 * jnp.sum(jnp.asarray(eigenvalues, x.dtype) * jnp.square(x))


def _rotated_quadratic(eigenvalues: jax.Array, basis: jax.Array, x: jax.Array) -> Scalar:
    x = jnp.asarray(x)
    return _diagonal_quadratic(eigenvalues, jnp.asarray(basis, x.dtype).T @ x)


def quadratic(dim: int = 2, condition: ScalarLike = 100.0, *, key: jax.Array | None = None) -> Problem:
    r"""A convex quadratic with a given condition number.

    .. math:: f(x) = \tfrac12\, x^T Q \Lambda Q^T x, \qquad \lambda_i = \kappa^{(i-1)/(n-1)}

    Minimum 0 at the origin. Start :math:`(1, \dots, 1)`, random starts in :math:`[-2, 2]^n`.

    Args:
      dim: :math:`n`, at least 1.
      condition: :math:`\kappa \ge 1`; may be a tracer.
      key: draws a random orthogonal basis :math:`Q`; without it :math:`Q = I`, which favours methods that
        scale each coordinate.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., Section 3.3 (the rate of steepest
      descent).

    Example:
      >>> import gdjax
      >>> problem = gdjax.problems.quadratic(2, 10.0)
      >>> float(problem.objective(problem.start()))
      5.5
    """
    at_least("quadratic", dim, 1)
    powers = jnp.arange(dim) / max(dim - 1, 1)
    eigenvalues = jnp.asarray(condition, float) ** powers.astype(float)
    objective = Partial(_diagonal_quadratic, eigenvalues)
    if key is not None:
        basis = jax.random.orthogonal(key, dim, dtype=eigenvalues.dtype)
        objective = Partial(_rotated_quadratic, eigenvalues, basis)
    return Problem(
        name="quadratic",
        objective=objective,
        start=box_start([1.0] * dim, -2.0, 2.0),
        optima=(known(np.zeros(dim), 0.0),),
        window=square_window(-2.0, 2.0) if dim > 1 else None,
        tags=frozenset({"smooth", "scalable", "convex"}),
    )


def _himmelblau(x: jax.Array) -> Scalar:
    return jnp.square(x[0] ** 2 + x[1] - 11.0) + jnp.square(x[0] + x[1] ** 2 - 7.0)


def himmelblau() -> Problem:
    r"""Four equal minima.

    .. math:: f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2

    Minimum 0 at (3, 2) and three more points. Start (0, 0), random starts in :math:`[-5, 5]^2`.

    Reference:
      Himmelblau, Applied Nonlinear Programming, McGraw-Hill, 1972.

    Example:
      >>> import gdjax
      >>> len(gdjax.problems.himmelblau().optima)
      4
    """
    minima = [
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    ]
    return Problem(
        name="himmelblau",
        objective=_himmelblau,
        start=box_start([0.0, 0.0], -5.0, 5.0),
        optima=tuple(known(point, 0.0) for point in minima),
        window=square_window(-5.0, 5.0),
        tags=frozenset({"smooth", "multimodal"}),
    )


def _beale(x: jax.Array) -> Scalar:
    a, b = x[0], x[1]
    return jnp.square(1.5 - a + a * b) + jnp.square(2.25 - a + a * b**2) + jnp.square(2.625 - a + a * b**3)


def beale() -> Problem:
    r"""Flat along a ridge, steep in the corners.

    .. math:: f(x, y) = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2

    Minimum 0 at (3, 0.5). Start (1, 1), random starts in :math:`[-4.5, 4.5]^2`.

    Reference:
      More, Garbow, Hillstrom, Testing unconstrained optimization software, ACM TOMS 7(1), 1981, problem 5.

    Example:
      >>> import gdjax
      >>> gdjax.problems.beale().optimum.params.tolist()
      [3.0, 0.5]
    """
    return Problem(
        name="beale",
        objective=_beale,
        start=box_start([1.0, 1.0], -4.5, 4.5),
        optima=(known([3.0, 0.5], 0.0),),
        window=square_window(-4.5, 4.5),
        tags=frozenset({"smooth"}),
    )


def _booth(x: jax.Array) -> Scalar:
    return jnp.square(x[0] + 2.0 * x[1] - 7.0) + jnp.square(2.0 * x[0] + x[1] - 5.0)


def booth() -> Problem:
    r"""A convex quadratic in disguise, condition number 9.

    .. math:: f(x, y) = (x + 2y - 7)^2 + (2x + y - 5)^2

    Minimum 0 at (1, 3). Start (0, 0), random starts in :math:`[-10, 10]^2`.

    Reference:
      Jamil, Yang, A literature survey of benchmark functions for global optimization problems, IJMMNO 4(2),
      2013, function 17.

    Example:
      >>> import gdjax
      >>> problem = gdjax.problems.booth()
      >>> float(problem.objective(problem.start()))
      74.0
    """
    return Problem(
        name="booth",
        objective=_booth,
        start=box_start([0.0, 0.0], -10.0, 10.0),
        optima=(known([1.0, 3.0], 0.0),),
        window=square_window(-10.0, 10.0),
        tags=frozenset({"smooth", "convex"}),
    )
