"""Trust-region subproblems against optimality conditions, and the methods built on them."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import optimized

import gdjax
from gdjax.linalg import secant, subproblems
from gdjax.optimizers.second_order.trust_region import TrustRegionState

Status = gdjax.Status
EXACT = jax.jit(lambda b, g, r: subproblems.exact(b, g, r))
OTHERS = {
    "cauchy": jax.jit(lambda b, g, r: subproblems.cauchy(b, g, r)),
    "dogleg": jax.jit(lambda b, g, r: subproblems.dogleg(b, g, r)),
    "two_dimensional": jax.jit(lambda b, g, r: subproblems.two_dimensional(b, g, r)),
    "steihaug": jax.jit(lambda b, g, r: subproblems.steihaug(b, g, r)),
}
CUBIC = jax.jit(lambda b, g, w: subproblems.cubic_step(subproblems.eigen(b), g, w))


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def double_well(x):
    return jnp.sum(x**4 / 4 - x**2 / 2)


def symmetric(values, seed):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return basis * np.asarray(values) @ basis.T, basis


def check_optimal(matrix, grad, radius, move):
    """Theorem 2.1 of Moré and Sorensen, with the multiplier read off the step."""
    p = np.asarray(move.step)
    size, scale = np.linalg.norm(p), np.abs(np.linalg.eigvalsh(matrix)).max() + 1e-300
    assert size <= radius * (1 + 1e-9)
    shift = -(p @ (matrix @ p + grad)) / (p @ p)
    assert np.linalg.norm(matrix @ p + grad + shift * p) <= 1e-7 * (np.linalg.norm(grad) + scale * size)
    assert shift >= -1e-8 * scale
    assert np.linalg.eigvalsh(matrix)[0] + shift >= -1e-7 * scale
    assert shift * (radius - size) <= 1e-6 * radius * (scale + np.linalg.norm(grad) / radius)
    model = grad @ p + 0.5 * p @ matrix @ p
    assert float(move.slope + 0.5 * move.curvature_along) == pytest.approx(
        model, rel=1e-7, abs=1e-12 * abs(float(move.slope))
    )


CASES = {
    "positive": ([0.1, 1.0, 3.0, 7.0], None),
    "indefinite": ([-2.0, -0.5, 1.0, 4.0], None),
    "negative": ([-4.0, -3.0, -2.0, -1.0], None),
    "singular": ([0.0, 1.0, 2.0, 3.0], None),
    "hard": ([-2.0, 1.0, 3.0, 5.0], 1),
    "hard, two lowest": ([-2.0, -2.0, 3.0, 5.0], 2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("radius", [1e-8, 0.1, 1.0, 50.0])
def test_exact_meets_the_optimality_conditions(x64, case, radius):
    values, missing = CASES[case]
    matrix, basis = symmetric(values, 1)
    grad = np.random.default_rng(2).normal(size=4)
    if missing:
        grad = grad - basis[:, :missing] @ (basis[:, :missing].T @ grad)
    if case == "singular":
        grad = grad - basis[:, 0] * (basis[:, 0] @ grad)
    check_optimal(matrix, grad, radius, EXACT(matrix, grad, radius))


@hypothesis.given(
    values=st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    grad=st.lists(st.floats(-10, 10), min_size=4, max_size=4).filter(lambda g: np.linalg.norm(g) > 1e-3),
    exponent=st.floats(-6, 4),
)
def test_exact_is_optimal_wherever_it_is_asked(values, grad, exponent):
    with jax.enable_x64(True):
        hypothesis.assume(np.min(np.abs(values)) > 1e-3)
        matrix, _ = symmetric(values, 3)
        radius = 10.0**exponent
        check_optimal(matrix, np.asarray(grad), radius, EXACT(matrix, jnp.asarray(grad), radius))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("radius", [0.1, 50.0])
def test_others_lie_between_cauchy_and_exact(x64, name, case, radius):
    matrix, _ = symmetric(CASES[case][0], 4)
    grad = np.random.default_rng(5).normal(size=4)
    found, best, least = (solve(matrix, grad, radius) for solve in (OTHERS[name], EXACT, OTHERS["cauchy"]))
    p = np.asarray(found.step)
    gain, most, fewest = (-float(m.slope + 0.5 * m.curvature_along) for m in (found, best, least))
    assert np.linalg.norm(p) <= radius * (1 + 1e-9)
    assert gain == pytest.approx(-(grad @ p + 0.5 * p @ matrix @ p), rel=1e-9)
    assert fewest * (1 - 1e-9) <= gain <= most * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dogleg", "two_dimensional"])
def test_planes_hold_the_newton_step(x64, name):
    matrix, _ = symmetric(CASES["positive"][0], 6)
    grad = np.random.default_rng(7).normal(size=4)
    np.testing.assert_allclose(
        OTHERS[name](matrix, grad, 1e3).step, np.linalg.solve(matrix, -grad), rtol=1e-8
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weight", [1e-4, 1.0, 1e4])
def test_cubic_step_meets_its_optimality_conditions(x64, case, weight):
    values, missing = CASES[case]
    matrix, basis = symmetric(values, 8)
    grad = np.random.default_rng(9).normal(size=4)
    if missing:
        grad = grad - basis[:, :missing] @ (basis[:, :missing].T @ grad)
    p = np.asarray(CUBIC(matrix, grad, weight).step)
    shift = weight * np.linalg.norm(p)
    assert np.linalg.norm(matrix @ p + grad + shift * p) <= 1e-6 * np.linalg.norm(grad) * (1 + shift)
    assert np.linalg.eigvalsh(matrix)[0] + shift >= -1e-6 * (1 + shift)


def test_secant_updates_meet_the_secant_equation(x64):
    matrix, _ = symmetric([1.0, 2.0, 3.0], 1)
    s, y = jnp.array([1.0, 0.5, -0.2]), jnp.array([0.4, 1.0, -0.3])
    for update in (secant.bfgs, secant.sr1):
        new = update.update(jnp.asarray(matrix), s, y)
        np.testing.assert_allclose(new @ s, y, rtol=1e-12)
        np.testing.assert_allclose(new, new.T, rtol=1e-12)
    damped = secant.bfgs.update(jnp.asarray(matrix), s, -y)
    assert np.linalg.eigvalsh(damped)[0] > 0
    np.testing.assert_array_equal(secant.sr1.update(jnp.asarray(matrix), s, matrix @ s), matrix)


METHODS = {
    "exact": (gdjax.trust_region, {}),
    "steihaug": (gdjax.trust_region, {"subproblem": subproblems.steihaug}),
    "two_dimensional": (gdjax.trust_region, {"subproblem": subproblems.two_dimensional}),
    "dogleg": (gdjax.trust_region, {"subproblem": subproblems.dogleg}),
    "sr1": (gdjax.trust_region, {"curvature": secant.sr1}),
    "bfgs": (gdjax.trust_region, {"curvature": secant.bfgs}),
    "cubic": (gdjax.cubic_newton, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_methods_solve_rosenbrock_in_both_precisions(name):
    constructor, arguments = METHODS[name]
    for wide in (False, True) if name in ("exact", "steihaug", "sr1", "cubic") else (True,):
        with jax.enable_x64(wide):
            run = gdjax.minimize(rosenbrock, jnp.array([-1.2, 1.0]), constructor(**arguments), max_steps=300)
            assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
            np.testing.assert_allclose(run.params, 1.0, atol=1e-9 if wide else 1e-2)
            assert float(run.value) == pytest.approx(float(rosenbrock(run.params)), rel=1e-4, abs=1e-14)
            assert run.params.dtype == (jnp.float64 if wide else jnp.float32)


@pytest.mark.slow
def test_gauss_newton_curvature(x64):
    f = gdjax.least_squares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    method = gdjax.trust_region(curvature=gdjax.derivatives.gauss_newton, subproblem=subproblems.dogleg)
    run = gdjax.minimize(f, jnp.array([-1.2, 1.0]), method)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, 1.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_scale_of_the_objective_does_not_matter(factor):
    run = gdjax.minimize(lambda x: factor * rosenbrock(x), jnp.array([-1.2, 1.0]), gdjax.trust_region())
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    np.testing.assert_allclose(run.params, 1.0, atol=1e-2)


@pytest.mark.slow
def test_a_rough_slope_is_walked_in_strides(x64):
    """Ripples on a bent valley: steps from one to the next would be more than a thousand."""

    def rough(x):
        return jnp.hypot(0.1, x[0] - x[1]) + jnp.hypot(0.1, x[0]) + 0.04 * jnp.sum(jnp.sin(10 * x) ** 2)

    run = gdjax.minimize(rough, jnp.array([250.0, 400.0]), gdjax.trust_region())
    assert run.status == Status.CONVERGED
    assert run.steps < 500
    np.testing.assert_allclose(run.params, 0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("degree", "steps"), [(6, 25), (7, 90)])
def test_a_steady_pace_is_walked_in_strides(degree, steps):
    """Monomials in float32: the smallest curvatures are below noise, and steps fall as short as the one before."""
    t = jnp.linspace(0.0, 1.8, 20)
    rows, y = t[:, None] ** (2 * jnp.arange(degree)[None]), 10 * jnp.exp(-3 * t)
    loss = lambda x: jnp.sum((rows @ x - y) ** 2)  # noqa: E731
    run = optimized(lambda start: gdjax.minimize(loss, start, gdjax.trust_region()))(jnp.ones(degree))
    exact = np.linalg.lstsq(np.asarray(rows, float), np.asarray(y, float), rcond=None)[1]
    assert run.status == Status.NOISE_FLOOR
    assert run.steps < steps
    # What is left is the values' rounding, a little more of it where products and sums are not fused.
    np.testing.assert_allclose(run.value, exact[0], rtol=2e-3)


def test_a_graded_matrix_hides_no_small_curvature():
    """In float32 the rounding of the largest eigenvalue is four thousand times the smallest, which still shows."""
    matrix, grad = jnp.diag(jnp.array([2.0, 7e11])), jnp.array([-8e5, 1.0])
    move = subproblems.exact(matrix, grad, 1e5)
    np.testing.assert_allclose(move.step, [1e5, -1.0 / 7e11], rtol=1e-3)


@pytest.mark.slow
def test_leaves_an_exact_saddle(x64):
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    stop = gdjax.stopping.all_of(gdjax.stopping.residual_below(1e-8), gdjax.stopping.value_below(-0.1))
    for method in (gdjax.trust_region(), gdjax.cubic_newton()):
        run = gdjax.minimize(saddle, jnp.array([1.0, 0.0]), method, stop=stop, max_steps=60)
        assert run.value == pytest.approx(-0.25)


@pytest.mark.slow
def test_nan_trials_shorten_the_step():
    run = gdjax.minimize(
        lambda x: jnp.sum(x - jnp.log(x)), jnp.array([10.0]), gdjax.trust_region(radius=100.0)
    )
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, 1.0, rtol=1e-4)


@pytest.mark.slow
def test_statuses(x64):
    trust = gdjax.trust_region()
    linear = gdjax.minimize(lambda x: -jnp.exp(x[0]), jnp.array([1.0]), trust)
    assert linear.status == Status.UNBOUNDED
    assert np.isfinite(linear.value)
    nowhere = gdjax.minimize(lambda x: jnp.sum(x) * jnp.nan, jnp.array([1.0]), trust)
    assert (nowhere.status, nowhere.steps, nowhere.params[0]) == (Status.NONFINITE, 0, 1.0)
    with jax.enable_x64(False):
        below_noise = gdjax.minimize(
            lambda x: 1e4 + jnp.sum(jnp.cosh(3 * x) - x), jnp.ones(3), trust, max_steps=200
        )
    assert below_noise.status in (Status.NOISE_FLOOR, Status.CONVERGED)
    np.testing.assert_allclose(below_noise.params, np.arcsinh(1 / 3) / 3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True])
def test_a_kink_is_no_noise_floor(wide):
    """Where the radius collapses for want of smoothness, the gain predicted is small for the step being short."""

    def kink(x):
        return 1 + jnp.abs(x[0] - 0.3) + x[1] ** 2

    with jax.enable_x64(wide):
        for subproblem in (subproblems.exact, subproblems.steihaug):
            method = gdjax.trust_region(subproblem=subproblem)
            run = gdjax.minimize(kink, jnp.array([2.0, 1.0]), method, max_steps=400)
            assert run.status == Status.STALLED
            assert float(run.params[0]) == pytest.approx(0.3, abs=1e-3)


def sharp_ridge(x, offset=0.0):
    """Steep and without curvature across a line that is not along an axis, flat and curved along it."""
    basis = jnp.asarray(symmetric([1.0, 2.0, 3.0, 4.0], 5)[1], x.dtype)
    along, *across = basis.T @ (x - jnp.arange(1.0, 5.0, dtype=x.dtype))
    return offset + along**2 + 100 * jnp.sqrt(sum(z**2 for z in across))


@pytest.mark.slow
def test_the_default_method_goes_along_a_sharp_ridge(x64):
    """Second derivatives see no way along it; the radius collapses unless the secant matrix stands in."""
    starts = jax.random.uniform(jax.random.key(0), (8, 4), minval=-5.0, maxval=5.0)
    runs = jax.vmap(lambda x: gdjax.minimize(sharp_ridge, x))(starts)
    assert np.sum(runs.value < 1e-8) >= 6  # seven of these; one in forty comes to lie on the kink itself
    # The least value is zero, of which no rounding hides anything.
    assert set(runs.status.tolist()) <= {Status.STALLED, Status.CONVERGED}


@pytest.mark.slow
@pytest.mark.parametrize("method", [gdjax.trust_region(curvature=secant.bfgs), gdjax.cubic_newton()])
def test_a_collapse_on_a_sharp_ridge_is_no_noise_floor(x64, method):
    """There any gradient is as uncertain as its curvature is large, and the value still falls along the ridge."""
    run = gdjax.minimize(sharp_ridge, jnp.array([4.0, -2.0, -3.0, 1.0]), method, max_steps=400)
    assert run.value < 1e-8 or run.status in (Status.STALLED, Status.MAX_STEPS)


@pytest.mark.slow
def test_vmap_is_a_loop_and_numbers_may_be_traced(x64):
    starts = jnp.array([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0]])
    radii = jnp.array([0.1, 1.0, 5.0])

    def one(x, radius):
        return gdjax.minimize(rosenbrock, x, gdjax.trust_region(radius), max_steps=100)

    both = jax.vmap(one)(starts, radii)
    for i in range(3):
        alone = one(starts[i], radii[i])
        assert alone.steps == both.steps[i]
        np.testing.assert_allclose(both.params[i], alone.params, rtol=1e-9)


@pytest.mark.slow
def test_pytrees_and_state_keep_their_structure():
    params = {"a": jnp.ones(2), "b": (jnp.zeros(()), jnp.ones((1, 2), jnp.bfloat16))}

    def f(p):
        return sum(jnp.sum((leaf.astype(jnp.float32) - 0.5) ** 2) for leaf in jax.tree.leaves(p))

    for method in (gdjax.trust_region(), gdjax.cubic_newton(), gdjax.trust_region(curvature=secant.sr1)):
        state = method.init(params)
        value, grad = jax.value_and_grad(f)(params)
        update = jax.jit(lambda g, s, p, v, m=method: m.update(g, s, p, value=v, value_fn=f))
        updates, new = update(grad, state, params, value)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        assert [u.dtype for u in jax.tree.leaves(updates)] == [p.dtype for p in jax.tree.leaves(params)]
    run = gdjax.minimize(f, params, gdjax.trust_region())
    np.testing.assert_allclose(run.value, 0, atol=1e-6)


def test_one_evaluation_an_update_and_no_matrix_for_steihaug():
    n = 40
    method = gdjax.trust_region(subproblem=subproblems.steihaug)
    x = jnp.ones(n)
    value, grad = jax.value_and_grad(double_well)(x)
    program = str(
        jax.make_jaxpr(lambda s: method.update(grad, s, x, value=value, value_fn=double_well))(method.init(x))
    )
    assert f"[{n},{n}]" not in program
    assert "eigh" not in program


def test_shown_its_own_answer_it_takes_the_new_data():
    method = gdjax.trust_region()
    x = jnp.array([1.0, 2.0])
    first = method.update(2 * x, method.init(x), x, value=jnp.sum(x**2), value_fn=lambda z: jnp.sum(z**2))[1]
    new = method.update(4 * x, first, x, value=jnp.sum(2 * x**2), value_fn=lambda z: jnp.sum(2 * z**2))[1]
    assert isinstance(new, TrustRegionState)
    assert float(new.answer.value) == 10.0
    np.testing.assert_array_equal(new.base.grad, 4 * x)


@pytest.mark.slow
def test_in_a_chain_the_point_given_is_judged(x64):
    method = optax.chain(gdjax.trust_region(), optax.scale(0.5))
    run = gdjax.minimize(rosenbrock, jnp.array([-1.2, 1.0]), method, max_steps=300)
    assert run.status == Status.CONVERGED
    np.testing.assert_allclose(run.params, 1.0, atol=1e-5)


def test_errors_at_the_door():
    with pytest.raises(TypeError, match="Subproblem"):
        gdjax.trust_region(subproblem="exact")
    with pytest.raises(TypeError, match="curvature"):
        gdjax.trust_region(curvature=3)
    x = jnp.ones(2)
    method = gdjax.trust_region()
    with pytest.raises(TypeError, match="value_fn"):
        method.update(x, method.init(x), x, value=jnp.array(1.0))
