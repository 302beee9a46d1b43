r"""Gradient descent and its momentum, on optax's primitives wherever those give the very equation.

Throughout, :math:`g_t` is the gradient at the params :math:`x_t` and :math:`\eta_t` the learning rate: a
number, a tracer, or a schedule of the count :math:`t = 0, 1, \dots` of updates made. On a mini-batch
objective (`gdjax.finite_sum`) each is the stochastic method of the same name. Velocities are kept in
float32 at least.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks
from gdjax.optimizers.blocks.precision import bound
from gdjax.types import Params, Scalar, ScalarLike, ScalarOrSchedule, Transformation

__all__ = ["NesterovState", "gradient_descent", "momentum", "nesterov"]


def gradient_descent(learning_rate: ScalarOrSchedule) -> Transformation:
    r"""Gradient descent, and SGD where the objective draws mini-batches.

    .. math:: x_{t+1} = x_t - \eta_t g_t

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.

    Reference:
      Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847; Robbins
      and Monro, A stochastic approximation method, Ann. Math. Statist. 22, 1951, equation (8).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.gradient_descent(0.5))
      >>> run.params, int(run.steps)
      (Array([0., 0.], dtype=float32), 1)
    """
    checks.rate("gradient_descent", learning_rate=learning_rate)
    return bound(optax.scale_by_learning_rate, learning_rate)


def _momentum(learning_rate, decay):
    return optax.chain(optax.trace(decay), optax.scale_by_learning_rate(learning_rate))


def momentum(learning_rate: ScalarOrSchedule, decay: ScalarLike = 0.9) -> Transformation:
    r"""Gradient descent with momentum, the heavy ball.

    .. math:: v_{t+1} = \beta v_t + g_t, \qquad x_{t+1} = x_t - \eta_t v_{t+1}, \qquad v_0 = 0

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      decay: :math:`\beta`, in [0, 1).

    Reference:
      Polyak, Some methods of speeding up the convergence of iteration methods, USSR Comput. Math.
      Math. Phys. 4(5), 1964, equation (9), in the variables :math:`v_t = (x_{t-1} - x_t) / \eta`.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.momentum(0.05))
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.rate("momentum", learning_rate=learning_rate)
    checks.concrete("momentum", low=0, below=1, decay=decay)
    return bound(_momentum, learning_rate, decay)


class NesterovState(NamedTuple):
    """State of `nesterov`.

    Attributes:
      count: updates made, int32.
      velocity: :math:`v`, like the params.
    """

    count: Scalar
    velocity: Params


def _nesterov(learning_rate, decay):
    def rate(count):
        return learning_rate(count) if callable(learning_rate) else learning_rate

    def init(params):
        return NesterovState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        velocity = jax.tree.map(lambda g, v: g + decay * v, updates, state.velocity)
        now, ahead = rate(state.count), rate(state.count + 1)
        moves = jax.tree.map(lambda g, v: -(now * g + ahead * (decay * v)), updates, velocity)
        return moves, NesterovState(state.count + 1, velocity)

    return optax.GradientTransformation(init, update)


def nesterov(learning_rate: ScalarOrSchedule, decay: ScalarLike = 0.9) -> Transformation:
    r"""Nesterov's accelerated gradient, in the points at which it takes gradients.

    As published, with a base point :math:`x_t` and the gradient looked up ahead of it:

    .. math::
        y_t = x_t - \eta_t \beta v_t, \qquad v_{t+1} = \beta v_t + \nabla f(y_t), \qquad
        x_{t+1} = x_t - \eta_t v_{t+1}

    Written in :math:`y` alone, the same iteration needs no second point:

    .. math:: v_{t+1} = \beta v_t + \nabla f(y_t), \qquad
        y_{t+1} = y_t - \eta_t \nabla f(y_t) - \eta_{t+1} \beta v_{t+1}

    The params of this transformation are :math:`y`, so that a run's value and gradient belong to its
    params; :math:`y_0 = x_0`, the two have the same limit, and :math:`x_t = y_t + \eta_t \beta v_t`. At
    a constant rate the step is that of ``optax.sgd(rate, decay, nesterov=True)``.

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      decay: :math:`\beta`, in [0, 1).

    Reference:
      Nesterov, A method of solving a convex programming problem with convergence rate O(1/k^2), Soviet
      Math. Dokl. 27, 1983; in the form of Sutskever, Martens, Dahl, Hinton, On the importance of
      initialization and momentum in deep learning, ICML 2013, equations (3) and (4).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.nesterov(0.05))
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.rate("nesterov", learning_rate=learning_rate)
    checks.concrete("nesterov", low=0, below=1, decay=decay)
    return bound(_nesterov, learning_rate, decay)
