"""Small factorizations against NumPy in float64, one by one and many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdjax._internal.programs import primitives
from gdjax.linalg import small
from gdjax.linalg.triangles import triangular

KINDS = ["random", "graded", "deficient", "zero", "clustered", "signs"]


def matrix(kind, n, dtype):
    rng = np.random.default_rng(n)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = {
        "random": rng.normal(size=n),
        "graded": np.ones(n),
        "deficient": np.arange(n) % 2.0,
        "zero": np.zeros(n),
        "clustered": 1 + 1e-9 * rng.normal(size=n),
        "signs": np.where(np.arange(n) % 2, 1.0, -1.0),
    }[kind]
    made = (basis * values) @ basis.T
    if kind == "graded":
        scale = 10.0 ** -np.arange(n)
        made = (n * np.eye(n) + 0.5 * (basis + basis.T)) * scale[:, None] * scale[None, :]
    lower = np.tril(made).astype(dtype)
    return lower + np.tril(lower, -1).T


def ways(function, array):
    """By itself, and among others under ``vmap``."""
    array = jnp.asarray(array)
    many = jax.jit(jax.vmap(function))(jnp.stack([2 * array, array, 0 * array]))
    return [jax.jit(function)(array), jax.tree.map(lambda leaf: leaf[1], many)]


def close(found, expected, size, eps):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=0, atol=30 * eps * max(size, 1e-300))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_and_vectors_are_right_to_rounding(x64, kind, n, dtype):
    given = matrix(kind, n, dtype)
    eps, exact = np.finfo(dtype).eps, np.linalg.eigvalsh(given.astype(float))
    for values, vectors in ways(small.eigh, given):
        assert values.dtype == dtype
        close(values, exact, np.abs(exact).max(), eps)
        vectors = np.asarray(vectors, float)
        close((vectors * np.asarray(values, float)) @ vectors.T, given, np.abs(exact).max(), eps)
        close(vectors.T @ vectors, np.eye(n), 1, eps)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_singular_values_and_vectors_are_right_to_rounding(x64, kind, n, dtype):
    given = (matrix(kind, n, dtype) + np.triu(matrix(kind, n, dtype), 1)).astype(dtype)
    eps, exact = np.finfo(dtype).eps, np.linalg.svd(given.astype(float), compute_uv=False)
    for left, values, right in ways(small.svd, given):
        close(values, exact, exact[0], eps)
        left, right = np.asarray(left, float), np.asarray(right, float)
        close((left * np.asarray(values, float)) @ right.T, given, exact[0], eps)
        close(right.T @ right, np.eye(n), 1, eps)


def test_small_values_of_graded_matrices_have_all_their_digits(x64):
    scale = 10.0 ** -np.arange(0, 24, 8)
    core = np.random.default_rng(0).normal(size=(3, 3))
    columns = core * scale[None, :]
    found = np.asarray(small.svd(jnp.asarray(columns))[1])
    # The last value is how far the last column is from the span of the others.
    rest = np.linalg.qr(core[:, :-1], mode="complete")[0][:, -1] @ core[:, -1]
    np.testing.assert_allclose(
        found[-1], abs(rest) * scale[-1], rtol=1e-7
    )  # up to the ratio of neighbours squared
    weights = 10.0 ** -np.arange(0, 24, 8)
    definite = (3 * np.eye(3) + 0.5 * (core + core.T)) * weights[:, None] * weights[None, :]
    found = np.asarray(small.eigh(jnp.asarray(0.5 * (definite + definite.T)))[0])
    product = np.linalg.det(3 * np.eye(3) + 0.5 * (core + core.T)) * np.prod(weights) ** 2
    np.testing.assert_allclose(
        np.prod(found / weights[::-1] ** 2), product / np.prod(weights) ** 2, rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(50, 4), (5, 5), (2, 4), (30, 9), (3, 9), (7, 1), (9, 14)])
def test_the_triangle_has_the_columns_sizes_and_angles(x64, shape, dtype):
    given = np.random.default_rng(0).normal(size=shape)
    given = (given * 10.0 ** -np.arange(shape[1])[None, :]).astype(dtype)
    sizes = np.linalg.norm(given.astype(float), axis=0)
    for upper in ways(triangular, given):
        upper = np.asarray(upper, float)
        assert upper.shape == (min(shape), shape[1])
        np.testing.assert_array_equal(np.tril(upper, -1), 0)
        close(
            upper.T @ upper / sizes / sizes[:, None],
            given.T.astype(float) @ given / sizes / sizes[:, None],
            3,
            np.finfo(dtype).eps,
        )


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_extreme_sizes_do_not_overflow(x64, size):
    given = matrix("random", 3, np.float64)
    for values, _ in ways(small.eigh, given * size):
        np.testing.assert_allclose(values / size, np.linalg.eigvalsh(given), rtol=1e-12)
    for _, values, _ in ways(small.svd, 0.25 * given * size):
        np.testing.assert_allclose(values / (0.25 * size), np.linalg.svd(given)[1], rtol=1e-12)


def test_what_is_not_finite_shows():
    bad = jnp.eye(3).at[0, 1].set(jnp.nan).at[1, 0].set(jnp.nan)
    assert jnp.all(jnp.isnan(small.eigh(bad)[0]))
    assert jnp.all(jnp.isnan(small.svd(bad)[1]))


def test_derivatives_are_the_librarys(x64):
    given = jnp.asarray(matrix("random", 3, np.float64))
    ours, theirs = (jax.grad(lambda a, f=f: f(a)[0][0])(given) for f in (small.eigh, jnp.linalg.eigh))
    np.testing.assert_allclose(ours, theirs, atol=1e-14)
    ours = jax.jvp(lambda a: small.svd(a)[1], (given,), (given,))[1]
    np.testing.assert_allclose(ours, np.linalg.svd(given)[1], atol=1e-12)


def test_small_products_and_sorting_are_the_librarys():
    left, right = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(small.product(jnp.asarray(left), jnp.asarray(right)), left @ right, rtol=1e-5)
    numbers = jnp.array([3.0, -1.0, jnp.inf])
    np.testing.assert_array_equal(small.ascending(numbers), np.sort(numbers))


def test_no_library_is_called_for_small_matrices():
    for function in (small.eigh, small.svd, triangular, lambda a: small.product(a, a)):
        assert primitives.elemental(jax.make_jaxpr(function)(jnp.eye(3)).jaxpr)
        assert not primitives.elemental(jax.make_jaxpr(function)(jnp.eye(40)).jaxpr)
