"""Compiling: how long it may take is a matter of what the program is worth."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from gdjax import jaxprs

__all__ = ["jit"]

PLENTY = 2**30
"""Bytes gone through beyond which a program's own speed counts for more than the compiler's."""

_QUICK = {"xla_cpu_use_fusion_emitters": False}
"""XLA's older way to compile what it has fused: in about half the time, to programs that are somewhat slower."""


@functools.cache
def _understood() -> bool:
    """Whether this version of XLA knows the option."""
    try:
        jax.jit(lambda: 0, compiler_options=_QUICK)()
    except Exception:  # which one depends on the version
        return False
    return True


def _outermost(*leaves: Any) -> bool:
    """Whether no transformation is under way: options are taken at the top only."""
    here = jax.lax.neg(np.int32(0))
    return not any(isinstance(leaf, Tracer) for leaf in (here, *leaves))


def jit(function: Callable[[Any], Any], times: Callable[[Any], int]) -> Callable[[Any], Any]:
    """``jax.jit`` of a function of one pytree, which compiles what is small in half the time.

    Only on a processor, and only at the top: inside another ``jit`` or a ``vmap`` it is ``jax.jit``.

    Args:
      function: what is compiled.
      times: of the same pytree, how often its program goes through what it holds.
    """
    plain, quick = jax.jit(function), jax.jit(function, compiler_options=_QUICK)
    sizes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def call(tree: Any) -> Any:
        if jax.default_backend() != "cpu" or jax.config.values["jax_disable_jit"]:
            return plain(tree)
        leaves = jax.tree.leaves(tree)
        if not _outermost(*leaves) or not _understood():
            return plain(tree)
        program = plain.trace(tree).jaxpr
        alone = len(program.jaxpr.invars) == len(leaves) and _outermost(*program.consts)
        if not alone:  # the function closes over what a transformation looks through
            return plain(tree)
        if program.jaxpr not in sizes:
            sizes[program.jaxpr] = jaxprs.attempt(jaxprs.working_set, program.jaxpr, otherwise=PLENTY)
        return (quick if sizes[program.jaxpr] * times(tree) < PLENTY else plain)(tree)

    return call
