"""CUTEst problems out of the package sif2jax, one module at a time.

Importing sif2jax as a whole builds more than a thousand problems and takes minutes. Here its packages
are entered into ``sys.modules`` without running their ``__init__``, so that one problem costs one module.
"""

import ast
import functools
import importlib
import importlib.util
import sys
import types as python_types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

__all__ = ["Case", "index", "installed", "load"]

_FAMILIES = {
    "unconstrained": "_unconstrained_minimisation",
    "bounded": "_bounded_minimisation",
    "constrained": "_constrained_minimisation",
    "equations": "_nonlinear_equations",
    "quadratic": "_quadratic_problems",
}


class Case(NamedTuple):
    r"""A problem :math:`\min f(x)`, subject to :math:`l \le x \le u`, :math:`h(x) = 0`, :math:`g(x) \le 0`.

    Attributes:
      name: as in CUTEst.
      start: the starting point, shape ``(n,)``, in the default floating type.
      value_fn: the objective, a function of a vector; half the squared residuals for equations.
      residual_fn: the residuals where the problem is a system of equations, else None.
      lower: lower bounds, shape ``(n,)``, or None.
      upper: upper bounds, shape ``(n,)``, or None.
      equality: :math:`h`, a function that returns a vector, or None.
      inequality: :math:`g`, a function that returns a vector, or None.
    """

    name: str
    start: jax.Array
    value_fn: Callable[[jax.Array], jax.Array]
    residual_fn: Callable[[jax.Array], jax.Array] | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    equality: Callable[[jax.Array], jax.Array] | None = None
    inequality: Callable[[jax.Array], jax.Array] | None = None


def installed() -> bool:
    """Whether sif2jax is there to be used."""
    return importlib.util.find_spec("sif2jax") is not None


@functools.cache
def _root() -> Path:
    """The package's folder; its subpackages are entered as empty modules that have a path."""
    loaded = sys.modules.get("sif2jax")
    if loaded is not None:
        return Path(next(iter(loaded.__path__)))
    spec = importlib.util.find_spec("sif2jax")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the CUTEst benchmark needs the package sif2jax: install gdjax[bench]")
    root = Path(next(iter(spec.submodule_search_locations)))
    packages = {"sif2jax": root, "sif2jax.cutest": root / "cutest"}
    packages |= {f"sif2jax.cutest.{folder}": root / "cutest" / folder for folder in _FAMILIES.values()}
    for name, folder in packages.items():
        module = python_types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    bases = importlib.import_module("sif2jax._problem")
    for name in [name for name in vars(bases) if name.startswith("Abstract")]:
        setattr(sys.modules["sif2jax"], name, getattr(bases, name))
    return root


def _offered(source: str) -> dict[str, str]:
    """The problems that a family's ``__init__`` imports and puts into a tuple: name to module."""
    tree = ast.parse(source)
    imported = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }
    listed = {
        call.func.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    return {name: module for name, module in imported.items() if name in listed}


@functools.cache
def index() -> dict[str, tuple[str, str]]:
    """All problems that sif2jax offers: name to (family, module)."""
    found = {}
    for family, folder in _FAMILIES.items():
        source = (_root() / "cutest" / folder / "__init__.py").read_text(encoding="utf-8")
        for name, module in _offered(source).items():
            found.setdefault(name, (family, f"sif2jax.cutest.{folder}.{module}"))
    return found


def _flat(tree: Any) -> jax.Array:
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), tree))[0]


def load(name: str) -> Case:
    """Loads one problem, in the default floating type (float32, or float64 under x64).

    Args:
      name: a name out of `index`.

    Raises:
      KeyError: if there is no such problem.
    """
    if name not in index():
        raise KeyError(f"sif2jax offers no problem named {name!r}")
    problem = getattr(importlib.import_module(index()[name][1]), name)()
    start, args = problem.y0, problem.args
    template = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), start)
    vector = isinstance(template, jax.Array) and template.ndim == 1
    flat, unravel = (template, lambda x: x) if vector else ravel_pytree(template)

    def value_fn(x):
        return jnp.asarray(problem.objective(unravel(x), args)).reshape(())

    def part(which, sign):
        return lambda x: sign * _flat(problem.constraint(unravel(x))[which])

    case, residuals = Case(name, flat, value_fn), part(0, 1.0)
    if hasattr(problem, "constraint"):
        given = jax.eval_shape(problem.constraint, template)
        equality = None if given[0] is None else part(0, 1.0)
        inequality = None if given[1] is None else part(1, -1.0)
        if index()[name][0] == "equations" and inequality is None:
            case = Case(name, flat, lambda x: 0.5 * jnp.sum(residuals(x) ** 2), residuals)
        else:
            case = case._replace(equality=equality, inequality=inequality)
    return _with_bounds(case, getattr(problem, "bounds", None))


def _with_bounds(case: Case, bounds: Any) -> Case:
    if bounds is None:
        return case
    n = case.start.size
    lower, upper = (np.broadcast_to(np.asarray(_flat(bound), float), (n,)) for bound in bounds)
    if not (np.isfinite(lower).any() or np.isfinite(upper).any()):
        return case
    return case._replace(lower=lower, upper=upper)
