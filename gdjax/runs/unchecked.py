"""Runs of fixed length in two programs: all steps unchecked, and the way back for those that were not finite.

One program that holds both compiles twice as long, and most runs need only the first. Who drives runs from the host
makes the second one where some were lost.
"""

from typing import Any

from gdjax.optimizers import answers
from gdjax.runs import recording, scan
from gdjax.runs.evaluation import value_and_grad
from gdjax.runs.run import Run
from gdjax.runs.scan import Position
from gdjax.types import Result, Scalar

__all__ = ["divides", "recover", "solve"]


def divides(run: Run) -> bool:
    """Whether a run goes in two programs: of fixed length, not too short, by a method without answers of its own."""
    if run.stop is not None or not scan.in_blocks(run):
        return False
    state = run.init()
    return not answers.keeps(state.optimizer, state.params)


def solve(run: Run) -> tuple[Result, Scalar, Position]:
    """What a run that `divides` comes to, whether that can be trusted, and up to where all was finite.

    Where it can, it is what ``run.solve()`` says.
    """
    start, everything = run.init(), run.draws_batches and run.objective.full is not None

    def on_all_data(position):
        return *value_and_grad(run.value_fn(), position.params), position

    # What a recorder reads is seen on the batch that is due.
    everything = everything and not any(recording.reads(run.record, start.params, start.answer.value))
    state, finite, sound = scan.unchecked(run, start, on_all_data if everything else run.move)
    if everything:
        answer = state.answer
        result = Result(
            answer.params, answer.value, answer.residual, state.steps, state.status, None, state.trace
        )
    else:
        result = run.result(state)
    return result, finite, sound


def recover(run: Run, sound: Position, trace: Any) -> Result:
    """What ``run.solve()`` says of a run that was not finite all the way, without its optimizer's state.

    Args:
      run: the run.
      sound: as `solve` returns it.
      trace: that of the result of `solve`.
    """
    return run.result(scan.back(run, run.init(), sound, trace))
