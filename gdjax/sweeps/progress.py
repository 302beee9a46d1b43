"""One progress bar, moved on the host between calls of compiled programs."""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gdjax.sweeps.plan import Box, lengths
from gdjax.types import FAILED

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "advancing"]


class Bar:
    """What is shown of a sweep: runs done and running, how many were lost, the best value so far."""

    def __init__(self, bar: Any, total: int, done: int):
        self._bar, self._lost, self._best, self._running = bar, 0, np.inf, 0
        if bar is not None:
            self._task = bar.add_task("sweep", total=total, completed=done)

    def started(self, boxes: Iterable[Box]) -> Iterator[Box]:
        """The same boxes; each is shown as running when it is taken."""
        for box in boxes:
            self._running = math.prod(lengths(box))
            self._show(0)
            yield box

    def finished(self, box: Box, found: dict[str, np.ndarray]) -> None:
        """Shows what a box came to."""
        if self._bar is not None and "status" in found and "value" in found:
            lost, value = np.isin(found["status"], FAILED), found["value"]
            self._lost += int(lost.sum())
            self._best = min(self._best, np.min(value, initial=np.inf, where=np.isfinite(value) & ~lost))
        self._running = 0
        self._show(math.prod(lengths(box)))

    def _show(self, runs: int) -> None:
        if self._bar is None:
            return
        notes = [f"{self._running} running"] if self._running else []
        notes += [f"{self._lost} diverged"] if self._lost else []
        notes += [f"best {self._best:.4g}"] if np.isfinite(self._best) else []
        self._bar.update(self._task, advance=runs, description=", ".join(["sweep", *notes]))


@contextmanager
def advancing(progress: "bool | Progress", total: int, done: int = 0) -> Iterator[Bar]:
    """Yields a `Bar`.

    Args:
      progress: False for none; True for a bar if standard error is a terminal; or a
        ``rich.progress.Progress``, to which a task is added.
      total: all runs.
      done: those that a store already has.
    """
    if progress is False or (progress is True and not sys.stderr.isatty()):
        yield Bar(None, total, done)
    elif progress is True:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        class Rate(ProgressColumn):
            def render(self, task: Any) -> Any:
                speed = task.finished_speed or task.speed
                return "" if speed is None else f"{speed:.3g} runs/s"

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield Bar(bar, total, done)
    elif hasattr(progress, "add_task") and hasattr(progress, "update"):
        yield Bar(progress, total, done)
    else:
        raise TypeError(
            f"sweep: progress must be True, False or a rich.progress.Progress, got {type(progress).__name__}"
        )
