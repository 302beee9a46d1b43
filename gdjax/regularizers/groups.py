"""Group lasso: parameters that are kept or dropped together."""

from collections.abc import Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gdjax._internal import arguments, checks
from gdjax.projections.vectors import each, flat, total, unit
from gdjax.regularizers.calculus import summed
from gdjax.regularizers.norms import l1
from gdjax.regularizers.regularizer import Regularizer
from gdjax.types import PyTree, ScalarLike

__all__ = ["group_lasso", "sparse_group_lasso"]


@jax.tree_util.register_static
class _Axes(tuple):
    """Axes of an array as a pytree without leaves: they stay numbers under ``jit``."""

    __slots__ = ()


def _sliced_value(axes, weight, params):
    def one(x, w):
        _, norm, size = unit(x, None if axes is None else tuple(axes))
        return w * size * norm

    return total(one, params, weight)


def _sliced_prox(axes, weight, params, step):
    def one(x, w, s):
        direction, norm, size = unit(x, None if axes is None else tuple(axes))
        left = norm - s * w / size
        return jnp.where(left > 0, left, 0) * size * direction

    return each(one, params, weight, step)


def _labelled(groups, weight, params):
    """``(x, back, labels, weights, norms, sizes)``: entries by position, groups by label, -1 for no group."""
    x, back = flat(params)
    labels = jnp.concatenate([jnp.ravel(jnp.asarray(label, jnp.int32)) for label in jax.tree.leaves(groups)])
    if labels.size != x.size:
        raise ValueError(f"group_lasso: groups has {labels.size} labels for {x.size} parameters")
    labels = jnp.where(labels < 0, x.size, labels)
    sizes = jax.ops.segment_max(jnp.abs(jax.lax.stop_gradient(x)), labels, num_segments=x.size + 1)
    sizes = jnp.where((sizes > 0) & jnp.isfinite(sizes), sizes, 1)
    squares = jax.ops.segment_sum(jnp.square(x / sizes[labels]), labels, num_segments=x.size + 1)
    some = squares > 0
    norms = jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)
    weight = jnp.asarray(weight, x.dtype)
    known = jnp.broadcast_to(weight, (x.size,)) if weight.ndim == 0 else weight
    weights = jnp.zeros(x.size + 1, x.dtype).at[: known.size].set(known)
    return x, back, labels, weights, norms, sizes


def _labelled_value(groups, weight, params):
    _, _, _, weights, norms, sizes = _labelled(groups, weight, params)
    return jnp.sum(weights * norms * sizes)


def _labelled_prox(groups, weight, params, step):
    x, back, labels, weights, norms, sizes = _labelled(groups, weight, params)
    left = norms - step * weights / sizes
    kept = jnp.where(left > 0, left, 0) / jnp.where(norms > 0, norms, 1)
    return back(jnp.where(labels == x.size, x, kept[labels] * x))


def _check_labels(owner, groups):
    leaves = jax.tree.leaves(groups)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    labels = np.concatenate([np.ravel(np.asarray(leaf)) for leaf in leaves])
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{owner}: groups must hold integers, got {labels.dtype}")
    if labels.size and labels.max() >= labels.size:
        raise ValueError(f"{owner}: labels must be below the number of parameters, {labels.size}")


def group_lasso(
    weight: ScalarLike = 1.0, *, axis: int | Sequence[int] | None = None, groups: PyTree = None
) -> Regularizer:
    r"""The sum of the 2-norms of groups, :math:`r(x) = \sum_g w_g \|x_g\|_2`: whole groups go to zero.

    .. math:: \operatorname{prox}_{s r}(x)_g = \max(1 - s w_g / \|x_g\|_2, 0) \, x_g

    A group is one leaf; or, with ``axis``, each slice of a leaf along those axes; or, with ``groups``, all entries
    with one label.

    Args:
      weight: :math:`w \ge 0`, a number, or a tree that is a prefix of the parameters; with ``groups`` a number or
        an array with the weight of each label. Weights of :math:`\sqrt{|g|}` treat groups of all sizes alike.
      axis: an integer or several: the axes that a group runs along, as in ``jnp.linalg.norm``.
      groups: labels from 0, integers in arrays of the shapes of the parameters. A label may be used in several
        leaves; entries with a label below 0 are in no group and stay free.

    Reference:
      Yuan and Lin, Model selection and estimation in regression with grouped variables, JRSS B 68, 2006, eq. 2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> rows = regularizers.group_lasso(axis=1)
      >>> rows.prox(jnp.array([[6.0, 8.0], [0.3, 0.4]]), 5.0).tolist()
      [[3.0, 4.0], [0.0, 0.0]]
      >>> pairs = regularizers.group_lasso(groups=jnp.array([0, 1, 0]))
      >>> pairs.prox(jnp.array([6.0, 1.0, 8.0]), 5.0).tolist()
      [3.0, 0.0, 4.0]
    """
    checks.weights("group_lasso", weight=weight)
    if axis is not None and groups is not None:
        raise ValueError("group_lasso: give axis or groups, not both")
    if groups is not None:
        _check_labels("group_lasso", groups)
        return Regularizer(Partial(_labelled_value, groups, weight), Partial(_labelled_prox, groups, weight))
    several = axis if isinstance(axis, tuple | list) else () if axis is None else (axis,)
    if any(not hasattr(one, "__index__") for one in several):
        raise TypeError(f"group_lasso: axis must be an integer or several, got {arguments.named(axis)}")
    axes = None if axis is None else _Axes((axis,) if isinstance(axis, int) else axis)
    return Regularizer(Partial(_sliced_value, axes, weight), Partial(_sliced_prox, axes, weight))


def sparse_group_lasso(
    l1_weight: ScalarLike = 1.0,
    group_weight: ScalarLike = 1.0,
    *,
    axis: int | Sequence[int] | None = None,
    groups: PyTree = None,
) -> Regularizer:
    r"""Sparse groups and sparse within groups, :math:`r(x) = \sum_i a_i |x_i| + \sum_g w_g \|x_g\|_2`.

    Its proximal operator is that of `group_lasso` after soft thresholding.

    Args:
      l1_weight: :math:`a \ge 0`, as in `l1`.
      group_weight: :math:`w \ge 0`, as in `group_lasso`.
      axis: as in `group_lasso`.
      groups: as in `group_lasso`.

    Reference:
      Simon, Friedman, Hastie, Tibshirani, A sparse-group lasso, J. Computational and Graphical Statistics 22(2),
      2013, eq. 12.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import regularizers
      >>> regularizers.sparse_group_lasso(1.0, 5.0).prox(jnp.array([7.0, 9.0, 0.5]), 1.0).tolist()
      [3.0, 4.0, 0.0]
    """
    checks.weights("sparse_group_lasso", l1_weight=l1_weight, group_weight=group_weight)
    return summed(group_lasso(group_weight, axis=axis, groups=groups), l1(l1_weight))
