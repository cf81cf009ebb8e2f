"""Whether a function is still the same: its closure, constants and globals count, addresses do not."""

import functools
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from helpers import TESTS
from helpers.recorded_runs import small_chunks, stopped, tiny  # noqa: F401 - a fixture for every test here
from sparse_mrnn.errors import ResumeError
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Function, RandomWaveform, Stimulus, Waveform
from sparse_mrnn.stimulus.code_digest import NoDigestError, code_digest
from sparse_mrnn.stimulus.waveforms import Constant  # noqa: F401 - a global that functions below may name

SCALE = 2.0


def helper(t):
    return SCALE * t


def closed(a):
    return lambda t: a * t


def comprehended(a):
    return lambda t: sum(a * k for k in range(3)) + [k * t for k in (1, 2)][1] + len({"x", "y"} | {"z"})


class Wave:
    __slots__ = ("amplitude", "table")

    def __init__(self, amplitude):
        self.amplitude, self.table = amplitude, {"x": [1, (2, np.arange(3))]}

    @property
    def twice(self):
        return 2 * self.amplitude

    @staticmethod
    def zero():
        return 0

    @classmethod
    def unit(cls):
        return cls(1)

    @functools.cached_property
    def cached(self):
        return 3

    def __call__(self, t):
        return self.amplitude * np.sin(t)

    def method(self, t):
        return self.amplitude


def recursive(t):
    return recursive(t - 1) if t > 0 else 0


def rules(a=1, *, b=2):
    def inner(t):
        return a + b

    return inner


PAIRS = {
    "closure": (lambda: closed(1.0), lambda: closed(1.5)),
    "closure of another type": (lambda: closed(1), lambda: closed(1.0)),
    "comprehension": (lambda: comprehended(1), lambda: comprehended(2)),
    "closure of arrays": (lambda: closed(np.arange(5)), lambda: closed(np.arange(5)[::-1])),
    "closure of tensors": (lambda: closed(torch.ones(3, requires_grad=True)), lambda: closed(torch.zeros(3))),
    "closure of functions": (lambda: closed(closed(1)), lambda: closed(closed(2))),
    "sets": (lambda: closed({"p", "q", "r", 1}), lambda: closed({"p", "q", "r", 2})),
    "dictionaries": (lambda: closed({"p": 1}), lambda: closed({"p": 2})),
    "objects": (lambda: Wave(1.0), lambda: Wave(2.0)),
    "methods": (lambda: Wave(1.0).method, lambda: Wave(2.0).method),
    "partial": (lambda: functools.partial(max, 3), lambda: functools.partial(max, 4)),
    "keyword defaults": (lambda: rules(b=2), lambda: rules(b=3)),
    "library functions": (lambda: np.sin, lambda: np.cos),
    "methods of a generator": (lambda: np.random.default_rng(0).normal, lambda: np.random.default_rng(1).normal),
    "methods of Python's generator": (lambda: random.Random(0).gauss, lambda: random.Random(1).gauss),
    "object arrays": (lambda: closed(np.array([1, "a"], dtype=object)), lambda: closed(np.array([2, "a"], dtype=object))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_counts(name):
    one, two = PAIRS[name]
    assert code_digest(one()) == code_digest(one()) != code_digest(two())


def test_globals_count(monkeypatch):
    before, of_itself = code_digest(helper), code_digest(recursive)
    through = code_digest(closed(helper))
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert code_digest(helper) != before
    assert code_digest(closed(helper)) != through
    assert code_digest(recursive) == of_itself


def test_attributes_of_modules_count(monkeypatch, tmp_path):
    (tmp_path / "parameters_of_a_test.py").write_text("AMPLITUDE = 1.0\nOTHER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import parameters_of_a_test as parameters

    namespace = {"parameters": parameters}
    exec("def f(t):\n    return parameters.AMPLITUDE * t\n", namespace)
    before = code_digest(namespace["f"])
    parameters.OTHER = 2
    assert code_digest(namespace["f"]) == before
    parameters.AMPLITUDE = 2.0
    assert code_digest(namespace["f"]) != before


def test_what_has_no_digest():
    def generator():
        yield 1

    with open(os.devnull) as file:
        for value in (file, generator()):
            with pytest.raises(NoDigestError, match="TextIOWrapper|generator"):
                code_digest(closed(value))
    nested = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(NoDigestError, match="nested too deeply"):
        code_digest(closed(nested))
    circular = [1]
    circular.append(circular)
    assert code_digest(closed(circular)) == code_digest(closed(circular))


@pytest.mark.slow
def test_it_is_the_same_in_every_process():
    code = f"import sys; sys.path[:0] = {[str(TESTS), str(Path(__file__).parent)]!r}\n" + (
        "import test_code_digest as t\n"
        "print([t.code_digest(make()) for pair in t.PAIRS.values() for make in pair])"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def run(out, function, mode="create"):
    from helpers.recorded_runs import network

    stimulus = Stimulus("i", Function(function))
    return simulate(network(), steps=24, batch=2, stimulus=stimulus, out=out, mode=mode, progress=False)


def test_resuming_compares_functions(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    from sparse_mrnn.errors import SimulationStopped
    from sparse_mrnn.simulation.progress import Progress

    def stop(self, done):
        if done == 10:
            os.kill(os.getpid(), 2)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", stop)
        with pytest.raises(SimulationStopped):
            run(out, comprehended(0.1))
    for _ in range(2):  # unfinished, then finished
        with pytest.raises(ResumeError, match=r"stimulus\[0\].code: .* then, .* now"):
            run(out, comprehended(0.2), "resume")
        told = r"stimulus\[0\] is still the same function cannot be told, for it uses a _io.TextIOWrapper"
        with open(os.devnull) as file, pytest.raises(ResumeError, match=told):
            run(out, lambda t, f=file: 1.0, "resume")
        found = run(out, comprehended(0.1), "resume")
    xr.testing.assert_identical(found.load().drop_attrs(), run(None, comprehended(0.1)).drop_attrs())


def test_waveforms_of_the_users_are_compared_too(tmp_path):
    from helpers.recorded_runs import network

    class Step(Waveform):
        def __init__(self, height):
            self.height = height

        def value(self, t, length):
            return self.height

    class Uniform(RandomWaveform):
        def __init__(self, high):
            self.high = high

        def draw(self, rng, shape, dt, last):
            return rng.uniform(0, self.high, shape)

    for kind in (Step, Uniform):
        out = tmp_path / f"{kind.__name__}.zarr"

        def run(height, mode="resume", kind=kind, out=out):
            return simulate(network(), steps=10, stimulus=Stimulus("i", kind(height)), out=out, mode=mode)

        run(1.0)
        assert run(1.0).attrs["complete"]
        with pytest.raises(ResumeError, match=r"stimulus\[0\].code"):
            run(2.0)


def test_stopped_runs_need_no_function(tmp_path, monkeypatch):
    stopped(tmp_path / "run.zarr", monkeypatch)
    assert tiny(tmp_path / "run.zarr", "resume").attrs["complete"]
