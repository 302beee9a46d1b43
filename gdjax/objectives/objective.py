r"""Objectives: what is minimized.

A plain function ``params -> scalar`` is an objective. `finite_sum` draws mini-batches,
`Composite`, `least_squares` and `supervised` let curvature see inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial, register_dataclass

from gdjax._internal import arguments, checks
from gdjax._internal.trees import callables_as_trees, in_parts
from gdjax.objectives import rows
from gdjax.objectives.permutation import shuffled
from gdjax.types import Params, PyTree, Scalar, ScalarLike, ValueFn

__all__ = [
    "Composite",
    "Mean",
    "Objective",
    "ObjectiveLike",
    "check_residuals",
    "finite_sum",
    "is_half_squares",
    "is_least_squares",
    "least_squares",
    "supervised",
]


class Objective(NamedTuple):
    """An objective that depends on data.

    A pytree: data inside it (bound with ``jax.tree_util.Partial``) is passed to compiled code as
    arguments, never baked in as constants.

    Attributes:
      at: ``batch -> ValueFn``, the objective on one batch.
      sample: ``(key, count) -> batch``, a pure function of the run's key and the number of batches
        drawn before; None when there is one batch only, which ``at(None)`` stands for.
      full: the objective over all data, at which a result's value and residual are evaluated. None
        where ``at(None)`` is that already, or where it is not to be had: a result then shows the
        last batch's.
    """

    at: Callable[[PyTree], ValueFn]
    sample: Callable[[jax.Array, ScalarLike], PyTree] | None = None
    full: ValueFn | None = None


ObjectiveLike: TypeAlias = Callable[[Params], ScalarLike] | Objective
"""What a run minimizes: a function of the parameters that returns a number, or an `Objective`."""


@register_dataclass
@dataclass(frozen=True)
class Composite:
    r""":math:`f(\theta) = \ell(m(\theta)) + r(\theta)`, callable like any objective.

    Gauss-Newton and Fisher products need to see the two parts apart.

    Attributes:
      model: ``params -> outputs``, any array or pytree of arrays.
      loss: ``outputs -> scalar``, convex in the outputs where Gauss-Newton is to be positive.
      penalty: ``params -> scalar``, such as weight decay, or None.
    """

    model: Callable[[Params], PyTree]
    loss: Callable[[PyTree], Scalar]
    penalty: Callable[[Params], Scalar] | None = None

    def __call__(self, params: Params) -> Scalar:
        loss = self.loss(self.model(params))
        return loss if self.penalty is None else loss + self.penalty(params)


@register_dataclass
@dataclass(frozen=True)
class Mean:
    """The mean of a loss over examples; as the loss of a `Composite` it shows the empirical Fisher its terms.

    Attributes:
      losses: ``outputs -> losses``, one for each example.
    """

    losses: Callable[[PyTree], jax.Array]

    def __call__(self, outputs: PyTree) -> Scalar:
        return jnp.mean(self.losses(outputs))


def check_residuals(residuals: PyTree) -> None:
    """Raises where residuals are none, or not of real floating type: their squares have no derivative then.

    Args:
      residuals: a pytree of arrays, or of their shapes and types.

    Raises:
      TypeError: there are no leaves, or leaves that are no arrays of real floating type.
      ValueError: all arrays are empty.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.objectives.check_residuals(jnp.arange(3))
      Traceback (most recent call last):
        ...
      TypeError: least_squares: residuals must be real floating numbers, not int32
    """
    leaves = jax.tree.leaves(residuals)
    if not leaves:
        raise TypeError(
            f"least_squares: the function returned {arguments.named(residuals)}, which holds no residuals"
        )
    for leaf in leaves:
        if not isinstance(
            leaf, int | float | complex | np.generic | np.ndarray | jax.Array | jax.ShapeDtypeStruct
        ):
            raise TypeError(
                f"least_squares: residuals must be arrays, the function returned {arguments.named(leaf)}"
            )
        dtype = leaf.dtype if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            way = "; give real and imaginary parts" if jnp.issubdtype(dtype, jnp.complexfloating) else ""
            raise TypeError(f"least_squares: residuals must be real floating numbers, not {dtype}{way}")
    if all(0 in getattr(leaf, "shape", ()) for leaf in leaves):
        raise ValueError("least_squares: the function returned no residuals, an empty array")


def _half_squares(residuals: PyTree) -> Scalar:
    check_residuals(residuals)
    leaves = jax.tree.leaves(residuals)
    # vdot is faster under vmap; along an axis in parts JAX leaves it undecided where its result lies.
    squares = [jnp.sum(leaf**2) if in_parts(leaf) else jnp.vdot(leaf, leaf) for leaf in leaves]
    return 0.5 * sum(squares[1:], squares[0])


def least_squares(residual_fn: Callable[[Params], PyTree]) -> Composite:
    r""":math:`f(x) = \tfrac12 \lVert r(x) \rVert^2`, as in SciPy's ``least_squares``.

    Args:
      residual_fn: ``params -> residuals``, an array of any shape or a pytree of arrays.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = gdjax.least_squares(lambda x: jnp.array([x[0] - 3.0, 2.0 * x[1]]))
      >>> float(f(jnp.array([1.0, 1.0])))
      4.0
    """
    checks.function("least_squares", "params", "one that returns the residuals", residual_fn=residual_fn)
    return Composite(residual_fn, _half_squares)


def is_least_squares(objective: object) -> bool:
    """Whether an objective is one that `least_squares` made.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.objectives.is_least_squares(gdjax.least_squares(jnp.sin))
      True
    """
    return isinstance(objective, Composite) and objective.penalty is None and is_half_squares(objective.loss)


def is_half_squares(loss: object) -> bool:
    """Whether a function is the loss of `least_squares`: then its slope is the residuals, and its curvature one.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.objectives.is_half_squares(gdjax.least_squares(jnp.sin).loss)
      True
    """
    while isinstance(loss, Partial) and not loss.args:  # as functions cross `jit`
        loss = loss.func
    return loss is _half_squares


def _loss_at(loss, batch):
    return Partial(_loss_value, loss, batch)


def _loss_value(loss, batch, params):
    return loss(params, batch)


def _sample_epoch(data, batch_size, key, count):
    n = rows.count(data, "finite_sum")
    epoch, position = jnp.divmod(count, n // batch_size)
    positions = position * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    return rows.take(data, shuffled(key, positions, n, epoch))


def _sample_replace(data, batch_size, key, count):
    n = rows.count(data, "finite_sum")
    index = jax.random.randint(jax.random.fold_in(key, count), (batch_size,), 0, n)
    return rows.take(data, index)


class _Sampler(NamedTuple):
    """Binds a static batch size to data that stays an argument."""

    draw: Callable[..., Any]
    batch_size: int

    def __call__(self, data, key, count):
        return self.draw(data, self.batch_size, key, count)


def _data_at(at, data, batch):
    del batch
    return at(data)


def _over_data(owner, at, data, batch_size, replacement) -> Objective:
    """The objective that is ``at(batch)`` on each mini-batch of ``data``."""
    data = rows.as_data(data)
    n = rows.count(data, owner)
    if batch_size is None:
        return Objective(Partial(_data_at, at, data))
    checks.integer(owner, batch_size=batch_size)
    if not 1 <= batch_size <= n:
        raise ValueError(f"{owner}: batch_size is {batch_size}, but there are {n} examples")
    draw = _Sampler(_sample_replace if replacement else _sample_epoch, int(batch_size))
    data = rows.prepared(data, int(batch_size), replacement, owner)
    return Objective(at, Partial(draw, data), at(rows.everything(data)))


def finite_sum(
    loss: Callable[[Params, PyTree], Scalar],
    data: PyTree,
    batch_size: int | None = None,
    *,
    replacement: bool = False,
) -> Objective:
    r"""The mean of a loss over data, seen one mini-batch at a time.

    Every epoch visits the examples in a new random order, a pure function of the run's key and the
    number of batches drawn; where ``batch_size`` does not divide the number of examples, the few left
    over sit an epoch out. Give the run a key: ``minimize(..., key=jax.random.key(0))``.

    Args:
      loss: ``(params, batch) -> scalar``, the mean over the batch (plus any regularization).
      data: a pytree of arrays whose leading axis counts the examples, and of sparse matrices whose rows do: JAX's
        BCOO and BCSR (`jax.experimental.sparse`), and SciPy's, which become BCOO. A batch of a sparse matrix is
        one of the same kind with room for the entries of the ``batch_size`` fullest rows.
      batch_size: examples a step; None takes all of them at every step.
      replacement: draw examples independently and uniformly instead of by epochs.

    Returns:
      An `Objective`. A result's value and residual are those over all data.

    Raises:
      ValueError: if the arrays disagree in length or ``batch_size`` is not between 1 and it.
      TypeError: for batches of a sparse matrix that is neither BCOO nor BCSR.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> loss = lambda w, batch: jnp.mean((batch - w) ** 2)
      >>> objective = gdjax.finite_sum(loss, jnp.arange(10.0), batch_size=5)
      >>> run = gdjax.minimize(objective, 0.0, gdjax.gradient_descent(0.05), key=jax.random.key(0),
      ...                      stop=None, max_steps=400)
      >>> bool(abs(run.params - 4.5) < 0.5)
      True
    """
    checks.function("finite_sum", "params, batch", "the mean of the losses of a batch", loss=loss)
    return _over_data(
        "finite_sum", Partial(_loss_at, callables_as_trees(loss)), data, batch_size, replacement
    )


def _outputs(model, inputs, params):
    return model(params, inputs)


def _losses(loss, targets, outputs):
    return loss(outputs, targets)


def _composite_at(model, loss, penalty, batch):
    inputs, targets = batch
    return Composite(Partial(_outputs, model, inputs), Mean(Partial(_losses, loss, targets)), penalty)


def supervised(
    model: Callable[[Params, PyTree], PyTree],
    loss: Callable[[PyTree, PyTree], jax.Array],
    data: tuple[PyTree, PyTree],
    batch_size: int | None = None,
    *,
    penalty: Callable[[Params], Scalar] | None = None,
    replacement: bool = False,
) -> Objective:
    r"""Learning from examples, :math:`f(\theta) = \frac1n \sum_i \ell(m(\theta, x_i), y_i) + r(\theta)`.

    Batches are drawn as in `finite_sum`; on each the objective is a `Composite`, which Gauss-Newton and
    Fisher products can see inside.

    Args:
      model: ``(params, inputs) -> outputs``, on a batch of inputs.
      loss: ``(outputs, targets) -> losses``, one for each example, as `optax.losses` and
        `gdjax.distributions` have them.
      data: the pair ``(inputs, targets)``, pytrees of arrays whose leading axis counts the examples.
      batch_size: examples a step; None takes all of them at every step.
      penalty: ``params -> scalar``, added once, such as weight decay.
      replacement: as in `finite_sum`.

    Raises:
      ValueError: as in `finite_sum`.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> data = (jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0]))
      >>> objective = gdjax.objectives.supervised(lambda w, x: w * x, lambda out, y: (out - y) ** 2, data)
      >>> float(objective.at(None)(1.0))
      2.5
    """
    checks.function("supervised", "params, inputs", "the model's outputs on a batch", model=model)
    checks.function(
        "supervised", "outputs, targets", "such as gdjax.distributions or optax.losses have", loss=loss
    )
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"supervised: data must be the pair (inputs, targets), got {arguments.named(data)}")
    at = Partial(
        _composite_at, callables_as_trees(model), callables_as_trees(loss), callables_as_trees(penalty)
    )
    return _over_data("supervised", at, tuple(data), batch_size, replacement)
