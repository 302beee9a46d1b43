"""What runs recorded along ``step``, a median and a band for each of the best settings, as plain data."""

from typing import Any

import numpy as np
import xarray as xr

from gdjax.plots.report.summary import Subject, number, word
from gdjax.plots.selection import carried_forward

__all__ = ["curves"]

LINES, STEPS, VARIABLES = 80, 120, 3
"""Settings, points of a line, and recorded variables of a page."""

NUMBERS = 2**25
"""The most that is read of a variable at a time."""


def _recorded(about: Subject) -> list[str]:
    return [
        str(name)
        for name, array in about.dataset.data_vars.items()
        if set(array.dims) == {*about.dims, "step"} and array.dtype.kind in "biuf"
    ][:VARIABLES]


def _quartiles(values: np.ndarray) -> np.ndarray:
    """Lower quartile, median and upper quartile over the second axis; the quartiles are numbers of runs.

    Args:
      values: of shape ``(settings, runs, steps)``, infinite where a run failed, NaN where it is not finished.

    Returns:
      An array of shape ``(3, settings, steps)``.
    """
    rows = np.sort(values, axis=1)
    top = np.maximum((~np.isnan(rows)).sum(1) - 1, 0)
    places = np.floor(top / 4), top // 2, (top + 1) // 2, np.ceil(3 * top / 4)
    low, left, right, high = (
        np.take_along_axis(rows, at.astype(int)[:, None], axis=1)[:, 0] for at in places
    )
    return np.stack([low, np.where(left == right, left, left / 2 + right / 2), high])


def curves(about: Subject) -> dict[str, Any]:
    """The lines of a page.

    Returns:
      ``labels``, a word for each setting, the best first, and for each of ``variables`` its ``steps`` and
      ``lines``, each of ``low``, ``median`` and ``high``.
    """
    names, found = _recorded(about), about.settings.ranking
    runs = int(np.prod([about.dataset.sizes[dim] for dim in about.over]))
    long = max((about.dataset.sizes["step"] for _ in names), default=1)
    count = min(LINES, len(found.medians), max(1, NUMBERS // (runs * long)))
    places = {dim: xr.DataArray(found.index[:count, i], dims="setting") for i, dim in enumerate(found.dims)}
    coordinates = about.settings.coordinates
    shown = [
        ", ".join(f"{name.replace('_', ' ')} {word(values[i])}" for name, values in coordinates.items())
        for i in range(min(count, len(found.medians)))
    ]
    drawn = {name: _lines(about, name, places) for name in names}
    return {"labels": [each or "all runs" for each in shown], "variables": drawn}


def _lines(about: Subject, name: str, places: dict[str, xr.DataArray]) -> dict[str, Any]:
    array, numbers = about.dataset[name].isel(places), about.judged.isel(places)
    if not places:
        array, numbers = array.expand_dims("setting"), numbers.expand_dims("setting")
    array = array.transpose("setting", *about.over, "step").load().astype(float)
    numbers = numbers.transpose("setting", *about.over)
    worst = -np.inf if about.maximize and name == about.by else np.inf
    values = carried_forward(array, numbers.isin([np.inf, -np.inf]), worst).values
    values = values.reshape(len(values), -1, values.shape[-1])
    values = np.where(np.isnan(values), worst, values)
    values = np.where(np.isnan(numbers.values.reshape(len(values), -1, 1)), np.nan, values)
    at = np.unique(np.linspace(0, values.shape[-1] - 1, STEPS).astype(int))
    bands = _quartiles(values[..., at])
    steps = about.dataset["step"].values[at]
    lines = [
        {key: [number(x) for x in band] for key, band in zip(("low", "median", "high"), each, strict=True)}
        for each in bands.swapaxes(0, 1)
    ]
    return {"steps": steps.tolist(), "lines": lines}
