r"""Subgradient descent for nonsmooth objectives, with Polyak's step length where the lowest value is known.

.. math:: x_{k+1} = P_C\bigl(x_k - t_k g_k\bigr), \qquad g_k \in \partial f(x_k), \qquad
    t_k = \frac{f(x_k) - f^\star}{\lVert g_k \rVert^2}

Values rise and fall; the answer is the best point seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from gdjax._internal import checks, trees
from gdjax._internal.trees import flat
from gdjax.linalg.vectors import landing
from gdjax.projections import numbers
from gdjax.types import (
    Answer,
    Params,
    Projection,
    Scalar,
    ScalarLike,
    ScalarOrSchedule,
    Status,
    Transformation,
)

__all__ = ["Polyak", "SubgradientState", "polyak", "subgradient"]


class Polyak(NamedTuple):
    """Polyak's step length; see `polyak`."""

    optimum: ScalarLike


def polyak(optimum: ScalarLike = 0.0) -> Polyak:
    r"""The step length :math:`(f(x_k) - f^\star) / \lVert g_k \rVert^2`, which brings every minimizer closer.

    Args:
      optimum: :math:`f^\star`, the lowest value (zero where equations or inequalities are to be satisfied), or
        a lower bound of it.

    Reference:
      Polyak, Minimization of unsmooth functionals, USSR Comput. Math. Math. Phys. 9(3), 1969, equation (3).
    """
    checks.concrete("polyak", optimum=optimum)
    return Polyak(optimum)


class _Settings(NamedTuple):
    learning_rate: ScalarOrSchedule | Polyak
    projection: Callable[[Params], Params] | None


class SubgradientState(NamedTuple):
    """State of `subgradient`.

    Attributes:
      answer: the best point seen.
      count: updates made.
    """

    answer: Answer
    count: Scalar


def _init(settings, params):
    del settings
    x, _ = flat(params)
    unknown = jnp.asarray(jnp.inf, trees.value_type(x.dtype))
    return SubgradientState(Answer(params, unknown, unknown, jnp.int8(Status.RUNNING)), jnp.int32(0))


def _update(settings, updates, state, params=None, *, value: Any = None, **extra):
    del extra
    checks.require("subgradient", params=params, value=value)
    rule, projection = settings
    (x, back), (grad, _) = flat(params), flat(updates)
    f = jnp.asarray(value).astype(state.answer.value.dtype)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    squares = jnp.sum(grad * grad)
    if isinstance(rule, Polyak):
        above = jnp.maximum(f - rule.optimum, 0).astype(x.dtype)
        rate = above / jnp.where(squares > 0, squares, 1)
        measure = jnp.where(squares > 0, above, 0)
    else:
        rate = jnp.asarray(rule(state.count) if callable(rule) else rule, x.dtype)
        measure = jnp.sqrt(squares)
    trial = x - rate * grad
    if projection is not None:
        trial, _ = flat(numbers.nearest("subgradient", projection, back(trial)))
    sound = finite & jnp.all(jnp.isfinite(trial))
    trial = jnp.where(sound, trial, x)
    lower = (state.count == 0) | (finite & (f < state.answer.value))
    status = jnp.where(sound, Status.RUNNING, Status.NONFINITE).astype(jnp.int8)
    answer = trees.choose(lower, Answer(params, f, measure.astype(f.dtype), status), state.answer)
    new = SubgradientState(answer._replace(status=status), state.count + 1)
    return back(landing(x, trial)), trees.keep_types(new, state)


def subgradient(
    learning_rate: ScalarOrSchedule | Polyak, *, projection: Projection | None = None
) -> Transformation:
    r"""Subgradient descent, projected where a set is given.

    The objective of the run is the nonsmooth function itself: what JAX returns at a kink of a convex function
    is one of its subgradients. With `polyak` the residual is :math:`f_{\text{best}} - f^\star`; otherwise it is
    the norm of the subgradient at the best point, which need not vanish, and the run takes its ``max_steps``.
    Mini-batches have no best point: take `gdjax.gradient_descent` or `gdjax.projected` there.

    Args:
      learning_rate: `polyak`, a positive number, or a schedule of the updates made; a schedule must fall to zero
        with a divergent sum.
      projection: ``params -> params``, from `gdjax.projections`.

    Reference:
      Shor, Minimization Methods for Non-Differentiable Functions, 1985, chapter 2; Polyak (1969).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.max(jnp.abs(x - jnp.array([1.0, 2.0])))
      >>> run = gdjax.minimize(f, jnp.zeros(2), gdjax.subgradient(gdjax.polyak(0.0)))
      >>> gdjax.Status(int(run.status)).name, run.params.tolist()
      ('CONVERGED', [1.0, 2.0])
    """
    if not isinstance(learning_rate, Polyak):
        checks.rate("subgradient", learning_rate=learning_rate)
    numbers.projection("subgradient", True, projection=projection)
    return trees.with_settings(_init, _update, _Settings(learning_rate, projection))
