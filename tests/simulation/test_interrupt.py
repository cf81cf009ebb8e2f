"""Full disks, Ctrl-C and second writers, at every stage of a run: what is recorded stays whole, and can go on."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr.storage._local as local

from helpers import ROOT, TESTS
from helpers.children import Child
from helpers.recorded_runs import CONFIG, STEPS, signal_at, small_chunks, tiny  # noqa: F401 - a fixture for every test here
from sparse_mrnn.errors import RecordingError, SimulationStopped
from sparse_mrnn.recording import open_recording
from sparse_mrnn.recording.lock import WriterLock


class Fault:
    """Raises at the ``at``-th operation on the disk, and at all later ones if ``lasting``."""

    def __init__(self, at, error, lasting):
        self.at, self.error, self.lasting, self.count = at, error, lasting, 0

    def __call__(self):
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            if self.error is None:  # Ctrl-C: it arrives in the main thread, whichever this one is
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise self.error


def after(fault, real):
    def wrapped(*args, **kwargs):
        fault()
        return real(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def faulty(monkeypatch, fault):
    """Every chunk and metadata file that zarr writes, every sync, and every rename."""
    with monkeypatch.context() as patch:
        for owner, name in ((local, "_put"), (os, "fsync"), (Path, "replace"), (Path, "rename")):
            patch.setattr(owner, name, after(fault, getattr(owner, name)))
        yield


def operations(monkeypatch, call):
    fault = Fault(None, None, False)
    with faulty(monkeypatch, fault):
        call()
    return fault.count


def run(out, mode="create"):
    return tiny(out, mode, checkpoint_seconds=0)


def is_whole(out, whole):
    """What a reader sees is a beginning of the whole recording."""
    found = open_recording(out).load()
    n = found.sizes["time"]
    assert n == found.attrs["recorded"]
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name], whole[name][:, :n])
    return n


def goes_on(out, whole):
    xr.testing.assert_identical(run(out, "resume").load().drop_attrs(), whole.drop_attrs())
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    assert not [p for p in out.rglob("*") if "partial" in p.name or "checkpoint" in p.name]


EVERY = pytest.mark.parametrize("every", [97, pytest.param(1, marks=pytest.mark.slow)])
"""Which operations fail: one in 97, which takes a second, or each."""


@EVERY
@pytest.mark.parametrize("lasting", [True, False])
def test_a_disk_full_at_every_write(tmp_path, monkeypatch, lasting, every):
    whole = tiny(None)
    total = operations(monkeypatch, lambda: run(tmp_path / "counted" / "run.zarr"))
    assert total > 200
    stages = set()
    for at in range(every, total + 1, every):
        out = tmp_path / str(at) / "run.zarr"
        with faulty(monkeypatch, Fault(at, OSError(errno.ENOSPC, "No space left on device"), lasting)):
            said = "No space left on device"
            try:
                run(out)
            except RecordingError as error:
                said = str(error)
        assert "No space left on device" in said
        if not out.exists():
            stages.add("nothing")
            assert list(out.parent.iterdir()) == []
        else:
            stages.add("some" if is_whole(out, whole) else "none yet")
        goes_on(out, whole)
        shutil.rmtree(out.parent)
    assert stages == {"nothing", "none yet", "some"}


@EVERY
def test_a_disk_full_before_a_recording_is_replaced_leaves_the_old_one(tmp_path, monkeypatch, every):
    out = tmp_path / "run.zarr"
    old = tiny(out, seed=7).load()
    whole = tiny(None)
    for at in itertools.count(every, every):
        replaced = False
        fault = Fault(at, OSError(errno.ENOSPC, "No space left on device"), False)
        with faulty(monkeypatch, fault):
            try:
                run(out, "overwrite")
                assert fault.count >= at
            except RecordingError as error:
                if "Nothing was left half-written" in str(error):
                    xr.testing.assert_identical(open_recording(out).load(), old)
                else:
                    replaced = True
                    is_whole(out, whole)
        assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]
        if replaced:
            break
        tiny(out, "overwrite", seed=7)
    assert at > 100


@EVERY
def test_an_interruption_at_every_write(tmp_path, monkeypatch, every):
    """As by a second Ctrl-C, which stops at once."""
    from sparse_mrnn.simulation.processes import Interrupt

    monkeypatch.setattr(Interrupt, "_note", staticmethod(signal.default_int_handler))
    whole, stopped = tiny(None), 0
    total = operations(monkeypatch, lambda: run(tmp_path / "counted" / "run.zarr"))
    for at in range(every, total + 1, every):
        out = tmp_path / str(at) / "run.zarr"
        with faulty(monkeypatch, Fault(at, None, False)):
            try:
                run(out)
            except KeyboardInterrupt:
                stopped += 1
        if out.exists():
            is_whole(out, whole)
        goes_on(out, whole)
        shutil.rmtree(out.parent)
    assert stopped > 0.5 * (total // every)  # some libraries underneath catch one and go on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("steps", [(1, 5, 7, STEPS - 1), pytest.param(range(1, STEPS), marks=pytest.mark.slow)])
def test_a_signal_at_every_step(tmp_path, monkeypatch, number, steps):
    whole = tiny(None)
    for at in steps:
        out = tmp_path / str(at) / "run.zarr"
        with signal_at(at, monkeypatch, number), pytest.raises(SimulationStopped):
            run(out)
        assert is_whole(out, whole) == at
        goes_on(out, whole)


def test_an_interruption_after_the_last_step_is_too_late_to_stop_the_run(tmp_path, monkeypatch):
    with signal_at(STEPS, monkeypatch):
        assert run(tmp_path / "run.zarr").sizes["time"] == STEPS
    goes_on(tmp_path / "run.zarr", tiny(None))


def test_a_termination_as_the_run_ends_takes_effect_afterwards(tmp_path, monkeypatch):
    arrived = []
    before = signal.signal(signal.SIGTERM, lambda *args: arrived.append(open_recording(tmp_path / "run.zarr").attrs["complete"]))
    try:
        with signal_at(STEPS, monkeypatch, signal.SIGTERM):
            assert run(tmp_path / "run.zarr").sizes["time"] == STEPS
    finally:
        signal.signal(signal.SIGTERM, before)
    assert arrived == [1]


def test_a_handler_that_python_did_not_set_is_left(monkeypatch):
    """Of a program around Python: ``signal`` has no object for it, and takes none to set it again."""
    from sparse_mrnn.simulation.processes import Interrupt

    known, usual = signal.getsignal, signal.signal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else known(number))
    replaced = []

    def replace(number, handler):
        replaced.append(number)
        before = usual(number, handler)
        return None if number == signal.SIGTERM else before

    monkeypatch.setattr(signal, "signal", replace)
    before = known(signal.SIGINT), known(signal.SIGTERM)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupt.requested
    assert replaced == [signal.SIGINT] * 2
    assert (known(signal.SIGINT), known(signal.SIGTERM)) == before


def test_a_log_that_cannot_be_written_does_not_end_a_run(tmp_path):
    whole = tiny(None)
    with pytest.warns(UserWarning, match="the log /dev/full ends here: No space left on device. The run goes on."):
        found = tiny(tmp_path / "run.zarr", log="/dev/full")
    xr.testing.assert_identical(found.load().drop_attrs(), whole.drop_attrs())


CHILD = """
import sys
from helpers import recorded_runs as t
from sparse_mrnn.errors import SparseMRNNError
from sparse_mrnn.simulation import plan
plan.LONGEST_CHUNK = 5
{before}
try:
    t.tiny(sys.argv[1], "resume", checkpoint_seconds=0)
    print("done", flush=True)
except SparseMRNNError as error:
    print(type(error).__name__, error, flush=True)
"""
SLOWLY = """
import time
from sparse_mrnn.simulation.progress import Progress
def update(self, done):
    print("step", flush=True)
    time.sleep(0 if done < 7 else 600)
Progress.update = update
"""


def child(out, before=""):
    return Child(CHILD.format(before=before), out)


@pytest.mark.slow
def test_a_second_writer_is_refused_and_a_killed_one_is_no_obstacle(tmp_path):
    out, whole = tmp_path / "run.zarr", tiny(None)
    first = child(out, SLOWLY)
    try:
        assert [first.stdout.readline() for _ in range(7)] == 7 * ["step\n"]
        for mode in ("create", "overwrite", "resume"):
            with pytest.raises(RecordingError, match=rf"process {first.pid} on .* \(since .* UTC\) is writing to .*run.zarr"):
                tiny(out, mode)
        assert "is writing to" in child(out).rest()
        assert is_whole(out, whole) == 5  # reading goes on
    finally:
        first.kill()
        first.rest()
    assert (tmp_path / "run.zarr.lock").exists()
    goes_on(out, whole)


def test_a_second_writer_in_the_same_process(tmp_path, monkeypatch):
    from sparse_mrnn.simulation.progress import Progress

    out = tmp_path / "run.zarr"
    refused = []

    def again(self, done):
        if done == 5:
            with pytest.raises(RecordingError, match=f"process {os.getpid()} on"):
                tiny(out, "overwrite")
            refused.append(done)

    monkeypatch.setattr(Progress, "update", again)
    found = run(out)
    monkeypatch.undo()
    assert refused == [5]
    xr.testing.assert_identical(found.load().drop_attrs(), tiny(None).drop_attrs())


def test_many_writers_at_once_end_in_one_recording(tmp_path):
    out, whole = tmp_path / "run.zarr", tiny(None)
    writers = [child(out) for _ in range(3)]
    said = [writer.rest() for writer in writers]
    assert sum("done" in text for text in said) >= 1
    assert all("done" in text or "is writing to" in text for text in said), said
    goes_on(out, whole)


def test_a_lock_file_without_a_lock_stops_nobody(tmp_path):
    (tmp_path / "run.zarr.lock").write_text("process 1 on elsewhere")
    run(tmp_path / "run.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def none(*args):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match="has no file locks .Operation not supported.: see to it"):
        run(tmp_path / "run.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_a_lock_file_removed_while_it_is_taken(tmp_path, monkeypatch):
    """The holder removes the file between the second writer's opening and locking it."""
    out = tmp_path / "run.zarr"
    path = tmp_path / "run.zarr.lock"
    flock, removed = fcntl.flock, []

    def late(handle, how):
        if not removed:
            removed.append(1)
            path.unlink()
        return flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with WriterLock(out):
        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(RecordingError, match="is writing to"), WriterLock(out):
            pass


def test_a_finished_recording_needs_no_lock(tmp_path, monkeypatch):
    run(tmp_path / "run.zarr")
    monkeypatch.setattr("sparse_mrnn.simulation.run.WriterLock", None)  # as on a disk that cannot be written
    assert run(tmp_path / "run.zarr", "resume").attrs["complete"]


def can_mount():
    try:
        return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(tmp_path):
    """As a quota: the child is told so by the system, at another file for each limit."""
    whole, seen = tiny(None), set()
    for size in (150, 5_000, 10**6):
        out = tmp_path / str(size) / "run.zarr"
        said = child(out, ROOM.format(size=size)).rest()
        assert re.search(r"^RecordingError .*File too large|^done", said, re.M), said
        seen.add("RecordingError" in said)
        if out.exists():
            is_whole(out, whole)
        goes_on(out, whole)
    assert seen == {True, False}


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs a mount of its own")
def test_a_disk_that_is_really_full(tmp_path):
    """On a tmpfs of every size from none to enough, each in a namespace of its own; then it is copied and goes on."""
    whole, seen = tiny(None), set()
    for size in range(4, 260, 24):
        disk, kept = tmp_path / f"disk{size}", tmp_path / f"kept{size}"
        disk.mkdir()
        kept.mkdir()
        script = f"mount -t tmpfs -o size={size}k tmpfs {disk} && \"$@\"; cp -r {disk}/. {kept}"
        command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", CHILD.format(before=""), str(disk / "run.zarr")]
        environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False).stdout
        assert re.match(r"RecordingError .*No space left|done", said), said
        out = kept / "run.zarr"
        seen.add((said.split()[0], out.exists()))
        if out.exists():
            is_whole(out, whole)
        else:
            assert list(kept.iterdir()) == []
        goes_on(out, whole)
    assert seen == {("RecordingError", False), ("RecordingError", True), ("done", True)}


def holds(process, out):
    try:
        return f"process {process.pid} on" in out.with_name("run.zarr.lock").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_signals_at_random_moments_of_the_command(tmp_path):
    config = tmp_path / "net.json"
    config.write_text(json.dumps(CONFIG))
    out = tmp_path / "runs" / "run.zarr"
    command = [sys.executable, "-m", "sparse_mrnn", "simulate", str(config), "--duration", "500000", "--out", str(out), "--resume", "--checkpoint-seconds", "0.05", "--quiet"]
    rng = np.random.default_rng(0)
    interrupted = 0
    for _ in range(15):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not holds(process, out) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 1.2))  # kernels are imported for a second after the lock is taken
        process.send_signal(signal.SIGINT if rng.random() < 0.7 else signal.SIGTERM)
        if rng.random() < 0.3:
            process.send_signal(signal.SIGINT)
        text = process.communicate()[0]
        assert "Traceback" not in text, text
        assert open_recording(out).load().sizes["time"] > 0  # each start goes on by a step at least
        if process.returncode == 0:
            break
        interrupted += 1
    assert interrupted > 3
    subprocess.run(command, check=True)
    again = [*command[:5], *command[5:7], "--out", str(tmp_path / "again.zarr"), "--quiet"]
    subprocess.run(again, check=True)
    xr.testing.assert_identical(open_recording(out).load().drop_attrs(), open_recording(tmp_path / "again.zarr").load().drop_attrs())
