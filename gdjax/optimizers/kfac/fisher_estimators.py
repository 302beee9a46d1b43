r"""Signals: vectors of a model's outputs whose outer products add up to a metric, example by example.

Propagated back through the model they make the factors of `gdjax.kfac`. A way of making them is a function
``(objective, outputs, metric, count) -> cotangents`` of the outputs, with a leading axis of columns; the sum of their
outer products over the columns is, or is in expectation, the metric of each example. The leading axis of every
output counts the examples, and the metric ties no two of them.

| signals | columns | chance |
|---|---|---|
| `exact` | one for each output | none |
| ``sampled(key)`` | one | as in targets drawn from the model |
| `empirical` | one | none; the labels' gradients, so not the same matrix |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow
from gdjax.objectives import Composite, Mean
from gdjax.objectives.distributions import Family
from gdjax.types import KeyLike, MatVec, PyTree, Scalar

__all__ = ["Signals", "empirical", "exact", "sampled"]

Signals = Callable[[Composite, Any, MatVec, Scalar], Any]
"""``(objective, outputs, metric, count) -> cotangents``: ``metric`` is a product, ``count`` of updates made."""


def _by_example(outputs: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Outputs as a matrix, a row an example, and the way back."""
    leaves, structure = jax.tree.flatten(outputs)
    examples = leaves[0].shape[0]
    sizes = [leaf.size // examples for leaf in leaves]
    ends = [sum(sizes[:i]) for i in range(1, len(sizes))]

    def back(rows):
        parts = zip(leaves, jnp.split(rows, ends, axis=1), strict=True)
        return jax.tree.unflatten(structure, [p.reshape(x.shape).astype(x.dtype) for x, p in parts])

    return jnp.concatenate([_wide(leaf.reshape(examples, -1)) for leaf in leaves], axis=1), back


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _root(outputs: Any, metric: MatVec) -> jax.Array:
    """Columns whose outer products add up to the metric of each example, ``(examples, columns, outputs)``.

    The factor of Cholesky, all examples at once; a pivot that is zero up to rounding leaves its column zero. Losses
    that are sums over outputs have diagonal blocks, whose roots cost nothing.
    """
    rows, back = _by_example(outputs)
    size = rows.shape[1]
    units = jnp.broadcast_to(jnp.eye(size, dtype=rows.dtype)[:, None, :], (size, *rows.shape))
    blocks = jax.vmap(lambda unit: _by_example(metric(back(unit)))[0], out_axes=1)(units)
    blocks = 0.5 * (blocks + jnp.swapaxes(blocks, 1, 2))
    diagonal = jnp.diagonal(blocks, axis1=1, axis2=2)
    floor = 4 * size * jnp.finfo(rows.dtype).eps * jnp.max(diagonal, axis=1)
    unit = jnp.eye(size, dtype=rows.dtype)[None]

    def eliminate(columns, i):
        known = jnp.einsum("nkc,nk->nc", columns, columns[:, :, i], precision=jax.lax.Precision.HIGHEST)
        rest = blocks[:, i] - known
        pivot = rest[:, i]
        sound = (pivot > floor) & (pivot > 0)
        scale = jnp.where(sound, 1 / jnp.sqrt(jnp.where(sound, pivot, 1)), 0)
        return columns.at[:, i].set(rest * scale[:, None]), None

    return control_flow.cond(
        jnp.all((blocks == 0) | (unit == 1)),
        lambda: unit * jnp.sqrt(jnp.maximum(diagonal, 0))[:, None, :],
        lambda: control_flow.scan(eliminate, jnp.zeros_like(blocks), jnp.arange(size))[0],
    )


def exact(objective: Composite, outputs: PyTree, metric: MatVec, count: Scalar) -> PyTree:
    r"""Signals of all columns of a root of the metric: no chance in them, a backward pass for each output.

    Reference:
      Botev, Ritter, Barber, Practical Gauss-Newton optimisation for deep learning, ICML 2017, section 4.2 (KFLR).
    """
    del objective, count
    return jax.vmap(_by_example(outputs)[1])(jnp.swapaxes(_root(outputs, metric), 0, 1))


def _product(a: Any, b: Any) -> Scalar:
    return jnp.vdot(_by_example(a)[0], _by_example(b)[0])


def _family_root(family: Family, outputs: Any, metric: MatVec, noise: Any) -> Any:
    """The product of noise with the family's root, on the scale of the metric."""
    root: Any = family.root
    ours, theirs = _product(noise, metric(noise)), _product(noise, family.metric(outputs, noise))
    scale = jnp.sqrt(jnp.where(theirs > 0, ours / jnp.where(theirs > 0, theirs, 1), 0))
    return jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), root(outputs, noise))


def _sampled(family, key, objective, outputs, metric, count):
    del objective
    key = jax.random.fold_in(key, count)
    rows, back = _by_example(outputs)
    if family is None:
        root = _root(outputs, metric)
        noise = jax.random.normal(key, root.shape[:2], root.dtype)
        found = back(jnp.sum(root * noise[:, :, None], axis=1))
    else:
        found = _family_root(family, outputs, metric, back(jax.random.normal(key, rows.shape, rows.dtype)))
    return jax.tree.map(lambda leaf: leaf[None], found)


def sampled(key: KeyLike, family: Family | None = None) -> Signals:
    r"""Signals of one random combination of the columns of a root of the metric: one backward pass.

    :math:`s = S \varepsilon` with :math:`S S^T` the metric and normal :math:`\varepsilon`: the same expectation as that
    of the gradients for targets drawn from the model. With c outputs an example the root costs c products with the
    metric and :math:`O(c^3)`; that of a family is known, and costs :math:`O(c)`: name it where outputs are many.

    Args:
      key: a JAX key, or an integer seed.
      family: of `gdjax.distributions`, for the outputs of the model; the scale is that of the metric.

    Raises:
      ValueError: if the family has no root.

    Reference:
      Martens, Grosse, ICML 2015, section 5 (targets from the model's distribution).
    """
    if family is not None and family.root is None:
        raise ValueError("signals.sampled: the family has no root of its metric")
    return Partial(_Drawn(family), checks.random_key(key))


class _Drawn(NamedTuple):
    """Binds a family, which is static."""

    family: Family | None

    def __call__(self, *arguments):
        return _sampled(self.family, *arguments)


def empirical(objective: Composite, outputs: PyTree, metric: MatVec, count: Scalar) -> PyTree:
    """Signals of each example's own loss: one backward pass, the labels' in place of the model's.

    Raises:
      TypeError: where the loss is not a `gdjax.objectives.Mean`.

    Reference:
      Kunstner, Hennig, Balles, Limitations of the empirical Fisher approximation for natural gradient descent,
      NeurIPS 2019.
    """
    del metric, count
    if not isinstance(objective.loss, Mean):
        raise TypeError("kfac: empirical signals need a loss that is a gdjax.objectives.Mean of losses")
    rows, back = _by_example(jax.grad(objective.loss)(outputs))
    return jax.tree.map(lambda leaf: leaf[None], back(rows * rows.shape[0] ** 0.5))
