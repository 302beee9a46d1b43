"""Runs of a sweep that were not finite, taken again by checked steps: by a program made where some were lost."""

import math
import time
from typing import Any

import jax
import numpy as np

from gdjax._internal.programs import compilation
from gdjax.sweeps.axes import Trial
from gdjax.sweeps.cache import PROGRAMS, case, forget, kept_for
from gdjax.sweeps.programs import Program, Ran, at_point
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
    program: Program,
    ran: Ran,
) -> float:
    """Puts what lost runs came to among the outputs of a chunk; returns the seconds spent to compile that.

    Args:
      trial: the user's function.
      fixed: the static choices by name.
      names: the array axes, outermost first.
      values: the chunk's.
      params: whether the results' params are outputs.
      program: the chunk's.
      ran: what it made of it.
    """
    begin = time.perf_counter()
    sizes = [jax.tree.leaves(value)[0].shape[0] for value in values]
    count = min(TOGETHER, math.prod(sizes))

    def of(rows):
        """What the program takes for these runs."""
        places = tuple(rows.T)
        point = [
            jax.tree.map(lambda leaf, place=place: leaf[place], value)
            for value, place in zip(values, places, strict=True)
        ]
        there = places or None  # a sweep without axes has one run
        return point, [ran.found[name][there] for name in program.strides]

    def padded(rows):
        return rows[np.minimum(np.arange(count), len(rows) - 1)]

    kept, arguments = kept_for(trial, PROGRAMS), of(padded(ran.lost))
    key = ("recover", case(fixed, names, list(arguments), params))
    seconds = 0.0
    if key in kept:
        kept.move_to_end(key)
    else:
        # A sweep without axes has one run, and nothing to map over.
        again = jax.jit(jax.vmap(recovering(at_point(trial, fixed, names), params), axis_size=count))
        kept[key] = compilation.compile_briefly(again.lower(*arguments))
        forget(kept)
        seconds = time.perf_counter() - begin
    for first in range(0, len(ran.lost), count):
        rows = ran.lost[first : first + count]
        outputs = kept[key](*of(padded(rows)))
        for name, array in outputs.items():
            if not ran.found[name].flags.writeable:
                ran.found[name] = ran.found[name].copy()
            ran.found[name][tuple(rows.T) or None] = np.asarray(array)[: len(rows)]
    return seconds
