"""The CUTEst benchmark: gdjax beside SciPy, optax, optimistix and jaxopt.

``python -m gdjax.bench cutest --set A --solvers trust_region,bfgs --peers scipy-bfgs``
"""

import argparse
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gdjax.bench import profiles, sif
from gdjax.bench.peers import PEERS, version
from gdjax.bench.profiles import Record
from gdjax.bench.report import report
from gdjax.bench.worker import Worker

__all__ = ["main"]

_MINIMIZERS = [
    "scipy-trust-exact",
    "scipy-bfgs",
    "scipy-l-bfgs-b",
    "scipy-trust-ncg",
    "scipy-newton-cg",
    "scipy-cg",
    "optimistix-bfgs",
    "optax-lbfgs",
    "optimistix-lbfgs",
    "optimistix-nonlinear-cg",
    "jaxopt-lbfgs",
    "jaxopt-bfgs",
]
_DEFAULT_PEERS = {
    "A": _MINIMIZERS,
    "B": ["scipy-l-bfgs-b", "scipy-trust-ncg", "optimistix-lbfgs", "optax-lbfgs", "scipy-newton-cg"],
    "C": ["scipy-ls-trf", "scipy-ls-dogbox", "scipy-ls-lm", "optimistix-lm", "jaxopt-lm"],
    "D": ["scipy-slsqp", "scipy-l-bfgs-b", "scipy-tnc", "scipy-trust-constr", "jaxopt-lbfgsb"],
    "E": ["scipy-slsqp", "scipy-cobyqa", "scipy-trust-constr"],
}
_FAMILY = {"A": "unconstrained", "B": "unconstrained", "C": "equations", "D": "bounded", "E": "constrained"}


class Store:
    """JSON lines in a folder: peers' records, the lowest values ever seen, sizes of problems."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> list[dict]:
        """All whole lines of a file."""
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def add(self, name: str, line: dict) -> None:
        """Appends one line in one write, so that several processes may."""
        with open(self.folder / f"{name}.jsonl", "ab", buffering=0) as file:
            file.write((json.dumps(line) + "\n").encode())

    def best(self) -> dict[str, float]:
        """The lowest known value by problem."""
        best: dict[str, float] = {}
        for line in self.read("best"):
            best[line["problem"]] = min(best.get(line["problem"], np.inf), float(line["value"]))
        return best


class Bench:
    """Runs solvers in worker processes and judges their answers; remembers peers."""

    def __init__(self, store: Store, dtype: str, max_steps: int, timeout: float):
        self.store, self.dtype, self.max_steps = store, dtype, max_steps
        self.solver = Worker(dtype, timeout)
        self.judge = self.solver if dtype == "float64" else Worker("float64", timeout)

    def close(self) -> None:
        self.solver.close()
        self.judge.close()

    def run(self, problem: str, solver: str) -> Record:
        """One solver on one problem, judged in float64."""
        head: Record = {"problem": problem, "solver": solver, "dtype": self.dtype}
        answer = self.solver.ask(op="solve", problem=problem, solver=solver, max_steps=self.max_steps)
        if "error" in answer:
            return head | answer
        eps = float(np.finfo(self.dtype).eps)
        x, own = answer.pop("x"), answer.pop("own", None)
        verdict = self.judge.ask(op="judge", problem=problem, x=x, eps=eps, own=own)
        record: Record = head | answer | verdict
        if len(x) <= 100:
            record["x"] = x
        if profiles.feasible(record) and record["value"] < self.store.best().get(problem, float("inf")):
            self.store.add("best", {"problem": problem, "value": record["value"], "by": solver})
        return record

    def peer(self, problem: str, peer: str, known: dict[str, Record], absent: bool) -> Record | None:
        """A peer's record out of the store, or run now unless ``absent`` may stay so."""
        if problem in known:
            return known[problem]
        if absent:
            return None
        record = self.run(problem, peer)
        self.store.add(self.name(peer), record)
        return record

    def name(self, peer: str) -> str:
        """The file of a peer's records."""
        return re.sub(r"[^\w.-]", "_", f"{peer}-{version(peer)}-{self.dtype}-{self.max_steps}")


def development() -> dict[str, dict]:
    """The development sets: letter to title, size limits and names."""
    return tomllib.loads((Path(__file__).parent / "cutest_dev.toml").read_text(encoding="utf-8"))


def held_out(letter: str, store: Store, worker: Worker) -> list[str]:
    """The problems of a set's kind and size that are not in its development half."""
    wanted = development()[letter]
    dev = {name for group in development().values() for name in group["names"]}
    sizes = {line["problem"]: line for line in store.read("sizes")}
    names = []
    for name, (family, _) in sorted(sif.index().items()):
        if family != _FAMILY[letter] or name in dev:
            continue
        if name not in sizes:
            sizes[name] = {"problem": name} | worker.ask(op="size", problem=name)
            store.add("sizes", sizes[name])
        fits = wanted["smallest"] <= sizes[name].get("n", 0) <= wanted["largest"]
        if fits and not (letter == "C" and sizes[name]["bounded"]):
            names.append(name)
    return names


def _split(text: str) -> list[str]:
    """Splits at the commas outside of brackets."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gdjax.bench cutest", description=__doc__)
    parser.add_argument("--set", default="A", choices=list(_FAMILY), dest="letter")
    parser.add_argument("--solvers", default="", help="gdjax constructors or calls of them, by commas")
    parser.add_argument("--peers", default="", help="names by commas; all of the set's by default; or none")
    parser.add_argument(
        "--cached", action="store_true", help="show only what is known of the peers, run none"
    )
    parser.add_argument("--retry", action="store_true", help="run peers again that failed or timed out")
    parser.add_argument("--problems", default="", help="names by commas; the development half by default")
    parser.add_argument("--held-out", action="store_true", help="the other half: never tune to it")
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    parser.add_argument("--max-steps", type=int, default=1000)
    parser.add_argument("--timeout", type=float, default=None, help="seconds for one run")
    parser.add_argument("--cache", type=Path, default=None, help="folder for what is known of the peers")
    parser.add_argument("--json", type=Path, default=None, help="file for all records, as JSON")
    return parser.parse_args(argv)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gdjax" / "cutest"


def _gather(bench: Bench, problems, ours, peers, options) -> dict[str, dict[str, Record]]:
    """All records, problem by problem."""
    known = {
        peer: {
            r["problem"]: r
            for r in bench.store.read(bench.name(peer))
            if not (options.retry and "error" in r)
        }
        for peer in peers
    }
    results = {solver: {} for solver in [*ours, *peers]}

    def note(record):
        state = record.get("error", record.get("note", ""))[:60]
        print(f"{record['problem']:<12} {record['solver']:<24} {state}", file=sys.stderr, flush=True)

    runners: list[tuple[str, Callable]] = [(s, lambda p, s=s: bench.run(p, s)) for s in ours]
    runners += [(s, lambda p, s=s: bench.peer(p, s, known[s], options.cached)) for s in peers]
    for problem in problems:
        for solver, runner in runners:
            record = runner(problem)
            if record is not None:
                results[solver][problem] = record
                if solver in ours or problem not in known[solver]:
                    note(record)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its tables; progress goes to standard error."""
    options = _arguments(argv)
    store = Store(options.cache or _cache_folder())
    timeout = options.timeout or (600.0 if options.letter == "B" else 180.0)
    bench = Bench(store, options.dtype, options.max_steps, timeout)
    ours = _split(options.solvers)
    peers = [] if options.peers == "none" else _split(options.peers) or _DEFAULT_PEERS[options.letter]
    for peer in peers:
        if peer not in PEERS:
            raise SystemExit(f"no peer named {peer!r}; there are {', '.join(PEERS)}")
    try:
        problems = _split(options.problems) or (
            held_out(options.letter, store, bench.judge)
            if options.held_out
            else development()[options.letter]["names"]
        )
        results = _gather(bench, problems, ours, peers, options)
    finally:
        bench.close()
    records = [record for own in results.values() for record in own.values()]
    if options.json:
        options.json.write_text(json.dumps(records), encoding="utf-8")
    title = development()[options.letter]["title"]
    half = "held-out" if options.held_out else "development"
    print(f"Set {options.letter}: {title}; {half} problems: {len(problems)}; {options.dtype}\n")
    results = {solver: own for solver, own in results.items() if own}
    best = profiles.best_values(records, store.best())
    print(report(results, [s for s in ours if s in results], best, problems))


if __name__ == "__main__":
    main()
