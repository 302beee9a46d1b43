"""Runs of fixed length in two programs: all steps unchecked, and checked ones for runs that were not finite.

One program that holds both compiles twice as long, and most runs need only the first. Who drives runs from the host
makes the second one where some were lost.
"""

from collections.abc import Sequence

import jax

from gdjax.optimizers import answers
from gdjax.runs import recording, scan
from gdjax.runs.evaluation import value_and_grad
from gdjax.runs.run import Run
from gdjax.types import Result, Scalar

__all__ = ["recover", "solve"]


def solve(run: Run) -> tuple[Result, Scalar] | None:
    """What a run comes to, and whether that can be trusted.

    Where it can be trusted it is what ``run.solve()`` says.

    Args:
      run: the run.

    Returns:
      None where it does not go in two programs: it stops by itself, is too short, or its method keeps an `Answer`.
    """
    if run.stop is not None or not scan.in_blocks(run):
        return None
    start, everything = run.init(), run.draws_batches and run.objective.full is not None
    if answers.keeps(start.optimizer, start.params):
        return None

    def on_all_data(position):
        return *value_and_grad(run.value_fn(), position.params), position

    # What a recorder reads is seen on the batch that is due.
    everything = everything and not any(recording.reads(run.record, start.params, start.answer.value))
    everything = everything and scan.divides(run)
    state, finite = scan.unchecked(run, start, on_all_data if everything else run.move)
    if everything:
        answer = state.answer
        result = Result(
            answer.params, answer.value, answer.residual, state.steps, state.status, None, state.trace
        )
    else:
        result = run.result(state)
    return result, finite


def recover(run: Run, rows: Sequence[jax.Array]) -> Result:
    """What ``run.solve()`` says of a run that was not finite all the way, without its optimizer's state.

    Args:
      run: the run.
      rows: the leaves of the trace that `solve` returns.
    """
    start = run.init()
    trace = jax.tree.unflatten(jax.tree.structure(start.trace), rows)
    return run.result(scan.again(run, start, trace))
