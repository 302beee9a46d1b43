"""Problems: values against NumPy transcriptions, optima against calculus, a contract for the catalogue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.linear_model import LogisticRegression, Ridge

import gdjax
from gdjax import problems
from gdjax.objectives import derivatives, distributions
from gdjax.problems import datasets


def sums(formula):
    return lambda x: sum(formula(x, i) for i in range(len(x)))


TRANSCRIPTIONS = {
    "rosenbrock": lambda x: sum(
        100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1)
    ),
    "quadratic": sums(lambda x, i: 0.5 * 100 ** (i / (len(x) - 1)) * x[i] ** 2),
    "himmelblau": lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
    "beale": lambda x: sum((c - x[0] * (1 - x[1] ** k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    "booth": lambda x: (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2,
    "rastrigin": lambda x: 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)),
    "ackley": lambda x: (
        -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e
    ),
    "styblinski_tang": lambda x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2,
    "goldstein_price": lambda x: (
        (
            1
            + (x[0] + x[1] + 1) ** 2
            * (19 - 14 * x[0] + 3 * x[0] ** 2 - 14 * x[1] + 6 * x[0] * x[1] + 3 * x[1] ** 2)
        )
        * (
            30
            + (2 * x[0] - 3 * x[1]) ** 2
            * (18 - 32 * x[0] + 12 * x[0] ** 2 + 48 * x[1] - 36 * x[0] * x[1] + 27 * x[1] ** 2)
        )
    ),
    "strict_saddle": lambda x: x[0] ** 2 / 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2,
    "monkey_saddle": lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,
}
SCALABLE = ["rosenbrock", "quadratic", "rastrigin", "ackley", "styblinski_tang"]
LEARNING = ["logistic_regression", "softmax_regression", "mlp", "ridge"]
CASES = [(name, None) for name in TRANSCRIPTIONS] + [(name, 5) for name in SCALABLE]


def build(name, dim=None):
    return problems.catalogue[name]() if dim is None else problems.catalogue[name](dim)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), CASES)
def test_values_and_gradients_are_the_published_formula(x64, name, dim):
    problem, transcription = build(name, dim), TRANSCRIPTIONS[name]
    size = problem.start().size
    points = np.random.default_rng(0).uniform(-2, 2, (4, size))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(problem.objective)))(jnp.asarray(points))
    np.testing.assert_allclose(values, [transcription(x) for x in points], rtol=1e-12)
    step = 1e-6 * np.eye(size)
    differences = [[(transcription(x + h) - transcription(x - h)) / 2e-6 for h in step] for x in points]
    scale = np.abs(differences).max()
    np.testing.assert_allclose(gradients, differences, rtol=1e-7, atol=1e-8 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), CASES)
def test_optima_are_stationary_minima_with_the_stated_value(x64, name, dim):
    problem = build(name, dim)
    values = jax.jit(jax.vmap(problem.objective))
    gradient, hessian = jax.jit(jax.grad(problem.objective)), jax.jit(jax.hessian(problem.objective))
    assert problem.optima or "unbounded" in problem.tags
    for optimum in problem.optima:
        point = jnp.asarray(optimum.params)
        assert values(point[None])[0] == pytest.approx(optimum.value, rel=1e-14, abs=1e-25)
        np.testing.assert_allclose(gradient(point), 0, atol=1e-12)
        if "kink" not in problem.tags:
            assert np.linalg.eigvalsh(hessian(point)).min() > 1e-3
        around = optimum.params + 1e-3 * np.random.default_rng(0).normal(size=(50, point.size))
        assert values(around).min() > optimum.value


@pytest.mark.smoke
def test_saddles_have_their_signature(x64):
    strict, monkey = problems.strict_saddle(), problems.monkey_saddle()
    for problem in (strict, monkey):
        (saddle,) = problem.saddles
        np.testing.assert_array_equal(jax.grad(problem.objective)(jnp.asarray(saddle)), 0)
    np.testing.assert_array_equal(jax.hessian(strict.objective)(jnp.zeros(2)), np.diag([1.0, -1.0]))
    np.testing.assert_array_equal(jax.hessian(monkey.objective)(jnp.zeros(2)), 0)
    angles = np.linspace(0, 2 * np.pi, 600, endpoint=False) + 1e-3
    ring = jax.vmap(monkey.objective)(0.1 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert np.sum(np.sign(ring) != np.sign(np.roll(ring, 1))) == 6


def test_quadratic_has_the_condition_it_was_given(x64):
    for key in (None, jax.random.key(0)):
        problem = problems.quadratic(6, 1e4, key=key)
        values = np.linalg.eigvalsh(jax.hessian(problem.objective)(jnp.ones(6)))
        np.testing.assert_allclose(values, np.geomspace(1, 1e4, 6), rtol=1e-9)
    conditions = jnp.array([1.0, 10.0, 100.0])
    values = jax.vmap(lambda c: problems.quadratic(2, c).objective(jnp.ones(2)))(conditions)
    np.testing.assert_allclose(values, 0.5 * (1 + conditions))


def test_no_cancellation_near_the_minimum_in_float32():
    x = jnp.full(2, 1e-4)
    assert float(problems.rastrigin().objective(x)) == pytest.approx(2 * (1 + 20 * np.pi**2) * 1e-8, rel=1e-4)
    expected = 20 * (1 - np.exp(-0.2e-4)) + np.e * (1 - np.exp(-2 * (np.pi * 1e-4) ** 2))
    assert float(problems.ackley().objective(x)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", problems.catalogue)
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_contract(name, wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        problem = problems.catalogue[name]()
        assert problem.name == name
        starts = jax.jit(jax.vmap(problem.start))(jax.random.split(jax.random.key(0), 3))
        first = problem.start()
        assert jax.tree.structure(first) == jax.tree.structure(starts)
        values, gradients = jax.jit(jax.vmap(jax.value_and_grad(problem.value_fn)))(starts)
        assert values.dtype == dtype
        assert len(set(values.tolist())) == 3
        evaluate = jax.jit(jax.value_and_grad(problem.value_fn))
        points = [first, *(jax.tree.map(jnp.asarray, optimum.params) for optimum in problem.optima)]
        for point in points:
            value, gradient = evaluate(point)
            assert value.dtype == dtype
            assert np.isfinite(value)
            for leaf in jax.tree.leaves((point, gradient)):
                assert leaf.dtype == dtype
                assert np.isfinite(leaf).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        if problem.window is not None:
            (left, right), (low, high) = problem.window
            for optimum in problem.optima:
                assert left <= optimum.params[0] <= right
                assert low <= optimum.params[1] <= high


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_learning_problems_take_batches_and_keep_their_optimum(name):
    full, drawn = problems.catalogue[name](), problems.catalogue[name](batch_size=32)
    assert isinstance(drawn.objective, gdjax.Objective)
    assert drawn.objective.sample is not None
    point = full.start(jax.random.key(1))
    value = jax.jit(full.value_fn)(point)
    np.testing.assert_allclose(jax.jit(drawn.value_fn)(point), value, rtol=1e-6)
    run = gdjax.minimize(drawn.objective, point, gdjax.adam(0.02), key=0, stop=None, max_steps=60)
    assert run.value < value
    assert full.metrics is not None
    for metric in full.metrics.values():
        assert jax.eval_shape(metric, run.params).shape == ()


def test_ridge_against_scikit_learn(x64):
    train, _ = datasets.standardized(datasets.split(datasets.diabetes()))
    problem = problems.ridge(weight_decay=0.3)
    oracle = Ridge(alpha=0.3 * len(train.targets), solver="cholesky").fit(train.features, train.targets)
    optimum = problem.optimum
    assert optimum is not None
    np.testing.assert_allclose(optimum.params["weights"], oracle.coef_, rtol=1e-9)
    assert float(optimum.params["bias"]) == pytest.approx(oracle.intercept_, rel=1e-10)
    value, gradient = jax.value_and_grad(problem.value_fn)(optimum.params)
    assert float(value) == pytest.approx(optimum.value, rel=1e-12)
    np.testing.assert_allclose(ravel_pytree(gradient)[0], 0, atol=1e-10)


def newton(problem, steps=12):
    flat, unravel = ravel_pytree(problem.start())

    def step(x, _):
        point = unravel(x)
        gradient = ravel_pytree(jax.grad(problem.value_fn)(point))[0]
        return x - jnp.linalg.solve(derivatives.hessian(problem.value_fn, point).dense(), gradient), None

    return unravel(jax.jit(lambda x: jax.lax.scan(step, x, length=steps)[0])(flat))


def test_logistic_regression_against_scikit_learn(x64):
    train, test = datasets.standardized(datasets.split(datasets.breast_cancer()))
    problem = problems.logistic_regression(weight_decay=0.01)
    strength = 1 / (0.01 * len(train.targets))
    oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=1000).fit(train.features, train.targets)
    params = newton(problem)
    np.testing.assert_allclose(params["weights"], oracle.coef_[0], rtol=1e-3, atol=1e-4)
    assert problem.metrics is not None
    accuracy = float(problem.metrics["test_accuracy"](params))
    assert accuracy == pytest.approx(oracle.score(test.features, test.targets), abs=1e-6)
    assert accuracy > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_logistic_regression_is_stable_far_out(size):
    problem = problems.logistic_regression(weight_decay=0.0)
    far = jax.tree.map(lambda leaf: jnp.full_like(leaf, size), problem.start())
    value, gradient = jax.value_and_grad(problem.value_fn)(far)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_network_starts_as_he_says_and_takes_any_width():
    problem = problems.mlp(hidden=(400, 300))
    layers = problem.start(jax.random.key(0))
    assert [layer["weights"].shape for layer in layers] == [(64, 400), (400, 300), (300, 10)]
    for layer in layers:
        inputs = layer["weights"].shape[0]
        assert float(jnp.std(layer["weights"])) == pytest.approx((2 / inputs) ** 0.5, rel=0.05)
        np.testing.assert_array_equal(layer["bias"], 0)


@pytest.mark.slow
def test_curvature_sees_inside_the_learning_problems():
    problem = problems.softmax_regression(batch_size=16)
    assert isinstance(problem.objective, gdjax.Objective)
    assert problem.objective.sample is not None
    batch = problem.objective.sample(jax.random.key(0), 0)
    params, vector = problem.start(), problem.start(jax.random.key(1))
    objective = problem.objective.at(batch)
    by_loss = derivatives.gauss_newton(objective, params).product(vector)
    by_family = derivatives.fisher(distributions.categorical)(objective, params).product(vector)
    np.testing.assert_allclose(by_loss["weights"], by_family["weights"], rtol=1e-4, atol=1e-6)


def test_the_door():
    with pytest.raises(ValueError, match="rosenbrock: dim must be at least 2, got 1"):
        problems.rosenbrock(1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        problems.ridge(batch_size=0)
