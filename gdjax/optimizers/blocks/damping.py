"""Damping that adapts to how well a quadratic model predicts the objective."""

from typing import NamedTuple

import jax.numpy as jnp

from gdjax._internal import checks
from gdjax.types import Scalar, ScalarLike

__all__ = ["Levenberg", "reduction_ratio", "sound_damping"]


class Levenberg(NamedTuple):
    r"""Damping that adapts to how well the model predicts the objective.

    After a step with ratio :math:`\rho` of the change in f to the model's, :math:`\lambda` is multiplied by
    ``raise_by`` if :math:`\rho < 1/4` and by ``lower_by`` if :math:`\rho > 3/4`.

    Attributes:
      initial: the first :math:`\lambda > 0`.
      raise_by: above 1.
      lower_by: in (0, 1).

    Reference:
      Martens, Deep learning via Hessian-free optimization, ICML 2010, section 4.1.
    """

    initial: ScalarLike = 1.0
    raise_by: ScalarLike = 1.5
    lower_by: ScalarLike = 2 / 3

    def after(self, level: Scalar, ratio: Scalar) -> Scalar:
        r"""The next :math:`\lambda` after a step with this ratio."""
        factor = jnp.where(ratio < 0.25, self.raise_by, jnp.where(ratio > 0.75, self.lower_by, 1))
        return (level * factor).astype(level.dtype)


def sound_damping(owner: str, damping: object) -> None:
    """Raises where damping is neither a number of at least 0 nor a `Levenberg` whose numbers are in range."""
    if not isinstance(damping, Levenberg):
        checks.concrete(owner, low=0, damping=damping)
        return
    checks.concrete("Levenberg", above=0, initial=damping.initial)
    checks.concrete("Levenberg", above=1, raise_by=damping.raise_by)
    checks.concrete("Levenberg", above=0, below=1, lower_by=damping.lower_by)


def reduction_ratio(change: Scalar, predicted: Scalar) -> Scalar:
    """The change in the objective over the one that a model predicted: minus infinity where that is no descent."""
    found = change / predicted
    return jnp.where(jnp.isfinite(found) & (predicted < 0), found, -jnp.inf)
