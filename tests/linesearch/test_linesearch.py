"""Flat line searches: each alone on functions of one variable, then with directions of all kinds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import optimized, rosenbrock

import gdjax
from gdjax import Status, linesearch
from gdjax.linesearch import ACCEPT, GIVE_UP, Point

SEARCHES = {
    "backtracking": linesearch.backtracking,
    "strong_wolfe": linesearch.strong_wolfe,
    "weak_wolfe": linesearch.weak_wolfe,
    "hager_zhang": linesearch.hager_zhang,
}
FAR = 1e10


def walk(search, phi, first, noise=0.0, most=60):
    """Runs one search to its end: the decision and all the trials ``(a, phi(a), phi'(a))``."""
    both = jax.value_and_grad(phi)
    value, slope = both(jnp.asarray(0.0))
    bracket, trials = search.init(value, slope, jnp.asarray(first, value.dtype)), []
    for _ in range(most):
        a = bracket.step
        trials.append([float(a), *map(float, both(a))])
        trial = Point(a, *(jnp.asarray(number) for number in trials[-1][1:]))
        decision, bracket = search.update(bracket, trial, jnp.asarray(noise), jnp.asarray(FAR))
        if decision != 0:
            return int(decision), np.array(trials)
    raise AssertionError("the search does not end")


# Moré and Thuente's test functions 1 and 2 (ACM TOMS 20, 1994, section 5), and three of other kinds.
FUNCTIONS = {
    "concave then convex": lambda a: -a / (a**2 + 2),
    "narrow": lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
    "quadratic": lambda a: (a - 1) ** 2,
    "quartic": lambda a: (a - 0.01) ** 4,
    "exponential": lambda a: jnp.exp(a) - 5 * a,
}


@pytest.mark.slow
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("search", SEARCHES)
def test_accepted_steps_satisfy_their_conditions(search, name, first, x64):
    phi = FUNCTIONS[name]
    decision, trials = walk(SEARCHES[search](), phi, first)
    assert decision == ACCEPT
    value, slope = map(float, jax.value_and_grad(phi)(0.0))
    a, f, d = trials[-1]
    c1 = 0.1 if search == "hager_zhang" else 1e-4
    assert f <= value + c1 * a * slope
    if search == "strong_wolfe":
        assert abs(d) <= 0.9 * abs(slope)
    if search in ("weak_wolfe", "hager_zhang"):
        assert d >= 0.9 * slope
    assert len(trials) <= 20


def test_backtracking_is_the_published_formula(x64):
    """Nocedal and Wright, equation 3.58, kept within a tenth and a half of the step."""
    phi = FUNCTIONS["exponential"]
    _, trials = walk(linesearch.backtracking(), phi, 8.0)
    value, slope = map(float, jax.value_and_grad(phi)(0.0))
    for (a, f, _), (following, _, _) in itertools.pairwise(trials):
        formula = -slope * a * a / (2 * (f - value - slope * a))
        np.testing.assert_allclose(following, np.clip(formula, 0.1 * a, 0.5 * a), rtol=1e-14)


def test_cubic_interpolation_is_exact_for_cubics(x64):
    """Where phi is a cubic, the trial after a bracket is its minimizer."""
    phi = lambda a: a**3 - 3 * a  # noqa: E731
    decision, trials = walk(linesearch.strong_wolfe(c2=1e-6), phi, 1.7)
    assert decision == ACCEPT
    np.testing.assert_allclose(trials[1][0], 1.0, rtol=1e-14)


def test_secant_step_is_exact_for_quadratics(x64):
    decision, trials = walk(linesearch.hager_zhang(), lambda a: (a - 1) ** 2, 2.5)
    assert decision == ACCEPT
    np.testing.assert_allclose(trials[1][0], 1.0, rtol=1e-14)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("search", SEARCHES)
def test_nonfinite_trials_count_as_too_long(search, bad, x64):
    phi = lambda a: jnp.where(a > 0.3, bad, (a - 0.2) ** 2)  # noqa: E731
    decision, trials = walk(SEARCHES[search](), phi, 100.0)
    assert decision == ACCEPT
    assert np.isfinite(trials[:, 0]).all()
    assert trials[-1][0] < 0.3


@pytest.mark.parametrize("search", SEARCHES)
def test_gives_up_where_nothing_gains(search, x64):
    """The slope says down, the values say up."""
    search = SEARCHES[search]()
    bracket, decision = search.init(jnp.asarray(1.0), jnp.asarray(-1.0), jnp.asarray(1.0)), None
    for _ in range(40):
        trial = Point(bracket.step, 1 + bracket.step, jnp.asarray(1.0))
        decision, bracket = search.update(bracket, trial, jnp.asarray(0.0), jnp.asarray(FAR))
        if decision != 0:
            break
    assert decision == GIVE_UP


@pytest.mark.slow
def test_slopes_decide_where_values_drown():
    """At 1e8 in float32 all these values are equal."""
    phi = lambda a: 1e8 + (a - 0.5) ** 2  # noqa: E731
    decision, trials = walk(linesearch.strong_wolfe(c2=0.1), phi, 5.0, noise=100.0)
    assert decision == ACCEPT
    assert abs(trials[-1][0] - 0.5) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("inner", [optax.adam(1e-3), optax.sgd(1e-6), optax.sgd(100.0, momentum=0.9)])
def test_any_direction_of_optax(inner):
    f = lambda x: jnp.sum(jnp.array([1.0, 5.0, 20.0]) * (x - 1) ** 2)  # noqa: E731
    run = gdjax.minimize(f, jnp.zeros(3), gdjax.line_search(inner), stop=gdjax.stopping.residual_below(1e-4))
    assert int(run.status) == Status.CONVERGED
    np.testing.assert_allclose(run.params, 1, atol=1e-3)


@pytest.mark.slow
def test_tiny_rates_are_lengthened():
    """A rate ten thousand times too small costs trials of the first search only; backtracking keeps it."""
    f = lambda x: jnp.sum(jnp.array([1.0, 5.0, 20.0]) * (x - 1) ** 2)  # noqa: E731
    solve = jax.jit(lambda rate: gdjax.minimize(f, jnp.zeros(3), gdjax.line_search(optax.sgd(rate))))
    usual, tiny = solve(1e-2), solve(1e-6)
    assert int(tiny.status) == Status.CONVERGED
    assert int(tiny.steps) <= int(usual.steps) + 15
    short = gdjax.line_search(optax.sgd(1e-6), linesearch.backtracking(), first_step=linesearch.unit_step)
    assert gdjax.minimize(f, jnp.zeros(3), short, max_steps=50).value > 0.9 * f(jnp.zeros(3))


def test_careful_unit_predicts_twice_the_last_gain(x64):
    """Nocedal and Wright, equation 3.60, doubled, at most one; one where nothing was gained."""
    first = lambda slope, gain: float(linesearch.careful_unit(*map(jnp.asarray, (0.3, -5.0, slope, gain))))  # noqa: E731
    assert first(-8.0, 1.0) == 0.5
    assert first(-3.0, 1.0) == 1
    assert first(-8.0, 0.0) == 1


@pytest.mark.smoke
def test_inner_state_advances_at_accepted_points_only():
    method = gdjax.line_search(optax.adam(1.0), first_step=linesearch.unit_step)
    params, trail = jnp.array([-1.2, 1.0]), []
    state = method.init(params)
    update = jax.jit(lambda g, s, p, v: method.update(g, s, p, value=v))
    for _ in range(25):
        value, grad = jax.value_and_grad(rosenbrock)(params)
        updates, state = update(grad, state, params, value)
        trail.append((float(state.answer.value), int(optax.tree.get(state.memory, "count"))))
        params = optax.apply_updates(params, updates)
    values, counts = np.array(trail).T
    accepted = 1 + np.sum(np.diff(values) != 0)
    assert counts[-1] == accepted < 25
    assert (np.diff(values) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [gdjax.bfgs, gdjax.nonlinear_cg, lambda: gdjax.line_search(optax.sgd(1.0))]
)
def test_shows_the_point_that_it_was_given(method):
    """A chain that halves every move: values still belong to their points."""
    run = gdjax.minimize(rosenbrock, jnp.zeros(2), optax.chain(method(), optax.scale(0.5)), max_steps=60)
    np.testing.assert_allclose(run.value, rosenbrock(run.params), rtol=1e-6)
    assert run.value < 0.5


def test_base_shown_again_is_taken_as_it_is_now():
    """The same point with another value and gradient: no test, no pair, a new search."""
    method, params = gdjax.bfgs(), jnp.array([1.0, 2.0])
    state = method.init(params)
    _, state = method.update(2 * params, state, params, value=jnp.sum(params**2))
    assert float(state.answer.value) == 5.0
    again, state = method.update(-params, state, params, value=jnp.asarray(70.0))
    assert float(state.answer.value) == 70.0
    assert bool(state.memory.empty)
    assert float(jnp.vdot(again, -params)) < 0
    np.testing.assert_array_equal(state.answer.params, params)


@pytest.mark.slow
def test_minibatches_are_judged_on_their_own_batch():
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(64, 3)))
    data = (features, features @ jnp.array([1.0, -2.0, 0.5]))
    loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
    for method in (gdjax.lbfgs(), gdjax.line_search(optax.sgd(0.1))):
        objective = gdjax.finite_sum(loss, data, batch_size=16)
        run = gdjax.minimize(objective, jnp.zeros(3), method, key=0, stop=None, max_steps=80)
        np.testing.assert_allclose(run.params, [1.0, -2.0, 0.5], atol=1e-2)


@pytest.mark.slow
def test_part_of_the_params_beside_another_method():
    """BFGS on the head, Adam on the body: values move for two reasons, the run still gets there."""
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.normal(size=(80, 4)))
    target = jnp.tanh(features @ jnp.asarray(rng.normal(size=(4, 3)))) @ jnp.array([1.0, -1.0, 2.0])

    def loss(params):
        return jnp.mean((jnp.tanh(features @ params["body"]) @ params["head"] - target) ** 2)

    params = {"body": jnp.asarray(rng.normal(size=(4, 3)) * 0.5), "head": jnp.zeros(3)}
    labels = {"body": "adam", "head": "second"}

    def reached(head):
        optimizer = optax.partition({"adam": optax.adam(1e-2), "second": head}, labels)
        run = optimized(lambda at: gdjax.minimize(loss, at, optimizer, stop=None, max_steps=300))
        return float(run(params).value)

    alone = reached(optax.adam(1e-2))
    for method in (gdjax.bfgs(), gdjax.lbfgs(), gdjax.nonlinear_cg()):
        assert reached(method) < 2 * alone
    frozen = optax.partition({"adam": optax.set_to_zero(), "second": gdjax.bfgs()}, labels)
    run = gdjax.minimize(loss, params, frozen, stop=None, max_steps=60)
    best = np.linalg.lstsq(np.tanh(features @ params["body"]), target, rcond=None)[0]
    np.testing.assert_allclose(run.params["head"], best, atol=1e-3)


@pytest.mark.slow
def test_numbers_may_be_traced():
    """c1 and c2 as the axis of a vmap equal a loop."""

    @jax.jit
    def reach(c1, c2):
        return gdjax.minimize(rosenbrock, jnp.zeros(2), gdjax.bfgs(linesearch.strong_wolfe(c1, c2))).params

    c1, c2 = jnp.array([1e-4, 1e-2]), jnp.array([0.9, 0.5])
    together = jax.vmap(reach)(c1, c2)
    for lane in range(2):
        np.testing.assert_allclose(together[lane], reach(c1[lane], c2[lane]), atol=2e-3)


@pytest.mark.slow
def test_a_second_search_compiles_nothing():
    traces = []

    def f(x):
        traces.append(1)
        return jnp.sum((x - 1) ** 2)

    gdjax.minimize(f, jnp.zeros(2), gdjax.bfgs(linesearch.strong_wolfe(c2=0.9)))
    before = len(traces)
    gdjax.minimize(f, jnp.zeros(2), gdjax.bfgs(linesearch.strong_wolfe(c2=0.8)))
    assert len(traces) == before


def test_needs_a_value():
    method = gdjax.bfgs()
    with pytest.raises(TypeError, match="value"):
        method.update(jnp.ones(2), method.init(jnp.ones(2)), jnp.ones(2))
