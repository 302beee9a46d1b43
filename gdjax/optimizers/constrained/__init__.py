"""Constraints: bounds, and any transformation on a sequence of unconstrained problems."""
