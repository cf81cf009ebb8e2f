"""What mRNNTorch 0.1 gets wrong and sparse_mrnn gets right."""

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import FinalizeError, GraphError, SpectralError


def test_elman_noise_has_alpha_one(elman):
    h = elman(torch.zeros(2, 3, 3), elman.batched_initial_condition(2), noise=True)
    quiet = elman(torch.zeros(2, 3, 3), elman.batched_initial_condition(2))
    assert (h != quiet).any()


def test_noise_has_the_stated_size():
    g = sm.RegionGraph()
    g.add_region("a", 4000)
    net = sm.mRNN(g, "linear", noise_level_act=0.5, device="cpu", seed=0)
    x, _ = net(torch.zeros(1, 1, 0), torch.zeros(1, 4000), noise=True)
    assert x.std().item() == pytest.approx(0.1 * net.hid_noise_const, rel=0.05)


def test_learnable_bias_is_a_parameter_and_trains(net):
    assert "bias" in dict(net.named_parameters())
    x0, _ = net.batched_initial_condition(2)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.tonic_inp.detach().clone()
    net(torch.zeros(2, 3, 3), x0)[1].sum().backward()
    optimiser.step()
    changed = (net.tonic_inp.detach() != before).tolist()
    assert changed == [False] * 4 + [True] * 2 + [False] * 3


def test_initial_h_is_the_activation_of_x():
    net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 1, "init": -3.0}]}, device="cpu")
    x0, h0 = net.batched_initial_condition(1)
    assert x0.item() == -3
    assert h0.item() == 0
    inp = torch.zeros(1, 2, 0)
    torch.testing.assert_close(net(inp, x0), net(inp, x0, h0))


def test_duplicate_connection_raises():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    net.add_recurrent_connection("a", "a")
    with pytest.raises(GraphError, match="exists already.*key="):
        net.add_recurrent_connection("a", "a")


@pytest.mark.parametrize("first", ["finalize_rec_connectivity", "finalize_inp_connectivity"])
def test_both_connectivities_must_be_finalised(first):
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    getattr(net, first)()
    with pytest.raises(FinalizeError, match="not finalised"):
        net(torch.zeros(1, 1, 0), torch.zeros(1, 2))


def test_a_net_without_inputs_runs():
    net = sm.mRNN({"recurrent_regions": [{"num_units": 2}]}, device="cpu")
    x, _ = net(torch.zeros(3, 4, 0), torch.ones(3, 2))
    torch.testing.assert_close(x[0, :, 0], 0.9 ** torch.arange(1, 5))


def test_nilpotent_net_has_radius_zero_and_is_not_scaled():
    g = sm.RegionGraph()
    for name in "abc":
        g.add_region(name, 5)
    g.add_projection("a", "b")
    g.add_projection("b", "c")
    net = sm.mRNN(g, device="cpu")
    assert net.compute_spectral_radius(net.effective_W_rec) == 0
    with pytest.raises(SpectralError, match="radius 0"):
        sm.mRNN(g, device="cpu", spectral_radius=0.9)


def test_absent_projections_do_not_exist(net):
    assert net.rec.nnz < 81
    assert not any(source == "thal" and target == "spine" for source, target, _ in net.rec.projections)


def test_cpu_works_out_of_the_box():
    net = sm.mRNN({"recurrent_regions": [{"num_units": 2}]})
    assert net.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_frozen_projections_do_not_train():
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_projection("a", "a", trainable=False)
    g.add_projection("a", "a", key="plastic")
    net = sm.mRNN(g, device="cpu", seed=0)
    frozen = net.rec.projection_values(source="a", target="a").clone()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    net(torch.zeros(1, 4, 0), torch.ones(1, 3))[1].sum().backward()
    optimiser.step()
    assert torch.equal(net.rec.projection_values(source="a", target="a"), frozen)
    assert net.rec.values.numel() == 9
