"""Which derivatives a function bears, tried on shapes; nothing is evaluated.

JAX takes derivatives in two modes, and not every function bears both: a `jax.custom_vjp` bears only reverse mode,
a ``while_loop`` or diffrax's ``ForwardMode`` only forward mode, a callback none.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from gdjax._internal.programs import jaxprs, primitives
from gdjax.types import Params, PyTree

__all__ = ["DerivativeError", "Modes", "isolated", "modes", "needed", "traced"]

_WAYS = "gdjax.differentiation"
"""Where functions are that bear more."""


class Modes(NamedTuple):
    """Which derivatives a function bears.

    Attributes:
      forward: Jacobians by columns.
      reverse: gradients, or vector-Jacobian products.
      second: Jacobians by columns of these, which Hessians are made of.
    """

    forward: bool
    reverse: bool
    second: bool


def traced(function: Callable[..., PyTree], *arguments: PyTree) -> jaxprs.Program:
    """The function as a program, apart from the one around it.

    Raises:
      TypeError: also where JAX would refuse a derivative only when it compiles what it has traced.
    """
    program = jaxprs.Program(function, *arguments)
    if primitives.refused(program.jaxpr):
        raise TypeError("forward mode does not pass a jax.custom_vjp")
    return program


def isolated(function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """``function(*arguments)``; where it raises, as `traced` does, nothing of it is left in the program around it."""
    program = traced(function, *arguments)
    return program(program.constants, *arguments)


def _possible(function: Callable[..., PyTree], *arguments: PyTree) -> bool:
    """Whether a function can be traced: JAX, and libraries too, refuse derivatives by errors of any type."""
    try:
        traced(function, *arguments)
    except Exception:
        return False
    return True


def modes(function: Callable[[Params], PyTree], params: Params) -> Modes:
    """Which derivatives a function bears, tried abstractly: it is traced once and not evaluated.

    Args:
      function: ``params -> array``, or a pytree of arrays.
      params: a point; only its shapes are read.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from gdjax import differentiability
      >>> differentiability.modes(jnp.sin, jnp.array(1.0))
      Modes(forward=True, reverse=True, second=True)
      >>> loop = lambda x: jax.lax.while_loop(lambda x: x > 1.0, lambda x: x / 2, x)
      >>> differentiability.modes(loop, jnp.array(8.0))
      Modes(forward=True, reverse=False, second=False)
    """
    program = jaxprs.Program(function, params)
    if primitives.differentiable(program.jaxpr):
        return Modes(True, True, True)
    traced = functools.partial(program, program.constants)

    def gradient(params):
        outputs, back = jax.vjp(traced, params)
        return back(outputs)[0]

    # All directions at once, as Jacobians and Hessians take them: some functions bear a single one only.
    forward, reverse = _possible(jax.jacfwd(traced), params), _possible(gradient, params)
    second = reverse and _possible(jax.jacfwd(gradient), params)
    return Modes(forward, reverse, second)


def _refusal(owner: str, needs: str, has: Modes) -> str | None:
    """What to say of a function that does not bear what ``owner`` needs, one of `Modes`; None where it does."""
    if getattr(has, needs):
        return None
    last = f"as the last resort {_WAYS}.finite_differences"
    if not (has.forward or has.reverse):
        return (
            f"{owner} needs derivatives, and JAX can take none of the objective, in either mode. Ways out: give "
            f"what it calls its derivatives with jax.custom_jvp or jax.custom_vjp; {last}"
        )
    if needs == "second":
        bears = " and ".join(mode for mode in ("forward", "reverse") if getattr(has, mode))
        return (
            f"{owner} needs second derivatives: the objective bears first derivatives only, by {bears} mode. Ways out: "
            "a method without them, gdjax.lbfgs() or gdjax.bfgs(); jax.custom_jvp with a rule that JAX can "
            "differentiate in place of jax.custom_vjp; for diffrax adjoint=DirectAdjoint(), or ForwardMode() in "
            f"{_WAYS}.forward_mode; {last}"
        )
    return (
        f"{owner} needs a gradient by reverse mode: the objective bears forward mode only. Ways out: "
        f"{_WAYS}.forward_mode(objective) takes the gradient by forward mode, at a pass for each parameter; "
        "minimize without an optimizer; least_squares with levenberg_marquardt; a scan in place of the "
        f"while_loop, for diffrax adjoint=DirectAdjoint(); {last}"
    )


class DerivativeError(TypeError):
    """A derivative that a method needs and a function does not bear."""


@contextlib.contextmanager
def needed(owner: str, mode: str, function: Callable[[Params], PyTree], params: Params) -> Iterator[None]:
    """Around what takes derivatives: where it fails since the function does not bear them, says so by name.

    Args:
      owner: what needs them.
      mode: which, a field of `Modes`.
      function: of what.
      params: where.

    Raises:
      DerivativeError: that says what is needed, what the function bears, and the ways out.
    """
    try:
        yield
    except DerivativeError:
        raise
    except Exception as error:
        try:
            message = _refusal(owner, mode, modes(function, params))
        except Exception:  # the function itself fails: its own error says more
            message = None
        if message is None:
            raise
        raise DerivativeError(f"{message}. JAX said: {str(error).strip().splitlines()[0]}") from error
