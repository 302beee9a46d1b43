"""Every optimizer of optax and optax.contrib runs in `gdjax.minimize` unchanged, but for a few named here."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gdjax

START = np.array([[1.0, -0.5], [0.3, 0.8]])

CANNOT = {
    "dpsgd": "needs gradients of single examples, with an axis more than the params have",
    "sophia": "asks for an argument of its own, obj_fn",
    "sam": "its update takes no extra arguments, although its type says that it does",
    "lookahead": "its params are pairs (fast, slow), its gradients are not",
}


def objective(x):
    return jnp.sum((x @ x - jnp.eye(2)) ** 2) + jnp.sum((x - 1.0) ** 2)


def arguments(name):
    """What a constructor needs besides the learning rate."""
    normalized = functools.partial(optax.chain, optax.contrib.normalize())
    return {
        "noisy_sgd": lambda: {"key": jax.random.key(0)},
        "mechanize": lambda: {"base_optimizer": optax.sgd(0.01)},
        "schedule_free": lambda: {"base_optimizer": optax.sgd(0.01)},
        "sam": lambda: {"optimizer": optax.sgd(0.01), "adv_optimizer": normalized(optax.sgd(0.05))},
        "dpsgd": lambda: {"l2_norm_clip": 1.0, "noise_multiplier": 0.1, "key": 0},
        "lookahead": lambda: {"fast_optimizer": optax.sgd(0.01), "sync_period": 2, "slow_step_size": 0.5},
    }.get(name, dict)()


def constructors():
    """Public functions that take a learning rate or an optimizer to build on, and return a transformation."""
    found = {}
    for module in (optax, optax.contrib):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_"):
                continue
            signature = inspect.signature(function)
            makes = "GradientTransformation" in str(signature.return_annotation)
            known = name in CANNOT or name in ("mechanize", "polyak_sgd")
            if makes and not name.startswith("scale") and ("learning_rate" in signature.parameters or known):
                found[name] = function
    return found


CONSTRUCTORS = constructors()


def make(name):
    function, given = CONSTRUCTORS[name], arguments(name)
    if "learning_rate" in inspect.signature(function).parameters:
        given = {"learning_rate": 0.01, **given}
    return function(**given)


def test_the_list_is_whole():
    names = {
        "sgd",
        "adam",
        "adamw",
        "lbfgs",
        "lion",
        "lamb",
        "adafactor",
        "rmsprop",
        "polyak_sgd",
        "novograd",
    }
    names |= {"muon", "prodigy", "schedule_free_sgd", "schedule_free", "mechanize", "sam", "cocob", "momo"}
    assert names <= set(CONSTRUCTORS)
    assert len(CONSTRUCTORS) > 45
    assert set(CANNOT) <= set(CONSTRUCTORS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(set(CONSTRUCTORS) - set(CANNOT)))
def test_runs_unchanged(name):
    run = gdjax.minimize(objective, START, make(name), max_steps=6)
    assert run.params.shape == START.shape
    np.testing.assert_allclose(run.value, objective(run.params), rtol=1e-5)
    assert run.value <= 1.001 * objective(START)
    assert run.status == gdjax.Status.MAX_STEPS
    assert run.steps == 6


@pytest.mark.parametrize("name", CANNOT)
def test_those_that_cannot_say_so_at_the_door(name):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        gdjax.minimize(objective, START, make(name), max_steps=6)


def test_sophia_fits_by_one_line():
    sophia = optax.contrib.sophia(0.01)

    def update(updates, state, params, *, value_fn, **extra):
        return sophia.update(updates, state, params, obj_fn=value_fn)

    run = gdjax.minimize(
        objective, START, optax.GradientTransformationExtraArgs(sophia.init, update), max_steps=6
    )
    assert run.value < objective(START)


def test_sam_fits_by_one_line():
    sam = optax.GradientTransformation(*make("sam"))
    assert gdjax.minimize(objective, START, sam, max_steps=6).steps == 6


@pytest.mark.slow
def test_multi_steps_and_wrappers_fit():
    optimizers = [
        optax.MultiSteps(optax.sgd(0.01), 2),
        optax.apply_if_finite(optax.sgd(0.01), 3),
        optax.flatten(optax.adam(0.01)),
        optax.contrib.split_real_and_imaginary(optax.sgd(0.01)),
        optax.chain(optax.sgd(0.01), optax.contrib.reduce_on_plateau()),
    ]
    for optimizer in optimizers:
        run = gdjax.minimize(objective, START, optimizer, max_steps=6)
        assert run.value < objective(START)
        assert run.steps == 6
