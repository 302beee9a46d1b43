"""What objectives bear: the default method takes it, other methods say by name what is missing and the ways out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdjax
from gdjax import Status, minimize
from gdjax.objectives.differentiability import Modes, modes
from gdjax.objectives.differentiation import finite_differences, forward_mode

START = jnp.array([0.5, 0.6, 0.7])


def call(function, shape, x):
    return jax.pure_callback(function, jax.ShapeDtypeStruct(shape, jnp.float32), x)


def simulated(x):
    """A program outside of JAX, which bears no derivative and does not map."""
    return call(lambda x: np.float32(np.sum((np.asarray(x) - 1) ** 2)), (), x)


@jax.custom_vjp
def reverse_only(x):
    return simulated(x)


def slope(x):
    return call(lambda x: 2 * (np.asarray(x) - 1), x.shape, x)


reverse_only.defvjp(lambda x: (simulated(x), x), lambda x, c: (c * slope(x),))


@jax.custom_jvp
def once_only(x):
    return simulated(x)


once_only.defjvp(lambda x, v: (simulated(*x), jnp.vdot(slope(*x), *v)))


@jax.custom_vjp
def reverse_residuals(x):
    return call(lambda x: np.asarray(x) - 1, x.shape, x)


reverse_residuals.defvjp(
    lambda x: (reverse_residuals(x), None), lambda _, c: (call(lambda c: np.asarray(c), c.shape, c),)
)


@jax.custom_vjp
def clipped(x):
    """A custom_vjp whose rules JAX can differentiate: it bears second derivatives, by forward over reverse."""
    return jnp.sum((x - 1) ** 4)


clipped.defvjp(lambda x: (jnp.sum((x - 1) ** 4), x), lambda x, c: (4 * c * (x - 1) ** 3,))


def root(x):
    """sqrt(1 + x^2) by Heron's method, in a loop that reverse mode does not pass."""

    def better(carry):
        y, count = carry
        return 0.5 * (y + (1 + x**2) / y), count + 1

    return jax.lax.while_loop(lambda carry: carry[1] < 6, better, (1 + jnp.abs(x), 0))[0]


def forward_residuals(x):
    return root(x) - 1.25


def forward_only(x):
    return jnp.sum(forward_residuals(x) ** 2)


FIT = gdjax.least_squares


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.sum(jnp.sin(x)), Modes(True, True, True)),
        (lambda x: jax.nn.relu(x).sum(), Modes(True, True, True)),
        (lambda x: jax.lax.scan(lambda c, r: (c * r, None), 1.0, x)[0], Modes(True, True, True)),
        (lambda x: jax.lax.cond(x[0] > 0, reverse_only, jnp.sum, x), Modes(False, True, False)),
        (lambda x: jnp.log(jax.jit(reverse_only)(x)), Modes(False, True, False)),
        (clipped, Modes(False, True, True)),
        (once_only, Modes(True, True, False)),
        (forward_only, Modes(True, False, False)),
        (simulated, Modes(False, False, False)),
        (forward_mode(forward_only), Modes(True, True, True)),
        (finite_differences(simulated), Modes(True, True, False)),
    ],
)
def test_what_a_function_bears(function, expected):
    assert modes(function, START) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "method", "expected"),
    [
        (reverse_only, "bfgs()", 1.0),
        (once_only, "bfgs()", 1.0),
        (forward_only, "bfgs()", 0.75),
        (FIT(reverse_residuals), "levenberg_marquardt()", 1.0),
        (FIT(forward_residuals), "levenberg_marquardt()", 0.75),
    ],
    ids=["custom_vjp", "custom_jvp", "while", "residuals by custom_vjp", "residuals by while"],
)
def test_the_default_takes_what_the_objective_bears(objective, method, expected):
    run = minimize(objective, START)
    assert run.method == method
    assert run.status in (Status.CONVERGED, Status.NOISE_FLOOR)
    np.testing.assert_allclose(run.params, np.full(3, expected), atol=2e-3)
    assert gdjax.default_optimizer(objective, START)[0] == method


def test_the_default_of_many_residuals_or_many_params_that_bear_reverse_mode_only():
    @jax.custom_vjp
    def sums(x):
        return jnp.concatenate([x, jnp.zeros(2000)])

    sums.defvjp(lambda x: (sums(x), None), lambda _, c: (c[:-2000],))
    assert gdjax.default_optimizer(FIT(sums), START)[0] != "levenberg_marquardt()"
    assert gdjax.default_optimizer(clipped, START)[0] == "trust_region()"
    many = jax.ShapeDtypeStruct((101,), jnp.float32)
    assert gdjax.default_optimizer(forward_only, many)[0] == "lbfgs()"
    assert gdjax.default_optimizer(reverse_only, many)[0] == "lbfgs()"


@pytest.mark.slow
def test_the_default_under_vmap_and_jit():
    runs = jax.jit(jax.vmap(lambda x: minimize(forward_only, x)))(jnp.stack([START, 2 * START]))
    assert runs.method == "bfgs()"
    np.testing.assert_allclose(runs.params, np.full((2, 3), 0.75), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["trust_region", "newton", "newton_cg", "cubic_newton", "natural_gradient", "bounded_trust_region"],
)
def test_methods_that_need_second_derivatives_say_so(name):
    with pytest.raises(
        TypeError, match=rf"^{name} needs second derivatives: .* reverse mode.*lbfgs.*custom_jvp"
    ):
        minimize(reverse_only, START, getattr(gdjax, name)())


@pytest.mark.parametrize("objective", [once_only, FIT(reverse_residuals)])
def test_second_derivatives_that_are_refused_late_are_named_too(objective):
    method = gdjax.trust_region() if objective is once_only else gdjax.levenberg_marquardt(geodesic=0.75)
    with pytest.raises(TypeError, match=r"needs second derivatives: .*bfgs"):
        minimize(objective, START, method)


@pytest.mark.parametrize("method", [gdjax.adam(0.1), gdjax.lbfgs()], ids=["adam", "lbfgs"])
def test_forward_mode_only_is_named_with_the_ways_out(method):
    with pytest.raises(TypeError, match=r"needs a gradient by reverse mode.*forward_mode\(.*DirectAdjoint"):
        minimize(forward_only, START, method)
    with pytest.raises(TypeError, match=r"in either mode.*jax\.custom_jvp.*finite_differences"):
        minimize(simulated, START, method)


def test_no_derivative_at_all_is_named_by_the_default_too():
    with pytest.raises(TypeError, match=r"in either mode.*jax\.custom_jvp.*finite_differences"):
        minimize(simulated, START)


def test_errors_of_the_objective_itself_are_its_own():
    def wrong(x):
        raise ZeroDivisionError("mine")

    for method in (None, gdjax.adam(0.1), gdjax.trust_region()):
        with pytest.raises(ZeroDivisionError, match="mine"):
            minimize(wrong, START, method)


@pytest.mark.slow
def test_jacobians_of_forward_mode_are_those_of_jax():
    def f(x):
        return {"a": jnp.sin(x["u"]) * x["v"], "b": jnp.sum(x["u"]) ** 2}

    x = {"u": jnp.array([0.3, -1.0]), "v": jnp.asarray(2.0)}
    for jacobian in (jax.jacrev, jax.jacfwd):
        jax.tree.map(np.testing.assert_allclose, jacobian(forward_mode(f))(x), jax.jacfwd(f)(x))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        jax.hessian(lambda x: forward_mode(f)(x)["b"])(x),
        jax.hessian(lambda x: f(x)["b"])(x),
    )


@pytest.mark.slow
def test_forward_mode_differentiates_what_it_closes_over():
    def slope_at(c):
        return jax.grad(forward_mode(lambda x: jnp.sum(root(c * x))))(START)

    h = 1e-2
    by_differences = (slope_at(1 + h) - slope_at(1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.jacfwd(slope_at)(1.0), by_differences, rtol=1e-3)


def test_differences_are_right_to_the_root_of_rounding(x64):
    x = jnp.array([0.3, 40.0])
    found = jax.jacrev(finite_differences(jnp.sin))(x)
    np.testing.assert_allclose(found, jnp.diag(jnp.cos(x)), atol=1e-8)
    coarse = jax.jacrev(finite_differences(jnp.sin, jnp.array([0.1, 0.2])))(x)
    expected = jnp.cos(x) * jnp.sin(jnp.array([0.1, 0.2])) / jnp.array([0.1, 0.2])
    np.testing.assert_allclose(coarse, jnp.diag(expected), atol=1e-12)


def test_the_default_traces_the_objective_once():
    traces = []

    def objective(x):
        traces.append(1)
        return jnp.sum((x - 1) ** 2)

    minimize(objective, START)
    assert len(traces) == 1


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["RecursiveCheckpointAdjoint", "ForwardMode"])
def test_an_ode_by_diffrax(adjoint):
    diffrax = pytest.importorskip("diffrax")
    times = jnp.linspace(0.0, 2.0, 9)

    def solved(rate):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, a: -a * y), diffrax.Euler(), 0.0, 2.0, 0.125, jnp.ones(2), rate,
            saveat=diffrax.SaveAt(ts=times), adjoint=getattr(diffrax, adjoint)(), throw=False, max_steps=64,
        ).ys  # fmt: skip

    data = solved(jnp.array([1.0, 0.5]))
    run = minimize(FIT(lambda rate: solved(rate) - data), jnp.array([0.6, 0.9]), max_steps=50)
    assert run.method == "levenberg_marquardt()"
    np.testing.assert_allclose(run.params, [1.0, 0.5], atol=1e-4)
    assert modes(lambda rate: jnp.sum(solved(rate)), jnp.ones(2)).second is False
    assert modes(solved, jnp.ones(2)).forward == (adjoint == "ForwardMode")
