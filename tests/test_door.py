"""Errors at the door: what people pass by mistake, what they are told, and what is none of it.

A row is a call, the error it raises, and how its message begins. Nothing here compiles a run.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy.optimize import Bounds

import gdjax
from gdjax import linesearch, projections, regularizers, schedules, stopping
from gdjax.objectives import derivatives
from gdjax.optimizers.blocks import damping
from gdjax.optimizers.kfac import fisher_estimators
from gdjax.optimizers.least_squares import damping_rules
from gdjax.optimizers.nonsmooth import admm, frank_wolfe, mirror, momentum, proximal_gradient
from gdjax.optimizers.second_order import natural_gradient, newton

X = jnp.array([3.0, -1.0, 2.0])
NAN, INF, MINUS = float("nan"), float("inf"), jnp.asarray(-1.0)
HALF = Partial(projections.box, lower=0.0, upper=0.5)


def square(x):
    return jnp.sum(x**2)


def residuals_that_are(value):
    return lambda: jax.eval_shape(gdjax.least_squares(lambda x: value), X)


ADAM = gdjax.adam(0.1)


def minimizing(objective, params=X, optimizer=ADAM, **options):
    return lambda: gdjax.minimize(objective, params, optimizer, **options)


# fmt: off
NUMBERS = [
    # Whatever a number comes as, it is looked at as Python's would be.
    (lambda: gdjax.adam(-1), ValueError, "adam: learning_rate must be at least 0, got -1"),
    (lambda: gdjax.adam(np.float32(-1)), ValueError, "adam: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.adam(np.float64(-1)), ValueError, "adam: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.adam(np.int8(-1)), ValueError, "adam: learning_rate must be at least 0, got -1"),
    (lambda: gdjax.adam(np.asarray(-1.0)), ValueError, "adam: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.adam(jnp.asarray(-1.0, jnp.bfloat16)), ValueError, "adam: learning_rate must be at least 0, got -1"),
    (lambda: gdjax.gradient_descent(MINUS), ValueError, "gradient_descent: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.adamw(NAN), ValueError, "adamw: learning_rate must be finite and at least 0, got nan"),
    (lambda: gdjax.adagrad(jnp.inf), ValueError, "adagrad: learning_rate must be finite and at least 0, got inf"),
    (lambda: gdjax.rmsprop("0.1"), TypeError, "rmsprop: learning_rate must be a number or a schedule, got str '0.1'"),
    (lambda: gdjax.momentum(None), TypeError, "momentum: learning_rate must be a number or a schedule, got None"),
    (lambda: gdjax.nesterov(1j), TypeError, "nesterov: learning_rate must be a number or a schedule, got complex 1j"),
    (lambda: gdjax.adam(jnp.asarray(1j)), TypeError, "adam: learning_rate must be a number or a schedule, got ArrayImpl"),
    (lambda: gdjax.adam(True), TypeError, "adam: learning_rate must be a number or a schedule, got bool True"),
    (lambda: gdjax.adam([0.1]), TypeError, "adam: learning_rate must be a number or a schedule, got list"),
    (lambda: gdjax.adam({"lr": 0.1}), TypeError, "adam: learning_rate must be a number or a schedule, got dict"),
    (lambda: gdjax.adam(jnp.ones(1)), ValueError, "adam: learning_rate has shape (1,); it takes one number (several: jax.vmap)"),
    (lambda: gdjax.adam(np.ones(3)), ValueError, "adam: learning_rate has shape (3,)"),
    (lambda: gdjax.adam(schedules.cosine), TypeError, "adam: learning_rate must be a number or a schedule, a function of the count, got the function cosine;"),
    (lambda: gdjax.adam(optax.constant_schedule), TypeError, "adam: learning_rate must be a number or a schedule, a function of the count, got the function"),
    (lambda: gdjax.adam(lambda: 0.1), TypeError, "adam: learning_rate must be a number or a schedule, a function of the count, got the function <lambda>"),
    (lambda: gdjax.adam(0.1, b1=1.0), ValueError, "adam: b1 must be at least 0 and below 1, got 1.0"),
    (lambda: gdjax.adam(0.1, b2=np.float32(1.5)), ValueError, "adam: b2 must be at least 0 and below 1, got 1.5"),
    (lambda: gdjax.adam(0.1, b1=schedules.constant(0.9)), TypeError, "adam: b1 must be a number, got Partial"),
    (lambda: gdjax.adam(0.1, eps=-1e-8), ValueError, "adam: eps must be at least 0, got -1e-08"),
    (lambda: gdjax.adamw(0.1, weight_decay=MINUS), ValueError, "adamw: weight_decay must be at least 0, got -1.0"),
    (lambda: gdjax.momentum(0.1, 1.5), ValueError, "momentum: decay must be at least 0 and below 1, got 1.5"),
    (lambda: gdjax.nesterov(0.1, jnp.asarray(1.0)), ValueError, "nesterov: decay must be at least 0 and below 1, got 1.0"),
    (lambda: gdjax.rmsprop(0.1, NAN), ValueError, "rmsprop: decay must be at least 0 and below 1, got nan"),
    (lambda: gdjax.adagrad(0.1, root=1e-8), TypeError, "adagrad: root must be a function of (moment, eps), got float 1e-08; such as gdjax.eps_inside"),
    (lambda: gdjax.clip_by_global_norm(0), ValueError, "clip_by_global_norm: max_norm must be above 0, got 0"),
    (lambda: gdjax.clip_by_norm(INF), ValueError, "clip_by_norm: max_norm must be finite and above 0, got inf"),
]

METHODS = [
    (lambda: gdjax.shampoo(-1.0), ValueError, "shampoo: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.shampoo(0.1, eps=0.0), ValueError, "shampoo: eps must be above 0, got 0.0"),
    (lambda: gdjax.shampoo(0.1, decay=2.0), ValueError, "shampoo: decay must be above 0 and at most 1, got 2.0"),
    (lambda: gdjax.shampoo(0.1, interval=0), ValueError, "shampoo: interval must be an integer of at least 1, got 0"),
    (lambda: gdjax.soap(MINUS), ValueError, "soap: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.soap(b2=1), ValueError, "soap: b2 must be at least 0 and below 1, got 1"),
    (lambda: gdjax.soap(max_size=10.5), ValueError, "soap: max_size must be an integer of at least 1, got 10.5"),
    (lambda: gdjax.kfac("fast"), TypeError, "kfac: learning_rate must be a number or a schedule, got str 'fast'"),
    (lambda: gdjax.kfac(damping=damping.Levenberg(-1.0)), ValueError, "Levenberg: initial must be above 0, got -1.0"),
    (lambda: gdjax.kfac(decay=1.0), ValueError, "kfac: decay must be at least 0 and below 1, got 1.0"),
    (lambda: gdjax.kfac(signals=fisher_estimators.sampled), TypeError, "kfac: signals must be a function of (objective, outputs, metric, count), got the function sampled"),
    (lambda: gdjax.natural_gradient(damping=-1.0), ValueError, "natural_gradient: damping must be at least 0, got -1.0"),
    (lambda: gdjax.natural_gradient(momentum=1.0), ValueError, "natural_gradient: momentum must be at least 0 and below 1, got 1.0"),
    (lambda: gdjax.natural_gradient(solve=natural_gradient.conjugate_gradients), TypeError, "natural_gradient: solve must be a function of (operator, right, unravel, damping), got the function"),
    (lambda: gdjax.natural_gradient(curvature=derivatives.fisher), TypeError, "natural_gradient: curvature must be a function of (objective, params), got the function fisher"),
    (lambda: natural_gradient.conjugate_gradients(0), ValueError, "conjugate_gradients: max_products must be an integer of at least 1, got 0"),
    (lambda: gdjax.newton(-1.0), ValueError, "newton: step must be at least 0, got -1.0"),
    (lambda: gdjax.newton("backtracking"), TypeError, "newton: step must be a number or a schedule, got str 'backtracking'"),
    (lambda: gdjax.newton(linesearch.backtracking), TypeError, "newton: step must be a number or a schedule, a function of the count, got the function backtracking;"),
    (lambda: gdjax.newton(solve="lu"), TypeError, "newton: solve must be a function of (matrix, grad), got str 'lu'; such as damped(1e-3)"),
    (lambda: gdjax.newton(solve=newton.damped), TypeError, "newton: solve must be a function of (matrix, grad), got the function damped"),
    (lambda: gdjax.newton(curvature="hessian"), TypeError, "newton: curvature must be a function of (objective, params), got str 'hessian'; such as"),
    (lambda: newton.damped(-1.0), ValueError, "damped: amount must be at least 0, got -1.0"),
    (lambda: newton.shifted(0.0), ValueError, "shifted: margin must be above 0, got 0.0"),
    (lambda: newton.absolute(NAN), ValueError, "absolute: floor must be finite and above 0, got nan"),
    (lambda: gdjax.newton_cg(max_products=0), ValueError, "newton_cg: max_products must be at least 1, got 0"),
    (lambda: gdjax.gauss_newton(-0.5), ValueError, "gauss_newton: step must be at least 0, got -0.5"),
    (lambda: gdjax.cubic_newton(-1.0), ValueError, "cubic_newton: weight must be above 0, got -1.0"),
    (lambda: gdjax.trust_region(np.float32(-1)), ValueError, "trust_region: radius must be above 0, got -1.0"),
    (lambda: gdjax.trust_region("exact"), TypeError, "trust_region: radius must be a number, got str 'exact'"),
    (lambda: gdjax.trust_region(schedules.constant(1.0)), TypeError, "trust_region: radius must be a number, got Partial"),
    (lambda: gdjax.trust_region(curvature=1.0), TypeError, "trust_region: curvature must be a function of (objective, params), got float 1.0"),
    (lambda: gdjax.levenberg_marquardt(damping=1e-3), TypeError, "levenberg_marquardt: damping must be a Damping such as nielsen(1e-3), got float 0.001"),
    (lambda: gdjax.levenberg_marquardt(scaling="columns"), TypeError, "levenberg_marquardt: scaling must be a function of (rows, previous), got str 'columns'"),
    (lambda: gdjax.levenberg_marquardt(geodesic=-0.75), ValueError, "levenberg_marquardt: geodesic must be above 0, got -0.75"),
    (lambda: damping_rules.nielsen(0), ValueError, "nielsen: relative must be above 0, got 0"),
    (lambda: damping_rules.region(MINUS), ValueError, "region: factor must be above 0, got -1.0"),
    (lambda: gdjax.bfgs(0.1), TypeError, "bfgs: search must be a Search of gdjax.linesearch, such as strong_wolfe(), got float 0.1"),
    (lambda: gdjax.bfgs(linesearch.strong_wolfe), TypeError, "bfgs: search must be a Search of gdjax.linesearch, such as strong_wolfe(), got the function"),
    (lambda: gdjax.dfp("strong_wolfe"), TypeError, "dfp: search must be a Search of gdjax.linesearch, such as strong_wolfe(), got str 'strong_wolfe'"),
    (lambda: gdjax.sr1(optax.scale_by_backtracking_linesearch(10)), TypeError, "sr1: search must be a Search of gdjax.linesearch"),
    (lambda: gdjax.bfgs(damping=0.2), TypeError, "bfgs: damping must be a function of (sy, sBs), got float 0.2; such as powell_damping"),
    (lambda: gdjax.broyden(NAN), ValueError, "broyden: phi must be finite, got nan"),
    (lambda: gdjax.broyden("bfgs"), TypeError, "broyden: phi must be a number, got str 'bfgs'"),
    (lambda: gdjax.lbfgs(0), ValueError, "lbfgs: memory must be an integer of at least 1, got 0"),
    (lambda: gdjax.lbfgs(0.1), ValueError, "lbfgs: memory must be an integer of at least 1, got 0.1"),
    (lambda: jax.eval_shape(lambda m: gdjax.lbfgs(m).init(X), 3), TypeError, "lbfgs: memory must be a Python integer, got a tracer: it sets shapes"),
    (lambda: gdjax.nonlinear_cg("polak_ribiere"), TypeError, "nonlinear_cg: formula must be a function of (g, previous, d, y), got str 'polak_ribiere'"),
    (lambda: gdjax.nonlinear_cg(restart=-1), ValueError, "nonlinear_cg: restart must be at least 0, got -1"),
    (lambda: gdjax.barzilai_borwein(length=1.0), TypeError, "barzilai_borwein: length must be a function of (ss, sy, yy), got float 1.0"),
    (lambda: gdjax.line_search(0.1), TypeError, "optimizer must be a gradient transformation with init and update, got float 0.1; a learning rate"),
    (lambda: gdjax.line_search(optax.sgd(1.0), first_step=1.0), TypeError, "line_search: first_step must be a function of (along, before, slope, gain), got float 1.0; such as"),
    (lambda: gdjax.perturbed(gdjax.adam(0.1), -1e-2), ValueError, "perturbed: radius must be above 0, got -0.01"),
    (lambda: gdjax.perturbed(gdjax.adam(0.1), threshold=NAN), ValueError, "perturbed: threshold must be finite and above 0, got nan"),
    (lambda: gdjax.perturbed(gdjax.adam(0.1), wait=0), ValueError, "perturbed: wait must be at least 1, got 0"),
    (lambda: gdjax.perturbed(gdjax.adam), TypeError, "optimizer must be a gradient transformation with init and update, got the function adam; a"),
    (lambda: gdjax.perturbed(gdjax.adam(0.1), key=0.5), TypeError, "key must be a JAX key or an integer, got float32"),
    (lambda: gdjax.mirror_descent(-0.1, mirror.simplex_entropy()), ValueError, "mirror_descent: learning_rate must be at least 0, got -0.1"),
    (lambda: gdjax.mirror_descent(0.1, mirror.simplex_entropy), TypeError, "mirror_descent: bregman must be a Bregman such as simplex_entropy(), got the function simplex_entropy"),
    (lambda: mirror.power_norm(3.0), ValueError, "power_norm: power must be above 1 and at most 2, got 3.0"),
    (lambda: mirror.simplex_entropy(0.0), ValueError, "simplex_entropy: total must be above 0, got 0.0"),
    (lambda: gdjax.subgradient(MINUS), ValueError, "subgradient: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.polyak(NAN), ValueError, "polyak: optimum must be finite, got nan"),
    (lambda: gdjax.admm(projections.simplex), TypeError, "admm takes a Regularizer, got the function simplex"),
    (lambda: gdjax.admm(regularizers.l1(), rho=0.0), ValueError, "admm: rho must be above 0, got 0.0"),
    (lambda: gdjax.admm(regularizers.l1(), relaxation=2.0), ValueError, "admm: relaxation must be above 0 and below 2, got 2.0"),
    (lambda: gdjax.admm(regularizers.l1(), linear=jnp.eye(2)), TypeError, "admm: linear must be a function of (params), got ArrayImpl of float32 and shape (2, 2)"),
    (lambda: gdjax.admm(regularizers.l1(), balance=2.0), TypeError, "admm: balance must be a function of (count, primal, dual, rho), got float 2.0"),
    (lambda: admm.gradient_steps(gdjax.adam(0.1), 0), ValueError, "gradient_steps: steps must be an integer of at least 1, got 0"),
    (lambda: gdjax.log_barrier(inequality=square, barrier=-1.0), ValueError, "log_barrier: barrier must be above 0, got -1.0"),
    (lambda: gdjax.augmented_lagrangian(equality=square, penalty=MINUS), ValueError, "augmented_lagrangian: penalty must be above 0, got -1.0"),
]

SEARCHES = [
    (lambda: linesearch.backtracking(0.0), ValueError, "backtracking: c1 must be above 0 and below 1, got 0.0"),
    (lambda: linesearch.backtracking("armijo"), TypeError, "backtracking: c1 must be a number, got str 'armijo'"),
    (lambda: linesearch.strong_wolfe(c2=1.0), ValueError, "strong_wolfe: c2 must be above 0 and below 1, got 1.0"),
    (lambda: linesearch.weak_wolfe(np.float32(-1e-4)), ValueError, "weak_wolfe: c1 must be above 0 and below 1, got -1e-04"),
    (lambda: linesearch.hager_zhang(NAN), ValueError, "hager_zhang: c1 must be above 0 and below 1, got nan"),
    (lambda: momentum.constant(1.0), ValueError, "constant: beta must be at least 0 and below 1, got 1.0"),
    (lambda: momentum.strongly_convex(0.0), ValueError, "strongly_convex: modulus must be above 0, got 0.0"),
]

BOUNDS = [
    (lambda: gdjax.lbfgsb(1.0, 0.0), ValueError, "lbfgsb: lower must not exceed upper, got 1.0 and 0.0"),
    (lambda: gdjax.lbfgsb(np.ones(3), np.array([2.0, 0.5, 2.0])), ValueError, "lbfgsb: lower must not exceed upper, got 1.0 and 0.5"),
    (lambda: gdjax.lbfgsb({"a": 1.0, "b": 0.0}, 0.5), ValueError, "lbfgsb: lower must not exceed upper, got 1.0 and 0.5"),
    (lambda: gdjax.lbfgsb(1.0, {"a": 0.5, "b": 2.0}), ValueError, "lbfgsb: lower must not exceed upper, got 1.0 and 0.5"),
    (lambda: gdjax.lbfgsb({"a": 0.0}, {"a": {"w": 1.0, "b": jnp.float32(-1)}}), ValueError, "lbfgsb: lower must not exceed upper, got 0.0 and -1.0"),
    (lambda: gdjax.lbfgsb([None, 1.0], (None, 0.0)), ValueError, "lbfgsb: lower and upper differ in structure"),
    (lambda: gdjax.lbfgsb({"a": 0.0}, {"b": 1.0}), ValueError, "lbfgsb: lower and upper differ in structure"),
    (lambda: gdjax.lbfgsb(np.zeros(2), np.ones(3)), ValueError, "lbfgsb: lower of shape (2,) and upper of shape (3,) do not fit together"),
    (lambda: gdjax.lbfgsb(None, {"a": jnp.nan, "b": 1.0}), ValueError, "lbfgsb: upper['a'] must be a number, got nan"),
    (lambda: gdjax.lbfgsb(jnp.inf, jnp.inf), ValueError, "lbfgsb: lower must leave room above it, got inf"),
    (lambda: gdjax.lbfgsb(None, -np.inf), ValueError, "lbfgsb: upper must leave room below it, got -inf"),
    (lambda: gdjax.lbfgsb(Bounds([0.0], [1.0])), TypeError, "lbfgsb: lower must be a number, an array or a tree of them, got Bounds; SciPy's come apart:"),
    (lambda: gdjax.lbfgsb("0", 1.0), TypeError, "lbfgsb: lower must be a number, an array or a tree of them, got str '0'"),
    (lambda: gdjax.lbfgsb(1j), TypeError, "lbfgsb: lower must be a number, an array or a tree of them, got complex 1j"),
    (lambda: gdjax.lbfgsb([(0.0, 1.0)] * 3).init(X), ValueError, "lbfgsb: lower does not fit the params"),
    (lambda: gdjax.bounded_trust_region({"a": 1.0, "b": 0.0}, 0.5), ValueError, "bounded_trust_region: lower must not exceed upper, got 1.0 and 0.5"),
    (lambda: gdjax.bounded_trust_region(NAN), ValueError, "bounded_trust_region: lower must be a number, got nan"),
    (lambda: gdjax.bounded_trust_region(0.0, 1.0, -1.0), ValueError, "bounded_trust_region: radius must be above 0, got -1.0"),
]

SETS = [
    (lambda: projections.simplex(X, -1.0), ValueError, "simplex: total must be above 0, got -1.0"),
    (lambda: projections.simplex(X, 0), ValueError, "simplex: total must be above 0, got 0"),
    (lambda: projections.l2_ball(X, MINUS), ValueError, "l2_ball: radius must be at least 0, got -1.0"),
    (lambda: projections.l2_ball(X, jnp.nan), ValueError, "l2_ball: radius must be at least 0, got nan"),
    (lambda: projections.l2_sphere(X, jnp.inf), ValueError, "l2_sphere: radius must be finite and at least 0, got inf"),
    (lambda: projections.l1_ball(X, -1), ValueError, "l1_ball: radius must be at least 0, got -1"),
    (lambda: projections.l1_sphere(X, np.float32(-1)), ValueError, "l1_sphere: radius must be at least 0, got -1.0"),
    (lambda: projections.linf_ball(X, "1"), TypeError, "linf_ball: radius must be a number, got str '1'"),
    (lambda: projections.linf_sphere(X, -1.0), ValueError, "linf_sphere: radius must be at least 0, got -1.0"),
    (lambda: projections.nuclear_ball(jnp.eye(2), -1.0), ValueError, "nuclear_ball: radius must be at least 0, got -1.0"),
    (lambda: projections.spectral_ball(jnp.eye(2), NAN), ValueError, "spectral_ball: radius must be at least 0, got nan"),
    (lambda: projections.box(X, 1.0, 0.0), ValueError, "box: lower must not exceed upper, got 1.0 and 0.0"),
    (lambda: projections.box({"a": X}, 1.0, {"a": 0.0}), ValueError, "box: lower must not exceed upper, got 1.0 and 0.0"),
    (lambda: projections.box(X, NAN), ValueError, "box: lower must be a number, got nan"),
    (lambda: projections.hypercube(X, -1.0), ValueError, "hypercube: scale must be at least 0, got -1.0"),
    (lambda: projections.box_and_hyperplane(X, 0.0, 0.1, 1.0, 1.0), ValueError, "box_and_hyperplane: the box does not meet the hyperplane: within it the sum of normal times x is"),
    (lambda: projections.box_and_hyperplane(X, 1.0, 0.0, 1.0, 1.0), ValueError, "box_and_hyperplane: lower must not exceed upper"),
    (lambda: projections.hyperplane(X, 0.0, 1.0), ValueError, "hyperplane: normal is zero and offset 1.0, so that no point is in the set"),
    (lambda: projections.hyperplane(X, NAN, 1.0), ValueError, "hyperplane: normal must be finite, got nan"),
    (lambda: projections.halfspace(X, np.zeros(3), -1.0), ValueError, "halfspace: normal is zero and offset -1.0"),
    (lambda: projections.affine(X, jnp.ones((1, 2)), jnp.ones(1)), ValueError, "affine: matrix has 2 columns, but there are 3 parameters"),
    (lambda: projections.affine_set(jnp.ones(3), 1.0), ValueError, "affine_set: matrix of shape (3,) and offset of shape (); expected (m, n) and (m,)"),
    (lambda: projections.transport_polytope(jnp.eye(2), -jnp.ones(2), jnp.ones(2)), ValueError, "transport_polytope: rows must be at least 0, got -1.0"),
    (lambda: projections.transport_polytope(jnp.eye(2), jnp.ones(2), jnp.zeros(2)), ValueError, "transport_polytope: rows have a positive sum, columns none"),
    (lambda: projections.on_eigenvalues(jnp.eye(2), 1.0), TypeError, "on_eigenvalues: function must be a function of (values), got float 1.0"),
    (lambda: projections.intersection(X, HALF), ValueError, "intersection: give at least one projection, in a sequence"),
    (lambda: projections.intersection(X, [HALF, 1.0]), TypeError, "intersection: projections[1] must be a function of (params), got float 1.0"),
    (lambda: projections.intersection(X, [HALF], rounds=0), ValueError, "intersection: rounds must be at least 1, got 0"),
    # Points that are whole numbers would be rounded out of the set.
    (lambda: projections.box(jnp.array([3, -1]), 0.5, 1.5), TypeError, "box: params is int32; a nearest point needs real floating numbers, e.g. jnp.asarray(x, float)"),
    (lambda: projections.simplex({"w": np.array([1, 2])}), TypeError, "simplex: params['w'] is int"),
    (lambda: projections.l2_ball(jnp.array([True])), TypeError, "l2_ball: params is bool"),
    (lambda: projections.second_order_cone((jnp.array([1]), 0.0)), TypeError, "second_order_cone: params[0] is int32"),
    (lambda: projections.non_negative(jnp.ones(2, complex)), TypeError, "non_negative: params is complex64"),
    (lambda: projections.simplex("x"), TypeError, "simplex: params is str; a nearest point needs real floating numbers"),
    (lambda: projections.simplex(None), ValueError, "params has no numbers in it"),
    (lambda: projections.box(X, [0.0] * 3, [1.0] * 3), ValueError, "numbers of shapes [(), (), ()] do not fit params of shapes (3,): they are one number, an array, or a tree"),
    (lambda: projections.l2_ball(X, 1.0, jnp.zeros(2)), ValueError, "numbers of shapes (2,) do not fit params of shapes (3,)"),
    (lambda: regularizers.l1(jnp.ones(2)).prox(X, 1.0), ValueError, "numbers of shapes (2,) do not fit params of shapes (3,)"),
    (lambda: regularizers.group_lasso(axis="rows"), TypeError, "group_lasso: axis must be an integer or several, got str 'rows'"),
    (lambda: regularizers.l1().prox(3, 1.0), TypeError, "params is int32; proximal operators and projections need real floating numbers"),
    # Where a projection is due: a function of params alone, onto a set that is there.
    (lambda: gdjax.projected(gdjax.adam(0.1), regularizers.l1()), TypeError, "projected: projection must be a function of (params), got Regularizer; it is a function of params"),
    (lambda: gdjax.projected(gdjax.adam(0.1), projections.box), TypeError, "projected: projection is a box without bounds, which is all of space"),
    (lambda: gdjax.projected(gdjax.adam(0.1), projections.hyperplane), TypeError, "projected: projection must be a function of (params), got the function hyperplane"),
    (lambda: gdjax.projected(gdjax.adam(0.1), Partial(projections.box, lower=1.0, upper=0.0)), ValueError, "box: lower must not exceed upper, got 1.0 and 0.0"),
    (lambda: gdjax.projected(HALF, gdjax.adam(0.1)), TypeError, "projected: projection must be a function of (params), got GradientTransformationExtraArgs"),
    (lambda: gdjax.spectral_projected_gradient(functools.partial(projections.l2_ball, radius=-1.0)), ValueError, "l2_ball: radius must be at least 0, got -1.0"),
    (lambda: gdjax.spectral_projected_gradient(projections.simplex(X)), TypeError, "spectral_projected_gradient: projection must be a function of (params), got ArrayImpl of float32 and"),
    (lambda: gdjax.subgradient(0.1, projection=Partial(projections.simplex, total=-1.0)), ValueError, "simplex: total must be above 0, got -1.0"),
    (lambda: regularizers.indicator(regularizers.l1()), TypeError, "indicator: projection must be a function of (params), got Regularizer"),
    (lambda: regularizers.indicator(Partial(projections.hypercube, scale=-1.0)), ValueError, "hypercube: scale must be at least 0, got -1.0"),
    (lambda: regularizers.indicator(HALF, tolerance=-1.0), ValueError, "indicator: tolerance must be at least 0, got -1.0"),
    (lambda: gdjax.frank_wolfe(projections.simplex), TypeError, "frank_wolfe: oracle is the projection simplex; its set's linear minimization oracle is meant, such as"),
    (lambda: gdjax.frank_wolfe(Partial(projections.l1_ball, radius=2.0)), TypeError, "frank_wolfe: oracle is the projection l1_ball"),
    (lambda: gdjax.frank_wolfe(1.0), TypeError, "frank_wolfe: oracle must be a function of (grad), got float 1.0"),
    (lambda: gdjax.frank_wolfe(Partial(frank_wolfe.simplex_vertex, total=-1.0)), ValueError, "simplex_vertex: total must be above 0, got -1.0"),
    (lambda: gdjax.frank_wolfe(Partial(frank_wolfe.box_vertex, lower=2.0)), ValueError, "box_vertex: lower must not exceed upper, got 2.0 and 1.0"),
    (lambda: gdjax.frank_wolfe(frank_wolfe.simplex_vertex, step="short"), TypeError, "frank_wolfe: step must be a number or a schedule, got str 'short'"),
]

REGULARIZERS = [
    (lambda: regularizers.l1(MINUS), ValueError, "l1: weight must be at least 0, got -1.0"),
    (lambda: regularizers.l1({"w": 1.0, "b": -1.0}), ValueError, "l1: weight must be at least 0, got -1.0 at ['b']"),
    (lambda: regularizers.l1(np.array([1.0, NAN])), ValueError, "l1: weight must be finite and at least 0, got nan"),
    (lambda: regularizers.l1("0.1"), TypeError, "l1: weight must be a number, an array or a tree of them, got str '0.1'"),
    (lambda: regularizers.l1(None), TypeError, "l1: weight must be a number, an array or a tree of them, got None"),
    (lambda: regularizers.l1(schedules.constant(0.1)), TypeError, "l1: weight must be a number, an array or a tree of them"),
    (lambda: regularizers.l2(np.float32(-1)), ValueError, "l2: weight must be at least 0, got -1.0"),
    (lambda: regularizers.squared_l2(-1), ValueError, "squared_l2: weight must be at least 0, got -1"),
    (lambda: regularizers.elastic_net(1.0, MINUS), ValueError, "elastic_net: l2_weight must be at least 0, got -1.0"),
    (lambda: regularizers.huber(width=-1.0), ValueError, "huber: width must be at least 0, got -1.0"),
    (lambda: regularizers.group_lasso(jnp.array([1.0, -1.0])), ValueError, "group_lasso: weight must be at least 0, got -1.0"),
    (lambda: regularizers.sparse_group_lasso(-1.0), ValueError, "sparse_group_lasso: l1_weight must be at least 0, got -1.0"),
    (lambda: regularizers.fused_lasso(1.0, -1.0), ValueError, "fused_lasso: variation_weight must be at least 0, got -1.0"),
    (lambda: regularizers.total_variation(1j), TypeError, "total_variation: weight must be a number, an array or a tree of them, got complex 1j"),
    (lambda: regularizers.nuclear(MINUS), ValueError, "nuclear: weight must be at least 0, got -1.0"),
    (lambda: regularizers.linf(NAN), ValueError, "linf: weight must be finite and at least 0, got nan"),
    (lambda: regularizers.maximum(-1), ValueError, "maximum: weight must be at least 0, got -1"),
    (lambda: regularizers.log_barrier(MINUS), ValueError, "log_barrier: weight must be at least 0, got -1.0"),
    (lambda: regularizers.entropy(MINUS), ValueError, "entropy: weight must be at least 0, got -1.0"),
    (lambda: regularizers.scaled(regularizers.l1(), MINUS), ValueError, "scaled: factor must be at least 0, got -1.0"),
    (lambda: regularizers.scaled(projections.simplex, 1.0), TypeError, "scaled: expected a Regularizer, got the function simplex"),
    (lambda: regularizers.translated(regularizers.l1(), "x"), TypeError, "translated: shift must hold real numbers, got str 'x'"),
    (lambda: regularizers.tilted(regularizers.l1(), NAN), ValueError, "tilted: slope must be finite, got nan"),
    (lambda: regularizers.with_squared_l2(regularizers.l1(), MINUS), ValueError, "with_squared_l2: weight must be at least 0, got -1"),
    (lambda: regularizers.agreement(regularizers.l1), TypeError, "agreement: expected a Regularizer, got the function l1"),
    (lambda: regularizers.conjugate(regularizers.l1(), 0.0), TypeError, "conjugate: value must be a function of (params), got float 0.0"),
    (lambda: gdjax.proximal_gradient(MINUS, regularizers.l1()), ValueError, "proximal_gradient: learning_rate must be at least 0, got -1.0"),
    (lambda: gdjax.proximal_gradient(regularizers.l1()), TypeError, "proximal_gradient needs a regularizer, after the learning rate or by name, got None"),
    (lambda: gdjax.proximal_gradient(0.1, projections.simplex), TypeError, "proximal_gradient needs a regularizer, after the learning rate or by name, got the function simplex"),
    (lambda: gdjax.proximal_gradient(0.1, regularizers.l1(), momentum=0.9), TypeError, "proximal_gradient: momentum must be a function of (theta, rate), got float 0.9; such as"),
    (lambda: gdjax.proximal_gradient(0.1, regularizers.l1(), momentum=momentum.constant), TypeError, "proximal_gradient: momentum must be a function of (theta, rate), got the function constant"),
    (lambda: proximal_gradient.backtracked(-1.0), ValueError, "backtracked: first must be above 0, got -1.0"),
    (lambda: proximal_gradient.backtracked(grow=0.5), ValueError, "backtracked: grow must be at least 1, got 0.5"),
]

STOPS = [
    (lambda: stopping.residual_below(-1), ValueError, "residual_below: tolerance must be at least 0, got -1"),
    (lambda: stopping.residual_below("1e-6"), TypeError, "residual_below: tolerance must be a number, got str '1e-6'"),
    (lambda: stopping.residual_below(None), TypeError, "residual_below: tolerance must be a number, got None"),
    (lambda: stopping.residual_below(scale=0.0), ValueError, "residual_below: scale must be above 0, got 0.0"),
    (lambda: stopping.value_below(NAN), ValueError, "value_below: target must be finite, got nan"),
    (lambda: stopping.value_below(jnp.asarray(1j)), TypeError, "value_below: target must be a number, got ArrayImpl of complex64"),
    (lambda: stopping.stalled(0), ValueError, "stalled: steps must be at least 1, got 0"),
    (lambda: stopping.stalled(relative=MINUS), ValueError, "stalled: relative must be at least 0, got -1.0"),
    (lambda: stopping.patience("5"), TypeError, "patience: steps must be a number, got str '5'"),
    (lambda: stopping.patience(np.int32(0)), ValueError, "patience: steps must be at least 1, got 0"),
    (lambda: stopping.patience(5, gain=-1.0), ValueError, "patience: gain must be at least 0, got -1.0"),
    (lambda: stopping.diverged(-1.0), ValueError, "diverged: factor must be above 0, got -1.0"),
    (lambda: stopping.any_of([stopping.stalled()]), TypeError, "any_of takes StopCriterion, got list: any_of(a, b), not any_of([a, b])"),
    (lambda: stopping.all_of(stopping.stalled), TypeError, "all_of takes StopCriterion, got the function stalled"),
]

SCHEDULES = [
    (lambda: schedules.constant(-0.1), ValueError, "constant: value must be at least 0, got -0.1"),
    (lambda: schedules.inverse_time(MINUS), ValueError, "inverse_time: initial must be at least 0, got -1.0"),
    (lambda: schedules.inverse_sqrt(-1.0), ValueError, "inverse_sqrt: initial must be at least 0, got -1.0"),
    (lambda: schedules.step_decay(0.1, 0.5, 0), ValueError, "step_decay: every must be at least 1, got 0"),
    (lambda: schedules.step_decay(0.1, -0.5, 10), ValueError, "step_decay: factor must be above 0, got -0.5"),
    (lambda: schedules.exponential(0.1, 0.9, jnp.asarray(0)), ValueError, "exponential: steps must be above 0, got 0"),
    (lambda: schedules.exponential(0.1, 0.9, end=-1e-3), ValueError, "exponential: end must be at least 0, got -0.001"),
    (lambda: schedules.polynomial(0.1, -0.1, 1, 10), ValueError, "polynomial: end must be at least 0, got -0.1"),
    (lambda: schedules.polynomial(0.1, 0.0, 0, 10), ValueError, "polynomial: power must be above 0, got 0"),
    (lambda: schedules.linear(0.1, 0.0, 10, begin=-1), ValueError, "linear: begin must be at least 0, got -1"),
    (lambda: schedules.linear(0.1, 0.0, NAN), ValueError, "linear: steps must be finite and above 0, got nan"),
    (lambda: schedules.cosine(0.1, jnp.asarray(0)), ValueError, "cosine: steps must be above 0, got 0"),
    (lambda: schedules.cosine(0.1, "100"), TypeError, "cosine: steps must be a number, got str '100'"),
    (lambda: schedules.cosine(0.1, 100, end=-0.1), ValueError, "cosine: end must be at least 0, got -0.1"),
    (lambda: schedules.warmup(0.1, 10), TypeError, "warmup: schedule must be a function of (count), got float 0.1"),
    (lambda: schedules.warmup(schedules.cosine, 10), TypeError, "warmup: schedule must be a function of (count), got the function cosine"),
    (lambda: schedules.warmup(schedules.constant(0.1), 10, start=-1.0), ValueError, "warmup: start must be at least 0, got -1.0"),
    (lambda: schedules.cyclic(-0.1, 0.1, 10), ValueError, "cyclic: low must be at least 0, got -0.1"),
    (lambda: schedules.cyclic(0.0, 0.1, 0), ValueError, "cyclic: half must be above 0, got 0"),
    (lambda: schedules.one_cycle(0.1, 10, rise=1.0), ValueError, "one_cycle: rise must be above 0 and below 1, got 1.0"),
    (lambda: schedules.one_cycle(0.1, 10, divisor=0.0), ValueError, "one_cycle: divisor must be above 0, got 0.0"),
    (lambda: schedules.one_cycle_linear(0.1, 10, rise=0.9, fall=0.5), ValueError, "one_cycle_linear: fall must be above rise, got rise=0.9 and fall=0.5"),
    (lambda: schedules.one_cycle_linear(0.1, 10, rise=jnp.float32(0.85)), ValueError, "one_cycle_linear: fall must be above rise"),
]

RUNS = [
    (minimizing(X, square), TypeError, "minimize: objective must be a function of params or an Objective, got ArrayImpl of float32 and shape"),
    (lambda: gdjax.minimize(X, square), TypeError, "minimize: objective must be a function of params or an Objective, got ArrayImpl"),
    (minimizing(square, gdjax.adam(0.1), X), TypeError, "minimize: params is a gradient transformation; the order is minimize(objective, params, optimizer)"),
    (minimizing("rosenbrock"), TypeError, "minimize: objective must be a function of params or an Objective, got str 'rosenbrock'"),
    (minimizing(lambda x, data: square(x)), TypeError, "minimize: objective must be a function of params alone, got the function <lambda>(x, data); data is"),
    (minimizing(square, optimizer="BFGS"), TypeError, "optimizer must be a gradient transformation with init and update, got str 'BFGS'; methods are"),
    (minimizing(square, optimizer=0.1), TypeError, "optimizer must be a gradient transformation with init and update, got float 0.1; a learning rate"),
    (minimizing(square, optimizer=gdjax.adam), TypeError, "optimizer must be a gradient transformation with init and update, got the function adam; a"),
    (minimizing(square, optimizer=[optax.clip(1.0), optax.sgd(0.1)]), TypeError, "optimizer must be a gradient transformation with init and update, got list; several are chained:"),
    (minimizing(square, optimizer=stopping.stalled()), TypeError, "optimizer must be a gradient transformation with init and update, got StopCriterion; a criterion goes"),
    (minimizing(square, optimizer=linesearch.strong_wolfe()), TypeError, "optimizer must be a gradient transformation with init and update, got Search; a line search is part"),
    (minimizing(square, optimizer=regularizers.l1()), TypeError, "optimizer must be a gradient transformation with init and update, got Regularizer; a regularizer is"),
    (minimizing(square, stop=1e-6), TypeError, "minimize: stop must be a StopCriterion such as gdjax.stopping.residual_below(1e-6), called, or None,"),
    (minimizing(square, stop=100), TypeError, "minimize: stop must be a StopCriterion such as gdjax.stopping.residual_below(1e-6), called, or None, got int 100; the number of steps is max_steps=..."),
    (minimizing(square, stop=[stopping.stalled()]), TypeError, "minimize: stop must be a StopCriterion such as gdjax.stopping.residual_below(1e-6), called, or None, got list; several go together"),
    (minimizing(square, record=lambda params, value: value), TypeError, "minimize: record must be a function of a Step, got the function <lambda>"),
    (minimizing(square, optimizer=gdjax.trust_region(curvature=lambda f, x: jnp.eye(3))), TypeError, "a curvature must return a gdjax.types.Operator, a matrix by its products, got"),
    (minimizing(square, optimizer=gdjax.projected(ADAM, lambda x: 0.0)), TypeError, "projected: projection must return params as they came, of shapes (3,); it returned ()"),
    (minimizing(square, optimizer=gdjax.spectral_projected_gradient(lambda x: None)), TypeError, "spectral_projected_gradient: projection must return params as they came, of shapes (3,); it returned None"),
    (minimizing(square, optimizer=gdjax.line_search(gdjax.bfgs())), ValueError, "line_search: the direction judges trial points itself, and two judges disagree"),
    (lambda: gdjax.partition({"a": gdjax.adam}, {"x": "a"}), TypeError, "optimizer must be a gradient transformation with init and update, got the function adam"),
    (lambda: gdjax.masked(0.1, True), TypeError, "optimizer must be a gradient transformation with init and update, got float 0.1"),
    (lambda: gdjax.explain("CONVERGED"), TypeError, "explain takes a status, such as result.status, got str 'CONVERGED'"),
    (lambda: gdjax.explain(stopping.stalled()), TypeError, "explain takes a status, such as result.status, got StopCriterion"),
    (lambda: gdjax.sgd, AttributeError, "module 'gdjax' has no attribute 'sgd'; here it is gdjax.gradient_descent"),
    (lambda: gdjax.BFGS, AttributeError, "module 'gdjax' has no attribute 'BFGS'; here it is gdjax.bfgs"),
    (minimizing(square, stop=stopping.residual_below), TypeError, "minimize: stop must be a StopCriterion such as gdjax.stopping.residual_below(1e-6), called, or None,"),
    (minimizing(square, max_steps=1e3), ValueError, "minimize: max_steps must be an integer of at least 0, got 1000.0"),
    (minimizing(square, max_steps="100"), ValueError, "minimize: max_steps must be an integer of at least 0, got '100'"),
    (minimizing(square, max_steps=np.int64(-1)), ValueError, "minimize: max_steps must be an integer of at least 0, got"),
    (minimizing(square, max_steps=True), ValueError, "minimize: max_steps must be an integer of at least 0, got True"),
    (minimizing(square, record="value"), TypeError, "minimize: record must be a function of a Step, got str 'value'"),
    (minimizing(square, key=0.5), TypeError, "key must be a JAX key or an integer, got float32"),
    (minimizing(square, params=jnp.arange(3)), TypeError, "minimize: params is int32; params must be floating, e.g. jnp.asarray(x, float)"),
    (minimizing(square, params={"w": "zeros"}), TypeError, "minimize: params['w'] is a str, not an array"),
    (minimizing(lambda x: 1), TypeError, "minimize: the objective must return a real floating number, not int32"),
    (minimizing(lambda x: True), TypeError, "minimize: the objective must return a real floating number, not bool"),
    (minimizing(lambda x: None), TypeError, "minimize: the objective returned None; does it end with return?"),
    (minimizing(lambda x: "low"), TypeError, "minimize: the objective returned a str, not a number"),
    (minimizing(lambda x: x), TypeError, "minimize: the objective must return a scalar, it returned shape (3,) (sum or average it)"),
    (minimizing(lambda x: (square(x), x)), TypeError, "minimize: the objective returned a tuple of 2; it must return one number"),
    (residuals_that_are(jnp.arange(3)), TypeError, "least_squares: residuals must be real floating numbers, not int32"),
    (residuals_that_are(jnp.ones(2, bool)), TypeError, "least_squares: residuals must be real floating numbers, not bool"),
    (residuals_that_are(jnp.ones(2, complex)), TypeError, "least_squares: residuals must be real floating numbers, not complex64; give real and imaginary parts"),
    (residuals_that_are(None), TypeError, "least_squares: the function returned None, which holds no residuals"),
    (residuals_that_are([]), TypeError, "least_squares: the function returned list, which holds no residuals"),
    (residuals_that_are(jnp.ones(0)), ValueError, "least_squares: the function returned no residuals, an empty array"),
    (residuals_that_are(3), TypeError, "least_squares: residuals must be real floating numbers, not int32"),
    (lambda: gdjax.least_squares(X), TypeError, "least_squares: residual_fn must be a function of (params), got ArrayImpl"),
    (lambda: gdjax.covariance(gdjax.least_squares(lambda x: jnp.arange(3)), X), TypeError, "least_squares: residuals must be real floating numbers, not int32"),
    (lambda: gdjax.covariance(gdjax.least_squares(lambda x: None), X), TypeError, "least_squares: the function returned None, which holds no residuals"),
    (lambda: gdjax.covariance(gdjax.least_squares(lambda x: x), jnp.arange(3)), TypeError, "covariance: params is int32; params must be floating"),
    (minimizing(gdjax.problems.rosenbrock()), TypeError, "minimize: objective must be a function of params or an Objective, got Problem; its objective is meant"),
    (minimizing(gdjax.problems.rosenbrock), TypeError, "minimize: objective is the function rosenbrock, which makes a problem: minimize(rosenbrock().objective, ...)"),
    (minimizing(square, max_steps=jnp.float32(3)), ValueError, "minimize: max_steps must be an integer of at least 0, got"),
    (lambda: derivatives.fisher("normal"), TypeError, "fisher: family must be a Family of gdjax.distributions, got str 'normal'"),
    (lambda: gdjax.finite_sum(X, square), TypeError, "finite_sum: loss must be a function of (params, batch), got ArrayImpl"),
    (lambda: gdjax.finite_sum(square, X), TypeError, "finite_sum: loss must be a function of (params, batch), got the function square"),
    (lambda: gdjax.finite_sum(lambda x, batch: square(x - batch), X, 1.5), ValueError, "finite_sum: batch_size must be an integer of at least 0, got 1.5"),
    (lambda: gdjax.objectives.supervised(jnp.dot, optax.l2_loss, X), TypeError, "supervised: data must be the pair (inputs, targets), got ArrayImpl"),
    (lambda: gdjax.every(0, lambda step: step.value), ValueError, "every: stride must be an integer of at least 1, got 0"),
    (lambda: gdjax.every(lambda step: step.value, 10), ValueError, "every: stride must be an integer of at least 1, got <function"),
]
# fmt: on

TABLE = [*NUMBERS, *METHODS, *SEARCHES, *BOUNDS, *SETS, *REGULARIZERS, *STOPS, *SCHEDULES, *RUNS]


@pytest.mark.parametrize(("call", "error", "message"), TABLE, ids=[row[2][:60] for row in TABLE])
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        call()


def test_sound_arguments_pass():
    """What looks like a mistake and is none: tracers, schedules, arrays of any kind, infinities that mean none."""

    def traced(number, many):
        gdjax.adamw(number, number, number, number, number)
        gdjax.newton(number, solve=newton.damped(number))
        gdjax.trust_region(number)
        gdjax.lbfgsb(many, 1.0)
        gdjax.bounded_trust_region({"a": number}, {"a": {"b": many}}, number)
        gdjax.perturbed(gdjax.shampoo(number, number), number, number, number)
        gdjax.proximal_gradient(number, regularizers.elastic_net(many, number))
        gdjax.projected(gdjax.soap(number), Partial(projections.box, lower=many, upper=number))
        schedules.one_cycle_linear(number, number, rise=number, fall=number)
        linesearch.strong_wolfe(number, number)
        return stopping.any_of(stopping.residual_below(number), stopping.stalled(number)).init(X)

    jax.eval_shape(traced, MINUS, -X)
    jax.eval_shape(jax.vmap(traced, in_axes=(0, None)), -X, -X)
    for number in (
        1,
        0.5,
        np.float32(0.5),
        np.int64(1),
        np.asarray(0.5),
        jnp.asarray(0.5, jnp.bfloat16),
        MINUS + 2,
    ):
        gdjax.adam(number)
        stopping.patience(number + 1)
    for rate in (
        schedules.cosine(0.1, 10),
        optax.cosine_decay_schedule(0.1, 10),
        lambda count: 0.1 / (count + 1),
    ):
        gdjax.adam(rate)
        gdjax.frank_wolfe(frank_wolfe.simplex_vertex, step=rate)
    for lower, upper in (
        (None, 1.0),
        (-INF, INF),
        (jnp.zeros(3), 1),
        ({"a": None, "b": 0.0}, {"a": 1.0, "b": 0.0}),
    ):
        gdjax.lbfgsb(lower, upper)
    gdjax.bfgs(scaling=None)
    gdjax.nonlinear_cg(restart=INF)
    linesearch.strong_wolfe(c2=1e-6)  # next to an exact search, below c1
    regularizers.l1({"w": np.array([True, False]), "b": 0})
    gdjax.finite_sum(
        functools.partial(lambda scale, w, batch: jnp.mean(w * batch * scale), 2.0), X, np.int32(2)
    )
    assert projections.l2_ball(X, INF).tolist() == X.tolist()
    assert projections.box(X, None, np.ones(3)).tolist() == [1.0, -1.0, 1.0]


EMPTY = {
    "simplex": lambda number: projections.simplex(X, number),
    "l1_ball": lambda number: projections.l1_ball(X, number),
    "l2_ball": lambda number: projections.l2_ball(X, number),
    "linf_ball": lambda number: projections.linf_ball(X, number),
    "l1_sphere": lambda number: projections.l1_sphere(X, number),
    "l2_sphere": lambda number: projections.l2_sphere(X, number),
    "linf_sphere": lambda number: projections.linf_sphere(X, number),
    "hypercube": lambda number: projections.hypercube(X, number),
    "box": lambda number: projections.box(X, 0.0, number),
    "hyperplane": lambda number: projections.hyperplane(X, 0.0, number),
    "halfspace": lambda number: projections.halfspace(X, 0.0, number),
    "box_and_hyperplane": lambda number: projections.box_and_hyperplane(X, 0.0, 1.0, 1.0, number),
    "intersection": lambda number: projections.intersection(
        X, [HALF, Partial(projections.box, upper=number)]
    ),
}


def test_projections_onto_nothing_are_nan_where_numbers_are_traced():
    found = jax.jit(lambda number: {name: onto(number) for name, onto in EMPTY.items()})
    for bad in (-1.0, NAN):
        for name, point in found(bad).items():
            assert np.all(np.isnan(point)), (name, bad, point)
    for name, point in found(1.0).items():
        assert name == "hyperplane" or np.all(np.isfinite(point)), (name, point)


def test_intersections_that_are_hard_to_find_are_not_taken_for_empty():
    """Long ways, stalls and small angles: corrections grow for long, but the sets meet."""
    for angle in (0.3, 0.1, 0.05):
        wedge = [
            Partial(projections.halfspace, normal=jnp.array([jnp.sin(angle), jnp.cos(angle)]), offset=0.0),
            Partial(projections.halfspace, normal=jnp.array([jnp.sin(angle), -jnp.cos(angle)]), offset=0.0),
        ]
        for far in (1.0, 100.0):
            assert np.all(np.isfinite(projections.intersection(jnp.array([far, 0.1]), wedge, rounds=100)))
    halves = [
        Partial(projections.box, upper=jnp.array([1.0, INF])),
        Partial(projections.hyperplane, normal=jnp.array([1.0, 0.0]), offset=1.0),
    ]
    for rounds in (1, 10, 100):
        point = projections.intersection(jnp.array([50.0, 3.0]), halves, rounds=rounds)
        np.testing.assert_allclose(point, [1.0, 3.0], rtol=1e-5)
