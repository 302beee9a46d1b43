"""Small tools for pytrees that neither JAX nor optax has."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gdjax._internal import control_flow
from gdjax.types import Answer, Optimality, Params, Scalar, Transformation

_BITS = {32: (jnp.uint32, 0x7F800000), 64: (jnp.uint64, 0x7FF0000000000000)}
"""Integers that hold a number of so many bits, and where its exponent is."""

__all__ = [
    "Count",
    "alike",
    "all_equal",
    "all_finite",
    "at_most",
    "callables_as_trees",
    "choose",
    "distance",
    "field",
    "flat",
    "home_of",
    "homes",
    "in_parts",
    "keep_types",
    "largest",
    "length",
    "norm",
    "optimality",
    "own_answer",
    "power_of_two",
    "replicated",
    "size",
    "strong",
    "unaliased",
    "unit",
    "value_type",
    "with_settings",
]


@jax.tree_util.register_static
class Count(int):
    """An integer that is part of the program, like a shape: a pytree without leaves."""


def callables_as_trees(tree: Any) -> Any:
    """Wraps bare functions in ``Partial``, so that the tree may cross ``jit`` and ``vmap``."""
    leaves, structure = jax.tree.flatten(tree)
    if not any(
        map(callable, leaves)
    ):  # the common case: a tree is taken apart in less time than it is put together
        return tree
    return jax.tree.unflatten(structure, [Partial(leaf) if callable(leaf) else leaf for leaf in leaves])


def _weak(leaf: Any) -> bool:
    return getattr(leaf, "weak_type", False)


def strong(tree: Any) -> Any:
    """Turns numbers and weakly typed arrays into arrays of a definite type; an `Optimality` stays as it is.

    What that binds are settings, and takes part in the arithmetic of others as the numbers that were given.
    """

    def one(leaf):
        if isinstance(leaf, Optimality):
            return leaf
        leaf = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        return jax.lax.convert_element_type(leaf, leaf.dtype) if _weak(leaf) else leaf

    return jax.tree.map(one, tree, is_leaf=lambda node: isinstance(node, Optimality))


def keep_types(new: Any, old: Any) -> Any:
    """Casts the leaves of ``new`` to the types of ``old``: a loop's state keeps its types."""

    def one(n, o):
        if n is o or not hasattr(o, "dtype"):
            return n
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


def at_most(count: Any, limit: int) -> bool:
    """Whether a size is known to be at most ``limit``; a symbolic one (`jax.export`) is not."""
    return isinstance(count, int | np.integer) and bool(count <= limit)


def unaliased(tree: Any, *others: Any) -> Any:
    """The same numbers, no buffer twice and none of ``others``: a tree that may be donated."""
    taken = {_buffer(leaf) for leaf in jax.tree.leaves(others)}

    def one(leaf):
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
            return leaf
        leaf = jnp.copy(leaf) if _buffer(leaf) in taken else leaf
        taken.add(_buffer(leaf))
        return leaf

    return jax.tree.map(one, tree)


def in_parts(leaf: jax.Array) -> bool:
    """Whether an array's type says that devices hold parts of it: on a mesh with explicit axes."""
    spec = getattr(getattr(jax.typeof(leaf), "sharding", None), "spec", ())
    return any(name is not None for name in spec)


def replicated(tree: Any) -> Any:
    """The same arrays, whole on every device: dense linear algebra along an axis in parts asks for that."""

    def one(leaf):
        return jax.sharding.reshard(leaf, jax.sharding.PartitionSpec()) if in_parts(leaf) else leaf

    return jax.tree.map(one, tree)


def _buffer(leaf: Any) -> int:
    """Where an array lies in memory; which object it is where that is not one place."""
    try:
        return leaf.unsafe_buffer_pointer()
    except (
        Exception
    ):  # a tracer, a number, random keys, an array on several devices: each says no in its own way
        return id(leaf)


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
    return jnp.where(number > 0, jax.lax.clamp(number.dtype.type(low), power, number.dtype.type(high)), 1)


def unit(vector: jax.Array) -> tuple[Scalar, Scalar]:
    """A power of two about the mean size of the entries, and whether all of them are finite.

    Squares of the vector over its unit neither overflow nor vanish. A mean is a sum, which a processor takes several
    times as fast as a maximum; divided by the number of entries before, it does not overflow.
    """
    if isinstance(vector.size, int):
        share = 2.0 ** -max(vector.size - 1, 0).bit_length()
    else:  # symbolic, in jax.export
        share = 1 / jnp.asarray(vector.size, vector.dtype)
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


def largest(tree: Params) -> Scalar:
    """The size of the largest entry, in the widest type of the tree and float32 at least."""
    leaves = jax.tree.leaves(tree)
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
    sizes = [jnp.max(jnp.abs(leaf), initial=0).astype(dtype) for leaf in leaves]
    return sizes[0] if len(sizes) == 1 else jnp.max(jnp.stack(sizes))


def distance(a: Params, b: Params) -> Scalar:
    """The largest difference between entries of two trees, in the widest type of them and float32 at least."""
    return largest(jax.tree.map(jnp.subtract, a, b))


def with_settings(init: Callable, update: Callable, settings: Any) -> Transformation:
    """The transformation of ``init(settings, params)`` and ``update(settings, updates, state, params, ...)``.

    It is a pytree of its settings, so that numbers among them cross ``jit`` and ``vmap`` as arrays.
    """
    settings = callables_as_trees(settings)
    return optax.GradientTransformationExtraArgs(Partial(init, settings), Partial(update, settings))


def optimality(settings: Any, conditions: Callable, penalty: Callable | None = None) -> Optimality:
    """An `Optimality` of functions of module scope, whose buffers are its own: a state may be donated."""

    def own(leaf):
        known = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        return leaf.copy() if known else jnp.asarray(leaf)

    settings = jax.tree.map(own, callables_as_trees(settings))
    return Optimality(settings, Partial(conditions), None if penalty is None else Partial(penalty))


def value_type(dtype: Any) -> Any:
    """The type that values are kept in beside params of a type: the widest that JAX has turned on.

    An objective may compute in float64 from float32 params.
    """
    widest = jax.dtypes.canonicalize_dtype(jnp.float64)
    return widest if jnp.finfo(widest).bits >= jnp.finfo(dtype).bits else jnp.dtype(dtype)


def field(node: Any, name: str, kind: type) -> Any:
    """What a state holds under a reserved name, if it is of its kind."""
    found = node.get(name) if isinstance(node, dict) else getattr(node, name, None)
    return found if isinstance(found, kind) else None


def homes(state: Any, fits: Callable[[Params], bool]) -> list[Any]:
    """The nodes of a state that hold an `Answer` for params that fit, the outermost of each branch."""

    def home(node):
        answer = field(node, "answer", Answer)
        return answer is not None and fits(answer.params)

    return [node for node in jax.tree.leaves(state, is_leaf=home) if home(node)]


def alike(a: Params, b: Params) -> bool:
    """Whether two trees have the same structure and shapes."""
    same = jax.tree.structure(a) == jax.tree.structure(b)
    return same and jax.tree.all(jax.tree.map(lambda x, y: jnp.shape(x) == jnp.shape(y), a, b))


def home_of(state: Any, params: Params) -> Any:
    """The part of an optimizer's state that holds the answer for the whole of ``params``; None if it keeps none.

    A method around another has the last word: its answer stands for those of what it holds.
    """
    found = homes(state, lambda kept: alike(kept, params))
    if len(found) > 1:
        raise ValueError(
            f"the optimizer keeps {len(found)} answers for the same params: chain at most one "
            "method that proposes trial points (trust region, line search, proximal, ...)"
        )
    return found[0] if found else None


def own_answer(state: Any, params: Params) -> Answer | None:
    """The answer that an optimizer keeps for the whole of ``params``, if it keeps one."""
    home = home_of(state, params)
    return None if home is None else field(home, "answer", Answer)
