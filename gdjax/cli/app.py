"""What the commands are called and take; each imports what it needs when it runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="gdjax",
    help="Functional optimization in JAX: race optimizers, sweep hyperparameters, look at the runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache", help="Keep compiled programs for the next command, in the user's cache folder."
    ),
]


@app.command()
def demo(
    out: Out = Path("gdjax-demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the digits in each run.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for each learning rate.")] = 8,
    rates: Annotated[int, typer.Option(min=2, help="Learning rates for each optimizer.")] = 24,
    keep: Cache = True,
) -> None:
    """Sweep five optimizers over learning rates and seeds on handwritten digits.

    Trains a network with 32 hidden units by mini-batches, one compiled program an optimizer. Writes the
    labelled dataset (zarr), pictures of it and a race on Rosenbrock's function, and prints a table.

    [bold]Example[/bold]

      gdjax demo --out digits
    """
    from gdjax.cli import cache
    from gdjax.cli import demo as command

    with cache.programs(keep):
        command.run(out, epochs=epochs, seeds=seeds, rates=rates)


@app.command()
def race(
    optimizers: Annotated[
        list[str] | None,
        typer.Argument(help="Names, each as [bold]name=learning_rate[/bold] or alone.", show_default=False),
    ] = None,
    problem: Annotated[str, typer.Option(help="A problem of two variables.")] = "rosenbrock",
    start: Annotated[
        str | None, typer.Option(help="Two numbers, as [bold]=-1,1.5[/bold]; else the problem's own.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates that each optimizer makes.")] = 500,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The picture: .png, .pdf or .svg; .gif moves.")
    ] = Path("race.png"),
    keep: Cache = True,
) -> None:
    """Race optimizers on a function of two variables, draw their paths and print where they end.

    An optimizer without a learning rate takes the best of 23 between 1e-5 and 3, by its last value.

    [bold]Examples[/bold]

      gdjax race adam=0.05 momentum=1e-3 gradient_descent

      gdjax race adam nesterov --problem beale --start=-1,1.5 --steps 300 --out race.gif
    """
    from gdjax.cli import cache
    from gdjax.cli import race as command

    with cache.programs(keep):
        command.run(optimizers or command.DEFAULT, problem, start, steps, out)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="What to sweep, in TOML.", exists=True, dir_okay=False)],
    distributed: Annotated[
        bool, typer.Option("--distributed", help="This is one of several processes, each with its part.")
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="Host and port of process 0; SLURM and Cloud TPU need none of these.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many processes there are.")] = None,
    process: Annotated[int | None, typer.Option(min=0, help="Which of them this is.")] = None,
    keep: Cache = True,
) -> None:
    r"""Sweep what a TOML file describes, and write the labelled dataset chunk by chunk.

    Interrupted or killed, the same command goes on from there.

    [bold]Example file[/bold]

      problem = "mlp"                     # of: gdjax list problems

      optimizers = \["adam", "momentum"]   # of: gdjax list optimizers

      steps = 300

      seeds = 4                           # starting points and mini-batches

      batch_size = 64                     # left out: all data at every step

      record_every = 10                   # left out: no curves

      out = "runs.zarr"

      heatmap = "runs.png"                # left out: no picture

      \[axes]

      learning_rate = { geomspace = \[1e-4, 1.0, 13] }   # or linspace, logspace, or a list

      \[problem_options]                   # arguments of the problem

      hidden = \[32, 32]
    """
    from gdjax.cli import cache
    from gdjax.cli import sweep as command

    cluster = (coordinator, processes, process)
    if not distributed and cluster != (None, None, None):
        raise typer.BadParameter("--coordinator, --processes and --process need --distributed")
    with cache.programs(keep):
        command.run(file, command.Cluster(*cluster) if distributed else None)


@app.command()
def report(
    store: Annotated[
        Path, typer.Argument(help="The zarr store of a sweep, complete or not.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    by: Annotated[
        str, typer.Option(help="The variable that settings are judged by; less is better.")
    ] = "value",
    maximize: Annotated[bool, typer.Option("--maximize", help="More is better, as of an accuracy.")] = False,
    over: Annotated[
        list[str] | None,
        typer.Option(help="A dimension that medians are over; may be repeated. Default: seed."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page; else the store's name.")] = None,
) -> None:
    """Write one page of a sweep that needs no network: table, maps, curves, how to run it again.

    [bold]Example[/bold]

      gdjax report runs.zarr -o report.html
    """
    from gdjax.cli import report as command

    command.run(store, out, by, over or ["seed"], title, maximize)


class Kind(StrEnum):
    """What can be listed."""

    optimizers = "optimizers"
    problems = "problems"
    schedules = "schedules"


@app.command("list")
def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List what there is by name, a line each.

    [bold]Example[/bold]

      gdjax list problems
    """
    from gdjax.cli import listing

    listing.run(kind.value)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"gdjax {version('gdjax')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Functional optimization in JAX: race optimizers, sweep hyperparameters, look at the runs."""
