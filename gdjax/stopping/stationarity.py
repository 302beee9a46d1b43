r"""The stop criterion that runs have by default: stationary on the scales of the params and of the values.

A small gradient alone shows little: it is small in large units of the params, on a plateau, and next to a bound. What
it promises over a way as long as the params is a change of the objective, which has a scale of its own, and where a
method with a model still means to go far, it has not arrived.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, trees
from gdjax.stopping.criteria import StopCriterion
from gdjax.types import Params, Scalar, ScalarLike, Status, Step

__all__ = ["DEFAULT", "stationary"]

_DEGENERATE = 1e-3
"""How long a step may be where the slope is far below its tolerance: at a minimum without curvature, x^4, steps are a
fixed share of the distance, and no method makes them short."""


_UNSEEN = 4
"""Units of rounding of the value that a change of it must have to be seen. A slope that promises less will do, up to as
many times the tolerance: in float32 gradients of values beyond two do not always get smaller."""


class _Seen(NamedTuple):
    """What the criterion remembers.

    Attributes:
      largest: the largest value, or change of it that a gradient promised over the size of the params.
      size: the largest entry that the params have had.
      move: the longest move that was proposed from the answer.
      value: the answer's.
      residual: the answer's.
    """

    largest: Scalar
    size: Scalar
    move: Scalar
    value: Scalar
    residual: Scalar


def _init(params: Params) -> _Seen:
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(params)))
    zero, unknown = jnp.zeros((), dtype), jnp.asarray(jnp.nan, dtype)
    return _Seen(zero, zero, zero, unknown, unknown)


def _rounding(step: Step) -> float:
    """The coarsest unit of rounding among params and value."""
    dtypes = [jnp.asarray(leaf).dtype for leaf in (*jax.tree.leaves(step.params), step.value)]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


def _update(slope: ScalarLike, move: ScalarLike | None, seen: _Seen, step: Step) -> tuple[Scalar, _Seen]:
    dtype = seen.largest.dtype
    value, residual, pending = (jnp.asarray(x).astype(dtype) for x in (step.value, step.residual, step.move))
    size = jnp.maximum(seen.size, trees.largest(step.params).astype(dtype))
    promise = residual * size
    here = jnp.maximum(jnp.abs(value), promise)
    largest = jnp.maximum(seen.largest, jnp.where(jnp.isfinite(here), here, 0))
    # The same answer again means that a trial was rejected: shorter trials from there say nothing new.
    again = (value == seen.value) & (residual == seen.residual)
    longest = jnp.where(again, jnp.maximum(seen.move, pending), pending)
    scale = jnp.minimum(1, largest)
    short = _rounding(step) ** 0.5 if move is None else move
    unseen = jnp.clip(_UNSEEN * _rounding(step) * jnp.abs(value), slope * scale, _UNSEEN * slope * scale)
    arrived = (promise <= unseen) & (longest <= short * size)
    flat = (promise <= slope * slope * scale) & (longest <= _DEGENERATE * size)
    # Params that have been zero throughout have no size, over which any slope promises nothing: it counts as it is.
    sized = (size > 0) | (residual <= slope * scale)
    status = jnp.where((arrived | flat) & sized, jnp.int8(Status.CONVERGED), jnp.int8(Status.RUNNING))
    return status, _Seen(largest, size, longest, value, residual)


def stationary(slope: ScalarLike = 1e-6, *, move: ScalarLike | None = None) -> StopCriterion:
    r"""Stops with `Status.CONVERGED` at a stationary point, in whatever units the params are.

    .. math:: r_k X_k \le \tau\, s_k, \qquad \lVert p_k \rVert_\infty \le \sigma X_k

    with the residual :math:`r_k`, the largest entry :math:`X_k` that the params have had, and the longest move
    :math:`p_k` that the method has proposed from the answer. The scale of values :math:`s_k` is one, or the largest
    value seen (or change of it that a gradient promised, :math:`r_j X_j`) where that is smaller. So units of the params
    cancel, objectives that are small throughout are judged on their own scale, and large ones absolutely.

    The second condition keeps methods with a model from stopping too early: while a Newton step, or what a method
    takes for it, is not short, the params are not known, however small the gradient. By default :math:`\sigma` is the
    root of the unit of rounding, 3.5e-4 in float32 and 1.5e-8 in float64. Where the slope is below :math:`\tau^2 s_k`,
    a move of :math:`10^{-3} X_k` will do. Where :math:`r_k X_k` is below four units of rounding of the value, four
    times the tolerance will do (in float32, for values beyond two).

    Args:
      slope: :math:`\tau`, positive.
      move: :math:`\sigma`, positive; by default it follows the coarsest type among params and value.

    Reference:
      Dennis, Schnabel, Numerical Methods for Unconstrained Optimization and Nonlinear Equations, SIAM 1996, section
      7.2 (relative gradient and relative step).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum((x / 1e9 - 1) ** 2)
      >>> run = gdjax.minimize(f, jnp.zeros(3), gdjax.bfgs(), stop=gdjax.stopping.stationary())
      >>> gdjax.Status(int(run.status)).name, (run.params / 1e9).round(3).tolist()
      ('CONVERGED', [1.0, 1.0, 1.0])
    """
    checks.concrete("stationary", above=0, slope=slope)
    checks.optional("stationary", above=0, move=move)
    return StopCriterion(Partial(_init), Partial(_update, slope, move))


DEFAULT = stationary()
"""The criterion of runs that name none."""
