r"""Kronecker-factored preconditioners: Shampoo, and SOAP, which is Adam in Shampoo's eigenbasis.

A parameter of shape :math:`d_1 \times \dots \times d_k` gets one :math:`d_i \times d_i` matrix an axis,
in place of the one :math:`\prod d_i \times \prod d_i` matrix of full-matrix AdaGrad or of Adam in the
best basis. Axes longer than ``max_size`` get none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdjax._internal import checks, control_flow, trees
from gdjax.types import Params, PyTree, Scalar, ScalarLike, ScalarOrSchedule, Transformation

__all__ = ["ShampooState", "SoapState", "shampoo", "soap"]


def _wide(leaf: jax.Array) -> jax.Array:
    """In float32 at least, and with at least one axis."""
    return jnp.atleast_1d(leaf).astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _axes(leaf: jax.Array, max_size: int) -> tuple[int, ...]:
    return tuple(i for i, size in enumerate(leaf.shape) if trees.at_most(size, max_size))


def _gram(leaf: jax.Array, axis: int) -> jax.Array:
    unfolded = jnp.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1)
    return unfolded @ unfolded.T


def _along(matrix: jax.Array, leaf: jax.Array, axis: int) -> jax.Array:
    """Multiplies ``leaf`` by ``matrix`` along one axis."""
    return jnp.moveaxis(jnp.tensordot(matrix, leaf, axes=(1, axis)), 0, axis)


def _rotate(matrices: Any, leaf: jax.Array, axes: tuple[int, ...], *, back: bool = False) -> jax.Array:
    for matrix, axis in zip(matrices, axes, strict=True):
        leaf = _along(matrix if back else matrix.T, leaf, axis)
    return leaf


def _inverse_root(matrix: jax.Array, power: float) -> jax.Array:
    values, vectors = jnp.linalg.eigh(matrix)
    floor = jnp.finfo(matrix.dtype).eps * jnp.maximum(values[-1], jnp.finfo(matrix.dtype).tiny)
    return (vectors * (jnp.maximum(values, floor) ** -power)[None, :]) @ vectors.T


class ShampooState(NamedTuple):
    """The factors of every leaf, an axis each, and the inverse roots in use."""

    count: Scalar
    factors: PyTree
    roots: PyTree


def shampoo(
    learning_rate: ScalarOrSchedule,
    eps: ScalarLike = 1e-4,
    *,
    decay: ScalarLike = 1.0,
    interval: int = 1,
    max_size: int = 1024,
) -> Transformation:
    r"""Shampoo.

    For a matrix parameter with gradient :math:`G_t`, from :math:`L_0 = R_0 = \epsilon I`,

    .. math:: L_t = L_{t-1} + G_t G_t^\top, \quad R_t = R_{t-1} + G_t^\top G_t, \quad
       W_{t+1} = W_t - \eta\, L_t^{-1/4} G_t R_t^{-1/4},

    and for a tensor of order k each axis gets its factor with power :math:`-1/(2k)`: a vector is
    preconditioned by full-matrix AdaGrad.

    Cost a step: one product with each factor; every ``interval`` steps one eigendecomposition a
    factor, :math:`O(d_i^3)`. Memory: two matrices an axis. Chain ``optax.trace(0.9)`` in front of it for
    momentum. Choose it for matrices of up to a few thousand rows whose gradients are correlated.

    Args:
      learning_rate: :math:`\eta`, a number or a schedule.
      eps: :math:`\epsilon > 0`, the factors' start.
      decay: what a factor keeps of its past each step, in (0, 1]; 1 is the paper's sum.
      interval: steps between two computations of the roots, a Python integer of at least 1.
      max_size: axes longer than this are not preconditioned.

    Reference:
      Gupta, Koren, Singer, Shampoo: preconditioned stochastic tensor optimization, ICML 2018,
      Algorithms 1 and 2.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> loss = lambda w: jnp.sum((w @ jnp.diag(jnp.array([1.0, 5.0])) - 1.0) ** 2)
      >>> run = gdjax.minimize(loss, jnp.zeros((3, 2)), gdjax.shampoo(0.5))
      >>> bool(run.value < 1e-8)
      True
    """
    checks.rate("shampoo", learning_rate=learning_rate)
    checks.concrete("shampoo", above=0, eps=eps)
    checks.concrete("shampoo", above=0, high=1, decay=decay)
    checks.integer("shampoo", 1, interval=interval, max_size=max_size)

    def init(params):
        def start(leaf):
            leaf = _wide(leaf)
            eyes = [jnp.eye(leaf.shape[i], dtype=leaf.dtype) for i in _axes(leaf, max_size)]
            return tuple(eps * eye for eye in eyes), tuple(eyes)

        started = [start(leaf) for leaf in jax.tree.leaves(params)]
        return ShampooState(jnp.int32(0), [f for f, _ in started], [r for _, r in started])

    def update(updates, state, params=None, **extra):
        del params, extra
        leaves, structure = jax.tree.flatten(updates)
        factors, axes = [], []
        for leaf, old in zip(leaves, state.factors, strict=True):
            leaf = _wide(leaf)
            axes.append(_axes(leaf, max_size))
            grams = [_gram(leaf, axis) for axis in axes[-1]]
            factors.append(tuple(decay * f + gram for f, gram in zip(old, grams, strict=True)))

        def fresh():
            return [
                tuple(_inverse_root(f.astype(r.dtype), 0.5 / len(fs)) for f, r in zip(fs, rs, strict=True))
                for fs, rs in zip(factors, state.roots, strict=True)
            ]

        roots = control_flow.cond(state.count % interval == 0, fresh, lambda: state.roots)
        directions = [
            _rotate(root, _wide(leaf), where).reshape(leaf.shape).astype(leaf.dtype)
            for leaf, root, where in zip(leaves, roots, axes, strict=True)
        ]
        state = ShampooState(state.count + 1, factors, roots)
        return jax.tree.unflatten(structure, directions), state

    rate: Any = learning_rate  # optax names fewer kinds of numbers than it takes
    return optax.chain(
        optax.GradientTransformationExtraArgs(init, update), optax.scale_by_learning_rate(rate)
    )


class SoapState(NamedTuple):
    """Moments of every leaf (the second in the rotated basis), factors and bases of every axis."""

    count: Scalar
    mean: Params
    square: Params
    factors: PyTree
    bases: PyTree


def soap(
    learning_rate: ScalarOrSchedule = 3e-3,
    b1: ScalarLike = 0.95,
    b2: ScalarLike = 0.95,
    eps: ScalarLike = 1e-8,
    *,
    interval: int = 10,
    max_size: int = 1024,
) -> Transformation:
    r"""SOAP: Adam in the eigenbasis of Shampoo's factors.

    .. math::
       L_t &= \beta_2 L_{t-1} + (1 - \beta_2) G_t G_t^\top, \quad
       R_t = \beta_2 R_{t-1} + (1 - \beta_2) G_t^\top G_t, \\
       M_t &= \beta_1 M_{t-1} + (1 - \beta_1) G_t, \quad
       V_t = \beta_2 V_{t-1} + (1 - \beta_2) (Q_L^\top G_t Q_R)^2, \\
       W_{t+1} &= W_t - \eta\, Q_L \frac{Q_L^\top \hat M_t Q_R}{\sqrt{\hat V_t} + \epsilon} Q_R^\top,

    with Adam's bias corrections :math:`\hat M_t, \hat V_t`. The bases start as the eigenvectors of
    the first gradient's factors; every ``interval`` steps one power iteration with
    orthogonalization, :math:`Q \leftarrow \mathrm{qr}(L_t Q)`, lets them follow. A vector has one
    basis; axes longer than ``max_size`` keep the identity, where SOAP is Adam.

    Cost a step: two products with each basis; every ``interval`` steps a QR factorization a factor.
    Memory: Adam's, and two matrices an axis. Choose it for training networks with large batches.

    Args:
      learning_rate: :math:`\eta`, a number or a schedule.
      b1: decay of the mean, in [0, 1).
      b2: decay of the squares and of the factors, in [0, 1).
      eps: :math:`\epsilon > 0`, outside the root as in Adam.
      interval: steps between two updates of the bases, a Python integer of at least 1.
      max_size: axes longer than this are not rotated.

    Reference:
      Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, ICLR 2025, Algorithms 3 and 4.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> loss = lambda w: jnp.sum((w @ jnp.diag(jnp.array([1.0, 5.0])) - 1.0) ** 2)
      >>> run = gdjax.minimize(loss, jnp.zeros((3, 2)), gdjax.soap(0.05), stop=None)
      >>> bool(run.value < 1e-3)
      True
    """
    checks.rate("soap", learning_rate=learning_rate)
    checks.concrete("soap", above=0, eps=eps)
    checks.concrete("soap", low=0, below=1, b1=b1, b2=b2)
    checks.integer("soap", 1, interval=interval, max_size=max_size)

    def init(params):
        leaves = [_wide(leaf) for leaf in jax.tree.leaves(params)]
        zeros = [jnp.zeros_like(leaf) for leaf in leaves]
        eyes = [
            tuple(jnp.eye(leaf.shape[i], dtype=leaf.dtype) for i in _axes(leaf, max_size)) for leaf in leaves
        ]
        return SoapState(jnp.int32(0), zeros, zeros, jax.tree.map(jnp.zeros_like, eyes), eyes)

    def update(updates, state, params=None, **extra):
        del params, extra
        leaves, structure = jax.tree.flatten(updates)
        count = state.count + 1
        wide = [_wide(leaf) for leaf in leaves]
        axes = [_axes(leaf, max_size) for leaf in wide]
        grams = [tuple(_gram(leaf, i) for i in where) for leaf, where in zip(wide, axes, strict=True)]
        factors = jax.tree.map(lambda old, gram: b2 * old + (1 - b2) * gram, state.factors, grams)
        bases = control_flow.cond(
            state.count == 0,
            lambda: jax.tree.map(lambda f: jnp.linalg.eigh(f)[1], factors),
            lambda: state.bases,
        )
        mean = [b1 * m + (1 - b1) * g for m, g in zip(state.mean, wide, strict=True)]
        square, directions = [], []
        for leaf, g, m, v, basis, where in zip(leaves, wide, mean, state.square, bases, axes, strict=True):
            v = b2 * v + (1 - b2) * _rotate(basis, g, where) ** 2
            turned = _rotate(basis, m, where) / (1 - b1**count)
            step = turned / (jnp.sqrt(v / (1 - b2**count)) + eps)
            step = _rotate(basis, step, where, back=True)
            square.append(v)
            directions.append(step.reshape(leaf.shape).astype(leaf.dtype))
        bases = control_flow.cond(
            count % interval == 0,
            lambda: jax.tree.map(lambda f, q: jnp.linalg.qr(f @ q)[0], factors, bases),
            lambda: bases,
        )
        state = SoapState(count, mean, square, factors, bases)
        return jax.tree.unflatten(structure, directions), state

    rate: Any = learning_rate  # optax names fewer kinds of numbers than it takes
    return optax.chain(
        optax.GradientTransformationExtraArgs(init, update), optax.scale_by_learning_rate(rate)
    )
