"""Errors at the door: what can be wrong with what a user passes, said by name."""

import math
import sys
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax._internal.arguments import Range, accepts, holds_one, known, named, real, signature, uncalled
from gdjax.types import Operator, Params

__all__ = [
    "concrete",
    "float_params",
    "function",
    "integer",
    "number",
    "objective",
    "operator",
    "optional",
    "random_key",
    "rate",
    "require",
    "same_structure",
    "scalar_value",
    "transformation",
    "weights",
]


def float_params(params: Params, owner: str) -> Params:
    """Returns ``params`` as arrays, or says which leaf is not of real floating type."""
    if isinstance(params, optax.GradientTransformation):
        raise TypeError(
            f"{owner}: params is a gradient transformation; the order is minimize(objective, params, optimizer)"
        )
    leaves, arrays = tree_leaves_with_path(params), []
    if not leaves:
        raise ValueError(f"{owner}: params has no arrays in it")
    for path, leaf in leaves:
        name = f"params{keystr(path)}"
        try:
            array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
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
        arrays.append(jnp.asarray(array, array.dtype) if getattr(array, "weak_type", False) else array)
    return jax.tree.unflatten(jax.tree.structure(params), arrays)


def objective(given: Any, params: Any) -> None:
    """Raises where what is to be minimized is no function of params alone."""
    if not callable(given):
        swapped = callable(params) and not isinstance(given, str)
        way = "; the order is minimize(objective, params, optimizer)" if swapped else ""
        if type(given).__name__ == "Problem":
            way = "; its objective is meant: minimize(problem.objective, problem.start(), optimizer)"
        raise TypeError(
            f"minimize: objective must be a function of params or an Objective, got {named(given)}{way}"
        )
    if uncalled(given) and given.__module__.startswith("gdjax.problems") and given.__name__[0] != "_":
        raise TypeError(
            f"minimize: objective is {named(given)}, which makes a problem: minimize({given.__name__}().objective, ...)"
        )
    if isinstance(given, type) or not accepts(given, 1):
        raise TypeError(
            f"minimize: objective must be a function of params alone, got {named(given)}{signature(given)}; data "
            "is bound to it: gdjax.finite_sum(loss, data), or lambda params: loss(params, data)"
        )


def scalar_value(value: Any, owner: str) -> jax.Array:
    """Returns ``value`` if it is one real floating number, or says what it is instead."""
    if value is None:
        raise TypeError(f"{owner}: the objective returned None; does it end with return?")
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
    """Raises where an extra argument that ``owner`` needs was not passed to ``update``, and says who dropped it."""
    missing = [name for name, given in arguments.items() if given is None]
    if not missing:
        return
    needs, wrapper = f"{owner} needs {' and '.join(missing)}", _dropped_by(missing[0])
    if wrapper is not None:
        raise TypeError(
            f"{needs}, which gdjax.minimize passes to update; {wrapper} around it does not pass extra arguments "
            "on: leave it out, or write a wrapper whose update takes **extra and hands it to the inner update"
        )
    wanted = ", ".join(f"{name}=..." for name in missing)
    raise TypeError(f"{needs}: call update(grads, state, params, {wanted}); gdjax.minimize passes them")


_HANDS_ON = ("gdjax", "jax", "functools", "contextlib")
"""Packages whose functions between a run and a method are none of the user's wrappers."""


def _dropped_by(name: str) -> str | None:
    """The wrapper whose update was called with an extra argument of this name and called on without it.

    Only where a run is going on: the calls from it to the method are looked through, outside in. What is found is
    the last of them that does not have the argument while the one outside of it has.
    """
    frames, frame = [], sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") != "gdjax.runs.run":
        frames.append(frame)
        frame = frame.f_back
    if frame is None:
        return None
    for inside in reversed(frames):
        package, function = inside.f_globals.get("__name__", ""), inside.f_code.co_qualname
        mine = package.split(".")[0] in _HANDS_ON or "with_extra_args_support" in function
        if not mine and not any(_has(held, name) for held in inside.f_locals.items()):
            wrapper = function.split(".<locals>")[0].removesuffix(".update")
            return f"{package.split('.')[0]}.{wrapper}"
    return "a transformation"


def _has(held: tuple[str, Any], name: str) -> bool:
    """Whether a local variable is the argument of this name, or a dictionary with it."""
    key, value = held
    return key == name or (isinstance(value, dict) and name in value)


def number(owner: str, name: str, value: Any, within: Range, wanted: str = "a number") -> None:
    """Raises where a value is no number, or is known and out of range; see `concrete`.

    Args:
      owner: the function that was called.
      name: the argument.
      value: what was given for it.
      within: its range.
      wanted: what was asked for, in words.
    """
    if hasattr(value, "__jax_array__") and not isinstance(value, jax.Array):
        value = value.__jax_array__()
    if not real(value):
        way = f"; float({name}) may be meant" if holds_one(value) else ""
        raise TypeError(f"{owner}: {name} must be {wanted}, got {named(value)}{way}")
    if not isinstance(value, int | float):
        numbers = known(value)
        if numbers is None:
            return
        if numbers.shape != ():
            raise ValueError(
                f"{owner}: {name} has shape {numbers.shape}; it takes one number (several: jax.vmap)"
            )
        value = value if isinstance(value, np.generic) else numbers[()]
    if not within.contains(value):
        raise ValueError(f"{owner}: {name} must be {within.words(math.isfinite(value))}, got {value!s}")


def concrete(owner: str, **values: Any) -> None:
    """Raises where a hyperparameter is no number, or is known at the door and lies outside its range.

    Tracers pass: their values are not known here. NumPy's numbers and JAX's arrays are looked at as Python's are.

    Args:
      owner: the function that was called.
      **values: hyperparameters by name; and of these limits, by theirs, any that all of them keep: ``above``,
        ``low``, ``below``, ``high``, and ``infinite=True`` where infinity is a value too. NaN never is.
    """
    within = Range(**{field: values.pop(field) for field in Range._fields if field in values})
    for name, value in values.items():
        number(owner, name, value, within)


def optional(owner: str, **values: Any) -> None:
    """As `concrete`; None passes too, for a value that the method finds by itself."""
    concrete(owner, **{name: value for name, value in values.items() if value is not None})


def rate(owner: str, **values: Any) -> None:
    """Raises where a learning rate is neither a number of at least 0 nor a schedule, a function of the count."""
    for name, value in values.items():
        if not callable(value):
            number(owner, name, value, Range(low=0), "a number or a schedule")
        elif uncalled(value) or not accepts(value, 1):
            raise TypeError(
                f"{owner}: {name} must be a number or a schedule, a function of the count, got {named(value)}; "
                "a constructor has to be called: gdjax.schedules.cosine(0.1, 1000)"
            )


def weights(owner: str, infinite: bool = False, **values: Any) -> None:
    """Raises where numbers, arrays or trees of them are not real, or where they are known and negative."""
    within = Range(low=0, infinite=infinite)
    for name, tree in values.items():
        if isinstance(tree, int | float) and not isinstance(tree, bool):
            number(owner, name, tree, within)
            continue
        for path, leaf in tree_leaves_with_path(tree, is_leaf=lambda node: node is None or callable(node)):
            where = f" at {keystr(path)}" if path else ""
            if not real(leaf, truths=True) or isinstance(leaf, bool):
                wanted = "a number, an array or a tree of them"
                raise TypeError(f"{owner}: {name} must be {wanted}, got {named(leaf)}{where}")
            numbers = known(leaf)
            least = 0 if numbers is None or numbers.size == 0 else numbers.min()  # NaN, where there is one
            most = 0 if numbers is None or numbers.size == 0 else numbers.max()
            wrong = most if within.contains(float(least)) else least
            if not within.contains(float(wrong)):
                words = within.words(math.isfinite(wrong))
                raise ValueError(f"{owner}: {name} must be {words}, got {wrong!s}{where}")


def integer(owner: str, low: int = 0, **values: Any) -> None:
    """Raises where a number that is part of the program, such as a length, is no integer of at least ``low``."""
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            raise TypeError(
                f"{owner}: {name} must be a Python integer, got a tracer: it sets shapes, so that it is fixed when "
                "a program is compiled (an axis of a sweep: gdjax.static)"
            )
        array = isinstance(value, np.generic | np.ndarray | jax.Array)
        index = (
            value.dtype.kind in "iu" if array else hasattr(value, "__index__") and not isinstance(value, bool)
        )
        if not (type(value) is int or (index and np.ndim(value) == 0)) or int(value) < low:
            raise ValueError(f"{owner}: {name} must be an integer of at least {low}, got {value!r}")


def function(owner: str, arguments: str, hint: str, optional: bool = False, **values: Any) -> None:
    """Raises where what is to be a function is none, or cannot take its arguments.

    Args:
      owner: the function that was called.
      arguments: what the functions are called with, ``"matrix, grad"``.
      hint: what to pass instead.
      optional: whether None passes.
      **values: functions by name.
    """
    for name, value in values.items():
        if optional and value is None:
            continue
        if not callable(value) or isinstance(value, type) or not accepts(value, arguments.count(",") + 1):
            raise TypeError(
                f"{owner}: {name} must be a function of ({arguments}), got {named(value)}; {hint}"
            )


def operator(given: Any) -> Operator:
    """Returns what a curvature returned if it is an `Operator`, or says what it is instead."""
    if not isinstance(given, Operator):
        raise TypeError(
            f"a curvature must return a gdjax.types.Operator, a matrix by its products, got {named(given)}; "
            "Operator(lambda v: matrix @ v, lambda: matrix) makes one, gdjax.derivatives.hessian is one"
        )
    return given


def _way_to_an_optimizer(given: Any) -> str:
    """What to pass instead of something that is no optimizer."""
    if isinstance(given, str):
        return "methods are functions here: gdjax.bfgs() in place of 'BFGS'"
    if isinstance(given, list | tuple) and not hasattr(given, "_fields"):
        return "several are chained: optax.chain(...)"
    if isinstance(given, int | float | np.generic | np.ndarray | jax.Array):
        return "a learning rate belongs to a method: gdjax.adam(1e-3)"
    kind = type(given).__name__
    ways = {
        "StopCriterion": "a criterion goes by name: minimize(..., stop=...)",
        "Search": "a line search is part of a method: gdjax.bfgs(search)",
        "Regularizer": "a regularizer is part of one: gdjax.proximal_gradient(regularizer=...)",
    }
    return ways.get(kind, "a constructor has to be called: gdjax.adam(1e-3)")


def transformation(optimizer: Any) -> optax.GradientTransformation:
    """Returns ``optimizer`` if it is a gradient transformation, or says what it is instead."""
    if hasattr(optimizer, "gradient_transformation"):  # optax.MultiSteps, which so drops extra arguments
        optimizer = optax.GradientTransformationExtraArgs(*optimizer.gradient_transformation())
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a gradient transformation with init and update, got "
            f"{named(optimizer)}; {_way_to_an_optimizer(optimizer)}"
        )
    return optimizer
