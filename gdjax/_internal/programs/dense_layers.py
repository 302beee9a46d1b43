r"""The dense layers of a model: found in its program, with what goes into them and what comes back.

A dense layer multiplies activations by a matrix that is one leaf of the parameters, and may add a bias that is
another: :math:`z = a W + b` for every row of a, be they examples, positions of a sequence, or both. `find` reads
them off the traced program, so models are plain functions: of a batch, or of one example under ``vmap``; with
the matrix as it is or transposed; under ``jit`` and `jax.checkpoint`; in lower precision.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal.programs import jaxprs
from gdjax.types import Params

__all__ = ["Dense", "Network", "Passed", "find"]

_CALLS = jaxprs.CALLS | jaxprs.REMATERIALIZED
"""Calls that may be done in place. What is inside a derivative rule of its own stays there."""

_LEAF, _PRODUCT = "leaf", "product"


class Dense(NamedTuple):
    """One dense layer; leaves are counted in the order of `jax.tree.leaves`.

    Attributes:
      weight: the matrix.
      bias: the vector that is added to the product, or None.
      inputs: the axis of the matrix that meets the activations: 0 for ``(inputs, outputs)``, or 1.
      size: rows of activations.
    """

    weight: int
    bias: int | None
    inputs: int
    size: int


class Passed(NamedTuple):
    """What a pass through the layers leaves behind.

    Attributes:
      outputs: of the model.
      activations: for each layer, ``(rows, inputs)``.
      back: from cotangents of the outputs to those of each layer's products, ``(rows, outputs)``.
    """

    outputs: Any
    activations: list[jax.Array]
    back: Callable[[Any], list[jax.Array]]


class Network(NamedTuple):
    """The dense layers of a model.

    Attributes:
      layers: in the order in which the model comes to them.
      others: the leaves that are in none, each with the operations that use it.
      forward: ``params -> Passed``, one pass through the model.
    """

    layers: list[Dense]
    others: dict[int, str]
    forward: Callable[[Params], Passed]


class _Mark(NamedTuple):
    """What an array is: a leaf moved about, or a product with one; and where their axes are in it.

    The axes of a leaf have their numbers; the one axis of a product that counts its outputs has number 0, as
    the axis of a bias has. None is an axis along which a leaf is repeated, or an axis of rows.
    """

    kind: str
    index: int
    axes: tuple[int | None, ...]


class _Seen(NamedTuple):
    """An array on the way through a program, and whether it depends on more than the parameters."""

    value: Any
    mark: _Mark | None
    data: bool


class _Product(NamedTuple):
    leaf: int
    inputs: int
    axis: int
    rows: int
    like: jax.ShapeDtypeStruct


def _reshaped(axes: Sequence[int | None], old: Sequence[int], new: Sequence[int]) -> list[Any] | None:
    """Axes that come through a reshape: as many elements lie before them as did."""
    before = [math.prod(new[:i]) for i in range(len(new))]
    found: list[Any] = [None] * len(new)
    for i, axis in enumerate(axes):
        if axis is None:
            continue
        same = [j for j, count in enumerate(before) if count == math.prod(old[:i]) and new[j] == old[i]]
        if len(same) != 1:
            return None
        found[same[0]] = axis
    return found


def _moved(eqn: Any, axes: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
    """Where the axes of an operand are in the result, if the operation only moves or repeats elements."""
    name, params = eqn.primitive.name, eqn.params
    old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if name in ("convert_element_type", "copy", "reduce_precision"):
        return axes if jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating) else None
    if name == "transpose":
        return tuple(axes[i] for i in params["permutation"])
    found: Any = None
    if name == "broadcast_in_dim":
        found = [None] * len(new)
        for i, to in enumerate(params["broadcast_dimensions"]):
            if axes[i] is not None and old[i] != new[to]:
                return None
            found[to] = axes[i]
    elif name == "squeeze":
        gone = [i % len(old) for i in params["dimensions"]]
        if all(axes[i] is None for i in gone):
            found = [axis for i, axis in enumerate(axes) if i not in gone]
    elif name == "reshape" and params.get("dimensions") is None:
        found = _reshaped(axes, old, new)
    return None if found is None else tuple(found)


def _rows(array: jax.Array, axis: int) -> jax.Array:
    """As a matrix whose columns are one axis of the array."""
    last = jnp.moveaxis(array, axis, -1)
    return last.reshape(-1, last.shape[-1])


class _Walk:
    """One way through a program: what is found, and what is added to the products on the way."""

    def __init__(self, added: dict[int, jax.Array]):
        self.added = added
        self.products: list[_Product] = []
        self.activations: list[jax.Array] = []
        self.biases: list[tuple[int, int]] = []
        self.uses: dict[tuple[str, int], list[str]] = {}

    def use(self, seen: _Seen, name: str) -> None:
        if seen.mark is not None:
            self.uses.setdefault((seen.mark.kind, seen.mark.index), []).append(name)

    def through(self, program: Any, constants: Sequence[Any], inputs: Sequence[_Seen]) -> list[_Seen]:
        """What comes out of a program."""
        known = {
            var: _Seen(value, None, True) for var, value in zip(program.constvars, constants, strict=True)
        }
        known.update(zip(program.invars, inputs, strict=True))

        def read(atom):
            if isinstance(atom, jaxprs.Literal):
                return _Seen(atom.val, None, math.prod(atom.aval.shape) > 1)
            return known[atom]

        for eqn in program.eqns:
            operands = [read(atom) for atom in eqn.invars]
            inner = jaxprs.called(eqn, _CALLS)
            if inner is not None and any(operand.mark for operand in operands):
                outs = self.through(*inner, operands)
            else:
                outs = self.step(program, eqn, operands)
            known.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in program.outvars]

    def step(self, program: Any, eqn: Any, operands: list[_Seen]) -> list[_Seen]:
        """What comes out of one operation of a program."""
        given = {
            a: o.value for a, o in zip(eqn.invars, operands, strict=True) if not isinstance(a, jaxprs.Literal)
        }
        alone = program.replace(constvars=[], invars=list(given), outvars=eqn.outvars, eqns=[eqn])
        outs = jaxprs.evaluate(alone, [], list(given.values()))
        data, mark = any(operand.data for operand in operands), None
        if len(operands) == 1 and operands[0].mark:
            axes = jaxprs.attempt(_moved, eqn, operands[0].mark.axes, otherwise=None)
            if axes is not None:
                return [_Seen(outs[0], operands[0].mark._replace(axes=axes), data)]
        if eqn.primitive.name == "dot_general":
            mark = self.product(eqn, operands)
            outs = [outs[0] + self.added[mark.index]] if mark and mark.index in self.added else outs
        elif eqn.primitive.name == "add":
            self.bias(eqn, operands)
        for operand in operands:
            self.use(operand, eqn.primitive.name)
        return [_Seen(out, mark, data) for out in outs]

    def product(self, eqn: Any, operands: list[_Seen]) -> _Mark | None:
        """Notes a product of activations with a leaf that is a matrix."""
        numbers = jaxprs.contracted(eqn)
        leaves = [i for i, operand in enumerate(operands) if operand.mark and operand.mark.kind == _LEAF]
        if len(leaves) != 1 or numbers is None:
            return None
        contracted, batch = numbers
        side, other = leaves[0], 1 - leaves[0]
        mark: Any = operands[side].mark
        matrix = len(mark.axes) == 2 and set(mark.axes) == {0, 1}
        if not (matrix and operands[other].data) or len(contracted[side]) != 1 or batch[side]:
            return None
        out = eqn.outvars[0].aval
        axis = 0 if side == 0 else len(out.shape) - 1
        activations = _rows(operands[other].value, contracted[other][0])
        self.activations.append(activations)
        like = jax.ShapeDtypeStruct(out.shape, out.dtype)
        inputs = mark.axes[contracted[side][0]]
        self.products.append(_Product(mark.index, inputs, axis, activations.shape[0], like))
        axes = tuple(0 if i == axis else None for i in range(len(out.shape)))
        return _Mark(_PRODUCT, len(self.products) - 1, axes)

    def bias(self, eqn: Any, operands: list[_Seen]) -> None:
        """Notes a leaf that is added to a product, the same to every row."""
        for i in (0, 1):
            a, b = operands[i].mark, operands[1 - i].mark
            if a and b and (a.kind, b.kind) == (_PRODUCT, _LEAF) and a.axes == b.axes:
                axis = a.axes.index(0)
                if eqn.invars[0].aval.shape[axis] == eqn.invars[1].aval.shape[axis]:
                    self.biases.append((a.index, b.index))


def _layers(walk: _Walk) -> dict[int, Dense]:
    """The products whose leaf is used nowhere else, with the biases of which that is so too."""
    count = Counter({key: len(names) for key, names in walk.uses.items()})
    biases = {p: b for p, b in walk.biases if count[_PRODUCT, p] == 1 and count[_LEAF, b] == 1}
    return {
        i: Dense(product.leaf, biases.get(i), product.inputs, product.rows)
        for i, product in enumerate(walk.products)
        if count[_LEAF, product.leaf] == 1
    }


def find(model: Callable[[Params], Any], params: Params) -> Network:
    r"""The dense layers of a model.

    A leaf belongs to a layer if the model uses it once, as a matrix by which it multiplies something that
    depends on data; so a matrix that is shared by two layers, a kernel of a convolution or the scale of a
    normalization belongs to none. A vector belongs to it as its bias if the model uses it once too, adding it to
    the product and to nothing else.

    Args:
      model: ``params -> outputs``.
      params: with which to trace it; their values play no part.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from gdjax._internal.programs import dense_layers
      >>> x = jnp.ones((5, 3))
      >>> network = dense_layers.find(lambda p: p["s"] * jnp.tanh(x @ p["w"] + p["b"][None]),
      ...                       {"b": jnp.zeros(2), "s": jnp.ones(()), "w": jnp.ones((3, 2))})
      >>> network.layers, network.others
      ([Dense(weight=2, bias=0, inputs=0, size=5)], {1: 'mul'})
    """
    closed, shape = jax.make_jaxpr(model, return_shape=True)(params)
    structure = jax.tree.structure(shape)

    def walked(walk: _Walk, leaves: Sequence[Any]) -> list[Any]:
        inputs = [
            _Seen(leaf, _Mark(_LEAF, i, tuple(range(jnp.ndim(leaf)))), False) for i, leaf in enumerate(leaves)
        ]
        outs = walk.through(closed.jaxpr, closed.consts, inputs)
        for out in outs:
            walk.use(out, "the outputs")
        return [out.value for out in outs]

    first = _Walk({})

    def look(leaves):
        outs = walked(first, leaves)
        first.activations.clear()  # their values end with this pass
        return outs

    jax.eval_shape(look, jax.tree.leaves(params))
    layers = _layers(first)
    inside = {leaf for layer in layers.values() for leaf in (layer.weight, layer.bias)}
    others = {
        i: ", ".join(first.uses.get((_LEAF, i), ["nothing"]))
        for i in range(len(jax.tree.leaves(params)))
        if i not in inside
    }

    def forward(params):
        def perturbed(added):
            walk = _Walk(dict(zip(layers, added, strict=True)))
            outs = walked(walk, jax.tree.leaves(params))
            return jax.tree.unflatten(structure, outs), [walk.activations[i] for i in layers]

        likes = [first.products[i].like for i in layers]
        zeros = [jnp.zeros(like.shape, like.dtype) for like in likes]
        outputs, back, activations = jax.vjp(perturbed, zeros, has_aux=True)

        def rows_back(cotangents):
            found = back(cotangents)[0]
            return [_rows(g, first.products[i].axis) for i, g in zip(layers, found, strict=True)]

        return Passed(outputs, activations, rows_back)

    return Network(list(layers.values()), others, forward)
