"""Every optimizer by name: the tests, the command line and the benchmarks go through this list.

A new method joins with one line: its name, its constructor, and arguments with which it makes progress on
a small smooth problem whose curvature is about one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from gdjax.optimizers.constrained import bounded_trust_region, lbfgsb
from gdjax.optimizers.first_order import adaptive, gradient_descent
from gdjax.optimizers.kfac import kfac
from gdjax.optimizers.least_squares import gauss_newton, levenberg_marquardt
from gdjax.optimizers.nonsmooth import proximal_gradient
from gdjax.optimizers.quasi_newton import barzilai_borwein, dense, lbfgs, nonlinear_cg
from gdjax.optimizers.second_order import cubic, natural_gradient, newton, shampoo, trust_region
from gdjax.regularizers import zero
from gdjax.types import Transformation

__all__ = ["CATALOGUE", "Entry", "optimizers_by_name"]


class Entry(NamedTuple):
    """A constructor and sound arguments for it; calling an entry makes the transformation.

    Attributes:
      constructor: the public function.
      arguments: its arguments by name.
    """

    constructor: Callable[..., Transformation]
    arguments: dict[str, Any]

    def __call__(self, **changes: Any) -> Transformation:
        return self.constructor(**{**self.arguments, **changes})


CATALOGUE: dict[str, Entry] = {
    "gradient_descent": Entry(gradient_descent.gradient_descent, {"learning_rate": 0.1}),
    "momentum": Entry(gradient_descent.momentum, {"learning_rate": 0.05}),
    "nesterov": Entry(gradient_descent.nesterov, {"learning_rate": 0.05}),
    "adagrad": Entry(adaptive.adagrad, {"learning_rate": 0.3}),
    "rmsprop": Entry(adaptive.rmsprop, {"learning_rate": 0.02}),
    "adam": Entry(adaptive.adam, {"learning_rate": 0.1}),
    "adamw": Entry(adaptive.adamw, {"learning_rate": 0.1, "weight_decay": 1e-3}),
    "shampoo": Entry(shampoo.shampoo, {"learning_rate": 0.1, "eps": 1e-2}),
    "soap": Entry(shampoo.soap, {"learning_rate": 0.1}),
    "kfac": Entry(kfac.kfac, {}),
    "natural_gradient": Entry(natural_gradient.natural_gradient, {}),
    "gauss_newton": Entry(gauss_newton.gauss_newton, {}),
    "levenberg_marquardt": Entry(levenberg_marquardt.levenberg_marquardt, {}),
    "newton": Entry(newton.newton, {}),
    "newton_cg": Entry(newton.newton_cg, {}),
    "trust_region": Entry(trust_region.trust_region, {}),
    "cubic_newton": Entry(cubic.cubic_newton, {}),
    "bfgs": Entry(dense.bfgs, {}),
    "dfp": Entry(dense.dfp, {}),
    "sr1": Entry(dense.sr1, {}),
    "lbfgs": Entry(lbfgs.lbfgs, {}),
    "lbfgsb": Entry(lbfgsb.lbfgsb, {}),
    "bounded_trust_region": Entry(bounded_trust_region.bounded_trust_region, {}),
    "barzilai_borwein": Entry(barzilai_borwein.barzilai_borwein, {}),
    "nonlinear_cg": Entry(nonlinear_cg.nonlinear_cg, {}),
    "proximal_gradient": Entry(
        proximal_gradient.proximal_gradient, {"regularizer": zero(), "momentum": proximal_gradient.fista}
    ),
}


def optimizers_by_name() -> dict[str, Callable[..., Transformation]]:
    """The constructors whose one required argument is a learning rate, by name.

    Example:
      >>> from gdjax.optimizers.catalogue import optimizers_by_name
      >>> optimizers_by_name()["momentum"].__name__
      'momentum'
    """
    return {
        name: entry.constructor for name, entry in CATALOGUE.items() if "learning_rate" in entry.arguments
    }
