"""RegionGraph: declaring, networkx, errors."""

import io

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from rich.console import Console

import sparse_mrnn as sm
from sparse_mrnn.errors import ConnectivityError, GraphError, UnknownNameError, WeightError
from sparse_mrnn.lowering.lower import lower


@pytest.fixture
def g():
    g = sm.RegionGraph(name="motor")
    g.add_region("thal", 5, parent_region="brain", unit_ids=list("abcde"))
    g.add_region("ctx", 4, sign="neg", parent_region="brain")
    g.add_region("free", 2, sign=None)
    g.add_input("cue", 3)
    g.add_projection("thal", "ctx", density=0.5)
    g.add_projection("thal", "ctx", fan_in=2, key="second", trainable=False)
    g.add_projection("ctx", "ctx", self_connections=False)
    g.add_projection("cue", "thal")
    return g


def test_networkx_algorithms_copies_and_views(g):
    assert isinstance(g, nx.MultiDiGraph)
    assert set(nx.descendants(g, "cue")) == {"thal", "ctx"}
    for same in (g.copy(), nx.relabel_nodes(g, {}), g.subgraph(g.nodes)):
        assert isinstance(same, sm.RegionGraph)
        assert lower(same, seed=0).col.tolist() == lower(g, seed=0).col.tolist()
    part = g.subgraph(["thal", "cue"])
    assert (part.n_units, part.n_inputs) == (5, 3)
    assert [p.source for p in part.projections()] == ["cue"]
    copied = g.copy()
    copied.add_region("new", 1)
    assert "new" not in g


def test_networkx_writers(g):
    out = io.BytesIO()
    g2 = g.copy()
    del g2.nodes["thal"]["unit_ids"]  # GraphML has scalars only
    nx.write_graphml(g2, out)
    assert b"brain" in out.getvalue()


def test_relabel_keeps_parents():
    g = sm.RegionGraph()
    g.add_region("a", 2)
    g.add_region("b", 2, parent_region="a")
    assert g.relabel({"a": "A"}).members("A") == ["A", "b"]


def test_members_are_in_unit_order(g):
    assert g.members("brain") == ["thal", "ctx"]
    assert g.members("thal") == ["thal"]


def test_summary(g):
    text = str(g)
    assert text.splitlines()[0] == "RegionGraph 'motor': 11 units, 3 inputs, 4 projections"
    assert "brain" in text
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(g)
    assert "synapses" in console.export_text()
    assert "0 units" in str(sm.RegionGraph())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g.add_projection("thall", "ctx"), UnknownNameError, "unknown source region 'thall'. Did you mean 'thal'"),
        (lambda g: g.add_projection("thal", "cxt"), UnknownNameError, "Did you mean 'ctx'"),
        (lambda g: g.add_projection("brain", "ctx"), UnknownNameError, "parent that only groups 'thal', 'ctx'"),
        (lambda g: g.region("x"), KeyError, "unknown region 'x'"),
        (lambda g: g.members("brian"), KeyError, "Did you mean 'brain'"),
        (lambda g: g.add_region("thal", 3), GraphError, "'thal' exists already"),
        (lambda g: g.add_input("thal", 3), GraphError, "exists already"),
        (lambda g: g.add_projection("thal", "ctx"), GraphError, None),
        (lambda g: g.add_projection("thal", "ctx", key="second"), GraphError, "key 'second'.* exists already"),
        (lambda g: g.add_region("brain", 3, parent_region="ctx"), GraphError, "cycle: brain -> ctx -> brain"),
        (lambda g: g.add_region("x", 3, parent_region="cue"), GraphError, "is an input"),
        (lambda g: g.add_region("x", 0), ValueError, "number of units is 0"),
        (lambda g: g.add_region("x", 2.5), ValueError, "number of units is 2.5"),
        (lambda g: g.add_region("", 2), GraphError, "non-empty"),
        (lambda g: g.add_region("x", 2, sign="positive"), GraphError, "sign is 'positive'"),
        (lambda g: g.add_region("x", 2, sign=[1, 2]), GraphError, "2 values"),
        (lambda g: g.add_region("x", 2, base_firing=[1, 2, 3]), GraphError, "base_firing"),
        (lambda g: g.add_region("x", 2, init=float("nan")), GraphError, "init"),
        (lambda g: g.add_region("x", 2, tau=0), GraphError, "tau is 0"),
        (lambda g: g.add_region("x", 2, unit_ids=["a", "a"]), GraphError, "2 different names"),
        (lambda g: g.add_region("x", 2, positions=[[0, 0]]), GraphError, "positions"),
        (lambda g: g.add_projection("ctx", "cue"), GraphError, "'cue' is an input"),
        (lambda g: g.add_projection("ctx", "thal", density=1.5), ConnectivityError, "'ctx' -> 'thal'.*density is 1.5"),
        (lambda g: g.add_projection("ctx", "thal", density=float("nan")), ConnectivityError, "'ctx' -> 'thal'.*density is nan"),
        (lambda g: g.add_projection("ctx", "thal", density=True), ConnectivityError, "density is True"),
        (lambda g: g.add_projection("ctx", "thal", fan_in=2.7), ConnectivityError, "'ctx' -> 'thal'.*fan_in is 2.7; it must be a whole number"),
        (lambda g: g.add_projection("ctx", "thal", fan_in=True), ConnectivityError, "fan_in is True"),
        (lambda g: g.add_projection("ctx", "thal", trainable="no"), GraphError, "trainable is 'no'; use True or False"),
        (lambda g: g.add_projection("ctx", "thal", self_connections=2), GraphError, "self_connections is 2"),
        (lambda g: g.add_projection("ctx", "thal", fan_in=5), ConnectivityError, "fan_in is 5, but there are 4"),
        (lambda g: g.add_projection("ctx", "thal", fan_in=-1), ConnectivityError, "fan_in is -1"),
        (lambda g: g.add_projection("ctx", "thal", density=0.1, fan_in=2), GraphError, "density and fan_in exclude"),
        (lambda g: g.add_projection("ctx", "thal", sign="up"), GraphError, "sign is 'up'"),
        (lambda g: g.add_projection("ctx", "thal", rule=sm.OneToOne()), ConnectivityError, "one size"),
        (lambda g: g.add_projection("ctx", "thal", rule=sm.FixedNumber(21)), ConnectivityError, "20 possible"),
        (lambda g: g.add_projection("ctx", "thal", rule=sm.DistanceDependent(1.0)), ConnectivityError, "no positions"),
        (lambda g: g.add_projection("ctx", "thal", weights=np.ones((4, 5))), WeightError, "looks transposed"),
        (lambda g: g.add_projection("ctx", "thal", weights=np.ones(4)), WeightError, "2 dimensions"),
        (lambda g: g.add_projection("ctx", "thal", weights=np.full((5, 4), np.nan)), WeightError, "not finite"),
        (lambda g: g.add_projection("ctx", "thal", weights=-np.inf * np.ones((5, 4))), WeightError, "from unit 0 to unit 0"),
        (lambda g: g.add_projection("ctx", "thal", weights=np.ones((5, 4))), WeightError, "inhibitory unit 0"),
        (lambda g: g.add_projection("ctx", "ctx", key="w", weights=-np.eye(4), self_connections=False), WeightError, "self"),
    ],
)
def test_bad_input(g, call, error, message):
    if message is None:  # the first projection has the default key
        g.remove_edge("thal", "ctx", "default")
        call(g)
        message = "exists already"
    before = g.number_of_edges(), g.number_of_nodes()
    with pytest.raises(error, match=message):
        call(g)
    assert (g.number_of_edges(), g.number_of_nodes()) == before


def test_explicit_weights_from_arrays_scipy_and_networkx():
    w = np.array([[0, 2.0], [3.0, 0], [0, 0]])
    net = nx.DiGraph()
    net.add_weighted_edges_from([("v", "x", 2.0), ("u", "y", 3.0)])
    for weights in (w, w.tolist(), sp.coo_array(w), sp.csc_matrix(w), net):
        g = sm.RegionGraph()
        g.add_region("s", 2, unit_ids=["u", "v"])
        g.add_region("t", 3, unit_ids=["x", "y", "z"])
        g.add_projection("s", "t", weights=weights)
        block = lower(g)
        assert block.values.tolist() == [2, 3]
        assert block.col.tolist() == [1, 0]
        assert block.crow.tolist() == [0, 0, 0, 1, 2, 2]
    net.add_edge("u", "q")
    with pytest.raises(WeightError, match="'q' is not a unit of the target"):
        g.add_projection("s", "t", weights=net, key="again")


def test_a_node_without_units_is_named():
    g = nx.empty_graph(["bare"], create_using=sm.RegionGraph)
    with pytest.raises(GraphError, match="'bare' has no number of units"):
        lower(g)


def test_add_projections_splits_a_matrix_as_single_projections_would():
    rng = np.random.default_rng(0)
    w = sp.random_array((9, 9), density=0.4, random_state=rng, data_sampler=rng.standard_normal).tocsr()
    at = [0, 2, 6, 9]
    whole, single = sm.RegionGraph(), sm.RegionGraph()
    for g in (whole, single):
        for name, n in zip("abc", np.diff(at), strict=True):
            g.add_region(name, int(n), sign=None)
        g.add_input("cue", 2)
    whole.add_projections(w, key="k", trainable=False)
    for j, source in enumerate("abc"):
        for i, target in enumerate("abc"):
            block = w[at[i] : at[i + 1], at[j] : at[j + 1]]
            if block.nnz:
                single.add_projection(source, target, weights=block, key="k", trainable=False)
    assert list(whole.edges(keys=True)) == list(single.edges(keys=True))
    a, b = lower(whole, dtype=np.float64), lower(single, dtype=np.float64)
    for name in ("ptr", "values", "crow", "col", "perm"):
        assert (getattr(a, name) == getattr(b, name)).all()
    assert whole.copy().summary() == single.summary()
    with pytest.raises(GraphError, match=r"\(key 'k'\) exists already"):
        whole.add_projections(w, key="k")
    with pytest.raises(WeightError, match="conflict with the source's sign"):
        whole.add_projections(w, key="other", sign="pos")
    with pytest.raises(WeightError, match=r"weights have shape \(2, 2\), expected \(target, source\) = \(9, 9\)"):
        whole.add_projections(np.ones((2, 2)), key="other")
    assert whole.number_of_edges() == single.number_of_edges()
