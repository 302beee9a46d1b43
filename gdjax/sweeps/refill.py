"""Lanes with refill: runs that stop by themselves, a fixed number at a time, inside one compiled loop.

A tick is one step of every lane. A lane whose run has ended writes what it came to, and takes the next
run from the queue, on the device: no run waits for the slowest of its batch, and nothing waits for
the host. A fresh lane evaluates nothing before its first tick.

What depends on no axis (data, the functions' constants) is kept once for all lanes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gdjax.sweeps.lanes import Lanes, Leaves, Programs
from gdjax.sweeps.pruning import Rungs, blank, levels, lost, noted
from gdjax.sweeps.tracing import Loop
from gdjax.types import Status

__all__ = ["queue"]

BLOCK = 2**15
"""Bytes of lanes that are filled at a time."""

PATIENCE = 1
"""Lanes are filled when waiting has cost as much as filling them does: about so many ticks of all lanes."""


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
      idle: ticks that lanes have waited since the last were filled, all together.
      rungs: what successive halving has noted, or None.
    """

    own: Leaves
    row: jax.Array
    ended: jax.Array
    next: jax.Array
    total: jax.Array
    results: dict[str, Any]
    ticks: jax.Array
    idle: jax.Array
    rungs: Rungs | None


def queue(programs: Programs, rows: int, lanes: Lanes, parts: int = 1) -> Callable[..., Any]:
    """The runs of a box as one function.

    Args:
      programs: of a run.
      rows: the most runs.
      lanes: how many at a time.
      parts: on how many devices; each has the runs whose number leaves the same rest.

    Returns:
      ``(part, lengths, *values) -> (outputs, ticks)``: of the box's axes ``values`` the first ``lengths`` are
      run; outputs have a row for each run of the part, in order.
    """
    block = max(1, min(64, lanes.count, BLOCK // programs.nbytes))

    def through(part, lengths, *values):
        def start(run):
            return programs.start(_point(parts * run + part, lengths, values))

        count = (jnp.prod(lengths, dtype=jnp.int32) - part + parts - 1) // parts
        first = start(jnp.int32(0))
        shared = programs.split(first, False)
        results = jax.eval_shape(lambda: programs.finish(programs.split(first, True), shared))

        def live(q):
            return (q.next < count) | jnp.any(q.row < rows)

        def tick(q, _=None):
            own, done = jax.vmap(lambda own: programs.step(own, shared))(q.own)
            ended = done & (q.row < rows)
            idle = q.idle + jnp.sum(ended, dtype=jnp.int32)
            return q._replace(own=own, ended=ended, idle=idle, ticks=q.ticks + 1), None

        def look(q):
            q = tick(q)[0] if lanes.ticks == 1 else lax.scan(tick, q, length=lanes.ticks)[0]
            return q if q.rungs is None else _prune(programs, lanes.prune, rows, shared, q)

        def turn(q):
            q = _refill(programs, start, shared, block, q)
            patience = jnp.where(q.next < count, PATIENCE * lanes.count, jnp.iinfo(jnp.int32).max)
            return lax.while_loop(
                lambda q: jnp.any((q.row < rows) & ~q.ended) & (q.idle < patience),
                look,
                q._replace(idle=jnp.where(jnp.any(q.ended), patience, 0)),
            )

        empty = _Queue(
            own=[jnp.broadcast_to(leaf, (lanes.count, *leaf.shape)) for leaf in programs.split(first, True)],
            row=jnp.full(lanes.count, rows, jnp.int32),
            ended=jnp.ones(lanes.count, bool),
            next=jnp.int32(0),
            total=count,
            results=jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), results),
            ticks=jnp.int32(0),
            idle=jnp.int32(0),
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
    programs: Programs, start: Callable[..., Leaves], shared: Leaves, block: int, q: _Queue
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


def _prune(programs: Programs, halving: Any, rows: int, shared: Leaves, q: _Queue) -> _Queue:
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
