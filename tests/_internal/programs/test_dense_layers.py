"""Dense layers: found however the model is written, with the activations and signals that make its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdjax._internal.programs import dense_layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))
PARAMS = {
    "b": RNG.normal(size=4),
    "v": RNG.normal(size=(2, 4)),
    "w": RNG.normal(size=(3, 4)),
}


def plain(p):
    return jnp.tanh(X @ p["w"] + p["b"][None]) @ p["v"].T


def one_example(p):
    return jax.vmap(lambda x: jnp.tanh(p["b"] + x @ p["w"]) @ p["v"].T)(X)


def matrices_first(p):
    return jax.vmap(lambda x: p["v"] @ jnp.tanh(p["w"].T @ x + p["b"]))(X)


def nested(p):
    @jax.checkpoint
    def hidden(p, x):
        return jnp.tanh(jnp.einsum("ni,io->no", x, p["w"]) + jnp.broadcast_to(p["b"], (6, 4)))

    return jax.jit(lambda p, x: jax.nn.relu(jax.jit(hidden)(p, x)) @ p["v"].T)(p, X)


def columns(p):
    return (p["v"] @ jnp.tanh(p["w"].T @ X.T + p["b"].reshape(4, 1))).T


def sequence(p):
    x = jnp.stack([X, 2 * X], axis=1)
    return jnp.mean(jnp.tanh(x @ p["w"] + p["b"][None, None]) @ p["v"].T, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("model", [plain, one_example, matrices_first, nested, columns, sequence])
def test_layers_are_found_and_make_the_gradient(model, x64):
    params = jax.tree.map(jnp.asarray, PARAMS)
    network = dense_layers.find(model, params)
    rows = 12 if model is sequence else 6
    assert network.layers == [dense_layers.Dense(2, 0, 0, rows), dense_layers.Dense(1, None, 1, rows)]
    assert network.others == {}

    passed = jax.jit(lambda p: network.forward(p)[:2])(params)
    outputs, back = jax.vjp(model, params)
    np.testing.assert_allclose(passed[0], outputs, rtol=1e-12)
    cotangent = RNG.normal(size=outputs.shape)
    signals = network.forward(params).back(jnp.asarray(cotangent))
    grad = back(jnp.asarray(cotangent))[0]
    np.testing.assert_allclose(passed[1][0].T @ signals[0], grad["w"], rtol=1e-10)
    np.testing.assert_allclose(signals[0].sum(0), grad["b"], rtol=1e-10)
    np.testing.assert_allclose(signals[1].T @ passed[1][1], grad["v"], rtol=1e-10)


def test_lower_precision_is_seen_through():
    def model(p):
        p = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), p)
        return jnp.tanh(jnp.asarray(X, jnp.bfloat16) @ p["w"] + p["b"][None]) @ p["v"].T

    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    network = dense_layers.find(model, params)
    assert len(network.layers) == 2
    assert network.others == {}
    assert network.forward(params).outputs.dtype == jnp.bfloat16


@jax.custom_jvp
def ruled(matrix):
    return X @ matrix


ruled.defjvp(lambda primals, tangents: (ruled(*primals), 2 * X @ tangents[0]))

OTHERS = {
    "shared by two layers": (lambda p: jnp.tanh(X @ p["w"]) @ p["w"].T, {2: "dot_general, dot_general"}),
    "scaled": (lambda p: X @ (p["w"] * 2.0), {2: "mul"}),
    "a product of leaves": (lambda p: X @ (p["w"] @ p["v"].T), {1: "dot_general", 2: "dot_general"}),
    "without data": (lambda p: jnp.ones((2, 3)) @ p["w"], {2: "dot_general"}),
    "shown": (lambda p: (X @ p["w"], p["w"]), {2: "dot_general, the outputs"}),
    "under a rule of its own": (lambda p: ruled(p["w"]), {2: "custom_jvp_call"}),
    "reshaped": (lambda p: X.reshape(2, 9) @ p["w"].reshape(12)[:9].reshape(9, 1), {2: "reshape"}),
    "rounded": (lambda p: X @ p["w"].astype(jnp.int8).astype(float), {2: "convert_element_type"}),
    "unused": (lambda p: X[:, :1], {2: "nothing"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_uses_are_named(name, x64):
    model, expected = OTHERS[name]
    network = dense_layers.find(model, jax.tree.map(jnp.asarray, PARAMS))
    assert network.layers == []
    assert expected.items() <= network.others.items()


BIASES = {
    "the product used besides": lambda z, b: (z + b[None]) * z,
    "added to two": lambda z, b: (z + b[None]) + jnp.tanh(b)[None],
    "across rows": lambda z, b: z[:4] + b[:, None],
    "after the nonlinearity": lambda z, b: jnp.tanh(z) + b[None],
}


@pytest.mark.parametrize("name", BIASES)
def test_a_vector_that_is_no_bias_stays_apart(name, x64):
    params = {key: jnp.asarray(PARAMS[key]) for key in "bw"}
    network = dense_layers.find(lambda p: BIASES[name](X @ p["w"], p["b"]), params)
    assert network.layers == [dense_layers.Dense(1, None, 0, 6)]
    assert list(network.others) == [0]


def test_loops_stay_closed(x64):
    stacked = {"w": jnp.asarray(RNG.normal(size=(2, 3, 3)))}

    def model(p):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), jnp.asarray(X), p["w"])[0]

    assert dense_layers.find(model, stacked)[:2] == ([], {0: "scan"})


def test_nothing_leaks_out_of_the_passes(x64):
    params = jax.tree.map(jnp.asarray, PARAMS)
    with jax.checking_leaks():
        jax.jit(lambda p: dense_layers.find(nested, p).forward(p)[:2])(params)
