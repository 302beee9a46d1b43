r"""Hyperband: successive halving from many short runs to few long ones, one bracket after the other."""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
import xarray

from gdjax.runs.run import Run
from gdjax.sweeps import Halving, Lanes, random, sweep
from gdjax.sweeps.designs import Space
from gdjax.types import KeyLike, PyTree

__all__ = ["brackets", "hyperband"]


def brackets(max_steps: int, factor: int = 3, smallest: int = 1) -> list[tuple[int, int]]:
    r"""How many runs each bracket has, and the steps up to its first rung.

    With :math:`s_{\max} = \lfloor \log_\eta (R / r) \rfloor` there are brackets :math:`s = s_{\max}, \dots, 0` of
    :math:`\lceil \frac{s_{\max} + 1}{s + 1} \eta^s \rceil` runs with a first rung at :math:`R \eta^{-s}` steps.

    Args:
      max_steps: :math:`R`, the steps of a run that is never stopped.
      factor: :math:`\eta`, at least 2.
      smallest: :math:`r`, the least steps up to a first rung.

    Reference:
      Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, Hyperband: a novel bandit-based approach to hyperparameter
      optimization, JMLR 18, 2018, algorithm 1.

    Example:
      >>> from gdjax.sweeps.search.hyperband import brackets
      >>> brackets(81)
      [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    """
    if factor < 2 or smallest < 1 or max_steps < smallest:
        raise ValueError("hyperband: factor must be at least 2, and 1 <= smallest <= the trial's max_steps")
    top = 0
    while smallest * factor ** (top + 1) <= max_steps:
        top += 1
    return [
        (math.ceil((top + 1) * factor**s / (s + 1)), max(smallest, max_steps // factor**s))
        for s in range(top, -1, -1)
    ]


def hyperband(
    trial: Callable[..., Run],
    draw: Callable[[int, jax.Array], Mapping[str, PyTree]] | Space,
    *,
    factor: int = 3,
    smallest: int = 1,
    lanes: int = 32,
    key: KeyLike = 0,
) -> xarray.Dataset:
    """Searches settings with a budget that goes to those that do well early.

    Each bracket is one sweep whose losing runs free their lanes: see `gdjax.sweeps.Halving`. Runs of
    mini-batch objectives are compared over all their data.

    Args:
      trial: as for `gdjax.sweep`, from settings by name to a `gdjax.Run`.
      draw: ``(count, key) -> settings``, for each setting an array of ``count`` values; or a space, as
        `gdjax.sweeps.random` takes it.
      factor: one run in so many goes on at each rung, at least 2.
      smallest: the fewest steps before a run may be given up, at least 1.
      lanes: runs at a time.
      key: a JAX key or a seed.

    Returns:
      What `gdjax.sweep` returns for each bracket, joined along ``sample``, with the settings as coordinates and
      the ``bracket``. Runs that were given up have the status PRUNED and the value that they had then.

    Raises:
      ValueError: numbers out of range; a setting called ``bracket``.
      TypeError: a trial that returns no run.

    Reference:
      Li et al., JMLR 18, 2018; Li et al., MLSys 2020, for brackets that nobody waits in.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> def trial(rate):
      ...     return gdjax.Run(lambda x: x**2, 1.0, gdjax.gradient_descent(rate), stop=None, max_steps=27)
      >>> def draw(count, key):
      ...     return {"rate": jax.random.uniform(key, (count,), maxval=0.9)}
      >>> found = gdjax.search.hyperband(trial, draw, smallest=3)
      >>> found.sizes["sample"], bool(found.value.min() < 1e-6)
      (17, True)
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    if isinstance(draw, Mapping):
        draw = functools.partial(random, draw)
    run = jax.eval_shape(trial, **{name: values[0] for name, values in draw(1, key).items()})
    if not isinstance(run, Run):
        raise TypeError(f"hyperband: trial must return a gdjax.Run, got {type(run).__name__}")

    def evaluated(sample):
        return trial(**sample)

    found: list[xarray.Dataset] = []
    before = 0
    for number, (count, first) in enumerate(brackets(run.max_steps, factor, smallest)):
        settings = {
            name: np.asarray(values) for name, values in draw(count, jax.random.fold_in(key, number)).items()
        }
        shared = Lanes(min(lanes, count), prune=Halving(first, factor))
        runs = sweep(evaluated, {"sample": settings}, lanes=shared, progress=False)
        labels = {
            "sample": np.arange(before, before + count),
            "bracket": ("sample", np.full(count, number)),
        }
        if "bracket" in settings:
            raise ValueError(
                "hyperband: 'bracket' is the name of what tells brackets apart; rename the setting"
            )
        before += count
        found.append(runs.assign_coords(labels))
    return xarray.concat(found, "sample", combine_attrs="override")
