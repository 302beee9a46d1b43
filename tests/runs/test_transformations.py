"""What JAX can do with a run: shards, explicit meshes, donation, export, strict promotion."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import rosenbrock
from jax import export

import gdjax
from gdjax._internal import control_flow
from gdjax._internal.programs import exporting
from gdjax.optimizers.catalogue import CATALOGUE

FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
STOPS = (None, gdjax.stopping.residual_below(1e-6))


def residuals(x):
    return x - 1.0, 0.3 * x**2


SHARDS = """
import gdjax, jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from gdjax.optimizers.catalogue import CATALOGUE

mesh = jax.sharding.Mesh(jax.devices(), ("b",))
shards = lambda f, out: jax.shard_map(f, mesh=mesh, in_specs=P("b"), out_specs=out)
wide = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)
objective = gdjax.least_squares(lambda p: (p - 1.0) * jnp.arange(1.0, 6.0))
starts = 3 * jnp.ones((4, 5))

# One run a device: every method traces, with the checks of what varies.
for entry in CATALOGUE.values():
    jax.eval_shape(shards(lambda s: wide(gdjax.minimize(objective, s[0], entry(), max_steps=9)), P("b")), starts)
fit = lambda s: gdjax.minimize(objective, s, gdjax.bfgs())
found = jax.jit(shards(lambda s: wide(fit(s[0])), P("b")))(starts * jnp.arange(1.0, 5.0)[:, None])
assert np.allclose(found.params, 1, atol=1e-4) and (found.status == 1).all(), found

# Fixed length, mini-batches, a trace.
x = jax.random.normal(jax.random.key(0), (64, 5))
y = x @ jnp.arange(5.0)
loss = lambda w, b: jnp.mean((b[0] @ w - b[1]) ** 2)

def trained(key):
    batches = gdjax.finite_sum(loss, (x, y), 16)
    seen = lambda s: s.value
    return gdjax.minimize(batches, jnp.zeros(5), gdjax.adam(0.1), stop=None, max_steps=30, key=key, record=seen)

keys = jax.random.split(jax.random.key(0), 4)
found = jax.jit(shards(lambda k: wide(trained(k[0])), P("b")))(keys)
alone = trained(keys[2])
assert np.allclose(found.value[2], alone.value, rtol=1e-4), (found.value[2], alone.value)
assert np.allclose(found.trace[2], alone.trace, rtol=1e-3, atol=1e-4), (found.trace[2], alone.trace)

# One run of all devices: data in shards, params replicated; and the derivative of an answer.
def together(x, y):
    f = lambda w: jax.lax.pmean(loss(w, (x, y)), "b") + 0.1 * jnp.sum((w - 1) ** 4)
    return gdjax.minimize(f, jnp.zeros(5), gdjax.lbfgs(), max_steps=50).params

alone = gdjax.minimize(lambda w: loss(w, (x, y)) + 0.1 * jnp.sum((w - 1) ** 4), jnp.zeros(5), gdjax.lbfgs()).params
assert np.allclose(jax.jit(shards(together, P()))(x, y), alone, atol=1e-4)

def pulled(c):
    total = lambda c: gdjax.minimize(lambda p: jnp.sum((p - c) ** 2), jnp.zeros(5), gdjax.lbfgs()).params.sum()
    return jax.grad(total)(c[0])[None]

assert np.allclose(jax.jit(shards(pulled, P("b")))(starts), 1)
"""

EXPLICIT = """
import gdjax, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Explicit,))
x, y = np.random.default_rng(0).normal(size=(64, 5)).astype("f4"), np.linspace(-1, 1, 64, dtype="f4")
best = np.linalg.lstsq(x, y)[0]
use = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh
with use(mesh):
    x, y = (jax.device_put(a, NamedSharding(mesh, P("b"))) for a in (x, y))
    squares = gdjax.least_squares(lambda p: x @ p - y)
    apart = gdjax.Composite(lambda p: x @ p, lambda z: jnp.mean((z - y) ** 2))
    for objective, method in (
        (squares, gdjax.levenberg_marquardt()),
        (squares, gdjax.gauss_newton(1.0)),
        (squares, None),
        (apart, gdjax.natural_gradient(1.0)),
        (lambda p: jnp.sum((x @ p - y) ** 2), gdjax.lbfgs()),
    ):
        found = gdjax.minimize(objective, jnp.zeros(5), method, max_steps=50).params
        assert np.allclose(found, best, atol=1e-4), (found, best)
    assert gdjax.covariance(squares, found).shape == (5, 5)

# A sweep in lanes whose trial closes over data on a mesh of its own.
mesh = jax.sharding.Mesh(jax.devices(), ("b",))
x = jax.device_put(np.asarray(x), NamedSharding(mesh, P("b")))
loss = lambda p: jnp.mean((x @ p - 1) ** 2)
for stop in (None, gdjax.stopping.residual_below(1e-4)):
    trial = lambda lr: gdjax.Run(loss, jnp.zeros(5), gdjax.adam(lr), stop=stop, max_steps=50)
    one, all_ = (gdjax.sweep(trial, {"lr": [0.1, 0.2, 0.3, 0.4]}, progress=False, mesh=m).value for m in (None, "all"))
    assert np.allclose(one, all_, rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [SHARDS, EXPLICIT], ids=["shard_map", "explicit"])
def test_runs_on_four_devices(program, python):
    python(program, **FOUR)


@pytest.mark.slow
def test_control_flow_outside_of_shards_is_that_of_lax():
    def program(x):
        x = control_flow.cond(x > 0, lambda x: x, lambda x: -x, x)
        x = control_flow.while_loop(lambda x: x < 9, lambda x: 2 * x, x)
        x = control_flow.fori_loop(0, 3, lambda i, x: x + i, x)
        return control_flow.scan(lambda x, y: (x + y, x), x, jnp.arange(3.0))

    end, seen = jax.jit(program)(-2.0)
    assert float(end) == 22
    assert seen.tolist() == [19, 19, 20]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [gdjax.adam(0.1), gdjax.lbfgs(), gdjax.trust_region()], ids=["adam", "lbfgs", "trust_region"]
)
def test_the_first_state_may_be_donated(method):
    start = jnp.zeros(4)
    run = gdjax.Run(lambda x: jnp.sum((x - 1) ** 2), start, method, record=lambda s: s.value, max_steps=6)
    state, step = run.init(), jax.jit(run.step, donate_argnums=0)
    for _ in range(3):
        state = step(state)
    assert run.result(state).value < 4
    assert start.tolist() == [0] * 4, "the user's own array is not given away"
    assert run.init().params.tolist() == [0] * 4


@pytest.mark.slow
def test_programs_export_with_symbolic_sizes():
    scope = export.SymbolicScope()
    rows, size, many = (export.symbolic_shape(text, scope=scope) for text in ("n,3", "n", "b,4"))

    def shape(dims):
        return jax.ShapeDtypeStruct(dims, jnp.float32)

    def fit(x, y):
        return gdjax.minimize(lambda p: jnp.mean((x @ p - y) ** 2), jnp.zeros(3), gdjax.lbfgs()).params

    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    exported = export.export(jax.jit(fit))(shape(rows), shape(size))
    np.testing.assert_allclose(exported.call(x, x.sum(1)), 1, atol=1e-4)
    mapped = jax.jit(jax.vmap(lambda x: gdjax.minimize(rosenbrock, x, gdjax.lbfgs()).value))
    assert export.export(mapped)(shape(many)).call(jnp.zeros((3, 4))).shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bfgs", "trust_region", "levenberg_marquardt", "adam", "nonlinear_cg"])
def test_methods_export_for_params_of_any_size(name):
    (n,) = export.symbolic_shape("n")
    objective = gdjax.least_squares(residuals)
    solve = jax.jit(lambda x: gdjax.minimize(objective, x, CATALOGUE[name](), max_steps=9).params)
    found = export.export(solve)(jax.ShapeDtypeStruct((n,), jnp.float32)).call(jnp.zeros(3))
    np.testing.assert_allclose(found, solve(jnp.zeros(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_whole_result_is_written_and_read(python, tmp_path):
    pytest.importorskip("flatbuffers")
    solve = jax.jit(lambda x: gdjax.minimize(rosenbrock, x, gdjax.lbfgs()))
    blob = export.export(solve)(jax.ShapeDtypeStruct((4,), jnp.float32)).serialize()
    found = export.deserialize(blob).call(jnp.zeros(4))
    assert isinstance(found, gdjax.Result)
    assert found.status == gdjax.Status.CONVERGED
    (tmp_path / "solve.bin").write_bytes(blob)
    printed = python(f"""
import gdjax, jax, jax.numpy as jnp
from jax import export
from gdjax import exporting
like = jax.eval_shape(lambda x: gdjax.minimize(lambda x: x @ x, x, gdjax.lbfgs()), jnp.ones(4))
exporting.register(like)
data = bytearray(open({str(tmp_path / "solve.bin")!r}, "rb").read())
print(export.deserialize(data).call(jnp.zeros(4)).params.tolist())
""")
    np.testing.assert_allclose(json.loads(printed), found.params, rtol=1e-5)


@pytest.mark.slow
def test_registering_twice_or_beside_another_is_no_error():
    like = jax.eval_shape(lambda x: gdjax.minimize(rosenbrock, x, gdjax.adam(0.1)), jnp.ones(2))
    exporting.register(like)
    exporting.register({"again": [like]})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_method_runs_under_strict_promotion(name):
    objective = gdjax.least_squares(residuals)

    def solve(x):
        runs = [gdjax.minimize(objective, x, CATALOGUE[name](), stop=stop, max_steps=9) for stop in STOPS]
        return [run.params for run in runs]

    with jax.numpy_dtype_promotion("strict"):
        found = jax.eval_shape(solve, jnp.zeros(4))
    assert [leaf.shape for leaf in found] == [(4,), (4,)]


@pytest.mark.slow
def test_strict_promotion_still_checks_the_objective():
    with jax.numpy_dtype_promotion("strict"), pytest.raises(Exception, match="promotion"):
        gdjax.minimize(lambda x: jnp.sum(x * jnp.arange(4)), jnp.zeros(4), gdjax.adam(0.1))
