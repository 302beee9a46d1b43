"""Four first-order methods race down Rosenbrock's valley, each checked against a NumPy loop of its own.

    python experiments/rosenbrock_race.py [folder]

From (-1, 1.5), 5000 steps in float64: gradient descent at 5e-4, momentum at 1e-4 (decay 0.9), RMSProp at 1e-3
(decay 0.999, epsilon outside the root), Adam at 5e-3 (0.9, 0.999). Writes rosenbrock_race.zarr and
rosenbrock_race.png, prints where each ends, and fails if an end point is more than 1e-9 from NumPy's.
"""

import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax

START = np.array([-1.0, 1.5])
STEPS = 5000
TOLERANCE = 1e-9


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def racers():
    """The methods as gdjax has them, by name."""
    return {
        "gradient descent": gdjax.gradient_descent(5e-4),
        "momentum": gdjax.momentum(1e-4, 0.9),
        "RMSProp": gdjax.rmsprop(1e-3, 0.999, 1e-8, root=gdjax.eps_outside),
        "Adam": gdjax.adam(5e-3, 0.9, 0.999, 1e-8),
    }


def slope(x):
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


def by_hand(name, steps):
    """The end point of the same method in plain NumPy, written from its equation."""
    x, first, second = START.copy(), np.zeros(2), np.zeros(2)
    for t in range(1, steps + 1):
        g = slope(x)
        if name == "gradient descent":
            x = x - 5e-4 * g
        elif name == "momentum":
            first = 0.9 * first + g
            x = x - 1e-4 * first
        elif name == "RMSProp":
            second = 0.999 * second + 0.001 * g**2
            x = x - 1e-3 * g / (np.sqrt(second) + 1e-8)
        else:
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            mean, square = first / (1 - 0.9**t), second / (1 - 0.999**t)
            x = x - 5e-3 * mean / (np.sqrt(square) + 1e-8)
    return x


def race(steps=STEPS):
    """A dataset of the four runs: x and value along ``step``, end points, their distance from NumPy's."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        runs = {
            name: gdjax.minimize(
                rosenbrock, START, optimizer, stop=None, max_steps=steps, record=lambda s: (s.params, s.value)
            )
            for name, optimizer in racers().items()
        }
        paths = np.stack([np.asarray(run.trace[0]) for run in runs.values()])
        values = np.stack([np.asarray(run.trace[1]) for run in runs.values()])
        ends = np.stack([np.asarray(run.params) for run in runs.values()])
    finally:
        jax.config.update("jax_enable_x64", before)
    expected = np.stack([by_hand(name, steps) for name in runs])
    return xr.Dataset(
        {
            "x": (("optimizer", "step", "coordinate"), paths),
            "value": (("optimizer", "step"), values),
            "end": (("optimizer", "coordinate"), ends),
            "error": ("optimizer", np.abs(ends - expected).max(axis=1)),
        },
        {"optimizer": list(runs), "step": np.arange(steps + 1), "coordinate": ["x1", "x2"]},
        {"start": START.tolist(), "optimum": [1.0, 1.0]},
    )


def draw(data, file):
    """Paths over the contours on the left, values by step on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    horizontal, vertical = np.meshgrid(np.linspace(-1.6, 1.4, 300), np.linspace(-0.4, 2.0, 300))
    heights = rosenbrock(np.stack([horizontal, vertical]))
    left.contour(horizontal, vertical, heights, np.logspace(-2, 3, 16), colors="0.8", linewidths=0.7)
    colors = plt.get_cmap("viridis")([0.0, 0.35, 0.6, 0.85])
    for name, dash, color in zip(data.optimizer.values, ["-", "--", "-.", ":"], colors, strict=True):
        path = data.x.sel(optimizer=name)
        left.plot(*path.values.T, dash, color=color, lw=1.8, label=name)
        right.semilogy(data.step, data.value.sel(optimizer=name), dash, color=color, lw=1.8, label=name)
        left.plot(*path.values[-1], "o", color=color, ms=6, mec="white", zorder=3)
    left.plot(*START, "ks", ms=6, label="start")
    left.plot(1, 1, "k*", ms=12, label="minimum")
    left.set(xlabel="$x_1$", ylabel="$x_2$", title="Paths")
    right.set(xlabel="step", ylabel="$f(x)$", title="Value")
    right.grid(alpha=0.3)
    left.legend(loc="lower left", fontsize=8, framealpha=0.9)
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main(folder, steps=STEPS):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = race(steps)
    data.to_zarr(folder / "rosenbrock_race.zarr", mode="w", zarr_format=2)
    draw(data, folder / "rosenbrock_race.png")
    for name in data.optimizer.values:
        one = data.sel(optimizer=name)
        print(f"{name:17s} ends at ({one.end[0]:.9f}, {one.end[1]:.9f})", end="  ")
        print(f"f = {one.value[-1]:.3e}  error {one.error:.1e}")
    assert (data.error <= TOLERANCE).all(), f"end points differ from NumPy's: {data.error.values}"
    print(f"all within {TOLERANCE:g} of NumPy; written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
