"""Where the numbers of many runs lie in memory."""

from typing import Any

import jax
from jax.custom_batching import custom_vmap

from gdjax._internal import trees
from gdjax._internal.programs import jaxprs

__all__ = ["runs_last"]

LARGEST = 8
"""The most elements for which the runs are laid out innermost."""


def _constrained(array: jax.Array) -> jax.Array:
    from jax.experimental.layout import Layout, with_layout_constraint  # not cheap to import

    return with_layout_constraint(array, Layout((*range(1, array.ndim), 0)))


def _laid_out(array: jax.Array, batches: int) -> jax.Array:
    @custom_vmap
    def identity(array):
        return jaxprs.attempt(_constrained, array, otherwise=array) if batches == 1 else array

    @identity.def_vmap
    def _(size, batched, array):
        del size, batched
        return _laid_out(array, batches + 1), True

    return identity(array)


@jax.custom_jvp
def _runs_last(array: jax.Array) -> jax.Array:
    return _laid_out(array, 0)


@_runs_last.defjvp
def _(primals, tangents):
    return primals[0], tangents[0]  # left as it is: rules for vmap do not bear a second derivative


def runs_last(tree: Any) -> Any:
    """The same numbers; under one ``vmap``, arrays of a few elements lie element by element, not run by run.

    Compiled loops then go along the many runs and not along the few elements of each.
    """

    def one(leaf):
        small = leaf.ndim and trees.at_most(leaf.size, LARGEST) and leaf.size > 1
        return _runs_last(leaf) if small else leaf

    return jax.tree.map(one, tree)
