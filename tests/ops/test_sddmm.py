"""The compiled SDDMM and torch's give the dense gradient, parallel entries included."""

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.ops import fused_leaky
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products.csr import CsrOperator
from sparse_mrnn.ops.sequence import backward


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 5, 8, 13, 128, 237])
def test_sddmm(monkeypatch, compiled, dtype, width):
    if compiled:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
    rows = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 3])  # row 1 is empty; a row of six, parallel entries, a self-loop
    col = torch.tensor([0, 1, 1, 1, 2, 4, 3, 3, 3], dtype=torch.int32)
    crow = torch.tensor([0, 6, 6, 8, 9], dtype=torch.int32)
    g, h = torch.randn(4, width, dtype=dtype), torch.randn(5, width, dtype=dtype)
    product = CsrOperator(Pattern(crow, col, (4, 5))).bind(torch.ones(9, dtype=dtype))
    assert (product.kernel is not None) == compiled
    product.sddmm(g, h)
    product.sddmm(2 * g, h)
    apart, columns = torch.zeros(4, width + 3, dtype=dtype)[:, :width].copy_(g), h.t().contiguous().t()
    product.sddmm(apart, columns)  # rows that lie apart, and columns that lie side by side
    torch.testing.assert_close(product.grad(), 4 * (g @ h.T)[rows, col.long()])


@pytest.mark.parametrize("own", ["tanh", "linear", None])
def test_pointwise_steps_in_one_pass(monkeypatch, own):
    pytest.importorskip("numba")
    graph = sm.RegionGraph()
    graph.add_region("a", 5, tau=50.0, base_firing=0.3, learnable_bias=True, learnable_tau=True)
    graph.add_region("b", 4, tau=80.0, sign="neg", activation=own)
    graph.add_projection("a", "b", density=0.5)
    graph.add_projection("b", "a", density=0.5, delay=20.0)
    inp, found = torch.zeros(3, 6, 0, dtype=torch.float64), []
    for states in (0, 10**9):
        monkeypatch.setattr(fused_leaky, "ONE_PASS_STATES", states)
        net = sm.mRNN(graph, "relu", device="cpu", dtype=torch.float64, seed=0)
        x, h = net(inp, torch.linspace(-1, 1, 27, dtype=torch.float64).view(3, 9))
        (x.sum() + h.square().sum()).backward()
        found.append((x.detach(), h.detach(), *(p.grad for p in net.parameters() if p.numel())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


LOSSES = {
    "norm": lambda h: h.norm(),  # a gradient in the layout of h
    "readout": lambda h: (h @ torch.linspace(-1, 1, 10 * h.shape[2], dtype=h.dtype).view(-1, 10)).square().sum(),  # trial by trial
    "sum": lambda h: h.sum(),  # one number for all
    "last": lambda h: h[:, -1].square().sum(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("delay", [None, 20.0])
@pytest.mark.parametrize(("columns", "checkpoint"), [(6, None), (18, None), (24, 5)])
def test_columns_of_an_sddmm(monkeypatch, loss, delay, columns, checkpoint):
    """Put within the step, by a kernel of their own, and by torch: equal gradients, whatever layout that of h has."""
    pytest.importorskip("numba")
    monkeypatch.setattr(backward, "GRAD_COLUMNS", (columns, columns))  # of seven steps of three trials
    graph = sm.RegionGraph()
    graph.add_region("a", 5, base_firing=0.3, learnable_bias=True, learnable_tau=True)
    graph.add_region("b", 4, sign="neg", activation="tanh")
    graph.add_input("cue", 2)
    graph.add_projection("cue", "a")
    graph.add_projection("a", "b", density=0.5)
    graph.add_projection("b", "a", density=0.5, delay=delay)
    x0, found = torch.linspace(-1, 1, 27, dtype=torch.float64).view(3, 9), []
    for states, compiled in ((0, True), (10**9, True), (0, False)):
        monkeypatch.setattr(backward, "APART_STATES", states)
        if not compiled:
            monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
        net = sm.mRNN(graph, "relu", device="cpu", dtype=torch.float64, seed=0)
        LOSSES[loss](net(torch.ones(3, 7, 2, dtype=torch.float64), x0, checkpoint_steps=checkpoint)[1]).backward()
        found.append([p.grad for p in net.parameters() if p.numel()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert bool(a.any())
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
