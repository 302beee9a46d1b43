"""gdjax's own solvers, named as on a command line: ``bfgs``, ``trust_region(radius=2.0)``."""

import ast
import importlib
import inspect
import pkgutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gdjax
from gdjax.bench.sif import Case
from gdjax.bench.solved import Run, run_twice
from gdjax.types import Status, Transformation

__all__ = ["construct", "solve"]

_LAYERS = (
    "optimizers",
    "linalg",
    "objectives",
    "linesearch",
    "projections",
    "regularizers",
    "schedules",
)


def _lookup(name: str) -> Any:
    """A name out of gdjax, or else out of its modules."""
    homes = [gdjax]
    homes += [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(gdjax.__path__, "gdjax.")
        if info.name.split(".")[1] in _LAYERS
    ]
    for home in homes:
        if callable(getattr(home, name, None)):
            return getattr(home, name)
    raise KeyError(f"gdjax has no {name!r}")


def _evaluate(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _lookup(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_evaluate(node.value), node.attr)
    if isinstance(node, ast.Call):
        arguments = [_evaluate(argument) for argument in node.args]
        return _evaluate(node.func)(*arguments, **{k.arg: _evaluate(k.value) for k in node.keywords if k.arg})
    return ast.literal_eval(node)


def _read(text: str) -> tuple[Any, list, dict]:
    """The constructor that a text names, and the arguments that it gives."""
    node = ast.parse(text, mode="eval").body
    if isinstance(node, ast.Call):
        head, arguments = node.func, [_evaluate(argument) for argument in node.args]
        keywords = {k.arg: _evaluate(k.value) for k in node.keywords if k.arg}
    else:
        head, arguments, keywords = node, [], {}
    constructor = _evaluate(head)
    if not callable(constructor):
        raise ValueError(f"{text!r} is not a constructor")
    return constructor, arguments, keywords


def construct(text: str, **extra: object) -> Transformation:
    """Builds an optimizer from its name or a call of it, without running arbitrary code.

    Args:
      text: ``bfgs``, ``lbfgs(memory=5)``, ``trust_region(subproblem=steihaug)``.
      extra: keyword arguments that are passed on where the constructor takes them.

    Raises:
      KeyError: if gdjax has no such name.
      ValueError: if the text is not a name or a call.
    """
    constructor, arguments, keywords = _read(text)
    known = inspect.signature(constructor).parameters
    keywords |= {name: value for name, value in extra.items() if name in known and name not in keywords}
    return constructor(*arguments, **keywords)


def _bounds_as_constraints(case: Case) -> Case:
    """The case with its finite bounds among the constraints; two that coincide are an equation."""
    if case.lower is None or case.upper is None:
        return case
    lower, upper = np.asarray(case.lower), np.asarray(case.upper)
    fixed = np.flatnonzero(lower == upper)
    low, high = (np.flatnonzero(np.isfinite(side) & (lower < upper)) for side in (lower, upper))

    def joined(function, *parts):
        def vector(x):
            own = [] if function is None else [function(x)]
            return jnp.concatenate([*own, *[sign * (x[at] - side[at]) for sign, at, side in parts]])

        return vector if function is not None or any(at.size for _, at, _ in parts) else None

    return case._replace(
        equality=joined(case.equality, (1, fixed, lower)) if fixed.size else case.equality,
        inequality=joined(case.inequality, (-1, low, lower), (1, high, upper)),
        lower=None,
        upper=None,
    )


def _for_case(text: str, case: Case) -> Any:
    """The optimizer for a case; an inner method named without a call gets the bounds, if it takes any."""
    constructor, inner, _ = _read(text)
    known = inspect.signature(constructor).parameters
    within = bool(inner) and callable(inner[0]) and "lower" in inspect.signature(inner[0]).parameters
    if "inequality" in known and "lower" not in known and not within:
        case = _bounds_as_constraints(case)
    extra: dict[str, Any] = {"equality": case.equality, "inequality": case.inequality}
    bounds: dict[str, Any] = {}
    if case.lower is not None and case.upper is not None:
        bounds = {"lower": case.lower, "upper": case.upper}
        bounds = {name: jnp.asarray(bound, case.start.dtype) for name, bound in bounds.items()}
    if within:
        if case.equality is None and case.inequality is None:
            return inner[0](**bounds)
        extra["inner"] = inner[0](**bounds)
        text = text[: text.index("(")]
    else:
        extra |= bounds
    return construct(text, **{name: value for name, value in extra.items() if value is not None})


def solve(text: str, case: Case, max_steps: int) -> Run:
    """Runs `gdjax.minimize` at the stop criterion that it has by default.

    Residuals of equations are shown as `gdjax.least_squares`, so that Gauss-Newton sees inside.
    A second trace that counts the passes through the residuals tells how many Jacobians were taken.
    """
    objective = case.value_fn if case.residual_fn is None else gdjax.least_squares(case.residual_fn)
    optimizer = _for_case(text, case)
    stop = gdjax.stopping.DEFAULT

    def one(x):
        return gdjax.minimize(objective, x, optimizer, max_steps=max_steps, stop=stop)

    found, compile_seconds, seconds = run_twice(one, case.start)
    steps = int(found.steps)
    evaluations = int(getattr(found, "evaluations", steps + 1))
    jacobians = evaluations
    if case.residual_fn is not None:
        jacobians = _passes(case, text, max_steps) - evaluations
    return Run(
        x=found.params,
        claimed=int(found.status) == Status.CONVERGED,
        note=Status(int(found.status)).name,
        steps=steps,
        evaluations=evaluations,
        gradients=jacobians,
        hessians=0,
        compile_seconds=compile_seconds,
        solve_seconds=seconds,
    )


def _passes(case: Case, text: str, max_steps: int) -> int:
    """How often a run goes through the residuals, derivatives included."""
    count = 0

    def tick():
        nonlocal count
        count += 1

    residuals = case.residual_fn
    if residuals is None:
        return 0

    def residual_fn(x):
        jax.debug.callback(tick)
        return residuals(x)

    optimizer = _for_case(text, case._replace(residual_fn=residual_fn))
    stop = gdjax.stopping.DEFAULT
    found = gdjax.minimize(
        gdjax.least_squares(residual_fn), case.start, optimizer, max_steps=max_steps, stop=stop
    )
    jax.block_until_ready(found)
    jax.effects_barrier()
    return count
