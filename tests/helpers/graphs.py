"""Graphs of every kind, how to compare them, and a SONATA network of another program."""

import dataclasses

import h5py
import numpy as np
import scipy.sparse as sp

import sparse_mrnn as sm


def rich_graph(rng=None):
    """All a graph can say: inputs between regions, arrays and scalars, keys, signs, float64, delays."""
    rng = rng or np.random.default_rng(0)
    g = sm.RegionGraph(name="all kinds")
    g.add_input("cue", 2, sign=None)
    per_unit = dict(sign=[1, -1, 0, 1], base_firing=[0.1, 0.2, 0.3, 0.4], unit_ids=["x y", 'q"', "ü", "4"])
    g.add_region("a b", 4, parent_region="p", tau=20.0, **per_unit)
    scalars = dict(init=0.1, learnable_bias=True, learnable_tau=True, noise_level=0.3, activation="tanh")
    g.add_region("inh", 3, sign="neg", positions=rng.normal(size=(3, 2)), **scalars)
    g.add_input("go", 1, sign="neg")
    positions = rng.normal(size=(2, 4))
    g.add_region("free", 2, sign=None, parent_region="p", init=[1 / 3, -2.0], positions=positions)
    w = sp.random_array((4, 4), density=0.5, random_state=rng)
    g.add_projection("a b", "a b", weights=abs(w) @ sp.diags_array([1.0, -1, 1, 1]), self_connections=True)
    g.add_projection("free", "inh", weights=rng.normal(size=(3, 2)), key="second")
    g.add_projection("free", "inh", weights=rng.normal(size=(3, 2)).astype(np.float32), trainable=False)
    g.add_projection("inh", "free", weights=np.ones((2, 3)), sign="pos", key="gap")
    g.add_projection("cue", "free", weights=np.array([[1.0, 0], [0, -2]]))
    g.add_projection("go", "a b", weights=-np.ones((4, 1)))
    g.add_projection("inh", "a b", weights=sp.csr_array((4, 3)), key="none yet")
    g.edges["inh", "free", "gap"]["delay"] = 1.5
    return g


def two_matrices(rng, sizes):
    """Regions of these sizes with parallel projections: every other one trained."""
    g = sm.RegionGraph()
    for k, n in enumerate(sizes):
        g.add_region(f"r{k}", n, sign=None)
    n = sum(sizes)
    for key in ("x", "y"):
        weights = sp.random_array((n, n), density=0.3, random_state=rng, data_sampler=rng.standard_normal)
        g.add_projections(weights, key=key, trainable=key == "x")
    return g


def assert_same(g, h):
    assert g.name == h.name
    assert list(g) == list(h)
    assert list(g.edges(keys=True)) == list(h.edges(keys=True))
    for name in g:
        a, b = g.region(name), h.region(name)
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert type(x) is type(y), field.name
            assert (np.asarray(x) == np.asarray(y)).all(), field.name
    for p, q in zip(g.projections(), h.projections(), strict=True):
        assert (p.sign, p.trainable) == (q.sign, q.trainable)
        assert p.weights.shape == q.weights.shape
        assert p.weights.nnz == q.weights.nnz
        assert (p.weights != q.weights).nnz == 0
    for e in g.edges:
        assert g.edges[e].get("delay") == h.edges[e].get("delay")


def bmtk_like(folder):
    """A network as BMTK writes one: two populations, two node groups, weights in the edge types."""
    with h5py.File(folder / "nodes.h5", "w") as f:
        for population, types in (("v1", [100, 100, 101]), ("lgn", [200, 200])):
            g = f.create_group(f"nodes/{population}")
            n = len(types)
            g["node_type_id"], g["node_id"] = types, np.arange(n)
            g["node_group_id"] = [0] * (n - 1) + [1]
            g["node_group_index"] = [*range(n - 1), 0]
            g["0/layer"] = np.array([f"L{k}" for k in range(n - 1)], dtype="S4")
            g["1/layer"] = np.array(["L9"], dtype="S4")
    (folder / "node_types.csv").write_text(
        "node_type_id population pop_name model_type\n100 v1 Exc point_neuron\n"
        '101 v1 "Pv alb" point_neuron\n200 lgn tON virtual\n'
    )
    with h5py.File(folder / "edges.h5", "w") as f:
        for source, pairs in (("v1", [(0, 1), (2, 0)]), ("lgn", [(1, 2)])):
            g = f.create_group(f"edges/{source}_v1")
            g["source_node_id"], g["target_node_id"] = [s for s, _ in pairs], [t for _, t in pairs]
            g["source_node_id"].attrs["node_population"] = source
            g["target_node_id"].attrs["node_population"] = "v1"
            g["edge_type_id"] = [1, 2] if source == "v1" else [3]
            g["edge_group_id"], g["edge_group_index"] = np.zeros(len(pairs), int), np.arange(len(pairs))
            g["0/nsyns"] = np.arange(1, len(pairs) + 1) * 2
    types = "1 v1_v1 0.5\n2 v1_v1 -0.25\n3 lgn_v1 0.125\n"
    (folder / "edge_types.csv").write_text("edge_type_id population syn_weight\n" + types)
    return folder / "nodes.h5", folder / "edges.h5"
