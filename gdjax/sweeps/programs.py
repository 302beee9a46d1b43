"""Compiled programs: a trial mapped over the axes of a grid, kept for the next call."""

import math
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from gdjax.sweeps.lanes import Lanes, apart, chosen, queue
from gdjax.sweeps.sharing import plan
from gdjax.sweeps.tracing import Traced, traced

__all__ = ["Program", "compiled", "trace"]


class Program(NamedTuple):
    """One compiled program and what its outputs are.

    Attributes:
      run: takes one array (or pytree) an array axis and how many of its values are meant; returns a dict of
        arrays on the host, with these axes leading, and the ticks made (0 without lanes).
      strides: for each recorded variable, the steps between its rows.
      nbytes: what it needs on the device, inputs aside.
      lanes: None for the grid.
    """

    run: Callable[[list[Any], tuple[int, ...]], tuple[dict[str, np.ndarray], int]]
    strides: dict[str, int]
    nbytes: int
    lanes: Lanes | None


def trace(
    trial: Any, fixed: dict[str, Any], names: list[str], values: list[Any], params: bool, lanes: Any
) -> Traced:
    """Calls the trial once; see `compiled` for the arguments."""

    def one(*point):
        return trial(**fixed, **dict(zip(names, point, strict=True)))

    point = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), values)
    return traced(one, point, params, apart(lanes))


def _sizes(values: list[Any]) -> tuple[list[int], list[int]]:
    """The length of each axis, and for each array the axis that it belongs to."""
    sizes = [jax.tree.leaves(value)[0].shape[0] for value in values]
    return sizes, [i for i, value in enumerate(values) for _ in jax.tree.leaves(value)]


def mapped(trial: Traced, values: list[Any]) -> Callable[..., dict[str, jax.Array]]:
    """The trial's outputs as a function of whole axes.

    Where its program shares work between points, there is one ``vmap`` an axis; else a single one over all
    points.
    """
    sizes, owners = _sizes(values)

    def at(*point):
        return jax.tree.unflatten(trial.outputs, jaxpr_as_fun(trial.program)(*jax.tree.leaves(point)))

    nested, order = plan(trial.program, owners, sizes)
    return _nested(at, order) if nested else _flat(at, sizes)


def _nested(function: Callable[..., Any], order: list[int]) -> Callable[..., Any]:
    back = [order.index(i) for i in range(len(order))]
    for i in reversed(order):
        function = jax.vmap(function, in_axes=tuple(0 if j == i else None for j in range(len(order))))

    def by_axes(*values):
        return jax.tree.map(
            lambda leaf: leaf.transpose(*back, *range(len(order), leaf.ndim)), function(*values)
        )

    return by_axes


def _flat(function: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    def over_points(*values):
        if not sizes:
            return function()
        where = np.unravel_index(np.arange(math.prod(sizes)), sizes)
        points = [
            jax.tree.map(lambda leaf, i=i: leaf[i], value) for i, value in zip(where, values, strict=True)
        ]
        outputs = jax.vmap(function)(*points)
        return jax.tree.map(lambda leaf: leaf.reshape(*sizes, *leaf.shape[1:]), outputs)

    return over_points


def _grid(trial: Traced, values: list[Any]) -> Program:
    call = jax.jit(mapped(trial, values)).lower(*values).compile()

    def run(values, lengths):
        meant = tuple(slice(length) for length in lengths)
        return {name: np.asarray(array)[meant] for name, array in call(*values).items()}, 0

    return Program(run, trial.strides, _nbytes(call), None)


def _laned(trial: Traced, values: list[Any], lanes: Any) -> Program:
    sizes, owners = _sizes(values)
    lanes = chosen(lanes, trial, owners, sizes)
    function = queue(trial, owners, sizes, lanes)
    call = jax.jit(function).lower(np.zeros(len(sizes), np.int32), *values).compile()

    def run(values, lengths):
        outputs, ticks = call(np.array(lengths, np.int32), *values)
        count = math.prod(lengths)
        found = {
            name: np.reshape(np.asarray(array)[:count], (*lengths, *array.shape[1:]))
            for name, array in outputs.items()
        }
        return found, int(ticks)

    return Program(run, trial.strides, _nbytes(call), lanes)


def _nbytes(call: Any) -> int:
    memory = call.memory_analysis()
    return 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes


class _Identity:
    """A key for what has no hash; keeps the object alive, so that its id is not given away."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other: Any):
        return isinstance(other, _Identity) and self.value is other.value


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value


def _settings() -> tuple[Any, ...]:
    """The settings of JAX that change what a program computes."""
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_default_prng_impl,
        config.jax_debug_nans,
        config.jax_default_device,
    )


_KEPT = 64
"""Programs kept for each trial; the one not used for longest goes first."""

_programs: weakref.WeakKeyDictionary[Any, OrderedDict[Any, Program]] = weakref.WeakKeyDictionary()


def _kept(trial: Any) -> OrderedDict[Any, Program]:
    try:
        return _programs.setdefault(trial, OrderedDict())
    except TypeError:  # no weak reference or no hash
        return OrderedDict()


def compiled(
    trial: Any, fixed: dict[str, Any], names: list[str], values: list[Any], params: bool, lanes: Any
) -> tuple[Program, float]:
    """The program for these static choices, shapes and types, and the seconds spent to make it.

    Args:
      trial: the user's function.
      fixed: the static choices by name.
      names: the array axes, outermost first.
      values: for each of them ``jax.ShapeDtypeStruct`` leaves with the leading axis of a chunk.
      params: whether the results' params are outputs.
      lanes: for runs that stop by themselves: ``"auto"``, a `Lanes`, or None for one ``vmap``.
    """
    kept = _kept(trial)
    leaves, structure = jax.tree.flatten(values)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    choices = tuple((name, _key(value)) for name, value in fixed.items())
    key = (choices, tuple(names), structure, shapes, params, lanes, _settings())
    if key in kept:
        kept.move_to_end(key)
        return kept[key], 0.0
    start = time.perf_counter()
    found = trace(trial, fixed, names, values, params, lanes)
    program = kept[key] = _grid(found, values) if found.loop is None else _laned(found, values, lanes)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return program, time.perf_counter() - start
