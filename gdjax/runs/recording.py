"""Recorders: which steps of a run to keep, written into arrays of fixed size."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gdjax._internal import arguments, checks
from gdjax._internal.programs import jaxprs
from gdjax.types import Params, PyTree, Scalar, Step

__all__ = ["Reads", "Record", "Recorder", "as_recorder", "blank", "every", "fill", "mask", "reads", "write"]


class Recorder(NamedTuple):
    """What to keep of a run, and how often; made by `every`."""

    read: Callable[[Step], PyTree]
    stride: int


Record: TypeAlias = Callable[[Step], PyTree] | Recorder | None
"""What to keep of a run: a function of each step, an `every`, or nothing."""


def every(stride: int, read: Callable[[Step], PyTree]) -> Recorder:
    """Records ``read(step)`` at steps 0, stride, 2 stride, ...

    Args:
      stride: at least 1.
      read: a function of a `gdjax.types.Step` that returns an array or a pytree of arrays.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.gradient_descent(0.1),
      ...                      stop=None, max_steps=100, record=gdjax.every(10, lambda step: step.value))
      >>> run.trace.shape
      (11,)
    """
    checks.integer("every", 1, stride=stride)
    checks.function("every", "step", "what it returns is recorded", read=read)
    return Recorder(read, int(stride))


def as_recorder(record: object) -> Recorder | None:
    """A `Recorder` for every step out of a bare function."""
    if record is None or isinstance(record, Recorder):
        return record
    if not callable(record) or not arguments.accepts(record, 1):
        raise TypeError(f"minimize: record must be a function of a Step, got {arguments.named(record)}")
    return every(1, record)


def _unreached(dtype: Any) -> Any:
    return jnp.nan if jnp.issubdtype(dtype, jnp.inexact) else 0


def blank(recorder: Recorder, step: Step, max_steps: int) -> PyTree:
    """The trace before the first step."""
    rows = max_steps // recorder.stride + 1
    shapes = jax.eval_shape(lambda s: jax.tree.map(jnp.asarray, recorder.read(s)), step)
    return jax.tree.map(
        lambda leaf: jnp.full((rows, *leaf.shape), _unreached(leaf.dtype), leaf.dtype), shapes
    )


class Reads(NamedTuple):
    """What a recorder reads of a step besides the params.

    Attributes:
      evaluation: whether it may read value or residual.
      move: whether it may read the length of the step that follows.
    """

    evaluation: bool
    move: bool


def reads(recorder: Recorder | None, params: Params, value: Scalar) -> Reads:
    """What a recorder reads; found by tracing it with params and a value like these, and all where that fails."""
    if recorder is None:
        return Reads(False, False)
    step = Step(jnp.int32(0), params, value, value, value)
    leaves = jaxprs.attempt(jaxprs.used, recorder.read, step, otherwise=None)
    if leaves is None:
        return Reads(True, True)
    places = jax.tree.unflatten(jax.tree.structure(step), leaves)
    return Reads(places.value or places.residual, places.move)


def write(recorder: Recorder, trace: PyTree, step: Step, count: Scalar, keep: Scalar) -> PyTree:
    """Writes a step to its row, if ``count`` is one of the recorded and ``keep`` holds."""
    row = count // recorder.stride
    due = keep & (count % recorder.stride == 0)

    def put(rows, new):
        return rows.at[row].set(jnp.where(due, jnp.asarray(new, rows.dtype), rows[row]))

    return jax.tree.map(put, trace, recorder.read(step))


def fill(trace: PyTree, rows: PyTree) -> PyTree:
    """The trace with its first rows filled in."""
    return jax.tree.map(lambda old, new: old.at[: len(new)].set(new.astype(old.dtype)), trace, rows)


def mask(recorder: Recorder, trace: PyTree, steps: Scalar) -> PyTree:
    """The trace with every row blank that a run of ``steps`` steps did not reach."""

    def one(rows):
        reached = (jnp.arange(len(rows)) * recorder.stride <= steps).reshape(-1, *[1] * (rows.ndim - 1))
        return jnp.where(reached, rows, jnp.asarray(_unreached(rows.dtype), rows.dtype))

    return jax.tree.map(one, trace)
