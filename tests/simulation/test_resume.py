"""A run that is killed at any moment ends, resumed, in the recording of an uninterrupted one."""

import random
import time

import numpy as np
import pytest

from helpers.children import Child
from helpers.long_runs import begin, network
from helpers.recorded_runs import signal_at
from sparse_mrnn.errors import ResumeError, SimulationStopped
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.stimulus import Gain, Lesion, OrnsteinUhlenbeck, Stimulus

SHORT = dict(steps=60, stimulus=Stimulus("i", OrnsteinUhlenbeck(1.0, tau=40), start=100), interventions=None)


@pytest.fixture
def chunked(monkeypatch):
    from sparse_mrnn.simulation import plan

    monkeypatch.setattr(plan, "CHUNK_BYTES", 100 * 2 * 4 * 37)


CHILD = """
import sys
from helpers import long_runs
from sparse_mrnn.simulation import plan
long_runs.small_chunks(plan)
print("ready", flush=True)
long_runs.begin(sys.argv[1], mode="resume", checkpoint_seconds=float(sys.argv[2]))
print("done", flush=True)
"""


def start(out, every):
    child = Child(CHILD, out, every)
    assert child.stdout.readline() == "ready\n"
    return child


def kill_until_done(out, times, every, rng):
    """Start the run again and again, killing each one after a random time; the last one may end."""
    kills, progress = 0, []
    while True:
        child = start(out, every)
        if kills < times:
            time.sleep(rng.uniform(0.0, 0.35))
            child.kill()
        rest = child.rest()
        if "done" in rest:
            return kills, progress
        kills += 1
        if out.exists():
            found = open_recording(out)
            progress.append(found.attrs["recorded"])
            assert np.isfinite(found.h.values).all()  # what counts as recorded is there


def identical(one, two):
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, two[name].values)


def test_a_killed_run_resumes_bit_for_bit(tmp_path, chunked):
    out = tmp_path / "killed.zarr"
    kills, _ = kill_until_done(out, 3, 0.02, random.Random(1))
    assert kills >= 1
    identical(open_recording(out), begin(None))
    assert [p.name for p in tmp_path.iterdir()] == ["killed.zarr"]
    assert not [p for p in out.rglob("*") if "partial" in p.name or "checkpoint" in p.name]


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path, chunked):
    rng = random.Random(2)
    whole = begin(None)
    total = 0
    while total < 20:
        out = tmp_path / f"killed_{total}.zarr"
        kills, progress = kill_until_done(out, 20 - total, rng.choice([0.0, 0.01, 0.05]), rng)
        assert progress == sorted(progress)
        total += max(kills, 1)
        identical(open_recording(out), whole)


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_noise_does_not_depend_on_chunks(tmp_path, monkeypatch, chunk):
    from sparse_mrnn.simulation import plan

    monkeypatch.setattr(plan, "LONGEST_CHUNK", chunk)
    identical(begin(tmp_path / "run.zarr", **SHORT), begin(None, **SHORT))


def interrupted(out, monkeypatch, at=900):
    with signal_at(at, monkeypatch), pytest.raises(SimulationStopped):
        begin(out)


def test_a_stopped_run_keeps_every_sample_and_goes_on(tmp_path, chunked, monkeypatch):
    out = tmp_path / "run.zarr"
    interrupted(out, monkeypatch)
    kept, whole = open_recording(out), begin(None)
    assert kept.attrs["recorded"] == kept.h.shape[1] == 450
    np.testing.assert_array_equal(kept.h, whole.h[:, :450])
    identical(begin(out, mode="resume"), whole)
    identical(begin(out, mode="resume"), whole)  # a finished run is returned as it is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(seed=12), "seed: 11 then, 12 now"),
        (dict(steps=4000), "steps: 3000 then, 4000 now"),
        (dict(noise=False), "noise: true then, false now"),
        (dict(batch=3), "batch: 2 then, 3 now"),
        (dict(record=Record()), r"record.every: 2 then, 1 now"),
        (dict(stimulus=Stimulus("i", 1.0)), "stimulus: "),
        (dict(interventions=[Lesion("b", start=4000, stop=6500, fraction=0.5), Gain("a", "b", 0.3, start=7000)]), r"interventions\[0\].stop: 6000 then, 6500 now"),
        (dict(net={"seed": 4}), "recurrent synapses: "),
        (dict(net={"spectral_radius": 0.8}), "recurrent weights: "),
        (dict(net={"tau": 90.0}), "time constants: "),
        (dict(net={"activation": "tanh"}), "activation: "),
        (dict(net={"noise_level_act": 0.3}), "unit noise: "),
    ],
)
def test_another_run_is_refused_and_the_difference_named(tmp_path, monkeypatch, change, message):
    out = tmp_path / "run.zarr"
    interrupted(out, monkeypatch, 40)
    if "net" in change:
        change = {"net": network(**change["net"])}
    with pytest.raises(ResumeError, match=message):
        begin(out, mode="resume", **change)
    assert open_recording(out).attrs["recorded"] == 20


def test_a_damaged_checkpoint_is_said(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    interrupted(out, monkeypatch, 40)
    (out / ".checkpoint").write_bytes(b"nonsense")
    with pytest.raises(ResumeError, match="cannot read the checkpoint"):
        begin(out, mode="resume")


def test_an_overwrite_that_is_killed_loses_nothing(tmp_path, chunked):
    out = tmp_path / "run.zarr"
    begin(out, **SHORT)
    out.rename(tmp_path / "run.zarr.old")  # as a kill between two renames leaves it
    assert begin(out, **SHORT, mode="resume").h.shape[1] == 30
