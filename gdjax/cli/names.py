"""Names that a user types: looked up with near matches, and read as numbers."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import typer

_T = TypeVar("_T")

__all__ = ["argument", "choose", "numbers", "rated"]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not there."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def choose(kind: str, name: str, known: Mapping[str, _T]) -> _T:
    """The entry of ``known`` under ``name``; a usage error with near matches where there is none."""
    if name not in known:
        raise typer.BadParameter(unknown(kind, name, known))
    return known[name]


def numbers(text: str, what: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{what} must be numbers separated by commas, got {text!r}") from None


def rated(text: str) -> tuple[str, float | None]:
    """``name`` or ``name=rate``."""
    name, equals, rate = text.partition("=")
    if not equals:
        return name, None
    try:
        return name, float(rate)
    except ValueError:
        raise typer.BadParameter(f"the learning rate in {text!r} is not a number") from None


def argument(text: object) -> str:
    """A number as it is shown in tables."""
    return f"{text:.3g}" if isinstance(text, float) else str(text)
