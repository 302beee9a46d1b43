r"""Schedules: pure functions of the count of updates made, whose every argument may be a tracer.

A schedule is called with the count :math:`t = 0, 1, \dots` (the first update sees 0) and goes wherever
a learning rate goes, in gdjax and in optax. Its numbers are leaves of a pytree: they may be axes of a
sweep, and a changed one compiles nothing new. Any other function of the count is a schedule too.

Example:
  >>> import gdjax, jax, jax.numpy as jnp
  >>> halves = jax.vmap(lambda steps: gdjax.schedules.cosine(1.0, steps)(10))(jnp.array([10, 20, 30]))
  >>> [round(float(rate), 2) for rate in halves]
  [0.0, 0.5, 0.75]
"""

from gdjax.schedules.cycles import cyclic, one_cycle, one_cycle_linear, warmup
from gdjax.schedules.decay import (
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    inverse_time,
    linear,
    polynomial,
    step_decay,
)

__all__ = [
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "one_cycle",
    "one_cycle_linear",
    "polynomial",
    "step_decay",
    "warmup",
]
