"""From 2^31 synapses on, indices are 64-bit integers: tested with a handful of synapses and a low limit."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.interop import read_sonata, write_sonata
from sparse_mrnn.ops import csr_order, pattern
from sparse_mrnn.training import prune, rewire


def declared(delays):
    graph = sm.RegionGraph()
    graph.add_region("exc", 12, parent_region="all", init=0.3)
    graph.add_region("inh", 6, sign="neg", parent_region="all", base_firing=0.2)
    graph.add_input("cue", 3)
    for source in ("exc", "inh"):
        for target in ("exc", "inh"):
            graph.add_projection(source, target, density=0.5)
    graph.add_projection("exc", "exc", density=1.0, key="full", delay=30.0 if delays else None)
    graph.add_projection("cue", "exc", fan_in=2)
    return graph


def network(backend, delays=False):
    options = dict(device="cpu", seed=3, dtype=torch.float64, dt=10, tau=50)
    return sm.mRNN(declared(delays), backend=backend, **options)


def outcome(net):
    """States, the loss's gradients, and what the network says of itself."""
    x0, h0 = net.batched_initial_condition(3)
    inputs = torch.linspace(-1, 1, 3 * 8 * 3, dtype=torch.float64).reshape(3, 8, 3)
    x, h = net(inputs, x0, h0, noise=False)
    h.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    return [x, h, *gradients, net.W_rec.to_dense(), net.effective_W_rec.to_dense()]


@pytest.fixture
def narrow(monkeypatch):
    """Indices are 64-bit from 10 synapses on."""

    def switch():
        monkeypatch.setattr(csr_order, "INT32_ENTRIES", 10)

    return switch


@pytest.mark.parametrize("backend", ["csr", "dense", "hybrid"])
@pytest.mark.parametrize("delays", [False, True])
def test_networks_compute_the_same_with_64_bit_indices(narrow, backend, delays):
    expected = outcome(network(backend, delays))
    narrow()
    net = network(backend, delays)
    if backend == "csr":
        assert {net.rec.pattern.crow.dtype, net.rec.pattern.col.dtype} == {torch.int64}
        assert net.rec.pattern.transposed[1].dtype == torch.int64
    for found, value in zip(outcome(net), expected, strict=True):
        torch.testing.assert_close(found, value)


def test_patterns_change_their_index_type_at_the_limit(narrow):
    assert pattern.index_dtype(2**31 - 1) is torch.int32
    assert pattern.index_dtype(2**31) is torch.int64
    narrow()
    for n, kind in ((9, torch.int32), (10, torch.int64)):
        row = torch.arange(n, dtype=torch.int32).flip(0)
        made, order = pattern.Pattern.from_coo(row, row, (n, n))
        assert {made.crow.dtype, made.col.dtype, order.dtype} == {kind}
        assert {part.dtype for part in (made.transposed[0].crow, made.transposed[0].col)} == {kind}
        assert made.select(torch.arange(3)).crow.tolist() == [0, 1, 2, 3] + [3] * (n - 3)
        assert pattern.stable_order(row, n).tolist() == order.tolist()


def test_training_tools_spectra_and_files_with_64_bit_indices(narrow, tmp_path):
    def run(folder):
        net = network("csr")
        radius = sm.spectral_radius(net.rec.matrix())
        net.scale_spectral_radius_(0.9)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        outcome(net)
        prune(net, 0.3, optimizer=optimiser)
        rewire(net, 0.2, optimizer=optimiser, seed=0)
        write_sonata(net, folder)
        back = sm.mRNN(read_sonata(folder)[0], device="cpu", dtype=torch.float64, dt=10, tau=50)
        assert (back.rec.dense() == net.rec.dense()).all()
        net.save(folder.with_suffix(".safetensors"))
        again = sm.load(folder.with_suffix(".safetensors"), device="cpu")
        assert (again.rec.dense() == net.rec.dense()).all()
        return radius, net.rec.dense().detach()

    expected = run(tmp_path / "a")
    narrow()
    radius, weights = run(tmp_path / "b")
    assert radius == pytest.approx(expected[0])
    torch.testing.assert_close(weights, expected[1])


def test_simulations_with_64_bit_indices(narrow):
    stimulus = [sm.Stimulus("cue", 1.0, start=20, stop=120)]

    def run(delays):
        net = network("csr", delays)
        return np.asarray(sm.simulate(net, 200, stimulus=stimulus, seed=1)["h"])

    expected = [run(False), run(True)]
    narrow()
    for delays, values in zip((False, True), expected, strict=True):
        np.testing.assert_allclose(run(delays), values)
