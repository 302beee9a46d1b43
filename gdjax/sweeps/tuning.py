"""How many lanes are fastest, by trying them."""

import itertools
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from gdjax._internal.programs.lanes import TURNS
from gdjax.sweeps.axes import Trial, as_axes
from gdjax.sweeps.lanes import Lanes, as_lanes
from gdjax.sweeps.plan import Box, Plan, lengths
from gdjax.sweeps.programs import ProgramOptions, compiled
from gdjax.sweeps.values import AxisValues

__all__ = ["tuned_lanes"]


def _points(axes: list[Any], runs: int) -> dict[str, Any]:
    """So many points of the grid, drawn without order: each axis's values at them, by name."""
    sizes = [axis.size for axis in axes]
    total = math.prod(sizes)
    drawn = np.random.default_rng(0).permutation(total)[:runs] if total >= runs else np.arange(runs) % total
    places = np.unravel_index(drawn, sizes)
    return {
        axis.name: jax.tree.map(lambda leaf, at=at: leaf[at], axis.values)
        for axis, at in zip(axes, places, strict=True)
    }


def tuned_lanes(
    trial: Trial,
    axes: Mapping[str, AxisValues],
    *,
    counts: Iterable[int] = (8, 32, 128, 512),
    ticks: Iterable[int] = (1,),
    runs: int | None = None,
) -> Lanes:
    """The fastest of some numbers of lanes, each timed on the same sample of a grid.

    `gdjax.sweep` chooses lanes by the size of a run, without trying. A long sweep, or one on a device that this
    choice does not fit, is worth a trial: every candidate is compiled and run twice.

    Args:
      trial: as for `gdjax.sweep`; its runs must have a stop criterion.
      axes: as for `gdjax.sweep`; of static axes the first choice is tried.
      counts: candidates for the number of lanes, at least 1 each.
      ticks: candidates for the steps between two looks, at least 1 each.
      runs: how many points of the grid are run; by default eight for each lane of the largest count, but no
        more than the grid has.

    Returns:
      What to pass on as ``lanes=``.

    Raises:
      ValueError: without candidates, with one below 1, or for runs of fixed length, which need no lanes.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> def trial(rate):
      ...     return gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.gradient_descent(rate))
      >>> axes = {"rate": jnp.linspace(0.01, 0.3, 64)}
      >>> lanes = gdjax.sweeps.tuned_lanes(trial, axes, counts=(8, 16))
      >>> lanes.count in (8, 16), gdjax.sweep(trial, axes, lanes=lanes, progress=False).attrs["lanes"] == lanes.count
      (True, True)
    """
    candidates = [Lanes(*each) for each in itertools.product(counts, ticks)]
    if not candidates:
        raise ValueError("tuned_lanes: there are no candidates")
    for each in candidates:
        as_lanes(each)
    checked = as_axes(trial, axes)
    fixed = {axis.name: axis.choices[0] for axis in checked if axis.choices is not None}
    mapped = [axis for axis in checked if axis.choices is None]
    most = max(each.count for each in candidates)
    total = math.prod(axis.size for axis in mapped)
    points = _points(mapped, min(TURNS * most, total) if runs is None else runs)

    def at(point):
        return trial(**fixed, **point)

    plan = Plan(as_axes(at, {"point": points}), "auto")
    box = next(iter(plan.boxes()))
    seconds = {each: _seconds(at, plan, box, each) for each in candidates}
    return min(seconds, key=lambda each: seconds[each])


def _seconds(trial: Trial, plan: Plan, box: Box, lanes: Lanes) -> float:
    program, _ = compiled(
        trial, {}, plan.names, plan.abstract(plan.tiles), ProgramOptions(False, lanes, None)
    )
    if program.lanes is None:
        raise ValueError(
            "tuned_lanes: the trial must return a gdjax.Run with a stop criterion; a fixed length needs no lanes"
        )
    inputs, times = plan.inputs(box, plan.tiles), []
    for _ in range(2):
        begin = time.perf_counter()
        program.run(inputs, lengths(box))
        times.append(time.perf_counter() - begin)
    return min(times)
