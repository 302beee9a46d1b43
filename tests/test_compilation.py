"""How `minimize` is compiled: quickly where that is worth it, once, and never inside another program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax import compilation

pytestmark = pytest.mark.smoke


class Options:
    """Which options programs are compiled with, by the name of what is compiled."""

    def __init__(self, monkeypatch):
        self.seen, plain = [], jax.jit

        def jit(function, **options):
            compiled = plain(function)  # not every version of XLA takes the options

            def call(tree):
                self.seen.append(options.get("compiler_options"))
                return compiled(tree)

            call.trace = compiled.trace
            return call

        monkeypatch.setattr(compilation.jax, "jit", jit)


@pytest.fixture
def options(monkeypatch):
    monkeypatch.setattr(compilation, "_understood", lambda: True)
    return Options(monkeypatch)


def heavy(x):
    return jnp.sum(jnp.cumsum(jnp.broadcast_to(x, (10**6,))) ** 2)


def test_small_programs_are_compiled_quickly(options):
    square = compilation.jit(lambda x: x**2, lambda x: 1000)
    assert square(3.0) == 9.0
    assert options.seen == [{"xla_cpu_use_fusion_emitters": False}]


def test_programs_with_much_to_do_are_compiled_well(options):
    compilation.jit(heavy, lambda x: 1000)(jnp.float32(0.0))
    compilation.jit(lambda x: x**2, lambda x: 10**9)(3.0)
    assert options.seen == [None, None]


def test_inside_other_programs_there_are_no_options(options):
    square = compilation.jit(lambda x: x**2, lambda x: 1000)
    scale = lambda t: compilation.jit(lambda x: t * x, lambda x: 1000)(2.0)  # noqa: E731
    assert jnp.stack([square(jnp.float32(3.0))]).item() == 9.0
    del options.seen[:]
    assert jax.vmap(square)(jnp.arange(3.0)).tolist() == [0.0, 1.0, 4.0]
    assert jax.grad(square)(3.0) == 6.0
    assert jax.eval_shape(lambda: square(3.0)).shape == ()
    assert jax.vmap(scale)(jnp.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
    assert jax.grad(scale)(3.0) == 2.0
    assert options.seen == [None] * 5


def test_an_option_that_is_not_known_is_not_used(monkeypatch):
    monkeypatch.setattr(compilation, "_QUICK", {"xla_cpu_no_such_option": False})
    compilation._understood.cache_clear()
    assert not compilation._understood()
    assert compilation.jit(lambda x: x**2, lambda x: 1)(3.0) == 9.0
    monkeypatch.undo()
    compilation._understood.cache_clear()


def test_both_ways_come_to_the_same(x64):
    start = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, 12))
    objective = gdjax.problems.rosenbrock(12).objective
    quick = gdjax.minimize(objective, start, gdjax.bfgs())
    whole = jax.jit(lambda x: gdjax.minimize(objective, x, gdjax.bfgs()))(start)
    assert quick.status == whole.status == 1
    np.testing.assert_allclose(quick.params, whole.params, atol=1e-6)


def test_traced_once_and_compiled_once():
    traces = 0

    def objective(x):
        nonlocal traces
        traces += 1
        return jnp.sum((x - 1) ** 2)

    optimizer = gdjax.gradient_descent(0.1)
    for start in (jnp.ones(3), jnp.zeros(3), jnp.ones(3)):
        gdjax.minimize(objective, start, optimizer)
    first = traces
    gdjax.minimize(objective, jnp.zeros(3), optimizer)
    assert traces == first <= 2


def test_without_jit():
    with jax.disable_jit():
        assert gdjax.minimize(lambda x: x**2, 1.0, gdjax.gradient_descent(0.5), max_steps=2).value == 0.0
