"""Where a NaN or an infinity can hide: read off the traced program, without running it.

A step that carries a poisoned number on needs no check of its own: one look later finds it. Two
questions decide how often a run has to look, and both are answered conservatively.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gdjax._internal.programs import jaxprs

__all__ = ["forgotten", "only_overflows"]

_ANY = frozenset(
    {"add", "add_any", "sub", "mul", "neg", "square", "sqrt", "abs", "reduce_sum", "integer_pow"}
) | {"reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "copy", "convert_element_type"}
"""Operations that pass a non-finite element of any floating operand on: inf - inf and 0 inf are NaN."""

_TOTAL = (
    _ANY - {"sqrt"}
    | {"slice", "concatenate", "pad", "rev", "split", "max", "min", "clamp", "floor", "ceil", "round", "sin"}
    | {"cos", "tanh", "logistic", "exp", "exp2", "dot_general", "reduce_max", "reduce_min", "cumsum", "erf"}
)
"""Operations that are finite for finite operands unless they overflow, and select nothing by value."""

_CALLS = jaxprs.CALLS | {"custom_jvp_call"}
"""Calls that are looked into: the derivative of what they hold is no matter here."""


def _inside(eqn: Any) -> Any:
    """The program that an equation calls once, if it is such a call."""
    found = jaxprs.called(eqn, _CALLS)
    return None if found is None else found[0]


def _carries(eqn: Any, poisoned: list[bool]) -> bool:
    """Whether the result of one operation has a non-finite element, given which operands have."""
    name = eqn.primitive.name
    if name == "div":
        return poisoned[0]
    if name == "select_n":
        return all(poisoned[1:])
    if name == "integer_pow":
        return eqn.params.get("y", -1) > 0 and poisoned[0]
    return name in _ANY and any(poisoned)


def _spread(program: Any, inputs: list[bool]) -> list[bool]:
    """Which outputs have a non-finite floating element whenever the marked inputs have one."""
    marked = dict(zip(program.invars, inputs, strict=True))

    def known(atom):
        return not isinstance(atom, jaxprs.Literal) and marked.get(atom, False)

    eqn: Any
    for eqn in program.eqns:
        poisoned = [known(atom) for atom in eqn.invars]
        if not any(poisoned):
            continue
        inner = _inside(eqn)
        outs = _spread(inner, poisoned) if inner else [_carries(eqn, poisoned)] * len(eqn.outvars)
        for var, out in zip(eqn.outvars, outs, strict=True):
            marked[var] = out and jnp.issubdtype(var.aval.dtype, jnp.inexact)
    return [known(atom) for atom in program.outvars]


def forgotten(step: Callable[[Any, Any], Any], given: Any, state: Any) -> tuple[list[bool], list[bool]]:
    """Whether ``state = step(given, state)`` forgets that something it was given was not finite.

    Args:
      step: a function that returns a new state of the same structure.
      given: what a step is given, arrays (or shapes).
      state: its state.

    Returns:
      For each leaf of ``given`` whether a non-finite element may leave no trace in the state; and for each
      leaf of ``state`` whether to look there: once poisoned by what was given, it stays so.
    """
    program = jax.make_jaxpr(step)(given, state).jaxpr
    gifts, size = len(jax.tree.leaves(given)), len(jax.tree.leaves((given, state)))
    unknown = [True] * gifts, [False] * (size - gifts)
    return jaxprs.attempt(_forgotten, program, gifts, size, otherwise=unknown)


def _forgotten(program: Any, gifts: int, size: int) -> tuple[list[bool], list[bool]]:

    def reach(i):
        return _spread(program, [i == j for j in range(size)])

    stays = [reach(gifts + i)[i] for i in range(size - gifts)]
    watched = [False] * len(stays)
    hidden = []
    for i in range(gifts):
        lasting = [j for j, (there, stay) in enumerate(zip(reach(i), stays, strict=True)) if there and stay]
        hidden.append(not lasting)
        if lasting:
            watched[lasting[0]] = True
    return hidden, watched


def _total(program: Any) -> bool:
    for eqn in program.eqns:
        inner = _inside(eqn)
        negative = eqn.primitive.name == "integer_pow" and eqn.params.get("y", -1) < 0
        if negative or not (_total(inner) if inner else eqn.primitive.name in _TOTAL):
            return False
    return True


def only_overflows(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether finite arguments can only give a non-finite result by overflow: no log, root or quotient."""
    return jaxprs.attempt(_total, jax.make_jaxpr(function)(*arguments).jaxpr, otherwise=False)
