r"""A limited-memory quadratic model inside a box: its Cauchy point and the step on the free variables.

The model at :math:`x` is :math:`m(z) = g^T z + \tfrac12 z^T B z` with the BFGS matrix of the last pairs in compact
form,

.. math:: B = \theta\,(I - W^T K^{-1} W), \qquad
    W = \begin{bmatrix} Y / \sqrt\theta \\ \sqrt\theta\, S \end{bmatrix}, \qquad
    K = \begin{bmatrix} -D & L^T \\ L & \theta\, S S^T \end{bmatrix}

with the rows of :math:`S, Y` the steps and changes, :math:`D` the diagonal and :math:`L` the strictly lower part
of :math:`S Y^T`.

Reference:
  Byrd, Lu, Nocedal, Zhu, A limited memory algorithm for bound constrained optimization, SIAM J. Sci. Comput.
  16, 1995; Morales, Nocedal, Remark on algorithm 778, ACM Trans. Math. Softw. 38, 2011.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal.trees import power_of_two, unit
from gdjax.types import Scalar

__all__ = [
    "NEAR",
    "Compact",
    "Pairs",
    "cauchy_point",
    "compact",
    "criticality",
    "forget",
    "landed",
    "learn",
    "no_pairs",
    "projected",
    "room",
    "stay_inside",
    "toward",
]


NEAR = 1e-2
"""What is near a bound, as a share of the size of a point: nearer, a gradient counts less."""


class Pairs(NamedTuple):
    r"""The last m pairs, oldest first, scaled so that :math:`s_i^T y_i = 1`; rows of zeros where there are fewer.

    Attributes:
      steps: the :math:`s_i`, shape ``(m, n)``.
      changes: the :math:`y_i`, shape ``(m, n)``.
      scale: :math:`\theta = y_m^T y_m / s_m^T y_m`; zero while there is no pair.
    """

    steps: jax.Array
    changes: jax.Array
    scale: Scalar


class Compact(NamedTuple):
    r"""The matrix :math:`B` by its parts.

    Attributes:
      weights: :math:`W`, shape ``(2m, n)``.
      middle: :math:`K^{-1}`, shape ``(2m, 2m)``.
      below: :math:`L`.
      squares: :math:`\theta S S^T`, with ones where there is no pair.
      scale: :math:`\theta`.
    """

    weights: jax.Array
    middle: jax.Array
    below: jax.Array
    squares: jax.Array
    scale: Scalar


def no_pairs(memory: int, x: jax.Array) -> Pairs:
    """An empty memory of ``memory`` pairs."""
    rows = jnp.zeros((memory, x.size), x.dtype)
    return Pairs(rows, rows, jnp.zeros((), x.dtype))


def forget(pairs: Pairs, condition: Scalar) -> Pairs:
    """An empty memory where the condition holds."""
    return jax.tree.map(lambda leaf: jnp.where(condition, 0, leaf), pairs)


def learn(pairs: Pairs, step: jax.Array, change: jax.Array, usable: Scalar) -> Pairs:
    """Takes a pair in for the oldest, where it is usable and its curvature is positive beyond rounding."""
    us, uy = unit(step)[0], unit(change)[0]
    s, y, steep = step / us, change / uy, uy / us
    sy, ss, yy = jnp.sum(s * y), jnp.sum(s * s), jnp.sum(y * y)
    eps = jnp.finfo(step.dtype).eps
    good = usable & (sy > eps * jnp.sqrt(ss) * jnp.sqrt(yy)) & (steep > 0) & jnp.isfinite(steep * (yy / sy))
    root, turn = jnp.sqrt(jnp.where(good, sy, 1)), jnp.sqrt(jnp.where(good, steep, 1))

    def push(rows, new):
        return jnp.where(good, jnp.concatenate([rows[1:], new[None]]), rows)

    scale = jnp.where(good, steep * (yy / jnp.where(good, sy, 1)), pairs.scale)
    return Pairs(push(pairs.steps, s / turn / root), push(pairs.changes, y * turn / root), scale)


def _against(factor: jax.Array, right: jax.Array, transposed: bool = False) -> jax.Array:
    """Solves with a lower triangular matrix, or its transpose."""
    return jax.lax.linalg.triangular_solve(factor, right, left_side=True, lower=True, transpose_a=transposed)


def _cholesky(matrix: jax.Array) -> jax.Array:
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


def compact(pairs: Pairs, fallback: Scalar) -> Compact:
    """The model's matrix from the pairs; ``fallback`` stands for its scale while there is none."""
    scale, m = jnp.where(pairs.scale > 0, pairs.scale, fallback), len(pairs.steps)
    root = jnp.sqrt(scale)
    weights = jnp.concatenate([pairs.changes / root, root * pairs.steps])
    products = weights @ weights[m:].T
    identity = jnp.eye(m, dtype=weights.dtype)
    below = jnp.tril(products[:m].T, -1)
    squares = products[m:] + jnp.where(products[:m] > 0, 0, identity)
    # With ones for D, by the Schur complement of -I.
    rows = _against(_cholesky(squares + below @ below.T), jnp.concatenate([below, identity], axis=1))
    middle = rows.T @ rows - jnp.pad(identity, (0, m))
    return Compact(weights, middle, below, squares, scale)


def projected(x: jax.Array, grad: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    r"""The projected gradient step :math:`P(x - g) - x`, zero at a stationary point of the box."""
    return jnp.clip(-grad, lower - x, upper - x)


def criticality(x: jax.Array, grad: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    r"""The gradient as far as the box leaves room to follow it.

    .. math:: g_i \min(1, 100\, d_i / \lVert x \rVert_\infty)

    with the distance :math:`d_i` to the bound that the descent leads to. Further than a hundredth of the size of x from
    bounds it is the gradient, at a bound that holds zero, and times the size of x it is at least what following
    the gradient there may gain. The projected gradient step is no measure of that: next to a bound it is as small as
    the distance to it, however steep the slope.

    Reference:
      Conn, Gould, Toint, Trust-Region Methods, SIAM 2000, section 12.1.4, for the first-order gain in a box as a
      measure of criticality.
    """
    size, way = jnp.max(jnp.abs(x), initial=0), jnp.where(grad > 0, x - lower, upper - x)
    share = jnp.minimum(1, way / jnp.where(size > 0, NEAR * size, jnp.finfo(x.dtype).tiny))
    return jnp.where(way > 0, grad * share, 0)  # an infinite gradient into a bound is none


def room(x: jax.Array, direction: jax.Array, lower: jax.Array, upper: jax.Array) -> Scalar:
    """The longest step along a direction that stays in the box, infinite where nothing ends it."""
    bound = jnp.where(direction > 0, upper, lower)
    moving = direction != 0
    return jnp.min(jnp.where(moving, (bound - x) / jnp.where(moving, direction, 1), jnp.inf))


def cauchy_point(model: Compact, x, grad, lower, upper) -> jax.Array:
    r"""The first local minimizer of the model along the projected path :math:`P(x - t g)`.

    All segments of the path are looked at together: between two breakpoints the model is a parabola, whose
    slope and curvature are sums over the variables that still move, and these are cumulative sums.

    Reference:
      Byrd, Lu, Nocedal, Zhu (1995), algorithm CP.
    """
    bound = jnp.where(grad < 0, upper, lower)
    moving = grad != 0
    ends = jnp.where(moving, (x - bound) / jnp.where(moving, grad, 1), jnp.inf)
    down = jnp.where(ends > 0, -grad, 0)
    ends, order = jax.lax.sort_key_val(ends, jnp.arange(x.size))
    down, weights = down[order], model.weights[:, order]
    way = jnp.where(jnp.isfinite(ends), ends, 0) * down
    moves = jnp.concatenate([weights * down[None], (down * down)[None]])[:, ::-1]
    sums = jnp.pad(jnp.cumsum(jnp.concatenate([moves, weights * way[None]]), axis=1), ((0, 0), (1, 0)))
    k = weights.shape[0]
    p, squares, gone = sums[:k, ::-1], sums[k, ::-1], sums[k + 1 :]
    start = jnp.pad(jnp.maximum(ends, 0), (1, 0))
    c = gone + jnp.where(jnp.isfinite(start), start, 0)[None] * p
    image = model.middle @ p
    slope = -squares + model.scale * (start * squares - jnp.sum(c * image, axis=0))
    tiny = jnp.finfo(x.dtype).eps * squares
    curvature_along = model.scale * jnp.maximum(squares - jnp.sum(p * image, axis=0), tiny)
    lowest = jnp.where(squares > 0, start - slope / jnp.where(squares > 0, curvature_along, 1), start)
    found = jnp.argmax(lowest <= jnp.pad(start[1:], (0, 1), constant_values=jnp.inf))
    t = jnp.maximum(start[found], lowest[found])
    # Back in the order of the variables: where the path has met its bound, the point is on it.
    blocked = jnp.where(moving, (x - bound) / jnp.where(moving, grad, 1), jnp.inf) <= t
    return jnp.where(blocked, bound, jnp.clip(x - t * grad, lower, upper))


def _free_step(model: Compact, x, grad, corner, free) -> jax.Array:
    """From the Cauchy point to the minimizer of the model over the free variables, bounds forgotten.

    By the formula of Sherman, Morrison and Woodbury, with K less the free part of :math:`W W^T`: a matrix of
    blocks whose first is negative definite and whose Schur complement is positive definite.
    """
    z, m = corner - x, len(model.below)
    slope = grad + model.scale * (z - (model.middle @ (model.weights @ z)) @ model.weights)
    slope, weights = jnp.where(free, slope, 0), jnp.where(free[None], model.weights, 0)
    gram = weights @ jnp.concatenate([weights, slope[None]]).T
    factor = _cholesky(jnp.eye(m, dtype=x.dtype) + gram[:m, :m])
    right = jnp.concatenate([model.below.T - gram[:m, m : 2 * m], gram[:m, 2 * m :]], axis=1)
    solved = _against(factor, right)
    inner = solved[:, :m].T @ solved + jnp.pad(model.squares - gram[m:, m : 2 * m], ((0, 0), (0, 1)))
    lower = _cholesky(inner[:, :m])
    b = _against(lower, _against(lower, inner[:, m:] + gram[m:, 2 * m :]), True)
    a = _against(factor, solved[:, :m] @ b - solved[:, m:], True)
    return -(slope + jnp.concatenate([a, b])[:, 0] @ weights) / model.scale


def toward(pairs: Pairs, x, grad, lower, upper, fallback: Scalar) -> jax.Array:
    """The direction from ``x`` to where the model sees its minimum in the box.

    The Cauchy point says which bounds hold; over the other variables the model is minimized and the result
    projected, or where that does not descend, cut at the first bound.

    Args:
      pairs: what is known of the curvature.
      x: the point, shape ``(n,)``, inside.
      grad: the gradient there.
      lower: lower bounds.
      upper: upper bounds.
      fallback: what stands for the scale of the curvature while nothing is known of it.

    Reference:
      Byrd, Lu, Nocedal, Zhu (1995), section 5.1; Morales and Nocedal (2011), section 3.
    """
    # The model over a power of four about the gradient's size has the same minimum, and no square overflows.
    root = power_of_two(jnp.sqrt(unit(grad)[0]))
    pairs = Pairs(pairs.steps * root, pairs.changes / root, pairs.scale / root / root)
    grad, fallback = grad / root / root, fallback / root / root
    model = compact(pairs, fallback)
    corner = cauchy_point(model, x, grad, lower, upper)
    free = (corner > lower) & (corner < upper)
    step = _free_step(model, x, grad, corner, free)
    onto = jnp.clip(corner + step, lower, upper) - x
    share = jnp.clip(room(corner, step, lower, upper), 0, 1)
    cut = jnp.clip(corner + share * step, lower, upper) - x
    return jnp.where(jnp.sum(grad * onto) < 0, onto, cut)


def landed(x: jax.Array, move: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    r""":math:`P(x + p)`, on a bound where the move ends there but for rounding.

    A hair beside it, a root or a logarithm is steep beyond all measure.
    """
    target, hair = (
        jnp.clip(x + move, lower, upper),
        2 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(x), jnp.abs(move)),
    )
    target = jnp.where((move < 0) & (target - lower <= hair), lower, target)
    return jnp.where((move > 0) & (upper - target <= hair), upper, target)


def stay_inside(x: jax.Array, target: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    r"""The update :math:`u` for which the *rounded* sum :math:`x + u` is next to the target and in the box.

    In floating point :math:`x + (l - x)` may be below :math:`l`; one unit in the last place of :math:`u` is
    enough to correct that, because rounding is monotonic and :math:`l` is representable.
    """
    update = jnp.clip(target, lower, upper) - x
    update = jnp.where(x + update < lower, jnp.nextafter(update, jnp.full_like(update, jnp.inf)), update)
    return jnp.where(x + update > upper, jnp.nextafter(update, jnp.full_like(update, -jnp.inf)), update)
