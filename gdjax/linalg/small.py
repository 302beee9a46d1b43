r"""Factorizations of small matrices by elementwise operations alone.

A program that calls no library may be compiled to one kernel (`gdjax._internal.programs.compilation`), and under
``vmap`` a library factors one matrix after the other, where here very small ones are rotated all at once, along the
last axis of every array. Larger matrices, and derivatives always, are left to `jax.numpy.linalg`.

Reference: Golub and Van Loan, Matrix Computations, 4th edition, sections 5.1, 5.2, 8.5 and 8.6.3.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gdjax._internal import control_flow, trees
from gdjax.types import PyTree

__all__ = ["LIMIT", "ascending", "eigh", "factorization", "is_small", "product", "svd"]

LIMIT = 3
"""Columns up to which rotations are compiled sooner than calls of a library: with four it takes a second longer."""

_ENTRIES = 2**13
"""Entries up to which columns are reduced here: above, a library's blocks spare memory's time."""

_SWEEPS = 30
"""Far more than are needed: convergence is quadratic, and matrices of this size take three to six."""


def is_small(matrix: jax.Array, extra: int = 0) -> bool:
    """Whether a matrix is of a size that is factored here; one of symbolic size is not."""
    rows, columns = matrix.shape
    known = isinstance(rows, int) and trees.at_most(columns, LIMIT + extra)
    return known and columns > 0 and 0 < rows * columns <= _ENTRIES


def factorization(
    says: str,
    small: Callable[..., PyTree],
    library: Callable[..., PyTree],
    many: Callable[..., PyTree] | None = None,
    *,
    batched: int = 0,
    extra: int = 0,
) -> Callable[..., PyTree]:
    """A function of one matrix that takes the way that is faster.

    Args:
      says: its docstring.
      small: of a matrix.
      library: of a matrix.
      many: of as many matrices as the first axis counts, of at most ``batched`` columns.
      batched: columns up to which many matrices are factored here.
      extra: columns by which one matrix may be wider than others in this room.
    """
    core = custom_vmap(small)

    @core.def_vmap
    def rule(size, mapped, matrix):
        del size, mapped
        found = many(matrix) if many and matrix.shape[2] <= batched else jax.vmap(library)(matrix)
        return found, jax.tree.map(lambda _: True, found)

    function = jax.custom_jvp(core)
    function.defjvp(lambda primals, tangents: jax.jvp(library, primals, tangents))
    choose: Any = lambda matrix: function(matrix) if is_small(matrix, extra) else library(matrix)  # noqa: E731
    choose.__doc__ = says
    return choose


def _lanes_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays with an axis behind those of a matrix, as one of arrays with an axis before them."""
    first = functools.partial(jax.tree.map, lambda leaf: jnp.moveaxis(leaf, -1, 0))
    return lambda matrices: first(function(jnp.moveaxis(matrices, 0, -1)))


def _behind(constant: Any, array: jax.Array) -> jax.Array:
    """A constant matrix with axes of length one for those behind an array's first two."""
    return constant.reshape(*constant.shape, *[1] * (array.ndim - 2))


def _angle(p: jax.Array, q: jax.Array, between: jax.Array, least: jax.Array) -> tuple[jax.Array, ...]:
    """Tangent, cosine and sine of the smaller angle that makes ``[[p, between], [between, q]]`` diagonal."""
    needed = jnp.abs(between) > least
    zeta = 0.5 * (q - p) / jnp.where(needed, between, 1)
    tangent = jnp.where(zeta >= 0, 1, -1) / (jnp.abs(zeta) + jnp.sqrt(1 + zeta * zeta))
    tangent = jnp.where(needed, tangent, 0)
    cosine = 1 / jnp.sqrt(1 + tangent * tangent)
    return tangent, cosine, tangent * cosine


def _mixed(first: jax.Array, second: jax.Array, rest: jax.Array, axis: int) -> jax.Array:
    """Two halves, and who sits out, each in its place for the next round of a round robin.

    After as many rounds as there are players, less one if they are even, each has met all others once and is back.
    """

    def cut(array, low, high):
        return jax.lax.slice_in_dim(array, low, high, axis=axis)

    half = first.shape[axis]
    last = cut(first, half - 1, half)
    if rest.shape[axis]:
        parts = [rest, cut(first, 0, half - 1), cut(second, 1, half), last, cut(second, 0, 1)]
    elif half == 1:
        parts = [first, second]
    else:
        parts = [cut(first, 0, 1), cut(second, 0, 1), cut(first, 1, half - 1), cut(second, 1, half), last]
    return jnp.concatenate(parts, axis)


def _swept(sweep: Callable[[Any], Any], unfinished: Callable[[Any], jax.Array], start: Any) -> Any:
    """Sweeps until all matrices have converged."""

    def goes_on(carry):
        return (carry[0] < _SWEEPS) & jnp.any(unfinished(carry[1]))

    def body(carry):
        return carry[0] + 1, sweep(carry[1])

    return control_flow.while_loop(goes_on, body, (jnp.int32(0), start))[1]


def _ranked(values: jax.Array, *matrices: jax.Array) -> list[jax.Array]:
    """Ascending values, and the columns of matrices in their order: by counting, as sorting is a library's."""
    n = values.shape[0]
    index = _behind(jnp.arange(n)[:, None], values[None])
    other, own = values[None], values[:, None]
    place = jnp.sum(
        (other < own) | ((other == own) & (jnp.swapaxes(index, 0, 1) < index)), 1, dtype=jnp.int32
    )
    here = place[:, None] == jnp.swapaxes(index, 0, 1)
    columns = [jnp.sum(jnp.where(here[None], matrix[:, :, None], 0), 1) for matrix in matrices]
    return [jnp.sum(jnp.where(here, own, 0), 0), *columns]


def _unit(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A matrix over a power of two of its size, which is the other; of zeros where it is not finite."""
    finite = jnp.all(jnp.isfinite(matrix), (0, 1), keepdims=True)
    size = trees.power_of_two(jnp.max(jnp.abs(jnp.where(finite, matrix, 0)), (0, 1), keepdims=True))
    return jnp.where(finite, matrix, 0) / size, jnp.where(finite, size, jnp.nan)


def _rotated(first: jax.Array, second: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """Pairs of columns, made orthogonal in their first rows."""
    x, y = first[:rows], second[:rows]
    p, q = jnp.sum(x * x, 0), jnp.sum(y * y, 0)
    least = float(jnp.finfo(x.dtype).eps) * jnp.sqrt(p) * jnp.sqrt(q)
    _, cosine, sine = _angle(p, q, jnp.sum(x * y, 0), least)
    return cosine[None] * first - sine[None] * second, sine[None] * first + cosine[None] * second


def _apart(x: jax.Array, y: jax.Array) -> jax.Array:
    """Whether columns are not orthogonal to rounding, of which a product of a few numbers carries some."""
    sizes = jnp.sqrt(jnp.sum(x * x, 0)) * jnp.sqrt(jnp.sum(y * y, 0))
    return jnp.abs(jnp.sum(x * y, 0)) > 8 * float(jnp.finfo(x.dtype).eps) * sizes


def _one_by_one(both: jax.Array, rows: int) -> jax.Array:
    """Sweeps of single rotations, written out; arrays that are joined in a loop would be most of its time."""
    n = both.shape[1]

    def sweep(columns):
        columns = list(columns)
        for p in range(n):
            for q in range(p + 1, n):
                columns[p], columns[q] = _rotated(columns[p], columns[q], rows)
        return tuple(columns)

    def unfinished(columns):
        pairs = [(columns[p][:rows], columns[q][:rows]) for p in range(n) for q in range(p)]
        return functools.reduce(jnp.logical_or, [_apart(x, y) for x, y in pairs], jnp.asarray(False))

    start = tuple(both[:, j] for j in range(n))
    return jnp.stack(_swept(sweep, unfinished, start), 1)


def _one_sided(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Singular values by rotations of columns."""
    unit, size = _unit(matrix)
    rows, n = unit.shape[:2]
    eye = jnp.broadcast_to(_behind(jnp.eye(n, dtype=unit.dtype), unit), (n, *unit.shape[1:]))
    both = _one_by_one(jnp.concatenate([unit, eye]), rows)
    turned, right = both[:rows], both[rows:]
    values = jnp.sqrt(jnp.sum(turned * turned, 0))
    left = turned / jnp.where(values > 0, values, 1)[None]
    values, left, right = _ranked(-values, left, right)
    return left * jnp.where(jnp.isnan(size), size, 1), -values * size[0], right


def _svd_by_library(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return left, values, right.T


svd = factorization(
    "Left vectors, descending values, and right vectors, all in columns.",
    _one_sided,
    _svd_by_library,
    _lanes_last(_one_sided),
    batched=LIMIT,
)


def _two_sided(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues by rotations of rows and columns; the diagonal, from which they are read, is kept apart."""
    unit, size = _unit(0.5 * (matrix + matrix.T))
    n = unit.shape[0]
    half = n // 2
    eye = jnp.eye(n, dtype=bool)
    start = jnp.sum(jnp.where(eye, unit, 0), 0), jnp.where(eye, 0, unit), eye.astype(unit.dtype)
    tight = float(jnp.finfo(unit.dtype).eps)

    def split(array, axis=0):
        return jnp.split(array, [half, 2 * half], axis)

    index = jnp.arange(n)
    first, second, rest = split(jnp.where(index < 2 * half, index % max(half, 1), half))
    pair = _mixed(first, second, rest, 0) if n > 1 else index

    def turn(_, state):
        diagonal, off, vectors = state
        p, q, alone = split(diagonal)
        between = jnp.sum(jnp.where(eye[:half, :half], off[:half, half : 2 * half], 0), 0)
        tangent, cosine, sine = _angle(p, q, between, tight * jnp.sqrt(jnp.abs(p)) * jnp.sqrt(jnp.abs(q)))

        def turned(array):
            first, second, rest = split(array, 1)
            return _mixed(c * first - s * second, s * first + c * second, rest, 1)

        c, s, gain = cosine[None], sine[None], tangent * between
        off = turned(turned(off).T)
        # What rotations make zero is zero, and not rounding.
        off = jnp.where(pair[:, None] != pair[None, :], off, 0)
        return _mixed(p - gain, q + gain, alone, 0), off, turned(vectors)

    def unfinished(state):
        # What is smaller moves the eigenvalues of a positive definite matrix by their rounding: Demmel, Veselic (1992).
        root = jnp.sqrt(jnp.abs(state[0]))
        return jnp.abs(state[1]) > tight * root[:, None] * root[None, :]

    sweep = functools.partial(control_flow.fori_loop, 0, n - 1 + n % 2, turn)
    diagonal, _, vectors = _swept(sweep, unfinished, start) if n > 1 else start
    values, vectors = _ranked(diagonal, vectors)
    return values * size[0], jnp.where(jnp.isnan(size), size, vectors)


eigh = factorization(
    "Ascending eigenvalues, and eigenvectors in columns.",
    _two_sided,
    lambda matrix: tuple(jnp.linalg.eigh(matrix)),
)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The product of two matrices; written out where both are small."""
    small = is_small(left) and is_small(right)
    return jnp.sum(left[:, :, None] * right[None, :, :], 1) if small else left @ right


def ascending(vector: jax.Array) -> jax.Array:
    """A vector without NaN, sorted; one of a few numbers by counting."""
    return _ranked(vector)[0] if trees.at_most(vector.size, LIMIT) else jnp.sort(vector)
