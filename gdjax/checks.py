"""Errors at the door: what can be wrong with what a user passes, said by name."""

import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax.types import Params

__all__ = [
    "concrete",
    "float_params",
    "random_key",
    "require",
    "same_structure",
    "scalar_value",
    "transformation",
]


def float_params(params: Params, owner: str) -> Params:
    """Returns ``params`` as arrays, or says which leaf is not of real floating type."""
    leaves = tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{owner}: params has no arrays in it")
    for path, leaf in leaves:
        name = f"params{keystr(path)}"
        try:
            array = jnp.asarray(leaf)
        except TypeError:
            raise TypeError(f"{owner}: {name} is a {type(leaf).__name__}, not an array") from None
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(
                f"{owner}: {name} is {array.dtype}; split complex params into real and imaginary parts"
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{owner}: {name} is {array.dtype}; params must be floating, e.g. jnp.asarray(x, float)"
            )
        if array.size == 0:
            raise ValueError(f"{owner}: {name} is empty, shape {array.shape}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), params)


def scalar_value(value: Any, owner: str) -> jax.Array:
    """Returns ``value`` if it is one real floating number, or says what it is instead."""
    if isinstance(value, tuple):
        raise TypeError(
            f"{owner}: the objective returned a tuple of {len(value)}; it must return one number "
            "(an objective with auxiliary output: lambda params: f(params)[0])"
        )
    try:
        array = jnp.asarray(value)
    except TypeError:
        raise TypeError(f"{owner}: the objective returned a {type(value).__name__}, not a number") from None
    if array.shape != ():
        raise TypeError(
            f"{owner}: the objective must return a scalar, it returned shape {array.shape} "
            "(sum or average it)"
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{owner}: the objective must return a real floating number, not {array.dtype}")
    return array


def same_structure(found: Any, expected: Any, owner: str, name: str) -> None:
    """Raises where two trees differ in structure."""
    found, expected = jax.tree.structure(found), jax.tree.structure(expected)
    if found != expected:
        raise ValueError(f"{owner}: {name} has the structure {found}, expected {expected}")


def random_key(key: Any) -> Any:
    """Returns ``key``, with an integer turned into the key of this seed."""
    if key is None:
        return None
    try:
        array = jnp.asarray(key)
    except TypeError:
        raise TypeError(f"key must be a JAX key or an integer, got a {type(key).__name__}") from None
    if array.ndim == 0 and jnp.issubdtype(array.dtype, jnp.integer):
        return jax.random.key(array)
    legacy = array.dtype == jnp.uint32 and array.ndim == 1
    if not (legacy or jnp.issubdtype(array.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key must be a JAX key or an integer, got {array.dtype} of shape {array.shape}")
    return key


def require(owner: str, **arguments: Any) -> None:
    """Raises where an extra argument that ``owner`` needs was not passed to ``update``."""
    missing = [name for name, given in arguments.items() if given is None]
    if missing:
        wanted = ", ".join(f"{name}=..." for name in missing)
        raise TypeError(
            f"{owner} needs {' and '.join(missing)}: call update(grads, state, params, {wanted}); "
            "gdjax.minimize passes them"
        )


def concrete(
    owner: str, *, above: float = -math.inf, low: float = -math.inf, below: float = math.inf, **values
):
    """Raises where a hyperparameter whose value is known at the door lies outside its range.

    Tracers and functions pass: their values are not known here.

    Args:
      owner: the function that was called.
      above: every value is greater than this.
      low: every value is at least this.
      below: every value is less than this.
      **values: hyperparameters by name.
    """
    for name, value in values.items():
        if callable(value) or isinstance(value, jax.core.Tracer):
            continue
        if isinstance(value, str) or not hasattr(value, "__float__"):
            raise TypeError(f"{owner}: {name} must be a number or a schedule, got {type(value).__name__}")
        if jnp.shape(value) != ():
            raise ValueError(
                f"{owner}: {name} has shape {jnp.shape(value)}; it takes one number (several: jax.vmap)"
            )
        if isinstance(value, (int, float)) and not (above < value < below and value >= low):
            limits = [f"above {above:g}"] * (above > -math.inf) + [f"at least {low:g}"] * (low > -math.inf)
            limits += [f"below {below:g}"] * (below < math.inf)
            raise ValueError(f"{owner}: {name} must be {' and '.join(limits)}, got {value}")


def transformation(optimizer: Any) -> optax.GradientTransformation:
    """Returns ``optimizer`` if it is a gradient transformation, or says what it is instead."""
    if hasattr(optimizer, "gradient_transformation"):  # optax.MultiSteps
        optimizer = optimizer.gradient_transformation()
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a gradient transformation with init and update, got "
            f"{type(optimizer).__name__}; a constructor has to be called: gdjax.adam(1e-3)"
        )
    return optimizer
