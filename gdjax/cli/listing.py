"""``gdjax list``: names with the first sentence of their docstrings."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["run"]


def _entries(kind: str) -> Mapping[str, Any]:
    if kind == "optimizers":
        from gdjax.optimizers.catalogue import CATALOGUE

        return {name: entry.constructor for name, entry in CATALOGUE.items()}
    if kind == "problems":
        from gdjax import problems

        return problems.catalogue
    from gdjax import schedules

    return {name: getattr(schedules, name) for name in schedules.__all__}


def _plain(line: str) -> str:
    """A docstring's first line without its markup."""
    return re.sub(r":math:|``|`", "", line).strip()


def run(kind: str) -> None:
    """Prints a table of names, arguments and what they are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "arguments", "what it is"):
        table.add_column(column, overflow="fold")
    for name, constructor in sorted(_entries(kind).items()):
        names = ", ".join(inspect.signature(constructor).parameters)
        table.add_row(name, names, _plain((inspect.getdoc(constructor) or "").split("\n")[0]))
    Console().print(table)
