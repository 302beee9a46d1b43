"""Stop criteria: each against its definition, on made-up sequences and on runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax import Status, stopping
from gdjax.types import Step


def statuses(criterion, values, residuals=None, dtype=jnp.float32):
    """What a criterion says at each step of a made-up run; the scan holds its state's types."""
    values = jnp.asarray(values, dtype)
    residuals = jnp.ones_like(values) if residuals is None else jnp.asarray(residuals, dtype)
    params = jnp.zeros((), dtype)

    def one(state, seen):
        count, value, residual = seen
        status, state = criterion.update(state, Step(count, params, value, residual))
        return state, jnp.asarray(status, jnp.int8)

    counts = jnp.arange(len(values), dtype=jnp.int32)
    return jax.lax.scan(one, criterion.init(params), (counts, values, residuals))[1].tolist()


def first(criterion, values, residuals=None, **kwargs):
    """(step, status) of the first status, or None."""
    said = statuses(criterion, values, residuals, **kwargs)
    return next(((i, Status(s)) for i, s in enumerate(said) if s), None)


def test_residual_below_is_absolute_where_numbers_are_large():
    residuals = [1e3, 1.0, 2e-3, 1e-3, 9e-4]
    assert first(stopping.residual_below(1e-3), [5.0] * 5, residuals) == (3, Status.CONVERGED)


def test_residual_below_is_relative_where_everything_is_small():
    """An objective times 1e-6 converges where the objective does."""
    values, residuals = np.array([4.0, 2.0, 1.0, 0.5, 0.4]), np.array([8.0, 1.0, 1e-2, 1e-3, 1e-5])
    assert first(stopping.residual_below(1e-3), 0.1 * values, 0.1 * residuals) == (3, Status.CONVERGED)
    for scale in (1e-3, 1e-6, 1e-20):
        assert first(stopping.residual_below(1e-3), scale * values, scale * residuals) == (
            3,
            Status.CONVERGED,
        )
    fixed = stopping.residual_below(1e-3, scale=1.0)
    assert first(fixed, 1e-6 * values, 1e-6 * residuals) == (0, Status.CONVERGED)


def test_residual_below_ignores_nonfinite_values():
    assert first(stopping.residual_below(1e-3), [np.inf, np.nan, 1.0], [np.inf, np.nan, 0.5]) is None
    assert first(stopping.residual_below(1e-3), [0.0, 0.0], [0.0, 0.0]) == (0, Status.CONVERGED)


def test_value_below():
    assert first(stopping.value_below(0.5), [2.0, 0.6, 0.5, 0.4]) == (2, Status.TARGET)
    assert first(stopping.value_below(0.5), [2.0, np.nan, 0.6]) is None


def test_patience_counts_steps_without_a_new_best():
    values = [5.0, 4.0, 4.5, 4.2, 3.0, 3.0, 3.1, 3.2, 3.3]
    assert first(stopping.patience(3), values) == (7, Status.STALLED)
    assert first(stopping.patience(2), values) == (3, Status.STALLED)
    assert first(stopping.patience(9), values) is None
    falling = [5.0, 4.9, 4.8, 4.7, 4.6]
    assert first(stopping.patience(2), falling) is None
    assert first(stopping.patience(2, gain=0.5), falling) == (2, Status.STALLED)
    assert first(stopping.patience(2), [np.nan] * 4) == (1, Status.STALLED)


def test_stalled_wants_neither_value_nor_residual_to_get_better():
    flat = [1.0] * 10
    assert first(stopping.stalled(4), flat) == (4, Status.STALLED)
    falling = [2.0**-i for i in range(10)]
    assert first(stopping.stalled(4), falling) is None
    assert first(stopping.stalled(4), flat, [0.9**i for i in range(10)]) == (4, Status.STALLED)
    assert first(stopping.stalled(4), flat, falling) is None
    assert first(stopping.stalled(4), flat, [4.0**-i for i in range(10)]) is None
    assert first(stopping.stalled(2, relative=0.1), [1.0, 0.95, 0.93, 0.92]) == (2, Status.STALLED)


def test_stalled_knows_rounding_of_its_type(x64):
    crawl = 1 - 1e-7 * np.arange(10)
    assert first(stopping.stalled(4), crawl, dtype=jnp.float32) is not None
    assert first(stopping.stalled(4), crawl, dtype=jnp.float64) is None


def test_diverged():
    assert first(stopping.diverged(10.0), [1.0, 5.0, 11.0, 11.5]) == (3, Status.DIVERGED)
    assert first(stopping.diverged(10.0), [-50.0, 400.0, 460.0]) == (2, Status.DIVERGED)
    assert first(stopping.diverged(10.0), [0.0, 9.0, 11.0]) == (2, Status.DIVERGED)


@pytest.mark.smoke
def test_any_of_takes_the_first_in_order_and_all_of_wants_both():
    low, quiet = stopping.value_below(1.0), stopping.residual_below(1e-2)
    values, residuals = [3.0, 0.5, 2.0, 0.5], [1.0, 1.0, 1e-3, 1e-3]
    assert statuses(stopping.any_of(low, quiet), values, residuals) == [0, 8, 1, 8]
    assert statuses(stopping.any_of(quiet, low), values, residuals) == [0, 8, 1, 1]
    assert statuses(stopping.all_of(low, quiet), values, residuals) == [0, 0, 0, 8]
    assert statuses(stopping.all_of(quiet, low), values, residuals) == [0, 0, 0, 1]
    nested = stopping.any_of(stopping.all_of(low, quiet), stopping.patience(3))
    assert first(nested, [0.5] * 5) == (3, Status.STALLED)


def test_errors_at_the_door():
    for combine in (stopping.any_of, stopping.all_of):
        with pytest.raises(ValueError, match="at least one"):
            combine()
        with pytest.raises(TypeError, match="takes StopCriterion, got float"):
            combine(stopping.patience(3), 1e-3)


@pytest.mark.slow
def test_every_number_is_an_axis_and_compiles_nothing_new():
    traces = []

    def objective(x):
        traces.append(1)
        return jnp.sum(x**2)

    optimizer = gdjax.gradient_descent(0.1)
    tolerances = [1e-1, 1e-2, 1e-3]
    loop = []
    for tolerance in tolerances:
        stop = stopping.any_of(stopping.residual_below(tolerance), stopping.patience(int(1 / tolerance)))
        loop.append(int(gdjax.minimize(objective, jnp.ones(2), optimizer, stop=stop).steps))
    assert len(traces) <= 2
    assert loop == sorted(set(loop))

    def steps(tolerance):
        stop = stopping.residual_below(tolerance)
        return gdjax.minimize(objective, jnp.ones(2), optimizer, stop=stop).steps

    assert jax.vmap(steps)(jnp.array(tolerances)).tolist() == loop


@pytest.mark.slow
def test_runs_end_by_their_criterion():
    def valley(x):
        return jnp.abs(x[0])

    ends = {
        Status.TARGET: stopping.value_below(0.5),
        Status.STALLED: stopping.patience(5),
        Status.MAX_STEPS: stopping.residual_below(1e-3),
    }
    for status, stop in ends.items():
        run = gdjax.minimize(valley, jnp.ones(1) * 1.05, gdjax.gradient_descent(0.1), stop=stop, max_steps=60)
        assert Status(int(run.status)) == status
    wild = gdjax.minimize(
        lambda x: x[0] ** 2, jnp.ones(1), gdjax.gradient_descent(2.0), stop=stopping.diverged(100.0)
    )
    assert wild.status == Status.DIVERGED
    assert np.isfinite(wild.value)


def test_explain_has_words_for_each_status():
    words = {gdjax.explain(status) for status in Status}
    assert len(words) == len(Status)
    assert gdjax.explain(jnp.int8(5)) == gdjax.explain(Status.NONFINITE)
    with pytest.raises(ValueError, match="unknown status 77"):
        gdjax.explain(77)
    with pytest.raises(ValueError, match="array of shape"):
        gdjax.explain(jnp.zeros(3, jnp.int8))


@pytest.mark.slow
@pytest.mark.parametrize("make", [optax.sgd, optax.adam, gdjax.momentum])
def test_a_start_at_zero_with_a_rate_of_zero_has_not_arrived(make):
    """A warmup moves nothing in its first step, and params that are all zero have no size."""
    rates = gdjax.schedules.warmup(gdjax.schedules.cosine(0.1, 400), 20)
    run = gdjax.minimize(lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(3), make(rates), max_steps=400)
    assert run.steps > 20
    assert run.value < 1e-4


@pytest.mark.slow
def test_a_start_at_an_answer_of_zeros_has_arrived():
    run = gdjax.minimize(lambda x: jnp.sum(x**2) + 1.0, jnp.zeros(3), optax.sgd(0.1))
    assert (int(run.status), int(run.steps)) == (Status.CONVERGED, 0)
