"""The noun: a function that is known by its value and its proximal operator."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, trees
from gdjax.projections.numbers import projection as onto_a_set
from gdjax.projections.vectors import flat, unit
from gdjax.types import Params, Projection, Scalar, ScalarLike

__all__ = ["Regularizer", "indicator", "zero"]


class Regularizer(NamedTuple):
    r"""A convex function :math:`r`, and the operator that takes implicit steps on it.

    .. math:: \operatorname{prox}_{s r}(x) = \arg\min_u \; s\, r(u) + \tfrac12 \|u - x\|^2

    Attributes:
      value: ``params -> r(params)``, a scalar; infinite outside the domain.
      prox: ``(params, step) -> argmin``, with the structure and types of ``params``; ``step`` is a positive
        scalar that may be a tracer.
    """

    value: Callable[[Params], Scalar]
    prox: Callable[[Params, ScalarLike], Params]


def _zero_value(params):
    dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(params)]
    return jnp.zeros((), jnp.result_type(jnp.float32, *dtypes))


def _zero_prox(params, step):
    del step
    return params


def zero() -> Regularizer:
    """No regularizer: its value is 0 and its proximal operator the identity.

    Example:
      >>> from gdjax import regularizers
      >>> regularizers.zero().prox(3.0, 1.0)
      3.0
    """
    return Regularizer(Partial(_zero_value), Partial(_zero_prox))


def _indicator_value(projection, tolerance, params):
    x, _ = flat(params)
    nearest, _ = flat(projection(params))
    if tolerance is None:
        kept = max(float(jnp.finfo(jnp.asarray(leaf).dtype).eps) for leaf in jax.tree.leaves(params))
        tolerance = 100 * float(jnp.finfo(x.dtype).eps) + 4 * kept
    _, norm, size = unit(x)
    _, gap, gap_size = unit(x - nearest)
    inside = gap * (gap_size / size) <= tolerance * norm
    return jnp.where(inside, 0, jnp.inf).astype(x.dtype)


def _indicator_prox(projection, params, step):
    del step
    return projection(params)


def indicator(projection: Projection, *, tolerance: ScalarLike | None = None) -> Regularizer:
    r"""The indicator of a set: 0 on it and infinite off it; its proximal operator is the projection.

    No projection in floating point lands on its set exactly, so a point counts as on the set where
    :math:`\|x - P(x)\| \le \tau \|x\|`.

    Args:
      projection: a function of the parameters alone. The arguments that a ``functools.partial`` or a
        `jax.tree_util.Partial` binds become leaves of the regularizer, so they may be tracers.
      tolerance: :math:`\tau \ge 0`; by default 100 units of rounding of the arithmetic, which is in float32
        at least, and 4 of the type that keeps the parameters.

    Example:
      >>> import functools, jax.numpy as jnp
      >>> from gdjax import projections, regularizers
      >>> unit_box = regularizers.indicator(functools.partial(projections.box, lower=0.0, upper=1.0))
      >>> unit_box.prox(jnp.array([-1.0, 0.5]), 1.0).tolist()
      [0.0, 0.5]
      >>> float(unit_box.value(jnp.array([-1.0, 0.5])))
      inf
    """
    onto_a_set("indicator", projection=projection)
    checks.optional("indicator", low=0, tolerance=tolerance)
    if isinstance(projection, functools.partial) and not isinstance(projection, Partial):
        projection = Partial(projection.func, *projection.args, **projection.keywords)
    projection = trees.callables_as_trees(projection)
    return Regularizer(Partial(_indicator_value, projection, tolerance), Partial(_indicator_prox, projection))
