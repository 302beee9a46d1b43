"""The names of ``jax.extend.core``, imported when one is first used: the import is a twentieth of JAX's."""

from typing import Any

_NAMES = ("ClosedJaxpr", "Jaxpr", "Literal", "jaxpr_as_fun")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import jax.extend.core

    return getattr(jax.extend.core, name)
