"""Names for the types in a result, so that `jax.export` can write down a program that returns it."""

from typing import Any

from gdjax._internal.trees import Count
from gdjax.types import Method

__all__ = ["register"]

_registered: set[type] = set()


def _named_tuples(tree: Any) -> set[type]:
    """The named tuples anywhere in a tree of tuples, lists and dicts."""
    found: set[type] = set()
    if isinstance(tree, dict):
        parts = list(tree.values())
    elif isinstance(tree, tuple | list):
        parts = list(tree)
        if hasattr(tree, "_fields"):
            found.add(type(tree))
    else:
        return found
    return found.union(*map(_named_tuples, parts))


def register(tree: Any) -> None:
    """Names the types of a pytree for `jax.export`, those of optimizer states included.

    A `gdjax.Run` does so for what it returns when it is traced, so that ``export(jit(f))(...).serialize()`` needs
    nothing. A process that reads a program which returns a whole `gdjax.Result`, and has traced none, calls
    this with a result like it (shapes are enough), before ``deserialize``.

    Args:
      tree: what the program takes or returns.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> from gdjax._internal.programs import exporting
      >>> solve = lambda x: gdjax.minimize(lambda x: jnp.sum(x**2), x, gdjax.lbfgs())
      >>> exporting.register(jax.eval_shape(solve, jnp.ones(2)))
    """
    from jax import export  # a millisecond that most runs need not spend

    for kind in _named_tuples(tree) - _registered:
        _once(export.register_namedtuple_serialization, kind)
    for kind, read in ((Method, bytes.decode), (Count, int)):
        if kind not in _registered:
            _once(
                export.register_pytree_node_serialization,
                kind,
                serialize_auxdata=lambda value: str(value).encode(),
                deserialize_auxdata=lambda data, kind=kind, read=read: kind(read(data)),
                from_children=lambda value, children: value,
            )


def _once(register_with: Any, kind: type, **how: Any) -> None:
    _registered.add(kind)
    try:
        register_with(kind, serialized_name=f"{kind.__module__}.{kind.__qualname__}", **how)
    except ValueError:  # its own package, or the user, has named it
        return
