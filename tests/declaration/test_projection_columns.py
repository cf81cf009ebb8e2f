"""Projections in columns: the same graph as networkx' dictionaries, and nothing made of each until it is asked for."""

import copy
import pickle

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import sparse_mrnn as sm
from sparse_mrnn.declaration import projection_columns
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.projection_columns import ProjectionColumns, ProjectionNames
from sparse_mrnn.errors import GraphError, WeightError
from sparse_mrnn.interop import read_sonata, write_sonata
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.simulation import simulate
from sparse_mrnn.state.describe import describe, synapse_digests
from sparse_mrnn.training import freeze


def declared(seed, *, filled):
    """A graph of single projections and matrices in turn; ``filled``: networkx has its dictionaries from the start."""
    rng = np.random.default_rng(seed)
    g = RegionGraph(name="both")
    if filled:
        assert len(g.adj) == 0
    sizes, names = rng.integers(1, 6, 6), rng.permutation(list("abcdef"))
    for name, n in zip(names, sizes, strict=True):
        g.add_region(str(name), int(n), sign=None)
    g.add_input("cue", 2)
    units = int(sizes.sum())
    for step in range(6):
        if rng.random() < 0.5:
            density = rng.choice([0.05, 0.3])
            matrix = sp.random_array((units, units), density=density, random_state=rng, data_sampler=rng.standard_normal)
            share = rng.choice([None, "projection", "source", "one name"])
            trainable = share == "one name" or bool(rng.random() < 0.5)
            g.add_projections(matrix.tocsr(), key=f"m{step}", share=share, trainable=trainable)
        source, target = rng.choice([*map(str, names), "cue"]), str(rng.choice(names))
        way = [{"density": 0.5}, {"fan_in": 1}, {"weights": np.ones((g.region(target).n, g.region(source).n))}][step % 3]
        g.add_projection(source, target, key=f"s{step}", delay=[None, 20.0][step % 2], trainable=step % 3 == 0, **way)
        if step == 3:
            g.add_region("late", 2, sign=None)
            units += 2
            g.add_projection("late", "late")
    return g


def edges(g):
    return [(*edge[:3], sorted(edge[3])) for edge in g.edges(keys=True, data=True)]


def answers(g):
    """What a graph says of itself without networkx' dictionaries."""
    names = [(p.source, p.target, p.key, p.delay, p.trainable, p.expected_synapses) for p in g.projections()]
    matrices = []
    for kind in ("recurrent", "input"):
        found = lower(g, kind, 0)
        matrices.append([np.asarray(part).tolist() for part in (found.ptr, found.values, found.crow, found.col, found.group)])
        matrices.append([found.gains.names, found.extents().tolist(), [(p.source, p.target, p.key) for p in found.blocks]])
    return names, matrices, g.summary(), describe(g, {}), synapse_digests(g), g.number_of_edges()


@pytest.mark.parametrize("seed", range(8))
def test_columns_say_what_the_dictionaries_of_networkx_say(seed):
    columns, filled = declared(seed, filled=False), declared(seed, filled=True)
    assert columns._declared is not None
    assert filled._declared is None
    found = answers(columns)
    assert columns._declared is not None
    assert found == answers(filled)
    for name in edges(filled):
        assert columns.has_edge(*name[:3])
    assert not columns.has_edge("a", "b", "none")
    assert not columns.has_edge("nowhere", "b", "m0")
    for copied in (columns.copy(), copy.deepcopy(columns), pickle.loads(pickle.dumps(columns))):
        assert copied._declared is not None
        assert answers(copied) == found
        assert edges(copied) == edges(filled)
    assert edges(columns) == edges(filled)  # from here on the dictionaries are the graph
    assert columns._declared is None
    assert answers(columns) == found
    assert dict(columns.in_degree) == dict(filled.in_degree)
    assert nx.to_numpy_array(columns).tolist() == nx.to_numpy_array(filled).tolist()
    assert edges(RegionGraph(columns)) == edges(filled)
    block = next(data["weights"] for *_, data in columns.edges(data=True) if "weights" in data)
    assert block.tocsr().nnz == block.nnz


def test_a_change_through_networkx_is_the_graphs():
    g = declared(0, filled=False)
    before = g.copy()
    name = next(iter(g.edges(keys=True)))
    g.edges[name]["delay"] = 35.0
    assert next(p for p in g.projections() if (p.source, p.target, p.key) == name).delay == 35.0
    g.remove_edge(*name)
    assert not g.has_edge(*name)
    assert before.has_edge(*name)
    assert before.edges[name].get("delay") != 35.0
    g.add_projections(sp.eye_array(g.n_units).tocsr(), key="last")  # into the dictionaries
    assert sum(key == "last" for *_, key in g.edges(keys=True)) == len(g.regions())
    with pytest.raises(GraphError, match="replace it by a region"):
        before.add_node(name[0], n=77)


@pytest.mark.parametrize("filled", [False, True])
def test_projections_that_exist_are_refused_whole(filled):
    g = RegionGraph()
    if filled:
        assert not g.adj
    g.add_region("a", 1, sign=None)
    g.add_region("b", 1, sign=None)
    g.add_projection("b", "a", key="k")
    with pytest.raises(GraphError, match=r"projection 'b' -> 'a' \(key 'k'\) exists already"):
        g.add_projections(np.ones((2, 2)), key="k")
    assert g.number_of_edges() == 1
    g.add_projections(np.array([[1.0, 0], [1, 1]]), key="k")
    with pytest.raises(GraphError, match=r"projection 'a' -> 'b' \(key 'k'\) exists already"):
        g.add_projection("a", "b", key="k")
    twice = ProjectionColumns.of_edges([("a", "b", "x", {}), ("a", "b", "x", {})], {"a": 0, "b": 1})
    with pytest.raises(GraphError, match="exists already"):
        g.add_columns(twice)
    with pytest.raises(WeightError, match="not finite"):
        g.add_projections(np.full((2, 2), np.nan), key="new")
    assert list(g.edges(keys=True)) == [("a", "a", "k"), ("a", "b", "k"), ("b", "a", "k"), ("b", "b", "k")]


def test_names_sort_as_python_sorts_them():
    rng = np.random.default_rng(1)
    regions, keys = ("b", "B", "ä", "a b", "", "10", "9"), ("z", "default", "Z")
    columns = [rng.integers(0, n, 50).astype(np.int32) for n in (7, 7, 3)]
    names = ProjectionNames(regions, keys, *columns)
    assert [names[k] for k in names.alphabetical()] == sorted(names.tuples)
    alone = names.take(np.unique(names.codes(), return_index=True)[1])
    order = rng.permutation(len(alone))
    others = alone.take(order)
    assert [others[k] for k in alone.places_in(others)] == list(alone.tuples)


def test_nothing_is_made_of_each_projection(tmp_path, monkeypatch):
    """From a matrix by cell type to a network, its files and a simulation: neither objects nor dictionaries."""
    rng = np.random.default_rng(0)
    g = RegionGraph()
    types = 60
    for k in range(types):
        g.add_region(f"type {k}", 3, sign=None)
    g.add_input("cue", 1)
    g.add_projection("cue", "type 0")
    matrix = sp.random_array((3 * types, 3 * types), density=0.7, random_state=rng, data_sampler=rng.standard_normal)
    g.add_projections(0.01 * matrix.tocsr())
    made = []

    class Counted(projection_columns.Projection):
        def __init__(self, *args, **given):
            made.append(args[:3])
            super().__init__(*args, **given)

    def refused(self):
        raise AssertionError("networkx' dictionaries were asked for")

    monkeypatch.setattr(projection_columns, "Projection", Counted)
    monkeypatch.setattr(RegionGraph, "_fill_dictionaries", refused)
    count = g.number_of_edges()
    assert count > 2500
    net = sm.mRNN(g, device="cpu", seed=0)
    assert str(g)
    assert net.memory_estimate().total > 0
    write_sonata(g, tmp_path / "sonata", seed=0)
    back, report = read_sonata(tmp_path / "sonata")
    assert (back.number_of_edges(), report.projections) == (count, count)
    net.save(tmp_path / "net.safetensors")
    loaded = sm.load(tmp_path / "net.safetensors", device="cpu")
    assert loaded.to_graph().number_of_edges() == count
    simulate(loaded, steps=2, out=tmp_path / "recording", progress=False)
    freeze(loaded, "type 3", "type 4")
    assert len(made) < 20
    monkeypatch.undo()
    assert len(list(loaded.graph.projections())) == count
