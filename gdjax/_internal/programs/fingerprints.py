"""Fingerprints: whether two programs compute the same, and two pytrees hold the same bits.

They hold from one process to the next: nothing in them depends on addresses, on the order of sets, or on
how a program is printed.
"""

import hashlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gdjax._internal.programs import jaxprs

__all__ = ["of_arrays", "of_program"]

_NAMES = frozenset({"name", "debug_info", "name_and_src_info", "compiler_options_kvs"})
"""What an equation is called; it computes the same under another name."""


def _array(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype).encode() + _array(jax.random.key_data(leaf))
    if isinstance(leaf, Tracer):  # its value is not of the program
        return str(leaf.aval).encode()
    array = np.asarray(leaf)
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def of_arrays(tree: Any) -> str:
    """The fingerprint of a pytree's leaves: their types, shapes and bits.

    Args:
      tree: arrays, numbers, keys.

    Example:
      >>> import numpy as np
      >>> from gdjax._internal.programs.fingerprints import of_arrays
      >>> of_arrays({"a": np.arange(3)}) == of_arrays({"a": np.array([0, 1, 2])})
      True
      >>> of_arrays(np.float32(0.0)) == of_arrays(np.float32(-0.0))
      False
    """
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        digest.update(hashlib.blake2b(_array(leaf)).digest())
    return digest.hexdigest()


class _Reader:
    """Reads programs; each of the programs inside is read once."""

    def __init__(self):
        self.known: dict[int, tuple[Any, bytes]] = {}

    def program(self, program: Any, consts: Any = ()) -> bytes:
        if id(program) not in self.known:
            self.known[id(program)] = program, self._read(program)
        return hashlib.blake2b(b"".join([self.known[id(program)][1], *map(_array, consts)])).digest()

    def _read(self, program: Any) -> bytes:
        digest, numbers = hashlib.blake2b(), {}

        def atom(found):
            if isinstance(found, jaxprs.Literal):
                return b"literal" + _array(found.val)
            if found in numbers:
                return numbers[found]
            numbers[found] = str(len(numbers)).encode()
            return f"{found.aval}".encode()

        def atoms(found):
            return b",".join(map(atom, found))

        digest.update(atoms(program.constvars) + b";" + atoms(program.invars))
        for eqn in program.eqns:
            digest.update(f"|{eqn.primitive.name}".encode() + atoms(eqn.invars))
            for name in sorted(eqn.params.keys() - _NAMES):
                digest.update(name.encode() + b"=" + self.value(eqn.params[name]))
            digest.update(atoms(eqn.outvars))
        digest.update(b"->" + atoms(program.outvars))
        return digest.digest()

    def value(self, value: Any) -> bytes:
        if isinstance(value, jaxprs.ClosedJaxpr):
            return self.program(value.jaxpr, value.consts)
        if isinstance(value, jaxprs.Jaxpr):
            return self.program(value)
        if isinstance(value, jax.Array | np.ndarray):
            return hashlib.blake2b(_array(value)).digest()
        if isinstance(value, dict):
            return b"".join(sorted(repr(key).encode() + self.value(value[key]) for key in value))
        if isinstance(value, tuple | list):
            return b"(" + b",".join(map(self.value, value)) + b")"
        if isinstance(value, set | frozenset):
            return b"".join(sorted(map(self.value, value)))
        if callable(value) or "Wrapped" in type(value).__name__:
            return getattr(value, "__qualname__", type(value).__name__).encode()
        return re.sub(r"0x[0-9a-f]+", "", repr(value)).encode()


def of_program(*programs: Any) -> str:
    """The fingerprint of what ``jax.make_jaxpr`` returns: its operations and the arrays that it closes over.

    Args:
      programs: jaxprs, closed or not; several have one fingerprint together.

    Example:
      >>> import jax
      >>> from gdjax._internal.programs.fingerprints import of_program
      >>> one, two, three = (jax.make_jaxpr(f)(1.0) for f in (lambda x: 2 * x, lambda y: 2 * y, lambda z: 3 * z))
      >>> of_program(one) == of_program(two), of_program(one) == of_program(three)
      (True, False)
    """
    return hashlib.blake2b(_Reader().value(programs), digest_size=16).hexdigest()
