"""Methods for equality and inequality constraints: known optima, the formulas, honest statuses, and the KKT report."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import gdjax
from gdjax import Status
from gdjax.optimizers.constrained import methods
from gdjax.optimizers.constrained.merit import Multipliers, Point

HS71_START = np.array([1.0, 5.0, 5.0, 1.0])
HS71_BEST = 17.0140172891563


def hs71(x):
    """Hock and Schittkowski, problem 71."""
    return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]


def sphere(x):
    return jnp.sum(x**2) - 40


def product(x):
    return 25 - jnp.prod(x)


def everything(x):
    return {"product": product(x), "low": 1 - x, "high": x - 5}


def check_kkt(objective, run, equality, inequality, tolerance=2e-6):
    """All four residuals, with the result's own multipliers and with the report's."""
    for multipliers in (run.state.multipliers, None):
        report = gdjax.analysis.kkt(
            objective, run.params, equality=equality, inequality=inequality, multipliers=multipliers
        )
        assert report.stationarity < tolerance
        assert report.primal < tolerance
        assert report.dual == 0
        assert report.complementarity < 10 * tolerance


@pytest.mark.slow
def test_augmented_lagrangian_solves_hs71_with_its_multipliers(x64):
    method = gdjax.augmented_lagrangian(equality=sphere, inequality=everything)
    run = gdjax.minimize(hs71, jnp.asarray(HS71_START), method)
    assert run.status == Status.CONVERGED
    assert run.steps < 60
    np.testing.assert_allclose(run.value, HS71_BEST, rtol=1e-7)
    np.testing.assert_allclose(run.value, hs71(run.params), rtol=1e-15)
    check_kkt(hs71, run, sphere, everything)
    found = run.state.multipliers
    np.testing.assert_allclose(found.equality, 0.16146857, rtol=1e-5)
    np.testing.assert_allclose(found.inequality["product"], 0.55229366, rtol=1e-5)
    np.testing.assert_allclose(found.inequality["low"], [1.08787121, 0, 0, 0], rtol=1e-5)


@pytest.mark.slow
def test_bounds_may_be_the_inner_methods(x64):
    """Its residual, that of the projected gradient, is the measure of stationarity then."""
    method = gdjax.augmented_lagrangian(gdjax.lbfgsb(1.0, 5.0), equality=sphere, inequality=product)
    run = gdjax.minimize(hs71, jnp.asarray(HS71_START), method)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.value, HS71_BEST, rtol=1e-6)
    assert bool(jnp.all((run.params >= 1) & (run.params <= 5)))


def test_plain_gradient_steps_can_be_the_inner_method(x64):
    """min x + y on a circle with adam-free, answer-free steps: stationarity is the gradient's norm."""
    method = gdjax.augmented_lagrangian(gdjax.gradient_descent(0.01), equality=lambda x: jnp.sum(x**2) - 2)
    run = gdjax.minimize(jnp.sum, jnp.array([-2.0, -0.5]), method, max_steps=5000)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, [-1, -1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("inner", "slack"), [(gdjax.trust_region, 1), (gdjax.bfgs, 4)])
def test_float32_converges_or_says_where_rounding_ends_it(inner, slack):
    """Where it ends hangs on rounding, and so on how it was compiled; constraints of size 25 to 40 resolve 4e-6."""
    method = gdjax.augmented_lagrangian(inner(), equality=sphere, inequality=everything)
    run = gdjax.minimize(hs71, jnp.asarray(HS71_START, jnp.float32), method)
    assert Status(int(run.status)) in (Status.CONVERGED, Status.NOISE_FLOOR, Status.STALLED)
    np.testing.assert_allclose(run.value, HS71_BEST, rtol=slack * 1e-6)
    assert abs(sphere(run.params)) < 1e-4
    assert max(map(jnp.max, everything(run.params).values())) < slack * 1e-5
    np.testing.assert_allclose(run.state.multipliers.equality, 0.16146857, atol=1e-3)


def lagrangian(x, h, g, lam, mu, rho):
    """Nocedal and Wright, equation 17.36, and Rockafellar's form of its inequality part."""
    return lam @ h + rho / 2 * h @ h + (np.sum(np.maximum(0, mu + rho * g) ** 2) - mu @ mu) / (2 * rho)


@pytest.mark.slow
def test_merit_functions_are_the_published_and_weights_their_derivatives(x64):
    rng = np.random.default_rng(3)
    h, g, lam, mu, rho = rng.normal(size=3), rng.normal(size=4), rng.normal(size=3), rng.uniform(size=4), 7.0
    c, shift = Point(jnp.asarray(h), jnp.asarray(g)), Point(jnp.asarray(lam), jnp.asarray(mu))
    inside = Point(c.equality, -jnp.abs(c.inequality))
    published = {
        "lagrangian": (c, lagrangian(None, h, g, lam, mu, rho)),
        "penalty": (c, rho / 2 * (h @ h + np.sum(np.maximum(0, g) ** 2))),
        "barrier": (inside, -np.sum(np.log(np.abs(g))) / rho),
    }
    for name, (point, expected) in published.items():
        value, weights = (getattr(methods, f"_{name}_{part}") for part in ("value", "weights"))
        np.testing.assert_allclose(value(point, shift, rho), expected, rtol=1e-12)
        slope = jax.grad(value)(point, shift, rho)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), slope, weights(point, shift, rho)
        )


@pytest.mark.slow
def test_quadratic_penalty_and_barrier_follow_their_paths(x64):
    """For min x^2 above one, penalties end at rho / (rho + 2) and barriers at (1 + sqrt(1 + 2 t)) / 2."""
    stop = gdjax.stopping.residual_below(1e-4)
    run = gdjax.minimize(
        lambda x: x**2, jnp.asarray(0.0), gdjax.quadratic_penalty(inequality=lambda x: 1 - x), stop=stop
    )
    rho = run.state.penalty
    assert run.status == Status.CONVERGED
    possible = [r / (r + 2) for r in (rho, rho / 10)]
    assert min(abs(float(run.params - p)) for p in possible) < 1e-4
    assert run.params < 1
    run = gdjax.minimize(
        lambda x: x**2, jnp.asarray(3.0), gdjax.log_barrier(inequality=lambda x: 1 - x), stop=stop
    )
    assert run.status == Status.CONVERGED
    assert 1 < run.params < 1 + 1e-3


@pytest.mark.smoke
def test_a_barrier_needs_a_start_inside(x64):
    run = gdjax.minimize(lambda x: x**2, jnp.asarray(0.5), gdjax.log_barrier(inequality=lambda x: 1 - x))
    assert run.status == Status.INFEASIBLE
    assert run.params == 0.5


@pytest.mark.slow
def test_what_cannot_be_met_is_infeasible_and_what_has_no_end_is_unbounded(x64):
    x = jnp.ones(3)
    impossible = gdjax.augmented_lagrangian(equality=lambda x: jnp.sum(x**2) + 1)
    run = gdjax.minimize(jnp.sum, x, impossible)
    assert run.status == Status.INFEASIBLE
    apart = gdjax.augmented_lagrangian(inequality=lambda x: jnp.stack([x[0] - 1, 2 - x[0]]))
    run = gdjax.minimize(lambda x: jnp.sum(x**2), x, apart)
    assert run.status == Status.INFEASIBLE
    np.testing.assert_allclose(run.params[0], 1.5, atol=1e-3)
    open_end = gdjax.augmented_lagrangian(inequality=lambda x: x[0])
    run = gdjax.minimize(lambda x: x[0], x, open_end)
    assert run.status == Status.UNBOUNDED


@pytest.mark.slow
def test_mapped_programs_equal_single_ones_and_scipy(x64):
    shifts = jnp.linspace(-1.0, 1.0, 3)

    def trial(shift):
        method = gdjax.augmented_lagrangian(equality=lambda x: sphere(x) - shift, inequality=everything)
        return gdjax.minimize(hs71, jnp.asarray(HS71_START), method)

    mapped = jax.jit(jax.vmap(trial))(shifts)
    assert bool(jnp.all(mapped.status == Status.CONVERGED))
    both = jax.jit(jax.value_and_grad(hs71))
    for lane, shift in enumerate(np.asarray(shifts)):
        peer = optimize.minimize(
            lambda x: tuple(np.asarray(part) for part in both(x)),
            HS71_START,
            jac=True,
            method="SLSQP",
            bounds=[(1, 5)] * 4,
            constraints=[
                {"type": "eq", "fun": lambda x, shift=shift: x @ x - 40 - shift},
                {"type": "ineq", "fun": lambda x: np.prod(x) - 25},
            ],
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(mapped.value[lane], peer.fun, rtol=1e-6)


@pytest.mark.slow
def test_derivatives_are_those_of_the_kkt_system(x64):
    """Against finite differences of the solved program: level, product, lowest value, coefficient."""

    def solve(t):
        def below(x):
            return jnp.concatenate([(25 * t[1] - jnp.prod(x))[None], t[2] - x, x - 5])

        def objective(x):
            return x[0] * x[3] * jnp.sum(x[:3]) + t[3] * x[2]

        method = gdjax.augmented_lagrangian(equality=lambda x: jnp.sum(x**2) - 40 * t[0], inequality=below)
        stop = gdjax.stopping.residual_below(1e-9)
        run = gdjax.minimize(objective, jnp.asarray(HS71_START), method, stop=stop)
        return jnp.append(run.params, run.value)

    t, step = jnp.ones(4), 1e-3
    shifted = jax.jit(jax.vmap(solve))(
        jnp.concatenate([t[None] + step * jnp.eye(4), t[None] - step * jnp.eye(4)])
    )
    differences = (shifted[:4] - shifted[4:]).T / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.jacrev(solve))(t), differences, rtol=1e-3, atol=1e-3)


def test_bad_arguments_meet_an_error():
    with pytest.raises(ValueError, match="equality or inequality"):
        gdjax.augmented_lagrangian()
    with pytest.raises(ValueError, match="penalty"):
        gdjax.augmented_lagrangian(equality=sphere, penalty=0.0)
    with pytest.raises(TypeError, match="function of params"):
        gdjax.augmented_lagrangian(equality=3.0)
    with pytest.raises(ValueError, match="log_barrier needs inequality"):
        gdjax.log_barrier(inequality=None)
    for inner in (sphere, gdjax.trust_region):
        with pytest.raises(TypeError, match=r"inner must be a transformation such as .* by name"):
            gdjax.augmented_lagrangian(inner, equality=sphere)


NO_NUMBERS = {
    "comparison": (lambda x: x <= 1.0, TypeError, r"\(params\) is bool, as comparisons are.*x - 1 for x"),
    "one_of_two": (lambda x: {"a": x, "b": x == 1}, TypeError, r"\['b'\] is bool"),
    "a_truth": (lambda x: True, TypeError, "is bool"),
    "count": (lambda x: jnp.sum(x > 1), TypeError, "is int.*, not a real floating number"),
    "complex": (lambda x: x + 1j, TypeError, "is complex64, not a real"),
    "nothing": (lambda x: None, TypeError, "returned None .a missing `return`"),
    "no_arrays": (lambda x: (), TypeError, "a tuple without arrays"),
    "word": (lambda x: "x <= 1", TypeError, "is a str"),
    "empty": (lambda x: x[:0], ValueError, r"no numbers, shape \(0,\)"),
}


@pytest.mark.smoke
@pytest.mark.parametrize(("constraint", "error", "words"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_constraints_that_return_no_numbers_are_refused(constraint, error, words):
    x = jnp.ones(2)
    for kind in ("equality", "inequality"):
        for make in (gdjax.augmented_lagrangian, gdjax.quadratic_penalty, gdjax.log_barrier):
            if (kind, make) != ("equality", gdjax.log_barrier):
                with pytest.raises(error, match=f"{make.__name__}: {kind}.*{words}"):
                    gdjax.minimize(lambda x: jnp.sum(x**2), x, make(**{kind: constraint}))
        with pytest.raises(error, match=f"kkt: {kind}.*{words}"):
            gdjax.analysis.kkt(lambda x: jnp.sum(x**2), x, **{kind: constraint})


@pytest.mark.slow
def test_methods_for_constraints_do_not_nest():
    inner, x = gdjax.augmented_lagrangian(equality=sphere), jnp.asarray(HS71_START)
    with pytest.raises(ValueError, match="quadratic_penalty: inner is a method for constraints itself"):
        gdjax.quadratic_penalty(inner, inequality=product).init(x)
    chained = gdjax.log_barrier(optax.chain(optax.identity(), inner), inequality=product)
    with pytest.raises(ValueError, match="log_barrier: inner is a method for constraints itself"):
        chained.init(x)


def test_kkt_reports_each_residual_alone(x64):
    """min x^2 + y^2 above the line x + y = 2 with x <= 0.5: (0.5, 1.5), multipliers 3 and 2."""
    both = {"equality": lambda x: 2 - x[0] - x[1], "upper": jnp.array([0.5, jnp.inf])}

    def squares(x):
        return jnp.sum(x**2)

    report = gdjax.analysis.kkt(squares, jnp.array([0.5, 1.5]), **both)
    np.testing.assert_allclose(report.multipliers.equality, 3)
    np.testing.assert_allclose(report.upper, [2, 0], atol=1e-12)
    assert max(report.stationarity, report.primal, report.dual, report.complementarity) < 1e-12

    off = gdjax.analysis.kkt(squares, jnp.array([0.6, 1.5]), **both)
    np.testing.assert_allclose(off.primal, 0.1)
    slack = gdjax.analysis.kkt(
        squares,
        jnp.zeros(2),
        inequality=lambda x: x - 1,
        multipliers=Multipliers(None, jnp.array([0.5, -0.25])),
    )
    np.testing.assert_allclose([slack.dual, slack.complementarity], [0.25, 0.5])
    np.testing.assert_allclose(slack.stationarity, np.hypot(0.5, 0.25))
