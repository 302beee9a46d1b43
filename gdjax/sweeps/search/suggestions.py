"""Ask and tell: a study suggests settings, a batch of them is evaluated in one compiled call."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray

from gdjax.runs.run import Run
from gdjax.sweeps import Range, static, sweep
from gdjax.sweeps.axes import as_axes
from gdjax.sweeps.designs import Choices, Space, as_place
from gdjax.sweeps.ranking import judged
from gdjax.sweeps.values import AxisValues

__all__ = ["ask_and_tell"]

Places = dict[str, Range | Choices]


def _suggested(asked: Any, name: str, place: Range | Choices) -> Any:
    """What a study suggests: a number, or of choices the place."""
    if isinstance(place, Choices):
        return place.offered.index(asked.suggest_categorical(name, place.offered))
    if not place.whole:
        step = {"step": place.step} if place.step else {}
        return asked.suggest_float(name, float(place.low), float(place.high), log=place.log, **step)
    options = ({"step": int(place.step)} if place.step else {}) | ({"log": True} if place.log else {})
    return asked.suggest_int(name, int(place.low), int(place.high), **options)


def _batch(study: Any, places: Places, count: int) -> tuple[list[Any], dict[str, np.ndarray]]:
    """What the study hands out, and the settings that it suggests, each an array; of choices the places."""
    asked, rows = [], []
    for _ in range(count):
        asked.append(study.ask())
        rows.append({name: _suggested(asked[-1], name, place) for name, place in places.items()})
    return asked, {name: np.array([row[name] for row in rows]) for name in places}


class _Suggestions(NamedTuple):
    """The axis of a batch.

    Attributes:
      settings: those that are numbers.
      places: in the batch; an axis needs an array where all settings are static.
    """

    settings: dict[str, np.ndarray]
    places: np.ndarray


class _Evaluation:
    """Batches of suggestions as sweeps, a program for each combination of choices that are not numbers.

    Attributes:
      places: where the settings may lie.
      axes: more axes of the sweeps.
      size: suggestions of a sweep, always as many, so that a program serves all batches.
    """

    def __init__(self, trial: Callable[..., Run], places: Places, axes: Mapping[str, AxisValues], batch: int):
        def evaluated(sample, **others):
            return trial(**sample.settings, **others)

        self.trial, self.places, self.axes = evaluated, places, axes
        self.static = {
            name: place
            for name, place in places.items()
            if isinstance(place, Choices) and place.numbers is None
        }
        self.size = math.ceil(batch / math.prod(len(place.values) for place in self.static.values()))

    def numbers(self, drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The settings that are numbers, as the trial takes them."""
        found = {}
        for name, values in drawn.items():
            place = self.places[name]
            if isinstance(place, Range):
                found[name] = values
            elif place.numbers is not None:
                found[name] = place.numbers[values]
        return found

    def labels(self, drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The settings as coordinates."""
        (axis,) = as_axes(lambda sample: None, {"sample": self.numbers(drawn) or {"": np.zeros(1)}})
        found = dict(axis.members)
        found |= {name: np.asarray(place.labels)[drawn[name]] for name, place in self.static.items()}
        return {name: found[name] for name in drawn}

    def runs(self, drawn: dict[str, np.ndarray], first: int) -> xarray.Dataset:
        """Evaluates suggestions, which are numbered from ``first``."""
        count = len(next(iter(drawn.values())))
        groups: dict[tuple[int, ...], list[int]] = {}
        for i in range(count):
            groups.setdefault(tuple(int(drawn[name][i]) for name in self.static), []).append(i)
        parts = [
            self._part(drawn, members[start : start + self.size], first)
            for members in groups.values()
            for start in range(0, len(members), self.size)
        ]
        found = parts[0] if len(parts) == 1 else xarray.concat(parts, "sample", combine_attrs="override")
        return found.sortby("sample") if len(parts) > 1 else found

    def _part(self, drawn: dict[str, np.ndarray], members: list[int], first: int) -> xarray.Dataset:
        """Evaluates suggestions that share their choices; their number is filled up with the last one."""
        at = np.array([*members, *members[-1:] * (self.size - len(members))])
        fixed = {
            name: static({place.labels[drawn[name][at[0]]]: place.values[drawn[name][at[0]]]})
            for name, place in self.static.items()
        }
        settings = {name: values[at] for name, values in self.numbers(drawn).items()}
        axes = {"sample": _Suggestions(settings, at), **fixed, **self.axes}
        runs = sweep(self.trial, axes, progress=False)
        runs = runs.isel(dict.fromkeys(fixed, 0), drop=True).isel(sample=slice(len(members)))
        return runs.assign_coords(sample=first + np.array(members))


def _scores(runs: xarray.Dataset, by: str, maximize: bool) -> np.ndarray:
    """A number for each suggestion: the median over all other dimensions, runs that failed being the worst."""
    values = judged(runs, by, maximize).fillna(-np.inf if maximize else np.inf)
    return values.median([name for name in values.dims if name != "sample"]).values


def _maximizes(study: Any, by: str) -> bool:
    """Whether more is better for the study."""
    try:
        direction = getattr(getattr(study, "direction", None), "name", "MINIMIZE")
    except RuntimeError:  # as Optuna's studies of several objectives say it
        raise ValueError("ask_and_tell: the study has several directions; it is told one number") from None
    if direction == "MAXIMIZE" and by == "value":
        raise ValueError(
            "ask_and_tell: the study maximizes; objectives are minimized here: name what it is told, such as "
            "by='accuracy'"
        )
    return direction == "MAXIMIZE"


def ask_and_tell(
    study: Any,
    trial: Callable[..., Run],
    space: Space,
    axes: Mapping[str, AxisValues] | None = None,
    *,
    batch: int = 16,
    rounds: int = 4,
    by: str = "value",
) -> xarray.Dataset:
    """Lets a study choose the settings, and evaluates a batch of its suggestions in one compiled call.

    All rounds have the same shapes: the first compiles, the others do not. Choices that are numbers are mapped;
    for each combination of others (names, optimizers, None) there is a program of its own, and what a batch
    suggests of it goes through in parts of equal size.

    Args:
      study: an Optuna study, or anything with ``ask()``, which returns an object with ``suggest_float``,
        ``suggest_int`` and ``suggest_categorical``, as far as the space needs them, and ``tell(asked, score)``.
      trial: as for `gdjax.sweep`, from settings by name (and a value of each of ``axes``) to a `gdjax.Run`.
      space: for each setting where it may lie: `gdjax.sweeps.uniform`, ``log_uniform`` or ``integers``, a list of
        choices, `gdjax.static` choices, or one of Optuna's distributions.
      axes: more axes of the sweep, such as seeds, over which the score is the median.
      batch: suggestions a call, at least 1.
      rounds: calls, at least 1.
      by: the variable that the study is told, one number a run; of one along ``step`` the last. Less is better,
        or more, where the study maximizes.

    Returns:
      What `gdjax.sweep` returns for each round, joined along ``sample``, with the settings as coordinates and
      the ``round``. A run that failed counts as infinite, the worst there is.

    Raises:
      ValueError: for a study that maximizes the value or has several directions, an empty space, a setting that is
        an axis too, or numbers below 1.
      TypeError: for a setting that is neither a range nor choices.

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
    if not isinstance(space, Mapping) or not space or batch < 1 or rounds < 1:
        raise ValueError("ask_and_tell: space must name a setting, batch and rounds be at least 1")
    axes = axes or {}
    for name in space:
        if name in axes:
            raise ValueError(f"ask_and_tell: {name!r} is a setting and an axis")
    maximize = _maximizes(study, by)
    places = {name: as_place("ask_and_tell", name, each) for name, each in space.items()}
    evaluation = _Evaluation(trial, places, axes, batch)
    found: list[xarray.Dataset] = []
    for number in range(1, rounds + 1):
        asked, drawn = _batch(study, places, batch)
        runs = evaluation.runs(drawn, (number - 1) * batch)
        for one, score in zip(asked, _scores(runs, by, maximize), strict=True):
            study.tell(one, float(score))
        labels = {
            f"sample.{name}" if name in runs.variables or name == "round" else name: ("sample", values)
            for name, values in evaluation.labels(drawn).items()
        }
        found.append(runs.assign_coords({"round": ("sample", np.full(batch, number))} | labels))
    return xarray.concat(found, "sample", combine_attrs="override")
