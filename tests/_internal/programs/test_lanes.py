"""Loops under vmap: through lanes every run comes to what it comes to alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax._internal.programs import jaxprs, lanes
from gdjax.types import Status

RUNS = 37


@pytest.fixture
def few(monkeypatch):
    """Lanes even where runs are few and small."""
    monkeypatch.setattr(lanes, "WORTH", 0)
    monkeypatch.setattr(lanes, "CACHED", 0)
    jax.clear_caches()
    yield
    jax.clear_caches()


def collatz(start, scale):
    """Steps to 1, for a program whose runs differ widely in length."""

    def step(state):
        n, steps, total = state
        return jnp.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1, total + scale * n

    return lanes.while_loop(lambda s: s[0] > 1, step, (start, 0, 0.0 * scale))[1:]


def by_hand(n, scale):
    steps, total = 0, 0.0
    while n > 1:
        n, steps, total = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1, total + scale * n
    return steps, total


def uses_lanes(function, *arguments):
    """Whether a loop inside a loop is left: lanes have one, runs under one vmap have not."""

    def depth(program):
        inner = [
            depth(p) + (eqn.primitive.name == "while") for eqn in program.eqns for p in jaxprs.inside(eqn)
        ]
        return max(inner, default=0)

    return depth(jax.make_jaxpr(function)(*arguments).jaxpr) > 1


@pytest.mark.slow
@pytest.mark.parametrize("runs", [8, 16, 17, RUNS, 129])
def test_every_run_comes_to_its_own_end(few, runs):
    numbers, scales = jnp.arange(1, runs + 1), jnp.linspace(0.5, 2.0, runs)
    steps, total = jax.jit(jax.vmap(collatz))(numbers, scales)
    expected = [by_hand(int(n), float(s)) for n, s in zip(numbers, scales, strict=True)]
    assert steps.tolist() == [n for n, _ in expected]
    np.testing.assert_allclose(total, [t for _, t in expected], rtol=1e-5)
    assert uses_lanes(jax.vmap(collatz), numbers, scales) == (runs >= 16)


@pytest.mark.smoke
def test_what_is_not_mapped_is_shared(few):
    numbers = jnp.arange(1, RUNS + 1)
    steps, total = jax.vmap(collatz, in_axes=(0, None))(numbers, 2.0)
    expected = [by_hand(int(n), 2.0) for n in numbers]
    assert steps.tolist() == [n for n, _ in expected]
    np.testing.assert_allclose(total, [t for _, t in expected], rtol=1e-5)
    same, totals = jax.vmap(collatz, in_axes=(None, 0))(27, jnp.arange(RUNS) * 1.0)
    assert same.tolist() == [111] * RUNS
    np.testing.assert_allclose(totals, by_hand(27, 1.0)[1] * np.arange(RUNS), rtol=1e-5)


@pytest.mark.parametrize(("runs", "size", "expected"), [(512, 5, True), (511, 5, False), (512, 1, False)])
def test_small_runs_that_factor_matrices_go_through_lanes(runs, size, expected):
    """A library does it for one after the other: for those that have ended too, under one vmap."""

    def root(x):
        turn = jnp.linalg.cholesky if size > 1 else jnp.sqrt
        return lanes.while_loop(lambda s: s[0, 0] > 1.01, turn, x * jnp.eye(size))

    starts = jnp.linspace(1.0, 9.0, runs)
    assert uses_lanes(jax.vmap(root), starts) == expected
    if expected:
        halvings = np.ceil(np.log2(np.maximum(np.log(np.asarray(starts, float)) / np.log(1.01), 1)))
        roots = np.asarray(starts, float) ** (0.5**halvings)
        np.testing.assert_allclose(jax.vmap(root)(starts)[:, 0, 0], roots, rtol=1e-5)


@pytest.mark.slow
def test_vmaps_inside_each_other(few):
    numbers, scales = jnp.arange(1, RUNS + 1), jnp.linspace(0.5, 2.0, 19)
    for outer, inner in [((0, None), (None, 0)), ((None, 0), (0, None))]:
        both = jax.jit(jax.vmap(jax.vmap(collatz, in_axes=inner), in_axes=outer))
        steps, total = both(numbers, scales)
        steps, total = (steps, total) if outer == (0, None) else (steps.T, total.T)
        assert steps[:, 0].tolist() == [by_hand(int(n), 1.0)[0] for n in numbers]
        np.testing.assert_allclose(total[26], by_hand(27, 1.0)[1] * np.asarray(scales), rtol=1e-5)


def rosenbrock(x, height):
    return jnp.sum(height * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [gdjax.bfgs, lambda: gdjax.gradient_descent(1e-3)])
def test_minimize_under_vmap(few, x64, make):
    starts = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (RUNS, 4)))
    heights = jnp.linspace(1.0, 30.0, RUNS)

    def one(start, height):
        return gdjax.minimize(lambda x: rosenbrock(x, height), start, make(), max_steps=200)

    assert uses_lanes(jax.vmap(one), starts, heights)
    found, one = jax.jit(jax.vmap(one))(starts, heights), jax.jit(one)
    assert len(set(found.steps.tolist())) > 5 or (found.steps == 200).all()
    for i in (0, 7, RUNS - 1):
        alone = one(starts[i], heights[i])
        assert found.status[i] == alone.status
        assert abs(found.steps[i] - alone.steps) <= 2
        np.testing.assert_allclose(found.params[i], alone.params, atol=1e-5)
        np.testing.assert_allclose(
            rosenbrock(found.params[i], heights[i]), found.value[i], rtol=1e-9, atol=1e-20
        )


@pytest.mark.slow
def test_derivatives_of_answers(few, x64):
    centres = jnp.linspace(-0.5, 2.0, RUNS)

    def answer(centre, curvature):
        objective = lambda x: jnp.sum(curvature * (x - centre) ** 2 + x**4)  # noqa: E731
        return gdjax.minimize(
            objective, jnp.ones(2), gdjax.bfgs(), stop=gdjax.stopping.residual_below(1e-10)
        ).params[0]

    answers = jax.vmap(answer, in_axes=(0, None))
    slope = jax.jit(jax.vmap(jax.grad(answer), in_axes=(0, None)))(centres, 2.0)
    x, pull = jax.vjp(jax.jit(lambda c: answers(centres, c)), 2.0)
    np.testing.assert_allclose(slope, 4 / (4 + 12 * x**2), rtol=1e-6)
    (summed,) = pull(jnp.ones(RUNS))
    np.testing.assert_allclose(summed, jnp.sum(-2 * (x - centres) / (4 + 12 * x**2)), rtol=1e-6)


@pytest.mark.slow
def test_random_keys_and_mini_batches(few):
    data = jnp.asarray(np.random.default_rng(1).normal(size=(24, 2)), jnp.float32)
    objective = gdjax.finite_sum(lambda w, batch: jnp.sum((w[None] - batch) ** 2), data, 6)

    def one(seed, rate):
        run = gdjax.minimize(objective, jnp.zeros(2), gdjax.gradient_descent(rate), key=seed, max_steps=50)
        return run.params, run.value

    seeds, rates = jnp.arange(RUNS), jnp.linspace(0.001, 0.1, RUNS)
    params, value = jax.jit(jax.vmap(one))(seeds, rates)
    one = jax.jit(one)
    for i in (0, 20):
        alone = one(seeds[i], rates[i])
        np.testing.assert_allclose(params[i], alone[0], rtol=1e-4)
        np.testing.assert_allclose(value[i], alone[1], rtol=1e-4)


@pytest.mark.slow
def test_what_is_printed_on_the_way_is_printed(few, capfd):
    def objective(x):
        jax.debug.print("at {}", x)
        return x**2

    def one(x):
        return gdjax.minimize(objective, x, gdjax.gradient_descent(0.5), max_steps=1).value

    assert not uses_lanes(jax.vmap(one), jnp.arange(20.0))
    jax.block_until_ready(jax.vmap(one)(jnp.arange(20.0)))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("at") >= 20


@pytest.mark.slow
def test_collectives_see_all_runs(few):
    def one(start, stop):
        descent = gdjax.gradient_descent(0.01)
        objective = lambda x: jax.lax.psum(x**2, "runs")  # noqa: E731
        return gdjax.minimize(objective, start, descent, max_steps=3, stop=stop).value

    starts = jnp.arange(1.0, 21.0)
    fixed, stopped = (
        jax.vmap(lambda x, stop=stop: one(x, stop), axis_name="runs")(starts)
        for stop in (None, gdjax.stopping.residual_below(1e-6))
    )
    np.testing.assert_allclose(fixed, stopped, rtol=1e-5)
    assert fixed[0] == fixed[-1]


@pytest.mark.slow
def test_a_run_that_is_lost_stays_lost(few):
    def one(rate):
        return gdjax.minimize(lambda x: x**4, 2.0, gdjax.gradient_descent(rate), max_steps=100).status

    rates, one = jnp.linspace(0.01, 1.0, RUNS), jax.jit(one)
    assert jax.vmap(one)(rates).tolist() == [int(one(rate)) for rate in rates]
    assert int(one(rates[-1])) in (Status.NONFINITE, Status.UNBOUNDED)


def test_how_many_lanes():
    assert lanes.lane_count(5000, 0, 100) == 8
    assert lanes.lane_count(5000, 0, 1024) == 64
    assert lanes.lane_count(5000, 0, 100_000) == 64
    assert lanes.lane_count(5000, 2**23, 10_000) == 1024  # many read the shared data at once
    assert lanes.lane_count(2**23, 0, 16) == 8
    assert lanes.lane_count(2**23, 0, 3) == 3
