"""Curvature in two pictures: the race down Rosenbrock's valley, and two ways past a saddle.

    python experiments/second_order_race.py [folder]

From (-1.2, 1) in float64: gradient descent and Adam beside conjugate gradients, BFGS, natural gradient (of the
residuals' Gaussian), Newton and a trust region, whose circles are drawn. Then Newton's method, which is drawn to
a saddle as to a minimum, beside saddle-free Newton, which takes the eigenvalues' absolute values. Writes
second_order_race.zarr and second_order_race.png, prints the evaluations that each method takes to f < 1e-8.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax
from gdjax.optimizers.second_order.newton import absolute, damped

START = np.array([-1.2, 1.0])
STEPS = 400
SOLVED = 1e-8


def residuals(x):
    return jnp.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


rosenbrock = gdjax.Composite(residuals, lambda r: jnp.vdot(r, r))


def racers():
    """The methods by name, first-order ones first."""
    return {
        "gradient descent": gdjax.gradient_descent(1e-3),
        "Adam": gdjax.adam(0.05),
        "conjugate gradients": gdjax.nonlinear_cg(),
        "BFGS": gdjax.bfgs(),
        "natural gradient": gdjax.natural_gradient(0.5, damping=1e-8),
        "Newton": gdjax.newton(),
        "trust region": gdjax.trust_region(),
    }


def saddle(x):
    """Minima at (0, 1) and (0, -1), a saddle at the origin."""
    return 0.5 * x[0] ** 2 + 0.25 * x[1] ** 4 - 0.5 * x[1] ** 2


def walk(objective, optimizer, start, steps):
    """The accepted points of a run, their values, and the radii of a trust region: a run stepped by hand."""
    run = gdjax.Run(objective, jnp.asarray(start), optimizer, max_steps=steps)
    step, state = jax.jit(run.step), run.init()
    points, values, radii = [], [], []
    for _ in range(steps + 1):
        state = step(state)
        points.append(np.asarray(state.answer.params))
        values.append(float(state.answer.value))
        radii.append(float(getattr(state.optimizer, "radius", np.nan)))
        if run.done(state):
            break
    return points, values, radii


def stack(walks, rows):
    """Walks of unequal lengths as arrays that end in NaN."""

    def pad(values):
        values = np.asarray(values, float)
        missing = np.full((rows - len(values), *values.shape[1:]), np.nan)
        return np.concatenate([values, missing])

    return [np.stack([pad(one[part]) for one in walks]) for part in range(3)]


def study(steps=STEPS):
    """A dataset of both races: points, values and radii by evaluation."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        race = [walk(rosenbrock, method, START, steps) for method in racers().values()]
        escapes = {"Newton": damped(), "saddle-free Newton": absolute()}
        past = [
            walk(saddle, gdjax.newton(0.5, solve=solve), np.array([1.0, 0.3]), 40)
            for solve in escapes.values()
        ]
    finally:
        jax.config.update("jax_enable_x64", before)
    points, values, radii = stack(race, steps + 1)
    return xr.Dataset(
        {
            "x": (("optimizer", "evaluation", "coordinate"), points),
            "value": (("optimizer", "evaluation"), values),
            "radius": (("optimizer", "evaluation"), radii),
            "past_saddle": (("escape", "step", "coordinate"), stack(past, 41)[0]),
        },
        {"optimizer": list(racers()), "evaluation": np.arange(1, steps + 2), "escape": list(escapes)},
        {"start": START.tolist(), "solved": SOLVED},
    )


def evaluations_to_solve(data):
    """By method, the evaluations after which f < 1e-8; infinite where that was not reached."""
    solved = (data.value < SOLVED).values
    return {
        name: float(np.argmax(row) + 1) if row.any() else np.inf
        for name, row in zip(data.optimizer.values, solved, strict=True)
    }


def contours(ax, function, window, levels):
    horizontal, vertical = np.meshgrid(*(np.linspace(*side, 300) for side in window))
    ax.contour(horizontal, vertical, function(horizontal, vertical), levels, colors="0.8", linewidths=0.7)
    ax.set(xlim=window[0], ylim=window[1], xlabel="$x_1$", ylabel="$x_2$")


def accepted(path):
    """The path without its NaN end and without the trials that were rejected."""
    path = path[np.isfinite(path).all(axis=1)]
    moved = np.r_[True, np.any(np.diff(path, axis=0) != 0, axis=1)]
    return path[moved]


def draw_paths(ax, data, looks):
    contours(
        ax,
        lambda a, b: 100 * (b - a**2) ** 2 + (1 - a) ** 2,
        ((-1.7, 1.4), (-0.5, 1.9)),
        np.logspace(-2, 3, 16),
    )
    region = data.sel(optimizer="trust region")
    for center, radius in zip(region.x.values, region.radius.values, strict=True):
        if np.isfinite(radius):
            ax.add_patch(plt.Circle(center, radius, fill=False, color="#1b4f8a", alpha=0.25, lw=0.8))
    for name, (color, dash) in looks.items():
        path = accepted(data.x.sel(optimizer=name).values)
        dots = {"marker": ".", "ms": 5} if len(path) < 60 else {}
        ax.plot(*path.T, dash, color=color, lw=1.4, label=name, **dots)
    ax.plot(*START, "ks", ms=6)
    ax.plot(1, 1, "k*", ms=12)
    ax.set_title("Paths; circles are the trust region's")
    ax.set_aspect("equal")


def draw_values(ax, data, looks):
    for name, (color, dash) in looks.items():
        values = np.maximum(data.value.sel(optimizer=name), 1e-20)
        ax.loglog(data.evaluation, values, dash, color=color, lw=1.6, label=name)
    ax.set(xlabel="evaluations", ylabel="$f(x)$", title="Value")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower left")


def draw_saddle(ax, data):
    contours(
        ax,
        lambda a, b: 0.5 * a**2 + 0.25 * b**4 - 0.5 * b**2,
        ((-0.6, 1.2), (-0.5, 1.4)),
        np.linspace(-0.25, 1, 26),
    )
    for name, color, dash in zip(data.escape.values, ["#d1701b", "#1b4f8a"], ["--", "-"], strict=True):
        ax.plot(
            *accepted(data.past_saddle.sel(escape=name).values).T, dash, marker=".", color=color, label=name
        )
    ax.plot(0, 0, "kX", ms=8, label="saddle")
    ax.plot(0, 1, "k*", ms=12, label="minimum")
    ax.set_title("At a saddle")
    ax.set_aspect("equal")
    ax.legend(fontsize=8, loc="upper right")


def draw(data, file):
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    colors = ["0.6", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#0B3C6F"]
    dashes = [":", ":", "-.", "-.", "--", "--", "-"]
    looks = dict(zip(data.optimizer.values, zip(colors, dashes, strict=True), strict=True))
    draw_paths(left, data, looks)
    draw_values(middle, data, looks)
    draw_saddle(right, data)
    figure.savefig(file, dpi=80)
    plt.close(figure)


def main(folder, steps=STEPS):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = study(steps)
    data.to_zarr(folder / "second_order_race.zarr", mode="w", zarr_format=2)
    draw(data, folder / "second_order_race.png")
    for name, count in evaluations_to_solve(data).items():
        print(f"{name:20s} {count:6.0f} evaluations to f < {SOLVED:g}")
    print(f"written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
