"""Curvature against closed forms, finite differences and each other, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import integrate, stats

import gdjax
from gdjax.objectives import derivatives, distributions, supervised

pytestmark = pytest.mark.usefixtures("x64")

FAMILIES = {
    "categorical": distributions.categorical,
    "bernoulli": distributions.bernoulli,
    "poisson": distributions.poisson,
    "gaussian": distributions.gaussian,
}


def _outputs(name, seed=0, n=6):
    key, other = jax.random.split(jax.random.key(seed))
    if name == "categorical":
        return jax.random.normal(key, (n, 3))
    if name == "gaussian":
        return jax.random.normal(key, (n,)), 0.3 * jax.random.normal(other, (n,))
    return jax.random.normal(key, (n,))


def _targets(name, n=6):
    rng = np.random.default_rng(1)
    if name == "gaussian":
        return rng.normal(size=n)
    return rng.integers(0, {"categorical": 3, "bernoulli": 2, "poisson": 6}[name], n)


def _network(name):
    """A network with curvature of its own, whose outputs fit the family."""
    width = {"categorical": 3, "gaussian": 2}.get(name, 1)

    def model(params, inputs):
        outputs = jnp.tanh(inputs @ params["in"]) @ params["out"]
        if name == "gaussian":
            return outputs[:, 0], 0.3 * outputs[:, 1]
        return outputs if name == "categorical" else outputs[:, 0]

    keys = jax.random.split(jax.random.key(3), 3)
    params = {"in": jax.random.normal(keys[0], (4, 3)), "out": jax.random.normal(keys[1], (3, width))}
    return model, params, jax.random.normal(keys[2], (6, 4))


def _penalty(params):
    return 0.05 * sum(jnp.sum(leaf**4) for leaf in jax.tree.leaves(params))


def _objective(name, penalty=None):
    model, params, inputs = _network(name)
    data = (inputs, _targets(name))
    return supervised(model, FAMILIES[name].loss, data, penalty=penalty).at(None), params


def dense(curvature, objective, params):
    return jax.jit(lambda params: curvature(objective, params).dense())(params)


CURVATURES = {
    "hessian": derivatives.hessian,
    "gauss_newton": derivatives.gauss_newton,
    "fisher": derivatives.fisher(distributions.categorical),
    "divergence_hessian": derivatives.divergence_hessian(distributions.categorical),
    "empirical_fisher": derivatives.empirical_fisher,
}


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [None, _penalty])
@pytest.mark.parametrize("curvature", CURVATURES.values(), ids=CURVATURES)
def test_products_are_the_columns_of_the_dense_matrix(curvature, penalty):
    objective, params = _objective("categorical", penalty)
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def both(params):
        operator = curvature(objective, params)
        product = jax.vmap(lambda v: ravel_pytree(operator.product(unravel(v)))[0])
        return product(jnp.eye(flat.size)), operator.dense()

    columns, dense = both(params)
    np.testing.assert_allclose(columns.T, dense, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(dense, dense.T, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
def test_a_wide_hessian_is_laid_out_column_by_column(x64, monkeypatch):
    def f(tree):
        x = jnp.concatenate([tree["a"], tree["b"].ravel()])
        return jnp.sum(jnp.tanh(jnp.linspace(0.0, 1.0, 50)[:, None] * x[None, :]).sum(1) ** 2)

    params = {"a": jnp.array([0.3, -1.0]), "b": jnp.array([[0.5]])}

    def program():
        return str(jax.make_jaxpr(lambda tree: derivatives.hessian(f, tree).dense())(params))

    expected, at_once = derivatives.hessian(f, params).dense(), program()
    monkeypatch.setattr(derivatives, "_AT_ONCE", 3 * 150 - 1)
    np.testing.assert_allclose(derivatives.hessian(f, params).dense(), expected, rtol=1e-12)
    assert "[3,50,3]" in at_once
    assert "[3,50,3]" not in program()


@pytest.mark.slow
def test_hessian_by_central_differences():
    objective, params = _objective("categorical", _penalty)
    flat, unravel = ravel_pytree(params)
    gradient = jax.jit(jax.grad(lambda v: objective(unravel(v))))
    step = 1e-5
    columns = [
        (gradient(flat + step * e) - gradient(flat - step * e)) / (2 * step) for e in np.eye(flat.size)
    ]
    np.testing.assert_allclose(derivatives.hessian(objective, params).dense(), columns, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["categorical", "bernoulli", "poisson"])
@pytest.mark.parametrize("penalty", [None, _penalty])
def test_three_fishers_agree_for_natural_parameters(name, penalty):
    objective, params = _objective(name, penalty)
    exact = dense(derivatives.fisher(FAMILIES[name]), objective, params)
    by_divergence = dense(derivatives.divergence_hessian(FAMILIES[name]), objective, params)
    by_gauss_newton = dense(derivatives.gauss_newton, objective, params)
    np.testing.assert_allclose(by_divergence, exact, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_gauss_newton, exact, rtol=1e-9, atol=1e-12)
    if penalty is None:
        assert np.linalg.eigvalsh(exact).min() > -1e-12


@pytest.mark.slow
def test_gaussian_fisher_is_not_gauss_newton_but_the_divergence_agrees():
    objective, params = _objective("gaussian")
    exact = dense(derivatives.fisher(distributions.gaussian), objective, params)
    by_divergence = dense(derivatives.divergence_hessian(distributions.gaussian), objective, params)
    by_gauss_newton = dense(derivatives.gauss_newton, objective, params)
    np.testing.assert_allclose(by_divergence, exact, rtol=1e-9, atol=1e-12)
    assert np.abs(by_gauss_newton - exact).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_metric_is_the_second_derivative_of_the_divergence(name):
    family, outputs = FAMILIES[name], _outputs(name)
    flat, unravel = ravel_pytree(outputs)
    matrix = jax.jit(jax.hessian(lambda v: jnp.sum(family.divergence(outputs, unravel(v)))))(flat)
    metric = jax.vmap(lambda v: ravel_pytree(family.metric(outputs, unravel(v)))[0])(jnp.eye(flat.size))
    np.testing.assert_allclose(metric, matrix, rtol=1e-12, atol=1e-14)


def test_closed_form_metrics_written_out():
    logits = np.array([0.3, -1.0, 0.7])
    p = np.exp(logits) / np.exp(logits).sum()
    columns = jax.vmap(lambda v: distributions.categorical.metric(jnp.asarray(logits), v))(jnp.eye(3))
    np.testing.assert_allclose(columns, np.diag(p) - np.outer(p, p), rtol=1e-13)
    mean, log_scale = distributions.gaussian.metric(
        (jnp.array(1.0), jnp.log(2.0)), (jnp.ones(()), jnp.ones(()))
    )
    assert (float(mean), float(log_scale)) == pytest.approx((0.25, 2.0), rel=1e-13)
    assert float(distributions.bernoulli.metric(jnp.log(3.0), 1.0)) == pytest.approx(3 / 16, rel=1e-13)
    assert float(distributions.poisson.metric(jnp.log(3.0), 1.0)) == pytest.approx(3.0, rel=1e-13)


def test_divergences_against_sums_and_integrals():
    logits, others = np.array([0.3, -1.0, 0.7]), np.array([-0.5, 0.2, 0.1])
    p, q = (np.exp(x) / np.exp(x).sum() for x in (logits, others))
    found = distributions.categorical.divergence(jnp.asarray(logits), jnp.asarray(others))
    assert float(found) == pytest.approx(stats.entropy(p, q), rel=1e-12)
    p, q = 1 / (1 + np.exp(-0.4)), 1 / (1 + np.exp(1.3))
    found = distributions.bernoulli.divergence(jnp.array(0.4), jnp.array(-1.3))
    assert float(found) == pytest.approx(stats.entropy([p, 1 - p], [q, 1 - q]), rel=1e-12)
    counts = np.arange(100)
    found = distributions.poisson.divergence(jnp.log(2.5), jnp.log(4.0))
    expected = stats.entropy(stats.poisson.pmf(counts, 2.5), stats.poisson.pmf(counts, 4.0))
    assert float(found) == pytest.approx(expected, rel=1e-10)
    a, b = stats.norm(0.3, 1.2), stats.norm(-0.4, 0.7)
    expected, _ = integrate.quad(lambda x: a.pdf(x) * (a.logpdf(x) - b.logpdf(x)), -12, 12)
    found = distributions.gaussian.divergence((0.3, jnp.log(1.2)), (-0.4, jnp.log(0.7)))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_losses_are_negative_log_likelihoods():
    logits = np.array([[0.3, -1.0, 0.7], [2.0, 0.0, 1.0]])
    expected = -np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[[0, 1], [2, 0]]
    found = distributions.categorical.loss(jnp.asarray(logits), jnp.array([2, 0]))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    p = 1 / (1 + np.exp(-0.4))
    assert float(distributions.bernoulli.loss(jnp.array(0.4), 1)) == pytest.approx(-np.log(p), rel=1e-13)
    assert float(distributions.bernoulli.loss(jnp.array(0.4), 0)) == pytest.approx(-np.log(1 - p), rel=1e-13)
    gap = distributions.poisson.loss(jnp.log(2.5), 3) - distributions.poisson.loss(jnp.log(4.0), 3)
    assert float(gap) == pytest.approx(stats.poisson.logpmf(3, 4.0) - stats.poisson.logpmf(3, 2.5), rel=1e-12)
    found = distributions.gaussian.loss((0.3, jnp.log(1.2)), 1.0)
    assert float(found) == pytest.approx(
        -stats.norm(0.3, 1.2).logpdf(1.0) - 0.5 * np.log(2 * np.pi), rel=1e-12
    )


@pytest.mark.parametrize("logit", [-800.0, 800.0])
def test_losses_stay_finite_for_sure_predictions(logit):
    value, slope = jax.value_and_grad(distributions.bernoulli.loss)(jnp.array(logit), 1.0)
    assert float(value) == max(-logit, 0.0)
    assert float(slope) == (-1.0 if logit < 0 else 0.0)
    logits = jnp.array([logit, 0.0])
    assert np.isfinite(distributions.categorical.loss(logits, jnp.array(1)))
    assert np.isfinite(distributions.categorical.divergence(logits, -logits))


def test_empirical_fisher_is_the_mean_outer_product():
    objective, params = _objective("categorical")
    model, _, inputs = _network("categorical")
    targets = _targets("categorical")

    def one(params, x, y):
        return distributions.categorical.loss(model(params, x[None]), y[None])[0]

    each = jax.jit(jax.vmap(jax.grad(one), (None, 0, 0)))(params, inputs, jnp.asarray(targets))
    gradients = np.stack([ravel_pytree(jax.tree.map(lambda leaf, i=i: leaf[i], each))[0] for i in range(6)])
    found = dense(derivatives.empirical_fisher, objective, params)
    np.testing.assert_allclose(found, gradients.T @ gradients / 6, rtol=1e-10, atol=1e-13)


def test_empirical_fisher_tends_to_the_exact_one_on_the_models_own_targets():
    n = 40_000
    inputs = jax.random.normal(jax.random.key(0), (n, 3))
    weights = jnp.array([0.5, -1.0, 0.3])
    targets = jax.random.bernoulli(jax.random.key(1), jax.nn.sigmoid(inputs @ weights)).astype(float)
    data = (inputs, targets)
    objective = supervised(lambda w, x: x @ w, distributions.bernoulli.loss, data).at(None)
    exact = dense(derivatives.fisher(distributions.bernoulli), objective, weights)
    empirical = dense(derivatives.empirical_fisher, objective, weights)
    np.testing.assert_allclose(empirical, exact, atol=5 * 0.3 / np.sqrt(n))


def test_gauss_newton_of_least_squares_is_jacobian_squared_wide_and_tall():
    for rows, columns in ((2, 5), (5, 2)):
        matrix = np.random.default_rng(0).normal(size=(rows, columns))
        objective = gdjax.least_squares(lambda x, matrix=matrix: jnp.sin(matrix @ x))
        x = jnp.linspace(-1, 1, columns)
        jacobian = np.cos(matrix @ x)[:, None] * matrix
        found = dense(derivatives.gauss_newton, objective, x)
        np.testing.assert_allclose(found, jacobian.T @ jacobian, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_update_sees_the_composite_with_and_without_batches():
    inputs = jax.random.normal(jax.random.key(0), (40, 3))
    data = (inputs, inputs @ jnp.array([1.0, -2.0, 0.5]))
    calls = []

    def model(w, x):
        calls.append(1)
        return x @ w

    def update(updates, state, params, *, value_fn, **_):
        matrix = derivatives.gauss_newton(value_fn, params).dense()
        return -jnp.linalg.solve(matrix, updates), state

    step = gdjax.Transformation(lambda params: (), update)
    for batch_size, most in ((None, 1), (10, 2)):
        calls.clear()
        objective = supervised(model, lambda out, y: 0.5 * (out - y) ** 2, data, batch_size)
        run = gdjax.minimize(objective, jnp.zeros(3), step, key=jax.random.key(1), max_steps=5)
        np.testing.assert_allclose(run.params, [1.0, -2.0, 0.5], atol=1e-12)
        assert len(calls) <= most


def test_the_door():
    with pytest.raises(TypeError, match="model and loss"):
        derivatives.gauss_newton(lambda x: jnp.sum(x), jnp.ones(2))
    with pytest.raises(TypeError, match="Mean"):
        derivatives.empirical_fisher(gdjax.least_squares(lambda x: x), jnp.ones(2))
    with pytest.raises(ValueError, match="supervised: batch_size is 9"):
        supervised(jnp.dot, jnp.subtract, (jnp.ones((4, 2)), jnp.ones(4)), 9)


def test_products_map_and_keep_float32():
    with jax.enable_x64(False):
        objective = gdjax.least_squares(lambda x: x**2 - 1)
        points, vectors = jnp.ones((3, 2)) * jnp.arange(1.0, 4.0)[:, None], jnp.ones((3, 2))
        found = jax.vmap(lambda x, v: derivatives.gauss_newton(objective, x).product(v))(points, vectors)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, 4 * points**2, rtol=1e-6)
