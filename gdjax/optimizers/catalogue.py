"""Every optimizer by name: the tests, the command line and the benchmarks go through this list.

A new method joins with one line: its name, its constructor, and arguments with which it makes progress on
a small smooth problem whose curvature is about one.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax.linesearch import line_search
from gdjax.optimizers.constrained import bounded_trust_region, lbfgsb, methods
from gdjax.optimizers.first_order import adaptive, gradient_descent, madgrad, perturbed
from gdjax.optimizers.kfac import kfac
from gdjax.optimizers.least_squares import gauss_newton, levenberg_marquardt
from gdjax.optimizers.nonsmooth import admm, frank_wolfe, mirror, projected, proximal_gradient, subgradient
from gdjax.optimizers.quasi_newton import barzilai_borwein, dense, lbfgs, nonlinear_cg
from gdjax.optimizers.second_order import cubic, natural_gradient, newton, shampoo, trust_region
from gdjax.projections import box
from gdjax.regularizers import zero
from gdjax.types import Params, Scalar, Transformation

__all__ = ["CATALOGUE", "Entry", "optimizers_by_name"]


class Entry(NamedTuple):
    """A constructor and sound arguments for it; calling an entry makes the transformation.

    Attributes:
      constructor: the public function.
      arguments: its arguments by name.
    """

    constructor: Callable[..., Transformation]
    arguments: dict[str, object]

    def __call__(self, **changes: Any) -> Transformation:
        return self.constructor(**{**self.arguments, **changes})


_FAR = 10.0
"""How far from zero the sets of the entries reach: beyond solutions of small problems, so that no bound is active."""

_INSIDE = Partial(box, lower=-_FAR, upper=_FAR)


def _far(params: Params) -> Scalar:
    """An inequality that holds in a ball about zero."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in map(jnp.asarray, jax.tree.leaves(params))
    ]
    return sum(squares[1:], squares[0]) / _FAR**2 - 1


def _corner(grad: Params) -> Params:
    """The point of the box that is lowest along a gradient."""
    return jax.tree.map(lambda leaf: -_FAR * jnp.sign(leaf), grad)


CATALOGUE: dict[str, Entry] = {
    "gradient_descent": Entry(gradient_descent.gradient_descent, {"learning_rate": 0.1}),
    "momentum": Entry(gradient_descent.momentum, {"learning_rate": 0.05}),
    "nesterov": Entry(gradient_descent.nesterov, {"learning_rate": 0.05}),
    "adagrad": Entry(adaptive.adagrad, {"learning_rate": 0.3}),
    "rmsprop": Entry(adaptive.rmsprop, {"learning_rate": 0.02}),
    "adam": Entry(adaptive.adam, {"learning_rate": 0.1}),
    "adamw": Entry(adaptive.adamw, {"learning_rate": 0.1, "weight_decay": 1e-3}),
    "madgrad": Entry(madgrad.madgrad, {"learning_rate": 0.1}),
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
    "broyden": Entry(dense.broyden, {"phi": 0.5}),
    "lbfgs": Entry(lbfgs.lbfgs, {}),
    "lbfgsb": Entry(lbfgsb.lbfgsb, {}),
    "bounded_trust_region": Entry(bounded_trust_region.bounded_trust_region, {}),
    "barzilai_borwein": Entry(barzilai_borwein.barzilai_borwein, {}),
    "nonlinear_cg": Entry(nonlinear_cg.nonlinear_cg, {}),
    "proximal_gradient": Entry(
        proximal_gradient.proximal_gradient, {"regularizer": zero(), "momentum": proximal_gradient.fista}
    ),
    "admm": Entry(admm.admm, {"regularizer": zero()}),
    "mirror_descent": Entry(mirror.mirror_descent, {"learning_rate": 0.1, "bregman": mirror.euclidean()}),
    "frank_wolfe": Entry(frank_wolfe.frank_wolfe, {"oracle": _corner}),
    "projected": Entry(
        projected.projected, {"optimizer": gradient_descent.gradient_descent(0.1), "projection": _INSIDE}
    ),
    "spectral_projected_gradient": Entry(projected.spectral_projected_gradient, {"projection": _INSIDE}),
    "subgradient": Entry(subgradient.subgradient, {"learning_rate": 0.1}),
    "perturbed": Entry(perturbed.perturbed, {"optimizer": gradient_descent.gradient_descent(0.1)}),
    "line_search": Entry(line_search, {"direction": gradient_descent.gradient_descent(1.0)}),
    "augmented_lagrangian": Entry(methods.augmented_lagrangian, {"inequality": _far}),
    "quadratic_penalty": Entry(methods.quadratic_penalty, {"inequality": _far}),
    "log_barrier": Entry(methods.log_barrier, {"inequality": _far}),
}


def optimizers_by_name() -> dict[str, Callable[..., Transformation]]:
    """The constructors whose one required argument is a learning rate, by name.

    Example:
      >>> from gdjax.optimizers.catalogue import optimizers_by_name
      >>> optimizers_by_name()["momentum"].__name__
      'momentum'
    """

    def required(constructor: Callable[..., Transformation]) -> list[str]:
        parameters = inspect.signature(constructor).parameters.values()
        return [parameter.name for parameter in parameters if parameter.default is parameter.empty]

    constructors = {name: entry.constructor for name, entry in CATALOGUE.items()}
    return {name: made for name, made in constructors.items() if required(made) == ["learning_rate"]}
