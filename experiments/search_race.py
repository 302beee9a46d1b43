"""Five ways to spend a budget of steps on settings: grid, random, Hyperband, a population, Optuna.

    python experiments/search_race.py [folder]

A network 64-32-10 on digits with momentum: its learning rate, decay and how fast the rate falls. A run is 243 steps
of mini-batches; every way may spend the steps of 64 whole runs. Optuna's part is left out where it is not
installed. Writes search_race.zarr and search_race.png, prints the lowest loss that each finds, the median of
three repetitions.
"""

import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax

STEPS = 243
RUNS = 64
LOW = {"learning_rate": 1e-3, "decay": 0.0, "fall": 1.0}
HIGH = {"learning_rate": 3.0, "decay": 0.98, "fall": 300.0}
LOG = {"learning_rate", "fall"}


def make_trial(steps):
    problem = gdjax.problems.mlp(batch_size=64)

    def trial(learning_rate, decay, fall):
        rate = gdjax.schedules.exponential(learning_rate, 1.0 / fall, steps)
        return gdjax.Run(
            problem.objective, problem.start(), gdjax.momentum(rate, decay), stop=None, max_steps=steps, key=0
        )

    return trial


def scaled(name, unit):
    """A number in [0, 1] as a setting."""
    if name in LOG:
        return LOW[name] * (HIGH[name] / LOW[name]) ** unit
    return LOW[name] + (HIGH[name] - LOW[name]) * unit


def draw(count, key):
    units = jax.random.uniform(key, (len(LOW), count))
    return {name: scaled(name, unit) for name, unit in zip(LOW, units, strict=True)}


def curve(values, steps):
    """The lowest value after each run, against the steps spent."""
    values = np.where(np.isfinite(values), values, np.inf)
    return np.cumsum(steps), np.minimum.accumulate(values)


def by_design(trial, settings):
    runs = gdjax.sweep(lambda sample: trial(**sample), {"sample": settings}, progress=False)
    return curve(runs.value.values, runs.steps.values)


def grid(trial, repetition, runs):
    del repetition
    count = round(runs ** (1 / 3))
    units = np.stack(np.meshgrid(*[(np.arange(count) + 0.5) / count] * 3, indexing="ij")).reshape(3, -1)
    return by_design(trial, {n: scaled(n, u).astype(np.float32) for n, u in zip(LOW, units, strict=True)})


def random(trial, repetition, runs):
    return by_design(trial, draw(runs, jax.random.key(repetition)))


def hyperband(trial, repetition, runs):
    budget, spent, best = runs * trial.steps, [0], [np.inf]
    turn = 0
    while spent[-1] < budget:
        key = jax.random.fold_in(jax.random.key(repetition), turn)
        found = gdjax.search.hyperband(trial, draw, smallest=max(1, trial.steps // 27), key=key)
        steps, values = curve(found.value.values, found.steps.values)
        spent += list(spent[-1] + steps)
        best += list(np.minimum(best[-1], values))
        turn += 1
    keep = np.array(spent) <= budget
    return np.array(spent)[keep][1:], np.array(best)[keep][1:]


def population(trial, repetition, runs):
    rounds = 9
    found = gdjax.search.population_based(
        trial,
        draw(runs, jax.random.key(repetition)),
        rounds=rounds,
        steps=trial.steps // rounds,
        key=repetition,
    )
    spent = np.arange(1, rounds + 1) * (trial.steps // rounds) * runs
    return spent, np.fmin.accumulate(np.nanmin(found.value.values, axis=1))


def bayesian(trial, repetition, runs):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=repetition, constant_liar=True, multivariate=True)
    space = {
        name: (gdjax.sweeps.log_uniform if name in LOG else gdjax.sweeps.uniform)(LOW[name], HIGH[name])
        for name in LOW
    }
    study = optuna.create_study(sampler=sampler)
    found = gdjax.search.ask_and_tell(study, trial, space, batch=8, rounds=runs // 8)
    return curve(found.value.values, found.steps.values)


class Trial:
    """A trial that knows its steps."""

    def __init__(self, steps):
        self.run, self.steps = make_trial(steps), steps

    def __call__(self, learning_rate, decay, fall):
        return self.run(learning_rate, decay, fall)


def ways():
    found = {"grid": grid, "random": random, "Hyperband": hyperband, "population": population}
    try:
        import optuna  # noqa: F401
    except ImportError:
        return found
    return found | {"Optuna": bayesian}


def race(steps=STEPS, runs=RUNS, repetitions=3):
    """A dataset of the lowest loss by steps spent, way and repetition."""
    trial, spent = Trial(steps), np.linspace(0, runs * steps, 200)
    curves = []
    for way in ways().values():
        for repetition in range(repetitions):
            at, best = way(trial, repetition, runs)
            reached = np.searchsorted(at, spent, side="right") - 1
            curves.append(np.where(reached >= 0, best[np.maximum(reached, 0)], np.nan))
    loss = np.reshape(curves, (len(ways()), repetitions, -1))
    return xr.Dataset(
        {"loss": (("way", "repetition", "spent"), loss)},
        {"way": list(ways()), "repetition": np.arange(repetitions), "spent": spent / steps},
        {"steps": steps, "runs": runs},
    )


def draw_race(data, file):
    figure, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
    colors = ["0.45", "#E69F00", "#0072B2", "#009E73", "#D55E00"]
    for way, dash, color in zip(data.way.values, ["--", ":", "-", "-.", "-"], colors, strict=False):
        loss = data.loss.sel(way=way)
        ax.semilogy(data.spent, loss.median("repetition"), dash, color=color, lw=2, label=way)
        ax.fill_between(
            data.spent, loss.min("repetition"), loss.max("repetition"), color=color, alpha=0.12, lw=0
        )
    ax.set(xlabel="budget spent, in whole runs", ylabel="lowest training loss so far")
    ax.set_title("Searching three settings of a network on digits")
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(folder, steps=STEPS, runs=RUNS, repetitions=3):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = race(steps, runs, repetitions)
    data.to_zarr(folder / "search_race.zarr", mode="w", zarr_format=2)
    draw_race(data, folder / "search_race.png")
    for way in data.way.values:
        print(f"{way:12s} {float(data.loss.sel(way=way)[:, -1].median()):.6f}")
    print(f"written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
