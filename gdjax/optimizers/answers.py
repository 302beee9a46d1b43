r"""What an optimizer's state says of where the run stands: its `Answer`, and the `Optimality` beside it.

Both are found by their names, so that chains and wrappers keep them. A method that holds a part of the params
(`gdjax.masked`, `gdjax.partition`), or all of them as one vector (``optax.flatten``), has its answer and its
conditions for these. Where such methods know what holds at their answers, these are put together:

- the answer is the last evaluated point that is the answer of every part, its value
  :math:`f(x) + \sum_i r_i(x_i)`, its residual the 2-norm of theirs and of the gradient of all other params;
- what holds there is what holds for every part with the others where they are, and that the gradient in all other
  params is zero. Where these do not settle, because they are frozen or their method has not converged, the
  derivatives are NaN.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gdjax._internal import trees
from gdjax.optimizers import partition
from gdjax.types import Answer, Optimality, Params, PyTree, Scalar, State, Status, ValueFn

__all__ = [
    "Conditions",
    "conditions",
    "held",
    "held_back",
    "keeps",
    "penalty",
    "seen",
    "start",
    "with_held",
]

_WORSE = (Status.NONFINITE, Status.UNBOUNDED, Status.INFEASIBLE)
"""What one part says for all."""


class Conditions(NamedTuple):
    """What holds at an answer.

    Attributes:
      unknowns: the params, then multipliers.
      equations: of the unknowns, zero at the answer.
      value: of the params, what is minimized in all.
    """

    unknowns: tuple[PyTree, ...]
    equations: Callable[[tuple[PyTree, ...]], PyTree]
    value: ValueFn


def _is_optimality(node: Any) -> bool:
    return isinstance(node, Optimality)


def held(state: State) -> bool:
    """Whether an optimizer's state says what holds at its answers."""
    return any(_is_optimality(node) for node in jax.tree.leaves(state, is_leaf=_is_optimality))


def held_back(state: State) -> State:
    """An optimizer's state without the settings that its `Optimality` holds, which never change."""

    def one(node):
        return Optimality() if _is_optimality(node) else node

    return jax.tree.map(one, state, is_leaf=_is_optimality)


def with_held(state: State, first: State) -> State:
    """Undoes `held_back`.

    Args:
      state: what has been held back from.
      first: what ``init`` returned.
    """

    def one(before, node):
        return before if _is_optimality(before) else node

    return jax.tree.map(one, first, state, is_leaf=_is_optimality)


class _Part(NamedTuple):
    """A method that holds some of the params, or all of them as one vector.

    Attributes:
      answer: for these.
      optimality: what holds there, if the method says so.
      home: the method's state, which holds both.
      owns: which leaves of the params are the method's.
      take: these from all params.
      put: them back among all params.
    """

    answer: Answer
    optimality: Optimality | None
    home: State
    owns: list[bool]
    take: Callable[[Params], Params]
    put: Callable[[Params, Params], Params]


def _masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _part(home: State, params: Params) -> _Part | None:
    """The method whose home this is, if it holds some of these params."""
    answer = trees.field(home, "answer", Answer)
    assert answer is not None
    known, kept = (answer, trees.field(home, "optimality", Optimality), home), answer.params
    none = jax.tree.map(lambda leaf: False, params)
    if not any(_masked(node) for node in jax.tree.leaves(kept, is_leaf=_masked)):
        flat, back = ravel_pytree(params)
        if not trees.alike(kept, flat):
            return None
        all_of_them = [True] * len(jax.tree.leaves(none))
        return _Part(*known, all_of_them, lambda p: ravel_pytree(p)[0], lambda part, whole: back(part))

    def take(whole):
        return jax.tree.map(lambda mine, w: mine if _masked(mine) else w, kept, whole, is_leaf=_masked)

    try:
        fits = trees.alike(take(params), kept)
    except ValueError:  # another structure
        return None
    owns = jax.tree.leaves(partition.filled(jax.tree.map(lambda leaf: True, kept), none))
    return _Part(*known, owns, take, partition.filled) if fits else None


def _parts(state: State, params: Params) -> list[_Part]:
    """The methods that hold parts of the params, if one of them says what holds at its answers."""
    if not held(state) or trees.home_of(state, params) is not None:
        return []
    found = [_part(home, params) for home in trees.homes(state, lambda kept: True)]
    known = [part for part in found if part is not None]
    if any(sum(owners) > 1 for owners in zip(*(part.owns for part in known), strict=True)):
        raise ValueError("the optimizer keeps several answers for the same params: its parts overlap")
    return known if any(part.optimality is not None for part in known) else []


def _others(known: list[_Part], tree: Params) -> list[jax.Array]:
    """The leaves that no part holds."""
    owned = [any(owners) for owners in zip(*(part.owns for part in known), strict=True)]
    return [leaf for leaf, own in zip(jax.tree.leaves(tree), owned, strict=True) if not own]


def _waits(state: State) -> bool:
    """Whether a wrapper lets some evaluations pass before its method sees the first: `optax.MultiSteps`."""

    def waits(node):
        return isinstance(node, optax.MultiStepsState)

    return any(waits(node) for node in jax.tree.leaves(state, is_leaf=waits))


def _given(params: Params, value: Scalar, grad: Params, like: Answer) -> Answer:
    """The point that was evaluated as the answer of a method that has seen none."""
    return trees.keep_types(Answer(params, value, trees.norm(grad), jnp.int8(Status.RUNNING)), like)


def keeps(state: State, params: Params) -> bool:
    """Whether there is an answer besides the point that is evaluated."""
    return trees.home_of(state, params) is not None or bool(_parts(state, params))


def start(state: State, params: Params) -> Params:
    """Where a method starts from these params: inside its bounds."""
    own = trees.own_answer(state, params)
    if own is not None:
        return trees.keep_types(own.params, params)
    for part in _parts(state, params):
        params = trees.keep_types(part.put(part.answer.params, params), params)
    return params


def seen(state: State, params: Params, value: Scalar, grad: Params, before: Answer) -> Answer | None:
    """The answer after an update; None where it is the point that was evaluated.

    Args:
      state: the optimizer's, after the update.
      params: the point that was evaluated.
      value: the objective there.
      grad: its gradient there.
      before: the answer before the update.
    """
    own = trees.own_answer(state, params)
    if own is not None:
        return (
            trees.choose(own.value < jnp.inf, own, _given(params, value, grad, own)) if _waits(state) else own
        )
    known = _parts(state, params)
    if not known:
        return None
    others = _others(known, grad)
    finite = trees.all_finite(others) if others else jnp.asarray(True)
    agree, total, squares = finite, value, jnp.square(trees.norm(others)) if others else 0
    hard, done = jnp.int8(Status.RUNNING), jnp.asarray(not others)
    for part in known:
        here, mine = part.take(params), part.answer
        agree &= trees.all_equal(trees.keep_types(mine.params, here), here)
        total = mine.value if len(known) == 1 else total + (mine.value - value)
        squares = squares + jnp.square(mine.residual)
        status = jnp.asarray(mine.status, jnp.int8)
        hard = jnp.where(jnp.any(status == jnp.asarray(_WORSE, jnp.int8)), status, hard)
        done &= status != Status.RUNNING
    status = jnp.where(done, jnp.asarray(known[0].answer.status, jnp.int8), Status.RUNNING)
    status = jnp.where(hard != Status.RUNNING, hard, status)
    status = jnp.where(finite, status, Status.NONFINITE).astype(jnp.int8)
    new = trees.keep_types(Answer(params, total, jnp.sqrt(squares), status), before._replace(status=status))
    return trees.choose(agree, new, before._replace(status=status))


def penalty(state: State, params: Params) -> Scalar | None:
    """What an optimizer minimizes besides the objective, at its answer; None: nothing.

    Args:
      state: the optimizer's, with all that it holds.
      params: the answer's.
    """
    home = trees.home_of(state, params)
    if home is not None:
        optimality = trees.field(home, "optimality", Optimality)
        found = [(optimality, params, home)]
    else:
        found = [(part.optimality, part.take(params), part.home) for part in _parts(state, params)]
    values = [
        o.penalty(o.settings, p, home) for o, p, home in found if o is not None and o.penalty is not None
    ]
    return sum(values[1:], values[0]) if values else None


def _value(value_fn: ValueFn, state: State, params: Params) -> Scalar:
    extra, value = penalty(state, params), value_fn(params)
    return value if extra is None else value + extra


def conditions(value_fn: ValueFn, params: Params, state: State) -> Conditions | None:
    """What holds at an answer; None where it is a gradient of zero.

    Args:
      value_fn: the objective.
      params: the answer's.
      state: the optimizer's, with all that it holds.
    """
    home = trees.home_of(state, params)
    value = partial(_value, value_fn, state)
    if home is None:
        known = _parts(state, params)
        return Conditions(*_joint(value_fn, params, known), value) if known else None
    optimality = trees.field(home, "optimality", Optimality)
    if optimality is None or optimality.conditions is None:
        return None
    unknowns, conditions = optimality.conditions(optimality.settings, value_fn, params, home)
    return Conditions(unknowns, conditions, value)


def _joint(value_fn: ValueFn, params: Params, known: list[_Part]) -> tuple[tuple[PyTree, ...], Callable]:
    """The conditions of all parts, each with the others where they are, and of all other params."""

    def of(part, whole):
        def mine(some):
            return value_fn(part.put(some, whole))

        holds = part.optimality
        if holds is not None and holds.conditions is not None:
            return holds.conditions(holds.settings, mine, part.take(params), part.home)
        return (part.take(params),), lambda unknowns: (jax.grad(mine)(unknowns[0]),)

    multipliers = tuple(of(part, params)[0][1:] for part in known)

    def equations(unknowns):
        whole, *theirs = unknowns
        met = [of(part, whole)[1]((part.take(whole), *own)) for part, own in zip(known, theirs, strict=True)]
        return met, _others(known, jax.grad(value_fn)(whole))

    return (params, *multipliers), equations
