"""``gdjax sweep FILE.toml``: a sweep that a file describes."""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console

import gdjax
from gdjax import plots, problems
from gdjax.cli import names
from gdjax.optimizers.catalogue import CATALOGUE
from gdjax.sweeps import store

__all__ = ["Cluster", "run"]

KEYS: dict[str, type] = {
    "problem": str,
    "optimizers": list,
    "steps": int,
    "seeds": int,
    "batch_size": int,
    "record_every": int,
    "chunk": int,
    "out": str,
    "heatmap": str,
    "axes": dict,
    "problem_options": dict,
}
SPACES: dict[str, Callable[..., np.ndarray]] = {
    "geomspace": np.geomspace,
    "linspace": np.linspace,
    "logspace": np.logspace,
}


def _read(file: Path) -> dict[str, Any]:
    """The file's table, its keys and types checked."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is not TOML: {error}") from None
    for key, value in table.items():
        kind = names.choose("key", key, KEYS)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise typer.BadParameter(f"{key} must be of type {kind.__name__}, got {value!r}")
    for key in ("problem", "optimizers", "steps", "out"):
        if key not in table:
            raise typer.BadParameter(f"{file} needs the key {key!r}")
    if not table["optimizers"]:
        raise typer.BadParameter("optimizers is empty")
    for key in ("steps", "seeds", "batch_size", "record_every", "chunk"):
        if table.get(key, 1) < 1:
            raise typer.BadParameter(f"{key} must be at least 1, got {table[key]}")
    return table


def _values(name: str, given: Any) -> np.ndarray:
    """The values of an axis: a list, or ``{ geomspace = [low, high, count] }``."""
    if isinstance(given, dict):
        if len(given) != 1:
            raise typer.BadParameter(f"axes.{name} must name one of {', '.join(SPACES)}")
        ((space, bounds),) = given.items()
        make = names.choose("space", space, SPACES)
        if not (isinstance(bounds, list) and len(bounds) == 3):
            raise typer.BadParameter(f"axes.{name}.{space} must be [low, high, count], got {bounds!r}")
        try:
            return make(float(bounds[0]), float(bounds[1]), int(bounds[2]))
        except ValueError as error:
            raise typer.BadParameter(f"axes.{name}.{space}: {error}") from None
    try:
        values = np.asarray(given, float)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 1 or not values.size:
        raise typer.BadParameter(f"axes.{name} must be a list of numbers, got {given!r}")
    return values


def _axes(table: dict[str, Any]) -> dict[str, Any]:
    """The sweep's axes; those of numbers must be arguments of every optimizer named."""
    entries = {name: names.choose("optimizer", name, CATALOGUE) for name in table["optimizers"]}
    axes: dict[str, Any] = {"optimizer": gdjax.static(entries)}
    for name, given in table.get("axes", {}).items():
        for optimizer, entry in entries.items():
            known = inspect.signature(entry.constructor).parameters
            if name not in known:
                raise typer.BadParameter(names.unknown(f"argument of {optimizer}", name, known))
        axes[name] = _values(name, given)
    return axes | {"seed": jnp.arange(table.get("seeds", 1))}


def _problem(table: dict[str, Any]) -> problems.Problem:
    make = names.choose("problem", table["problem"], problems.catalogue)
    options = dict(table.get("problem_options", {}))
    if "batch_size" in table:
        options["batch_size"] = table["batch_size"]
    known = inspect.signature(make).parameters
    for name in options:
        if name not in known:
            raise typer.BadParameter(names.unknown(f"argument of {table['problem']}", name, known))
    return make(**options)


def _trial(problem: problems.Problem, table: dict[str, Any]) -> Callable[..., gdjax.Run]:
    metrics = problem.metrics or {}
    stride = table.get("record_every")

    def read(step: gdjax.Step) -> dict[str, jax.Array]:
        return {"loss": step.value} | {name: metric(step.params) for name, metric in metrics.items()}

    def trial(optimizer, seed, **hyperparameters):
        start_key, batch_key = jax.random.split(jax.random.key(seed))
        return gdjax.Run(
            problem.objective,
            problem.start(start_key),
            optimizer(**hyperparameters),
            stop=None,
            max_steps=table["steps"],
            record=None if stride is None else gdjax.every(stride, read),
            key=batch_key,
        )

    return trial


def _picture(runs: xr.Dataset, path: Path) -> None:
    numeric = [name for name in runs.value.dims if name not in ("optimizer", "seed")]
    if not numeric:
        raise typer.BadParameter("heatmap needs at least one axis besides optimizer and seed")
    figure = Figure(figsize=(8.0, 1.8 + 0.45 * runs.sizes["optimizer"]), layout="constrained")
    y = "optimizer" if runs.sizes["optimizer"] > 1 or len(numeric) == 1 else numeric[1]
    plots.heatmap(runs, str(numeric[0]), str(y), ax=figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


class Cluster(NamedTuple):
    """Several processes that share a sweep, as ``jax.distributed.initialize`` takes them.

    Attributes:
      coordinator: host and port of the first process; None where JAX finds it by itself.
      processes: how many; None where JAX finds it by itself.
      process: which one this is; None where JAX finds it by itself.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def join(self) -> None:
        """Waits for the others."""
        jax.distributed.initialize(self.coordinator, self.processes, self.process)


def _describe(runs: xr.Dataset, out: Path, text: str) -> None:
    """Keeps the file's text with the runs."""
    if runs.attrs.get("description") != text:
        store.annotate(out, {"description": text})


def run(file: Path, cluster: Cluster | None = None) -> None:
    """The command."""
    table = _read(file)
    if cluster is not None:
        cluster.join()
    problem, axes, out = _problem(table), _axes(table), Path(table["out"])
    chunk = table.get("chunk", "auto")
    try:
        runs = gdjax.sweep(_trial(problem, table), axes, chunk=chunk, store=out)
    except KeyboardInterrupt as interrupt:
        typer.echo(f"\ngdjax: {interrupt}", err=True)
        raise typer.Exit(130) from None
    _describe(runs, out, file.read_text(encoding="utf-8"))
    console = Console()
    if not runs.attrs["complete"]:
        console.print(f"This process has done its part of {out}.", highlight=False, soft_wrap=True)
        return
    console.print(runs, highlight=False)
    if "heatmap" in table:
        _picture(runs, Path(table["heatmap"]))
        console.print(f"\nThe picture is in {table['heatmap']}", highlight=False, soft_wrap=True)
    seconds = runs.attrs["wall_seconds"] - runs.attrs["compile_seconds"]
    console.print(
        f"\n{runs.attrs['runs']} runs in {seconds:.1f} s after {runs.attrs['compile_seconds']:.1f} s of "
        f"compiling. The dataset is in {out}",
        highlight=False,
        soft_wrap=True,
    )
