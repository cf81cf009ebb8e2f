"""Ridge readouts from Gram matrices, against dense solutions; what they read of the disk; memory capacity."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.analysis import MemoryCapacity, Readout, gram, memory_capacity, ridge_readout
from sparse_mrnn.analysis.time_blocks import TimeBlocks
from sparse_mrnn.errors import AnalysisError, RecordingError, ShapeError, SizeError, UnknownNameError
from sparse_mrnn.recording import Record

xr = pytest.importorskip("xarray")


def data(units, trials=4, steps=30, outputs=2, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((trials, steps, units)) * rng.uniform(0.1, 2, units) + offset
    y = x @ rng.standard_normal((units, outputs)) + rng.standard_normal((trials, steps, outputs)) - 7
    return x, y


def dense(x, y, alpha):
    """Ridge regression with an intercept that has no penalty, by an augmented least-squares problem."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    a = np.vstack([x - mean_x, np.sqrt(alpha) * np.eye(x.shape[1])])
    w = np.linalg.lstsq(a, np.vstack([y - mean_y, np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0]
    return w, mean_y - mean_x @ w


@pytest.mark.parametrize("units", [7, 200])  # fewer than the samples, and more
@pytest.mark.parametrize("whole_trials", [True, False])
def test_against_a_dense_solution(units, whole_trials, monkeypatch):
    x, y = data(units, trials=4 if whole_trials else 2)
    y[0, 3, 1] = np.nan
    trials, steps, folds, washout = *x.shape[:2], 4 if whole_trials else 3, 2
    alphas = [1e-3, 1.0, 30.0]
    used = np.isfinite(y).all(2)
    used[:, :washout] = False
    trial = np.nonzero(used)[0]
    flat, target = x[used], y[used]
    fold = trial if whole_trials else np.arange(len(flat)) * folds // len(flat)
    r2, correlation = np.zeros((3, 2)), np.zeros((3, 2))
    for k, alpha in enumerate(alphas):
        p = np.zeros_like(target)
        for f in range(folds):
            w, b = dense(flat[fold != f], target[fold != f], alpha)
            p[fold == f] = flat[fold == f] @ w + b
        r2[k] = 1 - ((target - p) ** 2).sum(0) / ((target - target.mean(0)) ** 2).sum(0)
        correlation[k] = [np.corrcoef(p[:, o], target[:, o])[0, 1] for o in range(2)]
    for size in (2**26, 3000):
        monkeypatch.setattr(gram, "BLOCK_BYTES", size)
        monkeypatch.setattr(gram, "STATES_BYTES", size)
        monkeypatch.setattr(gram, "COLUMNS", 64)
        found = ridge_readout(x, y, alphas=alphas, folds=folds, washout=washout)
        np.testing.assert_allclose(found.r2_of_alpha, r2, atol=1e-9)
        best = r2.argmax(0)
        assert found.alpha.tolist() == [alphas[k] for k in best]
        np.testing.assert_allclose(found.r2, r2.max(0), atol=1e-9)
        np.testing.assert_allclose(found.correlation, correlation[best, [0, 1]], atol=1e-9)
        for o in range(2):
            w, b = dense(flat, target, alphas[best[o]])
            np.testing.assert_allclose(found.weights[o], w[:, o], atol=1e-9)
            np.testing.assert_allclose(found.intercept[o], b[o], atol=1e-8)
        np.testing.assert_allclose(found.predict(x), x @ found.weights.T + found.intercept, atol=1e-12)
        assert found.samples == len(flat)
    once = ridge_readout(x[0], y[1, :, 0], alphas=0.5, folds=0)
    np.testing.assert_allclose(once.weights[0], dense(x[0], y[1, :, :1], 0.5)[0][:, 0], atol=1e-9)
    assert np.isnan(once.r2).all()
    assert (trials, steps) == x.shape[:2]


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """A run on disk, in many chunks, of regions a (5), b (60) and c (3)."""
    monkeypatch.setattr("sparse_mrnn.simulation.plan.LONGEST_CHUNK", 5)
    g = sm.RegionGraph()
    for name, n in dict(a=5, b=60, c=3).items():
        g.add_region(name, n, sign=None)
    for source in "abc":
        for target in "abc":
            g.add_projection(source, target, density=0.5, initializer=sm.Normal(0.5))
    net = sm.mRNN(g, "tanh", device="cpu", seed=0, noise_level_act=0.5, dtype=torch.float64)
    sm.simulate(net, steps=12, batch=3, noise=True, out=tmp_path / "run.zarr", record=Record(), progress=False)
    return tmp_path / "run.zarr"


def test_regions_apart_in_one_pass(recording, monkeypatch):
    """b has more units than there are samples, a and c fewer."""
    run = sm.open_recording(recording)
    h, y = run.h.values, np.random.default_rng(0).standard_normal((3, 12, 2))
    reads = []
    read = TimeBlocks.read
    monkeypatch.setattr(TimeBlocks, "read", lambda self, start, stop: reads.append((start, stop)) or read(self, start, stop))
    options = dict(alphas=(0.1, 1.0), folds=3)
    found = ridge_readout(recording, y, by="region", **options)
    assert reads == [(0, 12), (0, 12)]  # once for the Gram matrices, once for the weights of b
    assert list(found) == ["a", "b", "c"]
    for name, one in found.items():
        own = ridge_readout(h[:, :, run.region.values == name], y, **options)
        np.testing.assert_allclose(one.weights, own.weights, atol=1e-10)
        np.testing.assert_allclose(one.r2_of_alpha, own.r2_of_alpha, atol=1e-10)
        assert set(one.region.tolist()) == {name}
    two = ridge_readout(recording, y, regions=["c", "a"], **options)
    assert two.unit_id.tolist() == [*(f"a[{k}]" for k in range(5)), *(f"c[{k}]" for k in range(3))]
    np.testing.assert_allclose(two.predict(run), h[:, :, [0, 1, 2, 3, 4, 65, 66, 67]] @ two.weights.T + two.intercept)


def test_blocks_are_read_as_often_as_said(monkeypatch):
    """m blocks are read (m - 1) / 2 + 1 / m times, and once more for the weights."""
    x, y = data(200, trials=1, steps=60)
    expected = ridge_readout(x, y, alphas=1.0).weights
    reads, read = [], TimeBlocks.read
    monkeypatch.setattr(TimeBlocks, "read", lambda self, start, stop: reads.append(stop - start) or read(self, start, stop))
    for blocks in (1, 2, 3, 4):
        monkeypatch.setattr(gram, "STATES_BYTES", 200 * 8 * 60 // blocks)
        reads.clear()
        np.testing.assert_allclose(ridge_readout(x, y, alphas=1.0).weights, expected, atol=1e-12)
        assert sum(reads) / 60 == pytest.approx((blocks - 1) / 2 + 1 / blocks + 1)


def test_labels_travel_with_the_states(recording, tmp_path):
    run = sm.open_recording(recording).load()
    y = np.random.default_rng(0).standard_normal((3, 12))
    order = np.random.default_rng(1).permutation(68)
    found, moved = (ridge_readout(each, y, alphas=1.0) for each in (run, run.isel(unit=order)))
    np.testing.assert_allclose(moved.weights, found.weights[:, order], atol=1e-12)
    np.testing.assert_allclose(moved.predict(run), found.predict(run.isel(unit=order)), atol=1e-10)
    found.save(tmp_path / "readout.zarr")
    again = Readout.load(tmp_path / "readout.zarr")
    np.testing.assert_array_equal(again.predict(run), found.predict(run))
    with pytest.raises(AnalysisError, match=r"the states have no unit 'b\[0\]' of region 'b'"):
        found.predict(run.isel(unit=run.region != "b"))


def test_constant_units_and_copies():
    x, y = data(5)
    x = np.concatenate([x, x[:, :, :1], np.ones((*x.shape[:2], 1))], axis=2)
    found = ridge_readout(x, y, alphas=[1e-25, 1e-3])
    assert (found.weights[:, 6] == 0).all()
    np.testing.assert_allclose(found.weights[:, 0], found.weights[:, 5], rtol=1e-6)
    assert found.alpha.tolist() == [1e-3, 1e-3]
    with pytest.raises(AnalysisError, match="alpha = 1e-25 is too small to tell these units apart"):
        ridge_readout(x, y, alphas=1e-25, folds=0)


@pytest.mark.parametrize("inputs", [1, 2])
def test_memory_capacity_of_a_delay_line(inputs):
    """n units that hold the last n inputs remember exactly these; a reservoir at most as many as it has units."""
    u = np.random.default_rng(0).standard_normal((5, 300, inputs))
    line = np.zeros((5, 300, 8 * inputs))
    for k in range(8):
        line[:, k:, k * inputs : (k + 1) * inputs] = u[:, : 300 - k]
    mixed = line @ np.random.default_rng(1).standard_normal((8 * inputs, 8 * inputs))
    found = memory_capacity(mixed, u, range(12), washout=12, alphas=1e-9)
    assert found.capacity[:8] == pytest.approx(1, abs=1e-6)
    assert found.capacity[8:].max() < 0.05
    assert found.total == pytest.approx(8 * inputs, abs=0.2)
    assert memory_capacity(mixed, u, [3, 20], washout=20).delay.tolist() == [3, 20]


def test_memory_capacity_is_saved(tmp_path):
    u = np.random.default_rng(0).standard_normal(200)
    found = memory_capacity(np.stack([u, np.roll(u, 1)], axis=1), u, 3, washout=3)
    found.save(tmp_path / "memory.zarr")
    np.testing.assert_array_equal(MemoryCapacity.load(tmp_path / "memory.zarr").capacity, found.capacity)


def test_errors(recording):
    x, y = data(5)
    constant, infinite = y.copy(), y.copy()
    constant[..., 1], infinite[1, 2, 0] = 4.0, np.inf
    cases = [
        ((x, y[:, :-1]), {}, ShapeError, r"targets have shape \(4, 29, 2\); expected \(trial, time, ...\) = \(4, 30, ...\)"),
        ((x, constant), {}, AnalysisError, "output 1 is the same in all samples"),
        ((x, infinite), {}, AnalysisError, "output 0 is infinite in trial 1 at time step 2"),
        ((x, np.full_like(y, np.nan)), {}, AnalysisError, "0 samples have targets"),
        ((x, y), dict(washout=30), AnalysisError, "0 samples have targets"),
        ((x, y), dict(alphas=[]), AnalysisError, "give at least one, above 0"),
        ((x, y), dict(alphas=[1, 0]), AnalysisError, "give at least one, above 0"),
        ((x, y), dict(folds=1), AnalysisError, "folds is 1; use at least 2, or 0 with one alpha"),
        ((x, y), dict(folds=0), AnalysisError, "folds is 0"),
        ((x, y), dict(by="unit"), AnalysisError, "by is 'unit'"),
        ((x, y), dict(by="region"), AnalysisError, "the states have no regions"),
        ((recording, np.ones((3, 12))), dict(regions="d"), UnknownNameError, "the states have no region 'd'"),
        ((x.astype(object), y), {}, ShapeError, "type object; expected numbers"),
    ]
    for given, options, error, text in cases:
        with pytest.raises(error, match=text):
            ridge_readout(*given, **options)
    x[2, 1, 4] = np.nan
    with pytest.raises(RecordingError, match="unit 4 is not finite in trial 2 at time step 1"):
        ridge_readout(x, y)
    with pytest.raises(ShapeError, match="states of 4 units, but the readout has 5"):
        ridge_readout(data(5)[0], y).predict(np.zeros((1, 2, 4)))
    with pytest.raises(AnalysisError, match="memory_capacity: delay is 30; .* at most 29"):
        memory_capacity(data(5)[0], y, [30])
    with pytest.raises(ShapeError, match="memory_capacity: inputs have shape"):
        memory_capacity(data(5)[0], y[:, 1:])


def test_gram_matrices_too_large_for_memory(monkeypatch):
    monkeypatch.setattr(gram, "free_memory", lambda: 1000)
    for units, text in ((5, "the Gram matrices of 5 units and 5 folds take"), (300, "the Gram matrix of 120 samples")):
        with pytest.raises(SizeError, match=text):
            ridge_readout(*data(units))
