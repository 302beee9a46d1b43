r"""Which derivatives a function bears, and functions that bear more.

JAX takes derivatives in two modes, and not every function bears both: a `jax.custom_vjp` bears only reverse mode,
a ``while_loop`` or diffrax's ``ForwardMode`` only forward mode, a callback none. What a function bears is tried on
shapes; nothing is evaluated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree

from gdjax import jaxprs
from gdjax.types import Params

__all__ = ["Modes", "finite_differences", "forward_mode", "isolated", "modes"]


class Modes(NamedTuple):
    """Which derivatives a function bears.

    Attributes:
      forward: Jacobian-vector products.
      reverse: gradients, or vector-Jacobian products.
      second: Jacobian-vector products of these, which Hessians are made of.
    """

    forward: bool
    reverse: bool
    second: bool


_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "scan", "cond"})
"""What bears all that its inside bears."""

_ORDINARY = frozenset(
    {
        "add",
        "add_any",
        "sub",
        "mul",
        "div",
        "rem",
        "neg",
        "max",
        "min",
        "abs",
        "sign",
        "square",
        "sqrt",
        "rsqrt",
    }
    | {
        "cbrt",
        "pow",
        "integer_pow",
        "exp",
        "exp2",
        "log",
        "log1p",
        "expm1",
        "sin",
        "cos",
        "tan",
        "tanh",
        "asin",
    }
    | {
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "logistic",
        "erf",
        "erfc",
        "erf_inv",
    }
    | {"floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "is_finite"}
    | {
        "select_n",
        "clamp",
        "convert_element_type",
        "stop_gradient",
        "copy",
        "iota",
        "broadcast_in_dim",
        "reshape",
    }
    | {"concatenate", "pad", "rev", "slice", "squeeze", "expand_dims", "transpose", "split", "reduce_sum"}
    | {"reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax", "argmin", "cumsum", "dot_general"}
    | {
        "conv_general_dilated",
        "gather",
        "scatter",
        "scatter-add",
        "dynamic_slice",
        "dynamic_update_slice",
        "sort",
    }
    | {"cholesky", "triangular_solve", "random_bits", "random_wrap", "random_unwrap", "threefry2x32"}
    | {"shift_left", "shift_right_logical", "shift_right_arithmetic"}
)
"""Operations known to bear every derivative; of any other it is tried."""


def _bears_all(program: Any) -> bool:
    """Whether nothing in a program could refuse a derivative: to look costs less than to try."""
    eqn: Any
    for eqn in program.eqns:
        inside = jaxprs.inside(eqn) if eqn.primitive.name in _CALLS else None
        if not (eqn.primitive.name in _ORDINARY if inside is None else all(map(_bears_all, inside))):
            return False
    return True


def _possible(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function can be traced: JAX, and libraries too, refuse derivatives by errors of any type."""
    try:
        jax.eval_shape(function, *arguments)
    except Exception:
        return False
    return True


def modes(function: Callable[[Params], Any], params: Params) -> Modes:
    """Which derivatives a function bears, tried abstractly: it is traced once and not evaluated.

    Args:
      function: ``params -> array``, or a pytree of arrays.
      params: a point; only its shapes are read.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from gdjax import differentiation
      >>> differentiation.modes(jnp.sin, jnp.array(1.0))
      Modes(forward=True, reverse=True, second=True)
      >>> loop = lambda x: jax.lax.while_loop(lambda x: x > 1.0, lambda x: x / 2, x)
      >>> differentiation.modes(loop, jnp.array(8.0))
      Modes(forward=True, reverse=False, second=False)
    """
    program = jaxprs.Program(function, params)
    if _bears_all(program.jaxpr):
        return Modes(True, True, True)
    traced = functools.partial(program, program.constants)

    def along(params):
        return jax.jvp(traced, (params,), (params,))[1]

    def gradient(params):
        outputs, back = jax.vjp(traced, params)
        return back(outputs)[0]

    forward, reverse = _possible(along, params), _possible(gradient, params)
    second = forward and reverse and _possible(lambda p: jax.jvp(gradient, (p,), (p,))[1], params)
    return Modes(forward, reverse, second)


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, traced apart: where it raises, nothing of it is left in the program around it."""
    program = jaxprs.Program(function, *arguments)
    return program(program.constants, *arguments)


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
    return jnp.zeros(tangent.shape, tangent.dtype) if isinstance(tangent, SymbolicZero) else tangent


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


def forward_mode(function: Callable[[Params], Any]) -> Callable[[Params], Any]:
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


def finite_differences(function: Callable[[Params], Any], step: Any = None) -> Callable[[Params], Any]:
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
