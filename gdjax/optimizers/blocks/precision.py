"""Precision: gradient transformations made sound in float16 and bfloat16, and for traced hyperparameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax._internal import checks, trees
from gdjax.types import Params, PyTree, State, Transformation

__all__ = ["MasterCopyState", "at_least_float32", "bound", "master_copy"]


def _wide(tree: PyTree) -> PyTree:
    def one(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return jax.tree.map(one, tree)


def _wide_init(inner, params):
    return inner.init(_wide(params))


def _wide_update(inner, updates, state, params=None, **extra):
    if "grad" in extra:
        extra = {**extra, "grad": _wide(extra["grad"])}
    update = optax.with_extra_args_support(inner).update
    moved, new_state = update(_wide(updates), state, None if params is None else _wide(params), **extra)
    return trees.keep_types(moved, updates), trees.keep_types(new_state, state)


def at_least_float32(inner: optax.GradientTransformation) -> Transformation:
    """Lets ``inner`` compute and keep its state in float32 where gradients are float16 or bfloat16.

    In float16 an epsilon of 1e-8 is zero and 1e-4 squared is zero, so that most adaptive methods of
    optax turn a zero gradient into NaN. Updates come back in the type of the gradients, and the
    state keeps its types whatever the type of a hyperparameter. Wider types pass through unchanged.

    Args:
      inner: any gradient transformation of optax or gdjax.

    Example:
      >>> import gdjax, jax.numpy as jnp, optax
      >>> x, zero = jnp.ones(2, jnp.float16), jnp.zeros(2, jnp.float16)
      >>> adam = gdjax.at_least_float32(optax.adam(1e-3))
      >>> adam.update(zero, adam.init(x), x)[0] == 0
      Array([ True,  True], dtype=bool)
    """
    inner = trees.callables_as_trees(checks.transformation(inner))
    return optax.GradientTransformationExtraArgs(Partial(_wide_init, inner), Partial(_wide_update, inner))


def _bound_init(build, params):
    return build().init(params)


def _bound_update(build, updates, state, params=None, **extra):
    return build().update(updates, state, params, **extra)


def bound(build: Callable[..., optax.GradientTransformation], *arguments: object) -> Transformation:
    """The transformation ``at_least_float32(build(*arguments))``, as a pytree of its arguments.

    Numbers among the arguments cross ``jit`` as arrays: a changed learning rate compiles nothing new.

    Args:
      build: a function of module scope that returns a gradient transformation.
      *arguments: numbers, arrays, schedules and other functions for it.
    """
    made = Partial(_Widened(build), *trees.callables_as_trees(arguments))
    return optax.GradientTransformationExtraArgs(Partial(_bound_init, made), Partial(_bound_update, made))


class _Widened(NamedTuple):
    build: Callable[..., Any]

    def __call__(self, *arguments):
        return at_least_float32(self.build(*arguments))


class MasterCopyState(NamedTuple):
    """State of `master_copy`.

    Attributes:
      master: the params in float32 at least.
      inner: the state of the wrapped transformation.
    """

    master: Params
    inner: State


def _master_init(inner, params):
    master = trees.strong(_wide(params))
    return MasterCopyState(master, inner.init(master))


def _master_update(inner, updates, state, params=None, **extra):
    if params is None:
        raise TypeError("master_copy needs params: call update(grads, state, params)")
    given = _wide(params)
    rounded = trees.keep_types(state.master, params)
    master = jax.tree.map(lambda m, r, p, g: jnp.where(r == p, m, g), state.master, rounded, params, given)
    if "grad" in extra:
        extra = {**extra, "grad": _wide(extra["grad"])}
    update = optax.with_extra_args_support(inner).update
    moved, inner_state = update(_wide(updates), state.inner, master, **extra)
    master = trees.keep_types(optax.apply_updates(master, moved), state.master)
    target = _wide(trees.keep_types(master, params))
    new_state = MasterCopyState(master, trees.keep_types(inner_state, state.inner))
    return jax.tree.map(jnp.subtract, target, given), new_state


def master_copy(inner: optax.GradientTransformation) -> Transformation:
    r"""Keeps a float32 copy of half-precision params, so that small steps add up instead of rounding away.

    At :math:`w = 256` in bfloat16 neighbours are 2 apart, and :math:`w - 0.1` rounds back to
    :math:`w` for ever. Here the steps of ``inner`` add up in the float32 copy, and the params are
    always its rounding. Entries of the params that something else has changed (a projection, a
    restart) are taken as they are given.

    Updates are float32, so that adding them reaches the rounded copy; ``optax.apply_updates`` keeps
    the params' own type.

    Args:
      inner: any gradient transformation that proposes from the params it is given, such as `adam`.

    Reference:
      Micikevicius et al., Mixed precision training, ICLR 2018, section 3.1.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> w = jnp.asarray(256.0, jnp.bfloat16)
      >>> for optimizer in (gdjax.gradient_descent(0.1), gdjax.master_copy(gdjax.gradient_descent(0.1))):
      ...     run = gdjax.minimize(lambda w: w, w, optimizer, stop=None, max_steps=100)
      ...     print(run.params)
      256
      246
    """
    inner = trees.callables_as_trees(checks.transformation(inner))
    return optax.GradientTransformationExtraArgs(Partial(_master_init, inner), Partial(_master_update, inner))
