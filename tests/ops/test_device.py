"""What runs on a GPU: the same tests on CUDA, and on the CPU by the same torch operators, without its compiled kernels."""

import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import under_way
from sparse_mrnn.ops.products import device_products, hybrid
from sparse_mrnn.ops.replay import ReplayedSteps, whole_bands
from sparse_mrnn.simulation.simulator import Simulator


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1)
    return request.param


@pytest.fixture
def no_kernels(monkeypatch):
    monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)


def graph():
    g = sm.RegionGraph()
    g.add_region("a", 7, learnable_bias=True, base_firing=0.1, activation="tanh", learnable_tau=True)
    g.add_region("b", 5, sign="neg", activation="softplus")
    g.add_region("c", 4, sign=None)
    g.add_input("i", 2)
    for source in "abc":
        for target in "abc":
            g.add_projection(source, target, density=1.0 if source == "a" else 0.4, initializer=sm.Normal(), self_connections=True)
    g.add_projection("a", "b", density=0.3, key="parallel", trainable=False)
    g.add_projection("i", "a")
    return g


def run(net, batch, **options):
    generator = torch.Generator().manual_seed(0)
    inp, x0 = (torch.randn(*shape, dtype=net.dtype, generator=generator).to(net.device) for shape in ((batch, 6, 2), (batch, 16)))
    x, h = net(inp.requires_grad_(), x0.requires_grad_(), **options)
    (h.square().sum() + x.sin().sum()).backward()
    gradients = [p.grad for p in net.parameters()] + [inp.grad, x0.grad]
    return [t.detach().cpu() for t in (x, h, *gradients)]


@pytest.mark.parametrize("backend", ["csr", "dense", "hybrid"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("options", [{}, {"checkpoint_steps": 2}, {"regions": "b"}])
def test_equals_the_compiled_dense_network_on_the_cpu(device, request, backend, batch, options):
    expected = run(sm.mRNN(graph(), device="cpu", backend="dense", seed=0, dtype=torch.float64), batch, **options)
    request.getfixturevalue("no_kernels")
    found = run(sm.mRNN(graph(), device=device, backend=backend, seed=0, dtype=torch.float64), batch, **options)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("backend", ["csr", "dense", "hybrid"])
def test_gradients(device, no_kernels, backend):
    net = sm.mRNN(graph(), "tanh", device=device, backend=backend, seed=0, dtype=torch.float64)
    names = [name for name, _ in net.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in net.parameters()]
    shapes = (2, 3, 2), (2, 16), (2, 16), (2, 3, 16)
    data = [torch.randn(*shape, dtype=torch.float64, device=device, requires_grad=True) for shape in shapes]

    def outputs(*tensors):
        return torch.func.functional_call(net, dict(zip(names, tensors[4:], strict=True)), tensors[:4])

    assert torch.autograd.gradcheck(outputs, (*data, *values), atol=1e-6)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_noise_is_drawn_on_the_device_and_repeats(device, no_kernels, model):
    g = graph()
    g.nodes["a"]["learnable_tau"] = False
    net = model(g, device=device, seed=0)
    found = []
    for seed in (1, 1, 2):
        net.reset_noise(seed)
        out = net(torch.zeros(2, 4, 2, device=device), torch.zeros(2, 16, device=device), noise=True)
        found.append(out[1] if isinstance(out, tuple) else out)
    assert found[0].device.type == device
    torch.testing.assert_close(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.gpu
def test_replay_as_a_cuda_graph():
    net = sm.mRNN(graph(), device="cuda", backend="csr", seed=0)
    inp, x0 = torch.randn(5, 6, 2, device="cuda"), torch.randn(5, 16, device="cuda")
    expected = [t.detach().clone() for t in net(inp, x0)]
    replayed = torch.cuda.make_graphed_callables(net, (torch.zeros_like(inp), torch.zeros_like(x0)))
    torch.testing.assert_close(list(replayed(inp, x0)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("kernels", device_products.KERNELS)
def test_a_replayed_band_is_the_steps_themselves(kernels):
    net = under_way(sm.mRNN, device="cuda")
    with device_products.using(kernels):
        one, other = (Simulator(net, 3, 5, event_driven=False) for _ in range(2))
        for simulator in (one, other):
            simulator.set_factors({"recurrent": {}, "input": {}})
        band = ReplayedSteps(one.stepper, whole_bands(one.stepper, 5))
        for _ in range(2):
            band.run()
            for _ in range(band.steps):
                other.u.zero_()
                other.stepper.step()
    torch.testing.assert_close(one.stepper.h, other.stepper.h)
