"""A process of its own for solvers, so that one that hangs or dies costs one run.

It reads requests as JSON lines and answers each with one line.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Worker", "main"]

_ONE_CORE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Idle threads that spin would count as CPU seconds of the solver."""


class Worker:
    """A child process that solves and judges; started when first asked, restarted after a timeout."""

    def __init__(self, dtype: str, timeout: float):
        self.dtype, self.timeout = dtype, timeout
        self._process: Any = None

    def _start(self) -> Any:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        process: Any = subprocess.Popen(
            [sys.executable, "-m", "gdjax.bench.worker", "--dtype", self.dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **_ONE_CORE, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        )
        self._process, self._lines = process, queue.Queue()
        threading.Thread(target=self._read, args=(process.stdout, self._lines), daemon=True).start()
        if not self._lines.get(timeout=600):
            raise RuntimeError("the worker process does not start: python -m gdjax.bench.worker")
        return process

    @staticmethod
    def _read(stream, lines) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    def ask(self, **request: object) -> dict:
        """Sends a request; a dictionary with ``error`` comes back if it failed, died or took too long."""
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=self.timeout)
        except (queue.Empty, BrokenPipeError) as error:
            self.close()
            return {"error": "timeout" if isinstance(error, queue.Empty) else "died"}
        if not line:
            self.close()
            return {"error": "died"}
        return json.loads(line)

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class _Server:
    """What runs in the child."""

    def __init__(self):
        self._cases = {}
        self._compiled = {}

    def _case(self, name):
        from gdjax.bench import sif

        if name not in self._cases:
            self._cases, self._compiled = {name: sif.load(name)}, {}
        return self._cases[name]

    def size(self, problem):
        case = self._case(problem)
        return {"n": int(case.start.size), "bounded": case.lower is not None}

    def solve(self, problem, solver, max_steps):
        import jax
        import numpy as np

        from gdjax.bench import ours, peers

        case, before = self._case(problem), time.perf_counter()
        if solver in peers.PEERS:
            run = peers.PEERS[solver][1](case, max_steps)
        else:
            run = ours.solve(solver, case, max_steps)
        answer = run._asdict() | {"x": np.asarray(run.x, float).tolist()}
        answer["wall_seconds"] = time.perf_counter() - before
        if case.start.dtype == np.float32:
            own = jax.grad(case.value_fn)(np.asarray(run.x, np.float32))
            answer["own"] = np.asarray(own, float).tolist()
        return answer

    def judge(self, problem, x, eps, own=None):
        from gdjax.bench import judge

        case = self._case(problem)
        if problem not in self._compiled:
            self._compiled = {problem: judge.compiled(case)}
        return judge.judge(case, self._compiled[problem], x, eps, own)


def main(argv: list[str] | None = None) -> None:
    """Serves requests from standard input until it closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args(argv)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import jax

    jax.config.update("jax_enable_x64", arguments.dtype == "float64")
    server = _Server()
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(server, request.pop("op"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
