"""K-FAC beside the paper's equations in NumPy; its theorem on invariance; the models that it takes and refuses."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax.objectives import derivatives, distributions
from gdjax.optimizers.blocks.damping import Levenberg
from gdjax.optimizers.kfac import fisher_estimators

RNG = np.random.default_rng(0)
N = 12
X, Y = RNG.normal(size=(N, 3)), RNG.integers(0, 3, size=N)
START = (
    {"b": 0.1 * np.ones(4), "w": RNG.normal(size=(3, 4))},
    {"b": np.zeros(3), "w": RNG.normal(size=(4, 3))},
)
DECAY = 0.01
LEVENBERG = Levenberg(0.3, 1.7, 0.5)


def net(params, x):
    first, last = params
    return jnp.tanh(x @ first["w"] + first["b"][None]) @ last["w"] + last["b"][None]


def l2(params):
    return 0.5 * DECAY * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def objective(model=net, data=(X, Y), penalty=None, batch_size=None):
    return gdjax.objectives.supervised(
        model, distributions.categorical.loss, data, batch_size, penalty=penalty
    )


def walk(optimizer, steps, start=START, at=None):
    """All points on the way, and the last state."""
    value_fn = (at or objective()).at(None)
    optimizer = optax.with_extra_args_support(optimizer)

    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=value_fn)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    start = jax.tree.map(jnp.asarray, start)
    _, (points, states) = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, points), states


def path(*arguments):
    return walk(*arguments)[0]


class Paper:
    """Equations of Martens and Grosse, with homogeneous matrices (inputs + 1, outputs), bias last."""

    def __init__(self, weights):
        self.w = weights
        self.hidden = np.tanh(self.ones(X) @ weights[0])
        self.a = [self.ones(X), self.ones(self.hidden)]
        logits = self.a[1] @ weights[1]
        e = np.exp(logits - logits.max(1, keepdims=True))
        self.p = e / e.sum(1, keepdims=True)
        self.metric = [(np.diag(p) - np.outer(p, p)) / N for p in self.p]
        squares = sum((w**2).sum() for w in weights)
        self.value = -np.log(self.p[np.arange(N), Y]).mean() + 0.5 * DECAY * squares

    @staticmethod
    def ones(rows):
        return np.concatenate([rows, np.ones((N, 1))], 1)

    def back(self, out):
        """Signals of both layers for signals of the outputs."""
        return [(out @ self.w[1][:-1].T) * (1 - self.hidden**2), out]

    def gradient(self):
        signal = self.back((self.p - np.eye(3)[Y]) / N)
        return [a.T @ g + DECAY * w for a, g, w in zip(self.a, signal, self.w, strict=True)]

    def factors(self):
        jacobians = [(1 - h**2)[:, None] * self.w[1][:-1] for h in self.hidden]
        first = sum(j @ m @ j.T for j, m in zip(jacobians, self.metric, strict=True))
        return [(a.T @ a / N, g) for a, g in zip(self.a, [first, sum(self.metric)], strict=True)]

    def along(self, step):
        """Change of the outputs."""
        hidden = (self.a[0] @ step[0]) * (1 - self.hidden**2)
        return self.a[1] @ step[1] + hidden @ self.w[1][:-1]

    def bend(self, s, t):
        """``s^T (F + penalty'') t``."""
        u, v = self.along(s), self.along(t)
        return sum(a @ m @ b for a, m, b in zip(u, self.metric, v, strict=True)) + DECAY * inner(s, t)


def inner(s, t):
    return sum((a * b).sum() for a, b in zip(s, t, strict=True))


def by_hand(steps, rate, damping, beta):
    """The path of homogeneous matrices."""
    weights = [np.vstack([layer["w"], layer["b"]]) for layer in START]
    level = damping.initial if isinstance(damping, Levenberg) else damping
    last, averages, found = [0 * w for w in weights], None, [weights]
    for k in range(1, steps + 1):
        at = Paper(weights)
        keep = min(1 - 1 / k, beta)
        averages = [
            [
                new if averages is None else keep * averages[i][j] + (1 - keep) * new
                for j, new in enumerate(pair)
            ]
            for i, pair in enumerate(at.factors())
        ]
        grad, delta = at.gradient(), []
        for (a, g), nabla in zip(averages, grad, strict=True):
            pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
            root = np.sqrt(level + DECAY)
            left, right = a + pi * root * np.eye(len(a)), g + root / pi * np.eye(len(g))
            delta.append(-np.linalg.solve(left, nabla) @ np.linalg.inv(right))
        if rate is None:
            both = [delta, last] if k > 1 else [delta]
            q = np.array([[at.bend(s, t) + level * inner(s, t) for t in both] for s in both])
            mix = -np.linalg.solve(q, [inner(grad, s) for s in both])
            delta = [sum(m * s[i] for m, s in zip(mix, both, strict=True)) for i in (0, 1)]
        else:
            delta = [rate * d for d in delta]
        weights, last = [w + d for w, d in zip(weights, delta, strict=True)], delta
        if isinstance(damping, Levenberg):
            ratio = (Paper(weights).value - at.value) / (inner(grad, delta) + 0.5 * at.bend(delta, delta))
            level *= damping.raise_by if ratio < 0.25 else damping.lower_by if ratio > 0.75 else 1
        found.append(weights)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "damping"), [(None, LEVENBERG), (0.3, 0.05)])
def test_steps_are_those_of_the_paper(x64, rate, damping):
    found = path(gdjax.kfac(rate, damping, 0.6), 6, START, objective(penalty=l2))
    for step, expected in enumerate(by_hand(6, rate, damping, 0.6)):
        for layer, matrix in zip(found, expected, strict=True):
            ours = np.vstack([layer["w"][step], layer["b"][step]])
            np.testing.assert_allclose(ours, matrix, rtol=1e-8, atol=1e-10)


@pytest.mark.smoke
def test_a_linear_layer_is_solved_in_one_step(x64):
    targets = RNG.normal(size=(N, 2))
    fit = gdjax.least_squares(lambda p: X @ p["w"] + p["b"][None] - targets)
    start = {"b": jnp.zeros(2), "w": jnp.ones((3, 2))}
    run = gdjax.minimize(fit, start, gdjax.kfac(1.0, 0.0), stop=None, max_steps=1)
    expected = np.linalg.lstsq(np.hstack([X, np.ones((N, 1))]), targets)[0]
    np.testing.assert_allclose(np.vstack([run.params["w"], run.params["b"]]), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_affine_changes_of_activations_change_nothing(x64):
    """Theorem 1: without damping the models on the path are the same; those of gradient descent are not."""
    change, inside = RNG.normal(size=(3, 3)), RNG.normal(size=(4, 4))

    def changed(params, x):
        first, last = params
        hidden = jnp.tanh((x @ change + 0.5) @ first["w"] + first["b"][None])
        return (hidden @ inside - 1.0) @ last["w"] + last["b"][None]

    (first, last), back, inner_back = START, np.linalg.inv(change), np.linalg.inv(inside)
    w, v = back @ first["w"], inner_back @ last["w"]
    moved = ({"b": first["b"] - 0.5 * w.sum(0), "w": w}, {"b": last["b"] + v.sum(0), "w": v})

    def squares(model):
        data = X, np.tanh(X[:, ::-1])
        return gdjax.objectives.supervised(model, lambda o, y: 0.5 * jnp.sum((o - y) ** 2, axis=1), data)

    def models(optimizer):
        plain = path(optimizer, 4, START, squares(net))
        other = path(optimizer, 4, moved, squares(changed))
        return jax.vmap(lambda p: net(p, X))(plain), jax.vmap(lambda p: changed(p, X))(other)

    same = models(gdjax.kfac(0.2, 0.0))
    np.testing.assert_allclose(*same, rtol=1e-7, atol=1e-8)
    plain, other = models(gdjax.gradient_descent(0.2))
    assert np.abs(plain - other).max() > 0.05


def outer(columns):
    """Sums of outer products, example by example."""
    rows = jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(columns)], -1)
    return jnp.einsum("knc,knd->ncd", rows, rows)


@pytest.mark.slow
def test_signals_add_up_to_the_metric(x64):
    composite = objective().at(None)
    outputs = net(START, X)
    at_outputs = gdjax.Composite(lambda o: o, composite.loss)
    product = derivatives.gauss_newton(at_outputs, outputs).product
    p = jax.nn.softmax(outputs)
    metric = (jax.vmap(jnp.diag)(p) - jnp.einsum("nc,nd->ncd", p, p)) / N
    columns = jax.jit(lambda: outer(fisher_estimators.exact(composite, outputs, product, 0)))()
    np.testing.assert_allclose(columns, metric, atol=1e-12)

    draw = fisher_estimators.sampled(0)
    many = jax.jit(jax.vmap(lambda count: outer(draw(composite, outputs, product, count))))(jnp.arange(5000))
    np.testing.assert_allclose(many.mean(0), metric, atol=6 * float(many.std() / len(many) ** 0.5))
    assert np.abs(many[0] - metric).max() > 1e-3

    errors = (p - jax.nn.one_hot(Y, 3)) / N**0.5
    own = fisher_estimators.empirical(composite, outputs, product, 0)
    np.testing.assert_allclose(outer(own), jnp.einsum("nc,nd->ncd", errors, errors), atol=1e-12)
    with pytest.raises(TypeError, match="Mean"):
        fisher_estimators.empirical(gdjax.least_squares(lambda p: p), outputs, product, 0)


def test_outputs_may_be_trees_and_metrics_of_a_family(x64):
    outputs = (jnp.asarray(RNG.normal(size=N)), jnp.asarray(RNG.normal(size=N)))
    loss = gdjax.objectives.Mean(lambda o: distributions.gaussian.loss(o, X[:, 0]))
    product = derivatives.fisher(distributions.gaussian)(gdjax.Composite(lambda o: o, loss), outputs).product
    found = jax.jit(
        lambda: outer(fisher_estimators.exact(gdjax.Composite(None, loss), outputs, product, 0))
    )()
    expected = [np.diag([np.exp(-2 * s), 2.0]) / N for s in outputs[1]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


FAMILIES = {
    "categorical": jnp.asarray(RNG.normal(size=(2, 3))),
    "bernoulli": jnp.asarray(RNG.normal(size=(2, 3))),
    "poisson": jnp.asarray(RNG.normal(size=2)),
    "gaussian": (jnp.asarray(RNG.normal(size=2)), jnp.asarray(RNG.normal(size=2))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_roots_of_families_are_those_of_their_metrics(x64, name):
    """S S^T = F, and what is sampled by it has the scale of the metric that is asked for."""
    family, outputs = (
        getattr(distributions, name),
        jax.tree.map(lambda leaf: leaf.astype(float), FAMILIES[name]),
    )
    flat, back = jax.flatten_util.ravel_pytree(outputs)

    def matrix(product):
        return jax.vmap(lambda v: jax.flatten_util.ravel_pytree(product(outputs, back(v)))[0], 0, 1)(
            jnp.eye(flat.size)
        )

    root = matrix(family.root)
    np.testing.assert_allclose(root @ root.T, matrix(family.metric), atol=1e-12)

    def scaled(noise):
        return jax.tree.map(lambda leaf: 0.3 * leaf, family.metric(outputs, noise))

    draw = jax.vmap(lambda count: fisher_estimators.sampled(0, family)(None, outputs, scaled, count))
    squares = [
        jnp.mean(jnp.sum(leaf.reshape(4000, -1) ** 2, 1)) for leaf in jax.tree.leaves(draw(jnp.arange(4000)))
    ]
    np.testing.assert_allclose(sum(squares), 0.3 * jnp.trace(matrix(family.metric)), rtol=0.1)


def written_otherwise(params, x):
    """The same, for one example at a time and by transposed matrices."""
    first, last = params

    def one(x):
        return jax.jit(jnp.tanh)(first["w"] @ x + first["b"])

    return jax.vmap(lambda x: last["b"] + one(x) @ last["w"].T)(x)


@pytest.mark.slow
def test_models_of_one_example_and_transposed_matrices_take_the_same_path(x64):
    optimizer = gdjax.kfac(0.3, interval=5)
    plain, states = walk(optimizer, 7)
    other = path(optimizer, 7, jax.tree.map(np.transpose, START), objective(written_otherwise))
    turned = jax.vmap(lambda p: jax.tree.map(jnp.transpose, p))(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), plain, turned)

    changed = [not np.array_equal(a, b) for a, b in pairwise(states.inverses[1][0])]
    assert changed == [True, True, False, False, True, False], "the first three, then one in five"


@pytest.mark.slow
def test_few_numbers_outside_of_layers_have_their_whole_matrix(x64):
    """Where no layer is, the direction is natural gradient's."""

    def model(p, x):
        return jnp.exp(p["s"]) * (x @ p["w"])[:, None] * jnp.array([[1.0, 0.0, -0.5]])

    start = {"s": np.array(0.2), "w": np.array([0.5, -1.0, 0.3])}
    ours = path(gdjax.kfac(0.5, 0.1), 4, start, objective(model))
    dense = path(gdjax.natural_gradient(0.5, 0.1), 4, start, objective(model))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), ours, dense)


@pytest.mark.slow
def test_numbers_may_be_tracers(x64):
    @jax.jit
    def final(rate, damping, decay, seed):
        optimizer = gdjax.kfac(rate, damping, decay, signals=fisher_estimators.sampled(seed))
        return path(optimizer, 4)[0]["w"][-1]

    grid = [jnp.array([0.3, 0.5]), jnp.array([0.1, 1.0]), jnp.array([0.5, 0.9]), jnp.array([1, 2])]
    expected = [final(*(axis[i] for axis in grid)) for i in (0, 1)]
    np.testing.assert_allclose(jax.vmap(final)(*grid), expected, rtol=1e-9)


@pytest.mark.slow
def test_mini_batches_in_float32():
    x = RNG.normal(size=(300, 3)).astype(np.float32)
    labels = np.argmax(np.tanh(x @ RNG.normal(size=(3, 3))), axis=1)
    batches = objective(data=(x, labels), batch_size=30)
    start = jax.tree.map(jnp.float32, START)
    optimizer = gdjax.kfac(
        damping=Levenberg(1.0), signals=fisher_estimators.sampled(0, distributions.categorical)
    )
    run = gdjax.minimize(batches, start, optimizer, stop=None, max_steps=60, key=1)
    assert run.params[0]["w"].dtype == jnp.float32
    assert run.value < 0.15
    assert run.state.damping < 0.5


@pytest.mark.slow
def test_parts_of_a_model_go_to_other_methods(x64):
    def model(p, x):
        return net(p["net"], jnp.mean(x[:, :, None] * p["scales"][None], axis=2))

    start, at = {"net": START, "scales": np.ones((3, 50))}, objective(model)
    with pytest.raises(TypeError, match=r"params\['scales'\] of shape \(3, 50\), used by mul"):
        gdjax.minimize(at, start, gdjax.kfac(), max_steps=1)
    labels = {"net": "dense", "scales": "others"}
    mixed = gdjax.partition({"dense": gdjax.kfac(0.3), "others": optax.sgd(0.1)}, labels)
    found = path(mixed, 1, start, at)
    alone = path(gdjax.kfac(0.3), 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found["net"], alone)
    gradient = jax.grad(at.at(None))(start)["scales"]
    np.testing.assert_allclose(found["scales"][1], start["scales"] - 0.1 * gradient, rtol=1e-10)


def test_errors_at_the_door():
    start = jax.tree.map(jnp.float32, START)
    state = gdjax.kfac().init(start)
    with pytest.raises(TypeError, match="kfac needs params and value_fn"):
        gdjax.kfac().update(start, state)
    with pytest.raises(TypeError, match="kfac needs an objective whose model and loss"):
        gdjax.minimize(lambda p: jnp.sum(p**2), jnp.ones((2, 2)), gdjax.kfac())
    flat = gdjax.least_squares(lambda w: (X.astype(np.float32) @ w).ravel())
    with pytest.raises(TypeError, match=r"leading axis .* params meets 12 rows .* \[\(36,\)\]"):
        gdjax.minimize(flat, jnp.ones((3, 3)), gdjax.kfac())
    with pytest.raises(ValueError, match="interval must be an integer of at least 1, got 0"):
        gdjax.kfac(interval=0)
    with pytest.raises(ValueError, match="damping must be at least 0"):
        gdjax.kfac(damping=-1.0)
    with pytest.raises(ValueError, match="no root"):
        fisher_estimators.sampled(0, distributions.categorical._replace(root=None))


@pytest.mark.slow
def test_a_head_of_zeros_without_damping():
    x = jnp.asarray(X, jnp.float32)
    fit = gdjax.least_squares(lambda p: jnp.tanh(x @ p["w"]) @ p["v"] - jnp.sin(x[:, :1]))
    start = {
        "v": jnp.zeros((3, 1)),
        "w": jnp.asarray(np.random.default_rng(3).normal(size=(3, 3)), jnp.float32),
    }
    run = gdjax.minimize(fit, start, gdjax.kfac(damping=0.0), stop=None, max_steps=10)
    assert run.status == gdjax.Status.MAX_STEPS
    assert run.value < fit(start)
