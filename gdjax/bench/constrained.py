"""Many small nonlinear programs in one vmapped call, beside a loop over SciPy's SLSQP.

``python -m gdjax.bench constrained --copies 1000 --solver augmented_lagrangian``

The program is problem 71 of Hock and Schittkowski with perturbed coefficients, levels and starting points.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gdjax
from gdjax.bench.ours import construct
from gdjax.types import Result, ScalarLike, Status

__all__ = ["Program", "main", "perturbed", "solve_all", "solve_one_by_one"]


class Program(NamedTuple):
    r""":math:`\min x_1 x_4 (w_1 x_1 + w_2 x_2 + w_3 x_3) + c\, x_3` on a sphere, above a product, in a box.

    Attributes:
      weights: of :math:`x_1, x_2, x_3` in the first term, shape ``(3,)``.
      linear: the coefficient of :math:`x_3`.
      square: the sum of squares asked for.
      product: the least product allowed.
      start: the starting point, shape ``(4,)``.
    """

    weights: np.ndarray | jax.Array
    linear: ScalarLike
    square: ScalarLike
    product: ScalarLike
    start: np.ndarray | jax.Array

    def objective(self, x):
        return x[0] * x[3] * jnp.sum(self.weights * x[:3]) + self.linear * x[2]

    def equality(self, x):
        return jnp.sum(x**2) - self.square

    def least_product(self, x):
        return self.product - jnp.prod(x)

    def inequality(self, x):
        return jnp.concatenate([self.least_product(x)[None], 1 - x, x - 5])


def perturbed(copies: int, size: float = 0.05) -> Program:
    """Copies of the program along a leading axis, each number moved by up to ``size`` of itself."""
    rng = np.random.default_rng(0)

    def near(value):
        value = np.asarray(value, float)
        return jnp.asarray(value * (1 + size * rng.uniform(-1, 1, (copies, *value.shape))))

    start = jnp.clip(near([1.0, 5.0, 5.0, 1.0]), 1, 5)
    return Program(near(np.ones(3)), near(1.0), near(40.0), near(25.0), start)


def solve_all(programs: Program, solver: str) -> Result:
    """All of them in one compiled call."""

    def one(program):
        method = construct(solver, equality=program.equality, inequality=program.inequality)
        return gdjax.minimize(program.objective, program.start, method, max_steps=300)

    return jax.vmap(one)(programs)


_objective = jax.jit(jax.value_and_grad(Program.objective, argnums=1))
_sides = {
    kind: (jax.jit(function), jax.jit(jax.grad(function, argnums=1)))
    for kind, function in (("eq", Program.equality), ("ineq", Program.least_product))
}


def solve_one_by_one(programs: Sequence[Program]) -> list:
    """Each by SLSQP, with compiled functions and gradients that all share."""
    from scipy import optimize

    found = []
    for p in programs:

        def call(f, x, sign=1.0, p=p):
            return sign * np.asarray(f(p, x))

        constraints = [
            {
                "type": kind,
                "fun": lambda x, f=value, sign=sign: call(f, x, sign),
                "jac": lambda x, f=slope, sign=sign: call(f, x, sign),
            }
            for sign, (kind, (value, slope)) in zip((1.0, -1.0), _sides.items(), strict=True)
        ]
        found.append(
            optimize.minimize(
                lambda x, p=p: tuple(np.asarray(part) for part in _objective(p, x)),
                np.asarray(p.start),
                jac=True,
                method="SLSQP",
                bounds=[(1, 5)] * 4,
                constraints=constraints,
                options={"ftol": 1e-9},
            )
        )
    return found


def _seconds(function, *arguments):
    before = time.process_time()
    found = jax.block_until_ready(function(*arguments))
    return found, time.process_time() - before


def main(argv: Sequence[str]) -> None:
    """Prints the CPU seconds for a program of both, and how their answers compare."""
    parser = argparse.ArgumentParser(prog="gdjax.bench constrained", description=__doc__)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--solver", default="augmented_lagrangian")
    parser.add_argument(
        "--peer-copies", type=int, default=100, help="how many SLSQP solves, to be timed a program"
    )
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    programs = perturbed(options.copies)
    mapped = jax.jit(lambda p: solve_all(p, options.solver))
    _, first = _seconds(mapped, programs)
    run, ours = min((_seconds(mapped, programs) for _ in range(3)), key=lambda pair: pair[1])
    count = min(options.peer_copies, options.copies)
    singles = [jax.tree.map(lambda leaf, i=i: leaf[i], programs) for i in range(count)]
    solve_one_by_one(singles[:1])
    peers, theirs = _seconds(solve_one_by_one, singles)
    ours, theirs = ours / options.copies, theirs / count

    values = np.array([peer.fun for peer in peers])
    agree = np.abs(np.asarray(run.value[:count]) - values) <= 1e-6 * np.abs(values)
    violation = jax.vmap(lambda p, x: jnp.maximum(jnp.abs(p.equality(x)), jnp.max(p.inequality(x))))
    print(f"{options.copies} copies of HS71, float64, {options.solver}")
    print(f"converged             {int(jnp.sum(run.status == Status.CONVERGED))} of {options.copies}")
    print(f"largest violation     {float(jnp.max(violation(programs, run.params))):.1e}")
    print(f"values as SLSQP's     {int(agree.sum())} of {count}")
    print(
        f"evaluations           {np.median(run.steps) + 1:.0f} in the median, at most {int(run.steps.max()) + 1}"
    )
    print(f"SLSQP evaluations     {np.median([peer.nfev for peer in peers]):.0f} in the median")
    print(f"compile               {first - ours * options.copies:.2f} s")
    print(f"gdjax, all at once    {1e3 * ours:.3f} ms a program")
    print(f"SLSQP in a loop       {1e3 * theirs:.3f} ms a program")
    print(f"ratio                 {theirs / ours:.1f}")
