"""Multimodal test functions of the literature, each with its formula, source, starts and optima."""

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.problems.problem import Problem, alternating, at_least, box_start, known, square_window
from gdjax.types import Scalar

__all__ = ["ackley", "goldstein_price", "rastrigin", "styblinski_tang"]


def _rastrigin(x: jax.Array) -> Scalar:
    return jnp.sum(jnp.square(x) + 20.0 * jnp.square(jnp.sin(jnp.pi * x)))


def rastrigin(dim: int = 2) -> Problem:
    r"""A bowl with a lattice of local minima.

    .. math:: f(x) = 10 n + \sum_{i=1}^n x_i^2 - 10 \cos(2 \pi x_i) = \sum_{i=1}^n x_i^2 + 20 \sin^2(\pi x_i)

    The second form does not cancel near the minimum, 0 at the origin. Start :math:`(2.2, -2.2, \dots)`,
    random starts in :math:`[-5.12, 5.12]^n`.

    Args:
      dim: :math:`n`, at least 1.

    Reference:
      Rastrigin, Systems of Extremal Control, Nauka, 1974; in n dimensions: Muehlenbein, Schomisch, Born,
      Parallel Computing 17, 1991.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> round(float(gdjax.problems.rastrigin().objective(jnp.array([0.5, 0.0]))), 4)
      20.25
    """
    at_least("rastrigin", dim, 1)
    return Problem(
        name="rastrigin",
        objective=_rastrigin,
        start=box_start(alternating(dim, 2.2, -2.2), -5.12, 5.12),
        optima=(known(np.zeros(dim), 0.0),),
        window=square_window(-5.12, 5.12) if dim > 1 else None,
        tags=frozenset({"smooth", "scalable", "multimodal"}),
    )


def _ackley(x: jax.Array) -> Scalar:
    mean_square = jnp.mean(jnp.square(x))
    positive = mean_square > 0
    radius = jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_square, 1.0)), 0.0)
    ripple = -2.0 * jnp.mean(jnp.square(jnp.sin(jnp.pi * x)))
    return -20.0 * jnp.expm1(-0.2 * radius) - jnp.e * jnp.expm1(ripple)


def ackley(dim: int = 2) -> Problem:
    r"""A funnel under ripples.

    .. math::
       f(x) = -20 \exp\Bigl(-0.2 \sqrt{\tfrac1n \sum x_i^2}\Bigr)
              - \exp\Bigl(\tfrac1n \sum \cos 2 \pi x_i\Bigr) + 20 + e

    Minimum 0 at the origin, where the function has a kink: its gradient there is taken to be 0, one of
    the subgradients. Written with ``expm1``, so that it does not cancel near the minimum.
    Start :math:`(2, 1.5, 2, \dots)`, random starts in :math:`[-5, 5]^n`.

    Args:
      dim: :math:`n`, at least 1.

    Reference:
      Ackley, A Connectionist Machine for Genetic Hillclimbing, Kluwer, 1987; in n dimensions: Baeck,
      Schwefel, An overview of evolutionary algorithms, Evolutionary Computation 1(1), 1993.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> float(gdjax.problems.ackley().objective(jnp.zeros(2)))
      0.0
    """
    at_least("ackley", dim, 1)
    return Problem(
        name="ackley",
        objective=_ackley,
        start=box_start(alternating(dim, 2.0, 1.5), -5.0, 5.0),
        optima=(known(np.zeros(dim), 0.0),),
        window=square_window(-5.0, 5.0) if dim > 1 else None,
        tags=frozenset({"kink", "scalable", "multimodal"}),
    )


def _styblinski_tang(x: jax.Array) -> Scalar:
    return 0.5 * jnp.sum(x**4 - 16.0 * jnp.square(x) + 5.0 * x)


def styblinski_tang(dim: int = 2) -> Problem:
    r"""A double well in each coordinate, :math:`2^n` minima.

    .. math:: f(x) = \tfrac12 \sum_{i=1}^n x_i^4 - 16 x_i^2 + 5 x_i

    Minimum :math:`-39.16617\,n` at :math:`x_i = -2.903534`, a root of :math:`4x^3 - 32x + 5`. Start at the
    origin, random starts in :math:`[-5, 5]^n`.

    Args:
      dim: :math:`n`, at least 1.

    Reference:
      Styblinski, Tang, Experiments in nonconvex optimization, Neural Networks 3(4), 1990, pp. 467-483.

    Example:
      >>> import gdjax
      >>> round(gdjax.problems.styblinski_tang().optimum.value, 4)
      -78.3323
    """
    at_least("styblinski_tang", dim, 1)
    return Problem(
        name="styblinski_tang",
        objective=_styblinski_tang,
        start=box_start([0.0] * dim, -5.0, 5.0),
        optima=(known(np.full(dim, -2.903534027771177), -39.16616570377141 * dim),),
        window=square_window(-5.0, 5.0) if dim > 1 else None,
        tags=frozenset({"smooth", "scalable", "multimodal"}),
    )


def _goldstein_price(point: jax.Array) -> Scalar:
    x, y = point[0], point[1]
    near = 19.0 - 14.0 * x + 3.0 * x**2 - 14.0 * y + 6.0 * x * y + 3.0 * y**2
    far = 18.0 - 32.0 * x + 12.0 * x**2 + 48.0 * y - 36.0 * x * y + 27.0 * y**2
    first = 1.0 + jnp.square(x + y + 1.0) * near
    second = 30.0 + jnp.square(2.0 * x - 3.0 * y) * far
    return first * second


def goldstein_price() -> Problem:
    r"""Values from 3 to a million in a small square.

    .. math::
       f(x, y) = &\bigl[1 + (x + y + 1)^2 (19 - 14x + 3x^2 - 14y + 6xy + 3y^2)\bigr] \\
       \cdot &\bigl[30 + (2x - 3y)^2 (18 - 32x + 12x^2 + 48y - 36xy + 27y^2)\bigr]

    Minimum 3 at (0, -1); local minima at (-0.6, -0.4), (1.8, 0.2) and (1.2, 0.8). Start (0.5, -0.8), random
    starts in :math:`[-2, 2]^2`.

    Reference:
      Goldstein, Price, On descent from local minima, Mathematics of Computation 25, 1971, pp. 569-574.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> float(gdjax.problems.goldstein_price().objective(jnp.array([0.0, -1.0])))
      3.0
    """
    return Problem(
        name="goldstein_price",
        objective=_goldstein_price,
        start=box_start([0.5, -0.8], -2.0, 2.0),
        optima=(known([0.0, -1.0], 3.0),),
        window=square_window(-2.0, 2.0),
        tags=frozenset({"smooth", "multimodal"}),
    )
