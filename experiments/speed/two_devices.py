"""Two devices beside one: ``python experiments/speed/two_devices.py``.

The cases of `compiled_sweeps`, and Rosenbrock from many starts in lanes, in a process with two devices of the CPU.
Wall-clock seconds, the ways in turn. A second process that only counts says how many cores were free meanwhile: without
two there is nothing to gain.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

__all__ = ["main"]


def _count(seconds: float) -> int:
    """How far one counts in so many seconds of the clock."""
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        number += 1
    return number


def _free_cores(seconds: float = 1.0) -> float:
    """The pace of two processes that count over that of one: 2.0 where both cores are free."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_count, [0.1, 0.1])
        alone = pool.apply(_count, (seconds,))
        return sum(pool.map(_count, [seconds, seconds])) / alone


def _sweeps() -> dict[str, Any]:
    import compiled_sweeps as sweeps
    import jax
    import many_small_runs as w4

    import gdjax

    def trial(start):
        return gdjax.Run(w4.rosenbrock, start, gdjax.bfgs(), max_steps=w4.STEPS)

    found: dict[str, Any] = {"w4, bfgs in lanes": (trial, {"start": np.asarray(w4.starts(1024))})}
    for name, case in sweeps.CASES.items():
        made = case()
        seeds = {"w1": 256}.get(name, made.seeds)
        found[f"{name}, {len(made.rates)} x {seeds}"] = (
            sweeps.trial_of(made),
            {"rate": made.rates, "seed": np.arange(seeds, dtype=np.int32)},
        )
    assert jax.device_count() == 2
    return found


def _inside(repeats: int) -> None:
    import gdjax
    from gdjax.bench.report import table

    rows = []
    for name, (trial, axes) in _sweeps().items():
        seconds: dict[Any, list[float]] = {mesh: [] for mesh in (None, "all")}
        values = {
            mesh: np.asarray(gdjax.sweep(trial, axes, mesh=mesh, progress=False).value) for mesh in seconds
        }
        np.testing.assert_allclose(np.median(values["all"]), np.median(values[None]), rtol=1e-3, atol=1e-6)
        for _ in range(repeats):
            for mesh, times in seconds.items():
                begin = time.perf_counter()
                gdjax.sweep(trial, axes, mesh=mesh, progress=False)
                times.append(time.perf_counter() - begin)
        ratios = np.array(seconds[None]) / np.array(seconds["all"])
        spent = [f"{1e3 * np.median(times):.1f}" for times in seconds.values()]
        rows.append([name, *spent, f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"])
    print(table(["sweep", "one device, ms", "two, ms", "ratio"], rows))


def main(argv: list[str]) -> None:
    """Measures the free cores, then the sweeps in a process with two devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.inside:
        _inside(options.repeats)
        return
    print(f"free cores before: {_free_cores():.2f}", flush=True)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    command = [sys.executable, __file__, "--inside", "--repeats", str(options.repeats)]
    subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, check=True)
    print(f"free cores after: {_free_cores():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
