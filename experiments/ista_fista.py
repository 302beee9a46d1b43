"""ISTA, FISTA and two restarts on the lasso: how far the value is above the lowest, step by step.

    python experiments/ista_fista.py [folder]

100 drawn equations with 300 unknowns, 15 of them not zero, in float64, all at the rate 1 / L. Writes ista_fista.zarr
and ista_fista.png, prints the steps to a gap of 1e-10, and fails if FISTA leaves its bound 2 L |x0 - x*|^2 / (k + 1)^2.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax
from gdjax.optimizers.nonsmooth import proximal_gradient

STEPS = 600
WEIGHT = 4.0
METHODS = {
    "ISTA": (proximal_gradient.plain, proximal_gradient.never),
    "FISTA": (proximal_gradient.fista, proximal_gradient.never),
    "FISTA, restart by value": (proximal_gradient.fista, proximal_gradient.by_value),
    "FISTA, restart by gradient": (proximal_gradient.fista, proximal_gradient.by_gradient),
}


def data():
    """The matrix and the right-hand side."""
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(100, 300))
    truth = np.where(np.arange(300) < 15, draw.normal(size=300), 0)
    return matrix, matrix @ truth + 0.1 * draw.normal(size=100)


def race(steps=STEPS):
    """Gaps of the four methods along ``step``, and FISTA's bound."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        matrix, target = (jnp.asarray(a) for a in data())
        curvature = float(np.linalg.norm(data()[0], 2) ** 2)

        def f(x):
            return 0.5 * jnp.sum((matrix @ x - target) ** 2)

        l1, start = gdjax.regularizers.l1(WEIGHT), jnp.zeros(300)
        values = []
        for momentum, restart in METHODS.values():
            method = gdjax.proximal_gradient(1 / curvature, l1, momentum=momentum, restart=restart)
            run = gdjax.minimize(f, start, method, stop=None, max_steps=steps, record=lambda s: s.value)
            values.append(np.asarray(run.trace))
        best = gdjax.proximal_gradient(None, l1, momentum=proximal_gradient.fista)
        stop = gdjax.stopping.residual_below(1e-12, scale=1.0)
        solution = gdjax.minimize(f, start, best, stop=stop, max_steps=5000)
        lowest, distance = float(solution.value), float(jnp.sum(solution.params**2))
    finally:
        jax.config.update("jax_enable_x64", before)
    count = np.arange(steps + 1)
    return xr.Dataset(
        {
            "gap": (("optimizer", "step"), np.stack(values) - min(lowest, np.min(values))),
            "bound": ("step", 2 * curvature * distance / (count + 1) ** 2),
        },
        {"optimizer": list(METHODS), "step": count},
        {"lowest": lowest, "weight": WEIGHT},
    )


def draw(found, file):
    """Gaps on a logarithmic scale, the bound dotted."""
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    colors = plt.get_cmap("viridis")([0.0, 0.35, 0.65, 0.9])
    for name, dash, color in zip(found.optimizer.values, ["-", "--", "-.", "-"], colors, strict=True):
        gap = found.gap.sel(optimizer=name)
        axes.semilogy(found.step, gap.where(gap > 1e-12), dash, color=color, lw=1.8, label=name)
    axes.semilogy(
        found.step[1:], found.bound[1:], ":", color="0.5", lw=1.2, label=r"$2 L |x_0 - x^*|^2 / (k + 1)^2$"
    )
    axes.set(xlabel="step", ylabel=r"$F(x_k) - F^*$", ylim=(1e-11, None), title="Lasso, 100 x 300")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main(folder, steps=STEPS):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = race(steps)
    found.to_zarr(folder / "ista_fista.zarr", mode="w", zarr_format=2)
    draw(found, folder / "ista_fista.png")
    for name in found.optimizer.values:
        gap = found.gap.sel(optimizer=name).values
        reached = np.nonzero(gap < 1e-10)[0]
        print(f"{name:27s} {int(reached[0]) if reached.size else f'over {steps}'} steps to 1e-10")
    assert (found.gap.sel(optimizer="FISTA")[1:] <= found.bound[1:]).all(), "FISTA left its bound"
    print(f"FISTA stays below its bound; written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
