"""The driver: truthful results, few traces, clear errors, batches held for methods with trial points."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.stopping import residual_below
from gdjax.types import Answer


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def quadratic(x):
    return 0.5 * jnp.sum(x**2)


class Counted:
    """A function that counts how often Python runs it."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


class HalvingState(NamedTuple):
    answer: Answer
    grad: Any
    rate: Any
    started: Any


def halving(rate):
    """A flat method at its smallest: gradient steps, the rate halved at each trial that does not descend."""

    def init(params):
        unknown = jnp.asarray(jnp.inf)
        return HalvingState(
            Answer(params, unknown, unknown),
            jax.tree.map(jnp.zeros_like, params),
            jnp.asarray(rate),
            jnp.asarray(False),
        )

    def update(updates, state, params, *, value, **extra):
        del extra
        base, grad = state.answer, updates
        same = jnp.all(params == base.params)
        accept = ~state.started | same | (value < base.value)
        given = Answer(params, value.astype(base.value.dtype), jnp.sqrt(jnp.sum(grad**2)))
        answer = jax.tree.map(lambda a, b: jnp.where(accept, a, b), given, base)
        grad = jnp.where(accept, grad, state.grad)
        rate = jnp.where(accept, state.rate, state.rate / 2)
        return answer.params - rate * grad - params, HalvingState(answer, grad, rate, jnp.asarray(True))

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize("make", [lambda: gdjax.adam(0.02), lambda: halving(0.01)], ids=["plain", "flat"])
@pytest.mark.parametrize("stop", [None, residual_below(1e-3)], ids=["fixed", "until"])
def test_value_belongs_to_params(make, stop):
    run = gdjax.minimize(rosenbrock, jnp.array([-1.0, 1.5]), make(), stop=stop, max_steps=300)
    np.testing.assert_allclose(run.value, rosenbrock(run.params), rtol=1e-6)
    np.testing.assert_allclose(run.residual, jnp.linalg.norm(jax.grad(rosenbrock)(run.params)), rtol=1e-4)
    assert run.value < rosenbrock(jnp.array([-1.0, 1.5]))
    assert run.status == (gdjax.Status.CONVERGED if run.residual <= 1e-3 and stop else gdjax.Status.MAX_STEPS)


def test_steps_are_updates_and_evaluations_are_one_more():
    seen = []

    def logged(x):
        jax.debug.callback(lambda v: seen.append(float(v[0])), x, ordered=True)
        return quadratic(x)

    run = gdjax.minimize(logged, jnp.ones(1), gdjax.gradient_descent(0.5), stop=None, max_steps=4)
    jax.effects_barrier()
    assert int(run.steps) == 4
    np.testing.assert_allclose(run.params, [1 / 16])
    assert seen == [1, 0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize("stop", [None, residual_below(1e-3)], ids=["fixed", "until"])
def test_traces_are_few_and_a_second_call_has_none(stop):
    objective, optimizer = Counted(rosenbrock), gdjax.adam(0.02)
    first = gdjax.minimize(objective, jnp.array([-1.0, 1.5]), optimizer, stop=stop, max_steps=20)
    assert objective.calls <= 2
    calls = objective.calls
    gdjax.minimize(objective, first.params, optimizer, stop=stop, max_steps=20)
    gdjax.minimize(objective, first.params, gdjax.adam(0.03), stop=stop, max_steps=20)
    assert objective.calls == calls


def test_traces_of_a_batched_objective_are_few():
    loss = Counted(lambda w, batch: jnp.mean((batch - w) ** 2))
    optimizer = gdjax.adam(0.1)

    def run(data):
        objective = gdjax.finite_sum(loss, data, batch_size=4)
        return gdjax.minimize(objective, 0.0, optimizer, stop=None, max_steps=5, key=0)

    run(jnp.arange(12.0))
    assert loss.calls <= 2 + 2  # on a batch, and over all data for the result
    calls = loss.calls
    run(jnp.arange(12.0) + 1)
    assert loss.calls == calls


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, residual_below(1e-2)], ids=["fixed", "until"])
def test_recording_changes_nothing(stop, x64):
    start = jnp.array([-1.0, 1.5])

    def solve(record):
        return gdjax.minimize(rosenbrock, start, gdjax.adam(0.05), stop=stop, max_steps=100, record=record)

    def agree(a, b):  # but for the last bits that another compiled program may round otherwise
        np.testing.assert_allclose(a, b, rtol=1e-10)

    bare = solve(None)
    full = solve(lambda step: {"x": step.params, "f": step.value, "count": step.count})
    thin = solve(gdjax.every(7, lambda step: (step.params, step.residual)))
    for recorded in (full, thin):
        for name in ("params", "value", "residual", "steps", "status", "state"):
            jax.tree.map(agree, getattr(recorded, name), getattr(bare, name))
    assert bare.trace is None
    assert full.trace["x"].shape == (101, 2)
    assert thin.trace[0].shape == (15, 2)
    last = int(bare.steps)
    np.testing.assert_array_equal(full.trace["x"][0], start)
    agree(full.trace["x"][last], bare.params)
    agree(thin.trace[0], full.trace["x"][::7])
    np.testing.assert_array_equal(full.trace["count"][: last + 1], np.arange(last + 1))
    assert np.isnan(full.trace["f"][last + 1 :]).all()


def test_nonfinite_keeps_the_last_finite_point():
    def cliff(x):
        return jnp.where(x[0] > 3, jnp.nan, -x[0])

    for stop in (None, residual_below(1e-6)):
        run = gdjax.minimize(cliff, jnp.zeros(1), gdjax.gradient_descent(1.0), stop=stop, max_steps=20)
        assert run.status == gdjax.Status.NONFINITE
        np.testing.assert_array_equal(run.params, [3.0])
        assert (run.value, run.steps) == (-3, 3)
        nowhere = gdjax.minimize(lambda x: jnp.nan * x[0], jnp.ones(1), gdjax.adam(0.1), stop=stop)
        assert nowhere.status == gdjax.Status.NONFINITE
        np.testing.assert_array_equal(nowhere.params, [1.0])
        assert nowhere.steps == 0


def test_a_finite_value_with_a_nonfinite_gradient_is_not_kept():
    run = gdjax.minimize(lambda x: -jnp.sqrt(x[0]), jnp.ones(1), gdjax.gradient_descent(-2.0 * -1e-9))
    assert np.isfinite(run.params).all()
    fall = gdjax.minimize(lambda x: jnp.sqrt(jnp.abs(x[0] - 0.5)), jnp.ones(1), optax.sgd(0.5 * 2 * 0.5**0.5))
    assert fall.status == gdjax.Status.NONFINITE
    np.testing.assert_array_equal(fall.params, [1.0])


def test_falling_without_limit_says_unbounded():
    run = gdjax.minimize(lambda x: -(x[0] ** 4), jnp.ones(1), gdjax.gradient_descent(1.0), max_steps=50)
    assert run.status == gdjax.Status.UNBOUNDED
    assert np.isfinite(run.params).all()
    assert np.isfinite(run.value)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, residual_below(1e-2)], ids=["fixed", "until"])
def test_vmap_equals_a_loop_and_lanes_do_not_touch(stop):
    starts = jnp.array([[-1.0, 1.5], [1.0, 1.0], [0.5, 0.5], [30.0, -30.0]])
    rates = jnp.array([1e-3, 1e-3, 2e-3, 1.0])

    def solve(start, rate):
        optimizer = gdjax.gradient_descent(rate)
        run = gdjax.minimize(rosenbrock, start, optimizer, stop=stop, max_steps=60, record=lambda s: s.value)
        return run.params, run.value, run.residual, run.steps, run.status, run.trace

    mapped = jax.vmap(solve)(starts, rates)
    for lane in range(4):
        single = solve(starts[lane], rates[lane])
        for a, b in zip(mapped, single, strict=True):
            np.testing.assert_allclose(a[lane], b, rtol=1e-5, atol=1e-6)
    assert mapped[4][3] == gdjax.Status.NONFINITE
    if stop is not None:
        assert mapped[4][1] == gdjax.Status.CONVERGED
        assert mapped[3][1] == 0
    assert np.isfinite(mapped[0]).all()


@pytest.mark.slow
def test_params_of_many_kinds():
    def tree_objective(p):
        return sum(jnp.sum((leaf.astype(jnp.float32) - 1) ** 2) for leaf in jax.tree.leaves(p))

    for params in (
        2.0,
        jnp.asarray(2.0),
        np.ones((2, 1)) * 2,
        {"a": jnp.ones(2), "b": [jnp.zeros(()), (np.ones(1, np.float32),)]},
        {"half": jnp.zeros(2, jnp.bfloat16), "full": jnp.zeros(2)},
    ):
        run = gdjax.minimize(tree_objective, params, gdjax.adam(0.1), max_steps=5)
        assert jax.tree.structure(run.params) == jax.tree.structure(params)
        assert run.value < tree_objective(jax.tree.map(jnp.asarray, params))


def test_float32_params_and_a_float64_objective(x64):
    scale = jnp.array([1.0, 2.0], jnp.float64)
    run = gdjax.minimize(lambda x: jnp.sum(scale * x**2), jnp.ones(2, jnp.float32), gdjax.adam(0.1))
    assert run.params.dtype == jnp.float32
    assert run.value.dtype == jnp.float64
    assert run.status == gdjax.Status.CONVERGED


ONES = np.ones(2, np.float32)
DOOR = [
    ({"params": np.arange(2)}, TypeError, "params is int32; params must be floating"),
    ({"params": {"w": ONES * 1j}}, TypeError, r"params\['w'\] is complex64"),
    ({"params": {"w": "text"}}, TypeError, r"params\['w'\] is a str"),
    ({"params": {}}, ValueError, "no arrays"),
    ({"params": np.ones(0, np.float32)}, ValueError, "empty"),
    ({"objective": lambda x: x}, TypeError, r"must return a scalar, it returned shape \(2,\)"),
    ({"objective": lambda x: (quadratic(x), 1)}, TypeError, "returned a tuple of 2"),
    ({"objective": lambda x: 1}, TypeError, "real floating number, not int32"),
    ({"objective": 3.0}, TypeError, "objective must be a function"),
    ({"optimizer": gdjax.adam}, TypeError, "has to be called"),
    ({"stop": 1e-3}, TypeError, "stop must be a StopCriterion"),
    ({"max_steps": -1}, ValueError, "max_steps must be"),
    ({"max_steps": 1.5}, ValueError, "max_steps must be"),
    ({"record": 3}, TypeError, "record must be a function"),
]


@pytest.mark.parametrize(("change", "error", "message"), DOOR)
def test_errors_at_the_door_have_names(change, error, message):
    sound = {"objective": quadratic, "params": ONES, "optimizer": gdjax.gradient_descent(0.1)}
    with pytest.raises(error, match=message):
        gdjax.minimize(**{**sound, **change})


def test_stride_of_zero_is_refused():
    with pytest.raises(ValueError, match="stride must be an integer of at least 1"):
        gdjax.every(0, lambda step: step.value)


def test_two_methods_with_trial_points_are_refused():
    with pytest.raises(ValueError, match="keeps 2 answers"):
        gdjax.minimize(quadratic, jnp.ones(2), optax.chain(halving(0.1), halving(0.1)))


def test_a_trial_and_its_base_are_judged_on_one_batch():
    """Batches differ wildly in value; a trial seen on another batch than its base would show it."""
    seen = []

    def loss(x, batch):
        jax.debug.callback(lambda x, b: seen.append((float(x[0]), float(b))), x, batch[0], ordered=True)
        return jnp.sum(x**2) + 10.0 * batch[0]

    objective = gdjax.finite_sum(loss, jnp.arange(8.0), batch_size=1)
    gdjax.minimize(objective, jnp.ones(1), halving(2.5), stop=None, max_steps=12, key=1)
    jax.effects_barrier()
    trials = seen[:13]
    points, batches = (np.array(column) for column in zip(*trials, strict=True))
    # 2.5 overshoots, 1.25 overshoots, 0.625 descends: three trials on the first batch.
    np.testing.assert_allclose(points[:4], [1, -4, -1.5, -0.25])
    assert len(set(batches[:4])) == 1
    # From there each accepted point is seen again, at once, on the next batch; the step after it on the same.
    for i in range(4, 12, 2):
        assert points[i] == points[i - 1]
        assert batches[i] != batches[i - 1]
        assert batches[i + 1] == batches[i]


def test_flat_method_on_batches_ends_near_the_mean():
    rng = np.random.default_rng(0)
    data = jnp.asarray(rng.normal(2.0, 0.1, size=(64, 3)), jnp.float32)
    objective = gdjax.finite_sum(
        lambda w, batch: jnp.mean(jnp.sum((batch - w[None]) ** 2, -1)), data, batch_size=16
    )
    run = gdjax.minimize(objective, jnp.zeros(3), halving(0.25), stop=None, max_steps=60, key=0)
    np.testing.assert_allclose(run.params, data.mean(0), atol=0.05)
    assert objective.full is not None
    np.testing.assert_allclose(run.value, objective.full(run.params), rtol=1e-5)


@pytest.mark.slow
def test_batched_result_is_over_all_data():
    data = jnp.arange(16.0)
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data, batch_size=2)
    run = gdjax.minimize(objective, 0.0, gdjax.gradient_descent(0.05), stop=None, max_steps=50, key=3)
    np.testing.assert_allclose(run.value, np.mean((np.asarray(data) - float(run.params)) ** 2), rtol=1e-5)
    np.testing.assert_allclose(run.residual, abs(2 * (float(run.params) - 7.5)), rtol=1e-3)
    again = gdjax.minimize(objective, 0.0, gdjax.gradient_descent(0.05), stop=None, max_steps=50, key=3)
    other = gdjax.minimize(objective, 0.0, gdjax.gradient_descent(0.05), stop=None, max_steps=50, key=4)
    assert run.params == again.params != other.params
    with pytest.raises(ValueError, match="draws mini-batches: pass key"):
        gdjax.minimize(objective, 0.0, gdjax.gradient_descent(0.05))


@pytest.mark.slow
def test_fixed_length_form_is_differentiable():
    def final(rate):
        run = gdjax.minimize(quadratic, jnp.ones(1), gdjax.gradient_descent(rate), stop=None, max_steps=3)
        return run.params[0]

    np.testing.assert_allclose(jax.grad(final)(0.1), -3 * 0.9**2, rtol=1e-5)
    np.testing.assert_allclose(jax.jvp(final, (0.1,), (1.0,))[1], -3 * 0.9**2, rtol=1e-5)


def test_run_is_a_pytree_of_pure_functions():
    run = gdjax.Run(quadratic, jnp.ones(2), gdjax.gradient_descent(0.1), max_steps=5)
    copied = jax.tree.unflatten(jax.tree.structure(run), jax.tree.leaves(run))
    state = copied.init()
    while not copied.done(state):
        state = copied.step(state)
    by_hand = copied.result(state)
    at_once = gdjax.minimize(quadratic, jnp.ones(2), gdjax.gradient_descent(0.1), max_steps=5)
    np.testing.assert_allclose(by_hand.params, at_once.params, rtol=1e-6)
    assert by_hand.status == at_once.status == gdjax.Status.MAX_STEPS
    ended = copied.step(state)
    assert (ended.status, ended.steps) == (state.status, state.steps)
    np.testing.assert_array_equal(ended.answer.params, state.answer.params)


def test_zero_steps_evaluate_the_start():
    run = gdjax.minimize(quadratic, jnp.ones(2), gdjax.adam(0.1), max_steps=0)
    assert (float(run.value), int(run.steps), int(run.status)) == (1.0, 0, gdjax.Status.MAX_STEPS)


@pytest.mark.slow
def test_a_key_may_be_a_seed_under_vmap_and_nothing_else():
    objective = gdjax.finite_sum(lambda w, x: jnp.mean((x - w) ** 2), jnp.arange(20.0), 4)
    descent = gdjax.gradient_descent(0.1)

    def end(key):
        return gdjax.minimize(objective, 0.0, descent, stop=None, max_steps=7, key=key).params

    mapped = jax.vmap(end)(jnp.arange(3))
    assert jnp.array_equal(mapped, jnp.stack([end(jax.random.key(seed)) for seed in range(3)]))
    assert jnp.array_equal(end(2), end(jax.random.PRNGKey(2)))
    with pytest.raises(TypeError, match="key must be a JAX key or an integer, got float32"):
        end(0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "size", "method"),
    [
        (gdjax.least_squares(lambda x: x - 3), 4, "levenberg_marquardt()"),
        (lambda x: jnp.sum((x - 3) ** 2), 4, "trust_region()"),
        (lambda x: jnp.sum((x - 3) ** 2), 101, "lbfgs()"),
    ],
)
def test_without_an_optimizer_one_is_chosen_and_named(objective, size, method):
    start = jnp.zeros(size)
    run = gdjax.minimize(objective, start)
    assert run.method == method
    assert run.status == gdjax.Status.CONVERGED
    assert jnp.allclose(run.params, 3, atol=1e-5)
    if size == 4:
        mapped = jax.vmap(lambda start: gdjax.minimize(objective, start))(jnp.stack([start, start + 1]))
        assert mapped.method == method
        assert jnp.allclose(mapped.params, 3, atol=1e-5)


def test_no_optimizer_is_chosen_for_mini_batches():
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), jnp.arange(8.0), batch_size=2)
    with pytest.raises(ValueError, match="learning rate"):
        gdjax.minimize(objective, 0.0, key=0)
