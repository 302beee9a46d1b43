"""Ask and tell: a study suggests settings, a batch of them is evaluated in one compiled call."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray

from gdjax.driver import Run
from gdjax.sweeps import sweep
from gdjax.sweeps.designs import Range
from gdjax.types import FAILED

__all__ = ["ask_and_tell"]


def _suggested(asked: Any, name: str, place: Range) -> Any:
    if place.whole:
        return asked.suggest_int(name, int(place.low), int(place.high))
    return asked.suggest_float(name, float(place.low), float(place.high), log=place.log)


def _batch(study: Any, space: Mapping[str, Range], count: int) -> tuple[list[Any], dict[str, np.ndarray]]:
    """What the study hands out, and the settings that it suggests, each an array."""
    asked, rows = [], []
    for _ in range(count):
        asked.append(study.ask())
        rows.append({name: _suggested(asked[-1], name, place) for name, place in space.items()})
    types = {name: np.int32 if place.whole else np.float32 for name, place in space.items()}
    return asked, {name: np.array([row[name] for row in rows], types[name]) for name in space}


def _scores(runs: xarray.Dataset, by: str) -> np.ndarray:
    """A number for each suggestion: the median over all other dimensions, runs that failed being infinite."""
    values = runs[by]
    if "status" in runs:
        values = values.where(~runs.status.isin([int(status) for status in FAILED]), np.inf)
    values = values.fillna(np.inf)
    return values.median([name for name in values.dims if name != "sample"]).values


def ask_and_tell(
    study: Any,
    trial: Callable[..., Run],
    space: Mapping[str, Range],
    axes: Mapping[str, Any] | None = None,
    *,
    batch: int = 16,
    rounds: int = 4,
) -> xarray.Dataset:
    """Lets a study choose the settings, and evaluates a batch of its suggestions in one compiled call.

    All rounds have the same shapes: the first compiles, the others do not.

    Args:
      study: an Optuna study, or anything with ``ask()``, which returns an object with ``suggest_float`` and
        ``suggest_int``, and ``tell(asked, score)``. Lower scores are better.
      trial: as for `gdjax.sweep`, from settings by name (and a value of each of ``axes``) to a `gdjax.Run`.
      space: for each setting where it may lie: `gdjax.sweeps.uniform`, ``log_uniform`` or ``integers``.
      axes: more axes of the sweep, such as seeds, over which the score is the median.
      batch: suggestions a call, at least 1.
      rounds: calls, at least 1.

    Returns:
      What `gdjax.sweep` returns for each round, joined along ``sample``, with the settings as coordinates and
      the ``round``. A run that failed counts as infinite.

    Raises:
      ValueError: for a study that maximizes, an empty space, or numbers below 1.

    Reference:
      Akiba, Sano, Yanase, Ohta, Koyama, Optuna: a next-generation hyperparameter optimization framework,
      KDD 2019 (the protocol).

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> class Halves:  # a study that halves the rate
      ...     rate = 8.0
      ...     def ask(self):
      ...         self.rate /= 2
      ...         return self
      ...     def suggest_float(self, name, low, high, log):
      ...         return self.rate
      ...     def tell(self, asked, score):
      ...         pass
      >>> def trial(rate):
      ...     return gdjax.Run(lambda x: x**2, 1.0, gdjax.gradient_descent(rate), stop=None, max_steps=9)
      >>> space = {"rate": gdjax.sweeps.uniform(0.0, 8.0)}
      >>> found = gdjax.search.ask_and_tell(Halves(), trial, space, batch=2, rounds=3)
      >>> found.rate.values.tolist()
      [4.0, 2.0, 1.0, 0.5, 0.25, 0.125]
    """
    if not space or batch < 1 or rounds < 1:
        raise ValueError("ask_and_tell: space must name a setting, batch and rounds be at least 1")
    direction = getattr(getattr(study, "direction", None), "name", "MINIMIZE")
    if direction != "MINIMIZE":
        raise ValueError("ask_and_tell: the study maximizes; objectives are minimized here")

    def evaluated(sample, **others):
        return trial(**sample, **others)

    found: list[xarray.Dataset] = []
    for number in range(1, rounds + 1):
        asked, settings = _batch(study, space, batch)
        runs = sweep(evaluated, {"sample": settings, **(axes or {})}, progress=False)
        for one, score in zip(asked, _scores(runs, "value"), strict=True):
            study.tell(one, float(score))
        place = {name: ("sample", values) for name, values in settings.items()}
        first = (number - 1) * batch
        labels = {"sample": np.arange(first, first + batch), "round": ("sample", np.full(batch, number))}
        found.append(runs.assign_coords(labels | place))
    return xarray.concat(found, "sample", combine_attrs="override")
