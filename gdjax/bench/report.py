"""The CUTEst benchmark's tables, as text."""

from collections.abc import Sequence

from gdjax.bench import profiles
from gdjax.bench.profiles import Record

__all__ = ["report", "table"]

_FACTORS = (1, 2, 5)
"""Of the performance profile: the shares solved at the cost of the best solver, at twice and at five times that."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns, as a Markdown table.

    Example:
      >>> print(table(["name", "n"], [["a", "1"]]))
      | name | n |
      |------|---|
      | a    | 1 |
    """
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * (width + 2) for width in widths]
    lines = [[f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    return "\n".join("|" + "|".join(line) + "|" for line in [lines[0], rule, *lines[1:]])


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _row(solver: str, own: dict[str, Record], best: dict[str, float], shares: list[float]) -> list[str]:
    records = list(own.values())
    done = [r for r in records if profiles.solved(r, best)]
    minima = [r for r in records if profiles.solved(r, best) or profiles.local_minimum(r)]
    ran = [r for r in records if "error" not in r]
    count = max(len(records), 1)
    return [
        solver,
        f"{len(done)}/{len(records)} {len(done) / count:.2f}",
        f"{len(minima) / count:.2f}",
        f"{sum(map(profiles.stationary, records)) / count:.2f}",
        _number(profiles.median(r["evaluations"] for r in done)),
        _number(profiles.median(r["gradients"] for r in done)),
        "/".join(f"{share:.2f}" for share in shares),
        _number(profiles.median(r["compile_seconds"] for r in ran)),
        _number(profiles.median(r["solve_seconds"] for r in ran)),
        str(sum(profiles.false_success(r, best) for r in records)),
        str(sum(not r["finite"] for r in ran)),
        str(len(records) - len(ran)),
    ]


_HEAD = [
    "solver",
    "solved",
    "lowest or a minimum",
    "stationary",
    "evaluations",
    "gradients",
    "within 1x/2x/5x",
    "compile s",
    "solve s",
    "false success",
    "non-finite",
    "errors",
]


def _versus(ours, theirs, results, best) -> list[list[str]]:
    rows = []
    for solver in ours:
        for peer in theirs:
            cells = [solver, peer]
            for cost in ("evaluations", "gradients"):
                mine, other, count = profiles.common_median(results[solver], results[peer], best, cost)
                cells += [f"{_number(mine)} : {_number(other)}"]
            seen = [r for r in results[solver].values() if r["problem"] in results[peer]]
            ahead = [
                r["problem"]
                for r in seen
                if not profiles.solved(r, best) and profiles.solved(results[peer][r["problem"]], best)
            ]
            rows.append([*cells, str(count), str(len(ahead))])
    return rows


def _verdict(record: Record, best: dict[str, float]) -> str:
    if "error" in record:
        return record["error"].splitlines()[0][:110]
    kinds = [
        ("FALSE SUCCESS", profiles.false_success(record, best)),
        ("NON-FINITE", not record["finite"]),
        ("another minimum", profiles.local_minimum(record)),
        ("stationary", profiles.stationary(record)),
    ]
    words = next((word for word, holds in kinds if holds), "not stationary")
    lowest = best.get(record["problem"], float("nan"))
    return (
        f"{words}; {record['note'][:40]} steps {record['steps']} f {record['value']:.9g} best {lowest:.9g} "
        f"|g| {record['residual']:.2g} rounding {record['rounding']:.2g}"
    )


def report(
    results: dict[str, dict[str, Record]],
    ours: Sequence[str],
    best: dict[str, float],
    problems: Sequence[str],
) -> str:
    """All tables of one set.

    Args:
      results: solver to problem to record.
      ours: which of the solvers are gdjax's; their failures are listed by name.
      best: the lowest known values.
      problems: the set.

    Returns:
      Text: a row a solver; medians on commonly solved problems; failures.
    """
    costs = {
        solver: {name: r["evaluations"] for name, r in own.items() if profiles.solved(r, best)}
        for solver, own in results.items()
    }
    shares = profiles.performance_profile(costs, problems, _FACTORS)
    parts = [table(_HEAD, [_row(s, own, best, shares[s]) for s, own in results.items()])]
    peers = [solver for solver in results if solver not in ours]
    if ours and peers:
        head = ["solver", "peer", "evaluations", "gradients", "both solved", "only the peer solved"]
        rows = _versus(ours, peers, results, best)
        parts.append("Medians on the problems that both solved:\n\n" + table(head, rows))
    for solver in ours or peers:
        failed = [r for r in results[solver].values() if not profiles.solved(r, best)]
        lines = [f"  {r['problem']:<12} {_verdict(r, best)}" for r in failed]
        parts.append("\n".join([f"Not solved by {solver}: {len(failed)}", *lines]))
    return "\n\n".join(parts)
