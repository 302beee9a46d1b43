"""One solver's run on one problem: what is measured, and how calls are timed and counted."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.bench.sif import Case
from gdjax.types import PyTree

__all__ = ["Counted", "Run", "Timed", "run_twice"]


class Run(NamedTuple):
    """What a solver did.

    Attributes:
      x: the answer, shape ``(n,)``.
      claimed: whether the solver reports convergence.
      note: its status or message.
      steps: iterations.
      evaluations: points at which the objective was evaluated.
      gradients: points at which its gradient (or the Jacobian of its residuals) was.
      hessians: dense Hessians, or products with it.
      compile_seconds: CPU seconds of the first call less those of the second.
      solve_seconds: CPU seconds of the second call.
    """

    x: np.ndarray | jax.Array
    claimed: bool
    note: str
    steps: int
    evaluations: int
    gradients: int
    hessians: int
    compile_seconds: float
    solve_seconds: float


class Timed:
    """CPU seconds of a function's first call less those of its second, added up over functions."""

    def __init__(self):
        self.compile_seconds = 0.0

    def __call__(self, function: Callable, *args: Any) -> Any:
        seconds, answer = [], None
        for _ in range(2):
            before = time.process_time()
            answer = jax.block_until_ready(function(*args))
            seconds.append(time.process_time() - before)
        self.compile_seconds += seconds[0] - seconds[1]
        return answer


def run_twice(solve: Callable[[jax.Array], PyTree], start: jax.Array) -> tuple[PyTree, float, float]:
    """Runs a compiled solver twice: its answer, and the seconds to compile and to solve."""
    seconds = []
    answer = None
    for _ in range(2):
        before = time.process_time()
        answer = jax.block_until_ready(solve(start))
        seconds.append(time.process_time() - before)
    return answer, max(seconds[0] - seconds[1], 0.0), seconds[1]


class Counted:
    """A problem's compiled functions for solvers on the host; each new point counts once.

    Value and gradient come out of one compiled function; asking for both at a point costs one
    evaluation, and the gradient counts where it was asked for.
    """

    def __init__(self, case: Case):
        self.dtype = case.start.dtype
        self.evaluations = self.gradients = self.hessians = 0
        self._point = None
        self._asked = False
        self._both = jax.jit(jax.value_and_grad(case.value_fn))
        self._hessian = jax.jit(jax.hessian(case.value_fn))
        self._product = jax.jit(lambda x, v: jax.jvp(jax.grad(case.value_fn), (x,), (v,))[1])
        self.timed = Timed()
        self.timed(self._both, case.start)

    def _at(self, x):
        if self._point is None or not np.array_equal(x, self._point):
            self._point, self._asked = np.array(x, copy=True), False
            value, grad = self._both(jnp.asarray(x, self.dtype))
            self._seen = float(value), np.asarray(grad, float)
            self.evaluations += 1
        return self._seen

    def value(self, x):
        return self._at(x)[0]

    def grad(self, x):
        grad = self._at(x)[1]
        self.gradients += not self._asked
        self._asked = True
        return grad

    def hessian(self, x):
        if not self.hessians:
            self.timed(self._hessian, jnp.asarray(x, self.dtype))
        self.hessians += 1
        return np.asarray(self._hessian(jnp.asarray(x, self.dtype)), float)

    def product(self, x, v):
        if not self.hessians:
            self.timed(self._product, jnp.asarray(x, self.dtype), jnp.asarray(v, self.dtype))
        self.hessians += 1
        return np.asarray(self._product(jnp.asarray(x, self.dtype), jnp.asarray(v, self.dtype)), float)
