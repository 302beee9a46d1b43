r"""Adaptive methods as published: each coordinate's step divided by a root of its squared gradients.

Throughout, :math:`g_t` is the gradient at the params :math:`x_t`, squares and roots are taken coordinate by
coordinate, and :math:`\eta_t` is the learning rate: a number, a tracer, or a schedule of the count
:math:`t = 0, 1, \dots` of updates made. Moments are kept in float32 at least, and a zero gradient
gives a zero step in every type, float16 included (but for decay).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks
from gdjax.optimizers.blocks.precision import bound
from gdjax.types import Params, ScalarLike, ScalarOrSchedule, Transformation

__all__ = ["SecondMomentState", "adagrad", "adam", "adamw", "eps_inside", "eps_outside", "rmsprop"]

_TINY = 2.0**-126
"""The smallest normal float32: roots stay differentiable at zero, and no epsilon feels it."""


def eps_inside(moment: jax.Array, eps: ScalarLike) -> jax.Array:
    r""":math:`\sqrt{s + \epsilon}`, a denominator for `adagrad` and `rmsprop`.

    Example:
      >>> import gdjax
      >>> float(gdjax.eps_inside(3.0, 1.0))
      2.0
    """
    return jnp.sqrt(moment + (eps + _TINY))


def eps_outside(moment: jax.Array, eps: ScalarLike) -> jax.Array:
    r""":math:`\sqrt{s} + \epsilon`, a denominator for `adagrad` and `rmsprop`.

    Example:
      >>> import gdjax
      >>> float(gdjax.eps_outside(4.0, 1.0))
      3.0
    """
    return jnp.sqrt(moment + _TINY) + eps


class SecondMomentState(NamedTuple):
    """State of `adagrad` and `rmsprop`.

    Attributes:
      moment: :math:`s`, like the params.
    """

    moment: Params


def _divide_by_root(accumulate, root, eps):
    def init(params):
        return SecondMomentState(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        moment = jax.tree.map(accumulate, state.moment, updates)
        return jax.tree.map(lambda g, s: g / root(s, eps), updates, moment), SecondMomentState(moment)

    return optax.GradientTransformation(init, update)


def _adagrad(learning_rate, eps, root):
    scale = _divide_by_root(lambda s, g: s + g * g, root, eps)
    return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))


def adagrad(
    learning_rate: ScalarOrSchedule,
    eps: ScalarLike = 1e-8,
    *,
    root: Callable[[jax.Array, ScalarLike], jax.Array] = eps_inside,
) -> Transformation:
    r"""AdaGrad, each coordinate scaled by all its gradients so far.

    .. math:: s_{t+1} = s_t + g_t^2, \qquad x_{t+1} = x_t - \eta_t \frac{g_t}{\sqrt{s_{t+1} + \epsilon}},
        \qquad s_0 = 0

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      eps: :math:`\epsilon`, at least 0.
      root: the denominator: `eps_inside`, or `eps_outside` for :math:`\sqrt{s} + \epsilon`.

    Reference:
      Duchi, Hazan, Singer, Adaptive subgradient methods for online learning and stochastic
      optimization, JMLR 12, 2011, Figure 1 (diagonal).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adagrad(0.5))
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.rate("adagrad", learning_rate=learning_rate)
    checks.concrete("adagrad", low=0, eps=eps)
    checks.function("adagrad", "moment, eps", "such as gdjax.eps_inside", root=root)
    return bound(_adagrad, learning_rate, eps, root)


def _rmsprop(learning_rate, decay, eps, root):
    scale = _divide_by_root(lambda s, g: decay * s + (1 - decay) * (g * g), root, eps)
    return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ScalarLike = 0.99,
    eps: ScalarLike = 1e-8,
    *,
    root: Callable[[jax.Array, ScalarLike], jax.Array] = eps_inside,
) -> Transformation:
    r"""RMSProp, each coordinate scaled by the root mean square of its recent gradients.

    .. math:: s_{t+1} = \rho s_t + (1 - \rho) g_t^2, \qquad
        x_{t+1} = x_t - \eta_t \frac{g_t}{\sqrt{s_{t+1} + \epsilon}}, \qquad s_0 = 0

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      decay: :math:`\rho`, in [0, 1).
      eps: :math:`\epsilon`, at least 0.
      root: the denominator: `eps_inside`, or `eps_outside` for :math:`\sqrt{s} + \epsilon`.

    Reference:
      Tieleman, Hinton, Lecture 6.5: RMSProp, COURSERA: Neural networks for machine learning, 2012.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> rmsprop = gdjax.rmsprop(1e-3, root=gdjax.eps_outside)
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), rmsprop, max_steps=2000)
      >>> bool(run.value < 1e-5)
      True
    """
    checks.rate("rmsprop", learning_rate=learning_rate)
    checks.concrete("rmsprop", low=0, eps=eps)
    checks.concrete("rmsprop", low=0, below=1, decay=decay)
    checks.function("rmsprop", "moment, eps", "such as gdjax.eps_inside", root=root)
    return bound(_rmsprop, learning_rate, decay, eps, root)


def _adam(learning_rate, b1, b2, eps):
    scale = optax.scale_by_adam(b1, b2, eps, eps_root=_TINY)
    return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: ScalarOrSchedule, b1: ScalarLike = 0.9, b2: ScalarLike = 0.999, eps: ScalarLike = 1e-8
) -> Transformation:
    r"""Adam, with bias correction and epsilon outside the root.

    .. math::
        m_{t+1} &= \beta_1 m_t + (1 - \beta_1) g_t, \qquad
        v_{t+1} = \beta_2 v_t + (1 - \beta_2) g_t^2, \\
        x_{t+1} &= x_t - \eta_t \frac{m_{t+1} / (1 - \beta_1^{t+1})}{\sqrt{v_{t+1} / (1 - \beta_2^{t+1})}
        + \epsilon}

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      b1: :math:`\beta_1`, in [0, 1).
      b2: :math:`\beta_2`, in [0, 1).
      eps: :math:`\epsilon`, at least 0.

    Reference:
      Kingma, Ba, Adam: a method for stochastic optimization, ICLR 2015, Algorithm 1.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam(0.1))
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.rate("adam", learning_rate=learning_rate)
    checks.concrete("adam", low=0, eps=eps)
    checks.concrete("adam", low=0, below=1, b1=b1, b2=b2)
    return bound(_adam, learning_rate, b1, b2, eps)


def _adamw(learning_rate, b1, b2, eps, weight_decay):
    scale = optax.scale_by_adam(b1, b2, eps, eps_root=_TINY)
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(scale, decay, optax.scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarLike = 0.9,
    b2: ScalarLike = 0.999,
    eps: ScalarLike = 1e-8,
    weight_decay: ScalarLike = 0.01,
) -> Transformation:
    r"""Adam with decoupled weight decay.

    With :math:`a_t` the fraction of `adam`, the step is

    .. math:: x_{t+1} = x_t - \eta_t (a_t + \lambda x_t)

    The paper writes :math:`\eta_t (\alpha a_t + \lambda x_t)` with a rate :math:`\alpha` apart from the
    schedule; here the schedule is the rate, so its :math:`\lambda` is this one times :math:`\alpha`.

    Args:
      learning_rate: :math:`\eta`, a positive number or a schedule.
      b1: :math:`\beta_1`, in [0, 1).
      b2: :math:`\beta_2`, in [0, 1).
      eps: :math:`\epsilon`, at least 0.
      weight_decay: :math:`\lambda`, at least 0.

    Reference:
      Loshchilov, Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> adamw = gdjax.adamw(0.1, weight_decay=0.1)
      >>> run = gdjax.minimize(lambda x: jnp.sum((x - 1)**2), jnp.zeros(2), adamw)
      >>> bool(jnp.all(run.params < 1))  # decay pulls towards zero
      True
    """
    checks.rate("adamw", learning_rate=learning_rate)
    checks.concrete("adamw", low=0, eps=eps, weight_decay=weight_decay)
    checks.concrete("adamw", low=0, below=1, b1=b1, b2=b2)
    return bound(_adamw, learning_rate, b1, b2, eps, weight_decay)
