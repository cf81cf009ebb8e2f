"""Simulation: against forward, recordings in memory and on disk, bad input, the shipped connectome."""

import json
import os
import signal

import numpy as np
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from sparse_mrnn.data import example_path
from sparse_mrnn.errors import (
    DivergenceError,
    MissingExtraError,
    RecordingError,
    RoundingWarning,
    ShapeError,
    SimulationStopped,
    StimulusError,
    UnknownNameError,
)
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.simulation import build_network, simulate
from sparse_mrnn.stimulus import Stimulus


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("backend", ["csr", "dense"])
@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize(("trials", "noise"), [(2, False), (1, True)])
def test_a_run_equals_one_forward(model, backend, batch_first, trials, noise):
    from helpers.networks import small

    net = small(model, batch_first=batch_first, backend=backend, **({} if model is sm.mRNN else {"dt": 10.0}))
    stimuli = [Stimulus("cue", 1.0, start=50, stop=120), Stimulus("brain", 0.5, start=100)]
    run = simulate(net, 300, batch=2, stimulus=stimuli, noise=noise, seed=5, record=Record(variables=["h", "x"]))
    run = run.isel(trial=slice(trials))  # the noise of `forward` is that of the first trial
    net.reset_noise(5)
    inp, stim = torch.zeros(trials, 30, 3), torch.zeros(trials, 30, 9)
    inp[:, 5:12, :2] = 1.0
    stim[:, 10:, [0, 1, 2, 3, 6, 7, 8]] = 0.5
    x0, h0 = net.batched_initial_condition(trials)
    if not batch_first:
        inp, stim = inp.transpose(0, 1), stim.transpose(0, 1)
    with torch.no_grad():
        h = net(inp, x0, h0, stim, noise)[1] if model is sm.mRNN else net(inp, h0, stim, noise)
    h = h if batch_first else h.transpose(0, 1)
    np.testing.assert_allclose(run.h, h.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.h, np.maximum(run.x, 0))
    assert run.time.values[[0, -1]].tolist() == [10, 300]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "linear"])
def test_own_time_constants_activations_and_noise_levels(activation):
    g = sm.RegionGraph()
    g.add_region("a", 4, tau=30, activation="tanh", noise_level=0.5)
    g.add_region("b", 3, sign=None, base_firing=0.3)
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t)
    net = sm.mRNN(g, activation, device="cpu", seed=1, noise_level_act=0.1)
    assert net.hid_noise_const[0] > 2 * net.hid_noise_const[-1]
    run = simulate(net, 200, batch=3, noise=True, seed=2)
    net.reset_noise(2)
    with torch.no_grad():
        h = net(torch.zeros(1, 20, 0), *net.batched_initial_condition(1), noise=True)[1]
    np.testing.assert_allclose(run.h[:1], h.numpy(), rtol=2e-5, atol=1e-6)


def test_recording_on_disk_equals_that_in_memory(net, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "run.zarr"
    monkeypatch.setattr("sparse_mrnn.simulation.plan.CHUNK_BYTES", 9 * 2 * 4 * 3)  # 3 samples
    options = dict(batch=2, stimulus=Stimulus("cue", 1.0), noise=True)
    memory = simulate(net, 100, **options)
    lazy = simulate(net, 100, **options, out=path)
    xr.testing.assert_identical(lazy.load().drop_attrs(), memory.drop_attrs())
    assert lazy.h.dims == ("trial", "time", "unit")
    assert lazy.time.attrs["units"] == "ms" if lazy.time.attrs else True
    assert lazy.region.values.tolist() == ["ctx"] * 4 + ["spine"] * 2 + ["thal"] * 3
    assert lazy.unit_id.values[4] == "spine[0]"
    assert (lazy.attrs["complete"], lazy.attrs["recorded"], lazy.attrs["seed"]) == (1, 10, 0)
    assert json.loads(lazy.attrs["options"])["stimulus"] == [{"region": "cue", "type": "constant", "amplitude": 1.0}]
    assert sm.read_config(json.loads(lazy.attrs["config"])).n_units == 9
    assert json.loads(lazy.attrs["versions"])["torch"] == torch.__version__
    assert [p.name for p in path.parent.iterdir()] == ["run.zarr"]
    assert not list(path.rglob("*.checkpoint"))


def test_what_is_recorded(net, tmp_path):
    full = simulate(net, 200, batch=2, noise=True, record=Record(variables=["h", "x"]))
    h = full.h.values.astype(np.float64)
    some = Record(what=["units", "mean", "variance"], regions=["brain", "spine"], units=["ctx[1]", "spine[0]"], every=3, dtype="float16")
    for out in (None, tmp_path / "some.zarr"):
        run = simulate(net, 200, batch=2, noise=True, record=some, out=out)
        assert run.time.values.tolist() == [30, 60, 90, 120, 150, 180]
        assert set(run.data_vars) == {"h", "h_mean", "h_variance"}
        assert all(v.dtype == np.float16 for v in run.data_vars.values())
        assert run.unit_id.values.tolist() == ["ctx[1]", "spine[0]"]
        assert run.group.values.tolist() == ["brain", "spine"]
        at = h[:, 2:18:3]
        np.testing.assert_allclose(run.h, at[:, :, [1, 4]], rtol=1e-3, atol=1e-6)
        brain = at[:, :, [0, 1, 2, 3, 6, 7, 8]]
        np.testing.assert_allclose(run.h_mean.sel(group="brain"), brain.mean(-1), rtol=1e-3)
        np.testing.assert_allclose(run.h_variance.sel(group="brain"), brain.var(-1), rtol=2e-3)
        np.testing.assert_allclose(run.h_mean.sel(group="spine"), at[:, :, 4:6].mean(-1), rtol=1e-3)
    only = simulate(net, 200, record=Record(what=["mean"], variables=["x"]))
    assert set(only.data_vars) == {"x_mean"}
    assert set(only.coords) == {"time", "group"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_simulated(net, tmp_path, number, monkeypatch):
    from sparse_mrnn.simulation.progress import Progress

    told = Progress.update
    monkeypatch.setattr(Progress, "update", lambda self, done: os.kill(os.getpid(), number) if done == 200 else told(self, done))
    before = signal.getsignal(number)
    with pytest.raises(SimulationStopped, match="stopped at 2000 of 10000 ms") as caught:
        simulate(net, 10_000)
    assert caught.value.recording.h.shape == (1, 200, 9)
    path = tmp_path / "run.zarr"
    with pytest.raises(SimulationStopped, match="resume it"):
        simulate(net, 10_000, out=path)
    kept = open_recording(path)
    assert (kept.h.shape[1], kept.attrs["complete"]) == (200, 0)
    np.testing.assert_array_equal(kept.h, caught.value.recording.h)
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    whole = simulate(net, 10_000, out=path, mode="resume")
    np.testing.assert_array_equal(whole.h, simulate(net, 10_000).h)


def test_divergence_names_time_region_and_checkpoint(tmp_path):
    g = sm.RegionGraph()
    g.add_region("calm", 3)
    g.add_region("wild", 2, init=1.0)
    g.add_projection("wild", "wild", weights=np.full((2, 2), 1e4))
    net = sm.mRNN(g, device="cpu", backend="csr")
    with pytest.raises(DivergenceError, match=r"diverged: at 120 ms, 2 units .* region 'wild'.*checkpoint of .* at 100 ms") as caught:
        _diverge(net, tmp_path)
    assert (caught.value.time, caught.value.region) == (120.0, "wild")
    assert caught.value.recording.h.shape[1] == 11
    assert np.isfinite(caught.value.recording.h.values).all()


def _diverge(net, tmp_path):
    from sparse_mrnn.simulation import run as running

    class Clock:
        now = 0.0

        def monotonic(self):
            self.now += 1
            return self.now

    real, running.time = running.time, Clock()
    try:
        simulate(net, 1000, out=tmp_path / "run.zarr", checkpoint_seconds=5)
    finally:
        running.time = real


def test_a_disk_that_fills_leaves_a_run_to_resume(net, tmp_path, monkeypatch):
    import zarr.storage._local as local

    path = tmp_path / "run.zarr"
    monkeypatch.setattr("sparse_mrnn.simulation.plan.CHUNK_BYTES", 9 * 4 * 5)  # 5 samples
    put, count = local._put, iter(range(10**6))

    def full(target, *args, **kwargs):
        if target.parent.name == "h" and next(count) >= 3:
            raise OSError(28, "No space left on device")
        return put(target, *args, **kwargs)

    monkeypatch.setattr(local, "_put", full)
    with pytest.raises(RecordingError, match="No space left on device.*resume"):
        simulate(net, 1000, out=path, noise=True, checkpoint_seconds=0)
    monkeypatch.setattr(local, "_put", put)
    assert np.isfinite(open_recording(path).h.values).all()
    run = simulate(net, 1000, out=path, noise=True, mode="resume")
    np.testing.assert_array_equal(run.h, simulate(net, 1000, noise=True).h)


def test_a_disk_full_from_the_start_leaves_nothing(net, tmp_path, monkeypatch):
    import zarr.storage._local as local

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "_put", full)
    with pytest.raises(RecordingError, match="No space left on device. Nothing was left"):
        simulate(net, 100, out=tmp_path / "run.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_replaced_only_when_asked(net, tmp_path):
    path = tmp_path / "run.zarr"
    simulate(net, 100, out=path)
    with pytest.raises(RecordingError, match="exists; choose another path, overwrite it"):
        simulate(net, 200, out=path)
    assert open_recording(path).h.shape[1] == 10
    simulate(net, 200, out=path, mode="overwrite")
    assert open_recording(path).h.shape[1] == 20
    other = tmp_path / "notes"
    other.mkdir()
    for mode in ("overwrite", "resume"):
        with pytest.raises(RecordingError, match="not a recording"):
            simulate(net, 200, out=other, mode=mode)
    with pytest.raises(RecordingError, match="not a recording"):
        open_recording(other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "run.zarr"]
    with pytest.raises(RecordingError, match="give its path as out"):
        simulate(net, 200, mode="resume")


def test_an_unwritable_folder(net, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot write the recording .*file is not a folder"):
        simulate(net, 100, out=tmp_path / "file" / "run.zarr")


def test_a_recording_that_would_not_fit(net, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    monkeypatch.setattr("sparse_mrnn.simulation.plan.free_memory", lambda: 1000)
    with pytest.raises(RecordingError, match=r"takes 0\.0 GiB uncompressed.*every.*--yes"):
        simulate(net, 1000, out=tmp_path / "run.zarr")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecordingError, match="write it to disk"):
        simulate(net, 1000)
    assert simulate(net, 1000, out=tmp_path / "run.zarr", allow_large=True).h.shape[1] == 100


def test_missing_extra(monkeypatch, net):
    import importlib

    def absent(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"sparse-mrnn\[io\]"):
        simulate(net, 10)


def test_log_lines(net, tmp_path):
    log = tmp_path / "logs" / "run.jsonl"
    simulate(net, 200, out=tmp_path / "run.zarr", log=log, checkpoint_seconds=0)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert next(line["event"] for line in lines) == "start"
    assert lines[-1]["event"] == "done"
    assert "checkpoint" in {line["event"] for line in lines}
    assert all({"time", "step", "ms", "steps_per_s", "rss_bytes"} <= set(line) for line in lines)
    assert (lines[-1]["step"], lines[-1]["ms"]) == (20, 200)


def test_a_log_that_cannot_be_written_leaves_the_recording(net, tmp_path, monkeypatch):
    path, file = tmp_path / "run.zarr", tmp_path / "file"
    file.write_text("")
    first = simulate(net, 100, stimulus=Stimulus("cue", 1.0), out=path).load()
    for mode in ("overwrite", "create"):
        out = path if mode == "overwrite" else tmp_path / "other.zarr"
        with pytest.raises(RecordingError, match="cannot write the log .*run.jsonl: (Not a directory|File exists)"):
            simulate(net, 200, out=out, mode=mode, log=file / "run.jsonl")
    xr.testing.assert_identical(open_recording(path).load(), first)
    for log in (path, path / "logs" / "run.jsonl"):
        with pytest.raises(RecordingError, match="the log .* lies within the recording .*run.zarr"):
            simulate(net, 200, out=path, mode="overwrite", log=log)
    with pytest.raises(RecordingError, match="exists; choose another path"):
        simulate(net, 200, out=path, log=tmp_path / "run.jsonl")
    simulate(net, 100, stimulus=Stimulus("cue", 1.0), out=path, mode="resume", log=tmp_path / "run.jsonl")  # it has ended
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "run.zarr"]


def test_stimulus_sequences_are_those_of_a_run():
    from helpers.networks import small
    from sparse_mrnn.simulation.stimulus_drive import stimulus_sequences
    from sparse_mrnn.stimulus import WhiteNoise

    net = small(sm.mRNN)
    stimuli = [Stimulus("cue", WhiteNoise(1.0), start=20), Stimulus("brain", WhiteNoise(0.5)), Stimulus("brain", 0.3, fraction=0.5)]
    run = simulate(net, 200, batch=2, stimulus=stimuli, seed=4)
    u, current = stimulus_sequences(net, stimuli, steps=20, seed=4)
    with torch.no_grad():
        h = net(u[None], *net.batched_initial_condition(1), current[None])[1]
    np.testing.assert_allclose(run.h[:1], h.numpy(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(u, stimulus_sequences(net, stimuli, steps=20, seed=5)[0])


def test_a_time_between_steps_is_rounded_and_said(net):
    with pytest.warns(RoundingWarning, match="duration 104 ms is not a multiple of dt = 10 ms; it is rounded to 100 ms"):
        assert simulate(net, 104).h.shape[1] == 10
    with pytest.warns(RoundingWarning, match="start 12 ms .* rounded to 10 ms"):
        simulate(net, 100, stimulus=Stimulus("cue", 1.0, start=12))
    assert simulate(net, steps=7).h.shape[1] == 7


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: simulate(net, 0), StimulusError, "at least one time step"),
        (lambda net: simulate(net), StimulusError, "either duration"),
        (lambda net: simulate(net, 100, steps=3), StimulusError, "either duration"),
        (lambda net: simulate(net, steps=0), StimulusError, "steps is 0"),
        (lambda net: simulate(net, 100, batch=0), ShapeError, "batch is 0"),
        (lambda net: simulate(net, 100, stimulus=[1.0]), StimulusError, "float is not a Stimulus"),
        (lambda net: simulate(net, 100, stimulus=Stimulus("cuee", 1)), UnknownNameError, "Did you mean 'cue'"),
        (lambda net: simulate(net, 100, record=Record(regions=["spin"])), UnknownNameError, "Did you mean 'spine'"),
        (lambda net: simulate(net, 100, record=Record(units=["ctx[9]"])), RecordingError, r"no unit 'ctx\[9\]'; looked at 9 units. Did you mean"),
        (lambda net: simulate(net, 100, record=Record(every=11)), RecordingError, "every 11 steps, but the run has 10"),
        (lambda net: Record(what=["means"]), RecordingError, "Did you mean 'mean'"),
        (lambda net: Record(variables=[]), RecordingError, "variables is empty"),
        (lambda net: Record(every=0), RecordingError, "every is 0"),
        (lambda net: Record(dtype="int8"), RecordingError, "dtype has no 'int8'"),
        (lambda net: Record(what=["mean"], units=["a"]), RecordingError, "add 'units'"),
    ],
)
def test_bad_runs(net, call, error, message):
    with pytest.raises(error, match=message):
        call(net)


def test_celegans():
    config = sm.load_config(example_path("celegans"))
    g = sm.read_config(config)
    assert g.n_units == 302
    assert g.parents == ["pharyngeal", "sensory", "interneuron", "motor", "other"]
    units = {u: (r.name, s) for r in g.regions() for u, s in zip(r.unit_ids, r.unit_signs.tolist(), strict=True)}
    expected = [f"DD{k}" for k in range(1, 7)] + [f"VD{k}" for k in range(1, 14)]
    expected += ["RMED", "RMEV", "RMEL", "RMER", "AVL", "DVB", "RIS"]
    assert {u for u, (_, sign) in units.items() if sign < 0} == set(expected)
    net = build_network(g, config.simulation, "cpu")
    electrical = {(p.source, p.target): p.weights.toarray() for p in g.projections() if p.key == "electrical"}
    assert all(np.array_equal(w, w.T) for (s, t), w in electrical.items() if s == t)
    assert not any((t, s) in electrical for s, t in electrical if s != t)
    assert all((w >= 0).all() for w in electrical.values())
    assert net.compute_spectral_radius(net.effective_W_rec) == pytest.approx(0.9, rel=1e-4)
    run = simulate(net, 600, stimulus=Stimulus("touch", 1.0, start=200, stop=400, units=("ALML", "AVM")))
    layer = run.h[..., run.region == "layer_1"]
    assert layer[:, :40].max() == 0 < layer[:, 40:80].max()  # command interneurons answer to touch


def test_unknown_example():
    with pytest.raises(UnknownNameError, match="Did you mean 'celegans'"):
        example_path("celegan")


def test_a_run_in_memory_reads_no_synapse_for_its_attributes(net, tmp_path, monkeypatch):
    from sparse_mrnn.simulation import simulator

    written = simulate(net, 50, noise=True, stimulus=Stimulus("cue", 1.0), out=tmp_path / "run.zarr").attrs

    def refuse(net):
        raise AssertionError("the network was described for a run in memory")

    monkeypatch.setattr(simulator, "network_fingerprint", refuse)
    monkeypatch.setattr(simulator, "network_attributes", refuse)
    found = simulate(net, 50, noise=True, stimulus=Stimulus("cue", 1.0)).attrs
    assert set(written) - set(found) == {"network", "config", "topology_hash", "weights_hash", "graph_hash", "fingerprint"}
    assert found == {name: written[name] for name in found}


def test_options_agree_everywhere():
    """The signature of simulate, its documentation, SimulationOptions and the command line."""
    import dataclasses
    import inspect
    import re

    from sparse_mrnn.cli.simulate import simulate as command
    from sparse_mrnn.simulation.options import SimulationOptions

    parameters = {name: p for name, p in inspect.signature(simulate).parameters.items() if name != "net"}
    fields = dataclasses.fields(SimulationOptions)
    assert list(parameters) == [f.name for f in fields]
    for p, f in zip(parameters.values(), fields, strict=True):
        assert (p.kind is p.KEYWORD_ONLY) == f.kw_only
    defaults = {name: p.default for name, p in parameters.items()}
    assert SimulationOptions(**{**defaults, "steps": 1}) == SimulationOptions(steps=1)
    section = inspect.getdoc(simulate).partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    assert re.findall(r"^(\w+) :", section, re.MULTILINE)[1:] == list(parameters)
    options = set(inspect.signature(command).parameters)
    named = {"stimulus": "stim", "interventions": "lesion", "record": "what", "out": "out_path", "mode": "resume", "allow_large": "yes", "progress": "quiet"}
    only_in_python = {"steps", "event_driven", "x0", "return_state"}
    assert {named.get(f.name, f.name) for f in fields} - only_in_python <= options
