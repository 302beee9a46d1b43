"""Methods for constraints in any unit: status, answer and multipliers are the same, in the units given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax import Status
from gdjax.optimizers.constrained import scaling
from gdjax.optimizers.constrained.merit import Point

INNER = {"lbfgsb": gdjax.lbfgsb, "bounded_trust_region": gdjax.bounded_trust_region}
UNITS = (1e-6, 1e6)


def solve_hs71(inner, units):
    """Problem 71 of Hock and Schittkowski in units of objective, equality, inequality and params."""
    value, level, product, length = units

    def cost(y):
        x = y / length
        return value * (x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2])

    method = gdjax.augmented_lagrangian(
        inner(1.0 * length, 5.0 * length),
        equality=lambda y: level * (jnp.sum((y / length) ** 2) - 40),
        inequality=lambda y: product * (25 - jnp.prod(y / length)),
    )
    return gdjax.minimize(cost, length * jnp.array([1.0, 5.0, 5.0, 1.0]), method, max_steps=300)


@pytest.mark.slow
@pytest.mark.parametrize("inner", INNER)
def test_units_change_neither_status_nor_answer(x64, inner):
    """One quantity at a time in other units, then all of them: the answer is the published one."""
    one_by_one = np.concatenate([np.where(np.eye(4, dtype=bool), unit, 1.0) for unit in UNITS])
    mixed = 10.0 ** np.random.default_rng(1).uniform(-6, 6, (4, 4))
    units = jnp.asarray(np.concatenate([np.ones((1, 4)), one_by_one, mixed]))
    run = jax.jit(jax.vmap(lambda u: solve_hs71(INNER[inner], tuple(u))))(units)
    value, level, product, length = units.T
    for lane, given in enumerate(np.asarray(units)):
        assert run.status[lane] == Status.CONVERGED, given
    np.testing.assert_allclose(run.value / value, 17.0140172891563, rtol=5e-6)
    found = run.state.multipliers
    np.testing.assert_allclose(found.equality * level / value, 0.16146857, rtol=1e-3)
    np.testing.assert_allclose(found.inequality * product / value, 0.55229366, rtol=1e-3)
    x = run.params / length[:, None]
    np.testing.assert_allclose(jnp.sum(x**2, axis=1), 40, rtol=5e-6)
    # However small the unit of the objective, a violation counts as it would with a larger one.
    np.testing.assert_allclose(jnp.sum(x[length == 1] ** 2, axis=1), 40, rtol=1e-7)
    found = run.state.constraints.equality
    np.testing.assert_allclose(found.reshape(-1) / level, jnp.sum(x**2, axis=1) - 40, atol=1e-9)


# Thousands, cents, shares and units far off; a budget as it is, as a share and in millionths; the gain likewise.
BUDGETS = [
    (5000, 1, 1),
    (5000, 5000, 1),
    (5000, 1e-6, 1),
    (5000, 1, 1e-6),
    (5000, 1, 1e6),
    (500, 1, 1),
    (50, 1, 1),
]
BUDGETS += [(1, 1, 1), (0.01, 1, 1), (5e5, 1, 1), (5e7, 1, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("inner", INNER)
def test_a_budget_is_spent_in_any_currency_and_single_precision(inner):
    """The most of 0.05 x^0.64 + 0.4 y^0.36 for x + y = 5000, with slopes that are infinite at a bound."""

    def solve(total, unit, gain):
        rate = total / 5000

        def cost(x):
            x = x / rate
            return -gain * (0.05 * x[0] ** 0.64 + 0.4 * x[1] ** 0.36)

        method = gdjax.augmented_lagrangian(
            INNER[inner](0.0, total), equality=lambda x: (x[0] + x[1] - total) / unit
        )
        return gdjax.minimize(cost, jnp.stack([total / 2, total / 2]), method, max_steps=1000)

    total, unit, gain = jnp.asarray(BUDGETS, jnp.float32).T
    run = jax.jit(jax.vmap(solve))(total, unit, gain)
    np.testing.assert_allclose(run.value / gain, -14.913839, rtol=1e-4)
    np.testing.assert_allclose(jnp.sum(run.params, axis=1) / total, 1, rtol=2e-4)
    assert not np.any(run.status == Status.INFEASIBLE)
    assert not np.any(run.status == Status.MAX_STEPS)
    # All that is left of the slope is the rounding of its terms.
    for lane, budget in enumerate(BUDGETS):
        assert budget[0] < 5000 or run.status[lane] in (Status.CONVERGED, Status.NOISE_FLOOR), budget


BOX = """-145421.402 2931.1506 -40.427932 5106.192 15711.36
-155011.1084 4360.53352 12.9492344 10236.884 13176.786
-326669.5104 7390.68412 -27.8986976 16643.076 30988.146
-8720288.849 150512.5253 -156.6950325 476470.3222 729482.8271"""


@pytest.mark.slow
def test_box_is_solved_as_box_wrote_it(x64):
    """Box (1966), with values and constraints of millions, and divided by their size."""
    table = jnp.asarray([[float(number) for number in line.split()] for line in BOX.splitlines()])
    high = jnp.array([294000.0, 294000.0, 277200.0])

    def forms(x):
        return x[0] * (table[:, 0] + table[:, 1:] @ x[1:])

    def solve(value, unit):
        def limits(x):
            return jnp.concatenate([forms(x)[:3] - high, -forms(x)[:3]]) / unit

        lower, upper = jnp.array([0, 1.2, 20, 9, 6.5]), jnp.array([100, 2.4, 60, 9.3, 7.0])
        method = gdjax.augmented_lagrangian(gdjax.bounded_trust_region(lower, upper), inequality=limits)
        start = jnp.array([2.52, 2, 37.5, 9.25, 6.8])
        return gdjax.minimize(lambda x: (24345 - forms(x)[3]) / value, start, method, max_steps=200)

    value, unit = jnp.array([1.0, 1e6]), jnp.array([1.0, 3e5])
    run = jax.jit(jax.vmap(solve))(value, unit)
    assert np.all(run.status == Status.CONVERGED)
    np.testing.assert_allclose(run.value * value, -5280335.13, rtol=1e-8)


@pytest.mark.slow
def test_scales_are_powers_of_two_that_follow_the_unit(x64):
    """Found along directions, by rows where there is no forward mode, and with entries that are not finite."""
    x = jnp.array([3.0, -2.0, 0.0])

    @jax.custom_vjp
    def plain(x):
        return jnp.stack([x[0] * x[1], x[2] - 4])

    plain.defvjp(lambda x: (plain(x), x), lambda x, g: (jnp.stack([g[0] * x[1], g[0] * x[0], g[1]]),))
    for unit, expected in ((1.0, [1, 1]), (1e6, [2.0**-23, 2.0**-22]), (1e-6, [2.0**17, 2.0**18])):
        for inequality in (plain, lambda x: jnp.stack([x[0] * x[1], x[2] - 4])):
            found = scaling.constraint_scales(
                lambda x, unit=unit, g=inequality: Point(jnp.zeros(0), unit * g(x)), x
            )
            np.testing.assert_array_equal(found.inequality, expected)
    steep = scaling.constraint_scales(lambda x: Point(jnp.sqrt(x[2:]) + 1e6 * x[:1], jnp.zeros(0)), x)
    np.testing.assert_array_equal(steep.equality, [2.0**-22])
    many = jnp.ones(100)
    found = scaling.constraint_scales(lambda x: Point(1e6 * x[:1], 1e6 * jnp.sum(x)[None]), many)
    np.testing.assert_allclose(found.equality, 2.0**-20)
    assert 2.0**-27 <= found.inequality <= 2.0**-20
    assert scaling.objective_scale(x, jnp.zeros(3)) == 1
    assert scaling.objective_scale(x, jnp.array([jnp.inf, 1e6, 0])) == 2.0**-21
