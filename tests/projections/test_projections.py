"""Projections: nearest points, checked by their variational inequality, at every scale and in every form."""

import functools
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import gdjax
from gdjax import projections, regularizers


class Case(NamedTuple):
    """A convex set: its projection, how far a point violates it, and the shape of a point."""

    project: Any
    violation: Any
    shape: tuple[int, ...] = (6,)


RNG = np.random.default_rng(0)
CENTER = RNG.normal(size=6)
NORMAL = RNG.normal(size=6)
MATRIX = RNG.normal(size=(2, 6))
OFFSET = RNG.normal(size=2)
ROWS, COLUMNS = np.array([0.5, 1.0, 1.5]), np.array([1.0, 0.25, 0.75, 1.0])


def over(x):
    return float(np.max(np.maximum(x, 0), initial=0))


def singular(x):
    return np.linalg.svd(x, compute_uv=False)


def transport(x):
    return projections.transport_polytope(x, ROWS, COLUMNS)


def cone(x):
    vector, height = projections.second_order_cone((x[:-1], x[-1]))
    return jnp.concatenate([vector, height[None]])


def box_and_plane(x):
    return projections.box_and_hyperplane(x, -0.5, 0.75, NORMAL, 0.3)


BALL_AND_HALFSPACE = (projections.l2_ball, lambda x: projections.halfspace(x, 1.0, -0.5))

CASES = {
    "non_negative": Case(projections.non_negative, lambda x: over(-x)),
    "box": Case(
        lambda x: projections.box(x, -0.5, CENTER + 3), lambda x: over(-0.5 - x) + over(x - CENTER - 3)
    ),
    "hypercube": Case(lambda x: projections.hypercube(x, 0.5), lambda x: over(-x) + over(x - 0.5)),
    "simplex": Case(lambda x: projections.simplex(x, 2.0), lambda x: over(-x) + abs(x.sum() - 2)),
    "l1_ball": Case(lambda x: projections.l1_ball(x, 1.5), lambda x: over(np.abs(x).sum() - 1.5)),
    "l1_ball_center": Case(
        lambda x: projections.l1_ball(x, 0.5, CENTER), lambda x: over(np.abs(x - CENTER).sum() - 0.5)
    ),
    "l2_ball": Case(lambda x: projections.l2_ball(x, 0.8), lambda x: over(np.linalg.norm(x) - 0.8)),
    "l2_ball_center": Case(
        lambda x: projections.l2_ball(x, 0.5, CENTER), lambda x: over(np.linalg.norm(x - CENTER) - 0.5)
    ),
    "linf_ball": Case(lambda x: projections.linf_ball(x, 0.7), lambda x: over(np.abs(x) - 0.7)),
    "linf_ball_center": Case(
        lambda x: projections.linf_ball(x, 0.2, CENTER), lambda x: over(np.abs(x - CENTER) - 0.2)
    ),
    "hyperplane": Case(lambda x: projections.hyperplane(x, NORMAL, 0.7), lambda x: abs(NORMAL @ x - 0.7)),
    "halfspace": Case(lambda x: projections.halfspace(x, NORMAL, -0.7), lambda x: over(NORMAL @ x + 0.7)),
    "affine": Case(
        lambda x: projections.affine(x, MATRIX, OFFSET), lambda x: np.abs(MATRIX @ x - OFFSET).max()
    ),
    "affine_deficient": Case(
        lambda x: projections.affine(x, np.vstack([MATRIX, MATRIX.sum(0)]), np.append(OFFSET, OFFSET.sum())),
        lambda x: np.abs(MATRIX @ x - OFFSET).max(),
    ),
    "box_and_hyperplane": Case(
        box_and_plane, lambda x: over(-0.5 - x) + over(x - 0.75) + abs(NORMAL @ x - 0.3)
    ),
    "second_order_cone": Case(cone, lambda x: over(np.linalg.norm(x[:-1]) - x[-1])),
    "positive_semidefinite": Case(
        projections.positive_semidefinite,
        lambda x: over(-np.linalg.eigvalsh(x)) + np.abs(x - x.T).max(),
        (4, 4),
    ),
    "density": Case(
        lambda x: projections.on_eigenvalues(x, projections.simplex),
        lambda x: over(-np.linalg.eigvalsh(x)) + np.abs(x - x.T).max() + abs(np.trace(x) - 1),
        (4, 4),
    ),
    "nuclear_ball": Case(
        lambda x: projections.nuclear_ball(x, 1.5), lambda x: over(singular(x).sum() - 1.5), (3, 4)
    ),
    "spectral_ball": Case(
        lambda x: projections.spectral_ball(x, 0.7), lambda x: over(singular(x) - 0.7), (4, 3)
    ),
    "transport_polytope": Case(
        transport,
        lambda x: over(-x) + np.abs(x.sum(1) - ROWS).max() + np.abs(x.sum(0) - COLUMNS).max(),
        (3, 4),
    ),
    "intersection": Case(
        lambda x: projections.intersection(x, BALL_AND_HALFSPACE, rounds=300),
        lambda x: over(np.linalg.norm(x) - 1) + over(x.sum() + 0.5),
    ),
}


HAVE_NORMS = {
    "l1_ball",
    "l2_ball",
    "hyperplane",
    "second_order_cone",
    "nuclear_ball",
    "density",
    "intersection",
}


@functools.cache
def compiled(name, bits):
    """The projection mapped over a leading axis; a program for each type."""
    del bits
    return jax.jit(jax.vmap(CASES[name].project))


def points(case, count=16, seed=1, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=(count, *case.shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_nearest_point(name):
    r"""p is the projection of x onto a convex set if and only if p is in it and <x - p, u - p> <= 0 for all u in it."""
    case = CASES[name]
    many = compiled(name, 64)
    x = points(case)
    p = np.asarray(many(x))
    others = np.asarray(many(points(case, seed=2, scale=5.0)))
    assert max(case.violation(point) for point in p) < 1e-13
    flat = [a.reshape(len(a), -1) for a in (x, p, others)]
    slack = np.einsum("in,ijn->ij", flat[0] - flat[1], flat[2][None] - flat[1][:, None])
    assert slack.max() < 1e-11
    np.testing.assert_allclose(many(p), p, atol=1e-13, err_msg="idempotent")
    gap, moved = flat[0][::2] - flat[0][1::2], flat[1][::2] - flat[1][1::2]
    assert np.all(np.sum(moved**2, 1) <= np.sum(moved * gap, 1) + 1e-12), "firmly nonexpansive"


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_float32_zero_and_nan(name):
    case = CASES[name]
    x = points(case).astype(np.float32)
    x[0], x[1].flat[0] = 0, np.nan
    p = compiled(name, 32)(x)
    assert p.dtype == jnp.float32
    assert np.any(np.isnan(p[1])), "a NaN is not hidden"
    p = np.delete(p, 1, axis=0)
    assert max(case.violation(np.asarray(point, float)) for point in p) < 4e-6
    if name in HAVE_NORMS:
        slopes = jax.jit(jax.grad(lambda x: jnp.sum(case.project(x))))(jnp.zeros(case.shape))
        assert np.all(np.isfinite(slopes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simplex", "l2_ball", "linf_ball", "halfspace", "spectral_ball"])
@pytest.mark.usefixtures("x64")
def test_jit_and_vmap_are_the_loop(name):
    x = points(CASES[name])
    np.testing.assert_allclose(CASES[name].project(x[3]), compiled(name, 64)(x)[3], atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l1_ball_center", "second_order_cone", "density", "spectral_ball"])
@pytest.mark.usefixtures("x64")
def test_derivatives(name):
    """In reverse, against finite differences, at a point without ties."""
    x = jnp.asarray(points(CASES[name], seed=5)[0])
    check_grads(jax.jit(CASES[name].project), (x,), order=1, modes=("rev",), atol=1e-5, rtol=1e-5)


def numbers_of(name):
    """A projection as a function of the point and of the numbers that define the set."""
    return {
        "simplex": (projections.simplex, 1.3),
        "l2_ball": (lambda x, center: projections.l2_ball(x, 0.3, center), CENTER),
        "hyperplane": (lambda x, normal: projections.hyperplane(x, normal, 0.4), NORMAL),
        "box_and_hyperplane": (
            lambda x, all: projections.box_and_hyperplane(x, all[0], all[1], all[2], all[3][0]),
            np.stack([CENTER - 0.8, CENTER + 0.8, NORMAL, NORMAL * 0 + 0.2]),
        ),
        "affine": (lambda x, both: projections.affine(x, both[:, :6], both[:, 6]), np.c_[MATRIX, OFFSET]),
        "nuclear_ball": (lambda x, radius: projections.nuclear_ball(x.reshape(2, 3), radius), 1.1),
        "transport_polytope": (
            lambda x, rows: projections.transport_polytope(x.reshape(2, 3), rows, jnp.ones(3)),
            np.array([1.0, 2.0]),
        ),
    }[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "simplex",
        "l2_ball",
        "hyperplane",
        "box_and_hyperplane",
        "affine",
        "nuclear_ball",
        "transport_polytope",
    ],
)
@pytest.mark.usefixtures("x64")
def test_numbers_of_sets_are_differentiable(name):
    function, number = numbers_of(name)
    function, number = jax.jit(function), jnp.asarray(number)
    x = jnp.asarray(points(CASES["simplex"], seed=9)[0])
    check_grads(function, (x, number), order=1, modes=("rev",), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_simplex_at_extreme_scales():
    p = projections.simplex(jnp.array([1e8, 1e8 + 8, 1.0], jnp.float32))
    assert p.tolist() == [0.0, 1.0, 0.0]
    for scale in (1e-30, 1e-8, 1.0, 1e8, 1e30):
        x = jnp.asarray(scale * RNG.normal(size=100), jnp.float32)
        for total in (1e-6, 1.0, 1e6):
            p = np.asarray(jax.jit(projections.simplex)(x, total), float)
            assert p.min() >= 0
            assert abs(p.sum() - total) < 4e-7 * total
    p = projections.simplex(jnp.array([3e38, -3e38, 3e38], jnp.float32))
    assert p.tolist() == [0.5, 0.0, 0.5]
    many = projections.simplex(jnp.zeros(100_000, jnp.float32))
    assert abs(float(np.asarray(many, float).sum()) - 1) < 1e-6


@pytest.mark.slow
def test_balls_at_extreme_scales():
    half = 0.5**0.5
    names = ("l1_ball", "l2_ball", "l1_sphere", "l2_sphere")
    l1_ball, l2_ball, l1_sphere, l2_sphere = (jax.jit(getattr(projections, name)) for name in names)
    hyperplane = jax.jit(projections.hyperplane)
    for size in (1e-25, 1.0, 1e25, 3e38):
        x = jnp.full(2, size, jnp.float32)
        np.testing.assert_allclose(l2_sphere(x), [half, half], rtol=3e-7)
        np.testing.assert_allclose(l1_sphere(x), [0.5, 0.5], rtol=3e-7)
        inside = size < 0.7
        np.testing.assert_allclose(l2_ball(x), x if inside else [half, half], rtol=3e-7)
        np.testing.assert_allclose(l1_ball(x), x if size < 0.5 else [0.5, 0.5], rtol=3e-7)
        plane = hyperplane(jnp.array([3.0, 1.0], jnp.float32), x, 0.0)
        np.testing.assert_allclose(plane, [1.0, -1.0], rtol=3e-7)
    near = projections.hyperplane(jnp.array([1e7, 3e7, -2.0], jnp.float32), 1.0, 1.0)
    assert abs(float(near.sum()) - 1) < 4
    unit = projections.l2_ball(jnp.array([1e25, 1e25], jnp.float32))
    assert abs(float(jnp.linalg.norm(unit)) - 1) < 2e-7


def test_spheres_from_their_centres():
    for sphere, norm in (
        (projections.l1_sphere, 1),
        (projections.l2_sphere, 2),
        (projections.linf_sphere, np.inf),
    ):
        p = np.asarray(sphere(jnp.ones(3), 2.0, 1.0), float) - 1
        assert abs(np.linalg.norm(p, norm) - 2) < 1e-6
        inside = np.asarray(sphere(jnp.array([0.1, -0.3, 0.2])), float)
        assert abs(np.linalg.norm(inside, norm) - 1) < 1e-6
        assert inside[1] < 0 < inside[0]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_spheres_are_nearest():
    """No point of the sphere is nearer, among many."""
    rng = np.random.default_rng(3)
    others = rng.normal(size=(20_000, 3))
    for sphere, norm in (
        (projections.l1_sphere, 1),
        (projections.l2_sphere, 2),
        (projections.linf_sphere, np.inf),
    ):
        on = others / np.linalg.norm(others, norm, axis=1)[:, None]
        for x in (np.array([0.2, -0.1, 0.3]), np.array([2.0, -1.0, 0.5])):
            nearest = np.linalg.norm(x - np.asarray(jax.jit(sphere)(x)))
            assert nearest <= np.linalg.norm(on - x, axis=1).min() + 1e-12


@pytest.mark.slow
@hypothesis.given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=7), st.floats(1e-3, 1e3))
def test_simplex_properties(entries, total):
    x = np.zeros(7, np.float32) - 1e7
    x[: len(entries)] = entries
    p = np.asarray(jax.jit(projections.simplex)(x, total), float)
    assert p.min() >= 0
    assert abs(p.sum() - total) <= 1e-6 * total
    order = np.argsort(x, kind="stable")
    assert np.all(np.diff(p[order]) >= 0), "larger entries keep larger shares"


boxed = jax.jit(projections.box_and_hyperplane)


@hypothesis.given(
    st.lists(st.floats(-100, 100), min_size=5, max_size=5),
    st.lists(st.floats(-3, 3), min_size=5, max_size=5),
    st.floats(0, 1),
)
@pytest.mark.usefixtures("x64")
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_box_and_hyperplane_properties(entries, normal, share):
    """Feasible, and a multiplier explains every free entry; normals with zeros and ties included."""
    x, a = np.array(entries), np.array(normal)
    a = np.where(np.abs(a) < 1e-3, 0, a)
    hypothesis.assume(np.abs(a).max() > 0)
    low, high = -np.ones(5), np.array([0.5, 1, 2, 3, 4.0])
    lowest, highest = np.minimum(a * low, a * high).sum(), np.maximum(a * low, a * high).sum()
    offset = lowest + share * (highest - lowest)
    p = np.asarray(boxed(x, low, high, a, offset))
    assert np.all(p >= low)
    assert np.all(p <= high)
    assert abs(a @ p - offset) <= 1e-12 * max(1, np.abs(a).max())
    free = (p > low) & (p < high) & (a != 0)
    multipliers = ((x - p) / np.where(a == 0, 1, a))[free]
    if multipliers.size:
        assert np.ptp(multipliers) <= 1e-9 * max(1, np.abs(multipliers).max())


def test_box_and_hyperplane_at_its_edges():
    project = boxed
    p = project(jnp.array([1e8, 1e8 + 8, 1.0], jnp.float32), 0.0, jnp.inf, 1.0, 1.0)
    assert p.tolist() == [0.0, 1.0, 0.0]
    assert project(jnp.zeros(3), 0.0, 1.0, 1.0, 3.0).tolist() == [1.0, 1.0, 1.0]
    assert np.all(np.isnan(project(jnp.zeros(3), 0.0, 1.0, 1.0, 9.0))), "out of reach"
    assert np.all(np.isnan(project(jnp.zeros(3), 0.0, 1.0, 1.0, -9.0))), "out of reach"
    assert project(jnp.array([3.0, 1.0]), 0.0, 2.0, 0.0, 0.0).tolist() == [2.0, 1.0], "no hyperplane at all"
    np.testing.assert_allclose(
        project(jnp.array([3.0, 1.0]), -jnp.inf, jnp.inf, 1.0, 0.0), [1, -1], atol=1e-6
    )


@pytest.mark.smoke
def test_trees_and_types():
    tree = {"w": jnp.ones((2, 2), jnp.bfloat16), "b": (jnp.full(3, 2.0), 4.0)}
    p = jax.jit(projections.simplex)(tree)
    assert jax.tree.structure(p) == jax.tree.structure(tree)
    assert p["w"].dtype == jnp.bfloat16
    assert float(p["b"][1]) == 1.0
    assert jax.tree.all(
        jax.tree.map(lambda x: jnp.all(x <= 1.5), projections.box(tree, 0.0, {"w": 1.0, "b": 1.5}))
    )
    lower = {"w": -1.0, "b": (jnp.array([0.0, 3.0, 0.0]), 5.0)}
    assert projections.box(tree, lower)["b"][0].tolist() == [2.0, 3.0, 2.0]
    ball = jax.jit(projections.l2_ball)(
        {"a": jnp.array([3.0]), "b": jnp.array([0.0, 8.0])}, 4.0, {"a": 3.0, "b": 0.0}
    )
    assert ball["b"].tolist() == [0.0, 4.0]
    stack = jax.jit(projections.positive_semidefinite)({"s": jnp.stack([jnp.eye(2), -jnp.eye(2)])})
    np.testing.assert_allclose(stack["s"][0], np.eye(2), atol=1e-6)
    np.testing.assert_allclose(stack["s"][1], 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_types_stay_with_x64_on():
    x32 = jnp.ones(3, jnp.float32)
    for p in (jax.jit(projections.simplex)(x32, jnp.float64(2.0)), projections.l2_ball(x32, np.float64(0.5))):
        assert p.dtype == jnp.float32
    p = boxed(x32, np.zeros(3), np.ones(3), np.ones(3), 1.0)
    assert p.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_repeated_spectra_have_derivatives():
    """Where eigenvalues or singular values coincide or vanish, as at an identity or a matrix of rank one."""
    direction = jnp.asarray(np.random.default_rng(4).normal(size=(3, 3)))
    for project, matrix in (
        (projections.positive_semidefinite, jnp.diag(jnp.array([2.0, 2.0, -1.0]))),
        (lambda x: projections.on_eigenvalues(x, projections.simplex), 3 * jnp.eye(3)),
        (lambda x: projections.nuclear_ball(x, 2.0), 3 * jnp.eye(3)),
        (
            lambda x: projections.nuclear_ball(x, 2.0),
            jnp.outer(jnp.array([3.0, 0.0, 0]), jnp.array([0.0, 1.0, 1.0])),
        ),
        (lambda x: projections.spectral_ball(x, 1.0), jnp.diag(jnp.array([2.0, 2.0, 0.0]))),
        (lambda x: projections.spectral_ball(x, 1.0), jnp.diag(jnp.array([0.5, 0.5, 0.0]))),
    ):
        sides = jax.jit(jax.vmap(project))(jnp.stack([matrix + 1e-6 * direction, matrix - 1e-6 * direction]))
        slope = jax.jit(lambda x, d, f=project: jax.jvp(f, (x,), (d,))[1])(matrix, direction)
        difference = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(slope, difference, atol=2e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_transport_in_hard_cases():
    rng = np.random.default_rng(6)
    rows, columns = rng.uniform(size=20), rng.uniform(size=30)
    columns *= rows.sum() / columns.sum()
    project = jax.jit(projections.transport_polytope)
    for scale in (1e-6, 1.0, 1e6):
        p = np.asarray(project(scale * rng.normal(size=(20, 30)), rows, columns))
        assert p.min() >= 0
        assert np.abs(p.sum(1) - rows).max() < 1e-12
        assert np.abs(p.sum(0) - columns).max() < 1e-12
    empty = np.asarray(project(np.zeros((2, 2)), np.array([0.0, 1.0]), np.array([0.5, 0.5])))
    np.testing.assert_allclose(empty, [[0, 0], [0.5, 0.5]], atol=1e-14)
    with pytest.raises(ValueError, match=r"expected \(m, n\), \(m,\) and \(n,\)"):
        projections.transport_polytope(np.zeros((2, 3)), np.ones(3), np.ones(2))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_intersection_by_tolerance():
    x = points(CASES["intersection"])[0]
    fixed = jax.jit(CASES["intersection"].project)(x)
    stopped = projections.intersection(x, BALL_AND_HALFSPACE, rounds=10_000, tolerance=1e-15)
    np.testing.assert_allclose(stopped, fixed, atol=1e-12)
    with pytest.raises(ValueError, match="at least one"):
        projections.intersection(x, ())


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_against_cvxpy():
    cvxpy = pytest.importorskip("cvxpy")
    x = points(CASES["intersection"])[1]
    u = cvxpy.Variable(6)
    sets = {
        "l1_ball": [cvxpy.norm1(u) <= 1.5],
        "box_and_hyperplane": [u >= -0.5, u <= 0.75, u @ NORMAL == 0.3],
        "second_order_cone": [cvxpy.norm2(u[:-1]) <= u[-1]],
        "intersection": [cvxpy.norm2(u) <= 1, cvxpy.sum(u) <= -0.5],
    }
    for name, constraints in sets.items():
        cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u - x)), constraints).solve(solver=cvxpy.CLARABEL)
        np.testing.assert_allclose(jax.jit(CASES[name].project)(x), u.value, atol=2e-5, err_msg=name)
    matrix, plan = points(CASES["transport_polytope"])[1], cvxpy.Variable((3, 4))
    constraints = [plan >= 0, cvxpy.sum(plan, axis=1) == ROWS, cvxpy.sum(plan, axis=0) == COLUMNS]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(plan - matrix)), constraints).solve(solver=cvxpy.CLARABEL)
    np.testing.assert_allclose(jax.jit(transport)(matrix), plan.value, atol=2e-5)


def test_errors_at_the_door():
    with pytest.raises(ValueError, match="pair"):
        projections.second_order_cone(jnp.ones(3))
    with pytest.raises(ValueError, match=r"\(\.\.\., n, n\)"):
        projections.positive_semidefinite(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\(\.\.\., m, n\)"):
        projections.nuclear_ball(jnp.ones(3))


def test_bound_numbers_cross_jit():
    """The numbers of a projection in an indicator are leaves: one program serves all."""
    traces = []

    @jax.jit
    def shrink(regularizer, x):
        traces.append(1)
        return regularizer.prox(x, 1.0)

    for radius in (1.0, 2.0):
        ball = regularizers.indicator(functools.partial(projections.l1_ball, radius=radius))
        assert float(jnp.sum(shrink(ball, jnp.array([3.0, 3.0])))) == radius
    assert len(traces) == 1
    assert gdjax.projections is projections


# Of shapes that no other test has: the first call compiles.
SECOND = {
    "transport": lambda: projections.transport_polytope(jnp.eye(7), jnp.ones(7), jnp.ones(7)),
    "box and hyperplane": lambda: projections.box_and_hyperplane(jnp.arange(11.0), 0.0, 1.0, 1.0, 2.0),
    "total variation": lambda: regularizers.total_variation(0.5).prox(jnp.arange(11.0), 1.0),
    "covariance": lambda: gdjax.covariance(PLANE, jnp.ones(2)),
}
PLANE = gdjax.least_squares(lambda p: p[0] * jnp.arange(11.0) + p[1] - 1)


@pytest.mark.parametrize("call", SECOND.values(), ids=SECOND)
def test_a_second_call_compiles_nothing(call, caplog):
    with jax.log_compiles():
        first = call()
        assert "compilation" in caplog.text
        caplog.clear()
        second = call()
    assert "compilation" not in caplog.text
    np.testing.assert_array_equal(first, second)
