"""Sweeps: many runs as one compiled program, and what came of them as one labelled dataset."""

from gdjax.sweeps.axes import Static, static
from gdjax.sweeps.grid import sweep

__all__ = ["Static", "static", "sweep"]
