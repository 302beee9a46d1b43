"""Compiling: how long it may take is a matter of what the program is worth."""

import functools
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata

from gdjax._internal.programs import jaxprs, primitives

__all__ = ["compile_briefly", "jit"]

PLENTY = 2**30
"""Bytes gone through beyond which a program's own speed counts for more than the compiler's."""

SMALL = 2**20
"""Bytes that a program keeps at hand, up to which it may be one kernel: those that a core's own cache holds."""

LITTLE = 2**26
"""Numbers that a program makes, up to which it is compiled to machine code as it comes, by judgement: an estimate of
some 2 ns more for each is a tenth of a second, less than what the compiler saves."""

_QUICK = {"xla_cpu_use_fusion_emitters": False}
"""XLA's older way to compile what it has fused: in about half the time, to programs that are somewhat slower."""

_AS_IT_COMES = {
    "xla_backend_optimization_level": 0,
    "xla_disable_hlo_passes": "simplify-while-loops,while-loop-invariant-code-motion",
}
"""Machine code that nothing is done for, and loops as they are written.

LLVM makes code better for about half of the time that a kernel takes to compile; for a quarter XLA asks of each loop,
again after every small change anywhere, what in it might be left out.
"""

_KERNEL = {"xla_cpu_small_call": "true", "inlineable": "false"}
"""Attributes of a call with which XLA compiles what is called to one kernel, loops and branches included.

Else each fusion is a kernel of its own, compiled by itself, and starting it takes longer than most small arrays do. XLA
does so by itself with loops over next to nothing, from version 0.11 of jaxlib on with larger ones.
"""


class _Options(NamedTuple):
    """What is asked of XLA, as far as this version knows it.

    Attributes:
      quick: for small programs.
      quickest: for those that also have little to do.
      kernel: whether a call may be asked to be one kernel.
    """

    quick: dict[str, Any]
    quickest: dict[str, Any]
    kernel: bool


def _accepted(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except Exception:  # which one depends on the version
        return False
    return True


@functools.cache
def _options() -> _Options:
    if _accepted(_QUICK | _AS_IT_COMES):
        return _Options(_QUICK, _QUICK | _AS_IT_COMES, True)
    # From version 0.11 of jaxlib on there are no older emitters.
    return _Options({}, _AS_IT_COMES if _accepted(_AS_IT_COMES) else {}, False)


def _size(program: Any) -> int:
    return jaxprs.attempt(jaxprs.working_set, program, otherwise=PLENTY)


def _pays(program: Any, turns: int) -> bool:
    """Whether the compiler's time counts for more than a program's own speed."""
    return _size(program) * turns < PLENTY


def _pace(program: Any, turns: int) -> str:
    """Which of the `_Options` suits what a program has to do."""
    return "quickest" if jaxprs.attempt(jaxprs.work, program, turns, otherwise=PLENTY) <= LITTLE else "quick"


def _traced(leaves: Iterable[Any]) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in leaves)


_ask = jax.jit(lambda: 0)
"""A program of nothing: started in a tenth of the time of an operation by itself."""


def _outermost() -> bool:
    """Whether no transformation is under way: options are taken at the top only."""
    return not isinstance(_ask(), Tracer)


def _on_one_device(arrays: Iterable[Any]) -> bool:
    """Whether no array lies in parts: devices would speak to each other inside a kernel, over which XLA aborts."""
    return all(len(array.sharding.device_set) == 1 for array in arrays if isinstance(array, jax.Array))


class _Way(NamedTuple):
    """How a program is compiled.

    Attributes:
      first: what is called, with a structure and its leaves.
      otherwise: what is called from then on where XLA cannot compile the first.
    """

    first: Callable[..., Any]
    otherwise: Callable[..., Any] | None = None


def _touched(leaf: jax.Array) -> jax.Array:
    """A number that no compiler knows without the array."""
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return jnp.any(jnp.ravel(data)[:1] != 0)


def _one_kernel(plain: Any, options: dict[str, Any]) -> Callable[..., tuple[Any, jax.Array]]:
    """The program of a pytree as one kernel: what it comes to, and a truth value that means nothing.

    Args:
      plain: ``jax.jit`` of a function of the pytree.
      options: what else is asked of XLA.
    """

    @partial(jax.jit, static_argnums=0, compiler_options=options)
    def call(structure: Any, *leaves: Any) -> tuple[Any, jax.Array]:
        traced = plain.trace(
            jax.tree.unflatten(structure, leaves)
        )  # kept by JAX from when this way was chosen
        program = traced.jaxpr

        @jax.jit
        def body(*leaves: Any) -> tuple[list[Any], jax.Array]:
            with set_xla_metadata(**dict.fromkeys(_KERNEL)):  # of the call, not of the calls in it
                # XLA aborts over an argument that nothing reads any more once a program is simplified (jaxlib 0.10.2).
                read = jnp.stack([_touched(leaf) for leaf in leaves])
                return jaxprs.evaluate(program.jaxpr, program.consts, leaves), jnp.any(read)

        with set_xla_metadata(**_KERNEL):
            found, read = body(*leaves)
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), found), read

    return call


def _form(leaf: Any) -> Any:
    """What the choice of a way depends on, of an array or a number that a program takes."""
    if isinstance(leaf, float | int):  # most are settings
        return type(leaf)
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", None), getattr(leaf, "sharding", None)


def jit(function: Callable[[Any], Any], times: Callable[[Any], int]) -> Callable[[Any], Any]:
    """``jax.jit`` of a function of one pytree, which compiles what is small in half the time or less.

    Only on a processor, and only at the top: inside another ``jit`` or a ``vmap`` it is ``jax.jit``.

    The ways are a few ``jax.jit`` of the function with options of their own, and look at all that ``jax.jit`` looks at.
    Which of them is taken is remembered by the structure and the shapes of what it takes, so that a second call traces
    nothing and asks little.

    Args:
      function: what is compiled.
      times: of the same pytree, how often its program goes through what it holds.
    """
    config: Any = jax.config
    plain = jax.jit(function)
    known: dict[Any, _Way] = {}

    def flat(structure: Any, *leaves: Any) -> Any:
        return plain(jax.tree.unflatten(structure, leaves))  # whose trace JAX has kept

    @functools.cache
    def compiled(options: str | None) -> Callable[..., Any]:
        asked = None if options is None else getattr(_options(), options)
        return jax.jit(flat, static_argnums=0, compiler_options=asked)

    @functools.cache
    def kernel(options: str) -> Callable[..., Any]:
        one = _one_kernel(plain, getattr(_options(), options))
        return lambda structure, *leaves: one(structure, *leaves)[0]

    def choose(program: Any, leaves: Any, turns: int) -> _Way:
        options = _pace(program.jaxpr, turns)
        whole = compiled(options if _pays(program.jaxpr, turns) else None)
        small = _options().kernel and _size(program.jaxpr) <= SMALL
        small = small and _on_one_device((*leaves, *program.consts))
        small = small and jaxprs.attempt(primitives.elemental, program.jaxpr, otherwise=False)
        return _Way(kernel(options), whole) if small else _Way(whole)

    def call(tree: Any) -> Any:
        if jax.default_backend() != "cpu" or config.jax_disable_jit:
            return plain(tree)
        leaves, structure = jax.tree.flatten(tree)
        if _traced(leaves) or not _outermost():
            return plain(tree)
        key = structure, tuple(map(_form, leaves))
        way = known.get(key)
        if way is None:
            program = plain.trace(tree).jaxpr
            # Else the function closes over what a transformation looks through.
            if len(program.jaxpr.invars) != len(leaves) or _traced(program.consts):
                return plain(tree)
            way = known[key] = choose(program, leaves, times(tree))
            # The key holds the functions in the tree: it goes when JAX lets go of their trace.
            weakref.finalize(program.jaxpr, known.pop, key, None).atexit = False
        try:
            return way.first(structure, *leaves)
        except jax.errors.JaxRuntimeError:
            if way.otherwise is None:
                raise
            known[key] = _Way(way.otherwise)  # XLA has no way to write out something in it
            return way.otherwise(structure, *leaves)

    return call


def compile_briefly(lowered: Any) -> Any:
    """Compiles what is to run once: in less than half the time, to a program that is nearly as fast.

    Args:
      lowered: what ``jax.jit(function).lower`` returns.
    """
    # Machine code that nothing is done for would take longer than it saves: LLVM's first level is most of the gain.
    level = {"xla_backend_optimization_level": 1}
    options = _options().quickest if jax.default_backend() == "cpu" else {}
    return lowered.compile(compiler_options=options | level if options else None)
