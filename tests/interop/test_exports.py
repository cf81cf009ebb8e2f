"""A built or trained network in the formats of other software, and back with equal outputs and gradients."""

import json
import sys
import types

import h5py
import libsonata
import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch

import sparse_mrnn as sm
from helpers.common import needs_tracing
from helpers.graphs import rich_graph
from helpers.networks import sharing, small, states, trained
from sparse_mrnn.connectome import from_networkx, read_celegans, read_graphml
from sparse_mrnn.errors import (
    ConfigError,
    ConnectomeError,
    ConversionError,
    MissingExtraError,
    UnknownNameError,
    WeightError,
)
from sparse_mrnn.interop import (
    read_sonata,
    read_sonata_settings,
    step_module,
    to_mrnntorch,
    write_graphml,
    write_sonata,
)
from sparse_mrnn.simulation import build_network


def gradients(net):
    """Of a loss with respect to the effective weights, by unit, and to tonic inputs: what any parametrisation shares."""
    net.zero_grad()
    states(net)[0].square().sum().backward()
    found = []
    for weights in net.weight_matrices():
        table = weights.table()
        values = torch.cat([weights.values.detach(), weights.frozen])
        own = torch.zeros_like(values)
        if weights.values.grad is not None:
            own[: weights.values.numel()] = weights.values.grad
        sign = torch.empty(weights.nnz, dtype=torch.int8)
        sign[weights.perm.long() if weights.perm is not None else torch.arange(weights.nnz)] = weights.csr_signs()
        slope = torch.where((sign == 0) | torch.tensor(not weights.constrained), 1.0, values.sign() * sign)
        dense = torch.zeros(weights.shape, dtype=values.dtype)
        found.append(dense.index_put((table.row, table.col), own * slope.to(values.dtype), accumulate=True))
    return found, None if net.bias is None else net.bias.grad


def assert_equal(net, back, *, grads=True, rtol=1e-5):
    torch.testing.assert_close(states(back)[0], states(net)[0], rtol=rtol, atol=1e-6)
    if grads:
        (own, bias), (theirs, other) = gradients(net), gradients(back)
        for a, b in zip(own, theirs, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
        if bias is not None:
            torch.testing.assert_close(other, bias, rtol=1e-4, atol=1e-5)


MODELS = [
    (sm.mRNN, {}),
    (sm.mRNN, {"integrator": "exponential_euler", "dtype": torch.float64, "tau": 33.0, "batch_first": True}),
    (sm.mRNN, {"rec_constrained": False, "inp_constrained": False, "activation": "relu", "noise_level_act": 0.5}),
    (sm.ElmanmRNN, {"backend": "csr"}),
]


# ---------------------------------------------------------------- a declaration of what there is


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_to_graph(model, options):
    net = trained(model, **options)
    g = net.to_graph()
    assert all(p.weights is not None for p in g.projections())
    assert [p.trainable for p in g.projections() if (p.target, p.key) == ("inh", "second")] == [False]
    options = {"activation": "tanh", "dt": 5, **options}
    assert_equal(net, model(g, device="cpu", **options))


def test_to_graph_without_dales_law_is_right_with_it():
    """Weights against the sign of their source become free ones, so that they are kept."""
    net = trained(rec_constrained=False, inp_constrained=False)
    with torch.no_grad():
        net.rec.values.neg_()
    assert_equal(net, sm.mRNN(net.to_graph(), activation="tanh", dt=5, device="cpu"))


def test_shared_gains_are_multiplied_in(tmp_path):
    net = sharing()
    with pytest.raises(ConversionError, match=r"projection 'free' -> 'exc' has low rank, and so no synapses; net.save keeps it"):
        net.to_graph()
    g = net.graph.copy()
    g.remove_edges_from([edge for *edge, rank in g.edges(keys=True, data="rank") if rank])
    net = sm.mRNN(g, dt=5, device="cpu", seed=0)
    with torch.no_grad():
        net.rec.gains.mul_(1.3)
        net.init.add_(0.5)
    torch.testing.assert_close(states(sm.mRNN(net.to_graph(), dt=5, device="cpu"))[0], states(net)[0])
    torch.testing.assert_close(states(sm.from_config(sm.to_config(net), device="cpu"))[0], states(net)[0])
    write_sonata(net, tmp_path / "net")
    back = build_network(read_sonata(tmp_path / "net")[0], read_sonata_settings(tmp_path / "net"), "cpu")
    torch.testing.assert_close(states(back)[0], states(net)[0])
    np.testing.assert_allclose(net.to_scipy().toarray(), net.effective_W_rec.to_dense().detach().numpy())


def test_configuration_of_a_graph_with_gains_and_low_rank():
    net = sharing()
    config = json.loads(json.dumps(sm.to_config(net.graph)))
    back = sm.mRNN(sm.read_config(config), device="cpu", seed=3, dt=5, tau=60.0)
    assert back.rec.gain_names == net.rec.gain_names
    for name, value in net.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name
    for name in net.graph:
        assert back.graph.region(name).tau_bounds == net.graph.region(name).tau_bounds
        assert back.graph.region(name).learnable_init == net.graph.region(name).learnable_init


def test_sonata_refuses_a_graph_with_gains(tmp_path):
    g = sm.RegionGraph()
    g.add_region("a", 2, learnable_bias="region", learnable_init=True, learnable_tau=True, tau_bounds=(20.0, None))
    g.add_projection("a", "a", weights=np.ones((2, 2)))
    write_sonata(g, tmp_path / "net")
    region = read_sonata(tmp_path / "net")[0].region("a")
    assert (region.learnable_bias, region.learnable_init, region.tau_bounds) == ("region", True, (20.0, None))
    g.add_projection("a", "a", weights=np.ones((2, 2)), key="shared", share="projection")
    with pytest.raises(ConversionError, match=r"\(key 'shared'\) shares gains, which SONATA cannot; write the network"):
        write_sonata(g, tmp_path / "net", overwrite=True)
    write_sonata(sm.mRNN(g, device="cpu"), tmp_path / "net", overwrite=True)
    write_graphml(g, tmp_path / "g.graphml")
    assert nx.read_graphml(tmp_path / "g.graphml", force_multigraph=True).edges["a", "a", "shared"]["share"] == "projection"


def test_low_rank_has_no_synapses(tmp_path, geometric):
    net = sharing()
    exports = [net.to_networkx, net.to_torch_geometric, lambda: step_module(net), lambda: sm.to_config(net)]
    exports += [lambda: write_sonata(net, tmp_path / "net"), lambda: write_graphml(net, tmp_path / "g"), lambda: to_mrnntorch(net)]
    for export in exports:
        with pytest.raises(ConversionError, match="low rank"):
            export()
    with pytest.raises(WeightError, match="low rank"):
        net.to_scipy()
    assert net.to_networkx(of="regions").edges["free", "exc", "default"] == {"rank": 2}
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_configuration_of_a_whole_network(tmp_path, model, options):
    net = trained(model, **options)
    config = sm.to_config(net)
    section = config["simulation"]
    assert section["activation"] == net.activation.name
    assert section["dt"] == 5
    assert section.get("tau") == getattr(net, "tau", None)
    sm.write_config(net, tmp_path / "net.json")
    for source in (json.loads(json.dumps(config)), tmp_path / "net.json", sm.load_config(tmp_path / "net.json")):
        back = sm.from_config(source, device="cpu")
        assert type(back) is model
        for name in ("dt", "tau", "integrator", "noise_level_act", "rec_constrained", "inp_constrained", "batch_first", "backend", "dtype", "seed"):
            assert getattr(back, name, None) == getattr(net, name, None), name
        assert_equal(net, back)


def test_a_configuration_cannot_name_a_function(tmp_path):
    net = sm.mRNN({"recurrent_regions": [{"num_units": 2}]}, activation=torch.sin, device="cpu")
    for convert in (sm.to_config, lambda net: write_sonata(net, tmp_path / "net")):
        with pytest.raises(ConfigError, match="'sin' is a function of your own"):
            convert(net)
    with pytest.raises(ConfigError, match="cannot write the configuration.*No such file"):
        sm.write_config(small(sm.mRNN), tmp_path / "nowhere" / "net.json")
    assert not list(tmp_path.iterdir())


def test_settings_of_a_configuration_are_the_users(tmp_path):
    simulation = sm.load_config({"simulation": {"duration": 500, "stimulus": [{"region": "ctx", "amplitude": 1}]}}).simulation
    config = sm.to_config(small(sm.mRNN), simulation)
    assert config["simulation"] == {"duration": 500.0, "stimulus": [{"region": "ctx", "amplitude": 1.0}]}


# ---------------------------------------------------------------- SONATA


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_sonata_with_trained_weights(tmp_path, model, options):
    net = trained(model, **options)
    write_sonata(net, tmp_path / "net")
    graph, report = read_sonata(tmp_path / "net")
    settings = read_sonata_settings(tmp_path / "net")
    back = build_network(graph, settings, "cpu")
    assert type(back) is model
    assert_equal(net, back)
    assert report.neurons == 9
    population = libsonata.CircuitConfig.from_file(tmp_path / "net" / "circuit_config.json").edge_population("units_to_units")
    everything = libsonata.Selection([(0, population.size)])
    weights = population.get_attribute("syn_weight", everything)
    assert sorted(weights) == sorted(net.rec.csr_values().detach().numpy())


def test_sonata_of_a_graph_has_no_settings(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    assert read_sonata_settings(tmp_path / "net") is None
    write_sonata(small(sm.mRNN, tau=77), tmp_path / "net", overwrite=True)
    assert read_sonata_settings(tmp_path / "net" / "nodes.h5").tau == 77
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    with h5py.File(tmp_path / "net" / "nodes.h5", "a") as file:
        file.attrs["sparse_mrnn_simulation"] = '{"tau": "long"}'
    with pytest.raises(ConnectomeError, match="its settings cannot be read"):
        read_sonata_settings(tmp_path / "net")


def test_sonata_killed_between_two_renames(tmp_path):
    write_sonata(small(sm.mRNN), tmp_path / "net")
    (tmp_path / "net").rename(tmp_path / "net.old")
    with pytest.raises(ConnectomeError, match="exists"):
        write_sonata(small(sm.mRNN), tmp_path / "net")
    assert read_sonata(tmp_path / "net")[1].neurons == 9


# ---------------------------------------------------------------- scipy


def test_scipy():
    net = trained()
    matrix = net.to_scipy()
    assert isinstance(matrix, sp.csr_array)
    assert matrix.has_canonical_format
    np.testing.assert_allclose(matrix.toarray(), net.effective_W_rec.to_dense().detach().numpy())
    np.testing.assert_allclose(net.to_scipy(kind="input").toarray(), net.effective_W_inp.to_dense().detach().numpy())
    for regions in ("p", ["free", "inh"], ["inh"]):
        names = [regions] if isinstance(regions, str) else regions
        np.testing.assert_allclose(net.to_scipy(regions=regions).toarray(), net.get_weight_subset(*names).detach().numpy())
    assert net.to_scipy("free", kind="input").shape == (2, 3)
    with pytest.raises(UnknownNameError, match="Did you mean 'free'"):
        net.to_scipy(regions="fre")


def test_scipy_and_back():
    net = small(sm.mRNN)
    g = sm.RegionGraph()
    for region in net.layout().regions:
        g.add_region(region.name, region.n, sign=region.sign, base_firing=region.base_firing, init=region.init, learnable_bias=region.learnable_bias)
    for region in net.layout("input").regions:
        g.add_input(region.name, region.n, sign=region.sign)
    g.add_projections(net.to_scipy())
    inputs, start = net.to_scipy(kind="input"), 0
    for region in net.layout("input").regions:
        for target in net.hid_regions:
            rows = net.unit_indices(target).numpy()
            block = inputs[rows][:, start : start + region.n]
            if block.nnz:
                g.add_projection(region.name, target, weights=block)
        start += region.n
    assert_equal(net, sm.mRNN(g, device="cpu"))


# ---------------------------------------------------------------- networkx and GraphML


def loop(**options):
    """Without inputs, delays and parallel synapses: what the importers of neurons read."""
    g = sm.RegionGraph(name="loop")
    g.add_region("exc", 6, unit_ids=[f"e{k}" for k in range(6)], positions=np.arange(18.0).reshape(6, 3))
    g.add_region("inh", 4, sign="neg")
    for s in ("exc", "inh"):
        for t in ("exc", "inh"):
            g.add_projection(s, t, fan_in=3)
    return sm.mRNN(g, device="cpu", seed=0, **options)


def same_outputs(net, graph):
    """Whether a graph whose units may be in another order computes the same, and has the same gradients."""
    back = sm.mRNN(graph, device="cpu")
    order = torch.tensor([net.unit_ids.index(unit) for unit in back.unit_ids])
    assert sorted(order.tolist()) == list(range(net.layout().n))
    x0 = torch.linspace(-1, 1, 10)[None]
    inp = torch.zeros(1, 12, 0)
    h, again = net(inp, x0)[1], back(inp, x0[:, order])[1]
    torch.testing.assert_close(again, h[..., order], rtol=1e-5, atol=1e-6)
    h.square().sum().backward()
    again.square().sum().backward()
    dense = [torch.zeros(10, 10).index_put((t.row, t.col), part.values.grad.abs()) for part in (net.rec, back.rec) for t in [part.table()]]
    torch.testing.assert_close(dense[1], dense[0][order][:, order], rtol=1e-4, atol=1e-6)


OPTIONS = {"regions": "region", "counts": False, "scale": "none"}


def test_networkx_of_units_and_back():
    net = loop()
    graph = net.to_networkx()
    assert graph.nodes["e2"] == {"region": "exc", "kind": "recurrent", "sign": 1, "x": 6.0, "y": 7.0, "z": 8.0}
    assert graph.nodes["inh[3]"]["sign"] == -1
    weights = nx.to_numpy_array(graph, nodelist=net.unit_ids, weight="weight").T
    np.testing.assert_allclose(weights, net.to_scipy().toarray(), rtol=1e-6)
    same_outputs(net, from_networkx(graph, **OPTIONS)[0])


def test_networkx_keeps_parallel_synapses_inputs_and_delays():
    net = trained()
    graph = net.to_networkx()
    assert graph.number_of_edges() == net.rec.nnz + net.inp.nnz
    assert graph.number_of_nodes() == 12
    assert graph.nodes["cue[1]"]["kind"] == "input"
    assert {data["delay"] for *_, key, data in graph.edges(keys=True, data=True) if key == "gap"} == {15.0}
    assert {key for *_, key in graph.edges(keys=True)} >= {"second", "gap", "default"}


def test_units_of_one_name_in_two_regions():
    g = sm.RegionGraph()
    g.add_region("left", 2, unit_ids=["AVA", "own"])
    g.add_region("right", 1, unit_ids=["AVA"])
    net = sm.mRNN(g, device="cpu")
    assert list(net.to_networkx()) == ["left/AVA", "own", "right/AVA"]
    assert net.unit_ids == ["AVA", "own", "AVA"]
    with pytest.raises(UnknownNameError, match="'AVA' is used in 'left' and 'right'"):
        net.find_unit("AVA")


def test_networkx_of_regions():
    net = loop()
    graph = net.to_networkx(of="regions")
    assert dict(graph.nodes(data=True)) == {"exc": {"kind": "recurrent", "units": 6, "sign": "pos"}, "inh": {"kind": "recurrent", "units": 4, "sign": "neg"}}
    edge = graph.edges["inh", "exc", "default"]
    assert (edge["synapses"], edge["density"]) == (18, 18 / 24)
    assert edge["weight"] == pytest.approx(net.get_projection("exc", "inh").sum().item())
    assert edge["mean_weight"] == pytest.approx(edge["weight"] / 18)
    assert nx.is_strongly_connected(graph)
    with pytest.raises(ConfigError, match="use 'units' or 'regions'"):
        net.to_networkx(of="unit")


def test_graphml_of_units_and_back(tmp_path):
    net = loop()
    for name in ("net.graphml", "net.graphml.gz"):
        write_graphml(net, tmp_path / name)
        graph = nx.read_graphml(tmp_path / name)
        np.testing.assert_allclose(nx.to_numpy_array(graph, nodelist=net.unit_ids, weight="weight").T, net.to_scipy().toarray(), rtol=1e-6)
    same_outputs(net, read_graphml(tmp_path / "net.graphml", **OPTIONS)[0])
    nx.write_graphml(trained().to_networkx(), tmp_path / "plain.graphml")
    nx.write_gexf(nx.DiGraph(loop().to_networkx()), tmp_path / "plain.gexf")


def test_graphml_does_not_fail_on_arrays(tmp_path):
    g = rich_graph()
    g.add_projection("free", "free", rule=sm.FixedNumber(2), initializer=sm.LogNormal(0.2))
    g.nodes["free"]["tau"] = np.float64(3.0)
    for graph in (g, sm.mRNN(g, device="cpu", dt=1).graph, read_celegans()[0]):
        write_graphml(graph, tmp_path / "g.graphml")
        back = nx.read_graphml(tmp_path / "g.graphml", force_multigraph=True)
        assert set(back) == set(graph)
        assert back.number_of_edges() == graph.number_of_edges()
    write_graphml(g, tmp_path / "g.graphml")
    back = nx.read_graphml(tmp_path / "g.graphml", force_multigraph=True)
    assert json.loads(back.nodes["a b"]["sign"]) == [1, -1, 0, 1]
    assert json.loads(back.edges["free", "free", "default"]["rule"]) == {"type": "fixed_number", "number": 2}
    assert back.edges["a b", "a b", "default"]["synapses"] == g.edges["a b", "a b", "default"]["weights"].nnz
    write_graphml(trained(), tmp_path / "regions.graphml", of="regions")
    assert nx.read_graphml(tmp_path / "regions.graphml", force_multigraph=True).nodes["inh"]["units"] == 3
    with pytest.raises(ConversionError, match="cannot write .*No such file"):
        write_graphml(g, tmp_path / "nowhere" / "g.graphml")


# ---------------------------------------------------------------- torch_geometric


class Data:
    """What `torch_geometric.data.Data` is to us: attributes by name."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.fixture
def geometric(monkeypatch):
    package, module = types.ModuleType("torch_geometric"), types.ModuleType("torch_geometric.data")
    module.Data = Data
    monkeypatch.setitem(sys.modules, "torch_geometric", package)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", module)


def test_torch_geometric(geometric):
    net = trained()
    data = net.to_torch_geometric()
    assert data.edge_index.dtype == torch.int64
    assert data.num_nodes == 12
    assert data.is_input.tolist() == [False] * 9 + [True] * 3
    assert data.sign.tolist() == [*net.rec.sign.tolist(), *net.inp.sign.tolist()]
    assert [data.region_names[k] for k in data.region.tolist()][:5] == ["a b"] * 4 + ["inh"]
    source, target = data.edge_index
    dense = torch.zeros(12, 12).index_put((target, source), data.edge_weight, accumulate=True)
    torch.testing.assert_close(dense[:9, :9], net.effective_W_rec.to_dense().detach())
    torch.testing.assert_close(dense[:9, 9:], net.effective_W_inp.to_dense().detach())
    assert not dense[9:].any()
    assert not data.edge_weight.requires_grad
    assert len(data.unit_ids) == 12
    key = [data.projection_names[k] for k in data.projection.tolist()]
    assert key.count(("cue", "free", "default")) == 2


def test_torch_geometric_and_back(geometric):
    net = loop()
    data = net.to_torch_geometric()
    source, target = data.edge_index.numpy()
    g = sm.RegionGraph()
    for k, name in enumerate(data.region_names):
        here = data.region == k
        ids = [data.unit_ids[j] for j in here.nonzero()[:, 0].tolist()]
        g.add_region(name, len(ids), sign=data.sign[here].numpy(), unit_ids=ids)
    g.add_projections(sp.coo_array((data.edge_weight.numpy(), (target, source)), shape=(10, 10)))
    same_outputs(net, g)


def test_torch_geometric_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(MissingExtraError, match="pip install torch_geometric"):
        small(sm.mRNN).to_torch_geometric()


@pytest.mark.filterwarnings("ignore")  # of torch_geometric itself
def test_the_real_torch_geometric():
    pytest.importorskip("torch_geometric")
    data = trained().to_torch_geometric()
    assert data.validate()
    assert (data.num_nodes, data.num_edges, data.is_directed()) == (12, 34, True)


# ---------------------------------------------------------------- torch.export and ONNX


def step_and_example(model):
    """A network, one step of it, and arguments."""
    g = sm.RegionGraph()
    g.add_region("a", 5, base_firing=0.1, learnable_bias=True, init=0.3)
    g.add_region("b", 3, sign="neg", activation="softplus")
    g.add_input("i", 2)
    for source in "abi":
        for target in "ab":
            g.add_projection(source, target, density=0.7)
    net = model(g, activation="tanh", device="cpu", seed=0, dt=10)
    x, h = net.batched_initial_condition(4)
    return net, step_module(net), (x.detach(), h.detach(), torch.rand(4, 2))


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_a_step_is_the_networks(model):
    net, step, (x, h, _) = step_and_example(model)
    inp = torch.rand(4, 6, 2)
    out = net(inp, (x, h)) if model is sm.ElmanmRNN else net(inp, x, h)[1]
    for t in range(6):
        x, h = step(x, h, inp[:, t])
        torch.testing.assert_close(h, out[:, t])


@needs_tracing
def test_a_step_goes_through_torch_export(tmp_path):
    _, step, example = step_and_example(sm.mRNN)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(step, example, dynamic_shapes={name: {0: batch} for name in ("x", "h", "inp")})
    torch.export.save(exported, tmp_path / "step.pt2")
    again = torch.export.load(tmp_path / "step.pt2").module()
    some = tuple(t[:3] for t in example)
    for a, b in zip(again(*some), step(*some), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore")
def test_a_step_goes_through_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    _, step, example = step_and_example(sm.mRNN)
    torch.onnx.export(step, example, tmp_path / "step.onnx", dynamo=True, input_names=["x", "h", "inp"])
    session = runtime.InferenceSession(tmp_path / "step.onnx")
    found = session.run(None, dict(zip(("x", "h", "inp"), (t.detach().numpy() for t in example), strict=True)))
    for a, b in zip(found, step(*example), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-6)


@needs_tracing
def test_a_whole_network_is_not_exported():
    net = loop()
    with pytest.raises(ConversionError, match="cannot be exported; export one step"):
        torch.export.export(net, (torch.zeros(1, 2, 0), torch.zeros(1, 10)))
    with pytest.raises(ConversionError, match="'inh' -> 'free'.* has a delay of 15 ms"):
        step_module(trained())


# ---------------------------------------------------------------- units by name, reports


def test_units_by_name():
    net = sm.mRNN(read_celegans()[0], device="cpu")
    assert len(net.unit_ids) == 302
    region, index = net.find_unit("AVAL")
    assert net[region].unit_ids[index] == "AVAL"
    assert net.unit_ids[net.get_region_indices(region)[0] + index] == "AVAL"
    with pytest.raises(UnknownNameError, match=r"nothing is called 'AVALL'; looked at \d+ regions, .* and the ids of 302 units. Did you mean 'AVAL'"):
        net.find_unit("AVALL")
    plain = small(sm.mRNN)
    assert plain.unit_ids[:5] == ["ctx[0]", "ctx[1]", "ctx[2]", "ctx[3]", "spine[0]"]
    assert plain.find_unit("spine[1]") == ("spine", 1)
    assert plain.find_unit("cue[1]") == ("cue", 1)


def test_a_report_as_a_dictionary():
    report = read_celegans()[1]
    found = json.loads(json.dumps(report.to_dict()))
    assert found["neurons"] == 302
    assert len(found["regions"]) == len(report.regions)
    assert found["regions"][0]["region"] == report.regions[0].region
    assert found["notes"] == list(report.notes)
