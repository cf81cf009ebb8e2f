"""No tensor of units x units while a large sparse net trains, is frozen, pruned, rewired and clipped."""

import tracemalloc

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sparse_mrnn as sm
from sparse_mrnn import training
from sparse_mrnn.ops.products import hybrid

UNITS = 3000


class NoSquare(TorchDispatchMode):
    """Refuses an operator that makes a tensor of ``limit`` entries or more."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.largest = limit, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                stored = t.numel()
                if t.layout != torch.strided:
                    stored = t.values().numel() if t.layout == torch.sparse_csr else t._nnz()
                self.largest = max(self.largest, stored)
                assert stored < self.limit, f"{func} made {tuple(t.shape)}, {t.layout}"
        return out


def test_no_square_array_while_training():
    g = sm.RegionGraph()
    g.add_region("a", 2000, learnable_bias=True)
    g.add_region("b", 1000, sign="neg")
    g.add_input("i", 3)
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t, fan_in=5, self_connections=s != t)
    g.add_projection("i", "a")
    net = sm.mRNN(g, device="cpu", seed=0)
    optimizer = torch.optim.Adam(training.parameter_groups(net, {("a", "b"): {"lr": 1e-4}}, lr=1e-3))
    x0, h0 = net.batched_initial_condition(4)
    inp = torch.ones(4, 6, 3)
    sizes = []

    def loss():
        _, h = net(inp, x0, h0, noise=True)
        penalty = training.activity_penalty(net, h) + training.weight_penalty(net, "b", None)
        penalty = penalty + training.rate_penalty(net, h, {"a": 0.1})
        return h.square().mean() + penalty

    loss().backward()  # loads the compiled kernels
    tracemalloc.start()  # numpy's arrays
    with NoSquare(UNITS**2) as mode, training.detect_nan(net):
        for change in (
            None,
            lambda: training.freeze(net, "a", "b", optimizer=optimizer),
            lambda: training.prune(net, 0.2, optimizer=optimizer),
            lambda: training.rewire(net, 0.3, optimizer=optimizer, seed=0),
            lambda: training.rewire(net, 0.3, method="rigl", loss=loss, optimizer=optimizer, seed=0),
            lambda: training.rewire(net, method="deepr", optimizer=optimizer, seed=0),
            lambda: training.rewire(net, method="deepr", optimizer=optimizer, seed=0),
            lambda: training.unfreeze(net, "a", "b", optimizer=optimizer),
        ):
            if change is not None:
                change()
            optimizer.zero_grad()
            loss().backward()
            training.clip_grad_by_region_(net, 1.0)
            optimizer.step()
            training.clamp_weights_(net, 1.0)
            training.limit_norm_(net, 10.0)
            for x, h in training.truncated(net, inp, x0, 3):
                sizes.append(x.numel() + h.numel())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(sizes) == 16
    assert mode.largest < UNITS**2 / 10
    assert peak < UNITS**2  # bytes: not even a mask of units x units


def test_the_mode_sees_a_square_array():
    with pytest.raises(AssertionError, match="made"), NoSquare(100):
        torch.ones(10, 10)


class Made(TorchDispatchMode):
    """Counts operators that make a tensor of their own, and those that wait for a value on the host."""

    def __init__(self):
        super().__init__()
        self.count, self.waits = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.waits.append(func)
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        held = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if self._strided(t)}
        new = [t for t in tree_leaves(out) if self._strided(t)]
        self.count += any(t.untyped_storage().data_ptr() not in held for t in new)
        return out

    @staticmethod
    def _strided(t):
        return isinstance(t, torch.Tensor) and t.layout == torch.strided and t.numel() > 0


@pytest.mark.parametrize("backend", ["csr", "dense", "hybrid"])
@pytest.mark.parametrize("learnable", [False, True])
def test_a_step_makes_no_tensor_and_waits_for_nothing(monkeypatch, backend, learnable):
    """As on a GPU: without the compiled CPU kernels. Needed to replay a run as a CUDA graph."""
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1)
    monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
    g = sm.RegionGraph()
    g.add_region("a", 20, learnable_bias=True, learnable_tau=learnable)
    g.add_region("b", 10, sign="neg", activation="tanh")
    g.add_input("i", 3)
    g.add_projection("a", "b")
    g.add_projection("b", "b", density=0.5)
    g.add_projection("i", "a")
    net = sm.mRNN(g, device="cpu", seed=0, backend=backend)
    x0, h0 = net.batched_initial_condition(128)  # so that every step has an SDDMM of its own

    def made(steps):
        inp, stim = (torch.ones(128, steps, n, requires_grad=True) for n in (3, 30))
        with Made() as mode:
            h = net(inp, x0, h0, stim, noise=True)[1]
            torch.autograd.backward(h, torch.ones_like(h))
        return mode.count, mode.waits

    made(2)  # makes what is kept for later runs
    assert made(20) == made(10) == (made(10)[0], [])
