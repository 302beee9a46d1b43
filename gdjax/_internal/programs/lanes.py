"""Loops under ``vmap``: so many runs at a time, and where one has ended the next begins.

``vmap`` of a ``while_loop`` goes on until the last run is done, in arrays that hold all of them. In lanes no
run waits for the slowest, and a processor's caches hold those that are at work.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from gdjax._internal.programs import jaxprs

__all__ = ["evaluate", "lanes_of"]

CACHED = 2**20
"""Bytes that the caches near a processor hold."""
LARGE = 2**22
"""Bytes of all runs from which on lanes are worth the time to compile them."""
TURNS = 8
"""Runs that a lane should have, one after the other: the last of each end at different times."""
FEWEST = 8
"""Lanes that are worth a step."""

Leaves = list[Any]


def evaluate(program: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> Leaves:
    """Evaluates a program; its loop, under ``vmap``, goes through lanes.

    Only on a single processor, and where the program has one loop and no effects. Derivatives do not pass.

    Args:
      program: a jaxpr.
      constants: values of its constants.
      arguments: values of its inputs.
    """
    cut = None
    if jax.default_backend() == "cpu" and jax.device_count() == 1:
        cut = jaxprs.attempt(_cut, program, otherwise=None)
    if cut is None:
        return jaxprs.evaluate(program, constants, arguments)
    before, eqn, after = cut
    values = jaxprs.evaluate(before, constants, arguments)
    known = dict(zip(before.outvars, values, strict=True))
    found = _loop(eqn)(*[a.val if isinstance(a, jaxprs.Literal) else known[a] for a in eqn.invars])
    return jaxprs.evaluate(after, [], [*values, *found])


def _cut(program: Any) -> tuple[Any, Any, Any] | None:
    """The program before its loop, the loop, and the program after it, of all that is then known; None without."""
    loops = [i for i, eqn in enumerate(program.eqns) if jaxprs.while_parts(eqn)]
    if program.effects or len(loops) != 1:
        return None
    before, eqn, after = program.eqns[: loops[0]], program.eqns[loops[0]], program.eqns[loops[0] + 1 :]
    atoms = [atom for later in (eqn, *after) for atom in later.invars] + list(program.outvars)
    used = {atom for atom in atoms if not isinstance(atom, jaxprs.Literal)}
    made = [*program.constvars, *program.invars, *(var for eqn in before for var in eqn.outvars)]
    kept = [var for var in made if var in used]
    rest = program.replace(constvars=[], invars=[*kept, *eqn.outvars], eqns=after)
    return program.replace(eqns=before, outvars=kept), eqn, rest


def lanes_of(nbytes: int, shared: int, runs: int) -> int:
    """How many lanes so many runs should have; as many as runs where one ``vmap`` is as good.

    Args:
      nbytes: what a run keeps.
      shared: bytes that all runs read at each step: the more there are, the more lanes should read at once.
      runs: how many.
    """
    if not isinstance(runs * nbytes, int) or runs * nbytes < LARGE:  # a symbolic size is no number
        return runs
    fit = max(FEWEST, min(max(CACHED, shared) // nbytes, runs // TURNS))
    lanes = 2 ** (fit.bit_length() - 1)
    return lanes if 2 * lanes <= runs else runs


def _loop(eqn: Any) -> Any:
    """A loop as a function of its constants and its first state."""

    def plain(*inputs):
        return eqn.primitive.bind(*inputs, **eqn.params)

    loop = custom_vmap(plain)
    constants = len(eqn.invars) - len(eqn.outvars)

    @loop.def_vmap
    def rule(runs, mapped, *inputs):
        sizes = [jaxprs.nbytes(var.aval) for var in eqn.invars]
        own = [each or i >= constants for i, each in enumerate(mapped)]
        kept = sum(size for size, each in zip(sizes, own, strict=True) if each)
        lanes = lanes_of(kept, sum(sizes) - kept, runs)
        if lanes == runs:
            axes = [0 if each else None for each in mapped]
            found = jax.vmap(plain, in_axes=axes, axis_size=runs)(*inputs)
        else:
            whole = [
                leaf if each or not mine else jnp.broadcast_to(leaf, (runs, *jnp.shape(leaf)))
                for leaf, each, mine in zip(inputs, mapped, own, strict=True)
            ]
            found = _one_at_a_time(_Lanes(eqn, own[:constants], runs, lanes))(*whole)
        return found, [True] * len(found)

    return loop


def _one_at_a_time(function: Any) -> Any:
    """A function that a ``vmap`` calls for one after the other: its lanes hold enough."""
    function = custom_vmap(function)

    @function.def_vmap
    def rule(size, mapped, *inputs):
        del size

        def one(some):
            some = iter(some)
            return function(*[next(some) if each else x for x, each in zip(inputs, mapped, strict=True)])

        found = lax.map(one, [x for x, each in zip(inputs, mapped, strict=True) if each])
        return found, [True] * len(found)

    return function


class _Queue(NamedTuple):
    """What the loop over lanes carries.

    Attributes:
      runs: the state of every run, as it begins or as it ends.
      own: the constants of each lane's run.
      state: the state of each lane's run.
      row: the run that each lane is at; the number of runs for a lane without one.
      ended: whether a lane is to be emptied and filled.
      next: the first run that no lane has taken.
      idle: steps that lanes have waited since some were last filled, all together.
    """

    runs: Leaves
    own: Leaves
    state: Leaves
    row: jax.Array
    ended: jax.Array
    next: jax.Array
    idle: jax.Array


class _Lanes:
    """A loop over many runs, called with its constants and the first states of all runs.

    Attributes:
      own: which constants every run has its own of.
    """

    def __init__(self, eqn: Any, own: Sequence[bool], runs: int, lanes: int):
        self.own, self.runs, self.lanes = own, runs, lanes
        self.block = max(1, lanes // 4)
        parts = jaxprs.while_parts(eqn)
        assert parts is not None
        self.programs, self.first = (parts.cond, parts.body), parts.first

    def __call__(self, *inputs: Any) -> Leaves:
        states = list(inputs[len(self.own) :])
        mine = [leaf for leaf, own in zip(inputs, self.own, strict=False) if own]
        shared = [leaf for leaf, own in zip(inputs, self.own, strict=False) if not own]

        def tick(q):
            state, going = jax.vmap(self.step, in_axes=(0, None, 0))(q.own, shared, q.state)
            ended = ~going & (q.row < self.runs)
            return q._replace(state=state, ended=ended, idle=q.idle + jnp.sum(ended, dtype=jnp.int32))

        def turn(q):
            """Fills lanes, then steps until waiting has cost about as much as filling does."""
            q = self.refill(mine, q)
            patience = jnp.where(q.next < self.runs, self.lanes, jnp.iinfo(jnp.int32).max)
            return lax.while_loop(
                lambda q: jnp.any((q.row < self.runs) & ~q.ended) & (q.idle < patience),
                tick,
                q._replace(idle=jnp.where(jnp.any(q.ended), patience, 0)),
            )

        empty = _Queue(
            runs=states,
            own=[leaf[: self.lanes] for leaf in mine],
            state=[leaf[: self.lanes] for leaf in states],
            row=jnp.full(self.lanes, self.runs, jnp.int32),
            ended=jnp.ones(self.lanes, bool),
            next=jnp.int32(0),
            idle=jnp.int32(0),
        )
        return lax.while_loop(lambda q: (q.next < self.runs) | jnp.any(q.row < self.runs), turn, empty).runs

    def step(self, own: Leaves, shared: Leaves, state: Leaves) -> tuple[Leaves, Any]:
        """The next state of a run and whether it was still going; one that has ended stays as it is."""
        mine, others = iter(own), iter(shared)
        constants = [next(mine if each else others) for each in self.own]
        cond, body = self.programs
        going = jaxprs.evaluate(cond.jaxpr, cond.consts, [*constants[: self.first], *state])[0]
        moved = jaxprs.evaluate(body.jaxpr, body.consts, [*constants[self.first :], *state])
        return [jnp.where(going, new, old) for new, old in zip(moved, state, strict=True)], going

    def refill(self, mine: Leaves, q: _Queue) -> _Queue:
        """Writes what the first lanes that have ended came to, at most a block, and gives them the next runs."""
        order = jnp.cumsum(q.ended, dtype=jnp.int32) - 1
        fill = q.ended & (order < self.block)
        place, each = jnp.where(fill, order, self.block), jnp.arange(self.lanes, dtype=jnp.int32)
        lane = jnp.full(self.block, self.lanes, jnp.int32).at[place].set(each, mode="drop")
        row = jnp.where(lane < self.lanes, q.row[lane], self.runs)
        taken = jnp.minimum(jnp.where(fill, q.next + order, q.row), self.runs)
        begun = jnp.minimum(taken, self.runs - 1)
        runs = [old.at[row].set(new[lane], mode="drop") for old, new in zip(q.runs, q.state, strict=True)]

        def put(leaves, source):
            mask = [fill.reshape(-1, *[1] * (old.ndim - 1)) for old in leaves]
            return [jnp.where(m, new[begun], old) for m, new, old in zip(mask, source, leaves, strict=True)]

        return q._replace(
            runs=runs,
            own=put(q.own, mine),
            state=put(q.state, runs),
            row=taken,
            ended=q.ended & ~fill,
            next=jnp.minimum(q.next + jnp.sum(fill, dtype=jnp.int32), self.runs),
        )
