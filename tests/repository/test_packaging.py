"""What is built holds what is needed without the repository, and says the same version everywhere."""

import subprocess
import sys
import zipfile

import pytest

import sparse_mrnn
from helpers import ROOT


def test_versions_agree():
    version = sparse_mrnn.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_wheel_runs_without_the_repository(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-P", "-m", "sparse_mrnn", "info", "celegans"]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "80"}
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "302 units" in result.stdout
    assert (tmp_path / "site" / "sparse_mrnn" / "py.typed").exists()
