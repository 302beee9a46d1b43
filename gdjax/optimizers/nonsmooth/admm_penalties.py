r"""How ADMM's penalty :math:`\rho` changes: ``(count, primal, dual, rho) -> rho`` of the relative residuals."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.tree_util import Partial

from gdjax._internal import checks
from gdjax.types import Scalar, ScalarLike

__all__ = ["balanced", "fixed"]


def fixed(count: Scalar, primal: Scalar, dual: Scalar, rho: Scalar) -> Scalar:
    """Leaves the penalty as it is.

    Reference:
      Boyd et al. (2011), section 3.1.
    """
    del count, primal, dual
    return rho


def _balanced(ratio, factor, until, count, primal, dual, rho):
    new = jnp.where(primal > ratio * dual, factor * rho, jnp.where(dual > ratio * primal, rho / factor, rho))
    return jnp.where((count < until) & (count % 5 == 0), new, rho)


def balanced(
    ratio: ScalarLike = 5.0, *, factor: ScalarLike = 2.0, until: ScalarLike = 100
) -> Callable[..., Scalar]:
    r"""Raises :math:`\rho` where the primal residual lags, lowers it where the dual one does, every fifth update.

    Args:
      ratio: how much larger one relative residual must be than the other, above 1.
      factor: by what :math:`\rho` changes, above 1.
      until: the updates after which it stays, so that the method converges.

    Reference:
      He, Yang, Wang, Alternating direction method with self-adaptive penalty parameters, J. Optim. Theory
      Appl. 106, 2000; with relative residuals, Wohlberg, ADMM penalty parameter selection by residual
      balancing, 2017.
    """
    checks.concrete("balanced", above=1, ratio=ratio, factor=factor)
    checks.concrete("balanced", low=0, until=until)
    return Partial(_balanced, ratio, factor, until)
