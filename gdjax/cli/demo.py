"""``gdjax demo``: a sweep on handwritten digits, from data to pictures."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import gdjax
from gdjax import plots, problems
from gdjax.cli import race

__all__ = ["run"]

BATCH = 64
"""Examples a step."""
OPTIMIZERS = {
    "sgd": gdjax.gradient_descent,
    "momentum": gdjax.momentum,
    "nesterov": gdjax.nesterov,
    "rmsprop": gdjax.rmsprop,
    "adam": gdjax.adam,
}

RACERS = {"gradient_descent": 1e-3, "momentum": 3e-4, "nesterov": 3e-4, "rmsprop": 3e-3, "adam": 0.03}
"""Learning rates at which each gets along the valley of Rosenbrock's function without jumping across."""


def _sweep(epochs: int, seeds: int, rates: int, console: Console) -> xr.Dataset:
    """All runs, one program an optimizer."""
    problem = problems.mlp(BATCH)
    examples = len(problems.datasets.split(problems.datasets.digits())[0].targets)
    epoch = examples // BATCH
    accuracy = dict(problem.metrics or {})["test_accuracy"]

    def trial(optimizer, learning_rate, seed):
        start_key, batch_key = jax.random.split(jax.random.key(seed))
        return gdjax.Run(
            problem.objective,
            problem.start(start_key),
            optimizer(learning_rate),
            stop=None,
            max_steps=epochs * epoch,
            record=gdjax.every(epoch, lambda step: {"test_accuracy": accuracy(step.params)}),
            key=batch_key,
        )

    axes = {"learning_rate": np.geomspace(1e-4, 10.0, rates).astype(np.float32), "seed": jnp.arange(seeds)}
    columns = (TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    parts = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(OPTIMIZERS) * rates * seeds)
        for name, optimizer in OPTIMIZERS.items():
            bar.update(task, description=f"{name}: {rates} rates x {seeds} seeds")
            one = {"optimizer": gdjax.static({name: optimizer})} | axes
            part = gdjax.sweep(trial, one, progress=False)
            seconds = part.attrs["wall_seconds"] - part.attrs["compile_seconds"]
            parts.append(part.assign(runs_per_second=("optimizer", [rates * seeds / seconds])))
            bar.advance(task, rates * seeds)
            if not console.is_terminal:
                compiled = part.attrs["compile_seconds"]
                console.print(
                    f"{name}: compiled in {compiled:.1f} s, {rates * seeds} runs in {seconds:.1f} s"
                )
    runs = xr.concat(parts, "optimizer", combine_attrs="override", join="exact")
    runs["test_error"] = 1 - runs.test_accuracy
    return runs.assign_attrs(
        compile_seconds=sum(part.attrs["compile_seconds"] for part in parts),
        wall_seconds=sum(part.attrs["wall_seconds"] for part in parts),
        runs=runs.value.size,
        programs=len(parts),
        epochs=epochs,
    )


def _at_best(runs: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Each optimizer's runs at its best learning rate."""
    return runs.sel(learning_rate=table.best_rate.astype(runs.learning_rate.dtype))


def _pictures(runs: xr.Dataset, best: xr.Dataset, out: Path) -> list[Path]:
    final = runs.assign(test_error=runs.test_error.isel(step=-1))
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    panels: Any = figure.subfigures(2, 1, height_ratios=[1.0, 1.35])
    top, bottom = panels
    ax = plots.heatmap(final, "learning_rate", "optimizer", "test_error", ax=top.subplots())
    ax.set_title(f"Test error on handwritten digits, median of {runs.sizes['seed']} seeds", loc="left")
    left, right = bottom.subplots(1, 2)
    plots.learning_rate_sensitivity(final, "test_error", ax=left)
    left.set_title("Median and quartiles over seeds, best rates starred", loc="left", fontsize="medium")
    left.get_legend().remove()
    plots.convergence(best, "test_error", over="seed", ax=right)
    right.set_title("Over the steps, at the best rates", loc="left", fontsize="medium")
    sweep_picture = out / "sweep.png"
    figure.savefig(sweep_picture, dpi=110)

    rosenbrock = problems.rosenbrock()
    paths = race.paths(list(RACERS.items()), rosenbrock, jnp.array([-1.0, 1.5]), 2000)
    race_picture = out / "race.png"
    race.draw(paths, rosenbrock, race_picture)
    return [sweep_picture, race_picture]


def _table(runs: xr.Dataset, table: xr.Dataset, best: xr.Dataset) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("optimizer")
    for column in (
        "best rate",
        "test accuracy",
        "over seeds",
        "rates within 1 %",
        "runs/s",
    ):
        shown.add_column(column, justify="right")
    last = best.test_accuracy.isel(step=-1)
    for name in runs.optimizer.values:
        row, accuracy = table.sel(optimizer=name), last.sel(optimizer=name)
        shown.add_row(
            str(name),
            f"{float(row.best_rate):.3g}",
            f"{100 * float(row.best):.1f} %",
            f"{100 * float(accuracy.min()):.1f} - {100 * float(accuracy.max()):.1f} %",
            f"{float(row.lowest_rate):.2g} - {float(row.highest_rate):.2g}",
            f"{float(runs.runs_per_second.sel(optimizer=name)):.0f}",
        )
    return shown


def _write(runs: xr.Dataset, out: Path) -> Path:
    store: Any = out / "runs.zarr"
    runs.to_zarr(store, mode="w", zarr_format=2)
    return store


def run(out: Path, *, epochs: int, seeds: int, rates: int) -> None:
    """The command."""
    begin = time.perf_counter()
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    total = len(OPTIMIZERS) * rates * seeds
    console.print(
        f"A network on handwritten digits: 64-32-10, {epochs} epochs, batches of {BATCH}.\n"
        f"{len(OPTIMIZERS)} optimizers x {rates} learning rates x {seeds} seeds = {total} runs.\n",
        highlight=False,
    )
    runs = _sweep(epochs, seeds, rates, console)
    accuracy = runs.test_accuracy.isel(step=-1)
    final = runs.assign(test_accuracy=accuracy)
    table = plots.basins(final, "test_accuracy", best=np.max)
    best = _at_best(runs, table)
    store = _write(runs, out)
    pictures = _pictures(runs, best, out)
    console.print(_table(runs, table, best))
    diverged = int((runs.status == gdjax.Status.NONFINITE).sum())
    seconds = runs.attrs["wall_seconds"] - runs.attrs["compile_seconds"]
    console.print(
        f"\n{total} runs in {seconds:.1f} s after {runs.attrs['compile_seconds']:.1f} s of compiling, "
        f"{total / seconds:.0f} runs/s; {diverged} diverged. {time.perf_counter() - begin:.0f} s in all.\n"
        f"The dataset is in {store}, the pictures in {pictures[0]} and {pictures[1]}.\n"
        f"Read it:  xarray.open_zarr({str(store)!r})",
        highlight=False,
        soft_wrap=True,
    )
