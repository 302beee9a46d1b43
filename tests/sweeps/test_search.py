"""Populations and suggestions: against loops by hand, and against a grid at equal budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax

RATES = jnp.logspace(-3, -0.5, 8)


def trial(learning_rate):
    return gdjax.Run(
        lambda x: jnp.sum(jnp.array([1.0, 10.0]) * x**2),
        jnp.ones(2),
        gdjax.momentum(learning_rate, 0.5),
        stop=None,
        max_steps=40,
    )


def keep(key, points):
    return points


@pytest.fixture(scope="module")
def population():
    return gdjax.search.population_based(trial, {"learning_rate": RATES}, rounds=4, steps=5, explore=keep)


@pytest.mark.slow
def test_first_round_is_every_members_own(population):
    for i in (0, 3):
        alone = gdjax.minimize(
            trial(RATES[i]).objective, jnp.ones(2), gdjax.momentum(RATES[i], 0.5), stop=None, max_steps=4
        )
        np.testing.assert_allclose(population.value[0, i], alone.value, rtol=1e-5)


@pytest.mark.slow
def test_losers_go_on_as_winners(population):
    rates = population.learning_rate.values
    for number in range(3):
        value, parent = population.value[number].values, population.parent[number].values
        order = np.argsort(np.where(np.isnan(value), np.inf, value))
        assert set(np.flatnonzero(parent != np.arange(8))) <= set(order[-2:])
        assert set(parent[order[-2:]]) <= set(order[:2])
        np.testing.assert_array_equal(rates[number + 1], rates[number][parent])
    assert population.value[-1].max() < population.value[0].max()


@pytest.mark.slow
def test_states_are_exchanged_with_settings(population):
    """A member that took over a state comes to what its parent comes to."""
    parent = population.parent[0].values
    (child,) = [i for i in range(8) if parent[i] != i][:1]
    np.testing.assert_allclose(population.value[1, child], population.value[1, parent[child]], rtol=1e-6)


@pytest.mark.slow
def test_a_population_is_checked_at_the_door():
    with pytest.raises(ValueError, match="one length"):
        gdjax.search.population_based(trial, {"learning_rate": 0.1}, rounds=1, steps=1)
    with pytest.raises(ValueError, match="max_steps=40"):
        gdjax.search.population_based(trial, {"learning_rate": RATES}, rounds=9, steps=5)
    with pytest.raises(TypeError, match=r"gdjax\.Run"):
        gdjax.search.population_based(lambda a: a, {"a": RATES}, rounds=1, steps=1)
    with pytest.raises(ValueError, match="share"):
        gdjax.search.population_based(trial, {"learning_rate": RATES}, rounds=1, steps=1, share=0.9)


class Study:
    """Suggests at random and remembers what it was told."""

    def __init__(self):
        self.rng, self.told = np.random.default_rng(0), []

    def ask(self):
        return Study.Asked(self.rng)

    def tell(self, asked, score):
        self.told.append((asked.values, score))

    class Asked:
        def __init__(self, rng):
            self.rng, self.values = rng, {}

        def suggest_float(self, name, low, high, log):
            u = self.rng.uniform()
            self.values[name] = low * (high / low) ** u if log else low + u * (high - low)
            return self.values[name]

        def suggest_int(self, name, low, high):
            self.values[name] = int(self.rng.integers(low, high + 1))
            return self.values[name]


SPACE = {"learning_rate": gdjax.sweeps.log_uniform(1e-3, 2.0), "power": gdjax.sweeps.integers(1, 3)}


def seeded(learning_rate, power, seed):
    start = 0.5 + jax.random.uniform(jax.random.key(seed), (2,))
    rate = learning_rate / power
    return gdjax.Run(lambda x: jnp.sum(x**2), start, gdjax.gradient_descent(rate), stop=None, max_steps=20)


@pytest.mark.slow
def test_suggestions_are_told_the_median_over_seeds():
    study = Study()
    found = gdjax.search.ask_and_tell(study, seeded, SPACE, {"seed": jnp.arange(3)}, batch=4, rounds=3)
    assert dict(found.sizes) == {"sample": 12, "seed": 3}
    np.testing.assert_allclose([v["learning_rate"] for v, _ in study.told], found.learning_rate, rtol=1e-6)
    np.testing.assert_array_equal([v["power"] for v, _ in study.told], found.power)
    failed = found.status == gdjax.Status.NONFINITE
    expected = found.value.where(~failed, np.inf).median("seed")
    np.testing.assert_allclose([score for _, score in study.told], expected)
    np.testing.assert_array_equal(found["round"], np.repeat([1, 2, 3], 4))


@pytest.mark.slow
def test_a_maximizing_study_is_refused():
    class Up(Study):
        class direction:
            name = "MAXIMIZE"

    with pytest.raises(ValueError, match="maximizes"):
        gdjax.search.ask_and_tell(Up(), seeded, SPACE, {"seed": jnp.arange(1)})


@pytest.mark.slow
def test_optuna_beats_a_grid_at_equal_budget():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def valley(x, y):
        return gdjax.Run(
            lambda z: z + (jnp.log(x) - 1.7) ** 2 + (y - 0.31) ** 2, 0.0, gdjax.gradient_descent(0.0),
            stop=None, max_steps=0,
        )  # fmt: skip

    space = {"x": gdjax.sweeps.log_uniform(1e-2, 1e3), "y": gdjax.sweeps.uniform(-2.0, 2.0)}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True))
    found = gdjax.search.ask_and_tell(study, valley, space, batch=8, rounds=8)
    grid = gdjax.sweep(valley, {"x": np.geomspace(1e-2, 1e3, 8), "y": np.linspace(-2, 2, 8)}, progress=False)
    assert found.value.min() < grid.value.min()
    assert study.best_value == pytest.approx(float(found.value.min()))


@pytest.mark.smoke
def test_brackets_are_hyperbands():
    """The table of the paper: R = 81, eta = 3."""
    from gdjax.sweeps.search.hyperband import brackets

    assert brackets(81) == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    assert brackets(100, 10, 10) == [(10, 10), (2, 100)]
    with pytest.raises(ValueError, match="factor"):
        brackets(81, 1)


@pytest.mark.slow
def test_hyperband_finds_what_a_grid_finds_in_fewer_steps():
    def draw(count, key):
        return {"learning_rate": 10 ** jax.random.uniform(key, (count,), minval=-4.0, maxval=-1.1)}

    found = gdjax.search.hyperband(trial, draw, smallest=1, key=1)
    grid = gdjax.sweep(
        trial, {"learning_rate": np.geomspace(1e-4, 10**-1.1, found.sizes["sample"])}, progress=False
    )
    assert found.steps.sum() < 0.5 * grid.steps.sum()
    assert float(found.value.min()) < 100 * float(grid.value.min())
    best = found.isel(sample=int(found.value.values.argmin()))
    alone = gdjax.minimize(
        trial(0.1).objective,
        jnp.ones(2),
        gdjax.momentum(float(best.learning_rate), 0.5),
        stop=None,
        max_steps=40,
    )
    np.testing.assert_allclose(best.value, alone.value, rtol=1e-4)


def fast(rate, optimizer="sgd", n=1):
    """A run without steps, whose value names its settings; it records an accuracy."""
    scale = {"sgd": 1.0, "adam": 2.0, None: 3.0}[optimizer] if isinstance(optimizer, str | None) else 1.0
    return gdjax.Run(
        lambda z: z + scale * rate + 10.0 * n,
        0.0,
        gdjax.gradient_descent(0.0),
        stop=None,
        max_steps=0,
        record=lambda step: {"accuracy": -step.value},
    )


@pytest.fixture(scope="module")
def optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@pytest.mark.slow
def test_distributions_of_optuna_and_choices(optuna):
    made = optuna.distributions
    space = {
        "rate": made.FloatDistribution(1e-3, 1.0, log=True),
        "optimizer": made.CategoricalDistribution(("sgd", "adam", None)),
        "n": made.IntDistribution(1, 9, step=4),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = gdjax.search.ask_and_tell(study, fast, space, batch=6, rounds=2)
    assert found["sample"].values.tolist() == list(range(12))
    told = [(t.params["rate"], t.params["optimizer"], t.params["n"]) for t in study.trials]
    assert found.optimizer.values.tolist() == [str(optimizer) for _, optimizer, _ in told]
    assert set(found.n.values) <= {1, 5, 9}
    expected = [{"sgd": 1, "adam": 2, None: 3}[o] * rate + 10 * n for rate, o, n in told]
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    np.testing.assert_allclose([t.value for t in study.trials], expected, rtol=1e-6)
    assert [t.distributions["rate"] for t in study.trials] == [space["rate"]] * 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ([0.1, 0.2], {0.1, 0.2}),
        (np.array([1, 2, 5]), {1, 2, 5}),
        (range(1, 4), {1, 2, 3}),
        ([True, False], {True, False}),
    ],
)
def test_choices_of_numbers_go_through_one_program(place, allowed, optuna):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found = gdjax.search.ask_and_tell(study, fast, {"rate": place}, {"n": [1, 2]}, batch=8, rounds=1)
    assert {round(each, 6) for each in found.rate.values.tolist()} == allowed
    np.testing.assert_allclose(found.value.sel(n=2), 20 + found.rate, rtol=1e-6)


@pytest.mark.slow
def test_static_choices_are_suggested_by_their_labels(optuna):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    choices = gdjax.static([gdjax.gradient_descent, gdjax.adam])
    found = gdjax.search.ask_and_tell(study, fast, {"optimizer": choices, "rate": [0.5]}, batch=5, rounds=1)
    assert [t.params["optimizer"] for t in study.trials] == found.optimizer.values.tolist()
    alone = gdjax.search.ask_and_tell(
        optuna.create_study(),
        lambda optimizer: fast(0.5, optimizer),
        {"optimizer": ["sgd", "adam"]},
        batch=4,
        rounds=1,
    )
    np.testing.assert_allclose(alone.value, np.where(alone.optimizer == "sgd", 10.5, 11.0))


@pytest.mark.slow
def test_a_study_may_maximize_what_is_recorded(optuna):
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    space = {"value": [0.1, 0.2]}  # a name that is a result's
    found = gdjax.search.ask_and_tell(
        study, lambda value: fast(value), space, batch=4, rounds=1, by="accuracy"
    )
    assert study.best_params == {"value": 0.1}
    np.testing.assert_allclose(found["sample.value"] + 10, found.value, rtol=1e-6)
    several = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="several directions"):
        gdjax.search.ask_and_tell(several, fast, {"rate": [0.1]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"rate": (0.1, 0.2)}, TypeError, "of a pair it is not known whether it is a range or two choices"),
        ({"rate": 0.1}, TypeError, "'rate' must be a range, .* or a list of choices, got float"),
        ({"rate": [0.1, 0.1]}, ValueError, "several values are called '0.1'"),
        ({"rate": gdjax.sweeps.Range(1.0, np.inf)}, ValueError, "must be finite"),
        ({"rate": gdjax.sweeps.Range(0.0, 1.0, log=True)}, ValueError, "has no numbers"),
        ({"n": [1, 2]}, ValueError, "'n' is a setting and an axis"),
        ({}, ValueError, "must name a setting"),
    ],
)
def test_spaces_that_are_none(space, error, message):
    with pytest.raises(error, match=message):
        gdjax.search.ask_and_tell(Study(), fast, space, {"n": [1]})


def test_designs_of_steps_choices_and_integers_by_logarithm():
    space = {
        "step": gdjax.sweeps.Range(0.0, 0.3, step=0.1),
        "whole": gdjax.sweeps.Range(2, 10, whole=True, step=4),
        "log": gdjax.sweeps.Range(1, 100, log=True, whole=True),
        "choice": [8, 16, 32],
    }
    for design in (gdjax.sweeps.random(space, 512, 0), gdjax.sweeps.sobol(space, 512)):
        assert set(design["step"].round(6)) == {0.0, 0.1, 0.2, 0.3}
        assert set(design["whole"]) == {2, 6, 10}
        assert set(design["choice"]) == {8, 16, 32}
        assert (design["log"].min(), design["log"].max()) == (1, 100)
        assert np.median(design["log"]) < 15
    with pytest.raises(TypeError, match="let them be an axis of their own"):
        gdjax.sweeps.sobol({"optimizer": ["sgd", "adam"]}, 4)


@pytest.mark.slow
def test_hyperband_over_a_space_and_names_that_are_taken():
    space = {"learning_rate": gdjax.sweeps.log_uniform(1e-4, 0.07), "twice": [1, 2]}
    found = gdjax.search.hyperband(
        lambda learning_rate, twice: trial(learning_rate), space, smallest=14, lanes=4
    )
    assert set(found.twice.values) <= {1, 2}
    assert found.learning_rate.dtype == np.float32
    with pytest.raises(ValueError, match="'bracket' is the name"):
        gdjax.search.hyperband(lambda bracket: trial(bracket), {"bracket": [0.1, 0.2]}, smallest=14)
    with pytest.raises(ValueError, match="'parent' is the name of a result"):
        gdjax.search.population_based(trial, {"parent": RATES}, rounds=1, steps=1)
