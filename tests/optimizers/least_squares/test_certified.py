"""Fits with certified answers: what the default stop calls converged has five digits of NIST's values and more.

Data, starting points and certified values are those of the Statistical Reference Datasets of NIST/ITL,
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml: Lanczos (1956), Kowalik and Osborne (1978) for MGH09, Osborne
(1972) for MGH17, and Eckerle (197?). Lanczos' data are a sum of three exponentials, rounded to six and five digits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax import Status

TIMES = 0.05 * np.arange(24)
DECAY = 0.0951 * np.exp(-TIMES) + 0.8607 * np.exp(-3 * TIMES) + 1.5576 * np.exp(-5 * TIMES)
LANCZOS_STARTS = ([1.2, 0.3, 5.6, 5.5, 6.5, 7.6], [0.5, 0.7, 3.6, 4.2, 4.0, 6.3])


def exponentials(y, b):
    t = jnp.asarray(TIMES)
    return b[0] * jnp.exp(-b[1] * t) + b[2] * jnp.exp(-b[3] * t) + b[4] * jnp.exp(-b[5] * t) - y


KOWALIK = np.array(
    [
        [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625],
        [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246],
    ]
)


def kowalik(y, b):
    t = jnp.asarray(KOWALIK[0])
    return b[0] * (t * t + t * b[1]) / (t * t + t * b[2] + b[3]) - y


OSBORNE = np.array(
    [
        0.844,
        0.908,
        0.932,
        0.936,
        0.925,
        0.908,
        0.881,
        0.85,
        0.818,
        0.784,
        0.751,
        0.718,
        0.685,
        0.658,
        0.628,
        0.603,
        0.58,
        0.558,
        0.538,
        0.522,
        0.506,
        0.49,
        0.478,
        0.467,
        0.457,
        0.448,
        0.438,
        0.431,
        0.424,
        0.42,
        0.414,
        0.411,
        0.406,
    ]
)


def osborne(y, b):
    t = 10.0 * jnp.arange(33)
    return b[0] + b[1] * jnp.exp(-b[3] * t) + b[2] * jnp.exp(-b[4] * t) - y


ECKERLE = np.array(
    [
        [
            400,
            405,
            410,
            415,
            420,
            425,
            430,
            435,
            436.5,
            438,
            439.5,
            441,
            442.5,
            444,
            445.5,
            447,
            448.5,
            450,
            451.5,
            453,
            454.5,
            456,
            457.5,
            459,
            460.5,
            462,
            463.5,
            465,
            470,
            475,
            480,
            485,
            490,
            495,
            500,
        ],
        [
            0.0001575,
            0.0001699,
            0.000235,
            0.0003102,
            0.0004917,
            0.000871,
            0.0017418,
            0.00464,
            0.0065895,
            0.0097302,
            0.0149002,
            0.023731,
            0.0401683,
            0.0712559,
            0.1264458,
            0.2073413,
            0.2902366,
            0.3445623,
            0.3698049,
            0.3668534,
            0.3106727,
            0.2078154,
            0.1164354,
            0.0616764,
            0.03372,
            0.0194023,
            0.0117831,
            0.0074357,
            0.0022732,
            0.00088,
            0.0004579,
            0.0002345,
            0.0001586,
            0.0001143,
            7.1e-05,
        ],
    ]
)


def eckerle(y, b):
    return b[0] / b[1] * jnp.exp(-0.5 * ((jnp.asarray(ECKERLE[0]) - b[2]) / b[1]) ** 2) - y


class Fit(NamedTuple):
    """A problem of NIST's: the residuals, the data, two starting points and the certified parameters."""

    residuals: Any
    data: np.ndarray
    starts: tuple[list[float], list[float]]
    certified: list[float]


FITS = {
    "Lanczos1": Fit(
        exponentials,
        np.round(DECAY, 13),
        LANCZOS_STARTS,
        [0.095100000027, 1.0000000001, 0.86070000013, 3.0000000002, 1.5575999998, 5.0000000001],
    ),
    "Lanczos2": Fit(
        exponentials,
        np.array([float(f"{y:.5e}") for y in DECAY]),
        LANCZOS_STARTS,
        [0.096251029939, 1.0057332849, 0.86424689056, 3.0078283915, 1.5529016879, 5.00287981],
    ),
    "Lanczos3": Fit(
        exponentials,
        np.round(DECAY, 4),
        LANCZOS_STARTS,
        [0.086816414977, 0.95498101505, 0.84400777463, 2.9515951832, 1.5825685901, 4.9863565084],
    ),
    "MGH09": Fit(
        kowalik,
        KOWALIK[1],
        ([25.0, 39.0, 41.5, 39.0], [0.25, 0.39, 0.415, 0.39]),
        [0.19280693458, 0.19128232873, 0.12305650693, 0.13606233068],
    ),
    "MGH17": Fit(
        osborne,
        OSBORNE,
        ([50.0, 150.0, -100.0, 1.0, 2.0], [0.5, 1.5, -1.0, 0.01, 0.02]),
        [0.37541005211, 1.9358469127, -1.4646871366, 0.01286753464, 0.022122699662],
    ),
    "Eckerle4": Fit(
        eckerle,
        ECKERLE[1],
        ([1.0, 10.0, 500.0], [1.5, 5.0, 450.0]),
        [1.5543827178, 4.0888321754, 451.54121844],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_five_digits_of_the_certified_values(name, x64):
    """From both starts, at the defaults; MGH17's first crosses a plateau where two exponentials have vanished."""
    fit = FITS[name]
    for start in fit.starts:
        objective = gdjax.least_squares(Partial(fit.residuals, jnp.asarray(fit.data)))
        run = gdjax.minimize(objective, jnp.asarray(start))
        assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
        assert np.max(np.abs(run.params / np.array(fit.certified) - 1)) < 1e-5


def past(t, b):
    """An offset that the data fix, and a decay that they push to infinity."""
    return b[0] + jnp.exp(-b[1] * t) - jnp.array([-1.0, 1.0, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True], ids=["f32", "f64"])
def test_a_plateau_is_no_solution(wide):
    """Where exp(-b) is zero the gradient is too, and b was never fitted."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", wide)
    try:
        for method in (
            None,
            gdjax.levenberg_marquardt(scaling=gdjax.optimizers.least_squares.levenberg_marquardt.uniform),
        ):
            objective = gdjax.least_squares(Partial(past, jnp.array([1.0, 2.0, 3.0])))
            run = gdjax.minimize(objective, jnp.array([0.3, 1.0]), method)
            # Stalled where the column has vanished; before, what is left to gain may be below the noise level.
            assert run.status in (Status.STALLED, Status.NOISE_FLOOR)
            assert run.residual > 1e-3 or run.status == Status.NOISE_FLOOR
    finally:
        jax.config.update("jax_enable_x64", before)


def test_a_column_of_zeros_from_the_start_is_a_parameter_without_a_say():
    objective = gdjax.least_squares(lambda b: jnp.stack([b[0] - 2, 3 * b[0] - 5, 0 * b[1]]))
    run = gdjax.minimize(objective, jnp.array([0.5, 7.0]))
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    np.testing.assert_allclose(run.params, [1.7, 7.0], rtol=1e-5)
