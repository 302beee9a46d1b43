"""Lanes with refill: runs that stop by themselves, a fixed number at a time, inside one compiled loop.

A tick is one step of every lane. A lane whose run has ended writes what it came to, and takes the next
run from the queue, on the device: no run waits for the slowest of its batch, and nothing waits for
the host. A fresh lane evaluates nothing before its first tick.

What depends on no axis (data, the functions' constants) is kept once for all lanes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from gdjax.sweeps.sharing import depends
from gdjax.sweeps.tracing import Loop, Traced

__all__ = ["Lanes", "as_lanes", "chosen", "queue"]

Leaves = list[Any]


class Lanes(NamedTuple):
    """How runs that stop early share the device.

    Attributes:
      count: runs at a time, at least 1.
      ticks: steps that all lanes take between two looks for lanes that are done, at least 1. A lane
        that is done waits for the next look, so more than one pays only where a look is dear.
    """

    count: int
    ticks: int = 1


def _is_count(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def as_lanes(lanes: Any) -> Lanes | str | None:
    """Checks what the user wrote: ``"auto"``, a number, a `Lanes`; None or 0 for none."""
    if lanes is None or lanes == "auto":
        return lanes
    if isinstance(lanes, Lanes) and _is_count(lanes.count) and _is_count(lanes.ticks):
        return Lanes(int(lanes.count), int(lanes.ticks))
    if not isinstance(lanes, tuple):
        if _is_count(lanes):
            return Lanes(int(lanes))
        if lanes == 0 and not isinstance(lanes, bool):
            return None
    raise ValueError(
        f"sweep: lanes must be 'auto', a number of lanes, a gdjax.sweeps.Lanes, or None, got {lanes!r}"
    )


class _Programs:
    """The programs of a run, with the constants that all runs share apart from those of each run.

    Attributes:
      own: which arrays of the start each lane keeps: its state, and the constants that depend on an axis.
    """

    def __init__(self, traced: Traced, loop: Loop, owners: list[int], sizes: list[int]):
        self.traced, self.loop = traced, loop
        varying = depends(traced.program, owners, sizes)
        self.own = [i < loop.states or varies for i, varies in enumerate(varying)]

    def start(self, point: Leaves) -> Leaves:
        return _call(self.traced.program, jax.tree.leaves(point))

    def split(self, leaves: Leaves, own: bool) -> Leaves:
        return [leaf for leaf, mine in zip(leaves, self.own, strict=True) if mine == own]

    def _parts(self, own: Leaves, shared: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        mine, others = iter(own), iter(shared)
        leaves = [next(mine) if is_own else next(others) for is_own in self.own]
        cut = self.loop.states + self.loop.constants
        return leaves[: self.loop.states], leaves[self.loop.states : cut], leaves[cut:]

    def step(self, own: Leaves, shared: Leaves) -> tuple[Leaves, Any]:
        state, constants, _ = self._parts(own, shared)
        *after, done = _call(ClosedJaxpr(self.loop.step, constants), state)
        return [*after, *own[self.loop.states :]], done

    def finish(self, own: Leaves, shared: Leaves) -> dict[str, Any]:
        state, _, constants = self._parts(own, shared)
        found = _call(ClosedJaxpr(self.loop.finish, constants), state)
        return jax.tree.unflatten(self.traced.outputs, found)


def _call(program: ClosedJaxpr, arguments: Leaves) -> Leaves:
    """What a program returns, as arrays: its constants among the outputs are bare numbers."""
    found = jaxpr_as_fun(program)(*arguments)
    return [
        leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf, aval.dtype)
        for leaf, aval in zip(found, program.out_avals, strict=True)
    ]


class _Queue(NamedTuple):
    """The loop's state.

    Attributes:
      own: what each lane keeps, leading axis lanes.
      row: the run that each lane is at; the number of rows for a lane without one.
      ended: whether a lane is to be emptied and filled.
      next: the first run that no lane has taken.
      results: the outputs, a row a run and one more that is of no use.
      ticks: made so far.
    """

    own: Leaves
    row: jax.Array
    ended: jax.Array
    next: jax.Array
    results: dict[str, Any]
    ticks: jax.Array


def queue(traced: Traced, owners: list[int], sizes: list[int], lanes: Lanes) -> Callable[..., Any]:
    """All runs of a box as one function.

    Returns:
      ``(lengths, *values) -> (outputs, ticks)``: ``values`` have the leading axes ``sizes``, of which the
      first ``lengths`` are run; outputs have a row for each of these runs, in order.
    """
    assert traced.loop is not None
    programs, rows = _Programs(traced, traced.loop, owners, sizes), math.prod(sizes)

    def through(lengths, *values):
        def start(run):
            return programs.start(_point(run, lengths, values))

        count = jnp.prod(lengths, dtype=jnp.int32)
        first = start(jnp.int32(0))
        shared = programs.split(first, False)
        results = jax.eval_shape(lambda: programs.finish(programs.split(first, True), shared))

        def live(q):
            return (q.next < count) | jnp.any(q.row < rows)

        def refill(q):
            return _refill(programs, start, shared, count, q)

        def tick(q, _=None):
            own, done = jax.vmap(lambda own: programs.step(own, shared))(q.own)
            return q._replace(own=own, ended=done & (q.row < rows), ticks=q.ticks + 1), None

        def turn(q):
            q = lax.while_loop(lambda q: jnp.any(q.ended), refill, q)
            return tick(q)[0] if lanes.ticks == 1 else lax.scan(tick, q, length=lanes.ticks)[0]

        empty = _Queue(
            own=[jnp.broadcast_to(leaf, (lanes.count, *leaf.shape)) for leaf in programs.split(first, True)],
            row=jnp.full(lanes.count, rows, jnp.int32),
            ended=jnp.ones(lanes.count, bool),
            next=jnp.int32(0),
            results=jax.tree.map(lambda leaf: jnp.zeros((rows + 1, *leaf.shape), leaf.dtype), results),
            ticks=jnp.int32(0),
        )
        q = lax.while_loop(live, turn, empty)
        return q.results, q.ticks

    return through


def _point(run: Any, lengths: Any, values: Any) -> Leaves:
    """The values of the axes at a run."""
    point = []
    for i in reversed(range(len(values))):
        run, index = run // lengths[i], run % lengths[i]
        point.insert(0, jax.tree.map(lambda leaf, index=index: _row(leaf, index), values[i]))
    return point


def _row(array: Any, index: Any) -> Any:
    return lax.dynamic_index_in_dim(array, index, keepdims=False)


def _put(array: Any, new: Any, index: Any) -> Any:
    return lax.dynamic_update_index_in_dim(array, new.astype(array.dtype), index, 0)


def _refill(
    programs: _Programs, start: Callable[..., Leaves], shared: Leaves, count: Any, q: _Queue
) -> _Queue:
    """Writes the results of one lane that is done, and gives it the next run."""
    lane = jnp.argmax(q.ended)
    rows = jax.tree.leaves(q.results)[0].shape[0] - 1
    row = _row(q.row, lane)
    found = programs.finish([_row(leaf, lane) for leaf in q.own], shared)
    fresh = programs.split(start(jnp.minimum(q.next, count - 1)), True)
    taken = jnp.where(q.next < count, q.next, rows).astype(jnp.int32)
    return _Queue(
        own=[_put(leaf, new, lane) for leaf, new in zip(q.own, fresh, strict=True)],
        row=_put(q.row, taken, lane),
        ended=_put(q.ended, jnp.asarray(False), lane),
        next=q.next + 1,
        results=jax.tree.map(lambda leaf, new: _put(leaf, new, row), q.results, found),
        ticks=q.ticks,
    )


def chosen(lanes: Lanes | str, traced: Traced, owners: list[int], sizes: list[int]) -> Lanes:
    """The number of lanes: the user's, or by the size of what a lane keeps."""
    runs = math.prod(sizes)
    if isinstance(lanes, Lanes):
        return lanes._replace(count=min(lanes.count, runs))
    return Lanes(min(32, runs))
