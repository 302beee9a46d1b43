"""New regularizers from old ones, where the proximal operator stays exact."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments, checks, trees
from gdjax.projections.numbers import finite
from gdjax.projections.vectors import each, total
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import Params, Prefix, PyTree, Scalar, ScalarLike

__all__ = [
    "conjugate",
    "on_leaves",
    "scaled",
    "separable",
    "summed",
    "tilted",
    "translated",
    "with_squared_l2",
]


def _checked(owner: str, regularizer: object) -> Regularizer:
    """``regularizer`` with functions that may cross ``jit``, or an error that says what it is instead."""
    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            f"{owner}: expected a Regularizer, got {arguments.named(regularizer)}; constructors have to be called: "
            "regularizers.l1(0.1)"
        )
    return trees.callables_as_trees(regularizer)


def _scaled_value(regularizer, factor, params):
    return factor * regularizer.value(params)


def _scaled_prox(regularizer, factor, params, step):
    return regularizer.prox(params, factor * step)


def scaled(regularizer: Regularizer, factor: ScalarLike) -> Regularizer:
    r""":math:`c\, r(x)`, with :math:`\operatorname{prox}_{s c r}`.

    Args:
      regularizer: :math:`r`.
      factor: :math:`c > 0`.

    Example:
      >>> from gdjax import regularizers
      >>> float(regularizers.scaled(regularizers.l1(), 2.0).prox(3.0, 0.5))
      2.0
    """
    regularizer = _checked("scaled", regularizer)
    checks.concrete("scaled", low=0, factor=factor)
    return Regularizer(
        Partial(_scaled_value, regularizer, factor), Partial(_scaled_prox, regularizer, factor)
    )


def _minus(params, shift):
    return each(lambda x, c: x - c, params, shift)


def _translated_value(regularizer, shift, params):
    return regularizer.value(_minus(params, shift))


def _translated_prox(regularizer, shift, params, step):
    return each(lambda x, c: x + c, regularizer.prox(_minus(params, shift), step), shift)


def translated(regularizer: Regularizer, shift: Prefix) -> Regularizer:
    r""":math:`r(x - c)`, with :math:`\operatorname{prox}(x) = c + \operatorname{prox}_{s r}(x - c)`.

    Args:
      regularizer: :math:`r`.
      shift: :math:`c`, a number, an array, or a tree that is a prefix of the parameters.

    Example:
      >>> from gdjax import regularizers
      >>> float(regularizers.translated(regularizers.l1(), 10.0).prox(10.5, 1.0))
      10.0
    """
    regularizer = _checked("translated", regularizer)
    finite("translated", shift=shift)
    return Regularizer(
        Partial(_translated_value, regularizer, shift), Partial(_translated_prox, regularizer, shift)
    )


def _tilted_value(regularizer, slope, params):
    return regularizer.value(params) + total(lambda x, a: a * x, params, slope)


def _tilted_prox(regularizer, slope, params, step):
    return regularizer.prox(each(lambda x, a, s: x - s * a, params, slope, step), step)


def tilted(regularizer: Regularizer, slope: Prefix) -> Regularizer:
    r""":math:`r(x) + a^T x`, with :math:`\operatorname{prox}(x) = \operatorname{prox}_{s r}(x - s a)`.

    Args:
      regularizer: :math:`r`.
      slope: :math:`a`, a number, an array, or a tree that is a prefix of the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections, regularizers
      >>> linear_over_simplex = regularizers.tilted(regularizers.indicator(projections.simplex), 2.0)
      >>> float(linear_over_simplex.value(jnp.array([0.25, 0.75])))
      2.0
    """
    regularizer = _checked("tilted", regularizer)
    finite("tilted", slope=slope)
    return Regularizer(Partial(_tilted_value, regularizer, slope), Partial(_tilted_prox, regularizer, slope))


def _with_squared_l2_value(regularizer, weight, params):
    return regularizer.value(params) + total(lambda x, w: 0.5 * w * jnp.square(x), params, weight)


def _with_squared_l2_prox(regularizer, weight, params, step):
    shrink = 1 + step * weight
    return regularizer.prox(each(lambda x, d: x / d, params, shrink), step / shrink)


def with_squared_l2(regularizer: Regularizer, weight: ScalarLike) -> Regularizer:
    r""":math:`r(x) + \tfrac{w}{2} \|x\|^2`, exact for every :math:`r`.

    .. math:: \operatorname{prox}(x) = \operatorname{prox}_{s' r}\left(\frac{x}{1 + s w}\right), \quad
       s' = \frac{s}{1 + s w}

    Args:
      regularizer: :math:`r`.
      weight: :math:`w \ge 0`, a number.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 2.2.

    Example:
      >>> from gdjax import regularizers
      >>> float(regularizers.with_squared_l2(regularizers.l1(), 1.0).prox(3.0, 1.0))
      1.0
    """
    regularizer = _checked("with_squared_l2", regularizer)
    checks.concrete("with_squared_l2", low=0, weight=weight)
    parts = (regularizer, weight)
    return Regularizer(Partial(_with_squared_l2_value, *parts), Partial(_with_squared_l2_prox, *parts))


def _unknown_value(params):
    return total(lambda x: jnp.full_like(x, jnp.nan), params)


def _conjugate_prox(regularizer, params, step):
    inner = regularizer.prox(each(lambda y, s: y / s, params, step), 1 / step)
    return jax.tree.map(lambda y, p: (y - step * p).astype(jnp.asarray(y).dtype), params, inner)


def conjugate(regularizer: Regularizer, value: Callable[[Params], Scalar] | None = None) -> Regularizer:
    r"""The convex conjugate :math:`r^*(y) = \sup_x y^T x - r(x)`, by Moreau's identity.

    .. math:: \operatorname{prox}_{s r^*}(y) = y - s \operatorname{prox}_{r / s}(y / s)

    Args:
      regularizer: :math:`r`, convex and closed.
      value: ``params -> r*(params)``. A proximal operator does not tell it, so without it values are NaN.

    Reference:
      Parikh and Boyd, Proximal algorithms, 2014, Section 2.5.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> dual = regularizers.conjugate(regularizers.l1())  # the box where no entry exceeds 1
      >>> dual.prox(jnp.array([3.0, -0.5]), 0.25).tolist()
      [1.0, -0.5]
    """
    regularizer = _checked("conjugate", regularizer)
    checks.function("conjugate", "params", "the conjugate by its values", True, value=value)
    value = Partial(_unknown_value if value is None else value)
    return Regularizer(value, Partial(_conjugate_prox, regularizer))


def _is_regularizer(node):
    return isinstance(node, Regularizer)


def _separable_value(parts, params):
    values = jax.tree.map(lambda r, below: r.value(below), parts, params, is_leaf=_is_regularizer)
    values = jax.tree.leaves(values)
    return sum(values[1:], values[0])


def _separable_prox(parts, params, step):
    return jax.tree.map(lambda r, below: r.prox(below, step), parts, params, is_leaf=_is_regularizer)


def separable(parts: PyTree) -> Regularizer:
    """A regularizer of its own for each part of the parameters: the sum of them, exactly.

    Args:
      parts: a tree with a `Regularizer` at its leaves, a prefix of the parameters; `zero` where there is none.

    Example:
      >>> from gdjax import regularizers
      >>> mixed = regularizers.separable({"w": regularizers.l1(), "b": regularizers.zero()})
      >>> {name: float(x) for name, x in mixed.prox({"w": 3.0, "b": 3.0}, 1.0).items()}
      {'b': 3.0, 'w': 2.0}
    """
    parts = jax.tree.map(lambda r: _checked("separable", r), parts, is_leaf=_is_regularizer)
    return Regularizer(Partial(_separable_value, parts), Partial(_separable_prox, parts))


def _on_leaves_value(regularizer, params):
    values = [regularizer.value(leaf) for leaf in jax.tree.leaves(params)]
    return sum(values[1:], values[0])


def _on_leaves_prox(regularizer, params, step):
    return jax.tree.map(lambda leaf: regularizer.prox(leaf, step), params)


def on_leaves(regularizer: Regularizer) -> Regularizer:
    """The same regularizer for each leaf by itself, summed: `l2` or a ball that does not couple the leaves.

    Args:
      regularizer: of one array.

    Example:
      >>> from gdjax import regularizers
      >>> float(regularizers.on_leaves(regularizers.linf()).value({"a": 3.0, "b": 4.0}))
      7.0
    """
    regularizer = _checked("on_leaves", regularizer)
    return Regularizer(Partial(_on_leaves_value, regularizer), Partial(_on_leaves_prox, regularizer))


def _summed_value(outer, inner, params):
    return outer.value(params) + inner.value(params)


def _summed_prox(outer, inner, params, step):
    return outer.prox(inner.prox(params, step), step)


def summed(outer: Regularizer, inner: Regularizer) -> Regularizer:
    r""":math:`r(x) + q(x)` where the proximal operator of the sum is the composition of the two.

    .. math:: \operatorname{prox}_{s (r + q)}(x) = \operatorname{prox}_{s r}(\operatorname{prox}_{s q}(x))

    That is a property of the pair, which nothing here can check. It holds with, as ``(outer, inner)``:

    - an indicator of a box (or `non_negative <gdjax.projections.non_negative>`) and any function that is a sum over
      entries: `l1`, `huber`, `entropy`;
    - `l1` and `total_variation`: the `fused_lasso`;
    - `l2`, `group_lasso`, a ball of the 2-norm or the second-order cone, and `l1`;
    - `l2` or any function of the 2-norm alone that grows with it, and an indicator of a cone.

    Args:
      outer: :math:`r`, applied last.
      inner: :math:`q`, applied first.

    Reference:
      Yu, On decomposing the proximal map, NeurIPS 2013, Theorem 4 and Corollaries 3 to 5.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import projections, regularizers
      >>> positive = regularizers.indicator(projections.non_negative)
      >>> sparse = regularizers.summed(positive, regularizers.l1())
      >>> sparse.prox(jnp.array([3.0, 0.5, -3.0]), 1.0).tolist()
      [2.0, 0.0, 0.0]
    """
    parts = (_checked("summed", outer), _checked("summed", inner))
    return Regularizer(Partial(_summed_value, *parts), Partial(_summed_prox, *parts))
