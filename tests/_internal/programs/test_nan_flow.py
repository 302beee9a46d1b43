"""Where NaN and infinity can hide: the reading of programs, and what it leads to in numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdjax._internal.programs import nan_flow


def forgotten(optimizer):
    params = {"a": jnp.ones(3), "b": jnp.ones(())}
    state = optimizer.init(params)

    def step(grad, carried):
        params, state = carried
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    return step, params, (params, state)


REMEMBER = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1),
    "rmsprop": optax.rmsprop(0.1),
    "adagrad": optax.adagrad(0.1),
    "lion": optax.lion(0.1),
}
FORGET = {
    "clip": optax.chain(optax.clip(1.0), optax.sgd(0.1)),
    "zero_nans": optax.chain(optax.zero_nans(), optax.sgd(0.1)),
    "sign": optax.sign_sgd(0.1),
    "frozen": optax.set_to_zero(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REMEMBER, *FORGET])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_said_to_be_remembered_is(name, poison):
    step, grad, state = forgotten((REMEMBER | FORGET)[name])
    hidden, watched = nan_flow.forgotten(step, grad, state)
    assert all(hidden) if name in FORGET else not any(hidden)
    for i, out_of_sight in enumerate(hidden):
        leaves, structure = jax.tree.flatten(grad)
        leaves[i] = leaves[i] * poison if leaves[i].ndim == 0 else leaves[i].at[0].set(poison)
        after = step(jax.tree.unflatten(structure, leaves), state)
        for _ in range(20):
            after = step(grad, after)
        kept = [leaf for leaf, lasting in zip(jax.tree.leaves(after), watched, strict=True) if lasting]
        assert out_of_sight or not all(np.isfinite(leaf).all() for leaf in kept)


def test_part_of_the_params_may_be_frozen():
    labels = {"a": "learn", "b": "freeze"}
    optimizer = optax.partition({"learn": optax.sgd(0.1), "freeze": optax.set_to_zero()}, labels)
    step, grad, state = forgotten(optimizer)
    assert nan_flow.forgotten(step, grad, state)[0] == [False, True]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.sum(x**2) * x[0] - 3.0, True),
        (lambda x: jnp.exp(jnp.sin(x[0])) + jnp.tanh(x @ x), True),
        (lambda x: jnp.log(x[0]), False),
        (lambda x: 1.0 / x[0], False),
        (lambda x: x[0] ** -2, False),
        (lambda x: jnp.sqrt(x[0]), False),
        (lambda x: jnp.where(x[0] > 0, x[0], jnp.nan), False),
        (lambda x: jax.nn.logsumexp(x), False),
    ],
)
def test_only_overflows(function, expected):
    assert nan_flow.only_overflows(function, jnp.ones(3)) is expected
