"""What holds at an answer stands in the state beside it, and so survives chains and wrappers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gdjax
from gdjax import projections, regularizers
from gdjax.optimizers import answers
from gdjax.optimizers.catalogue import CATALOGUE
from gdjax.optimizers.nonsmooth import frank_wolfe, mirror
from gdjax.types import Optimality

TARGET = jnp.array([0.9, 0.5, -1.0])
START = jnp.array([0.1, 0.2, 0.3])
EVERYWHERE = {"w": jnp.zeros(3), "b": jnp.zeros(2)}
PARTS = {"w": "w", "b": "b"}


def objective(scale):
    """Quadratic in the params and the scale together: solutions grow with the scale, values with its square."""
    return lambda x: 0.5 * jnp.sum((x - scale * TARGET) ** 2) + 0.1 * jnp.sum(x) ** 2


METHODS = {
    "proximal_gradient": lambda s: gdjax.proximal_gradient(regularizer=regularizers.l1(0.2 * s)),
    "projected": lambda s: gdjax.projected(
        gdjax.gradient_descent(0.3), partial(projections.l2_ball, radius=0.5 * s)
    ),
    "spectral": lambda s: gdjax.spectral_projected_gradient(partial(projections.l2_ball, radius=0.5 * s)),
    "mirror_descent": lambda s: gdjax.mirror_descent(0.5, mirror.simplex_entropy(s)),
    "frank_wolfe": lambda s: gdjax.frank_wolfe(
        partial(frank_wolfe.simplex_vertex, total=s), away=partial(frank_wolfe.simplex_away, total=s)
    ),
    "admm": lambda s: gdjax.admm(regularizers.l1(0.2 * s)),
    "admm of a map": lambda s: gdjax.admm(regularizers.l1(0.2 * s), linear=jnp.diff),
    "lbfgsb": lambda s: gdjax.lbfgsb(-0.3 * s, 0.6 * s),
    "bounded_trust_region": lambda s: gdjax.bounded_trust_region(-0.3 * s, 0.6 * s),
    "augmented_lagrangian of a chain": lambda s: gdjax.augmented_lagrangian(
        optax.chain(optax.identity(), gdjax.proximal_gradient(regularizer=regularizers.l1(0.2 * s))),
        equality=lambda x: jnp.sum(x) - 0.1 * s,
        penalty=1.0,
    ),
}
ADDED = {
    "proximal_gradient": lambda x: 0.2 * jnp.sum(jnp.abs(x)),
    "admm": lambda x: 0.2 * jnp.sum(jnp.abs(x)),
    "admm of a map": lambda x: 0.2 * jnp.sum(jnp.abs(jnp.diff(x))),
    "augmented_lagrangian of a chain": lambda x: 0.2 * jnp.sum(jnp.abs(x)),
}


def wrapped(method):
    """Several wrappers around each other, as none would write them."""
    inner = gdjax.master_copy(gdjax.masked(optax.apply_if_finite(method, 3), True))
    return optax.chain(optax.identity(), gdjax.at_least_float32(optax.named_chain(("inner", inner))))


WRAPPERS = {
    "chain": lambda m: optax.chain(optax.identity(), m),
    "chain in chain": lambda m: optax.chain(optax.chain(optax.identity(), optax.chain(m)), optax.identity()),
    "named_chain": lambda m: optax.named_chain(("first", optax.identity()), ("second", m)),
    "at_least_float32": gdjax.at_least_float32,
    "master_copy": gdjax.master_copy,
    "gdjax.masked": lambda m: gdjax.masked(m, True),
    "gdjax.partition": lambda m: gdjax.partition({"all": m}, "all"),
    "optax.masked": lambda m: optax.masked(m, True),
    "optax.partition": lambda m: optax.partition({"all": m}, "all"),
    "with_extra_args_support": optax.with_extra_args_support,
    "apply_if_finite": lambda m: optax.apply_if_finite(m, 3),
    "MultiSteps": lambda m: optax.MultiSteps(m, 3),
    "flatten": optax.flatten,
    "inject_hyperparams": lambda m: optax.inject_hyperparams(lambda rate: m)(rate=0.1),
    "conditionally_transform": lambda m: optax.conditionally_transform(m, lambda step: True),
    "schedule of perturbations": lambda m: gdjax.perturbed(m, threshold=1e-9),
    "mechanize": optax.contrib.mechanize,
    "several": wrapped,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_wrapped_method_has_the_value_and_the_derivative_of_its_own_problem(name):
    """By the scale: dx/ds = x and dF/ds = 2 F at s = 1."""
    start = jnp.full(3, 1 / 3) if name in ("mirror_descent", "frank_wolfe") else START

    def solve(scale):
        method, stop = wrapped(METHODS[name](scale)), gdjax.stopping.residual_below(1e-5)
        run = gdjax.minimize(objective(scale), start, method, stop=stop)
        return (run.params, run.value), run.status

    (params, value), (moved, raised), status = jax.jvp(solve, (1.0,), (1.0,), has_aux=True)
    assert status == gdjax.Status.CONVERGED
    added = ADDED.get(name, lambda x: 0.0)(params)
    np.testing.assert_allclose(value, objective(1.0)(params) + added, rtol=1e-6)
    np.testing.assert_allclose(moved, params, atol=1e-4)
    np.testing.assert_allclose(raised, 2 * value, rtol=1e-4)


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_keeps_what_holds(name):
    l1 = regularizers.l1(0.5)
    method, params = WRAPPERS[name](gdjax.proximal_gradient(0.1, l1)), {"a": START, "b": jnp.ones((2, 2))}
    first = method.init(params)
    held_back = answers.held_back(first)
    nodes = [
        node
        for node in jax.tree.leaves(held_back, is_leaf=lambda n: isinstance(n, Optimality))
        if isinstance(node, Optimality)
    ]
    assert nodes == [Optimality()]  # nothing of the method's settings goes through the loop
    state = answers.with_held(held_back, first)
    assert jax.tree.structure(state) == jax.tree.structure(first)
    np.testing.assert_allclose(answers.penalty(state, params), l1.value(params), rtol=1e-6)
    held = answers.conditions(lambda p: jnp.sum(p["a"]) + jnp.sum(p["b"] ** 2), params, state)
    assert held is not None
    unknowns, equations, value_fn = held
    np.testing.assert_allclose(value_fn(params), 0.6 + 4.0 + 0.5 * 4.6, rtol=1e-6)
    found = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(equations(unknowns))])
    # The point less its proximal step of length 1 (the rate before the first update): 0.1 - 1 is cut to -0.4.
    np.testing.assert_allclose(found, [0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 1.5], rtol=1e-5)


@pytest.mark.slow
def test_mini_batches_report_what_is_minimized():
    features = jax.random.normal(jax.random.key(0), (64, 5))
    data = (features, features @ jnp.arange(5.0))
    objective = gdjax.finite_sum(lambda w, b: jnp.mean((b[0] @ w - b[1]) ** 2), data, 16)
    method = wrapped(gdjax.proximal_gradient(0.05, regularizers.l1(0.5)))
    run = gdjax.minimize(objective, jnp.zeros(5), method, stop=None, max_steps=20, key=0)
    assert objective.full is not None
    expected = objective.full(run.params) + 0.5 * jnp.sum(jnp.abs(run.params))
    np.testing.assert_allclose(run.value, expected, rtol=1e-6)


def joint_objective(scale):
    matrix = jax.random.normal(jax.random.key(0), (8, 5))
    data = scale * (matrix @ jnp.array([1.0, -2.0, 0.5, 3.0, 0.2]))
    return lambda p: 0.5 * jnp.sum((matrix @ jnp.concatenate([p["w"], p["b"]]) - data) ** 2)


def joint_run(method, scale, max_steps=2000):
    stop = gdjax.stopping.residual_below(1e-5)
    run = gdjax.minimize(joint_objective(scale), EVERYWHERE, method, stop=stop, max_steps=max_steps)
    return (run.params, run.value), run


@pytest.mark.slow
def test_the_parts_of_a_partition_hold_together():
    def run(scale):
        l1 = gdjax.proximal_gradient(0.05, regularizers.l1(scale))
        l1 = gdjax.masked(l1, {"w": True, "b": False})
        rest = gdjax.masked(gdjax.gradient_descent(0.05), {"w": False, "b": True})
        return joint_run(optax.chain(l1, rest), scale)

    (params, value), (moved, raised), end = jax.jvp(run, (1.0,), (1.0,), has_aux=True)
    assert end.status == gdjax.Status.CONVERGED
    assert float(params["w"][2]) == 0  # the penalty's work, which is on w alone
    np.testing.assert_allclose(value, joint_objective(1.0)(params) + jnp.sum(jnp.abs(params["w"])), rtol=1e-6)
    slope = jax.grad(joint_objective(1.0))(params)
    np.testing.assert_allclose(slope["w"][:2], -jnp.sign(params["w"][:2]), atol=1e-4)
    np.testing.assert_allclose(slope["b"], 0, atol=1e-4)
    np.testing.assert_allclose(moved["w"], params["w"], atol=1e-3)
    np.testing.assert_allclose(moved["b"], params["b"], atol=1e-3)
    np.testing.assert_allclose(raised, 2 * value, rtol=1e-4)


def test_where_a_part_does_not_settle_there_is_no_derivative_and_the_value_is_right():
    def run(scale):
        methods = {"w": gdjax.proximal_gradient(0.05, regularizers.l1(scale)), "b": optax.set_to_zero()}
        return joint_run(gdjax.partition(methods, PARTS), scale, 60)

    (params, value), (moved, raised), end = jax.jvp(run, (1.0,), (1.0,), has_aux=True)
    assert end.status == gdjax.Status.MAX_STEPS
    np.testing.assert_allclose(value, joint_objective(1.0)(params) + jnp.sum(jnp.abs(params["w"])), rtol=1e-6)
    assert jnp.isnan(raised)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(moved))


def test_parts_that_overlap_are_refused():
    method = gdjax.proximal_gradient(0.05, regularizers.l1(1.0))
    both = optax.chain(
        gdjax.masked(method, {"w": True, "b": False}), gdjax.masked(method, {"w": True, "b": False})
    )
    with pytest.raises(ValueError, match="several answers for the same params"):
        joint_run(both, 1.0)


@pytest.mark.slow
def test_a_state_crosses_a_loop_by_hand():
    lower = jnp.zeros(3)
    method = optax.chain(optax.identity(), gdjax.lbfgsb(lower, 0.6))

    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(objective(1.0))(params)
        updates, state = method.update(grad, state, params, value=value, grad=grad)
        return (optax.apply_updates(params, updates), state), None

    first = method.init(START)
    params, state = jax.jit(lambda carry: jax.lax.scan(step, carry, length=12)[0])((START, first))
    assert jax.tree.structure(state) == jax.tree.structure(first)
    np.testing.assert_allclose(params, [0.6, 19 / 60, 0.0], atol=1e-5)
    held = answers.conditions(objective(1.0), params, state)
    assert held is not None
    np.testing.assert_allclose(held.equations(held.unknowns)[0], 0, atol=1e-5)
    # A state may be donated: it holds no buffer of the method's own.
    bounds = first[1].optimality.settings
    assert bounds.lower.unsafe_buffer_pointer() != lower.unsafe_buffer_pointer()


def test_weights_may_be_mapped_in_a_chain():
    def run(weight):
        method = optax.chain(gdjax.proximal_gradient(0.3, regularizers.l1(weight)))
        run = gdjax.minimize(lambda x: 0.5 * jnp.sum((x - 3.0) ** 2), jnp.zeros(2), method)
        return jnp.sum(run.params)

    weights = jnp.array([0.5, 1.0])
    totals, slopes = jax.jit(jax.vmap(jax.value_and_grad(run)))(weights)
    np.testing.assert_allclose(totals, 2 * (3 - weights), rtol=1e-5)
    np.testing.assert_allclose(slopes, [-2.0, -2.0], rtol=1e-5)


def residuals(x):
    return jnp.arange(8.0).reshape(4, 2) / 7 @ x.astype(jnp.result_type(float)) - 1.1


OWN_ANSWERS = {
    **{
        name: entry
        for name, entry in CATALOGUE.items()
        if hasattr(jax.eval_shape(entry().init, START), "answer")
    },
    "projected": lambda: METHODS["projected"](1.0),
    "spectral": lambda: METHODS["spectral"](1.0),
    "mirror_descent": lambda: METHODS["mirror_descent"](1.0),
    "frank_wolfe": lambda: METHODS["frank_wolfe"](1.0),
    "admm": lambda: METHODS["admm"](1.0),
    "subgradient": lambda: gdjax.subgradient(0.1),
    "augmented_lagrangian": lambda: METHODS["augmented_lagrangian of a chain"](1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_ANSWERS)
def test_values_keep_the_type_that_the_objective_computes_in(x64, name):
    method, params = OWN_ANSWERS[name](), jnp.zeros(2, jnp.float32)
    run = gdjax.Run(gdjax.least_squares(residuals), params, method)
    state = jax.eval_shape(run.init)
    after = jax.eval_shape(run.step, state)
    assert after.answer.value.dtype == after.optimizer.answer.value.dtype == jnp.float64
    assert after.params.dtype == after.answer.params.dtype == jnp.float32
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_values_are_those_of_the_params(x64):
    objective = gdjax.least_squares(residuals)
    read = gdjax.every(1, lambda step: (step.value, step.params))
    method = wrapped(OWN_ANSWERS["spectral"]())
    run = gdjax.minimize(objective, jnp.full(2, 0.3, jnp.float32), method, max_steps=12, record=read)
    assert float(run.value) == pytest.approx(float(objective(run.params)), rel=1e-15)
    values, points = (rows[: int(run.steps) + 1] for rows in run.trace)
    np.testing.assert_allclose(values, jax.vmap(objective)(points), rtol=1e-15)


@pytest.mark.slow
def test_values_of_a_sweep_are_those_of_the_params(x64):
    objective = gdjax.least_squares(residuals)

    def trial(start):
        return gdjax.Run(objective, jnp.full(2, start, jnp.float32), gdjax.lbfgs(), max_steps=20)

    found = gdjax.sweep(trial, {"start": [0.1, 0.4, 0.7]}, lanes=2, params=True, progress=False)
    points = jnp.asarray(next(leaf for name, leaf in found.items() if leaf.ndim == 2).values)
    np.testing.assert_allclose(found["value"].values, jax.vmap(objective)(points), rtol=1e-15)


def test_half_precision_params_have_values_and_residuals_of_their_objective():
    def objective(x):
        return jnp.sum((x.astype(jnp.float32) - 1.003) ** 2)

    run = gdjax.minimize(objective, jnp.zeros(2, jnp.bfloat16), gdjax.lbfgs(), max_steps=10)
    assert run.params.dtype == jnp.bfloat16
    assert run.value.dtype == run.residual.dtype == jnp.float32
    assert float(run.value) == pytest.approx(float(objective(run.params)), rel=1e-6)
    steep = gdjax.Run(lambda x: jnp.sum(5000 * x), jnp.ones(10_000, jnp.float16), gdjax.gradient_descent(0.1))
    state = jax.jit(lambda: steep.step(steep.init()))()
    assert float(state.answer.residual) == pytest.approx(5e5, rel=1e-3)  # float16 ends at 65504


def stingy(inner):
    """A wrapper as many write it."""
    return optax.GradientTransformation(
        inner.init, lambda updates, state, params=None: inner.update(updates, state, params)
    )


class Stingy:
    def __init__(self, inner):
        self.inner, self.init = inner, inner.init

    def update(self, updates, state, params=None):
        return self.inner.update(updates, state, params)


@pytest.mark.parametrize(
    ("method", "wrap", "name"),
    [
        (gdjax.lbfgs(), lambda m: optax.MultiSteps(m, 2).gradient_transformation(), r"optax\.MultiSteps"),
        (gdjax.lbfgs(), optax.contrib.split_real_and_imaginary, r"optax\.split_real_and_imaginary"),
        (gdjax.newton(1.0), lambda m: optax.chain(optax.apply_if_finite(stingy(m), 2)), r"\.stingy"),
        (gdjax.kfac(), lambda m: optax.GradientTransformation(m.init, Stingy(m).update), r"\.Stingy"),
    ],
    ids=["MultiSteps", "split_real_and_imaginary", "a function", "an object"],
)
def test_a_wrapper_that_drops_extra_arguments_is_named(method, wrap, name):
    with pytest.raises(TypeError, match=rf"{name} around it does not pass extra arguments on"):
        gdjax.minimize(gdjax.least_squares(residuals), jnp.zeros(2), wrap(method), max_steps=3)


def test_without_a_run_the_call_is_named():
    with pytest.raises(TypeError, match=r"call update\(grads, state, params, value=\.\.\.\)"):
        stingy(gdjax.lbfgs()).update(START, gdjax.lbfgs().init(START), START)


@pytest.mark.slow
def test_multi_steps_hand_on_what_methods_need():
    run = gdjax.minimize(objective(1.0), START, optax.MultiSteps(gdjax.lbfgs(), 2), max_steps=60)
    assert run.status == gdjax.Status.CONVERGED
    np.testing.assert_allclose(run.value, objective(1.0)(run.params), rtol=1e-6)
    first = gdjax.Run(objective(1.0), START, optax.MultiSteps(gdjax.lbfgs(), 2))
    waiting = jax.jit(lambda: first.step(first.init()))()  # the method has not seen anything yet
    np.testing.assert_allclose(waiting.answer.value, objective(1.0)(START), rtol=1e-6)
    assert waiting.status == gdjax.Status.RUNNING
