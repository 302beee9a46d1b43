"""Logistic regression by stochastic gradient descent, with a decaying rate and without.

    python experiments/logistic_sgd.py [folder]

Synthetic data (n = 2000, d = 20) and breast_cancer; the mean logistic loss plus 0.5e-3 |w|^2, batches of 64,
500 steps, rate 0.2 / sqrt(t + 1) or 0.2. Writes logistic_sgd.zarr and logistic_sgd.png, prints the
losses over all data against the minimum, which Newton's iteration in NumPy finds.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax

WEIGHT = 1e-3
BATCH = 64
STEPS = 500
RATES = {"0.2 / sqrt(t + 1)": gdjax.schedules.inverse_sqrt(0.2), "0.2": 0.2}


def synthetic(n=2000, d=20):
    """Features and labels in {0, 1} drawn from a logistic model."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(n, d)), rng.normal(size=d)
    return x, (rng.uniform(size=n) < 1 / (1 + np.exp(-x @ w))).astype(float)


def breast_cancer():
    """Real features, standardized, with a column of ones; benign is 1."""
    data = gdjax.problems.datasets.breast_cancer()
    x = np.asarray(data.features, float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return np.column_stack([x, np.ones(len(x))]), np.asarray(data.targets, float)


def loss(w, batch):
    x, y = batch
    scores = x @ w
    return jnp.mean(jnp.logaddexp(0.0, scores) - y * scores) + 0.5 * WEIGHT * jnp.vdot(w, w)


def minimum(x, y, iterations=30):
    """The least loss, by Newton's iteration in NumPy."""
    w = np.zeros(x.shape[1])
    for _ in range(iterations):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - y) / len(y) + WEIGHT * w
        hessian = (x.T * (p * (1 - p))) @ x / len(y) + WEIGHT * np.eye(len(w))
        w = w - np.linalg.solve(hessian, gradient)
    assert np.abs(gradient).max() < 1e-8
    scores = x @ w
    return np.mean(np.logaddexp(0, scores) - y * scores) + 0.5 * WEIGHT * w @ w


def train(x, y, rate, steps=STEPS):
    """The loss over all data at every step of one run, and the result."""
    data = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    objective = gdjax.finite_sum(loss, data, BATCH)
    start = jnp.zeros(x.shape[1], jnp.float32)
    sgd = gdjax.gradient_descent(rate)
    run = gdjax.minimize(
        objective, start, sgd, stop=None, max_steps=steps, record=lambda s: s.params, key=jax.random.key(0)
    )
    return jax.jit(lambda path, data: jax.lax.map(lambda w: loss(w, data), path))(run.trace, data), run


def study(steps=STEPS):
    """A dataset of the loss over all data by step, data set and rate, with the minima."""
    sources = {"synthetic": synthetic(), "breast_cancer": breast_cancer()}
    curves = [
        [np.asarray(train(*data, rate, steps)[0]) for rate in RATES.values()] for data in sources.values()
    ]
    return xr.Dataset(
        {
            "loss": (("data", "rate", "step"), np.array(curves)),
            "minimum": ("data", [minimum(*data) for data in sources.values()]),
        },
        {"data": list(sources), "rate": list(RATES), "step": np.arange(steps + 1)},
        {"batch": BATCH, "weight": WEIGHT, "seed": 0},
    )


def draw(data, file):
    """Loss above its minimum, one panel a data set."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for ax, name in zip(panels, data.data.values, strict=True):
        one = data.sel(data=name)
        for rate, dash, color in zip(data.rate.values, ["-", "--"], ["#1b4f8a", "#d1701b"], strict=True):
            ax.semilogy(
                one.step, one.loss.sel(rate=rate) - one.minimum, dash, color=color, label=f"rate {rate}"
            )
        ax.set(xlabel="step", ylabel="loss above its minimum", title=name.replace("_", " "))
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main(folder, steps=STEPS):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = study(steps)
    data.to_zarr(folder / "logistic_sgd.zarr", mode="w", zarr_format=2)
    draw(data, folder / "logistic_sgd.png")
    for name in data.data.values:
        one = data.sel(data=name)
        for rate in data.rate.values:
            print(f"{name:14s} rate {rate:18s} loss {one.loss.sel(rate=rate)[-1]:.4f}", end="  ")
            print(f"minimum {one.minimum:.4f}")
    print(f"written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
