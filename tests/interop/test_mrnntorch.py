"""mRNNTorch's dense state dicts become networks of their real synapses, with equal outputs and gradients, and back."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

import sparse_mrnn as sm
from helpers.mrnntorch_model import CBGTCL, DenseMRNN
from helpers.networks import small
from sparse_mrnn.errors import ConfigError, ConversionError, ConversionWarning
from sparse_mrnn.interop import from_mrnntorch, graph_from_mrnntorch, to_mrnntorch, to_mrnntorch_config

KINDS = [(elman, constrained) for elman in (False, True) for constrained in ((True, True), (True, False), (False, False))]


def options(elman, constrained, **more):
    return {"model": "elman" if elman else "leaky", "rec_constrained": constrained[0], "inp_constrained": constrained[1], "device": "cpu", **more}


def runs(dense, net, steps=15):
    torch.manual_seed(1)
    inp, x0 = torch.rand(3, steps, net.layout("input").n), torch.rand(3, net.layout().n)
    h0 = dense.activation(x0)
    h = net(inp, h0) if isinstance(net, sm.ElmanmRNN) else net(inp, x0, h0)[1]
    return dense(inp, x0, h0), h


def dense_gradient(weights):
    """Gradient of the parameters as a dense matrix."""
    table = weights.table()
    return torch.zeros(weights.shape).index_put((table.row, table.col), weights.values.grad)


@pytest.mark.parametrize(("elman", "constrained"), KINDS)
@pytest.mark.parametrize("form", ["dict", "pth", "config path"])
def test_the_cbgtcl_configuration(tmp_path, elman, constrained, form):
    dense = DenseMRNN(CBGTCL, torch.tanh, elman=elman, constrained=constrained)
    state, config = dense.state_dict(), CBGTCL
    if form != "dict":
        torch.save(state, tmp_path / "net.pth")
        state = tmp_path / "net.pth"
    if form == "config path":
        config = tmp_path / "CBGTCL.json"
        config.write_text(json.dumps({**CBGTCL, "__comment_regions": ["as they have it"]}))
    net = from_mrnntorch(state, config, activation="tanh", **options(elman, constrained))
    assert net.rec.nnz == int(dense.W_rec_mask.sum()) < 0.2 * 350**2
    assert net.inp.nnz == int(dense.W_inp_mask.sum())
    assert net.hid_regions == [r["name"] for r in CBGTCL["recurrent_regions"]]
    expected, found = runs(dense, net)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    expected.square().sum().backward()
    found.square().sum().backward()
    for weights, name in ((net.rec, "W_rec"), (net.inp, "W_inp")):
        gradient = getattr(dense, name).grad * getattr(dense, f"{name}_mask")
        torch.testing.assert_close(dense_gradient(weights), gradient, atol=1e-4, rtol=1e-4)
    assert net.get_projection("snr", "gpe").count_nonzero() == 0


@pytest.mark.parametrize(("elman", "constrained"), KINDS)
def test_back_again(elman, constrained):
    dense = DenseMRNN(CBGTCL, elman=elman, constrained=constrained)
    net = from_mrnntorch(dense.state_dict(), CBGTCL, **options(elman, constrained))
    state = to_mrnntorch(net, prefix="rnn.")
    config = to_mrnntorch_config(net)
    again = DenseMRNN(config, elman=elman, constrained=constrained, seed=5)
    assert not torch.equal(again.W_rec_mask, dense.W_rec_mask)
    again.load_state_dict({name.removeprefix("rnn."): value for name, value in state.items()})
    for name in ("W_rec", "W_inp"):
        mask = getattr(dense, f"{name}_mask")
        assert torch.equal(getattr(again, f"{name}_mask"), mask)
        assert torch.equal(getattr(again, name), getattr(dense, name) * mask)  # raw magnitudes, of either sign
    torch.testing.assert_close(runs(again, net)[0], runs(dense, net)[0])
    third = from_mrnntorch(state, config, **options(elman, constrained))
    assert torch.equal(third.rec.values, net.rec.values)
    assert torch.equal(third.rec.col, net.rec.col)
    json.dumps(config)


def test_trained_here_and_taken_back():
    net = from_mrnntorch(DenseMRNN(CBGTCL).state_dict(), CBGTCL, device="cpu")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(2, 5, 25), net.batched_initial_condition(2)[0])[1].square().mean().backward()
        optimizer.step()
    dense = DenseMRNN(to_mrnntorch_config(net))
    dense.load_state_dict(to_mrnntorch(net))
    expected, found = runs(dense, net)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_without_a_configuration():
    dense = DenseMRNN(CBGTCL)
    dense.tonic.zero_()
    net = from_mrnntorch(dense.state_dict(), device="cpu")
    assert net.hid_regions == ["units"]
    assert net.inp_regions == ["inputs"]
    torch.testing.assert_close(*reversed(runs(dense, net)), atol=1e-5, rtol=1e-5)
    assert net["units"].unit_signs[:50].tolist() == [-1] * 50


def test_with_a_graph_of_ones_own():
    dense = DenseMRNN(CBGTCL)
    g = sm.RegionGraph()
    for r in CBGTCL["recurrent_regions"]:
        g.add_region(r["name"], r["num_units"], sign=None, base_firing=r["base_firing"], parent_region="loop", learnable_bias=True)
    g.add_input("iti", 25)
    g.add_projection("thal", "d1", trainable=False)
    net = from_mrnntorch(dense.state_dict(), g, device="cpu", seed=0)
    torch.testing.assert_close(*reversed(runs(dense, net)), atol=1e-5, rtol=1e-5)
    assert net.graph.edges["d1", "d1", "default"]["sign"] == "neg"
    assert net.rec.trainable_projections == len(net.rec.projections) - 1
    assert net.get_region_size("loop") == 350
    assert g.number_of_edges() == 1


class Model(nn.Module):
    def __init__(self, config, seed=0):
        super().__init__()
        self.rnn, self.out = DenseMRNN(config, seed=seed), nn.Linear(350, 2)


def test_under_a_prefix_and_in_a_dictionary(tmp_path):
    model = Model(CBGTCL)
    for state in (model.state_dict(), {"epoch": 3, "model": model.state_dict()}, nn.DataParallel(model).state_dict(), {"a": {"b": model.rnn.state_dict()}}):
        torch.save(state, tmp_path / "net.pt")
        net = from_mrnntorch(str(tmp_path / "net.pt"), CBGTCL, device="cpu")
        assert net.rec.nnz == int(model.rnn.W_rec_mask.sum())
    two = nn.ModuleDict({"first": DenseMRNN(CBGTCL), "second": DenseMRNN(CBGTCL, seed=1)})
    with pytest.raises(ConversionError, match="several networks, under 'first', 'second'; give prefix="):
        from_mrnntorch(two.state_dict(), CBGTCL)
    with pytest.raises(ConversionError, match="secondd.W_rec is missing. Did you mean 'second'"):
        from_mrnntorch(two.state_dict(), CBGTCL, prefix="secondd")
    for prefix in ("second", "second."):
        net = from_mrnntorch(two.state_dict(), CBGTCL, prefix=prefix, device="cpu")
        assert net.rec.nnz == int(two["second"].W_rec_mask.sum())


def test_settings_and_doubles():
    dense = DenseMRNN(CBGTCL).double()
    net = from_mrnntorch(dense.state_dict(), CBGTCL, dt=5, tau=50, spectral_radius=0.9, noise_level_act=0.2, seed=3, device="cpu")
    assert (net.dtype, net.dt, net.tau, net.spectral_radius, net.noise_level_act, net.seed) == (torch.float64, 5, 50, 0.9, 0.2, 3)
    assert net.rec.values.abs().max() == (dense.W_rec * dense.W_rec_mask).abs().max()  # not scaled again
    assert from_mrnntorch(dense.state_dict(), CBGTCL, dtype=torch.float32, device="cpu").dtype == torch.float32


# ---------------------------------------------------------------- sparsity


@pytest.mark.parametrize("fraction", [0, 0.25, 0.33, 0.9, 1])
def test_sparsity_is_the_fraction_zeroed_as_its_code_does(fraction):
    config = {
        "recurrent_regions": [{"name": "a", "num_units": 50}, {"name": "b", "num_units": 7}],
        "input_regions": [{"name": "i", "num_units": 3}],
        "recurrent_connections": [{"src_region": "a", "dst_region": "b", "sparsity": fraction}, {"src_region": "b", "dst_region": "a"}],
        "input_connections": [{"src_region": "i", "dst_region": "a", "sparsity": fraction}],
    }
    dense = DenseMRNN(config)
    net = sm.mRNN(graph_from_mrnntorch(config), device="cpu", seed=0)
    assert net.rec.nnz == int(dense.W_rec_mask.sum())
    assert torch.equal(net.W_rec_mask.to_dense().sum(0), dense.W_rec_mask.sum(0))  # for every source unit
    assert torch.equal(net.W_inp_mask.to_dense().sum(0), dense.W_inp_mask.sum(0))
    kept = graph_from_mrnntorch(config, sparsity="kept")
    assert kept.edges["a", "b", "default"]["density"] == fraction
    with pytest.raises(ConfigError, match="sparsity is 1.5"):
        graph_from_mrnntorch({**config, "input_connections": [{"src_region": "i", "dst_region": "a", "sparsity": 1.5}]})


def test_a_configuration_that_contradicts_the_masks_is_warned_of():
    dense = DenseMRNN(CBGTCL)
    with pytest.warns(ConversionWarning, match=r"'d1' -> 'd1'.*keeps 10%, and sparsity 0.9 read as 'kept' means 90%; the mask decides. Pass sparsity='zeroed'"):
        net = from_mrnntorch(dense.state_dict(), CBGTCL, sparsity="kept", device="cpu")
    assert net.rec.nnz == int(dense.W_rec_mask.sum())
    with pytest.raises(ConversionError, match="use 'zeroed' or 'kept'. Did you mean 'zeroed'"):
        from_mrnntorch(dense.state_dict(), CBGTCL, sparsity="zero")


def test_narrow_and_wide_types():
    """What is stored in a type that torch hardly computes in is read as what it is stored as."""
    state = {name: value.clone() for name, value in DenseMRNN(CBGTCL).state_dict().items()}
    dtypes = {"": torch.float8_e4m3fn, "_mask": torch.float8_e5m2, "_sign_matrix": torch.float8_e4m3fn}
    narrow = {name: value.to(dtypes[name.removeprefix(name[:5])]) for name, value in state.items()}
    expected = from_mrnntorch({name: value.float() for name, value in narrow.items()}, CBGTCL, device="cpu")
    found = from_mrnntorch(narrow, CBGTCL, device="cpu", sparsity="Zeroed")
    assert found.dtype == torch.float32
    assert torch.equal(found.effective_W_rec.to_dense(), expected.effective_W_rec.to_dense())
    assert torch.equal(found.effective_W_inp.to_dense(), expected.effective_W_inp.to_dense())
    wide = from_mrnntorch({name: value.double() if name == "W_rec" else value.to(torch.uint8) if "mask" in name else value for name, value in state.items()}, CBGTCL, device="cpu")
    assert wide.dtype == torch.float64


@pytest.mark.parametrize("sparsity", ["zeroed", "kept"])
def test_sparsity_is_written_either_way(sparsity):
    net = from_mrnntorch(DenseMRNN(CBGTCL).state_dict(), CBGTCL, device="cpu")
    written = {(c["src_region"], c["dst_region"]): c["sparsity"] for c in to_mrnntorch_config(net, sparsity=sparsity)["recurrent_connections"]}
    assert written["d1", "d1"] == pytest.approx(0.9 if sparsity == "zeroed" else 0.1)
    full = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}], "recurrent_connections": [{"src_region": "a", "dst_region": "a"}]}, device="cpu")
    assert to_mrnntorch_config(full, sparsity=sparsity)["recurrent_connections"][0]["sparsity"] is None


def test_empty_sections_as_dictionaries():
    g = graph_from_mrnntorch({"recurrent_regions": [{"name": "a", "num_units": 2}], "input_regions": {}, "recurrent_connections": {}})
    assert g.n_units == 2


# ---------------------------------------------------------------- what is refused


def state_of(**change):
    state = {name: value.clone() for name, value in DenseMRNN(CBGTCL).state_dict().items()}
    for name, value in change.items():
        if value is None:
            state.pop(name)
        else:
            state[name] = value(state[name]) if callable(value) else value
    return state


def put(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


REFUSED = [
    ("is not of mRNNTorch: it has no W_rec, but out.weight, out.bias", lambda: nn.ModuleDict({"out": nn.Linear(2, 2)}).state_dict(), CBGTCL),
    ("has no W_rec, but no tensor", lambda: {}, CBGTCL),
    ("W_rec_mask is missing", lambda: state_of(W_rec_mask=None), CBGTCL),
    ("W_inp_sign_matrix is missing", lambda: state_of(W_inp_sign_matrix=None), CBGTCL),
    (r"W_rec_mask has shape \(350, 349\); it must be 350 x 350", lambda: state_of(W_rec_mask=lambda t: t[:, 1:]), CBGTCL),
    (r"W_rec has shape \(350,\)", lambda: state_of(W_rec=lambda t: t[0]), CBGTCL),
    (r"W_rec has shape \(\)", lambda: state_of(W_rec=torch.tensor(1.0)), CBGTCL),
    ("W_rec is not a dense matrix", lambda: state_of(W_rec=lambda t: t.to_sparse()), CBGTCL),
    ("W_rec is not a dense matrix", lambda: state_of(W_rec=lambda t: t.int()), CBGTCL),
    ("W_rec_mask is not a dense matrix", lambda: state_of(W_rec_mask=lambda t: torch.empty_like(t, dtype=torch.bits8)), CBGTCL),
    ("W_rec_mask has other values than 0, 1", lambda: state_of(W_rec_mask=put((0, 0), 0.5)), CBGTCL),
    ("W_rec_sign_matrix has other values than -1, 0, 1", lambda: state_of(W_rec_sign_matrix=put((0, 0), 2)), CBGTCL),
    ("W_rec has synapses whose weight is not finite", lambda: state_of(W_rec=lambda t: t.fill_(float("nan"))), CBGTCL),
    ("W_rec is 350 x 350, but the config has 300 units", state_of, {**CBGTCL, "recurrent_regions": CBGTCL["recurrent_regions"][:-2] , "recurrent_connections": [], "input_connections": []}),
    (r"W_inp is 350 x 25, but the config has 24 inputs \(iti 24\)", state_of, {**CBGTCL, "input_regions": [{"name": "iti", "num_units": 24}]}),
    ("the config has 25 input channels, but W_inp is missing", lambda: state_of(W_inp=None, W_inp_mask=None, W_inp_sign_matrix=None), CBGTCL),
    ("W_rec_sign_matrix: projection 'd1' -> 'd1' is not 'pos', as the configuration says", state_of, {**CBGTCL, "recurrent_regions": [{**CBGTCL["recurrent_regions"][0], "sign": "pos"}, *CBGTCL["recurrent_regions"][1:]]}),
    ("unit 0 has synapses of both signs; give a config", lambda: state_of(W_rec_sign_matrix=lambda t: put((int(t[:, 0].nonzero()[0]), 0), 1)(t)), None),
    ("is declared 2 times", state_of, {**CBGTCL, "recurrent_connections": [*CBGTCL["recurrent_connections"], {"src_region": "d1", "dst_region": "d1", "key": "b"}]}),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(REFUSED)))
def test_state_dicts_that_are_none(k):
    message, state, config = REFUSED[k]
    with pytest.raises(ConversionError, match=message):
        from_mrnntorch(state(), config, device="cpu")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/sparse_mrnn_was_here",)


def test_files_with_code_are_not_run(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"W_rec": Evil()}, path)
    with pytest.raises(ConversionError, match=r"holds more than tensors.*code in it is not run; save net.state_dict\(\)"):
        from_mrnntorch(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ConversionError, match="holds more than tensors|no file of tensors|cannot be read"):
        from_mrnntorch(path)
    torch.save(DenseMRNN(CBGTCL), path)  # a whole module
    with pytest.raises(ConversionError, match="A pickled module"):
        from_mrnntorch(path)
    assert not Path("/tmp/sparse_mrnn_was_here").exists()


def test_files_that_are_damaged_or_something_else(tmp_path):
    path = tmp_path / "net.pth"
    with pytest.raises(ConversionError, match="does not exist"):
        from_mrnntorch(path)
    torch.save(DenseMRNN(CBGTCL).state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"{}", whole[:1000], whole[: len(whole) // 2], whole[:-30], os.urandom(500)):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match="cannot be read as a file of torch.save|holds more than tensors"):
            from_mrnntorch(path)
    torch.save([1, 2], path)
    with pytest.raises(ConversionError, match="holds a list"):
        from_mrnntorch(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.add_projection("a", "b", delay=20.0), r"no delay \(projection 'a' -> 'b'\)"),
        (lambda g: [g.add_projection("a", "b"), g.add_projection("a", "b", key="more")], "no two synapses from one unit to another"),
        (lambda g: g.add_region("slow", 2, tau=500.0), "no tau of a region \\('slow'\\)"),
        (lambda g: g.add_region("own", 2, activation="tanh"), "no activation of a region"),
        (lambda g: g.add_region("own", 2, learnable_tau=True), "no learnable_tau of a region"),
        (lambda g: g.add_region("own", 2, noise_level=0.1), "no noise_level of a region"),
        (lambda g: [g.add_region("free", 2, sign=None), g.add_projection("free", "a")], "no synapse without a sign"),
    ],
)
def test_what_mrnntorch_does_not_have(change, message):
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_region("b", 2)
    change(g)
    net = sm.mRNN(g, device="cpu")
    for convert in (to_mrnntorch, to_mrnntorch_config):
        with pytest.raises(ConversionError, match=message):
            convert(net)


def test_other_things_mrnntorch_does_not_have():
    with pytest.raises(ConversionError, match="integrator 'exponential_euler'"):
        to_mrnntorch(small(sm.mRNN, integrator="exponential_euler"))
    with pytest.raises(ConversionError, match="activation 'sin'"):
        to_mrnntorch(small(sm.ElmanmRNN, activation=torch.sin))
    g = sm.RegionGraph()
    g.add_region("mixed", 2, sign=[1, -1])
    with pytest.raises(ConversionError, match="region of both signs, as 'mixed'"):
        to_mrnntorch_config(sm.mRNN(g, device="cpu"))
