"""Quasi-Newton."""
from typing import Any, NamedTuple
import jax, jax.numpy as jnp
from jax.tree_util import Partial
from gdjax.linesearch import Direction, descend, strong_wolfe

class DenseMemory(NamedTuple):
    inverse: Any
    empty: Any

def _init(x):
    return DenseMemory(jnp.eye(x.size, dtype=x.dtype), jnp.asarray(True))

def _family(phi, s, y, Hy, Bs):
    sy, yHy, sBs = jnp.sum(s*y), jnp.sum(y*Hy), jnp.sum(s*Bs)
    return sy, yHy, sBs

def _update(phi, memory, move):
    g, s, y = move.grad, move.step, move.change
    n = g.size
    sy, yy, ss = jnp.sum(s*y), jnp.sum(y*y), jnp.sum(s*s)
    eps = jnp.finfo(g.dtype).eps
    good = move.paired & (sy > eps*jnp.sqrt(ss)*jnp.sqrt(yy)) & jnp.isfinite(yy)
    empty = memory.empty | move.restart
    eye = jnp.eye(n, dtype=g.dtype)
    scale = jnp.where(good, sy/yy, 1.)
    H = jnp.where(empty, scale*eye, memory.inverse)
    Hy, Hg = H@y, H@g
    safe = jnp.where(good, sy, 1.)
    s = jnp.where(good, s, 0)
    w = (0.5*(1+jnp.sum(y*Hy)/safe)*s - Hy)/safe
    w = jnp.where(good, w, 0)
    H = H + (s[:,None]*w[None,:] + w[:,None]*s[None,:])
    p = -(Hg + s*jnp.sum(w*g) + w*jnp.sum(s*g))
    fresh = empty & ~good
    gn = jnp.sqrt(jnp.sum(g*g))
    guess = jnp.where(fresh, jnp.minimum(1., 1/gn), 1.)
    return p, DenseMemory(jnp.where(move.moved, H, memory.inverse), jnp.where(move.moved, fresh, memory.empty)), guess

def bfgs(search=None):
    return descend(Direction(Partial(_init), Partial(_update, 0.0)), strong_wolfe() if search is None else search)
