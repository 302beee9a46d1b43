"""The lasso's path on the diabetes data: coefficients over 100 lambdas, solved at once under one vmap.

    python experiments/lasso_path.py [folder]

442 patients, 10 standardized measurements, lambdas from the least that leaves nothing to a thousandth of it. Writes
lasso_path.zarr and lasso_path.png, and fails if a coefficient is more than 1e-6 of the largest from scikit-learn's.
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
from gdjax.problems import datasets

NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
TOLERANCE = 1e-6


def solve(count=100):
    """A dataset of coefficients and steps along ``weight``."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        raw = datasets.diabetes()
        matrix = datasets.standardized(datasets.Split(raw, raw)).train.features
        target = raw.targets - raw.targets.mean()
        largest = np.abs(matrix.T @ target).max() / len(target)
        weights = largest * np.logspace(0, -3, count)
        a, b = jnp.asarray(matrix), jnp.asarray(target)

        def one(weight):
            method = gdjax.proximal_gradient(
                None, gdjax.regularizers.l1(weight), momentum=proximal_gradient.fista
            )
            stop = gdjax.stopping.residual_below(1e-9, scale=1.0)
            return gdjax.minimize(
                lambda w: 0.5 * jnp.mean((a @ w - b) ** 2), jnp.zeros(10), method, stop=stop, max_steps=3000
            )

        runs = jax.jit(jax.vmap(one))(jnp.asarray(weights))
        found = np.asarray(runs.params), np.asarray(runs.steps), np.asarray(runs.status)
    finally:
        jax.config.update("jax_enable_x64", before)
    return xr.Dataset(
        {
            "coefficient": (("weight", "feature"), found[0]),
            "expected": (("weight", "feature"), peer(matrix, target, weights)),
            "steps": ("weight", found[1]),
            "status": ("weight", found[2]),
        },
        {"weight": weights, "feature": NAMES},
    )


def peer(matrix, target, weights):
    """The same path by scikit-learn's coordinate descent."""
    from sklearn.linear_model import lasso_path

    return lasso_path(matrix, target, alphas=weights, tol=1e-14, max_iter=100_000)[1].T


def draw(data, file):
    """Coefficients over lambda, the largest on the left."""
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(NAMES)))
    for i, (name, color) in enumerate(zip(NAMES, colors, strict=True)):
        line = data.coefficient.sel(feature=name)
        axes.semilogx(data.weight, line, color=color, ls=["-", "--", "-.", ":"][i % 4], lw=1.8, label=name)
    axes.invert_xaxis()
    axes.axhline(0, color="0.6", lw=0.6)
    axes.set(xlabel=r"$\lambda$", ylabel="coefficient", title="Lasso path, diabetes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main(folder, count=100):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = solve(count)
    data.to_zarr(folder / "lasso_path.zarr", mode="w", zarr_format=2)
    draw(data, folder / "lasso_path.png")
    error = float(np.abs(data.coefficient - data.expected).max() / np.abs(data.expected).max())
    print(
        f"{count} lambdas, at most {int(data.steps.max())} steps; largest difference from scikit-learn {error:.1e}"
    )
    assert (data.status == gdjax.Status.CONVERGED).all(), "some lambdas did not converge"
    assert error <= TOLERANCE, f"coefficients differ from scikit-learn's by {error:.1e} of the largest"
    print(f"all within {TOLERANCE:g}; written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
