"""The CUDA path on a simulated device: where tensors are, when the host waits, what is allocated, what a graph replays.

`helpers.simulated_cuda` says what is simulated. Networks are built on the device, so that their preparation is proven, too.
"""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import sparse_mrnn as sm
from helpers.networks import sharing, under_way
from helpers.simulated_cuda import CUDA, DeviceMixError, OnDevice, SimulatedGraph, simulated_cuda
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.ops.activations import ACTIVATIONS
from sparse_mrnn.ops.products import device_products, hybrid
from sparse_mrnn.ops.replay import ReplayedSteps, whole_bands
from sparse_mrnn.ops.stream import HeldStates
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.stimulus import Samples, WhiteNoise


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


NAMES = ["hybrid", "elman", "gains", *slow("csr", "dense", "delays", "elman with delays", "step by step")]
FUSED = ["gains", *slow("hybrid", "elman", "csr", "dense", "delays", "elman with delays")]
"""Networks whose model has passes of its own; those of `ops.step` make memory."""


class Accumulating(sm.mRNN):
    """A model without passes of its own: those of `ops.step` run it."""

    @property
    def equation(self):
        from sparse_mrnn.models.leaky import LeakyStep
        from sparse_mrnn.ops.step import Step

        class Plain(LeakyStep):
            keeps, sequence, stream, adjoint = Step.keeps, Step.sequence, Step.stream, Step.adjoint

        found = super().equation
        return Plain(found.activation)


def mixed(model, **options):
    """Full and sparse projections, parallel and frozen ones, signs, biases, two activations."""
    g = sm.RegionGraph()
    g.add_region("a", 7, learnable_bias=True, base_firing=0.1, activation="tanh", learnable_tau=model is not sm.ElmanmRNN, learnable_init=True)
    g.add_region("b", 5, sign="neg", activation="sigmoid")
    g.add_region("c", 4, sign=None)
    g.add_input("i", 2)
    for source in "abc":
        for target in "abc":
            g.add_projection(source, target, density=1.0 if source == "a" else 0.4, initializer=sm.Gamma(0.1), self_connections=True)
    g.add_projection("a", "b", density=0.3, key="parallel", trainable=False)
    g.add_projection("i", "a")
    return model(g, "relu", **{"seed": 0, "dtype": torch.float64, **options})


def network(name, device):
    if name in ("csr", "dense", "hybrid"):
        return mixed(sm.mRNN, backend=name, device=device)
    if name == "elman":
        return mixed(sm.ElmanmRNN, backend="csr", device=device)
    if name == "step by step":
        return mixed(Accumulating, backend="csr", device=device)
    if name == "gains":
        return sharing(device=device, dtype=torch.float64)
    return under_way(sm.ElmanmRNN if "elman" in name else sm.mRNN, device=device)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1)


def data(net, steps=6, batch=3):
    generator = torch.manual_seed(0)
    n, channels = net.layout().n, net.layout("input").n
    shapes = (batch, steps, channels), (batch, n), (batch, steps, n)
    drawn = [torch.rand(*shape, generator=generator, dtype=torch.float64).to(net.device) for shape in shapes]
    return [t.requires_grad_() for t in drawn]


def trained(net, given=None, **options):
    """States, gradients and parameters after a step of Adam."""
    inp, x0, stim = given or data(net)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    found = net(inp, x0, stim_input=stim, **options)
    found = found if isinstance(found, tuple) else (found,)
    sum(t.square().sum() for t in found).backward()
    gradients = [t.grad.clone() for t in (*net.parameters(), inp, x0, stim) if t.grad is not None]
    adam.step()
    return [t.detach().clone() for t in (*found, *gradients, *net.parameters())]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, *slow({"checkpoint_steps": 4, "noise": True})])
def test_a_training_step_stays_on_the_device_and_is_right(name, options):
    expected = trained(network(name, "cpu"), **options)
    with simulated_cuda() as device:
        net = network(name, "cuda")
        found = trained(net, **options)
        assert all(isinstance(t, OnDevice) for t in found)
        kept = [t for module in net.modules() for t in getattr(module, "persistent_tensors", dict)().values()]
        assert kept
        assert all(isinstance(t, OnDevice) for t in kept)
        given = data(net)
        device.clear()
        trained(net, given, **options)
        assert not device.waits
    if not options:  # noise is that of the device's generator
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got.inner, want, rtol=1e-9, atol=1e-12)
    elif name in ("csr", "dense", "hybrid"):
        assert not torch.equal(found[0].inner, expected[0]) or found[0].inner.isfinite().all()


@pytest.mark.parametrize("name", FUSED)
def test_nothing_is_allocated_in_a_time_step(name):
    counted = []
    with simulated_cuda() as device:
        net = network(name, "cuda")
        trained(net)
        for steps in (8, 16):
            given = data(net, steps)
            device.clear()
            trained(net, given)
            counted.append(device.allocated.copy())
    assert counted[0] == counted[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [None, *slow(3)])
def test_a_step_of_a_simulation(name, noise):
    found = {}
    for where in ("cpu", "cuda"):
        with simulated_cuda() as device:
            net = network(name, where)
            simulator = Simulator(net, 2, noise, event_driven=False)
            simulator.set_factors({"recurrent": {0: 0.5}, "input": {}})
            stepper, n = simulator.stepper, len(simulator.stepper.h)
            kind = {"device": where, "dtype": torch.float64}
            units = torch.tensor([0, 2], device=where)
            currents = [(units, torch.rand(2, 1, generator=torch.manual_seed(0), dtype=torch.float64).to(net.device)), (slice(0, n), torch.full((1, 1), 0.1, **kind))]
            stepper.hold(HeldStates(x=[(units[:1], 0.3)], h=[(slice(1, 2), 0.2)], silent=[units[1:]]))
            simulator.u.fill_(0.5)
            stepper.step(currents)
            device.clear()
            for _ in range(9):
                stepper.step(currents)
            assert not device.waits
            found[where] = [t.inner if where == "cuda" else t for t in stepper.recorded.values()]
    if noise is None:
        torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FUSED)
def test_a_step_of_a_simulation_allocates_nothing(name):
    with simulated_cuda() as device:
        simulator = Simulator(network(name, "cuda"), 2, 3, event_driven=False)
        simulator.set_factors({"recurrent": {}, "input": {}})
        simulator.stepper.step()
        device.clear()
        for _ in range(9):
            simulator.stepper.step()
        assert not device.allocated
        assert not device.waits


def simulated(net, steps):
    """A recording under stimuli of every kind, interventions, and a gain that changes; a sample is taken every fifth step."""
    samples = np.random.default_rng(0).random((60, 5))
    stimuli = [sm.Stimulus("a", WhiteNoise(0.1)), sm.Stimulus("a", Samples(samples, interval=10.0)), sm.Stimulus("i", 0.3, start=30)]
    stimuli += [sm.Stimulus("i", Samples(samples[:, 0], interval=10.0)), sm.Stimulus("c", WhiteNoise(0.2), units=["c[0]", "c[2]"])]
    interventions = [sm.Clamp("b", 0.2, start=50, stop=90), sm.Lesion("c", units=["c[1]", "c[3]"], start=100), sm.Gain("a", "b", 0.5, start=120)]
    given = dict(stimulus=stimuli, interventions=interventions, record=sm.Record(every=5), progress=False)
    return torch.from_numpy(sm.simulate(net, 10.0 * steps, **given).h.values)


@pytest.mark.slow
def test_a_simulation_waits_for_what_it_records_alone():
    expected, waits = simulated(network("delays", "cpu"), 60), []
    with simulated_cuda() as device:
        net = network("delays", "cuda")
        for steps in (60, 30, 60):
            device.clear()
            found = simulated(net, steps)
            waits.append(device.waits.copy())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert waits[2] - waits[1] == {"_to_copy to the host": 6}


@pytest.mark.parametrize("name", [*FUSED, *slow("step by step")])
@pytest.mark.parametrize("noise", [*slow(None), 3])
def test_a_replayed_band_is_the_steps_themselves(name, noise):
    with simulated_cuda():
        one, other = (Simulator(network(name, "cuda"), 2, noise, event_driven=False) for _ in range(2))
        for simulator in (one, other):
            simulator.set_factors({"recurrent": {}, "input": {}})
        given = torch.rand(one.u.shape, device="cuda", dtype=torch.float64)
        one.u.copy_(given)
        band = ReplayedSteps(one.stepper, whole_bands(one.stepper, 5))
        for k in range(2):
            for _ in range(band.steps):
                other.u.copy_((1 + k) * given)
                other.stepper.step()
            band.u.copy_((1 + k) * given)
            band.run()
        for got, want in zip(one.stepper.state().values(), other.stepper.state().values(), strict=True):
            torch.testing.assert_close(got.cpu(), want.cpu(), rtol=0, atol=0)
        one.u.copy_(2 * given)
        one.stepper.step()
        other.u.copy_(2 * given)
        other.stepper.step()
        torch.testing.assert_close(one.stepper.h.cpu(), other.stepper.h.cpu(), rtol=0, atol=0)


@pytest.mark.parametrize("name", FUSED)
def test_a_replayed_training_step_is_the_step_itself(name):
    def gradients(net, inp, x0):
        net.zero_grad()
        found = net(0.5 * inp, 0.5 * x0)
        found = found if isinstance(found, tuple) else (found,)
        sum(t.square().sum() for t in found).backward()
        return [t.detach().cpu() for t in (*found, *(p.grad for p in net.parameters() if p.grad is not None))]

    with simulated_cuda():
        net = network(name, "cuda")
        inp, x0, _ = (t.detach() for t in data(net))
        expected = gradients(net, inp, x0)
        torch.cuda.make_graphed_callables(net, (inp.clone(), x0.clone()), allow_unused_input=True)
        torch.testing.assert_close(gradients(net, inp, x0), expected, rtol=0, atol=0)


def test_a_band_that_cannot_be_replayed():
    net = under_way(device="cpu")
    simulator = Simulator(net, 1, None, event_driven=False)
    with pytest.raises(ConfigError, match="the network is on cpu"):
        ReplayedSteps(simulator.stepper, 5)
    with simulated_cuda():
        simulator = Simulator(under_way(device="cuda"), 1, None, event_driven=False)
        with pytest.raises(ConfigError, match="does not end where its delays begin; use 84"):
            ReplayedSteps(simulator.stepper, 5)


@pytest.mark.parametrize("model", [sm.mRNN, *slow(sm.ElmanmRNN)])
def test_a_step_with_gradients(model):
    """`net.step` asks once in a call if its parameters are those it was prepared for; nothing else waits."""
    found = {}
    for where in ("cpu", "cuda"):
        with simulated_cuda() as device:
            net = under_way(model, device=where)
            state, u = net.initial_state(2), torch.full((2, 3), 0.3, device=where, dtype=torch.float64)
            state = net.step(u, state)
            device.clear()
            for _ in range(8):
                state = net.step(u, state)
            assert device.waits == ({} if where == "cpu" else {"equal": 8})
            net.rec.values.data[0] += 0.1  # which PyTorch does not count
            state = net.step(u, state)
            state.h.square().sum().backward()
            found[where] = [t.cpu() for t in (state.h.detach(), *(p.grad for p in net.parameters()))]
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-9, atol=1e-12)


def test_the_default_device_is_cuda_where_there_is_one():
    with simulated_cuda():
        assert mixed(sm.mRNN, device=None).rec.values.device == CUDA
        net = mixed(sm.mRNN, device="cpu")
        assert net.to(CUDA).rec.crow.device == CUDA
        moved = trained(net)
        built = trained(mixed(sm.mRNN, device="cuda"))
        assert all(torch.allclose(a.cpu(), b.cpu()) for a, b in zip(moved, built, strict=True))


# ---------------------------------------------------------------- each check finds a fault of its kind


def test_a_tensor_left_on_the_cpu_is_found():
    with simulated_cuda():
        net = mixed(sm.mRNN, device="cuda")
        vars(net)["base_firing"] = net.base_firing.cpu()
        with pytest.raises(DeviceMixError):
            trained(net)


def planted(monkeypatch, apply_to):
    from dataclasses import replace

    monkeypatch.setitem(ACTIVATIONS, "relu", replace(ACTIVATIONS["relu"], apply_to=apply_to))
    return mixed(sm.mRNN, device="cuda")


def waiting(x, out):
    torch.clamp(x, min=float(x.min().clamp(0, 0)), out=out)


def test_a_wait_within_a_step_is_found(monkeypatch):
    with simulated_cuda() as device:
        net = planted(monkeypatch, waiting)
        trained(net)
        given = data(net)
        device.clear()
        trained(net, given)
        assert device.waits == {"_local_scalar_dense": 6}
        simulator = Simulator(net, 1, None, event_driven=False)
        simulator.set_factors({"recurrent": {}, "input": {}})
        with pytest.raises(RuntimeError, match="the host waits within a capture"):
            ReplayedSteps(simulator.stepper, 5)


def test_memory_allocated_in_a_step_is_found(monkeypatch):
    with simulated_cuda() as device:
        net = planted(monkeypatch, lambda x, out: out.copy_(torch.relu(x)))
        trained(net)
        given = data(net)
        device.clear()
        trained(net, given)
        assert device.allocated["relu"] == 7  # the first is that of x0


def test_a_generator_that_no_graph_knows_is_found(monkeypatch):
    monkeypatch.setattr(SimulatedGraph, "register_generator_state", lambda *_: None)
    with simulated_cuda():
        simulator = Simulator(mixed(sm.mRNN, device="cuda"), 1, 3, event_driven=False)
        simulator.set_factors({"recurrent": {}, "input": {}})
        with pytest.raises(RuntimeError, match="the generator is not registered"):
            ReplayedSteps(simulator.stepper, 5)


# ---------------------------------------------------------------- the operators


@pytest.fixture
def operators_on_the_cpu(monkeypatch):
    monkeypatch.setattr(device_products, "are_used", lambda values: True)


def matrix(dtype=torch.float64):
    crow, col = torch.tensor([0, 2, 2, 5], dtype=torch.int32), torch.tensor([0, 3, 1, 2, 3], dtype=torch.int32)
    return crow, col, torch.rand(5, dtype=dtype, generator=torch.manual_seed(0))


@pytest.mark.parametrize("batch", [1, 3])
def test_the_operators_keep_to_their_schemas(batch):
    crow, col, values = matrix()
    h, y = torch.rand(4, batch, dtype=torch.float64), torch.rand(3, batch, dtype=torch.float64)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.sparse_mrnn.csr_addmm_.default, (y, crow, col, values, h, 0.5, 2.0), test_utils=checks)
    torch.library.opcheck(torch.ops.sparse_mrnn.csr_sddmm_.default, (values, crow, col, y, h), test_utils=checks)


@pytest.mark.parametrize("name", ["gains", *slow("csr", "hybrid")])
def test_the_operators_are_the_compiled_products(name, operators_on_the_cpu, monkeypatch):
    found = trained(network(name, "cpu"))
    monkeypatch.undo()
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1)
    torch.testing.assert_close(found, trained(network(name, "cpu")), rtol=1e-9, atol=1e-12)


def test_a_pass_of_fake_tensors(operators_on_the_cpu, monkeypatch):
    monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
    net = under_way(device="cpu")
    expected = trained(net)
    with FakeTensorMode(allow_non_fake_inputs=True):
        inp, x0, stim = data(net)
        x, h = net(inp, x0, stim_input=stim)
        gradients = torch.autograd.grad(h.sum(), [inp, *net.parameters()], allow_unused=True)
    assert (x.shape, h.shape) == (expected[0].shape, expected[1].shape)
    pairs = zip(gradients, (inp, *net.parameters()), strict=True)
    assert sum(grad is None for grad in gradients) == 1  # that of the initial state, which was given
    assert all(grad.shape == tensor.shape for grad, tensor in pairs if grad is not None)


def test_kernels_are_chosen_by_name():
    with device_products.using("torch"):
        pass
    with pytest.raises(ConfigError, match="kernels is 'cutlass'; use 'torch' or 'triton'"), device_products.using("cutlass"):
        pass
