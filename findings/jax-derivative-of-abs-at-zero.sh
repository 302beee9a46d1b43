#!/usr/bin/env bash
# jax 0.10.2: the derivative of jnp.abs at 0 is 1, not 0, and with the sign bit set it is 1 too; jnp.sign(0) is 0.
# So |x| has a gradient of norm 1 at its minimum: gradient descent that starts there leaves it. docs/constraints.md
# says what gdjax does about it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax, jax.numpy as jnp

seen = [float(jax.grad(jnp.abs)(x)) for x in (0.0, -0.0)], float(jnp.sign(0.0)), float(jax.jvp(jnp.abs, (0.0,), (1.0,))[1])
print(jax.__version__, seen)
assert seen == ([1.0, 1.0], 0.0, 1.0), "changed"
PY
