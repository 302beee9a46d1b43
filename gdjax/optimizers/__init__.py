"""Optimizers: one file a family, every method one gradient transformation; `catalogue` lists them by name."""
