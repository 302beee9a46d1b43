"""Gradients on scalars against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import rosenbrock

import gdjax
from gdjax._internal.programs import scalarize

MATRIX = np.array([[3.0, 1.0], [1.0, 2.0]])


FUNCTIONS = {
    "rosenbrock": rosenbrock,
    "elements": lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
    "reversed": lambda x: jnp.sum(x[::-1] * jnp.arange(1.0, x.size + 1)) ** 2,
    "strided": lambda x: jnp.sum(jnp.sin(x[::2])) * jnp.exp(-x[-1]),
    "stacked": lambda x: jnp.sum(jnp.stack([x, jnp.cos(x)]).T.reshape(-1) ** 2),
    "product": lambda x: x[:2] @ MATRIX.astype(x.dtype) @ x[:2],
    "where": lambda x: jnp.sum(jnp.where(x > 0, x**3, jnp.abs(x))),
    "padded": lambda x: jnp.sum(jnp.pad(x, (1, 2)) ** 2 + jnp.tanh(x[0])),
    "norm": lambda x: jnp.sqrt(jnp.sum(x**2) + 1.0) / (1.0 + x[1] ** 2),
    "mean": lambda x: jnp.mean(jnp.log1p(x**2)),
    "constant": lambda x: 0.0 * x[0] + 3.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [2, 3])
def test_equals_jax(name, size, x64):
    function = FUNCTIONS[name]
    x = jnp.linspace(-1.3, 1.7, size)
    expected = jax.value_and_grad(function)(x)
    for found in (
        scalarize.value_and_grad(function)(x),
        jax.jit(scalarize.value_and_grad(function))(x),
        jax.tree.map(lambda leaf: leaf[1], jax.vmap(scalarize.value_and_grad(function))(jnp.stack([-x, x]))),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14), found, expected)


def test_pytrees_and_what_is_closed_over(x64):
    def function(params, shift):
        return jnp.sum((params["a"] - shift) ** 2) * params["b"][1, 0] + params["c"]

    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((2, 2)) * 3, "c": jnp.float64(0.5)}

    def both(shift):
        closed = lambda p: function(p, shift)  # noqa: E731
        return scalarize.value_and_grad(closed)(params), jax.value_and_grad(closed)(params)

    found, expected = jax.vmap(both)(jnp.array([[0.0, 1.0], [2.0, 3.0]]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), found, expected)


@pytest.mark.smoke
def test_second_derivatives(x64):
    x = jnp.array([-1.0, 1.5])
    found = jax.jacrev(lambda x: scalarize.value_and_grad(rosenbrock)(x)[1])(x)
    np.testing.assert_allclose(found, jax.hessian(rosenbrock)(x), rtol=1e-12)


@pytest.mark.smoke
def test_no_zeros_are_padded():
    program = str(jax.make_jaxpr(scalarize.value_and_grad(FUNCTIONS["elements"]))(jnp.ones(2)))
    assert " pad[" not in program
    assert " pad[" in str(jax.make_jaxpr(jax.value_and_grad(FUNCTIONS["elements"]))(jnp.ones(2)))


def test_anything_else_is_left_alone():
    def function(x):
        return jnp.linalg.norm(jnp.linalg.inv(jnp.outer(x, x) + jnp.eye(2)))

    x = jnp.array([1.0, 2.0])
    jax.tree.map(
        np.testing.assert_allclose, scalarize.value_and_grad(function)(x), jax.value_and_grad(function)(x)
    )
    big = jnp.arange(20.0)
    jax.tree.map(
        np.testing.assert_allclose,
        scalarize.value_and_grad(rosenbrock)(big),
        jax.value_and_grad(rosenbrock)(big),
    )


@pytest.mark.slow
def test_a_run_op_by_op(x64):
    """The same run with no compiler in it at all."""

    def run():
        return gdjax.minimize(
            FUNCTIONS["elements"], jnp.array([-1.0, 1.5]), gdjax.adam(0.1), stop=None, max_steps=9
        )

    with jax.disable_jit():
        expected = run()
    found = run()
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-12)
