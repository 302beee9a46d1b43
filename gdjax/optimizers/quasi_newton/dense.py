r"""Quasi-Newton methods with a dense inverse: BFGS, DFP, SR1 and the Broyden family.

With :math:`s = x_{k+1} - x_k` and :math:`y = g_{k+1} - g_k`, every update here has rank two,

.. math:: H_+ = H + c_1\, s s^T + c_2\, (s\, (Hy)^T + Hy\, s^T) + c_3\, Hy\, (Hy)^T,

and the direction is :math:`p = -H g`. Before the first pair :math:`H = (s^T y / y^T y)\, I` (Nocedal and Wright, 6.20).
A step costs one evaluation, two products with :math:`H` and one update of it: :math:`O(n^2)` time and memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.linesearch import (
    Direction,
    Move,
    Search,
    careful_unit,
    chosen,
    descend,
    strong_wolfe,
    unit_step,
    weak_wolfe,
)
from gdjax.types import Scalar, ScalarLike, Transformation

__all__ = ["DenseMemory", "bfgs", "broyden", "dfp", "powell_damping", "self_scaling", "sr1"]


class DenseMemory(NamedTuple):
    """What a dense quasi-Newton method remembers.

    Attributes:
      inverse: the approximation of the inverse Hessian, shape ``(n, n)``.
      empty: whether it holds no pair yet.
    """

    inverse: jax.Array
    empty: Scalar


def _init(params, x):
    del params
    return DenseMemory(jnp.eye(x.size, dtype=x.dtype), jnp.asarray(True))


def _product(matrix, vector):
    """The product with a symmetric matrix, row by row as it lies in memory."""
    return vector @ matrix


def powell_damping(sy: Scalar, sBs: Scalar) -> Scalar:
    r"""Powell's :math:`\theta`, with which :math:`\theta y + (1 - \theta) B s` keeps the update positive.

    .. math:: \theta = 1 \text{ if } s^T y \ge 0.2\, s^T B s, \text{ else } 0.8\, s^T B s / (s^T B s - s^T y).

    Args:
      sy: :math:`s^T y`.
      sBs: :math:`s^T B s`, positive.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., procedure 18.2.

    Example:
      >>> from gdjax.optimizers.quasi_newton.dense import powell_damping
      >>> round(float(powell_damping(-1.0, 1.0)), 3)
      0.4
    """
    return jnp.where(sy >= 0.2 * sBs, 1, 0.8 * sBs / jnp.where(sy >= 0.2 * sBs, 1, sBs - sy))


class _Pair(NamedTuple):
    """What coefficients are made of: inner products with the matrices before the update."""

    sy: Scalar
    yHy: Scalar
    sBs: Scalar
    ss: Scalar
    yy: Scalar
    rr: Scalar


class _Rule(NamedTuple):
    """What tells one method of the family from another."""

    coefficients: Callable
    start: Callable
    scaling: Any
    damping: Any


def _dense_update(rule, memory, move: Move):
    us, uy, ug = move.units
    # Vectors over their units and H over u_s / u_y: no inner product overflows, and powers of two round nothing.
    s, y, g = move.step / us, move.change / uy, move.grad / ug
    turn, fall = us / uy, ug / uy
    ss, yy = move.squares
    sy, sg = jnp.sum(s * y), jnp.sum(s * g)
    along = move.along.astype(g.dtype)
    sBs = along * (sy - fall * sg)  # since p = -H (g - y), B s = -a (g - y)
    if rule.damping is not None:
        theta = rule.damping(sy, sBs)
        y = theta * y - (1 - theta) * along * (fall * g - y)
        sy, yy = jnp.sum(s * y), jnp.sum(y * y)
    growth = 1
    if rule.scaling is not None:
        growth = jnp.where(move.paired & _curved(sy, ss, yy), rule.scaling(sy, sBs), 1)
    scale = jnp.where(memory.empty, rule.start(ss, sy, yy), growth / turn)
    M = memory.inverse  # H = scale M: an empty memory holds the identity
    Hy, Hg = scale * _product(M, y), scale * _product(M, g)
    yHy, gHy = jnp.sum(y * Hy), jnp.sum(g * Hy)
    sBs = jnp.where(memory.empty, ss / scale, sBs / growth)
    pair = _Pair(sy, yHy, sBs, ss, yy, jnp.sum(jnp.square(s - Hy)))
    (c1, c2, c3), fit = rule.coefficients(pair)
    forget = move.failed & ~memory.empty
    good = move.paired & fit & ~forget & jnp.isfinite(yHy) & jnp.isfinite(c1)
    H = scale * M + s[:, None] * (c1 * s + c2 * Hy)[None, :] + Hy[:, None] * (c2 * s + c3 * Hy)[None, :]
    kept = jnp.where(forget, jnp.eye(g.size, dtype=g.dtype), M)
    empty = ~good & (forget | memory.empty)
    on, from_g = jnp.where(good, 1, 0), jnp.where(empty, 0, 1)
    p = -(from_g * Hg + on * (c1 * sg + c2 * gHy) * s + on * (c2 * sg + c3 * gHy) * Hy)
    return us * fall * p, DenseMemory(jnp.where(good, turn * H, kept), empty)


def _curved(sy, ss, yy):
    """Whether the pair's curvature stands above rounding."""
    return sy > jnp.finfo(sy.dtype).eps * jnp.sqrt(ss) * jnp.sqrt(yy)


def _broyden_coefficients(phi, pair):
    """The inverse form of the family: the weight of BFGS in H is the dual of ``phi``."""
    sy, yHy = pair.sy, pair.yHy
    ratio = (yHy / sy) * (pair.sBs / sy)
    theta = (1 - phi) / (1 - phi + phi * ratio)
    coefficients = ((1 + theta * yHy / sy) / sy, -theta / sy, (theta - 1) / yHy)
    return coefficients, _curved(sy, pair.ss, pair.yy) & (yHy > 0)


def _bfgs_coefficients(pair):
    sy = pair.sy
    return ((1 + pair.yHy / sy) / sy, -1 / sy, jnp.zeros_like(sy)), _curved(sy, pair.ss, pair.yy)


def _sr1_coefficients(pair):
    """Rank one; skipped where its denominator is small against the vectors in it."""
    d = pair.sy - pair.yHy
    return (1 / d, -1 / d, 1 / d), jnp.abs(d) > 1e-8 * jnp.sqrt(pair.yy) * jnp.sqrt(pair.rr)


def _ratio(ss, sy, yy):
    del ss
    return sy / yy


def _below_ratio(ss, sy, yy):
    r"""Below :math:`s^T y / y^T y`, where the first update of rank one would divide by zero."""
    long = ss / sy
    return (ss / yy) / (long + jnp.sqrt(jnp.maximum(long * long - ss / yy, 0)))


def _dense(rule: _Rule, search: Search, first_step: Callable = unit_step) -> Transformation:
    scaling, damping = (None if part is None else Partial(part) for part in (rule.scaling, rule.damping))
    rule = _Rule(Partial(rule.coefficients), Partial(rule.start), scaling, damping)
    direction = Direction(Partial(_init), Partial(_dense_update, rule), Partial(first_step))
    return descend(direction, search)


def self_scaling(sy: Scalar, sBs: Scalar) -> Scalar:
    r"""What :math:`H` is multiplied by before an update: :math:`\sqrt{\max(1,\, s^T B s / s^T y)}`.

    Where the curvature along a step is below the model's, the model's may be too large in other directions too, and
    BFGS mends that slowly. The full ratio is Al-Baali's; its root scales back less and needs about as few evaluations.

    Args:
      sy: :math:`s^T y`, positive.
      sBs: :math:`s^T B s`, positive.

    Reference:
      Oren, Luenberger, Self-scaling variable metric (SSVM) algorithms I, Management Science 20, 1974; Al-Baali,
      Numerical experience with a class of self-scaling quasi-Newton algorithms, JOTA 96, 1998.

    Example:
      >>> from gdjax.optimizers.quasi_newton.dense import self_scaling
      >>> float(self_scaling(1.0, 4.0)), float(self_scaling(4.0, 1.0))
      (2.0, 1.0)
    """
    return jnp.sqrt(jnp.maximum(1, sBs / sy))


def bfgs(
    search: Search | None = None,
    *,
    damping: Callable[[Scalar, Scalar], Scalar] | None = None,
    scaling: Callable[[Scalar, Scalar], Scalar] | None = self_scaling,
) -> Transformation:
    r"""BFGS with a flat Wolfe search.

    .. math::

        H_+ = \Big(I - \frac{s y^T}{s^T y}\Big) \sigma H \Big(I - \frac{y s^T}{s^T y}\Big) + \frac{s s^T}{s^T y}

    with :math:`\sigma \ge 1` of `self_scaling`; ``scaling=None`` makes it the textbook's, :math:`\sigma = 1`. Pairs
    whose curvature :math:`s^T y` is below the noise level are skipped; where a search fails, :math:`H` starts anew. A
    step
    costs one evaluation and :math:`O(n^2)`; memory is :math:`n^2`. Choose it for smooth objectives of up to some
    hundred parameters, and for many small ones at once under ``vmap``.

    Args:
      search: how far to go along the direction; `gdjax.linesearch.weak_wolfe` by default.
      damping: what to do with pairs of small or negative curvature: None skips them, `powell_damping` bends
        them (of use with `gdjax.linesearch.backtracking`, which does not see to the curvature).
      scaling: ``(sy, sBs)`` to the factor of :math:`H` before an update; None for one.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 6.1 and equations 6.17, 6.20.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> run = gdjax.minimize(f, jnp.array([-1.2, 1.0]), gdjax.bfgs())
      >>> bool(jnp.allclose(run.params, 1, atol=1e-4))
      True
    """
    search = chosen("bfgs", search, weak_wolfe)
    hint = "such as powell_damping of its module"
    checks.function("bfgs", "sy, sBs", hint, True, damping=damping, scaling=scaling)
    return _dense(_Rule(_bfgs_coefficients, _ratio, scaling, damping), search, careful_unit)


def broyden(phi: ScalarLike, search: Search | None = None) -> Transformation:
    r"""The Broyden family: :math:`\phi = 0` is BFGS, :math:`\phi = 1` is DFP.

    .. math::

        B_+ = B - \frac{B s s^T B}{s^T B s} + \frac{y y^T}{y^T s} + \phi\, (s^T B s)\, v v^T, \qquad
        v = \frac{y}{y^T s} - \frac{B s}{s^T B s},

    kept as its inverse, in which BFGS has the weight :math:`\theta = (1 - \phi) / (1 - \phi + \phi \mu)` with
    :math:`\mu = (y^T H y)(s^T B s) / (s^T y)^2`. Cost and memory are those of `bfgs`.

    Args:
      phi: in [0, 1] where positive definiteness is to be kept; somewhat below 0 works too.
      search: how far to go along the direction; `gdjax.linesearch.strong_wolfe` by default.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 6.32; Fletcher, Practical Methods of
      Optimization, 2nd ed., section 3.3.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum(jnp.array([1.0, 10.0]) * x**2)
      >>> run = gdjax.minimize(f, jnp.ones(2), gdjax.broyden(0.5))
      >>> bool(jnp.allclose(run.params, 0, atol=1e-4))
      True
    """
    checks.concrete("broyden", phi=phi)
    search = chosen("broyden", search, strong_wolfe)
    return _dense(_Rule(Partial(_broyden_coefficients, phi), _ratio, None, None), search)


def dfp(search: Search | None = None) -> Transformation:
    r"""DFP, the `broyden` method with :math:`\phi = 1`.

    .. math:: H_+ = H - \frac{H y y^T H}{y^T H y} + \frac{s s^T}{y^T s}

    It mends a poor :math:`H` more slowly than `bfgs`, to which it is dual; here for comparison.

    Args:
      search: how far to go along the direction; `gdjax.linesearch.strong_wolfe` by default.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 6.15.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum(jnp.array([1.0, 10.0]) * x**2)
      >>> run = gdjax.minimize(f, jnp.ones(2), gdjax.dfp())
      >>> bool(jnp.allclose(run.params, 0, atol=1e-4))
      True
    """
    return broyden(1.0, chosen("dfp", search, strong_wolfe))


def sr1(search: Search | None = None) -> Transformation:
    r"""The symmetric rank-one update with a line search.

    .. math:: H_+ = H + \frac{(s - H y)(s - H y)^T}{(s - H y)^T y}

    :math:`H` follows negative curvature too; where :math:`-H g` then leads uphill, the step goes down the gradient
    and :math:`H` starts anew. Pairs with a small denominator are skipped (6.26). The first pair updates
    :math:`(\rho - \sqrt{\rho^2 - s^T s / y^T y})\, I` with :math:`\rho = s^T s / s^T y`, which makes :math:`H_+`
    positive and best conditioned; from (6.20) the denominator would vanish. `gdjax.trust_region` suits an indefinite
    model better. Cost and memory are those of `bfgs`.

    Args:
      search: how far to go along the direction; `gdjax.linesearch.strong_wolfe` by default.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equations 6.25 and 6.26; Osborne, Sun, A new approach to
      symmetric rank-one updating, IMA J. Numer. Anal. 19, 1999.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: jnp.sum(jnp.array([1.0, 10.0]) * x**2)
      >>> run = gdjax.minimize(f, jnp.ones(2), gdjax.sr1())
      >>> bool(jnp.allclose(run.params, 0, atol=1e-4))
      True
    """
    return _dense(_Rule(_sr1_coefficients, _below_ratio, None, None), chosen("sr1", search, strong_wolfe))
