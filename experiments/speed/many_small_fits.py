r"""Many small fits under one ``vmap``: 1000 curves with noise, each from a start of its own.

.. math:: y = p_0 e^{-p_1 t} + p_2 \quad\text{and}\quad
    y = p_0 e^{-p_1 t} + p_2 e^{-((t - p_3) / p_4)^2} + p_5 e^{-((t - p_6) / p_7)^2}

``python experiments/speed/many_small_fits.py --x64``; CPU seconds of one process.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gdjax
from gdjax.bench.report import table

__all__ = ["MODELS", "WAYS", "data", "main"]


def _decay(p: jax.Array, t: jax.Array) -> jax.Array:
    return p[0] * jnp.exp(-p[1] * t) + p[2]


def _peaks(p: jax.Array, t: jax.Array) -> jax.Array:
    def peak(height, place, width):
        return height * jnp.exp(-jnp.square((t - place) / width))

    return p[0] * jnp.exp(-p[1] * t) + peak(*p[2:5]) + peak(*p[5:8])


MODELS = {
    3: (_decay, 20, [1, 0.5, 0], [3, 2, 1]),
    8: (_peaks, 60, [1, 1, 0.4, 0.8, 0.25, 0.5, 1.8, 0.3], [2.5, 1.6, 0.8, 1.2, 0.4, 1, 2.2, 0.5]),
}
"""For each number of parameters the curve, its points, and the least and the largest parameters."""


def data(size: int, fits: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array, jax.Array]:
    """The curve as a function of its parameters, observations with noise of 0.01, and starts up to a quarter off."""
    curve, points, low, high = MODELS[size]
    draws, t = np.random.default_rng(0), jnp.linspace(0.0, 3.0, points)
    true = jnp.asarray(draws.uniform(low, high, (fits, size)))
    seen = jax.vmap(lambda p: curve(p, t))(true) + 0.01 * jnp.asarray(draws.normal(size=(fits, points)))
    return lambda p: curve(p, t), seen, true * jnp.asarray(draws.uniform(0.8, 1.25, true.shape))


def _ours(curve: Any, seen: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    fit = gdjax.least_squares(lambda p: curve(p) - seen)
    run = gdjax.minimize(fit, start, gdjax.levenberg_marquardt())
    return run.params, run.steps


def _jaxopt(curve: Any, seen: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    import jaxopt

    solver = jaxopt.LevenbergMarquardt(lambda p, y: curve(p) - y, maxiter=200, tol=1e-5)
    run = solver.run(start, seen)
    return run.params, run.state.iter_num


WAYS = {"gdjax": _ours, "jaxopt": _jaxopt}


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    begin = time.process_time()
    jax.block_until_ready(call(*arguments))
    return time.process_time() - begin


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints each way with three and with eight parameters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default="gdjax,jaxopt")
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--x64", action="store_true", help="in float64")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", options.x64)
    lines = []
    for size in MODELS:
        curve, seen, starts = data(size, options.fits)
        for name in options.ways.split(","):
            way = jax.jit(jax.vmap(functools.partial(WAYS[name], curve)))
            first, *again = (_seconds(way, seen, starts) for _ in range(1 + options.repeats))
            params, steps = way(seen, starts)
            left = jnp.sum(jnp.square(jax.vmap(curve)(params) - seen), 1)
            rate = options.fits / min(again)
            found = [f"{jnp.median(left):.6f}", f"{jnp.mean(steps):.1f}", str(jnp.max(steps))]
            lines.append([str(size), name, f"{first:.1f}", f"{rate:,.0f}", *found])
    print(table(["params", "way", "first call s", "fits/s", "median residual", "steps", "most"], lines))


if __name__ == "__main__":
    main()
