"""Total variation in one dimension, by dynamic programming."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow
from gdjax.projections.vectors import each, total
from gdjax.regularizers.calculus import summed
from gdjax.regularizers.norms import l1, magnitude
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import Scalar, ScalarLike

__all__ = ["fused_lasso", "total_variation"]


class _Messages(NamedTuple):
    r"""The derivative of the message to the current sample, piecewise linear and rising, kept as its kinks.

    Attributes:
      knots: shape ``(2 n + 1, 3)``, a double-ended queue of (place, change of slope, change of intercept); the last
        row takes what is written nowhere.
      first: index of the leftmost kink.
      last: index of the rightmost kink; below ``first`` where there is none.
      left: (slope, intercept) of the derivative plus t on the leftmost piece.
      right: (slope, intercept) of the derivative minus t on the rightmost piece.
      limits: shape ``(n + 1, 2)``: between which values each sample follows the next; a last row as above.
      sample: which sample's turn it is.
    """

    knots: jax.Array
    first: Scalar
    last: Scalar
    left: jax.Array
    right: jax.Array
    limits: jax.Array
    sample: Scalar


def _tick(y, t, state):
    """Takes a kink from either end where the derivative has not crossed, else ends the sample's turn."""
    n = y.size
    knots, first, last, left, right, limits, sample = state
    cut = jnp.where(sample == n - 1, 0, t)  # the last sample goes to the minimum: no edge follows it
    low, high = left.at[1].add(cut - t), right.at[1].add(t - cut)
    here = sample < n
    lowest = knots[jnp.minimum(first, 2 * n)]
    highest = knots[jnp.maximum(last, 0)]
    drop_first = here & (first <= last) & (low[0] * lowest[0] + low[1] <= 0)
    several = (last > first) | ~drop_first
    drop_last = here & (first <= last) & several & (high[0] * highest[0] + high[1] >= 0)
    ends = here & ~drop_first & ~drop_last
    limit = jnp.stack([-low[1] / low[0], -high[1] / high[0]])
    limit = limit.at[1].set(jnp.maximum(limit[0], limit[1]))
    fresh = jnp.stack([jnp.ones((), y.dtype), -y[jnp.minimum(sample + 1, n - 1)]])
    knots = knots.at[jnp.where(ends, first - 1, 2 * n)].set(jnp.concatenate([limit[:1], left]))
    knots = knots.at[jnp.where(ends, last + 1, 2 * n)].set(jnp.concatenate([limit[1:], -right]))
    limits = limits.at[jnp.where(ends, sample, n)].set(limit)
    dropped, dropped_last, one = (flag.astype(jnp.int32) for flag in (drop_first, drop_last, ends))
    return _Messages(
        knots,
        first + dropped - one,
        last - dropped_last + one,
        jnp.where(ends, fresh, left + jnp.where(drop_first, lowest[1:], 0)),
        jnp.where(ends, fresh, right - jnp.where(drop_last, highest[1:], 0)),
        limits,
        sample + one,
    )


def _denoised(y, t):
    """The minimizer for samples of size one: messages forward, in at most 3 n ticks, and values back."""
    n = y.size
    ends = jnp.stack([jnp.ones((), y.dtype), -y[0]])
    state = _Messages(
        knots=jnp.zeros((2 * n + 1, 3), y.dtype),
        first=jnp.int32(n),
        last=jnp.int32(n - 1),
        left=ends.at[1].add(t),
        right=ends.at[1].add(-t),
        limits=jnp.zeros((n + 1, 2), y.dtype),
        sample=jnp.int32(0),
    )
    # A fixed count rather than "until done": under vmap the latter would copy the queue at every tick.
    state = control_flow.fori_loop(0, 3 * n, lambda _, s: _tick(y, t, s), state)

    def back(following, limit):
        value = jnp.clip(following, limit[0], limit[1])
        return value, value

    last = state.limits[n - 1, 0]
    return control_flow.scan(back, last, state.limits[:n], reverse=True)[1]


@control_flow.one_program
def _prox_vector(y, t):
    n = y.size
    if n == 1:
        return y
    fixed, width = jax.lax.stop_gradient((y, t))
    center = jnp.mean(fixed)
    size = jnp.max(jnp.abs(fixed - center))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    shape = _denoised((fixed - center) / size, jnp.minimum(width / size, n))
    # The level of each flat piece, from its own samples: to rounding, and with derivatives.
    jumps = jnp.sign(jnp.diff(shape))
    pieces = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(jumps != 0, dtype=jnp.int32)])
    before, after = (
        jnp.concatenate([jnp.zeros(1, y.dtype), jumps]),
        jnp.concatenate([jumps, jnp.zeros(1, y.dtype)]),
    )
    start = center + size * shape
    sums = jax.ops.segment_sum(y - start + t * (after - before), pieces, num_segments=n)
    counts = jax.ops.segment_sum(jnp.ones_like(y), pieces, num_segments=n)
    return start + (sums / jnp.maximum(counts, 1))[pieces]


def _value(weight, params):
    return total(lambda x, w: w * jnp.sum(magnitude(jnp.diff(jnp.atleast_1d(x)))), params, weight)


def _prox(weight, params, step):
    def one(x, w, s):
        rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
        return jax.vmap(lambda row: _prox_vector(row, s * w))(rows).reshape(x.shape)

    return each(one, params, weight, step)


def total_variation(weight: ScalarLike = 1.0) -> Regularizer:
    r"""Total variation, :math:`r(x) = w \sum_i |x_{i+1} - x_i|`: makes signals piecewise constant.

    Runs along the last axis of each leaf. The proximal operator is exact: dynamic programming over messages whose
    derivatives are piecewise linear, :math:`O(n)` in all, and then each flat piece is set to the level that its
    samples and its two jumps ask for. It is differentiable where no jump is about to open or close. On the CPU the
    program for one signal alone copies its queue: ten times the samples took 70 times as long from 1,000 to 10,000.

    Args:
      weight: :math:`w \ge 0`, a number, or a tree of numbers that is a prefix of the parameters.

    Reference:
      Johnson, A dynamic programming algorithm for the fused lasso and L0-segmentation, J. Computational and
      Graphical Statistics 22(2), 2013, Section 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> noisy = jnp.array([0.0, 0.5, 0.25, 4.0, 3.5, 4.5])
      >>> regularizers.total_variation().prox(noisy, 0.75).tolist()
      [0.5, 0.5, 0.5, 3.75, 3.75, 3.75]
    """
    checks.weights("total_variation", weight=weight)
    return Regularizer(Partial(_value, weight), Partial(_prox, weight))


def fused_lasso(l1_weight: ScalarLike = 1.0, variation_weight: ScalarLike = 1.0) -> Regularizer:
    r"""Sparse and piecewise constant, :math:`r(x) = a \sum_i |x_i| + w \sum_i |x_{i+1} - x_i|`.

    Its proximal operator is soft thresholding after that of `total_variation`.

    Args:
      l1_weight: :math:`a \ge 0`, a number.
      variation_weight: :math:`w \ge 0`, a number.

    Reference:
      Friedman, Hastie, Höfling, Tibshirani, Pathwise coordinate optimization, Annals of Applied Statistics 1(2),
      2007, Proposition 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> noisy = jnp.array([0.0, 0.5, 0.25, 4.0, 3.5, 4.5])
      >>> regularizers.fused_lasso(0.5, 0.75).prox(noisy, 1.0).tolist()
      [0.0, 0.0, 0.0, 3.25, 3.25, 3.25]
    """
    checks.weights("fused_lasso", l1_weight=l1_weight, variation_weight=variation_weight)
    return summed(l1(l1_weight), total_variation(variation_weight))
