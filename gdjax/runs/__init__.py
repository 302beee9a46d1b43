"""Runs: one optimization from its start to its result."""
