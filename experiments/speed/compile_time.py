"""What it saves to compile small runs the quick way, and what it costs: ``python experiments/speed/compile_time.py``.

`gdjax.minimize` called by itself, which is compiled the quick way where a run is small, beside the same inside
``jax.jit``, which is not. CPU seconds to compile, and CPU milliseconds a call once compiled.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import many_small_runs as w4
import numpy as np

import gdjax
from gdjax.bench.ours import construct
from gdjax.bench.report import table

__all__ = ["PROBLEMS", "main", "measure"]


def _logistic(rows: int, columns: int) -> Callable[[jax.Array], jax.Array]:
    draws = np.random.default_rng(0)
    features = jnp.asarray(draws.normal(size=(rows, columns)))
    targets = jnp.asarray(draws.integers(0, 2, rows))

    def loss(w):
        logits = features @ w
        return jnp.mean(jax.nn.softplus(logits) - targets * logits) + 1e-4 * jnp.sum(w**2)

    return loss


PROBLEMS = {
    "Rosenbrock, 2": (lambda: w4.rosenbrock, 2),
    "Rosenbrock, 20": (lambda: w4.rosenbrock, 20),
    "Rosenbrock, 100": (lambda: w4.rosenbrock, 100),
    "logistic, 200 x 10": (lambda: _logistic(200, 10), 10),
    "logistic, 1000 x 30": (lambda: _logistic(1000, 30), 30),
}
"""For each problem its objective and its dimension."""


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - begin


def measure(name: str, problem: str, repeats: int) -> list[tuple[float, float]]:
    """Seconds to compile and milliseconds a call, by itself and inside ``jax.jit``; the least of the repeats."""
    make, size = PROBLEMS[problem]
    objective, optimizer = make(), construct(name)
    start = jnp.asarray(np.random.default_rng(1).uniform(-2, 2, size))

    def alone(x):
        return gdjax.minimize(objective, x, optimizer)

    rows = []
    for function in (alone, jax.jit(alone)):
        jax.clear_caches()
        first, *again = (_seconds(lambda function=function: function(start)) for _ in range(1 + repeats))
        rows.append((first - min(again), 1e3 * min(again)))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints each solver on each problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solvers", default="bfgs,lbfgs,trust_region", help="gdjax constructors, by comma")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    gdjax.minimize(
        jnp.sum, jnp.ones(2), gdjax.gradient_descent(0.1), max_steps=1
    )  # what the first call imports
    lines = []
    for name in options.solvers.split(","):
        for problem in PROBLEMS:
            (quick, call), (plain, plain_call) = measure(name, problem, options.repeats)
            lines.append([name, problem, f"{quick:.2f}", f"{plain:.2f}", f"{call:.2f}", f"{plain_call:.2f}"])
    head = ["solver", "problem", "compile s", "in jit", "ms a call", "in jit"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
