r"""Nonsmooth and constrained problems to a relative duality gap of 1e-8 in float64, beside jaxopt and scikit-learn.

``python -m gdjax.bench nonsmooth`` prints a row a problem and solver, then the paths of 100 lambdas.

Every solver gets the loosest tolerance of its own, in powers of ten, that closes the gap; steps and seconds are
those of that tolerance, compiling left out and shown apart. Seconds are CPU seconds, the least of a few turns taken
by all solvers of a problem one after the other.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import gdjax
from gdjax.bench.report import table
from gdjax.optimizers.nonsmooth import proximal_gradient
from gdjax.problems import constrained, nonsmooth
from gdjax.problems.problem import Problem
from gdjax.types import Params, Scalar, ScalarLike, Transformation

__all__ = ["TARGET", "Outcome", "main", "ours", "path", "peer", "problems", "solve"]

Solver: TypeAlias = Callable[[ScalarLike, jax.Array], tuple[Params, Scalar]]
"""``(tolerance, start) -> (params, steps)``."""

TARGET = 1e-8
"""The gap, relative to the lowest value known, at which a problem counts as solved."""
_STEPS = 20_000
"""Updates, or iterations of a peer, before it is given up."""
_TOLERANCES = [10.0**-k for k in range(3, 14)]
"""What peers are asked for, one after the other, until their gap is `TARGET`: each means something else by its own."""


class Outcome(NamedTuple):
    """What a solver did at one tolerance.

    Attributes:
      gap: the relative duality gap.
      steps: iterations.
      run: a function that solves again and waits, for timing.
      compile_seconds: CPU seconds for trace and compile.
    """

    gap: float
    steps: int
    run: Callable[[], object]
    compile_seconds: float


def problems() -> dict[str, Problem]:
    """The problems by name."""
    modules = (nonsmooth, constrained)
    return {name: getattr(module, name)() for module in modules for name in module.__all__}


def ours(problem: Problem) -> dict[str, Transformation]:
    """The methods of gdjax that fit a problem, by name."""
    accelerated = gdjax.proximal_gradient(None, problem.regularizer, momentum=proximal_gradient.fista)
    methods = {"proximal_gradient": accelerated}
    if problem.constraints is not None:
        methods["spectral_projected_gradient"] = gdjax.spectral_projected_gradient(problem.constraints)
    return methods


def _minimize(method: Transformation, problem: Problem, tolerance: Any, start: Any) -> tuple[Any, Any]:
    stop = gdjax.stopping.residual_below(tolerance, scale=1.0)
    run = gdjax.minimize(problem.objective, start, method, stop=stop, max_steps=_STEPS)
    return run.params, run.steps


def peer(problem: Problem) -> Solver | None:
    """jaxopt's solver for a problem, at its defaults; the prox and projection are gdjax's where it has none.

    Args:
      problem: one of `problems`.

    Returns:
      ``(tolerance, start) -> (params, steps)``, or None without jaxopt.
    """
    try:
        import jaxopt
    except ImportError:
        return None

    objective: Any = problem.objective  # a function, since these problems draw no batches
    regularizer, constraints = problem.regularizer, problem.constraints

    def prox(x, hyperparams, scaling=1.0):
        del hyperparams
        assert regularizer is not None
        return regularizer.prox(x, scaling)

    def project(x, hyperparams):
        del hyperparams
        assert constraints is not None
        return constraints(x)

    def solve(tolerance, start):
        options = {"tol": tolerance, "maxiter": _STEPS}
        if constraints is None:
            solver = jaxopt.ProximalGradient(objective, prox, **options)
            found = solver.run(start, hyperparams_prox=None)
        else:
            solver = jaxopt.ProjectedGradient(objective, project, **options)
            found = solver.run(start, hyperparams_proj=None)
        return found.params, found.state.iter_num

    return solve


def solve(method: Solver, problem: Problem) -> Outcome:
    """Solves with the loosest tolerance that closes the gap, or with the tightest where none does.

    Args:
      method: ``(tolerance, start) -> (params, steps)``.
      problem: one of `problems`.
    """
    start, before = problem.start(), time.process_time()
    compiled: Any = jax.jit(method).lower(jnp.asarray(1.0, start.dtype), start).compile()
    compile_seconds = time.process_time() - before
    assert problem.metrics is not None
    gap_at = jax.jit(problem.metrics["gap"])
    gap, steps, tolerance = np.inf, 0, _TOLERANCES[0]
    for tolerance in _TOLERANCES:
        params, steps = compiled(jnp.asarray(tolerance, start.dtype), start)
        gap = float(gap_at(params))
        if gap <= TARGET:
            break
    numbers = (jnp.asarray(tolerance, start.dtype), start)
    return Outcome(gap, int(steps), lambda: jax.block_until_ready(compiled(*numbers)), compile_seconds)


def _least_seconds(runs: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    seconds = dict.fromkeys(runs, np.inf)
    for _ in range(turns):
        for name, run in runs.items():
            before = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - before)
    return seconds


def _rows(name: str, problem: Problem, turns: int, peers: bool) -> list[list[str]]:
    methods: dict[str, Any] = {
        key: Partial(_minimize, method, problem) for key, method in ours(problem).items()
    }
    theirs = peer(problem) if peers else None
    if theirs is not None:
        methods["jaxopt"] = theirs
    outcomes = {key: solve(method, problem) for key, method in methods.items()}
    seconds = _least_seconds({key: outcome.run for key, outcome in outcomes.items()}, turns)
    rows = []
    for key, found in outcomes.items():
        against = seconds.get("jaxopt", np.nan) / seconds[key]
        cells = [name, key, f"{found.gap:.1e}", str(found.steps), f"{1e3 * seconds[key]:.2f}"]
        rows.append([*cells, f"{found.compile_seconds:.1f}", f"{against:.2f}"])
    return rows


def _gram_value(gram: jax.Array, right: jax.Array, w: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(w * (gram @ w)) - jnp.sum(right * w)


def _gaps(matrix: np.ndarray, target: np.ndarray, weights: np.ndarray, path: np.ndarray) -> float:
    """The largest relative duality gap along a path whose points are rows."""
    rest = target - path @ matrix.T
    primal = 0.5 * np.sum(rest**2, axis=1) + weights * np.abs(path).sum(axis=1)
    dual = rest * np.minimum(1, weights / np.abs(rest @ matrix).max(axis=1))[:, None]
    lowest = 0.5 * np.sum(target**2) - 0.5 * np.sum((target - dual) ** 2, axis=1)
    return float(np.max((primal - lowest) / primal))


def _accelerated(gram, right, weight):
    """Proximal gradients with restarts and their own step length."""
    del gram, right
    return gdjax.proximal_gradient(None, gdjax.regularizers.l1(weight), momentum=proximal_gradient.fista)


def _through_eigenvectors(basis, values, right, v, rho, params):
    del params
    return basis @ ((basis.T @ (right + rho * v)) / (values + rho))


def _split(gram, right, weight):
    """ADMM whose x-update is a formula in the eigenvectors, which all lambdas share."""
    values, basis = jnp.linalg.eigh(gram)
    x_update = Partial(_through_eigenvectors, basis, values, right)
    return gdjax.admm(gdjax.regularizers.l1(weight), x_update=x_update, rho=0.1 * values[-1])


def _our_path(make, matrix, target, weights, tolerance):
    """All lambdas at once, on the Gram matrix, which is made here too."""
    gram, right = matrix.T @ matrix, matrix.T @ target
    objective = Partial(_gram_value, gram, right)

    def one(weight):
        stop = gdjax.stopping.residual_below(tolerance, scale=1.0)
        method = make(gram, right, weight)
        return gdjax.minimize(objective, jnp.zeros_like(right), method, stop=stop, max_steps=_STEPS).params

    return jax.vmap(one)(weights)


def path(matrix: np.ndarray, target: np.ndarray, turns: int, count: int = 100) -> list[list[str]]:
    """Rows for the paths of ``count`` lambdas down to a thousandth of the largest, gdjax and scikit-learn."""
    from sklearn.linear_model import lasso_path

    largest = np.abs(matrix.T @ target).max()
    weights = largest * np.logspace(0, -3, count)
    ladder = [10.0**-k for k in range(4, 16)]

    def theirs(tolerance):
        alphas = weights / len(target)
        return lasso_path(matrix, target, alphas=alphas, tol=tolerance, max_iter=1_000_000)[1].T

    arrays = [jnp.asarray(a) for a in (matrix, target, weights)]

    def mine(make):
        unit = jnp.asarray(1.0, arrays[0].dtype)
        compiled = jax.jit(Partial(_our_path, make)).lower(*arrays, unit).compile()
        return lambda tolerance: np.asarray(compiled(*arrays, jnp.asarray(largest * tolerance, unit.dtype)))

    solvers = {
        "proximal_gradient": mine(_accelerated),
        "admm": mine(_split),
        "scikit-learn lasso_path": theirs,
    }
    runs: dict[str, Callable[[], Any]] = {}
    gaps = {}
    for name, solver in solvers.items():
        for tolerance in ladder:
            gaps[name] = _gaps(matrix, target, weights, solver(tolerance))
            runs[name] = partial(solver, tolerance)
            if gaps[name] <= TARGET:
                break
    seconds = _least_seconds(runs, turns)
    size = f"{matrix.shape[0]} x {matrix.shape[1]}"
    return [
        [size, name, f"{gaps[name]:.1e}", f"{1e3 * s:.2f}", f"{seconds['scikit-learn lasso_path'] / s:.2f}"]
        for name, s in seconds.items()
    ]


def _path_data() -> list[tuple[np.ndarray, np.ndarray]]:
    from gdjax.problems import datasets

    data = datasets.diabetes()
    standardized = datasets.standardized(datasets.Split(data, data)).train.features.astype(float)
    draw = np.random.default_rng(0)
    drawn = draw.normal(size=(2000, 100))
    truth = np.where(np.arange(100) < 20, draw.normal(size=100), 0)
    return [
        (standardized, data.targets - data.targets.mean()),
        (drawn, drawn @ truth + draw.normal(size=2000)),
    ]


def main(argv: Sequence[str]) -> None:
    """Prints both tables: ``python -m gdjax.bench nonsmooth --turns 5``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--only", default="", help="names of problems, separated by commas; paths for the paths"
    )
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    chosen = [name for name in arguments.only.split(",") if name]
    rows = []
    for name, problem in problems().items():
        if not chosen or name in chosen:
            rows += _rows(name, problem, arguments.turns, not arguments.no_peers)
    if rows:
        head = ["problem", "solver", "gap", "steps", "ms", "compile s", "times as fast as jaxopt"]
        print(table(head, rows))
    if not chosen or "paths" in chosen:
        rows = [row for data in _path_data() for row in path(*data, arguments.turns)]
        print(
            "\n" + table(["data", "path of 100 lambdas", "gap", "ms", "times as fast as scikit-learn"], rows)
        )
