"""Derivatives of a solution against finite differences, closed forms and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax.optimizers.nonsmooth import frank_wolfe, mirror

STOP = gdjax.stopping.residual_below(1e-10)
ADAM = optax.adam(0.05)
THETA = np.array([1.0, 2.0, 3.0])


def solve(theta, max_steps=2000):
    def objective(x):
        return jnp.sum((x - theta) ** 2) + 0.3 * theta[0] * jnp.sum(x**4)

    return gdjax.minimize(objective, jnp.zeros(3), ADAM, max_steps=max_steps, stop=STOP)


@pytest.mark.slow
def test_forward_reverse_and_finite_differences_agree(x64):
    """Of the params and of the value."""

    @jax.jit
    def answer(theta):
        run = solve(theta)
        return jnp.append(run.params, run.value)

    theta = jnp.asarray(THETA)
    reverse, forward = jax.jit(lambda theta: (jax.jacrev(answer)(theta), jax.jacfwd(answer)(theta)))(theta)
    step = 1e-5
    columns = [(answer(theta + step * e) - answer(theta - step * e)) / (2 * step) for e in jnp.eye(3)]
    np.testing.assert_allclose(reverse, forward, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(reverse, jnp.stack(columns, -1), rtol=1e-7, atol=1e-8)


@pytest.mark.smoke
def test_a_run_that_did_not_converge_has_nan_derivatives(x64):
    theta = jnp.asarray(THETA)
    short = solve(theta, max_steps=5)
    assert short.status == gdjax.Status.MAX_STEPS
    assert bool(jnp.all(jnp.isfinite(short.params)))
    assert bool(jnp.all(jnp.isnan(jax.grad(lambda t: solve(t, max_steps=5).value)(theta))))


@pytest.mark.smoke
def test_maps_over_problems(x64):
    thetas = jnp.stack([jnp.asarray(THETA), 2 * jnp.asarray(THETA)])
    slope = jax.jit(jax.grad(lambda t: solve(t).value))
    mapped = jax.jit(jax.vmap(slope))(thetas)
    looped = jnp.stack([slope(t) for t in thetas])
    np.testing.assert_allclose(mapped, looped, rtol=1e-9)


def test_derivative_in_the_data_of_a_finite_sum_is_the_pseudo_inverse(x64):
    features = jax.random.normal(jax.random.key(0), (30, 3))

    def first_weight(targets):
        def loss(w, batch):
            return jnp.mean((batch[0] @ w - batch[1]) ** 2)

        objective = gdjax.finite_sum(loss, (features, targets))
        return gdjax.minimize(objective, jnp.zeros(3), ADAM, max_steps=3000, stop=STOP).params[0]

    gradient = jax.grad(first_weight)(features @ jnp.arange(3.0))
    np.testing.assert_allclose(gradient, jnp.linalg.pinv(features)[0], atol=1e-12)


def test_large_problems_use_products_only(x64):
    n = 400
    scale = jnp.linspace(1.0, 3.0, n)

    def total(shift):
        stop = gdjax.stopping.residual_below(1e-9)
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum(scale * (x - shift) ** 2),
            jnp.zeros(n),
            gdjax.gradient_descent(0.4),
            stop=stop,
        )
        return jnp.sum(run.params**2)

    np.testing.assert_allclose(jax.grad(total)(2.0), 2 * 2.0 * n, rtol=1e-8)


@pytest.mark.slow
def test_a_learning_rate_is_learned_through_an_unrolled_run(x64):
    def loss_after(log_rate):
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * x**2),
            jnp.ones(2),
            gdjax.gradient_descent(jnp.exp(log_rate)),
            stop=None,
            max_steps=20,
        )
        return jnp.log(run.value)

    outer = gdjax.minimize(loss_after, jnp.log(0.05), gdjax.adam(0.02), max_steps=200, stop=None)
    rates = np.linspace(0.05, 0.21, 10001)
    best = rates[np.argmin((1 - rates) ** 40 + 9 * (1 - 9 * rates) ** 40)]
    np.testing.assert_allclose(jnp.exp(outer.params), best, rtol=0.02)


def bytes_to_differentiate(method, steps):
    def final(rate):
        slopes = jnp.linspace(1.0, 2.0, 40)
        run = gdjax.minimize(
            lambda x: jnp.sum(slopes * jnp.cosh(x - 1 - rate)),
            jnp.zeros(40),
            method(rate),
            stop=None,
            max_steps=steps,
        )
        return run.value

    memory = jax.jit(jax.grad(final)).lower(0.01).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@pytest.mark.slow
def test_unrolled_runs_keep_memory_for_the_root_of_their_steps():
    assert bytes_to_differentiate(gdjax.adam, 4096) < 8 * bytes_to_differentiate(gdjax.adam, 64)


@pytest.mark.slow
def test_unrolled_flat_runs_keep_states_alone():
    hessian = 40 * 40 * 4
    assert bytes_to_differentiate(lambda rate: gdjax.newton(), 512) < 512 * hessian


@pytest.mark.slow
def test_the_lasso_is_differentiated_through_its_fixed_point(x64):
    """Coordinates apart: x = soft(b, w), F = (x - b)^2 / 2 + w |x|."""
    b = jnp.array([3.0, -0.4, -2.0])
    stop = gdjax.stopping.residual_below(1e-10)

    def solved(weight):
        method = gdjax.proximal_gradient(None, gdjax.regularizers.l1(weight))
        return gdjax.minimize(lambda x: 0.5 * jnp.sum((x - b) ** 2), jnp.zeros(3), method, stop=stop)

    slopes = jax.jacobian(lambda weight: solved(weight).params)(1.0)
    np.testing.assert_allclose(slopes, [-1.0, 0.0, 1.0], atol=1e-8)
    np.testing.assert_allclose(jax.grad(lambda weight: solved(weight).value)(1.0), 2.0 + 1.0, rtol=1e-8)


@pytest.mark.slow
def test_correlated_lasso_against_finite_differences(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 8)), rng.normal(size=30)
    stop = gdjax.stopping.residual_below(1e-11)

    @jax.jit
    @jax.value_and_grad
    def total(weight):
        method = gdjax.proximal_gradient(None, gdjax.regularizers.l1(weight))
        run = gdjax.minimize(
            lambda x: 0.5 * jnp.sum((a @ x - b) ** 2), jnp.zeros(8), method, stop=stop, max_steps=20_000
        )
        return jnp.sum(run.params * jnp.arange(8.0))

    (_, slope), above, below = total(2.0), total(2.0 + 1e-5)[0], total(2.0 - 1e-5)[0]
    np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_projected_answer_is_differentiated(x64):
    """The projection of c onto the simplex: entries off the support stand still."""
    stop = gdjax.stopping.residual_below(1e-10)

    def nearest(c):
        method = gdjax.spectral_projected_gradient(gdjax.projections.simplex)
        return gdjax.minimize(lambda x: jnp.sum((x - c) ** 2), jnp.full(3, 1 / 3), method, stop=stop).params

    expected = [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(jax.jacobian(nearest)(jnp.array([0.6, 0.5, -1.0])), expected, atol=1e-8)


TIGHT = gdjax.stopping.residual_below(1e-11)
DATA = np.random.default_rng(5).normal(size=(12, 5))
TARGET = np.random.default_rng(6).normal(size=12)
SIMPLEX = functools.partial(gdjax.projections.simplex, total=1.5)
SPLITTING = {
    "newton_step": {},
    "formula": {
        "x_update": lambda v, rho, params: jnp.linalg.solve(
            DATA.T @ DATA + rho * jnp.eye(5), DATA.T @ TARGET + rho * v
        )
    },
}


def on_simplex(method):
    """Least squares over the simplex of total 1.5."""

    def solve(t):
        def objective(x):
            return 0.5 * jnp.sum((DATA @ x - t[0] * TARGET) ** 2) + t[1] * x[0] ** 2

        return gdjax.minimize(objective, jnp.full(5, 0.3), method, stop=TIGHT, max_steps=50_000)

    return solve, jnp.array([1.0, 0.5])


def between_walls(t):
    """A projection whose numbers are differentiated too."""
    box = functools.partial(gdjax.projections.box, lower=t[0], upper=t[1])
    method = gdjax.projected(optax.sgd(0.02, 0.5), box)
    return gdjax.minimize(
        lambda x: 0.5 * jnp.sum((DATA @ x - TARGET) ** 2), jnp.zeros(5), method, stop=TIGHT, max_steps=50_000
    )


def multiplicative(t):
    method = gdjax.mirror_descent(0.05, mirror.orthant_entropy())
    return gdjax.minimize(
        lambda x: 0.5 * jnp.sum((DATA @ x - t[0] * TARGET) ** 2) + t[1] * jnp.sum(x**2),
        jnp.full(5, 0.3),
        method,
        stop=TIGHT,
        max_steps=50_000,
    )


def in_the_box(t):
    """Frank-Wolfe ends at corners: they move with the walls."""
    oracle = Partial(frank_wolfe.box_vertex, lower=t[0], upper=t[1])
    return gdjax.minimize(
        lambda x: jnp.sum(DATA[0] * x) + t[2] * jnp.sum(jnp.cos(x)),
        jnp.zeros(5),
        gdjax.frank_wolfe(oracle),
        stop=TIGHT,
    )


def fused(t):
    method = gdjax.admm(gdjax.regularizers.l1(t[0]), linear=jnp.diff)
    return gdjax.minimize(
        lambda x: 0.5 * jnp.sum((DATA @ x - t[1] * TARGET) ** 2),
        jnp.zeros(5),
        method,
        stop=TIGHT,
        max_steps=5000,
    )


def split(name):
    def solve(t):
        method = gdjax.admm(gdjax.regularizers.l1(t[0]), **SPLITTING[name])
        return gdjax.minimize(
            lambda x: 0.5 * jnp.sum((DATA @ x - TARGET) ** 2),
            jnp.zeros(5),
            method,
            stop=TIGHT,
            max_steps=5000,
        )

    return solve, jnp.array([1.0])


FIRST_ORDER = {
    "projected": on_simplex(gdjax.projected(gdjax.gradient_descent(0.03), SIMPLEX)),
    "projected, its walls": (between_walls, jnp.array([-0.1, 0.2])),
    "mirror descent": on_simplex(gdjax.mirror_descent(0.1, mirror.simplex_entropy(1.5))),
    "mirror descent, orthant": (multiplicative, jnp.array([1.0, 0.5])),
    "frank_wolfe": on_simplex(
        gdjax.frank_wolfe(
            Partial(frank_wolfe.simplex_vertex, total=1.5), away=Partial(frank_wolfe.simplex_away, total=1.5)
        )
    ),
    "frank_wolfe, its walls": (in_the_box, jnp.array([-0.4, 0.7, 0.1])),
    "admm": split("newton_step"),
    "admm, formula": split("formula"),
    "admm, linear": (fused, jnp.array([0.5, 1.0])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_methods_are_differentiated_through_what_holds_at_their_answers(x64, name):
    solve, t = FIRST_ORDER[name]

    def answer(t):
        run = solve(jnp.asarray(t))
        found = jnp.append(run.params, run.value)
        return found, (found, run.status)

    both, step = jax.jit(jax.jacrev(answer, has_aux=True)), 1e-5
    slopes, (_, status) = both(t)
    assert status == gdjax.Status.CONVERGED
    columns = [(both(t + step * e)[1][0] - both(t - step * e)[1][0]) / (2 * step) for e in jnp.eye(t.size)]
    assert np.abs(slopes).max() > 1e-2
    np.testing.assert_allclose(slopes, jnp.stack(columns, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_frank_wolfe_over_an_unknown_set_says_nan(x64):
    def ball(grad):
        return -grad / jnp.linalg.norm(grad)

    def project(x):
        return x / jnp.maximum(1, jnp.linalg.norm(x))

    def nearest(c, projection):
        method = gdjax.frank_wolfe(ball, projection=projection)
        return gdjax.minimize(lambda x: jnp.sum((x - c) ** 2), jnp.zeros(2), method, max_steps=20_000).params

    c = jnp.array([3.0, 4.0])
    unknown, known = jax.jit(lambda c: [jax.jacobian(nearest)(c, each) for each in (None, project)])(c)
    assert bool(jnp.all(jnp.isnan(unknown)))
    expected = (np.eye(2) - np.outer(c, c) / 25) / 5
    np.testing.assert_allclose(known, expected, atol=1e-5)


METHODS_OF_A_LOGARITHM = {
    "bfgs": lambda: gdjax.bfgs(),
    "lbfgsb": lambda: gdjax.lbfgsb(-5.0, 5.0),
    "augmented_lagrangian": lambda: gdjax.augmented_lagrangian(inequality=lambda x: x - 5.0),
    "proximal_gradient": lambda: gdjax.proximal_gradient(regularizer=gdjax.regularizers.l1(0.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS_OF_A_LOGARITHM)
def test_derivatives_of_higher_order(x64, method):
    """The minimizer of exp(x) - a x is log a, the minimum a - a log a."""

    def solved(a):
        optimizer = METHODS_OF_A_LOGARITHM[method]()
        stop = gdjax.stopping.residual_below(1e-10)
        return gdjax.minimize(lambda x: jnp.exp(x) - a * x, jnp.zeros(()), optimizer, stop=stop)

    def answer(a):
        run = solved(a)
        return jnp.stack([run.params, run.value])

    second = jax.jit(jax.hessian(answer))(3.0)
    np.testing.assert_allclose(second, [-1 / 9, -1 / 3], rtol=1e-6)
    if method == "bfgs":
        third = jax.jit(jax.grad(jax.grad(jax.grad(lambda a: solved(a).params))))(3.0)
        np.testing.assert_allclose(third, 2 / 27, rtol=1e-6)
        mapped = jax.jit(jax.vmap(jax.hessian(lambda a: solved(a).value)))(jnp.array([2.0, 3.0]))
        np.testing.assert_allclose(mapped, [-1 / 2, -1 / 3], rtol=1e-6)
