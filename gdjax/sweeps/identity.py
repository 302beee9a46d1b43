"""Which sweep a store is of: the programs of its trial, the values of its axes, and the versions."""

import importlib.metadata
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from gdjax._internal.programs import fingerprints
from gdjax.sweeps.axes import Axis

__all__ = ["differences", "identity"]


def identity(
    axes: list[Axis], programs: dict[str, tuple[ClosedJaxpr | Jaxpr, ...]], options: dict[str, Any]
) -> dict[str, Any]:
    """What must be equal for two sweeps to be the same, as plain data.

    A trial is known by the operations of its programs and by the arrays that they close over: other
    comments or names make no other sweep, other data do.

    Args:
      axes: all of them.
      programs: the trial's jaxprs, by the labels of the static choices.
      options: what else decides over the results, by name.
    """
    config: Any = jax.config
    return {
        "axes": {
            axis.name: list(map(str, axis.coordinate))
            if axis.choices is not None
            else [axis.size, fingerprints.of_arrays(axis.values)]
            for axis in axes
        },
        "order": [axis.name for axis in axes],
        "programs": {label: fingerprints.of_program(*parts) for label, parts in programs.items()},
        "options": {name: str(value) for name, value in options.items()},
        "float64": bool(config.jax_enable_x64),
        "matmul precision": str(config.jax_default_matmul_precision),
        "versions": {name: importlib.metadata.version(name) for name in ("gdjax", "jax", "jaxlib")},
    }


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """In words, how the sweep that a store is of differs from the one that is asked for."""
    found = []
    for name, version in asked["versions"].items():
        other = stored.get("versions", {}).get(name)
        if other != version:
            found.append(f"it was written by {name} {other}, this is {version}")
    settings = ("float64", "matmul precision")
    here = asked["options"] | {name: asked[name] for name in settings}
    there = stored.get("options", {}) | {name: stored.get(name) for name in settings}
    for name, value in here.items():
        if there.get(name) != value:
            found.append(f"{name} was {there.get(name)}, now it is {value}")
    if stored.get("order") != asked["order"]:
        found.append(f"its axes are {', '.join(stored.get('order', []))}, not {', '.join(asked['order'])}")
        return found
    for name, values in asked["axes"].items():
        if stored["axes"][name] != values:
            found.append(f"axis {name!r} has other values")
    if not found:
        for label, program in asked["programs"].items():
            if stored["programs"].get(label) != program:
                where = f" at {label}" if label else ""
                found.append(f"the trial computes something else{where}")
    return found
