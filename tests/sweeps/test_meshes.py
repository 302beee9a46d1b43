"""Several devices: the same results, no word between them; in a process of its own with four devices of the CPU."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import gdjax
from gdjax.sweeps.meshes import as_mesh, padded

PROGRAM = """
import tempfile
import jax, jax.numpy as jnp, numpy as np, optax
import gdjax
from gdjax.sweeps import engine

assert jax.device_count() == 4
programs = []
make = engine.compiled

def noted(*arguments):
    program, seconds = make(*arguments)
    programs.append(program)
    return program, seconds

engine.compiled = noted
data = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)

def trial(rate, seed, early):
    batches = gdjax.finite_sum(lambda x, b: jnp.mean((b @ x - 1.0) ** 2), data, batch_size=6)
    stop = gdjax.stopping.value_below(0.9) if early else None
    key = jax.random.key(seed)
    return gdjax.Run(batches, jnp.zeros(3), optax.sgd(rate), stop=stop, max_steps=25, key=key)

axes = {"rate": np.logspace(-3, -1, 7), "seed": np.arange(3), "early": gdjax.static([True, False])}
mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
for lanes, chunk in ((2, "auto"), (2, 8), (None, "auto")):
    one = gdjax.sweep(trial, axes, lanes=lanes, chunk=chunk, params=True)
    assert one.attrs["devices"] == 1
    del programs[:]
    four = gdjax.sweep(trial, axes, lanes=lanes, chunk=chunk, params=True, mesh=mesh if lanes else "all")
    assert four.attrs["devices"] == 4 and four.attrs["engine"] == one.attrs["engine"]
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=1e-5, err_msg=name)
    assert len(programs) == 2
    for program in programs:
        text = program.compiled.as_text()
        assert "num_partitions=4" in text
        for word in ("all-reduce", "all-gather", "collective-permute", "all-to-all", "reduce-scatter"):
            assert word not in text, word

few = gdjax.sweep(trial, {"rate": [0.1], "seed": [0], "early": gdjax.static([True])}, mesh="all")
assert few.value.shape == (1, 1, 1) and np.isfinite(few.value).all()

class Enough(Exception):
    pass

def after_two(chunk):
    seen.append(chunk)
    if len(seen) == 2:
        raise Enough

seen, axes = [], axes | {"early": gdjax.static([True])}
with tempfile.TemporaryDirectory() as folder:
    whole = gdjax.sweep(trial, axes, chunk=8, mesh="all", store=f"{folder}/whole.zarr").load()
    try:
        gdjax.sweep(trial, axes, chunk=8, mesh="all", store=f"{folder}/cut.zarr", watch=after_two)
    except Enough:
        pass
    resumed = gdjax.sweep(trial, axes, chunk=8, mesh="all", store=f"{folder}/cut.zarr").load()
    np.testing.assert_array_equal(resumed.value, whole.value)
    np.testing.assert_array_equal(resumed.status, whole.status)
    assert len(seen) == 2 and resumed.attrs["devices"] == 4
print("the same")
"""


@pytest.mark.smoke
def test_four_devices_in_a_process_of_their_own(python):
    flags = "--xla_force_host_platform_device_count=4"
    printed = python(PROGRAM, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    assert printed.strip().endswith("the same")


@pytest.mark.slow
def test_one_device_needs_no_mesh():
    assert as_mesh(None) is None
    assert as_mesh(Mesh(np.array(jax.devices()[:1]), ("x",))) is None
    assert padded([3, 4], None) == [3, 4]
    with pytest.raises(ValueError, match="mesh must be"):
        gdjax.sweep(lambda rate: rate, {"rate": [0.1]}, mesh="some")
