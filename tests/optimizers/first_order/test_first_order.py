"""First-order methods against independent NumPy transcriptions of their published equations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax

STEPS = 200
CURVATURE = np.array([0.1, 1.0, 3.0, 10.0])
START = np.array([1.0, -2.0, 0.5, 1.5])


def gradient(x):
    return CURVATURE * x + x**3


def objective(x):
    return jnp.sum(0.5 * CURVATURE * x**2 + 0.25 * x**4)


def decaying(t):
    return 0.03 / np.sqrt(t + 1.0)


def as_rate(rate):
    return rate if callable(rate) else lambda t: rate


# What the papers say, one step at a time: each yields the points x_0, x_1, ...


def gradient_descent(rate):
    x = START.copy()
    for t in range(STEPS + 1):
        yield x
        x = x - rate(t) * gradient(x)


def momentum(rate, decay):
    x, v = START.copy(), np.zeros(4)
    for t in range(STEPS + 1):
        yield x
        v = decay * v + gradient(x)
        x = x - rate(t) * v


def nesterov_look_ahead(rate, decay):
    """Yields the look-ahead points, where gradients are taken, of the iteration in its base points."""
    x, v = START.copy(), np.zeros(4)
    for t in range(STEPS + 1):
        ahead = x - rate(t) * decay * v
        yield ahead
        v = decay * v + gradient(ahead)
        x = x - rate(t) * v


def adagrad(rate, eps, inside=True):
    x, s = START.copy(), np.zeros(4)
    for t in range(STEPS + 1):
        yield x
        g = gradient(x)
        s = s + g**2
        x = x - rate(t) * g / (np.sqrt(s + eps) if inside else np.sqrt(s) + eps)


def rmsprop(rate, decay, eps, inside=True):
    x, s = START.copy(), np.zeros(4)
    for t in range(STEPS + 1):
        yield x
        g = gradient(x)
        s = decay * s + (1 - decay) * g**2
        x = x - rate(t) * g / (np.sqrt(s + eps) if inside else np.sqrt(s) + eps)


def adam(rate, b1, b2, eps, weight_decay=0.0):
    x, m, v = START.copy(), np.zeros(4), np.zeros(4)
    for t in range(STEPS + 1):
        yield x
        g = gradient(x)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        fraction = (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)
        x = x - rate(t) * (fraction + weight_decay * x)


def schedule(t):
    return 0.03 / jnp.sqrt(t + 1.0)


PAIRS = {
    "gradient_descent": (gdjax.gradient_descent(0.03), gradient_descent(as_rate(0.03))),
    "gradient_descent, schedule": (gdjax.gradient_descent(schedule), gradient_descent(decaying)),
    "momentum": (gdjax.momentum(0.01, 0.8), momentum(as_rate(0.01), 0.8)),
    "momentum, schedule": (gdjax.momentum(schedule), momentum(decaying, 0.9)),
    "nesterov": (gdjax.nesterov(0.01, 0.8), nesterov_look_ahead(as_rate(0.01), 0.8)),
    "nesterov, schedule": (gdjax.nesterov(schedule), nesterov_look_ahead(decaying, 0.9)),
    "adagrad": (gdjax.adagrad(0.3, 1e-3), adagrad(as_rate(0.3), 1e-3)),
    "adagrad, outside": (
        gdjax.adagrad(0.3, 1e-3, root=gdjax.eps_outside),
        adagrad(as_rate(0.3), 1e-3, inside=False),
    ),
    "adagrad, defaults": (gdjax.adagrad(0.3), adagrad(as_rate(0.3), 1e-8)),
    "rmsprop": (gdjax.rmsprop(0.01, 0.9, 1e-3), rmsprop(as_rate(0.01), 0.9, 1e-3)),
    "rmsprop, outside": (
        gdjax.rmsprop(0.01, 0.9, 1e-3, root=gdjax.eps_outside),
        rmsprop(as_rate(0.01), 0.9, 1e-3, inside=False),
    ),
    "rmsprop, defaults": (gdjax.rmsprop(schedule), rmsprop(decaying, 0.99, 1e-8)),
    "adam": (gdjax.adam(0.02, 0.8, 0.95, 1e-3), adam(as_rate(0.02), 0.8, 0.95, 1e-3)),
    "adam, defaults": (gdjax.adam(schedule), adam(decaying, 0.9, 0.999, 1e-8)),
    "adamw": (
        gdjax.adamw(0.02, 0.8, 0.95, 1e-3, weight_decay=0.1),
        adam(as_rate(0.02), 0.8, 0.95, 1e-3, weight_decay=0.1),
    ),
    "adamw, defaults": (gdjax.adamw(schedule), adam(decaying, 0.9, 0.999, 1e-8, weight_decay=0.01)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_the_published_equation(name, x64):
    optimizer, published = PAIRS[name]
    run = gdjax.minimize(
        objective, START, optimizer, stop=None, max_steps=STEPS, record=lambda step: step.params
    )
    expected = np.array(list(published))
    assert run.trace.shape == expected.shape
    np.testing.assert_allclose(run.trace, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max() * 1e-3)
    assert np.linalg.norm(expected[-1]) < 0.9 * np.linalg.norm(START)


def test_nesterov_is_the_look_ahead_form_with_its_base_points(x64):
    """The published base points come back from the look-ahead ones: x = y + rate * decay * v."""
    rate, decay = 0.01, 0.9
    optimizer = gdjax.nesterov(rate, decay)
    y, state = jnp.asarray(START), optimizer.init(START)
    x, v = START.copy(), np.zeros(4)
    for _ in range(50):
        v = decay * v + gradient(x - rate * decay * v)
        x = x - rate * v
        updates, state = optimizer.update(gradient(y), state, y)
        y = optax.apply_updates(y, updates)
        np.testing.assert_allclose(y + rate * decay * state.velocity, x, rtol=1e-12)


@pytest.mark.slow
def test_nesterov_at_a_constant_rate_is_optax_sgd():
    ours, theirs = (
        gdjax.minimize(objective, START, o, stop=None, max_steps=50).params
        for o in (gdjax.nesterov(0.01), optax.sgd(0.01, 0.9, nesterov=True))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.slow
def test_a_changed_learning_rate_compiles_nothing_new():
    traces = []

    def counted(x):
        traces.append(1)
        return jnp.sum(x**2)

    first = 0
    for rate in (0.1, 0.2, 0.3):
        for make in (gdjax.adam, gdjax.momentum):
            gdjax.minimize(counted, jnp.ones(2), make(rate), max_steps=3)
        if rate == 0.1:
            first = len(traces)
    assert len(traces) == first <= 4


@pytest.mark.slow
def test_hypergradient_is_finite_where_gradients_are_zero():
    """A coordinate that the objective ignores (a dead unit) does not poison the derivative."""

    def final_value(rate, make):
        run = gdjax.minimize(lambda x: x[0] ** 2, jnp.ones(2), make(rate), stop=None, max_steps=3)
        return run.params[0]

    outside = {"root": gdjax.eps_outside}
    makers = [gdjax.adamw, gdjax.adagrad, lambda rate: gdjax.rmsprop(rate, **outside)]
    for make in makers:
        both = jax.value_and_grad(lambda rate, make=make: final_value(rate, make))
        values, slopes = jax.jit(jax.vmap(both))(jnp.array([0.009, 0.01, 0.011]))
        slope, difference = slopes[1], (values[2] - values[0]) / 0.002
        np.testing.assert_allclose(slope, difference, rtol=2e-2)


@pytest.mark.parametrize("bad", [-0.1, float("nan"), "0.1", None, np.ones(3)])
def test_bad_learning_rate_is_named_at_the_door(bad):
    for make in (gdjax.gradient_descent, gdjax.momentum, gdjax.nesterov, gdjax.adagrad, gdjax.adamw):
        with pytest.raises((TypeError, ValueError), match=rf"{make.__name__}: learning_rate"):
            make(bad)


def test_bad_decay_is_named_at_the_door():
    with pytest.raises(ValueError, match="momentum: decay must be at least 0 and below 1, got 1"):
        gdjax.momentum(0.1, 1)
    with pytest.raises(ValueError, match="adam: b2"):
        gdjax.adam(0.1, b2=-0.5)
    with pytest.raises(ValueError, match="rmsprop: eps"):
        gdjax.rmsprop(0.1, eps=-1e-8)


def test_inject_hyperparams_and_tree_map_params_know_the_methods():
    """Tools of optax that look inside a transformation work on these."""
    injected = optax.inject_hyperparams(gdjax.adam)(learning_rate=0.1)
    x = jnp.ones(3)
    state = injected.init(x)
    state.hyperparams["learning_rate"] = jnp.asarray(0.5)
    np.testing.assert_allclose(injected.update(x, state, x)[0], -0.5, rtol=1e-3)
    doubled = optax.tree.map_params(gdjax.adam(0.1), lambda leaf: leaf + 1, gdjax.adam(0.1).init(x))
    np.testing.assert_array_equal(optax.tree.get(doubled, "mu"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_master_copy_lets_small_steps_add_up(dtype):
    w = jnp.asarray(256.0 if dtype == jnp.bfloat16 else 2048.0, dtype)
    plain, kept = (
        gdjax.minimize(lambda w: w, w, o, stop=None, max_steps=100)
        for o in (gdjax.gradient_descent(0.1), gdjax.master_copy(gdjax.gradient_descent(0.1)))
    )
    assert plain.params == w
    assert kept.params == w - 10
    assert kept.params.dtype == dtype
    assert kept.value == kept.params


def test_master_copy_follows_float32_and_takes_outside_changes():
    """On a tree, its params are the rounding of a float32 run fed the same gradients."""
    rng = np.random.default_rng(0)
    tree = {"a": jnp.asarray(rng.normal(size=(3, 2)), jnp.bfloat16), "b": jnp.asarray(4.0, jnp.float32)}
    kept, plain = gdjax.master_copy(gdjax.adam(0.01)), gdjax.adam(0.01)
    half, full = tree, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
    half_state, full_state = kept.init(half), plain.init(full)
    for _ in range(30):
        grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), half)
        updates, half_state = kept.update(grads, half_state, half)
        half = optax.apply_updates(half, updates)
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grads)
        updates, full_state = plain.update(wide, full_state, full)
        full = optax.apply_updates(full, updates)
        jax.tree.map(
            lambda h, f: np.testing.assert_allclose(
                np.float32(h), np.float32(f.astype(h.dtype)), rtol=1e-2 if h.dtype == jnp.bfloat16 else 1e-5
            ),
            half,
            full,
        )
    jumped = {"a": jnp.zeros((3, 2), jnp.bfloat16), "b": half["b"]}
    updates, state = kept.update(jax.tree.map(jnp.zeros_like, half), half_state, jumped)
    assert float(jnp.max(jnp.abs(state.master["a"]))) < 0.02
    with pytest.raises(TypeError, match="needs params"):
        kept.update(half, half_state)


def test_at_least_float32_repairs_optax_in_half_precision():
    x = jnp.ones(2, jnp.float16)
    for make in (optax.adam, optax.rmsprop, optax.amsgrad, optax.adabelief, optax.nadam, optax.novograd):
        optimizer = gdjax.at_least_float32(make(1e-3))
        updates, _ = optimizer.update(jnp.zeros_like(x), optimizer.init(x), x)
        assert updates.dtype == jnp.float16
        np.testing.assert_array_equal(updates, 0)


def test_clipping_keeps_the_direction_of_overflowing_gradients():
    clip = gdjax.clip_by_global_norm(1.0)
    state = clip.init(None)
    for scale in (1e-40, 1e-30, 0.0, 0.1):
        g = {"a": jnp.array([3.0, 4.0]) * scale / 10, "b": jnp.array(0.0)}
        jax.tree.map(np.testing.assert_array_equal, clip.update(g, state)[0], g)
    for scale in (1.0, 1e10, 1e30, 6e37):
        g = {"a": jnp.array([3.0, 4.0]) * scale, "b": jnp.array(0.0)}
        np.testing.assert_allclose(clip.update(g, state)[0]["a"], [0.6, 0.8], rtol=1e-6)
    half = jnp.full(400, 60000.0, jnp.float16)
    clipped = clip.update(half, state)[0]
    assert clipped.dtype == jnp.float16
    np.testing.assert_allclose(np.float32(clipped), 0.05, rtol=1e-3)
    assert not np.isfinite(clip.update(jnp.array([1.0, jnp.inf]), state)[0]).all()
    assert np.isnan(clip.update(jnp.array([1.0, jnp.nan]), state)[0]).any()


@pytest.mark.slow
def test_clipping_agrees_with_optax_where_nothing_overflows():
    rng = np.random.default_rng(0)
    tree = {
        "a": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "b": jnp.asarray(rng.normal(), jnp.float32),
    }
    for limit in (0.1, 2.0, 100.0):
        ours, theirs = gdjax.clip_by_global_norm(limit), optax.clip_by_global_norm(limit)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
            ours.update(tree, ours.init(tree))[0],
            theirs.update(tree, theirs.init(tree))[0],
        )
    each = gdjax.clip_by_norm(0.5)
    clipped = each.update(tree, each.init(tree))[0]
    np.testing.assert_allclose(np.linalg.norm(clipped["a"]), 0.5, rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], np.clip(tree["b"], -0.5, 0.5), rtol=1e-6)
    total = jax.jit(
        jax.grad(lambda g: jnp.sum(gdjax.clip_by_global_norm(1.0).update(g, optax.EmptyState())[0]))
    )
    np.testing.assert_array_equal(total(jnp.zeros(3)), 1)
