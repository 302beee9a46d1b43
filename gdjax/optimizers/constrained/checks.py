"""Errors at the door of methods for constraints: what constraints return, and what may be the inner method."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax._internal import checks
from gdjax.optimizers.constrained.merit import MeritState
from gdjax.types import Params, PyTree, State

__all__ = ["functions", "not_nested", "transformation_inside", "values"]

_FORMS = {"equality": ("x - 1", "x == 1", "= 0"), "inequality": ("x - 1", "x <= 1", "<= 0")}
"""How a constraint is written: what is returned, for which relation, and what is asked of it."""


def values(owner: str, name: str, function: Callable[[Params], PyTree], params: Params) -> PyTree:
    """What a constraint returns at params, or an error that says what is wrong with it.

    Args:
      owner: who asks, for the error.
      name: ``"equality"`` or ``"inequality"``.
      function: the constraint.
      params: the point.

    Raises:
      TypeError: if there are no values, or one is not of real floating type: a comparison, a count, a word.
      ValueError: if all are empty arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> values("here", "inequality", lambda x: x - 1, jnp.ones(2)).tolist()
      [0.0, 0.0]
    """
    found, (form, relation, asked) = function(params), _FORMS[name]
    wanted = f"return numbers of which {name} asks {asked}, such as {form} for {relation}"
    leaves = tree_leaves_with_path(found)
    if not leaves:
        kind = "None" if found is None else f"a {type(found).__name__} without arrays"
        raise TypeError(f"{owner}: {name} returned {kind} (a missing `return`?); {wanted}")
    for path, leaf in leaves:
        where = f"{name}(params){keystr(path)}"
        try:
            dtype = jnp.asarray(leaf).dtype
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: {where} is a {type(leaf).__name__}; {wanted}") from None
        if jnp.issubdtype(dtype, bool):
            raise TypeError(f"{owner}: {where} is {dtype}, as comparisons are, without a slope; {wanted}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{owner}: {where} is {dtype}, not a real floating number; {wanted}")
    if all(jnp.size(leaf) == 0 for _, leaf in leaves):
        raise ValueError(f"{owner}: {name} returned no numbers, shape {jnp.shape(leaves[0][1])}; {wanted}")
    return found


def functions(owner: str, one: bool = False, **given: object) -> None:
    """Raises where a constraint is no function, or there is none.

    Args:
      owner: the method.
      one: whether it takes inequalities alone.
      **given: constraints by name, or None.

    Raises:
      TypeError: if one is no function.
      ValueError: if all are None.
    """
    for name, function in given.items():
        if function is not None and (not callable(function) or isinstance(function, type)):
            kind = type(function).__name__
            raise TypeError(f"{owner}: {name} must be a function of params that returns numbers, got {kind}")
    if all(function is None for function in given.values()):
        needs = "inequality" if one else " or ".join(given)
        raise ValueError(f"{owner} needs {needs}, a function of params")


def transformation_inside(owner: str, inner: object) -> optax.GradientTransformation:
    """The inner method, or an error that says what was given instead.

    Raises:
      TypeError: if it is no transformation.
    """
    if not isinstance(inner, optax.GradientTransformation) and not hasattr(inner, "gradient_transformation"):
        kind = getattr(inner, "__name__", type(inner).__name__)
        raise TypeError(
            f"{owner}: inner must be a transformation such as gdjax.trust_region(), got {kind}; constraints go by "
            f"name: {owner}(inequality=lambda x: x - 1)"
        )
    return checks.transformation(inner)


def not_nested(owner: str, state: State) -> None:
    """Raises where an inner method's state holds that of a method for constraints, in a chain or a wrapper too.

    Raises:
      ValueError: if it does.
    """
    if any(map(_is_merit_state, jax.tree.leaves(state, is_leaf=_is_merit_state))):
        raise ValueError(
            f"{owner}: inner is a method for constraints itself, and two would move their penalties against each "
            "other; give all constraints to one, such as augmented_lagrangian(equality=..., inequality=...)"
        )


def _is_merit_state(node: Any) -> bool:
    return isinstance(node, MeritState)
