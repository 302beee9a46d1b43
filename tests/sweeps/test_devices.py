"""One run over four devices, in an interpreter of its own: the same numbers, and few collectives."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
assert jax.device_count() == 4
assert run.params.sharding.is_fully_replicated
assert len(data[0].addressable_shards) == 4
for size in (None, 32):
    alone = gdjax.minimize(gdjax.finite_sum(loss, (inputs, targets), size), jnp.zeros(16), gdjax.adam(0.05),
                           stop=None, max_steps=50, key=0)
    spread = gdjax.minimize(gdjax.finite_sum(loss, data, size), start, gdjax.adam(0.05),
                            stop=None, max_steps=50, key=0)
    np.testing.assert_allclose(spread.params, alone.params, rtol=1e-5, atol=1e-6)
whole = gdjax.Run(gdjax.finite_sum(loss, data), start, gdjax.adam(0.05), stop=None, max_steps=50)
program = jax.jit(gdjax.Run.solve).lower(whole).compile().as_text()
print({name: program.count(name + "(") for name in ("all-reduce", "all-gather", "all-to-all")})
"""


@pytest.mark.slow
def test_data_in_parallel_and_sharded_states(python):
    page = (ROOT / "docs" / "how-to-scale.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)) + SCRIPT
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    printed = python(code, **flags)
    counts = ast.literal_eval(printed.splitlines()[-1])
    assert 1 <= counts["all-reduce"] <= 4, counts
    assert counts["all-gather"] == counts["all-to-all"] == 0, counts
