"""Sparse data: batches of rows that are those of the dense matrix, with one shape for the compiler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse

import gdjax
from gdjax.objectives import rows

N, D = 17, 5
RNG = np.random.default_rng(0)
DENSE = np.float32(RNG.normal(size=(N, D)) * (RNG.random((N, D)) < 0.4))
DENSE[3] = 0  # a row without entries, and one that is full
DENSE[5] = 1
TARGETS = jnp.asarray(DENSE @ np.arange(1.0, D + 1), jnp.float32)


def unsorted():
    found = sparse.BCOO.fromdense(jnp.asarray(DENSE))
    order = RNG.permutation(found.nse)
    return sparse.BCOO((found.data[order], found.indices[order]), shape=found.shape)


FORMS = {
    "BCOO": lambda: sparse.BCOO.fromdense(jnp.asarray(DENSE)),
    "unsorted": unsorted,
    "with room": lambda: sparse.BCOO.fromdense(jnp.asarray(DENSE), nse=60),
    "rows apart": lambda: sparse.BCOO.fromdense(jnp.asarray(DENSE), n_batch=1),
    "dense rows": lambda: sparse.BCOO.fromdense(jnp.asarray(DENSE), n_dense=1),
    "BCSR": lambda: sparse.BCSR.fromdense(jnp.asarray(DENSE)),
    "csr": lambda: scipy.sparse.csr_matrix(DENSE),
    "csc": lambda: scipy.sparse.csc_array(DENSE),
    "lil": lambda: scipy.sparse.lil_matrix(DENSE),
}


@jax.jit
def laid_out(data, index):
    """The rows, of the same form as the data, and dense."""
    found = rows.take(data, index)
    return found, (found["x"].todense(), found["y"])


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_the_dense_matrix(form):
    data = rows.as_data({"x": FORMS[form](), "y": TARGETS})
    assert rows.count(data, "test") == N
    ready = rows.prepared(data, 4, True, "test")
    for index in ([16, 3, 0, 5], [5, 5, 5, 5], [3, 3, 3, 3]):
        found, dense = laid_out(ready, jnp.array(index, jnp.int32))
        assert type(found["x"]) is type(data["x"])
        assert found["x"].shape == (4, D)
        np.testing.assert_array_equal(dense[0], DENSE[index])
        np.testing.assert_array_equal(dense[1], np.asarray(TARGETS)[index])
    assert rows.everything(ready)["x"].shape == (N, D)


def test_a_batch_has_room_for_the_fullest_rows():
    data = sparse.BCOO.fromdense(jnp.asarray(DENSE))
    counts = np.sort((DENSE != 0).sum(1))
    index = jnp.arange(3, dtype=jnp.int32)
    assert rows.take(rows.prepared(data, 3, False, "test"), index).nse == counts[-3:].sum()
    assert rows.take(rows.prepared(data, 3, True, "test"), index).nse == 3 * counts[-1]


def test_of_three_dimensions_and_without_entries():
    cube = np.float32(RNG.normal(size=(6, 2, 3)) * (RNG.random((6, 2, 3)) < 0.5))
    nothing = jnp.zeros((6, 3))
    index = jnp.array([4, 0], jnp.int32)
    for dense, form in (
        (cube, sparse.BCOO.fromdense(jnp.asarray(cube))),
        (nothing, sparse.BCOO.fromdense(nothing)),
        (nothing, sparse.BCSR.fromdense(nothing)),
    ):
        ready = rows.prepared({"x": form, "y": jnp.arange(6)}, 2, False, "test")
        np.testing.assert_array_equal(laid_out(ready, index)[1][0], dense[np.asarray(index)])


def loss(w, batch):
    inputs, targets = batch
    return jnp.mean((inputs @ w - targets) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "size"), [("BCOO", None), ("BCOO", 4), ("BCSR", 4), ("csr", 4)])
def test_runs_are_those_over_dense_data(form, size):
    dense, found = (
        gdjax.minimize(
            gdjax.finite_sum(loss, (x, TARGETS), size),
            jnp.zeros(D),
            gdjax.gradient_descent(0.1),
            key=0,
            stop=None,
            max_steps=12,
        )
        for x in (DENSE, FORMS[form]())
    )
    np.testing.assert_allclose(found.params, dense.params, rtol=1e-5)
    assert float(found.value) == pytest.approx(float(dense.value), rel=1e-5)


@pytest.mark.slow
def test_the_default_method_and_supervised():
    data = (FORMS["BCOO"](), TARGETS)
    found = gdjax.minimize(gdjax.finite_sum(loss, data), jnp.zeros(D))
    np.testing.assert_allclose(found.params, np.arange(1.0, D + 1), rtol=1e-3)
    seen = gdjax.objectives.supervised(lambda w, x: x @ w, lambda out, y: (out - y) ** 2, data, 4)
    assert seen.sample is not None
    batch = seen.sample(jax.random.key(0), 0)
    assert float(seen.at(batch)(jnp.ones(D))) == pytest.approx(float(loss(jnp.ones(D), batch)))


@pytest.mark.slow
def test_made_inside_compiled_code_and_mapped():
    """As a trial makes it: from a matrix that is known, and from one that is traced."""
    known = FORMS["unsorted"]()

    def batch(key, inputs):
        objective = gdjax.finite_sum(loss, (inputs, TARGETS), 4)
        assert objective.sample is not None
        assert objective.full is not None
        value_and_grad = jax.value_and_grad(objective.at(objective.sample(key, 3)))
        return *value_and_grad(jnp.ones(D)), objective.full(jnp.ones(D))

    keys = jax.random.split(jax.random.key(0), 2)
    expected = jax.jit(jax.vmap(lambda key: batch(key, jnp.asarray(DENSE))))(keys)
    closed = jax.jit(jax.vmap(lambda key: batch(key, known)))(keys)
    traced = jax.jit(jax.vmap(batch, (0, None)))(keys, known)
    for found in (closed, traced):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_errors():
    with pytest.raises(
        ValueError, match=r"finite_sum: data arrays differ in their leading axis: \[\(17, 5\), \(3,\)\]"
    ):
        gdjax.finite_sum(loss, (FORMS["BCOO"](), jnp.ones(3)))
    with pytest.raises(TypeError, match="batches are rows of BCOO or BCSR matrices, got CSR; convert it"):
        gdjax.finite_sum(loss, (sparse.CSR.fromdense(jnp.asarray(DENSE)), TARGETS), 4)
