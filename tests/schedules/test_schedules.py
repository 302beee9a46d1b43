"""Schedules: equal to optax's and to their formulas, with every argument a tracer."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax import schedules

COUNTS = [0, 1, 2, 5, 9, 10, 11, 29, 30, 31, 49, 50, 69, 70, 99, 100, 101, 1000, 100_000]

AS_OPTAX = {
    "constant": (schedules.constant(0.3), optax.constant_schedule(0.3)),
    "step_decay": (
        schedules.step_decay(0.3, 0.7, 10),
        optax.exponential_decay(0.3, 10, 0.7, staircase=True),
    ),
    "exponential": (schedules.exponential(0.3, 0.7, 30), optax.exponential_decay(0.3, 30, 0.7)),
    "exponential, end": (
        schedules.exponential(0.3, 0.7, 30, end=0.1),
        optax.exponential_decay(0.3, 30, 0.7, end_value=0.1),
    ),
    "exponential, rising": (
        schedules.exponential(0.3, 1.5, 30, end=1.0),
        optax.exponential_decay(0.3, 30, 1.5, end_value=1.0),
    ),
    "polynomial": (schedules.polynomial(0.3, 0.01, 2.5, 70), optax.polynomial_schedule(0.3, 0.01, 2.5, 70)),
    "polynomial, begin": (
        schedules.polynomial(0.3, 0.01, 0.5, 60, begin=10),
        optax.polynomial_schedule(0.3, 0.01, 0.5, 60, 10),
    ),
    "linear": (schedules.linear(0.0, 0.3, 50), optax.linear_schedule(0.0, 0.3, 50)),
    "cosine": (schedules.cosine(0.3, 70), optax.cosine_decay_schedule(0.3, 70)),
    "cosine, end": (
        schedules.cosine(0.3, 70, end=0.03, exponent=1.5),
        optax.cosine_decay_schedule(0.3, 70, alpha=0.1, exponent=1.5),
    ),
    "warmup, constant": (
        schedules.warmup(schedules.constant(0.3), 10),
        optax.warmup_constant_schedule(0.0, 0.3, 10),
    ),
    "warmup, cosine": (
        schedules.warmup(schedules.cosine(0.3, 60, end=0.01), 10, start=0.05),
        optax.warmup_cosine_decay_schedule(0.05, 0.3, 10, 70, end_value=0.01),
    ),
    "warmup, exponential": (
        schedules.warmup(schedules.exponential(0.3, 0.7, 20), 10),
        optax.warmup_exponential_decay_schedule(0.0, 0.3, 10, 20, 0.7),
    ),
    "one_cycle": (schedules.one_cycle(0.3, 100), optax.cosine_onecycle_schedule(100, 0.3)),
    "one_cycle, arguments": (
        schedules.one_cycle(0.3, 70, rise=0.45, divisor=10.0, final_divisor=100.0),
        optax.cosine_onecycle_schedule(70, 0.3, 0.45, 10.0, 100.0),
    ),
    "one_cycle_linear": (schedules.one_cycle_linear(0.3, 100), optax.linear_onecycle_schedule(100, 0.3)),
    "one_cycle_linear, arguments": (
        schedules.one_cycle_linear(0.3, 70, rise=0.45, fall=0.9, divisor=10.0, final_divisor=100.0),
        optax.linear_onecycle_schedule(70, 0.3, 0.45, 0.9, 10.0, 100.0),
    ),
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", AS_OPTAX)
def test_equals_optax(name):
    ours, theirs = AS_OPTAX[name]
    counts = jnp.array(COUNTS, jnp.int32)
    expected = np.array([float(theirs(count)) for count in COUNTS])
    mapped = np.broadcast_to(jax.jit(jax.vmap(ours))(counts), expected.shape)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mapped, expected, rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(
        [float(ours(count)) for count in COUNTS], expected, rtol=1e-6, atol=1e-6 * scale
    )


def test_own_formulas(x64):
    t = np.arange(60)
    pairs = {
        "inverse_time": (schedules.inverse_time(0.3), 0.3 / np.maximum(t, 1)),
        "inverse_sqrt": (schedules.inverse_sqrt(0.3), 0.3 / np.sqrt(t + 1)),
        "cyclic": (schedules.cyclic(0.1, 0.5, 8), 0.1 + 0.4 * (1 - np.abs((t % 16) / 8 - 1))),
        "cyclic, shrinking": (
            schedules.cyclic(0.1, 0.5, 8, shrink=0.5),
            0.1 + 0.4 * (1 - np.abs((t % 16) / 8 - 1)) * 0.5 ** (t // 16),
        ),
        "warmup, inverse_sqrt": (
            schedules.warmup(schedules.inverse_sqrt(0.3), 5, start=0.1),
            np.where(t < 5, 0.1 + 0.2 * t / 5, 0.3 / np.sqrt(np.maximum(t - 5, 0) + 1)),
        ),
        "warmup of no length": (schedules.warmup(schedules.cosine(0.3, 9), 0), None),
    }
    for name, (schedule, expected) in pairs.items():
        if expected is None:
            expected = [schedules.cosine(0.3, 9)(count) for count in t]
        found = jax.vmap(schedule)(jnp.asarray(t))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15, err_msg=name)


# Sound values for every argument of every schedule.
ARGUMENTS = {
    "constant": {"value": 0.3},
    "inverse_time": {"initial": 0.3},
    "inverse_sqrt": {"initial": 0.3},
    "step_decay": {"initial": 0.3, "factor": 0.7, "every": 10.0},
    "exponential": {"initial": 0.3, "factor": 0.7, "steps": 30.0, "end": 0.01},
    "polynomial": {"initial": 0.3, "end": 0.01, "power": 2.0, "steps": 40.0, "begin": 3.0},
    "linear": {"initial": 0.3, "end": 0.01, "steps": 40.0, "begin": 3.0},
    "cosine": {"initial": 0.3, "end": 0.01, "steps": 40.0, "exponent": 1.5},
    "warmup": {"steps": 10.0, "start": 0.01},
    "cyclic": {"low": 0.1, "high": 0.5, "half": 8.0, "shrink": 0.9},
    "one_cycle": {"peak": 0.3, "steps": 40.0, "rise": 0.3, "divisor": 25.0, "final_divisor": 100.0},
    "one_cycle_linear": {
        "peak": 0.3,
        "steps": 40.0,
        "rise": 0.3,
        "fall": 0.8,
        "divisor": 25.0,
        "final_divisor": 100.0,
    },
}


def make(name, arguments):
    extra = {"schedule": schedules.cosine(0.3, 20)} if name == "warmup" else {}
    return getattr(schedules, name)(**extra, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", schedules.__all__)
def test_every_argument_may_be_a_tracer(name):
    """All arguments at once under jit and vmap, inside and outside, equal a Python loop."""
    arguments = ARGUMENTS[name]
    assert set(arguments) | {"schedule"} >= set(inspect.signature(getattr(schedules, name)).parameters)
    counts = jnp.array([0, 4, 12, 17, 33, 80])
    factors = jnp.array([0.8, 1.0, 1.2])

    def values(arguments):
        return jnp.broadcast_to(jax.vmap(make(name, arguments))(counts), counts.shape)

    batch = {key: value * factors for key, value in arguments.items()}
    mapped = jax.jit(jax.vmap(values))(batch)
    for i, factor in enumerate([0.8, 1.0, 1.2]):
        single = values(
            {key: float(jnp.float32(value) * jnp.float32(factor)) for key, value in arguments.items()}
        )
        np.testing.assert_allclose(mapped[i], single, rtol=2e-5, atol=1e-7)
    slopes = jax.grad(lambda arguments: jnp.sum(values(arguments)))(arguments)
    assert all(np.isfinite(slope) for slope in slopes.values()), slopes


@pytest.mark.slow
def test_a_schedule_argument_is_an_axis_of_runs():
    def run(steps):
        rate = schedules.warmup(schedules.cosine(0.1, steps), 3)
        return gdjax.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam(rate), max_steps=40).value

    lengths = jnp.array([5, 20, 40])
    np.testing.assert_allclose(jax.vmap(run)(lengths), [run(n) for n in (5, 20, 40)], rtol=1e-5)


@pytest.mark.slow
def test_a_changed_argument_compiles_nothing_new():
    traces = []

    def counted(x):
        traces.append(1)
        return jnp.sum(x**2)

    for initial in (0.1, 0.2):
        optimizer = gdjax.gradient_descent(schedules.warmup(schedules.cosine(initial, 10), 2))
        gdjax.minimize(counted, jnp.ones(2), optimizer, max_steps=3)
    assert len(traces) <= 2


def test_bad_arguments_are_named_at_the_door():
    for call, message in [
        (lambda: schedules.cosine(0.1, 0), "cosine: steps must be above 0, got 0"),
        (lambda: schedules.step_decay(0.1, 0.5, -1), "step_decay: every"),
        (lambda: schedules.one_cycle(0.1, 10, rise=1.5), "one_cycle: rise must be above 0 and below 1"),
        (lambda: schedules.warmup(schedules.constant(0.1), -1), "warmup: steps"),
        (lambda: schedules.polynomial(jnp.ones(2), 0.0, 1, 10), r"polynomial: initial has shape \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="warmup: schedule must be a function"):
        schedules.warmup(0.1, 10)
    with pytest.raises(TypeError, match=r"linear: initial must be a number, got str '0\.1'"):
        schedules.linear("0.1", 0, 10)
