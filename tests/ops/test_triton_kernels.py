"""Triton's kernels against the dense matrix in float64: interpreted on the CPU, and compiled for a GPU that is not here.

They need triton, and TRITON_INTERPRET=1 before it is imported; `make test-triton` sets both up.
"""

import importlib.util
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import ROOT
from sparse_mrnn.errors import MissingExtraError
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import CsrOperator, device_products

INSTALLED = importlib.util.find_spec("triton") is not None
INTERPRETED = INSTALLED and os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="needs triton, and TRITON_INTERPRET=1: make test-triton")
compiled = pytest.mark.skipif(not INSTALLED or INTERPRETED, reason="needs triton, not interpreted: make test-triton")
CLOSE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}


@pytest.fixture
def kernels():
    from sparse_mrnn.ops import triton_kernels

    return triton_kernels


def random_matrix(seed, rows, columns, entries, dtype, index=torch.int32):
    """A pattern, some of whose rows are empty, its values, and the dense matrix in float64."""
    rng = np.random.default_rng(seed)
    row, col = (torch.from_numpy(rng.integers(0, n, entries)) for n in (rows, columns))
    row[row == 1] = 0
    pattern = Pattern.from_coo(row, col, (rows, columns))[0]
    pattern = Pattern(pattern.crow.to(index), pattern.col.to(index), pattern.shape)
    values = torch.from_numpy(rng.normal(size=entries)).to(dtype)
    dense = torch.zeros(rows, columns, dtype=torch.float64)
    dense.index_put_((pattern.row.long(), pattern.col.long()), values.double(), accumulate=True)
    return pattern, values, dense, rng


@interpreted
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), entries=st.integers(0, 60), batch=st.sampled_from([1, 3, 32, 65]), dtype=st.sampled_from(list(CLOSE)),
    beta=st.sampled_from([0.0, 1.0, 0.7]), alpha=st.sampled_from([1.0, -0.3]), seed=st.integers(0, 1000), index=st.sampled_from([torch.int32, torch.int64]),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_products_and_their_gradients(rows, columns, entries, batch, dtype, beta, alpha, seed, index):
    pattern, values, dense, rng = random_matrix(seed, rows, columns, entries, dtype, index)
    h, y, g = (torch.from_numpy(rng.normal(size=(n, batch))).to(dtype) for n in (columns, rows, rows))
    expected = beta * y.double() + alpha * dense @ h.double()
    once = pattern.unique[0]
    grad = torch.ones(once.nnz, dtype=dtype)
    with device_products.using("triton"):
        out = torch.full_like(y, float("nan")) if beta == 0 else y.clone()
        device_products.add_product(out, pattern, values, h, beta=beta, alpha=alpha)
        device_products.add_sampled(grad, once, g, h)
    torch.testing.assert_close(out.double(), expected, **CLOSE[dtype])
    whole = 1 + (g.double() @ h.double().t())[once.row.long(), once.col.long()]
    torch.testing.assert_close(grad.double(), whole, **CLOSE[dtype])


@interpreted
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh", "sigmoid", "softplus"])
@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_leaky_step_in_one_pass(kernels, activation, by_unit, batch):
    pattern, values, dense, rng = random_matrix(2, 7, 7, 30, torch.float64)
    x, h = (torch.from_numpy(rng.normal(size=(7, batch))) for _ in range(2))
    x[2, 0] = 800.0
    x[3, 0] = -800.0
    tonic = torch.from_numpy(rng.normal(size=7)) if batch > 1 else None
    rate = torch.from_numpy(rng.uniform(0.1, 0.9, 7)) if by_unit else 0.3
    share = rate[:, None] if by_unit else rate
    expected = (1 - share) * x + share * (dense @ h) + (0 if tonic is None else tonic[:, None])
    found = torch.empty_like(x)
    kernels.leaky_step(x, found, pattern.crow, pattern.col, values, h, rate, tonic, activation)
    function = getattr(torch.nn.functional, activation, lambda t: t) if activation in ("relu", "softplus") else getattr(torch, activation, lambda t: t)
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, function(expected), rtol=1e-10, atol=1e-12)


@interpreted
@pytest.mark.parametrize("batch", [1, 3])
def test_spikes_reach_their_targets(kernels, batch):
    pattern, values, dense, rng = random_matrix(3, 11, 6, 40, torch.float64)
    spikes = torch.from_numpy((rng.random((6, batch)) < 0.4) * rng.random((6, batch)))
    into, order = pattern.transposed
    y = torch.from_numpy(rng.normal(size=(11, batch)))
    expected = y + 0.5 * dense @ spikes
    kernels.add_spikes(y, into.crow, into.col, values[order.long()], spikes, 0.5)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@interpreted
def test_bands_of_columns_and_blocks_of_every_size(kernels):
    pattern, values, dense, rng = random_matrix(4, 9, 8, 50, torch.float64)
    once = pattern.unique[0]
    g, h = (torch.from_numpy(rng.normal(size=(n, 37))) for n in (9, 8))
    expected = (g @ h.t())[once.row.long(), once.col.long()]
    for band in (8 * 8, 8 * 8 * 5, 10**9):
        for sizes in ({}, {"ROWS": 4, "SYNAPSES": 2, "COLUMNS": 4}):
            grad = torch.zeros(once.nnz, dtype=torch.float64)
            kernels.add_sampled(grad, once.crow, once.col, g, h, band, **sizes)
            torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
    for sizes in ({"ROWS": 4, "SYNAPSES": 1, "TRIALS": 2}, {"ROWS": 1, "SYNAPSES": 64, "TRIALS": 64}):
        y = torch.zeros(9, 37, dtype=torch.float64)
        kernels.add_product(y, pattern.crow, pattern.col, values, h, 0.0, 1.0, **sizes)
        torch.testing.assert_close(y, dense @ h, rtol=1e-12, atol=1e-12)


@interpreted
def test_what_is_not_finite_spreads_and_nothing_else_does(kernels):
    crow, col = torch.tensor([0, 2, 2, 3], dtype=torch.int32), torch.tensor([0, 1, 2], dtype=torch.int32)
    h, y = torch.ones(3, 3), torch.full((3, 3), float("nan"))
    h[1, 0], h[2, 1] = float("nan"), float("inf")
    kernels.add_product(y, crow, col, torch.ones(3), h, 0.0, 1.0)
    assert y[0, 0].isnan()
    assert y[2, 1].isinf()
    assert y.isfinite().sum() == 7
    x, activity = torch.zeros(3, 3), torch.zeros(3, 3)
    kernels.leaky_step(x, activity, crow, col, torch.ones(3), h, 0.5, None, "relu")
    assert activity[0, 0].isnan()


@interpreted
def test_a_network_of_these_kernels(monkeypatch):
    import sparse_mrnn as sm
    from helpers.networks import under_way

    def run():
        net = under_way(sm.mRNN, device="cpu")
        x, h = net(torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.manual_seed(0)))
        (x.sin().sum() + h.square().sum()).backward()
        return [x, h, *(p.grad for p in net.parameters())]

    expected = run()
    monkeypatch.setattr(device_products, "are_used", lambda values: True)
    with device_products.using("triton"):
        torch.testing.assert_close(run(), expected, rtol=1e-9, atol=1e-12)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_they_compile_for_a_gpu_without_spilling_registers(capability, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from compile_triton import compiled_kernels

    for name, registers, spilled in compiled_kernels(capability):
        assert registers <= 255, name
        assert spilled == 0, name


@pytest.mark.skipif(INSTALLED, reason="triton is installed")
def test_without_triton():
    with pytest.raises(MissingExtraError, match="it comes with torch for CUDA"), device_products.using("triton"):
        pass
    assert CsrOperator.name == "csr"
