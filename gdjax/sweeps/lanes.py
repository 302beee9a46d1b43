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

from gdjax.driver import Run
from gdjax.sweeps.pruning import Halving, Rungs, blank, levels, lost, noted
from gdjax.sweeps.sharing import depends
from gdjax.sweeps.tracing import Loop, Traced
from gdjax.types import Status

__all__ = ["Lanes", "apart", "as_lanes", "chosen", "queue"]

Leaves = list[Any]

CACHE = 2**19
"""Bytes that the lanes may keep all together, on a CPU: the cache of a core."""

TURNS = 8
"""The least number of runs for each lane to take, so that few wait for the last."""

BLOCK = 2**16
"""Bytes of lanes that are filled at a time."""


class Lanes(NamedTuple):
    """How runs that stop early share the device.

    Attributes:
      count: runs at a time, at least 1.
      ticks: steps that all lanes take between two looks for lanes that are done, at least 1. A lane
        that is done waits for the next look, so more than one pays only where a look is dear.
      prune: which runs may go on, a `Halving`; None lets all of them. Runs of a box are compared with each
        other, by their values (over all data where they draw mini-batches).
    """

    count: int
    ticks: int = 1
    prune: Halving | None = None


def _is_count(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def as_lanes(lanes: Any) -> Lanes | str | None:
    """Checks what the user wrote: ``"auto"``, a number, a `Lanes`; None or 0 for none."""
    if lanes is None or lanes == "auto":
        return lanes
    if isinstance(lanes, Lanes) and _is_count(lanes.count) and _is_count(lanes.ticks):
        return Lanes(int(lanes.count), int(lanes.ticks), _as_halving(lanes.prune))
    if not isinstance(lanes, tuple):
        if _is_count(lanes):
            return Lanes(int(lanes))
        if lanes == 0 and not isinstance(lanes, bool):
            return None
    raise ValueError(
        f"sweep: lanes must be 'auto', a number of lanes, a gdjax.sweeps.Lanes, or None, got {lanes!r}"
    )


def _as_halving(prune: Any) -> Halving | None:
    if prune is None:
        return None
    if not isinstance(prune, Halving) or not _is_count(prune.first) or not _is_count(prune.factor - 1):
        raise ValueError(
            f"sweep: prune must be a gdjax.sweeps.Halving(first >= 1, factor >= 2), got {prune!r}"
        )
    return Halving(int(prune.first), int(prune.factor))


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
      total: how many there are.
      results: the outputs, a row a run.
      ticks: made so far.
      rungs: what successive halving has noted, or None.
    """

    own: Leaves
    row: jax.Array
    ended: jax.Array
    next: jax.Array
    total: jax.Array
    results: dict[str, Any]
    ticks: jax.Array
    rungs: Rungs | None


def queue(traced: Traced, owners: list[int], sizes: list[int], lanes: Lanes) -> Callable[..., Any]:
    """All runs of a box as one function.

    Returns:
      ``(lengths, *values) -> (outputs, ticks)``: ``values`` have the leading axes ``sizes``, of which the
      first ``lengths`` are run; outputs have a row for each of these runs, in order.
    """
    assert traced.loop is not None
    programs, rows = _Programs(traced, traced.loop, owners, sizes), math.prod(sizes)
    block = max(1, min(64, lanes.count, BLOCK // _bytes(traced, owners, sizes)))

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
            return _refill(programs, start, shared, block, q)

        def tick(q, _=None):
            own, done = jax.vmap(lambda own: programs.step(own, shared))(q.own)
            return q._replace(own=own, ended=done & (q.row < rows), ticks=q.ticks + 1), None

        def turn(q):
            q = lax.while_loop(lambda q: jnp.any(q.ended), refill, q)
            q = tick(q)[0] if lanes.ticks == 1 else lax.scan(tick, q, length=lanes.ticks)[0]
            return q if q.rungs is None else _prune(programs, lanes.prune, rows, shared, q)

        empty = _Queue(
            own=[jnp.broadcast_to(leaf, (lanes.count, *leaf.shape)) for leaf in programs.split(first, True)],
            row=jnp.full(lanes.count, rows, jnp.int32),
            ended=jnp.ones(lanes.count, bool),
            next=jnp.int32(0),
            total=count,
            results=jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), results),
            ticks=jnp.int32(0),
            rungs=_rungs(lanes, programs.loop, rows, results),
        )
        q = lax.while_loop(live, turn, empty)
        return q.results, q.ticks

    return through


def _point(run: Any, lengths: Any, values: Any) -> Leaves:
    """The values of the axes at a run."""
    point = []
    for i in reversed(range(len(values))):
        run, index = run // lengths[i], run % lengths[i]
        point.insert(0, jax.tree.map(lambda leaf, index=index: leaf[index], values[i]))
    return point


def _refill(
    programs: _Programs, start: Callable[..., Leaves], shared: Leaves, block: int, q: _Queue
) -> _Queue:
    """Writes what the first lanes that are done came to, at most ``block``, and gives them the next runs."""
    count, rows = q.ended.shape[0], jax.tree.leaves(q.results)[0].shape[0]
    order = jnp.cumsum(q.ended, dtype=jnp.int32) - 1
    place = jnp.where(q.ended, order, block)
    which = jnp.full(block, count, jnp.int32).at[place].set(jnp.arange(count, dtype=jnp.int32), mode="drop")

    def put(old, new, at):
        return old.at[at].set(new, mode="drop")

    taken = q.next + jnp.arange(block, dtype=jnp.int32)
    found = jax.vmap(lambda own: programs.finish(own, shared))([leaf[which] for leaf in q.own])
    fresh = jax.vmap(lambda run: programs.split(start(run), True))(jnp.minimum(taken, q.total - 1))
    row = jnp.where(which < count, q.row[which], rows)
    return q._replace(
        own=[put(old, new, which) for old, new in zip(q.own, fresh, strict=True)],
        row=put(q.row, jnp.where(taken < q.total, taken, rows), which),
        ended=put(q.ended, False, which),
        next=q.next + jnp.sum(which < count, dtype=jnp.int32),
        results=jax.tree.map(lambda old, new: put(old, new, row), q.results, found),
        rungs=None if q.rungs is None else q.rungs._replace(climbed=put(q.rungs.climbed, 0, which)),
    )


def _rungs(lanes: Lanes, loop: Loop, rows: int, results: dict[str, Any]) -> Rungs | None:
    rungs = [] if lanes.prune is None else levels(lanes.prune, loop.max_steps)
    return blank(len(rungs), lanes.count, rows, results["value"].dtype) if rungs else None


def _prune(programs: _Programs, halving: Any, rows: int, shared: Leaves, q: _Queue) -> _Queue:
    """Judges the lanes that have come to a rung; their values are taken one after the other: that is seldom."""
    loop = programs.loop
    steps = jnp.asarray(levels(halving, loop.max_steps), jnp.int32)

    def due(q):
        rung = steps.at[q.rungs.climbed].get(mode="fill", fill_value=jnp.iinfo(jnp.int32).max)
        return (q.own[loop.count] > rung) & ~q.ended & (q.row < rows)

    def note(q):
        lane = jnp.argmax(due(q))
        value = programs.finish([leaf[lane] for leaf in q.own], shared)["value"]
        return q._replace(rungs=noted(q.rungs, lane, q.row[lane], value))

    def judge(q):
        before = q.rungs.climbed
        q = lax.while_loop(lambda q: jnp.any(due(q)), note, q)
        out = (q.rungs.climbed > before) & lost(halving, q.rungs, q.row)
        own = list(q.own)
        own[loop.status] = jnp.where(out, jnp.int8(Status.PRUNED), own[loop.status])
        return q._replace(own=own, ended=q.ended | out)

    return lax.cond(jnp.any(due(q)), judge, lambda q: q, q)


def apart(lanes: Any) -> Callable[[Run], bool]:
    """Which runs go through lanes: those that may end early, or all where some are pruned."""
    if isinstance(lanes, Lanes) and lanes.prune is not None:
        return lambda run: True
    return lambda run: lanes is not None and run.stop is not None


def _bytes(traced: Traced, owners: list[int], sizes: list[int]) -> int:
    """What a lane keeps."""
    assert traced.loop is not None
    leaves = _Programs(traced, traced.loop, owners, sizes).split(list(traced.program.out_avals), True)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def _power(number: float) -> int:
    """The largest power of two that is at most ``number``, which is at least 1."""
    return 2 ** int(math.log2(max(1, number)))


def chosen(lanes: Lanes | str, traced: Traced, owners: list[int], sizes: list[int]) -> Lanes:
    """The number of lanes: the user's, or as many as the caches hold, but enough runs for each to take turns."""
    runs = math.prod(sizes)
    if isinstance(lanes, Lanes):
        return lanes._replace(count=min(lanes.count, runs))
    fast = CACHE if jax.default_backend() == "cpu" else 64 * CACHE
    fit = _power(fast / _bytes(traced, owners, sizes))
    return Lanes(min(runs, max(8, min(fit, _power(runs / TURNS)))))
