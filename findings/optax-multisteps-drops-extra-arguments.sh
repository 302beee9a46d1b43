#!/usr/bin/env bash
# optax 0.2.8: MultiSteps(method, n).gradient_transformation() is a plain GradientTransformation though its update takes
# extra arguments (value, value_fn, ...) and hands them on: in optax.chain, and by with_extra_args_support, they are
# dropped without a word, and a method that needs a value gets none.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet 'jax==0.10.2' 'jaxlib==0.10.2' 'optax==0.2.8'
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax.numpy as jnp, optax


def given(wrap):
    """Whether the method inside is given the value."""
    seen = []

    def update(updates, state, params=None, *, value=None, **extra):
        seen.append(value is not None)
        return updates, state

    method = optax.GradientTransformationExtraArgs(lambda params: (), update)
    wrapped, x = wrap(optax.MultiSteps(method, 1).gradient_transformation()), jnp.ones(2)
    wrapped.update(x, wrapped.init(x), x, value=jnp.float32(3.0))
    return any(seen)


seen = given(lambda method: method), given(optax.chain), given(optax.with_extra_args_support)
print(optax.__version__, "by itself, in a chain, with support for extra arguments:", seen)
assert seen == (True, False, False), "changed"
PY
