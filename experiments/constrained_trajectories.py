"""The ways of constrained methods: in a disc, in a simplex seen in barycentric coordinates, in a box.

    python experiments/constrained_trajectories.py [folder]

The same tilted bowl with its lowest point outside each set, 60 steps in float64. Writes
constrained_trajectories.zarr and .png, prints how far each end is from the constrained minimum, and fails if a point
lies outside its set or the spectral gradient ends more than 1e-8 from the minimum.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax
from gdjax.optimizers.nonsmooth.frank_wolfe import box_vertex, open_loop, simplex_vertex
from gdjax.optimizers.nonsmooth.mirror import simplex_entropy

STEPS = 60
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
"""The triangle that shows the simplex: weights times corners."""
BOWL = np.array([[3.0, 1.0], [1.0, 1.0]])
CENTER = {"disc": [1.3, 0.9], "simplex": [0.95, 0.75], "box": [1.5, 0.2]}
START = {"disc": [-0.7, -0.5], "simplex": [0.1, 0.2, 0.7], "box": [-0.8, -0.6]}


def in_plane(x):
    """A point as it is drawn: weights of three corners become a point of the triangle."""
    return x @ jnp.asarray(CORNERS, x.dtype) if x.shape[-1] == 3 else x


def value(name, x):
    off = in_plane(x) - jnp.asarray(CENTER[name], x.dtype)
    return 0.5 * jnp.sum(off * (jnp.asarray(BOWL, x.dtype) @ off))


def projection(name, x):
    if name == "disc":
        return gdjax.projections.l2_ball(x)
    return gdjax.projections.simplex(x) if name == "simplex" else gdjax.projections.box(x, -1.0, 1.0)


def disc_vertex(grad):
    return -grad / jnp.linalg.norm(grad)


def methods(name):
    """What runs in a set, by name."""
    onto = partial(projection, name)
    oracle = {
        "disc": disc_vertex,
        "simplex": simplex_vertex,
        "box": partial(box_vertex, lower=-1.0, upper=1.0),
    }[name]
    fourth = {"projected Adam": gdjax.projected(gdjax.adam(0.1), onto)}
    if name == "simplex":
        fourth = {"mirror descent": gdjax.mirror_descent(0.5, simplex_entropy())}
    return {
        "projected gradient": gdjax.projected(gdjax.gradient_descent(0.1), onto),
        "spectral gradient": gdjax.spectral_projected_gradient(onto),
        "Frank-Wolfe": gdjax.frank_wolfe(oracle, step=open_loop),
        **fourth,
    }


def outside(name, x):
    """How far points are from their set."""
    if name == "disc":
        return np.maximum(np.linalg.norm(x, axis=-1) - 1, 0)
    if name == "box":
        return np.maximum(np.abs(x) - 1, 0).max(axis=-1)
    return np.maximum(-x, 0).max(axis=-1) + np.abs(x.sum(axis=-1) - 1)


def trace(steps=STEPS):
    """A dataset of drawn points along ``step``, of distances from the sets, and the minima."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        paths, apart, labels, lowest = [], [], [], []
        for name in CENTER:
            f, start = partial(value, name), jnp.asarray(START[name])
            stop = gdjax.stopping.residual_below(1e-12, scale=1.0)
            best = gdjax.minimize(
                f, start, gdjax.spectral_projected_gradient(partial(projection, name)), stop=stop
            )
            lowest.append(np.asarray(in_plane(best.params)))
            for label, method in methods(name).items():
                run = gdjax.minimize(f, start, method, stop=None, max_steps=steps, record=lambda s: s.params)
                paths.append(np.asarray(in_plane(run.trace)))
                apart.append(outside(name, np.asarray(run.trace)))
                labels.append((name, label))
    finally:
        jax.config.update("jax_enable_x64", before)
    names, kinds = zip(*labels, strict=True)
    return xr.Dataset(
        {
            "x": (("run", "step", "coordinate"), np.stack(paths)),
            "outside": (("run", "step"), np.stack(apart)),
            "minimum": (("set", "coordinate"), np.stack(lowest)),
        },
        {
            "region": ("run", list(names)),
            "method": ("run", list(kinds)),
            "set": list(CENTER),
            "step": np.arange(steps + 1),
            "coordinate": ["horizontal", "vertical"],
        },
    )


def outline(name):
    """The border of a set, closed."""
    if name == "disc":
        angle = np.linspace(0, 2 * np.pi, 200)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if name == "simplex":
        return CORNERS[[0, 1, 2, 0]]
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], float)


def draw(data, file):
    """One panel a set: contours, border, paths."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    for axes, name in zip(panels, CENTER, strict=True):
        border = outline(name)
        low, high = border.min(axis=0) - 0.25, border.max(axis=0) + 0.45
        horizontal, vertical = np.meshgrid(
            np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200)
        )
        off = np.stack([horizontal, vertical], axis=-1) - CENTER[name]
        axes.contour(
            horizontal, vertical, 0.5 * np.sum(off * (off @ BOWL), axis=-1), 18, colors="0.85", linewidths=0.7
        )
        axes.plot(*border.T, color="0.3", lw=1.2)
        runs = np.nonzero(data.region.values == name)[0]
        colors = plt.get_cmap("viridis")([0.0, 0.35, 0.65, 0.9])
        for run, dash, color in zip(runs, ["-", "--", ":", "-."], colors, strict=True):
            path = data.x.values[run]
            axes.plot(
                *path.T, dash, color=color, lw=1.6, marker=".", ms=4, label=str(data.method.values[run])
            )
        axes.plot(*data.x.values[runs[0], 0], "ks", ms=5)
        axes.plot(*data.minimum.sel(set=name).values, "k*", ms=11)
        axes.set(title={"simplex": "simplex, barycentric"}.get(name, name), aspect="equal")
        axes.legend(fontsize=7, loc="upper left")
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main(folder, steps=STEPS):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = trace(steps)
    data.to_zarr(folder / "constrained_trajectories.zarr", mode="w", zarr_format=2)
    draw(data, folder / "constrained_trajectories.png")
    for run in range(data.sizes["run"]):
        name, method = str(data.region.values[run]), str(data.method.values[run])
        distance = np.linalg.norm(data.x.values[run, -1] - data.minimum.sel(set=name).values)
        print(f"{name:8s} {method:19s} ends {distance:.1e} from the minimum")
        assert method != "spectral gradient" or distance < 1e-8, f"{method} missed the minimum of the {name}"
    assert float(data.outside.max()) < 1e-12, "a point lies outside its set"
    print(f"no point outside its set; written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
