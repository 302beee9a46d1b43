"""What every optimizer of the catalogue must do; a method joins by its line in the catalogue."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.optimizers.catalogue import CATALOGUE, optimizers_by_name

NAMES = sorted(CATALOGUE)
ENDS = {int(status) for status in gdjax.Status} - {int(gdjax.Status.RUNNING)}


def residuals(params):
    """Of a smooth objective, curvature about one, minimum near one in every coordinate."""
    leaves = [
        jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(params)
    ]
    return [(leaf - 1, 0.1**0.5 * leaf**2) for leaf in leaves]


objective = gdjax.least_squares(residuals)
value_and_grad = jax.jit(jax.value_and_grad(objective))


def start(dtype=jnp.float32):
    """Dicts, tuples, a matrix, a scalar."""
    tree = {"a": np.array([0.5, -1.0, 2.0]), "b": (np.array(1.5), {"c": np.array([[0.2, -0.4]])})}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def steps(optimizer, params, count, value_fn=objective):
    """A hand-written loop under scan, which refuses a state that changes shape or type."""

    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(value_fn)(params)
        update = optax.with_extra_args_support(optimizer).update
        updates, state = update(grad, state, params, value=value, grad=grad, value_fn=value_fn)
        return (optax.apply_updates(params, updates), state), updates

    (params, _), updates = jax.lax.scan(step, (params, optimizer.init(params)), length=count)
    return params, updates


def close(a, b, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(np.float64(x), np.float64(y), rtol, atol), a, b)


def types(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype), tree)


def numbers(entry):
    """The numeric hyperparameters of an entry: given, or by default."""
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(entry.constructor).parameters.items()
    }
    return {name: value for name, value in {**defaults, **entry.arguments}.items() if type(value) is float}


def abstract_update(optimizer, params, state):
    def call(params, state):
        value, grad = value_and_grad(params)
        update = optax.with_extra_args_support(optimizer).update
        return update(grad, state, params, value=value, grad=grad, value_fn=objective)

    return jax.eval_shape(call, params, state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param("float16", marks=pytest.mark.slow),
        pytest.param("bfloat16", marks=pytest.mark.slow),
        pytest.param("float32", marks=pytest.mark.smoke),
        pytest.param("float64", marks=pytest.mark.slow),
    ],
)
def test_types_and_structure_are_kept(name, dtype, x64):
    """Updates have the params' types and states keep theirs, float64 hyperparameters or not."""
    params = start(dtype)
    wide = {key: jnp.asarray(value) for key, value in numbers(CATALOGUE[name]).items()}
    for optimizer in (CATALOGUE[name](), CATALOGUE[name](**wide)):
        state = optimizer.init(params)
        updates, new_state = abstract_update(optimizer, params, state)
        assert jax.tree.structure(new_state) == jax.tree.structure(state)
        same = jax.tree.map(
            lambda a, b: a.shape == jnp.shape(b) and a.dtype == jnp.asarray(b).dtype, new_state, state
        )
        assert jax.tree.all(same), same
        assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == types(params)


def walk(optimizer, params, count):
    """The same loop in Python; a state that changes shape or type is refused."""
    state = optimizer.init(params)
    for _ in range(count):
        value, grad = value_and_grad(params)
        updates, after = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=objective)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert jax.tree.leaves(types(after)) == jax.tree.leaves(types(state))
        params, state = optax.apply_updates(params, updates), after
    return params


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_eager_and_composes(name):
    """scan = a loop by hand; alone, in a chain, and masked to all of its tree it takes the same steps.

    The loops by hand share one compiled update, which is what a chain and a mask call.
    """
    optimizer, params = CATALOGUE[name](), start()
    update = jax.jit(optax.with_extra_args_support(optimizer).update, static_argnames="value_fn")
    compiled = optax.GradientTransformationExtraArgs(optimizer.init, update)
    alone = walk(compiled, params, 3)
    close(walk(optax.chain(optax.clip_by_global_norm(1e6), compiled), params, 3), alone)
    close(walk(optax.masked(compiled, jax.tree.map(lambda leaf: True, params)), params, 3), alone)
    close(jax.jit(lambda p: steps(optimizer, p, 3)[0])(params), alone)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if numbers(CATALOGUE[name])])
def test_mapped_hyperparameters_equal_a_loop(name):
    """Every float of the signature at once is an axis of `jax.vmap`."""
    entry = CATALOGUE[name]
    batch = {key: value * jnp.array([1.0, 0.9]) for key, value in numbers(entry).items()}

    @jax.jit
    def trial(changes):
        return steps(entry(**changes), start(), 4)[0]

    mapped = jax.vmap(trial)(batch)
    for lane in range(2):
        one = trial({key: values[lane] for key, values in batch.items()})
        close(jax.tree.map(lambda leaf, lane=lane: leaf[lane], mapped), one, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "perturbed"]
)  # which kicks where the slope is 0
def test_zero_half_precision_gradient_gives_a_zero_update(name):
    flat = gdjax.least_squares(lambda params: jax.tree.map(lambda leaf: 0.0 * leaf, residuals(params)))
    params = jax.tree.map(jnp.zeros_like, {"f": start("float16"), "b": start("bfloat16")})
    after, updates = jax.jit(lambda p: steps(CATALOGUE[name](), p, 3, flat))(params)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(np.float32(leaf), 0), updates)
    assert types(after) == types(params)


def check_truth(run, first):
    assert np.isfinite(run.value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    np.testing.assert_allclose(run.value, objective(run.params), rtol=1e-5)
    assert run.residual >= 0
    assert int(run.status) in ENDS
    if run.status == gdjax.Status.CONVERGED:
        residual = np.sqrt(
            sum(np.sum(np.square(g)) for g in jax.tree.leaves(jax.grad(objective)(run.params)))
        )
        assert residual <= 1e-5 * max(1, first)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_results_are_true(name):
    """Descends, and says what it did; so it does at a learning rate that makes it diverge."""
    entry, params = CATALOGUE[name], start()
    first = float(objective(params))
    run = gdjax.minimize(objective, params, entry(), max_steps=60)
    check_truth(run, first)
    assert run.value < first
    if "learning_rate" in entry.arguments:
        at = jax.jit(lambda rate: gdjax.minimize(objective, params, entry(learning_rate=rate), max_steps=60))
        for rate in (3.0, 1e8, 1e38):
            wild = at(rate)
            check_truth(wild, first)
            assert wild.status != gdjax.Status.CONVERGED or wild.value < first


def test_names_are_public_and_take_a_learning_rate_first():
    for name, entry in CATALOGUE.items():
        assert getattr(gdjax, name) is entry.constructor
    by_name = optimizers_by_name()
    assert {"gradient_descent", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"} <= set(by_name)
    for constructor in by_name.values():
        assert next(iter(inspect.signature(constructor).parameters)) == "learning_rate"
