"""A test per published mRNNTorch name, named after it."""

import inspect

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ShapeError
from sparse_mrnn.models import elman, leaky, network

SEED_ARGUMENTS = [
    "config", "activation", "noise_level_act", "noise_level_inp", "rec_constrained", "inp_constrained",
    "batch_first", "spectral_radius", "config_finalize", "device",
]  # fmt: skip


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_linear():
    x = torch.randn(3)
    assert sm.linear(x) is x
    assert network.linear is leaky.linear is elman.linear is sm.linear


def test_mRNN():
    assert arguments(sm.mRNN.__init__)[:12] == [*SEED_ARGUMENTS, "dt", "tau"]
    net = sm.mRNN(None, "tanh", 0.1, 0.2, False, False, False, 0.9, False, "cpu", 5, 50)
    assert (net.dt, net.tau, net.batch_first, net.spectral_radius) == (5, 50, False, 0.9)


def test_ElmanmRNN():
    assert arguments(sm.ElmanmRNN.__init__)[:10] == SEED_ARGUMENTS


def test_mRNNBase():
    assert arguments(sm.mRNNBase.__init__)[:10] == SEED_ARGUMENTS
    assert issubclass(sm.mRNN, sm.mRNNBase)
    assert issubclass(sm.mRNNBase, torch.nn.Module)
    defaults = {n: p.default for n, p in inspect.signature(sm.mRNN.__init__).parameters.items()}
    assert (defaults["activation"], defaults["noise_level_act"], defaults["dt"], defaults["tau"]) == ("relu", 0.01, 10, 100)


def test_forward_leaky(net):
    assert arguments(net.forward) == ["inp", "x0", "h0", "stim_input", "noise", "W_rec", "checkpoint_steps", "regions"]
    x0, h0 = net.batched_initial_condition(5)
    x, h = net(torch.zeros(5, 7, 3), x0, h0=h0, stim_input=None, noise=True, W_rec=None)
    assert x.shape == h.shape == (5, 7, 9)


def test_forward_elman(elman):
    assert arguments(elman.forward) == ["inp", "h0", "stim_input", "noise", "W_rec", "checkpoint_steps", "regions"]
    x0, h0 = elman.batched_initial_condition(5)
    h = elman(torch.zeros(5, 7, 3), h0)
    assert isinstance(h, torch.Tensor)
    assert h.shape == (5, 7, 9)
    torch.testing.assert_close(elman(torch.zeros(5, 7, 3), (x0, h0)), h)


def test_forward_base():
    with pytest.raises(TypeError, match="mRNN or ElmanmRNN"):
        sm.mRNNBase(device="cpu")(torch.zeros(1, 1, 0))


def test_batched_initial_condition(net):
    x0, h0 = net.batched_initial_condition(4)
    torch.testing.assert_close(x0[2], torch.tensor([0.0] * 4 + [0.5] * 2 + [-0.2] * 3))
    torch.testing.assert_close(h0, torch.relu(x0))
    with pytest.raises(ShapeError, match="batch_size"):
        net.batched_initial_condition(0)


def test_initial_condition(net):
    torch.testing.assert_close(net.initial_condition, torch.tensor([0.0] * 4 + [0.5] * 2 + [-0.2] * 3))


def test_tonic_inp(net):
    torch.testing.assert_close(net.tonic_inp.detach(), torch.tensor([1.0] * 4 + [0.0] * 5))


def test_add_recurrent_region():
    net = sm.mRNN(device="cpu")
    names = ["name", "num_units", "sign", "base_firing", "init", "parent_region", "learnable_bias"]
    assert arguments(net.add_recurrent_region)[:7] == names
    net.add_recurrent_region("a", 2, "neg", torch.tensor([1.0, 2.0]), 0.1, "p", True)
    region = net["a"]
    assert (region.num_units, region.sign, region.parent_region, region.learnable_bias) == (2, "neg", "p", True)
    np.testing.assert_allclose(region.base_firing, [1, 2])


def test_add_input_region():
    net = sm.mRNN(device="cpu")
    assert arguments(net.add_input_region) == ["name", "num_units", "sign", "device"]
    net.add_input_region("i", 3, "neg")
    assert net["i"].kind == "input"


@pytest.mark.parametrize("name", ["add_recurrent_connection", "add_input_connection"])
def test_add_connection(name):
    net = sm.mRNN(device="cpu", seed=0)
    assert arguments(getattr(net, name))[:3] == ["src_region", "dst_region", "sparsity"]


def test_add_recurrent_connection():
    net = sm.mRNN(device="cpu", seed=0)
    net.add_recurrent_region("a", 100)
    net.add_recurrent_connection("a", "a", 0.25)  # the fraction kept
    net.finalize_connectivity()
    assert 2200 < net.rec.nnz < 2800


def test_add_input_connection():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 10)
    net.add_input_region("i", 4)
    net.add_input_connection("i", "a")
    net.finalize_connectivity()
    assert net.inp.nnz == 40


def test_finalize_connectivity(net):
    assert net.rec_finalized
    assert net.inp_finalized
    net.finalize_connectivity()  # again is harmless


def test_finalize_rec_connectivity_and_rec_finalized():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    assert not net.rec_finalized
    net.finalize_rec_connectivity()
    assert net.rec_finalized
    assert not net.inp_finalized


def test_finalize_inp_connectivity_and_inp_finalized():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    net.finalize_inp_connectivity()
    assert net.inp_finalized
    assert not net.rec_finalized


def test_hid_regions(net):
    assert net.hid_regions == ["ctx", "spine", "thal"]


def test_inp_regions(net):
    assert net.inp_regions == ["cue", "go"]


def test_named_rec_regions(net):
    assert [name for name, _ in net.named_rec_regions()] == net.hid_regions
    assert [name for name, _ in net.named_rec_regions("net")] == ["net.ctx", "net.spine", "net.thal"]
    assert dict(net.named_rec_regions())["spine"].n == 2


def test_named_inp_regions(net):
    assert [name for name, _ in net.named_inp_regions(prefix="x")] == ["x.cue", "x.go"]


def test_get_region_size(net):
    assert [net.get_region_size(n) for n in ("ctx", "spine", "brain", "go")] == [4, 2, 7, 1]


def test_get_region_indices(net):
    assert net.get_region_indices("spine") == (4, 6)
    assert net.get_region_indices("go") == (2, 3)
    with pytest.raises(ValueError, match="not neighbours"):
        net.get_region_indices("brain")


def test_get_region_activity(net):
    act = torch.arange(18.0).reshape(2, 9)
    assert net.get_region_activity(act, "thal", "ctx")[0].tolist() == [6, 7, 8, 0, 1, 2, 3]
    assert net.get_region_activity(act, "brain", "ctx")[0].tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert net.get_region_activity(act).shape == (2, 0)


def test_get_excluded_hid_regions(net):
    assert net.get_excluded_hid_regions("brain") == ["spine"]
    assert net.get_excluded_hid_regions() == net.hid_regions


def test_get_excluded_inp_regions(net):
    assert net.get_excluded_inp_regions("cue") == ["go"]


def test_combine_states(net):
    act = torch.randn(2, 1, 9)
    a, b = net.get_region_activity(act, "thal", "ctx"), net.get_region_activity(act, "spine")
    torch.testing.assert_close(net.combine_states(a, b, ["thal", "ctx"], ["spine"]), act)
    assert net.combine_states(a, b, ["thal", "ctx"], ["spine"], keep_dims=False).shape == (2, 9)
    with pytest.raises(ValueError, match="both lists"):
        net.combine_states(a, a, ["brain"], ["brain"])


def dense(weight):
    return weight.detach().to_dense()


def test_get_projection(net):
    full = dense(net.effective_W_rec)
    torch.testing.assert_close(net.get_projection("spine", "ctx"), full[4:6, :4])
    torch.testing.assert_close(net.get_projection(to="ctx", from_="cue"), dense(net.effective_W_inp)[:4, :2])
    torch.testing.assert_close(dense(net.get_projection("spine", "ctx", sparse=True)), full[4:6, :4])
    net.get_projection("spine", "ctx").sum().backward()
    assert net.rec.values.grad.abs().sum() > 0


def test_get_weight_subset(net):
    full = dense(net.effective_W_rec)
    order = [4, 5, 6, 7, 8]  # of the network, as in mRNNTorch, whatever the order asked for
    torch.testing.assert_close(net.get_weight_subset("thal", "spine"), full[order][:, order])
    torch.testing.assert_close(net.get_weight_subset(), full)
    given = torch.arange(81.0).reshape(9, 9)
    for w in (given, given.to_sparse(), given.to_sparse_csr()):
        torch.testing.assert_close(net.get_weight_subset("thal", "spine", W=w), given[order][:, order])


def test_gen_w(net):
    for regions, shape, values in ((net.region_dict, (9, 9), net.W_rec), (net.inp_dict, (9, 3), net.W_inp)):
        w, mask, sign = net.gen_w(regions)
        assert w.shape == mask.shape == sign.shape == shape
        torch.testing.assert_close(dense(w), dense(values))
    only = dense(net.gen_w({"spine": net["spine"]})[0])
    assert (only[:, :4] == 0).all()
    torch.testing.assert_close(only[:, 4:6], dense(net.W_rec)[:, 4:6])


def test_apply_dales_law(net):
    w, mask, sign = torch.tensor([[-2.0, 3, 4]]), torch.tensor([[1.0, 1, 0]]), torch.tensor([[1.0, -1, 1]])
    assert net.apply_dales_law(w, mask, sign).tolist() == [[2, -3, 0]]
    sparse = net.apply_dales_law(net.W_rec, net.W_rec_mask, net.W_rec_sign_matrix)
    torch.testing.assert_close(dense(sparse), dense(net.effective_W_rec))


def test_compute_spectral_radius(net):
    w = torch.randn(6, 6)
    expected = torch.linalg.eigvals(w).abs().max().item()
    for layout in (w, w.to_sparse(), w.to_sparse_csr()):
        assert net.compute_spectral_radius(layout) == pytest.approx(expected, rel=1e-5)


def test_set_spectral_radius(net):
    w = torch.randn(6, 6)
    net.spectral_radius = 0.7
    assert net.compute_spectral_radius(net.set_spectral_radius(w)) == pytest.approx(0.7, rel=1e-5)
    half = net.set_spectral_radius(w, W_tmp=2 * w)
    assert net.compute_spectral_radius(half) == pytest.approx(0.35, rel=1e-5)
    assert net.set_spectral_radius(w.to_sparse_csr()).layout == torch.sparse_csr


def test_spectral_radius_argument():
    g = sm.RegionGraph()
    g.add_region("a", 30)
    g.add_region("b", 10, sign="neg")
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t, density=0.5)
    net = sm.mRNN(g, device="cpu", seed=0, spectral_radius=1.3)
    assert torch.linalg.eigvals(dense(net.effective_W_rec)).abs().max().item() == pytest.approx(1.3, rel=1e-4)


def test_hid_noise_const(net, elman):
    assert net.hid_noise_const == pytest.approx(np.sqrt(0.2) * 0.01 / 0.1)
    assert elman.hid_noise_const == pytest.approx(np.sqrt(2) * 0.01)


def test_inp_noise_const(net, elman):
    assert net.inp_noise_const == pytest.approx(np.sqrt(0.2) * 0.01 / 0.1)
    assert elman.inp_noise_const == pytest.approx(np.sqrt(2) * 0.01)


def test_getitem(net):
    assert net["ctx"].num_units == 4
    assert net["cue"].kind == "input"
    with pytest.raises(KeyError, match="Did you mean 'ctx'"):
        net["ctxx"]


def test_setitem():
    net = sm.mRNN(device="cpu")
    net["a"] = sm.Region("a", 3)
    net["a"] = sm.Region("a", 5, sign="neg")
    assert net["a"].num_units == 5
    net["i"] = sm.Region("i", 2, kind="input")
    assert net.inp_regions == ["i"]
    with pytest.raises(TypeError, match="Region"):
        net["b"] = 3


@pytest.mark.parametrize("name", ["W_rec", "W_rec_mask", "W_rec_sign_matrix", "W_inp", "W_inp_mask", "W_inp_sign_matrix"])
def test_weight_matrices(net, name):
    w = getattr(net, name)
    assert w.layout == torch.sparse_csr
    assert w.shape == ((9, 9) if "rec" in name else (9, 3))
    source = net.W_rec if "rec" in name else net.W_inp
    assert torch.equal(w.col_indices(), source.col_indices())
    if name.endswith("mask"):
        assert (w.values() == 1).all()
    if name == "W_rec_sign_matrix":
        assert set(dense(w)[:, 4:6].flatten().tolist()) <= {0.0, -1.0}
