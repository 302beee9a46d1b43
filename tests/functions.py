"""Functions that several test files minimize."""

import jax.numpy as jnp


def rosenbrock(x):
    """The chained valley of Rosenbrock: least, and zero, where all entries are one."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
