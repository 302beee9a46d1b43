"""What has been traced and compiled for a trial, kept for the next call and forgotten with the trial."""

import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import jax

from gdjax.types import PyTree

__all__ = ["KEPT", "PROGRAMS", "TRACES", "case", "forget", "kept_for"]


class _Identity:
    """A key for what has no hash; keeps the object alive, so that its id is not given away."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other: Any):
        return isinstance(other, _Identity) and self.value is other.value


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value


def _settings() -> tuple[Any, ...]:
    """The settings of JAX that change what a program computes."""
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_default_prng_impl,
        config.jax_debug_nans,
        config.jax_default_device,
    )


KEPT = 64
"""Programs kept for each trial; the one not used for longest goes first."""

PROGRAMS: weakref.WeakKeyDictionary[Any, OrderedDict[Any, Any]] = weakref.WeakKeyDictionary()
TRACES: weakref.WeakKeyDictionary[Any, OrderedDict[Any, Any]] = weakref.WeakKeyDictionary()


def kept_for(
    trial: object, among: weakref.WeakKeyDictionary[Any, OrderedDict[Any, Any]]
) -> OrderedDict[Any, Any]:
    """What is kept for a trial; a new dict, for this call only, where the trial cannot be held weakly."""
    try:
        return among.setdefault(trial, OrderedDict())
    except TypeError:  # no weak reference or no hash
        return OrderedDict()


def forget(kept: OrderedDict[Any, Any]) -> None:
    """Forgets what was not used for longest."""
    while len(kept) > KEPT:
        kept.popitem(last=False)


def case(fixed: dict[str, Any], names: list[str], values: list[PyTree], *options: Hashable) -> Hashable:
    """What decides over a program."""
    leaves, structure = jax.tree.flatten(values)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    choices = tuple((name, _key(value)) for name, value in fixed.items())
    return choices, tuple(names), structure, shapes, options, _settings()
