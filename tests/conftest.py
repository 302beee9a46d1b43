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

QUICK = (
    "--xla_cpu_use_fusion_emitters=false",  # the older way to compile what is fused; gdjax takes it by itself
    "--xla_backend_optimization_level=0",  # LLVM's optimization of every loop
    "--xla_cpu_parallel_codegen_split_count=1",  # one module for LLVM, not one for every few kernels
    # Both clone every loop again and again to learn how often it turns.
    "--xla_disable_hlo_passes=simplify-while-loops,while-loop-invariant-code-motion",
)
"""What XLA leaves out so that it compiles in less than half the time, to slower programs.

Nearly all tests run a program of a few floats once, and what they wait for is the compiler. `XLA_FLAGS= python -m
pytest` compiles as for users, and so does one of CI's runs of all tests. Without LLVM's optimization products and sums
are not fused: where rounding settles a path, a test compiles by `functions.optimized`.
"""


def _understood(*flags):
    """Whether this jaxlib knows the flags: a process that is given one that it does not know is aborted."""
    parse = "from jaxlib import xla_client; xla_client.CompileOptions()"
    env = {**os.environ, "XLA_FLAGS": " ".join(flags)}
    return not subprocess.run([sys.executable, "-c", parse], env=env, capture_output=True).returncode


# JAX reads it when it first compiles. Asked once: workers inherit the answer.
if "XLA_FLAGS" not in os.environ:
    known = QUICK if _understood(*QUICK) else filter(_understood, QUICK)
    os.environ["XLA_FLAGS"] = " ".join(known)

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


# A trace makes many short-lived objects and few cycles; the default looks for cycles at every 700 of them.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish():
    """What was imported stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


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
