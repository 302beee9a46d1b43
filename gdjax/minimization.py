"""`minimize`: a run under one loop, and the method it takes when none is named."""

from typing import Any

from gdjax import checks, compilation, trees
from gdjax.driver import Run
from gdjax.objectives import Objective, is_least_squares
from gdjax.stopping import StopCriterion, residual_below
from gdjax.types import Method, Params, Result, Transformation

__all__ = ["default_optimizer", "minimize"]

_DENSE = 100
"""Up to this many parameters a Hessian a step is cheap against what it saves."""


def default_optimizer(objective: Any, params: Params) -> tuple[Method, Transformation]:
    """The method that `minimize` takes where none is given, and its name.

    ==========================================  =================================
    `gdjax.least_squares`, up to 100 params     ``levenberg_marquardt()``
    any other objective, up to 100 params       ``trust_region()``
    more params                                 ``lbfgs()``
    ==========================================  =================================

    Args:
      objective: as `minimize` takes it.
      params: the starting point; only its shapes are read.

    Raises:
      ValueError: if the objective draws mini-batches: no method is sound there without a learning rate.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.default_optimizer(gdjax.least_squares(jnp.sin), jnp.ones(3))[0]
      'levenberg_marquardt()'
    """
    if isinstance(objective, Objective) and objective.sample is not None:
        raise ValueError(
            "minimize: the objective draws mini-batches, and no optimizer is sound there without a learning "
            "rate: pass one, such as gdjax.adam(1e-3)"
        )
    if trees.size(params) > _DENSE:
        from gdjax.optimizers.limited_memory import lbfgs

        return Method("lbfgs()"), lbfgs()
    if is_least_squares(objective):
        from gdjax.optimizers.least_squares import levenberg_marquardt

        return Method("levenberg_marquardt()"), levenberg_marquardt()
    from gdjax.optimizers.trust_region import trust_region

    return Method("trust_region()"), trust_region()


_solve = compilation.jit(Run.solve, lambda run: run.max_steps)


def minimize(
    objective: Any,
    params: Params,
    optimizer: Any = None,
    *,
    stop: StopCriterion | None = residual_below(1e-6),
    max_steps: int = 1000,
    record: Any = None,
    key: Any = None,
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
    method = None
    if optimizer is None:
        if not isinstance(objective, Objective):
            checks.objective(objective, params)
        params = checks.float_params(params, "minimize")
        method, optimizer = default_optimizer(objective, params)
    run = Run(objective, params, optimizer, stop=stop, max_steps=max_steps, record=record, key=key)
    return _solve(run)._replace(method=method)
