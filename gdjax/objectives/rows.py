"""Rows of data: of arrays, and of sparse matrices, whose batches keep one shape for the compiler.

A sparse matrix has as many entries in a row as it likes, a compiled batch has room for a fixed number: for those of
the fullest rows. What a batch does not need of it is filled up with entries outside of the matrix, JAX's own way to say
that there is nothing.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from gdjax.types import PyTree

__all__ = ["as_data", "count", "everything", "prepared", "take"]


@functools.partial(register_dataclass, data_fields=["matrix", "starts"], meta_fields=["room"])
@dataclass(frozen=True)
class _Sorted:
    """A sparse matrix whose entries are in the order of its rows.

    Attributes:
      matrix: a BCOO or BCSR matrix.
      starts: where the entries of each row begin, and where those of the last end; shape (rows + 1,).
      room: the most entries of a batch.
    """

    matrix: Any
    starts: jax.Array
    room: int


def _sparse() -> Any:
    """JAX's module of sparse matrices if it is loaded: where it is not, no data are sparse."""
    return sys.modules.get("jax.experimental.sparse")


def _is_sparse(node: Any) -> bool:
    sparse = _sparse()
    return sparse is not None and isinstance(node, sparse.JAXSparse)


def _is_row_data(node: Any) -> bool:
    return isinstance(node, _Sorted) or _is_sparse(node)


def _from_scipy(matrix: Any) -> Any:
    from jax.experimental import sparse

    entries = matrix.tocoo()
    places = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    index = jnp.stack([jnp.asarray(place, jnp.int32) for place in places], axis=-1)
    return sparse.BCOO((jnp.asarray(entries.data), index), shape=matrix.shape)


def as_data(data: PyTree) -> PyTree:
    """Data as JAX holds them: arrays, and SciPy's sparse matrices as BCOO.

    Example:
      >>> import numpy as np, scipy.sparse
      >>> from gdjax.objectives import rows
      >>> rows.as_data(scipy.sparse.eye_array(3)).nse
      3
    """

    def one(leaf):
        from_scipy = type(leaf).__module__.startswith("scipy.sparse") and hasattr(leaf, "tocoo")
        return _from_scipy(leaf) if from_scipy else jnp.asarray(leaf)

    return jax.tree.map(one, data)


def count(data: PyTree, owner: str) -> int:
    """How many rows data have, all arrays and sparse matrices of them.

    Raises:
      ValueError: if there are none, or if they differ.
    """
    leaves = jax.tree.leaves(data, is_leaf=_is_row_data)
    shapes = [jnp.shape(leaf.matrix if isinstance(leaf, _Sorted) else leaf) for leaf in leaves]
    lengths = {shape[:1] for shape in shapes}
    if not leaves or lengths == {()}:
        raise ValueError(f"{owner}: data needs arrays with a leading axis of examples")
    if len(lengths) > 1:
        raise ValueError(f"{owner}: data arrays differ in their leading axis: {shapes}")
    return lengths.pop()[0]


def prepared(data: PyTree, size: int, replacement: bool, owner: str) -> PyTree:
    """Data whose rows can be taken ``size`` at a time.

    Args:
      data: as `as_data` returns them.
      size: rows of a batch.
      replacement: whether one row may come several times in it.
      owner: who asks.

    Raises:
      TypeError: for sparse matrices that have no rows: others than BCOO and BCSR.
    """

    def one(leaf):
        return _prepared(leaf, size, replacement, owner) if _is_sparse(leaf) else leaf

    return jax.tree.map(one, data, is_leaf=_is_sparse)


def everything(data: PyTree) -> PyTree:
    """All rows of data that are `prepared`."""
    return jax.tree.map(
        lambda leaf: leaf.matrix if isinstance(leaf, _Sorted) else leaf,
        data,
        is_leaf=lambda node: isinstance(node, _Sorted),
    )


def _prepared(matrix: Any, size: int, replacement: bool, owner: str) -> Any:
    sparse = _sparse()
    if not isinstance(matrix, sparse.BCOO | sparse.BCSR) or not matrix.n_batch + matrix.n_sparse:
        raise TypeError(
            f"{owner}: batches are rows of BCOO or BCSR matrices, got {type(matrix).__name__}; convert it, such as "
            "by jax.experimental.sparse.BCOO.fromdense"
        )
    if matrix.n_batch:
        return matrix
    if not matrix.nse:
        matrix = _filled(matrix)
    if isinstance(matrix, sparse.BCSR):
        starts = matrix.indptr
    else:
        matrix, starts = _in_order(matrix)
    room = _room(starts, matrix.nse, size, replacement)
    return _Sorted(matrix, jnp.asarray(starts, jnp.int32), room)


def _filled(matrix: Any) -> Any:
    """A matrix without entries with one that is outside of it, so that there is something to read."""
    data = jnp.zeros((1, *matrix.data.shape[1:]), matrix.dtype)
    sizes = jnp.array(matrix.shape[: matrix.n_sparse], matrix.indices.dtype)
    place = sizes[None] if matrix.indices.ndim == 2 else sizes[1:]  # BCSR has columns alone
    rest = jax.tree.leaves(matrix)[2:]
    return type(matrix)((data, place, *rest), shape=matrix.shape)


def _in_order(matrix: Any) -> tuple[Any, Any]:
    """A BCOO matrix with its entries in the order of the rows, and where each row begins.

    Where the entries are known it is done at once, in NumPy, and not at the start of each run.
    """
    known = not any(isinstance(leaf, jax.core.Tracer) for leaf in (matrix.data, matrix.indices))
    xp: Any = np if known else jnp
    data, index = (xp.asarray(leaf) for leaf in (matrix.data, matrix.indices))
    order = xp.argsort(index[:, 0], stable=True)
    starts = xp.searchsorted(index[:, 0][order], xp.arange(matrix.shape[0] + 1))
    if not (known and bool(np.all(np.diff(index[:, 0]) >= 0))):
        matrix = _sparse().BCOO((jnp.asarray(data[order]), jnp.asarray(index[order])), shape=matrix.shape)
    return matrix, starts


def _room(starts: Any, entries: int, size: int, replacement: bool) -> int:
    """The most entries that ``size`` rows have: of those that have most; all, where lengths are not known."""
    if isinstance(starts, jax.core.Tracer):
        return max(1, entries * size if replacement else entries)
    lengths = np.sort(np.diff(np.asarray(starts)))
    most = size * int(lengths[-1]) if replacement else int(lengths[-size:].sum())
    return max(1, most)


def take(data: PyTree, index: jax.Array) -> PyTree:
    """The rows at an index of places that are all in range, as data of the same form.

    Args:
      data: as `prepared` returns them.
      index: int32 of shape (rows,).

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax.objectives import rows
      >>> rows.take({"x": jnp.arange(6.0).reshape(3, 2)}, jnp.array([2, 0]))["x"].tolist()
      [[4.0, 5.0], [0.0, 1.0]]
    """

    def one(leaf):
        if isinstance(leaf, _Sorted):
            return _taken(leaf, index)
        if _is_sparse(leaf):
            return _of_batched(leaf, index)
        return leaf.at[index].get(mode="promise_in_bounds")

    return jax.tree.map(one, data, is_leaf=_is_row_data)


def _of_batched(matrix: Any, index: jax.Array) -> Any:
    """Rows of a matrix that keeps each of its rows by itself."""
    parts = [leaf.at[index].get(mode="promise_in_bounds") for leaf in jax.tree.leaves(matrix)]
    shape = (len(index), *matrix.shape[1:])
    flags = {"indices_sorted": matrix.indices_sorted, "unique_indices": matrix.unique_indices}
    return type(matrix)(tuple(parts), shape=shape, **flags)


def _taken(rows: _Sorted, index: jax.Array) -> Any:
    """Rows of a matrix whose entries are all together: those of the batch one after the other, then nothing."""
    matrix, size = rows.matrix, len(index)
    first, last = rows.starts[index], rows.starts[index + 1]
    ends = jnp.cumsum(last - first)
    slots = jnp.arange(rows.room, dtype=ends.dtype)
    row = jnp.cumsum(jnp.zeros(rows.room, ends.dtype).at[ends].add(1, mode="drop"))  # rows that have ended
    inside, of = row < size, jnp.minimum(row, size - 1)
    entry = jnp.where(inside, last[of] + slots - ends[of], matrix.nse)
    data = matrix.data.at[entry].get(mode="fill", fill_value=0)
    shape = (size, *matrix.shape[1:])
    flags = {"indices_sorted": matrix.indices_sorted, "unique_indices": matrix.unique_indices}
    outside = jnp.array(matrix.shape[1 : 1 + matrix.n_sparse - 1], matrix.indices.dtype)
    if matrix.indices.ndim == 1:  # BCSR
        column = jnp.where(inside, matrix.indices.at[entry].get(mode="fill", fill_value=0), outside[0])
        starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends]).astype(rows.starts.dtype)
        return type(matrix)((data, column, starts), shape=shape, **flags)
    rest = matrix.indices.at[entry, 1:].get(mode="fill", fill_value=0)
    places = jnp.concatenate(
        [row[:, None].astype(rest.dtype), jnp.where(inside[:, None], rest, outside)], axis=1
    )
    return type(matrix)((data, places), shape=shape, **flags)
