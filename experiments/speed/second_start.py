"""The same script again, with JAX's cache of compiled programs: ``python experiments/speed/second_start.py [w1 demo]``.

Each start is a process of its own, imports included: the first with an empty cache, the second with what the first
has left. ``w1`` to ``w3`` are the sweeps of `sweeps_from_cold`, a method's name is one `gdjax.minimize` on
Rosenbrock's function in ten dimensions, ``demo`` is ``gdjax demo``, and ``import`` starts JAX and does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["CASES", "main", "starts"]

METHODS = ("bfgs", "lbfgs", "trust_region", "levenberg_marquardt")
CASES = ("import", "w1", "w2", "w3", *METHODS, "demo")


def _work(case: str) -> None:
    """What is timed, in a process of its own."""
    import jax
    import jax.numpy as jnp

    import gdjax

    def residuals(x):
        return jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])

    if case == "import":
        jax.block_until_ready(jnp.zeros(3) + 1)
    elif case == "demo":
        from gdjax.cli import demo

        with tempfile.TemporaryDirectory() as folder:
            demo.run(Path(folder), epochs=12, seeds=8, rates=24)
    elif case in METHODS:
        fit = gdjax.least_squares(residuals)
        objective = fit if case == "levenberg_marquardt" else lambda x: jnp.sum(residuals(x) ** 2)
        jax.block_until_ready(gdjax.minimize(objective, jnp.full(10, -1.0), getattr(gdjax, case)()).params)
    else:
        import sweeps_from_cold

        list(sweeps_from_cold.WAYS["gdjax.sweep"](case))


def _start(case: str, folder: str) -> dict[str, float]:
    """Wall and CPU seconds of one process, and how many programs it found and made."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    begin = time.perf_counter()
    command = [sys.executable, __file__, case, "--once"]
    done = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
    return {"wall": time.perf_counter() - begin} | json.loads(done.stdout.splitlines()[-1])


def _once(case: str) -> None:
    import jax

    seen = []
    jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
    _work(case)
    counts = {"found": "cache_hits", "asked": "compile_requests_use_cache"}
    told = {name: seen.count(f"/jax/compilation_cache/{event}") for name, event in counts.items()}
    print(json.dumps(told | {"cpu": time.process_time()}))


def starts(case: str, repeats: int) -> list[dict[str, float]]:
    """The first start and the second: medians of what each took, and of the programs it found and asked for."""
    rows: list[list[dict[str, float]]] = [[], []]
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for row in rows:
                row.append(_start(case, folder))
    return [{name: float(np.median([one[name] for one in row])) for name in row[0]} for row in rows]


def main(argv: Sequence[str]) -> None:
    """Times the cases named, or all."""
    from gdjax.bench.report import table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.once:
        _once(options.cases[0])
        return
    lines = []
    for case in options.cases:
        first, second = starts(case, options.repeats)
        times = [
            f"{first[kind]:.2f}, {second[kind]:.2f}, {second[kind] / first[kind]:.2f}"
            for kind in ("wall", "cpu")
        ]
        lines.append([case, *times, f"{second['found']:.0f} of {second['asked']:.0f}"])
    print(table(["case", "first, second start, s; ratio", "CPU s; ratio", "programs found again"], lines))


if __name__ == "__main__":
    main(sys.argv[1:])
