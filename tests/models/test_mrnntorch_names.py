"""A test per published mRNNTorch name, named after it."""

import inspect
import itertools

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, ShapeError, SizeError, StateDictError, WeightError
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
    assert arguments(net.forward) == ["inp", "x0", "h0", "stim_input", "noise", "W_rec", "checkpoint_steps", "regions", "return_state"]
    x0, h0 = net.batched_initial_condition(5)
    x, h = net(torch.zeros(5, 7, 3), x0, h0=h0, stim_input=None, noise=True, W_rec=None)
    assert x.shape == h.shape == (5, 7, 9)


def test_forward_elman(elman):
    assert arguments(elman.forward) == ["inp", "h0", "stim_input", "noise", "W_rec", "checkpoint_steps", "regions", "return_state"]
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


def two(**settings):
    net = sm.mRNN(device="cpu", seed=0, **settings)
    net.add_recurrent_region("r1", 2, base_firing=0.5, device="cpu")
    net.add_recurrent_region("r2", 1, sign="neg", base_firing=1.5, device=torch.device("cpu"))
    net.add_input_region("i1", 3, device="cpu")
    net.add_recurrent_connection("r1", "r2")
    net.add_recurrent_connection("r1", "r1")
    net.add_input_connection("i1", "r2")
    return net


def test_device_of_a_region():
    net = sm.mRNN(device="cpu")
    for add in (net.add_recurrent_region, net.add_input_region):
        with pytest.raises(ConfigError, match="device"):
            add("a", 2, device="meta")
        add(add.__name__, 2, device=net.device)
    assert net.total_num_units == net.total_num_inputs == 2


def test_parent_of_its_own_name():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("reg", 4, parent_region="reg")
    assert net.get_region_indices("reg") == (0, 4)
    assert net.region_mask_dict["reg"].tolist() == [1, 1, 1, 1]


def test_total_num_units_and_inputs_and_region_mask_dict():
    net = two()
    assert (net.total_num_units, net.total_num_inputs) == (3, 3)
    assert {name: mask.tolist() for name, mask in net.region_mask_dict.items()} == {"r1": [1, 1, 0], "r2": [0, 0, 1]}


@pytest.mark.parametrize("finalised", [False, True])
def test_state_before_finalising(finalised):
    net = two()
    if finalised:
        net.finalize_connectivity()
    assert net.tonic_inp.tolist() == [0.5, 0.5, 1.5]
    assert net.initial_condition.tolist() == [0, 0, 0]
    assert f"{net.alpha:.2f}" == "0.10"
    assert net.alpha.shape == ()


def test_alpha():
    assert float(sm.ElmanmRNN(device="cpu").alpha) == 1
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2, tau=50.0)
    net.add_recurrent_region("b", 1)
    before = net.alpha
    net.finalize_connectivity()
    assert net.alpha.flatten().tolist() == before.flatten().tolist() == pytest.approx([0.2, 0.2, 0.1])
    assert net.alpha.shape == net.unit_alpha().shape == (3, 1)


def test_activation_and_its_name():
    net = sm.mRNN(device="cpu", activation="tanh")
    x = torch.randn(4)
    assert net.activation_name == "tanh"
    assert torch.equal(net.activation(x), torch.tanh(x))
    net.activation = "relu"
    assert torch.equal(net.activation(x), torch.relu(x))
    net.activation = torch.nn.Softplus()
    assert torch.equal(net.activation(x), torch.nn.functional.softplus(x))
    assert "activation" not in net._modules


def test_sigma_recur_and_sigma_input():
    net = two(noise_level_act=0.2, noise_level_inp=0.3)
    net.finalize_connectivity()
    assert (net.sigma_recur, net.sigma_input) == (0.2, 0.3)
    before = net.hid_noise_const, net.inp_noise_const
    net.sigma_recur, net.sigma_input = 0.4, 0.6
    assert (net.noise_level_act, net.noise_level_inp) == (0.4, 0.6)
    assert (net.hid_noise_const, net.inp_noise_const) == pytest.approx([2 * std for std in before])
    with pytest.raises(ConfigError, match="negative"):
        net.sigma_recur = -1


def test_connections_of_a_region():
    net = two()
    assert list(net.region_dict["r1"].connections) == ["r2", "r1"]
    assert net["r1"].has_connection_to("r2")
    assert not net["r2"].has_connection_to("r1")
    before = net.region_dict["r1"]["r2"]
    assert (before.parameter.shape, before.weight_mask) == ((1, 2), None)
    net.finalize_connectivity()
    for source, target, zero in (("r1", "r2", False), ("r2", "r1", True)):
        found = net.region_dict[source][target]
        assert found.zero_connection is zero
        torch.testing.assert_close(found.parameter.to_dense().abs(), net.get_projection(target, source).abs())
    assert net.inp_dict["i1"][0].sign_matrix.to_dense().tolist() == [[1, 1, 1]]
    net.region_dict["r1"][0].parameter.sum().backward()
    assert net.rec.values.grad.sum() == 2
    with pytest.raises(KeyError, match="unknown region 'r3'"):
        net["r1"]["r3"]
    copied = sm.mRNN(device="cpu")
    copied["c"] = net["r2"]
    assert (copied["c"].n, copied["c"].sign, type(copied.layout().regions[0])) == (1, "neg", sm.Region)


def test_a_connection_of_low_rank_is_refused():
    net = two()
    net.add_recurrent_connection("r2", "r1", rank=1, sign="free")
    net.finalize_connectivity()
    assert net["r1"]["r2"].parameter.shape == (1, 2)
    with pytest.raises(WeightError, match="'r2' -> 'r1' has low rank"):
        net["r2"]["r1"]


DENSE = torch.arange(81.0).reshape(9, 9)


@pytest.mark.parametrize(
    "compute",
    [
        lambda w: 0.9 * torch.eye(9) + 0.1 * w, lambda w: w + DENSE, lambda w: torch.diag(DENSE[0]) @ w, lambda w: w @ DENSE,
        lambda w: w[1, 2], lambda w: w.T, lambda w: w.abs().sum(1), lambda w: torch.cat([w, DENSE]), lambda w: w > 0,
        lambda w: torch.nn.functional.linear(DENSE, w), lambda w: torch.stack([w * 2, w]), lambda w: w**2,
    ],
)  # fmt: skip
def test_W_rec_in_arithmetic(net, compute):
    found, expected = compute(net.W_rec), compute(net.W_rec.to_dense())
    torch.testing.assert_close(found.to_dense() if found.layout != torch.strided else found, expected)


def test_W_rec_is_differentiable_and_not_written(net):
    (net.W_rec + DENSE).sum().backward()
    assert (net.rec.values.grad == 1).all()
    for write in (
        lambda w: w.fill_(0), lambda w: w.__setitem__(0, 1), lambda w: w.data.mul_(2), lambda w: setattr(w, "data", DENSE),
        lambda w: setattr(w, "requires_grad", False),
    ):  # fmt: skip
        with pytest.raises(WeightError, match=r"net\.rec\.values"):
            write(net.W_rec)
    x = torch.rand(2, 4, 3)
    torch.testing.assert_close(net(x, W_rec=net.W_rec), net(x, W_rec=net.W_rec.to_dense()))


def test_large_W_rec_stays_sparse():
    g = sm.RegionGraph()
    g.add_region("a", 5000)
    g.add_projection("a", "a", fan_in=1)
    w = sm.mRNN(g, device="cpu", seed=0).W_rec
    assert (2 * w).layout == torch.sparse_csr
    with pytest.raises(SizeError):
        w + torch.ones(1, 1)


@pytest.mark.parametrize("name", ["FixedPointFinder", "Linearization", "FlowFieldFinder"])
def test_classes_of_its_analysis_name_ours(name):
    for module, prefix in itertools.product((sm, sm.analysis), ("m", "em")):
        with pytest.raises(ImportError, match=r"use sparse_mrnn\.analysis\.(find_fixed_points|linearize|flow_field)"):
            getattr(module, prefix + name)


def test_classes_of_its_regions_name_ours():
    with pytest.raises(ImportError, match="add_recurrent_region"):
        exec("from sparse_mrnn import RecurrentRegion")
    with pytest.raises(ImportError, match="add_input_region"):
        exec("from sparse_mrnn import InputRegion")


@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_of_its_files(net, strict):
    state = {"W_rec": torch.eye(9), "W_rec_mask": torch.eye(9), "W_rec_sign_matrix": torch.eye(9)}
    with pytest.raises(StateDictError, match=r"sparse_mrnn\.interop\.from_mrnntorch"):
        net.load_state_dict(state, strict=strict)
    outer = torch.nn.ModuleDict({"rnn": net})
    with pytest.raises(StateDictError, match="from_mrnntorch"):
        outer.load_state_dict({f"rnn.{name}": value for name, value in state.items()})
