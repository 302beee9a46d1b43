"""vmap of a while loop with a fixed number of lanes; a lane that has finished is refilled with the next run.

``vmap`` of a ``while_loop`` goes on until the last run is done, in arrays that hold all of them. In lanes no run
waits for the slowest, and a processor's caches hold those that are at work. A tick is one step of every lane.
A lane whose run has ended writes what it came to and takes the next run from the queue, on the device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from gdjax._internal import control_flow
from gdjax._internal.programs import jaxprs, primitives

__all__ = ["Inspect", "Queue", "Runs", "lane_count", "through", "while_loop"]

CACHED = 2**19
"""Bytes that the lanes may keep all together, on a CPU: what the cache of a core holds beside what a step makes."""
FASTER = 64
"""An accelerator keeps so many times as much at work at once."""
TURNS = 8
"""Runs that a lane should have, one after the other: the last of each end at different times."""
FEWEST = 8
"""Lanes that are worth a step."""
WORTH = 2**22
"""Bytes of all runs under ``vmap`` from which on lanes are worth the time to compile them."""
MANY = 512
"""Runs under ``vmap`` from which on lanes are worth it where each step factors matrices, some 30 us for each run.

A library factors one after the other, of runs that have ended too. Lanes take some 4 s more to compile: as long as 512
runs of Levenberg-Marquardt wait for one among them that goes on for 300 steps.
"""
BLOCK = 2**16
"""Bytes of lanes that are refilled at a time."""

Leaves = list[Any]


def lane_count(nbytes: int, shared: int, runs: int) -> int:
    """How many lanes so many runs should have: a power of two, or as many as runs where these are few.

    Args:
      nbytes: what a run keeps.
      shared: bytes that all runs read at each step: the more there are, the more lanes should read at once.
      runs: how many.
    """
    cached = CACHED if jax.default_backend() == "cpu" else FASTER * CACHED
    fit = max(FEWEST, min(max(cached, shared) // max(1, nbytes), runs // TURNS))
    return min(runs, 2 ** (fit.bit_length() - 1))


class Runs(NamedTuple):
    """What is done for each run.

    Attributes:
      begin: ``(indices, results) -> own``: what the lanes of these runs keep, leading axis that of the indices.
      step: ``own -> (own, done)``, for one lane.
      finish: ``own -> outputs``, for one lane.
      nbytes: what a lane keeps.
    """

    begin: Callable[[jax.Array, Any], Leaves]
    step: Callable[[Leaves], tuple[Leaves, Any]]
    finish: Callable[[Leaves], Any]
    nbytes: int


class Queue(NamedTuple):
    """State of the loop over lanes.

    Attributes:
      own: what each lane keeps, leading axis lanes.
      row: the run that each lane is at; the number of rows for a lane without one.
      ended: whether a lane is to be emptied and refilled.
      next: the first run that no lane has taken.
      results: the outputs, a row a run.
      ticks: made so far.
      idle: ticks that lanes have waited since the last were refilled, all together.
      notes: what an `Inspect` keeps, or None.
    """

    own: Leaves
    row: jax.Array
    ended: jax.Array
    next: jax.Array
    results: Any
    ticks: jax.Array
    idle: jax.Array
    notes: Any


class Inspect(NamedTuple):
    """Looks at the lanes between ticks.

    Attributes:
      look: called with the queue; may write its notes and end lanes.
      renew: ``(notes, which) -> notes``, called when the lanes ``which`` take other runs; indices beyond the last
        lane mean none.
      notes: the first.
    """

    look: Callable[[Queue], Queue]
    renew: Callable[[Any, jax.Array], Any]
    notes: Any


def through(
    runs: Runs,
    count: Any,
    lanes: int,
    results: Any,
    *,
    ticks: int = 1,
    inspect: Inspect | None = None,
) -> Queue:
    """Makes all runs; the results and the ticks are in the queue that it returns.

    Args:
      runs: what is done for each.
      count: how many, at most the rows of ``results``; may be traced.
      lanes: how many at a time.
      results: rows for the outputs, a row a run.
      ticks: steps between two looks for lanes that are done.
      inspect: who looks at the lanes, and may end some.
    """
    rows = jax.tree.leaves(results)[0].shape[0]
    block = max(1, min(lanes, BLOCK // max(1, runs.nbytes)))

    def tick(q, _=None):
        own, done = jax.vmap(runs.step)(q.own)
        ended = q.ended | (done & (q.row < rows))
        return q._replace(
            own=own, ended=ended, idle=q.idle + jnp.sum(ended, dtype=jnp.int32), ticks=q.ticks + 1
        ), None

    def look(q):
        q = tick(q)[0] if ticks == 1 else lax.scan(tick, q, length=ticks)[0]
        return q if inspect is None else inspect.look(q)

    def turn(q):
        """Refills a block of lanes, then steps until waiting has cost about as much as refilling does."""
        q = _refill(runs, count, block, inspect, q)
        patience = jnp.where(q.next < count, lanes, jnp.iinfo(jnp.int32).max)
        return lax.while_loop(
            lambda q: jnp.any((q.row < rows) & ~q.ended) & (q.idle < patience),
            look,
            q._replace(idle=jnp.where(jnp.any(q.ended), patience, 0)),  # more are waiting: refill at once
        )

    first = runs.begin(jnp.zeros(1, jnp.int32), results)
    empty = Queue(
        own=[jnp.broadcast_to(leaf, (lanes, *leaf.shape[1:])) for leaf in first],
        row=jnp.full(lanes, rows, jnp.int32),
        ended=jnp.ones(lanes, bool),
        next=jnp.int32(0),
        results=results,
        ticks=jnp.int32(0),
        idle=jnp.int32(0),
        notes=None if inspect is None else inspect.notes,
    )
    return lax.while_loop(lambda q: (q.next < count) | jnp.any(q.row < rows), turn, empty)


def _refill(runs: Runs, count: Any, block: int, inspect: Inspect | None, q: Queue) -> Queue:
    """Writes what the first lanes that are done came to, at most ``block``, and gives them the next runs."""
    lanes, rows = q.ended.shape[0], jax.tree.leaves(q.results)[0].shape[0]
    order = jnp.cumsum(q.ended, dtype=jnp.int32) - 1
    place = jnp.where(q.ended, order, block)
    which = jnp.full(block, lanes, jnp.int32).at[place].set(jnp.arange(lanes, dtype=jnp.int32), mode="drop")

    def put(old, new, at):
        return old.at[at].set(new, mode="drop")

    taken = q.next + jnp.arange(block, dtype=jnp.int32)
    found = jax.vmap(runs.finish)([leaf[which] for leaf in q.own])
    row = jnp.where(which < lanes, q.row[which], rows)
    results = jax.tree.map(lambda old, new: put(old, new, row), q.results, found)
    fresh = runs.begin(jnp.minimum(taken, count - 1), results)
    return q._replace(
        own=[put(old, new, which) for old, new in zip(q.own, fresh, strict=True)],
        row=put(q.row, jnp.where(taken < count, taken, rows), which),
        ended=put(q.ended, False, which),
        next=q.next + jnp.sum(which < lanes, dtype=jnp.int32),
        results=results,
        notes=q.notes if inspect is None else inspect.renew(q.notes, which),
    )


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """`jax.lax.while_loop`; under ``vmap`` many large ones go through lanes, on a single processor.

    No derivative passes. Loops with effects, which know an order, and those inside ``shard_map`` are plain.
    """
    leaves, structure = jax.tree.flatten(init)
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or control_flow.inside_shard_map():
        return control_flow.while_loop(cond, body, init)
    test = jaxprs.Program(lambda *leaves: cond(jax.tree.unflatten(structure, leaves)), *leaves)
    step = jaxprs.Program(
        lambda *leaves: jax.tree.leaves(body(jax.tree.unflatten(structure, leaves))), *leaves
    )
    if test.jaxpr.effects or step.jaxpr.effects:
        return control_flow.while_loop(cond, body, init)
    found = _loop(test, step)(test.constants, step.constants, leaves)
    return jax.tree.unflatten(structure, found)


def _loop(test: jaxprs.Program, step: jaxprs.Program) -> Callable[..., Leaves]:
    """A loop as a function of what its test and its step close over and of its first state."""

    def plain(asked, given, state):
        return lax.while_loop(lambda s: test(asked, *s), lambda s: step(given, *s), state)

    loop = custom_vmap(plain)
    costly = jaxprs.attempt(primitives.factors, step.jaxpr, otherwise=False)

    @loop.def_vmap
    def rule(runs, mapped, asked, given, state):
        inputs, structure = jax.tree.flatten((asked, given, state))
        # Every run has a state of its own, whatever it starts from.
        varies = jax.tree.leaves((*mapped[:2], [True for _ in state]))
        sizes = [jaxprs.nbytes(jax.typeof(leaf)) for leaf in inputs]
        kept = [size if own else 0 for size, own in zip(sizes, varies, strict=True)]
        batched = jax.tree.leaves(mapped)
        own = sum(size if not each else size // runs for size, each in zip(kept, batched, strict=True))
        lanes = runs
        # A symbolic size is no number.
        if isinstance(runs * own, int) and (runs * own >= WORTH or (runs >= MANY and costly)):
            lanes = lane_count(own, sum(sizes) - sum(kept), runs)
        if 2 * lanes > runs:
            axes = jax.tree.map(lambda each: 0 if each else None, tuple(mapped))
            found = jax.vmap(plain, in_axes=axes, axis_size=runs)(asked, given, state)
        else:
            whole = [
                jnp.broadcast_to(leaf, (runs, *jnp.shape(leaf))) if mine and not each else leaf
                for leaf, mine, each in zip(inputs, varies, batched, strict=True)
            ]
            found = _one_at_a_time(_in_lanes(test, step, structure, varies, runs, lanes, own))(*whole)
        return found, [True for _ in state]

    return loop


def _in_lanes(
    test: jaxprs.Program,
    step: jaxprs.Program,
    structure: Any,
    varies: list[bool],
    runs: int,
    lanes: int,
    nbytes: int,
) -> Callable[..., Leaves]:
    """All of a batch of loops, given the leaves of ``(asked, given, state)``; those that vary with a leading axis."""
    constants = sum(varies) - len(jax.tree.unflatten(structure, varies)[2])

    def function(*inputs):
        mine = [leaf for leaf, own in zip(inputs, varies, strict=True) if own]
        shared = [leaf for leaf, own in zip(inputs, varies, strict=True) if not own]

        def begin(index, results):
            return [leaf[index] for leaf in (*mine[:constants], *results)]

        def one(own):
            ours, others = iter(own), iter(shared)
            leaves = [next(ours) if each else next(others) for each in varies]
            asked, given, state = jax.tree.unflatten(structure, leaves)
            going = test(asked, *state)
            state = [jnp.where(going, new, old) for new, old in zip(step(given, *state), state, strict=True)]
            return [*own[:constants], *state], ~test(asked, *state)

        work = Runs(begin, one, lambda own: own[constants:], nbytes)
        return through(work, runs, lanes, mine[constants:]).results

    return function


def _one_at_a_time(function: Callable[..., Leaves]) -> Callable[..., Leaves]:
    """A function that a ``vmap`` calls for one after the other: its lanes hold enough."""
    function = custom_vmap(function)

    @function.def_vmap
    def rule(size, mapped, *inputs):
        del size

        def one(some):
            some = iter(some)
            return function(*[next(some) if each else x for x, each in zip(inputs, mapped, strict=True)])

        found = lax.map(one, [x for x, each in zip(inputs, mapped, strict=True) if each])
        return found, [True for _ in found]

    return function
