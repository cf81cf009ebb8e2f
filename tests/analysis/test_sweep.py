"""Sweeps: labels, what is left of one that was stopped or killed, and results that do not fit together."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr

from helpers import TESTS
from sparse_mrnn.analysis import sweep
from sparse_mrnn.errors import AnalysisError, RecordingError, ResumeError, SweepStopped

POINTS = {"gain": [0.5, 2.0], "name": ["a", "b", "c"], "seed": range(2)}


def value(gain, name, seed):
    return gain * 10 + "abc".index(name) + 100 * seed


def test_values_are_at_their_labels():
    found = sweep(value, POINTS, progress=False)
    assert found.result.dims == ("gain", "name", "seed")
    for gain in POINTS["gain"]:
        for name in POINTS["name"]:
            for seed in POINTS["seed"]:
                assert found.result.sel(gain=gain, name=name, seed=seed) == value(gain, name, seed)
    other = {key: list(reversed(given)) for key, given in reversed(POINTS.items())}
    xr.testing.assert_equal(sweep(value, other, progress=False).sortby(list(POINTS)).transpose(*POINTS), found)


@pytest.mark.parametrize("out", [False, True])
def test_arrays_tensors_and_labelled_results(tmp_path, out):
    def several(k):
        series = xr.DataArray(np.arange(3) * k, {"time": [1.0, 2.0, 3.0]}, attrs={"unit": "1"})
        return {"whole": k, "tensor": torch.full((2,), float(k)), "series": series, "complex": 1j * k}

    options = {"out": tmp_path / "s.zarr"} if out else {}
    found = sweep(several, {"k": [3, 1, 2]}, progress=False, **options)
    assert found.series.sel(k=2, time=3.0) == 4
    assert found.series.dims == ("k", "time")
    assert found.tensor.dims == ("k", "tensor_0")
    assert found.tensor.sel(k=1).values.tolist() == [1.0, 1.0]
    assert found["complex"].sel(k=3) == 3j
    assert found.series.attrs == {"unit": "1"}


def test_one_that_failed_or_was_stopped_goes_on(tmp_path):
    out, calls = tmp_path / "s.zarr", []

    def failing(error, at):
        def function(**point):
            calls.append(point)
            if len(calls) == at:
                raise error
            return {"value": value(**point), "row": np.full(2, value(**point))}

        return function

    with pytest.raises(ZeroDivisionError):
        sweep(failing(ZeroDivisionError, 3), POINTS, out=out, progress=False)
    with pytest.raises(AnalysisError, match="exists"):
        sweep(value, POINTS, out=out, progress=False)
    with pytest.raises(SweepStopped, match="stopped after 5 of 12 runs; resume it") as stopped:
        sweep(failing(KeyboardInterrupt, 7), POINTS, out=out, mode="resume", progress=False)
    assert np.isfinite(stopped.value.results.value).sum() == 5
    found = sweep(failing(None, 0), POINTS, out=out, mode="resume", progress=False)
    assert len(calls) == 12 + 2  # only the two that did not end were called again
    whole = sweep(failing(None, 0), POINTS, progress=False)
    xr.testing.assert_identical(found, whole)
    xr.testing.assert_identical(sweep(failing(ValueError, len(calls) + 1), POINTS, out=out, mode="resume"), whole)
    assert "finished" in xr.open_zarr(out)


def test_only_its_own_sweep_is_resumed_and_one_process_writes(tmp_path):
    out = tmp_path / "s.zarr"
    sweep(value, POINTS, out=out, identity={"duration": 100}, progress=False)
    with pytest.raises(ResumeError, match="identity.duration: 100 then, 50 now"):
        sweep(value, POINTS, out=out, mode="resume", identity={"duration": 50}, progress=False)
    with pytest.raises(ResumeError, match="parameters.gain"):
        sweep(value, {**POINTS, "gain": [1, 2]}, out=out, mode="resume", identity={"duration": 100}, progress=False)
    (tmp_path / "other").mkdir()
    with pytest.raises(ResumeError, match="is not a sweep"):
        sweep(value, POINTS, out=tmp_path / "other", mode="resume", progress=False)
    with pytest.raises(RecordingError, match="is writing to"):
        sweep(lambda k: sweep(value, POINTS, out=out, mode="overwrite"), {"k": [1]}, out=out, mode="overwrite")
    assert sweep(value, {"gain": [1], "name": ["a"], "seed": [0]}, out=out, mode="overwrite").result.size == 1


@pytest.mark.parametrize(("parameters", "message"), [
    ({}, "give names and the values"),
    ({"a": []}, "at least one"),
    ({"a": "text"}, "give a sequence of values"),
    ({"a": [1, "x"]}, "give numbers, or text"),
    ({"a": [1, 1]}, "a value twice"),
    ({"a": [None]}, "give numbers, or text"),
])  # fmt: skip
def test_parameters_are_checked(parameters, message):
    with pytest.raises(AnalysisError, match=message):
        sweep(lambda **point: 0, parameters, progress=False)


@pytest.mark.parametrize(("function", "message"), [
    (lambda a: np.zeros(a), "result of a=2: result has the dimensions"),
    (lambda a: {"x": 1} if a == 1 else {"y": 1}, "has 'y'; the first one has 'x'"),
    (lambda a: "text", "return numbers"),
    (lambda a: xr.DataArray([0.0], {"region": [str(a)]}), "coordinate 'region'"),
])  # fmt: skip
def test_results_must_fit_together(function, message, tmp_path):
    for options in ({}, {"out": tmp_path / "s.zarr"}):
        with pytest.raises(AnalysisError, match=message):
            sweep(function, {"a": [1, 2]}, progress=False, **options)


def test_options_are_checked(tmp_path):
    for given, message in (({"mode": "resum"}, "Did you mean 'resume'"), ({"mode": "resume"}, "give their path"), ({"identity": {"a": {1}}}, "JSON")):
        with pytest.raises(AnalysisError, match=message):
            sweep(value, POINTS, **given)


@pytest.mark.slow
def test_a_killed_sweep_is_whole_when_resumed(tmp_path):
    out = tmp_path / "s.zarr"
    code = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
from sparse_mrnn.analysis import sweep
def function(k):
    time.sleep(0.01)
    return np.full(1000, float(k))
sweep(function, {{"k": range(400)}}, out={str(out)!r}, mode="resume", progress=False)
"""
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code])
        before = _finished(out)
        while _finished(out) < before + 20:
            time.sleep(0.02)
            assert child.poll() is None
        child.kill()
        child.wait()
    assert 60 <= _finished(out) < 400
    found = sweep(lambda k: np.full(1000, float(k)), {"k": range(400)}, out=out, mode="resume", progress=False)
    assert (found.result.values == np.arange(400.0)[:, None]).all()


def _finished(out):
    return len(list((out / "finished").glob("[0-9]*"))) if out.exists() else 0
