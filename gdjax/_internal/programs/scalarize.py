"""Functions of a few numbers as programs of scalars.

Mapped over many runs, an array of two elements is a matrix two wide: slices of it are strided, and the
gradient of a slice pads zeros to add them. The same function of two scalars is a function of two
contiguous vectors, in which the zeros are never made. Same operations, same order.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdjax._internal import trees
from gdjax._internal.programs import jaxprs

__all__ = ["value_and_grad"]

LARGEST = 8
"""The most elements an array may have anywhere in such a program."""

_EACH = frozenset(
    {"add", "sub", "mul", "div", "neg", "max", "min", "abs", "sign", "square", "sqrt", "rsqrt", "integer_pow"}
    | {
        "pow",
        "exp",
        "exp2",
        "log",
        "log1p",
        "expm1",
        "sin",
        "cos",
        "tan",
        "tanh",
        "logistic",
        "floor",
        "ceil",
    }
    | {"atan2", "sinh", "cosh", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "is_finite", "copy"}
    | {"select_n", "clamp", "convert_element_type", "stop_gradient"}
)
"""Operations done element by element."""

Elements = np.ndarray
"""An array of `_Element`."""


class _Element:
    """One number of an array: a scalar of JAX, or a zero that need not be made."""

    def __init__(self, scalar: Any = None):
        self.scalar = scalar

    def made(self, dtype: Any) -> Any:
        return jnp.zeros((), dtype) if self is _ZERO else self.scalar


_ZERO = _Element()


def _fits(program: Any) -> bool:
    """Whether all of a program can be done on scalars."""
    eqn: Any
    for eqn in program.eqns:
        inner = jaxprs.called(eqn)
        if not all(trees.at_most(math.prod(var.aval.shape), LARGEST) for var in eqn.outvars):
            return False
        if inner is not None:
            if not _fits(inner[0]):
                return False
        elif eqn.primitive.name in _MOVES:
            cut = [low < 0 or high < 0 or step for low, high, step in eqn.params.get("padding_config", ())]
            if any(cut) or not jaxprs.moving(eqn):
                return False
        elif eqn.primitive.name not in _EACH or eqn.params.get("sharding") is not None:
            return False
    return True


def _split(array: Any) -> Elements:
    elements = np.empty(np.shape(array), object)
    for index in np.ndindex(*elements.shape):
        elements[index] = _Element(array[index] if index else array)
    return elements


def _join(elements: Elements, aval: Any) -> jax.Array:
    flat = [element.made(aval.dtype) for element in elements.reshape(-1)]
    return jnp.stack(flat).reshape(aval.shape) if elements.ndim else flat[0]


def _map(function: Callable[..., _Element], *operands: Elements) -> Elements:
    operands = np.broadcast_arrays(*operands)
    out = np.empty(operands[0].shape, object)
    for index in np.ndindex(*out.shape):
        out[index] = function(*(operand[index] for operand in operands))
    return out


def _add(a: _Element, b: _Element) -> _Element:
    if a is _ZERO:
        return b
    return a if b is _ZERO else _Element(jax.lax.add(a.scalar, b.scalar))


def _broadcast(params, x):
    shape, dims = params["shape"], params["broadcast_dimensions"]
    wide = [1] * len(shape)
    for i, dim in enumerate(dims):
        wide[dim] = x.shape[i]
    return np.broadcast_to(x.reshape(wide), shape)


def _pad(params, x, fill):
    shape = [
        low + size + high for size, (low, high, _) in zip(x.shape, params["padding_config"], strict=True)
    ]
    out = np.full(shape, fill.item(), object)
    out[
        tuple(slice(low, low + n) for n, (low, _, _) in zip(x.shape, params["padding_config"], strict=True))
    ] = x
    return out


def _reduce_sum(params, x):
    for axis in sorted(params["axes"], reverse=True):
        x = functools.reduce(functools.partial(_map, _add), np.moveaxis(x, axis, 0)[..., None])[..., 0]
    return x


def _slice(params, x):
    strides = params["strides"] or [None] * x.ndim
    starts, stops = params["start_indices"], params["limit_indices"]
    return x[tuple(itertools.starmap(slice, zip(starts, stops, strides, strict=True)))]


_MOVES: dict[str, Callable[..., Elements]] = {
    "add_any": lambda params, a, b: _map(_add, a, b),
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, *parts: np.concatenate(parts, params["dimension"]),
    "pad": _pad,
    "reduce_sum": _reduce_sum,
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "rev": lambda params, x: np.flip(x, params["dimensions"]),
    "slice": _slice,
    "squeeze": lambda params, x: np.squeeze(x, params["dimensions"]),
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
}
"""Operations that only move elements, or add them up."""


def _each(eqn: Any, operands: list[Elements]) -> Elements:
    dtypes = [atom.aval.dtype for atom in eqn.invars]

    def scalar(*elements):
        made = [element.made(dtype) for element, dtype in zip(elements, dtypes, strict=True)]
        return _Element(eqn.primitive.bind(*made, **eqn.params))

    return _map(scalar, *operands)


def _run(program: Any, constants: Sequence[Any], inputs: list[Elements]) -> list[Elements]:
    known = dict(zip(program.constvars, map(_split, constants), strict=True))
    known.update(zip(program.invars, inputs, strict=True))

    def read(atom):
        return _literal(atom) if isinstance(atom, jaxprs.Literal) else known[atom]

    for eqn in program.eqns:
        name, operands = eqn.primitive.name, [read(atom) for atom in eqn.invars]
        inner = jaxprs.called(eqn)
        if inner is not None:
            outputs = _run(*inner, operands)
        elif name in _MOVES:
            outputs = [_MOVES[name](eqn.params, *operands)]
        else:
            outputs = [_each(eqn, operands)]
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in program.outvars]


def _literal(atom: Any) -> Elements:
    if np.ndim(atom.val) == 0 and jnp.issubdtype(atom.aval.dtype, jnp.floating) and atom.val == 0:
        return np.full((), _ZERO, object)
    return _split(jnp.asarray(atom.val, atom.aval.dtype))


def _on_scalars(program: Any, constants: list[Any], arguments: list[Any]) -> list[jax.Array] | None:
    """What a program comes to, on scalars; None where it is not made for them."""
    small = all(trees.at_most(np.size(constant), LARGEST) for constant in constants)
    if not small or not _fits(program):
        return None
    found = _run(program, constants, [_split(leaf) for leaf in arguments])
    avals = [var.aval for var in program.outvars]
    if [elements.shape for elements in found] != [aval.shape for aval in avals]:
        return None
    return [_join(elements, aval) for elements, aval in zip(found, avals, strict=True)]


def value_and_grad(function: Callable[[Any], jax.Array]) -> Callable[[Any], tuple[jax.Array, Any]]:
    """``jax.value_and_grad``, on scalars where params are few and the function is made of simple operations.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax._internal.programs import scalarize
      >>> value, grad = scalarize.value_and_grad(lambda x: x[0] ** 2 * x[1])(jnp.array([3.0, 2.0]))
      >>> float(value), grad.tolist()
      (18.0, [12.0, 9.0])
    """

    def evaluated(params):
        sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        plain = jax.value_and_grad(function)
        if not trees.at_most(sum(sizes), LARGEST) or max(sizes) == 1:
            return plain(params)
        program, shape = jax.make_jaxpr(plain, return_shape=True)(params)
        leaves = jax.tree.leaves(params)
        outputs = jaxprs.attempt(_on_scalars, program.jaxpr, program.consts, leaves, otherwise=None)
        if outputs is None:
            outputs = jaxprs.evaluate(program.jaxpr, program.consts, leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return evaluated
