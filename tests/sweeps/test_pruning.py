"""Successive halving among lanes: who goes on, against the rule in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax.sweeps import Halving, Lanes
from gdjax.sweeps.pruning import blank, levels, lost, noted

RATES = np.geomspace(1e-4, 0.45, 27).astype(np.float32)


def trial(rate):
    return gdjax.Run(
        lambda x: jnp.sum(jnp.array([1.0, 2.0]) * x**2),
        jnp.ones(2),
        gdjax.gradient_descent(rate),
        stop=None,
        max_steps=90,
    )


@pytest.fixture(scope="module")
def pruned():
    return gdjax.sweep(trial, {"rate": RATES}, lanes=Lanes(27, prune=Halving(10, 3)), progress=False)


@pytest.fixture(scope="module")
def whole():
    return gdjax.sweep(trial, {"rate": RATES}, progress=False)


def test_levels():
    assert levels(Halving(10, 3), 90) == [10, 30]
    assert levels(Halving(10, 3), 91) == [10, 30, 90]
    assert levels(Halving(90), 90) == []


@pytest.mark.slow
def test_the_rule_follows_numpy():
    """One after the other: each is compared with those that came before."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=30)
    values[[3, 8]] = np.nan, np.inf
    rungs, seen = blank(1, 1, 30, jnp.float32), []
    for run, value in enumerate(values):
        rungs = noted(rungs._replace(climbed=jnp.zeros(1, int)), 0, run, value)
        seen.append(np.inf if np.isnan(value) else value)
        best = np.sort(seen)[: max(1, int(np.ceil(len(seen) / 4)))]
        expected = seen[-1] > best[-1] or (np.isinf(seen[-1]) and run > 0)
        assert bool(lost(Halving(1, 4), rungs, jnp.array([run]))[0]) == expected


def test_runs_that_come_together_are_compared():
    rungs = blank(1, 6, 6, jnp.float32)
    for lane, value in enumerate([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]):
        rungs = noted(rungs, lane, lane, value)
    assert lost(Halving(1, 3), rungs, jnp.arange(6)).tolist() == [True] * 4 + [False] * 2


@pytest.mark.smoke
def test_losers_stop_at_rungs_and_winners_go_through(pruned, whole):
    stopped = pruned.status.values == gdjax.Status.PRUNED
    assert 0 < stopped.sum() < 27
    assert set(pruned.steps.values[stopped]) <= {10, 30}
    assert (pruned.steps.values[~stopped] == 90).all()
    np.testing.assert_allclose(pruned.value.values[~stopped], whole.value.values[~stopped], rtol=1e-5)
    assert int(whole.value.values.argmin()) in np.flatnonzero(~stopped)
    assert pruned.steps.sum() < 0.7 * whole.steps.sum()


@pytest.mark.slow
def test_values_of_losers_belong_to_their_points():
    runs = gdjax.sweep(
        trial, {"rate": RATES}, lanes=Lanes(8, prune=Halving(10, 3)), progress=False, params=True
    )
    np.testing.assert_allclose(runs.value, runs.params.values**2 @ [1.0, 2.0], rtol=1e-5)


@pytest.mark.slow
def test_runs_that_diverge_are_pruned_or_said_to_fail():
    rates = jnp.array([0.1, 5.0, 0.2, 9.0, 0.05, 0.3])
    runs = gdjax.sweep(trial, {"rate": rates}, lanes=Lanes(2, prune=Halving(40, 2)), progress=False)
    assert set(runs.status.values[[1, 3]]) <= {gdjax.Status.NONFINITE, gdjax.Status.PRUNED}
    assert int(runs.status[0]) == gdjax.Status.MAX_STEPS
    assert np.isfinite(runs.value).all()


@pytest.mark.slow
def test_mini_batch_runs_are_compared_over_all_data():
    data = jax.random.normal(jax.random.key(0), (64,))

    def noisy(rate):
        objective = gdjax.finite_sum(lambda w, batch: jnp.mean((batch - w) ** 2), data, 4)
        return gdjax.Run(objective, 3.0, gdjax.gradient_descent(rate), stop=None, max_steps=40, key=0)

    runs = gdjax.sweep(
        noisy, {"rate": jnp.logspace(-4, -1, 9)}, lanes=Lanes(9, prune=Halving(5, 3)), progress=False
    )
    assert int(runs.status[-1]) == gdjax.Status.MAX_STEPS
    assert int(runs.status[0]) == gdjax.Status.PRUNED


@pytest.mark.slow
def test_halving_is_checked():
    for wrong in (Halving(0), Halving(5, 1), 3):
        with pytest.raises(ValueError, match="Halving"):
            gdjax.sweep(trial, {"rate": RATES}, lanes=Lanes(4, prune=wrong), progress=False)
