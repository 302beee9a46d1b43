"""L-BFGS."""
from typing import Any, NamedTuple
import jax, jax.numpy as jnp
from jax.tree_util import Partial
from gdjax.linesearch import Direction, descend, strong_wolfe

class PairMemory(NamedTuple):
    steps: Any
    changes: Any
    inverse: Any   # R^{-1}
    diagonal: Any
    scale: Any

class _Init(NamedTuple):
    memory: int
    def __call__(self, x):
        m = self.memory
        z = jnp.zeros((m, x.size), x.dtype)
        return PairMemory(z, z, jnp.zeros((m, m), x.dtype), jnp.zeros((m,), x.dtype), jnp.zeros((), x.dtype))

def _push(rows, new):
    return jnp.concatenate([rows[1:], new[None]])

def _update(memory, move):
    g, s, y = move.grad, move.step, move.change
    sy, yy, ss = jnp.sum(s*y), jnp.sum(y*y), jnp.sum(s*s)
    eps = jnp.finfo(g.dtype).eps
    good = move.paired & (sy > eps*jnp.sqrt(ss)*jnp.sqrt(yy)) & jnp.isfinite(yy)
    keep = jnp.where(move.restart, 0, 1).astype(g.dtype)
    old = jax.tree.map(lambda a: jnp.where(move.restart, 0, a), memory)
    S, Y = _push(old.steps, s), _push(old.changes, y)
    m = S.shape[0]
    safe = jnp.where(good, sy, 1)
    T = old.inverse[1:, 1:]
    c = old.steps[1:] @ y
    T = jnp.block([[T, -(T @ c)[:, None]/safe], [jnp.zeros((1, m-1), g.dtype), jnp.full((1,1), 1/safe)]])
    D = jnp.concatenate([old.diagonal[1:], sy[None]])
    new = PairMemory(S, Y, T, D, jnp.where(good, sy/yy, 0))
    new = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
    fresh = new.scale == 0
    scale = jnp.where(fresh, 1, new.scale)
    u = new.inverse @ (new.steps @ g)
    q = g - u @ new.changes
    w = new.inverse.T @ (new.diagonal*u - scale*(new.changes @ q))
    p = -(scale*q + w @ new.steps)
    gn = jnp.sqrt(jnp.sum(g*g))
    guess = jnp.where(fresh, jnp.minimum(1., 1/gn), 1.)
    return p, jax.tree.map(lambda a, b: jnp.where(move.moved, a, b), new, memory), guess

def lbfgs(memory=10, search=None):
    return descend(Direction(Partial(_Init(memory)), Partial(_update)), strong_wolfe() if search is None else search)
