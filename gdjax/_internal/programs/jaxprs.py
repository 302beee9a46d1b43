"""Programs as JAX writes them down.

``ClosedJaxpr``, ``Jaxpr``, ``Literal`` and ``jaxpr_as_fun`` are those of ``jax.extend.core``, imported when one
is first used: the import is a twentieth of JAX's.

JAX may name the parameters of its operations anew from one version to the next. What gdjax knows of them is in this
room, and says None where it finds something else than it expects: whoever asks then goes without. Each of these
expectations has a test by its name in ``tests/test_jax_assumptions.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax

__all__ = [
    "CALLS",
    "REMATERIALIZED",
    "MOVES",
    "Program",
    "Scan",
    "attempt",
    "called",
    "contracted",
    "evaluate",
    "inside",
    "moving",
    "nbytes",
    "opened",
    "scan_parts",
    "used",
    "work",
    "working_set",
]

_T = TypeVar("_T")

_NAMES = ("ClosedJaxpr", "Jaxpr", "Literal", "jaxpr_as_fun")

CALLS = frozenset({"jit", "pjit", "closed_call", "core_call"})
"""Calls that are done in place."""

REMATERIALIZED = frozenset({"checkpoint", "remat", "remat2"})
"""Calls whose inside is done again for derivatives."""

MOVES = {
    "add_any": frozenset(),
    "broadcast_in_dim": frozenset({"shape", "broadcast_dimensions"}),
    "concatenate": frozenset({"dimension"}),
    "pad": frozenset({"padding_config"}),
    "reduce_sum": frozenset({"axes"}),
    "reshape": frozenset({"new_sizes"}),
    "rev": frozenset({"dimensions"}),
    "slice": frozenset({"start_indices", "limit_indices", "strides"}),
    "squeeze": frozenset({"dimensions"}),
    "transpose": frozenset({"permutation"}),
}
"""Operations that only move elements, or add them up, with the parameters that say how."""


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import jax.extend.core

    return getattr(jax.extend.core, name)


def evaluate(program: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """What a ``Jaxpr`` comes to, given the values of its constants and of its inputs."""
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

    return jaxpr_as_fun(ClosedJaxpr(program, constants))(*arguments)


def opened(closed: Any) -> Any:
    """The program of a ``ClosedJaxpr`` without the values of its constants, for `evaluate`.

    From JAX 0.12 on a ``Jaxpr`` is closed itself, and holds on to values that may be tracers.
    """
    program = closed.jaxpr
    if not getattr(program, "consts", None):
        return program
    return program.replace(constvars=[], invars=[*program.constvars, *program.invars])


class Scan(NamedTuple):
    """The parts of a ``scan``, whose inputs are constants, what is carried, and what is gone through, in this order.

    Attributes:
      body: the program of a step.
      constants: how many inputs are the same at every step.
      carried: how many inputs and outputs go from one step to the next.
      length: how many steps.
    """

    body: Any
    constants: int
    carried: int
    length: int


def _shaped(atoms: Sequence[Any]) -> list[Any]:
    return [(getattr(atom.aval, "shape", None), getattr(atom.aval, "dtype", None)) for atom in atoms]


def _kept(outer: list[Any], inner: list[Any], length: int) -> int | None:
    """How many arrays a ``scan`` hands on whole; all others, which follow, it takes or makes row by row."""
    kept = sum(a == b for a, b in zip(outer, inner, strict=True))
    rows = [((length, *shape), dtype) if shape is not None else None for shape, dtype in inner[kept:]]
    return kept if outer == [*inner[:kept], *rows] else None


def used(function: Callable[..., Any], *arguments: Any) -> list[bool]:
    """For each array of the arguments whether the function may depend on it: what it hands to a call, it may."""
    from jax.extend.core import Literal

    program = jax.make_jaxpr(function)(*arguments).jaxpr
    atoms = [atom for eqn in program.eqns for atom in eqn.invars] + list(program.outvars)
    read = {atom for atom in atoms if not isinstance(atom, Literal)}
    return [var in read for var in program.invars]


def scan_parts(eqn: Any) -> Scan | None:
    """Takes a ``scan`` apart by its shapes: an array that it goes through has an axis more outside than inside.

    Returns:
      Its parts; None where the equation is something else, or not made as expected.
    """
    programs, length = inside(eqn), eqn.params.get("length")
    if eqn.primitive.name != "scan" or len(programs) != 1 or not isinstance(length, int):
        return None
    body = programs[0]
    if (len(eqn.invars), len(eqn.outvars)) != (len(body.invars), len(body.outvars)):
        return None
    given, made = _shaped(body.invars), _shaped(body.outvars)
    kept, carried = _kept(_shaped(eqn.invars), given, length), _kept(_shaped(eqn.outvars), made, length)
    if kept is None or carried is None or given[max(kept - carried, 0) : kept] != made[:carried]:
        return None
    return Scan(body, kept - carried, carried, length)


class Program:
    """A function as JAX writes it down, called with what it closes over as its first argument.

    Args:
      function: what is traced.
      arguments: what it is traced with.

    Attributes:
      constants: what the function closes over.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self.jaxpr, self.constants = opened(program), program.consts
        self.structure = jax.tree.structure(shape)

    def __call__(self, constants: Any, *arguments: Any) -> Any:
        found = evaluate(self.jaxpr, constants, jax.tree.leaves(arguments))
        return jax.tree.unflatten(self.structure, found)


def nbytes(aval: Any) -> int:
    """Bytes of an array of this abstract value."""
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)


def _programs(eqn: Any) -> list[tuple[Any, Sequence[Any]]]:
    """The programs among an equation's parameters, with the values of their constants."""
    from jax.extend.core import ClosedJaxpr, Jaxpr

    found = []
    for value in eqn.params.values():
        for leaf in value if isinstance(value, tuple | list) else (value,):
            if isinstance(leaf, ClosedJaxpr):
                found.append((leaf.jaxpr, leaf.consts))
            elif isinstance(leaf, Jaxpr):
                found.append((leaf, ()))
    return found


def inside(eqn: Any) -> list[Any]:
    """The programs that an equation calls: the body of a loop, the branches of a condition."""
    return [program for program, _ in _programs(eqn)]


def called(eqn: Any, names: Sequence[str] | frozenset[str] = CALLS) -> tuple[Any, Sequence[Any]] | None:
    """The program that a call does once, in place, and the values of its constants.

    Args:
      eqn: an equation.
      names: of the operations that count as such calls.

    Returns:
      None where the equation is something else, or not made as expected.
    """
    programs = _programs(eqn) if eqn.primitive.name in names else []
    if len(programs) != 1:
        return None
    program = programs[0][0]
    same = _shaped(eqn.invars) == _shaped(program.invars) and _shaped(eqn.outvars) == _shaped(program.outvars)
    return programs[0] if same else None


def contracted(eqn: Any) -> tuple[Any, Any] | None:
    """The axes over which a ``dot_general`` adds up, of either operand, and those that both count alike.

    Returns:
      None where the equation is something else, or not made as expected.
    """
    numbers = eqn.params.get("dimension_numbers")
    if eqn.primitive.name != "dot_general" or not isinstance(numbers, tuple):
        return None
    pairs = [isinstance(pair, tuple) and [len(pair), len(pair[0])] == [2, len(pair[1])] for pair in numbers]
    return numbers if pairs == [True, True] else None


def moving(eqn: Any) -> bool:
    """Whether an operation that moves elements, or adds them up, has the parameters that are read, and no others."""
    read = MOVES.get(eqn.primitive.name)
    if read is None or not read <= eqn.params.keys():
        return False
    return all(value is None for name, value in eqn.params.items() if name not in read)


def attempt(read: Callable[..., _T], *arguments: Any, otherwise: _T) -> _T:
    """What reading a program gives; ``otherwise`` where JAX has written it down in a way that is not expected."""
    try:
        return read(*arguments)
    except (AttributeError, ImportError, LookupError, TypeError, ValueError):
        return otherwise


def working_set(program: Any) -> int:
    """Bytes that a program keeps at hand: what its largest loop carries, and the largest array it makes."""
    carried = largest = 0
    eqn: Any
    for eqn in program.eqns:
        sizes = [nbytes(var.aval) for var in eqn.outvars]
        if eqn.primitive.name == "while":
            carried = max(carried, sum(sizes))
        largest = max(largest, *sizes, *map(working_set, inside(eqn)), 0)
    return carried + largest


_TURNS = 8
"""How often a loop without a known end goes round inside another: most are iterations that converge quickly."""


def work(program: Any, times: int) -> int:
    """About how many numbers a program makes, with so many turns of its outermost loops."""
    total = 0
    for eqn in program.eqns:
        name, turns, inner = eqn.primitive.name, 1, times
        if name in ("scan", "while"):
            turns, inner = eqn.params.get("length", times), _TURNS
        total += sum(getattr(var.aval, "size", 0) for var in eqn.outvars)
        total += turns * sum(work(one, inner) for one in inside(eqn))
    return total
