"""Compiled programs: a trial mapped over the axes of a grid, kept for the next call."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh
from jax.stages import Compiled

from gdjax.sweeps.axes import Trial
from gdjax.sweeps.cache import PROGRAMS, TRACES, case, forget, kept_for
from gdjax.sweeps.lanes import LaneProgram, Lanes, apart, chosen
from gdjax.sweeps.meshes import devices_of, on_all, split_axis
from gdjax.sweeps.refill import queue
from gdjax.sweeps.sharing import plan
from gdjax.sweeps.tracing import Traced, traced
from gdjax.sweeps.values import whole
from gdjax.types import PyTree

__all__ = ["Program", "ProgramOptions", "Ran", "at_point", "compiled", "trace"]


class ProgramOptions(NamedTuple):
    """What a program returns, and where it runs.

    Attributes:
      params: whether the results' params are outputs.
      lanes: for runs that stop by themselves: ``"auto"``, a `Lanes`, or None for one ``vmap``.
      mesh: the devices that share the runs; None for the default one.
    """

    params: bool
    lanes: Lanes | str | None
    mesh: Mesh | None


_NONE = np.zeros((0, 0), int)
"""No run is lost: those in lanes are checked at every step."""


class Ran(NamedTuple):
    """What a program made of a chunk.

    Attributes:
      found: its outputs on the host, with the chunk's axes leading.
      ticks: made; 0 without lanes.
      lost: places in the chunk, a row each, of runs of fixed length that were not finite all the way: what they came
        to is not to be trusted.
    """

    found: dict[str, np.ndarray]
    ticks: int
    lost: np.ndarray


class Program(NamedTuple):
    """One compiled program and what its outputs are.

    Attributes:
      run: takes one array (or pytree) an array axis and how many of its values are meant.
      strides: for each recorded variable, the steps between its rows.
      compiled: the program itself.
      lanes: None for the grid.
      nbytes: what it needs on a device, inputs aside.
    """

    run: Callable[[list[PyTree], tuple[int, ...]], Ran]
    strides: dict[str, int]
    compiled: Compiled
    lanes: Lanes | None
    nbytes: int


def _nbytes(compiled: Compiled) -> int:
    """Not for every call: to ask takes milliseconds."""
    memory = compiled.memory_analysis()
    return 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes


def trace(
    trial: Trial,
    fixed: dict[str, Any],
    names: list[str],
    values: list[PyTree],
    params: bool,
    lanes: Lanes | str | None,
) -> Traced:
    """Calls the trial, once for all shapes of the axes; see `compiled` for the arguments."""

    one = at_point(trial, fixed, names)
    point = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), values)
    pruned = isinstance(lanes, Lanes) and lanes.prune is not None
    kept, key = kept_for(trial, TRACES), case(fixed, names, point, params, lanes is not None, pruned)
    if key not in kept:
        kept[key] = traced(one, point, params, apart(lanes))
        forget(kept)
    return kept[key]


def at_point(trial: Trial, fixed: dict[str, Any], names: list[str]) -> Callable[..., PyTree]:
    """The trial as a function of one point."""

    def one(*point):
        return trial(**fixed, **whole(dict(zip(names, point, strict=True))))

    return one


def _sizes(values: list[PyTree]) -> tuple[list[int], list[int]]:
    """The length of each axis, and for each array the axis that it belongs to."""
    sizes = [jax.tree.leaves(value)[0].shape[0] for value in values]
    return sizes, [i for i, value in enumerate(values) for _ in jax.tree.leaves(value)]


def mapped(trial: Traced, values: list[PyTree]) -> Callable[..., tuple[dict[str, jax.Array], jax.Array]]:
    """The trial's outputs, and whether they can be trusted, as a function of whole axes.

    Where its program shares work between points, there is one ``vmap`` an axis; else a single one over all
    points.
    """
    sizes, owners = _sizes(values)

    def at(*point):
        leaves = jaxpr_as_fun(trial.program)(*jax.tree.leaves(point))
        finite = leaves.pop() if trial.unchecked else jnp.asarray(True)
        return jax.tree.unflatten(trial.outputs, leaves), finite

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


def _grid(trial: Traced, values: list[PyTree], options: ProgramOptions) -> Program:
    sizes, _ = _sizes(values)
    mesh = _mesh_of(trial, options)
    if mesh is None or not values:
        call = made = jax.jit(mapped(trial, values)).lower(*values).compile()
    else:
        split = split_axis(sizes)
        local = [_shorter(value, mesh.size) if i == split else value for i, value in enumerate(values)]
        inputs = [(value, 0 if i == split else None) for i, value in enumerate(values)]
        call = on_all(mapped(trial, local), mesh, inputs, split)
        made = call.compiled

    def run(values, lengths):
        outputs, finite = call(*values)
        meant = tuple(slice(length) for length in lengths)
        found = {name: np.asarray(np.asarray(array)[meant]) for name, array in outputs.items()}
        return Ran(found, 0, np.argwhere(~np.asarray(finite)[meant]))

    return Program(run, trial.strides, made, None, _nbytes(made))


def _shorter(value: Any, parts: int) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] // parts, *leaf.shape[1:]), leaf.dtype), value
    )


def _mesh_of(trial: Traced, options: ProgramOptions) -> Mesh | None:
    """The devices that share the runs; none where a trial's data lies on several, which then share each run."""
    data = (leaf for leaf in trial.program.consts if isinstance(leaf, jax.Array))
    return None if any(len(leaf.sharding.device_set) > 1 for leaf in data) else options.mesh


def _laned(trial: Traced, values: list[PyTree], options: ProgramOptions) -> Program:
    sizes, owners = _sizes(values)
    mesh = _mesh_of(trial, options)
    assert options.lanes is not None
    parts = devices_of(mesh)
    program, rows = LaneProgram(trial, owners, sizes), math.ceil(math.prod(sizes) / parts)
    lanes = chosen(options.lanes, program, rows)
    through, lengths = queue(program, rows, lanes, parts), np.zeros(len(sizes), np.int32)
    if mesh is None:
        call = made = jax.jit(through).lower(np.int32(0), lengths, *values).compile()
        part = np.int32(0)
    else:
        part = np.arange(parts, dtype=np.int32)
        inputs = [(part, 0), (lengths, None), *((value, None) for value in values)]
        call = on_all(_of_one(through), mesh, inputs, 0)
        made = call.compiled

    def run(values, lengths):
        outputs, ticks = call(part, np.array(lengths, np.int32), *values)
        found = {name: _in_order(array, lengths, parts) for name, array in outputs.items()}
        return Ran(found, int(np.max(ticks)), _NONE)

    return Program(run, trial.strides, made, lanes, _nbytes(made))


def _of_one(through: Callable[..., Any]) -> Callable[..., Any]:
    """A queue whose part and ticks have a leading axis of one."""

    def one(part, lengths, *values):
        outputs, ticks = through(part[0], lengths, *values)
        return outputs, ticks[None]

    return one


def _in_order(rows: Any, lengths: tuple[int, ...], parts: int) -> np.ndarray:
    """The rows of all parts, each with every so many runs, as a grid."""
    rows = np.asarray(rows)
    rows = rows.reshape(parts, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)
    return np.reshape(rows[: math.prod(lengths)], (*lengths, *rows.shape[1:]))


def compiled(
    trial: Trial, fixed: dict[str, Any], names: list[str], values: list[PyTree], options: ProgramOptions
) -> tuple[Program, float]:
    """The program for these static choices, shapes and types, and the seconds spent to make it.

    Args:
      trial: the user's function.
      fixed: the static choices by name.
      names: the array axes, outermost first.
      values: for each of them ``jax.ShapeDtypeStruct`` leaves with the leading axis of a chunk.
      options: what comes out, and where it is made.
    """
    kept, key = kept_for(trial, PROGRAMS), case(fixed, names, values, options)
    if key in kept:
        kept.move_to_end(key)
        return kept[key], 0.0
    start = time.perf_counter()
    found = trace(trial, fixed, names, values, options.params, options.lanes)
    program = kept[key] = (
        _grid(found, values, options) if found.loop is None else _laned(found, values, options)
    )
    forget(kept)
    return program, time.perf_counter() - start
