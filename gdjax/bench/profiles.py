r"""Who solved what, and at what cost: pure functions of benchmark records.

A record is a dictionary with ``problem``, ``solver``, either ``error`` or the fields of
`gdjax.bench.solved.Run` and of `gdjax.bench.judge.judge`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "best_values",
    "common_median",
    "false_success",
    "feasible",
    "local_minimum",
    "median",
    "performance_profile",
    "solved",
    "stationary",
]

Record: TypeAlias = dict[str, Any]

_UNBOUNDED = -1e10
"""Below this an objective counts as unbounded, and every value below as equally low."""


def feasible(record: Record, tolerance: float = 1e-6) -> bool:
    """Whether the answer is finite and its constraints hold to ``tolerance``."""
    return "error" not in record and bool(record["finite"]) and record.get("violation", 0.0) <= tolerance


def best_values(records: Iterable[Record], known: dict[str, float] | None = None) -> dict[str, float]:
    """The lowest value at a feasible answer, by problem; ``known`` values join in."""
    best = dict(known or {})
    for record in records:
        if feasible(record):
            name = record["problem"]
            best[name] = min(best.get(name, math.inf), record["value"])
    return best


def stationary(record: Record) -> bool:
    """Whether the gradient's inf-norm is at most 2e-6, or its 2-norm at the level of rounding."""
    if not feasible(record):
        return False
    return record["slope"] <= 2e-6 or record["residual"] <= 4 * record["rounding"]


def solved(record: Record, best: dict[str, float]) -> bool:
    r"""Whether :math:`f - f^* \le 10^{-6} \max(1, |f^*|)` at a feasible answer.

    In float32 an answer that says NOISE_FLOOR and is stationary to rounding counts too.
    """
    if not feasible(record):
        return False
    value: float = record["value"]
    lowest = best.get(record["problem"], value)
    if lowest < _UNBOUNDED:
        return value < _UNBOUNDED
    if value - lowest <= 1e-6 * max(1.0, abs(lowest)):
        return True
    coarse = record.get("dtype") == "float32" and record.get("note") == "NOISE_FLOOR"
    return coarse and record["residual"] <= 4 * record["rounding"]


def local_minimum(record: Record) -> bool | None:
    """Whether the answer is stationary without negative curvature; None if curvature is not known."""
    if not stationary(record):
        return False
    if record.get("lowest") is None:
        return None
    return record["lowest"] >= -1e-8 * max(record["largest"], np.finfo(float).tiny)


def false_success(record: Record, best: dict[str, float]) -> bool:
    """Whether convergence is claimed where the answer is neither lowest nor stationary."""
    if "error" in record or not record["claimed"]:
        return False
    return not solved(record, best) and not stationary(record)


def median(numbers: Iterable[float]) -> float:
    """The median, or NaN of nothing."""
    numbers = list(numbers)
    return float(np.median(numbers)) if numbers else math.nan


def common_median(
    ours: dict[str, Record], theirs: dict[str, Record], best: dict[str, float], cost: str
) -> tuple[float, float, int]:
    """Median cost of two solvers on the problems that both solved, and how many these are."""
    both = [
        name for name in ours if name in theirs and solved(ours[name], best) and solved(theirs[name], best)
    ]
    return median(ours[n][cost] for n in both), median(theirs[n][cost] for n in both), len(both)


def performance_profile(
    costs: dict[str, dict[str, float]], problems: Sequence[str], factors: Sequence[float]
) -> dict[str, list[float]]:
    r"""The share of problems that a solver solves within a factor of the cheapest solver's cost.

    .. math:: \rho_s(\tau) = \frac{1}{|P|} \left|\{p : c_{ps} \le \tau \min_t c_{pt}\}\right|

    Args:
      costs: solver to problem to cost; a problem that a solver did not solve is left out.
      problems: all problems, the denominator.
      factors: the :math:`\tau`, at least 1.

    Reference:
      Dolan, Moré, Benchmarking optimization software with performance profiles, 2002, eq. (2.1).

    Example:
      >>> performance_profile({"a": {"p": 2, "q": 9}, "b": {"p": 4}}, ["p", "q"], [1, 2])
      {'a': [1.0, 1.0], 'b': [0.0, 0.5]}
    """
    cheapest = {
        problem: min((c[problem] for c in costs.values() if problem in c), default=math.inf)
        for problem in problems
    }
    return {
        solver: [
            sum(problem in own and own[problem] <= factor * cheapest[problem] for problem in problems)
            / max(len(problems), 1)
            for factor in factors
        ]
        for solver, own in costs.items()
    }
