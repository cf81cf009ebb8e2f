"""Names that cannot be misread: one meaning each, and mRNNTorch's kept exactly."""

import inspect
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import FinalizeError, GraphError, RecordingError, SpectralError, UnknownNameError
from sparse_mrnn.simulation import build_network


def two_regions():
    """Regions of one size, so that a mistaken direction has the right shape."""
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_region("b", 3, sign="neg")
    g.add_projection("a", "b", initializer=sm.Constant(1.0))
    g.add_projection("b", "a", initializer=sm.Constant(2.0))
    g.add_projection("b", "b", key="own", initializer=sm.Constant(3.0))
    return g


def test_top_level_has_what_a_user_needs():
    names = {"simulate", "Stimulus", "Record", "Lesion", "Clamp", "Gain", "open_recording", "spectral_search"}
    from sparse_mrnn.declaration.connectivity import RULES
    from sparse_mrnn.declaration.initializers import INITIALIZERS

    names |= {c.__name__ for c in (*RULES.values(), *INITIALIZERS.values())}
    assert names <= set(sm.__all__)
    assert inspect.isfunction(sm.simulate)
    assert all(hasattr(sm, name) for name in sm.__all__)


def test_names_are_imported_when_they_are_used():
    """Neither the package nor --help waits for torch; every name and package is an attribute."""
    code = """import sys
import sparse_mrnn
import sparse_mrnn.cli
assert not {"torch", "scipy", "networkx", "pydantic", "numpy"} & set(sys.modules), "imported too early"
assert set(sparse_mrnn.__all__) <= set(dir(sparse_mrnn))
for name in (*sparse_mrnn.__all__, "training", "analysis", "plot", "connectome", "tasks", "fly_vision", "distributed"):
    getattr(sparse_mrnn, name)
from sparse_mrnn import *
print(mRNN.__name__)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "mRNN", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'lower'"):
        sm.lower  # noqa: B018


def test_projection_values_takes_keywords_only():
    net = sm.mRNN(two_regions(), device="cpu")
    assert net.rec.projection_values(source="a", target="b").tolist() == [1.0] * 9
    assert net.rec.projection_values(source="b", target="b", key="own").tolist() == [3.0] * 9
    with pytest.raises(TypeError):
        net.rec.projection_values("a", "b")
    with pytest.raises(UnknownNameError, match=r"no projection 'b' -> 'b' with key 'default' \(keys there: 'own'\)"):
        net.rec.projection_values(source="b", target="b")
    assert not hasattr(net.rec, "projection")
    assert (net.get_projection(to="b", from_="a") == 1).all()


def test_projections_by_number():
    net = sm.mRNN(two_regions(), device="cpu")
    kind, found = net.projections("b", "b")
    assert (kind, [net.rec.projections[k] for k in found]) == ("recurrent", [("b", "b", "own")])
    assert net.projections("a", "a")[1] == ()


def test_weights_know_what_they_are():
    g = two_regions()
    g.add_input("i", 2)
    g.add_projection("i", "a")
    net = sm.mRNN(g, device="cpu", inp_constrained=False)
    rec, inp = net.weight_matrices()
    assert (rec.kind, rec.constrained, rec.sources.n, rec.targets.n) == ("recurrent", True, 6, 6)
    assert (inp.kind, inp.constrained, inp.sources.n, inp.targets.n) == ("input", False, 2, 6)
    before = net.effective_W_rec.to_dense().detach()
    net.rec_constrained = False
    assert not rec.constrained
    assert not torch.equal(net.effective_W_rec.to_dense(), before)
    assert (rec.trainable_projections, rec.values.numel()) == (3, 27)


@pytest.mark.parametrize("sign", ["inherit", "pos", "neg", "free"])
def test_the_sign_of_a_projection_is_stored_as_it_is_given(sign, tmp_path):
    g = two_regions()
    g.add_projection("a", "a", sign=sign)
    assert g.edges["a", "a", "default"].get("sign", "inherit") == sign
    assert next(p for p in g.projections() if (p.source, p.target) == ("a", "a")).sign == sign
    back = sm.read_config(sm.to_config(g))
    assert back.edges["a", "a", "default"].get("sign", "inherit") == sign
    plain = sm.RegionGraph()
    plain.add_region("a", 3)
    plain.add_projection("a", "a", density=0.5, sign=sign)
    nx.write_graphml(plain, tmp_path / "g.graphml")


def test_a_sign_of_none_is_refused():
    with pytest.raises(GraphError, match="use 'inherit', 'pos', 'neg' or 'free'"):
        two_regions().add_projection("a", "a", sign=None)


def test_one_unit_id_is_one_unit():
    assert sm.Stimulus("a", 1.0, units="AVAL").units == ("AVAL",)
    assert sm.Lesion("a", units="AVAL").units == ("AVAL",)
    assert sm.Record(units="AVAL").units == ("AVAL",)


def test_the_graph_of_a_finalised_network_is_read_only():
    g = two_regions()
    net = sm.mRNN(g, device="cpu")
    for change in (
        lambda: net.graph.add_region("c", 2),
        lambda: net.graph.add_input("c", 2),
        lambda: net.graph.add_projection("a", "a"),
        lambda: net.graph.add_projections(np.eye(6)),
    ):
        with pytest.raises(FinalizeError, match="read-only"):
            change()
    with pytest.raises(nx.NetworkXError, match="[Ff]rozen"):
        net.graph.remove_node("a")
    g.add_region("c", 2)  # the one it was made from is not touched
    copy = net.graph.copy()
    copy.add_region("c", 2)
    assert net.graph.number_of_nodes() == 2


def test_one_mode_of_writing(tmp_path):
    net, out = sm.mRNN(two_regions(), device="cpu", seed=0), tmp_path / "run.zarr"
    sm.simulate(net, 50, out=out, mode="resume")  # there is none: it begins
    with pytest.raises(RecordingError, match="mode='overwrite'"):
        sm.simulate(net, 50, out=out)
    sm.simulate(net, 50, out=out, mode="overwrite")
    with pytest.raises(RecordingError, match=r"mode is 'append'; use 'create', 'overwrite' or 'resume'"):
        sm.simulate(net, 50, out=out, mode="append")
    with pytest.raises(RecordingError, match="give its path as out"):
        sm.simulate(net, 50, mode="resume")
    parameters = inspect.signature(sm.simulate).parameters
    assert {"mode", "checkpoint_seconds"} <= set(parameters)
    assert not {"overwrite", "resume", "checkpoint_every"} & set(parameters)


def test_spectral_functions_return_one_type():
    w = np.array([[0.0, 4.0], [1.0, 0.0]])
    assert isinstance(sm.spectral_radius(w), float)
    assert isinstance(sm.spectral_abscissa(w), float)
    assert isinstance(sm.spectral_search(w), sm.SpectralResult)
    with pytest.raises(TypeError):
        sm.spectral_radius(w, return_result=True)


@pytest.mark.parametrize("regions", [None, "a", ["a", "b"]])
def test_scale_spectral_radius_in_place(regions):
    g = sm.RegionGraph()
    for name, sign in (("a", "pos"), ("b", "neg")):
        g.add_region(name, 20, sign=sign)
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t, density=0.5, trainable=s == t)
    net = sm.mRNN(g, device="cpu", seed=0, dtype=torch.float64)
    before = net.effective_W_rec.to_dense().detach()
    factor = net.scale_spectral_radius_(0.7, regions=regions)
    after = net.effective_W_rec.to_dense().detach()
    assert sm.spectral_radius(net, **({} if regions is None else {"regions": regions})) == pytest.approx(0.7, rel=1e-3)
    inside = torch.zeros(40, 40, dtype=torch.bool)
    n = 20 if regions == "a" else 40
    inside[:n, :n] = True
    torch.testing.assert_close(after, torch.where(inside, before * factor, before))
    with pytest.raises(SpectralError, match="names? one|regions is empty"):
        net.scale_spectral_radius_(0.7, regions=[])
    with pytest.raises(SpectralError, match="positive"):
        net.scale_spectral_radius_(-1)


def test_set_spectral_radius_changes_nothing_in_place():
    net = sm.mRNN(two_regions(), device="cpu", spectral_radius=0.5)
    net.spectral_radius = 0.9
    before = net.rec.values.detach().clone()
    scaled = net.set_spectral_radius(net.effective_W_rec)
    assert torch.equal(net.rec.values, before)
    assert sm.spectral_radius(scaled) == pytest.approx(0.9, rel=1e-3)


def test_weight_subset_is_in_unit_order_as_in_mrnntorch():
    net = sm.mRNN(two_regions(), device="cpu")
    whole = net.effective_W_rec.to_dense()
    assert torch.equal(net.get_weight_subset(), whole)
    assert torch.equal(net.get_weight_subset("b", "a"), net.get_weight_subset("a", "b"))
    assert torch.equal(net.get_weight_subset("b", "a"), whole)
    states = torch.arange(6.0)
    assert net.get_region_activity(states, "b", "a").tolist() == [3, 4, 5, 0, 1, 2]  # this one as asked, there too


def test_build_network_and_records_under_their_names():
    config = sm.load_config({"recurrent_regions": [{"name": "a", "num_units": 3}], "simulation": {"model": "elman"}})
    assert config.simulation is not None
    assert isinstance(build_network(sm.read_config(config), config.simulation, "cpu"), sm.ElmanmRNN)
    assert config.simulation.record.to_record() == sm.Record()
