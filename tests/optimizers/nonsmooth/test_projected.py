"""Methods that stay in a set: feasibility, SciPy's answers, Birgin, Martínez and Raydan's steps in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy.optimize import nnls

import gdjax
from gdjax import Status, projections
from gdjax.optimizers.nonsmooth import mirror
from gdjax.optimizers.nonsmooth.frank_wolfe import (
    box_vertex,
    l1_vertex,
    nuclear_vertex,
    open_loop,
    simplex_away,
    simplex_vertex,
)
from gdjax.stopping import residual_below

TIGHT = residual_below(1e-9, scale=1.0)
GENERATOR = np.random.default_rng(3)
A, B = GENERATOR.normal(size=(40, 12)), GENERATOR.normal(size=40)


def half_squares(a, b, x):
    return 0.5 * jnp.sum((a @ x - b) ** 2)


def squares():
    return Partial(half_squares, jnp.asarray(A), jnp.asarray(B))


def on_simplex(v):
    """The projection by sorting, in NumPy."""
    u = np.sort(v)[::-1]
    tau = (np.cumsum(u) - 1) / np.arange(1, v.size + 1)
    return np.maximum(v - tau[np.nonzero(u > tau)[0][-1]], 0)


def spg(x, steps, project, memory=10):
    """Algorithm SPG2 with the first step that gdjax takes; the points accepted."""

    def f(x):
        return 0.5 * np.sum((A @ x - B) ** 2)

    def slope(x):
        return A.T @ (A @ x - B)

    x = project(x)
    g, points, values = slope(x), [x], [f(x)]
    rate = max(1, np.linalg.norm(x)) / np.linalg.norm(g)
    for _ in range(steps):
        d, share = project(x - rate * g) - x, 1.0
        while f(x + share * d) > max(values[-memory:]) + 1e-4 * share * g @ d:
            down = -0.5 * share**2 * g @ d / (f(x + share * d) - f(x) - share * g @ d)
            share = down if 0.1 * share <= down <= 0.9 * share else share / 2
        new = x + share * d
        s, y = new - x, slope(new) - g
        x, g, rate = new, slope(new), s @ s / (s @ y)
        points.append(x)
        values.append(f(x))
    return np.stack(points)


@pytest.mark.slow
def test_spectral_steps_are_those_of_the_paper(x64):
    run = gdjax.minimize(
        squares(), jnp.ones(12), gdjax.spectral_projected_gradient(projections.simplex), stop=None, max_steps=25,
        record=lambda s: s.params,
    )  # fmt: skip
    expected = spg(np.ones(12), 12, on_simplex)
    seen = np.asarray(run.trace)
    for point in expected:
        assert np.abs(seen - point).max(axis=1).min() < 1e-9
    assert len(np.unique(seen, axis=0)) >= 12


@pytest.mark.slow
def test_spectral_solves_to_the_residual(x64):
    for projection, start in ((projections.non_negative, -jnp.ones(12)), (projections.simplex, jnp.ones(12))):
        run = gdjax.minimize(squares(), start, gdjax.spectral_projected_gradient(projection), stop=TIGHT)
        x = np.asarray(run.params)
        assert run.status == Status.CONVERGED
        assert run.steps < 150
        step = x - np.asarray(projection(jnp.asarray(x - A.T @ (A @ x - B))))
        assert np.linalg.norm(step) <= 1.01 * run.residual + 1e-12
        np.testing.assert_array_equal(projection(run.params) >= 0, True)
        if projection is projections.non_negative:
            np.testing.assert_allclose(x, nnls(A, B)[0], atol=1e-8)


@pytest.mark.slow
def test_no_point_leaves_the_box(x64):
    """Not one evaluation but the start's is outside, to the last bit."""
    box = Partial(projections.box, lower=jnp.full(12, 0.1), upper=jnp.full(12, 0.17))

    def walled(x):
        inside = jnp.all((x >= 0.1) & (x <= 0.17))
        return jnp.where(inside, half_squares(jnp.asarray(A), jnp.asarray(B), x), jnp.nan)

    methods = {
        "spectral": gdjax.spectral_projected_gradient(box),
        "adam": gdjax.projected(gdjax.adam(0.1), box),
        "momentum": gdjax.projected(optax.sgd(0.01, 0.9), box),
    }
    for name, method in methods.items():
        run = gdjax.minimize(walled, jnp.full(12, 0.15), method, max_steps=400, record=lambda s: s.params)
        assert run.status != Status.NONFINITE, name
        points = np.asarray(run.trace)[: int(run.steps) + 1]
        assert points.min() == 0.1
        assert points.max() == 0.17


@pytest.mark.slow
def test_any_optimizer_becomes_feasible_and_knows_when_it_is_done(x64):
    exact = nnls(A, B)[0]
    for inner in (
        gdjax.gradient_descent(0.01),
        optax.sgd(0.005, 0.9),
        gdjax.adam(optax.exponential_decay(0.1, 100, 0.5)),
    ):
        method = gdjax.projected(inner, projections.non_negative)
        run = gdjax.minimize(squares(), jnp.ones(12), method, stop=residual_below(1e-7), max_steps=4000)
        assert run.status == Status.CONVERGED
        np.testing.assert_allclose(run.params, exact, atol=1e-6)
        step = np.maximum(run.params - A.T @ (A @ run.params - B), 0) - run.params
        np.testing.assert_allclose(run.residual, np.linalg.norm(step), atol=1e-12)
    with pytest.raises(ValueError, match="judges trial points"):
        gdjax.minimize(squares(), jnp.ones(12), gdjax.projected(gdjax.bfgs(), projections.simplex))


@pytest.mark.slow
def test_the_optimizer_inside_moves_once_a_point_on_mini_batches():
    """Each point is shown on two batches; Adam's moments see one of them."""
    loss = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
    objective = gdjax.finite_sum(loss, (A.astype("float32"), B.astype("float32")), batch_size=8)
    method = gdjax.projected(gdjax.adam(0.05), projections.non_negative)
    run = gdjax.minimize(objective, jnp.ones(12), method, stop=None, max_steps=400, key=0)
    count = optax.tree.get(run.state.inner, "count")
    assert 195 <= count <= 205
    assert (np.asarray(run.params) >= 0).all()
    x = np.asarray(run.params)
    assert np.sum((A @ x - B) ** 2) < 1.2 * np.sum((A @ nnls(A, B)[0] - B) ** 2)


@pytest.mark.slow
def test_spectral_maps_over_radii_and_stays_true_at_the_edges(x64):
    def solve(radius):
        ball = Partial(projections.l2_ball, radius=radius)
        return gdjax.minimize(squares(), jnp.zeros(12), gdjax.spectral_projected_gradient(ball), stop=TIGHT)

    radii = jnp.array([0.01, 0.1, 10.0])
    runs = jax.vmap(solve)(radii)
    np.testing.assert_array_equal(runs.status, Status.CONVERGED)
    sizes = np.linalg.norm(runs.params, axis=1)
    np.testing.assert_allclose(sizes[:2], radii[:2], rtol=1e-12)
    np.testing.assert_allclose(runs.params[2], np.linalg.lstsq(A, B)[0], atol=1e-8)
    lost = gdjax.minimize(
        lambda x: jnp.nan * jnp.sum(x), jnp.ones(2), gdjax.spectral_projected_gradient(projections.simplex)
    )
    assert lost.status == Status.NONFINITE
    down = gdjax.minimize(
        lambda x: -jnp.sum(x), jnp.ones(2), gdjax.spectral_projected_gradient(projections.non_negative)
    )
    assert down.status in (Status.UNBOUNDED, Status.MAX_STEPS)
    assert np.isfinite(down.value)
    with pytest.raises(ValueError, match="memory"):
        gdjax.spectral_projected_gradient(projections.simplex, memory=0)


def on_simplex_exactly():
    """The least squares solution on the simplex, from projected gradients in NumPy to rounding."""
    x, rate = np.full(12, 1 / 12), 1 / np.linalg.norm(A, 2) ** 2
    for _ in range(5000):
        x = on_simplex(x - rate * A.T @ (A @ x - B))
    return x


@pytest.mark.slow
def test_frank_wolfe_open_loop_takes_the_published_steps(x64):
    method = gdjax.frank_wolfe(simplex_vertex, step=open_loop)
    run = gdjax.minimize(
        squares(),
        jnp.full(12, 1 / 12),
        method,
        stop=None,
        max_steps=30,
        record=lambda s: (s.params, s.residual),
    )
    x = np.full(12, 1 / 12)
    for k in range(30):
        g = A.T @ (A @ x - B)
        np.testing.assert_allclose(run.trace[0][k], x, atol=1e-12)
        np.testing.assert_allclose(run.trace[1][k], g @ x - g.min(), atol=1e-11)
        x = x + 2 / (k + 2) * (np.eye(12)[np.argmin(g)] - x)


@pytest.mark.slow
def test_steps_away_reach_the_face_of_the_solution(x64):
    """Lacoste-Julien and Jaggi (2015): linear with steps away, sublinear without; the gap bounds the error."""
    exact = on_simplex_exactly()
    lowest = 0.5 * np.sum((A @ exact - B) ** 2)
    runs = {}
    for name, away in (("toward", None), ("away", simplex_away)):
        method = gdjax.frank_wolfe(simplex_vertex, away=away)
        runs[name] = gdjax.minimize(
            squares(), jnp.full(12, 1 / 12), method, stop=residual_below(1e-10, scale=1.0), max_steps=600
        )
        assert runs[name].value - lowest <= runs[name].residual + 1e-12
    assert runs["away"].status == Status.CONVERGED
    np.testing.assert_allclose(runs["away"].params, exact, atol=1e-6)
    assert runs["toward"].residual > 1e3 * runs["away"].residual


def test_oracles_minimize_over_their_sets():
    g = jnp.asarray(GENERATOR.normal(size=(5, 4)), jnp.float32)
    values = np.linalg.svd(np.asarray(g), compute_uv=False)
    for vertex, least in (
        (simplex_vertex(g, 2.0), 2 * g.min()),
        (l1_vertex(g, 2.0), -2 * np.abs(g).max()),
        (nuclear_vertex(g, 2.0), -2 * values[0]),
        (box_vertex(g, -1.0, 1.0), -np.abs(g).sum()),
    ):
        np.testing.assert_allclose(np.sum(g * vertex), least, rtol=1e-5)
    with pytest.raises(ValueError, match="one matrix"):
        nuclear_vertex(jnp.ones(3))


@pytest.mark.slow
def test_exponentiated_gradient_takes_the_published_steps(x64):
    method = gdjax.mirror_descent(0.05, mirror.simplex_entropy())
    run = gdjax.minimize(
        squares(), jnp.full(12, 1 / 12), method, stop=None, max_steps=30, record=lambda s: s.params
    )
    x = np.full(12, 1 / 12)
    for k in range(31):
        np.testing.assert_allclose(run.trace[k], x, rtol=1e-10)
        x = x * np.exp(-0.05 * A.T @ (A @ x - B))
        x /= x.sum()


@pytest.mark.slow
def test_mirror_descent_converges_in_every_geometry(x64):
    full = np.linalg.lstsq(A, B)[0]
    for geometry, exact, tolerance in (
        (mirror.simplex_entropy(), on_simplex_exactly(), 1e-3),
        (mirror.orthant_entropy(), nnls(A, B)[0], 1e-3),
        (mirror.power_norm(1.5), full, 1e-4),
        (mirror.euclidean(), full, 1e-4),
    ):
        method = gdjax.mirror_descent(0.01, geometry)
        run = gdjax.minimize(
            squares(), jnp.full(12, 1 / 12), method, stop=residual_below(1e-5), max_steps=20_000
        )
        assert run.status == Status.CONVERGED
        np.testing.assert_allclose(run.params, exact, atol=tolerance)


@pytest.mark.slow
def test_polyak_steps_find_a_point_in_an_intersection(x64):
    """The largest distance to three discs that touch: Polyak's step needs nothing but its lowest value, zero."""
    centers = jnp.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])

    def farthest(x):
        return jnp.max(jnp.maximum(jnp.linalg.norm(x[None] - centers, axis=1) - 1.2, 0))

    run = gdjax.minimize(
        farthest, jnp.array([5.0, 4.0]), gdjax.subgradient(gdjax.polyak()), stop=residual_below(1e-9)
    )
    assert run.status == Status.CONVERGED
    assert farthest(run.params) <= 1e-9


@pytest.mark.slow
def test_subgradients_keep_the_best_point(x64):
    def f(x):
        return jnp.sum(jnp.abs(x - jnp.array([0.3, 0.7])))

    method = gdjax.subgradient(lambda k: 0.5 / (1 + k), projection=projections.simplex)
    run = gdjax.minimize(f, jnp.array([1.0, 0.0]), method, stop=None, max_steps=500, record=lambda s: s.value)
    assert (np.diff(run.trace) <= 0).all()
    assert run.value < 0.01
    np.testing.assert_allclose(run.value, f(run.params))


@pytest.mark.slow
def test_subgradients_stay_at_the_kink_that_is_the_minimum():
    """JAX's derivative of abs at 0 is 1: the method moves on, and its answer does not."""
    for rate in (gdjax.polyak(0.0), 0.1):
        run = gdjax.minimize(
            lambda x: jnp.sum(jnp.abs(x)), jnp.zeros(2), gdjax.subgradient(rate), max_steps=20
        )
        np.testing.assert_array_equal(run.params, 0)
        assert run.value == 0
