r"""Regularizers: convex functions by their value and their proximal operator.

.. math:: \operatorname{prox}_{s r}(x) = \arg\min_u \; s\, r(u) + \tfrac12 \|u - x\|^2

Each acts on pytrees and keeps their types. Weights are leaves of the regularizer: they may be tracers, so an
axis of a sweep, and a changed one compiles nothing new.

Example:
  >>> import gdjax, jax, jax.numpy as jnp
  >>> shrunk = jax.vmap(lambda w: gdjax.regularizers.l1(w).prox(jnp.array([3.0, -1.0]), 1.0))
  >>> shrunk(jnp.array([0.5, 2.0])).tolist()
  [[2.5, -0.5], [1.0, 0.0]]
"""

from gdjax.regularizers.barriers import entropy, log_barrier
from gdjax.regularizers.calculus import (
    conjugate,
    on_leaves,
    scaled,
    separable,
    summed,
    tilted,
    translated,
    with_squared_l2,
)
from gdjax.regularizers.consensus import agreement
from gdjax.regularizers.groups import group_lasso, sparse_group_lasso
from gdjax.regularizers.largest import linf, maximum
from gdjax.regularizers.matrices import nuclear
from gdjax.regularizers.norms import elastic_net, huber, l1, l2, squared_l2
from gdjax.regularizers.regularizer import Regularizer, indicator, zero
from gdjax.regularizers.variation import fused_lasso, total_variation

__all__ = [
    "Regularizer",
    "agreement",
    "conjugate",
    "elastic_net",
    "entropy",
    "fused_lasso",
    "group_lasso",
    "huber",
    "indicator",
    "l1",
    "l2",
    "linf",
    "log_barrier",
    "maximum",
    "nuclear",
    "on_leaves",
    "scaled",
    "separable",
    "sparse_group_lasso",
    "squared_l2",
    "summed",
    "tilted",
    "total_variation",
    "translated",
    "with_squared_l2",
    "zero",
]
