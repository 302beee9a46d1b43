"""Pictures of runs and sweeps: each takes a Dataset, draws into an Axes, and returns it.

Colours are told apart by line style and marker as well, so that the pictures read in grey and by
the colour-blind; maps are perceptually uniform. Pass ``ax=`` to draw into a figure of your own.
Nothing here shows a window or changes the backend.
"""

from gdjax.plots.curves import convergence
from gdjax.plots.heatmaps import heatmap
from gdjax.plots.paths import animate, trajectories
from gdjax.plots.sensitivity import basins, learning_rate_sensitivity

__all__ = ["animate", "basins", "convergence", "heatmap", "learning_rate_sensitivity", "trajectories"]
