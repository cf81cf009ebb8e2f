"""Ways of running a network: backends, checkpoints, recorded regions, frozen parts, functions of one's own, autocast."""

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, MissingExtraError
from sparse_mrnn.ops.products import hybrid
from sparse_mrnn.ops.products.torch_sparse import available


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1000)  # so that small networks have dense blocks


BACKENDS = ["csr", "dense", "hybrid", pytest.param("torch_sparse", marks=pytest.mark.skipif(not available(), reason="not installed"))]


def graph(sizes=(40, 40, 33), trainable=True):
    """Full, nearly full, thin, parallel and frozen projections; shapes that are common and rare."""
    g = sm.RegionGraph()
    for k, n in enumerate(sizes):
        g.add_region(f"r{k}", n, sign=["pos", "neg", None][k], base_firing=0.1, tau=50.0 if k == 1 else None)
    g.add_input("u", 2)
    for a in range(3):
        for b in range(3):
            g.add_projection(f"r{a}", f"r{b}", initializer=sm.Normal(), self_connections=a != b, trainable=trainable or (a + b) % 2 == 0)
    g.add_projection("r0", "r1", density=0.2, key="thin", initializer=sm.Normal())
    g.add_projection("r0", "r0", density=0.7, key="most", sign="neg", initializer=sm.Normal())
    g.add_projection("u", "r2", initializer=sm.Normal())
    return g


def run(net, batch=3, steps=5, **options):
    generator = torch.Generator().manual_seed(0)
    inp = torch.randn(batch, steps, 2, dtype=net.dtype, generator=generator)
    x0 = torch.randn(batch, net.graph.n_units, dtype=net.dtype, generator=generator)
    net.zero_grad()
    x, h = net(inp, x0, **options)
    (h.square().sum() + x.sin().sum()).backward()
    return x.detach(), h.detach(), net.rec.values.grad.clone()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 200])
def test_backends_agree(backend, trainable, batch):
    options = dict(device="cpu", seed=0, dtype=torch.float64)
    net, reference = (sm.mRNN(graph(trainable=trainable), "tanh", backend=b, **options) for b in (backend, "dense"))
    for got, expected in zip(run(net, batch), run(reference, batch), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_hybrid_has_dense_blocks_of_every_kind():
    net = sm.mRNN(graph(), device="cpu", seed=0, backend="hybrid")
    operator = net.rec.operand("hybrid").operator
    assert operator.padded  # blocks that are nearly full
    assert {group.shape[0] for group in operator.groups} == {1, 5}  # joined, and batched
    assert 0 < operator.rest.pattern.nnz < net.rec.nnz


def test_auto_chooses_by_size_and_fill():
    def chosen(n, **projection):
        g = sm.RegionGraph()
        for name in "ab":
            g.add_region(name, n)
        g.add_projection("a", "a", **projection)
        g.add_projection("b", "a", density=0.02)
        return sm.mRNN(g, device="cpu", seed=0).chosen_backend

    assert chosen(40) == "dense"
    assert chosen(330) == "hybrid"
    assert chosen(200) == "csr"  # too few synapses in blocks
    assert chosen(330, density=0.3) == "csr"


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("every", [1, 2, 3, 7, "auto"])
@pytest.mark.parametrize("noise", [False, True])
def test_checkpoints_change_nothing(model, every, noise):
    def once(**options):
        net = model(graph(), "softplus", device="cpu", seed=0, dtype=torch.float64)
        inp, x0 = torch.ones(2, 7, 2, dtype=net.dtype), torch.zeros(2, 113, dtype=net.dtype)
        out = net(inp, x0, noise=noise, stim_input=torch.ones(2, 7, 113, dtype=net.dtype), **options)
        h = out[1] if isinstance(out, tuple) else out
        h.square().sum().backward()
        return h.detach(), net.rec.values.grad, net.inp.values.grad

    for got, expected in zip(once(checkpoint_steps=every), once(), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("every", [None, 2])
def test_recorded_regions(every):
    net = sm.mRNN(graph(), "tanh", device="cpu", seed=0, dtype=torch.float64)
    inp, x0 = torch.ones(2, 150, 2, dtype=net.dtype), torch.zeros(2, 113, dtype=net.dtype)
    x, h = net(inp, x0)
    part = torch.cat([h[..., 80:], h[..., :40]], dim=-1)
    part.square().sum().backward()
    expected = net.rec.values.grad.clone()
    net.zero_grad()
    rx, rh = net(inp, x0, regions=["r2", "r0"], checkpoint_steps=every)
    torch.testing.assert_close(rh, part)
    torch.testing.assert_close(rx[..., :33], x[..., 80:])
    rh.square().sum().backward()
    torch.testing.assert_close(net.rec.values.grad, expected)
    with torch.no_grad():
        torch.testing.assert_close(net(inp, x0, regions="r1")[1], h[..., 40:80])


def test_a_function_of_ones_own():
    def mine(x):
        return torch.tanh(x)

    own, named = (sm.mRNN(graph(), f, device="cpu", seed=0, dtype=torch.float64) for f in (mine, "tanh"))
    for got, expected in zip(run(own), run(named), strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(run(own, regions="r1")[1], run(named, regions="r1")[1])
    for got, expected in zip(run(own, checkpoint_steps=2), run(named), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("every", [0, -1, 1.5, "sqrt", True])
def test_wrong_checkpoints(net, every):
    with pytest.raises(ConfigError, match="checkpoint_steps is"):
        net(torch.zeros(1, 2, 3), torch.zeros(1, 9), checkpoint_steps=every)


def test_wrong_records(net):
    with pytest.raises(KeyError, match="Did you mean 'spine'"):
        net(torch.zeros(1, 2, 3), torch.zeros(1, 9), regions="spin")
    with pytest.raises(ConfigError, match="regions is empty"):
        net(torch.zeros(1, 2, 3), torch.zeros(1, 9), regions=[])


@pytest.mark.skipif(available(), reason="torch_sparse is installed")
def test_a_backend_that_is_not_installed():
    with pytest.raises(MissingExtraError, match="torch_sparse"):
        sm.mRNN(device="cpu", backend="torch_sparse")


def test_autocast_runs_in_the_networks_precision(net):
    x0 = torch.zeros(2, 9)
    expected = net(torch.ones(2, 4, 3), x0)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = net(torch.ones(2, 4, 3, dtype=torch.bfloat16), x0)[1]
        h.square().sum().backward()
    assert h.dtype == torch.float32
    torch.testing.assert_close(h, expected)
    assert net.rec.values.grad.abs().sum() > 0


def test_all_projections_frozen_need_no_gradient():
    g = sm.RegionGraph()
    g.add_region("a", 4)
    g.add_projection("a", "a", trainable=False)
    net = sm.mRNN(g, device="cpu", seed=0)
    assert not net(torch.zeros(1, 3, 0), torch.ones(1, 4))[1].requires_grad
