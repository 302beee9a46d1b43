"""``gdjax report STORE``: one page of a sweep."""

from pathlib import Path

import typer
from rich.console import Console

from gdjax.plots import report

__all__ = ["run"]


def run(store: Path, out: Path, by: str, over: list[str], title: str | None, maximize: bool) -> None:
    """The command."""
    if out.suffix not in (".html", ".htm"):
        raise typer.BadParameter(f"--out must end in .html, got {out.name!r}")
    try:
        report.write(store, out, by=by, over=over, title=title or store.stem, maximize=maximize)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    size = out.stat().st_size / 1e6
    Console().print(f"The report is in {out} ({size:.1f} MB)", highlight=False, soft_wrap=True)
