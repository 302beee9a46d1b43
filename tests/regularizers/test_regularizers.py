"""Regularizers: each proximal operator by its optimality condition, by Moreau's identity and against solvers."""

import functools
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jax.tree_util import Partial

import gdjax
from gdjax import projections, regularizers
from gdjax.regularizers.barriers import wright_omega

RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.2, 1.0, size=8).astype(np.float32)
LABELS = np.array([0, 1, 0, 2, 2, -1, 1, 2])


class Case(NamedTuple):
    """A regularizer by its weight, and the shape of the parameters."""

    make: Any
    shape: tuple[int, ...] = (8,)


CASES = {
    "zero": Case(lambda w: regularizers.zero()),
    "l1": Case(regularizers.l1),
    "weighted_l1": Case(lambda w: regularizers.l1(w * WEIGHTS)),
    "l2": Case(regularizers.l2),
    "linf": Case(regularizers.linf),
    "squared_l2": Case(regularizers.squared_l2),
    "elastic_net": Case(lambda w: regularizers.elastic_net(w, 0.5)),
    "huber": Case(lambda w: regularizers.huber(w, 0.6)),
    "maximum": Case(regularizers.maximum),
    "group_rows": Case(lambda w: regularizers.group_lasso(w, axis=1), (4, 3)),
    "group_labels": Case(lambda w: regularizers.group_lasso(w * np.float32([1, 0.5, 2]), groups=LABELS)),
    "sparse_group": Case(lambda w: regularizers.sparse_group_lasso(0.3, w, axis=1), (4, 3)),
    "nuclear": Case(regularizers.nuclear, (3, 4)),
    "total_variation": Case(regularizers.total_variation, (12,)),
    "fused_lasso": Case(lambda w: regularizers.fused_lasso(0.4, w), (12,)),
    "log_barrier": Case(regularizers.log_barrier),
    "entropy": Case(regularizers.entropy),
    "scaled": Case(lambda w: regularizers.scaled(regularizers.l2(), w)),
    "translated": Case(lambda w: regularizers.translated(regularizers.l1(w), WEIGHTS)),
    "tilted": Case(lambda w: regularizers.tilted(regularizers.l1(w), WEIGHTS)),
    "with_squared_l2": Case(lambda w: regularizers.with_squared_l2(regularizers.linf(w), 0.7)),
    "positive_l1": Case(
        lambda w: regularizers.summed(regularizers.indicator(projections.non_negative), regularizers.l1(w))
    ),
    "linear_over_simplex": Case(
        lambda w: regularizers.tilted(regularizers.indicator(projections.simplex), w * WEIGHTS)
    ),
    "box": Case(lambda w: regularizers.indicator(functools.partial(projections.box, lower=-w, upper=w))),
}


def points(name, count=6, seed=1, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=(count, *CASES[name].shape))


@functools.cache
def compiled(name, bits):
    """``(weight, x, step) -> prox`` over a leading axis of x; a program for each type."""
    del bits
    make = CASES[name].make
    return jax.jit(jax.vmap(lambda w, x, step: make(w).prox(x, step), in_axes=(None, 0, None)))


def shifts(shape):
    """Directions of many sizes, single entries among them."""
    rng = np.random.default_rng(7)
    dense = rng.normal(size=(40, *shape)) * (10.0 ** rng.uniform(-6, 0.5, size=40)).reshape(
        -1, *[1] * len(shape)
    )
    single = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.concatenate([dense, 1e-4 * single, -1e-4 * single])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_prox_minimizes(name):
    """F(u) >= F(p) + ||u - p||^2 / 2 for every u, with p the minimizer of the strongly convex F."""
    weight, step = 0.8, 0.7
    x = points(name)
    p = np.asarray(compiled(name, 64)(weight, x, step))
    value = CASES[name].make(weight).value

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def shortfall(x, p, moves):
        def objective(u):
            return step * value(u) + 0.5 * jnp.sum((u - x) ** 2)

        here = objective(p)
        others = jax.vmap(lambda d: objective(p + d) - 0.5 * jnp.sum(d**2))(moves)
        return here, here - jnp.min(others)

    here, missing = shortfall(x, p, shifts(x.shape[1:]))
    assert np.all(np.isfinite(here)), "the point is in the domain"
    assert np.all(missing <= 1e-13 * np.maximum(1, np.abs(here)))
    gap, moved = (x[::2] - x[1::2]).reshape(3, -1), (p[::2] - p[1::2]).reshape(3, -1)
    assert np.all(np.sum(moved**2, 1) <= np.sum(moved * gap, 1) + 1e-12), "firmly nonexpansive"


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_float32_zero_and_types(name):
    x = points(name).astype(np.float32)
    x[0], x[1].flat[0] = 0, np.nan
    p = compiled(name, 32)(0.8, x, 0.7)
    assert p.dtype == jnp.float32
    assert np.any(np.isnan(p[1])), "a NaN is not hidden"
    assert np.all(np.isfinite(np.delete(p, 1, axis=0)))
    regularizer = CASES[name].make(0.8)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(regularizer.prox(x, 0.7))))(jnp.zeros(CASES[name].shape))
    assert np.all(np.isfinite(slope)), "no NaN at zero"
    half = jax.eval_shape(regularizer.prox, jax.ShapeDtypeStruct(CASES[name].shape, jnp.bfloat16), 0.7)
    assert half.dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l1", "l2", "nuclear", "total_variation", "entropy"])
@pytest.mark.usefixtures("x64")
def test_vmap_is_the_loop(name):
    """Over regularizers: their weights are leaves, mapped like any array."""
    x, weights = points(name)[0], jnp.array([0.1, 0.5])
    mapped = jax.jit(jax.vmap(lambda r: r.prox(x, 0.5)))(jax.vmap(CASES[name].make)(weights))
    for weight, found in zip(weights, mapped, strict=True):
        np.testing.assert_allclose(compiled(name, 64)(weight, points(name), 0.5)[0], found, atol=1e-14)


@pytest.mark.parametrize("name", ["elastic_net", "linf", "group_rows"])
@pytest.mark.usefixtures("x64")
def test_jit_is_eager(name):
    eager = CASES[name].make(0.8).prox(points(name)[0], 0.7)
    np.testing.assert_allclose(compiled(name, 64)(0.8, points(name), 0.7)[0], eager, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l2", "linf", "group_labels", "nuclear", "fused_lasso", "entropy"])
@pytest.mark.usefixtures("x64")
def test_derivatives(name):
    """In the point and in the step, against finite differences."""
    prox = jax.jit(CASES[name].make(0.6).prox)
    x = jnp.asarray(points(name, seed=3)[0])
    check_grads(prox, (x, 0.7), order=1, modes=("rev",), atol=2e-5, rtol=2e-5)


CONJUGATES = {
    "l1": lambda x: projections.linf_ball(x, 0.8),
    "l2": lambda x: projections.l2_ball(x, 0.8),
    "linf": lambda x: projections.l1_ball(x, 0.8),
    "maximum": lambda x: projections.simplex(x, 0.8),
    "nuclear": lambda x: projections.spectral_ball(x, 0.8),
    "group_rows": jax.vmap(lambda row: projections.l2_ball(row, 0.8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONJUGATES)
@pytest.mark.usefixtures("x64")
def test_moreau(name):
    """A norm's conjugate is the indicator of the dual ball: two ways to the same point."""
    x, step = points(name)[0], 0.7
    dual = jax.jit(regularizers.conjugate(CASES[name].make(0.8)).prox)
    np.testing.assert_allclose(dual(x, step), jax.jit(CONJUGATES[name])(x), atol=1e-13)
    if name == "l2":
        twice = regularizers.conjugate(regularizers.conjugate(CASES[name].make(0.8)))
        again = compiled(name, 64)(0.8, points(name), step)[0]
        np.testing.assert_allclose(jax.jit(twice.prox)(x, step), again, atol=1e-13)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_conjugate_of_entropy_has_its_value():
    """The conjugate of x log x is exp(y - 1), whose proximal operator solves s exp(u - 1) + u = y."""
    dual = regularizers.conjugate(regularizers.entropy(), lambda y: jnp.sum(jnp.exp(y - 1)))
    u = jax.jit(dual.prox)(jnp.array([0.3, -2.0, 4.0]), 0.6)
    np.testing.assert_allclose(0.6 * np.exp(u - 1) + u, [0.3, -2.0, 4.0], atol=1e-14)
    assert float(dual.value(jnp.ones(3))) == 3
    assert np.isnan(regularizers.conjugate(regularizers.l1()).value(jnp.ones(3)))


def variation_certificate(x, p, t):
    """How far p is from optimal: x - p = D^T z with |z| <= t, and z = t sign(jump) at every jump."""
    z = np.cumsum(p - x)
    jumps = np.diff(p)
    edge = np.abs(jumps) > 1e-9 * max(1, np.abs(x).max())
    return max(
        abs(z[-1]),
        np.maximum(np.abs(z[:-1]) - t, 0).max(initial=0),
        np.abs(z[:-1] - t * np.sign(jumps))[edge].max(initial=0),
    )


@functools.cache
def variation(bits):
    del bits
    return jax.jit(lambda x, t: regularizers.total_variation().prox(x, t))


@hypothesis.given(st.lists(st.floats(-100, 100), min_size=9, max_size=9), st.floats(0, 200))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=60)
@pytest.mark.usefixtures("x64")
def test_total_variation_is_exact(entries, t):
    x = np.array(entries)
    p = np.asarray(variation(64)(x, t))
    assert variation_certificate(x, p, t) <= 1e-11


@pytest.mark.usefixtures("x64")
def test_total_variation_of_long_signals():
    rng = np.random.default_rng(5)
    steps = np.repeat(rng.normal(size=20), 50) + 0.3 * rng.normal(size=1000)
    walk = np.cumsum(rng.normal(size=1000))
    for x in (steps, walk, rng.integers(0, 3, 1000).astype(float), np.arange(1000.0)):
        for t in (0.0, 0.1, 3.0, 1e3, 1e9):
            assert variation_certificate(x, np.asarray(variation(64)(x, t)), t) <= 1e-9 * max(
                1, np.abs(x).max()
            )
    np.testing.assert_allclose(variation(64)(walk, 1e9), walk.mean(), atol=1e-11)


def test_total_variation_in_float32():
    rng = np.random.default_rng(5)
    x = (np.repeat(rng.normal(size=10), 30) + 0.3 * rng.normal(size=300)).astype(np.float32)
    for scale, offset in ((1.0, 0.0), (1e25, 0.0), (1e-25, 0.0), (1.0, 1e4)):
        y = (scale * x + np.float32(offset)).astype(np.float32)
        p = np.asarray(variation(32)(y, 2 * scale), float)
        unit = np.maximum(np.abs(p).max(), 1e-30)
        assert variation_certificate(y.astype(float) / scale, p / scale, 2.0) <= 3e-4 * max(
            1, unit / scale / 1e2
        )
    assert regularizers.total_variation().prox(jnp.array(3.0), 1.0) == 3
    rows = variation(32)(jnp.array([[0.0, 4.0], [1.0, 1.0]]), 1.0)
    assert rows.tolist() == [[1.0, 3.0], [1.0, 1.0]]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_wright_omega():
    from scipy.special import lambertw

    z = np.concatenate([np.linspace(-60, 60, 241), [-700.0, 500.0]])
    np.testing.assert_allclose(jax.jit(wright_omega)(jnp.asarray(z)), lambertw(np.exp(z)).real, rtol=1e-14)
    large = np.array([1e5, 1e30, 1e300])
    w = np.asarray(jax.jit(wright_omega)(jnp.asarray(large)))
    np.testing.assert_allclose(w + np.log(w), large, rtol=1e-15)
    check_grads(
        jax.jit(wright_omega), (jnp.linspace(-5.0, 5, 7),), order=2, modes=("fwd",), atol=1e-5, rtol=1e-5
    )


@pytest.mark.slow
def test_logarithms_at_extreme_scales():
    """By their optimality conditions, in float32."""
    x = np.array([-1e25, -1e4, -1.0, 0.0, 1e-6, 1.0, 1e4, 1e25], np.float32)
    barrier, entropy = (jax.jit(r.prox) for r in (regularizers.log_barrier(), regularizers.entropy()))
    for step in (1e-6, 1.0, 1e6):
        u = np.asarray(barrier(jnp.asarray(x), step), float)
        assert np.all(u > 0)
        np.testing.assert_allclose(
            u - step / u, x, rtol=1e-5, atol=1e-6 * np.max([u, step / u], axis=0).max()
        )
        v = np.asarray(entropy(jnp.asarray(x), step), float)
        assert np.all(v >= 0)
        size = np.abs(x).astype(float) + step * (1 + abs(np.log(step)))
        with np.errstate(divide="ignore"):
            gap = np.where(v > 0, step * (1 + np.log(np.where(v > 0, v, 1))) + v - x, 0)
        assert np.all(np.abs(gap) <= 1e-5 * size)
    assert float(regularizers.entropy().value(jnp.zeros(3))) == 0
    assert np.isinf(regularizers.entropy().value(jnp.array([-1.0])))
    assert np.isinf(regularizers.log_barrier().value(jnp.array([0.0])))


@pytest.mark.slow
def test_norms_at_extreme_scales():
    big, small = jnp.array([3e25, 4e25], jnp.float32), jnp.array([3e-25, 4e-25], jnp.float32)
    prox, value = jax.jit(regularizers.l2().prox), jax.jit(regularizers.l2().value)
    np.testing.assert_allclose(prox(big, 1e25), [2.4e25, 3.2e25], rtol=1e-6)
    np.testing.assert_allclose(prox(small, 1e-25), [2.4e-25, 3.2e-25], rtol=1e-6)
    np.testing.assert_allclose(value(big), 5e25, rtol=1e-6)
    weights = jnp.array([1e25, 1e-25], jnp.float32)
    groups = regularizers.group_lasso(weights, groups=np.array([0, 0, 1, 1]))
    both = jax.jit(groups.prox)(jnp.concatenate([big, small]), 1.0)
    np.testing.assert_allclose(both, [2.4e25, 3.2e25, 2.4e-25, 3.2e-25], rtol=2e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_against_cvxpy():
    cvxpy = pytest.importorskip("cvxpy")
    u, m, line = cvxpy.Variable(8), cvxpy.Variable((3, 4)), cvxpy.Variable(12)
    rows = cvxpy.Variable((4, 3))
    known = {
        "maximum": (u, cvxpy.max(u)),
        "huber": (u, 0.5 * cvxpy.sum(cvxpy.huber(u, 0.6))),
        "nuclear": (m, cvxpy.normNuc(m)),
        "total_variation": (line, cvxpy.norm1(cvxpy.diff(line))),
        "group_rows": (rows, cvxpy.sum(cvxpy.norm(rows, 2, axis=1))),
        "entropy": (u, -cvxpy.sum(cvxpy.entr(u))),
    }
    for name, (variable, value) in known.items():
        x = points(name)[0]
        cost = 0.7 * 0.8 * value + 0.5 * cvxpy.sum_squares(variable - x)
        cvxpy.Problem(cvxpy.Minimize(cost)).solve(solver=cvxpy.CLARABEL)
        ours = compiled(name, 64)(0.8, points(name), 0.7)[0]
        np.testing.assert_allclose(ours, variable.value, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_values_against_their_formulas():
    x = np.array([3.0, -0.5, 0.0, 2.0], np.float32)
    known = {
        regularizers.zero(): 0,
        regularizers.l1(2.0): 11,
        regularizers.l1(jnp.array([1.0, 0, 0, 2])): 7,
        regularizers.l2(2.0): 2 * np.linalg.norm(x),
        regularizers.linf(2.0): 6,
        regularizers.maximum(2.0): 6,
        regularizers.squared_l2(2.0): x @ x,
        regularizers.elastic_net(1.0, 2.0): 5.5 + x @ x,
        regularizers.huber(2.0, 1.0): 2 * (2.5 + 0.125 + 1.5),
        regularizers.total_variation(2.0): 2 * (3.5 + 0.5 + 2),
        regularizers.fused_lasso(1.0, 2.0): 5.5 + 12,
        regularizers.scaled(regularizers.l1(), 3.0): 16.5,
        regularizers.translated(regularizers.l1(), 1.0): 2 + 1.5 + 1 + 1,
        regularizers.group_lasso(groups=jnp.array([0, 1, -1, 0])): np.sqrt(13) + 0.5,
    }
    found = jax.jit(lambda several, x: [r.value(x) for r in several])(list(known), x)
    np.testing.assert_allclose(found, list(known.values()), rtol=1e-6)
    matrix = jnp.array([[0.0, 3.0], [2.0, 0.0]])
    np.testing.assert_allclose(regularizers.nuclear(2.0).value(matrix), 10, rtol=1e-6)
    np.testing.assert_allclose(regularizers.group_lasso(axis=0).value(matrix), 5, rtol=1e-6)


@pytest.mark.smoke
def test_trees():
    tree = {"w": jnp.array([3.0, 4.0]), "b": (jnp.array([[2.0]]), 1.0)}
    p = regularizers.l1({"w": 1.0, "b": 0.0}).prox(tree, 1.0)
    assert p["w"].tolist() == [2.0, 3.0]
    assert jax.tree.structure(p) == jax.tree.structure(tree)
    by_leaf = regularizers.group_lasso({"w": 5.0, "b": 1.0}).prox(tree, 1.0)
    assert by_leaf["w"].tolist() == [0.0, 0.0]
    assert by_leaf["b"][0].tolist() == [[1.0]]
    labels = regularizers.group_lasso(groups={"w": np.array([0, 1]), "b": (np.array([[0]]), 1)})
    np.testing.assert_allclose(labels.value(tree), np.sqrt(13) + np.sqrt(17), rtol=1e-6)
    mixed = regularizers.separable({"w": regularizers.l2(), "b": regularizers.zero()})
    crossed = jax.jit(lambda r, t: (r.prox(t, 1.0), r.value(t)))(mixed, tree)
    np.testing.assert_allclose(crossed[0]["w"], [2.4, 3.2], rtol=1e-6)
    assert float(crossed[1]) == 5
    leaves = regularizers.on_leaves(regularizers.linf())
    assert float(leaves.value(tree)) == 7
    assert leaves.prox(tree, 1.0)["b"][0].tolist() == [[1.0]]


def test_indicator_takes_rounding_for_inside():
    simplex = regularizers.indicator(projections.simplex)
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for scale in (1e-3, 1.0, 1e6):
        p = projections.simplex(jnp.asarray(scale * x))
        assert float(simplex.value(p)) == 0
        assert np.isinf(simplex.value(1.001 * p))
    half = projections.simplex(jnp.asarray(x[:50], jnp.bfloat16))
    assert float(simplex.value(half)) == 0
    assert np.isinf(simplex.value(1.1 * half))
    zero = regularizers.indicator(Partial(projections.box, lower=-1.0, upper=1.0))
    assert float(zero.value(jnp.zeros(3))) == 0
    strict = regularizers.indicator(projections.non_negative, tolerance=0.0)
    assert np.isinf(strict.value(jnp.array([1.0, -1e-9])))
    assert float(regularizers.indicator(projections.non_negative).value(jnp.array([1.0, -1e-9]))) == 0


def test_weights_are_leaves():
    traces = []

    @jax.jit
    def shrink(regularizer, x):
        traces.append(1)
        return regularizer.prox(x, 1.0)

    assert [float(shrink(regularizers.l1(w), jnp.array(3.0))) for w in (0.5, 1.0)] == [2.5, 2.0]
    assert len(traces) == 1
    for axis in (0, 0):
        shrink(regularizers.group_lasso(axis=axis), jnp.ones((2, 2)))
    assert len(traces) == 2
    assert gdjax.regularizers is regularizers


def test_errors_at_the_door():
    with pytest.raises(ValueError, match="weight must be at least 0"):
        regularizers.l1(-1.0)
    with pytest.raises(ValueError, match="weight must be at least 0"):
        regularizers.l1({"w": 1.0, "b": -1.0})
    with pytest.raises(ValueError, match="not both"):
        regularizers.group_lasso(axis=0, groups=LABELS)
    with pytest.raises(TypeError, match="must hold integers"):
        regularizers.group_lasso(groups=np.ones(3))
    with pytest.raises(ValueError, match="below the number of parameters"):
        regularizers.group_lasso(groups=np.array([0, 3]))
    with pytest.raises(ValueError, match="2 labels for 3"):
        regularizers.group_lasso(groups=np.array([0, 1])).prox(jnp.ones(3), 1.0)
    with pytest.raises(TypeError, match="projection must be a function"):
        regularizers.indicator(3.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="have to be called"):
        regularizers.scaled(regularizers.l1, 2.0)  # type: ignore[arg-type]


@pytest.mark.slow
def test_flat_at_zero_whatever_jax_says_of_abs():
    """Norms have their minimum at 0: of all subgradients there the value's derivative is the one that rests."""
    names = ["l1", "weighted_l1", "l2", "linf", "elastic_net", "huber", "group_rows", "group_labels"]
    names += ["sparse_group", "nuclear", "total_variation", "fused_lasso"]
    slopes = jax.jit(
        lambda: {n: jax.grad(CASES[n].make(0.5).value)(jnp.zeros(CASES[n].shape)) for n in names}
    )()
    for name, slope in slopes.items():
        np.testing.assert_array_equal(slope, 0, err_msg=name)
    away = jax.grad(regularizers.l1(0.5).value)(jnp.array([2.0, -3.0, jnp.inf]))
    np.testing.assert_array_equal(away, [0.5, -0.5, 0.5])
