"""Running models: noise, shapes, errors, memory."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import small
from sparse_mrnn.errors import ActivationError, ConfigError, FinalizeError, ShapeError, SizeError


def test_noise_is_reproducible_from_the_seed_and_in_pieces(net):
    inp = torch.zeros(2, 6, 3)
    x0, h0 = net.batched_initial_condition(2)
    whole = net(inp, x0, noise=True)
    assert not torch.equal(net(inp, x0, noise=True)[0], whole[0]), "noise goes on from call to call"
    net.reset_noise()
    torch.testing.assert_close(net(inp, x0, noise=True), whole, rtol=0, atol=0)
    torch.testing.assert_close(small(sm.mRNN)(inp, x0, noise=True), whole, rtol=0, atol=0)
    net.reset_noise()
    x1, h1 = net(inp[:, :2], x0, h0, noise=True)
    x2, _ = net(inp[:, 2:], x1[:, -1], h1[:, -1], noise=True)
    torch.testing.assert_close(torch.cat([x1, x2], 1), whole[0], rtol=0, atol=0)


def test_noise_and_gradients_go_together(net):
    x0, _ = net.batched_initial_condition(2)
    net(torch.zeros(2, 6, 3), x0, noise=True)[1].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_constrained_or_not():
    g = sm.RegionGraph()
    g.add_region("a", 8, sign="neg")
    g.add_projection("a", "a")
    free = sm.mRNN(g, device="cpu", seed=0, rec_constrained=False)
    assert (free.effective_W_rec.values() > 0).any()
    assert (sm.mRNN(g, device="cpu", seed=0).effective_W_rec.values() <= 0).all()


def test_step_response_of_a_leaky_integrator():
    g = sm.RegionGraph()
    g.add_region("a", 1, base_firing=2.0)
    x, _ = sm.mRNN(g, "linear", device="cpu", dt=5, tau=50)(torch.zeros(1, 30, 0), torch.zeros(1, 1))
    np.testing.assert_allclose(x[0, :, 0].detach(), 2 * (1 - 0.9 ** np.arange(1, 31)), rtol=1e-5)


def test_fixed_point_of_a_linear_network():
    g = sm.RegionGraph()
    g.add_region("a", 30, sign=None, base_firing=np.linspace(-1, 1, 30))
    g.add_projection("a", "a", density=0.3)
    net = sm.mRNN(g, "linear", device="cpu", seed=0, spectral_radius=0.5, dtype=torch.float64)
    x, _ = net(torch.zeros(1, 500, 0, dtype=torch.float64), torch.zeros(1, 30, dtype=torch.float64))
    w = net.effective_W_rec.detach().to_dense()
    expected = torch.linalg.solve(torch.eye(30, dtype=torch.float64) - w, net.tonic_inp)
    torch.testing.assert_close(x[0, -1], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(inp=torch.zeros(2, 3, 4)), r"inp has shape \(2, 3, 4\); expected \(batch, time, 3\): cue 2, go 1"),
        (dict(inp=torch.zeros(2, 3)), "inp has shape"),
        (dict(inp=torch.zeros(2, 0, 3)), "0 time steps"),
        (dict(inp=torch.zeros(2, 3, 3, dtype=torch.float64)), "inp is torch.float64"),
        (dict(x0=torch.zeros(3, 9)), r"x0 has shape \(3, 9\); expected \(batch, units\) = \(2, 9\)"),
        (dict(x0=torch.zeros(9)), "x0 has shape"),
        (dict(h0=torch.zeros(2, 8)), "h0 has shape"),
        (dict(stim_input=torch.zeros(2, 3, 3)), "stim_input has shape"),
        (dict(W_rec=torch.zeros(8, 9)), "W_rec has shape"),
    ],
)
def test_wrong_tensors(net, change, message):
    arguments = {"inp": torch.zeros(2, 3, 3), "x0": torch.zeros(2, 9), **change}
    with pytest.raises(ShapeError, match=message):
        net(**arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(activation="rellu"), ActivationError, "Did you mean 'relu'"),
        (dict(activation=3), ActivationError, "must be a name or a function"),
        (dict(activation=torch.sum), ActivationError, "'sum' is not pointwise"),
        (dict(activation=lambda x: x.detach()), ActivationError, "not differentiable"),
        (dict(activation=lambda x: 1 / 0), ActivationError, "fails on a tensor"),
        (dict(backend="gpu"), ConfigError, "backend is 'gpu'; use 'auto', 'csr'"),
        (dict(dtype=torch.float16), ConfigError, "float16"),
        (dict(dt=0), ConfigError, "dt is 0"),
        (dict(tau=-1), ConfigError, "tau is -1"),
        (dict(device="nowhere"), ConfigError, "'nowhere' is not a torch device"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        sm.mRNN(**{"device": "cpu", **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_but_absent():
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        sm.mRNN(device="cuda")


def test_unknown_activation_of_a_region_is_named():
    g = sm.RegionGraph()
    g.add_region("thal", 2, activation="tan")
    with pytest.raises(ActivationError, match="region 'thal': activation is 'tan'; use .*Did you mean 'tanh'"):
        sm.mRNN(g, device="cpu")


def test_order_of_building(net):
    for add in (
        lambda: net.add_recurrent_region("x", 2),
        lambda: net.add_input_region("x", 2),
        lambda: net.add_recurrent_connection("ctx", "thal"),
        lambda: net.add_input_connection("cue", "thal"),
        lambda: net.__setitem__("x", sm.Region("x", 2)),
    ):
        with pytest.raises(FinalizeError, match="finalised"):
            add()
    with pytest.raises(FinalizeError, match="no recurrent region"):
        sm.mRNN(device="cpu").finalize_connectivity()
    with pytest.raises(FinalizeError, match="finalize_rec_connectivity"):
        _ = sm.mRNN(device="cpu").W_rec


def test_inputs_and_regions_are_not_mixed_up():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    net.add_input_region("i", 2)
    with pytest.raises(ConfigError, match="add_input_connection"):
        net.add_recurrent_connection("i", "a")
    with pytest.raises(ConfigError, match="add_recurrent_connection"):
        net.add_input_connection("a", "a")


def test_a_large_dense_matrix_is_refused_unless_forced():
    g = sm.RegionGraph()
    g.add_region("a", 5000)
    net = sm.mRNN(g, device="cpu")
    for ask in (lambda: net.get_weight_subset("a"), lambda: net.rec.dense()):
        with pytest.raises(SizeError, match="5000 x 5000"):
            ask()
    assert net.get_weight_subset("a", sparse=True).shape == (5000, 5000)
    assert net.rec.dense(force=True).shape == (5000, 5000)


def test_no_gradient_state_is_kept_without_grad(net):
    x0, _ = net.batched_initial_condition(1)
    with torch.no_grad():
        assert net(torch.zeros(1, 2, 3), x0)[0].grad_fn is None


def test_memory_estimate_counts_bytes_per_synapse():
    g = sm.RegionGraph()
    g.add_region("a", 1000)
    g.add_projection("a", "a", density=0.1)
    net = sm.mRNN(g, device="cpu", seed=0)
    estimate = net.memory_estimate(batch=2, steps=10)
    assert estimate.weights == 8 * net.rec.nnz
    assert estimate.pattern == pytest.approx(4 * net.rec.nnz, rel=0.1)
    assert estimate.states == 2 * 4 * 1000 * 2 * 11
    assert net.memory_estimate(2, 10, training=True).total > 2 * estimate.total - estimate.states
