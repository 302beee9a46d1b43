"""Small tools for pytrees that neither JAX nor optax has."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax.types import Answer, Params, Scalar

__all__ = [
    "Count",
    "all_equal",
    "all_finite",
    "callables_as_trees",
    "choose",
    "flat",
    "keep_types",
    "norm",
    "own_answer",
    "size",
    "strong",
]


@jax.tree_util.register_static
class Count(int):
    """An integer that is part of the program, like a shape: a pytree without leaves."""


def callables_as_trees(tree: Any) -> Any:
    """Wraps bare functions in ``Partial``, so that the tree may cross ``jit`` and ``vmap``."""
    return jax.tree.map(lambda leaf: Partial(leaf) if callable(leaf) else leaf, tree)


def _weak(leaf: Any) -> bool:
    return getattr(leaf, "weak_type", False)


def strong(tree: Any) -> Any:
    """Turns numbers and weakly typed arrays into arrays of a definite type."""

    def one(leaf):
        leaf = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        return jax.lax.convert_element_type(leaf, leaf.dtype) if _weak(leaf) else leaf

    return jax.tree.map(one, tree)


def keep_types(new: Any, old: Any) -> Any:
    """Casts the leaves of ``new`` to the types of ``old``: a loop's state keeps its types."""

    def one(n, o):
        same = getattr(n, "dtype", None) == o.dtype and not _weak(n)
        return n if same else jnp.asarray(n, o.dtype)

    return jax.tree.map(one, new, old)


def choose(condition: Scalar, yes: Any, no: Any) -> Any:
    """``yes`` where the condition holds, else ``no``, leaf by leaf."""
    return jax.tree.map(lambda y, n: jnp.where(condition, y, n), yes, no)


def _all(conditions: list[Scalar]) -> Scalar:
    return conditions[0] if len(conditions) == 1 else jnp.all(jnp.stack(conditions))


def all_finite(tree: Params) -> Scalar:
    """Whether every number in the tree is finite."""
    return _all([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def all_equal(a: Params, b: Params) -> Scalar:
    """Whether two trees hold the same numbers."""
    return _all(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.all(x == y), a, b)))


def size(tree: Params) -> int:
    """How many numbers a tree holds."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def flat(tree: Params) -> tuple[jax.Array, Callable]:
    """The tree as one vector of float32 at least, and the way back."""
    vector, back = ravel_pytree(tree)
    dtype = jnp.promote_types(vector.dtype, jnp.float32)
    return vector.astype(dtype), lambda v: back(v.astype(vector.dtype))


def norm(tree: Params) -> Scalar:
    """The 2-norm over all leaves, accumulated in float32 at least."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def own_answer(state: Any, params: Params) -> Answer | None:
    """The answer that an optimizer keeps for the whole of ``params``, if it keeps one.

    A method around another has the last word: its answer stands for those of what it holds.
    """
    structure = jax.tree.structure(params)
    answers = [
        (path[:-1], answer)
        for path, answer in optax.tree.get_all_with_path(state, "answer")
        if isinstance(answer, Answer) and jax.tree.structure(answer.params) == structure
    ]
    homes = [home for home, _ in answers]
    found = [
        answer
        for home, answer in answers
        if not any(len(other) < len(home) and home[: len(other)] == other for other in homes)
    ]
    if len(found) > 1:
        raise ValueError(
            f"the optimizer keeps {len(found)} answers for the same params: chain at most one "
            "method that proposes trial points (trust region, line search, proximal, ...)"
        )
    return found[0] if found else None
