r"""The trust-region step from products alone, after Steihaug and Toint."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow, trees
from gdjax._internal.trees import choose
from gdjax.linalg.vectors import add, norm, ratio, times, unit, vdot
from gdjax.types import MatVec, Params, Scalar, ScalarLike

__all__ = ["TrustStep", "truncated_cg"]


class TrustStep(NamedTuple):
    """What `truncated_cg` found.

    Attributes:
      step: a pytree as the gradient.
      decrease: what the quadratic model falls by, at least 0.
      on_boundary: whether the step ends on the boundary of the region.
      negative: whether a direction without positive curvature led there.
      scale: the largest curvature met, :math:`|d^T B d| / d^T d`.
      steps: products taken, int32.
    """

    step: Params
    decrease: Scalar
    on_boundary: Scalar
    negative: Scalar
    scale: Scalar
    steps: Scalar


class _Path(NamedTuple):
    step: Params
    slope: Params
    direction: Params
    square: Scalar
    decrease: Scalar
    on_boundary: Scalar
    negative: Scalar
    scale: Scalar
    steps: Scalar
    finished: Scalar


def _to_boundary(step: Params, direction: Params, radius: Scalar) -> Scalar:
    r"""The positive :math:`\tau` with :math:`\|z + \tau d\| = \Delta`; 0 where the radius is infinite."""
    length = norm(direction)
    along = ratio(vdot(step, times(ratio(jnp.ones_like(length), length), direction)), radius)
    room = jnp.maximum(1 - jnp.square(norm(step) / radius), 0)
    root = jnp.sqrt(jnp.square(along) + room)
    share = jnp.where(along > 0, ratio(room, along + root), root - along)
    return jnp.where(jnp.isfinite(radius), ratio(share * radius, length), 0)


def _start(gradient: Params, size: Scalar) -> _Path:
    """The path at zero, downhill."""
    no = jnp.asarray(False)
    return _Path(
        step=jax.tree.map(jnp.zeros_like, gradient),
        slope=gradient,
        direction=times(jnp.asarray(-1.0, size.dtype), gradient),
        square=vdot(gradient, gradient),
        decrease=jnp.zeros_like(size),
        on_boundary=no,
        negative=no,
        scale=jnp.zeros_like(size),
        steps=jnp.int32(0),
        finished=~(size > 0),
    )


def truncated_cg(
    product: MatVec,
    gradient: Params,
    radius: ScalarLike,
    *,
    tolerance: ScalarLike = 1e-5,
    max_steps: int | Scalar | None = None,
) -> TrustStep:
    r"""The trust-region step by truncated conjugate gradients.

    Follows conjugate gradients on :math:`m(z) = g^T z + \tfrac12 z^T B z` from :math:`z = 0`, and goes
    straight to the boundary :math:`\|z\| = \Delta` where an iterate would leave the region or a direction has
    :math:`d^T B d \le 0` to rounding. The decrease is at least the Cauchy point's.

    Args:
      product: ``v -> B v``.
      gradient: :math:`g`, a pytree of floating arrays.
      radius: :math:`\Delta > 0`; infinite means truncated Newton, which stops at negative curvature.
      tolerance: stops at :math:`\|g + B z\| \le \tau \|g\|`; a function of the gradient makes it a
        forcing sequence.
      max_steps: the most products; the number of unknowns by default.

    Reference:
      Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer.
      Anal. 20(3), 1983; Nocedal, Wright, Numerical Optimization, 2nd ed., Algorithm 7.2.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import linalg
      >>> found = linalg.truncated_cg(lambda v: 2.0 * v, jnp.array([-4.0, 0.0]), 1.0)
      >>> found.step.tolist(), float(found.decrease), bool(found.on_boundary)
      ([1.0, 0.0], 3.0, True)
    """
    gradient, size = unit(gradient)
    most = trees.size(gradient) if max_steps is None else max_steps
    start_norm = norm(gradient)
    goal = tolerance * start_norm
    radius = jnp.asarray(radius, start_norm.dtype)
    scaled = jnp.minimum(radius / size, jnp.finfo(start_norm.dtype).max)
    region = jnp.where(jnp.isfinite(radius), scaled, radius)
    eps = jnp.finfo(start_norm.dtype).eps

    def unfinished(state):
        return (state.steps < most) & (jnp.sqrt(state.square) > goal) & ~state.finished

    def iterate(state):
        image = product(state.direction)
        curvature_along, square = vdot(state.direction, image), vdot(state.direction, state.direction)
        known = jnp.isfinite(curvature_along)
        scale = jnp.maximum(state.scale, jnp.where(known, ratio(jnp.abs(curvature_along), square), 0))
        negative = known & (curvature_along <= eps * scale * square)
        length = jnp.where(negative, jnp.inf, ratio(state.square, curvature_along))
        inside = norm(add(state.step, length, state.direction)) < region
        leaves = known & ~inside
        length = jnp.where(leaves, _to_boundary(state.step, state.direction, region), length)
        length = jnp.where(known & jnp.isfinite(length), length, 0)
        slope = choose(known, add(state.slope, length, image), state.slope)
        square = vdot(slope, slope)
        downhill = times(jnp.asarray(-1.0, square.dtype), slope)
        gain = length * (state.square - 0.5 * length * jnp.where(known, curvature_along, 0))
        return _Path(
            step=add(state.step, length, state.direction),
            slope=slope,
            direction=add(downhill, ratio(square, state.square), state.direction),
            square=square,
            decrease=state.decrease + gain,
            on_boundary=leaves & jnp.isfinite(region),
            negative=negative,
            scale=scale,
            steps=state.steps + 1,
            finished=leaves | ~known,
        )

    end = control_flow.while_loop(unfinished, iterate, _start(gradient, start_norm))
    return TrustStep(
        times(size, end.step),
        size * (size * end.decrease),
        end.on_boundary,
        end.negative,
        end.scale,
        end.steps,
    )
