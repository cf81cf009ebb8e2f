"""The event-driven product and step, against the CSR product."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import event_driven
from sparse_mrnn.ops.products.csr import CsrOperator
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Stimulus

pytest.importorskip("numba")


def random_pattern(rng, rows, columns, nnz):
    row, col = np.sort(rng.integers(0, rows, nnz)), rng.integers(0, columns, nnz)
    crow = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return Pattern(torch.from_numpy(crow.astype(np.int32)), torch.from_numpy(col.astype(np.int32)), (rows, columns))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(0, 300), st.floats(0, 1), st.sampled_from([torch.float32, torch.float64]))
def test_equal_to_the_dense_product(seed, rows, columns, nnz, active, dtype):
    rng = np.random.default_rng(seed)
    pattern = random_pattern(rng, rows, columns, nnz)
    values = torch.from_numpy(rng.normal(size=nnz)).to(dtype)
    product = event_driven.EventDrivenProduct(CsrOperator(pattern), values)
    h = torch.from_numpy(rng.normal(size=(columns, 1)) * (rng.random((columns, 1)) < active)).to(dtype)
    y = torch.from_numpy(rng.normal(size=(rows, 1))).to(dtype)
    dense = np.zeros((rows, columns))
    np.add.at(dense, (pattern.row.numpy(), pattern.col.numpy()), values.double().numpy())
    for beta, alpha in ((0.0, 1.0), (1.0, 0.5), (0.9, 0.1)):
        out = y.clone()
        product.addmm(out, h, beta=beta, alpha=alpha, out=out)
        expected = beta * y.double().numpy() + alpha * dense @ h.double().numpy()
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_switches_by_the_synapses_of_active_sources_and_is_the_same_on_any_thread_count():
    rng = np.random.default_rng(0)
    pattern = random_pattern(rng, 500, 400, 20_000)
    values = torch.from_numpy(rng.normal(size=20_000)).float()
    h = torch.zeros(400, 1)
    h[:100] = torch.rand(100, 1)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        product = event_driven.EventDrivenProduct(CsrOperator(pattern), values)
        out = torch.zeros(500, 1)
        product.addmm(out, h, beta=0.9, alpha=0.1, out=out)
        found.append(out)
        assert product.columns is not None
    torch.set_num_threads(before)
    assert torch.equal(*found)
    product = event_driven.EventDrivenProduct(CsrOperator(pattern), values)
    product.addmm(out, torch.ones(400, 1), beta=0.0, alpha=1.0, out=out)
    assert product.columns is None  # everything is active: rows


def test_nan_spreads():
    product = event_driven.EventDrivenProduct(CsrOperator(random_pattern(np.random.default_rng(0), 5, 5, 25)), torch.ones(25))
    h = torch.zeros(5, 1)
    h[2] = float("nan")
    out = torch.zeros(5, 1)
    product.addmm(out, h, beta=1.0, alpha=1.0, out=out)
    assert out.isnan().any()


def test_a_run_is_the_same_with_and_without(monkeypatch):
    monkeypatch.setattr(event_driven, "FEWEST", 1)
    g = sm.RegionGraph()
    g.add_region("a", 300, sign=None)
    g.add_region("b", 200, sign="neg")
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t, density=0.05, delay=30 if s == "a" else None)
    net = sm.mRNN(g, device="cpu", seed=0, backend="csr", spectral_radius=1.5)
    used = []
    real = event_driven.by_column
    monkeypatch.setattr(event_driven, "by_column", lambda *args: (used.append(1), real(*args))[1])
    stimulus = Stimulus("a", 1.0, fraction=0.05)
    event = simulate(net, 1000, stimulus=stimulus).h.values
    assert used
    count = len(used)
    plain = simulate(net, 1000, stimulus=stimulus, event_driven=False).h.values
    assert len(used) == count
    np.testing.assert_allclose(event, plain, rtol=1e-4, atol=1e-6)
