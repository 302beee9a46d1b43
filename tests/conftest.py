"""What every test stands on: the CPU, strict ranks, fixed seeds, no window system."""

import gc
import itertools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", derandomize=True, deadline=None, max_examples=25, database=None, print_blob=True
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


MAPPED = 20_000
"""Memory maps at which a process lets go of its compiled programs: Linux allows 65,530 of them."""


def _maps():
    try:
        with open("/proc/self/maps", "rb") as file:
            return file.read().count(b"\n")
    except OSError:
        return 0


_turn = itertools.count()


@pytest.fixture(autouse=True)
def room_for_programs():
    """A compiled program takes up to some hundred maps, and a worker compiles thousands."""
    yield
    if next(_turn) % 8 == 0 and _maps() > MAPPED:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Float64 for one test; the setting before it comes back after it."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
