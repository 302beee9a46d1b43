"""Sweeps beside what one would write by hand: ``python experiments/speed/compiled_sweeps.py``.

Three cases (learning rates x seeds), each run in the same process and turn by turn: `gdjax.sweep`, one flat
``vmap`` of a bare optax loop (no status, no answer, nothing checked; with mini-batches also once with value
and gradient over all data at the end, as a result has them), a Python loop of compiled bare runs, and
PyTorch where it is installed. Same data, same mini-batches (PyTorch draws its own), and the same
results, which is checked.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdjax
from gdjax.problems import datasets

__all__ = ["CASES", "Case", "bare_loop", "draws", "main", "trial_of"]


class Case(NamedTuple):
    """One task.

    Attributes:
      title: what it is.
      objective: a function of params, or an objective that draws mini-batches.
      start: ``seed -> params``.
      optimizer: ``learning rate -> gradient transformation``.
      steps: updates a run.
      rates: the learning rates.
      seeds: how many.
      torch: ``(rate, seed) -> None``, one run in PyTorch.
      data: what mini-batches are drawn from, or None.
      tolerance: of the final values of 9 runs in 10, relative.
    """

    title: str
    objective: Any
    start: Callable[[jax.Array], Any]
    optimizer: Callable[[Any], optax.GradientTransformation]
    steps: int
    rates: np.ndarray
    seeds: int
    torch: Callable[[float, int], Any]
    data: Any
    tolerance: float

    @property
    def runs(self) -> int:
        return len(self.rates) * self.seeds


def _in_torch(name: str, *data: Any) -> Callable[..., None]:
    """A run of `compiled_sweeps_torch`; PyTorch is imported when it is first called."""

    def run(rate, seed):
        getattr(importlib.import_module("compiled_sweeps_torch"), name)(*data, rate, seed)

    return run


def _rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def w1() -> Case:
    """Rosenbrock, 2000 steps of Adam."""
    return Case(
        "W1 Rosenbrock 2-D, Adam, 2000 steps",
        _rosenbrock,
        lambda seed: jax.random.uniform(jax.random.key(seed), (2,), minval=-2.0, maxval=2.0),
        optax.adam,
        2000,
        np.logspace(-4, -1, 64).astype(np.float32),
        16,
        _in_torch("rosenbrock"),
        None,
        1e-3,
    )


def _logistic(params, batch):
    weights, bias = params["weights"], params["bias"]
    margins = (batch.features @ weights + bias) * (2.0 * batch.targets - 1.0)
    return jnp.mean(jax.nn.softplus(-margins))


def w2() -> Case:
    """Logistic regression, 500 steps of SGD."""
    data = datasets.breast_cancer()
    features = (data.features - data.features.mean(axis=0)) / data.features.std(axis=0)
    data = data._replace(features=features)
    return Case(
        "W2 logistic regression, breast_cancer, SGD, batch 64, 500 steps",
        gdjax.finite_sum(_logistic, data, batch_size=64),
        lambda seed: {
            "weights": 0.01 * jax.random.normal(jax.random.key(seed), (30,)),
            "bias": jnp.zeros(()),
        },
        optax.sgd,
        500,
        np.logspace(-3, 0, 32).astype(np.float32),
        8,
        _in_torch("logistic", data),
        data,
        1e-4,
    )


def _mlp(params, batch):
    hidden = jax.nn.relu(batch.features @ params["w1"] + params["b1"][None])
    logits = hidden @ params["w2"] + params["b2"][None]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets))


def _mlp_start(seed):
    first, second = jax.random.split(jax.random.key(seed))
    return {
        "w1": jax.random.normal(first, (64, 32)) / 8.0,
        "b1": jnp.zeros(32),
        "w2": jax.random.normal(second, (32, 10)) / 32.0**0.5,
        "b2": jnp.zeros(10),
    }


def w3() -> Case:
    """A small network, 10 epochs of Adam."""
    digits = datasets.digits()
    data = digits._replace(features=digits.features / 16)
    return Case(
        "W3 MLP 64-32-10, digits, Adam, batch 64, 10 epochs",
        gdjax.finite_sum(_mlp, data, batch_size=64),
        _mlp_start,
        optax.adam,
        280,
        np.logspace(-4, -1.5, 16).astype(np.float32),
        4,
        _in_torch("mlp", data),
        data,
        1e-3,
    )


def w3_wide() -> Case:
    """W3 with 1024 runs: more than caches hold at a time."""
    case = w3()
    return case._replace(
        title=f"{case.title}, 1024 runs", rates=np.logspace(-4, -1.5, 64).astype(np.float32), seeds=16
    )


CASES = {"w1": w1, "w2": w2, "w3": w3, "w3_wide": w3_wide}


def draws(case: Case) -> bool:
    """Whether a case has mini-batches."""
    return isinstance(case.objective, gdjax.Objective)


def trial_of(case: Case) -> Callable[..., gdjax.Run]:
    """A case as a function of learning rate and seed."""

    def trial(rate, seed):
        return gdjax.Run(
            case.objective,
            case.start(seed),
            case.optimizer(rate),
            stop=None,
            max_steps=case.steps,
            key=jax.random.key(seed) if draws(case) else None,
        )

    return trial


def bare_loop(case: Case) -> Callable[..., Any]:
    """The loop one writes by hand: a gradient, an update, and nothing to say how it went."""

    def run(rate, seed):
        optimizer, key = case.optimizer(rate), jax.random.key(seed)

        def step(carry, count):
            params, state = carry
            loss = case.objective.at(case.objective.sample(key, count)) if draws(case) else case.objective
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = case.start(seed)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(case.steps))
        return params

    return run


def _flat(case: Case) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """All bare loops under one ``vmap``, compiled, and what it is called with: a rate and a seed a run."""
    seeds = np.tile(np.arange(case.seeds, dtype=np.int32), len(case.rates))
    lanes = jnp.asarray(np.repeat(case.rates, case.seeds)), jnp.asarray(seeds)
    return jax.jit(jax.vmap(bare_loop(case))).lower(*lanes).compile(), lanes


def _ways(case: Case, flat: Any, lanes: tuple[jax.Array, jax.Array]) -> dict[str, tuple[int, Callable]]:
    """For each way how many runs one call makes, and the call."""
    seeds = np.arange(case.seeds, dtype=np.int32)
    trial, bare = trial_of(case), bare_loop(case)
    single = jax.jit(bare)
    axes = {"rate": jnp.asarray(case.rates), "seed": jnp.asarray(seeds)}
    some = np.linspace(0, case.runs - 1, min(case.runs, 48)).astype(int)
    points = [(lanes[0][i], lanes[1][i]) for i in some]

    ways = {
        "gdjax.sweep": (case.runs, lambda: gdjax.sweep(trial, axes, progress=False, params=True)),
        "flat vmap": (case.runs, lambda: jax.block_until_ready(flat(*lanes))),
        "loop of compiled runs": (len(points), lambda: [jax.block_until_ready(single(*p)) for p in points]),
    }
    if draws(case):  # what a result says: value and residual over all data
        over_all = jax.jit(
            jax.vmap(lambda *p: optax.tree.norm(jax.value_and_grad(case.objective.full)(bare(*p))))
        )
        ways["the same, evaluated"] = (case.runs, lambda: jax.block_until_ready(over_all(*lanes)))
    if importlib.util.find_spec("torch"):
        ways["PyTorch loop"] = (1, lambda: case.torch(float(case.rates[len(case.rates) // 2]), 0))
    return ways


def _values(case: Case, params: Any) -> np.ndarray:
    """The objective over all data at params with two leading axes."""
    full = case.objective.full if draws(case) else case.objective
    return np.asarray(jax.jit(jax.vmap(jax.vmap(full)))(params))


def _check(case: Case, ways: dict[str, tuple[int, Callable[[], Any]]]) -> tuple[float, int]:
    """The relative difference of final values between the sweep and the flat vmap that 9 of 10 runs keep.

    With it the bytes that the sweep's program takes.

    The rest may differ in float32: at the largest rates runs bounce about the minimum, and rounding
    decides where they stand at the last step.
    """
    dataset, grid = ways["gdjax.sweep"][1](), (len(case.rates), case.seeds)
    flat = jax.tree.map(lambda leaf: leaf.reshape(*grid, *leaf.shape[1:]), ways["flat vmap"][1]())
    expected = _values(case, flat)
    found = np.asarray(dataset.value)
    scale = np.abs(expected) + 1e-3 * np.median(np.abs(expected))
    worst = float(np.quantile(np.abs(found - expected) / scale, 0.9))
    if not worst <= case.tolerance:
        raise AssertionError(f"{case.title}: values differ by {worst:.1e} from the flat vmap's")
    return worst, dataset.attrs["program_bytes"]


def _measure(ways: dict[str, tuple[int, Callable[[], Any]]], repeats: int) -> dict[str, float]:
    """Median CPU seconds a run, the ways taken in turn; the slow ones less often."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    slow = {"loop of compiled runs": 5, "PyTorch loop": 8}
    for turn in range(repeats):
        for name, (runs, call) in ways.items():
            if turn % slow.get(name, 1) == 0:
                begin = time.process_time()
                call()
                seconds[name].append((time.process_time() - begin) / runs)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def report(case: Case, repeats: int) -> str:
    """Checks, measures, and puts it into a table."""
    flat, lanes = _flat(case)
    ways = _ways(case, flat, lanes)
    worst, nbytes = _check(case, ways)
    whole = flat.memory_analysis()
    whole = whole.temp_size_in_bytes + whole.output_size_in_bytes
    for _, call in ways.values():
        call()
    seconds = _measure(ways, repeats)
    base = seconds["flat vmap"]
    lines = [f"{case.title}: {len(case.rates)} rates x {case.seeds} seeds (values agree to {worst:.0e})"]
    for name, spent in seconds.items():
        lines.append(f"  {name:22s} {1 / spent:12,.1f} runs/s {base / spent:9.3f} x flat vmap")
    lines.append(f"  memory: gdjax.sweep {nbytes / 1e6:.1f} MB, flat vmap {whole / 1e6:.1f} MB")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs the cases named, or the first three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["w1", "w2", "w3"], help=f"of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args(argv)
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}: choose from {', '.join(CASES)}")
    for name in options.cases:
        print(report(CASES[name](), options.repeats), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
