"""Simulation, stimuli, recordings, the shipped connectome."""

import numpy as np
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from sparse_mrnn import recording as recordings
from sparse_mrnn.data import example_path
from sparse_mrnn.errors import MissingExtraError, RecordingError, SimulationStopped, StimulusError, UnknownNameError
from sparse_mrnn.recording import read_recording
from sparse_mrnn.simulate import build, simulate
from sparse_mrnn.stimulus import Stimulus


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_a_chunked_run_equals_one_forward(monkeypatch, model, batch_first):
    from conftest import small

    net = small(model, batch_first=batch_first)
    dt = 10.0
    stimuli = [Stimulus("cue", 1.0, 50, 120), Stimulus("brain", 0.5, 100)]
    monkeypatch.setattr("sparse_mrnn.simulate.CHUNK_BYTES", 8 * 9 * 2 * 7)  # 7 steps
    run = simulate(net, 300, batch_size=2, stimulus=stimuli, noise=True, dt=dt)
    net.reset_noise()
    inp, stim = torch.zeros(2, 30, 3), torch.zeros(2, 30, 9)
    inp[:, 5:12, :2] = 1.0
    stim[:, 10:, [0, 1, 2, 3, 6, 7, 8]] = 0.5
    x0, h0 = net.batched_initial_condition(2)
    if not batch_first:
        inp, stim = inp.transpose(0, 1), stim.transpose(0, 1)
    with torch.no_grad():
        h = net(inp, x0, h0, stim, True)[1] if model is sm.mRNN else net(inp, h0, stim, True)
    h = h if batch_first else h.transpose(0, 1)
    np.testing.assert_allclose(run.activity, h.numpy(), rtol=1e-6, atol=1e-7)
    assert run.time[[0, -1]].tolist() == [10, 300]


def test_recording_on_disk_opens_in_xarray(net, tmp_path):
    path = tmp_path / "deep" / "run.zarr"
    memory = simulate(net, 100, batch_size=2, stimulus=[Stimulus("cue", 1.0)])
    assert simulate(net, 100, batch_size=2, stimulus=[Stimulus("cue", 1.0)], out=path) is None
    with xr.open_zarr(path) as data:
        assert data["h"].dims == ("trial", "time", "unit")
        assert set(data.coords) == {"time", "region", "unit_id"}
        assert data["time"].attrs["units"] == "ms"
        np.testing.assert_array_equal(data["h"].values, memory.activity)
        xr.testing.assert_allclose(data["h"].load(), memory.to_xarray()["h"])
    again = read_recording(path)
    assert np.array_equal(read_recording(path, 2, 5).activity, again.activity[:, 2:5])
    assert again.units.region == ("ctx",) * 4 + ("spine",) * 2 + ("thal",) * 3
    assert again.units.unit_id[4] == "spine[0]"
    assert again.attrs["complete"] == 1
    np.testing.assert_array_equal(again.region("spine"), memory.activity[:, :, 4:6])
    with pytest.raises(UnknownNameError, match="Did you mean 'spine'"):
        again.region("spin")
    assert [p.name for p in path.parent.iterdir()] == ["run.zarr"]


def test_ctrl_c_keeps_what_was_simulated(net, tmp_path):
    def stop(done, total):
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(SimulationStopped, match="stopped at 2000 of 10000 ms") as caught:
        simulate(net, 10_000, progress=stop)
    assert caught.value.recording.activity.shape == (1, 200, 9)
    with pytest.raises(SimulationStopped):
        simulate(net, 10_000, progress=stop, out=tmp_path / "run.zarr")
    kept = read_recording(tmp_path / "run.zarr")
    assert (kept.activity.shape[1], kept.attrs["complete"]) == (200, 0)


def test_a_full_disk_leaves_nothing(net, tmp_path, monkeypatch):
    def full(self, *args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "run.zarr"
    writer = recordings.ZarrWriter(path, 1, recordings.Units(("a",), ("a0",)), 1.0, 5)
    monkeypatch.setattr(type(writer.h), "__setitem__", full)
    with pytest.raises(RecordingError, match="No space left on device"):
        simulate(net, 100, out=path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_replaced_only_when_asked(net, tmp_path):
    path = tmp_path / "run.zarr"
    simulate(net, 100, out=path)
    with pytest.raises(RecordingError, match="exists"):
        simulate(net, 200, out=path)
    assert read_recording(path).activity.shape[1] == 10
    simulate(net, 200, out=path, overwrite=True)
    assert read_recording(path).activity.shape[1] == 20
    other = tmp_path / "notes"
    other.mkdir()
    with pytest.raises(RecordingError, match="not a recording"):
        simulate(net, 200, out=other, overwrite=True)
    with pytest.raises(RecordingError, match="not a recording"):
        read_recording(other)


def test_missing_extra(monkeypatch, net, tmp_path):
    import importlib

    def absent(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"sparse-mrnn\[io\]"):
        simulate(net, 10, out=tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: simulate(net, 105), "whole number of 10 ms steps"),
        (lambda net: simulate(net, 0), "whole number"),
        (lambda net: simulate(net, 100, stimulus=[Stimulus("cue", 1, 200)]), "starts at 200 ms, after the end"),
        (lambda net: simulate(net, 100, stimulus=[Stimulus("ctx", 1, units=("AVA",))]), "no unit 'AVA'"),
        (lambda net: Stimulus("cue", 1, 5, 5), "no interval"),
        (lambda net: Stimulus.parse("cue"), "REGION:AMPLITUDE"),
        (lambda net: Stimulus.parse("cue:much"), "REGION:AMPLITUDE"),
        (lambda net: Stimulus.parse("cue:1:9:3"), "no interval"),
    ],
)
def test_bad_stimuli(net, call, message):
    with pytest.raises(StimulusError, match=message):
        call(net)
    with pytest.raises(UnknownNameError, match="Did you mean 'cue'"):
        simulate(net, 100, stimulus=[Stimulus("cuee", 1)])


def test_celegans():
    config = sm.load_config(example_path("celegans"))
    g = sm.read_config(config)
    assert g.n_units == 302
    assert g.parents == ["pharyngeal", "sensory", "interneuron", "motor", "other"]
    units = {u: (r.name, s) for r in g.regions() for u, s in zip(r.unit_ids, r.unit_signs.tolist(), strict=True)}
    expected = [f"DD{k}" for k in range(1, 7)] + [f"VD{k}" for k in range(1, 14)]
    expected += ["RMED", "RMEV", "RMEL", "RMER", "AVL", "DVB", "RIS"]
    assert {u for u, (_, sign) in units.items() if sign < 0} == set(expected)
    net = build(g, config.simulation, "cpu")
    electrical = {(p.source, p.target): p.weights.toarray() for p in g.projections() if p.key == "electrical"}
    assert all(np.array_equal(w, electrical[t, s].T) for (s, t), w in electrical.items())
    assert all((w >= 0).all() for w in electrical.values())
    assert net.compute_spectral_radius(net.effective_W_rec) == pytest.approx(0.9, rel=1e-4)
    run = simulate(net, 600, stimulus=[Stimulus("touch", 1.0, 200, 400, ("ALML", "AVM"))])
    before, during = run.region("layer_1")[:, :40].max(), run.region("layer_1")[:, 40:80].max()
    assert before == 0 < during  # command interneurons answer to touch


def test_unknown_example():
    with pytest.raises(UnknownNameError, match="Did you mean 'celegans'"):
        example_path("celegan")
