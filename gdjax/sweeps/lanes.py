"""How many runs that stop by themselves are made at a time, and what each of them keeps."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from gdjax._internal.programs.lanes import lane_count
from gdjax.runs.run import Run
from gdjax.sweeps.pruning import Halving
from gdjax.sweeps.sharing import depends
from gdjax.sweeps.tracing import Loop, Traced
from gdjax.types import Scalar

__all__ = ["Lanes", "Leaves", "LaneProgram", "apart", "as_lanes", "chosen"]

Leaves = list[Any]


class Lanes(NamedTuple):
    """How runs that stop early share the device.

    Attributes:
      count: runs at a time, at least 1.
      ticks: steps that all lanes take between two looks for lanes that are done, at least 1. A lane
        that is done waits for the next look, so more than one pays only where a look is dear.
      prune: which runs may go on, a `Halving`; None lets all of them. Runs of a box are compared with each
        other, by their values (over all data where they draw mini-batches).
    """

    count: int
    ticks: int = 1
    prune: Halving | None = None


def _is_count(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def as_lanes(lanes: Any) -> Lanes | str | None:
    """Checks what the user wrote: ``"auto"``, a number, a `Lanes`; None or 0 for none."""
    if lanes is None or lanes == "auto":
        return lanes
    if isinstance(lanes, Lanes) and _is_count(lanes.count) and _is_count(lanes.ticks):
        return Lanes(int(lanes.count), int(lanes.ticks), _as_halving(lanes.prune))
    if not isinstance(lanes, tuple):
        if _is_count(lanes):
            return Lanes(int(lanes))
        if lanes == 0 and not isinstance(lanes, bool):
            return None
    raise ValueError(
        f"sweep: lanes must be 'auto', a number of lanes, a gdjax.sweeps.Lanes, or None, got {lanes!r}"
    )


def _as_halving(prune: object) -> Halving | None:
    if prune is None:
        return None
    if not isinstance(prune, Halving) or not _is_count(prune.first) or not _is_count(prune.factor - 1):
        raise ValueError(
            f"sweep: prune must be a gdjax.sweeps.Halving(first >= 1, factor >= 2), got {prune!r}"
        )
    return Halving(int(prune.first), int(prune.factor))


def apart(lanes: Lanes | str | None) -> Callable[[Run], bool]:
    """Which runs go through lanes: those that may end early, or all where some are pruned."""
    if isinstance(lanes, Lanes) and lanes.prune is not None:
        return lambda run: True
    return lambda run: lanes is not None and run.stop is not None


class LaneProgram:
    """What lanes do with a run, with the constants that all runs share apart from those of each run.

    Attributes:
      own: which arrays of the start each lane keeps: its state, and the constants that depend on an axis.
      nbytes: what a lane keeps.
    """

    loop: Loop

    def __init__(self, traced: Traced, owners: list[int], sizes: list[int]):
        assert traced.loop is not None
        self.traced, self.loop = traced, traced.loop
        varying = depends(traced.program, owners, sizes)
        self.own = [i < self.loop.states or varies for i, varies in enumerate(varying)]
        kept = self.split(list(traced.program.out_avals), True)
        self.nbytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept)

    def start(self, point: Leaves) -> Leaves:
        return _call(self.traced.program, jax.tree.leaves(point))

    def split(self, leaves: Leaves, own: bool) -> Leaves:
        return [leaf for leaf, mine in zip(leaves, self.own, strict=True) if mine == own]

    def _parts(self, own: Leaves, shared: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        mine, others = iter(own), iter(shared)
        leaves = [next(mine) if is_own else next(others) for is_own in self.own]
        cut = self.loop.states + self.loop.constants
        return leaves[: self.loop.states], leaves[self.loop.states : cut], leaves[cut:]

    def step(self, own: Leaves, shared: Leaves) -> tuple[Leaves, Scalar | None]:
        state, constants, _ = self._parts(own, shared)
        *after, done = _call(ClosedJaxpr(self.loop.step, constants), state)
        return [*after, *own[self.loop.states :]], done

    def finish(self, own: Leaves, shared: Leaves) -> dict[str, jax.Array]:
        state, _, constants = self._parts(own, shared)
        found = _call(ClosedJaxpr(self.loop.finish, constants), state)
        return jax.tree.unflatten(self.traced.outputs, found)


def _call(program: ClosedJaxpr, arguments: Leaves) -> Leaves:
    """What a program returns, as arrays: its constants among the outputs are bare numbers."""
    found = jaxpr_as_fun(program)(*arguments)
    return [
        leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf, aval.dtype)
        for leaf, aval in zip(found, program.out_avals, strict=True)
    ]


def chosen(lanes: Lanes | str, program: LaneProgram, runs: int) -> Lanes:
    """The number of lanes: the user's, or as many as the caches hold, but enough runs for each to take turns."""
    if isinstance(lanes, Lanes):
        return lanes._replace(count=min(lanes.count, runs))
    return Lanes(lane_count(program.nbytes, 0, runs))
