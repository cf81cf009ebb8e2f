"""Null models of a graph: each keeps what it says, exactly, and draws what is left evenly."""

from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn.data import example_path
from sparse_mrnn.declaration import shuffling
from sparse_mrnn.declaration.config import read_config
from sparse_mrnn.errors import GraphError


def graph_of(seed, sizes=(15, 18, 11), density=0.3, counts=True, **more):
    """Regions of mixed, positive and no sign; parallel projections; some synapses of units onto themselves."""
    rng = np.random.default_rng(seed)
    g = sm.RegionGraph()
    for k, n in enumerate(sizes):
        sign = (rng.choice([-1, 1], n), "pos", None)[k % 3]
        g.add_region(f"r{k}", n, sign=sign, positions=rng.random((n, 2)))
    g.add_input("u", 4)
    g.add_projection("u", "r0", density=0.5)
    for source in g.regions():
        for target in g.regions():
            for key in ("default", "other"):
                mask = rng.random((target.n, source.n)) < density
                size = rng.integers(1, 4, mask.shape) if counts else rng.random(mask.shape) + 0.1
                sign = np.where(source.unit_signs == 0, rng.choice([-1, 1], mask.shape), source.unit_signs)
                g.add_projection(source.name, target.name, key=key, weights=mask * size * sign * 1.0, **more)
    return g


def matrices(graph):
    """Each recurrent projection as a dense matrix; a doubled synapse fails."""
    found = {}
    for p in graph.projections("recurrent"):
        rows, cols, values = p.synapses.coordinates(slice(0, p.synapses.nnz)) if not sp.issparse(p.synapses) else sp.find(p.synapses)
        assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == len(rows), "doubled"
        order = np.lexsort((cols, rows))
        assert sp.issparse(p.synapses) or (order == np.arange(len(rows))).all(), "not row-major"
        dense = np.zeros(p.synapses.shape)
        dense[rows, cols] = values
        found[p.source, p.target, p.key] = dense
    return found


def load_celegans():
    return read_config(str(example_path("celegans")))


def signs(w):
    return (w > 0).astype(int) - (w < 0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["degrees", "signs", "weights", "geometry", "blocks"]), st.sampled_from([0.15, 0.5]))
def test_each_keeps_what_it_says(seed, keep, density):
    g = graph_of(seed, density=density)
    before, after = matrices(g), matrices(g.shuffled(keep, seed))
    assert before.keys() == after.keys()
    changed = sum((a != b).any() for a, b in zip(before.values(), after.values(), strict=True))
    assert changed > (0 if keep == "geometry" else len(before) / 2)
    for name, w in before.items():
        v = after[name]
        assert sorted(w[w != 0]) == sorted(v[v != 0])
        if name[0] == name[1]:
            assert (np.diag(w) == np.diag(v)).all()
        source = g.region(name[0]).unit_signs
        assert (v * source >= 0).all()
        assert [(w != 0)[:, source == s].sum() for s in (-1, 0, 1)] == [(v != 0)[:, source == s].sum() for s in (-1, 0, 1)]
        if keep == "blocks":
            continue
        assert ((w != 0).sum(1) == (v != 0).sum(1)).all()
        for j in range(w.shape[1]):  # each source keeps its weights
            assert sorted(w[:, j]) == sorted(v[:, j])
        if keep == "signs":
            for sign in (-1, 1):
                assert ((signs(w) == sign).sum(1) == (signs(v) == sign).sum(1)).all()
        if keep == "weights":
            for i in range(w.shape[0]):
                assert sorted(w[i]) == sorted(v[i])
    if keep == "geometry":
        old, new = in_bins(lengths(g, before), lengths(g, after))
        assert old == new


def lengths(g, found):
    """Lengths of the synapses of each projection, without those of units onto themselves."""
    of = {}
    for (source, target, key), w in found.items():
        i, j = np.nonzero(w)
        d = np.sqrt(((g.region(source).positions[j] - g.region(target).positions[i]) ** 2).sum(axis=1))
        of[source, target, key] = d[(i != j) | (source != target)]
    return of


def in_bins(before, after):
    """How many synapses of each projection lie in each bin of the lengths before."""
    edges = np.quantile(np.concatenate(list(before.values())), np.linspace(0, 1, shuffling.LENGTH_BINS + 1)[1:-1])
    for found in (before, after):
        yield {name: np.bincount(np.searchsorted(edges, d, side="right"), minlength=20).tolist() for name, d in found.items()}


@pytest.mark.parametrize("keep", ["degrees", "blocks"])
def test_wirings_are_drawn_evenly(keep):
    """Chi-squared over all wirings of one projection: 3 x 3 with degrees 2, 2, 1, and 3 synapses of 2 x 3."""
    w = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0]]) if keep == "degrees" else np.array([[1, 1, 1], [0, 0, 0]])
    draws = 3000
    g = sm.RegionGraph()
    g.add_region("a", w.shape[1])
    g.add_region("b", w.shape[0])
    for k in range(draws):
        g.add_projection("a", "b", key=str(k), weights=w.astype(float))
    seen = Counter(tuple(map(tuple, v)) for v in matrices(g.shuffled(keep, 1)).values())
    every = [np.array(bits).reshape(w.shape) for bits in np.ndindex(*(2,) * w.size)]
    fits = [v for v in every if v.sum() == w.sum() and (keep == "blocks" or ((v.sum(0) == w.sum(0)).all() and (v.sum(1) == w.sum(1)).all()))]
    assert len(seen) == len(fits) > 4
    expected = draws / len(fits)
    assert sum((n - expected) ** 2 / expected for n in seen.values()) < 3 * len(fits) + 10


def test_labels_and_delays_follow_the_synapses():
    rng = np.random.default_rng(0)
    w = np.where(rng.random((8, 8)) < 0.4, rng.integers(1, 50, (8, 8)), 0).astype(float)
    g = sm.RegionGraph()
    g.add_region("a", 8)
    g.add_projection("a", "a", weights=w, share=[f"weight {v:g}" for v in w[w != 0]], delay=30.0, trainable=False)
    for keep in ("degrees", "blocks"):
        [p] = g.shuffled(keep, 1).projections()
        assert (p.delay, p.trainable) == (30.0, False)
        assert [p.share.labels.names[c] for c in p.share.labels.codes] == [f"weight {v:g}" for v in p.synapses.coordinates(slice(0, p.synapses.nnz))[2]]
        net = sm.mRNN(g.shuffled(keep, 1), device="cpu")
        assert np.allclose(net.to_scipy().toarray(), p.weights.toarray())


def test_order_of_regions_and_the_original_stay():
    g = graph_of(3)
    before = matrices(g)
    once, again, other = (matrices(g.shuffled(seed=s)) for s in (1, 1, 2))
    assert all((once[name] == again[name]).all() for name in once)
    assert any((once[name] != other[name]).any() for name in once)
    assert all((before[name] == w).all() for name, w in matrices(g).items())
    assert list(g.shuffled()) == list(g)
    inputs = next(g.shuffled().projections("input"))
    assert inputs.rule == next(g.projections("input")).rule


@pytest.mark.parametrize("keep", ["degrees", "signs", "weights"])
def test_connectome_and_its_network(keep):
    g = load_celegans()
    null = g.shuffled(keep, 5)
    nets = [sm.mRNN(graph, "tanh", device="cpu") for graph in (g, null)]
    (before, after), pairs = (net.to_scipy() for net in nets), nets[0].rec.nnz
    assert nets[1].rec.nnz == pairs
    assert (np.bincount(nets[0].rec.col) == np.bincount(nets[1].rec.col)).all()
    assert (nets[0].rec.crow == nets[1].rec.crow).all()
    share = (before != 0).multiply(after != 0).nnz / before.nnz
    assert share < {"degrees": 0.8, "signs": 0.8, "weights": 0.95}[keep]
    assert sm.spectral_radius(nets[1]) > 0


def test_a_finalised_network_s_graph_is_shuffled():
    g = sm.RegionGraph()
    g.add_region("a", 30)
    g.add_projection("a", "a", density=0.2)
    net = sm.mRNN(g, device="cpu", seed=0)
    with pytest.raises(GraphError, match=r"projection 'a' -> 'a' is drawn by a rule; shuffle the graph of a network, net.to_graph\(\)"):
        net.graph.shuffled()
    assert net.to_graph().shuffled().number_of_edges() == 1


def test_errors():
    g = graph_of(0)
    with pytest.raises(GraphError, match="keep is 'degree'; use 'blocks', .* Did you mean 'degrees'"):
        g.shuffled("degree")
    with pytest.raises(GraphError, match="name it alone"):
        g.shuffled(["blocks", "signs"])
    full = sm.RegionGraph()
    full.add_region("a", 3)
    full.add_projection("a", "a", weights=np.ones((3, 3)))
    with pytest.raises(GraphError, match="no two synapses .* with degrees kept; keep less"):
        full.shuffled()
    with pytest.raises(GraphError, match="positions, and region 'a' has none"):
        full.shuffled("geometry")
    with pytest.raises(GraphError, match="weights kept"):
        graph_of(0, counts=False).shuffled("weights")
    low = sm.RegionGraph()
    low.add_region("a", 3, sign=None)
    low.add_projection("a", "a", rank=1)
    with pytest.raises(GraphError, match="low rank"):
        low.shuffled()


@pytest.mark.parametrize(("n", "density"), [(40, 0.2), (6, 0.5), (200, 0.05)])
@pytest.mark.parametrize("keep", ["degrees", "blocks"])
def test_symmetric_electrical_synapses_stay_symmetric(n, density, keep):
    rng = np.random.default_rng(0)
    upper = np.triu((rng.random((n, n)) < density) * rng.random((n, n)), 1)
    w = upper + upper.T
    g = sm.RegionGraph()
    g.add_region("a", n)
    g.add_projection("a", "a", weights=w, kind="electrical")
    chemical = (rng.random((n, n)) < 0.3) * (1.0 - np.eye(n))
    g.add_projection("a", "a", weights=chemical, key="chemical")
    found = next(p for p in g.shuffled(keep, seed=1).projections() if p.kind == "electrical").weights.toarray()
    assert (found == found.T).all()
    assert not found.diagonal().any()
    assert np.allclose(np.sort(found[found > 0]), np.sort(w[w > 0]))
    assert ((found > 0) != (w > 0)).any()
    if keep == "degrees":
        assert ((found > 0).sum(0) == (w > 0).sum(0)).all()
    with pytest.raises(GraphError, match="is electrical, and keeps degrees only; leave out weights"):
        g.shuffled("weights")
