"""Sweeps: many runs as one compiled program, and what came of them as one labelled dataset."""

from gdjax.sweeps.axes import Static, static
from gdjax.sweeps.designs import Range, integers, log_uniform, random, sobol, uniform
from gdjax.sweeps.grid import sweep
from gdjax.sweeps.lanes import Lanes
from gdjax.sweeps.pruning import Halving
from gdjax.sweeps.reading import best, rank, to_dataframe
from gdjax.sweeps.tuning import tuned_lanes

__all__ = [
    "Halving",
    "Lanes",
    "Range",
    "Static",
    "best",
    "integers",
    "log_uniform",
    "random",
    "rank",
    "sobol",
    "static",
    "sweep",
    "to_dataframe",
    "tuned_lanes",
    "uniform",
]
