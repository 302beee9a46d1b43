"""Benchmarks: gdjax beside its peers, run as `python -m gdjax.bench`."""
