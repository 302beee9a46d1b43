r"""Successive halving among lanes: at each rung only the best go on, and losers leave their lanes to new runs.

Rungs are at :math:`r, r\eta, r\eta^2, \dots` steps. A run that comes to a rung notes its value there, and goes on
if its value is among the lowest :math:`1/\eta` of those noted there so far, or the lowest. Nobody waits: the first
runs at a rung are compared with few, later ones with more.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdjax.types import ScalarLike

__all__ = ["Halving", "Rungs", "blank", "levels", "lost", "noted"]


class Halving(NamedTuple):
    """Which runs may go on.

    Attributes:
      first: steps up to the first rung, at least 1.
      factor: one run in so many goes on at each rung, and has so many times the steps up to the next; at least 2.

    Reference:
      Li et al., A system for massively parallel hyperparameter tuning, MLSys 2020 (ASHA), algorithm 2, with
      runs that stop in place of promotions.
    """

    first: int
    factor: int = 3


class Rungs(NamedTuple):
    """What has been noted.

    Attributes:
      climbed: for each lane how many rungs its run has passed.
      values: for each rung and run its value there; NaN where it has not come.
    """

    climbed: jax.Array
    values: jax.Array


def levels(halving: Halving, max_steps: int) -> list[int]:
    """The steps at which there are rungs.

    Example:
      >>> from gdjax.sweeps.pruning import Halving, levels
      >>> levels(Halving(10, 3), 1000)
      [10, 30, 90, 270, 810]
    """
    found, steps = [], halving.first
    while steps < max_steps:
        found.append(steps)
        steps *= halving.factor
    return found


def blank(rungs: int, lanes: int, runs: int, dtype: np.dtype) -> Rungs:
    """Nothing noted yet."""
    return Rungs(jnp.zeros(lanes, jnp.int32), jnp.full((rungs, runs), jnp.nan, dtype))


def noted(rungs: Rungs, lane: ScalarLike, run: ScalarLike, value: ScalarLike) -> Rungs:
    """Notes the value of a lane's run at the rung that it has come to; NaN counts as infinite."""
    value = jnp.where(jnp.isnan(value), jnp.inf, value).astype(rungs.values.dtype)
    values = rungs.values.at[rungs.climbed[lane], run].set(value)
    return Rungs(rungs.climbed.at[lane].add(1), values)


def lost(halving: Halving, rungs: Rungs, runs: jax.Array) -> jax.Array:
    """Whether each lane's run has lost at the rung that it passed last: runs that come together are compared."""

    def one(climbed, run):
        here = rungs.values[climbed - 1]
        seen, lower = jnp.sum(~jnp.isnan(here)), jnp.sum(here < here[run])
        behind = lower * halving.factor >= jnp.maximum(seen, halving.factor)
        return behind | (jnp.isposinf(here[run]) & (seen > 1))

    return jax.vmap(one)(rungs.climbed, runs)
