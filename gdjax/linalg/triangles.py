"""The triangle of a QR factorization, of a small matrix by elementwise operations alone (`gdjax.linalg.small`)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow, trees
from gdjax.linalg.small import LIMIT, factorization

__all__ = ["triangular"]


def _reflection(head: jax.Array, tail: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first entry of the vector that makes all of a column's tail zero, and its factor."""
    below = jnp.sum(tail * tail, 0)
    length = jnp.sqrt(head * head + below)
    first = head + jnp.where(head > 0, length, -length)
    square = first * first + below
    return first, jnp.where(square > 0, 2 / jnp.where(square > 0, square, 1), 0)


def _reflected(matrix: jax.Array) -> jax.Array:
    """The triangle by Householder reflections."""
    rows, n = matrix.shape
    index = jnp.arange(rows)

    def reflect(k, matrix):
        column = jax.lax.dynamic_index_in_dim(matrix, k, 1, keepdims=False)
        tail = jnp.where(index > k, column, 0)
        first, factor = _reflection(jax.lax.dynamic_index_in_dim(column, k, keepdims=False), tail)
        vector = jnp.where(index == k, first, tail)
        return matrix - vector[:, None] * (factor * (vector @ matrix))[None]

    return jnp.triu(control_flow.fori_loop(0, min(rows, n), reflect, matrix)[: min(rows, n)])


def _gram_schmidt(matrix: jax.Array) -> jax.Array:
    """The triangle by modified Gram-Schmidt, which is as stable for it as reflections are: Bjorck and Paige (1992)."""
    n = matrix.shape[1]
    columns, upper = list(matrix.T), []
    for k in range(n):
        size = jnp.sqrt(jnp.vdot(columns[k], columns[k]))
        unit = columns[k] / jnp.where(size > 0, size, 1)
        row = [jnp.zeros_like(size)] * k + [size]
        for j in range(k + 1, n):
            row.append(jnp.vdot(unit, columns[j]))
            columns[j] = columns[j] - row[j] * unit
        upper.append(jnp.stack(row))
    return jnp.stack(upper)


def _triangle(reduce: Callable[[jax.Array], jax.Array], matrix: jax.Array) -> jax.Array:
    """The triangle of a matrix whose columns are brought to size one."""
    sizes = trees.power_of_two(jnp.max(jnp.abs(matrix), 0))
    return reduce(matrix / sizes[None]) * sizes[None]


_triangular_by_library = functools.partial(jnp.linalg.qr, mode="r")


def _triangles(matrices: jax.Array) -> jax.Array:
    tall = matrices.shape[1] >= matrices.shape[2]
    return jax.vmap(functools.partial(_triangle, _gram_schmidt) if tall else _triangular_by_library)(matrices)


triangular = factorization(
    "R of a QR factorization, up to the signs of its rows.",
    functools.partial(_triangle, _reflected),
    _triangular_by_library,
    _triangles,
    batched=LIMIT + 1,
    extra=1,
)
