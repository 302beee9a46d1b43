"""The benchmark's pure parts against counts made by hand, and one problem where sif2jax is installed."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gdjax.bench import cutest, judge, ours, profiles, report, sif
from gdjax.bench.sif import Case


def record(problem="p", solver="s", **changes: Any):
    plain = {
        "problem": problem,
        "solver": solver,
        "dtype": "float64",
        "claimed": True,
        "note": "CONVERGED",
        "steps": 4,
        "evaluations": 5,
        "gradients": 5,
        "compile_seconds": 1.0,
        "solve_seconds": 0.1,
        "finite": True,
        "value": 0.0,
        "residual": 1e-9,
        "slope": 1e-9,
        "rounding": 1e-16,
        "lowest": 1.0,
        "largest": 2.0,
        "violation": 0.0,
    }
    return plain | changes


def test_best_values_skip_infeasible_and_failed_answers():
    records = [
        record(value=3.0),
        record(value=1.0, violation=1e-3),
        record(value=-math.inf, finite=False),
        {"problem": "p", "solver": "t", "error": "timeout"},
        record("q", value=5.0),
    ]
    assert profiles.best_values(records, {"q": 4.0, "r": 1.0}) == {"p": 3.0, "q": 4.0, "r": 1.0}


@pytest.mark.parametrize(
    ("value", "lowest", "expected"),
    [
        (9e-7, 0.0, True),
        (2e-6, 0.0, False),
        (1e6 + 0.9, 1e6, True),
        (1e6 + 2.0, 1e6, False),
        (-1e12, -1e30, True),
        (-1e9, -1e30, False),
    ],
)
def test_solved_is_relative_to_the_best_value_above_one(value, lowest, expected):
    assert profiles.solved(record(value=value), {"p": lowest}) is expected


def test_noise_floor_counts_in_float32_only_at_rounding_level():
    best = {"p": 0.0}
    coarse: dict[str, Any] = {
        "value": 1.0,
        "note": "NOISE_FLOOR",
        "residual": 1e-3,
        "slope": 1e-3,
        "rounding": 1e-3,
    }
    assert profiles.solved(record(**coarse, dtype="float32"), best)
    assert not profiles.solved(record(**coarse), best)
    assert not profiles.solved(record(**(coarse | {"rounding": 1e-5}), dtype="float32"), best)
    assert not profiles.solved(record(**(coarse | {"note": "STALLED"}), dtype="float32"), best)


def test_local_minimum_needs_a_gradient_and_a_curvature():
    assert profiles.local_minimum(record()) is True
    assert profiles.local_minimum(record(lowest=-1e-9)) is True
    assert profiles.local_minimum(record(lowest=-1e-7)) is False
    assert profiles.local_minimum(record(lowest=None)) is None
    assert profiles.local_minimum(record(slope=1e-3, residual=1e-3)) is False
    assert profiles.local_minimum(record(slope=1e-3, residual=1e-3, rounding=1e-3)) is True


def test_false_success_is_a_claim_at_a_point_neither_low_nor_stationary():
    high: dict[str, Any] = {"value": 1.0, "slope": 0.1, "residual": 0.1}
    best = {"p": 0.0}
    assert profiles.false_success(record(**high), best)
    assert not profiles.false_success(record(**high, claimed=False), best)
    assert not profiles.false_success(record(value=1.0), best)
    assert not profiles.false_success(record(slope=0.1, residual=0.1), best)
    assert profiles.false_success(record(finite=False, value=math.nan), best)
    assert not profiles.false_success({"problem": "p", "error": "died"}, best)


def test_performance_profile_against_a_count_by_hand():
    costs = {"a": {"p": 10, "q": 30, "r": 7}, "b": {"p": 20, "q": 10}, "c": {}}
    shares = profiles.performance_profile(costs, ["p", "q", "r", "unsolved"], [1, 2, 5])
    assert shares == {"a": [0.5, 0.5, 0.75], "b": [0.25, 0.5, 0.5], "c": [0.0, 0.0, 0.0]}


def test_common_median_leaves_out_what_one_solver_missed():
    best = {"p": 0.0, "q": 0.0, "r": 0.0}
    mine = {name: record(name, evaluations=count) for name, count in zip("pqr", (4, 6, 100), strict=True)}
    theirs = {name: record(name, evaluations=count) for name, count in zip("pqr", (10, 20, 30), strict=True)}
    theirs["r"]["value"] = 1.0
    assert profiles.common_median(mine, theirs, best, "evaluations") == (5.0, 15.0, 2)


def test_report_names_failures_and_counts_them():
    results = {
        "bfgs": {"p": record("p", "bfgs"), "q": record("q", "bfgs", value=2.0, slope=0.1, residual=0.1)},
        "peer": {"p": record("p", "peer", evaluations=9), "q": {"problem": "q", "error": "timeout"}},
    }
    text = report.report(results, ["bfgs"], {"p": 0.0, "q": 0.0}, ["p", "q"])
    assert "1/2 0.50" in text
    assert "FALSE SUCCESS" in text
    assert "5 : 9" in text
    assert "Not solved by bfgs: 1" in text


def test_development_sets_hold_the_numbers_of_problems_they_should():
    sets = cutest.development()
    assert {letter: len(group["names"]) for letter, group in sets.items()} == {
        "A": 56,
        "B": 40,
        "C": 48,
        "D": 36,
        "E": 96,
    }
    names = [name for group in sets.values() for name in group["names"]]
    assert len(names) == len(set(names))


def test_store_returns_what_was_added_and_skips_a_torn_line(tmp_path):
    store = cutest.Store(tmp_path)
    store.add("best", {"problem": "p", "value": 2.0})
    store.add("best", {"problem": "p", "value": -1.0})
    with open(tmp_path / "best.jsonl", "a", encoding="utf-8") as file:
        file.write('{"problem": "p", "val')
    assert store.best() == {"p": -1.0}
    assert store.read("nothing") == []


def _quadratic_case(**changes):
    scales = jnp.asarray([1.0, 4.0])
    case = Case("quadratic", jnp.asarray([3.0, -2.0]), lambda x: 0.5 * jnp.sum(scales * x**2))
    return case._replace(**changes)


def test_judge_measures_gradient_and_spectrum(x64):
    case = _quadratic_case(start=jnp.asarray([3.0, -2.0]))
    seen = judge.judge(case, judge.compiled(case), np.asarray([1.0, 1.0]), 2.2e-16)
    assert seen["value"] == 2.5
    assert seen["residual"] == pytest.approx(math.sqrt(17))
    assert seen["slope"] == 4.0
    assert (seen["lowest"], seen["largest"]) == pytest.approx((1.0, 4.0))
    assert seen["start_value"] == 12.5
    assert 0 < seen["rounding"] < 1e-14


def test_judge_sees_kkt_points_and_violations(x64):
    case = _quadratic_case(inequality=lambda x: 1.0 - x[:1])
    functions = judge.compiled(case)
    at_solution = judge.judge(case, functions, np.asarray([1.0, 0.0]), 2.2e-16)
    outside = judge.judge(case, functions, np.asarray([0.5, 0.0]), 2.2e-16)
    inside = judge.judge(case, functions, np.asarray([2.0, 0.0]), 2.2e-16)
    assert at_solution["residual"] < 1e-12
    assert outside["violation"] == pytest.approx(0.5)
    assert inside["residual"] == pytest.approx(2.0)


def test_judge_projects_the_gradient_onto_bounds(x64):
    case = _quadratic_case(lower=np.asarray([1.0, -np.inf]), upper=np.asarray([np.inf, np.inf]))
    seen = judge.judge(case, judge.compiled(case), np.asarray([1.0, 0.0]), 2.2e-16)
    assert seen["residual"] == 0.0


def test_judge_of_a_non_finite_answer(x64):
    case = _quadratic_case()
    assert judge.judge(case, judge.compiled(case), np.asarray([np.nan, 0.0]), 2.2e-16)["finite"] is False


def test_constructors_are_read_from_text_and_nothing_else_is_run():
    assert hasattr(ours.construct("gradient_descent(0.1)"), "update")
    assert hasattr(ours.construct("momentum(learning_rate=0.1, decay=0.5)"), "update")
    with pytest.raises(KeyError, match="no_such_method"):
        ours.construct("no_such_method")
    with pytest.raises(ValueError, match="malformed node"):
        ours.construct("momentum(0.1 if 1 else 2)")


def test_ours_counts_steps_and_one_more_evaluation(x64):
    case = _quadratic_case(start=jnp.asarray([3.0, -2.0]))
    run = ours.solve("gradient_descent(0.25)", case, 500)
    assert run.claimed
    assert run.evaluations == run.steps + 1
    np.testing.assert_allclose(run.x, 0.0, atol=1e-5)


@pytest.mark.slow
def test_bounds_become_constraints_or_those_of_an_inner_method(x64):
    lower, upper = np.asarray([1.0, -np.inf]), np.asarray([np.inf, np.inf])
    case = _quadratic_case(start=jnp.asarray([3.0, -2.0]), lower=lower, upper=upper)
    case = case._replace(equality=lambda x: x[1:] + 1)
    for text in ("augmented_lagrangian", "augmented_lagrangian(lbfgsb)"):
        run = ours.solve(text, case, 200)
        assert run.claimed
        np.testing.assert_allclose(run.x, [1.0, -1.0], atol=1e-5)
    alone = ours.solve("augmented_lagrangian(lbfgsb)", case._replace(equality=None), 200)
    np.testing.assert_allclose(alone.x, [1.0, 0.0], atol=1e-5)


@pytest.mark.skipif(not sif.installed(), reason="sif2jax is not installed")
def test_a_problem_loads_alone_with_its_published_value(x64):
    case = sif.load("HS71")
    solution = jnp.asarray([1.0, 4.742999, 3.821150, 1.379408])
    assert case.equality is not None
    assert case.inequality is not None
    assert float(case.value_fn(solution)) == pytest.approx(17.0140173, abs=1e-5)
    np.testing.assert_allclose(case.equality(solution), 0.0, atol=1e-5)
    assert float(case.inequality(solution)[0]) == pytest.approx(0.0, abs=1e-4)
    np.testing.assert_array_equal(case.lower, np.ones(4))
    assert {name for group in cutest.development().values() for name in group["names"]} <= set(sif.index())
