"""What JAX's operations are to us: which are written out element by element, and which bear every derivative."""

from typing import Any

from gdjax._internal.programs import jaxprs

__all__ = ["differentiable", "elemental", "factors", "refused"]

_ELEMENTAL = frozenset(
    """abs acos acosh add add_any and argmax argmin asin asinh atan atan2 atanh bitcast_convert_type broadcast_in_dim
    cbrt ceil clamp concatenate convert_element_type copy copy_p cos cosh cummax cummin cumprod cumsum digamma div
    dynamic_slice dynamic_update_slice eq erf erf_inv erfc exp exp2 expm1 floor gather ge gt integer_pow iota is_finite
    le lgamma log log1p logistic lt max min mul ne neg nextafter not optimization_barrier or pad platform_index pow
    random_bits random_fold_in random_seed random_split random_unwrap random_wrap reduce_and reduce_max reduce_min
    reduce_or reduce_prod reduce_sum rem reshape rev round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh slice split sqrt square squeeze stack stop_gradient sub tan tanh threefry2x32
    transpose xor""".split()
)
"""Operations that XLA writes out element by element on a processor, without a library."""

_CONTROL = jaxprs.CALLS | frozenset(
    "cond custom_jvp_call custom_vjp_call custom_vmap_call remat scan while".split()
)
"""Operations that run programs among their parameters, and do nothing else."""


def _matrix_vector(eqn: Any) -> bool:
    """Whether one operand of a ``dot_general`` is used up: no library multiplies a matrix by a vector."""
    numbers = jaxprs.contracted(eqn)
    if numbers is None:
        return False
    (left, right), (batched, _) = numbers
    ranks = [len(var.aval.shape) for var in eqn.invars]
    return not batched and (ranks[0] == len(left) or ranks[1] == len(right))


def elemental(program: Any) -> bool:
    """Whether a program calls no library: every operation in it is written out element by element.

    Sorting, scattering, products of matrices, factorizations, callbacks, collectives, and whatever is not known here
    are not.
    """
    for eqn in program.eqns:
        name = eqn.primitive.name
        if name in _CONTROL:
            programs = jaxprs.inside(eqn)
            if not programs or not all(map(elemental, programs)):
                return False
        elif name not in _ELEMENTAL and not (name == "dot_general" and _matrix_vector(eqn)):
            return False
    return True


_FACTORIZATIONS = frozenset("cholesky eig eigh geqrf householder_product lu schur svd tridiagonal".split())


def factors(program: Any) -> bool:
    """Whether a program factors matrices: a library does it, and under ``vmap`` for one after the other."""
    return any(
        eqn.primitive.name in _FACTORIZATIONS or any(map(factors, jaxprs.inside(eqn))) for eqn in program.eqns
    )


_IN_PLACE = jaxprs.CALLS | jaxprs.REMATERIALIZED | {"cond", "scan"}
"""What bears all derivatives that its inside bears."""

_ORDINARY = frozenset(
    """abs acos acosh add add_any and argmax argmin asin asinh atan atan2 atanh broadcast_in_dim cbrt ceil cholesky
    clamp concatenate conv_general_dilated convert_element_type copy cos cosh cumsum div dot_general dynamic_slice
    dynamic_update_slice eq erf erf_inv erfc exp exp2 expand_dims expm1 floor gather ge gt integer_pow iota is_finite le
    log log1p logistic lt max min mul ne neg not or pad pow random_bits random_unwrap random_wrap reduce_and reduce_max
    reduce_min reduce_or reduce_sum rem reshape rev round rsqrt scatter scatter-add select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh slice sort split sqrt square squeeze stop_gradient sub tan
    tanh threefry2x32 transpose triangular_solve xor""".split()
)
"""Operations known to bear every derivative; of any other it is tried."""


def differentiable(program: Any) -> bool:
    """Whether nothing in a program could refuse a derivative: to look costs less than to try."""
    eqn: Any
    for eqn in program.eqns:
        inside = jaxprs.inside(eqn) if eqn.primitive.name in _IN_PLACE else None
        if not (eqn.primitive.name in _ORDINARY if inside is None else all(map(differentiable, inside))):
            return False
    return True


def refused(program: Any) -> bool:
    """Whether a program holds a derivative that JAX would refuse when it compiles it, not yet when it traces."""

    def here(eqn):
        return eqn.primitive.name == "custom_lin" or any(map(refused, jaxprs.inside(eqn)))

    return any(map(here, program.eqns))
