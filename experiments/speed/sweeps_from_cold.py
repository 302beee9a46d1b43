"""A sweep as people write it today, beside `gdjax.sweep`: ``python experiments/speed/sweeps_from_cold.py [w1 w2 w3]``.

The cases are those of `compiled_sweeps`. Each way runs in a process of its own; times are wall-clock times from its
start, imports and compilation included. A way that runs one after the other is timed on some runs, and its time for
the whole grid is extrapolated from them.
"""

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np

__all__ = ["main"]

_SAMPLE = {"loop of jitted steps": 6, "loop of compiled runs": 48, "PyTorch loop": 3}
"""How many runs are timed of what runs one after the other."""


def _case(name: str) -> Any:
    import compiled_sweeps as sweeps

    return sweeps.CASES[name]()


def _points(case: Any) -> list[tuple[Any, int]]:
    points = [(rate, seed) for rate in case.rates for seed in range(case.seeds)]
    return [points[i] for i in np.random.default_rng(0).permutation(len(points))]


def _sweep(name: str) -> Iterator[int]:
    import compiled_sweeps as sweeps

    import gdjax

    case = _case(name)
    axes = {"rate": case.rates, "seed": np.arange(case.seeds, dtype=np.int32)}
    yield int(gdjax.sweep(sweeps.trial_of(case), axes, progress=False, params=True).value.size)


def _flat_vmap(name: str) -> Iterator[int]:
    import compiled_sweeps as sweeps
    import jax

    case = _case(name)
    seeds = np.tile(np.arange(case.seeds, dtype=np.int32), len(case.rates))
    jax.block_until_ready(jax.jit(jax.vmap(sweeps.bare_loop(case)))(np.repeat(case.rates, case.seeds), seeds))
    yield case.runs


def _compiled_runs(name: str) -> Iterator[int]:
    import compiled_sweeps as sweeps
    import jax

    case = _case(name)
    run = jax.jit(sweeps.bare_loop(case))
    for rate, seed in _points(case):
        jax.block_until_ready(run(rate, seed))
        yield 1


def _jitted_steps(name: str) -> Iterator[int]:
    import compiled_sweeps as sweeps
    import jax
    import optax

    case = _case(name)
    mini_batches = sweeps.draws(case)

    @jax.jit
    def step(params, state, rate, key, count):
        loss = case.objective.at(case.objective.sample(key, count)) if mini_batches else case.objective
        updates, state = case.optimizer(rate).update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for rate, seed in _points(case):
        params, key = case.start(seed), jax.random.key(seed)
        state = case.optimizer(rate).init(params)
        for count in range(case.steps):
            params, state = step(params, state, rate, key, count)
        jax.block_until_ready(params)
        yield 1


@functools.cache
def _worker_run(name: str) -> Callable[..., Any]:
    """A worker's compiled run, kept between its tasks."""
    import compiled_sweeps as sweeps
    import jax

    return jax.jit(sweeps.bare_loop(_case(name)))


def _task(name: str, rate: Any, seed: int) -> list[np.ndarray]:
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(_worker_run(name)(rate, seed))]


def _pool(name: str) -> Iterator[int]:
    points = _points(_case(name))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for done in as_completed([pool.submit(_task, name, rate, seed) for rate, seed in points]):
            done.result()
            yield 1


def _torch_loop(name: str) -> Iterator[int]:
    case = _case(name)
    for rate, seed in _points(case):
        case.torch(float(rate), seed)
        yield 1


def _torch_vmap(name: str) -> Iterator[int]:
    import compiled_sweeps_torch as sweeps_torch

    case = _case(name)
    seeds = np.tile(np.arange(case.seeds), len(case.rates))
    sweeps_torch.mapped(name, case.data, np.repeat(case.rates, case.seeds), seeds, case.steps)
    yield case.runs


WAYS = {
    "gdjax.sweep": _sweep,
    "flat vmap by hand": _flat_vmap,
    "loop of compiled runs": _compiled_runs,
    "loop of jitted steps": _jitted_steps,
    "pool of processes, one a core": _pool,
    "PyTorch loop": _torch_loop,
    "torch.func.vmap": _torch_vmap,
}
"""Each yields how many runs more are done."""


def _time(case: str, way: str, begin: float) -> dict[str, float]:
    """Seconds from ``begin``, by the clock of the system, to the first result and to the whole grid."""
    total, done, first = int(_case(case).runs), 0, None
    for more in WAYS[way](case):
        done += more
        now = time.time() - begin
        first = (now, done) if first is None else first
        if done >= (_SAMPLE.get(way) or total):
            break
    assert first is not None
    rest = (total - done) * (now - first[0]) / max(1, done - first[1])
    return {"first": first[0], "whole": now + rest, "timed": done}


def _in_its_own_process(case: str, way: str) -> dict[str, float] | None:
    command = [sys.executable, __file__, case, "--way", way, "--begin", repr(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        print(f"{case}, {way}: {last[0]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _rows(case: str, repeats: int) -> list[list[str]]:
    found = {way: [_in_its_own_process(case, way) for _ in range(repeats)] for way in WAYS}
    times = {
        way: {key: float(np.median([one[key] for one in ran])) for key in ran[0]}
        for way, all_ran in found.items()
        if (ran := [one for one in all_ran if one])
    }
    ours, total = times["gdjax.sweep"]["whole"], _case(case).runs
    return [
        [
            f"{case}: {way}",
            f"{spent['first']:.1f}",
            f"{'' if spent['timed'] >= total else '~'}{spent['whole']:.1f}",
            f"{spent['whole'] / ours:.2f}",
        ]
        for way, spent in times.items()
    ]


def main(argv: list[str]) -> None:
    """Times the cases named, or all."""
    from gdjax.bench.report import table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["w1", "w2", "w3"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.way:
        print(json.dumps(_time(options.cases[0], options.way, options.begin)))
        return
    rows = [row for case in options.cases for row in _rows(case, options.repeats)]
    print(table(["way", "first result, s", "whole grid, s", "x gdjax.sweep"], rows))


if __name__ == "__main__":
    main(sys.argv[1:])
