"""Every benchmark script imports, and runs on networks small enough for a test."""

import importlib
import random
from functools import partial

import pytest

from helpers import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("common", "library"))


@pytest.fixture
def load(monkeypatch):
    """Import a script, with its sizes replaced."""

    def load(name, **sizes):
        module = importlib.import_module(name)
        for size, value in sizes.items():
            monkeypatch.setattr(module, size, value)
        return module

    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # of the processes that a script starts
    return load


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_imports(load, name):
    module = load(name)
    assert callable(getattr(module, "main", None) or getattr(module, "table", None))


def test_ladders(load):
    library = load("library")
    assert [case.label for case in library.ladder([100, 2000], 0.1, batch=4)] == [
        "100 units, density 0.1", "2,000 units, density 0.1"
    ]
    assert [(case.label, case.group) for case in library.density_ladder(100, [0.5], steps=5)] == [
        ("100 units, density 0.5", "density")
    ]


def test_timing_is_interleaved_in_random_order(load):
    calls = []
    runs = {name: partial(calls.append, name) for name in "abc"}
    timed = load("library").side_by_side(runs, 20, random.Random(0))
    order = "".join(name for name, after in zip(calls, [*calls[1:], ""], strict=True) if name != after)[3:]
    assert len({order[k : k + 3] for k in range(0, len(order) - 2, 3)}) > 3
    assert set(timed) == {"a", "b", "c"}
    assert timed["a"].q1 <= timed["a"].median <= timed["a"].q3


def lines(table):
    return [line for line in table.splitlines() if line.startswith("|")][2:]


@pytest.mark.slow
def test_backends(load):
    script = load("backends", UNITS=(20,), DENSITIES=(0.5,), BLOCK_UNITS=(16,), SHARES=(0.5,), BATCHES=(1,))
    assert [line.count("**") for line in lines(script.table())] == [4, 4]


@pytest.mark.slow
def test_large_nets(load):
    script = load("large_nets", CASES=[("small", 40, 4, 0.5, 3, (1e-9, None, None))])
    table = script.table(repeats=1)
    assert "| small |" in table
    assert "Missed: small: build" in table


@pytest.mark.slow
def test_simulation(load):
    script = load("simulation", UNITS=200, REGIONS=5, SYNAPSES=2000, ROUNDS=1)
    net = script.network()
    assert len(script.step_table(net)) == 10
    assert len(script.run_table(net, steps=5)) == 7


@pytest.mark.slow
def test_training(load):
    script = load("training", REPEATS=1, EIGHT=(5,) * 8, FORTY=(4,) * 40, STEPS=2)
    run = script.Run("cpu")
    for part in (script.small, script.full_blocks, script.one_step):
        part(run)
    assert len(run.bounds) == 8 + 8 + 8
    assert all(bound.value > 0 for bound in run.bounds)
    assert len(lines(script.details(run.results))) == sum(len(r.entries) for r in run.results)


@pytest.mark.slow
def test_spectral(load):
    script = load("spectral")
    assert len(lines(script.families(200))) == len(script.FAMILIES)
    assert len(lines(script.against(300))) == 3


@pytest.mark.slow
def test_connectomes(load, tmp_path):
    pytest.importorskip("pyarrow")
    few = {"optic": 300, "central": 200}
    script = load("connectomes", NEURONS=500, ROWS=5_000, TYPES=20, SUPER_CLASSES=few, MALE_CNS_ROWS=5_000)
    assert len(lines(script.table(tmp_path, male_cns=True))) == 5


@pytest.mark.parametrize("entry", ["sparse-mrnn", "torch.sparse, step by step", "dense loop, as mRNNTorch"])
def test_other_software_is_compared_with_scipy(load, entry):
    peers = load("peers")
    problem = peers.problem(30, 4)
    expected = peers.reference(problem)
    runs = peers.ENTRIES[entry][0](problem)
    loss, gradient = runs["training"]()
    found = {"loss": loss, "gradient": gradient, "h": runs["simulation"]()}
    assert peers.largest_difference(found, expected) < 1e-5
    assert peers.largest_difference({**found, "gradient": gradient + 0.1 * abs(gradient).max()}, expected) > 0.09


@pytest.mark.slow
def test_analysis(load):
    script = load("analysis", LARGE=300, CHAOTIC=300, STEPS=600, STARTS=8, ITERATIONS=20, TRAINING=2)
    large = script.bounds(script.point(), script.exponents())
    assert len(lines(large)) == 6
    rows = script.search(None)
    assert len(lines(script.finders(rows))) == len(rows) == 5


@pytest.mark.slow
def test_recordings(load):
    script = load("recordings")
    script.CASES[:] = [script.Case(30, 40, 60, None)]
    assert lines(script.table())[0].endswith("| OK |")


@pytest.mark.slow
def test_currents(load):
    script = load("currents", NEURONS=500, SYNAPSES=5_000, REGIONS=5, UNITS=100, DEGREE=20, STEPS=20, RESERVOIR=300, SAMPLES=80)
    assert len(script.rows_of("shuffle", script.shuffle())) == 3
    assert len(script.rows_of("currents", script.currents_part())) == 3
    found = script.readout()
    assert found["read"] < 3
    assert len(script.rows_of("readout", found)) == 4
