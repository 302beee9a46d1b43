"""From arrays to one labelled ``xarray.Dataset``."""

import datetime
import functools
import importlib.metadata
import platform
from typing import Any

import jax
import numpy as np
import xarray

from gdjax.sweeps.axes import Axis
from gdjax.sweeps.tracing import RESULTS

__all__ = ["assemble", "attributes", "check_names", "coordinates", "dimensions"]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def _machine() -> dict[str, Any]:
    """What stays as it is while the process lives."""
    packages = {name: _version(name) for name in ("gdjax", "jax", "jaxlib", "optax", "numpy")}
    return packages | {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
    }


def attributes() -> dict[str, Any]:
    """What one needs to know to run it again."""
    config: Any = jax.config
    return _machine() | {
        "x64": int(config.jax_enable_x64),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def dimensions(axes: list[Axis], name: str, own: int, strides: dict[str, int]) -> tuple[str, ...]:
    """The dimensions of a variable: the axes, ``step`` if it was recorded, then its own.

    Args:
      axes: all of them.
      name: the variable's.
      own: how many dimensions it has in one run.
      strides: for each recorded variable, the steps between its rows.
    """
    recorded = ("step",) if name in strides else ()
    rest = tuple(f"{name}_{i}" for i in range(own - len(recorded)))
    return (*(axis.name for axis in axes), *recorded, *rest)


def _own(shapes: dict[str, tuple[int, ...]], strides: dict[str, int]) -> dict[str, str]:
    """The dimensions that variables bring with them, each with the name of a variable that has it."""
    return {dim: name for name, shape in shapes.items() for dim in dimensions([], name, len(shape), strides)}


def check_names(axes: list[Axis], shapes: dict[str, tuple[int, ...]], strides: dict[str, int]) -> None:
    """Says which axis is called like something else of the dataset, before anything is run.

    Args:
      axes: all of them.
      shapes: for each variable the shape that it has in one run.
      strides: for each recorded variable, the steps between its rows.

    Raises:
      ValueError: if two things would have one name.
    """
    own, is_run = _own(shapes, strides), set(RESULTS) <= set(shapes)
    for axis in axes:
        name, what = axis.name, None
        if name == "step" and strides:
            what = "the dimension of what is recorded"
        elif name in shapes and is_run and name in RESULTS:
            what = f"a result of every run ({', '.join(RESULTS)})"
        elif name in shapes and name in strides:
            what = "what the trial records"
        elif name in shapes:
            what = "the final params (params=True)" if is_run else "what the trial returns"
        elif name in own:
            what = f"a dimension of {own[name]!r}"
        if what is not None:
            raise ValueError(
                f"sweep: axis {name!r} is called like {what}; give the trial's argument another name"
            )
    for name in shapes:
        if name in own:
            raise ValueError(
                f"sweep: the trial gives {name!r} beside {own[name]!r}, whose dimension is called so; rename it"
            )


def coordinates(
    axes: list[Axis], shapes: dict[str, tuple[int, ...]], strides: dict[str, int]
) -> dict[str, tuple[str, np.ndarray]]:
    """The labels along the axes, and along ``step`` where something was recorded.

    The members of an axis that is a dictionary lie along it under their names, ``axis.name`` where
    something else is called so.

    Args:
      axes: all of them.
      shapes: for each variable the shape that it has in one run.
      strides: for each recorded variable, the steps between its rows.
    """
    labels = {axis.name: (axis.name, axis.coordinate) for axis in axes}
    for name, stride in strides.items():
        labels["step"] = ("step", np.arange(shapes[name][0]) * stride)
    own = _own(shapes, strides)
    for axis in axes:
        for name, values in axis.members:
            taken = name in labels or name in shapes or name in own
            labels[f"{axis.name}.{name}" if taken else name] = (axis.name, values)
    return labels


def assemble(
    axes: list[Axis], arrays: dict[str, np.ndarray], strides: dict[str, int], attrs: dict[str, Any]
) -> xarray.Dataset:
    """Names the dimensions of arrays whose leading shape is that of the axes."""
    shapes = {name: array.shape[len(axes) :] for name, array in arrays.items()}
    variables = {}
    for name in sorted(arrays, key=lambda name: (*RESULTS, name).index(name)):
        dims = dimensions(axes, name, len(shapes[name]), strides)
        variables[name] = xarray.Variable(dims, arrays[name], fastpath=True)
    return xarray.Dataset(variables, coordinates(axes, shapes, strides), attrs)
