"""The values of an axis, whatever they came as: arrays for the trial, and the labels along the dimension."""

import array
import itertools
from collections.abc import Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import all_leaves, keystr, tree_flatten_with_path, tree_map_with_path

from gdjax.types import PyTree

__all__ = ["AxisValues", "Rest", "arrays", "is_array", "label", "whole"]

AxisValues: TypeAlias = Any
"""What a user writes for an axis: numbers, arrays of any library, pytrees of them, keys, or `gdjax.static` choices."""

LONGEST = 10_000_000
"""Values that are taken of an iterator, so that an endless one meets an error rather than the end of memory."""

DIGITS = 9
"""Decimal digits that tell any two float32 numbers apart, and so any two of shorter types (IEEE 754, 5.12.2)."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Rest:
    """What is no array in a callable pytree, such as the activation of a network: the same at all points."""

    value: object


def whole(point: PyTree) -> PyTree:
    """A point of a grid as the trial takes it, with what is no array back in its place."""

    def is_rest(node):
        return isinstance(node, Rest)

    return jax.tree.map(lambda node: node.value if is_rest(node) else node, point, is_leaf=is_rest)


def is_array(leaf: object) -> bool:
    """Whether it is numbers that JAX can hold: an array, a number, keys."""
    if isinstance(leaf, jax.Array):
        return True
    if not isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex):
        return False
    dtype = np.asarray(leaf).dtype
    return bool(jnp.issubdtype(dtype, np.number) or dtype == np.bool_)


def label(values: PyTree) -> np.ndarray:
    """The labels of values: as the trial sees them, in the same type.

    Types of half precision have no index in pandas; they are labelled by the shortest decimals that mean the
    same number, in float32, so that 0.1 is found as 0.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax.sweeps.values import label
      >>> label(jnp.array([0.1, 3.0], jnp.bfloat16)).tolist() == label(jnp.array([0.1, 3.0])).tolist()
      True
    """
    values = np.asarray(values)
    if not jnp.issubdtype(values.dtype, np.floating) or values.dtype.itemsize > 2:
        return values
    exact, short = values.astype(np.float32), values.astype(np.float32)
    waiting = np.isfinite(exact)
    for digits in range(1, DIGITS + 1):
        tried = np.array([float(f"{x:.{digits}g}") for x in exact.tolist()], np.float32)
        found = waiting & (tried.astype(values.dtype) == values)
        short[found], waiting = tried[found], waiting & ~found
    return short


def _read(name: str, leaf: Any) -> Any:
    """Values of pandas, xarray, torch and others that NumPy can read, as its array; all else as it is."""
    if is_array(leaf) or isinstance(leaf, str | type | np.ndarray | np.generic):
        return leaf
    try:
        for step in ("detach", "cpu"):  # a torch tensor with a gradient, or on a device, says no to NumPy
            leaf = getattr(leaf, step)() if callable(getattr(leaf, step, None)) else leaf
        if hasattr(leaf, "__array__"):
            found = np.asarray(leaf)
        elif callable(getattr(leaf, "numpy", None)):
            found = np.asarray(leaf.numpy())
        else:
            return leaf
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"sweep: axis {name!r} holds a {type(leaf).__name__} that NumPy cannot read ({error}); pass an array"
        ) from None
    return np.array(found.tolist()) if found.dtype == object and found.size else found


def _plain(leaf: Any) -> Any:
    """Numbers longer than 64 bits, which JAX does not know, in 64."""
    if (
        isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.char in "gG"
    ):  # long doubles, real and complex
        return np.asarray(leaf, np.complex128 if leaf.dtype.kind == "c" else np.float64)
    return leaf


def _what(leaf: Any) -> str:
    if isinstance(leaf, np.ndarray | np.generic):
        kinds = {"U": "strings", "T": "strings", "M": "dates", "m": "spans of time", "O": "objects"}
        return kinds.get(leaf.dtype.kind, f"values of type {leaf.dtype}")
    return f"a {type(leaf).__name__}"


def _check(name: str, values: Any) -> None:
    leaves, _ = tree_flatten_with_path(values)
    if not leaves:
        raise ValueError(f"sweep: axis {name!r} is empty")
    for path, leaf in leaves:
        if not is_array(leaf):
            raise TypeError(
                f"sweep: axis {name!r} holds {_what(leaf)} at {keystr(path) or 'its top'}, not "
                f"numbers or arrays; did you mean {name}=gdjax.static([...])?"
            )


def _held(name: str, path: Any, leaf: Any) -> jax.Array:
    """As JAX holds it, or the number that its type cannot hold."""
    leaf = _plain(leaf)
    with np.errstate(over="ignore"):  # told below, by name
        array = jnp.asarray(leaf)
    if isinstance(leaf, jax.Array) or array.dtype == leaf.dtype:
        return array
    held = np.asarray(array)
    if jnp.issubdtype(array.dtype, np.integer):
        lost = held != leaf
    else:
        lost = np.isfinite(leaf) & (~np.isfinite(held) | ((held == 0) & (leaf != 0)))
    if lost.any():
        raise ValueError(
            f"sweep: axis {name!r} holds {leaf[lost].flat[0]!s} at {keystr(path) or 'its top'}, which "
            f"{array.dtype} cannot; set jax_enable_x64 for 64 bits"
        )
    return array


def _stacked(name: str, trees: Sequence[Any]) -> Any:
    """A list of pytrees as one, with a leading axis."""
    if len({jax.tree.structure(tree) for tree in trees}) > 1:
        raise ValueError(f"sweep: axis {name!r} is a list of pytrees of unequal structures")

    def one(path, *leaves):
        if callable(trees[0]) and all(leaf is leaves[0] for leaf in leaves) and not is_array(leaves[0]):
            return leaves[0]
        return _sequence(name, leaves, keystr(path))

    return _in_order(tree_map_with_path(one, trees[0], *trees[1:]), trees[0])


def _in_order(tree: Any, like: Any) -> Any:
    """A dictionary with its names in the order of another; JAX sorts them."""
    return {key: tree[key] for key in like} if type(tree) is dict else tree


def _sequence(name: str, values: Sequence[Any], where: str = "") -> Any:
    """A list of numbers, arrays or keys as one array; a list of pytrees as one of arrays."""
    values = [_read(name, value) for value in values]
    if any(value is None for value in values):
        raise TypeError(f"sweep: axis {name!r} holds None; did you mean {name}=gdjax.static([...])?")
    if any(not _is_sequence(value) and not all_leaves([value]) for value in values):
        return _stacked(name, values)
    _check(name, values)
    try:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values)):
            return jnp.stack([jnp.asarray(value) for value in values])
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"sweep: axis {name!r} is a list of unequal shapes{where and f' at {where}'}"
        ) from error


def _is_sequence(values: Any) -> bool:
    plain = isinstance(values, Sequence | Iterator | KeysView | ValuesView | array.array)
    return plain and not isinstance(values, str | bytes) and not hasattr(values, "_fields")


def _opened(name: str, values: Any) -> Any:
    """Tables and mappings as dictionaries, iterators as lists."""
    if isinstance(values, Set) and not isinstance(values, KeysView):
        raise TypeError(f"sweep: axis {name!r} is a set, which has no order; write sorted(...)")
    table: Any = values
    if hasattr(table, "columns") and hasattr(table, "to_numpy"):  # of pandas or the like
        return {str(column): table[column] for column in table.columns}
    if isinstance(values, Mapping) and all_leaves([values]):
        return dict(values)
    if isinstance(values, Iterator):
        values = list(itertools.islice(values, LONGEST + 1))
        if len(values) > LONGEST:
            raise ValueError(f"sweep: axis {name!r} is an iterator of more than {LONGEST:,} values")
    return values


def _is_numbers(node: Any) -> bool:
    plain = isinstance(node, range) or (isinstance(node, list | tuple) and not hasattr(node, "_fields"))
    return plain and len(node) > 0 and all(isinstance(x, bool | int | float) for x in node)


def arrays(name: str, values: AxisValues) -> PyTree:
    """A pytree of JAX arrays with a common leading axis, from what the user wrote for an axis.

    Raises:
      TypeError: if it holds something else than numbers.
      ValueError: if it is empty, ragged, one number, or holds numbers that their type in JAX cannot.
    """
    values = _read(name, _opened(name, values))
    if _is_sequence(values):
        values = _sequence(name, list(values))
    order = values
    if callable(values) and not all_leaves([values]):
        values = jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, jax.Array | np.ndarray) else Rest(leaf), values
        )
    values = jax.tree.map(
        lambda node: np.asarray(node) if _is_numbers(node) else _read(name, node), values, is_leaf=_is_numbers
    )
    _check(name, values)
    leaves, _ = tree_flatten_with_path(values)
    for path, leaf in leaves:
        if np.ndim(leaf) == 0:
            where = f" at {keystr(path)}" if path else ""
            raise ValueError(f"sweep: axis {name!r} is a single number{where}; write [{leaf}] for one value")
    leaves = [leaf for _, leaf in leaves]
    shapes = {np.shape(leaf)[:1] for leaf in leaves}
    if len(shapes) > 1:
        lengths = [np.shape(leaf)[0] for leaf in leaves]
        raise ValueError(f"sweep: the arrays of axis {name!r} differ in length: {lengths}")
    if shapes == {(0,)}:
        raise ValueError(f"sweep: axis {name!r} is empty")
    found = tree_map_with_path(lambda path, leaf: _held(name, path, leaf), values)
    return _in_order(found, order)
