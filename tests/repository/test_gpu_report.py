"""The report for a machine with a GPU, as a dry run on the CPU: it leaves its results whatever happens."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import ROOT
from helpers.simulated_cuda import simulated_cuda

SCRIPT = ROOT / "benchmarks" / "gpu_report.py"
COMMAND = [sys.executable, SCRIPT, "--device", "cpu", "--small"]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_report

    return gpu_report


def run(out, *options):
    command = [*COMMAND, "--out", out, *options]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


def statuses(out):
    found = {}
    for path in sorted(out.glob("[0-9]*-*.json")):
        found[path.stem.partition("-")[2]] = json.loads(path.read_text())["status"]
    return found


@pytest.mark.slow
def test_dry_run(tmp_path):
    chosen = ["device", "equality", "step", "kernels", "graphs", "profile"]
    result = run(tmp_path, "--only", ",".join(chosen))
    assert result.returncode == 0, result.stderr
    found = statuses(tmp_path)
    assert {name for name, status in found.items() if status == "done"} == set(chosen)
    assert set(found.values()) == {"done", "left out"}
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Dry run on the CPU: no figure here is of a GPU")
    assert "All are equal." in text
    assert "reached" not in text.replace("not reached", "")
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_dry_run_of_everything(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(statuses(tmp_path).values()) == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize("section", ["device", "equality", "training", "step", "kernels", "graphs", "million"])
def test_a_section_on_a_simulated_device(report, section, tmp_path, monkeypatch):
    """What is called there, and only there, exists; the profiler and the compiler look for a real device."""
    import gpu_sections

    device = SimpleNamespace(name="simulated", total_memory=16e9, multi_processor_count=1, major=9, minor=0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: device)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda *_: 1e9)
    monkeypatch.setattr(gpu_sections, "missing", lambda names: list(names))
    result = gpu_sections.Result(tmp_path / "result.json", "cuda:0", True)
    with simulated_cuda():
        getattr(gpu_sections, section)(result)
    text = "\n".join(result.lines)
    assert "failed" not in text
    if section == "equality":
        assert "All are equal." in text
    if section == "graphs":
        assert len(re.findall(r"\| 0.0e\+00 \|", text)) == 2


@pytest.mark.slow
def test_what_is_done_is_kept_when_it_is_stopped(tmp_path):
    command = [*COMMAND, "--out", tmp_path, "--only", "device,training"]
    process = subprocess.Popen([str(c) for c in command], stderr=subprocess.DEVNULL)
    second = tmp_path / "4-training.json"
    deadline = time.monotonic() + 60
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) != 0
    assert statuses(tmp_path)["device"] == "done"
    assert "Memory is copied at" in (tmp_path / "report.md").read_text()


@pytest.fixture
def run_here(report, tmp_path, monkeypatch):
    """Run sections from this process."""

    def run_here(sections):
        arguments = [*COMMAND[1:], "--out", tmp_path, "--only", sections]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        report.main()
        return statuses(tmp_path)

    return run_here


def test_a_section_that_takes_too_long_is_cut_off(report, run_here, monkeypatch):
    monkeypatch.setitem(report.SECTIONS, "training", report.Section("Training", 0.5))
    assert run_here("training")["training"] == "cut off after 0.5 s"


def test_the_packages_of_the_library_are_its_dependencies(report):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"\w+", text)[0] for text in declared} <= {*report.LIBRARY, *report.TESTS}


@pytest.mark.slow
def test_a_missing_package_is_said_and_the_rest_goes_on(report, run_here, monkeypatch):
    monkeypatch.setattr(report, "missing", lambda names: [name for name in names if name == "hypothesis"])
    found = run_here("device,tests")
    assert found["tests"].startswith("not run: hypothesis is missing; bring its wheel along")
    assert found["device"] == "done"


def test_without_a_gpu(tmp_path):
    command = [str(c) for c in [sys.executable, SCRIPT, "--out", tmp_path, "--only", "equality"]]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    assert "sees no CUDA device" in (tmp_path / "report.md").read_text()


def test_wheels_of_missing_packages_are_unpacked(report, tmp_path, monkeypatch):
    wheels, target = tmp_path / "wheels", tmp_path / "packages"
    wheels.mkdir()
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    names = {"absent_one": "py3-none-any", "absent_two": "cp27-cp27m-any", "numpy": f"{here}-{here}-any"}
    for name, tags in names.items():
        with zipfile.ZipFile(wheels / f"{name}-1.0-{tags}.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "")
            archive.writestr(f"{name}-1.0.dist-info/METADATA", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    report.unpack_wheels(wheels, target)
    assert [path.name for path in sorted(target.iterdir())] == ["absent_one", "absent_one-1.0.dist-info"]
    assert report.missing(("absent_one", "absent_two", "numpy")) == ["absent_two"]
    assert report.fits(Path("torch-2.0-cp27-none-linux_x86_64.whl")) is False
