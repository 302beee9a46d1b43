"""The loop over boxes: one compiled program, one box after the other, smaller ones where memory ends."""

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from gdjax.sweeps.axes import Trial
from gdjax.sweeps.lanes import Lanes
from gdjax.sweeps.meshes import devices_of, padded
from gdjax.sweeps.plan import Box, Plan, budget, halved, lengths, pieces
from gdjax.sweeps.programs import Program, ProgramOptions, compiled, trace
from gdjax.sweeps.recovery import recover
from gdjax.sweeps.sharing import footprint
from gdjax.sweeps.sharing import plan as shared_by

__all__ = ["Engine", "described"]

CACHED = 2**25
"""Bytes at work in a chunk beyond which a processor's caches no longer help."""
AT_ONCE = 4
"""How many arrays of the largest size are at work at a time."""
FEWEST = 16
"""Runs of a chunk that are worth one call."""


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


class Engine:
    """Runs the boxes of one static choice.

    Attributes:
      program: the compiled program.
      tiles: the size of the boxes that it takes; those of the plan, or smaller where memory ran out.
      seconds: spent compiling.
      ticks: made by lanes.
    """

    program: Program

    def __init__(
        self, trial: Trial, fixed: dict[str, Any], plan: Plan, params: bool, lanes: Lanes | str | None
    ):
        self.plan, self.tiles = plan, plan.tiles
        self.seconds, self.ticks = 0.0, 0
        self._sample: tuple[Box, dict[str, np.ndarray]] | None = None
        self._trial = trial, fixed, plan.names
        self._options = ProgramOptions(params, lanes, plan.mesh)
        if plan.auto and jax.default_backend() == "cpu":
            self._fit_caches()
        self._compile()
        while plan.auto and self.program.nbytes > budget() and math.prod(self.tiles) > 1:
            runs = math.prod(self.tiles)
            plan.chunk = max(1, int(runs * min(0.5, 0.9 * budget() / self.program.nbytes)))
            self.tiles = plan.tiles
            self._compile()

    @property
    def _shape(self) -> list[int]:
        """The leading axes of the program's inputs."""
        return padded(self.tiles, self.plan.mesh)

    def _fit_caches(self) -> None:
        """Cuts a grid into chunks whose arrays the processor's caches hold, across axes that share work last."""
        plan = self.plan
        values = plan.abstract([1] * len(plan.sizes))
        found = trace(*self._trial, values, self._options.params, self._options.lanes)
        if found.loop is not None:
            return
        made = footprint(found.program, plan.owners, plan.sizes)
        share = devices_of(plan.mesh) * CACHED / (AT_ONCE * made + 1)
        runs = max(FEWEST, int(share * plan.runs))
        if runs >= plan.chunk:
            return
        nested, order = shared_by(found.program, plan.owners, plan.sizes)
        plan.order = order if nested else plan.order
        plan.chunk = runs
        self.tiles = plan.tiles

    def _compile(self) -> None:
        try:
            self.program, seconds = compiled(*self._trial, self.plan.abstract(self._shape), self._options)
        except jax.errors.JaxRuntimeError as error:
            self._shrink(error)
        else:
            self.seconds += seconds

    def _shrink(self, error: Exception) -> None:
        """Halves the boxes after ``error``; raises it where memory is not the matter or one run is left."""
        if not _out_of_memory(error) or math.prod(self.tiles) == 1:
            raise error
        self.tiles = halved(self.tiles)
        self._compile()

    def sample(self, box: Box) -> float:
        """Seconds that a box takes. Its results are kept for when its turn comes."""
        self.plan.inputs(box, self._shape)  # what is compiled here is not to be measured
        begin, compiled = time.perf_counter(), self.seconds
        self._sample = box, self._box(box)
        return time.perf_counter() - begin - (self.seconds - compiled)

    def finished(self, boxes: Iterable[Box]) -> Iterator[tuple[Box, dict[str, np.ndarray]]]:
        """Runs boxes; yields each with its results, whose leading shape is the box's."""
        for box in boxes:
            yield box, self._box(box)

    def _box(self, box: Box) -> dict[str, np.ndarray]:
        whole: dict[str, np.ndarray] = {}
        waiting = [box]
        while waiting:
            part = waiting.pop()
            finer = list(pieces(part, self.tiles))
            if len(finer) > 1:
                waiting.extend(reversed(finer))
                continue
            if self._sample is not None and self._sample[0] == part:
                (_, found), self._sample = self._sample, None
                if part == box:
                    return found
                _put(whole, found, box, part)
                continue
            try:
                inputs = self.plan.inputs(part, self._shape)
                ran = self.program.run(inputs, lengths(part))
                if len(ran.lost):
                    self.seconds += recover(*self._trial, inputs, self._options.params, self.program, ran)
            except jax.errors.JaxRuntimeError as error:
                self._shrink(error)
                waiting.append(part)
                continue
            found, self.ticks = ran.found, self.ticks + ran.ticks
            if part == box:
                return found
            _put(whole, found, box, part)
        return whole


def _put(whole: dict[str, np.ndarray], found: dict[str, np.ndarray], box: Box, part: Box) -> None:
    """Copies the results of a part of a box to their place in those of the box."""
    place = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    for name, array in found.items():
        if name not in whole:
            whole[name] = np.empty((*lengths(box), *array.shape[len(box) :]), array.dtype)
        whole[name][place] = array


def described(engines: list[Engine]) -> dict[str, Any]:
    """How the runs of a sweep were made, for its attributes.

    ``engine`` is grid, lanes, or both where the static choices differ; ``lanes`` the most runs at a time
    in lanes, on each device, and ``ticks`` the steps that all lanes took together, 0 without lanes. A program
    takes ``program_bytes`` of a device, its inputs aside.
    """
    lanes = [engine.program.lanes for engine in engines]
    return {
        "engine": ", ".join(sorted({"grid" if each is None else "lanes" for each in lanes})),
        "chunk": min(math.prod(engine.tiles) for engine in engines),
        "lanes": max(0 if each is None else each.count for each in lanes),
        "devices": devices_of(engines[0].plan.mesh),
        "ticks": sum(engine.ticks for engine in engines),
        "programs": len(engines),
        "program_bytes": max(engine.program.nbytes for engine in engines),
        "compile_seconds": sum(engine.seconds for engine in engines),
    }
