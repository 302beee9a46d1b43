"""What a trust region does where a local model does not get ahead: it walks on, and asks a secant matrix.

A local model sees the finest structure of an objective and no more, and on a rough slope its radius stays as
small as that; and where curvature is below the noise level, each step falls as short as the one before. So where ten
trials were accepted and the radius is in the way, or the next step predicts about as much as these have gained,
one trial walks the way of these ten again, and further each time that this succeeds.

Second derivatives of an objective that oscillates speak of the next wave and not of the slope. Where most of forty
trials in a row were rejected or ended at the radius, a secant matrix (`gdjax.linalg.secant.bfgs`), which sees what
steps see, stands in for them; it stays if it then gains as much in eighty as they did in twenty, or would in the
radius that they had left: beside a kink that collapses, and the matrix learns to go along.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import trees
from gdjax.linalg.secant import bfgs
from gdjax.linalg.subproblems import Move
from gdjax.optimizers.blocks import acceptance
from gdjax.optimizers.blocks.acceptance import Acceptance
from gdjax.types import Scalar

__all__ = ["Pattern", "learn", "look_at", "next_radius", "start_pattern", "start_spell", "tried", "walk_on"]

_WALK = 10
"""Accepted steps in a row before their way is walked again."""
_STRIDE = 4.0
"""How much further a walk goes than the one before that was accepted; and as much less where one was rejected."""
_STEADY = 0.25
"""The share of their mean gain that the next step must predict for the last steps to have gone a steady pace."""


_SPELL = 40
"""Trials after which a model is looked at: most problems are solved in fewer."""
_HINDERED = 0.75
"""The share of trials rejected or ended by the radius that makes second derivatives a bad guide."""
_REGAIN = 10.0
"""How much further than a step that the secant matrix has made the next may go: a line search begins anew at each."""
_STEPS = 4.0
"""How many steps like its last a model is thought to have left at least: as many as a radius that is halved by each."""
_WORTH = 1e-3
"""The gain, in units of the value, with which a slope is still gone down: oscillations leave 0.1, kinks 1e-5."""


class Pattern(NamedTuple):
    """Where the last accepted steps led.

    Attributes:
      origin: where they began, flat.
      value: the objective there.
      count: how many they are.
      reach: how far their way is walked again, as a multiple of it.
      trial: whether the pending trial does so.
    """

    origin: jax.Array
    value: Scalar
    count: Scalar
    reach: Scalar
    trial: Scalar


def start_pattern(x: jax.Array, unknown: Scalar) -> Pattern:
    """No steps yet, from a point whose value is not known."""
    return Pattern(x, unknown, jnp.int32(0), jnp.ones((), x.dtype), jnp.asarray(False))


def start_spell(unknown: Scalar) -> jax.Array:
    """No trials yet; see `look_at`."""
    zero = jnp.zeros_like(unknown)
    return jnp.stack([zero, zero, zero, unknown, unknown])


def tried(pattern: Pattern, tested: Acceptance, x: jax.Array, value: Scalar) -> Pattern:
    """The pattern after a trial: it begins anew with data, where it was followed, and where it is long past."""
    anew = tested.fresh | (pattern.trial & tested.accept) | (pattern.count >= 2 * _WALK)
    reach = jnp.where(tested.accept, _STRIDE * pattern.reach, jnp.maximum(pattern.reach / _STRIDE, 1))
    return Pattern(
        jnp.where(anew, x, pattern.origin),
        jnp.where(anew, value, pattern.value),
        jnp.where(anew, 0, pattern.count + tested.accept),
        jnp.where(pattern.trial, reach, pattern.reach),
        jnp.asarray(False),
    )


def walk_on(
    pattern: Pattern, move: Move, origin: jax.Array, value: Scalar, far: Scalar
) -> tuple[Move, Pattern]:
    """The way of the last steps again, where they gained by small and equal steps: it has to gain as one of them."""
    step = pattern.reach * (origin - pattern.origin)
    gain = ((pattern.value - value) / jnp.maximum(pattern.count, 1)).astype(step.dtype)
    steady = -(move.slope + 0.5 * move.curvature_along) >= _STEADY * gain
    go = (pattern.count >= _WALK) & (steady | far) & (gain > 0)
    go &= jnp.all(jnp.isfinite(origin + step))
    again = Move(step, -gain / acceptance.ACCEPT, jnp.zeros_like(gain), move.scale)
    started = Pattern(origin, value, jnp.zeros_like(pattern.count), pattern.reach, go)
    return trees.choose(go, again, move), trees.choose(go, started, pattern)


def look_at(
    spell: jax.Array, tested: Acceptance, value: Scalar, radius: Scalar, slope: Scalar
) -> tuple[jax.Array, Scalar]:
    """The spell after a trial, and whether the model changes with it; new data start anew.

    A spell holds whether the secant matrix is in use, the trials since the model was looked at, how many of them were
    hindered, the objective at their beginning (with second derivatives at their middle, since the first steps gain
    most with any model), and what second derivatives had gained when the matrix took over. It is one vector, since
    each array of a state is a program of its own to the compiler.
    """
    learned, count, hindered, begun, asked = spell
    hindered, count = hindered + (~tested.accept | (tested.length >= 0.9 * radius)), count + 1
    over, gain = count >= _SPELL, begun - value
    # Where next to nothing is gained, as at a kink, no other model is asked: the radius may collapse, and say so.
    misled = (hindered >= _HINDERED * count) & (gain >= _WORTH * jnp.abs(value))
    change = over & jnp.where(learned > 0, ~(gain >= asked), misled) & ~tested.fresh
    begin = over | tested.fresh
    early = begin | ((learned == 0) & (2 * count <= _SPELL))
    # Where the matrix was worse, second derivatives have four times as long.
    restart = jnp.where(change, jnp.where(learned > 0, -3.0, -1.0) * _SPELL, 0)
    new = [
        jnp.where(tested.fresh, 0, jnp.where(change, 1 - learned, learned)),
        jnp.where(begin, restart, count),
        jnp.where(begin, 0, hindered),
        jnp.where(early, value, begun),
        # What it has to gain is asked of the matrix once. Where the radius collapses, as beside a kink, what second
        # derivatives have gained they would not gain again.
        jnp.where(over, jnp.where(change, jnp.minimum(gain, -_STEPS * slope), -jnp.inf), asked),
    ]
    return jnp.stack(new).astype(spell.dtype), change


def next_radius(radius: Scalar, tested: Acceptance, spell: jax.Array | tuple[()]) -> Scalar:
    """The radius after a trial; while the secant matrix stands in, every step that is accepted opens it again.

    A kink makes any model predict badly, and a radius that has shrunk there would not grow again. The matrix learns
    from rejected trials how steep it is across the kink, and goes along it where it is let.
    """
    after = acceptance.next_radius(radius, tested)
    if isinstance(spell, tuple):
        return after
    return jnp.where((spell[0] > 0) & tested.accept, jnp.maximum(after, _REGAIN * tested.length), after)


def learn(
    matrix: jax.Array,
    pair: tuple[jax.Array, jax.Array],
    useful: Scalar,
    slope: Scalar,
    spell: jax.Array,
    change: Scalar,
) -> jax.Array:
    """The secant matrix that stands by for second derivatives, from a multiple of one where it takes over."""
    s, y = pair
    # Scaled once more by the first pair that it has seen by itself: Nocedal and Wright (6.20).
    second = (spell[0] > 0) & (spell[1] == 1 - _SPELL)
    curved = jnp.dot(s, y)
    scale = jnp.where(change, slope, jnp.dot(y, y) / curved)
    anew = change | (second & (curved > 0))
    start = jnp.where(anew & jnp.isfinite(scale), scale * jnp.eye(s.size, dtype=s.dtype), matrix)
    return jnp.where(useful & ~change, bfgs.update(start, s, y), start)
