"""Runs with functions of the user's own: resumed by id, refused without one."""


import pytest
import xarray as xr

from helpers.recorded_runs import network, signal_at, small_chunks  # noqa: F401 - a fixture for every test here
from sparse_mrnn.errors import ResumeError, SimulationStopped, StimulusError
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Function, RandomWaveform, Stimulus, Waveform


def run(out, id, mode="create"):
    stimulus = Stimulus("i", Function(lambda t: 0.1 * t, id=id))
    return simulate(network(), steps=24, batch=2, stimulus=stimulus, out=out, mode=mode, progress=False)


def stop_at_step_10(monkeypatch, out, id):
    with signal_at(10, monkeypatch), pytest.raises(SimulationStopped):
        run(out, id)


def test_a_function_with_an_id_is_resumed(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    stop_at_step_10(monkeypatch, out, "ramp")
    for _ in range(2):  # unfinished, then finished
        with pytest.raises(ResumeError, match=r"stimulus\[0\].id: \"ramp\" then, \"other\" now"):
            run(out, "other", "resume")
        found = run(out, "ramp", "resume")
    xr.testing.assert_identical(found.load().drop_attrs(), run(None, "ramp").drop_attrs())


def test_a_function_without_an_id_is_not(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    stop_at_step_10(monkeypatch, out, None)
    with pytest.raises(ResumeError, match=r"stimulus\[0\] is a function or class of your own without an id.*Function\(f, id="):
        run(out, None, "resume")
    with pytest.raises(ResumeError, match=r"stimulus\[0\].id: null then, \"ramp\" now"):
        run(out, "ramp", "resume")
    with pytest.raises(StimulusError, match="Function: id is 3; give text"):
        Function(abs, id=3)


def test_waveforms_of_the_users_have_ids_too(tmp_path):
    class Step(Waveform):
        def __init__(self, height, id):
            self.height, self.id = height, id

        def value(self, t, length):
            return self.height

    class Uniform(RandomWaveform):
        def __init__(self, high, id):
            self.high, self.id = high, id

        def draw(self, rng, shape, dt, last):
            return rng.uniform(0, self.high, shape)

    for kind in (Step, Uniform):

        def run(id, kind=kind):
            stimulus = Stimulus("i", kind(1.0, id))
            return simulate(network(), steps=10, stimulus=stimulus, out=tmp_path / f"{kind.__name__}.zarr", mode="resume")

        run("one")
        assert run("one").attrs["complete"]
        with pytest.raises(ResumeError, match=r"stimulus\[0\].id"):
            run("two")
        with pytest.raises(ResumeError, match="without an id"):
            run(None)
