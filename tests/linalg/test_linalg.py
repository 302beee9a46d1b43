"""Solvers against NumPy and SciPy in float64, and what float32 and odd systems do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

from gdjax import linalg

pytestmark = pytest.mark.usefixtures("x64")


def symmetric(eigenvalues, seed=0):
    eigenvalues = np.asarray(eigenvalues, float)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(eigenvalues.size,) * 2))
    return basis * eigenvalues @ basis.T


def normal(n, seed=1):
    return np.random.default_rng(seed).normal(size=n)


SPECTRA = {
    "positive": np.geomspace(0.1, 100, 12),
    "indefinite": np.r_[-np.geomspace(0.5, 20, 5), np.geomspace(0.1, 30, 7)],
    "clustered": np.repeat([1.0, 5.0, 9.0], 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["positive", "clustered"])
def test_cg_solves(name):
    matrix, right = symmetric(SPECTRA[name]), normal(12)
    found = linalg.cg(lambda v: matrix @ v, jnp.asarray(right), tolerance=1e-12, max_steps=60)
    np.testing.assert_allclose(found.solution, np.linalg.solve(matrix, right), rtol=1e-8)
    assert bool(found.definite)
    assert float(found.residual) <= 1e-12 * np.linalg.norm(right)
    if name == "clustered":
        assert int(found.steps) == 3


def test_cg_iterates_are_scipys():
    matrix, right = symmetric(SPECTRA["positive"]), normal(12)
    preconditioner = np.diag(1 / np.diag(matrix))
    for count in (1, 2, 5):
        expected, _ = scipy.sparse.linalg.cg(matrix, right, rtol=0, maxiter=count, M=preconditioner)
        found = linalg.cg(
            lambda v: matrix @ v,
            jnp.asarray(right),
            preconditioner=lambda r: preconditioner @ r,
            tolerance=0,
            max_steps=count,
        )
        assert int(found.steps) == count
        np.testing.assert_allclose(found.solution, expected, rtol=1e-10)


def test_exact_preconditioner_needs_one_step():
    matrix, right = symmetric(SPECTRA["positive"]), normal(12)
    inverse = np.linalg.inv(matrix)
    found = linalg.cg(lambda v: matrix @ v, jnp.asarray(right), preconditioner=lambda r: inverse @ r)
    assert int(found.steps) == 1
    np.testing.assert_allclose(found.solution, inverse @ right, rtol=1e-9)


def test_cg_says_where_the_matrix_is_not_definite():
    found = linalg.cg(lambda v: -v, jnp.ones(3))
    assert not bool(found.definite)
    np.testing.assert_array_equal(found.solution, 0)
    assert float(found.residual) == pytest.approx(3**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
def test_minres_solves(name):
    matrix, right = symmetric(SPECTRA[name]), normal(12)
    found = linalg.minres(lambda v: matrix @ v, jnp.asarray(right), tolerance=1e-11, max_steps=100)
    np.testing.assert_allclose(found.solution, np.linalg.solve(matrix, right), rtol=1e-7)
    left = np.linalg.norm(matrix @ np.asarray(found.solution) - right)
    assert left <= 2e-11 * np.linalg.norm(right)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_minres_is_the_least_residual_of_the_krylov_space(count):
    matrix, right = symmetric(SPECTRA["indefinite"]), normal(12)
    found = linalg.minres(lambda v: matrix @ v, jnp.asarray(right), tolerance=0, max_steps=count)
    columns = [right]
    for _ in range(count - 1):
        columns.append(matrix @ columns[-1])
    krylov, _ = np.linalg.qr(np.stack(columns, axis=1))
    coordinates = np.linalg.lstsq(matrix @ krylov, right, rcond=None)[0]
    least = np.linalg.norm(matrix @ krylov @ coordinates - right)
    np.testing.assert_allclose(found.solution, krylov @ coordinates, rtol=1e-6, atol=1e-9)
    assert float(found.residual) == pytest.approx(least, rel=1e-8)


def test_minres_on_singular_systems():
    matrix = symmetric([0.0, 0.0, 1.0, -2.0, 3.0])
    right = matrix @ normal(5)
    found = linalg.minres(lambda v: matrix @ v, jnp.asarray(right), tolerance=1e-10)
    np.testing.assert_allclose(found.solution, np.linalg.pinv(matrix) @ right, atol=1e-9)
    nothing = linalg.minres(lambda v: 0.0 * v, jnp.ones(3))
    np.testing.assert_array_equal(nothing.solution, 0)
    assert float(nothing.residual) == pytest.approx(3**0.5)


def _model(matrix, gradient, step):
    step = np.asarray(step)
    return gradient @ step + 0.5 * step @ matrix @ step


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("radius", [1e-3, 0.3, 1e3])
def test_truncated_cg_keeps_its_promises(name, radius):
    matrix, gradient = symmetric(SPECTRA[name]), normal(12)
    found = linalg.truncated_cg(
        lambda v: matrix @ v, jnp.asarray(gradient), radius, tolerance=1e-10, max_steps=60
    )
    length = np.linalg.norm(found.step)
    assert length <= radius * (1 + 1e-12)
    assert float(found.decrease) == pytest.approx(-_model(matrix, gradient, found.step), rel=1e-9)
    bend = gradient @ matrix @ gradient
    norm = np.linalg.norm(gradient)
    cauchy = min(radius / norm, norm**2 / bend if bend > 0 else np.inf)
    assert float(found.decrease) >= -_model(matrix, gradient, -cauchy * gradient) * (1 - 1e-12)
    if bool(found.on_boundary):
        assert length == pytest.approx(radius, rel=1e-12)
    else:
        np.testing.assert_allclose(found.step, -np.linalg.solve(matrix, gradient), rtol=1e-7)
    assert bool(found.on_boundary) == (radius < 1 or name == "indefinite")
    assert bool(found.negative) == (name == "indefinite" and radius > 1)


@pytest.mark.slow
def test_truncated_cg_with_an_infinite_radius_is_truncated_newton():
    matrix, gradient = symmetric(SPECTRA["positive"]), normal(12)
    found = linalg.truncated_cg(
        lambda v: matrix @ v, jnp.asarray(gradient), jnp.inf, tolerance=1e-11, max_steps=60
    )
    np.testing.assert_allclose(found.step, -np.linalg.solve(matrix, gradient), rtol=1e-7)
    indefinite = symmetric(SPECTRA["indefinite"])
    found = linalg.truncated_cg(lambda v: indefinite @ v, jnp.asarray(gradient), jnp.inf)
    assert bool(found.negative)
    assert not bool(found.on_boundary)
    assert np.isfinite(found.step).all()
    assert float(found.decrease) == pytest.approx(-_model(indefinite, gradient, found.step), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("solver", ["cg", "minres", "truncated_cg"])
def test_float32_at_any_scale_of_the_right_hand_side(solver, scale):
    with jax.enable_x64(False):
        matrix = jnp.asarray(symmetric([1.0, 2.0, 4.0]), jnp.float32)
        right = jnp.asarray(scale * np.array([1.0, -2.0, 0.5]), jnp.float32)

        def product(v):
            return jnp.dot(matrix, v)

        if solver == "truncated_cg":
            found = -linalg.truncated_cg(product, right, 10 * scale).step
        else:
            found = getattr(linalg, solver)(product, right).solution
        assert found.dtype == jnp.float32
        expected = scale * np.linalg.solve(np.asarray(matrix, float), np.array([1.0, -2.0, 0.5]))
        np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_float32_at_any_scale_of_the_matrix(scale):
    with jax.enable_x64(False):
        diagonal = jnp.asarray(scale * np.array([1.0, 2.0, 4.0]), jnp.float32)
        right = jnp.array([1.0, -2.0, 0.5])
        expected = np.asarray(right) / (scale * np.array([1.0, 2.0, 4.0]))
        for found in (
            linalg.cg(lambda v: diagonal * v, right).solution,
            linalg.minres(lambda v: diagonal * v, right).solution,
            -linalg.truncated_cg(lambda v: diagonal * v, right, 10 / scale).step,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_zero_and_nan_right_hand_sides():
    for solver in (linalg.cg, linalg.minres):
        found = solver(lambda v: 2 * v, jnp.zeros(3))
        np.testing.assert_array_equal(found.solution, 0)
        assert int(found.steps) == 0
    assert int(linalg.truncated_cg(lambda v: 2 * v, jnp.zeros(3), 1.0).steps) == 0
    broken = linalg.truncated_cg(lambda v: v * jnp.nan, jnp.ones(3), 1.0)
    np.testing.assert_array_equal(broken.step, 0)
    assert not bool(linalg.cg(lambda v: v * jnp.nan, jnp.ones(3)).definite)


def test_pytrees_of_mixed_types():
    right = {"a": jnp.ones((2, 2), jnp.float32), "b": (jnp.array(3.0, jnp.float64),)}

    def product(tree):
        return {"a": 2 * tree["a"], "b": (4 * tree["b"][0],)}

    for found in (
        linalg.cg(product, right).solution,
        linalg.minres(product, right).solution,
        jax.tree.map(jnp.negative, linalg.truncated_cg(product, right, 100.0).step),
    ):
        assert jax.tree.map(lambda x: x.dtype, found) == jax.tree.map(lambda x: x.dtype, right)
        np.testing.assert_allclose(found["a"], 0.5, rtol=1e-5)
        np.testing.assert_allclose(found["b"][0], 0.75, rtol=1e-5)


def test_every_number_may_be_mapped():
    diagonal = jnp.array([1.0, 3.0, 10.0, -2.0])

    @jax.jit
    @jax.vmap
    def steps(tolerance, most, radius):
        def product(v):
            return diagonal * v

        return (
            linalg.cg(lambda v: jnp.abs(diagonal) * v, jnp.ones(4), tolerance=tolerance, max_steps=most),
            linalg.minres(product, jnp.ones(4), tolerance=tolerance, max_steps=most),
            linalg.truncated_cg(product, jnp.ones(4), radius, tolerance=tolerance, max_steps=most),
        )

    by_cg, by_minres, by_steihaug = steps(
        jnp.array([0.9, 1e-9, 0.0]), jnp.array([9, 9, 1]), jnp.array([0.1, 1.0, 10.0])
    )
    assert by_cg.steps.tolist()[1:] == [4, 1]
    np.testing.assert_allclose(by_minres.solution[1], 1 / diagonal, rtol=1e-8)
    np.testing.assert_allclose(jnp.linalg.norm(by_steihaug.step[:2], axis=1), [0.1, 1.0], rtol=1e-12)


@pytest.mark.slow
def test_shifted_cholesky_leaves_positive_matrices_alone():
    matrix, right = symmetric(SPECTRA["positive"]), normal(12)
    found = linalg.shifted_cholesky(jnp.asarray(matrix))
    assert float(found.shift) == 0.0
    np.testing.assert_allclose(found.factor, np.linalg.cholesky(matrix), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.solve(jnp.asarray(right)), scipy.linalg.solve(matrix, right), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_shifted_cholesky_of_indefinite_matrices(scale):
    matrix = scale * symmetric(SPECTRA["indefinite"])
    found = jax.jit(linalg.shifted_cholesky)(jnp.asarray(matrix))
    shift = float(found.shift)
    assert -np.linalg.eigvalsh(matrix)[0] < shift <= 2 * np.abs(matrix).sum(axis=1).max()
    np.testing.assert_allclose(
        found.factor @ found.factor.T, matrix + shift * np.eye(12), atol=1e-12 * scale * 50
    )


def test_shifted_cholesky_of_nothing_and_of_nan():
    zero = linalg.shifted_cholesky(jnp.zeros((2, 2)))
    np.testing.assert_allclose(zero.factor, np.sqrt(float(zero.shift)) * np.eye(2))
    assert float(zero.shift) > 0
    assert np.isnan(linalg.shifted_cholesky(jnp.full((2, 2), jnp.nan)).factor).any()


def test_eigh_solve_is_downhill_and_bounded():
    matrix, right = symmetric(SPECTRA["indefinite"]), normal(12)
    values, basis = np.linalg.eigh(matrix)
    found = linalg.eigh_solve(jnp.asarray(matrix), jnp.asarray(right))
    np.testing.assert_allclose(found.solution, basis @ (basis.T @ right / np.abs(values)), rtol=1e-10)
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-10)
    assert found.solution @ right > 0
    bounded = linalg.eigh_solve(jnp.asarray(matrix), jnp.asarray(right), floor=100.0)
    np.testing.assert_allclose(bounded.solution, right / 100, rtol=1e-10)
    flat = linalg.eigh_solve(jnp.zeros((2, 2)), jnp.ones(2))
    np.testing.assert_allclose(flat.solution, 1.0)
