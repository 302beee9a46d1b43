"""How `minimize` is compiled: quickly where that is worth it, once, and never inside another program."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import gdjax
from gdjax._internal.programs import compilation, jaxprs, primitives

pytestmark = pytest.mark.smoke


class Options:
    """Which options programs are compiled with, those inside others left out."""

    def __init__(self, monkeypatch):
        self.seen, self.inside, plain = [], False, jax.jit

        def jit(function, **options):
            asked = options.pop("compiler_options", None)
            compiled = plain(function, **options)  # not every version of XLA takes the options

            def call(*arguments):
                if self.inside:
                    return compiled(*arguments)
                self.seen.append(asked)
                self.inside = True
                try:
                    return compiled(*arguments)
                finally:
                    self.inside = False

            call.trace = compiled.trace
            return call

        monkeypatch.setattr(compilation.jax, "jit", jit)


@pytest.fixture
def options(monkeypatch):
    every = compilation._Options({"quick": True}, {"quickest": True}, True)
    monkeypatch.setattr(compilation, "_options", lambda: every)
    return Options(monkeypatch)


def product(x):
    """No kernel by itself: a library multiplies matrices."""
    return jnp.sum(jnp.outer(x, x) @ jnp.outer(x, x))


def heavy(x):
    return jnp.sum(jnp.cumsum(jnp.broadcast_to(x, (10**6,))) ** 2)


def test_small_programs_are_compiled_quickly(options):
    assert compilation.jit(product, lambda x: 1000)(jnp.ones(2)) == 8.0
    assert options.seen == [{"quickest": True}]


def test_small_programs_with_more_to_do_are_optimized(options, monkeypatch):
    monkeypatch.setattr(compilation, "LITTLE", 10)
    assert compilation.jit(product, lambda x: 1000)(jnp.ones(2)) == 8.0
    assert options.seen == [{"quick": True}]


def test_programs_with_much_to_do_are_compiled_well(options):
    compilation.jit(heavy, lambda x: 1000)(jnp.float32(0.0))
    compilation.jit(product, lambda x: 10**9)(jnp.ones(2))
    assert options.seen == [None, None]


def test_inside_other_programs_there_are_no_options(options):
    square = compilation.jit(lambda x: jnp.sqrt(product(x[None])), lambda x: 1000)
    scale = lambda t: compilation.jit(lambda x: t * x, lambda x: 1000)(2.0)  # noqa: E731
    assert square(jnp.float32(3.0)) == 9.0
    del options.seen[:]
    assert jax.vmap(square)(jnp.arange(3.0)).tolist() == [0.0, 1.0, 4.0]
    assert jax.grad(square)(3.0) == 6.0
    assert jax.eval_shape(lambda: square(3.0)).shape == ()
    assert jax.vmap(scale)(jnp.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
    assert jax.grad(scale)(3.0) == 2.0
    assert options.seen == [None] * 5


@pytest.mark.parametrize("known", ["_AS_IT_COMES", "neither"])
def test_an_option_that_is_not_known_is_not_used(known, monkeypatch):
    for name in {"_QUICK", "_AS_IT_COMES"} - {known}:
        monkeypatch.setattr(compilation, name, {"xla_cpu_no_such_option": False})
    compilation._options.cache_clear()
    found = compilation._options()
    assert not found.kernel
    assert found.quick == {}
    assert found.quickest == getattr(compilation, known, {})
    assert compilation.jit(lambda x: x**2, lambda x: 1)(3.0) == 9.0
    monkeypatch.undo()
    compilation._options.cache_clear()


def test_work_counts_loops_inside_loops():
    def run(x):
        inner = lambda x: lax.while_loop(lambda y: y[0] < 1, lambda y: 2 * y, x)  # noqa: E731
        x = lax.fori_loop(0, 100, lambda i, x: jnp.sin(x) + 1, x)
        return lax.while_loop(lambda x: x[0] < 9, lambda x: inner(x + 1), x)

    found = jaxprs.work(jax.make_jaxpr(run)(jnp.ones(50)).jaxpr, 1000)
    assert 100 * 2 * 50 + 1000 * (1 + 8) * 50 <= found <= 2 * (100 * 2 * 50 + 1000 * (1 + 8) * 50)


@pytest.mark.slow
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


def test_a_second_call_traces_nothing_and_takes_what_it_is_given(monkeypatch):
    square = compilation.jit(lambda tree: {"square": tree["x"] ** 2 + tree["c"]}, lambda tree: 1)
    tree = {"x": jnp.arange(3.0), "c": 1}
    assert square(tree)["square"].tolist() == [1.0, 2.0, 5.0]
    monkeypatch.setattr(compilation.jaxprs, "working_set", None)  # what a choice begins with
    assert square(tree | {"x": jnp.arange(3.0, 6.0)})["square"].tolist() == [10.0, 17.0, 26.0]
    assert square(tree | {"c": 2})["square"].tolist() == [2.0, 3.0, 6.0]


def test_settings_of_jax_hold_in_a_second_call():
    """What JAX keeps apart is kept apart, where what a program takes is the same too."""
    wide = compilation.jit(
        lambda x: jnp.sum(x) * jnp.ones((), jax.dtypes.canonicalize_dtype(float)), lambda x: 1
    )
    before = jax.config.jax_enable_x64
    try:
        for enabled in (False, True, False):
            jax.config.update("jax_enable_x64", enabled)
            assert wide(np.ones(3, np.float32)).dtype == (jnp.float64 if enabled else jnp.float32)
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="JAX itself keeps it (0.7.2 does)")
def test_what_a_call_was_given_is_let_go_with_its_trace():
    class Objective:
        def __call__(self, x):
            return jnp.sum((x - 1) ** 2)

    objective = Objective()
    gone = weakref.ref(objective)
    gdjax.minimize(objective, jnp.zeros(2), gdjax.gradient_descent(0.1))
    del objective
    jax.clear_caches()
    gc.collect()
    assert gone() is None


def test_without_jit():
    with jax.disable_jit():
        assert gdjax.minimize(lambda x: x**2, 1.0, gdjax.gradient_descent(0.5), max_steps=2).value == 0.0


_X = {
    **{
        name: getattr(jnp, name)
        for name in "abs arccos arcsin arctan arctanh cbrt ceil cos cosh exp exp2".split()
    },
    **{
        name: getattr(jnp, name)
        for name in "expm1 floor isfinite log log1p negative sign sin sinh sqrt tan".split()
    },
    **{
        name: getattr(jnp, name)
        for name in "tanh square round reciprocal max min argmax argmin sum prod".split()
    },
    **{name: getattr(jnp, name) for name in "any all cumsum cumprod arcsinh flip ravel atleast_2d".split()},
    **{
        name: getattr(lax, name)
        for name in "erf erfc erf_inv lgamma digamma logistic rsqrt cummax cummin".split()
    },
    "arccosh": lambda x: jnp.arccosh(1 + x),
    "arithmetic": lambda x: (x + 2 * x - x / 3) % 0.3,
    "atan2": lambda x: jnp.arctan2(x, 1 - x),
    "bits": lambda x: lax.bitcast_convert_type(x, jnp.int32) >> 1 & 7 | 3 ^ 1 << 2,
    "clamp": lambda x: jnp.clip(x, 0.2, 0.5),
    "compare": lambda x: (x < 0.5) | (x >= 0.7) & ~(x == 0.6) ^ (x != 0.1) | (x > 0.9) | (x <= 0.1),
    "concatenate": lambda x: jnp.concatenate([x, jnp.pad(x, 1), jnp.zeros(2)]),
    "dynamic": lambda x: lax.dynamic_update_slice(
        x, 2 * lax.dynamic_slice(x, [jnp.argmax(x)], [2]), [jnp.argmin(x)]
    ),
    "gather": lambda x: x[(jnp.arange(3) * jnp.argmax(x)) % 4],
    "iota": lambda x: x * jnp.arange(4.0),
    "key": lambda x: jax.random.normal(jax.random.split(jax.random.key(jnp.argmax(x)))[1], (4,)) + x,
    "nextafter": lambda x: jnp.nextafter(x, 2.0),
    "power": lambda x: x**1.7 + x**3,
    "products": lambda x: jnp.outer(x, x) @ x + x @ jnp.outer(x, x) + jnp.dot(x, x),
    "scan": lambda x: lax.scan(lambda s, row: (s + row, s * row), jnp.float32(0), x),
    "shape": lambda x: jnp.stack([x.reshape(2, 2).T, x.reshape(2, 2)])[:, 0].squeeze(),
    "switch": lambda x: lax.cond(x[0] > 0.5, jnp.sin, jnp.cos, x),
    "where": lambda x: jnp.where(x > 0.5, x, -x),
    "while": lambda x: lax.while_loop(lambda y: jnp.sum(y) < 10, lambda y: 2 * y, x),
    "half": lambda x: (jnp.exp(x.astype(jnp.float16)) + jnp.sum(x.astype(jnp.bfloat16))).astype(jnp.float32),
}
"""Operations on four numbers between 0 and 1, all of which a kernel may hold."""


@pytest.mark.slow
@pytest.mark.skipif(not compilation._options().kernel, reason="this version of XLA has a way of its own")
def test_a_kernel_comes_to_what_many_do():
    """All operations that `primitives.elemental` lets pass, in one kernel, and each by its own."""

    def everything(x):
        return lax.fori_loop(0, 2, lambda i, x: lax.sort(x) if x.size == 0 else x, x), {
            name: function(x) for name, function in _X.items()
        }

    x = jnp.array([0.3, 0.9, 0.1, 0.6])
    assert primitives.elemental(jax.make_jaxpr(everything)(x).jaxpr)
    kernel = compilation._one_kernel(jax.jit(everything), compilation._options().quickest)
    one = jax.tree.structure(x)
    assert " fusion(" not in kernel.lower(one, x).compile().as_text().split("ENTRY")[1]
    for found, expected in zip(*map(jax.tree.leaves, (kernel(one, x)[0], everything(x))), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


OUTSIDE = {
    "callback": lambda x: jax.debug.print("{}", x) or x,
    "cholesky": lambda x: jnp.linalg.cholesky(jnp.outer(x, x) + jnp.eye(4)),
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
    "matrices": lambda x: jnp.outer(x, x) @ jnp.outer(x, x),
    "scatter": lambda x: x.at[jnp.array([0, 2])].add(1.0),
    "sort": jnp.sort,
    "solve": lambda x: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(4), x),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_calls_a_library_is_no_kernel(name):
    loop = lambda x: lax.fori_loop(0, 2, lambda i, x: jnp.sum(OUTSIDE[name](x)) * x, x)  # noqa: E731
    assert not primitives.elemental(jax.make_jaxpr(loop)(jnp.ones(4)).jaxpr)


def test_what_xla_cannot_make_a_kernel_of_is_compiled_another_way(monkeypatch):
    monkeypatch.setattr(compilation, "_options", lambda: compilation._Options({}, {}, True))

    tried = []

    def fails(plain, options):
        def kernel(structure, *leaves):
            tried.append(leaves)
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED")

        return kernel

    monkeypatch.setattr(compilation, "_one_kernel", fails)
    square = compilation.jit(jnp.square, lambda x: 1000)
    assert square(3.0) == square(-3.0) == 9.0
    assert len(tried) == 1
    assert square(jnp.float32(-3.0)) == 9.0


@pytest.mark.skipif(not compilation._options().kernel, reason="this version of XLA has a way of its own")
def test_a_kernel_may_be_given_what_it_does_not_need(x64):
    """XLA finds out that nothing depends on an argument, and aborts where a kernel then never reads it."""

    def cost(parts, x):
        unused, half, key, flag = parts
        noise = 0 * jax.random.uniform(key)
        return jnp.sum((x - 1) ** 2) + 0 * jnp.sum(unused) + half * 0 + noise + 0 * flag

    parts = (jnp.arange(3), jnp.float16(2), jax.random.key(0), jnp.asarray(True))
    run = gdjax.minimize(jax.tree_util.Partial(cost, parts), jnp.zeros(2), gdjax.bfgs())
    np.testing.assert_allclose(run.params, 1)


SHARDED = """
import jax, jax.numpy as jnp, gdjax
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.make_mesh((4,), ("rows",))
spread = jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("rows")))
for rows in (jnp.arange(8.0), spread):
    cost = jax.tree_util.Partial(lambda rows, x: jnp.sum((x - rows) ** 2), rows)
    print(gdjax.minimize(cost, jnp.asarray(0.0), gdjax.bfgs()).params)
"""


@pytest.mark.slow
def test_data_on_several_devices_is_no_kernel(python):
    """The same program, first with rows on one device: XLA aborts where devices speak to each other in a kernel."""
    said = python(SHARDED, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert said.split() == ["3.5", "3.5"]
