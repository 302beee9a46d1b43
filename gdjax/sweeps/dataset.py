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
from gdjax.sweeps.programs import RESULTS

__all__ = ["assemble", "attributes"]


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def attributes() -> dict[str, Any]:
    """What one needs to know to run it again."""
    config: Any = jax.config
    packages = {name: _version(name) for name in ("gdjax", "jax", "jaxlib", "optax", "numpy")}
    return packages | {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "x64": int(config.jax_enable_x64),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def assemble(
    axes: list[Axis], arrays: dict[str, np.ndarray], strides: dict[str, int], attrs: dict[str, Any]
) -> xarray.Dataset:
    """Names the dimensions: the axes, then ``step`` where a variable was recorded, then its own."""
    names = tuple(axis.name for axis in axes)
    coordinates = {axis.name: axis.coordinate for axis in axes}
    variables = {}
    for name in sorted(arrays, key=lambda name: (*RESULTS, name).index(name)):
        array = arrays[name]
        own = array.ndim - len(names)
        dims = names
        if name in strides:
            coordinates["step"] = np.arange(array.shape[len(names)]) * strides[name]
            dims, own = (*dims, "step"), own - 1
        dims = (*dims, *(f"{name}_{i}" for i in range(own)))
        variables[name] = xarray.Variable(dims, array, fastpath=True)
    return xarray.Dataset(variables, coordinates, attrs)
