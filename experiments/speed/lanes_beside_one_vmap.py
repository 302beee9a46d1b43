r"""Lanes with refill beside one ``vmap``, in turn: ``python experiments/speed/lanes_beside_one_vmap.py [CASE ...]``.

- ``bfgs``, ``optax``: Rosenbrock in 20 dimensions from random starts to a gradient of 1e-6 (see `many_small_runs`), by
  `gdjax.bfgs` and by `optax.lbfgs`, whose line search loops inside a step.
- ``rates``: gradient descent on a quadratic to a tolerance, learning rates over 2.5 decades.
- ``hopeless``: 256 runs of ``bfgs``, and the same with one among them that cannot reach its tolerance: stopped because
  it stalls, and stopped by a cap.
- ``growth``: 16 to 65,536 runs of Rosenbrock in two dimensions, 2000 steps of Adam, in chunks of 1024.

Seconds are CPU seconds of the process; a ratio is the median of the ratios of each turn.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import many_small_runs as w4
import numpy as np
import optax
from compiled_sweeps import w1

import gdjax
from gdjax.bench.report import table

__all__ = ["main"]

Ways = dict[str, Callable[[], Any]]


def _turns(ways: Ways, repeats: int) -> dict[str, np.ndarray]:
    """CPU seconds of each way in each turn, after a first call."""
    for call in ways.values():
        call()
    seconds = {name: np.zeros(repeats) for name in ways}
    for turn in range(repeats):
        for name, call in ways.items():
            begin = time.process_time()
            call()
            seconds[name][turn] = time.process_time() - begin
    return seconds


def _sweep(trial: Callable[..., gdjax.Run], axes: dict[str, Any], lanes: Any = "auto") -> Any:
    """A sweep as something to call."""
    return functools.partial(gdjax.sweep, trial, axes, lanes=lanes, progress=False)


def _ratio(seconds: dict[str, np.ndarray], slow: str, fast: str) -> str:
    ratios = seconds[slow] / seconds[fast]
    return f"{np.median(ratios):.2f} ({np.min(ratios):.2f} to {np.max(ratios):.2f})"


def _to_a_gradient(optimizer: Callable[[], Any]) -> Callable[..., gdjax.Run]:
    stop = gdjax.stopping.residual_below(w4.TOLERANCE, scale=1.0)

    def trial(start):
        return gdjax.Run(w4.rosenbrock, start, optimizer(), stop=stop, max_steps=w4.STEPS)

    return trial


def _bare_tick(trial: Callable[..., gdjax.Run], starts: jax.Array, ticks: int = 500) -> Callable[[], Any]:
    """So many steps of all runs at once, and nothing else."""

    def through(starts):
        states = jax.vmap(lambda start: trial(start).init())(starts)
        step = jax.vmap(lambda start, state: trial(start).step(state))
        return jax.lax.fori_loop(0, ticks, lambda _, states: step(starts, states), states).answer.value

    call = jax.jit(through).lower(starts).compile()
    return lambda: jax.block_until_ready(call(starts))


def bfgs(repeats: int, runs: int) -> list[list[str]]:
    """Lanes beside one vmap, optax's L-BFGS and the ideal."""
    starts = w4.starts(runs)
    trial, axes = _to_a_gradient(gdjax.bfgs), {"start": starts}
    found = gdjax.sweep(trial, axes, progress=False)
    lanes, ticks = found.attrs["lanes"], 150
    peer = w4.optax_lbfgs()
    ways = {
        "lanes": _sweep(trial, axes),
        "one vmap": _sweep(trial, axes, None),
        "optax": lambda: jax.block_until_ready(peer(starts)),
        "bare": _bare_tick(trial, starts[:lanes], ticks),
    }
    seconds = _turns(ways, repeats)
    needed = int((found.steps + 1).sum()) / lanes
    seconds["ideal"] = needed * seconds["bare"] / ticks
    steps = found.steps.values
    note = f"{lanes} lanes, {found.attrs['ticks']} ticks, steps {steps.mean():.0f} mean, {steps.max()} most"
    return [
        ["bfgs: lanes / one vmap", _ratio(seconds, "one vmap", "lanes"), note],
        ["bfgs: lanes / vmap of optax.lbfgs", _ratio(seconds, "optax", "lanes"), f"{runs} runs"],
        [
            "bfgs: lanes / ideal, in seconds",
            _ratio(seconds, "lanes", "ideal"),
            f"{needed:.0f} ticks needed, {1e6 * np.min(seconds['bare']) / ticks:.0f} us each at best",
        ],
    ]


def optax_in_lanes(repeats: int, runs: int) -> list[list[str]]:
    """The same run of optax's L-BFGS in lanes and under one vmap."""
    trial, axes = _to_a_gradient(optax.lbfgs), {"start": w4.starts(runs)}
    found = gdjax.sweep(trial, axes, progress=False)
    peer = w4.optax_lbfgs()
    ways = {
        "lanes": _sweep(trial, axes),
        "one vmap": _sweep(trial, axes, None),
        "bare": lambda: jax.block_until_ready(peer(axes["start"])),
    }
    seconds = _turns(ways, repeats)
    note = f"{found.attrs['lanes']} lanes, steps {float(found.steps.mean()):.0f} mean, {int(found.steps.max())} most"
    return [
        ["optax.lbfgs: lanes / one vmap", _ratio(seconds, "one vmap", "lanes"), note],
        ["optax.lbfgs: lanes / its own vmap, by hand", _ratio(seconds, "bare", "lanes"), f"{runs} runs"],
    ]


def _quadratic(x: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(jnp.linspace(1.0, 10.0, 20) * x**2)


def _descent(rate: Any, seed: Any) -> gdjax.Run:
    start = jax.random.normal(jax.random.key(seed), (20,))
    stop = gdjax.stopping.residual_below(1e-3)
    return gdjax.Run(_quadratic, start, gdjax.gradient_descent(rate), stop=stop, max_steps=20_000)


def rates(repeats: int, runs: int) -> list[list[str]]:
    """Small rates need some hundred times the steps of large ones."""
    axes = {"rate": np.logspace(-2.5, 0, runs // 4) * 0.18, "seed": np.arange(4)}
    found = gdjax.sweep(_descent, axes, progress=False)
    ways = {"lanes": _sweep(_descent, axes), "one vmap": _sweep(_descent, axes, None)}
    seconds = _turns(ways, repeats)
    note = f"{found.attrs['lanes']} lanes, steps {float(found.steps.mean()):.0f} mean, {int(found.steps.max())} most"
    return [["gradient descent, 2.5 decades: lanes / one vmap", _ratio(seconds, "one vmap", "lanes"), note]]


def hopeless(repeats: int, runs: int = 256) -> list[list[str]]:
    """One run with a tolerance below what rounding allows, in the middle of the others."""
    start, impossible = w4.starts(runs), np.where(np.arange(runs) == runs // 2, -1.0, w4.TOLERANCE)
    rows = []

    def stalled(point):
        below = gdjax.stopping.residual_below(point["tolerance"], scale=1.0)
        stop = gdjax.stopping.any_of(below, gdjax.stopping.stalled(50))
        return gdjax.Run(w4.rosenbrock, point["start"], gdjax.bfgs(), stop=stop, max_steps=w4.STEPS)

    def capped(point):
        stop = gdjax.stopping.residual_below(point["tolerance"])
        return gdjax.Run(_quadratic, point["start"], gdjax.gradient_descent(0.1), stop=stop, max_steps=1000)

    for name, trial in (("stalls", stalled), ("runs to 1000 steps", capped)):
        easy = {"point": {"start": start, "tolerance": np.full(runs, w4.TOLERANCE)}}
        hard = {"point": {"start": start, "tolerance": impossible}}
        seconds = _turns({"without": _sweep(trial, easy), "with": _sweep(trial, hard)}, repeats)
        found = gdjax.sweep(trial, hard, progress=False)
        steps = found.steps.values
        note = f"{steps[runs // 2]} steps, the others {np.median(steps):.0f}, {found.attrs['lanes']} lanes"
        rows.append([f"one of {runs} {name}: with / without", _ratio(seconds, "with", "without"), note])
    return rows


def growth(repeats: int, runs: int = 65_536) -> list[list[str]]:
    """Seconds a run as the sweep grows, its memory bounded by the chunk."""
    del repeats
    case, rows = w1(), []

    def trial(rate, seed):
        return gdjax.Run(
            case.objective, case.start(seed), case.optimizer(rate), stop=None, max_steps=case.steps
        )

    for count in (16, 256, 4096, runs):
        axes = {"rate": np.logspace(-4, -1, 4), "seed": np.arange(count // 4)}
        call = _sweep(trial, axes)
        call = functools.partial(call, chunk=1024)
        call()
        begin = time.process_time()
        found = call()
        seconds = time.process_time() - begin
        rows.append(
            [f"W1, {count} runs", f"{1e6 * seconds / count:.0f} us a run", f"chunk {found.attrs['chunk']}"]
        )
    return rows


CASES = {"bfgs": bfgs, "optax": optax_in_lanes, "rates": rates, "hopeless": hopeless, "growth": growth}


def main(argv: list[str]) -> None:
    """Runs the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; all if none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1024, help="of bfgs, optax and rates")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}: choose from {', '.join(CASES)}")
    jax.config.update("jax_enable_x64", True)
    for name in options.cases:
        many = () if name in ("hopeless", "growth") else (options.runs,)
        print(table(["what", "ratio", "how"], CASES[name](options.repeats, *many)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
