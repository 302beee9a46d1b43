"""The runs of a chunk through lanes, as one program; what depends on no axis is kept once for all lanes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gdjax._internal.programs import lanes as engine
from gdjax._internal.programs.lanes import Inspect, Queue
from gdjax.sweeps.lanes import LaneProgram, Lanes, Leaves
from gdjax.sweeps.pruning import Rungs, blank, levels, lost, noted
from gdjax.types import Scalar, Status

__all__ = ["queue"]


def queue(
    program: LaneProgram, rows: int, lanes: Lanes, parts: int = 1
) -> Callable[..., tuple[dict[str, jax.Array], Scalar]]:
    """The runs of a chunk as one function.

    Args:
      program: of a run.
      rows: the most runs.
      lanes: how many at a time.
      parts: on how many devices; each has the runs whose number leaves the same rest.

    Returns:
      ``(part, lengths, *values) -> (outputs, ticks)``: of the chunk's axes ``values`` the first ``lengths`` are
      run; outputs have a row for each run of the part, in order.
    """

    def through(part, lengths, *values):
        def start(run):
            return program.start(_point(parts * run + part, lengths, values))

        def begin(indices, results):
            del results
            return jax.vmap(lambda run: program.split(start(run), True))(indices)

        shared = program.split(start(jnp.int32(0)), False)
        count = (jnp.prod(lengths, dtype=jnp.int32) - part + parts - 1) // parts
        runs = engine.Runs(
            begin,
            lambda own: program.step(own, shared),
            lambda own: program.finish(own, shared),
            program.nbytes,
        )
        first = jax.eval_shape(lambda: [leaf[0] for leaf in begin(jnp.zeros(1, jnp.int32), None)])
        shapes = jax.eval_shape(runs.finish, first)
        results = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), shapes)
        steps = [] if lanes.prune is None else levels(lanes.prune, program.loop.max_steps)
        rungs = blank(len(steps), lanes.count, rows, shapes["value"].dtype) if steps else None
        look = None if rungs is None else Inspect(_prune(program, lanes.prune, steps, shared), _renew, rungs)
        q = engine.through(runs, count, lanes.count, results, ticks=lanes.ticks, inspect=look)
        return q.results, q.ticks

    return through


def _point(run: Any, lengths: Any, values: Any) -> Leaves:
    """The values of the axes at a run."""
    point = []
    for i in reversed(range(len(values))):
        run, index = run // lengths[i], run % lengths[i]
        point.insert(0, jax.tree.map(lambda leaf, index=index: leaf[index], values[i]))
    return point


def _prune(program: LaneProgram, halving: Any, steps: list[int], shared: Leaves) -> Callable[[Queue], Queue]:
    """Judges the lanes that have come to a rung; their values are taken one after the other: that is seldom."""
    loop, levels = program.loop, jnp.asarray(steps, jnp.int32)

    def due(q):
        rung = levels.at[q.notes.climbed].get(mode="fill", fill_value=jnp.iinfo(jnp.int32).max)
        return (q.own[loop.count] > rung) & ~q.ended & (q.row < q.notes.values.shape[1])

    def note(q):
        lane = jnp.argmax(due(q))
        value = program.finish([leaf[lane] for leaf in q.own], shared)["value"]
        return q._replace(notes=noted(q.notes, lane, q.row[lane], value))

    def judge(q):
        before = q.notes.climbed
        q = lax.while_loop(lambda q: jnp.any(due(q)), note, q)
        out = (q.notes.climbed > before) & lost(halving, q.notes, q.row)
        own = list(q.own)
        own[loop.status] = jnp.where(out, jnp.int8(Status.PRUNED), own[loop.status])
        return q._replace(own=own, ended=q.ended | out)

    return lambda q: lax.cond(jnp.any(due(q)), judge, lambda q: q, q)


def _renew(rungs: Rungs, which: jax.Array) -> Rungs:
    return rungs._replace(climbed=rungs.climbed.at[which].set(0, mode="drop"))
