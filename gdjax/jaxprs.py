"""Programs as JAX writes them down.

``ClosedJaxpr``, ``Jaxpr``, ``Literal`` and ``jaxpr_as_fun`` are those of ``jax.extend.core``, imported when one
is first used: the import is a twentieth of JAX's.
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["evaluate", "inside", "nbytes", "working_set"]

_NAMES = ("ClosedJaxpr", "Jaxpr", "Literal", "jaxpr_as_fun")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import jax.extend.core

    return getattr(jax.extend.core, name)


def evaluate(program: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """What a ``Jaxpr`` comes to, given the values of its constants and of its inputs."""
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

    return jaxpr_as_fun(ClosedJaxpr(program, constants))(*arguments)


def nbytes(aval: Any) -> int:
    """Bytes of an array of this abstract value."""
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)


def inside(eqn: Any) -> list[Any]:
    """The programs that an equation calls: the body of a loop, the branches of a condition."""
    from jax.extend.core import ClosedJaxpr, Jaxpr

    found = []
    for value in eqn.params.values():
        for leaf in value if isinstance(value, tuple | list) else (value,):
            if isinstance(leaf, ClosedJaxpr):
                leaf = leaf.jaxpr
            if isinstance(leaf, Jaxpr):
                found.append(leaf)
    return found


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
