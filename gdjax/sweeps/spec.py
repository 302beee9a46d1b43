"""What a sweep has to do, checked."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gdjax.sweeps.axes import Axis, Trial
from gdjax.sweeps.dataset import check_names
from gdjax.sweeps.engine import Engine
from gdjax.sweeps.lanes import Lanes
from gdjax.sweeps.layout import place
from gdjax.sweeps.plan import Box, Plan
from gdjax.sweeps.programs import trace
from gdjax.sweeps.pruning import Halving
from gdjax.sweeps.tracing import Traced
from gdjax.sweeps.watching import Watch, labelled

__all__ = ["SweepSpec"]


class SweepSpec(NamedTuple):
    """What a sweep has to do.

    Attributes:
      trial: the user's function.
      axes: all axes, in the user's order.
      choices: the static choices, each by the names of its axes.
      plan: how the array axes are cut.
      lanes: as `sweep` takes them, checked.
      params: whether the final params are kept.
    """

    trial: Trial
    axes: list[Axis]
    choices: list[dict[str, Any]]
    plan: Plan
    lanes: Lanes | str | None
    params: bool

    @property
    def pruning(self) -> Halving | None:
        """Which runs may go on, compared with the others of their box; None where all may."""
        return getattr(self.lanes, "prune", None)

    def engine(self, choice: int, lanes: Lanes | str | None = None) -> Engine:
        """The engine of a static choice."""
        lanes = lanes if self.lanes == "auto" and lanes is not None else self.lanes
        return Engine(self.trial, self.choices[choice], self.plan, self.params, lanes)

    def traced(self, most: int | None = None) -> list[Traced]:
        """The trial's program for each static choice, or for the first ``most`` of them."""
        values = self.plan.abstract([1] * len(self.plan.sizes))
        return [
            trace(self.trial, choice, self.plan.names, values, self.params, self.lanes)
            for choice in self.choices[:most]
        ]

    def check(self, traces: list[Traced]) -> None:
        """Compares what static choices return, and the names of axes with those of what comes out.

        Args:
          traces: the programs of the first static choices.

        Raises:
          ValueError: if the choices return different variables, or if two things would have one name.
        """
        found = [{name: tuple(aval.shape) for name, aval in traced.shapes.items()} for traced in traces]
        for other in found[1:]:
            if other != found[0]:
                raise ValueError(
                    f"sweep: the static choices return different variables or shapes: {found[0]} and {other}"
                )
        check_names(self.axes, found[0], traces[0].strides)

    def labels(self) -> list[str]:
        """What the static choices are called."""
        static = [axis for axis in self.axes if axis.choices is not None]
        named = [[f"{axis.name}={label}" for label in axis.coordinate] for axis in static]
        return [", ".join(names) for names in itertools.product(*named)]

    def watching(
        self, choice: int, engine: Engine, watch: Watch | None
    ) -> Callable[[Box, dict[str, np.ndarray]], None]:
        """A function that shows the boxes of a static choice to ``watch``, as datasets."""

        def show(box, found):
            if watch is not None:
                watch(labelled(self.axes, place(self.axes, choice, box), found, engine.program.strides))

        return show
