"""Functions that several test files minimize, and a way to compile with all optimization."""

import jax
import jax.numpy as jnp

from gdjax._internal.programs import compilation


def rosenbrock(x):
    """The chained valley of Rosenbrock: least, and zero, where all entries are one."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def optimized(function):
    """`jax.jit` with LLVM's optimization, which the tests' flags leave out, and gdjax where there is little to do.

    For paths in float32 that are settled by rounding: without it products and sums are not fused.
    """
    quick = compilation._options().quick
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 3, **quick})
