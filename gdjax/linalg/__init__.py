"""Linear algebra inside a step: solvers that know a matrix by its products, and dense ones for curvature."""

from gdjax.linalg.dense import Cholesky, Spectral, eigh_solve, shifted_cholesky
from gdjax.linalg.solve import Solution, cg, minres
from gdjax.linalg.truncated import TrustStep, truncated_cg
