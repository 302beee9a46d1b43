"""`minimize`: a run under one loop, and the method it takes when none is named."""

from typing import Any, NamedTuple

import jax
import optax

from gdjax._internal import trees
from gdjax._internal.programs import compilation
from gdjax.objectives import (
    Composite,
    Objective,
    ObjectiveLike,
    differentiability,
    differentiation,
    is_least_squares,
)
from gdjax.runs.recording import Record
from gdjax.runs.run import Run
from gdjax.stopping import DEFAULT, StopCriterion
from gdjax.types import KeyLike, Method, Params, Result, Transformation, ValueFn

__all__ = ["default_optimizer", "minimize"]

_DENSE = 100
"""Up to this many parameters a Hessian a step is cheap against what it saves."""


_ROWS = 1000
"""Up to this many residuals a Jacobian row by row costs less than the steps it saves."""


class _Choice(NamedTuple):
    method: Method
    optimizer: Transformation
    forward: bool  # whether the gradient is to be taken by forward mode


def _choose(objective: ValueFn, params: Params, fit: bool) -> _Choice:
    """The method that the objective bears; it is traced for that, and not evaluated."""
    has = differentiability.modes(objective, params)
    if not (has.forward or has.reverse):
        with differentiability.needed("minimize", "reverse", objective, params):
            jax.eval_shape(jax.grad(objective), params)
    forward = not has.reverse
    if not trees.at_most(trees.size(params), _DENSE):
        from gdjax.optimizers.quasi_newton.lbfgs import lbfgs

        return _Choice(Method("lbfgs()"), lbfgs(), forward)
    if fit and (has.forward or _residuals(objective, params) <= _ROWS):
        from gdjax.optimizers.least_squares.levenberg_marquardt import levenberg_marquardt

        return _Choice(Method("levenberg_marquardt()"), levenberg_marquardt(), forward)
    if not has.second:
        from gdjax.optimizers.quasi_newton.dense import bfgs

        return _Choice(Method("bfgs()"), bfgs(), forward)
    from gdjax.optimizers.second_order.trust_region import trust_region

    return _Choice(Method("trust_region()"), trust_region(), forward)


def _residuals(fit: Any, params: Params) -> int:
    return trees.size(jax.eval_shape(fit.model, params))


def _refuse_batches(objective: object) -> None:
    if isinstance(objective, Objective) and objective.sample is not None:
        raise ValueError(
            "minimize: the objective draws mini-batches, and no optimizer is sound there without a learning "
            "rate: pass one, such as gdjax.adam(1e-3)"
        )


def default_optimizer(objective: ObjectiveLike, params: Params) -> tuple[Method, Transformation]:
    """The method that `minimize` takes where none is given, and its name.

    ==========================================  ==================================  =================================
    objective                                   bears                               method
    ==========================================  ==================================  =================================
    `gdjax.least_squares`, up to 100 params     forward mode, or reverse mode and   ``levenberg_marquardt()``
                                                up to 1000 residuals
    any other objective, up to 100 params       second derivatives                  ``trust_region()``
    any other objective, up to 100 params       first derivatives, in either mode   ``bfgs()``
    more params                                 first derivatives, in either mode   ``lbfgs()``
    ==========================================  ==================================  =================================

    What an objective bears is tried on shapes: it is traced once and not evaluated. Where it bears forward mode
    only, `minimize` takes the gradient by `gdjax.differentiation.forward_mode`; so has to who calls this.

    Args:
      objective: as `minimize` takes it.
      params: the starting point; only its shapes are read.

    Raises:
      ValueError: if the objective draws mini-batches: no method is sound there without a learning rate.
      TypeError: if the objective bears no derivative.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.default_optimizer(gdjax.least_squares(jnp.sin), jnp.ones(3))[0]
      'levenberg_marquardt()'
    """
    _refuse_batches(objective)
    value_fn: Any = objective.at(None) if isinstance(objective, Objective) else objective
    choice = _choose(value_fn, jax.eval_shape(lambda p: p, params), is_least_squares(value_fn))
    return choice.method, choice.optimizer


def _solve_by_default(run: Run) -> Result:
    """The run by the method that its objective bears; chosen while it is traced, so that one trace serves all."""
    given = run.objective.at(None) if isinstance(run.objective, Objective) else run.objective
    value_fn = run.value_fn()
    choice = _choose(value_fn, trees.strong(run.params), is_least_squares(given))
    # Of a composite the driver takes J^T grad(loss) itself, and the method sees the parts.
    plain = choice.forward and not isinstance(value_fn, Composite)
    run = run.using(choice.optimizer, differentiation.forward_mode(value_fn) if plain else None)
    return run.solve()._replace(method=choice.method)


_solve = compilation.jit(Run.solve, lambda run: run.max_steps)
_solve_default = compilation.jit(_solve_by_default, lambda run: run.max_steps)


def minimize(
    objective: ObjectiveLike,
    params: Params,
    optimizer: optax.GradientTransformation | None = None,
    *,
    stop: StopCriterion | None = DEFAULT,
    max_steps: int = 1000,
    record: Record = None,
    key: KeyLike | None = None,
) -> Result:
    """Minimizes ``objective`` from ``params`` with any gradient transformation.

    Works under ``jit`` and ``vmap``; a second call with the same functions, shapes and types traces
    and compiles nothing. Called by itself on a processor, a run that goes through less than a gigabyte is
    compiled the quick way, in about half the time. See `Run` for the arguments and the errors.

    As under ``jax.jit``, what a function closes over is read when it is compiled, and kept. Data that changes
    goes in as an argument: ``jax.tree_util.Partial(loss, data)`` is an objective of the rest.

    Args:
      objective: a function ``params -> scalar``, or an `Objective`, or a `Composite`.
      params: the starting point, a pytree of floating arrays.
      optimizer: any gradient transformation of gdjax or optax. None takes `default_optimizer`'s, and
        the result's ``method`` says which.
      stop: a `StopCriterion`, or None for exactly ``max_steps`` steps.
      max_steps: the largest number of updates.
      record: what to record of each step.
      key: for objectives that draw mini-batches.

    Returns:
      A `Result`. Its status says how the run ended; `explain` puts it into words.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> run = gdjax.minimize(gdjax.problems.rosenbrock().objective, jnp.array([-1.0, 1.5]),
      ...                      gdjax.adam(0.05), max_steps=5000)
      >>> gdjax.explain(run.status)
      'converged: the residual fell below its tolerance'
      >>> gdjax.minimize(gdjax.problems.rosenbrock().objective, jnp.array([-1.0, 1.5])).method
      'trust_region()'
    """
    settings = {"stop": stop, "max_steps": max_steps, "record": record, "key": key}
    if optimizer is None:
        _refuse_batches(objective)
        return _solve_default(Run(objective, params, optax.identity(), **settings))
    return _solve(Run(objective, params, optimizer, **settings))
