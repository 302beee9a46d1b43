"""The grid engine: one nested vmap, one compiled program a static choice, chunks that bound memory."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
import xarray

from gdjax.sweeps.axes import Axis, as_axes
from gdjax.sweeps.dataset import assemble, attributes
from gdjax.sweeps.programs import Program, compiled
from gdjax.sweeps.progress import advancing

__all__ = ["sweep"]


def _tiles(sizes: list[int], runs: int) -> list[int]:
    """The largest box of at most ``runs`` runs, cut along the first axes first, into equal parts."""
    tiles = list(sizes)
    for i, size in enumerate(sizes):
        others = math.prod(tiles) // tiles[i]
        if others * size <= runs:
            break
        parts = math.ceil(size / max(1, runs // others))
        tiles[i] = math.ceil(size / parts)
    return tiles


def _budget() -> int:
    """Bytes that one chunk may take: a quarter of the device's memory."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] // 4
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 2**30


def _abstract(axes: list[Axis], tiles: list[int]) -> list[Any]:
    def one(tile, leaf):
        return jax.ShapeDtypeStruct((tile, *leaf.shape[1:]), leaf.dtype)

    return [
        jax.tree.map(lambda leaf, t=tile: one(t, leaf), axis.values)
        for axis, tile in zip(axes, tiles, strict=True)
    ]


class _Plan:
    """How the array axes are cut into chunks, the same for every static choice."""

    def __init__(self, trial: Any, axes: list[Axis], chunk: Any, params: bool):
        self.trial, self.axes, self.params = trial, axes, params
        self.sizes = [axis.size for axis in axes]
        self.runs = math.prod(self.sizes)
        self.auto = chunk == "auto"
        if not self.auto and (isinstance(chunk, bool) or not hasattr(chunk, "__index__") or chunk < 1):
            raise ValueError(f"sweep: chunk must be 'auto' or a number of runs, at least 1, got {chunk!r}")
        self.chunk = self.runs if self.auto else int(chunk)
        self.seconds = 0.0
        self.programs = 0

    def program(self, fixed: dict[str, Any]) -> Program:
        """The program of a static choice; with ``chunk="auto"`` cut smaller until it fits the memory."""
        names = [axis.name for axis in self.axes]
        while True:
            values = _abstract(self.axes, self.tiles)
            program, seconds = compiled(self.trial, fixed, names, values, self.params)
            self.seconds += seconds
            budget, runs = _budget(), math.prod(self.tiles)
            if not self.auto or program.nbytes <= budget or runs == 1:
                self.programs += 1
                return program
            self.chunk = max(1, int(runs * min(0.5, 0.9 * budget / program.nbytes)))

    @property
    def tiles(self) -> list[int]:
        return _tiles(self.sizes, self.chunk)

    def boxes(self) -> Iterator[tuple[tuple[slice, ...], list[Any]]]:
        """For each chunk the part of the grid that it covers, and its inputs.

        All chunks have the same shape: one that would reach over an axis's end repeats its last values.
        """
        tiles = self.tiles
        starts = [range(0, size, tile) for size, tile in zip(self.sizes, tiles, strict=True)]
        if tiles == self.sizes:
            yield tuple(slice(0, size) for size in self.sizes), [axis.values for axis in self.axes]
            return
        for corner in itertools.product(*starts):
            box, values = [], []
            for axis, start, tile in zip(self.axes, corner, tiles, strict=True):
                stop = min(start + tile, axis.size)
                index = np.minimum(np.arange(start, start + tile), axis.size - 1)
                box.append(slice(start, stop))
                values.append(jax.tree.map(lambda leaf, index=index: leaf[index], axis.values))
            yield tuple(box), values


def _gather(plan: _Plan, program: Program, advance: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Runs all chunks of one static choice."""
    whole: dict[str, np.ndarray] = {}
    for box, values in plan.boxes():
        outputs = {name: np.asarray(array) for name, array in program.call(*values).items()}
        lengths = [part.stop - part.start for part in box]
        if lengths == plan.sizes:
            whole = outputs
        else:
            for name, array in outputs.items():
                if name not in whole:
                    whole[name] = np.empty((*plan.sizes, *array.shape[len(box) :]), array.dtype)
                whole[name][box] = array[tuple(slice(length) for length in lengths)]
        advance(math.prod(lengths))
    return whole


def _signature(arrays: dict[str, np.ndarray], axes: int) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[axes:] for name, array in arrays.items()}


def _join(axes: list[Axis], parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The grids of all static choices as one, with the axes in the user's order."""
    fixed = [i for i, axis in enumerate(axes) if axis.choices is not None]
    free = [i for i, axis in enumerate(axes) if axis.choices is None]
    if not fixed:
        return parts[0]
    first = _signature(parts[0], len(free))
    for part in parts[1:]:
        other = _signature(part, len(free))
        if other != first:
            raise ValueError(
                f"sweep: the static choices return different variables or shapes: {first} and {other}"
            )
    order = list(np.argsort(fixed + free))
    joined = {}
    for name in parts[0]:
        stack = np.stack([part[name] for part in parts])
        stack = stack.reshape(*(axes[i].size for i in fixed), *stack.shape[1:])
        joined[name] = stack.transpose(*order, *range(len(axes), stack.ndim))
    return joined


def sweep(
    trial: Callable[..., Any],
    axes: Mapping[str, Any],
    *,
    chunk: int | Literal["auto"] = "auto",
    store: Any = None,
    progress: Any = True,
    params: bool = False,
) -> xarray.Dataset:
    """Runs a trial at every point of a grid, as one compiled program for each static choice.

    Each array axis is one level of ``vmap``, so what does not depend on an axis is computed once for
    all its values: mini-batches drawn by ``seed`` are shared by all learning rates. A second sweep of
    the same trial object over axes of the same shapes compiles nothing.

    Args:
      trial: called with one keyword an axis, returns a `gdjax.Run` or a pytree of arrays. A pure
        function, as for ``jax.jit``: what it reads from outside is read when it is first compiled.
      axes: from names to values. Numbers, arrays, keys and pytrees of arrays with equal leading axis
        are mapped; `static` marks what is not an array.
      chunk: runs in one call of the compiled program, at least 1; chunks bound memory, and the
        progress bar moves between them. ``"auto"`` takes all runs that fit a quarter of the memory.
      store: a path for the dataset, written as zarr when all runs are done.
      progress: a progress bar on a terminal; or False, or a ``rich.progress.Progress`` to add to.
      params: also return the final params, as ``params`` or ``params.<path>``.

    Returns:
      A dataset whose dimensions are the axes. Runs give ``value``, ``residual``, ``steps`` and ``status``
      (a `gdjax.Status` a cell), and what ``record`` returned along ``step``: by its names, or as ``trace``.
      Other trials give their arrays by name, or ``result``.

    Raises:
      ValueError: axes that do not fit the trial's arguments, empty or ragged axes, static choices
        that return different variables.
      TypeError: axes or returned values that are not arrays.
      FileExistsError: if ``store`` exists.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> def trial(rate, scale):
      ...     return gdjax.Run(lambda x: scale * jnp.sum(x**2), jnp.ones(2), gdjax.gradient_descent(rate),
      ...                      stop=None, max_steps=20)
      >>> runs = gdjax.sweep(trial, {"rate": [0.01, 0.1, 0.3], "scale": [1.0, 2.0]})
      >>> float(runs.value.sel(scale=1.0).idxmin("rate"))
      0.3
    """
    begin = time.perf_counter()
    checked = as_axes(trial, axes)
    if isinstance(store, str | os.PathLike) and os.path.exists(store):
        raise FileExistsError(f"sweep: {os.fspath(store)} exists; remove it or choose another store")
    fixed = [axis for axis in checked if axis.choices is not None]
    plan = _Plan(trial, [axis for axis in checked if axis.choices is None], chunk, params)
    choices = list(itertools.product(*(axis.choices or () for axis in fixed)))
    parts, strides = [], {}
    with advancing(progress, plan.runs * len(choices)) as advance:
        for choice in choices:
            program = plan.program({axis.name: value for axis, value in zip(fixed, choice, strict=True)})
            strides |= program.strides
            parts.append(_gather(plan, program, advance))
    attrs = attributes() | {
        "engine": "grid",
        "chunk": math.prod(plan.tiles),
        "programs": plan.programs,
        "compile_seconds": plan.seconds,
        "wall_seconds": time.perf_counter() - begin,
        "runs": plan.runs * len(choices),
    }
    dataset = assemble(checked, _join(checked, parts), strides, attrs)
    if store is not None:
        dataset.to_zarr(store, zarr_format=2)
    return dataset
