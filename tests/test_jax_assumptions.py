"""What gdjax takes for granted about JAX, one test for each; and that it goes on, only slower, where it is not so.

A test of the first half that fails names what a new version of JAX has changed. Those of the second half show that
nothing but speed hangs on it.
"""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from functions import rosenbrock
from jax import lax

import gdjax
from gdjax._internal.programs import (
    compilation,
    dense_layers,
    fingerprints,
    jaxprs,
    memory_layout,
    nan_flow,
    scalarize,
)
from gdjax._internal.programs import lanes as lane_loops

pytestmark = pytest.mark.smoke

JAXLIB = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
XS = np.arange(12.0, dtype=np.float32).reshape(4, 3)


def equation(function, *arguments):
    """The one equation of a function's program."""
    (eqn,) = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    return eqn


SCANS = {
    "state": (lambda c, x: lax.scan(lambda s, _: (2 * s, None), x, length=4), (0, 1, 4)),
    "constant": (lambda c, x: lax.scan(lambda s, _: (c * s, None), x, length=4), (1, 1, 4)),
    "rows": (lambda c, x: lax.scan(lambda s, r: (c * s + r, None), x, XS), (1, 1, 4)),
    "rows out": (
        lambda c, x: lax.scan(lambda s, r: ((s[0] + r, s[1] * c), (r, s[0])), (x, c), XS),
        (1, 2, 4),
    ),
    "reverse": (lambda c, x: lax.scan(lambda s, r: (c * s + r, s), x, XS, reverse=True), (1, 1, 4)),
    "map": (lambda c, x: lax.map(lambda r: c * r + x, XS), (2, 0, 4)),
    "no steps": (lambda c, x: lax.scan(lambda s, _: (c * s, s), x, length=0), (1, 1, 0)),
    "one step": (lambda c, x: lax.scan(lambda s, r: (c * s + r, s), x, XS[:1]), (1, 1, 1)),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan_is_constants_then_state_then_rows(name):
    function, expected = SCANS[name]
    found = jaxprs.scan_parts(equation(function, jnp.float32(2.0), jnp.ones(3)))
    assert found is not None
    assert (found.constants, found.carried, found.length) == expected


CALLS = {"jit": jax.jit, "custom_jvp": lambda f: jax.nn.relu, "checkpoint": jax.checkpoint}


@pytest.mark.parametrize("name", CALLS)
def test_calls_have_their_names_and_one_program(name):
    eqn = equation(CALLS[name](lambda x: jnp.maximum(x, 0.0)), jnp.arange(-1.0, 2.0))
    found = jaxprs.called(eqn, dense_layers._CALLS | nan_flow._CALLS)
    assert found is not None
    program, constants = found
    (found,) = jaxprs.evaluate(program, constants, [jnp.arange(-1.0, 2.0)])
    assert found.tolist() == [0.0, 0.0, 1.0]


def test_products_say_what_they_add_up():
    eqn = equation(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5)))
    assert jaxprs.contracted(eqn) == (((2,), (1,)), ((0,), (0,)))


MOVES = {
    "broadcast_in_dim": lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)),
    "concatenate": lambda x: lax.concatenate([x, x], 0),
    "pad": lambda x: lax.pad(x, jnp.float32(0), [(1, 2, 0)]),
    "reduce_sum": lambda x: lax.reduce_sum_p.bind(x, axes=(0,)) if JAXLIB < (0, 8) else jnp.sum(x),
    "reshape": lambda x: lax.reshape(x, (3, 1)),
    "rev": lambda x: lax.rev(x, (0,)),
    "slice": lambda x: lax.slice(x, (0,), (3,), (2,)),
    "squeeze": lambda x: lax.squeeze(x[None], (0,)),
    "transpose": lambda x: lax.transpose(lax.reshape(x, (3, 1)), (1, 0)),
    "add_any": lambda x: jax.vjp(lambda y: y * y, x)[1](x)[0],
}


@pytest.mark.parametrize("name", jaxprs.MOVES)
def test_operations_that_move_elements_say_how(name):
    eqns = jax.make_jaxpr(MOVES[name])(jnp.ones(3)).jaxpr.eqns
    (eqn,) = [eqn for eqn in eqns if eqn.primitive.name == name]
    assert jaxprs.moving(eqn)


def test_programs_without_constants_hold_none():
    kept = []

    def outer(x):
        closed = jax.make_jaxpr(lambda y: x * y)(1.0)
        kept.append(jaxprs.opened(closed))
        assert fingerprints.of_program(kept[0]) == fingerprints.of_program(jaxprs.opened(closed))
        return jnp.stack(jaxprs.evaluate(kept[0], closed.consts, [3.0]))

    assert jax.jit(outer)(2.0).tolist() == [6.0]
    assert not getattr(kept[0], "consts", ())


def test_the_quick_compiler_is_there_until_jaxlib_0_11():
    compilation._options.cache_clear()
    assert compilation._options().kernel == (JAXLIB < (0, 11))


def test_programs_may_be_compiled_as_they_come():
    assert compilation._options().quickest == compilation._options().quick | compilation._AS_IT_COMES
    as_it_comes = jax.jit(
        lambda x: jax.lax.fori_loop(0, 5, lambda i, y: y + jnp.sin(x), x),
        compiler_options=compilation._AS_IT_COMES,
    )
    assert "while" in as_it_comes.lower(1.0).compile().as_text()
    np.testing.assert_allclose(as_it_comes(1.0), 1 + 5 * np.sin(1.0), rtol=1e-6)


def test_small_functions_are_done_on_scalars():
    program = jax.make_jaxpr(scalarize.value_and_grad(rosenbrock))(jnp.ones(3)).jaxpr
    names = {eqn.primitive.name for eqn in program.eqns}
    assert "mul" in names
    assert not names & {"pad", "reduce_sum", "jit", "pjit"}


def test_overflow_is_all_that_can_happen_to_polynomials():
    assert nan_flow.only_overflows(rosenbrock, jnp.ones(3))
    assert not nan_flow.only_overflows(jnp.log, 1.0)
    hidden, watched = nan_flow.forgotten(lambda g, x: x - 0.1 * jax.jit(jnp.square)(g), 1.0, 2.0)
    assert (hidden, watched) == ([False], [True])


def test_layers_are_found_through_calls():
    @jax.checkpoint
    def layer(w, x):
        return jax.jit(jnp.tanh)(x @ w["w"] + w["b"][None])

    params = {"b": jnp.ones(2), "w": jnp.ones((3, 2))}
    network = dense_layers.find(lambda w: layer(w, XS), params)
    assert network.layers == [dense_layers.Dense(weight=1, bias=0, inputs=0, size=4)]


def test_runs_are_laid_out_innermost():
    program = jax.make_jaxpr(jax.vmap(memory_layout.runs_last))(jnp.ones((5, 3)))
    assert "layout_constraint" in str(program)


def test_programs_say_what_memory_they_take():
    compiled = jax.jit(lambda x: jnp.sort(x) @ x).lower(jnp.ones(1000)).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes > 0


def test_programs_say_whether_they_speak():
    assert jax.make_jaxpr(lambda x: jax.debug.print("{}", x))(1.0).jaxpr.effects
    assert not jax.make_jaxpr(rosenbrock)(jnp.ones(3)).jaxpr.effects


def grid():
    """A sweep in which work is shared: the data of a step depend on the seed alone."""

    def trial(rate, seed):
        start = jax.random.normal(jax.random.key(seed), (3,))
        data = gdjax.finite_sum(lambda x, batch: jnp.mean((batch @ x) ** 2), jnp.asarray(XS), batch_size=2)
        return gdjax.Run(data, start, optax.sgd(rate), stop=None, max_steps=6, key=jax.random.key(seed))

    found = gdjax.sweep(trial, {"rate": [1e-3, 2e-3, 3e-3], "seed": [0, 1]}, params=True)
    return found.value.values, found.params.values, found.status.values


def lanes():
    """Runs that stop by themselves, with data that all of them share."""

    def trial(scale):
        return gdjax.Run(lambda x: jnp.sum((XS @ (x - 1)) ** 2), scale * jnp.ones(3), optax.sgd(1e-3))

    found = gdjax.sweep(trial, {"scale": np.linspace(0.5, 3.0, 9)}, lanes=3, params=True)
    return found.value.values, found.params.values, found.status.values


def mapped():
    """Many runs under ``vmap``, through lanes."""

    def one(x):
        result = gdjax.minimize(lambda x: (x - 1.0) ** 2, x, optax.sgd(0.3))
        return result.value, result.params, result.status

    return jax.vmap(one)(jnp.linspace(-1.0, 9.0, 37))


def fixed():
    """Bare steps in blocks, which look for what is not finite."""
    run = gdjax.Run(lambda x: rosenbrock(x), jnp.array([-1.2, 1.0]), optax.sgd(1e-3), stop=None, max_steps=40)
    return jax.jit(lambda: run.solve().params)()


def recorded():
    """Rows that are read off the params alone."""
    run = gdjax.Run(
        rosenbrock,
        jnp.array([-1.2, 1.0]),
        optax.sgd(1e-3),
        stop=None,
        max_steps=40,
        record=lambda s: s.params,
    )
    return jax.jit(lambda: run.solve().trace)()


def gradient():
    return jax.jit(lambda x: scalarize.value_and_grad(rosenbrock)(x))(jnp.array([-1.2, 1.0]))


@pytest.fixture
def small_lanes(monkeypatch):
    monkeypatch.setattr(lane_loops, "WORTH", 0)
    monkeypatch.setattr(lane_loops, "CACHED", 0)


@functools.cache
def as_it_is(work):
    return work()


BROKEN = {
    "scan_parts": (grid,),
    "called": (fixed,),
    "contracted": (grid,),
    "moving": (gradient,),
    "used": (recorded,),
    "_programs": (grid, lanes, mapped, fixed, gradient),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", BROKEN)
@pytest.mark.parametrize("how", ["unknown", "raises"])
def test_what_cannot_be_read_costs_speed_and_nothing_else(part, how, small_lanes, monkeypatch):
    asked = []

    def broken(eqn, *names):
        asked.append(eqn)
        if how == "raises":
            raise KeyError("num_consts")
        return [] if part == "_programs" else None

    for work in BROKEN[part]:
        expected = as_it_is(work)
        with monkeypatch.context() as patch:
            patch.setattr(jaxprs, part, broken)
            found = work()
        assert asked
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
