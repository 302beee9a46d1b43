r"""Escape from saddle points where no Hessian is at hand: perturbed gradient descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdjax._internal import checks, trees
from gdjax.types import KeyLike, Scalar, ScalarLike, State, Transformation

__all__ = ["PerturbedState", "perturbed"]


class PerturbedState(NamedTuple):
    """The key, the updates since the last perturbation, and the optimizer's own state."""

    key: jax.Array
    since: Scalar
    inner: State


def perturbed(
    optimizer: optax.GradientTransformation,
    radius: ScalarLike = 1e-2,
    threshold: ScalarLike = 1e-3,
    wait: ScalarLike = 50,
    *,
    key: KeyLike = 0,
) -> Transformation:
    r"""Kicks an optimizer off points with a small gradient, such as saddles.

    Where :math:`\lVert \nabla f(x_t) \rVert \le g` and no kick was given in the last ``wait`` updates,

    .. math:: x_{t+1} = x_t + \xi_t, \qquad \xi_t \sim \text{uniform in the ball of the given radius};

    every other update is the optimizer's own, whose state does not change at a kick. With
    `gradient_descent` it is perturbed gradient descent, which leaves strict saddles in a number of
    steps that grows only with the logarithm of the dimension. At a minimum it goes on kicking: keep
    the best point, or stop by `stopping.patience`.

    Args:
      optimizer: any gradient transformation.
      radius: of the ball, positive.
      threshold: :math:`g > 0`, the 2-norm below which the gradient counts as small.
      wait: updates between two kicks, at least 1.
      key: a JAX key or an integer seed.

    Reference:
      Jin, Ge, Netrapalli, Kakade, Jordan, How to escape saddle points efficiently, ICML 2017,
      Algorithm 2 (without its termination test).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> saddle = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4
      >>> kicked = gdjax.perturbed(gdjax.gradient_descent(0.05))
      >>> stop = gdjax.stopping.patience(200)
      >>> run = gdjax.minimize(saddle, jnp.array([1.0, 0.0]), kicked, stop=stop)
      >>> bool(abs(run.value + 0.25) < 1e-2)
      True
    """
    checks.concrete("perturbed", above=0, radius=radius, threshold=threshold)
    checks.concrete("perturbed", low=1, wait=wait)
    key = checks.random_key(key)
    inner = optax.with_extra_args_support(checks.transformation(optimizer))

    def init(params):
        start = jax.random.key(key) if isinstance(key, int) else key
        return PerturbedState(start, jnp.asarray(wait, jnp.int32), inner.init(params))

    def update(updates, state, params=None, **extra):
        own, own_state = inner.update(updates, state.inner, params, **extra)
        kick = (trees.norm(updates) <= threshold) & (state.since >= wait)
        flat, unravel = ravel_pytree(own)
        direction_key, length_key = jax.random.split(jax.random.fold_in(state.key, 0))
        direction = jax.random.normal(direction_key, flat.shape, jnp.promote_types(flat.dtype, jnp.float32))
        length = radius * jax.random.uniform(length_key) ** (1 / flat.size)
        noise = unravel((direction * (length / trees.norm(direction))).astype(flat.dtype))
        state = PerturbedState(
            trees.choose(kick, jax.random.fold_in(state.key, 1), state.key),
            jnp.where(kick, 0, state.since + 1).astype(jnp.int32),
            trees.choose(kick, state.inner, own_state),
        )
        return trees.choose(kick, noise, own), state

    return optax.GradientTransformationExtraArgs(init, update)
