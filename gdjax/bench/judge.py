r"""An independent look at an answer, in float64: value, gradient, rounding, curvature, constraints."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.bench.sif import Case

__all__ = ["compiled", "judge"]

_DENSE = 256
"""The largest n for which eigenvalues of the Hessian are looked at."""


def _rounding(grad_fn: Any, x: np.ndarray, grad: np.ndarray, eps: float) -> float:
    """How much the gradient moves when the point moves by its own rounding: the largest of six draws."""
    draws = np.random.default_rng(0).choice([-1.0, 1.0], (6, x.size))
    moved = [np.asarray(grad_fn(jnp.asarray(x * (1 + eps * signs)))) for signs in draws]
    return float(max(np.linalg.norm(other - grad) for other in moved))


def _projected(case: Case, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
    if case.lower is None or case.upper is None:
        return grad
    return x - np.clip(x - grad, case.lower, case.upper)


def _normals(case: Case, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Outward normals of the active constraints as columns, and the largest violation."""
    n = x.size
    columns, violation = [np.zeros((n, 0))], 0.0
    point = jnp.asarray(x)
    if case.equality is not None:
        jacobian = np.asarray(jax.jacobian(case.equality)(point))
        columns += [jacobian.T, -jacobian.T]
        violation = max(violation, float(np.max(np.abs(case.equality(point)), initial=0.0)))
    if case.inequality is not None:
        g = np.asarray(case.inequality(point))
        columns.append(np.asarray(jax.jacobian(case.inequality)(point))[g > -1e-5].T)
        violation = max(violation, float(np.max(g, initial=0.0)))
    if case.lower is not None and case.upper is not None:
        near = 1e-6 * (1 + np.abs(x))
        columns += [-np.eye(n)[:, x - case.lower <= near], np.eye(n)[:, case.upper - x <= near]]
        outside = np.maximum(case.lower - x, x - case.upper)
        violation = max(violation, float(np.max(outside, initial=0.0)))
    return np.concatenate(columns, axis=1), violation


def _kkt(case: Case, x: np.ndarray, grad: np.ndarray) -> tuple[float, float]:
    """The distance of the negative gradient from the cone of active normals, and the violation."""
    from scipy.optimize import nnls

    normals, violation = _normals(case, x)
    if not normals.shape[1]:
        return float(np.linalg.norm(grad)), violation
    if not np.isfinite(normals).all():
        return np.inf, violation
    try:
        return float(nnls(normals, -grad)[1]), violation
    except RuntimeError:
        return float(np.linalg.norm(grad)), violation


class Compiled(NamedTuple):
    """A problem's compiled value and gradient, and Hessian."""

    both: Callable
    hessian: Callable


def compiled(case: Case) -> Compiled:
    """Compiles once for all answers to a problem."""
    return Compiled(jax.jit(jax.value_and_grad(case.value_fn)), jax.jit(jax.hessian(case.value_fn)))


def judge(case: Case, functions: Compiled, x: np.ndarray, eps: float, own: np.ndarray | None = None) -> dict:
    """Looks at an answer.

    Args:
      case: the problem, loaded under x64.
      functions: what `compiled` made of it.
      x: the answer, shape ``(n,)``.
      eps: the unit of rounding that the solver worked in.
      own: the gradient that the solver's precision sees at ``x``, if that is not float64.

    Returns:
      value, start_value, residual (2-norm), slope (inf-norm), rounding, lowest and largest eigenvalue
      (None for large n), violation. For bounds the gradient is the projected one, for constraints the
      KKT residual stands for it.
    """
    both = functions.both
    x = np.asarray(x, float)
    start = float(case.value_fn(case.start))
    value, grad = (np.asarray(part) for part in both(jnp.asarray(x)))
    finite = bool(np.isfinite(value) and np.isfinite(grad).all() and np.isfinite(x).all())
    report = {
        "value": float(value),
        "start_value": start,
        "finite": bool(np.isfinite(value) and np.isfinite(x).all()),
        "residual": float("inf"),
        "slope": float("inf"),
        "rounding": 0.0,
        "lowest": None,
        "largest": None,
        "violation": 0.0,
    }
    if not finite:
        return report
    rounding = _rounding(lambda z: both(z)[1], x, grad, eps)
    if own is not None:
        rounding += float(np.linalg.norm(np.asarray(own, float) - grad))
    projected = _projected(case, x, grad)
    report |= {
        "residual": float(np.linalg.norm(projected)),
        "slope": float(np.max(np.abs(projected))),
        "rounding": rounding,
    }
    if case.equality is not None or case.inequality is not None:
        residual, violation = _kkt(case, x, grad)
        report |= {"residual": residual, "slope": residual, "violation": violation}
    elif case.lower is not None:
        report["violation"] = _normals(case, x)[1]
    elif x.size <= _DENSE:
        second = np.asarray(functions.hessian(jnp.asarray(x)))
        if np.isfinite(second).all():
            spectrum = np.linalg.eigvalsh((second + second.T) / 2)
            report |= {"lowest": float(spectrum[0]), "largest": float(np.abs(spectrum).max())}
    return report
