r"""MADGRAD: dual averaging with momentum and a cube root of squared gradients.

The iterate is drawn towards the minimizer of all gradients so far about the start,

.. math:: z_{k+1} = x_0 - \frac{s_{k+1}}{\sqrt[3]{\nu_{k+1}} + \epsilon}, \qquad
    x_{k+1} = (1 - c)\, x_k + c\, z_{k+1}, \qquad c = 1 - \beta,

with :math:`s_{k+1} = s_k + \lambda_k g_k`, :math:`\nu_{k+1} = \nu_k + \lambda_k g_k^2` and
:math:`\lambda_k = \eta_k \sqrt{k + 1}`. Squares and roots are taken coordinate by coordinate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks
from gdjax.optimizers.blocks.precision import bound
from gdjax.types import Params, Scalar, ScalarLike, ScalarOrSchedule, Transformation

__all__ = ["MadgradState", "madgrad"]

_TINY = 2.0**-126
"""The smallest normal float32: the root stays differentiable at zero, and no epsilon feels it."""


class MadgradState(NamedTuple):
    r"""State of `madgrad`.

    Attributes:
      count: updates made, :math:`k`.
      start: :math:`x_0`.
      total: :math:`s`, like the params.
      squares: :math:`\nu`, like the params.
    """

    count: Scalar
    start: Params
    total: Params
    squares: Params


def _madgrad(learning_rate, momentum, eps):
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return MadgradState(jnp.int32(0), jax.tree.map(jnp.asarray, params), zeros, zeros)

    def update(updates, state, params=None):
        checks.require("madgrad", params=params)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        weight = jnp.asarray(rate) * jnp.sqrt(state.count + 1.0)
        total = jax.tree.map(lambda s, g: s + weight.astype(s.dtype) * g, state.total, updates)
        squares = jax.tree.map(lambda v, g: v + weight.astype(v.dtype) * (g * g), state.squares, updates)

        def move(x, x0, s, v):
            averaged = x0 - s / (jnp.cbrt(v + _TINY) + eps)
            return (1 - momentum) * (averaged - x)

        moves = jax.tree.map(move, params, state.start, total, squares)
        return moves, MadgradState(state.count + 1, state.start, total, squares)

    return optax.GradientTransformation(init, update)


def madgrad(
    learning_rate: ScalarOrSchedule, momentum: ScalarLike = 0.9, eps: ScalarLike = 1e-6
) -> Transformation:
    r"""MADGRAD, for sparse gradients and for models that adaptive methods generalize badly on.

    Its rate is near that of momentum, not of Adam; decay of the weights is often to be set lower. The start is
    part of the state: four copies of the params in all.

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule of the updates made.
      momentum: :math:`\beta`, in [0, 1).
      eps: :math:`\epsilon`, at least 0.

    Reference:
      Defazio, Jelassi, Adaptivity without compromise: a momentumized, adaptive, dual averaged gradient method for
      stochastic optimization, JMLR 23, 2022, algorithm 1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.madgrad(0.1), max_steps=2000)
      >>> bool(run.value < 1e-6)
      True
    """
    checks.rate("madgrad", learning_rate=learning_rate)
    checks.concrete("madgrad", low=0, below=1, momentum=momentum)
    checks.concrete("madgrad", low=0, eps=eps)
    return bound(_madgrad, learning_rate, momentum, eps)
