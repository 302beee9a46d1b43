r"""Functions that bear more derivatives than JAX finds in them: by forward mode alone, or by differences.

What a function bears by itself `gdjax.differentiability` tells.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree

from gdjax._internal.programs import jaxprs
from gdjax.types import Params, PyTree

__all__ = ["finite_differences", "forward_mode"]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _known(program: jaxprs.Program, jacobian: Callable, constants: Any, params: Params) -> Any:
    """The program's outputs, with ``jacobian(function, params) -> (outputs, matrix)`` for their derivative."""
    return program(constants, params)


def _known_jvp(program, jacobian, primals, tangents):
    constants, params = primals
    outputs, matrix = jacobian(functools.partial(program, constants), params)
    back = ravel_pytree(outputs)[1]
    along = ravel_pytree(jax.tree.map(_filled, tangents[1], params))[0]
    moved = back((matrix @ along.astype(matrix.dtype)).astype(matrix.dtype))
    if not all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(tangents[0])):
        given = jax.tree.map(_filled, tangents[0], constants)
        extra = jax.jvp(lambda c: program(c, params), (constants,), (given,))[1]
        moved = jax.tree.map(jnp.add, moved, extra)
    return outputs, moved


_known.defjvp(_known_jvp, symbolic_zeros=True)


def _filled(tangent: Any, primal: Any) -> Any:
    if not isinstance(tangent, SymbolicZero):
        return tangent
    return jnp.zeros(tangent.shape, cast(Any, tangent).dtype)


def _with_jacobian(jacobian: Callable, function: Callable[[Params], Any]) -> Callable[[Params], Any]:
    def known(params):
        program = jaxprs.Program(function, params)
        return _known(program, jacobian, program.constants, params)

    return known


def _columns(function, params):
    """Outputs and Jacobian by one pass forward for each number of params, all at once."""
    x, back = ravel_pytree(params)

    def push(direction):
        outputs, moved = jax.jvp(lambda v: function(back(v)), (x,), (direction,))
        return outputs, ravel_pytree(moved)[0]

    return jax.vmap(push, out_axes=(None, 1))(jnp.eye(x.size, dtype=x.dtype))


def forward_mode(function: Callable[[Params], PyTree]) -> Callable[[Params], PyTree]:
    """The same function, its Jacobian taken by forward mode wherever a gradient or a Hessian asks for it.

    For what has no reverse mode: a ``while_loop`` inside, diffrax's ``ForwardMode``. A gradient costs a pass
    forward for each parameter, where reverse mode takes one back for all: for tens of parameters. Where no
    optimizer is named `gdjax.minimize` takes this by itself.

    Args:
      function: ``params -> array``, or a pytree of arrays.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp
      >>> def halved(x):
      ...     return jax.lax.while_loop(lambda y: jnp.max(y) > 4.0, lambda y: y / 2, x)
      >>> f = gdjax.differentiation.forward_mode(lambda x: jnp.sum((halved(x) - 3.0) ** 2))
      >>> jax.grad(f)(jnp.array([7.0, 6.0])).tolist()
      [0.5, 0.0]
    """
    return _with_jacobian(_columns, function)


def _differences(step, function, params):
    """Outputs and Jacobian by central differences, one evaluation after another."""
    x, back = ravel_pytree(params)

    def outputs_at(v):
        return ravel_pytree(function(back(v)))[0]

    if step is None:
        # The cube root balances truncation, h^2, with rounding, eps / h: Nocedal and Wright (8.7) and exercise 8.1.
        lengths = jnp.finfo(x.dtype).eps ** (1 / 3) * jnp.maximum(jnp.abs(x), 1)
    else:
        lengths = jnp.broadcast_to(ravel_pytree(step)[0].astype(x.dtype), x.shape)

    def difference(i):
        low, high = x.at[i].add(-lengths[i]), x.at[i].add(lengths[i])
        return (outputs_at(high) - outputs_at(low)) / (high[i] - low[i])

    return function(params), jax.lax.map(difference, jnp.arange(x.size)).T


def finite_differences(
    function: Callable[[Params], PyTree], step: Params | None = None
) -> Callable[[Params], PyTree]:
    r"""The same function, its derivatives by central differences: the last resort, for simulators that bear none.

    .. math:: \partial_i f(x) \approx \frac{f(x + h_i e_i) - f(x - h_i e_i)}{2 h_i}

    A gradient costs two evaluations for each parameter, one after another, and is right to half the digits
    of the type or less: give runs a tolerance to match. For `gdjax.least_squares` wrap the residuals.

    Args:
      function: ``params -> array``, or a pytree of arrays; a `jax.pure_callback` for a program outside JAX.
      step: :math:`h > 0`, a number or a pytree of params' structure; None takes
        :math:`\epsilon^{1/3} \max(|x_i|, 1)`.

    Reference:
      Nocedal and Wright, Numerical Optimization, 2nd ed., 2006, section 8.1.

    Example:
      >>> import gdjax, jax, jax.numpy as jnp, numpy as np
      >>> def simulator(x):
      ...     shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
      ...     return jax.pure_callback(lambda x: np.asarray(x) - np.array([1, 2], "f"), shape, x)
      >>> fit = gdjax.least_squares(gdjax.differentiation.finite_differences(simulator))
      >>> gdjax.minimize(fit, jnp.zeros(2)).params.round(2).tolist()
      [1.0, 2.0]
    """
    return _with_jacobian(functools.partial(_differences, step), function)
