"""The way back for runs of a sweep that were not finite: a program of its own, made where some were lost."""

import math
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from gdjax._internal.programs import compilation
from gdjax.sweeps.axes import Trial
from gdjax.sweeps.cache import PROGRAMS, case, forget, kept_for
from gdjax.sweeps.programs import Ran, at_point
from gdjax.sweeps.tracing import recovering
from gdjax.types import PyTree

__all__ = ["recover"]

TOGETHER = 64
"""The most lost runs that are recovered at a time: all of them step until the last has ended."""


def recover(
    trial: Trial,
    fixed: dict[str, Any],
    names: list[str],
    values: list[PyTree],
    params: bool,
    traces: Iterable[str],
    ran: Ran,
) -> float:
    """Puts what lost runs came to among the outputs of a chunk; returns the seconds spent to compile that.

    Args:
      trial: the user's function.
      fixed: the static choices by name.
      names: the array axes, outermost first.
      values: the chunk's.
      params: whether the results' params are outputs.
      traces: the outputs that were recorded on the way, in the order of the trace's leaves.
      ran: what the chunk's program made of it.
    """
    lost, begin = ran.lost, time.perf_counter()
    assert lost is not None
    sizes = [jax.tree.leaves(value)[0].shape[0] for value in values]
    count = min(TOGETHER, math.prod(sizes))

    def of(rows):
        """What the program of the way back takes for these runs."""
        places = tuple(rows.T)
        point = [
            jax.tree.map(lambda leaf, place=place: leaf[place], value)
            for value, place in zip(values, places, strict=True)
        ]
        there = places or None  # a sweep without axes has one run
        recorded = [ran.found[name][there] for name in traces]
        return point, jax.tree.map(lambda leaf: leaf[there], lost.sound), recorded

    def padded(rows):
        return rows[np.minimum(np.arange(count), len(rows) - 1)]

    kept, arguments = kept_for(trial, PROGRAMS), of(padded(lost.runs))
    key = ("recover", case(fixed, names, list(arguments), params))
    seconds = 0.0
    if key in kept:
        kept.move_to_end(key)
    else:
        back = jax.vmap(recovering(at_point(trial, fixed, names), params))
        # It takes about as many steps as a block has.
        kept[key] = compilation.compile_briefly(jax.jit(back).lower(*arguments))
        forget(kept)
        seconds = time.perf_counter() - begin
    for first in range(0, len(lost.runs), count):
        rows = lost.runs[first : first + count]
        outputs = kept[key](*of(padded(rows)))
        for name, array in outputs.items():
            if not ran.found[name].flags.writeable:
                ran.found[name] = ran.found[name].copy()
            ran.found[name][tuple(rows.T) or None] = np.asarray(array)[: len(rows)]
    return seconds
