"""Loops and branches of `jax.lax` that also trace inside ``jax.shard_map``.

There the type of an array says over which axes of the mesh it varies, and what a loop carries, or what two
branches return, must agree in it. A constant does not vary and what is computed from a shard does, so that
``while_loop(..., (x, 0))`` is refused where the body adds an entry of ``x`` to the zero. The functions here
first find, abstractly, over which axes each leaf comes to vary, and cast it. Outside of ``shard_map`` they are
those of `jax.lax`.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

__all__ = [
    "cond",
    "fori_loop",
    "inside_shard_map",
    "one_program",
    "scan",
    "unchecked",
    "vary_like",
    "vary_with",
    "while_loop",
]

_checked = contextvars.ContextVar("checked", default=True)

one_program = functools.partial(jax.jit, inline=True)
"""Compiles what a function of arrays does as one program where it is called by itself; elsewhere it changes nothing.

Else each of its operations is a program, compiled when it is first met, and a loop is compiled anew at each call.
"""


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """For tracing under ``shard_map(..., check_vma=False)``, where types do not say what varies."""
    token = _checked.set(False)
    try:
        yield
    finally:
        _checked.reset(token)


def inside_shard_map() -> bool:
    """Whether what is traced is inside ``jax.shard_map`` with checks of what varies."""
    return bool(_checked.get() and getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ()))


def _varying(leaf: Any) -> frozenset[str]:
    """The axes of the mesh over which an array varies; none where its type does not say."""
    aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    kind = getattr(aval, "manual_axis_type", None)  # later versions of JAX; earlier ones have vma
    return frozenset(getattr(aval, "vma", None) or () if kind is None else kind.varying)


def _axes(*trees: Any, also: frozenset[str] = frozenset()) -> list[frozenset[str]]:
    """For each leaf the axes over which it varies in one of the trees."""
    leaves = zip(*map(jax.tree.leaves, trees), strict=True)
    return [also.union(*map(_varying, each)) for each in leaves]


def _cast(tree: Any, axes: list[frozenset[str]]) -> Any:
    """The tree, varying over these axes."""

    def one(leaf, wanted):
        missing = tuple(sorted(wanted - _varying(leaf)))
        if not missing:
            return leaf
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(leaf, missing, to="varying")
        return getattr(jax.lax, "pvary")(leaf, missing)  # noqa: B009 (gone in later versions)

    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [one(leaf, each) for leaf, each in zip(leaves, axes, strict=True)])


def vary_like(tree: Any, other: Any) -> Any:
    """The same numbers, typed as varying over every axis over which the leaves of ``other`` vary."""
    return _cast(tree, _axes(tree, other)) if inside_shard_map() else tree


def vary_with(tree: Any, function: Callable[[Any], Any]) -> Any:
    """The same numbers, each typed as varying over the axes over which a scalar function of them does."""
    if not inside_shard_map():
        return tree
    return _cast(tree, _axes(tree, also=_varying(jax.eval_shape(function, tree))))


def _carry(step: Callable[[Any], Any], goes_on: Callable[[Any], Any] | None, init: Any) -> Any:
    """The first carry of a loop, varying as it does after any number of steps."""
    while True:  # ends: each round adds an axis to a leaf
        test = frozenset() if goes_on is None else _varying(jax.eval_shape(goes_on, init))
        after = _axes(init, jax.eval_shape(step, init), also=test)
        if after == _axes(init):
            return init
        init = _cast(init, after)


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """`jax.lax.cond`; what it returns varies as either branch and the condition do."""
    if not inside_shard_map():
        return jax.lax.cond(pred, true_fun, false_fun, *operands)
    found = [jax.eval_shape(branch, *operands) for branch in (true_fun, false_fun)]
    axes = _axes(*found, also=_varying(pred))
    return jax.lax.cond(
        pred,
        lambda *given: _cast(true_fun(*given), axes),
        lambda *given: _cast(false_fun(*given), axes),
        *operands,
    )


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any) -> Any:
    """`jax.lax.while_loop`."""
    if inside_shard_map():
        init = _carry(body_fun, cond_fun, init)
        axes = _axes(init)
        return jax.lax.while_loop(cond_fun, lambda state: _cast(body_fun(state), axes), init)
    return jax.lax.while_loop(cond_fun, body_fun, init)


def fori_loop(lower: int, upper: int | jax.Array, body_fun: Callable[[Any, Any], Any], init: Any) -> Any:
    """`jax.lax.fori_loop`."""
    if inside_shard_map():
        init = _carry(lambda state: body_fun(jax.numpy.int32(lower), state), None, init)
        axes = _axes(init)
        return jax.lax.fori_loop(lower, upper, lambda i, state: _cast(body_fun(i, state), axes), init)
    return jax.lax.fori_loop(lower, upper, body_fun, init)


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """`jax.lax.scan`."""
    body: Callable[[Any, Any], tuple[Any, Any]] = step
    if inside_shard_map():
        first = jax.tree.map(lambda leaf: leaf[0], xs)
        init = _carry(lambda state: step(state, first)[0], None, init)
        axes = _axes(init)

        def varying(state, x):
            state, y = step(state, x)
            return _cast(state, axes), y

        body = varying

    return jax.lax.scan(body, init, xs, length=length, reverse=reverse, unroll=unroll)
