"""How a run evaluates its objective: each batch drawn once, each function traced once."""

from typing import Any

import jax
import jax.numpy as jnp

from gdjax._internal import checks
from gdjax._internal.programs import scalarize
from gdjax.objectives import Composite, Mean, Objective, differentiability, differentiation, is_half_squares
from gdjax.types import Params, Scalar, ValueFn

__all__ = ["Evaluator", "value_and_grad"]


def _parts(function: Any) -> tuple[list[Any], Any]:
    """The functions that a `Composite` is made of, and how to put them together; else the function itself."""
    return jax.tree.flatten(function, is_leaf=lambda f: callable(f) and not isinstance(f, Composite | Mean))


def value_and_grad(value_fn: ValueFn, params: Params) -> tuple[Scalar, Params]:
    r"""Value and gradient, by reverse mode.

    Of a `Composite` whose model bears forward mode only the gradient is :math:`J^T \nabla \ell` with its Jacobian,
    which methods for least squares take anyway.

    Raises:
      TypeError: if the objective does not bear this.
    """
    try:
        return scalarize.value_and_grad(value_fn)(params)
    except Exception:
        with differentiability.needed("the optimizer", "reverse", value_fn, params):
            has = differentiability.modes(value_fn, params)
            if has.reverse or not has.forward or not isinstance(value_fn, Composite):
                raise
            return jax.value_and_grad(differentiation.forward_mode(value_fn))(params)


class Evaluator:
    """An objective and a run's key, with what has been traced of them.

    Args:
      objective: a function of params, or an `Objective`.
      key: the run's key, for objectives that draw mini-batches.
    """

    def __init__(self, objective: Any, key: Any):
        self.objective, self.key = objective, key
        self._cached = {}

    @property
    def draws_batches(self) -> bool:
        """Whether every evaluation draws a batch."""
        return isinstance(self.objective, Objective) and self.objective.sample is not None

    def _once(self, name: str, at: Any, batch: Any) -> ValueFn:
        """``at(batch)`` checked and traced once a run, however often it is differentiated or called.

        The parts of a `Composite` are traced one by one, and it stays a `Composite`, for curvature to see. The loss of
        `gdjax.least_squares` stays what it is, for methods to know.
        """
        parts, structure = _parts(at(batch))
        only = len(parts) == 1

        def part(i):
            def traced(argument, batch):
                value = _parts(at(batch))[0][i](argument)
                return checks.scalar_value(value, "minimize") if only else value

            once = self._cached.setdefault((name, i), jax.jit(traced, inline=True))
            return lambda argument: once(argument, batch)

        kept = [each if is_half_squares(each) else part(i) for i, each in enumerate(parts)]
        return jax.tree.unflatten(structure, kept)

    def value_fn(self, draws: Scalar) -> ValueFn:
        """The objective as the current evaluation sees it."""
        objective = self.objective
        if not isinstance(objective, Objective):
            return self._once("value", lambda batch: objective, None)
        batch = None
        if objective.sample is not None:
            sample = self._cached.setdefault("sample", jax.jit(objective.sample, inline=True))
            batch = sample(self.key, draws)
        return self._once("batch", objective.at, batch)

    def full(self) -> ValueFn:
        """The objective as the result sees it: over all data where that is known."""
        if isinstance(self.objective, Objective) and self.objective.full is not None:
            return self._once("full", lambda batch: self.objective.full, None)
        return self.value_fn(jnp.int32(0))
