"""What a store costs, and what kills cost with one: ``python experiments/speed/cost_of_a_store.py``.

Overhead: the same sweep with and without ``store``, turn by turn in one process, compiled before. The store's
time has everything in it: the fingerprint, the measured first box, the layout, every write, the opening.

Kills: ``--kills 50`` runs a sweep of 2048 runs in processes of their own, and ends each with SIGKILL at a random
moment, from its start on. Then one more runs to the end. Counted are boxes that were run though they were
complete, and cells that differ in any bit from those of a process that was left alone.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compiled_sweeps as cases
import jax
import jax.numpy as jnp
import many_small_runs as w4
import numpy as np
import xarray

import gdjax

__all__ = ["kills", "main", "overhead"]

RATES, SEEDS = 128, 16


def _w2() -> tuple[Callable[..., Any], dict[str, Any]]:
    case = cases.w2()
    return cases.trial_of(case), {"rate": jnp.asarray(case.rates), "seed": jnp.arange(512)}


def _w3() -> tuple[Callable[..., Any], dict[str, Any]]:
    case = cases.w3()
    return cases.trial_of(case), {"rate": jnp.asarray(case.rates), "seed": jnp.arange(32)}


def _w4() -> tuple[Callable[..., Any], dict[str, Any]]:
    starts = w4.starts(16_384)

    def trial(start):
        stop = gdjax.stopping.residual_below(w4.TOLERANCE, scale=1.0)
        return gdjax.Run(w4.rosenbrock, start, gdjax.bfgs(), stop=stop, max_steps=w4.STEPS)

    return trial, {"start": starts}


CASES = {"w2": _w2, "w3": _w3, "w4": _w4}


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def overhead(name: str, repeats: int) -> str:
    """One line: what a store costs at one case, as medians of ratios of neighbours."""
    trial, axes = CASES[name]()

    def plain():
        return gdjax.sweep(trial, axes, progress=False)

    def stored():
        with tempfile.TemporaryDirectory(dir=".") as folder:
            return gdjax.sweep(trial, axes, progress=False, store=Path(folder, "runs.zarr")).attrs

    runs, boxes = plain().attrs["runs"], stored()["chunk"]
    pairs = [(_timed(plain), _timed(stored)) for _ in range(repeats)]
    wall, cpu = (float(np.median([b[i] / a[i] for a, b in pairs])) for i in range(2))
    seconds = float(np.median([a[0] for a, _ in pairs]))
    return (
        f"{name}: {runs} runs, {seconds:.2f} s without a store; with one, in boxes of {boxes}: "
        f"{wall:.3f} x the time, {cpu:.3f} x the CPU time (medians of {repeats} pairs)"
    )


def _task() -> tuple[Callable[..., Any], dict[str, Any]]:
    def trial(rate, seed):
        start = jax.random.uniform(jax.random.key(seed), (2,), minval=-2.0, maxval=2.0)
        return gdjax.Run(
            lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
            start,
            gdjax.adam(rate),
            stop=None,
            max_steps=2000,
            record=gdjax.every(50, lambda step: {"loss": step.value}),
        )

    rates = np.geomspace(1e-4, 1e-1, RATES).astype(np.float32)
    return trial, {"rate": rates, "seed": np.arange(SEEDS, dtype=np.int32)}


def _child(path: str) -> None:
    """One process: a box a rate, each said when done."""
    trial, axes = _task()

    def say(chunk):
        print(int(np.searchsorted(axes["rate"], chunk.rate.values[0])), flush=True)

    gdjax.sweep(trial, axes, chunk=SEEDS, store=path, progress=False, watch=say)
    print("end", flush=True)


def _complete(path: Path) -> set[int]:
    folder = path / "manifest" / "record"
    names = [entry.name.removesuffix(".0") for entry in folder.iterdir()] if folder.exists() else []
    return {int(name) for name in names if name.isdecimal()}


def _started(path: Path) -> Any:
    command = [sys.executable, __file__, "--child", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def kills(count: int, path: Path) -> dict[str, int]:
    """Kills ``count`` processes on their way through one sweep, and lets one more end it.

    Returns:
      ``kills``; ``early``, those before a first box; ``runs``; ``lost`` and ``differing`` runs; ``again``, runs
      made though they were complete; ``redone``, runs made whose row was not yet on the disk.
    """
    draw, again, made, early = random.Random(0), 0, 0, 0
    for turn in range(count + 1):
        before = _complete(path)
        with _started(path) as process:
            assert process.stdout is not None
            if turn < count:
                boxes = draw.randrange(4)
                lines = [process.stdout.readline() for _ in range(boxes)]
                time.sleep(draw.uniform(0, 0.05) if boxes else draw.uniform(0, 6.0))
                process.send_signal(signal.SIGKILL)
            else:
                lines = []
            lines += process.stdout.read().splitlines()
        run = {int(line) for line in lines if line.strip().isdecimal()}
        early += not run
        again += len(run & before)
        made += len(run)
    trial, axes = _task()
    expected = gdjax.sweep(
        trial, axes, chunk=SEEDS, progress=False, store=path.with_name("alone.zarr")
    ).load()
    found = xarray.open_zarr(str(path), chunks=None).load()
    same = np.ones((RATES, SEEDS), bool)
    for name in expected:
        bits = [np.frombuffer(data[name].values.tobytes(), np.uint8) for data in (expected, found)]
        same &= (bits[0] == bits[1]).reshape(RATES, SEEDS, -1).all(axis=-1)
    lost = int((found.status.values == gdjax.Status.RUNNING).sum())
    return {
        "kills": count,
        "early": early,
        "runs": RATES * SEEDS,
        "lost": lost,
        "differing": int((~same).sum()),
        "again": again * SEEDS,
        "redone": (made - RATES) * SEEDS,
    }


def main(argv: list[str]) -> None:
    """Measures the cases named, or all; with ``--kills``, that instead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; all if none")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--kills", type=int, default=0, help="kill so many processes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        _child(options.child)
    elif options.kills:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            print(kills(options.kills, Path(folder, "runs.zarr")), flush=True)
    else:
        unknown = sorted(set(options.cases) - set(CASES))
        if unknown:
            parser.error(f"unknown case {unknown[0]!r}: choose from {', '.join(CASES)}")
        for name in options.cases:
            print(overhead(name, options.repeats), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
