"""Stores: what was complete is kept, what was not is run, and the end is the same bit for bit."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray

import gdjax
from gdjax._internal import files
from gdjax._internal.programs import fingerprints
from gdjax.sweeps import layout as layouts
from gdjax.sweeps import storing
from gdjax.types import Status

ROOT = Path(__file__).resolve().parents[2]
AXES = {"rate": [0.1, 0.2, 0.3], "power": gdjax.static({"two": 2, "three": 3}), "start": np.arange(4.0)}
BOXES = 6
DATA = np.linspace(0.5, 1.5, 4).astype(np.float32)


def make_trial(data=DATA, scale=1.0):
    def trial(rate, start, power=2):
        values = jnp.asarray(data) * start - rate**power
        return {"value": scale * jnp.sum(jnp.sin(values)), "status": jnp.int8(start), "row": values > 0}

    return trial


def run(path, trial=None, axes=AXES, **options):
    return gdjax.sweep(trial or make_trial(), axes, chunk=4, store=path, progress=False, **options)


def contents(path):
    """All files of a store but its attributes, which hold times, and its manifest's rows, which do too."""
    found = {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
    timed = (".zattrs", ".zmetadata")
    return {name: data for name, data in found.items() if name not in timed and "record/" not in name}


class Stopped(Exception):
    pass


def stop_after(boxes, error=Stopped):
    seen = []

    def watch(chunk):
        seen.append(chunk)
        if len(seen) == boxes:
            raise error

    return watch


@pytest.fixture
def whole(tmp_path):
    """A store made without interruption."""
    run(tmp_path / "whole.zarr")
    return tmp_path / "whole.zarr"


@pytest.mark.smoke
def test_a_store_is_the_dataset_and_needs_no_gdjax_to_read(whole):
    found, plain = run(whole), gdjax.sweep(make_trial(), AXES, chunk=4)
    with xarray.open_zarr(whole) as stored:
        xarray.testing.assert_identical(stored.load(), found.load())
    assert list(found) == list(plain)
    for name in plain:
        xarray.testing.assert_identical(plain[name], found[name])
        assert plain[name].dtype == found[name].dtype
    assert found.attrs["complete"] == 1
    shared = plain.attrs.keys() - {"ticks", "created", "wall_seconds", "compile_seconds"}
    assert {name: found.attrs[name] for name in shared} == {name: plain.attrs[name] for name in shared}


def test_a_complete_store_runs_and_compiles_nothing(whole, monkeypatch):
    monkeypatch.delattr("gdjax.sweeps.spec.Engine")
    monkeypatch.delattr("gdjax._internal.files.write_whole")
    before = {f: f.stat().st_mtime_ns for f in whole.rglob("*")}
    assert run(whole).value.shape == (3, 2, 4)
    assert {f: f.stat().st_mtime_ns for f in whole.rglob("*")} == before


@pytest.mark.smoke
@pytest.mark.parametrize("boxes", [1, 4, 6])
def test_what_was_complete_is_not_run_again(whole, tmp_path, boxes):
    path, seen = tmp_path / "r.zarr", []
    with pytest.raises(Stopped):
        run(path, watch=stop_after(boxes))
    with xarray.open_zarr(path) as half:
        assert int(np.isfinite(half.value).sum()) == 4 * boxes
        assert half.attrs["complete"] == 0
    found = run(path, watch=seen.append)
    assert len(seen) == BOXES - boxes
    assert contents(path) == contents(whole)
    assert found.attrs["complete"] == 1


def test_what_a_killed_writer_left_goes_when_all_is_there(whole, tmp_path):
    path = tmp_path / "r.zarr"
    with pytest.raises(Stopped):
        run(path, watch=stop_after(2))
    left = path / "value" / "1.0.e491063a.partial"  # zarr's name for a chunk that is being written
    left.write_bytes(b"half of a chunk")
    with pytest.raises(Stopped):
        run(path, watch=stop_after(1))
    assert left.exists()  # other processes may be writing
    run(path)
    assert contents(path) == contents(whole)


def test_data_without_their_row_are_run_again(whole, tmp_path):
    path, seen = tmp_path / "r.zarr", []
    shutil.copytree(whole, path)
    (path / "manifest" / "record" / "2.0").unlink()
    (path / "value" / "2.0.0").write_bytes(b"half of it")
    (path / "manifest" / "record" / "2.deadbeef.partial").write_bytes(b"of a writer that was killed")
    (tmp_path / ".r.zarr.0123.tmp").mkdir()
    run(path, watch=seen.append)
    assert len(seen) == 1
    (path / "manifest" / "record" / "2.deadbeef.partial").unlink()
    assert contents(path) == contents(whole)


@pytest.mark.slow
def test_another_text_of_the_same_program_is_the_same_sweep(whole):
    def renamed(rate, start, power=2):
        shifted = jnp.asarray(DATA) * start - rate**power  # a comment, and other names
        return {"value": 1.0 * jnp.sum(jnp.sin(shifted)), "status": jnp.int8(start), "row": shifted > 0}

    assert run(whole, renamed).attrs["complete"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": AXES | {"rate": [0.1, 0.2, 0.4]}}, "axis 'rate' has other values"),
        ({"axes": AXES | {"rate": [0.1, 0.2]}}, "axis 'rate' has other values"),
        ({"axes": AXES | {"power": gdjax.static({"two": 2, "four": 3})}}, "axis 'power' has other values"),
        ({"axes": dict(reversed(AXES.items()))}, "its axes are rate, power, start, not start, power, rate"),
        ({"axes": AXES | {"power": gdjax.static({"two": 2, "three": 4})}}, "something else at power=three"),
        ({"trial": make_trial(scale=2.0)}, "something else at power=two"),
        ({"trial": make_trial(data=DATA + 1e-6)}, "something else at power=two"),
        ({"params": True}, "params was False, now it is True"),
        (
            {"lanes": gdjax.sweeps.Lanes(2, prune=gdjax.sweeps.Halving(3))},
            "pruning was None, now it is Halving",
        ),
    ],
)
def test_a_store_of_another_sweep_says_what_differs(whole, changes, message):
    before = contents(whole)
    with pytest.raises(ValueError, match=f"holds another sweep: .*{message}"):
        run(whole, **changes)
    assert contents(whole) == before


def test_other_versions_and_other_floats_are_other_sweeps(whole, x64):
    with pytest.raises(ValueError, match="float64 was False, now it is True"):
        run(whole)
    manifest = whole / "manifest" / ".zattrs"
    manifest.write_text(manifest.read_text().replace(jax.__version__, "0.0.1"))
    with pytest.raises(ValueError, match=f"written by jax 0.0.1, this is {jax.__version__}"):
        run(whole)


def test_what_is_in_the_way(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("precious")
    folder.mkdir()
    assert run(folder).attrs["complete"] == 1  # an empty folder is as good as none
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("precious")
    with pytest.raises(FileExistsError, match="no store but a file"):
        run(file)
    with pytest.raises(FileExistsError, match="no store of a sweep"):
        run(tmp_path / "other")
    with pytest.raises(FileExistsError, match="cannot make the store"):
        run(file / "r.zarr")
    with pytest.raises(TypeError, match="store must be the path of a folder, got dict"):
        run({})
    assert file.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "other"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("gdjax.sweeps.store.zarr.open_group", refuse)
    with pytest.raises(PermissionError, match="cannot make the store: Permission denied") as caught:
        run(tmp_path / "r.zarr")
    assert caught.value.filename == str(tmp_path / "r.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.smoke
def test_damage_is_found_and_named(whole):
    chunk = whole / "value" / "1.0.0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-3])
    with pytest.raises(ValueError, match=r"damaged: box 1 of 'value' is missing or truncated.*record/1\.0"):
        run(whole)
    chunk.unlink()
    with pytest.raises(ValueError, match="damaged: box 1"):
        run(whole)
    (whole / "manifest" / "record" / "1.0").unlink()  # what the message says
    seen = []
    run(whole, watch=seen.append)
    assert len(seen) == 1
    assert chunk.read_bytes() == sound
    (whole / "manifest" / "record" / "3.0").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"record/3\.0 is not what was written"):
        run(whole)
    (whole / "manifest" / ".zattrs").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        run(whole)


def test_a_flipped_bit_is_an_error_and_the_rest_stays_readable(whole):
    chunk, expected = whole / "value" / "1.0.0", run(whole).value.load()
    data = bytearray(chunk.read_bytes())
    data[-6] ^= 1
    chunk.write_bytes(data)
    found = run(whole)
    with pytest.raises(RuntimeError, match="Zstd"):
        found.value.load()
    xarray.testing.assert_identical(found.value[:, 1].load(), expected[:, 1])


@pytest.mark.parametrize("when", [0, 3, 7, 11])
def test_a_full_disk(whole, tmp_path, monkeypatch, when):
    """Whatever file the disk is full at, the boxes before it are kept."""
    path, settle, calls = tmp_path / "r.zarr", files.settle, []
    with pytest.raises(Stopped):
        run(path, watch=stop_after(1))

    def full(file):
        calls.append(file)
        if len(calls) > when:
            raise OSError(errno.ENOSPC, "No space left on device")
        settle(file)

    monkeypatch.setattr(files, "settle", full)
    kept = 1 + when // 4  # three variables and a row
    with pytest.raises(OSError, match=f"No space left.*; {kept} of 6 boxes are complete") as caught:
        run(path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    with xarray.open_zarr(path) as half:
        assert int(np.isfinite(half.value).sum()) >= 4 * kept
    run(path)
    assert contents(path) == contents(whole)


def test_no_room_for_the_layout(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "settle", full)
    with pytest.raises(OSError, match="cannot make the store: No space left"):
        run(tmp_path / "r.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_parts_come_together(whole, tmp_path):
    path, seen = tmp_path / "r.zarr", [[], [], []]
    for index in (2, 0, 1):
        found = run(path, part=(index, 3), watch=seen[index].append)
    assert [len(boxes) for boxes in seen] == [2, 2, 2]
    assert found.attrs["complete"] == 1
    assert contents(path) == contents(whole)
    with pytest.raises(ValueError, match="0 <= index < count"):
        run(path, part=(3, 3))
    with pytest.raises(TypeError, match="part must be"):
        run(path, part=1)
    with pytest.raises(ValueError, match="part= needs store="):
        gdjax.sweep(make_trial(), AXES, part=(0, 2))


def test_a_part_alone_is_honest(tmp_path):
    found = run(tmp_path / "r.zarr", part=(0, 2))
    assert found.attrs["complete"] == 0
    assert int(np.isnan(found.value).sum()) == 12
    assert run(tmp_path / "r.zarr").attrs["complete"] == 1  # one process makes up for the other


@pytest.mark.slow
def test_two_that_lay_out_at_once(whole, tmp_path, monkeypatch):
    """The one that comes second takes the first one's store."""
    path, make = tmp_path / "r.zarr", storing.create

    def late(*arguments):
        monkeypatch.setattr(storing, "create", make)
        gdjax.sweep(make_trial(), AXES, chunk=2, store=path, part=(1, 2))
        return make(*arguments)

    monkeypatch.setattr(storing, "create", late)
    found = run(path)
    assert found.attrs["chunk"] == 2
    assert found.attrs["complete"] == 1
    np.testing.assert_allclose(found.value, run(whole).value, rtol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.zarr", "whole.zarr"]


def cheap(rate):
    return {"value": jnp.sin(rate), "curve": rate * jnp.arange(6.0)}


def cut(path):
    manifest = json.loads((path / "manifest" / ".zattrs").read_text())
    return manifest["tiles"], manifest["boxes"]


@pytest.mark.slow
def test_auto_chunks_take_some_time(tmp_path, monkeypatch):
    """Cut by a count of operations, then by the clock: put together where calls are short, cut where they are long."""
    axes = {"rate": np.linspace(0.0, 1.0, 3000).astype(np.float32)}
    expected = gdjax.sweep(cheap, axes)
    gdjax.sweep(cheap, axes, store=tmp_path / "all.zarr")
    assert cut(tmp_path / "all.zarr") == ([3000], [3000])
    monkeypatch.setattr(storing, "RATE", 1500.0)
    found = gdjax.sweep(cheap, axes, store=tmp_path / "some.zarr")
    tiles, boxes = cut(tmp_path / "some.zarr")
    assert 100 < tiles[0] < 1500
    assert boxes[0] == 3000 or boxes[0] % tiles[0] == 0
    assert found.attrs["chunk"] == boxes[0] > tiles[0]
    monkeypatch.setattr(storing, "SECONDS", 1e-9)
    few = {"rate": axes["rate"][:40]}
    gdjax.sweep(cheap, few, store=tmp_path / "single.zarr", watch=(seen := []).append)
    assert cut(tmp_path / "single.zarr") == ([1], [1])
    assert len(seen) == 40
    for store in ("all", "some"):
        stored = xarray.open_zarr(tmp_path / f"{store}.zarr")
        np.testing.assert_allclose(stored.value, expected.value, rtol=1e-6)


@pytest.mark.slow
def test_auto_cuts_across_what_is_shared_last(tmp_path, monkeypatch):
    """Rates share the work of their seed, so seeds are cut."""
    monkeypatch.setattr(storing, "RATE", 500.0)
    matrix = jnp.ones((20, 20))

    def trial(rate, seed):
        return rate * jnp.sum(jnp.tanh(matrix @ jnp.full(20, seed)))

    axes = {"rate": np.arange(1.0, 5.0), "seed": np.arange(3.0)}
    gdjax.sweep(trial, axes, store=tmp_path / "r.zarr")
    assert cut(tmp_path / "r.zarr")[0] == [4, 1]


@pytest.mark.slow
def test_memory_is_that_of_a_chunk(tmp_path):
    """The curves take 48 MB; no array of more than some chunks is made on the host."""
    axes = {"rate": np.arange(20_000.0, dtype=np.float32)}

    def trial(rate):
        return {"value": rate, "curve": rate * jnp.arange(600.0)}

    gdjax.sweep(trial, {"rate": axes["rate"][:1000]}, chunk=1000, store=tmp_path / "first.zarr")
    tracemalloc.start()
    try:
        found = gdjax.sweep(trial, axes, chunk=1000, store=tmp_path / "r.zarr")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.curve.nbytes == 48e6
    assert peak < 12e6
    np.testing.assert_array_equal(found.curve[19_999], 19_999 * np.arange(600.0, dtype=np.float32))


@pytest.mark.slow
def test_long_traces_are_cut_along_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "LARGEST", 64)
    found = gdjax.sweep(cheap, {"rate": np.arange(4.0, dtype=np.float32)}, chunk=4, store=tmp_path / "r.zarr")
    assert sorted(f.name for f in (tmp_path / "r.zarr" / "curve").glob("0.*")) == ["0.0", "0.1"]
    np.testing.assert_array_equal(found.curve[3], 3 * np.arange(6))
    (tmp_path / "r.zarr" / "curve" / "0.1").unlink()
    with pytest.raises(ValueError, match="damaged"):
        gdjax.sweep(cheap, {"rate": np.arange(4.0, dtype=np.float32)}, chunk=4, store=tmp_path / "r.zarr")


@pytest.mark.slow
def test_types_that_zarr_does_not_know(tmp_path):
    with pytest.raises(TypeError, match="'result' is of type bfloat16"):
        gdjax.sweep(lambda a: a.astype(jnp.bfloat16), {"a": np.ones(2)}, store=tmp_path / "r.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_no_axes_and_static_ones_alone(tmp_path):
    assert float(gdjax.sweep(lambda: jnp.float32(3.0), {}, store=tmp_path / "r.zarr").result) == 3.0
    axes = {"width": gdjax.static([2, 5])}
    found = gdjax.sweep(lambda width: jnp.sum(jnp.ones(width)), axes, store=tmp_path / "s.zarr")
    assert found.result.values.tolist() == [2, 5]
    with pytest.raises(ValueError, match="static choices return different"):
        gdjax.sweep(jnp.zeros, {"shape": gdjax.static([1, 2])}, store=tmp_path / "t.zarr")


@pytest.mark.smoke
def test_runs_in_lanes_resume(tmp_path):
    def trial(rate):
        return gdjax.Run(
            lambda x: x**2, jnp.float32(1.0), optax.sgd(rate), max_steps=40, record=lambda s: s.value
        )

    axes = {"rate": np.linspace(0.1, 0.4, 9).astype(np.float32)}
    expected = gdjax.sweep(trial, axes, chunk=3, lanes=2, store=tmp_path / "whole.zarr")
    with pytest.raises(Stopped):
        gdjax.sweep(trial, axes, chunk=3, lanes=2, store=tmp_path / "r.zarr", watch=stop_after(2))
    found = gdjax.sweep(trial, axes, store=tmp_path / "r.zarr")  # the store knows chunk and lanes
    assert (found.attrs["chunk"], found.attrs["lanes"], found.attrs["engine"]) == (3, 2, "lanes")
    assert contents(tmp_path / "r.zarr") == contents(tmp_path / "whole.zarr")
    assert found.trace.dims == ("rate", "step")
    xarray.testing.assert_equal(found.load(), expected.load())


def to_csv(path):
    """A watcher that appends a line a run."""

    def write(chunk):
        rows = chunk[["value", "status"]].to_dataframe().reset_index()
        rows.to_csv(path, mode="a", header=not path.exists(), index=False)

    return write


@pytest.mark.parametrize("store", [None, "r.zarr"])
def test_watch_writes_csv(tmp_path, store):
    path = tmp_path / "runs.csv"
    found = run(store and tmp_path / store, watch=to_csv(path))
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert lines[0] == ["rate", "power", "start", "value", "status"]
    assert len(lines) == 1 + 24
    for rate, power, start, value, status in lines[1:]:
        cell = found.sel(rate=float(rate), power=power, start=float(start))
        np.testing.assert_allclose(float(value), cell.value, rtol=1e-6)
        assert int(status) == int(cell.status)
    with pytest.raises(TypeError, match="watch must be a function"):
        run(None, watch=3)


def test_an_interrupt_says_how_to_go_on(whole, tmp_path):
    path = tmp_path / "r.zarr"
    with pytest.raises(
        KeyboardInterrupt, match=r"2 of 6 boxes are complete in .*r\.zarr; the same call goes on"
    ):
        run(path, watch=stop_after(2, KeyboardInterrupt))
    run(path)
    assert contents(path) == contents(whole)


@pytest.mark.slow
def test_the_bar_tells_what_runs_came_to(tmp_path):
    from rich.progress import Progress

    class Log(Progress):
        seen = []  # noqa: RUF012

        def update(self, task, **fields):
            super().update(task, **fields)
            self.seen.append((self.tasks[0].completed, fields["description"]))

    def trial(rate):
        return {"value": 1 / rate, "status": jnp.int8(jnp.where(rate > 3, Status.DIVERGED, Status.CONVERGED))}

    axes = {"rate": np.array([1.0, 2.0, 4.0, 8.0])}
    gdjax.sweep(trial, axes, chunk=2, store=tmp_path / "r.zarr", progress=(bar := Log()))
    assert bar.seen == [
        (0, "sweep, 2 running"),
        (2, "sweep, best 0.5"),
        (2, "sweep, 2 running, best 0.5"),
        (4, "sweep, 2 diverged, best 0.5"),
    ]
    (tmp_path / "r.zarr" / "manifest" / "record" / "1.0").unlink()
    Log.seen.clear()
    gdjax.sweep(trial, axes, chunk=2, store=tmp_path / "r.zarr", progress=Log())
    assert [done for done, _ in Log.seen] == [2, 4]


SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax, gdjax

def trial(rate, seed, optimizer):
    start = jax.random.normal(jax.random.key(seed), (2,))
    return gdjax.Run(lambda x: jnp.sum(jax.nn.softplus(x) ** 2), start, optimizer(rate), stop=None, max_steps=30)

optimizers = gdjax.static([gdjax.adam, optax.sgd])
axes = {"rate": np.geomspace(1e-3, 0.1, 8).astype(np.float32), "optimizer": optimizers, "seed": np.arange(8)}
count = lambda chunk: print("done", int(chunk.value.size), flush=True)
gdjax.sweep(trial, axes, chunk=4, store=sys.argv[1], watch=count)
print("end", flush=True)
"""


def start(path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_killed_three_times(tmp_path):
    """Killed at the first box, between boxes and soon after; the end is that of one quiet process."""
    path, runs = tmp_path / "r.zarr", 0
    for boxes, pause in ((1, 0.0), (5, 0.001), (3, 0.02)):
        with start(path) as process:
            assert process.stdout is not None
            for _ in range(boxes):
                assert process.stdout.readline() == "done 4\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        known = len([f for f in (path / "manifest" / "record").iterdir() if f.name.endswith(".0")])
        assert known >= runs + boxes - 2  # one may be in the writer's hands, and one on its way to it
        runs = known
    with start(path) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert lines == ["done 4"] * (32 - runs) + ["end"]
    exec(SCRIPT.replace("sys.argv[1]", repr(str(tmp_path / "whole.zarr"))), {})
    assert contents(path) == contents(tmp_path / "whole.zarr")


FILE = """
problem = "beale"
optimizers = ["adam", "momentum"]
steps = 20
out = "{out}"

[axes]
learning_rate = [0.001, 0.01, 0.1]
"""


@pytest.mark.slow
def test_two_distributed_processes_share_a_sweep(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    file = tmp_path / "sweep.toml"
    file.write_text(FILE.format(out=tmp_path / "r.zarr"))
    cluster = ["--distributed", "--coordinator", address, "--processes", "2", "--process"]
    commands = [[sys.executable, "-m", "gdjax", "sweep", str(file), *cluster, str(i)] for i in range(2)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    both = [subprocess.Popen(command, **pipes) for command in commands]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("6 runs in" in out for out, _ in said)
    with xarray.open_zarr(tmp_path / "r.zarr") as runs:
        assert runs.attrs["complete"] == 1
        assert np.isfinite(runs.value).all()
        assert (runs.status.values != Status.RUNNING).all()
        assert runs.attrs["chunk"] == 1  # six boxes, so that each has three


PROGRAMS = """
import jax, jax.numpy as jnp, gdjax
from gdjax._internal.programs import fingerprints

def trial(make, rate):
    stop = gdjax.stopping.residual_below(1e-3)
    run = gdjax.Run(lambda x: jnp.sum(jax.nn.softplus(x) ** 2) + jnp.linalg.norm(x), jnp.ones(3), make(rate), stop=stop)
    return run.solve().params

makers = [gdjax.adam, lambda rate: gdjax.bfgs(), lambda rate: gdjax.newton()]
print(*(fingerprints.of_program(jax.make_jaxpr(lambda rate, m=m: trial(m, rate))(0.1)) for m in makers))
"""


@pytest.mark.smoke
def test_fingerprints_outlive_a_process():
    """Neither addresses nor the order of sets are in them, nor what was traced before."""
    names: dict = {}
    exec(PROGRAMS.replace("print(*", "found = tuple("), names)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAMS]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert tuple(other.stdout.split()) == names["found"]
    assert len(set(names["found"])) == 3


@pytest.mark.smoke
def test_fingerprints_tell_programs_apart():
    def of(function, *arguments):
        return fingerprints.of_program(jax.make_jaxpr(function)(*arguments))

    def loop(body, last=3):
        return lambda x: jax.lax.fori_loop(0, last, lambda i, x: body(x), x)

    inner = jax.jit(lambda x: x * jnp.asarray(DATA))
    other = jax.jit(lambda x: x * jnp.asarray(DATA[::-1].copy()))
    programs = [
        of(loop(jnp.sin), 1.0),
        of(loop(jnp.cos), 1.0),
        of(loop(jnp.sin, 4), 1.0),
        of(loop(jnp.sin), np.float32(1.0)[None]),
        of(inner, 1.0),
        of(other, 1.0),
        of(lambda x, y: x - y, 1.0, 2.0),
        of(lambda x, y: y - x, 1.0, 2.0),
        of(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), 1.0),
        of(lambda x: jax.lax.cond(x > 0, jnp.cos, jnp.sin, x), 1.0),
    ]
    assert len(set(programs)) == len(programs)
    assert of(loop(jnp.sin), 1.0) == programs[0]
