"""Natural gradient, K-FAC, Gauss-Newton and BFGS against Adam at its best learning rate, on real data.

    python experiments/curvature_on_data.py [folder]

Logistic regression on breast_cancer over all data (weight decay 1e-3): to 1e-6 above the minimum. The digits MLP
64-32-10 on mini-batches of 256: to a training loss of 0.01. Adam's learning rate is the best of a sweep of 24 in
each case. Prints steps and seconds to the target, without compilation; writes curvature_on_data.zarr and .png.
"""

import sys
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gdjax
from gdjax.optimizers.second_order.natural_gradient import conjugate_gradients

RATES = np.geomspace(1e-4, 1.0, 24).astype(np.float32)
REPEATS = 5


def curves(problem, optimizer, steps, stride):
    """A function of nothing that runs the optimizer: the loss over all data at every ``stride`` steps."""
    full = problem.value_fn

    def run(key):
        record = gdjax.every(stride, lambda step: step.params)
        found = gdjax.minimize(
            problem.objective,
            problem.start(jax.random.key(1)),
            optimizer,
            stop=None,
            max_steps=steps,
            record=record,
            key=key,
        )
        return found.trace

    run, losses = jax.jit(run), jax.jit(lambda path: jax.lax.map(full, path))

    def timed():
        seconds = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            path = jax.block_until_ready(run(jax.random.key(0)))
            seconds.append(time.perf_counter() - start)
        return np.asarray(losses(path)), float(np.median(seconds[1:]))

    return timed


def best_rate(problem, steps, target):
    """The learning rate with which Adam reaches the target first, out of a sweep."""
    full = problem.value_fn

    def trial(learning_rate):
        return gdjax.Run(
            problem.objective,
            problem.start(jax.random.key(1)),
            gdjax.adam(learning_rate),
            stop=None,
            max_steps=steps,
            record=gdjax.every(max(1, steps // 200), lambda step: full(step.params)),
            key=jax.random.key(0),
        )

    losses = gdjax.sweep(trial, {"learning_rate": RATES}, progress=False).trace
    reached = (losses < target).values
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)
    return float(RATES[np.lexsort((losses[:, -1], first))[0]])


def methods(case):
    """Second-order methods with their number of steps, and of steps between two readings."""
    if case == "logistic regression":
        return {
            "natural gradient": (gdjax.natural_gradient(1.0, damping=1e-6), 20, 1),
            "Gauss-Newton": (gdjax.newton(curvature=gdjax.derivatives.gauss_newton), 20, 1),
            "Newton": (gdjax.newton(), 20, 1),
            "BFGS": (gdjax.bfgs(), 100, 1),
        }
    return {
        "natural gradient": (gdjax.natural_gradient(1.0, 0.05, solve=conjugate_gradients(3)), 100, 2),
        "K-FAC": (gdjax.kfac(damping=0.05, interval=5), 100, 2),
    }


CASES = {
    "logistic regression": (lambda: gdjax.problems.logistic_regression(), 2000, 1),
    "digits MLP": (lambda: gdjax.problems.mlp(batch_size=256), 1000, 5),
}


def minimum(problem):
    """The least loss, to the last bit that float32 has."""
    return float(gdjax.minimize(problem.value_fn, problem.start(), gdjax.trust_region()).value)


def study(case, shrink=1):
    """Curves of loss for one case: a dataset by method, with steps and seconds to the target."""
    build, steps, stride = CASES[case]
    problem, steps = build(), max(10, steps // shrink)
    target = minimum(problem) + 1e-6 if case == "logistic regression" else 0.01
    rate = best_rate(problem, steps, target)
    rows = {f"Adam, rate {rate:.2g}": (gdjax.adam(rate), steps, stride)}
    rows |= {
        name: (method, max(4, count // shrink), every)
        for name, (method, count, every) in methods(case).items()
    }
    found = {}
    for name, (optimizer, count, every) in rows.items():
        losses, seconds = curves(problem, optimizer, count, every)()
        reached = losses <= target
        first = int(np.argmax(reached)) * every if reached.any() else np.inf
        found[name] = (np.arange(len(losses)) * every, losses, first, first * seconds / count)
    longest = max(len(one[1]) for one in found.values())

    def pad(values):
        return np.concatenate([values, np.full(longest - len(values), np.nan)])

    return xr.Dataset(
        {
            "loss": (("method", "row"), np.stack([pad(one[1]) for one in found.values()])),
            "step": (("method", "row"), np.stack([pad(one[0].astype(float)) for one in found.values()])),
            "steps": ("method", [float(one[2]) for one in found.values()]),
            "seconds": ("method", [float(one[3]) for one in found.values()]),
        },
        {"method": list(found)},
        {"case": case, "target": target, "adam_rate": rate},
    )


def draw(studies, file):
    """The loss above its target by step, one panel a case."""
    figure, panels = plt.subplots(1, len(studies), figsize=(11, 4.2), layout="constrained")
    colors = ["0.45", "#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    for ax, data in zip(panels, studies, strict=True):
        for i, name in enumerate(data.method.values):
            one = data.isel(method=i)
            label = f"{name}: {one.steps:.0f} steps, {1e3 * one.seconds:.3g} ms"
            ax.loglog(one.step + 1, one.loss, color=colors[i], ls="-" if i else "--", lw=1.8, label=label)
        ax.axhline(data.target, color="black", lw=0.8, ls=":")
        ax.set(xlabel="step + 1", ylabel="loss over all data", title=data.case)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, title="to the dotted target")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(folder, shrink=1):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    studies = [study(case, shrink) for case in CASES]
    for data in studies:
        name = f"curvature_on_data_{data.case.split()[0]}.zarr"
        data.to_zarr(folder / name, mode="w", zarr_format=2)
        print(f"{data.case}, to a loss of {data.target:.6f}")
        for i, method in enumerate(data.method.values):
            print(f"  {method:20s} {data.steps[i]:6.0f} steps {1e3 * data.seconds[i]:9.2f} ms")
    draw(studies, folder / "curvature_on_data.png")
    print(f"written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "experiments/out")
