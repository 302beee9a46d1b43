"""The other libraries' solvers, each at its defaults but for the tolerance and the iteration limit.

L-BFGS-B's test on the fall of the value is off: at its default it stops far above a gradient of 1e-6.
"""

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdjax._internal import trees
from gdjax.bench.sif import Case
from gdjax.bench.solved import Counted, Run, Timed, run_twice

__all__ = ["PEERS", "version"]

_TOLERANCE = 1e-6
"""The gradient norm that everyone is asked for."""


def _scipy_minimize(method: str, derivatives: str = "", **options) -> Callable[[Case, int], Run]:
    """A SciPy minimizer; ``derivatives`` names the second derivatives that it takes."""

    def solve(case, max_steps):
        from scipy import optimize

        counted = Counted(case)
        second = {"hessian": {"hess": counted.hessian}, "product": {"hessp": counted.product}}
        bounds = None
        if case.lower is not None and case.upper is not None:
            bounds = optimize.Bounds(case.lower, case.upper)
        before = time.process_time()
        found = optimize.minimize(
            counted.value,
            np.asarray(case.start, float),
            jac=counted.grad,
            method=method,
            bounds=bounds,
            constraints=_scipy_constraints(case, counted.timed),
            options={"maxiter": max_steps, **options},
            **second.get(derivatives, {}),
        )
        seconds = time.process_time() - before
        return Run(
            x=found.x,
            claimed=bool(found.success),
            note=str(found.message),
            steps=int(found.nit) if "nit" in found else int(found.nfev),
            evaluations=counted.evaluations,
            gradients=counted.gradients,
            hessians=counted.hessians,
            compile_seconds=counted.timed.compile_seconds,
            solve_seconds=seconds,
        )

    return solve


def _scipy_constraints(case: Case, timed: Timed) -> list:
    from scipy import optimize

    constraint: Any = optimize.NonlinearConstraint
    constraints = []
    for function, lowest in ((case.equality, 0.0), (case.inequality, -np.inf)):
        if function is None:
            continue
        values, jacobian = jax.jit(function), jax.jit(jax.jacobian(function))
        timed(values, case.start)
        timed(jacobian, case.start)
        constraints.append(
            constraint(
                lambda x, values=values: np.asarray(values(jnp.asarray(x)), float),
                lowest,
                0.0,
                jac=lambda x, jacobian=jacobian: np.asarray(jacobian(jnp.asarray(x)), float),
            )
        )
    return constraints


def _scipy_least_squares(method: str) -> Callable[[Case, int], Run]:
    def solve(case, max_steps):
        from scipy import optimize

        timed = Timed()
        residuals, jacobian = jax.jit(case.residual_fn), jax.jit(jax.jacfwd(case.residual_fn))
        timed(residuals, case.start)
        timed(jacobian, case.start)
        counts = {"values": 0, "jacobians": 0}

        def values_at(x):
            counts["values"] += 1
            return np.asarray(residuals(jnp.asarray(x, case.start.dtype)), float)

        def jacobian_at(x):
            counts["jacobians"] += 1
            return np.asarray(jacobian(jnp.asarray(x, case.start.dtype)), float)

        before = time.process_time()
        least_squares: Any = optimize.least_squares
        found = least_squares(
            values_at,
            np.asarray(case.start, float),
            jacobian_at,
            method=method,
            gtol=_TOLERANCE,
            max_nfev=max_steps,
        )
        seconds = time.process_time() - before
        return Run(
            x=found.x,
            claimed=bool(found.status > 0),
            note=str(found.message),
            steps=int(found.nfev),
            evaluations=counts["values"],
            gradients=counts["jacobians"],
            hessians=0,
            compile_seconds=timed.compile_seconds,
            solve_seconds=seconds,
        )

    return solve


def _optimistix(name: str) -> Callable[[Case, int], Run]:
    """An optimistix solver: one evaluation a step, one gradient (or Jacobian) an accepted step."""

    def solve(case, max_steps):
        import optimistix

        solver = getattr(optimistix, name)(rtol=1e-8, atol=1e-8)
        squares = name in ("LevenbergMarquardt", "GaussNewton", "Dogleg")
        driver = optimistix.least_squares if squares else optimistix.minimise
        target = case.residual_fn if squares else case.value_fn

        def one(x):
            found = driver(lambda y, _: target(y), solver, x, max_steps=max_steps, throw=False)
            done = found.result == optimistix.RESULTS.successful
            steps = found.stats["num_steps"]
            return found.value, steps, getattr(found.state, "num_accepted_steps", steps), done

        (x, steps, accepted, done), compile_seconds, seconds = run_twice(jax.jit(one), case.start)
        n = int(steps)
        return Run(x, bool(done), "", n, n, int(accepted), 0, compile_seconds, seconds)

    return solve


def _optax_lbfgs(case: Case, max_steps: int) -> Run:
    """optax.lbfgs with its zoom line search, whose evaluations its state counts."""
    import optax

    optimizer = optax.lbfgs()
    both = optax.value_and_grad_from_state(case.value_fn)

    def body(carry):
        x, state, steps, evaluations = carry
        value, grad = both(x, state=state)
        updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=case.value_fn)
        searched = optax.tree.get(state, "info").num_linesearch_steps
        after = optax.apply_updates(x, updates), state, steps + 1, evaluations + searched
        return trees.keep_types(after, carry)

    def going(carry):
        slope = jnp.max(jnp.abs(optax.tree.get(carry[1], "grad")))
        return (carry[2] == 0) | ((carry[2] < max_steps) & (slope > _TOLERANCE))

    def one(x):
        carry = trees.strong((x, optimizer.init(x), jnp.int32(0), jnp.int32(1)))
        x, state, steps, evaluations = jax.lax.while_loop(going, body, carry)
        return x, jnp.max(jnp.abs(optax.tree.get(state, "grad"))), steps, evaluations

    (x, slope, steps, count), compile_seconds, seconds = run_twice(jax.jit(one), case.start)
    claimed = bool(slope <= _TOLERANCE)
    return Run(x, claimed, "", int(steps), int(count), int(count), 0, compile_seconds, seconds)


def _jaxopt(name: str) -> Callable[[Case, int], Run]:
    def solve(case, max_steps):
        import jaxopt

        target = case.residual_fn if name == "LevenbergMarquardt" else case.value_fn
        options = {"maxiter": max_steps, "tol": _TOLERANCE}
        bounds = ()
        if name == "LBFGSB" and case.lower is not None and case.upper is not None:
            bounds = ((jnp.asarray(case.lower), jnp.asarray(case.upper)),)
        solver = getattr(jaxopt, name)(target, **options)
        run = jax.jit(lambda x: solver.run(x, *bounds))
        (x, state), compile_seconds, seconds = run_twice(run, case.start)
        steps = int(state.iter_num)
        evaluations = int(getattr(state, "num_fun_eval", steps + 1))
        gradients = int(getattr(state, "num_grad_eval", steps + 1))
        claimed = bool(getattr(state, "error", getattr(state, "gradient", jnp.inf)) <= _TOLERANCE)
        return Run(x, claimed, "", steps, evaluations, gradients, 0, compile_seconds, seconds)

    return solve


PEERS = {
    "scipy-trust-exact": ("scipy", _scipy_minimize("trust-exact", "hessian", gtol=_TOLERANCE)),
    "scipy-trust-ncg": ("scipy", _scipy_minimize("trust-ncg", "product", gtol=_TOLERANCE)),
    "scipy-newton-cg": ("scipy", _scipy_minimize("Newton-CG", "product")),
    "scipy-bfgs": ("scipy", _scipy_minimize("BFGS", gtol=_TOLERANCE)),
    "scipy-l-bfgs-b": ("scipy", _scipy_minimize("L-BFGS-B", gtol=_TOLERANCE, ftol=0.0, maxfun=100_000)),
    "scipy-cg": ("scipy", _scipy_minimize("CG", gtol=_TOLERANCE)),
    "scipy-tnc": ("scipy", _scipy_minimize("TNC", gtol=_TOLERANCE, maxfun=100_000)),
    "scipy-slsqp": ("scipy", _scipy_minimize("SLSQP")),
    "scipy-trust-constr": ("scipy", _scipy_minimize("trust-constr", gtol=_TOLERANCE)),
    "scipy-cobyqa": ("scipy", _scipy_minimize("COBYQA")),
    "scipy-ls-trf": ("scipy", _scipy_least_squares("trf")),
    "scipy-ls-dogbox": ("scipy", _scipy_least_squares("dogbox")),
    "scipy-ls-lm": ("scipy", _scipy_least_squares("lm")),
    "optimistix-bfgs": ("optimistix", _optimistix("BFGS")),
    "optimistix-lbfgs": ("optimistix", _optimistix("LBFGS")),
    "optimistix-nonlinear-cg": ("optimistix", _optimistix("NonlinearCG")),
    "optimistix-lm": ("optimistix", _optimistix("LevenbergMarquardt")),
    "optax-lbfgs": ("optax", _optax_lbfgs),
    "jaxopt-lbfgs": ("jaxopt", _jaxopt("LBFGS")),
    "jaxopt-bfgs": ("jaxopt", _jaxopt("BFGS")),
    "jaxopt-lm": ("jaxopt", _jaxopt("LevenbergMarquardt")),
    "jaxopt-lbfgsb": ("jaxopt", _jaxopt("LBFGSB")),
}
"""Every peer: its package, and ``solve(case, max_steps) -> Run``."""


def version(peer: str) -> str:
    """The version of a peer's package.

    Raises:
      KeyError: if there is no such peer.
    """
    if peer not in PEERS:
        raise KeyError(f"no peer named {peer!r}; there are {', '.join(PEERS)}")
    return importlib.metadata.version(PEERS[peer][0])
