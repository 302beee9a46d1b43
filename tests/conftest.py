"""What every test stands on: the CPU, strict ranks, fixed seeds, no window system."""

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

QUICK = "--xla_cpu_use_fusion_emitters=false"
"""XLA's older way to compile what it has fused, in half the time or less; gdjax takes it for small runs by itself.

Nearly all tests run a program of a few floats once, and what they wait for is the compiler. `XLA_FLAGS= python -m
pytest` leaves it to gdjax, as for users, and so does one of CI's runs of all tests. Not without LLVM's optimization,
which would halve it again: products and sums are then not fused, and a path in float32 that is settled by rounding
is another one.
"""


def _understood(flag):
    """Whether this jaxlib knows a flag: a process that is given one that it does not know is aborted."""
    parse = "from jaxlib import xla_client; xla_client.CompileOptions()"
    env = {**os.environ, "XLA_FLAGS": flag}
    return not subprocess.run([sys.executable, "-c", parse], env=env, capture_output=True).returncode


# JAX reads it when it first compiles. Asked once: workers inherit the answer.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = QUICK if _understood(QUICK) else ""

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


@pytest.fixture(scope="session")
def python():
    """A function that runs code in a fresh interpreter at the root of the tree, and returns what it printed.

    XLA's flags come on top of those that the tests have set.
    """

    def run(code, **environment):
        if "XLA_FLAGS" in environment:
            environment["XLA_FLAGS"] = f"{os.environ['XLA_FLAGS']} {environment['XLA_FLAGS']}"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def x64():
    """Float64 for one test; the setting before it comes back after it."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
