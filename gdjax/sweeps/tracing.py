"""From a trial to programs of arrays: called once, its outputs named, its loop taken apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.tree_util import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    SequenceKey,
    tree_flatten_with_path,
)

from gdjax._internal.programs import jaxprs
from gdjax.runs import unchecked
from gdjax.runs.run import Run
from gdjax.types import PyTree

__all__ = ["RESULTS", "Loop", "Traced", "traced"]

RESULTS = ("value", "residual", "steps", "status")
"""What every run comes to."""


class Loop(NamedTuple):
    """A run in three programs: its trial's start, and these two.

    Attributes:
      step: ``(constants, state) -> (state, done)``.
      finish: ``(constants, state) -> outputs``.
      states: how many arrays the state is; the start returns them, then the constants of the step,
        then those of the finish.
      constants: how many the step has.
      count: which array of the state counts the evaluations.
      status: which array of the state is the status.
      max_steps: the run's.
    """

    step: Jaxpr
    finish: Jaxpr
    states: int
    constants: int
    count: int
    status: int
    max_steps: int


class Traced(NamedTuple):
    """A trial as programs.

    Attributes:
      program: from the arrays of one point to the outputs, or to what a loop starts from.
      outputs: the structure of the outputs, a dict by name.
      strides: for each recorded variable, the steps between its rows.
      loop: what comes after the start, for runs that go through lanes; else None.
      unchecked: whether the outputs are followed by a truth value, whether they can be trusted: see
        `gdjax.runs.unchecked`.
    """

    program: ClosedJaxpr
    outputs: Any
    strides: dict[str, int]
    loop: Loop | None
    unchecked: bool = False

    @property
    def parts(self) -> tuple[ClosedJaxpr | Jaxpr, ...]:
        """All its programs."""
        return (self.program,) if self.loop is None else (self.program, self.loop.step, self.loop.finish)

    @property
    def shapes(self) -> dict[str, ShapedArray]:
        """For each output its shape and type in one run."""
        avals = self.program.out_avals if self.loop is None else [v.aval for v in self.loop.finish.outvars]
        return jax.tree.unflatten(self.outputs, avals[: self.outputs.num_leaves])


def _part(key: Any) -> str:
    match key:
        case DictKey(name) | FlattenedIndexKey(name):
            return str(name)
        case GetAttrKey(name):
            return name
        case SequenceKey(index):
            return str(index)
    return str(key)


def _named(tree: Any, bare: str, prefix: str = "") -> dict[str, jax.Array]:
    """The leaves of a tree by their paths: ``a``, ``layer.weights``; a bare array is called ``bare``."""
    found = {}
    for path, leaf in tree_flatten_with_path(tree)[0]:
        name = prefix + ".".join(_part(key) for key in path) if path else bare
        try:
            found[name] = jnp.asarray(leaf)
        except TypeError:
            raise TypeError(
                f"sweep: trial returned a {type(leaf).__name__} ({name}); "
                "it must return a gdjax.Run or arrays"
            ) from None
    return found


def _arrays(outcome: Any) -> dict[str, jax.Array]:
    """What a trial without a run returned."""
    named = _named(outcome, "result")
    if not named:
        raise TypeError(f"sweep: trial returned {outcome!r}; it must return a gdjax.Run or arrays")
    return named


def _results(run: Run, result: Any, params: bool, strides: dict[str, int]) -> dict[str, jax.Array]:
    """What a run came to as named arrays; notes the strides of what was recorded."""
    found = {name: getattr(result, name) for name in RESULTS}
    if result.trace is not None:
        trace = _named(result.trace, "trace")
        taken = sorted(set(trace) & {*RESULTS, "params", "step"})
        if taken:
            raise ValueError(
                f"sweep: record names a trace {taken[0]!r}, which is a result's name; "
                f"call it {taken[0] + 's'!r}"
            )
        strides.update(dict.fromkeys(trace, 1 if run.record is None else run.record.stride))
        found |= trace
    if params:
        found |= _named(result.params, "params", "params.")
    return found


def traced(
    one: Callable[..., PyTree], point: list[PyTree], params: bool, apart: Callable[[Run], bool]
) -> Traced:
    """Calls the trial once.

    What a run's step and result close over, axes among them, become constants that the start returns: the
    start is called again wherever a lane takes a new run, the step and the finish are the same for all.

    Args:
      one: the trial as a function of one point.
      point: for each array axis ``jax.ShapeDtypeStruct`` leaves.
      params: whether the results' params are outputs.
      apart: which runs are taken apart, to go through lanes.
    """
    strides: dict[str, int] = {}
    notes: dict[str, Any] = {}

    def start(*point):
        outcome = one(*point)
        if not isinstance(outcome, Run):
            return _arrays(outcome)
        run = outcome
        if not apart(run):
            divided = unchecked.solve(run)
            if divided is not None:
                result, finite = divided
                found = _results(run, result, params, strides)
                notes["outputs"], notes["unchecked"] = jax.tree.structure(found), True
                return found, finite
            result = run.solve() if run.stop is None else run.looped()
            return _results(run, result, params, strides)
        state = run.init()
        leaves, structure = jax.tree.flatten(state)

        def step(*leaves):
            after = run.step(jax.tree.unflatten(structure, leaves))
            return *jax.tree.leaves(after), run.done(after)

        def finish(*leaves):
            return _results(run, run.result(jax.tree.unflatten(structure, leaves)), params, strides)

        stepping = jax.make_jaxpr(step)(*leaves)
        finishing, outputs = jax.make_jaxpr(finish, return_shape=True)(*leaves)
        notes["outputs"] = jax.tree.structure(outputs)
        places = jax.tree.unflatten(structure, range(len(leaves)))
        notes["loop"] = Loop(
            jaxprs.opened(stepping),
            jaxprs.opened(finishing),
            len(leaves),
            len(stepping.consts),
            places.count,
            places.status,
            run.max_steps,
        )
        return leaves, stepping.consts, finishing.consts

    program, shape = jax.make_jaxpr(start, return_shape=True)(*point)
    outputs = notes.get("outputs", jax.tree.structure(shape))
    return Traced(program, outputs, strides, notes.get("loop"), notes.get("unchecked", False))


def recovering(one: Callable[..., PyTree], params: bool) -> Callable[..., dict[str, jax.Array]]:
    """What a run that was lost came to: ``(point, rows) -> outputs``, given what `traced` made of its trace.

    Args:
      one: the trial as a function of one point.
      params: whether the results' params are outputs.
    """

    def recover(point, rows):
        run = one(*point)
        return _results(run, unchecked.recover(run, rows), params, {})

    return recover
