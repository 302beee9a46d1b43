"""gdjax: functional optimization in JAX."""

from typing import TYPE_CHECKING, Any

from gdjax import objectives, problems, schedules, stopping, types
from gdjax.objectives import Composite, Objective, finite_sum, least_squares
from gdjax.optimizers.blocks.precision import at_least_float32, master_copy
from gdjax.optimizers.first_order.adaptive import adagrad, adam, adamw, eps_inside, eps_outside, rmsprop
from gdjax.optimizers.first_order.clipping import clip_by_global_norm, clip_by_norm
from gdjax.optimizers.first_order.gradient_descent import gradient_descent, momentum, nesterov
from gdjax.runs.minimize import default_optimizer, minimize
from gdjax.runs.recording import every
from gdjax.runs.run import Run, RunState
from gdjax.types import Answer, Params, Result, Status, Step, Transformation, ValueFn, explain

if TYPE_CHECKING:
    from gdjax import analysis, bench, cli, linesearch, plots, projections, regularizers, sweeps
    from gdjax.linesearch import line_search
    from gdjax.objectives import differentiability, differentiation
    from gdjax.optimizers.blocks import damping
    from gdjax.optimizers.constrained.bounded_trust_region import bounded_trust_region
    from gdjax.optimizers.constrained.lbfgsb import lbfgsb
    from gdjax.optimizers.constrained.methods import augmented_lagrangian, log_barrier, quadratic_penalty
    from gdjax.optimizers.first_order.madgrad import madgrad
    from gdjax.optimizers.first_order.perturbed import perturbed
    from gdjax.optimizers.kfac import fisher_estimators
    from gdjax.optimizers.kfac.kfac import kfac
    from gdjax.optimizers.least_squares.gauss_newton import covariance, gauss_newton
    from gdjax.optimizers.least_squares.levenberg_marquardt import levenberg_marquardt
    from gdjax.optimizers.nonsmooth.admm import admm
    from gdjax.optimizers.nonsmooth.frank_wolfe import frank_wolfe
    from gdjax.optimizers.nonsmooth.mirror import mirror_descent
    from gdjax.optimizers.nonsmooth.projected import projected, spectral_projected_gradient
    from gdjax.optimizers.nonsmooth.proximal_gradient import proximal_gradient
    from gdjax.optimizers.nonsmooth.subgradient import polyak, subgradient
    from gdjax.optimizers.partition import masked, partition
    from gdjax.optimizers.quasi_newton.barzilai_borwein import barzilai_borwein
    from gdjax.optimizers.quasi_newton.dense import bfgs, broyden, dfp, sr1
    from gdjax.optimizers.quasi_newton.lbfgs import lbfgs
    from gdjax.optimizers.quasi_newton.nonlinear_cg import nonlinear_cg
    from gdjax.optimizers.second_order.cubic import cubic_newton
    from gdjax.optimizers.second_order.natural_gradient import natural_gradient
    from gdjax.optimizers.second_order.newton import newton, newton_cg
    from gdjax.optimizers.second_order.shampoo import shampoo, soap
    from gdjax.optimizers.second_order.trust_region import trust_region
    from gdjax.plots import report
    from gdjax.runs import checkpoints
    from gdjax.sweeps import search, static, sweep

_HOMES = {
    "linesearch": ("line_search",),
    "optimizers.constrained.bounded_trust_region": ("bounded_trust_region",),
    "optimizers.constrained.lbfgsb": ("lbfgsb",),
    "optimizers.constrained.methods": ("augmented_lagrangian", "log_barrier", "quadratic_penalty"),
    "optimizers.first_order.madgrad": ("madgrad",),
    "optimizers.first_order.perturbed": ("perturbed",),
    "optimizers.kfac.kfac": ("kfac",),
    "optimizers.least_squares.gauss_newton": ("covariance", "gauss_newton"),
    "optimizers.least_squares.levenberg_marquardt": ("levenberg_marquardt",),
    "optimizers.nonsmooth.admm": ("admm",),
    "optimizers.nonsmooth.frank_wolfe": ("frank_wolfe",),
    "optimizers.nonsmooth.mirror": ("mirror_descent",),
    "optimizers.nonsmooth.projected": ("projected", "spectral_projected_gradient"),
    "optimizers.nonsmooth.proximal_gradient": ("proximal_gradient",),
    "optimizers.nonsmooth.subgradient": ("polyak", "subgradient"),
    "optimizers.partition": ("masked", "partition"),
    "optimizers.quasi_newton.barzilai_borwein": ("barzilai_borwein",),
    "optimizers.quasi_newton.dense": ("bfgs", "broyden", "dfp", "sr1"),
    "optimizers.quasi_newton.lbfgs": ("lbfgs",),
    "optimizers.quasi_newton.nonlinear_cg": ("nonlinear_cg",),
    "optimizers.second_order.cubic": ("cubic_newton",),
    "optimizers.second_order.natural_gradient": ("natural_gradient",),
    "optimizers.second_order.newton": ("newton", "newton_cg"),
    "optimizers.second_order.shampoo": ("shampoo", "soap"),
    "optimizers.second_order.trust_region": ("trust_region",),
    "sweeps": ("static", "sweep"),
}
"""Names that are imported when one is first used, by the module that holds them: ``import gdjax`` stays light."""

_ROOMS = {
    "checkpoints": "runs.checkpoints",
    "derivatives": "objectives.derivatives",
    "damping": "optimizers.blocks.damping",
    "differentiability": "objectives.differentiability",
    "differentiation": "objectives.differentiation",
    "distributions": "objectives.distributions",
    "exporting": "_internal.programs.exporting",
    "fisher_estimators": "optimizers.kfac.fisher_estimators",
    "report": "plots.report",
    "search": "sweeps.search",
    **{
        name: name
        for name in "analysis bench cli linalg linesearch plots projections regularizers sweeps".split()
    },
}
"""Modules that people use by name, and where they are."""

_LAZY = {name: home for home, names in _HOMES.items() for name in names}


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
    **{name.replace("_", ""): name for name in (*_LAZY, *_ROOMS)},
}
"""Names that other libraries have for methods, and ours."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("gdjax")
    home = _LAZY.get(name) or _ROOMS.get(name)
    if home is None:
        meant = _ELSEWHERE.get(name.lower().replace("-", "").replace("_", ""))
        way = f"; here it is gdjax.{meant}" if meant else ""
        raise AttributeError(f"module 'gdjax' has no attribute {name!r}{way}")
    import importlib

    module = importlib.import_module(f"gdjax.{home}")
    value = module if name in _ROOMS else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_ROOMS})
