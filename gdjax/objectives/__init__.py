"""Objectives: what is minimized, what curvature and differentiation see of it, and derivatives of its solutions."""

from gdjax.objectives.objective import (
    Composite,
    Mean,
    Objective,
    ObjectiveLike,
    check_residuals,
    finite_sum,
    is_half_squares,
    is_least_squares,
    least_squares,
    supervised,
)

__all__ = [
    "Composite",
    "Mean",
    "Objective",
    "ObjectiveLike",
    "check_residuals",
    "finite_sum",
    "is_half_squares",
    "is_least_squares",
    "least_squares",
    "supervised",
]
