"""Methods for constraints around inner methods that keep bounds: honest statuses, and slopes without end at a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import gdjax
from gdjax import Status, projections
from gdjax.linalg import boxes

BETWEEN = {
    "lbfgsb": gdjax.lbfgsb,
    "bounded_trust_region": gdjax.bounded_trust_region,
    "spectral_projected_gradient": lambda lower, upper: gdjax.spectral_projected_gradient(
        Partial(projections.box, lower=lower, upper=upper)
    ),
    "projected": lambda lower, upper: gdjax.projected(
        gdjax.gradient_descent(1e-2), Partial(projections.box, lower=lower, upper=upper)
    ),
}
# Bounds, start, an equality and an inequality as a pair (a, b) of a.x + b, weights of three objectives, and the
# answer, or None where no point is feasible.
CASES = {
    "a line and a wall beside it": ((0, 9), (1, 2), ((1, 1), -1), ((-1, 0), 2), (1, 0, 0), None),
    "a half-plane outside the box": ((0, 2), (0.1, 0.1), ((0, 0), 0), ((1, 1), 1), (0, 1, 0), None),
    "a level outside the box": ((0, 1), (0.5, 0.5), ((1, 0), -2), ((0, 0), 0), (1, 0, 0), None),
    "roots": ((0, 1), (0.5, 0.5), ((1, 1), -3), ((0, 0), 0), (0, 0, 1), None),
    "upper walls alone": ((-9, 1), (0.5, 0.9), ((1, 1), -3), ((1, 0), 0), (1, 0, 0), None),
    "maximized": ((0, 1), (0.5, 0.9), ((1, -1), 0), ((1, 0), 0.25), (-1, 0, 0), None),
    "inside": ((0, 1), (0.5, 0.9), ((1, 1), -1), ((1, 0), -1), (1, 0, 0), (0.5, 0.5)),
    "in a corner": ((0, 1), (0.5, 0.9), ((1, 1), -2), ((0, 0), 0), (1, 0, 0), (1, 1)),
    "maximized inside": ((0, 1), (0.5, 0.9), ((1, -1), 0), ((1, 0), -0.25), (-1, 0, 0), (0.25, 0.25)),
    "said twice": ((0, 1), (0.5, 0.9), ((2, 2), -2), ((-1, -1), 1), (1, 0, 0), (0.5, 0.5)),
}
FOR_FIXED_STEPS = ("a half-plane outside the box", "roots", "in a corner", "upper walls alone")


def _stacked(column):
    """Pairs and vectors of numbers, one a case, as trees of arrays."""
    if isinstance(column[0], tuple) and isinstance(column[0][0], tuple):
        return tuple(jnp.asarray(part, float) for part in zip(*column, strict=True))
    return jnp.asarray(column, float)


@pytest.mark.slow
@pytest.mark.parametrize("inner", BETWEEN)
def test_what_bounds_and_constraints_leave_nothing_of_is_infeasible(inner):
    """Mapped over cases: lanes that no point satisfies beside lanes that have an answer."""

    def solve(bounds, start, equality, inequality, weights):
        def objective(x):
            valley = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
            roots = jnp.sum(jnp.sqrt(jnp.where(weights[2] > 0, x, 1)))
            return weights @ jnp.stack([jnp.sum(x**2), valley, roots])

        method = gdjax.augmented_lagrangian(
            BETWEEN[inner](*bounds),
            equality=lambda x: equality[0] @ x + equality[1],
            inequality=lambda x: inequality[0] @ x + inequality[1],
        )
        return gdjax.minimize(objective, start, method)

    names = FOR_FIXED_STEPS if inner == "projected" else tuple(CASES)
    columns = zip(*(CASES[name][:5] for name in names), strict=True)
    lanes = [_stacked(column) for column in columns]
    run = jax.jit(jax.vmap(solve))(*lanes)
    for lane, name in enumerate(names):
        status, answer = Status(int(run.status[lane])), CASES[name][5]
        if answer is None:
            assert status == Status.INFEASIBLE, name
        else:
            assert status in (Status.CONVERGED, Status.NOISE_FLOOR), name
            np.testing.assert_allclose(run.params[lane], answer, atol=3e-6, err_msg=name)


@pytest.mark.slow
def test_a_root_at_a_bound_does_not_hold_what_constraints_do_not_allow(x64):
    """The tutorial problem of NLopt: the objective's slope is infinite at its bound, and the answer far from it."""
    lower = jnp.array([-jnp.inf, 0.0])

    def solve(start):
        method = gdjax.augmented_lagrangian(
            gdjax.lbfgsb(lower, None),
            inequality=lambda x: jnp.stack([(2 * x[0]) ** 3 - x[1], (1 - x[0]) ** 3 - x[1]]),
        )
        return gdjax.minimize(lambda x: jnp.sqrt(x[1]), start, method)

    run = jax.jit(jax.vmap(solve))(jnp.array([[1.234, 5.678], [0.0, 1.0], [-1.0, 10.0], [0.3, 0.3]]))
    assert np.all(run.status == Status.CONVERGED)
    np.testing.assert_allclose(run.params, np.broadcast_to([1 / 3, 8 / 27], (4, 2)), atol=1e-6)
    np.testing.assert_allclose(run.value, (8 / 27) ** 0.5, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_moves_that_end_at_a_wall_land_on_it(x64, dtype):
    """Rounding leaves a hair, which is no distance."""
    x = jnp.linspace(0.1, 0.9, 40, dtype=dtype)
    wall = jnp.full_like(x, 1 / 3) * jnp.asarray(np.random.default_rng(0).uniform(0, 0.1, 40), dtype)
    np.testing.assert_array_equal(boxes.landed(x, wall - x, wall, jnp.ones_like(x)), wall)
    np.testing.assert_array_equal(boxes.landed(-x, x - wall, -jnp.ones_like(x), -wall), -wall)
    inside = boxes.landed(x, 0.5 * (wall - x), wall, jnp.ones_like(x))
    assert np.all(inside > wall)
