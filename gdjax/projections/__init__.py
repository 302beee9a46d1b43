r"""Euclidean projections: functions ``projection(params, ...) -> params`` for the nearest point of a set.

.. math:: P_C(x) = \arg\min_{u \in C} \tfrac12 \|u - x\|^2

Parameters are pytrees; the result keeps their structure and types. Every number may be a tracer. To put a
projection where a `gdjax.regularizers.Regularizer` is asked for, bind its numbers:
``indicator(Partial(projections.box, lower=0.0, upper=1.0))`` with `jax.tree_util.Partial`.
"""

from gdjax.projections.boxes import box, hypercube, non_negative

__all__ = [
    "box",
    "hypercube",
    "non_negative",
]
