"""Small tools for pytrees that neither JAX nor optax has."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax import control_flow
from gdjax.types import Answer, Params, Scalar

_BITS = {32: (jnp.uint32, 0x7F800000), 64: (jnp.uint64, 0x7FF0000000000000)}
"""Integers that hold a number of so many bits, and where its exponent is."""

__all__ = [
    "Count",
    "all_equal",
    "all_finite",
    "callables_as_trees",
    "choose",
    "flat",
    "keep_types",
    "length",
    "norm",
    "own_answer",
    "power_of_two",
    "size",
    "strong",
    "unit",
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


def power_of_two(number: Scalar) -> Scalar:
    """The power of two below a positive number, so that dividing by it rounds nothing; one where there is none.

    Kept within two of the ends of the range, where the reciprocal is a normal number too.
    """
    info = jnp.finfo(number.dtype)
    integer, mask = _BITS[info.bits]
    bits = jax.lax.bitcast_convert_type(number, integer) & integer(mask)
    power = jax.lax.bitcast_convert_type(bits, number.dtype)
    low, high = 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3)
    return jnp.where((number > 0) & jnp.isfinite(number), jnp.clip(power, low, high), 1)


def unit(vector: jax.Array) -> tuple[Scalar, Scalar]:
    """A power of two about the mean size of the entries, and whether all of them are finite.

    Squares of the vector over its unit neither overflow nor vanish. A mean is a sum, which a processor takes several
    times as fast as a maximum; divided by the number of entries before, it does not overflow.
    """
    share = 2.0 ** -max(vector.size - 1, 0).bit_length()
    mean = jnp.sum(jnp.abs(vector) * share)
    return power_of_two(mean), jnp.isfinite(mean)


def length(vector: jax.Array) -> Scalar:
    """The 2-norm of one vector by its `unit`: where `norm` takes a branch, two sums."""
    size, _ = unit(vector)
    return size * jnp.sqrt(jnp.sum(jnp.square(vector / size)))


def norm(tree: Params) -> Scalar:
    """The 2-norm over all leaves, accumulated in float32 at least; squares out of range do no harm."""
    leaves = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(tree)]

    def root(scale):
        squares = [jnp.sum(jnp.square(leaf * scale.astype(leaf.dtype))) for leaf in leaves]
        return jnp.sqrt(sum(squares[1:], squares[0]))

    def scaled():
        wide = jnp.result_type(*leaves)
        units = jnp.stack([unit(leaf)[0].astype(wide) for leaf in leaves])
        largest = jax.lax.stop_gradient(jnp.max(units))
        return largest.astype(plain.dtype) * root(1 / largest)

    plain = root(jnp.ones((), jnp.float32))
    info = jnp.finfo(plain.dtype)
    # Squares up to n eps below what is summed may be lost without loss: the range is left well before its ends.
    usual = (plain > float(info.tiny) ** 0.4) & (plain < jnp.inf)
    return control_flow.cond(usual, lambda: plain, scaled)


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
