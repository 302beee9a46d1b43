"""Checkpoints: a long run in segments, each saved when done, so that a process that dies costs one segment.

The state of a `Run` is a pytree of arrays, and a step a pure function of it, so k steps, a save, and k steps
are the same bits as 2 k steps.
"""

import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdjax._internal import control_flow, files
from gdjax._internal.programs import fingerprints
from gdjax.runs.run import Run, RunState
from gdjax.types import Result

__all__ = ["load", "save", "solve"]

_DIFFERS = {
    "program": "its functions, shapes, types or max_steps are others",
    "arrays": "its start, data, key or hyperparameters are others",
    "jax": "it was made with another version of JAX",
}


@jax.jit
def _advance(run: Run, state: RunState, steps: Any) -> RunState:
    def unfinished(carry):
        state, left = carry
        return (left > 0) & ~run.done(state)

    return control_flow.while_loop(
        unfinished, lambda carry: (run.step(carry[0]), carry[1] - 1), (state, steps)
    )[0]


_first, _result = jax.jit(Run.init), jax.jit(Run.result)


def _identity(run: Run) -> dict[str, str]:
    """What must be equal for a state to belong to a run."""
    state = jax.eval_shape(Run.init, run)
    program = jax.make_jaxpr(lambda run, state: run.step(state))(run, state)
    return {
        "program": fingerprints.of_program(program),
        "arrays": fingerprints.of_arrays(run),
        "jax": jax.__version__,
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _write(identity: dict[str, str], state: RunState, path: Path) -> None:
    leaves = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
    arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    content: dict[str, Any] = {name: np.asarray(text) for name, text in identity.items()} | arrays
    files.write_whole(path, lambda file: np.savez(file, **content))


def _restored(leaf: Any, saved: np.ndarray) -> jax.Array:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
    if saved.dtype.kind == "V":  # bfloat16 and its like, which NumPy keeps as bytes
        saved = saved.view(leaf.dtype)
    if saved.shape != leaf.shape or saved.dtype != leaf.dtype:
        raise KeyError
    return jnp.asarray(saved)


def _read(identity: dict[str, str], run: Run, path: Path) -> RunState:
    expected, structure = jax.tree.flatten(_first(run))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            for name, reason in _DIFFERS.items():
                if str(saved[name]) != identity[name]:
                    raise ValueError(f"checkpoints: {path} is of another run: {reason}")
            leaves = [_restored(leaf, saved[f"leaf_{i}"]) for i, leaf in enumerate(expected)]
    except (zipfile.BadZipFile, KeyError, EOFError, AttributeError, TypeError):
        raise ValueError(f"checkpoints: {path} is no checkpoint, or a damaged one") from None
    except ValueError as error:
        if str(error).startswith("checkpoints"):
            raise
        raise ValueError(f"checkpoints: {path} is no checkpoint, or a damaged one") from None
    return jax.tree.unflatten(structure, leaves)


def _check(run: Any) -> None:
    if not isinstance(run, Run):
        raise TypeError(f"checkpoints: run must be a gdjax.Run, got {type(run).__name__}")


def save(run: Run, state: RunState, path: str | os.PathLike[str]) -> None:
    """Saves where a run stands: plain arrays in NumPy's ``npz``, and the run's fingerprint.

    Args:
      run: the run; of it only the fingerprint is kept.
      state: what `Run.init` or `Run.step` returned.
      path: the file; what is there is replaced at once and whole.

    Raises:
      OSError: if it cannot be written.

    Example:
      >>> import gdjax, jax.numpy as jnp, pathlib, tempfile
      >>> from gdjax import checkpoints
      >>> run = gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam(0.1))
      >>> path = pathlib.Path(tempfile.mkdtemp(), "run.npz")
      >>> checkpoints.save(run, run.step(run.init()), path)
      >>> int(checkpoints.load(run, path).count)
      1
    """
    _check(run)
    _write(_identity(run), state, Path(path))


def load(run: Run, path: str | os.PathLike[str]) -> RunState:
    """The state that `save` wrote.

    Args:
      run: the run that it is of.
      path: the file.

    Raises:
      ValueError: if the file is no checkpoint, a damaged one, or one of another run.
      FileNotFoundError: if there is none.

    Example:
      >>> import gdjax, jax.numpy as jnp, pathlib, tempfile
      >>> from gdjax import checkpoints
      >>> run = gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam(0.1))
      >>> path = pathlib.Path(tempfile.mkdtemp(), "run.npz")
      >>> checkpoints.save(run, run.init(), path)
      >>> checkpoints.load(run, path).params.tolist()
      [1.0, 1.0]
    """
    _check(run)
    return _read(_identity(run), run, Path(path))


def solve(run: Run, path: str | os.PathLike[str], *, every: int = 1000) -> Result:
    """Runs to the end in segments, each saved when done; goes on from the last one saved.

    Equal, bit for bit, whether it was interrupted or not, and whatever ``every``. One program is compiled.
    A run that had ended comes back as it was.

    Args:
      run: the run.
      path: the file of its state; made if it is not there.
      every: steps between two saves, at least 1.

    Returns:
      The `Result`, as of `Run.solve` up to rounding (which takes a faster path where nothing is saved).

    Raises:
      ValueError: if ``every`` is below 1, or the file is no checkpoint, damaged, or of another run.
      OSError: if the file cannot be written; what was saved before stays.

    Example:
      >>> import gdjax, jax.numpy as jnp, pathlib, tempfile
      >>> from gdjax import checkpoints
      >>> run = gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam(0.1))
      >>> path = pathlib.Path(tempfile.mkdtemp(), "run.npz")
      >>> gdjax.explain(checkpoints.solve(run, path, every=100).status)
      'converged: the residual fell below its tolerance'
    """
    _check(run)
    if isinstance(every, bool) or not hasattr(every, "__index__") or every < 1:
        raise ValueError(f"checkpoints: every must be an integer of at least 1, got {every!r}")
    identity, path = _identity(run), Path(path)
    state = _read(identity, run, path) if path.exists() else _first(run)
    while not run.done(state):
        state = _advance(run, state, jnp.int32(every))
        _write(identity, state, path)
    return _result(run, state)
