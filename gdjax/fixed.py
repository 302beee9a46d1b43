"""The fixed-length form, fast: bare steps in blocks, and care only where a block went wrong.

Between two checks a step is the gradient, the update and nothing else. A block in which a value or a
gradient was not finite is found at its end, by sums to which every step adds nothing but its poison
(0 v is NaN where v is not finite). Where the start of the last sound block is known, the driver's
careful step finds the last finite point from there.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax import implicit, recording, trees
from gdjax.recording import Recorder
from gdjax.types import Params, Scalar, Status, Step

__all__ = ["Blocks", "Position", "blocks", "careful", "through"]


class Position(NamedTuple):
    """Where a run stands, as far as a bare step needs to know.

    Attributes:
      params: the point to evaluate next.
      optimizer: the optimizer's state.
      draws: mini-batches drawn before; in the fixed form the evaluations made.
    """

    params: Params
    optimizer: Any
    draws: Scalar


Move = Callable[[Position], tuple[Scalar, Params, Position]]
"""One evaluation and one update: value, gradient and the next position."""


class Blocks(NamedTuple):
    """How a run of fixed length is cut.

    Attributes:
      length: steps between two checks; all blocks have the same, what is left over is no block.
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

    Checks cost in proportion to their number, a block gone wrong in proportion to its length.

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


def _poison(sums: Any, value: Scalar, grad: Params) -> Any:
    return jax.tree.map(lambda old, new: old + 0 * new, sums, (value, grad))


def _advance(
    move: Move, start: Position, value: Scalar, cut: Blocks, recorder: Recorder | None
) -> tuple[Position, Position, Scalar, Any]:
    """Goes through all blocks with bare steps.

    Args:
      move: one evaluation and one update.
      start: the position before the first evaluation.
      value: a number of the objective's type.
      cut: from `blocks`.
      recorder: what to read at the first step of each row.

    Returns:
      The position after the blocks; the start of the last block up to which everything was finite
      (of the first block where nothing was); whether everything was finite; and the rows read,
      which are not to be trusted where it was not.
    """

    def bare(carry, _):
        position, sums = carry
        value, grad, position = move(position)
        return (position, _poison(sums, value, grad)), None

    def row(carry, _):
        position, sums = carry
        if recorder is None:
            return jax.lax.scan(bare, carry, length=cut.every)
        value, grad, after = move(position)
        read = recorder.read(Step(position.draws, position.params, value, trees.norm(grad)))
        carry, _ = jax.lax.scan(bare, (after, _poison(sums, value, grad)), length=cut.every - 1)
        return carry, read

    def block(carry, _):
        position, sound, finite = carry
        zero = jax.tree.map(jnp.zeros_like, (value, position.params))
        (after, sums), rows = jax.lax.scan(row, (position, zero), length=cut.length // cut.every)
        finite = finite & trees.all_finite(sums)
        return (after, trees.choose(finite, position, sound), finite), rows

    (end, sound, finite), rows = jax.lax.scan(block, (start, start, jnp.asarray(True)), length=cut.number)
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:: cut.keep], rows)
    return end, sound, finite, rows


def careful(run: Any, state: Any, steps: int | None = None) -> Any:
    """The state after ``steps`` careful steps, by default after all of a run."""
    steps = run.max_steps + 1 if steps is None else steps
    return jax.lax.scan(lambda s, _: (run.step(s), None), state, length=steps)[0]


def _to_the_end(run: Any, state: Any) -> Any:
    return jax.lax.while_loop(lambda s: ~run.done(s), run.step, state)


def through(run: Any, start: Any) -> Any:
    """The state after all steps of a run whose optimizer keeps no answer of its own.

    Equal to `careful` in everything. The last point is reached and judged by careful steps; a run
    that was lost before goes back to where it was sound last, and finds its end from there. No
    derivative passes through a lost run.

    Args:
      run: a `gdjax.Run`, of which ``move``, ``step``, ``done``, ``record`` and ``max_steps`` are used.
      start: its first state.
    """
    cut = blocks(run.max_steps, run.record and run.record.stride)
    if cut.number == 0:
        return careful(run, start)
    first = Position(start.params, start.optimizer, start.draws)
    end, sound, finite, rows = _advance(run.move, first, start.answer.value, cut, run.record)
    done, lost = jnp.int32(cut.number * cut.length), jnp.int8(Status.NONFINITE)
    near = start._replace(
        params=end.params,
        optimizer=end.optimizer,
        count=done,
        draws=done,
        steps=jnp.int32(-1),
        status=jnp.where(finite, start.status, lost),
        trace=None if run.record is None else recording.fill(start.trace, rows),
    )
    near = careful(run, near, run.max_steps + 1 - cut.number * cut.length)
    unknown = near.steps < 0
    back = start._replace(
        params=sound.params,
        optimizer=sound.optimizer,
        count=sound.draws,
        draws=sound.draws,
        status=jnp.where(unknown, start.status, lost),
        trace=None,
    )
    back = implicit.detached(partial(_to_the_end, run.unrecorded()), back)
    keep = ("answer", "steps", "status")
    found = {name: trees.choose(unknown, getattr(back, name), getattr(near, name)) for name in keep}
    trace = None if run.record is None else recording.mask(run.record, near.trace, found["steps"])
    return near._replace(**found, trace=trace)
