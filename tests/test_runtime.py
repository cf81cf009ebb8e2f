"""How idle threads wait is chosen before torch is imported, and only where a user has not chosen."""

import os
import subprocess
import sys

import pytest

from helpers import ROOT
from sparse_mrnn.runtime import CHOSEN_BY_USERS, SPIN_COUNT

SHOW = """import contextlib, os, sys, types
sys.modules["torch"] = {torch}
with contextlib.suppress(ImportError, AttributeError):
    import {first}
print(os.environ.get("GOMP_SPINCOUNT"), sys.modules["sparse_mrnn.runtime"].POLICY)"""
"""Importing the package ends where it would import torch, which takes a tenth of the time."""


def run(code, **environment):
    others = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_USERS}
    command = [sys.executable, "-c", code]
    environment = {**others, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def show(torch=None, first="sparse_mrnn", **environment):
    return run(SHOW.format(torch=torch, first=first), **environment)


@pytest.mark.parametrize("first", ["sparse_mrnn", "sparse_mrnn.cli", "sparse_mrnn.declaration.graph"])
def test_chosen_before_torch_is_imported(first):
    assert show(first=first) == f"{SPIN_COUNT} GOMP_SPINCOUNT={SPIN_COUNT}, chosen by sparse-mrnn"


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("KMP_BLOCKTIME", "0"), ("GOMP_SPINCOUNT", "7")])
def test_never_against_a_user(name, value):
    assert show(**{name: value}) == f"{7 if value == '7' else None} left as it is: {name}={value}"


def test_too_late_after_torch():
    assert show(torch="types.ModuleType('torch')") == "None left as it is: torch was imported first"


def test_kernels_leave_the_number_of_threads_to_the_user():
    code = """import torch, sparse_mrnn as sm
g = sm.RegionGraph(); g.add_region("a", 300); g.add_projection("a", "a", fan_in=20)
net = sm.mRNN(g, device="cpu")
net(torch.zeros(2, 3, 0), torch.rand(2, 300))[1].sum().backward()
sm.simulate(net, 50, progress=False)
print(torch.get_num_threads())"""
    assert run(code, OMP_NUM_THREADS="1") == "1"
