r"""Augmented Lagrangian, quadratic penalty and logarithmic barrier, around any transformation.

:math:`\min f(x)` subject to :math:`h(x) = 0` and :math:`g(x) \le 0`: the constraints are functions of the params that
return an array or a pytree of arrays.
"""

from collections.abc import Callable

import jax.numpy as jnp

from gdjax._internal import checks
from gdjax.optimizers.constrained.merit import Merit, Point
from gdjax.optimizers.constrained.outer_loop import around
from gdjax.optimizers.second_order.trust_region import trust_region
from gdjax.types import Method, Params, PyTree, ScalarLike, Transformation

__all__ = ["augmented_lagrangian", "log_barrier", "quadratic_penalty"]

_GROWTH = 10
"""Of the penalty where violations have not fallen: Nocedal and Wright (2006), section 17.1."""


def _square(v):
    return jnp.sum(v * v)


def _lagrangian_weights(c, shift, rho):
    return Point(shift.equality + rho * c.equality, jnp.maximum(0, shift.inequality + rho * c.inequality))


def _lagrangian_value(c, shift, rho):
    new = _lagrangian_weights(c, shift, rho)
    equality = jnp.sum((shift.equality + 0.5 * rho * c.equality) * c.equality)
    # (m - s)(m + s) / 2 rho, without the difference of squares.
    low = jnp.maximum(-shift.inequality / rho, c.inequality)
    return equality + 0.5 * jnp.sum(low * (new.inequality + shift.inequality))


def _lagrangian_renew(weights, shift, rho, enough):
    del shift
    return weights, jnp.where(enough, rho, _GROWTH * rho)


def _balanced(rho, value, c):
    """The penalty times a value over a square of violations, within reason: the two terms in balance."""
    violation = 0.5 * (_square(c.equality) + _square(jnp.maximum(0, c.inequality)))
    return rho * jnp.clip(jnp.maximum(1, jnp.abs(value)) / jnp.maximum(1, violation), 0.1, 1e4)


def _as_given(rho, value, c):
    del value, c
    return rho


def augmented_lagrangian(
    inner: Transformation | None = None,
    *,
    equality: Callable[[Params], PyTree] | None = None,
    inequality: Callable[[Params], PyTree] | None = None,
    penalty: ScalarLike = 10.0,
) -> Transformation:
    r"""Minimizes the augmented Lagrangian by an inner method and moves the multipliers along.

    .. math::

        L_\rho(x; \lambda, \mu) = f(x) + \lambda^T h + \tfrac\rho2 \lVert h \rVert^2
            + \tfrac{1}{2\rho} \left( \lVert \max(0, \mu + \rho g) \rVert^2 - \lVert \mu \rVert^2 \right), \qquad
        \lambda \gets \lambda + \rho h, \quad \mu \gets \max(0, \mu + \rho g)

    A round ends where the gradient of :math:`L_\rho` is below a tolerance, which falls from round to round; the
    penalty grows tenfold where the violation has not fallen to a quarter.

    One evaluation of objective and constraints an update; a round costs one more, at its last point. The inner
    method sees values, gradients and, through ``value_fn``, the curvature of :math:`L_\rho`, objective and constraints
    scaled by their slopes at the start where these are large or small. Bounds can be part of
    ``inequality``, or the inner method's: ``augmented_lagrangian(lbfgsb(0.0, 1.0), equality=h)``.

    Args:
      inner: any transformation; `trust_region` by default. One that keeps an `Answer` sets the measure of
        stationarity by its residual. One that keeps steps of a fixed length cannot follow a growing penalty.
      equality: :math:`h`, ``params -> array`` or pytree of arrays.
      inequality: :math:`g`, likewise; :math:`g \le 0` is asked for.
      penalty: the first :math:`\rho`, positive, in units of :math:`\max(1, |f|)` over :math:`\max(1,` half the
        squared violation) at the start.

    Returns:
      A transformation that keeps an `Answer`: its value is that of the objective alone, its residual that of the
      Karush-Kuhn-Tucker conditions. ``result.state.multipliers`` holds the multipliers. Its termination statuses:
      `Status.INFEASIBLE` where larger penalties do not lower the violation, `Status.UNBOUNDED` where a feasible
      value falls without limit, `Status.NOISE_FLOOR` and `Status.STALLED` where rounds bring no progress.

    Raises:
      ValueError: if there is neither ``equality`` nor ``inequality``, ``penalty`` is not positive, a constraint returns
        an empty array, or ``inner`` is a method for constraints itself.
      TypeError: if a constraint is not a function, or returns comparisons, integers or nothing.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, section 17.3, equations 17.36 to 17.39 and framework
      17.3; Birgin, Martinez, Practical Augmented Lagrangian Methods, SIAM 2014, algorithm 4.1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> circle = lambda x: jnp.sum(x**2) - 2
      >>> run = gdjax.minimize(lambda x: jnp.sum(x), jnp.array([-2.0, 0.0]),
      ...                      gdjax.augmented_lagrangian(equality=circle))
      >>> [round(float(x), 3) for x in run.params], round(float(run.state.multipliers.equality), 3)
      ([-1.0, -1.0], 0.5)
    """
    checks.concrete("augmented_lagrangian", above=0, penalty=penalty)
    merit = Merit(
        _lagrangian_value, _lagrangian_weights, _lagrangian_renew, _balanced, Method("augmented_lagrangian")
    )
    return around(merit, trust_region() if inner is None else inner, equality, inequality, penalty)


def _penalty_weights(c, shift, rho):
    del shift
    return Point(rho * c.equality, rho * jnp.maximum(0, c.inequality))


def _penalty_value(c, shift, rho):
    del shift
    return 0.5 * rho * (_square(c.equality) + _square(jnp.maximum(0, c.inequality)))


def _always_grow(weights, shift, rho, enough):
    del weights, enough
    return shift, _GROWTH * rho


def quadratic_penalty(
    inner: Transformation | None = None,
    *,
    equality: Callable[[Params], PyTree] | None = None,
    inequality: Callable[[Params], PyTree] | None = None,
    penalty: ScalarLike = 1.0,
) -> Transformation:
    r"""Minimizes :math:`f + \tfrac\rho2 (\lVert h \rVert^2 + \lVert \max(0, g) \rVert^2)`, with :math:`\rho` growing.

    For teaching: the violation is of order :math:`1/\rho`, so that rounding ends the run before it is small.
    `augmented_lagrangian` needs no large penalty.

    Args:
      inner: any transformation; `trust_region` by default.
      equality: :math:`h`, ``params -> array`` or pytree of arrays.
      inequality: :math:`g`, likewise.
      penalty: the first :math:`\rho`, positive; each round takes ten times the last.

    Raises:
      ValueError: if there is neither ``equality`` nor ``inequality``, or ``penalty`` is not positive.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, section 17.1, framework 17.1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.quadratic_penalty(equality=lambda x: x[0] + x[1] - 2)
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.zeros(2), method, max_steps=50)
      >>> [round(float(x), 2) for x in run.params]
      [1.0, 1.0]
    """
    checks.concrete("quadratic_penalty", above=0, penalty=penalty)
    merit = Merit(_penalty_value, _penalty_weights, _always_grow, _as_given, Method("quadratic_penalty"))
    return around(merit, trust_region() if inner is None else inner, equality, inequality, penalty)


def _room(c):
    """How far the bounds are, and one behind them."""
    inside = c.inequality < 0
    return inside, jnp.where(inside, -c.inequality, 1)


def _barrier_value(c, shift, rho):
    del shift
    inside, room = _room(c)
    return jnp.where(jnp.all(inside), -jnp.sum(jnp.log(room)) / rho, jnp.inf)


def _barrier_weights(c, shift, rho):
    del shift
    inside, room = _room(c)
    return Point(jnp.zeros_like(c.equality), jnp.where(inside, 1 / (rho * room), 0))


def log_barrier(
    inner: Transformation | None = None, *, inequality: Callable[[Params], PyTree], barrier: ScalarLike = 1.0
) -> Transformation:
    r"""Minimizes :math:`f - t \sum_i \log(-g_i)` for smaller and smaller :math:`t`, from inside.

    For teaching: the path that primal-dual interior methods follow. A point on the bound or behind it counts as too
    long a step; the starting point has to be inside.

    Args:
      inner: any transformation that judges its trials; `trust_region` by default.
      inequality: :math:`g`, ``params -> array`` or pytree of arrays.
      barrier: the first :math:`t`, positive; each round takes a tenth of the last.

    Returns:
      A transformation that keeps an `Answer`; `Status.INFEASIBLE` where the start is not inside.

    Raises:
      ValueError: if ``barrier`` is not positive.

    Reference:
      Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, section 19.6, equation 19.46; Boyd, Vandenberghe,
      Convex Optimization, 2004, algorithm 11.1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.log_barrier(inequality=lambda x: 1 - x)
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.full(2, 3.0), method, max_steps=60)
      >>> [round(float(x), 2) for x in run.params]
      [1.0, 1.0]
    """
    checks.concrete("log_barrier", above=0, barrier=barrier)
    owner = Method("log_barrier")
    merit = Merit(_barrier_value, _barrier_weights, _always_grow, _as_given, owner, True)
    return around(merit, trust_region() if inner is None else inner, None, inequality, 1 / barrier)
