"""gdjax: functional optimization in JAX."""

from typing import TYPE_CHECKING, Any

from gdjax import objectives, problems, schedules, stopping, types
from gdjax.driver import Run, RunState
from gdjax.minimization import default_optimizer, minimize
from gdjax.objectives import Composite, Objective, finite_sum, least_squares
from gdjax.optimizers.adaptive import adagrad, adam, adamw, eps_inside, eps_outside, rmsprop
from gdjax.optimizers.clipping import clip_by_global_norm, clip_by_norm
from gdjax.optimizers.first_order import gradient_descent, momentum, nesterov
from gdjax.precision import at_least_float32, master_copy
from gdjax.recording import every
from gdjax.types import Answer, Params, Result, Status, Step, Transformation, ValueFn, explain

if TYPE_CHECKING:
    from gdjax import (
        analysis,
        bench,
        checkpoints,
        cli,
        constraints,
        damping,
        differentiability,
        differentiation,
        layers,
        linesearch,
        parts,
        plots,
        projections,
        regularizers,
        report,
        search,
        signals,
        sweeps,
    )
    from gdjax.constraints import augmented_lagrangian, log_barrier, quadratic_penalty
    from gdjax.linesearch import line_search
    from gdjax.optimizers.barzilai_borwein import barzilai_borwein
    from gdjax.optimizers.bounded import lbfgsb
    from gdjax.optimizers.bounded_trust_region import bounded_trust_region
    from gdjax.optimizers.conjugate import nonlinear_cg
    from gdjax.optimizers.cubic import cubic_newton
    from gdjax.optimizers.frank_wolfe import frank_wolfe
    from gdjax.optimizers.gauss_newton import covariance, gauss_newton
    from gdjax.optimizers.kfac import kfac
    from gdjax.optimizers.kronecker import shampoo, soap
    from gdjax.optimizers.least_squares import levenberg_marquardt
    from gdjax.optimizers.limited_memory import lbfgs
    from gdjax.optimizers.mirror import mirror_descent
    from gdjax.optimizers.natural import natural_gradient
    from gdjax.optimizers.newton import newton, newton_cg
    from gdjax.optimizers.projected import projected, spectral_projected_gradient
    from gdjax.optimizers.proximal import proximal_gradient
    from gdjax.optimizers.quasi_newton import bfgs, broyden, dfp, sr1
    from gdjax.optimizers.saddles import perturbed
    from gdjax.optimizers.splitting import admm
    from gdjax.optimizers.subgradient import polyak, subgradient
    from gdjax.optimizers.trust_region import trust_region
    from gdjax.parts import masked, partition
    from gdjax.sweeps import static, sweep

_HOMES = {
    "constraints": (
        "augmented_lagrangian",
        "log_barrier",
        "quadratic_penalty",
    ),
    "linesearch": ("line_search",),
    "optimizers.barzilai_borwein": ("barzilai_borwein",),
    "optimizers.bounded": ("lbfgsb",),
    "optimizers.bounded_trust_region": ("bounded_trust_region",),
    "optimizers.conjugate": ("nonlinear_cg",),
    "optimizers.cubic": ("cubic_newton",),
    "optimizers.frank_wolfe": ("frank_wolfe",),
    "optimizers.gauss_newton": (
        "covariance",
        "gauss_newton",
    ),
    "optimizers.kfac": ("kfac",),
    "optimizers.kronecker": (
        "shampoo",
        "soap",
    ),
    "optimizers.least_squares": ("levenberg_marquardt",),
    "optimizers.limited_memory": ("lbfgs",),
    "optimizers.mirror": ("mirror_descent",),
    "optimizers.natural": ("natural_gradient",),
    "optimizers.newton": (
        "newton",
        "newton_cg",
    ),
    "optimizers.projected": (
        "projected",
        "spectral_projected_gradient",
    ),
    "optimizers.proximal": ("proximal_gradient",),
    "optimizers.quasi_newton": (
        "bfgs",
        "broyden",
        "dfp",
        "sr1",
    ),
    "optimizers.saddles": ("perturbed",),
    "optimizers.splitting": ("admm",),
    "optimizers.subgradient": (
        "polyak",
        "subgradient",
    ),
    "optimizers.trust_region": ("trust_region",),
    "parts": (
        "masked",
        "partition",
    ),
    "sweeps": (
        "static",
        "sweep",
    ),
}
"""Names that are imported when one is first used, by the module that holds them: ``import gdjax`` stays light."""

_LAZY = {name: home for home, names in _HOMES.items() for name in names} | {
    name: name
    for name in (
        "analysis",
        "bench",
        "checkpoints",
        "cli",
        "constraints",
        "damping",
        "derivatives",
        "differentiability",
        "differentiation",
        "distributions",
        "layers",
        "linalg",
        "linesearch",
        "parts",
        "plots",
        "projections",
        "regularizers",
        "report",
        "search",
        "signals",
        "sweeps",
    )
}


_ELSEWHERE = {
    "sgd": "gradient_descent",
    "gd": "gradient_descent",
    "lm": "levenberg_marquardt",
    "leastsq": "least_squares",
    "cg": "nonlinear_cg",
    "newtonkrylov": "newton_cg",
    "fista": "proximal_gradient",
    "ista": "proximal_gradient",
    "projectedgradient": "projected",
    "trustexact": "trust_region",
    "slsqp": "augmented_lagrangian",
    "trustconstr": "augmented_lagrangian",
    **{name.replace("_", ""): name for name in _LAZY},
}
"""Names that other libraries have for methods, and ours."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        meant = _ELSEWHERE.get(name.lower().replace("-", "").replace("_", ""))
        way = f"; here it is gdjax.{meant}" if meant else ""
        raise AttributeError(f"module 'gdjax' has no attribute {name!r}{way}")
    import importlib

    module = importlib.import_module(f"gdjax.{_LAZY[name]}")
    value = module if name == _LAZY[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
