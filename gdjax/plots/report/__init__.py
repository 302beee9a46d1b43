"""One self-contained page of a sweep: what won, tables, maps and curves, and how to run it again."""

from gdjax.plots.report.page import write

__all__ = ["write"]
