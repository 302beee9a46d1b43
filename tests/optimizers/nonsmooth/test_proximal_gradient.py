"""Proximal gradients against the published equations in NumPy, scikit-learn, and duality gaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax import Status, regularizers
from gdjax.optimizers.nonsmooth import proximal_gradient
from gdjax.stopping import residual_below

TIGHT = residual_below(1e-9, scale=1.0)


def design(rows=30, columns=60, seed=0):
    generator = np.random.default_rng(seed)
    a = generator.normal(size=(rows, columns))
    truth = np.where(np.arange(columns) < 5, generator.normal(size=columns), 0)
    return a, a @ truth + 0.1 * generator.normal(size=rows)


def _half_squares(a, b, w):
    return 0.5 * jnp.sum((a @ w - b) ** 2)


def half_squares(a, b):
    """With its data as leaves: one program serves all of the same shape."""
    return Partial(_half_squares, jnp.asarray(a), jnp.asarray(b))


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def lasso_gap(a, b, weight, w):
    """Relative duality gap, with the residual scaled into the dual's set."""
    residual = b - a @ w
    primal = 0.5 * residual @ residual + weight * np.abs(w).sum()
    dual = residual * min(1, weight / np.abs(a.T @ residual).max())
    return (primal - 0.5 * b @ b + 0.5 * (b - dual) @ (b - dual)) / primal


def by_hand(a, b, weight, rate, steps, momentum, restart):
    """x_1, x_2, ... as Beck and Teboulle (4.1) to (4.3) and O'Donoghue and Candès have them."""
    x, y, theta, points = np.zeros(a.shape[1]), np.zeros(a.shape[1]), 1.0, []

    def total(x):
        return 0.5 * np.sum((a @ x - b) ** 2) + weight * np.abs(x).sum()

    for _ in range(steps):
        new = soft(y - rate * a.T @ (a @ y - b), rate * weight)
        after = 0.5 * (1 + np.sqrt(1 + 4 * theta**2))
        beta = (theta - 1) / after if momentum else 0.0
        seen = {None: False, "value": total(new) > total(x), "gradient": (y - new) @ (new - x) > 0}[restart]
        if seen:
            beta, after = 0.0, 1.0
        x, y, theta = new, new + beta * (new - x), after
        points.append(x)
    return np.stack(points)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("momentum", "restart", "named"),
    [
        (proximal_gradient.plain, proximal_gradient.never, None),
        (proximal_gradient.fista, proximal_gradient.never, None),
        (proximal_gradient.fista, proximal_gradient.by_value, "value"),
        (proximal_gradient.fista, proximal_gradient.by_gradient, "gradient"),
    ],
)
def test_steps_are_those_of_the_papers(momentum, restart, named, x64):
    a, b = design()
    rate, weight, steps = 1 / np.linalg.norm(a, 2) ** 2, 2.0, 150
    method = gdjax.proximal_gradient(rate, regularizers.l1(weight), momentum=momentum, restart=restart)
    run = gdjax.minimize(
        half_squares(a, b), jnp.zeros(60), method, stop=None, max_steps=steps, record=lambda s: s.params
    )
    expected = by_hand(a, b, weight, rate, steps, momentum is proximal_gradient.fista, named)
    np.testing.assert_allclose(run.trace[1:], expected, atol=1e-8)  # a value's rounding settles a step
    restarts = [by_hand(a, b, weight, rate, steps, True, r) for r in (None, "value", "gradient")]
    assert not np.allclose(restarts[0], restarts[1])
    assert not np.allclose(restarts[1], restarts[2])


@pytest.mark.slow
def test_value_is_the_whole_objective_and_residual_a_subgradient(x64):
    a, b = design()
    f, r = half_squares(a, b), regularizers.l1(2.0)
    method = gdjax.proximal_gradient(None, r, momentum=proximal_gradient.fista)
    run = gdjax.minimize(f, jnp.zeros(60), method, stop=None, max_steps=40)
    w = np.asarray(run.params)
    np.testing.assert_allclose(run.value, f(w) + 2 * np.abs(w).sum(), rtol=1e-14)
    g = a.T @ (a @ w - b)
    least = np.where(w != 0, g + 2 * np.sign(w), soft(g, 2.0))
    assert np.linalg.norm(least) <= run.residual * (1 + 1e-9)
    assert run.residual < 1e3 * np.linalg.norm(least)


@pytest.mark.slow
def test_backtracking_needs_no_rate_and_closes_the_gap(x64):
    a, b = design()
    for scale in (1e-3, 1.0, 1e3):
        for momentum in (proximal_gradient.plain, proximal_gradient.fista):
            method = gdjax.proximal_gradient(None, regularizers.l1(2.0 * scale**2), momentum=momentum)
            stop = residual_below(1e-9, scale=scale**2)
            run = gdjax.minimize(
                half_squares(scale * a, scale * b), jnp.zeros(60), method, stop=stop, max_steps=400
            )
            assert run.status == Status.CONVERGED
            assert abs(lasso_gap(scale * a, scale * b, 2.0 * scale**2, np.asarray(run.params))) < 1e-8


@pytest.mark.slow
def test_lasso_of_the_failure_cases(x64):
    """100 normal(key 0, (50, 20)), b = A 1, lambda 1, in float32: the peer's proximal gradient is NaN at step 25."""
    a = (100 * jax.random.normal(jax.random.key(0), (50, 20))).astype(jnp.float32)
    b = a @ jnp.ones(20, jnp.float32)
    for momentum in (proximal_gradient.plain, proximal_gradient.fista):
        method = gdjax.proximal_gradient(None, regularizers.l1(1.0), momentum=momentum)
        run = gdjax.minimize(
            half_squares(a, b), jnp.zeros(20, jnp.float32), method, max_steps=500, record=lambda s: s.value
        )
        np.testing.assert_allclose(run.params, 1, atol=1e-4)
        assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
        assert not np.isinf(run.trace).any()
        assert run.value <= run.trace[0]


@pytest.mark.slow
def test_weights_and_rates_are_axes(x64):
    a, b = design()
    f = half_squares(a, b)

    def solve(weight, rate):
        method = gdjax.proximal_gradient(rate, regularizers.l1(weight), momentum=proximal_gradient.fista)
        return gdjax.minimize(f, jnp.zeros(60), method, stop=TIGHT, max_steps=3000)

    weights, rate = jnp.array([1.0, 4.0, 16.0]), 1 / np.linalg.norm(a, 2) ** 2
    runs = jax.vmap(lambda w: solve(w, rate))(weights)
    for weight, w, status in zip(weights, runs.params, runs.status, strict=True):
        assert status == Status.CONVERGED
        assert abs(lasso_gap(a, b, float(weight), np.asarray(w))) < 1e-8
    np.testing.assert_allclose(solve(4.0, None).params, runs.params[1], atol=1e-8)
    schedule = gdjax.proximal_gradient(lambda count: rate * (1 + count) / (2 + count), regularizers.l1(4.0))
    run = gdjax.minimize(f, jnp.zeros(60), schedule, stop=TIGHT, max_steps=3000)
    np.testing.assert_allclose(run.params, runs.params[1], atol=1e-8)


@pytest.mark.slow
def test_strongly_convex_momentum_keeps_its_rate(x64):
    """Nesterov (2004): the error falls by 1 - sqrt(mu / L) a step, here 0.9."""
    curvature = jnp.logspace(0, 2, 20)

    def f(x):
        return 0.5 * jnp.sum(curvature * (x - 1) ** 2)

    momentum = proximal_gradient.strongly_convex(1.0)
    method = gdjax.proximal_gradient(
        0.01, regularizers.zero(), momentum=momentum, restart=proximal_gradient.never
    )
    run = gdjax.minimize(f, jnp.zeros(20), method, stop=None, max_steps=200, record=lambda s: s.value)
    bound = (f(jnp.zeros(20)) + 0.5 * 20) * 0.9 ** np.arange(201)
    assert (np.asarray(run.trace) <= bound).all()
    same = gdjax.proximal_gradient(
        0.01,
        regularizers.zero(),
        momentum=proximal_gradient.constant(9 / 11),
        restart=proximal_gradient.never,
    )
    again = gdjax.minimize(f, jnp.zeros(20), same, stop=None, max_steps=200)
    np.testing.assert_allclose(again.params, run.params, atol=1e-12)


@pytest.mark.slow
def test_infeasible_starts_and_lost_domains(x64):
    a, b = design(60, 8)
    inside = regularizers.indicator(lambda w: jnp.maximum(w, 0))
    from scipy.optimize import nnls

    run = gdjax.minimize(
        half_squares(a, b),
        -jnp.ones(8),
        gdjax.proximal_gradient(None, inside, momentum=proximal_gradient.fista),
        stop=TIGHT,
    )
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, nnls(a, b)[0], atol=1e-8)
    assert (np.asarray(run.params) >= 0).all()

    barrier = gdjax.minimize(
        lambda x: jnp.sum(x - jnp.log(x)),
        jnp.full(3, 10.0),
        gdjax.proximal_gradient(None, regularizers.l1(1.0)),
        stop=TIGHT,
    )
    assert barrier.status == Status.CONVERGED
    np.testing.assert_allclose(barrier.params, 0.5, rtol=1e-8)


@pytest.mark.slow
def test_statuses_tell_the_truth():
    l1 = regularizers.l1(1.0)
    start = jnp.ones(2)
    lost = gdjax.minimize(lambda x: jnp.nan * jnp.sum(x), start, gdjax.proximal_gradient(0.1, l1))
    assert lost.status == Status.NONFINITE
    np.testing.assert_array_equal(lost.params, start)
    for rate in (3.0, 1e8, 1e38):
        wild = gdjax.minimize(lambda x: jnp.sum(x**4), start, gdjax.proximal_gradient(rate, l1), max_steps=60)
        assert np.isfinite(wild.value)
        assert np.isfinite(wild.params).all()
        assert wild.status in (Status.NONFINITE, Status.MAX_STEPS)
    down = gdjax.minimize(
        lambda x: -jnp.sum(x), start, gdjax.proximal_gradient(None, regularizers.l1(0.5)), max_steps=3000
    )
    assert down.status in (Status.UNBOUNDED, Status.MAX_STEPS)
    assert np.isfinite(down.value)
    with pytest.raises(TypeError, match="regularizer"):
        gdjax.proximal_gradient(0.1)
    with pytest.raises(ValueError, match="shrink"):
        proximal_gradient.backtracked(shrink=1.5)


@pytest.mark.slow
def test_mini_batches_keep_the_answer_sparse():
    a, b = design(64, 10)
    loss = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
    objective = gdjax.finite_sum(loss, (a.astype("float32"), b.astype("float32")), batch_size=32)
    method = gdjax.proximal_gradient(0.05, regularizers.l1(0.05), momentum=proximal_gradient.fista)
    run = gdjax.minimize(objective, jnp.zeros(10), method, stop=None, max_steps=400, key=0)
    assert (np.asarray(run.params) == 0).any()
    assert loss(run.params, (a, b)) < 0.1 * loss(jnp.zeros(10), (a, b))


@pytest.mark.slow
def test_trees_and_closures_cross_jit(x64):
    a, b = design()

    @jax.jit
    def solve(weight):
        r = regularizers.Regularizer(
            Partial(lambda w, p: w * jnp.sum(jnp.abs(p["w"])), weight),
            Partial(
                lambda w, p, s: {"w": jnp.sign(p["w"]) * jnp.maximum(jnp.abs(p["w"]) - s * w, 0)}, weight
            ),
        )
        method = gdjax.proximal_gradient(None, r, momentum=proximal_gradient.fista)
        f = half_squares(a, b)
        return gdjax.minimize(lambda p: f(p["w"].reshape(-1)), {"w": jnp.zeros((6, 10))}, method, stop=TIGHT)

    w = np.asarray(solve(2.0).params["w"]).reshape(-1)
    assert abs(lasso_gap(a, b, 2.0, w)) < 1e-8


@pytest.mark.slow
def test_mini_batches_end_with_the_whole_objective_and_its_regularizer():
    data = jnp.arange(8.0)
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data, 2)
    method = gdjax.proximal_gradient(0.01, gdjax.regularizers.l1(0.5))
    run = gdjax.minimize(objective, 1.0, method, stop=None, max_steps=30, key=0)
    expected = np.mean((np.arange(8.0) - float(run.params)) ** 2) + 0.5 * abs(float(run.params))
    np.testing.assert_allclose(run.value, expected, rtol=1e-6)


def test_a_regularizer_in_the_learning_rates_place_is_named():
    with pytest.raises(TypeError, match="after the learning rate or by name"):
        gdjax.proximal_gradient(gdjax.regularizers.l1(1.0))
    with pytest.raises(TypeError, match="after the learning rate or by name"):
        gdjax.proximal_gradient(0.1, lambda x: jnp.sum(jnp.abs(x)))
