"""Any gradient transformation as the direction of a line search."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.trees import flat
from gdjax.linesearch.descent import descend
from gdjax.linesearch.directions import Direction
from gdjax.linesearch.lengths import carried_gain
from gdjax.linesearch.searches import Search, chosen, strong_wolfe
from gdjax.types import Scalar, Transformation

__all__ = ["line_search"]


def _ask_init(inner, params, x):
    del x
    memory = trees.strong(inner.init(params))
    if trees.own_answer(memory, params) is not None:
        raise ValueError(
            "line_search: the direction judges trial points itself, and two judges disagree; a method that searches "
            "takes the search as an argument: gdjax.bfgs(search), gdjax.newton(search)"
        )
    return memory


def _ask(inner, memory, move):
    """The inner update where the point was accepted; steepest descent where its own direction has just failed."""
    params, updates, value, extra = move.given

    def advance():
        asked, state = optax.with_extra_args_support(inner).update(
            updates, memory, params, value=value, **extra
        )
        return flat(asked)[0].astype(move.grad.dtype), trees.keep_types(state, memory)

    return control_flow.cond(move.accepted, advance, lambda: (jnp.zeros_like(move.grad), memory))


def line_search(
    direction: optax.GradientTransformation,
    search: Search | None = None,
    *,
    first_step: Callable[..., Scalar] = carried_gain,
) -> Transformation:
    r"""Searches along the update of any transformation: :math:`x_{k+1} = x_k + a_k u_k`.

    The inner ``update`` is called at accepted points only, so that moments, schedules and counts advance
    with accepted steps. Where its update is no descent direction, or nothing along it gains, the step goes down
    the gradient instead. One evaluation an update; rejected trials cost one each.

    Choose it for a direction whose length is in doubt: a Newton step far from the solution, a gradient step whose
    rate nobody tuned. A rate that is far too small costs the first search a few trials: `strong_wolfe` lengthens
    steps up to tenfold a trial, and `carried_gain` starts the later searches there. `backtracking` never lengthens.

    With mini-batches a step is judged on the batch it was proposed on, and the inner update sees the accepted point
    on both its old and its new batch.

    Args:
      direction: a gradient transformation of optax or gdjax that keeps no ``answer`` of its own.
      search: how far to go; `strong_wolfe` by default, which lengthens steps too.
      first_step: the first trial from the last step and slopes: `carried_gain`, or `unit_step` for
        directions that know their length, such as Newton's.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., chapter 3.

    Example:
      >>> import gdjax, jax.numpy as jnp, optax
      >>> f = lambda x: jnp.sum((x - 3) ** 2)
      >>> run = gdjax.minimize(f, jnp.zeros(2), gdjax.line_search(optax.sgd(2.0)))
      >>> bool(run.value < 1e-10)
      True
    """
    inner = trees.callables_as_trees(checks.transformation(direction))
    checks.function("line_search", "along, before, slope, gain", "such as unit_step", first_step=first_step)
    asked = Direction(Partial(_ask_init, inner), Partial(_ask, inner), Partial(first_step))
    return descend(asked, chosen("line_search", search, strong_wolfe))
