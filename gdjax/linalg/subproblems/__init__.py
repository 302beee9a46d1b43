r"""Trust-region subproblems: the step that a quadratic model allows within a radius.

All of them look for :math:`p` with a low

.. math:: m(p) = g^T p + \tfrac12 p^T B p \quad\text{over}\quad \lVert p\rVert_2 \le \Delta

and none evaluates the objective. A `Subproblem` is a pair of pure functions: ``factor`` does what depends on
the curvature alone (an eigendecomposition, say), ``solve`` what depends on the radius. A trust region factors
at accepted points only and solves again, cheaply, wherever a trial was rejected.

Reference: Conn, Gould, Toint, Trust-Region Methods, SIAM 2000, chapter 7; Nocedal and Wright, Numerical
Optimization, 2nd edition, chapter 4.
"""

from gdjax.linalg.subproblems.boxed import between
from gdjax.linalg.subproblems.model import Move, Subproblem, norm
from gdjax.linalg.subproblems.products import cauchy, steihaug
from gdjax.linalg.subproblems.spectral import Eigen, cubic_step, dogleg, eigen, exact, two_dimensional

__all__ = [
    "Eigen",
    "Move",
    "Subproblem",
    "between",
    "cauchy",
    "cubic_step",
    "dogleg",
    "eigen",
    "exact",
    "norm",
    "steihaug",
    "two_dimensional",
]
