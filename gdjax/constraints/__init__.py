"""Constraints: any transformation on a sequence of unconstrained problems."""

from gdjax.constraints.merit import MeritState, Multipliers
from gdjax.constraints.methods import augmented_lagrangian, log_barrier, quadratic_penalty

__all__ = ["MeritState", "Multipliers", "augmented_lagrangian", "log_barrier", "quadratic_penalty"]
