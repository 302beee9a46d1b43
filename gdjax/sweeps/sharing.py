"""How much work a grid can share: read off the trial's program, before anything is mapped.

Under one ``vmap`` an axis, an operation is done once for every value of the axes that it depends on;
under a single ``vmap`` over all points, once a point. Where nothing is shared the single one is
faster: its arrays have one batch dimension and nothing to broadcast.
"""

import math
import weakref
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from gdjax._internal.programs import jaxprs

__all__ = ["Plan", "depends", "footprint", "operations", "plan"]

Axes = frozenset[int]
"""The axes of the grid that a number depends on."""

WORTH = 1.05
"""The single vmap is taken if it has at most this times the operations."""


class _Count:
    """Operations, mapped axis by axis and point by point."""

    def __init__(self, sizes: list[int]):
        self.sizes = sizes
        self.nested = 0.0
        self.flat = 0.0
        self.touched = [0.0] * len(sizes)
        self.largest = self.largest_flat = 0

    @property
    def worth(self) -> bool:
        """Whether mapping axis by axis pays."""
        return self.flat > WORTH * self.nested

    def weigh(self, eqn: Any, outputs: list[Axes]) -> None:
        """Looks at how large is what an operation makes."""
        sizes = [(jaxprs.nbytes(var.aval), axes) for var, axes in zip(eqn.outvars, outputs, strict=True)]
        nested = sum(size * math.prod(self.sizes[i] for i in axes) for size, axes in sizes)
        flat = sum(size * (math.prod(self.sizes) if axes else 1) for size, axes in sizes)
        self.largest, self.largest_flat = max(self.largest, nested), max(self.largest_flat, flat)

    def add(self, operations: float, axes: Axes) -> None:
        self.nested += operations * math.prod(self.sizes[i] for i in axes)
        self.flat += operations * (math.prod(self.sizes) if axes else 1)
        for i in axes:
            self.touched[i] += operations

    def through(self, program: Jaxpr, inputs: list[Axes], times: float) -> list[Axes]:
        """Counts a program that runs ``times`` times; returns what its outputs depend on."""
        known: dict[Any, Axes] = dict(zip(program.invars, inputs, strict=True))

        def of(atom):
            return frozenset() if isinstance(atom, Literal) else known.get(atom, frozenset())

        for eqn in program.eqns:
            found = [of(atom) for atom in eqn.invars]
            outputs = self.equation(eqn, found, times)
            self.weigh(eqn, outputs)
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [of(atom) for atom in program.outvars]

    def equation(self, eqn: Any, inputs: list[Axes], times: float) -> list[Axes]:
        scan = jaxprs.scan_parts(eqn)
        if scan is not None:
            return self.scan(scan, inputs, times)
        everything = frozenset().union(*inputs)
        inner = jaxprs.inside(eqn)
        if len(inner) == 1 and len(inner[0].invars) == len(inputs):
            return self.through(inner[0], inputs, times)
        for program in inner:
            self.through(program, [everything] * len(program.invars), times)
        if not inner:
            self.add(times * _operations(eqn), everything)
        return [everything] * len(eqn.outvars)

    def scan(self, scan: jaxprs.Scan, inputs: list[Axes], times: float) -> list[Axes]:
        body, constants, carried, length = scan
        state = inputs[constants : constants + carried]
        while True:
            dry = _Count(self.sizes)
            given = [*inputs[:constants], *state, *inputs[constants + carried :]]
            outputs = dry.through(body, given, times * length)
            wider = [old | new for old, new in zip(state, outputs[:carried], strict=True)]
            if wider == state:
                self.nested += dry.nested
                self.flat += dry.flat
                self.largest = max(self.largest, dry.largest)
                self.largest_flat = max(self.largest_flat, dry.largest_flat)
                self.touched = [old + new for old, new in zip(self.touched, dry.touched, strict=True)]
                return outputs
            state = wider


def _operations(eqn: Any) -> float:
    size = sum(math.prod(getattr(var.aval, "shape", ())) for var in eqn.outvars)
    product = jaxprs.contracted(eqn)
    if product is not None:
        size *= 2 * math.prod(eqn.invars[0].aval.shape[i] for i in product[0][0])
    return size


def _counted(program: Jaxpr, inputs: list[Axes], sizes: list[int]) -> tuple[_Count, list[Axes]] | None:
    """The count of a program and what its outputs depend on; None where it cannot be read."""

    def read():
        count = _Count(sizes)
        return count, count.through(program, inputs, 1)

    return jaxprs.attempt(read, otherwise=None)


class Plan(NamedTuple):
    """How to map a trial.

    Attributes:
      nested: whether mapping axis by axis saves operations over mapping point by point.
      order: the axes, those outermost first on which most depends. What is shared then has leading batch
        dimensions only, and the axes inside (learning rates) widen its matrix products.
    """

    nested: bool
    order: list[int]


def plan(program: ClosedJaxpr, owners: list[int], sizes: list[int]) -> Plan:
    """Decides how to map; point by point where the program cannot be read.

    Args:
      program: the trial's, for one point.
      owners: for each input of the program the axis that it comes from.
      sizes: how many values each axis has.
    """
    found = _counted(program.jaxpr, _inputs(owners, sizes), sizes)
    if found is None:
        return Plan(False, list(range(len(sizes))))
    count, _ = found
    order = sorted(range(len(sizes)), key=lambda i: -count.touched[i])
    return Plan(count.worth, order)


def depends(program: ClosedJaxpr, owners: list[int], sizes: list[int]) -> list[bool]:
    """For each output of a program whether it depends on an axis of more than one value, as far as can be read."""
    found = _counted(program.jaxpr, _inputs(owners, sizes), sizes)
    return [True] * len(program.jaxpr.outvars) if found is None else [bool(axes) for axes in found[1]]


def operations(program: Jaxpr, owners: list[int] | None, sizes: list[int]) -> float:
    """Operations at all points, each counted once where it is shared; of a loop without a known end one step.

    0 where the program cannot be read.

    Args:
      program: the trial's, or a part of it.
      owners: for each input the axis that it comes from; None where all depends on all.
      sizes: how many values each axis has.
    """
    every = frozenset(range(len(sizes)))
    inputs = [every] * len(program.invars) if owners is None else _inputs(owners, sizes)
    found = _counted(program, inputs, sizes)
    return 0.0 if found is None else min(found[0].nested, found[0].flat)


_footprints: weakref.WeakKeyDictionary[Jaxpr, dict[Any, int]] = weakref.WeakKeyDictionary()


def footprint(program: ClosedJaxpr, owners: list[int], sizes: list[int]) -> int:
    """Bytes of what the largest operation makes at all points, mapped as `plan` decides.

    Counted once for each size, and forgotten with the program; 0 where it cannot be read.

    Args:
      program: the trial's.
      owners: for each input of the program the axis that it comes from.
      sizes: how many values each axis has.
    """
    known, key = _footprints.setdefault(program.jaxpr, {}), tuple(sizes)
    if key not in known:
        found = _counted(program.jaxpr, _inputs(owners, sizes), sizes)
        count = _Count(sizes) if found is None else found[0]
        known[key] = count.largest if count.worth else count.largest_flat
    return known[key]


def _inputs(owners: list[int], sizes: list[int]) -> list[Axes]:
    return [frozenset({i}) if sizes[i] > 1 else frozenset() for i in owners]
