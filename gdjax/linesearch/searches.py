r"""Line searches without a loop: each call judges one trial and names the next.

Along a direction :math:`p` from a point :math:`x`, with :math:`\phi(a) = f(x + a p)`, a search is told
:math:`\phi(0)` and :math:`\phi'(0)` at its start, then one trial :math:`(a, \phi(a), \phi'(a))` a call. It keeps a
bracket in its state and answers: accept, try another step, or give up. A trial that is NaN or infinite
counts as too long. Where changes in value are below ``noise``, the rounding of values, slopes decide
instead, as in Hager and Zhang's approximate Wolfe conditions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import arguments, checks
from gdjax._internal.trees import choose, power_of_two
from gdjax.types import Scalar, ScalarLike

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "GIVE_UP",
    "Bracket",
    "Point",
    "Search",
    "backtracking",
    "chosen",
    "hager_zhang",
    "strong_wolfe",
    "weak_wolfe",
]

CONTINUE, ACCEPT, GIVE_UP = 0, 1, 2
"""What a search decides about a trial."""

_MOST_TRIALS = 30
"""Trials before a search gives up: a bracket that is halved so often has shrunk to 1e-9 of its length."""
_SETTLED = 1000
"""What `Bracket.trials` shows while the best trial is given once more, to be accepted: more than there can be."""
_GROWTH = 10
"""The longest next trial, in units of the one before, while every trial falls: three reach 1e3 times the first."""


class Point(NamedTuple):
    r"""A step :math:`a` along the direction, :math:`\phi(a)` and :math:`\phi'(a)`."""

    step: Scalar
    value: Scalar
    slope: Scalar


class Bracket(NamedTuple):
    """What a search knows.

    Attributes:
      origin: the point at step zero.
      low: the lowest point that gains enough.
      high: the other end; at an infinite step while there is none.
      step: the next trial.
      trials: trials judged so far; above a thousand when the next trial is `low` again, to be accepted as the
        best to be had.
    """

    origin: Point
    low: Point
    high: Point
    step: Scalar
    trials: Scalar


class Search(NamedTuple):
    """A pure pair.

    Attributes:
      init: ``(value, slope, step) -> Bracket``, from the origin and the first trial step.
      update: ``(bracket, trial, noise, longest) -> (decision, bracket)`` with a trial point, the rounding
        of values, and the longest step allowed.
    """

    init: Callable[[Scalar, Scalar, Scalar], Bracket]
    update: Callable[[Bracket, Point, Scalar, Scalar], tuple[Scalar, Bracket]]


def chosen(owner: str, search: object, default: Callable[[], Search]) -> Search:
    """The search that was given, or the default for None.

    Raises:
      TypeError: if what was given is no search.

    Example:
      >>> from gdjax.linesearch import backtracking, chosen
      >>> type(chosen("bfgs", None, backtracking)).__name__
      'Search'
    """
    if search is not None and not isinstance(search, Search):
        raise TypeError(
            f"{owner}: search must be a Search of gdjax.linesearch, such as strong_wolfe(), "
            f"got {arguments.named(search)}"
        )
    return default() if search is None else search


def _start(value, slope, step):
    zero, infinite = jnp.zeros_like(value), jnp.full_like(value, jnp.inf)
    origin = Point(zero, value, slope)
    return Bracket(origin, origin, Point(infinite, infinite, zero), step, jnp.int32(0))


def _decide(accept, give_up):
    return jnp.where(accept, ACCEPT, jnp.where(give_up, GIVE_UP, CONTINUE)).astype(jnp.int32)


def _cubic(a, b):
    """The minimizer of the cubic through two points (Nocedal and Wright, equation 3.59); NaN where none is."""
    span = b.step - a.step
    d1 = a.slope + b.slope + 3 * (a.value - b.value) / span
    # In units of the largest, so that no square overflows, as Moré and Thuente (1994) do.
    most = power_of_two(jnp.maximum(jnp.abs(d1), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope))))
    d2 = most * jnp.sqrt(jnp.square(d1 / most) - (a.slope / most) * (b.slope / most))
    d2 = jnp.where(span > 0, d2, -d2)
    return b.step - span * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)


def _secant(a, b):
    """Where the slope vanishes, if it is linear."""
    return a.step - a.slope * (b.step - a.step) / (b.slope - a.slope)


def _by_cubic(before, low, high, trial, trials, noise):
    del before, trial, trials
    below_noise = jnp.abs(high.value - low.value) <= noise
    return jnp.where(below_noise, _secant(low, high), _cubic(low, high))


def _by_secants(before, low, high, trial, trials, noise):
    """Secant, second secant from the end that was replaced, bisection, in turn."""
    del noise
    middle = 0.5 * (low.step + high.step)
    second = _secant(before, trial)
    turn = trials % 3
    return jnp.where(turn == 0, _secant(low, high), jnp.where(turn == 1, second, middle))


def _bracket_update(rule, interpolate, constants, bracket, trial, noise, longest):
    """Zooms: one trial narrows the bracket or moves its open end (Nocedal and Wright, algorithms 3.5 and 3.6)."""
    origin, low, high = bracket.origin, bracket.low, bracket.high
    settled, open_before = bracket.trials >= _SETTLED, jnp.isinf(high.step)
    finite = jnp.isfinite(trial.value) & jnp.isfinite(trial.slope)
    trial = Point(trial.step, jnp.where(finite, trial.value, jnp.inf), jnp.where(finite, trial.slope, 0))
    gains, flat_enough = rule(constants, origin, trial, noise)
    shorter = ~gains | (trial.value > low.value + noise)
    turned = (trial.slope >= 0) == (high.step >= low.step)
    new_high = choose(shorter, trial, choose(turned, low, high))
    new_low = choose(shorter, low, trial)
    open_end = jnp.isinf(new_high.step)
    accept = gains & (flat_enough | (open_end & (trial.step >= 0.99 * longest)))
    accept |= settled & (trial.value <= origin.value + noise)

    ahead = _cubic(low, trial)
    ahead = jnp.where(ahead > trial.step, ahead, jnp.inf)
    ahead = jnp.minimum(jnp.clip(ahead, 2 * trial.step, _GROWTH * trial.step), longest)
    span = new_high.step - new_low.step
    before = choose(shorter & ~open_before, high, low)
    inside = (interpolate(before, new_low, new_high, trial, bracket.trials, noise) - new_low.step) / span
    inside = jnp.where(jnp.isfinite(inside) & (bracket.trials % 4 < 3), jnp.clip(inside, 0.1, 0.9), 0.5)
    inside = jnp.where(jnp.isfinite(new_high.value), inside, 0.2)
    step = jnp.where(open_end, ahead, new_low.step + span * inside)

    done = (bracket.trials >= _MOST_TRIALS) | (jnp.abs(span) <= 4 * jnp.finfo(span.dtype).eps * new_low.step)
    settle = done & (new_low.step > 0) & ~settled
    decision = _decide(accept, done & ~settle)
    step = jnp.where(settle, new_low.step, step)
    trials = jnp.where(settle, _SETTLED, bracket.trials + 1).astype(jnp.int32)
    return decision, Bracket(origin, new_low, new_high, step, trials)


def _gains(c1, origin, trial, noise):
    """The Armijo condition, or where values are below the noise level its form in slopes."""
    by_value = trial.value <= origin.value + c1 * trial.step * origin.slope
    by_slope = trial.slope <= (2 * c1 - 1) * origin.slope
    below_noise = jnp.abs(trial.value - origin.value) <= noise
    return jnp.isfinite(trial.value) & jnp.where(below_noise, by_slope, by_value)


def _strong_rule(constants, origin, trial, noise):
    c1, c2 = constants
    return _gains(c1, origin, trial, noise), jnp.abs(trial.slope) <= -c2 * origin.slope


def _weak_rule(constants, origin, trial, noise):
    c1, c2 = constants
    return _gains(c1, origin, trial, noise), trial.slope >= c2 * origin.slope


def strong_wolfe(c1: ScalarLike = 1e-4, c2: ScalarLike = 0.9) -> Search:
    r"""The strong Wolfe conditions by zooming with cubic interpolation.

    .. math:: \phi(a) \le \phi(0) + c_1 a \phi'(0), \qquad |\phi'(a)| \le c_2 |\phi'(0)|

    Where nothing bounds the step yet, trials grow up to tenfold; inside a bracket they keep a tenth of it from its
    ends, and every fourth halves it. After thirty trials the lowest point found is taken.

    Args:
      c1: the least share of the predicted decrease, in (0, c2).
      c2: the largest slope left, in (c1, 1): 0.9 for quasi-Newton directions, 0.1 for conjugate gradients, next to
        0 for an exact search.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 3.7 and algorithms 3.5, 3.6.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> exact = gdjax.linesearch.strong_wolfe(c2=1e-3)
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**4), jnp.ones(3), gdjax.bfgs(exact))
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.concrete("strong_wolfe", above=0, below=1, c1=c1, c2=c2)
    rule, interpolate = Partial(_strong_rule), Partial(_by_cubic)
    return Search(Partial(_start), Partial(_bracket_update, rule, interpolate, (c1, c2)))


def weak_wolfe(c1: ScalarLike = 1e-4, c2: ScalarLike = 0.9) -> Search:
    r"""The Wolfe conditions by zooming with cubic interpolation; as `strong_wolfe`, but steps may overshoot.

    .. math:: \phi(a) \le \phi(0) + c_1 a \phi'(0), \qquad \phi'(a) \ge c_2 \phi'(0)

    A trial beyond the minimizer is taken if it gains enough: all that the curvature condition of a quasi-Newton
    update asks for, with fewer evaluations.

    Args:
      c1: the least share of the predicted decrease, in (0, c2).
      c2: the steepest descent left, relative to that at the origin, in (c1, 1).

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., equation 3.6.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.bfgs(gdjax.linesearch.weak_wolfe(c2=0.5))
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**4), jnp.ones(3), method)
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.concrete("weak_wolfe", above=0, below=1, c1=c1, c2=c2)
    rule, interpolate = Partial(_weak_rule), Partial(_by_cubic)
    return Search(Partial(_start), Partial(_bracket_update, rule, interpolate, (c1, c2)))


def hager_zhang(c1: ScalarLike = 0.1, c2: ScalarLike = 0.9) -> Search:
    r"""The Wolfe conditions, or where values are below the noise level the approximate ones, by secant steps.

    .. math:: \phi(a) \le \phi(0) + c_1 a \phi'(0), \; \phi'(a) \ge c_2 \phi'(0) \quad\text{or}\quad
        (2 c_1 - 1)\, \phi'(0) \ge \phi'(a) \ge c_2 \phi'(0), \; \phi(a) \le \phi(0) + \epsilon_k

    The trials inside a bracket are Hager and Zhang's double secant step and bisection, one a call instead of
    all in one; :math:`\epsilon_k` is the rounding of the value and not a fixed 1e-6 of it, so that values
    never rise above rounding.

    Args:
      c1: :math:`\delta`, in (0, 0.5).
      c2: :math:`\sigma`, in [c1, 1).

    Reference:
      Hager, Zhang, A new conjugate gradient method with guaranteed descent and an efficient line search,
      SIAM J. Optim. 16, 2005, section 4.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> method = gdjax.nonlinear_cg(search=gdjax.linesearch.hager_zhang())
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**4), jnp.ones(3), method)
      >>> gdjax.Status(int(run.status)).name
      'CONVERGED'
    """
    checks.concrete("hager_zhang", above=0, below=1, c1=c1, c2=c2)
    rule, interpolate = Partial(_weak_rule), Partial(_by_secants)
    return Search(Partial(_start), Partial(_bracket_update, rule, interpolate, (c1, c2)))


def _backtracking_update(c1, bracket, trial, noise, longest):
    del longest
    origin, a = bracket.origin, trial.step
    accept = _gains(c1, origin, trial, noise) & jnp.isfinite(trial.slope)
    guess = a * (-0.5 * origin.slope * a / (trial.value - origin.value - a * origin.slope))
    step = jnp.clip(jnp.where(jnp.isfinite(guess), guess, 0), 0.1 * a, 0.5 * a)
    decision = _decide(accept, bracket.trials >= _MOST_TRIALS)
    return decision, bracket._replace(step=step, trials=bracket.trials + 1)


def backtracking(c1: ScalarLike = 1e-4) -> Search:
    r"""The Armijo condition by backtracking with safeguarded quadratic interpolation.

    .. math:: \phi(a) \le \phi(0) + c_1 a \phi'(0)

    A rejected step shrinks to the minimizer of the parabola through :math:`\phi(0), \phi'(0), \phi(a)`, kept within
    a tenth and a half of it. Choose it where a direction knows its length; it never lengthens a step.

    Args:
      c1: the least share of the predicted decrease, in (0, 1).

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 3.1 and equation 3.58; Dennis and Schnabel,
      Numerical Methods for Unconstrained Optimization, algorithm A6.3.1.

    Example:
      >>> import gdjax, jax.numpy as jnp, optax
      >>> method = gdjax.line_search(optax.sgd(1.0), gdjax.linesearch.backtracking(c1=0.1))
      >>> run = gdjax.minimize(lambda x: jnp.sum(x**4), jnp.ones(3), method)
      >>> bool(run.value < 1e-6)
      True
    """
    checks.concrete("backtracking", above=0, below=1, c1=c1)
    return Search(Partial(_start), Partial(_backtracking_update, c1))
