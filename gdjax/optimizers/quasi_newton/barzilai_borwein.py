"""Barzilai and Borwein's step lengths: the gradient, as long as the last pair says."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.linesearch import Direction, Move, Search, backtracking, chosen, descend, unit_step
from gdjax.types import Scalar, Transformation

__all__ = ["BarzilaiBorweinMemory", "barzilai_borwein", "long_step", "short_step"]


class BarzilaiBorweinMemory(NamedTuple):
    """The last step length; zero before the first pair."""

    rate: Scalar


def long_step(ss: Scalar, sy: Scalar, yy: Scalar) -> Scalar:
    r""":math:`s^T s / s^T y`, the first of the two step lengths.

    Reference:
      Barzilai, Borwein, Two-point step size gradient methods, IMA J. Numer. Anal. 8, 1988, equation 6.

    Example:
      >>> float(long_step(1.0, 2.0, 8.0))
      0.5
    """
    del yy
    return ss / sy


def short_step(ss: Scalar, sy: Scalar, yy: Scalar) -> Scalar:
    r""":math:`s^T y / y^T y`, the second of the two step lengths, never above the first.

    Reference:
      Barzilai, Borwein, Two-point step size gradient methods, IMA J. Numer. Anal. 8, 1988, equation 5.

    Example:
      >>> float(short_step(1.0, 2.0, 8.0))
      0.25
    """
    del ss
    return sy / yy


def _init(params, x):
    del params
    return BarzilaiBorweinMemory(jnp.zeros((), x.dtype))


def _update(length, memory, move: Move):
    (us, uy, _), (ss, yy) = move.units, move.squares
    sy = jnp.sum((move.step / us) * (move.change / uy))
    rate = length(ss, sy, yy) * (us / uy)
    good = move.paired & (sy > 0) & jnp.isfinite(rate)
    rate = jnp.where(good, rate, jnp.where(move.failed, 0, memory.rate)).astype(memory.rate.dtype)
    return -rate * move.grad, BarzilaiBorweinMemory(rate)


def barzilai_borwein(
    search: Search | None = None, *, length: Callable[[Scalar, Scalar, Scalar], Scalar] = short_step
) -> Transformation:
    r"""Gradient descent with the step length of a secant equation, :math:`x_{k+1} = x_k - a\, \alpha_k g_k`.

    :math:`\alpha_k` is `short_step` or `long_step` of the last pair, the best multiple of the identity for
    :math:`H y = s` or :math:`s = B^{-1} y`; the search takes :math:`a = 1` wherever that gains.

    A step costs one evaluation and a few inner products; memory is four vectors. Choose it for large and
    well-scaled smooth problems where even the pairs of `lbfgs` are too many.

    Args:
      search: how far to go; Armijo `backtracking` by default, which keeps the values falling.
      length: ``(ss, sy, yy) -> rate`` from the inner products of the last pair, in units of their sizes: it is
        multiplied by that of ``s`` over that of ``y``.

    Reference:
      Barzilai, Borwein, Two-point step size gradient methods, IMA J. Numer. Anal. 8, 1988.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * x**2)
      >>> run = gdjax.minimize(f, jnp.ones(2), gdjax.barzilai_borwein())
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.function("barzilai_borwein", "ss, sy, yy", "such as long_step of its module", length=length)
    direction = Direction(Partial(_init), Partial(_update, Partial(length)), Partial(unit_step))
    return descend(direction, chosen("barzilai_borwein", search, backtracking))
