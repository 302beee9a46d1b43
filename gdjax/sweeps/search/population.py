"""Population-based training: runs in parallel, of which losers take over winners' states and settings."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.tree_util import Partial

from gdjax._internal import control_flow
from gdjax.runs.run import Run
from gdjax.types import KeyLike, PyTree

__all__ = ["perturb", "population_based"]

Points = dict[str, jax.Array]


def _perturb(factors, key, points):
    found = {}
    for i, (name, values) in enumerate(sorted(points.items())):
        draw = jax.random.choice(jax.random.fold_in(key, i), jnp.asarray(factors), values.shape)
        floating = jnp.issubdtype(values.dtype, jnp.floating)
        found[name] = (values * draw).astype(values.dtype) if floating else values
    return found


def perturb(*factors: float) -> Callable[[jax.Array, Points], Points]:
    """Multiplies each floating setting by one of the factors, at random; integers stay.

    Args:
      factors: 0.8 and 1.25 where none are given.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> explore = gdjax.search.perturb(2.0)
      >>> explore(jax.random.key(0), {"learning_rate": jnp.array([0.1, 0.2]), "seed": jnp.arange(2)})
      {'learning_rate': Array([0.2, 0.4], dtype=float32), 'seed': Array([0, 1], dtype=int32)}
    """
    return Partial(_perturb, factors or (0.8, 1.25))


def _exchange(values, share, key):
    """For each member whose state it goes on with: its own, or for the worst one of the best's."""
    members = len(values)
    count = max(1, int(share * members))
    order = jnp.argsort(jnp.where(jnp.isnan(values), jnp.inf, values))
    chosen = jax.random.choice(key, order[:count], (count,))
    return jnp.arange(members).at[order[members - count :]].set(chosen)


def _checked(trial: Any, start: Mapping[str, PyTree], needed: int) -> tuple[Points, int]:
    points = {name: jnp.asarray(values) for name, values in start.items()}
    taken = sorted(points.keys() & {"value", "status", "parent", "round", "member"})
    if taken:
        raise ValueError(f"population_based: {taken[0]!r} is the name of a result; rename the setting")
    sizes = {values.shape[:1] for values in points.values()}
    if len(sizes) != 1 or sizes == {()}:
        shapes = {name: values.shape for name, values in points.items()}
        raise ValueError(
            f"population_based: start needs arrays of one length, a value a member, got {shapes}"
        )
    ((members,),) = sizes
    if members < 2:
        raise ValueError("population_based: a population has at least 2 members")
    run = jax.eval_shape(trial, **{name: values[0] for name, values in points.items()})
    if not isinstance(run, Run):
        raise TypeError(f"population_based: trial must return a gdjax.Run, got {type(run).__name__}")
    if run.max_steps < needed:
        raise ValueError(
            f"population_based: rounds * steps is {needed}, more than the trial's max_steps={run.max_steps}"
        )
    return points, members


def population_based(
    trial: Callable[..., Run],
    start: Mapping[str, PyTree],
    *,
    rounds: int,
    steps: int,
    share: float = 0.25,
    explore: Callable[[jax.Array, Points], Points] | None = None,
    key: KeyLike = 0,
) -> xarray.Dataset:
    """Trains a population and exchanges between rounds, as one compiled program.

    After each round of ``steps`` steps, the worst ``share`` of the members take over the states of members out
    of the best share, drawn at random, and their settings, perturbed. So settings change along a run:
    what comes out is a schedule. Mini-batch objectives are compared over all their data.

    Args:
      trial: as for `gdjax.sweep`, from settings by name to a `gdjax.Run` whose ``max_steps`` is at least
        ``rounds * steps``. The shapes of its optimizer's state must not depend on the settings.
      start: for each setting an array with a value a member.
      rounds: how many, at least 1.
      steps: of every run in a round, at least 1.
      share: of the members that are replaced a round, in (0, 0.5]; one at least.
      explore: ``(key, settings) -> settings``, `perturb` by default.
      key: a JAX key or a seed.

    Returns:
      A dataset over ``round`` and ``member``: the ``value`` at the end of the round, the ``status``, the settings
      that led there, and ``parent``, the member whose state it goes on with in the next round.

    Raises:
      ValueError: arrays of unequal lengths, too few steps in the trial, a share out of range.
      TypeError: a trial that returns no run.

    Reference:
      Jaderberg et al., Population based training of neural networks, arXiv:1711.09846, 2017, section 3
      (truncation selection).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> def trial(learning_rate):
      ...     return gdjax.Run(lambda x: jnp.sum(x**4), jnp.ones(2), gdjax.gradient_descent(learning_rate),
      ...                      stop=None, max_steps=40)
      >>> found = gdjax.search.population_based(
      ...     trial, {"learning_rate": jnp.logspace(-4, -1, 8)}, rounds=4, steps=10)
      >>> dict(found.sizes)
      {'round': 4, 'member': 8}
    """
    if rounds < 1 or steps < 1:
        raise ValueError(f"population_based: rounds and steps must be at least 1, got {rounds} and {steps}")
    if not 0 < share <= 0.5:
        raise ValueError(f"population_based: share must lie in (0, 0.5], got {share}")
    points, members = _checked(trial, start, rounds * steps)
    key = jax.random.key(key) if isinstance(key, int) else key
    explore = perturb() if explore is None else explore

    def segment(point, state):
        run = trial(**point)
        state = control_flow.scan(lambda s, _: (run.step(s), None), state, length=steps)[0]
        result = run.result(state)
        return state, result.value, result.status

    def one_round(carry, key):
        points, states = carry
        choosing, exploring = jax.random.split(key)
        states, values, statuses = jax.vmap(segment)(points, states)
        parent = _exchange(values, share, choosing)
        taken = jax.tree.map(lambda leaf: leaf[parent], (points, states))
        moved = parent != jnp.arange(members)
        explored = explore(exploring, taken[0])
        after = {name: jnp.where(moved, explored[name], points[name]) for name in points}
        return (after, taken[1]), {"value": values, "status": statuses, "parent": parent, **points}

    @jax.jit
    def train(points, key):
        states = jax.vmap(lambda point: trial(**point).init())(points)
        return control_flow.scan(one_round, (points, states), jax.random.split(key, rounds))[1]

    found = {name: np.asarray(values) for name, values in train(points, key).items()}
    return xarray.Dataset(
        {name: (("round", "member"), values) for name, values in found.items()},
        {"round": np.arange(1, rounds + 1), "member": np.arange(members)},
        {"steps": steps, "share": share, "method": "population_based"},
    )
