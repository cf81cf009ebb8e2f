"""Spikes and rates are recorded in memory and on disk, and resumed; what cannot be is refused."""

import shutil

import numpy as np
import pytest
import xarray as xr

import sparse_mrnn as sm
from helpers.children import Child
from helpers.spiking_nets import INTERVENTIONS, STIMULI, network
from sparse_mrnn.errors import (
    ConfigError,
    GraphError,
    InterventionError,
    RecordingError,
    ResumeError,
    StimulusError,
)
from sparse_mrnn.ops.spiking import SpikingStepper
from sparse_mrnn.recording import events
from sparse_mrnn.simulation.run import Run
from sparse_mrnn.stimulus import Clamp, Poisson, SpikeTimes, Stimulus

RECORD = sm.Record(what=["units", "spikes"], variables=["v", "rate"], every=40)


def begin(out=None, **options):
    given = dict(steps=400, batch=2, stimulus=STIMULI, interventions=INTERVENTIONS, record=RECORD, progress=False)
    return sm.simulate(network(), **{**given, **options}, out=out)


def identical(one, two):
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, two[name].values)


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(events, "CHUNK", 100)


def test_events_have_times_places_and_trials_of_recorded_units():
    whole = begin()
    part = begin(record=sm.Record(what=["spikes"], regions=["i", "e"], units=["i[3]", "e[2]", "e[5]"]))
    assert part.unit_id.values.tolist() == ["i[3]", "e[2]", "e[5]"]
    name = whole.unit_id.values[whole.spike_unit.values]
    of_part = part.unit_id.values[part.spike_unit.values]
    assert len(of_part) > 10
    for unit in part.unit_id.values:
        for trial in (0, 1):
            times = whole.spike_time.values[(name == unit) & (whole.spike_trial.values == trial)]
            found = part.spike_time.values[(of_part == unit) & (part.spike_trial.values == trial)]
            np.testing.assert_array_equal(times, found)


def test_rates_count_the_spikes_between_samples():
    run = begin()
    counts = np.zeros(run.rate.shape)
    sample = np.ceil(run.spike_time.values / 4.0 - 1e-9).astype(int) - 1
    np.add.at(counts, (run.spike_trial.values, sample, run.spike_unit.values), 1)
    np.testing.assert_allclose(run.rate.values, counts / 0.004)


def test_the_default_recording_is_of_spikes():
    run = sm.simulate(network(), steps=100, progress=False)
    assert set(run.data_vars) == {"spike_time", "spike_unit", "spike_trial"}


def test_on_disk_as_in_memory(tmp_path, chunked):
    out = tmp_path / "run.zarr"
    on_disk = begin(out)
    identical(on_disk, begin())
    assert on_disk.sizes["spike"] > 300
    identical(xr.open_zarr(out), on_disk)
    only = tmp_path / "spikes.zarr"
    identical(begin(only, record=sm.Record(what=["spikes"])), begin()[["spike_time", "spike_unit", "spike_trial"]])


CHILD = """
import sys, time
from sparse_mrnn.ops.spiking import SpikingStepper
from simulation.test_spikes import begin, events
events.CHUNK = 100
advance, left = SpikingStepper.advance, [int(sys.argv[2])]
def counted(self, *given, **more):
    left[0] -= 1
    if left[0] < 0:
        print("here", flush=True)
        time.sleep(60)
    advance(self, *given, **more)
SpikingStepper.advance = counted
begin(sys.argv[1], mode="resume", checkpoint_seconds=0.02)
print("done", flush=True)
"""


def test_a_run_that_fails_resumes_bit_for_bit(tmp_path, chunked, monkeypatch):
    out, advance, left = tmp_path / "run.zarr", SpikingStepper.advance, [70]

    def failing(self, *given, **more):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("broken")
        advance(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SpikingStepper, "advance", failing)
        with pytest.raises(RuntimeError, match="broken"):
            begin(out, checkpoint_seconds=0.01)
    found = sm.open_recording(out)
    assert found.sizes["spike"] % 100 == 0
    identical(begin(out, mode="resume"), begin())
    with pytest.raises(ResumeError, match="steps"):
        begin(out, mode="resume", steps=600)


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path, chunked):
    out = tmp_path / "run.zarr"
    for bands in (150, 60):
        child = Child(CHILD, out, bands)
        assert child.stdout.readline() == "here\n"
        child.kill()
        child.rest()
        found = sm.open_recording(out)
        assert found.sizes["spike"] % 100 == 0
    identical(begin(out, mode="resume"), begin())


@pytest.mark.slow
def test_every_checkpoint_is_one_to_go_on_from(tmp_path, chunked, monkeypatch):
    save, saved = Run._save, []

    def save_and_copy(run, reporter, *, partial=False):
        save(run, reporter, partial=partial)
        saved.append(run.step)
        if len(saved) % 20 == 0:
            shutil.copytree(tmp_path / "run.zarr", tmp_path / f"{run.step}.zarr")

    whole = begin()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_save", save_and_copy)
        begin(tmp_path / "run.zarr", checkpoint_seconds=0.0)
    copies = sorted(tmp_path.glob("[0-9]*.zarr"))
    assert len(copies) > 5
    for copy in copies:
        identical(begin(copy, mode="resume"), whole)


def test_damage_of_events_is_found(tmp_path, chunked):
    out = tmp_path / "run.zarr"
    begin(out)
    file = out / "spike_unit" / "1"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RecordingError, match="spike_unit/1"):
        sm.open_recording(out)


def test_a_run_goes_on_from_the_state_of_another():
    quiet = dict(stimulus=None, interventions=None, record=sm.Record(what=["spikes"]))
    one, state = begin(steps=250, return_state=True, **quiet)
    two = begin(steps=50, x0=state, **quiet)
    three = begin(steps=50, x0=state, event_driven=False, **quiet)
    identical(two, three)
    assert min(one.sizes["spike"], two.sizes["spike"]) > 0


def test_what_is_refused():
    net = network()
    rates = sm.RegionGraph()
    rates.add_region("a", 2)
    rate = sm.mRNN(rates, device="cpu")
    with pytest.raises(RecordingError, match="mRNN have no spikes"):
        sm.simulate(rate, 50, record=sm.Record(what=["spikes"]))
    with pytest.raises(RecordingError, match="no 'rate'"):
        sm.simulate(rate, 50, record=sm.Record(variables=["rate"]))
    with pytest.raises(InterventionError, match="clamp of 'e'.*'h'"):
        sm.simulate(net, 5.0, interventions=Clamp("e", 0.5))
    with pytest.raises(StimulusError, match="10000 events"):
        sm.simulate(net, 5.0, stimulus=Stimulus("e", Poisson(1e9)))
    with pytest.raises(StimulusError, match="times of 2 units, and there are 80"):
        sm.simulate(net, 5.0, stimulus=Stimulus("e", SpikeTimes([[1.0], [2.0]])))
    with pytest.raises(StimulusError, match="finite and not negative"):
        SpikeTimes([-1.0])
    with pytest.raises(StimulusError, match="numbers"):
        SpikeTimes(["a"])


def test_drawn_delays_are_refused_where_they_do_not_belong():
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_input("cue", 2)
    with pytest.raises(GraphError, match="'cue' -> 'a'.*input"):
        g.add_projection("cue", "a", delay=2.0, delay_std=1.0)
    with pytest.raises(GraphError, match="without delay"):
        g.add_projection("a", "a", delay_std=1.0)
    with pytest.raises(GraphError, match="low-rank"):
        g.add_projection("a", "a", delay=2.0, delay_std=1.0, rank=1, sign="free")
    g.add_projection("a", "a", delay=2.0, delay_std=1.0)
    net = sm.LIF(g, device="cpu")
    with pytest.raises(ConfigError, match="'a' -> 'a'.*delay_std"):
        net.to_networkx()
