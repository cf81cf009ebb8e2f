"""The command line as a user meets it, at a width of 80."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparse_mrnn
from helpers.command_line import SMALL, run
from sparse_mrnn.recording import open_recording


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(SMALL))
    return path


def test_simulate_writes_a_recording(config, tmp_path):
    out = tmp_path / "run.zarr"
    args = ("simulate", config, "--duration", 200, "--dt", 5, "--batch", 3, "--seed", 4, "--noise")
    args += ("--device", "cpu")
    text = run(*args, "--stim", "cue:1:50:100", "--stim", "b:0.5", "--out", out)
    assert "8 units" in text
    assert "seed 4" in text
    first = open_recording(out).h.values
    assert first.shape == (3, 40, 8)
    assert "exists" in run(*args, "--out", out, code=1)
    run(*args, "--stim", "cue:1:50:100", "--stim", "b:0.5", "--out", out, "--overwrite")
    assert (open_recording(out).h.values == first).all()


def test_simulate_without_a_recording(config):
    assert "h by region" in run("simulate", config, "--duration", 50)


def test_simulate_quietly_with_a_log_and_other_recordings(config, tmp_path):
    out, log = tmp_path / "run.zarr", tmp_path / "run.jsonl"
    args = ("simulate", config, "--duration", 100, "--out", out, "--stim", "a:1")
    half = ("--dtype", "float16")
    which = ("--what", "mean", "--what", "units", "--variable", "x", "--region", "b", "--unit", "b[1]", *half)
    assert run(*args, "--quiet", "--log", log, *which, "--every", 2) == ""
    found = open_recording(out)
    assert found.x.shape == (1, 5, 1)
    assert found.x_mean.dims == ("trial", "time", "group")
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "done"
    assert "h, mean by region" in run("simulate", config, "--duration", 50, "--what", "mean")
    run(*args, "--resume", *which, "--every", 2)
    assert "record.every: 2 then, 1 now" in run(*args, "--resume", *which, code=1)


def test_simulate_says_what_it_rounds(config):
    text = run("simulate", config, "--duration", 104)
    assert "note: duration 104 ms is not a multiple of dt = 10 ms" in text


def test_info(config):
    text = run("info", config, "--batch", 2, "--steps", 10)
    memory = ("memory for simulating 10 steps, batch 2", "memory for training")
    for part in ("a", "b", "cue", "realised density", *memory):
        assert part in text
    assert all(len(line) <= 80 for line in run("info", "celegans").splitlines())


PICTURES = {
    "weights": ("--region", "a"),
    "regions": ("--style", "matrix"),
    "connectivity": ("--value", "density", "--region", "b"),
    "degrees": (),
    "activity": ("--region", "a", "--start", 10, "--stop", 40, "--trial", 1),
    "traces": ("--unit", "a[0]", "--unit", "b[1]"),
    "trajectory": ("--variable", "x"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_plot(config, tmp_path, kind):
    source = config
    if kind in ("activity", "traces", "trajectory"):
        source = tmp_path / "run.zarr"
        which = ("--variable", "h", "--variable", "x")
        run("simulate", config, "--duration", 50, "--batch", 2, "--stim", "cue:1", *which, "--out", source)
    for options in ((), PICTURES[kind]):
        out = tmp_path / "pictures" / f"{kind}{len(options)}.png"
        run("plot", kind, source, "--out", out, *options)
        assert out.stat().st_size > 5000


def test_schema():
    assert "recurrent_regions" in json.loads(run("schema"))["properties"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("simulate", "nowhere.json"), "cannot read the file"),
        (("simulate", "CONFIG", "--duration", -5), "--duration"),
        (("simulate", "CONFIG", "--stim", "ccue:1"), "Did you mean 'cue'"),
        (("simulate", "CONFIG", "--stim", "cue=1"), "REGION:AMPLITUDE"),
        (("simulate", "CONFIG", "--device", "tpu9"), "not a torch device"),
        (("simulate", "CONFIG", "--what", "means"), "--what"),
        (("simulate", "CONFIG", "--resume"), "say which with --out"),
        (("plot", "weights", "CONFIG", "--out", "x.gif"), ".png, .svg or .pdf"),
        (("plot", "activity", "CONFIG", "--out", "x.png"), "is not a recording"),
        (("plot", "weights", "CONFIG", "--unit", "a[0]"), "plot weights takes no --unit"),
        (("plot", "regions", "CONFIG", "--style", "circel"), "Did you mean 'circle'"),
    ],
)
def test_errors_are_one_message(config, args, message):
    assert message in run(*(config if a == "CONFIG" else a for a in args), code=1)


def test_a_typo_in_the_config(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**SMALL, "recurrent_regions": [{"name": "a", "num_unit": 5}]}))
    text = run("info", path, code=1)
    assert "recurrent_regions[0].num_unit: unknown key. Did you mean 'num_units'?" in text


def test_spectrum(config, tmp_path):
    out = tmp_path / "spectrum.png"
    text = run("spectrum", config, "--k", 4, "--out", out)
    for part in ("spectral radius", "spectral abscissa", "disc radius", "4 leading eigenvalues", "acyclic"):
        assert part in text
    assert out.stat().st_size > 5000
    assert all(len(line) <= 80 for line in run("spectrum", "celegans").splitlines())
    assert "--out x.gif" in run("spectrum", config, "--out", "x.gif", code=1)


def test_spectrum_of_each_region(tmp_path):
    g = sparse_mrnn.RegionGraph()
    for k, name in enumerate("abc"):
        g.add_region(name, 4 + k, sign=None, parent_region=None if name == "c" else "p")
        g.add_projection(name, name, density=0.8)
        g.add_projection(name, "a", key="more", density=0.5)
    g.add_projection("b", "b", key="thin", rank=1)
    net = sparse_mrnn.mRNN(g, device="cpu", seed=0)
    net.save(tmp_path / "net.safetensors")
    table = run("spectrum", tmp_path / "net.safetensors").split("each region by itself")[1].splitlines()
    for name in "abc":
        line = next(line.split() for line in table if line.split()[:1] == [name])
        assert float(line[2]) == pytest.approx(sparse_mrnn.spectral_radius(net, regions=name), rel=1e-3)


def test_version_and_completion():
    assert run("--version").strip() == f"sparse-mrnn {sparse_mrnn.__version__}"
    assert "--install-completion" in run("--help")


def test_the_package_is_a_command():
    command = [sys.executable, "-m", "sparse_mrnn", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(Path(sparse_mrnn.__file__).parents[1])}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == f"sparse-mrnn {sparse_mrnn.__version__}"


@pytest.mark.slow
def test_doctor():
    text = run("doctor", "--device", "cpu")
    for part in ("torch", "idle threads", "leaky, backend csr", "agree with float64", "dense loop"):
        assert part in " ".join(text.split())
    assert "no problem found" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "backend csr" not in run("doctor", "--quick")
    assert "not a torch device" in run("doctor", "--device", "tpu9", code=1)


def test_doctor_finds_a_backend_that_is_wrong(monkeypatch):
    from sparse_mrnn.benchmark.entries import LibraryEntry

    states = LibraryEntry.states
    monkeypatch.setattr(LibraryEntry, "states", lambda self, steps: 1.01 * states(self, steps))
    text = run("doctor", "--device", "cpu", code=1)
    assert "problem" in text
    assert "differs from the float64 reference" in " ".join(text.split())
