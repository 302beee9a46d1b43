r"""Different methods for different parts of the parameters, curvature included.

`optax.masked` and `optax.partition` show a method the parameters of its part alone, with ``MaskedNode`` in
the places of the others, but a ``value_fn`` of all of them, which it cannot call. Here the function is
completed: where it meets a ``MaskedNode`` it takes the current value of the parameters there. So the Hessian
that Newton's method forms is the block of its own part, with all others held.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import optax

from gdjax._internal import checks
from gdjax._internal.arguments import named
from gdjax.objectives import Composite
from gdjax.types import Params, Transformation, ValueFn

__all__ = ["completed", "filled", "masked", "partition"]


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def filled(part: Params, whole: Params) -> Params:
    """``part`` with what it lacks taken from ``whole``.

    Args:
      part: a pytree where `optax.MaskedNode` stands for what is lacking.
      whole: the pytree without gaps.

    Example:
      >>> import optax
      >>> from gdjax.optimizers import partition
      >>> partition.filled({"a": optax.MaskedNode(), "b": 3.0}, {"a": 1.0, "b": 2.0})
      {'a': 1.0, 'b': 3.0}
    """
    return jax.tree.map(lambda p, w: w if _is_masked(p) else p, part, whole, is_leaf=_is_masked)


def completed(value_fn: ValueFn, params: Params) -> ValueFn:
    """``value_fn`` that takes a part of the parameters too, and the rest from ``params``.

    Args:
      value_fn: a function of all parameters; a `Composite` stays one.
      params: all parameters, as they are now.

    Example:
      >>> import optax
      >>> from gdjax.optimizers import partition
      >>> f = partition.completed(lambda p: p["a"] + 10 * p["b"], {"a": 1.0, "b": 2.0})
      >>> f({"a": optax.MaskedNode(), "b": 3.0})
      31.0
    """

    def complete(function: Any) -> Any:
        return None if function is None else lambda part: function(filled(part, params))

    if isinstance(value_fn, Composite):
        return Composite(complete(value_fn.model), value_fn.loss, complete(value_fn.penalty))
    return complete(value_fn)


def _completing(inner: Transformation) -> Transformation:
    def update(updates, state, params=None, *, value_fn=None, **extra):
        if value_fn is not None and params is not None:
            extra["value_fn"] = completed(value_fn, params)
        return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def partition(
    transforms: Mapping[Hashable, optax.GradientTransformation],
    labels: Params | Callable[[Params], Params],
) -> Transformation:
    """`optax.partition`, for methods that take second derivatives too.

    Each part's ``value_fn`` is a function of that part, the others held where they are. A method that takes
    every step (``gdjax.newton(1.0)``, ``gdjax.newton_cg(1.0)``, `gdjax.natural_gradient`) goes with any
    companion. One that judges trials (a trust region, a line search) compares values, and so wants the others
    at rest while it does: give them ``optax.set_to_zero()``.

    Args:
      transforms: a transformation for each label.
      labels: a tree like the parameters (or a prefix of it, or a function that makes one) with a label at
        each leaf.

    Example:
      >>> import gdjax, jax.numpy as jnp, optax
      >>> methods = {"head": gdjax.newton(1.0), "body": optax.sgd(0.1)}
      >>> mixed = gdjax.partition(methods, {"w": "head", "b": "body"})
      >>> f = lambda p: jnp.sum((p["w"] - 3.0) ** 2) + (p["b"] - 1.0) ** 2
      >>> run = gdjax.minimize(f, {"w": jnp.zeros(2), "b": jnp.zeros(())}, mixed, stop=None, max_steps=1)
      >>> run.params["w"].tolist()
      [3.0, 3.0]
    """
    if not isinstance(transforms, Mapping):
        raise TypeError(
            f"partition: transforms must be a dictionary from labels to transformations, got {named(transforms)}"
        )
    methods = {label: checks.transformation(transform) for label, transform in transforms.items()}
    return _completing(optax.partition(methods, labels))


def masked(inner: optax.GradientTransformation, mask: Params | Callable[[Params], Params]) -> Transformation:
    """`optax.masked`, for methods that take second derivatives too: see `partition`.

    Args:
      inner: the transformation of the leaves where the mask says True.
      mask: a tree like the parameters (or a prefix of it, or a function that makes one) of booleans. As with
        optax, the gradients of the other leaves pass through unchanged.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> head = gdjax.masked(gdjax.newton(1.0), {"w": True, "b": False})
      >>> f = lambda p: jnp.sum((p["w"] - 3.0) ** 2) + 0.0 * p["b"]
      >>> run = gdjax.minimize(f, {"w": jnp.zeros(2), "b": jnp.zeros(())}, head, stop=None, max_steps=1)
      >>> run.params["w"].tolist()
      [3.0, 3.0]
    """
    return _completing(optax.masked(checks.transformation(inner), mask))
