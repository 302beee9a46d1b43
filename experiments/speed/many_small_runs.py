r"""Many runs under one ``vmap``: Rosenbrock in 20 dimensions from 1024 starts, to a gradient of 1e-6.

.. math:: f(x) = \sum_{i=1}^{19} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, \qquad x^{(0)} \sim U[-2, 2]^{20}

``python experiments/speed/many_small_runs.py --solvers bfgs,lbfgs``
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import gdjax
from gdjax._internal import trees
from gdjax.bench.ours import construct
from gdjax.bench.report import table

__all__ = ["STEPS", "TOLERANCE", "main", "optax_lbfgs", "rosenbrock", "starts"]

TOLERANCE = 1e-6
STEPS = 5000


def rosenbrock(x: jax.Array) -> jax.Array:
    """Rosenbrock's function."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def starts(runs: int) -> jax.Array:
    """So many points, uniform in the window."""
    return jnp.asarray(np.random.default_rng(3).uniform(-2, 2, (runs, 20)))


def _ours(name: str, lanes: bool = True) -> Callable[[jax.Array], jax.Array]:
    stop = gdjax.stopping.residual_below(TOLERANCE, scale=1.0)

    def one(x):
        run = gdjax.Run(rosenbrock, x, construct(name), stop=stop, max_steps=STEPS)
        return (run.solve() if lanes else run.looped()).params

    return jax.jit(jax.vmap(one))


def optax_lbfgs() -> Callable[[jax.Array], jax.Array]:
    """L-BFGS of optax under one ``vmap``."""
    import optax

    optimizer = optax.lbfgs()
    both = optax.value_and_grad_from_state(rosenbrock)

    def body(carry):
        x, state, count = carry
        value, grad = both(x, state=state)
        updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock)
        return trees.keep_types((optax.apply_updates(x, updates), state, count + 1), carry)

    def going(carry):
        slope = jnp.linalg.norm(optax.tree.get(carry[1], "grad"))
        return (carry[2] == 0) | ((slope > TOLERANCE) & (carry[2] < STEPS))

    def one(x):
        carry = trees.strong((x, optimizer.init(x), jnp.int32(0)))
        return jax.lax.while_loop(going, body, carry)[0]

    return jax.jit(jax.vmap(one))


def _optimistix() -> Callable[[jax.Array], jax.Array]:
    import optimistix

    solver = optimistix.BFGS(rtol=1e-10, atol=1e-10)

    def one(x):
        found = optimistix.minimise(lambda y, _: rosenbrock(y), solver, x, max_steps=STEPS, throw=False)
        return found.value

    return jax.jit(jax.vmap(one))


def _jaxopt() -> Callable[[jax.Array], jax.Array]:
    import jaxopt

    solver = jaxopt.LBFGS(rosenbrock, tol=TOLERANCE, maxiter=STEPS)
    return jax.jit(jax.vmap(lambda x: solver.run(x).params))


def _scipy(method: str) -> Callable[[jax.Array], jax.Array]:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that spin would count as CPU seconds
    from scipy import optimize

    both = jax.jit(jax.value_and_grad(rosenbrock))
    options = {"gtol": TOLERANCE / 4, "maxiter": STEPS} | ({"ftol": 0.0} if method == "L-BFGS-B" else {})

    def both_at(x):
        value, grad = both(x)
        return float(value), np.asarray(grad)

    def loop(starts):
        found = [
            optimize.minimize(both_at, start, jac=True, method=method, options=options).x
            for start in np.asarray(starts)
        ]
        return jnp.asarray(np.stack(found))

    return loop


_PEERS = {
    "optax.lbfgs vmap": (optax_lbfgs, 1.0),
    "jaxopt.LBFGS vmap": (_jaxopt, 1.0),
    "optimistix.BFGS vmap": (_optimistix, 1.0),
    "scipy BFGS loop": (lambda: _scipy("BFGS"), 1 / 16),
    "scipy L-BFGS-B loop": (lambda: _scipy("L-BFGS-B"), 1 / 16),
}
"""What is compared with, and the share of the runs that it is timed on."""


def _seconds(function: Callable, starts: jax.Array) -> tuple[float, jax.Array]:
    before = time.process_time()
    answers = jax.block_until_ready(function(starts))
    return time.process_time() - before, answers


def measure(ours: Sequence[str], runs: int, repeats: int, peers: bool = True) -> list[dict]:
    """Times every way, turn about; CPU seconds, the median of ``repeats`` after a first call.

    Returns:
      A dictionary a way: name, runs_per_second, compile_seconds, converged (share with a gradient of
      1.1e-6 at most, computed anew).
    """
    points = starts(runs)
    ways = {f"gdjax {name} vmap": (_ours(name), points) for name in ours}
    ways |= {f"gdjax {name} without lanes": (_ours(name, lanes=False), points) for name in ours}
    for name, (build, share) in (_PEERS if peers else {}).items():
        ways[name] = (build(), points[: max(int(runs * share), 1)])
    rows = []
    for name, (function, own) in ways.items():
        first, answers = _seconds(function, own)
        slopes = jnp.linalg.norm(jax.vmap(jax.grad(rosenbrock))(answers), axis=1)
        rows.append({"name": name, "first": first, "converged": float(jnp.mean(slopes <= 1.1 * TOLERANCE))})
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (function, own) in ways.items():
            seconds[name].append(_seconds(function, own)[0])
    for row in rows:
        typical = float(np.median(seconds[row["name"]]))
        row["runs_per_second"] = ways[row["name"]][1].shape[0] / typical
        row["compile_seconds"] = max(row.pop("first") - typical, 0.0)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints runs a second, with the ratio of each of gdjax's ways to each other way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--solvers", default="bfgs,lbfgs", help="gdjax constructors or calls, by semicolon or comma"
    )
    parser.add_argument("--runs", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    names = options.solvers.split(";" if ";" in options.solvers or "(" in options.solvers else ",")
    ours = [name.strip() for name in names if name.strip()]
    rows = measure(ours, options.runs, options.repeats, not options.no_peers)
    fast = rows[: len(ours)]
    head = ["way", "runs/s", "converged", "compile s", *(f"{row['name']} is faster by" for row in fast)]
    lines = [
        [
            row["name"],
            f"{row['runs_per_second']:.0f}",
            f"{row['converged']:.4f}",
            f"{row['compile_seconds']:.2f}",
            *(f"{own['runs_per_second'] / row['runs_per_second']:.2f}x" for own in fast),
        ]
        for row in rows
    ]
    print(table(head, lines))


if __name__ == "__main__":
    main()
