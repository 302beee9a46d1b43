"""The nouns that every other module shares: what flows from an objective to a result."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax

__all__ = [
    "FAILED",
    "Answer",
    "Curvature",
    "KeyLike",
    "MatVec",
    "Method",
    "Operator",
    "Optimality",
    "Params",
    "Prefix",
    "Projection",
    "PyTree",
    "Result",
    "Scalar",
    "ScalarLike",
    "ScalarOrSchedule",
    "State",
    "Status",
    "Step",
    "Transformation",
    "ValueFn",
    "explain",
]

Params: TypeAlias = Any
"""A pytree of floating-point arrays."""

PyTree: TypeAlias = Any
"""A pytree of any structure: data, a batch, the outputs of a model, what a recorder reads."""

Prefix: TypeAlias = Any
"""A number, an array, or a pytree of them whose leaves stand for all that is below them in the parameters; or None."""

State: TypeAlias = Any
"""The state of a method, a direction or a criterion: a pytree of a type of its own, whose fields others may read.

optax's ``OptState`` is a tree of arrays by its type, which has no fields and holds no functions.
"""

Scalar: TypeAlias = jax.Array
"""An array of shape ``()``."""

ScalarLike: TypeAlias = float | np.floating | np.integer | np.ndarray | jax.Array
"""A real number: Python's, NumPy's, an array of shape ``()``, or a tracer of one."""

ScalarOrSchedule: TypeAlias = ScalarLike | Callable[[jax.Array], ScalarLike] | optax.Schedule
"""A number, or a function of the count of updates made: a schedule of `gdjax.schedules` or optax."""

KeyLike: TypeAlias = int | jax.Array
"""A key of ``jax.random``, of either kind, or an integer seed to make one of."""

ValueFn: TypeAlias = Callable[[Params], Scalar]
"""An objective as a function of the parameters alone."""

MatVec: TypeAlias = Callable[[Params], Params]
"""A linear map as a function: takes and returns a pytree with the structure of the parameters."""

Projection: TypeAlias = Callable[[Params], Params]
"""The nearest point of a set: see `gdjax.projections`. A set with settings is a ``jax.tree_util.Partial``."""


class Operator(NamedTuple):
    """A symmetric matrix over the parameters, never laid out unless asked for.

    Attributes:
      product: ``vector -> matrix @ vector``, on pytrees with the structure of the parameters.
      dense: ``() -> matrix`` of shape ``(n, n)``, in the order of ``jax.flatten_util.ravel_pytree``.
      factors: ``() -> (jacobian, metric)`` of shapes ``(N, n)`` and ``(N, N)`` where the matrix is
        ``jacobian.T @ metric @ jacobian``, else None.
    """

    product: MatVec
    dense: Callable[[], jax.Array]
    factors: Callable[[], tuple[jax.Array, jax.Array]] | None = None


Curvature: TypeAlias = Callable[[ValueFn, Params], Operator]
"""Second derivatives as a method takes them, ``(objective, params) -> Operator``: see `gdjax.derivatives`."""

Transformation: TypeAlias = optax.GradientTransformationExtraArgs
"""Every gdjax optimizer is one, and every optax optimizer is one."""


class Status(IntEnum):
    """How a run stands. An int8 array in results; `explain` puts it into words."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NOISE_FLOOR = 3
    STALLED = 4
    NONFINITE = 5
    UNBOUNDED = 6
    INFEASIBLE = 7
    TARGET = 8
    DIVERGED = 9
    PRUNED = 10


FAILED = (Status.NONFINITE, Status.UNBOUNDED, Status.INFEASIBLE, Status.DIVERGED)
"""Ends of runs whose values are not to be compared with others'."""


_WORDS = {
    Status.RUNNING: "still running: no criterion has stopped it and steps are left",
    Status.CONVERGED: "converged: the residual fell below its tolerance",
    Status.MAX_STEPS: "took all its steps before any criterion stopped it",
    Status.NOISE_FLOOR: "as low as this precision allows: further changes are below the noise level",
    Status.STALLED: "stalled: no progress for the allowed number of steps, and not converged",
    Status.NONFINITE: "met a NaN or an infinity: the last finite point is kept",
    Status.UNBOUNDED: "unbounded: the objective fell without limit",
    Status.INFEASIBLE: "no point that satisfies the constraints was found",
    Status.TARGET: "the value fell below the target that was asked for",
    Status.DIVERGED: "diverged: the value rose above the allowed limit",
    Status.PRUNED: "given up by the sweep: other runs were ahead after as many steps",
}


def explain(status: ScalarLike) -> str:
    """Puts a status into words.

    Args:
      status: a `Status`, an integer, or a scalar integer array.

    Returns:
      One sentence.

    Raises:
      ValueError: if there is no such status, or if ``status`` is an array of several.

    Example:
      >>> import gdjax
      >>> gdjax.explain(gdjax.Status.CONVERGED)
      'converged: the residual fell below its tolerance'
    """
    if not isinstance(status, int) and not hasattr(status, "__index__"):
        kind = f"{type(status).__name__} {status!r}" if isinstance(status, str) else type(status).__name__
        raise TypeError(f"explain takes a status, such as result.status, got {kind}")
    shape = getattr(status, "shape", ())
    if shape != ():
        raise ValueError(f"explain takes one status, got an array of shape {shape}")
    try:
        return _WORDS[Status(int(status))]
    except ValueError:
        known = ", ".join(f"{s.value} {s.name}" for s in Status)
        raise ValueError(f"unknown status {int(status)}; the known ones are {known}") from None


class Answer(NamedTuple):
    """The point that a method stands for, when it is not the point it asks to be evaluated.

    A method with trial, extrapolated or split points keeps one of these in its state under the
    reserved field name ``answer``; the driver reads it there.

    Attributes:
      params: the accepted point, with the structure of the parameters.
      value: the objective at ``params``.
      residual: the optimality measure at ``params``, at least zero; zero at a solution.
      status: the method's own termination status; `Status.RUNNING` unless the method knows better
        (`Status.NOISE_FLOOR`, `Status.INFEASIBLE`, ...).
    """

    params: Params
    value: Scalar
    residual: Scalar
    status: ScalarLike = 0


class Optimality(NamedTuple):
    """What holds at a method's answer, where that is more than a gradient of zero: bounds, regularizers, constraints.

    It stands beside the `Answer` in the method's state, under the reserved field name ``optimality``, so that
    chains and wrappers keep it. It is a pytree: arrays of the settings are leaves of the state, its functions are
    `jax.tree_util.Partial`. ``init`` makes it and ``update`` hands it on as it is. A `Run` holds it back: the states
    between its steps have it empty, since settings never change.

    Attributes:
      settings: what the method was made with and its conditions need: a regularizer, bounds, constraints.
      conditions: ``(settings, value_fn, params, state) -> (unknowns, equations)``, at the answer's params and with
        the method's state there. The params come first among the unknowns; ``equations(unknowns)`` have the same
        number of entries, are zero at a solution and differentiable about it.
      penalty: ``(settings, params, state) -> scalar``, what is minimized besides the objective; None: nothing is.
    """

    settings: PyTree = None
    conditions: Callable[..., tuple[tuple[PyTree, ...], Callable[[tuple[PyTree, ...]], PyTree]]] | None = None
    penalty: Callable[..., Scalar] | None = None


class Step(NamedTuple):
    """What one step shows to stop criteria and recorders.

    Attributes:
      count: updates made so far, an int32 scalar; 0 at the start.
      params: the answer after them.
      value: the objective there (of the current mini-batch when the objective draws them).
      residual: the optimality measure there: the gradient's 2-norm unless the method has its own.
      move: how far the method means to go from there, to the point that it asks for next: the largest entry.
    """

    count: Scalar
    params: Params
    value: Scalar
    residual: Scalar
    move: ScalarLike = 0.0


@jax.tree_util.register_static
class Method(str):
    """The name of a method, a pytree without leaves: it crosses ``jit`` and ``vmap`` unchanged.

    Example:
      >>> import jax
      >>> from gdjax.types import Method
      >>> jax.tree.leaves(Method("bfgs()"))
      []
    """

    __slots__ = ()


class Result(NamedTuple):
    """What a run comes to: arrays only, so it maps under ``vmap`` and saves as it is.

    Attributes:
      params: the answer.
      value: the objective evaluated at ``params`` (over all data, not a mini-batch).
      residual: the optimality measure at ``params``.
      steps: updates made, int32; a flat method evaluated the objective ``steps + 1`` times.
      status: a `Status` as int8.
      state: the optimizer's state.
      trace: what ``record`` returned, stacked along a leading axis, or None. Entries that the run
        did not reach are NaN (0 where the type has no NaN).
      method: the name of the method that `gdjax.minimize` chose; None where the caller named one.
    """

    params: Params
    value: Scalar
    residual: Scalar
    steps: Scalar
    status: Scalar
    state: State
    trace: PyTree
    method: Method | None = None
