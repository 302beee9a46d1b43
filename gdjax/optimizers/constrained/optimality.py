"""What holds at the answer of a method for constraints: the conditions of Karush, Kuhn and Tucker."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax.optimizers import answers
from gdjax.optimizers.constrained.merit import Constraints, MeritState
from gdjax.types import Params, PyTree, Scalar, State, Transformation, ValueFn

__all__ = ["added_within", "conditions", "penalty_within"]


def conditions(
    constraints: Constraints, value_fn: ValueFn, params: Params, state: MeritState
) -> tuple[tuple[PyTree, ...], Callable]:
    """The unknowns (params, multipliers, those of the inner method) and equations of an answer.

    Constraints are taken to be either active or not; where the inner method knows what holds at its answers,
    that holds of the Lagrangian.
    """
    scales = state.scales
    lam, mu = (
        ravel_pytree(part)[0].astype(scale.dtype) * (scales.objective / scale)
        for part, scale in zip(state.multipliers, scales.constraints, strict=True)
    )
    active, weight = mu > -scales.seen(state.constraints).inequality, 1 / scales.objective
    within = answers.conditions(value_fn, params, state.inner)
    theirs = () if within is None else within.unknowns[1:]

    def equations(unknowns):
        point, lam, mu, *theirs = unknowns

        def lagrangian(p):
            c, value = scales.seen(constraints(p)), value_fn(p)
            worth = value * scales.objective.astype(value.dtype)
            return worth + jnp.sum(lam * c.equality) + jnp.sum(mu * c.inequality)

        held = answers.conditions(lagrangian, params, state.inner)
        slope = jax.grad(lagrangian)(point) if held is None else held.equations((point, *theirs))
        slope = jax.tree.map(lambda leaf: leaf * weight.astype(leaf.dtype), slope)
        c = scales.seen(constraints(point))
        worth = weight / scales.length
        return slope, worth * c.equality, worth * jnp.where(active, c.inequality, mu)

    return (params, lam, mu, *theirs), equations


def penalty_within(constraints: Constraints, params: Params, state: MeritState) -> Scalar:
    """What the inner method minimizes besides the objective: a regularizer."""
    del constraints
    found = answers.penalty(state.inner, params)
    return jnp.zeros(()) if found is None else found


def added_within(inner: Transformation, state: State, params: Params) -> Scalar | float:
    """The same while the run goes on, where the inner method's settings are held back from its state."""
    if not answers.held(state):
        return 0.0
    found = answers.penalty(answers.with_held(state, inner.init(params)), params)
    return 0.0 if found is None else found
