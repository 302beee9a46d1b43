"""What convex problems share: losses, starts, and the `Problem` made of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gdjax import regularizers
from gdjax.objectives.objective import Objective
from gdjax.problems import datasets
from gdjax.problems.problem import Problem
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import Params, Projection, Scalar, ValueFn

__all__ = ["at_zero", "convex_problem", "half_squares", "quadratic", "standardized_features", "uniform"]


def half_squares(matrix: jax.Array, target: jax.Array, x: jax.Array) -> Scalar:
    r""":math:`\tfrac12 \lVert A x - b \rVert^2`."""
    return 0.5 * jnp.sum(jnp.square(matrix @ x - target))


def quadratic(matrix: jax.Array, linear: jax.Array, x: jax.Array) -> Scalar:
    r""":math:`\tfrac12 x^T Q x - c^T x`."""
    return 0.5 * jnp.sum(x * (matrix @ x)) - jnp.sum(linear * x)


def at_zero(shape: tuple[int, ...], key: jax.Array | None = None) -> jax.Array:
    """Zeros, or with a key a normal draw."""
    return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)


def uniform(shape: tuple[int, ...], key: jax.Array | None = None) -> jax.Array:
    """Equal weights that sum to one, or with a key a uniform draw from the simplex."""
    return jnp.full(shape, 1 / shape[0]) if key is None else jax.random.dirichlet(key, jnp.ones(shape))


def convex_problem(
    name: str,
    objective: ValueFn | Objective,
    start: Callable[..., Params],
    gap: Callable[[Params], Scalar],
    tags: set[str],
    regularizer: Regularizer | None = None,
    projection: Projection | None = None,
) -> Problem:
    """A problem with a regularizer, or with a projection whose indicator is one; ``gap`` is its certificate."""
    if projection is not None:
        regularizer = regularizers.indicator(projection)
    return Problem(
        name=name,
        objective=objective,
        start=start,
        tags=frozenset({"convex", "nonsmooth"} | tags),
        regularizer=regularizer,
        constraints=projection,
        metrics={"gap": gap},
    )


def standardized_features(data: datasets.Dataset) -> np.ndarray:
    """All examples' features with mean zero and deviation one."""
    return datasets.standardized(datasets.Split(data, data)).train.features
