"""Nonsmooth and constrained problems, each to a relative duality gap of 1e-8, and the certificates themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax import Status
from gdjax.bench import nonsmooth as bench
from gdjax.optimizers.nonsmooth import admm, proximal_gradient
from gdjax.problems import constrained, nonsmooth
from gdjax.stopping import residual_below

SMALL = {
    "completion": lambda: nonsmooth.completion(12),
    "elastic_net": nonsmooth.elastic_net,
    "lasso": nonsmooth.lasso,
    "sparse_logistic_regression": nonsmooth.sparse_logistic_regression,
    "total_variation_denoising": lambda: nonsmooth.total_variation_denoising(60),
    "nonnegative_least_squares": constrained.nonnegative_least_squares,
    "portfolio": lambda: constrained.portfolio(30),
    "simplex_least_squares": constrained.simplex_least_squares,
    "support_vector_dual": lambda: constrained.support_vector_dual(1.0, 60),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_gap_closes(name, x64):
    problem = SMALL[name]()
    if problem.constraints is None:
        method = gdjax.proximal_gradient(None, problem.regularizer, momentum=proximal_gradient.fista)
    else:
        method = gdjax.spectral_projected_gradient(problem.constraints)
    stop = residual_below(1e-10, scale=1.0)
    run = gdjax.minimize(problem.objective, problem.start(), method, stop=stop, max_steps=3000)
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    assert -1e-12 < problem.metrics["gap"](run.params) < 1e-8
    rough = run.params + 0.01 * jnp.ones_like(run.params)
    if problem.constraints is not None:
        rough = problem.constraints(rough + 0.1 * problem.start(jax.random.key(0)))
    gap = problem.metrics["gap"](rough)
    total = problem.objective(rough) + problem.regularizer.value(rough)
    assert gap >= (total - run.value) / abs(total) - 1e-12, "it bounds the distance to the lowest value"
    assert gap > 1e-6


@pytest.mark.slow
def test_names_match_the_problems(x64):
    assert set(SMALL) == set(nonsmooth.__all__) | set(constrained.__all__)
    assert set(bench.problems()) == set(SMALL)
    for name, problem in bench.problems().items():
        assert problem.name == name
        random = problem.start(jax.random.key(1))
        assert jnp.shape(random) == jnp.shape(problem.start())
        assert np.isfinite(problem.objective(random))


@pytest.mark.slow
def test_lasso_and_logistic_agree_with_scikit_learn(x64):
    from sklearn.linear_model import Lasso, LogisticRegression

    problem = nonsmooth.lasso(0.1)
    method = gdjax.proximal_gradient(None, problem.regularizer, momentum=proximal_gradient.fista)
    run = gdjax.minimize(problem.objective, problem.start(), method, stop=residual_below(1e-10, scale=1.0))
    matrix, target = (np.asarray(leaf) for leaf in jax.tree.leaves(problem.objective))
    weight = float(jax.tree.leaves(problem.regularizer)[0])
    peer = Lasso(alpha=weight / len(target), fit_intercept=False, tol=1e-12, max_iter=100_000).fit(
        matrix, target
    )
    np.testing.assert_allclose(run.params, peer.coef_, atol=1e-6)

    problem = nonsmooth.sparse_logistic_regression(0.2)
    method = gdjax.proximal_gradient(None, problem.regularizer, momentum=proximal_gradient.fista)
    run = gdjax.minimize(problem.objective, problem.start(), method, stop=residual_below(1e-10, scale=1.0))
    (rows,) = (np.asarray(leaf) for leaf in jax.tree.leaves(problem.objective))
    weight = float(jax.tree.leaves(problem.regularizer)[0])
    signs = np.where(np.arange(len(rows)) % 2, 1, -1)
    peer = LogisticRegression(
        C=1 / (len(rows) * weight),
        l1_ratio=1.0,
        solver="saga",
        fit_intercept=False,
        tol=1e-9,
        max_iter=20_000,
    ).fit(rows * signs[:, None], signs)
    np.testing.assert_allclose(run.params, peer.coef_[0], atol=1e-5)


@pytest.mark.slow
def test_benchmark_rows(x64):
    """The smallest problem through the whole benchmark, and a path on little data."""
    problem = nonsmooth.elastic_net()
    method = next(iter(bench.ours(problem).values()))
    found = bench.solve(lambda tolerance, start: bench._minimize(method, problem, tolerance, start), problem)
    assert found.gap <= bench.TARGET
    assert found.steps > 0
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(40, 6))
    rows = bench.path(matrix, matrix[:, 0] + 0.1 * draw.normal(size=40), turns=1, count=5)
    assert [row[1] for row in rows] == ["proximal_gradient", "admm", "scikit-learn lasso_path"]
    assert all(float(row[2]) <= bench.TARGET for row in rows)


@pytest.mark.slow
def test_total_variation_by_admm(x64):
    from gdjax import regularizers

    problem = nonsmooth.total_variation_denoising(60)
    method = gdjax.admm(regularizers.l1(1.0), linear=jnp.diff, balance=admm.balanced())
    stop = residual_below(1e-9, scale=1.0)
    run = gdjax.minimize(problem.objective, problem.start(), method, stop=stop, max_steps=3000)
    assert run.status == Status.CONVERGED
    assert problem.metrics is not None
    assert abs(problem.metrics["gap"](run.params)) < 1e-8
