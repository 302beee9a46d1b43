"""Compiled programs: a trial mapped over the axes of a grid, kept for the next call."""

import math
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey, tree_flatten_with_path

from gdjax.driver import Run
from gdjax.sweeps.sharing import plan

__all__ = ["Program", "compiled"]

RESULTS = ("value", "residual", "steps", "status")
"""What every run comes to."""


class Program(NamedTuple):
    """One compiled program and what its outputs are.

    Attributes:
      call: takes one array (or pytree) an array axis, returns a dict of arrays with these axes leading.
      strides: for each recorded variable, the steps between its rows.
      nbytes: what it needs on the device, inputs aside.
    """

    call: Callable[..., dict[str, jax.Array]]
    strides: dict[str, int]
    nbytes: int


def _part(key: Any) -> str:
    match key:
        case DictKey(name) | FlattenedIndexKey(name):
            return str(name)
        case GetAttrKey(name):
            return name
        case SequenceKey(index):
            return str(index)
    return str(key)


def _named(tree: Any, bare: str, prefix: str = "") -> dict[str, jax.Array]:
    """The leaves of a tree by their paths: ``a``, ``layer.weights``; a bare array is called ``bare``."""
    found = {}
    for path, leaf in tree_flatten_with_path(tree)[0]:
        name = prefix + ".".join(_part(key) for key in path) if path else bare
        try:
            found[name] = jnp.asarray(leaf)
        except TypeError:
            raise TypeError(
                f"sweep: trial returned a {type(leaf).__name__} ({name}); "
                "it must return a gdjax.Run or arrays"
            ) from None
    return found


def _outputs(outcome: Any, params: bool, strides: dict[str, int]) -> dict[str, jax.Array]:
    """What a trial returned as named arrays; notes the strides of what was recorded."""
    if not isinstance(outcome, Run):
        named = _named(outcome, "result")
        if not named:
            raise TypeError(f"sweep: trial returned {outcome!r}; it must return a gdjax.Run or arrays")
        return named
    result = outcome.solve()
    found = {name: getattr(result, name) for name in RESULTS}
    if result.trace is not None:
        trace = _named(result.trace, "trace")
        taken = sorted(set(trace) & {*RESULTS, "params", "step"})
        if taken:
            raise ValueError(
                f"sweep: record names a trace {taken[0]!r}, which is a result's name; "
                f"call it {taken[0] + 's'!r}"
            )
        stride = 1 if outcome.record is None else outcome.record.stride
        strides.update(dict.fromkeys(trace, stride))
        found |= trace
    if params:
        found |= _named(result.params, "params", "params.")
    return found


def mapped(
    trial: Any, fixed: dict[str, Any], names: list[str], values: list[Any], params: bool
) -> tuple[Callable[..., dict[str, jax.Array]], dict[str, int]]:
    """The trial's outputs as a function of whole axes, and the strides of what it records.

    The trial is called once. Where its program shares work between points, there is one ``vmap`` an axis;
    else a single one over all points.
    """
    strides: dict[str, int] = {}

    def one(*point):
        return _outputs(trial(**fixed, **dict(zip(names, point, strict=True))), params, strides)

    sizes = [jax.tree.leaves(value)[0].shape[0] for value in values]
    owners = [i for i, value in enumerate(values) for _ in jax.tree.leaves(value)]
    point = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), values)
    program, shape = jax.make_jaxpr(one, return_shape=True)(*point)
    outputs = jax.tree.structure(shape)

    def traced(*point):
        return jax.tree.unflatten(outputs, jaxpr_as_fun(program)(*jax.tree.leaves(point)))

    nested, order = plan(program, owners, sizes)
    return (_nested(traced, order) if nested else _flat(traced, sizes)), strides


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


def _compile(trial: Any, fixed: dict[str, Any], names: list[str], values: list[Any], params: bool) -> Program:
    function, strides = mapped(trial, fixed, names, values, params)
    call = jax.jit(function).lower(*values).compile()
    memory = call.memory_analysis()
    nbytes = 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Program(call, strides, nbytes)


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
    trial: Any, fixed: dict[str, Any], names: list[str], values: list[Any], params: bool
) -> tuple[Program, float]:
    """The program for these static choices, shapes and types, and the seconds spent to make it.

    Args:
      trial: the user's function.
      fixed: the static choices by name.
      names: the array axes, outermost first.
      values: for each of them ``jax.ShapeDtypeStruct`` leaves with the leading axis of a chunk.
      params: whether the results' params are outputs.
    """
    kept = _kept(trial)
    leaves, structure = jax.tree.flatten(values)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    choices = tuple((name, _key(value)) for name, value in fixed.items())
    key = (choices, tuple(names), structure, shapes, params, _settings())
    if key in kept:
        kept.move_to_end(key)
        return kept[key], 0.0
    start = time.perf_counter()
    program = kept[key] = _compile(trial, fixed, names, values, params)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return program, time.perf_counter() - start
