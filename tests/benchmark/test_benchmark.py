"""The comparison of dense and sparse: it compares the same thing, measures it, and concludes rightly."""

import copy
import csv
import json
import os
import re
import runpy
import socket
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sparse_mrnn as sm
from helpers import ROOT
from sparse_mrnn import benchmark as b
from sparse_mrnn.benchmark import advice, report
from sparse_mrnn.benchmark.entries import LoopCSR
from sparse_mrnn.benchmark.measure import check, undecided
from sparse_mrnn.benchmark.memory import PeakMeter, in_fresh_process
from sparse_mrnn.benchmark.plots import plot_crossover, plot_entries
from sparse_mrnn.benchmark.problem import Problem, reference
from sparse_mrnn.benchmark.timing import Ratio, SideBySide, Timing
from sparse_mrnn.cli import app
from sparse_mrnn.errors import BenchmarkError


def awkward():
    """Parallel synapses, some of opposite sign, one region without a sign, frozen weights."""
    g = sm.RegionGraph()
    g.add_region("a", 12, base_firing=0.3, learnable_bias=True)
    g.add_region("b", 9, sign="neg", tau=40.0, activation="softplus")
    g.add_region("c", 7, sign=None)
    g.add_input("cue", 3)
    g.add_input("idle", 2)
    for pair, density in {"ab": 0.5, "ba": 0.4, "ca": 0.6, "ac": 0.3, "cc": 0.5}.items():
        g.add_projection(*pair, density=density)
    g.add_projection("a", "b", density=0.7, key="more")
    g.add_projection("a", "c", density=0.9, key="against", sign="neg")
    g.add_projection("b", "b", density=0.5, key="fixed", trainable=False)
    g.add_projection("cue", "a", density=0.8)
    return g


def no_recurrence():
    g = sm.RegionGraph()
    g.add_region("a", 6, base_firing=0.2)
    g.add_input("cue", 2)
    g.add_projection("cue", "a")
    return g


NETWORKS = {"awkward": awkward, "two regions": partial(b.two_regions, 60, 0.2), "feedforward": no_recurrence}


def installed(name):
    if name.endswith(("torch-sparse", "torch_sparse")):
        pytest.importorskip("torch_sparse")
    return b.entries()[name]


@pytest.mark.parametrize("model", ["leaky", "elman"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", b.entries())
def test_every_entry_agrees_with_the_reference(name, network, model):
    entry = installed(name)
    problem = Problem(b.Case(network, NETWORKS[network], batch=3, steps=6, model=model))
    made = entry(problem)
    check(made, reference(problem, entry.trains), entry.trains)
    check(made, reference(problem, False), False)
    assert made.build_s > 0


def test_the_reference_is_the_derivative():
    """By finite differences of its own loss."""
    problem = Problem(b.Case("", awkward, batch=2, steps=4))
    expected = reference(problem, True)
    for name, synapses in problem.synapses.items():
        for k in (0, 5, 11):
            where, losses = expected.entries[name][k], []
            for step in (1e-3, -1e-3):
                moved = synapses.weight.clone()
                moved[where] += step * (synapses.sign[where] or 1)
                changed = copy.copy(problem)
                changed.synapses = {**problem.synapses, name: replace(synapses, weight=moved)}
                losses.append((reference(changed, False).h ** 2).mean())
            slope = (losses[0] - losses[1]) / 2e-3
            assert slope == pytest.approx(expected.gradient[name][k], rel=2e-3, abs=1e-9)


class Wrong(LoopCSR):
    """Overrates every weight by a hundredth."""

    name = "wrong"

    def product(self, weights, values):
        return super().product(weights, 1.01 * values)


class WrongGradient(LoopCSR):
    """Right states, wrong gradient."""

    name = "wrong-gradient"

    def gradients(self):
        return {name: grad * 1.01 for name, grad in super().gradients().items()}


WRONG = [(Wrong, "h differs"), (WrongGradient, "gradient of the recurrent weights differs")]


@pytest.mark.parametrize(("entry", "what"), WRONG)
def test_an_entry_that_disagrees_is_an_error(entry, what):
    case = b.Case("net", partial(b.two_regions, 60, 0.2), batch=2, steps=5)
    with pytest.raises(BenchmarkError, match=f"{entry.name} on net: {what} from the float64 reference"):
        b.measure(case, [entry], memory=False, repeats=1)


def test_activity_without_bounds_is_an_error():
    g = sm.RegionGraph()
    g.add_region("a", 5, base_firing=1.0)
    g.add_projection("a", "a", initializer=sm.Constant(1e30))
    with pytest.raises(BenchmarkError, match="not finite"), np.errstate(all="ignore"):
        b.measure(b.Case("net", g.copy, activation="relu"), [LoopCSR], memory=False, repeats=1)


def test_entries_that_would_not_fit_are_left_out():
    case = b.Case("net", partial(b.two_regions, 200, 0.05), batch=2, steps=300)
    which = [b.entries()[name] for name in ("backend-csr", "loop-dense", "loop-coo")]
    small = b.measure(case, which, memory=False, repeats=1, limits=b.Limits(bytes=1.5e6 + 4 * 200**2 * 4))
    assert small["loop-dense"].skipped.startswith("would take about 0.00")
    assert small["backend-csr"].skipped is None
    slow = b.measure(case, which, memory=False, repeats=1, limits=b.Limits(seconds=1e-6))
    assert all(re.match(r"one run would take about \S+ s", e.skipped) for e in slow.entries)
    assert report.skipped([small])[0].startswith("left out: loop-dense: would take")


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    case, entry = b.Case("", partial(b.two_regions, 20, 0.2), 2, 2), b.entries()["loop-torch-sparse"]
    result = b.measure(case, [entry], memory=False, repeats=1)
    assert result["loop-torch-sparse"].skipped == "torch_sparse is not installed"


def test_scipy_is_not_asked_to_train_and_forward_only_measures_no_training():
    case = b.Case("", partial(b.two_regions, 20, 0.2), 2, 2)
    which = [b.entries()["loop-scipy"], b.entries()["sparse-mrnn"]]
    result = b.measure(case, which, memory=False, repeats=2)
    assert result["loop-scipy"].forward is not None
    assert result["loop-scipy"].training is None
    assert b.measure(case, which, training=False, memory=False, repeats=2)["sparse-mrnn"].training is None


def noisy_clock(times, seed, busy=0.0, factor=1.0):
    """A clock of synthetic times: 2% noise, and a part of the samples slowed down by a factor."""
    rng = np.random.default_rng(seed)

    def clock(run, count):
        return times[run()] * (1 + 0.02 * rng.standard_normal()) * (factor if rng.random() < busy else 1.0)

    return clock


def decide(times, seed, rounds=200, **noise):
    """Verdict on dense over sparse, and the rounds it took."""
    import random

    runs = {name: partial(str, name) for name in times}
    timed = SideBySide(runs, random.Random(seed), noisy_clock(times, seed, **noise))
    timed.run(7)
    kinds = {"backend-csr": "sparse", "loop-dense": "dense"}
    while (names := undecided(kinds, timed.timings())) and len(timed.samples["loop-dense"]) < rounds:
        timed.run(3, names)
    ratio = Ratio.of(timed.timings()["loop-dense"], timed.timings()["backend-csr"])
    return ratio.verdict, ratio.rounds


@pytest.mark.parametrize(("dense", "verdict"), [(2.0, "slower"), (0.5, "faster"), (1.0, "even")])
def test_a_quiet_machine_decides_in_the_first_rounds(dense, verdict):
    for seed in range(20):
        assert decide({"backend-csr": 1.0, "loop-dense": dense}, seed) == (verdict, 7)


@pytest.mark.parametrize(("dense", "verdict"), [(2.0, "slower"), (0.5, "faster")])
def test_a_busy_machine_takes_more_rounds_and_is_not_wrong(dense, verdict):
    """A third of all samples takes five times as long, whichever entry it is."""
    times = {"backend-csr": 1.0, "loop-dense": dense}
    found = [decide(times, seed, busy=1 / 3, factor=5.0) for seed in range(100)]
    assert sum(found_verdict == verdict for found_verdict, _ in found) >= 98
    assert np.mean([rounds for _, rounds in found]) > 8
    assert all(found_verdict in (verdict, "unclear") for found_verdict, _ in found)


def test_what_slows_a_whole_round_down_does_not_matter():
    slow = [1.0, 1.0, 6.0, 6.0, 6.0, 1.0, 3.0]
    sparse, dense = (Timing.of([factor * t for t in slow]) for factor in (1.0, 1.5))
    assert sparse.q3 > dense.q1
    assert Ratio.of(dense, sparse).verdict == "slower"


def test_rounds_that_one_was_left_out_of_do_not_count():
    over, under = Timing.of([2.0] * 10), Timing.of([None] * 3 + [1.0] * 7)
    assert Ratio.of(over, under) == Ratio(2.0, 2.0, 2.0, 7)


def test_confidence_of_the_ratio():
    """98% intervals hold the true median ratio, of lopsided noise, at least so often."""
    rng = np.random.default_rng(0)
    for rounds in (7, 12, 30):
        held = 0
        for _ in range(1000):
            noise = 1 + rng.exponential(1.0, (2, rounds))
            ratio = Ratio.of(*(Timing.of(seconds.tolist()) for seconds in noise))
            held += ratio.low <= 1 <= ratio.high
        assert held >= 970


def test_peak_meter():
    meter = PeakMeter()
    held = np.ones(8_000_000)
    del held
    assert 60e6 < meter.bytes() < 90e6
    meter.restart()
    assert meter.bytes() < 30e6


@pytest.mark.slow
def test_memory_of_an_entry_in_its_own_process():
    case = b.Case("", partial(b.two_regions, 1500, 0.01), batch=2, steps=2)
    dense, sparse = (b.peak_memory(case, name, True) for name in ("loop-dense", "backend-csr"))
    assert 6 * 4 * 1500**2 < dense < 14 * 4 * 1500**2
    assert sparse < dense / 3


def test_a_process_that_dies_is_said():
    with pytest.raises(BenchmarkError, match="stopped by the system"):
        in_fresh_process(os._exit, 1)


def test_block_models_keep_what_they_should():
    g = awkward()
    model = b.BlockModel.of(g)
    assert model.mean_density == pytest.approx(b.BlockModel.of(model.make()).mean_density)
    bigger = model.make(units=280)
    assert [r.n for r in bigger.regions()] == [120, 90, 70]
    assert b.BlockModel.of(bigger).mean_density == pytest.approx(model.mean_density)
    assert bigger.region("b").activation == "softplus"
    for density in (0.05, 0.3, 0.8, 1.0):
        assert b.BlockModel.of(model.make(density=density)).mean_density == pytest.approx(density)
    net = sm.mRNN(model.make(units=2800, density=0.1), seed=0, device="cpu")
    assert net.rec.nnz / 2800**2 == pytest.approx(0.1, rel=0.01)


# ---------------------------------------------------------------- conclusions


def result(units, density, sparse, dense, group="units", memory=(None, None), skipped=None):
    def entry(name, kind, ms, mb):
        t = None if ms is None else b.Timing.of([ms / 1e3] * 7)
        return b.EntryResult(name, name, kind, 0.1, t, t, mb, skipped if ms is None else None)

    entries = [entry("backend-csr", "sparse", sparse, memory[0])]
    entries.append(entry("loop-dense", "dense", dense, memory[1]))
    size = (units, int(density * units**2), density)
    return b.CaseResult(f"{units}", group, *size, 32, 20, "leaky", "tanh", entries)


def test_crossover_on_power_laws():
    """Sparse takes n, dense n^2 / 3000: equal at 3,000 units. By density, 100 d against 30: equal at 30%."""
    sizes = [result(n, 0.1, n, n**2 / 3000) for n in (500, 2000, 8000)]
    densities = [result(4000, d, 100 * d, 30, "density") for d in (0.1, 0.2, 0.5, 1)]
    assert advice.crossover(sizes, "units").at == pytest.approx(3000)
    assert advice.crossover(densities, "density").at == pytest.approx(0.3)
    here = result(42_000, 0.1, 10, 140, "network", (5, 150))
    text = advice.advice([here, *sizes, *densities])
    assert text == (
        "Use sparse here: sparse is 14x faster and 30x smaller (backend-csr, against loop-dense, training); "
        "use dense below 3,000 units or above 30% density."
    )


def test_curves_that_meet_again():
    """Full blocks are dense products in both, so sparse may draw level again at the highest density."""
    densities = [result(1000, d, ms, 30, "density") for d, ms in ((0.1, 15), (0.2, 60), (0.5, 60), (1, 29))]
    assert advice.crossover(densities, "density").at == pytest.approx(0.1 * 2**0.5)
    sizes = [result(n, 0.1, ms, 10) for n, ms in ((100, 20), (200, 5), (400, 20), (800, 5))]
    assert advice.crossover(sizes, "units").at == pytest.approx(400 * 2**0.5)


def test_advice_in_other_cases():
    one_sided = [result(n, 0.1, n, 2 * n) for n in (500, 2000)]
    assert "sparse is faster at all sizes measured (500 to 2,000)" in advice.advice(one_sided)
    slower = advice.advice([result(100, 0.5, 3, 1, "network", (1, 2))])
    assert slower.startswith("Use dense here: sparse is 3x slower and 2x smaller")
    assert advice.advice([result(100, 0.5, 1, 1.05, "network")]).startswith("Sparse is as fast as dense here")
    too_large = "would take about 400 GB of memory"
    unfit = advice.advice([result(10**5, 0.001, 70, None, "network", skipped=too_large)])
    took = "training takes 70 ms (backend-csr)"
    assert unfit == f"Use sparse here: {took}; dense was not measured ({too_large})."
    assert advice.advice([]) == "Nothing was measured."


def unclear(case):
    """The case with rounds that point either way."""
    for e, rounds in zip(case.entries, ([1, 9] * 4, [3] * 8), strict=True):
        e.training = b.Timing.of([t / 1e3 for t in rounds])
    return case


def test_advice_says_that_it_cannot_tell():
    here = unclear(result(100, 0.1, 1, 1, "network", (1, 2)))
    text = advice.advice([here])
    assert text.startswith("The timings do not tell whether to use sparse or dense here")
    assert "dense takes 0.33 to 3 times as long as sparse" in text
    few = result(100, 0.1, 1, 2, "network")
    few.entries[0].training, few.entries[1].training = b.Timing.of([1e-3] * 3), b.Timing.of([2e-3] * 3)
    assert "do not tell" in advice.advice([few])


def test_a_crossover_between_cases_that_do_not_tell():
    densities = [result(1000, d, ms, 30, "density") for d, ms in ((0.1, 15), (0.2, 25), (0.5, 60), (1, 70))]
    unclear(densities[1])
    found = advice.crossover(densities, "density")
    assert (found.at, found.between, found.unclear) == (None, (0.1, 0.5), (0.2,))
    assert "use dense above a point between 10% and 50% density" in advice.advice(densities)
    sizes = [result(n, 0.1, n, 2 * n) for n in (500, 1000, 2000)]
    unclear(sizes[1])
    assert advice.advice(sizes).endswith(
        "sparse is faster at all sizes measured (500 to 2,000), but for 1,000, where the timings do not tell."
    )
    assert advice.crossover([unclear(result(n, 0.1, 1, 1)) for n in (500, 1000, 2000)], "units") is None


def test_plot_has_the_panels_there_is_data_for():
    sizes = [result(n, 0.1, n, n**2 / 3000, memory=(n, n)) for n in (500, 2000, 8000)]
    densities = [result(4000, d, 100 * d, 30, "density") for d in (0.1, 0.5)]
    assert [ax.get_xlabel() for ax in plot_crossover(sizes + densities).axes] == ["units", "units", "density"]
    (only,) = plot_crossover(densities).axes
    assert only.get_ylabel() == "time of the best dense / the best sparse"


def test_plot_of_one_case():
    case = result(302, 0.06, 2.5, 6.0, "network", memory=(3, 11))
    time, memory = plot_entries(case).axes
    assert [t.get_text() for t in time.get_yticklabels()] == ["loop-dense", "backend-csr"]  # the last is on top
    assert [bar.get_width() for bar in memory.patches] == [11, 3]
    assert len(plot_entries(result(302, 0.06, 2.5, 6.0, "network")).axes) == 1


def test_a_busy_machine_is_noticed():
    r = result(100, 0.1, 1, 1)
    assert report.unsteady([r]) is None
    r.entries[0].training = r.entries[1].training = b.Timing.of([5e-4, 1e-3, 1.5e-3])
    assert "quiet machine" in report.unsteady([r])


def test_describe_machine_name_no_machine():
    text = json.dumps(b.describe_machine())
    assert "/" not in text
    assert socket.gethostname() not in text
    assert torch.__version__.partition("+")[0] in b.machine_line(b.describe_machine())


# ---------------------------------------------------------------- command line


def run(*args, code=0):
    found = CliRunner().invoke(app, ["bench", *map(str, args)], env={"COLUMNS": "80"})
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return re.sub(r"\x1b\[[0-9;]*m", "", found.output)


QUICK = ("--entries", "backend-csr,loop-dense,loop-csr", "--no-memory", "--device", "cpu")
QUICK += ("--repeats", 2, "--patience", 0, "--batch", 2, "--steps", 3)


def test_bench_of_a_ladder(tmp_path):
    ladders = ("--sizes", "20,40,80", "--density", 0.2, "--densities", "0.1,1")
    text = run(*ladders, *QUICK, "--out", tmp_path / "out")
    assert all(len(line) <= 80 for line in text.splitlines() if "wrote" not in line)
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    cases = [(c["group"], c["units"]) for c in data["cases"]]
    assert cases == [("units", 20), ("units", 40), ("units", 80), ("density", 40), ("density", 40)]
    assert data["advice"].rstrip(".").split()[-1] in text
    assert str(tmp_path) not in json.dumps(data)
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert len(rows) == 15
    assert all(float(row["training_ms"]) > 0 for row in rows)
    assert (tmp_path / "out" / "crossover.png").stat().st_size > 10_000
    assert "exists; add --overwrite" in run("--sizes", "20", "--out", tmp_path / "out", code=1)


def test_bench_of_a_network(tmp_path):
    text = run("celegans", "--alone", *QUICK, "--forward-only", "--out", tmp_path)
    assert "celegans: 302 units, 5,089 synapses, batch 2, 3 steps" in text
    assert "fwd+bwd" not in text
    assert (tmp_path / "entries.png").stat().st_size > 5_000
    assert not (tmp_path / "crossover.png").exists()
    config = tmp_path / "net.json"
    sm.write_config(awkward(), config)
    text = run(config, *QUICK)
    assert "by units" in text
    assert "by density" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--entries", "sparse-mrnn,lop-dense"), "no entry 'lop-dense'"),
        (("--entries", "sparse-mrnn,lop-dense"), "Did you mean 'loop-dense'?"),
        (("--sizes", "100,many"), "--sizes '100,many': give whole numbers"),
        (("--sizes", "0,100"), "units must be positive"),
        (("--sizes", "3"), "too few to measure"),
        (("--densities", "0.5,2"), "a density is above 0 and at most 1"),
        (("--density", "1.5"), "density is 1.5"),
        (("--fan-in", 100, "--sizes", "50"), "a fan-in of 100 is impossible with 50 units"),
        (("--fan-in", 10, "--density", "0.1"), "one of the two"),
        (("--batch", 0), "batch is 0; it must be at least 1"),
        (("--repeats", 0), "repeats is 0"),
        (("--alone",), "--alone measures a CONFIG alone"),
        (("celegans", "--density", "0.1"), "--density and --fan-in are for random networks"),
        (("nowhere.json",), "cannot read the file"),
        (("--device", "tpu9"), "device 'tpu9' is not a torch device"),
        (("--max-seconds", 0), "--max-seconds and --max-memory must be positive"),
    ],
)
def test_bad_options_are_one_message(args, message):
    assert message in run(*args, code=1).replace("\n", " ")


def test_a_network_without_synapses_is_an_error(tmp_path):
    sm.write_config(no_recurrence(), tmp_path / "net.json")
    assert "no recurrent projections" in run(tmp_path / "net.json", code=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says that there is no CUDA device")
def test_gpu_page_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["page.py", "--device", "cuda", "--write", str(tmp_path / "page.md")])
    with pytest.raises(SystemExit, match="^no CUDA device here"):
        runpy.run_path(ROOT / "benchmarks" / "page.py", run_name="__main__")
    assert not (tmp_path / "page.md").exists()


STOPS = [(KeyboardInterrupt(), 130), (BenchmarkError("an entry disagrees"), 1)]


@pytest.mark.parametrize(("problem", "code"), STOPS)
def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch, problem, code):
    measure = b.measure

    def stops(case, *args, **kwargs):
        if "80" in case.label:
            raise problem
        return measure(case, *args, **kwargs)

    monkeypatch.setattr(b, "measure", stops)
    text = run("--sizes", "20,40,80", *QUICK, "--out", tmp_path, code=code)
    assert "stopped; 2 of 3 cases are measured" in text
    assert ("an entry disagrees" in text) == (code == 1)
    assert len(json.loads((tmp_path / "results.json").read_text())["cases"]) == 2
