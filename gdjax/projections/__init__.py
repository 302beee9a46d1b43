r"""Euclidean projections: functions ``projection(params, ...) -> params`` for the nearest point of a set.

.. math:: P_C(x) = \arg\min_{u \in C} \tfrac12 \|u - x\|^2

Parameters are pytrees; the result keeps their structure and types. Every number may be a tracer. To put a
projection where a `gdjax.regularizers.Regularizer` is asked for, bind its numbers:
``indicator(Partial(projections.box, lower=0.0, upper=1.0))`` with `jax.tree_util.Partial`.

Example:
  >>> import gdjax, jax, jax.numpy as jnp
  >>> paths = jax.vmap(lambda r: gdjax.projections.l1_ball(jnp.array([2.0, 1.0]), r))
  >>> paths(jnp.array([1.0, 2.0, 4.0])).tolist()
  [[1.0, 0.0], [1.5, 0.5], [2.0, 1.0]]
"""

from gdjax.projections.affine import affine, affine_set, box_and_hyperplane, halfspace, hyperplane
from gdjax.projections.balls import l2_ball, l2_sphere, linf_ball, linf_sphere
from gdjax.projections.boxes import box, hypercube, non_negative
from gdjax.projections.cones import second_order_cone
from gdjax.projections.intersections import intersection
from gdjax.projections.simplices import l1_ball, l1_sphere, simplex
from gdjax.projections.spectral import (
    nuclear_ball,
    on_eigenvalues,
    on_singular_values,
    positive_semidefinite,
    spectral_ball,
)
from gdjax.projections.transport import transport_polytope

__all__ = [
    "affine",
    "affine_set",
    "box",
    "box_and_hyperplane",
    "halfspace",
    "hypercube",
    "hyperplane",
    "intersection",
    "l1_ball",
    "l1_sphere",
    "l2_ball",
    "l2_sphere",
    "linf_ball",
    "linf_sphere",
    "non_negative",
    "nuclear_ball",
    "on_eigenvalues",
    "on_singular_values",
    "positive_semidefinite",
    "second_order_cone",
    "simplex",
    "spectral_ball",
    "transport_polytope",
]
