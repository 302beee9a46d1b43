"""A trust region between bounds: its subproblem by brute force over the walls, its answers against SciPy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import rosenbrock
from scipy import optimize

import gdjax
from gdjax import Status
from gdjax.linalg import subproblems
from gdjax.linalg.subproblems import boxed

BETWEEN = jax.jit(subproblems.between)
EXACT = jax.jit(lambda b, g, r: subproblems.exact(b, g, r))
PATH = jax.jit(boxed.lowest_on_path)


def drawn(seed, n=4, convex=False):
    """A quadratic, and walls around zero of which some are open, some closed."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, n))
    matrix = matrix @ matrix.T + 0.1 * np.eye(n) if convex else matrix + matrix.T
    walls = rng.uniform(0.1, 1, (2, n)) * rng.choice([0.0, 1.0, 10.0], (2, n))
    return matrix, rng.normal(size=n), -walls[0], walls[1]


def local_minimizers(matrix, grad, low, high):
    """All of them, by trying every choice of walls: where slopes hold them, and the rest is convex."""
    found = []
    for sides in itertools.product((-1, 0, 1), repeat=grad.size):
        sides = np.array(sides)
        free, p = sides == 0, np.where(sides < 0, low, np.where(sides > 0, high, 0.0))
        inner = matrix[np.ix_(free, free)]
        if free.any():
            if np.linalg.eigvalsh(inner)[0] <= 0:
                continue
            p[free] = np.linalg.solve(inner, -(grad + matrix @ np.where(free, 0, p))[free])
        slope = grad + matrix @ p
        held = ((sides >= 0) | (slope >= 0) | (low == high)) & ((sides <= 0) | (slope <= 0) | (low == high))
        if np.all(held) and np.all((p >= low) & (p <= high)):
            found.append(p)
    return found


def model(matrix, grad, p):
    return grad @ p + 0.5 * p @ matrix @ p


@pytest.mark.parametrize("seed", range(6))
def test_the_path_is_searched_to_its_lowest_point(x64, seed):
    matrix, grad, low, high = drawn(seed, n=6)
    way = np.random.default_rng(seed).normal(size=6)
    found = PATH(matrix, jnp.zeros(6), grad, way, (low, high), 7.0)
    path = np.clip(np.linspace(0, 7, 70_001)[:, None] * way, low, high)
    lowest = np.min(path @ grad + 0.5 * np.sum(path @ matrix * path, axis=1))
    assert np.all((found >= low) & (found <= high))
    assert model(matrix, grad, np.asarray(found)) == pytest.approx(lowest, abs=1e-4)
    assert model(matrix, grad, np.asarray(found)) <= lowest + 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_a_convex_model_in_a_box_is_minimized(x64, seed):
    matrix, grad, low, high = drawn(seed, convex=True)
    (best,) = np.unique(np.round(local_minimizers(matrix, grad, low, high), 9), axis=0)
    move = BETWEEN(matrix, grad, 1e3, low, high)
    assert model(matrix, grad, np.asarray(move.step)) == pytest.approx(model(matrix, grad, best), rel=2e-3)
    assert float(move.slope + 0.5 * move.curvature_along) == pytest.approx(
        model(matrix, grad, np.asarray(move.step))
    )


@pytest.mark.parametrize("radius", [1e-6, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_steps_keep_to_ball_and_box_and_gain_as_much_as_the_cauchy_point(x64, seed, radius):
    matrix, grad, low, high = drawn(seed, n=7)
    p = np.asarray(BETWEEN(matrix, grad, radius, low, high).step)
    assert np.linalg.norm(p) <= radius * (1 + 1e-9)
    assert np.all((p >= low) & (p <= high))
    way = np.where(((low == 0) & (grad > 0)) | ((high == 0) & (grad < 0)), 0, -grad)
    lengths = np.linspace(0, radius / np.linalg.norm(way), 2001)
    path = np.clip(lengths[:, None] * way, low, high)
    cauchy = np.min(path @ grad + 0.5 * np.sum(path @ matrix * path, axis=1))
    assert model(matrix, grad, p) <= cauchy * (1 - 1e-9)


@pytest.mark.parametrize("radius", [0.1, 5.0])
def test_without_walls_the_step_is_exact(x64, radius):
    for seed in range(4):
        matrix, grad, _, _ = drawn(seed)
        far = np.full(4, np.inf)
        step = BETWEEN(matrix, grad, radius, -far, far).step
        np.testing.assert_allclose(step, EXACT(matrix, grad, radius).step, atol=1e-7)


SOLVE = jax.jit(
    lambda matrix, grad, low, high: gdjax.minimize(
        lambda x: jnp.dot(grad, x) + 0.5 * jnp.dot(x, matrix @ x),
        jnp.zeros(4),
        gdjax.bounded_trust_region(low, high),
        stop=gdjax.stopping.residual_below(1e-10),
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_indefinite_quadratics_end_in_a_local_minimum_of_the_box(x64, seed):
    matrix, grad, low, high = drawn(seed)
    low, high = low - 0.1, high + 0.1
    minima = local_minimizers(matrix, grad, low, high)
    run = SOLVE(matrix, grad, low, high)
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    assert min(np.linalg.norm(run.params - p) for p in minima) < 1e-8


BOTH = jax.jit(jax.value_and_grad(rosenbrock))
ROSENBROCK = jax.jit(
    lambda x, lower, upper, radius: gdjax.minimize(
        rosenbrock, x, gdjax.bounded_trust_region(lower, upper, radius)
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(-1.5, 0.8), (1.2, 3.0), (-2.0, 0.5)])
def test_finds_what_scipy_finds(x64, low, high):
    start = np.clip(-1.2 * np.ones(6), low, high)
    peer = optimize.minimize(
        lambda x: tuple(np.asarray(part) for part in BOTH(x)),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high)] * 6,
        options={"ftol": 0, "gtol": 1e-6},
    )
    run = ROSENBROCK(start, np.full(6, low), np.full(6, high), 1.0)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.value, peer.fun, rtol=1e-9, atol=1e-9)
    assert run.steps < peer.nfev
    np.testing.assert_array_equal(run.params == low, np.abs(peer.x - low) < 1e-9)
    np.testing.assert_array_equal(run.params == high, np.abs(peer.x - high) < 1e-9)
    grad = BOTH(run.params)[1]
    short = np.clip(run.params - grad, low, high) - run.params
    np.testing.assert_allclose(run.residual, np.linalg.norm(short), rtol=1e-6, atol=1e-12)
    assert run.residual < 1e-6 < np.linalg.norm(grad)


@pytest.mark.slow
def test_equal_bounds_fix_variables(x64):
    fixed = np.array([2.0, 0.25, 2.0, 2.0, 2.0, 2.0])
    lower, upper = np.where(fixed == 0.25, fixed, -2.0), fixed
    run = ROSENBROCK(np.zeros(6), lower, upper, 1.0)
    rest = optimize.minimize(
        lambda v: float(rosenbrock(jnp.asarray(np.insert(v, 1, 0.25)))),
        np.zeros(5),
        jac=lambda v: np.delete(BOTH(np.insert(v, 1, 0.25))[1], 1),
        bounds=[(-2, 2)] * 5,
        tol=1e-12,
    )
    assert (run.status, run.params[1]) == (Status.CONVERGED, 0.25)
    np.testing.assert_allclose(run.value, rest.fun, rtol=1e-7)
    held = ROSENBROCK(np.zeros(6), upper, upper, 1.0)
    assert (held.status, held.steps) == (Status.CONVERGED, 0)
    np.testing.assert_array_equal(held.params, upper)


@pytest.mark.slow
def test_no_point_outside_is_ever_evaluated():
    """An objective that is NaN beyond the walls, from a start beyond them."""
    lower, upper = jnp.asarray([0.1, -jnp.inf, 0.3]), jnp.asarray([jnp.inf, 0.7, 0.9])

    def objective(x):
        away = x - jnp.asarray([-1.0, 1.0, 0.5])
        inside = jnp.all((x >= lower) & (x <= upper))
        return jnp.where(inside, jnp.sum(away**2 + away**4), jnp.nan)

    method = gdjax.bounded_trust_region(lower, upper)
    run = gdjax.Run(objective, jnp.asarray([-3.0, 0.0, 5.0]), method, max_steps=30)
    points = jax.jit(lambda run: jax.lax.scan(lambda s, _: (run.step(s), s.params), run.init(), length=30))(
        run
    )[1]
    assert bool(jnp.all((points >= lower[None]) & (points <= upper[None])))
    assert bool(jnp.isfinite(objective(points[-1])))
    np.testing.assert_allclose(points[-1], [0.1, 0.7, 0.5], rtol=1e-2)


def test_walls_that_are_hit_are_met_to_the_bit(x64):
    """At the second attempt at the latest: no update leads there from everywhere."""
    lower = jnp.array([0.1, 1e-17, 1 / 3])
    run = gdjax.minimize(
        lambda x: jnp.sum(x + x**2),
        jnp.array([0.7, 1.0, 1e3]),
        gdjax.bounded_trust_region(lower),
        stop=None,
        max_steps=12,
    )
    np.testing.assert_array_equal(run.params, lower)
    assert run.residual == 0


def test_leaves_a_saddle_inside(x64):
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    stop = gdjax.stopping.all_of(gdjax.stopping.residual_below(1e-8), gdjax.stopping.value_below(-0.1))
    method = gdjax.bounded_trust_region(-3.0, jnp.array([3.0, 0.5]))
    run = gdjax.minimize(saddle, jnp.array([1.0, 0.0]), method, stop=stop, max_steps=60)
    expected = {0.5: 0.0625 - 0.25, -(0.5**0.5): -0.25}
    assert run.status == Status.CONVERGED
    assert min(abs(run.params[1] - end) + abs(run.value - low) for end, low in expected.items()) < 1e-7


@pytest.mark.slow
def test_bounds_and_radius_are_axes(x64):
    uppers, radii = jnp.array([0.3, 0.8, 5.0]), jnp.array([0.1, 1.0, 2.0])
    walls, start = jnp.tile(uppers[:, None], (1, 6)), jnp.zeros(6)
    mapped = jax.vmap(ROSENBROCK, (None, 0, 0, 0))(start, -walls, walls, radii)
    for lane in range(3):
        one = ROSENBROCK(start, -walls[lane], walls[lane], radii[lane])
        assert mapped.steps[lane] == one.steps
        np.testing.assert_allclose(mapped.params[lane], one.params, rtol=1e-9)


@pytest.mark.slow
def test_pytrees_with_open_ends(x64):
    start = {"a": jnp.zeros(2), "b": (jnp.zeros(()), jnp.zeros((1, 2)))}

    def objective(p):
        return sum(jnp.sum((leaf - 2) ** 2) for leaf in jax.tree.leaves(p))

    method = gdjax.bounded_trust_region({"a": None, "b": 3.0}, {"a": 1.0, "b": None})
    run = gdjax.minimize(objective, start, method)
    assert run.status == Status.CONVERGED
    np.testing.assert_array_equal(run.params["a"], 1.0)
    np.testing.assert_array_equal(run.params["b"][1], 3.0)


@pytest.mark.slow
def test_gauss_newton_curvature(x64):
    f = gdjax.least_squares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    method = gdjax.bounded_trust_region(upper=0.5, curvature=gdjax.derivatives.gauss_newton)
    run = gdjax.minimize(f, jnp.array([-1.2, -1.0]), method)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, [0.5, 0.25], atol=1e-6)


@pytest.mark.slow
def test_statuses(x64):
    @jax.jit
    def solve(slope, bend, lower, upper):
        method = gdjax.bounded_trust_region(lower, upper)
        return gdjax.minimize(lambda x: slope * jnp.sum(x) - bend * x[0] ** 2, jnp.full(3, 3.0), method)

    assert solve(1.0, 1.0, -np.inf, 1.0).status == Status.UNBOUNDED
    walled = solve(1.0, 0.0, -4.0, 1.0)
    assert walled.status == Status.CONVERGED
    np.testing.assert_array_equal(walled.params, -4.0)
    nowhere = solve(np.nan, 0.0, 0.0, 1.0)
    assert (nowhere.status, nowhere.steps, nowhere.params[0]) == (Status.NONFINITE, 0, 1.0)


@pytest.mark.slow
def test_gains_below_rounding_are_judged_by_gradients():
    run = gdjax.minimize(
        lambda x: 1e4 + jnp.sum(jnp.cosh(3 * x) - x), jnp.ones(3), gdjax.bounded_trust_region(-1.0, 2.0)
    )
    assert run.status in (Status.NOISE_FLOOR, Status.CONVERGED)
    np.testing.assert_allclose(run.params, np.arcsinh(1 / 3) / 3, atol=1e-4)


def test_its_own_answer_on_new_data_is_taken_without_a_test(x64):
    method, x = gdjax.bounded_trust_region(-1.0, 1.0), jnp.array([0.5, 0.5])
    update = jax.jit(
        lambda w, state: method.update(
            2 * w * x, state, x, value=w * jnp.sum(x**2), value_fn=lambda z: w * jnp.sum(z**2)
        )
    )
    _, state = update(1.0, method.init(x))
    moves, again = update(50.0, state)
    assert again.answer.value == 25.0
    np.testing.assert_array_equal(again.base.grad, 100 * x)
    np.testing.assert_array_equal(again.matrix, 100 * jnp.eye(2))
    np.testing.assert_allclose(moves, -x)


@pytest.mark.slow
def test_mini_batches(x64):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 3))
    targets = features @ np.array([2.0, -0.5, 0.3])

    def loss(w, batch):
        return jnp.mean((batch[0] @ w - batch[1]) ** 2)

    objective = gdjax.finite_sum(loss, (features, targets), batch_size=16)
    method = gdjax.bounded_trust_region(-1.0, 1.0)
    run = gdjax.minimize(objective, jnp.zeros(3), method, key=0, max_steps=40, stop=None)
    assert run.params[0] == 1.0
    np.testing.assert_allclose(run.value, loss(run.params, (features, targets)), rtol=1e-12)
    assert run.value < 1.5 * loss(np.array([1.0, -0.5, 0.3]), (features, targets))


def test_errors_at_the_door():
    wrong: Any = 3
    with pytest.raises(ValueError, match="bounded_trust_region: lower must not exceed"):
        gdjax.bounded_trust_region(1.0, 0.0)
    with pytest.raises(TypeError, match="curvature"):
        gdjax.bounded_trust_region(curvature=wrong)
    method, x = gdjax.bounded_trust_region(), jnp.ones(2)
    with pytest.raises(TypeError, match="value_fn"):
        method.update(x, method.init(x), x, value=jnp.array(1.0))
    with pytest.raises(ValueError, match="upper does not fit"):
        gdjax.minimize(rosenbrock, jnp.zeros(3), gdjax.bounded_trust_region(upper=jnp.ones(2)))
