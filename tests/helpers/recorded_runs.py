"""A tiny run to record, in many chunks, and to stop."""

import contextlib
import json
import os
import signal

import pytest

import sparse_mrnn as sm
from sparse_mrnn.errors import SimulationStopped
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.simulation.progress import Progress
from sparse_mrnn.stimulus import OrnsteinUhlenbeck, Stimulus

CONFIG = {
    "recurrent_regions": [{"name": "a", "num_units": 5, "base_firing": 0.2}, {"name": "b", "num_units": 3, "sign": "neg"}],
    "input_regions": [{"name": "i", "num_units": 2}],
    "recurrent_connections": [{"src_region": "a", "dst_region": "b"}, {"src_region": "b", "dst_region": "a"}],
    "input_connections": [{"src_region": "i", "dst_region": "a"}],
    "simulation": {"duration": 240, "noise": True, "seed": 3, "record": {"what": ["units", "mean"]}},
}
STEPS = 24


def network(**options):
    return sm.mRNN(json.loads(json.dumps({k: v for k, v in CONFIG.items() if k != "simulation"})), **{"device": "cpu", "seed": 3, **options})


def tiny(out, mode="create", net=None, **options):
    given = dict(steps=STEPS, batch=2, noise=True, seed=3, progress=False, record=Record(what=["units", "mean"]))
    stimulus = Stimulus("i", OrnsteinUhlenbeck(1.0, tau=30))
    return simulate(net or network(), out=out, mode=mode, stimulus=stimulus, **{**given, **options})


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("sparse_mrnn.simulation.plan.LONGEST_CHUNK", 5)


@contextlib.contextmanager
def signal_at(step, monkeypatch, number=signal.SIGINT):
    """Send this process a signal, as Ctrl-C does, once a run has done so many steps."""
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", lambda self, done: os.kill(os.getpid(), number) if done == step else None)
        yield


def stopped(out, monkeypatch, at=17, **options):
    """A run stopped in the middle of a chunk."""
    with signal_at(at, monkeypatch), pytest.raises(SimulationStopped):
        tiny(out, **options)
