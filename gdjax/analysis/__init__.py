"""Looking at what a run has found."""

from gdjax.analysis.kkt import KKT, kkt

__all__ = ["KKT", "kkt"]
