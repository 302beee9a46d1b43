"""The numbers that make a set: refused where they are known and the set is empty, NaN where they are traced."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax._internal import arguments, checks
from gdjax.types import Params, Prefix, Projection, PyTree, Scalar, ScalarLike

__all__ = ["finite", "floating", "nearest", "oracle", "ordered", "projection", "traced", "within"]


def _range(owner: str, name: str) -> dict[str, Any]:
    """What a number has to be: a ball may be all of space, a sphere not."""
    return {"above": 0} if name == "total" else {"low": 0, "infinite": owner.endswith("ball")}


_BIND = (
    "it is a function of params alone, its numbers bound: "
    "jax.tree_util.Partial(gdjax.projections.box, lower=0.0, upper=1.0)"
)


def traced(*trees: PyTree) -> bool:
    """Whether any number in the trees is not known here."""
    return any(arguments.known(leaf) is None for leaf in jax.tree.leaves(trees))


def floating(owner: str, params: Params) -> None:
    """Raises where params are integers: rounding to one leads out of the set."""
    for path, leaf in tree_leaves_with_path(params):
        dtype = (
            jnp.result_type(leaf)
            if arguments.real(leaf, truths=True)
            else getattr(leaf, "dtype", type(leaf).__name__)
        )
        if not (arguments.real(leaf) and jnp.issubdtype(dtype, jnp.floating)):
            raise TypeError(
                f"{owner}: params{keystr(path)} is {dtype}; a nearest point needs real floating numbers, "
                "e.g. jnp.asarray(x, float)"
            )


def finite(owner: str, **trees: PyTree) -> None:
    """Raises where numbers, arrays or trees of them are not real, or are known and not finite."""
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            if not arguments.real(leaf):
                raise TypeError(f"{owner}: {name} must hold real numbers, got {arguments.named(leaf)}")
            numbers = arguments.known(leaf)
            if numbers is not None and not np.all(np.isfinite(numbers.astype(float))):
                raise ValueError(f"{owner}: {name} must be finite, got {numbers[~np.isfinite(numbers)][0]}")


def within(owner: str, dtype: np.dtype, **number: ScalarLike) -> Scalar:
    """A radius or total in ``dtype``; where it is traced, NaN in place of one that no set has."""
    ((name, value),) = number.items()
    checks.concrete(owner, **_range(owner, name), **number)
    array = jnp.asarray(value, dtype)
    if not traced(value):
        return array
    return jnp.where(array > 0 if name == "total" else array >= 0, array, jnp.nan)


def _children(tree: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)


def _is_leaf(tree: Any) -> bool:
    return jax.tree.structure(tree) == jax.tree.structure(0)


def _pairs(owner: str, lower: Any, upper: Any) -> Iterator[tuple[Any, Any]]:
    """Each lower bound with each upper one that some parameter has beside it: either may be a prefix."""
    if _is_leaf(lower) or _is_leaf(upper):
        for low in jax.tree.leaves(lower):
            for high in jax.tree.leaves(upper):
                yield low, high
        return
    (lows, one), (highs, other) = _children(lower), _children(upper)
    if lower is None or upper is None:
        return
    if one != other:
        raise ValueError(f"{owner}: lower and upper differ in structure: {one} and {other}")
    for low, high in zip(lows, highs, strict=True):
        yield from _pairs(owner, low, high)


def _numbers(owner: str, name: str, bound: Any, nothing: float) -> None:
    """Raises where a bound is no number, NaN, or the infinity beyond which there is nothing."""
    for path, leaf in tree_leaves_with_path(bound):
        where = f"{name}{keystr(path)}"
        if not arguments.real(leaf):
            way = "; SciPy's come apart: lower=bounds.lb, upper=bounds.ub" if hasattr(leaf, "lb") else ""
            raise TypeError(
                f"{owner}: {where} must be a number, an array or a tree of them, got {arguments.named(leaf)}{way}"
            )
        numbers = arguments.known(leaf)
        if numbers is not None and np.any(np.isnan(numbers.astype(float))):
            raise ValueError(f"{owner}: {where} must be a number, got nan")
        if numbers is not None and np.any(numbers == nothing):
            side = "above" if nothing > 0 else "below"
            raise ValueError(f"{owner}: {where} must leave room {side} it, got {nothing}")


def _plain(bound: Any) -> bool:
    """Whether a bound is Python's number or None, as most are."""
    return bound is None or type(bound) in (int, float)


def ordered(owner: str, lower: Prefix, upper: Prefix) -> None:
    """Raises where bounds are known at the door and leave no room.

    Args:
      owner: the function that was called.
      lower: a number, an array, a tree of them that is a prefix of the params, or None.
      upper: likewise; its tree may be a prefix of the lower one's or the other way round.

    Raises:
      ValueError: if a lower bound exceeds its upper one, or a bound is NaN.
      TypeError: if a bound is no number.
    """
    if _plain(lower) and _plain(upper):
        low, high = -np.inf if lower is None else lower, np.inf if upper is None else upper
        if low <= high and low < np.inf and high > -np.inf:
            return
    _numbers(owner, "lower", lower, np.inf)
    _numbers(owner, "upper", upper, -np.inf)
    for pair in _pairs(owner, lower, upper):
        low, high = (arguments.known(bound) for bound in pair)
        if low is None or high is None:
            continue
        try:
            crossed = np.broadcast_arrays(low, high, low > high)
        except ValueError:
            raise ValueError(
                f"{owner}: lower of shape {low.shape} and upper of shape {high.shape} do not fit together"
            ) from None
        if np.any(crossed[2]):
            first = [side[crossed[2]][0] for side in crossed[:2]]
            raise ValueError(f"{owner}: lower must not exceed upper, got {first[0]} and {first[1]}")


def _bound_numbers(bound: functools.partial) -> None:
    """Checks what is bound to a projection or an oracle of this package, before a run makes tracers of it."""
    function: Any = bound.func
    if not (getattr(function, "__module__", None) or "").startswith("gdjax."):
        return
    given = inspect.signature(function).bind_partial(None, *bound.args, **bound.keywords)
    given.apply_defaults()
    numbers = given.arguments
    owner = function.__name__
    for name in numbers.keys() & {"radius", "total"}:
        checks.concrete(owner, **_range(owner, name), **{name: numbers[name]})
    if "scale" in numbers:
        checks.weights(owner, infinite=True, scale=numbers["scale"])
    ordered(owner, numbers.get("lower"), numbers.get("upper"))


def projection(owner: str, optional: bool = False, **values: Any) -> None:
    """Raises where what is to be a projection, ``params -> params``, is none, or projects onto no set.

    Args:
      owner: the function that was called.
      optional: whether None passes.
      **values: functions by name.
    """
    for name, value in values.items():
        if optional and value is None:
            continue
        checks.function(owner, "params", _BIND, **{name: value})
        bound = value if isinstance(value, functools.partial) else functools.partial(value)
        if getattr(bound.func, "__qualname__", "") == "box" and not (bound.args or bound.keywords):
            raise TypeError(f"{owner}: {name} is a box without bounds, which is all of space; {_BIND}")
        _bound_numbers(bound)


def nearest(owner: str, onto: Projection, params: Params) -> Params:
    """``onto(params)``, or an error where that has another structure or other shapes than params have."""
    point = onto(params)
    found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (point, params))
    if jax.tree.structure(found) != jax.tree.structure(wanted) or found != wanted:
        raise TypeError(
            f"{owner}: projection must return params as they came, of shapes {wanted}; it returned {found}"
        )
    return point


def oracle(owner: str, value: Any, away: Any = None) -> None:
    """Raises where what is to minimize linear functions over a set is none: a projection answers another question."""
    hint = (
        "its set's linear minimization oracle is meant, such as simplex_vertex, l1_vertex, nuclear_vertex or "
        "box_vertex of gdjax.optimizers.nonsmooth.frank_wolfe, with numbers bound by jax.tree_util.Partial"
    )
    checks.function(owner, "grad", hint, oracle=value)
    checks.function(owner, "grad, params", "such as simplex_away of its module", True, away=away)
    bound = value if isinstance(value, functools.partial) else functools.partial(value)
    if (getattr(bound.func, "__module__", None) or "").startswith("gdjax.projections."):
        raise TypeError(f"{owner}: oracle is the projection {bound.func.__name__}; {hint}")
    _bound_numbers(bound)
