"""The axes of a sweep: what the user wrote, checked at the door and given coordinates."""

import difflib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.sweeps.values import AxisValues, arrays, is_array, label
from gdjax.types import PyTree

__all__ = ["Axis", "Static", "Trial", "as_axes", "static"]


Trial: TypeAlias = Callable[..., PyTree]
"""A user's function with one argument an axis: it returns a `gdjax.Run`, or a pytree of arrays."""


class Static(NamedTuple):
    """Values that are not arrays, each with a label; made by `static`."""

    labels: tuple[str, ...]
    values: tuple[Any, ...]


class Axis(NamedTuple):
    """One checked axis.

    Attributes:
      name: the dimension's name and the argument of the trial.
      coordinate: its labels, a NumPy array of shape (size,).
      values: a pytree of arrays with leading axis ``size``; None where ``choices`` is given.
      choices: the values of a static axis; None where ``values`` is given.
      members: where ``values`` is a dictionary, such as a design, its numbers by name: more labels.
    """

    name: str
    coordinate: np.ndarray
    values: PyTree
    choices: tuple[Any, ...] | None
    members: tuple[tuple[str, np.ndarray], ...] = ()

    @property
    def size(self) -> int:
        return len(self.coordinate)

    def part(self, piece: slice) -> "Axis":
        """The axis with the labels of a part of it."""
        members = tuple((name, labels[piece]) for name, labels in self.members)
        return self._replace(coordinate=self.coordinate[piece], members=members)


def _label(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, functools.partial):
        return _label(value.func)
    return getattr(value, "__name__", None) or repr(value)


def static(values: Mapping[str, Any] | Iterable[Any]) -> Static:
    """Marks the values of an axis that are not arrays: optimizers, problems, widths.

    Each of them is traced and compiled as a program of its own; all end in one dataset.

    Args:
      values: a list, labelled by the values' names (functions, classes), themselves (strings) or
        their ``repr``; or a dictionary from labels to values.

    Raises:
      ValueError: if it is empty, or if two values would have the same label.

    Example:
      >>> import gdjax
      >>> gdjax.static([16, 32]).labels
      ('16', '32')
      >>> gdjax.static({"slow": 0.9, "fast": 0.5}).labels
      ('slow', 'fast')
    """
    if isinstance(values, Mapping):
        labels, values = tuple(str(label) for label in values), tuple(values.values())
    else:
        values = tuple(values)
        labels = tuple(_label(value) for value in values)
    if not values:
        raise ValueError("static: there are no values")
    twice = [label for label, times in Counter(labels).items() if times > 1]
    if twice:
        raise ValueError(
            f"static: several values are called {twice[0]!r}; name them: static({{'a': ..., 'b': ...}})"
        )
    return Static(labels, values)


def _array_axis(name: str, values: AxisValues) -> Axis:
    if hasattr(values, "low") and hasattr(values, "high"):  # a Range, or one of Optuna's distributions
        raise TypeError(
            f"sweep: axis {name!r} is a range, not values; draw some: gdjax.sweeps.sobol({{{name!r}: ...}}, 64)"
        )
    values = arrays(name, values)
    leaves = jax.tree.leaves(values)
    plain = len(leaves) == 1 and leaves[0] is values and _is_labels(values)
    coordinate = label(values) if plain else np.arange(len(leaves[0]))
    return Axis(name, coordinate, values, None, _members(values))


def _is_labels(values: Any) -> bool:
    """Whether it is one number a point."""
    return np.ndim(values) == 1 and not jnp.issubdtype(values.dtype, jax.dtypes.extended)


def _members(values: Any) -> tuple[tuple[str, np.ndarray], ...]:
    """The numbers of a dictionary by name, those that are one a point."""
    if not isinstance(values, Mapping):
        return ()
    return tuple(
        (str(name), label(labels))
        for name, labels in values.items()
        if is_array(labels) and _is_labels(labels)
    )


def _check_signature(trial: Trial, names: list[str]) -> None:
    try:
        parameters = inspect.signature(trial).parameters.values()
    except (TypeError, ValueError):
        return
    kinds = inspect.Parameter
    positional = [p.name for p in parameters if p.kind is kinds.POSITIONAL_ONLY and p.default is kinds.empty]
    if positional:
        raise TypeError(f"sweep: trial takes {positional[0]!r} by position only; axes are passed by name")
    named = [p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    known = [p.name for p in named]
    if not any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'nothing'}"
                raise ValueError(f"sweep: trial has no argument {name!r}; {hint}")
    missing = [p.name for p in named if p.default is kinds.empty and p.name not in names]
    if missing:
        near = difflib.get_close_matches(missing[0], names, 1)
        hint = f" (axes has {near[0]!r})" if near else ""
        raise ValueError(f"sweep: trial needs {missing[0]!r}, but no axis is called so{hint}")


def as_axes(trial: Trial, axes: Mapping[str, AxisValues]) -> list[Axis]:
    """Checks the axes against the trial and gives each its coordinates."""
    if not callable(trial):
        raise TypeError(f"sweep: trial must be a function that returns a Run, got {type(trial).__name__}")
    if not isinstance(axes, Mapping):
        raise TypeError(f"sweep: axes must map names to values, got {type(axes).__name__}")
    _check_signature(trial, list(axes))
    checked = []
    for name, values in axes.items():
        if isinstance(values, Static):
            checked.append(Axis(name, np.asarray(values.labels), None, values.values))
        else:
            checked.append(_array_axis(name, values))
    return checked
