r"""Criteria on values and residuals, and ways to combine them.

A criterion's ``update(state, step)`` returns ``(status, state)``; `Status.RUNNING` means go on. Criteria
carry state, so patience and stall detection are criteria like any other, and their numbers are arrays: a
changed tolerance compiles nothing new, and a tolerance can be an axis of a sweep.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments, checks
from gdjax.types import Params, Scalar, ScalarLike, State, Status, Step

__all__ = [
    "StopCriterion",
    "all_of",
    "any_of",
    "as_criterion",
    "diverged",
    "patience",
    "residual_below",
    "stalled",
    "value_below",
]


class StopCriterion(NamedTuple):
    """A pure pair.

    Attributes:
      init: ``params -> state``.
      update: ``(state, step) -> (status, state)`` with an int8 scalar `Status`.
    """

    init: Callable[[Params], State]
    update: Callable[[State, Step], tuple[Scalar, State]]


def _status(condition: Scalar, status: Status) -> Scalar:
    return jnp.where(condition, jnp.int8(status), jnp.int8(Status.RUNNING))


def _no_state(params: Params) -> tuple[()]:
    return ()


def _start(params: Params, *, value: float = 0.0) -> Scalar:
    """A scalar of the widest type in ``params``, at least float32."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return jnp.asarray(value, jnp.result_type(jnp.float32, *dtypes))


def _residual_update(tolerance, scale, largest, step):
    seen = jnp.maximum(jnp.abs(step.value), step.residual).astype(largest.dtype)
    largest = jnp.maximum(largest, jnp.where(jnp.isfinite(seen), seen, 0))
    reference = jnp.minimum(largest, 1) if scale is None else scale
    return _status(step.residual <= tolerance * reference, Status.CONVERGED), largest


def residual_below(tolerance: ScalarLike = 1e-6, *, scale: ScalarLike | None = None) -> StopCriterion:
    r"""Stops with `Status.CONVERGED` when the residual is small on the problem's own scale.

    The test is :math:`r_k \le \tau\, s_k` with :math:`s_k = \min(1, \max_{j \le k} \max(|f_j|, r_j))`:
    the usual absolute test where values or residuals above one were seen, and a relative one for
    objectives that are small throughout (an objective times 1e-6 converges where the objective does).
    A residual has units of the params: in large units it is small. `stationary`, the default of runs, is free of them.

    Args:
      tolerance: :math:`\tau`, at least 0.
      scale: a fixed :math:`s`, positive; 1.0 makes the test absolute, as in SciPy.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> stop = gdjax.stopping.residual_below(1e-3)
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(3), gdjax.gradient_descent(0.1), stop=stop)
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.concrete("residual_below", low=0, tolerance=tolerance)
    checks.optional("residual_below", above=0, scale=scale)
    return StopCriterion(Partial(_start), Partial(_residual_update, tolerance, scale))


def _value_update(target, state, step):
    return _status(step.value <= target, Status.TARGET), state


def value_below(target: ScalarLike) -> StopCriterion:
    """Stops with `Status.TARGET` when the value is at or below ``target``.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> run = gdjax.minimize(f, jnp.ones(3), sgd, stop=gdjax.stopping.value_below(1e-2))
      >>> gdjax.Status(int(run.status)).name
      'TARGET'
    """
    checks.concrete("value_below", target=target)
    return StopCriterion(Partial(_no_state), Partial(_value_update, target))


class _Best(NamedTuple):
    value: Scalar
    residual: Scalar
    since: Scalar


def _best_init(params):
    infinite = _start(params, value=jnp.inf)
    return _Best(infinite, infinite, jnp.int32(0))


def _stalled_update(steps, relative, best, step):
    value = step.value.astype(best.value.dtype)
    residual = step.residual.astype(best.residual.dtype)
    tolerance = 4 * jnp.finfo(step.value.dtype).eps if relative is None else relative
    gain = tolerance * jnp.abs(jnp.where(jnp.isfinite(best.value), best.value, value))
    better = (value < best.value - gain) | (residual < 0.5 * best.residual)
    since = jnp.where(better, 0, best.since + 1).astype(jnp.int32)
    best = _Best(
        jnp.where(better, jnp.fmin(value, best.value), best.value),
        jnp.where(better, jnp.fmin(residual, best.residual), best.residual),
        since,
    )
    return _status(since >= steps, Status.STALLED), best


def stalled(steps: ScalarLike = 50, *, relative: ScalarLike | None = None) -> StopCriterion:
    r"""Stops with `Status.STALLED` when neither the value nor the residual gets better for ``steps`` steps.

    Better means a value lower than the best so far by more than ``relative`` times its size, or a
    residual under half the best so far.

    Args:
      steps: how many steps in a row may pass without progress; at least 1.
      relative: the least relative gain in value that counts, at least 0; four units of rounding by
        default.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> run = gdjax.minimize(f, jnp.ones(3), gdjax.gradient_descent(0.0), stop=gdjax.stopping.stalled(20))
      >>> gdjax.Status(int(run.status)).name
      'STALLED'
    """
    checks.concrete("stalled", low=1, steps=steps)
    checks.optional("stalled", low=0, relative=relative)
    return StopCriterion(Partial(_best_init), Partial(_stalled_update, steps, relative))


def _patience_update(steps, gain, best, step):
    value = step.value.astype(best.value.dtype)
    better = value < best.value - gain
    since = jnp.where(better, 0, best.since + 1).astype(jnp.int32)
    best = _Best(jnp.where(better, value, best.value), best.residual, since)
    return _status(since >= steps, Status.STALLED), best


def patience(steps: ScalarLike, *, gain: ScalarLike = 0.0) -> StopCriterion:
    """Stops with `Status.STALLED` when the value has not fallen by ``gain`` for ``steps`` steps.

    Args:
      steps: how many steps in a row may pass without a new best value; at least 1.
      gain: the least absolute fall that counts as a new best; at least 0.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> run = gdjax.minimize(f, jnp.ones(3), gdjax.gradient_descent(0.0), stop=gdjax.stopping.patience(5))
      >>> gdjax.Status(int(run.status)).name
      'STALLED'
    """
    checks.concrete("patience", low=1, steps=steps)
    checks.concrete("patience", low=0, gain=gain)
    return StopCriterion(Partial(_best_init), Partial(_patience_update, steps, gain))


def _diverged_update(factor, first, step):
    value = step.value.astype(first.dtype)
    first = jnp.where(step.count == 0, value, first)
    limit = factor * jnp.maximum(jnp.abs(first), 1)
    return _status(value > first + limit, Status.DIVERGED), first


def diverged(factor: ScalarLike = 1e6) -> StopCriterion:
    """Stops with `Status.DIVERGED` when the value exceeds its start by ``factor * max(|start|, 1)``.

    Args:
      factor: positive.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> run = gdjax.minimize(f, jnp.ones(3), gdjax.gradient_descent(1.5), stop=gdjax.stopping.diverged(100.0))
      >>> gdjax.Status(int(run.status)).name
      'DIVERGED'
    """
    checks.concrete("diverged", above=0, factor=factor)
    return StopCriterion(Partial(_start), Partial(_diverged_update, factor))


def _all_init(criteria, params):
    return tuple(criterion.init(params) for criterion in criteria)


def _gather(criteria, states, step):
    pairs = [c.update(s, step) for c, s in zip(criteria, states, strict=True)]
    return jnp.stack([jnp.asarray(status, jnp.int8) for status, _ in pairs]), tuple(
        state for _, state in pairs
    )


def _any_update(criteria, states, step):
    statuses, states = _gather(criteria, states, step)
    return statuses[jnp.argmax(statuses != Status.RUNNING)], states


def any_of(*criteria: StopCriterion) -> StopCriterion:
    """Stops as soon as one of ``criteria`` does, with the status of the first in order that says so.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> either = gdjax.stopping.any_of(gdjax.stopping.residual_below(1e-3), gdjax.stopping.stalled())
      >>> run = gdjax.minimize(f, jnp.ones(3), sgd, stop=either)
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    return _combine("any_of", criteria, _any_update)


def _all_update(criteria, states, step):
    statuses, states = _gather(criteria, states, step)
    return jnp.where(jnp.all(statuses != Status.RUNNING), statuses[0], jnp.int8(0)), states


def all_of(*criteria: StopCriterion) -> StopCriterion:
    """Stops when all ``criteria`` say so at the same step, with the status of the first.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f, sgd = (lambda x: jnp.sum(x**2)), gdjax.gradient_descent(0.1)
      >>> both = gdjax.stopping.all_of(gdjax.stopping.residual_below(1e-3), gdjax.stopping.value_below(1.0))
      >>> run = gdjax.minimize(f, jnp.ones(3), sgd, stop=both)
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    return _combine("all_of", criteria, _all_update)


def as_criterion(stop: object) -> StopCriterion | None:
    """Returns ``stop`` if it is a criterion or None, or says what it is instead.

    Example:
      >>> import gdjax
      >>> gdjax.stopping.as_criterion(None)
    """
    if stop is None or isinstance(stop, StopCriterion):
        return stop
    way = ""
    if isinstance(stop, list | tuple):
        way = "; several go together: gdjax.stopping.any_of(a, b)"
    if isinstance(stop, int):
        way = "; the number of steps is max_steps=..."
    raise TypeError(
        "minimize: stop must be a StopCriterion such as gdjax.stopping.residual_below(1e-6), called, or None, "
        f"got {arguments.named(stop)}{way}"
    )


def _combine(name, criteria, update):
    if not criteria:
        raise ValueError(f"{name} needs at least one criterion")
    for criterion in criteria:
        if not isinstance(criterion, StopCriterion):
            way = f": {name}(a, b), not {name}([a, b])" if isinstance(criterion, list | tuple) else ""
            raise TypeError(f"{name} takes StopCriterion, got {arguments.named(criterion)}{way}")
    return StopCriterion(Partial(_all_init, criteria), Partial(update, criteria))
