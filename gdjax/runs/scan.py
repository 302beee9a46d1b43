"""The fixed-length form, fast: unchecked steps, and checked ones only for runs that went wrong.

An unchecked step is the gradient, the update and nothing else. A run in which a value or a gradient was not
finite is found at its end: by what params and state carry on, and where they may not, by sums to which every
step adds nothing but a NaN flag (0 v is NaN where v is not finite). It is then taken again from its start, by
the driver's checked step, up to its last finite point.

Steps go in blocks. Reverse mode keeps the state at each block's start and goes through a block's steps again
when it comes to it: memory of about twice the root of the number of steps, for one forward pass more.

One thing goes unseen: a value without log, root or quotient that overflows and is back by the end of
its block, all its gradients finite.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow, trees
from gdjax._internal.programs import memory_layout, nan_flow
from gdjax.objectives import implicit
from gdjax.runs import recording
from gdjax.types import Answer, Params, PyTree, Scalar, State, Status, Step

__all__ = [
    "Blocks",
    "Position",
    "Unchecked",
    "again",
    "blocks",
    "checked",
    "divides",
    "in_blocks",
    "through",
    "unchecked",
]


class Position(NamedTuple):
    """Where a run stands, as far as an unchecked step needs to know.

    Attributes:
      params: the point to evaluate next.
      optimizer: the optimizer's state.
      draws: mini-batches drawn before; in the fixed form the evaluations made.
    """

    params: Params
    optimizer: State
    draws: Scalar


class Run(Protocol):
    """What these functions use of a `gdjax.Run`, which is built on them."""

    max_steps: int
    record: recording.Recorder | None

    @property
    def draws_batches(self) -> bool: ...
    def value(self, position: Position) -> Scalar: ...
    def propose(self, value: Scalar, grad: Params, position: Position) -> Position: ...
    def move(self, position: Position) -> tuple[Scalar, Params, Position]: ...
    def step(self, state: State) -> State: ...
    def done(self, state: State) -> Scalar: ...
    def unrecorded(self) -> "Run": ...


class Blocks(NamedTuple):
    """How a run of fixed length is cut.

    Attributes:
      length: steps of a block; all blocks have the same, what is left over is no block.
      number: how many blocks.
      every: steps between two readings of the recorder inside a block.
      keep: of the rows read, one in so many is recorded.
    """

    length: int
    number: int
    every: int
    keep: int


def blocks(max_steps: int, stride: int | None) -> Blocks:
    """Blocks of about the root of ``max_steps``, which leave over as little as may be.

    Reverse mode keeps a state for each of them, and for each step of one.

    Args:
      max_steps: the run's number of updates.
      stride: steps between recorded rows; a block is made of whole rows, or a row of whole blocks.
    """
    aim = max(1, math.isqrt(max_steps))
    near = range(max(1, aim // 2), 2 * aim + 1)
    if stride is None:
        lengths = list(near)
    elif stride <= aim:
        lengths = [n for n in near if n % stride == 0]
    else:
        lengths = [n for n in near if stride % n == 0] or [stride]
    length = min(lengths, key=lambda n: (max_steps % n, abs(n - aim)))
    every = length if stride is None else min(stride, length)
    return Blocks(length, max_steps // length, every, 1 if stride is None else stride // every)


class _Watch:
    """Where to look for what was not finite, such that nothing goes unseen at the least cost.

    A gradient that params or the optimizer's state remember is seen there at a block's end. One that
    they may forget (clipped, zeroed, masked), and a value that may be NaN where the gradient is not,
    flags a sum at every step. A value that can only overflow is looked at between blocks, unless
    that needs a batch.
    """

    def __init__(self, run: Run, start: Position, value: Scalar):
        def step(grad, state):
            params, optimizer = state
            return run.propose(value, grad, Position(params, optimizer, start.draws))[:2]

        self.run = run
        self.hidden, self.lasting = nan_flow.forgotten(step, start.params, start[:2])
        self.overflows = not run.draws_batches and nan_flow.only_overflows(run.value, start)
        self.zeros = jax.tree.map(jnp.zeros_like, self.suspects(value, start.params))

    def suspects(self, value: Scalar, grad: Params) -> list[jax.Array]:
        leaves = [leaf for leaf, hidden in zip(jax.tree.leaves(grad), self.hidden, strict=True) if hidden]
        return leaves if self.overflows else [value, *leaves]

    def flag(self, sums: list[jax.Array], value: Scalar, grad: Params) -> list[jax.Array]:
        return [old + 0 * new for old, new in zip(sums, self.suspects(value, grad), strict=True)]

    def between_blocks(self, after: Position) -> Scalar:
        return jnp.isfinite(self.run.value(after)) if self.overflows else jnp.asarray(True)

    def at_the_end(self, sums: list[jax.Array], end: Position) -> Scalar:
        state = jax.tree.leaves(end[:2])
        return trees.all_finite(
            [*sums, *(leaf for leaf, is_kept in zip(state, self.lasting, strict=True) if is_kept)]
        )


def _advance(run: Run, start: Position, value: Scalar, cut: Blocks) -> tuple[Position, Scalar, Any]:
    """Goes through all blocks with unchecked steps.

    Returns:
      The position after the blocks; whether everything was finite; and the rows recorded, which are right as far
      as it was.
    """
    watch = _Watch(run, start, value)
    reads = recording.reads(run.record, start.params, value)

    def step(carry, _):
        position, sums = carry
        value, grad, position = run.move(position)
        position = memory_layout.runs_last(position)
        return (position, watch.flag(sums, value, grad)), None

    def row(carry, _):
        position, sums = carry
        if run.record is None:
            return control_flow.scan(step, carry, length=cut.every)
        if not (reads.evaluation or reads.move):
            read = run.record.read(Step(position.draws, position.params, value, value, value))
            return control_flow.scan(step, carry, length=cut.every)[0], read
        found, grad, after = run.move(position)
        ahead = trees.distance(after.params, position.params)
        read = run.record.read(Step(position.draws, position.params, found, trees.norm(grad), ahead))
        carry, _ = control_flow.scan(step, (after, watch.flag(sums, found, grad)), length=cut.every - 1)
        return carry, read

    def block(carry, _):
        position, sums, finite = carry
        (after, sums), rows = control_flow.scan(row, (position, sums), length=cut.length // cut.every)
        return (after, sums, finite & watch.between_blocks(after)), rows

    block = jax.checkpoint(block, prevent_cse=False)
    (end, sums, finite), rows = control_flow.scan(
        block, (start, watch.zeros, jnp.asarray(True)), length=cut.number
    )
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:: cut.keep], rows)
    return end, finite & watch.at_the_end(sums, end), rows


def checked(run: Run, state: State, steps: int | None = None) -> State:
    """The state after ``steps`` checked steps, by default after all of a run."""
    steps = run.max_steps + 1 if steps is None else steps
    step = jax.checkpoint(lambda s, _: (run.step(s), None), prevent_cse=False)
    return control_flow.scan(step, state, length=steps)[0]


def _to_the_end(run: Run, state: State) -> Any:
    return control_flow.while_loop(lambda s: ~run.done(s), run.step, state)


class Unchecked(NamedTuple):
    """A run after all its unchecked steps.

    Attributes:
      state: the state after them and after the last evaluation.
      finite: whether everything was finite; the state is not to be trusted where it was not.
    """

    state: State
    finite: Scalar


def in_blocks(run: Run) -> bool:
    """Whether a run is long enough to be cut in blocks of unchecked steps."""
    return blocks(run.max_steps, run.record and run.record.stride).number > 0


def divides(run: Run) -> bool:
    """Whether blocks take all steps of a run; else the last ones are checked, and the last evaluation with them."""
    return run.max_steps % blocks(run.max_steps, run.record and run.record.stride).length == 0


def unchecked(
    run: Run, start: State, look: Callable[[Position], tuple[Scalar, Params, Position]]
) -> Unchecked:
    """Takes all steps of a run `in_blocks` unchecked, and says whether they can be trusted.

    Args:
      run: a `gdjax.Run`, of which ``value``, ``propose``, ``move``, ``step``, ``draws_batches``, ``record`` and
        ``max_steps`` are used.
      start: its first state.
      look: value and gradient at the last position, and the one after it; not asked where blocks leave steps over.
    """
    cut = blocks(run.max_steps, run.record and run.record.stride)
    first = Position(start.params, start.optimizer, start.draws)
    end, finite, rows = _advance(run, first, start.answer.value, cut)
    done = jnp.int32(cut.number * cut.length)
    near = start._replace(
        params=end.params,
        optimizer=end.optimizer,
        count=done,
        draws=done,
        steps=jnp.int32(-1),
        status=jnp.where(finite, start.status, jnp.int8(Status.NONFINITE)),
        trace=None if run.record is None else recording.fill(start.trace, rows),
    )
    if not divides(run):
        near = checked(run, near, run.max_steps - cut.number * cut.length + 1)
        return Unchecked(near, (near.steps >= 0) & (near.status != Status.NONFINITE))
    return Unchecked(*_last(run, near, *look(end)))


def _last(run: Run, near: State, value: Scalar, grad: Params, after: Position) -> tuple[Any, Scalar]:
    """The state after the last evaluation, and whether all was finite."""
    # A norm is finite where all of a gradient is, and needs no look at each array; where it overflows, the run is taken
    # again by checked steps, which look.
    residual = trees.norm(grad)
    finite = (near.status != Status.NONFINITE) & jnp.isfinite(value) & jnp.isfinite(residual)
    answer = Answer(near.params, value, residual, near.answer.status)
    status = jnp.where(finite, jnp.int8(Status.MAX_STEPS), jnp.int8(Status.NONFINITE))
    trace = near.trace
    if run.record is not None:
        ahead = trees.distance(after.params, near.params)
        view = Step(near.count, answer.params, answer.value, answer.residual, ahead)
        trace = recording.write(run.record, trace, view, near.count, finite)
    state = near._replace(
        trace=trace,
        params=after.params,
        optimizer=after.optimizer,
        answer=trees.keep_types(answer, near.answer),
        count=near.count + 1,
        draws=near.draws + 1,
        steps=near.count,
        status=status,
    )
    return state, finite


def again(run: Run, start: State, trace: PyTree, lost: bool | Scalar = True) -> State:
    """The state at the end of a run that was not finite all the way, by checked steps.

    Args:
      run: the run.
      start: its first state.
      trace: what was recorded, of which the rows that the run did not reach become blank.
      lost: whether the run is such a one; else it takes no step.
    """
    state = start._replace(status=jnp.where(lost, start.status, jnp.int8(Status.NONFINITE)), trace=None)
    state = implicit.detached(partial(_to_the_end, run.unrecorded()), state)
    return state._replace(
        trace=None if run.record is None else recording.mask(run.record, trace, state.steps)
    )


def through(run: Run, start: State) -> State:
    """The state after all steps of a run whose optimizer keeps no answer of its own.

    Equal to `checked` in everything. A run that was lost is taken `again`. No derivative passes through it.

    Args:
      run: as `unchecked` takes it; ``done`` and ``unrecorded`` are used too.
      start: its first state.
    """
    if not in_blocks(run):
        return checked(run, start)
    near, finite = unchecked(run, start, run.move)
    far = again(run, start, near.trace, ~finite)
    keep = ("answer", "steps", "status")
    found = {name: trees.choose(finite, getattr(near, name), getattr(far, name)) for name in keep}
    trace = None if run.record is None else trees.choose(finite, near.trace, far.trace)
    return near._replace(**found, trace=trace)
