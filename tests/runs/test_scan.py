"""The fixed-length form in blocks against the checked step at every step, and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.runs import scan
from gdjax.types import Status


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def reference(run):
    """The checked step, everywhere."""
    return run.result(scan.checked(run, run.init()))


def assert_same(found, expected, rtol=2e-6):
    for name in ("steps", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in ("params", "value", "residual", "trace", "state"):
        jax.tree.map(
            lambda a, b, name=name: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7, err_msg=name),
            getattr(found, name),
            getattr(expected, name),
        )


def both(make, *points):
    """Fast and checked results of a vmapped run."""
    fast = jax.jit(jax.vmap(lambda *point: make(*point).solve()))(*points)
    slow = jax.jit(jax.vmap(lambda *point: reference(make(*point))))(*points)
    return fast, slow


@pytest.mark.parametrize(
    ("max_steps", "record"), [(0, 1), (1, None), (50, 3), (97, None), (97, 1), (100, 50), (100, 200)]
)
def test_equals_the_checked_step(max_steps, record, x64):
    recorder = None if record is None else gdjax.every(record, lambda step: step)

    def make(rate):
        return gdjax.Run(
            rosenbrock,
            jnp.array([-1.0, 1.5]),
            optax.adam(rate),
            stop=None,
            max_steps=max_steps,
            record=recorder,
        )

    fast, slow = both(make, jnp.array([1e-3, 1e-2, 0.3]))
    assert_same(fast, slow, rtol=1e-9)


@pytest.mark.slow
def test_equals_numpy(x64):
    rates, steps = np.array([1e-3, 1e-2, 0.1]), 300

    def make(rate):
        return gdjax.Run(rosenbrock, jnp.array([-1.0, 1.5]), optax.adam(rate), stop=None, max_steps=steps)

    found = jax.jit(jax.vmap(lambda rate: make(rate).solve()))(rates)
    for i, rate in enumerate(rates):
        x, m, v = np.array([-1.0, 1.5]), np.zeros(2), np.zeros(2)
        for t in range(1, steps + 1):
            d = x[1] - x[0] ** 2
            g = np.array([-2 * (1 - x[0]) - 400 * d * x[0], 200 * d])
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(found.params[i], x, rtol=1e-10)


@pytest.mark.parametrize("record", [None, 4])
def test_is_lost_at_every_position(record):
    """Runs that die at every step from 0 to the last: each keeps its own last finite point."""
    max_steps = 40
    recorder = None if record is None else gdjax.every(record, lambda step: (step.value, step.params))

    def make(wall):
        # x falls by 1 a step from 0; the objective is NaN beyond the wall
        def f(x):
            return jnp.where(x < -wall, jnp.nan, 1.0) * x

        return gdjax.Run(f, jnp.array(0.0), optax.sgd(1.0), stop=None, max_steps=max_steps, record=recorder)

    walls = jnp.arange(-1, max_steps + 2) + 0.5
    fast, slow = both(make, walls)
    assert_same(fast, slow)
    expected = np.clip(np.arange(-1, max_steps + 2), 0, max_steps)
    np.testing.assert_array_equal(fast.steps, expected)
    np.testing.assert_array_equal(fast.params, -expected)
    lost = np.arange(-1, max_steps + 2) < max_steps
    np.testing.assert_array_equal(fast.status == Status.NONFINITE, lost)


@jax.custom_jvp
def nan_gradient_at_ten(x, count):
    return x


@nan_gradient_at_ten.defjvp
def _(primals, tangents):
    x, wall = primals
    return x, tangents[0] * jnp.where(jnp.abs(x - wall) < 0.25, jnp.nan, 1.0)


def test_sees_a_nan_gradient_that_the_optimizer_hides():
    """zero_nans goes on as if nothing had been; the run has been lost all the same."""

    def make(wall):
        optimizer = optax.chain(optax.zero_nans(), optax.sgd(1.0), optax.add_decayed_weights(0.0))
        optimizer = optax.chain(optimizer, optax.stateless(lambda u, p: u - 1e-3))
        return gdjax.Run(
            lambda x: nan_gradient_at_ten(x, wall), jnp.array(0.0), optimizer, stop=None, max_steps=30
        )

    walls = -jnp.array([0.0, 1.0, 9.0, 17.0, 29.0, 60.0])
    fast, slow = both(make, walls)
    assert_same(fast, slow)
    assert fast.status[2] == Status.NONFINITE
    assert fast.status[-1] == Status.MAX_STEPS


@pytest.mark.slow
def test_sees_a_value_that_overflows_and_comes_back():
    def f(x):
        return jnp.where(jnp.abs(x - 5) < 0.5, jnp.inf, 0.0) - x

    run = gdjax.Run(f, jnp.array(0.0), optax.sgd(1.0), stop=None, max_steps=20)
    fast, slow = jax.jit(run.solve)(), reference(run)
    assert_same(fast, slow)
    assert (int(fast.steps), int(fast.status)) == (4, Status.NONFINITE)


def test_says_unbounded():
    def make(rate):
        return gdjax.Run(lambda x: -jnp.exp(x), jnp.array(0.0), optax.sgd(rate), stop=None, max_steps=100)

    fast, slow = both(make, jnp.array([1e-3, 0.1, 1.0]))
    assert_same(fast, slow)
    assert fast.status.tolist() == [Status.MAX_STEPS, Status.UNBOUNDED, Status.UNBOUNDED]


@pytest.mark.smoke
@pytest.mark.parametrize("max_steps", [24, 37])
def test_mini_batches(max_steps):
    data = jnp.linspace(-1, 3, 40).reshape(20, 2)
    objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w[None]) ** 2), data, batch_size=4)

    def make(rate, seed):
        return gdjax.Run(
            objective,
            jnp.zeros(2),
            optax.sgd(rate, momentum=0.9),
            stop=None,
            max_steps=max_steps,
            key=jax.random.key(seed),
            record=gdjax.every(5, lambda step: {"f": step.value}),
        )

    fast, slow = both(make, jnp.array([1e-3, 0.1, 1e18, 0.1]), jnp.array([0, 1, 1, 2]))
    assert_same(fast, slow)
    assert fast.status.tolist() == [Status.MAX_STEPS, Status.MAX_STEPS, Status.NONFINITE, Status.MAX_STEPS]


@pytest.mark.smoke
def test_reverse_mode_passes():
    def end(rate, solve):
        run = gdjax.Run(
            rosenbrock,
            jnp.array([-1.0, 1.5]),
            optax.sgd(rate),
            stop=None,
            max_steps=30,
            record=lambda s: s.value,
        )
        result = solve(run)
        return result.value + result.trace[7]

    fast = jax.grad(lambda rate: end(rate, gdjax.Run.solve))(1e-3)
    slow = jax.grad(lambda rate: end(rate, reference))(1e-3)
    np.testing.assert_allclose(fast, slow, rtol=1e-5)


@pytest.mark.slow
def test_op_by_op(x64):
    """Without compilation the same numbers: a guard against a compiler that gets a fast path wrong."""

    def make():
        return gdjax.Run(rosenbrock, jnp.array([-1.0, 1.5]), optax.adam(0.05), stop=None, max_steps=12)

    with jax.disable_jit():
        slow = make().solve()
    assert_same(jax.jit(lambda: make().solve())(), slow, rtol=1e-10)


@pytest.mark.parametrize("stride", [None, 1, 2, 7, 10, 45, 64, 500, 997])
@pytest.mark.parametrize("max_steps", [1, 10, 97, 280, 500, 2000, 10007])
def test_blocks_fit(max_steps, stride):
    cut = scan.blocks(max_steps, stride)
    assert cut.number * cut.length <= max_steps < (cut.number + 1) * cut.length
    assert cut.length % cut.every == 0
    if stride is not None:
        assert cut.every * cut.keep == stride


@pytest.mark.slow
def test_few_numbers_lie_run_by_run_innermost():
    def make(rate):
        return gdjax.Run(rosenbrock, jnp.array([-1.0, 1.5]), optax.adam(rate), stop=None, max_steps=50)

    solve = jax.jit(jax.vmap(lambda rate: make(rate).solve().params))
    assert "f32[64,2]{0,1}" in solve.lower(jnp.linspace(1e-3, 1e-2, 64)).compile().as_text()


@pytest.mark.slow
def test_forward_and_reverse_mode_agree_under_vmap():
    def end(rate):
        run = gdjax.Run(rosenbrock, jnp.array([-1.0, 1.5]), optax.sgd(rate), stop=None, max_steps=30)
        return run.solve().value

    rates = jnp.array([1e-4, 1e-3])
    reverse = jax.vmap(jax.grad(end))(rates)
    forward = jax.vmap(lambda rate: jax.jvp(end, (rate,), (1.0,))[1])(rates)
    np.testing.assert_allclose(reverse, forward, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 20])
def test_second_derivatives_in_a_learning_rate(x64, size):
    """Of params that are laid out for many runs, too."""

    def after(rate):
        objective = lambda x: jnp.sum(jnp.cosh(x))  # noqa: E731
        return gdjax.minimize(
            objective, jnp.ones(size), gdjax.gradient_descent(rate), stop=None, max_steps=7
        ).value

    forward = jax.jacfwd(jax.jacfwd(after))(0.1)
    for second in (jax.hessian(after), jax.grad(jax.grad(after))):
        np.testing.assert_allclose(second(0.1), forward, rtol=1e-9)
    mapped = jax.vmap(jax.hessian(after))(jnp.array([0.1, 0.1]))
    np.testing.assert_allclose(mapped, forward, rtol=1e-9)
