r"""Momentum for accelerated methods, and when to forget it.

A momentum is a function :math:`(\theta_k, t_k) \to (\beta_k, \theta_{k+1})` of what it remembers and of the step
length, from :math:`\theta = 1` after a restart; a restart is a function of what was `Seen`.

Reference:
  Beck, Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems, SIAM J. Imaging
  Sci. 2, 2009; O'Donoghue, Candès, Adaptive restart for accelerated gradient schemes, Found. Comput. Math. 15, 2015.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.types import Scalar, ScalarLike

__all__ = ["Seen", "by_gradient", "by_value", "constant", "fista", "never", "plain", "strongly_convex"]


def plain(theta: Scalar, rate: Scalar) -> tuple[Scalar, Scalar]:
    r"""No momentum, :math:`\beta_k = 0`: ISTA.

    Reference:
      Beck, Teboulle, A fast iterative shrinkage-thresholding algorithm, SIAM J. Imaging Sci. 2, 2009, section 3.
    """
    del rate
    return jnp.zeros_like(theta), theta


def fista(theta: Scalar, rate: Scalar) -> tuple[Scalar, Scalar]:
    r"""Nesterov's momentum as in FISTA: :math:`\theta_{k+1} = \tfrac12 (1 + \sqrt{1 + 4 \theta_k^2})`,
    :math:`\beta_k = (\theta_k - 1) / \theta_{k+1}`.

    Reference:
      Beck, Teboulle (2009), equations (4.2) and (4.3).

    Example:
      >>> from gdjax.optimizers.nonsmooth.momentum import fista
      >>> beta, theta = fista(jnp.float32(1.0), None)
      >>> float(beta), round(float(theta), 3)
      (0.0, 1.618)
    """
    del rate
    after = 0.5 * (1 + jnp.sqrt(1 + 4 * theta * theta))
    return (theta - 1) / after, after


def _constant(beta, theta, rate):
    del rate
    return jnp.asarray(beta, theta.dtype), theta


def constant(beta: ScalarLike) -> Callable[[Scalar, Scalar], tuple[Scalar, Scalar]]:
    r"""The same momentum at every step.

    Args:
      beta: :math:`\beta` in [0, 1).

    Reference:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, constant step scheme III (2.2.11).
    """
    checks.concrete("constant", low=0, below=1, beta=beta)
    return Partial(_constant, beta)


def _strongly_convex(modulus, theta, rate):
    root = jnp.sqrt(jnp.minimum(modulus * rate, 1)).astype(theta.dtype)
    return (1 - root) / (1 + root), theta


def strongly_convex(modulus: ScalarLike) -> Callable[[Scalar, Scalar], tuple[Scalar, Scalar]]:
    r"""The momentum of a strongly convex :math:`f`: :math:`\beta = (1 - \sqrt{\mu t}) / (1 + \sqrt{\mu t})`.

    Args:
      modulus: :math:`\mu > 0`, the least curvature of :math:`f`.

    Reference:
      Nesterov (2004), (2.2.11), with :math:`L = 1 / t`.
    """
    checks.concrete("strongly_convex", above=0, modulus=modulus)
    return Partial(_strongly_convex, modulus)


class Seen(NamedTuple):
    r"""What a restart looks at.

    Attributes:
      before: :math:`F(x_k)`.
      after: :math:`F(x_{k+1})`.
      along: :math:`(y_k - x_{k+1})^T (x_{k+1} - x_k)`.
    """

    before: Scalar
    after: Scalar
    along: Scalar


def never(seen: Seen) -> Scalar:
    """Keeps the momentum, as published in FISTA.

    Reference:
      Beck, Teboulle (2009), section 4.
    """
    return jnp.zeros_like(seen.along, bool)


def by_value(seen: Seen) -> Scalar:
    r"""Forgets the momentum where the value rose, :math:`F(x_{k+1}) > F(x_k)`.

    Reference:
      O'Donoghue, Candès, Adaptive restart for accelerated gradient schemes, Found. Comput. Math. 15, 2015,
      section 3.2, function scheme.
    """
    return seen.after > seen.before


def by_gradient(seen: Seen) -> Scalar:
    r"""Forgets the momentum where it points uphill, :math:`(y_k - x_{k+1})^T (x_{k+1} - x_k) > 0`.

    Works down to rounding, where values can no longer be compared.

    Reference:
      O'Donoghue, Candès (2015), section 3.2, gradient scheme, and section 5.2 for proximal steps.
    """
    return seen.along > 0
