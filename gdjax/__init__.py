"""gdjax: functional optimization in JAX."""

from gdjax import objectives, stopping, types
from gdjax.driver import Run, RunState, minimize
from gdjax.objectives import Composite, Objective, finite_sum, least_squares
from gdjax.recording import every
from gdjax.types import Answer, Params, Result, Status, Step, Transformation, ValueFn, explain
