"""Checkpoints: the same bits however often a run was stopped, and clear words for files that do not belong."""

import errno

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdjax
from gdjax._internal import files
from gdjax.runs import checkpoints

DATA = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)


def loss(x, batch):
    return jnp.mean((batch @ x - 1.0) ** 2)


def batched(**changes):
    options = {"stop": None, "max_steps": 60, "key": 0, "record": lambda step: step.value} | changes
    data = options.pop("data", DATA)
    return gdjax.Run(
        gdjax.finite_sum(loss, jnp.asarray(data), batch_size=6), jnp.zeros(3), gdjax.adam(0.03), **options
    )


def searching(**changes):
    return gdjax.Run(gdjax.problems.rosenbrock().objective, jnp.array([-1.0, 1.5]), gdjax.bfgs(), **changes)


class Killed(Exception):
    pass


def killed_after(monkeypatch, saves):
    """Saving works so many times; then the process is gone."""
    write, calls = files.write_whole, []

    def once_too_often(path, content):
        calls.append(path)
        if len(calls) > saves:
            raise Killed
        write(path, content)

    monkeypatch.setattr(files, "write_whole", once_too_often)


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
@pytest.mark.parametrize("make", [batched, searching])
def test_interrupted_or_not_the_bits_are_the_same(make, tmp_path, monkeypatch):
    whole = checkpoints.solve(make(), tmp_path / "whole.npz", every=10_000)
    killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        checkpoints.solve(make(), tmp_path / "run.npz", every=7)
    monkeypatch.undo()
    assert int(checkpoints.load(make(), tmp_path / "run.npz").count) == 14
    assert_same_bits(checkpoints.solve(make(), tmp_path / "run.npz", every=9), whole)
    plain = jax.jit(gdjax.Run.solve)(make())
    assert int(plain.status) == int(whole.status)
    np.testing.assert_allclose(whole.params, plain.params, rtol=1e-4, atol=1e-5)


def test_a_run_that_had_ended_makes_no_step(tmp_path, monkeypatch):
    whole = checkpoints.solve(searching(), tmp_path / "run.npz", every=50)
    monkeypatch.delattr(checkpoints, "_advance")
    monkeypatch.delattr(files, "write_whole")
    assert_same_bits(checkpoints.solve(searching(), tmp_path / "run.npz", every=50), whole)


@pytest.mark.smoke
def test_states_of_keys_and_of_small_floats(tmp_path):
    def init(params):
        return {"key": jax.random.key(3), "small": jnp.zeros(2, jnp.bfloat16)}

    def update(updates, state, params=None, **_):
        key, noise = jax.random.split(state["key"])
        move = jax.tree.map(lambda g: -0.1 * g + 1e-3 * jax.random.normal(noise, g.shape), updates)
        return move, {"key": key, "small": state["small"] + jnp.bfloat16(0.5)}

    def run():
        optimizer = optax.GradientTransformationExtraArgs(init, update)
        return gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), optimizer, stop=None, max_steps=8)

    state = run().init()
    for _ in range(3):
        state = run().step(state)
    checkpoints.save(run(), state, tmp_path / "run.npz")
    found = checkpoints.load(run(), tmp_path / "run.npz")
    assert found.optimizer["small"].dtype == jnp.bfloat16
    keys = [jax.random.key_data(s.optimizer.pop("key")) for s in (found, state)]
    np.testing.assert_array_equal(*keys)
    assert_same_bits(found, state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DATA + 1.0}, "its start, data, key or hyperparameters are others"),
        ({"key": 1}, "its start, data, key or hyperparameters are others"),
        ({"max_steps": 61}, "its functions, shapes, types or max_steps are others"),
        ({"record": None}, "its functions, shapes, types or max_steps are others"),
    ],
)
def test_checkpoints_of_other_runs(tmp_path, changes, message):
    run = batched()
    checkpoints.save(run, run.init(), tmp_path / "run.npz")
    with pytest.raises(ValueError, match=rf"run\.npz is of another run: {message}"):
        checkpoints.solve(batched(**changes), tmp_path / "run.npz")


def test_files_that_are_no_checkpoints(tmp_path):
    run, path = searching(), tmp_path / "run.npz"
    checkpoints.save(run, run.init(), path)
    sound = path.read_bytes()
    for damaged in (sound[: len(sound) // 2], b"", b"not a zip", sound[:300] + b"\xff" + sound[301:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no checkpoint, or a damaged one"):
            checkpoints.load(run, path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").replace(path)
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoints.solve(run, path)
    with pytest.raises(FileNotFoundError):
        checkpoints.load(run, tmp_path / "none.npz")
    with pytest.raises(TypeError, match=r"run must be a gdjax\.Run, got str"):
        checkpoints.load("run", path)
    with pytest.raises(ValueError, match="every must be an integer of at least 1, got 0"):
        checkpoints.solve(run, path, every=0)


def test_a_full_disk_keeps_what_was_saved(tmp_path, monkeypatch):
    run, path = searching(), tmp_path / "run.npz"
    checkpoints.save(run, run.init(), path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"cannot write: No space left on device.*run\.npz") as caught:
        checkpoints.solve(run, path, every=3)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["run.npz"]
