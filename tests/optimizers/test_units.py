"""Units: scaling params, values or boxes by powers of two changes no status, and what is said is true in each."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax import Status, projections
from gdjax.optimizers.catalogue import CATALOGUE
from gdjax.optimizers.nonsmooth import mirror

START = np.array([0.5, -1.0, 2.0])
SCALES = ((2.0**-20, 1.0), (2.0**20, 1.0), (1.0, 2.0**-20))
"""Units of the params and of the values. Below values of one the default test is absolute: larger ones ask for more."""

_GRADIENTS = {"learning_rate": lambda s, c: s * s / c}
_NORMALIZED = {"learning_rate": lambda s, c: s, "eps": lambda s, c: c / s}
_INSIDE = {"learning_rate": lambda s, c: s, "eps": lambda s, c: (c / s) ** 2}
_DAMPED = {"damping": lambda s, c: c / s / s}
UNITS = {
    "gradient_descent": _GRADIENTS,
    "momentum": _GRADIENTS,
    "nesterov": _GRADIENTS,
    "adagrad": _INSIDE,
    "rmsprop": _INSIDE,
    "adam": _NORMALIZED,
    "adamw": {**_NORMALIZED, "weight_decay": lambda s, c: 1 / s},
    "madgrad": {"learning_rate": lambda s, c: s * s / c**0.5, "eps": lambda s, c: c**0.5},
    "shampoo": _INSIDE,
    "soap": _NORMALIZED,
    "kfac": _DAMPED,
    "natural_gradient": _DAMPED,
}
"""The units of the numbers that methods are given; the other methods are given none that has a unit."""


def _far(unit):
    """An inequality that holds in a ball of ten units."""
    return Partial(lambda unit, x: jnp.sum((x / unit) ** 2) / 100 - 1, unit)


def _box(unit):
    return Partial(projections.box, lower=-10 * unit, upper=10 * unit)


def _descent(unit, factor):
    return gdjax.gradient_descent(0.1 * unit * unit / factor)


BUILT = {
    "admm": lambda s, c: gdjax.admm(gdjax.regularizers.l1(0.1 * c / s), rho=c / s / s),
    "augmented_lagrangian": lambda s, c: gdjax.augmented_lagrangian(inequality=_far(s)),
    "quadratic_penalty": lambda s, c: gdjax.quadratic_penalty(inequality=_far(s)),
    "log_barrier": lambda s, c: gdjax.log_barrier(inequality=_far(s), barrier=c),
    "frank_wolfe": lambda s, c: gdjax.frank_wolfe(Partial(lambda s, g: -10 * s * jnp.sign(g), s)),
    "mirror_descent": lambda s, c: gdjax.mirror_descent(0.1 * s * s / c, mirror.euclidean()),
    "perturbed": lambda s, c: gdjax.perturbed(_descent(s, c), 1e-2 * s, 1e-3 * c / s),
    "projected": lambda s, c: gdjax.projected(_descent(s, c), _box(s)),
    "spectral_projected_gradient": lambda s, c: gdjax.spectral_projected_gradient(_box(s)),
    "subgradient": lambda s, c: gdjax.subgradient(0.1 * s * s / c),
    "line_search": lambda s, c: gdjax.line_search(gdjax.gradient_descent(s * s / c)),
}
"""Methods that are given sets, constraints or other methods: these in the units of the problem."""

SEARCHES = {
    "broyden",
    "frank_wolfe",
    "log_barrier",
    "line_search",
    "spectral_projected_gradient",
    "bfgs",
    "dfp",
    "sr1",
    "lbfgs",
    "lbfgsb",
    "newton_cg",
    "nonlinear_cg",
    "barzilai_borwein",
    "proximal_gradient",
}
"""Methods that try a first step or end a path by a length of their own; others take the same steps in any unit."""


def residuals(unit, factor, params):
    z = params / unit
    return jnp.sqrt(factor) * jnp.stack([z - 1, 0.1**0.5 * z**2])


def method(name, unit, factor):
    if name in BUILT:
        return BUILT[name](unit, factor)
    entry = CATALOGUE[name]
    defaults = {key: p.default for key, p in inspect.signature(entry.constructor).parameters.items()}
    given = {**defaults, **entry.arguments}
    return entry(**{key: given[key] * scale(unit, factor) for key, scale in UNITS.get(name, {}).items()})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_units_change_no_status(name, x64):
    """Powers of two, so that nothing is rounded: methods without a step of their own do exactly the same."""

    @jax.jit
    def run(unit, factor):
        objective = gdjax.least_squares(Partial(residuals, unit, factor))
        return gdjax.minimize(objective, START * unit, method(name, unit, factor), max_steps=400)

    plain = run(1.0, 1.0)
    for unit, factor in SCALES:
        scaled = run(unit, factor)
        assert scaled.status == plain.status, (unit, factor)
        # The barrier's own bias is there where the path ends, which depends on rounding.
        within = 1e-4 if name == "log_barrier" else 1e-5
        np.testing.assert_allclose(scaled.params / unit, plain.params, rtol=within)
        if name not in SEARCHES and factor == 1:
            assert scaled.steps == plain.steps


def parabola(unit, x):
    return 50 * jnp.sum((x / unit - 1) ** 2)


SOLVERS = {
    "trust_region": gdjax.trust_region,
    "bfgs": gdjax.bfgs,
    "lbfgs": gdjax.lbfgs,
    "nonlinear_cg": gdjax.nonlinear_cg,
    "lbfgsb": gdjax.lbfgsb,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_large_and_small_units_from_zero(name):
    """At zero the params have no size: the gradient is small in large units, and nothing has converged."""
    method = SOLVERS[name]()
    for unit in (1e-6, 1e4, 1e10):
        run = gdjax.minimize(Partial(parabola, jnp.float32(unit)), jnp.zeros(2), method)
        assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR), (unit, run.status)
        np.testing.assert_allclose(run.params / unit, 1, atol=1e-4)


@pytest.mark.slow
def test_lanes_of_many_units():
    units = jnp.array([1e-3, 1.0, 1e3, 1e9])

    def solve(unit):
        return gdjax.minimize(Partial(parabola, unit), jnp.ones(2) * 0.1 * unit, gdjax.bfgs())

    runs = jax.vmap(solve)(units)
    assert set(runs.status.tolist()) <= {Status.CONVERGED, Status.NOISE_FLOOR}
    np.testing.assert_allclose(runs.params / units[:, None], 1, atol=1e-4)


POWERS = (-1.0, 0.0, 0.1, 0.5, 1.0, 2.0)


def power(p, x):
    """Its derivative is x^(p - 1): the logarithm at 0, 1 - 1 / x at -1, a root between 0 and 1."""
    exponent = jnp.where(p == 0, 1, p)
    return jnp.sum(jnp.where(p == 0, jnp.log(jnp.where(p == 0, x, 1)), (x**exponent - 1) / exponent))


INSIDE = Partial(projections.box, lower=0.0, upper=10.0)
WALLED = {
    "lbfgsb": gdjax.lbfgsb(0.0, 10.0),
    "bounded_trust_region": gdjax.bounded_trust_region(0.0, 10.0),
    "spectral": gdjax.spectral_projected_gradient(INSIDE),
    "projected": gdjax.projected(gdjax.gradient_descent(1e-2), INSIDE),
    "mirror": gdjax.mirror_descent(1e-1, mirror.orthant_entropy()),
}


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True], ids=["f32", "f64"])
@pytest.mark.parametrize("name", WALLED)
def test_a_wall_hides_no_slope(name, wide):
    """Steep next to a wall, or without a bound there: not converged unless the wall itself is reached."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", wide)
    try:
        runs = {
            p: gdjax.minimize(Partial(power, jnp.asarray(p, float)), jnp.ones(1), WALLED[name])
            for p in POWERS
        }
    finally:
        jax.config.update("jax_enable_x64", before)
    for p, run in runs.items():
        if p < 1:
            lowest = -1 / p if p > 0 else -np.inf
            assert run.status != Status.CONVERGED or run.value - lowest < 1e-4, (p, run)
        else:  # x^2 / 2 and x: the wall holds the one, and is the minimum of the other
            np.testing.assert_allclose(run.params, 0, atol=1e-2)
            assert name in ("projected", "mirror") or run.status == Status.CONVERGED


def steep(x):
    return jnp.sum((1e7 * x - 0.8) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgsb", "bounded_trust_region", "spectral"])
def test_a_box_narrower_than_the_tolerance(name, x64):
    methods = {
        "lbfgsb": gdjax.lbfgsb(0.0, 1e-7),
        "bounded_trust_region": gdjax.bounded_trust_region(0.0, 1e-7),
        "spectral": gdjax.spectral_projected_gradient(Partial(projections.box, lower=0.0, upper=1e-7)),
    }
    run = gdjax.minimize(steep, jnp.array([1e-8]), methods[name])
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    np.testing.assert_allclose(run.params, 8e-8, rtol=1e-4)


@pytest.mark.slow
def test_counts_about_1e16():
    """A constant fitted to counts: in their units the gradient at the start is 5e-13."""
    counts = jnp.asarray(np.random.default_rng(0).normal(8.5e15, 1.5e15, 60), jnp.float32)
    fit = gdjax.least_squares(lambda c: (counts - c) / 1.5e15)
    best = fit(counts.mean())
    for optimizer in (None, gdjax.lbfgs(), gdjax.bfgs(), gdjax.trust_region()):
        run = gdjax.minimize(fit, jnp.array(0.0), optimizer)
        assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
        assert run.value <= 1.001 * best
