"""One progress bar, moved on the host between compiled chunks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["advancing"]


def _nothing(runs: int) -> None:
    del runs


@contextmanager
def advancing(progress: Any, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of runs just finished.

    Args:
      progress: False for none; True for a bar if standard error is a terminal; or a
        ``rich.progress.Progress``, to which a task is added.
      total: all runs.
    """
    if progress is False or (progress is True and not sys.stderr.isatty()):
        yield _nothing
    elif progress is True:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _task(bar, total)
    elif hasattr(progress, "add_task") and hasattr(progress, "advance"):
        yield _task(progress, total)
    else:
        raise TypeError(
            f"sweep: progress must be True, False or a rich.progress.Progress, got {type(progress).__name__}"
        )


def _task(bar: Any, total: int) -> Callable[[int], None]:
    task = bar.add_task("sweep", total=total)
    return lambda runs: bar.advance(task, runs)
