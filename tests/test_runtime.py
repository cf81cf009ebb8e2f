"""Memory and threads of the process, and what the package imports."""

import os
import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT
from sparse_mrnn.ops.idle_threads import CHOSEN_BY_USERS
from sparse_mrnn.runtime import free_memory, resident_memory


def run(code, **environment):
    others = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_USERS}
    command = [sys.executable, "-c", code]
    environment = {**others, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_kernels_leave_the_number_of_threads_to_the_user():
    code = """import torch, sparse_mrnn as sm
g = sm.RegionGraph(); g.add_region("a", 300); g.add_projection("a", "a", fan_in=20)
net = sm.mRNN(g, device="cpu")
net(torch.zeros(2, 3, 0), torch.rand(2, 300))[1].sum().backward()
sm.simulate(net, 50, progress=False)
print(torch.get_num_threads())"""
    assert run(code, OMP_NUM_THREADS="1") == "1"


@pytest.mark.slow
def test_the_package_imports_without_posix_modules():
    """Windows has neither fcntl nor resource; there graphs are built, and networks run."""
    code = """import sys, psutil, torch, rich.console  # whose own modules differ by platform
sys.modules.update(fcntl=None, resource=None)
import sparse_mrnn as sm, sparse_mrnn.cli, sparse_mrnn.connectome, sparse_mrnn.recording.lock
from sparse_mrnn.lowering.lower import lower
g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
print(len(lower(g, seed=0).values), sm.simulate(sm.mRNN(g, device="cpu"), 20, progress=False)["h"].shape)"""
    assert run(code) == "9 (1, 2, 3)"


def test_memory_is_that_of_the_process_and_the_machine():
    before = resident_memory()
    held = np.ones(10**7)
    assert 60 << 20 < resident_memory() - before < 120 << 20
    assert 0 < free_memory() < 1 << 50
    del held


def test_posix_modules_are_imported_where_they_are_needed():
    """At the top of a file they would keep the package from being imported on Windows."""
    for path in (ROOT / "sparse_mrnn").rglob("*.py"):
        text = path.read_text()
        found = [name for name in ("fcntl", "resource") if f"\nimport {name}" in text]
        found += [name for name in ("MemAvailable", "/proc/self/statm") if name in text]
        assert not found, f"{path}: see runtime.py"
