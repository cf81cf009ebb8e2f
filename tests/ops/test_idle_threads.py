"""Idle threads sleep while other processes want the cores, whatever was imported first; a user's choice holds."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from helpers import ROOT
from sparse_mrnn.ops import idle_threads
from sparse_mrnn.ops.idle_threads import CHOSEN_BY_USERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the threads of GNU's OpenMP")


def run(code, **environment):
    others = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_USERS}
    environment = {**others, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def idle(monkeypatch):
    """Idle threads on two cores and two threads, whose clock a test sets."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = idle_threads._IdleThreads()
    found.clock = lambda: now
    now = found.measured = [0.0, 0.0, 0.0]

    def passes(seconds, others, own):
        nonlocal now
        now = [now[0] + seconds, now[1] + (others + own) * seconds, now[2] + own * seconds]
        found.update()
        return len(found.held)

    found.passes = passes
    yield found
    found.release()


def threads():
    return sum(thread.name == "sparse-mrnn idle threads" for thread in threading.enumerate())


def test_threads_are_held_while_others_want_the_cores(idle):
    assert idle.passes(1.0, others=0.1, own=1.9) == 0
    assert idle.passes(0.1, others=1.0, own=1.0) == 0  # too short to tell
    assert idle.passes(0.3, others=1.0, own=1.0) == 1
    assert idle.passes(0.3, others=1.0, own=0.0) == threads() == 1
    held = list(idle.held)
    assert idle.passes(0.3, others=0.0, own=1.0) == 0
    assert held[0].is_set()


@pytest.mark.parametrize(("cores", "count", "crowded", "calm"), [(8, 2, 6.5, 6.0), (8, 8, 0.5, 0.2), (4, 1, None, 8.0), (2, 5, 0.5, 0.1)])
def test_others_are_crowding_if_threads_and_they_need_more_cores(idle, monkeypatch, cores, count, crowded, calm):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    monkeypatch.setattr(idle, "hold", lambda threads: idle.held.append(threading.Event()))
    assert idle.passes(1.0, others=calm, own=1.0) == 0
    if crowded is not None:
        held = idle.passes(1.0, others=crowded, own=1.0)
        assert count + held * (count - 1) > cores  # OpenMP's own condition
        assert count + (held - 1) * (count - 1) <= cores or held == 1


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("KMP_BLOCKTIME", "0"), ("GOMP_SPINCOUNT", "7")])
def test_a_choice_of_the_user_holds(name, value):
    code = "from sparse_mrnn.ops import idle_threads as i; i.share_cores(); print(i._idle, i.waiting_policy())"
    assert run(code, **{name: value}) == f"None left as it is: {name}={value}"


WORK = """import time, torch
import sparse_mrnn as sm
from sparse_mrnn.ops import idle_threads
torch.set_num_threads(2)
net = sm.mRNN({"recurrent_regions": [{"num_units": 5}]}, device="cpu")
a = torch.rand(1000, 1000)
def turn():
    torch.add(a, a); time.sleep(0.02)
def cost():
    turn(); start = time.process_time()
    for _ in range(40):
        turn()
    return time.process_time() - start
spinning = cost()
idle_threads._idle.hold(2)
held = cost()
idle_threads._idle.release(); time.sleep(0.1)
print(held < spinning / 2, cost() > 2 * held, net is not None)"""


@pytest.mark.slow
def test_idle_threads_sleep_while_threads_are_held():
    """CPU time of loops with pauses between them: 8 ms a loop if threads spin, 0.3 if they sleep."""
    assert run(WORK, OMP_NUM_THREADS="2") == "True True True"


def test_a_forked_process_has_no_threads_to_hold():
    code = """import os, torch
from sparse_mrnn.ops import idle_threads as i
torch.set_num_threads(2)
i._idle.hold(2)
if os.fork() == 0:
    print(len(i._idle.held), flush=True)
    os._exit(0)
os.wait(); print(len(i._idle.held))"""
    assert run(code).split() == ["0", "1"]
