"""Sweeps: many runs as one compiled program, and what came of them as one labelled dataset."""

from gdjax.sweeps.axes import Static, static
from gdjax.sweeps.designs import Range, integers, log_uniform, uniform
from gdjax.sweeps.grid import sweep
from gdjax.sweeps.lanes import Lanes

__all__ = ["Lanes", "Range", "Static", "integers", "log_uniform", "static", "sweep", "uniform"]
