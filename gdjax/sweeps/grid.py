"""Sweeps: a trial over a grid, box by box, by the engine that its runs ask for."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray
from jax.sharding import Mesh

from gdjax.sweeps.axes import Axis, Trial, as_axes
from gdjax.sweeps.cache import KEPT
from gdjax.sweeps.dataset import assemble, attributes
from gdjax.sweeps.engine import Engine, described
from gdjax.sweeps.lanes import Lanes, as_lanes
from gdjax.sweeps.meshes import as_mesh
from gdjax.sweeps.plan import Box, Plan, lengths
from gdjax.sweeps.progress import Bar, advancing
from gdjax.sweeps.spec import SweepSpec
from gdjax.sweeps.values import AxisValues
from gdjax.sweeps.watching import Watch, as_watch

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["sweep"]


def _gather(
    engine: Engine, plan: Plan, bar: Bar, watch: Callable[[Box, dict[str, np.ndarray]], Any]
) -> dict[str, np.ndarray]:
    """Runs all boxes of one static choice, and puts their results together."""
    whole: dict[str, np.ndarray] = {}
    for box, found in engine.finished(bar.started(plan.boxes())):
        bar.finished(box, found)
        watch(box, found)
        if lengths(box) == tuple(plan.sizes):
            whole = found
        else:
            for name, array in found.items():
                if name not in whole:
                    whole[name] = np.empty((*plan.sizes, *array.shape[len(box) :]), array.dtype)
                whole[name][box] = array
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
    trial: Trial,
    axes: Mapping[str, AxisValues],
    *,
    chunk: int | Literal["auto"] = "auto",
    lanes: int | Lanes | Literal["auto"] | None = "auto",
    mesh: Mesh | Literal["all"] | None = None,
    store: str | os.PathLike[str] | None = None,
    part: tuple[int, int] | None = None,
    watch: Watch | None = None,
    progress: "bool | Progress" = True,
    params: bool = False,
) -> xarray.Dataset:
    """Runs a trial at every point of a grid, as one compiled program for each static choice.

    Runs of fixed length: each array axis is one level of ``vmap``, so what does not depend on an axis is
    computed once for all its values: mini-batches drawn by ``seed`` are shared by all learning rates. Runs
    with a stop criterion go through lanes: a fixed number at a time, and the next one starts where one
    has ended. A second sweep of the same trial object over axes of the same shapes compiles nothing.

    Args:
      trial: called with one keyword an axis, returns a `gdjax.Run` or a pytree of arrays. A pure
        function, as for ``jax.jit``: what it reads from outside is read when it is first compiled.
      axes: from names to values. Numbers, arrays (of NumPy, JAX, pandas, xarray, torch), keys and pytrees of
        arrays with equal leading axis, callable or not, are mapped; `static` marks what is not an array.
      chunk: runs in one call of the compiled program, at least 1; chunks bound memory, and the
        progress bar moves between them. ``"auto"`` takes all runs that fit a quarter of the memory, and
        of a grid on a processor no more than its caches like.
      lanes: how many runs that stop early are made at a time, or a `gdjax.sweeps.Lanes`; ``"auto"`` chooses by
        the size of a run. None makes all runs of a chunk under one ``vmap``: each waits for the slowest.
      mesh: devices that share the runs of each chunk: ``"all"`` of this process, or a mesh, whatever its shape.
      store: the path of a folder, to which each chunk is written when it is done, as zarr. The same call
        after an interruption runs what is missing, and on a complete store nothing. A store fixes its
        chunks; with ``chunk="auto"`` they take about two seconds each.
      part: ``(index, count)``: of several processes that write to one store, which one this is; by default
        what ``jax.distributed`` says.
      watch: called with each chunk that is done, as a dataset on the host.
      progress: a progress bar on a terminal; or False, or a ``rich.progress.Progress`` to add to.
      params: also return the final params, as ``params`` or ``params.<path>``.

    Returns:
      A dataset whose dimensions are the axes, with what the trial sees as coordinates, in its type
        (float32 without ``jax_enable_x64``). Runs give ``value``, ``residual``, ``steps`` and ``status``
      (a `gdjax.Status` a cell), and what ``record`` returned along ``step``: by its names, or as ``trace``.
      Other trials give their arrays by name, or ``result``. With ``store`` it is read from the disk when it
      is looked at.

    Raises:
      ValueError: axes that do not fit the trial's arguments, empty or ragged axes, numbers that JAX's type
        cannot hold, an axis called like something else of the dataset, static choices that return
        different variables; a store of another sweep, or a damaged one.
      TypeError: axes or returned values that are not arrays.
      OSError: if the store cannot be written; what is complete stays readable.
      FileExistsError: if ``store`` exists and is no store.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> def trial(rate, scale):
      ...     return gdjax.Run(lambda x: scale * jnp.sum(x**2), jnp.ones(2), gdjax.gradient_descent(rate),
      ...                      stop=None, max_steps=20)
      >>> runs = gdjax.sweep(trial, {"rate": [0.01, 0.1, 0.3], "scale": [1.0, 2.0]})
      >>> best = runs.value.sel(scale=1.0).idxmin("rate")
      >>> best.dtype.name, round(float(best), 6)
      ('float32', 0.3)
    """
    begin = time.perf_counter()
    checked = as_axes(trial, axes)
    fixed = [axis for axis in checked if axis.choices is not None]
    plan = Plan([axis for axis in checked if axis.choices is None], chunk, as_mesh(mesh))
    chosen = itertools.product(*(axis.choices or () for axis in fixed))
    choices = [{axis.name: value for axis, value in zip(fixed, values, strict=True)} for values in chosen]
    spec = SweepSpec(trial, checked, choices, plan, as_lanes(lanes), params)
    if store is not None:
        from gdjax.sweeps import store as stores  # here, because zarr takes a third of a second to import
        from gdjax.sweeps import storing

        return storing.stored(stores.local(store), spec, storing.as_part(part), progress, as_watch(watch))
    if part is not None:
        raise ValueError("sweep: part= needs store=, where the parts come together")
    spec.check(spec.traced(KEPT))
    parts, engines = [], []
    with advancing(progress, plan.runs * len(choices)) as bar:
        for number in range(len(choices)):
            engines.append(spec.engine(number))
            parts.append(_gather(engines[-1], plan, bar, spec.watching(number, engines[-1], as_watch(watch))))
    attrs = (
        attributes()
        | described(engines)
        | {"wall_seconds": time.perf_counter() - begin, "runs": plan.runs * len(choices)}
    )
    strides = {name: stride for engine in engines for name, stride in engine.program.strides.items()}
    return assemble(checked, _join(checked, parts), strides, attrs)
