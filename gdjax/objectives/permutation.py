"""Random orders that are never laid out: where each position goes is computed when asked."""

from typing import Any

import jax
import jax.numpy as jnp

from gdjax._internal import control_flow
from gdjax.types import Scalar, ScalarLike

__all__ = ["shuffled"]

_ROUNDS = 24
"""Rounds of the shuffle: at a few per bit of n, orders look uniform to the tests in the suite."""


def _hash(x: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every bit depends on every other."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _seeds(key: jax.Array, turn: Any) -> tuple[Scalar, Scalar]:
    """Two words that a key and a number name, for a fraction of what a draw from the key costs."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = (jax.random.key_data(key) if typed else key).astype(jnp.uint32).reshape(-1)
    first, second = jnp.asarray(turn).astype(jnp.uint32), jnp.uint32(0x9E3779B9)
    for i in range(len(words)):
        first = first ^ words[i]
        second = second + _hash(first)
        first = first ^ _hash(second)
    return first, second


def shuffled(key: jax.Array, positions: jax.Array, n: int, turn: ScalarLike = 0) -> jax.Array:
    r"""The images of ``positions`` under a random permutation of ``0 .. n - 1``.

    The permutation is never laid out: each position is followed through rounds of swap-or-not, in
    which :math:`x` and its partner :math:`K_i - x \bmod n` trade places if a hash of the pair says so.
    A batch costs its own length, whatever ``n`` is, and no state is carried between batches.

    Args:
      key: the key that names the permutation.
      positions: int32, each in ``0 .. n - 1``.
      n: how many, at least 1 and below :math:`2^{30}`.
      turn: an integer that names it too: the epoch.

    Reference:
      Hoang, Morris, Rogaway, An enciphering scheme based on a card shuffle, CRYPTO 2012, Fig. 1.
    """
    first, second = _seeds(key, turn)
    rounds = jnp.arange(1, _ROUNDS + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    salts = _hash(first + rounds)
    pivots = (_hash(second + rounds) % jnp.uint32(n)).astype(jnp.int32)

    def swap_or_not(x, named):
        pivot, salt = named
        partner = pivot - x
        partner = jnp.where(partner < 0, partner + n, partner)
        mixed = (jnp.maximum(x, partner).astype(jnp.uint32) ^ salt) * jnp.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
        return jnp.where(mixed >> 31 == 1, partner, x), None

    return control_flow.scan(swap_or_not, positions, (pivots, salts), unroll=8)[0]
