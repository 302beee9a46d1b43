"""``gdjax race``: optimizers on a function of two variables, as a picture and a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import gdjax
from gdjax import plots, problems
from gdjax.cli import names
from gdjax.optimizers.catalogue import CATALOGUE

__all__ = ["DEFAULT", "draw", "paths", "run"]

DEFAULT = ["gradient_descent", "momentum", "nesterov", "rmsprop", "adam"]
"""Who races where nobody is named."""

RATES = np.geomspace(1e-5, 3.0, 23)
"""Learning rates to choose from where none is given."""

PICTURES = (".png", ".pdf", ".svg", ".gif")


def _best_rate(name: str, objective: Any, start: jax.Array, steps: int) -> float:
    """The learning rate whose last value is lowest among runs that came through."""

    def trial(learning_rate):
        optimizer = CATALOGUE[name](learning_rate=learning_rate)
        return gdjax.Run(objective, start, optimizer, stop=None, max_steps=steps)

    runs = gdjax.sweep(trial, {"learning_rate": RATES}, progress=False)
    values = runs.value.where(runs.status == gdjax.Status.MAX_STEPS)
    return float(RATES[int(np.argmin(np.where(np.isfinite(values), values, np.inf)))])


def paths(
    entrants: Sequence[tuple[str, float | None]], problem: problems.Problem, start: jax.Array, steps: int
) -> xr.Dataset:
    """Runs every entrant, each at its rate or the best one.

    Returns:
      A Dataset over ``optimizer``: ``learning_rate`` (NaN where there is none), ``value``, ``status``, and
      ``path`` along ``step``.
    """
    results, rates, labels = [], [], []
    for name, rate in entrants:
        rated = "learning_rate" in CATALOGUE[name].arguments
        if rated and rate is None:
            rate = _best_rate(name, problem.objective, start, steps)
        optimizer = CATALOGUE[name](learning_rate=rate) if rated else CATALOGUE[name]()
        rates.append(np.nan if rate is None else rate)
        labels.append(f"{name}, {rate:.3g}" if rated else name)
        results.append(
            gdjax.minimize(
                problem.objective,
                start,
                optimizer,
                stop=None,
                max_steps=steps,
                record=lambda step: step.params,
            )
        )
    return xr.Dataset(
        {
            "value": ("optimizer", [float(r.value) for r in results]),
            "status": ("optimizer", np.array([r.status for r in results], np.int8)),
            "end": (("optimizer", "axis"), np.stack([r.params for r in results])),
            "learning_rate": ("optimizer", rates),
            "path": (("optimizer", "step", "axis"), np.stack([r.trace for r in results])),
        },
        coords={"optimizer": labels, "step": np.arange(steps + 1)},
    )


def draw(runs: xr.Dataset, problem: problems.Problem, out: Path) -> None:
    """Writes the paths as a picture, or as a moving one where ``out`` ends in .gif."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gif":
        plots.animate(runs, problem, out, variable="path")
        return
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    ax = plots.trajectories(runs, problem, variable="path", ax=figure.add_subplot())
    ax.set_title(f"{problem.name}, {runs.sizes['step'] - 1} steps")
    figure.savefig(out, dpi=150)


def _table(runs: xr.Dataset, problem: problems.Problem) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer, rate", no_wrap=True)
    table.add_column("end", no_wrap=True)
    for column in ("value", "to optimum"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("status")
    optima = [np.asarray(optimum.params) for optimum in problem.optima]
    for i in np.argsort(runs.value.values):
        end = runs.end.values[i]
        distance = min((float(np.linalg.norm(end - each)) for each in optima), default=np.nan)
        status = gdjax.Status(int(runs.status.values[i]))
        table.add_row(
            str(runs.optimizer.values[i]),
            f"({end[0]:.5g}, {end[1]:.5g})",
            f"{runs.value.values[i]:.3e}",
            f"{distance:.2e}" if np.isfinite(distance) else "-",
            status.name.lower().replace("_", " "),
        )
    return table


def run(optimizers: list[str], problem: str, start: str | None, steps: int, out: Path) -> None:
    """The command."""
    entrants = [names.rated(text) for text in optimizers]
    for name, rate in entrants:
        entry = names.choose("optimizer", name, CATALOGUE)
        if rate is not None and "learning_rate" not in entry.arguments:
            raise typer.BadParameter(f"{name} takes no learning rate")
    chosen = names.choose("problem", problem, problems.catalogue)()
    if chosen.window is None:
        flat = sorted(name for name, make in problems.catalogue.items() if make().window is not None)
        raise typer.BadParameter(
            f"{problem} is no function of two variables to draw; choose {', '.join(flat)}"
        )
    if out.suffix not in PICTURES:
        raise typer.BadParameter(f"--out must end in {', '.join(PICTURES)}, got {out.name!r}")
    point = chosen.start() if start is None else jnp.asarray(names.numbers(start, "--start"))
    if point.shape != (2,):
        raise typer.BadParameter(f"--start must be two numbers, got {start!r}")
    runs = paths(entrants, chosen, point, steps)
    draw(runs, chosen, out)
    console = Console()
    console.print(_table(runs, chosen))
    console.print(f"\nThe picture is in {out}", highlight=False, soft_wrap=True)
