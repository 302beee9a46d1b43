"""Sweeps into a store: what is complete is not run again, and what is finished is written at once."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import xarray

from gdjax.sweeps import sharing
from gdjax.sweeps.dataset import attributes
from gdjax.sweeps.engine import Engine, described
from gdjax.sweeps.identity import identity
from gdjax.sweeps.lanes import Lanes
from gdjax.sweeps.layout import Layout, Region
from gdjax.sweeps.plan import Plan, lengths
from gdjax.sweeps.progress import advancing
from gdjax.sweeps.spec import SweepSpec
from gdjax.sweeps.store import create, find
from gdjax.sweeps.tracing import RESULTS, Traced
from gdjax.sweeps.watching import Watch

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["as_part", "stored"]

SECONDS = 2.0
"""What a box should take, so that a kill loses little and writing costs little."""

RATE = 1e10
"""Operations a second that are assumed of a CPU before anything is measured; of an accelerator `FASTER` times."""

FASTER = 50
"""How many times as fast an accelerator is taken to be, until something is measured."""

STEPS = 100
"""Steps that are assumed of a run that stops by itself."""


def as_part(part: Any) -> tuple[int, int]:
    """Checks ``part``; by default that of this process among those of ``jax.distributed``."""
    if part is None:
        return jax.process_index(), jax.process_count()
    try:
        index, count = (int(number) for number in part)
    except (TypeError, ValueError):
        raise TypeError(f"sweep: part must be (index, count), got {part!r}") from None
    if not 0 <= index < count:
        raise ValueError(f"sweep: part must be (index, count) with 0 <= index < count, got {part!r}")
    return index, count


def _layout(spec: SweepSpec, traces: list[Traced]) -> Layout:
    """The dataset's variables; its boxes those of the plan."""
    outputs = [traced.shapes for traced in traces]
    shapes = {name: tuple(aval.shape) for name, aval in outputs[0].items()}
    names = sorted(shapes, key=lambda name: (*RESULTS, name).index(name))
    dtypes = {name: np.result_type(*(np.dtype(found[name].dtype) for found in outputs)) for name in names}
    tiles = spec.plan.tiles
    return Layout(spec.axes, {name: shapes[name] for name in names}, dtypes, tiles, tiles)


@contextmanager
def _writer() -> Iterator[Any]:
    """Yields a function that writes one box while the next one is run; all are written when it ends."""
    with ThreadPoolExecutor(1) as pool:
        pending: list[Future] = []

        def write(*arguments):
            if pending:
                pending.pop().result()
            pending.append(pool.submit(*arguments))

        yield write
        if pending:
            pending.pop().result()


def _mine(count: int, part: tuple[int, int]) -> range:
    """The boxes of one process: neighbours, so that it compiles few of the static choices."""
    index, processes = part
    return range(index * count // processes, (index + 1) * count // processes)


def _first_chunk(spec: SweepSpec, traces: list[Traced], processes: int) -> None:
    """Cuts a plan for ``chunk="auto"`` by what its operations may take; across axes that share work last."""
    plan, first = spec.plan, traces[0]
    owners = plan.owners
    nested, order = sharing.plan(first.program, owners, plan.sizes)
    plan.order = order if nested else plan.order
    count = sharing.operations(first.program.jaxpr, owners, plan.sizes)
    if first.loop is not None:
        count += STEPS * sharing.operations(first.loop.step, None, plan.sizes)
    rate = RATE if jax.default_backend() == "cpu" else FASTER * RATE
    boxes = math.ceil(count / rate / SECONDS) if count > 2 * rate * SECONDS else 1
    if processes > 1:
        boxes = max(boxes, math.ceil(4 * processes / len(spec.choices)))
    plan.chunk = min(plan.chunk, math.ceil(plan.runs / boxes))


def _boxes(plan: Plan, tiles: list[int], seconds: float) -> list[int]:
    """As many tiles to a box as take about `SECONDS`, whole axes first."""
    boxes, times = list(tiles), int(SECONDS / max(seconds, 1e-6))
    for i in reversed(plan.order):
        factor = max(1, min(times, math.ceil(plan.sizes[i] / boxes[i])))
        boxes[i], times = min(plan.sizes[i], boxes[i] * factor), times // factor
    return boxes


def _begin(
    spec: SweepSpec, traces: list[Traced], path: Path, known: dict[str, Any], processes: int, first: int
):
    """Cuts the grid, by a measured first call where the user leaves it open, and lays the store out.

    Returns:
      The store, and the engine of the static choice ``first``.
    """
    plan, auto = spec.plan, spec.plan.auto and spec.pruning is None
    if auto:
        _first_chunk(spec, traces, processes)
    engine, boxes = spec.engine(first), None
    if auto and plan.tiles != plan.sizes:
        spent = engine.sample(next(iter(plan.boxes())))
        if spent > 4 * SECONDS and math.prod(plan.tiles) > 1:
            plan.chunk = max(1, int(math.prod(plan.tiles) * SECONDS / spent))
            engine = spec.engine(first)
        elif processes == 1 and spent < SECONDS / 4:
            boxes = _boxes(plan, plan.tiles, spent)
    layout = _layout(spec, traces)
    layout = layout._replace(boxes=boxes or layout.boxes)
    strides = {name: stride for traced in traces for name, stride in traced.strides.items()}
    attrs = attributes() | described([engine])
    attrs |= {"chunk": math.prod(layout.boxes), "programs": len(spec.choices), "complete": 0}
    attrs |= {"runs": plan.runs * len(spec.choices), "wall_seconds": 0.0}
    attrs.pop("ticks", None)
    return create(path, known, layout, strides, attrs), engine


def stored(
    path: Path, spec: SweepSpec, part: tuple[int, int], progress: "bool | Progress", watch: Watch | None
) -> xarray.Dataset:
    """Runs what a store lacks, as far as it is this process's part, and opens it.

    Args:
      path: the store's folder; laid out if it is not there.
      spec: the sweep.
      part: this process and the number of processes.
      progress: as `sweep` takes it.
      watch: called with each box that is finished here.
    """
    traces = spec.traced()
    spec.check(traces)
    programs = dict(zip(spec.labels(), (traced.parts for traced in traces), strict=True))
    options = {"params": spec.params, "lanes": spec.lanes is not None, "pruning": spec.pruning}
    known = identity(spec.axes, programs, options)
    store, engine = find(path, known, _layout(spec, traces)), None
    first = len(spec.choices) * part[0] // part[1]
    if store is None:
        store, engine = _begin(spec, traces, path, known, part[1], first)
    if store.complete:
        return store.dataset()
    if spec.plan.tiles != store.layout.tiles:  # of an earlier call, or another process was first
        engine = None
    spec.plan.fix(store.layout.tiles)
    mine = [store.regions[i] for i in _mine(len(store.regions), part) if i not in store.rows]
    total = spec.plan.runs * len(spec.choices)
    done = sum(math.prod(lengths(store.regions[i].box)) for i in store.rows)
    try:
        with advancing(progress, total, done) as bar, _writer() as write:
            for choice in sorted({region.choice for region in mine}):
                if engine is None or choice != first:
                    before = store.lanes(choice)
                    engine = spec.engine(choice, None if before is None else Lanes(*before))
                show = spec.watching(choice, engine, watch)
                todo = [region for region in mine if region.choice == choice]
                for region, found, notes in _runs(engine, todo, bar):
                    write(store.put, region, found, notes)
                    show(region.box, found)
    except KeyboardInterrupt:
        complete = f"{len(store.rows)} of {len(store.regions)} boxes are complete in {os.fspath(path)}"
        raise KeyboardInterrupt(f"sweep: interrupted; {complete}; the same call goes on from there") from None
    return store.dataset()


def _runs(
    engine: Engine, regions: list[Region], bar: Any
) -> Iterator[tuple[Region, dict[str, np.ndarray], dict[str, float]]]:
    """Runs boxes; yields each with its results and what the manifest notes of it."""
    begin, before, compiled = time.perf_counter(), engine.seconds, 0.0
    finished = engine.finished(bar.started([region.box for region in regions]))
    for region, (box, found) in zip(regions, finished, strict=True):
        bar.finished(box, found)
        # What was compiled meanwhile, where memory ran out or runs were lost, is no time of the box.
        spent, new = time.perf_counter() - begin - (engine.seconds - before), engine.seconds - compiled
        lanes = engine.program.lanes or Lanes(0, 0)
        yield (
            region,
            found,
            {"seconds": spent, "compile_seconds": new, "lanes": lanes.count, "ticks": lanes.ticks},
        )
        begin, before, compiled = time.perf_counter(), engine.seconds, engine.seconds
