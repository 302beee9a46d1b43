"""Stop criteria: pure pairs (init, update) that look at each `gdjax.types.Step` and return a status."""

from gdjax.stopping.criteria import (
    StopCriterion,
    all_of,
    any_of,
    as_criterion,
    diverged,
    patience,
    residual_below,
    stalled,
    value_below,
)
from gdjax.stopping.stationarity import DEFAULT, stationary

__all__ = [
    "DEFAULT",
    "StopCriterion",
    "all_of",
    "any_of",
    "as_criterion",
    "diverged",
    "patience",
    "residual_below",
    "stalled",
    "stationary",
    "value_below",
]
