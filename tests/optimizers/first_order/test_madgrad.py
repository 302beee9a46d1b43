"""MADGRAD against a transcription of its algorithm in NumPy and float64."""

import jax.numpy as jnp
import numpy as np
import pytest

import gdjax

CURVATURE = np.array([0.1, 1.0, 10.0])
START = np.array([1.0, -2.0, 0.5])


def as_published(rate, momentum, eps, steps):
    """Defazio and Jelassi, algorithm 1."""
    x, s, v = START.copy(), np.zeros(3), np.zeros(3)
    for k in range(steps):
        g, weight = CURVATURE * x, rate(k) * np.sqrt(k + 1)
        s, v = s + weight * g, v + weight * g * g
        x = momentum * x + (1 - momentum) * (START - s / (np.cbrt(v) + eps))
    return x


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rate", [lambda k: 0.05, lambda k: 0.1 / (1 + 0.05 * k)], ids=["number", "schedule"])
def test_points_are_those_of_the_paper(rate, momentum, x64):
    given = 0.05 if rate(0) == rate(10) else rate
    method = gdjax.madgrad(given, momentum, 1e-6)
    run = gdjax.minimize(
        lambda x: jnp.sum(0.5 * CURVATURE * x**2), jnp.asarray(START), method, stop=None, max_steps=60
    )
    expected = as_published(lambda k: float(rate(k)), momentum, 1e-6, 60)
    np.testing.assert_allclose(run.params, expected, rtol=0, atol=1e-10)  # rounding grows from step to step
