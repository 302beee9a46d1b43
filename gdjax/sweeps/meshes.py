"""Several devices: each has its own runs and its own loop, and none hears of another."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Compiled

from gdjax._internal import control_flow
from gdjax.types import PyTree

__all__ = ["as_mesh", "devices_of", "on_all", "padded", "split_axis"]


def as_mesh(mesh: object) -> Mesh | None:
    """Checks what the user wrote: ``"all"`` local devices, a mesh of any shape, or None for the default device."""
    if mesh is None:
        return None
    if isinstance(mesh, Mesh):
        devices = mesh.devices.ravel()
    elif mesh == "all":
        devices = np.array(jax.local_devices())
    else:
        raise ValueError(f"sweep: mesh must be 'all', a jax.sharding.Mesh, or None, got {mesh!r}")
    return Mesh(devices, ("runs",)) if len(devices) > 1 else None


def devices_of(mesh: Mesh | None) -> int:
    """How many devices there are."""
    return 1 if mesh is None else mesh.size


def split_axis(sizes: list[int]) -> int:
    """The axis of a grid that is split among devices: the longest."""
    return int(np.argmax(sizes))


def padded(tiles: list[int], mesh: Mesh | None) -> list[int]:
    """The smallest box that holds another and has as many runs for each device."""
    if mesh is None or not tiles:
        return tiles
    split, count = split_axis(tiles), mesh.size
    return [count * math.ceil(tile / count) if i == split else tile for i, tile in enumerate(tiles)]


def on_all(function: Callable[..., PyTree], mesh: Mesh, inputs: list[PyTree], outputs: PyTree) -> "Placed":
    """A function that every device calls with its part, compiled for arguments like these.

    Args:
      function: of the parts.
      mesh: of one axis, ``runs``.
      inputs: for each argument its shapes and types, and the axis along which it is split; None if it is not.
      outputs: the axes along which the outputs are split, in the outputs' structure or a prefix of it.
    """

    def spec(axis):
        return P() if axis is None else P(*[None] * axis, "runs")

    specs = tuple(spec(axis) for _, axis in inputs)

    def part(*arguments):
        with control_flow.unchecked():
            return function(*arguments)

    split = jax.shard_map(
        part, mesh=mesh, in_specs=specs, out_specs=jax.tree.map(spec, outputs), check_vma=False
    )
    places = tuple(NamedSharding(mesh, each) for each in specs)
    call = jax.jit(split, in_shardings=places).lower(*(shapes for shapes, _ in inputs)).compile()
    return Placed(call, places)


class Placed:
    """A compiled program that puts its arguments where they belong."""

    def __init__(self, compiled: Compiled, places: tuple[NamedSharding, ...]):
        self.compiled, self.places = compiled, places

    def __call__(self, *arguments: Any) -> Any:
        return self.compiled(*jax.device_put(arguments, self.places))
