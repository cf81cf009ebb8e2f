"""Fields are declared once: signatures, documentation, configurations, files and columns follow the table."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import sparse_mrnn as sm
from sparse_mrnn.checks import option
from sparse_mrnn.declaration.config import Connection, InputRegion, RecurrentRegion
from sparse_mrnn.declaration.projections import PROJECTION_FIELDS
from sparse_mrnn.declaration.regions import INPUT_FIELDS, REGION_FIELDS
from sparse_mrnn.errors import ConfigError, FinalizeError, GraphError
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, NODE_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
WAYS = {"density", "fan_in", "rule", "weights", "initializer", "share", "gain", "bounds"}
"""Arguments of add_projection that are the synapses and their values, not fields of the projection."""


def keywords(method):
    parameters = inspect.signature(method).parameters
    return {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def test_signatures_have_the_fields_and_their_defaults():
    assert keywords(sm.RegionGraph.add_region) == {name: f.default for name, f in REGION_FIELDS.items()}
    assert keywords(sm.RegionGraph.add_input) == {name: f.default for name, f in INPUT_FIELDS.items()}
    given = keywords(sm.RegionGraph.add_projection)
    assert set(given) == WAYS | {"key"} | set(PROJECTION_FIELDS)
    assert all(given[name] == field.default for name, field in PROJECTION_FIELDS.items())


@pytest.mark.parametrize(("method", "names"), [("add_region", REGION_FIELDS), ("add_projection", {**dict.fromkeys(WAYS), **PROJECTION_FIELDS})])
def test_documentation_names_every_field(method, names):
    text = inspect.getdoc(getattr(sm.RegionGraph, method))
    documented = {name for line in re.findall(r"^(\w[\w, ]*) :", text, re.MULTILINE) for name in line.split(", ")}
    assert set(names) <= documented
    keys = (DOCS / "config.md").read_text()
    assert all(f"`{name}`" in keys for name in names)


def test_configurations_and_columns_have_the_fields():
    assert set(RecurrentRegion.model_fields) == {"name", "num_units", *REGION_FIELDS}
    assert set(InputRegion.model_fields) == {"name", "num_units", *INPUT_FIELDS}
    assert set(Connection.model_fields) == {"src_region", "dst_region", "sparsity", "key", *WAYS, *PROJECTION_FIELDS}
    assert {column for field in REGION_FIELDS.values() for column in field.columns} <= set(NODE_COLUMNS)
    assert set(PROJECTION_FIELDS) - set(EDGE_COLUMNS) == {"rank", "kind", "rectifies"}
    assert all(field.doc.endswith(".") for field in (*REGION_FIELDS.values(), *PROJECTION_FIELDS.values()))
    assert REGION_FIELDS["tau"].unit == PROJECTION_FIELDS["delay"].unit == "ms"


MADE_UP = """
import importlib.machinery, sys
from pathlib import Path

PLACE = "    unit_ids: tuple[str, ...] | None = declared("
FIELD = '    capacitance: Values | None = declared(None, Number(0.0, optional=True, by_unit=True, unit="nF"), "Made up.")\\n'

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "sparse_mrnn.declaration.regions":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        source = Path(spec.origin).read_text()
        assert PLACE in source
        changed = compile(source.replace(PLACE, FIELD + PLACE), spec.origin, "exec")
        spec.loader.get_code = lambda _: changed
        return spec

sys.meta_path.insert(0, Finder)
import numpy as np
import sparse_mrnn as sm
from sparse_mrnn.declaration.config import json_schema
from sparse_mrnn.errors import GraphError
from sparse_mrnn.interop import read_sonata, write_sonata

g = sm.RegionGraph()
g.add_region("a", 3, capacitance=[1.0, 2.0, 3.0])
g.add_region("b", 2, capacitance=4)
g.add_region("c", 1)
g.add_projection("a", "b", weights=np.ones((2, 3)))

def values(graph):
    return [np.asarray(graph.region(name).capacitance, dtype=object).tolist() for name in "abc"]

expected = [[1.0, 2.0, 3.0], 4.0, None]
assert values(g) == expected
try:
    g.add_region("d", 1, capacitance=-1)
except GraphError as error:
    assert "capacitance is -1; it must be a finite number of at least 0 nF" in str(error)
else:
    raise AssertionError
assert "capacitance" in json_schema()["$defs"]["RecurrentRegion"]["properties"]
assert values(sm.read_config(sm.to_config(g))) == expected
assert g.region("a").cut(np.array([0, 2])).capacitance.tolist() == [1.0, 3.0]
net = sm.mRNN(g, device="cpu", seed=0)
net.save("net.safetensors")
assert values(sm.load("net.safetensors").graph) == expected
assert values(net.to_graph()) == expected
g.add_node("b", capacitance=5)
other = sm.mRNN(g, device="cpu", seed=0)
assert net.describe() != other.describe()
g.add_node("b", capacitance=4.0)
write_sonata(g, "sonata")
assert values(read_sonata("sonata")[0]) == expected
"""


def test_a_made_up_field_is_declared_in_one_place_and_found_everywhere(tmp_path):
    done = subprocess.run([sys.executable, "-c", MADE_UP], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(tua=3), "unknown field 'tua'. Did you mean 'tau'"),
        (dict(tau=[1, 2]), r"tau is an array of shape \(2,\); it must be a finite number above 0 ms, or 3 of them"),
        (dict(tau=[1, 2, 0]), "tau is an array"),
        (dict(tau=True), "tau is True"),
        (dict(tau="3"), "tau is '3'"),
        (dict(noise_level=[0.1, -1, 0]), "finite number of at least 0, or 3"),
        (dict(tau=[1, 2, 3], learnable_tau=True), "needs one tau for the region.*learnable_tau='unit'"),
        (dict(tau=[20, 30, 500], learnable_tau="unit", tau_bounds=(10, 100)), "tau within"),
        (dict(learnable_tau="units"), "use 'unit', 'region', True .'region'. or False. Did you mean 'unit'"),
        (dict(activation=3), "activation is 3; it must be text"),
        (dict(parent_region=["x"]), "must be text"),
    ],
)
def test_values_that_do_not_fit(given, message):
    with pytest.raises(GraphError, match=message):
        sm.RegionGraph().add_region("a", 3, **given)


def test_names_are_matched_without_case():
    g = sm.RegionGraph()
    g.add_region("a", 2, sign="Pos", activation="ReLU", learnable_bias="Region")
    g.add_projection("a", "a", sign="FREE")
    region = g.region("a")
    assert (region.sign, region.activation, region.learnable_bias) == ("pos", "relu", "region")
    assert next(g.projections()).sign == "free"
    net = sm.mRNN(g, "Tanh", backend="CSR", integrator="Exponential_Euler", device="cpu")
    assert (net.activation.name, net.backend, net.integrator) == ("tanh", "csr", "exponential_euler")
    same = sm.read_config({
        "recurrent_regions": [{"name": "a", "num_units": 2, "sign": "NEG"}],
        "recurrent_connections": [{"src_region": "a", "dst_region": "a", "rule": "All_To_All", "initializer": {"type": "Gamma"}, "sign": "Free"}],
        "simulation": {"model": "Elman", "backend": "Dense", "dtype": "Float64"},
    })
    assert same.region("a").sign == "neg"
    assert next(same.projections()).initializer == sm.Gamma()
    assert option("B", ["a", "b"], "x", ConfigError) == "b"
    for wrong in ("c", None, 3, ["a"]):
        with pytest.raises(ConfigError, match="x is .*; use 'a' or 'b'."):
            option(wrong, ["a", "b"], "x", ConfigError)


def test_density_beside_sparsity():
    net = sm.mRNN(device="cpu", seed=0)
    net.add_recurrent_region("a", 4)
    net.add_input_region("i", 3)
    net.add_recurrent_connection("a", "a", density=0.5)
    net.add_input_connection("i", "a", density=0.25)
    assert [p.rule.density for p in net.graph.projections()] == [0.5, 0.25]
    with pytest.raises(ConfigError, match="the same number; give one"):
        net.add_recurrent_connection("a", "a", 0.5, density=0.5, key="other")


def test_a_name_shared_by_an_input_and_a_recurrent_projection_is_refused():
    g = sm.RegionGraph()
    g.add_region("a", 2)
    g.add_input("i", 2)
    g.add_projection("a", "a", weights=np.ones((2, 2)), share="k")
    with pytest.raises(GraphError, match="kind of source differ: input and recurrent"):
        g.add_projection("i", "a", weights=np.ones((2, 2)), share="k")
    with pytest.raises(GraphError, match="gain differ: 2.0 and 1.0"):
        g.add_projections(np.ones((2, 2)), key="other", share="k", gain=2.0)


class TestNetworkxMethods:
    """networkx's own ways to add nodes and edges are those of the graph, or are refused."""

    @pytest.fixture
    def g(self):
        g = sm.RegionGraph()
        g.add_region("a", 3, parent_region="all", noise_level=0.2)
        g.add_input("i", 2)
        g.add_projection("i", "a")
        return g

    def test_add(self, g):
        g.add_node("b", n=2, sign="neg")
        g.add_nodes_from([("c", {"n": 4}), ("j", {"kind": "input"})], n=1)
        assert [(r.name, r.n, r.kind) for r in map(g.region, g)] == [
            ("a", 3, "recurrent"), ("i", 2, "input"), ("b", 2, "recurrent"), ("c", 4, "recurrent"), ("j", 1, "input"),
        ]
        assert g.add_edge("a", "b", density=0.5) == "default"
        assert g.add_edges_from([("b", "a"), ("b", "a", "second"), ("a", "c", {"fan_in": 2}), ("c", "c", "x", {"delay": 20})]) == [
            "default", "second", "default", "x",
        ]
        assert [p.expected_synapses for p in g.projections() if p.target == "c"] == [8, 16]
        g.update(edges=[("c", "a")], nodes=[("d", {"n": 1})])
        assert g.has_edge("c", "a", "default")
        assert g.region("d").n == 1

    def test_change(self, g):
        g.add_node("a", tau=[10, 20, 30])
        assert g.region("a").tau.tolist() == [10, 20, 30]
        assert (g.region("a").noise_level, g.region("a").parent_region) == (0.2, "all")
        with pytest.raises(GraphError, match="tau is -1"):
            g.add_node("a", tau=-1)
        with pytest.raises(GraphError, match="has projections; replace it by a region of kind 'input' and 2 units"):
            g.add_node("i", n=4)
        assert g.region("a").tau.tolist() == [10, 20, 30]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda g: g.add_node("x"), r"no number of units; use add_region\(name, n\) or add_input"),
            (lambda g: g.add_nodes_from("xy"), "no number of units"),
            (lambda g: g.add_node("x", n=0), "number of units is 0"),
            (lambda g: g.add_node("x", n=2, colour="red"), "unknown field 'colour'"),
            (lambda g: g.add_edge("a", "i"), "'i' is an input"),
            (lambda g: g.add_edge("i", "a"), "exists already"),
            (lambda g: g.add_edges_from([("a", "a", {"density": 0.1, "fan_in": 2})]), "exclude each other"),
            (lambda g: g.add_edge("a", "a", weight=2.0), r"a weight for each synapse; use add_projection"),
            (lambda g: g.add_weighted_edges_from([("a", "a", 2.0)]), r"weights=..."),
            (lambda g: g.update(edges=[("a", "i")]), "'i' is an input"),
        ],
    )
    def test_refused(self, g, change, message):
        before = dict(g.nodes(data=True)), list(g.edges(keys=True))
        with pytest.raises(GraphError, match=message):
            change(g)
        assert (dict(g.nodes(data=True)), list(g.edges(keys=True))) == before

    def test_networkx_makes_what_it_makes(self, g):
        g.add_projection("a", "a", weights=np.eye(3), share="target")
        copies = g.copy(), sm.RegionGraph(g), nx.relabel_nodes(g, {"a": "b"}), nx.compose(g, sm.RegionGraph()), g.edge_subgraph(g.edges).copy()
        for same in copies:
            assert type(same) is sm.RegionGraph
            assert same.n_units == 3
            assert same.number_of_edges() == 2
            assert next(p for p in same.projections("recurrent")).share.by == "target"
        moved = nx.relabel_nodes(g.copy(), {"a": "b"}, copy=False)
        assert moved.region("b").noise_level == 0.2
        assert type(nx.from_edgelist(g.edges())) is nx.Graph
        frozen = nx.freeze(g.copy())
        with pytest.raises(nx.NetworkXError):
            frozen.add_node("x", n=2)
        with pytest.raises(FinalizeError):
            frozen.add_region("x", 2)
        turned = g.reverse()
        with pytest.raises(GraphError, match="'a' -> 'i' ends in an input"):
            list(turned.projections())
