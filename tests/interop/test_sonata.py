"""SONATA: exact round trip, libsonata, networks of others, damaged files; the command line over it."""

import json

import h5py
import libsonata
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.command_line import run
from helpers.common import refused
from helpers.connectome_files import EDGES, NEURONS, dense
from helpers.graphs import assert_same, bmtk_like, rich_graph, two_matrices
from sparse_mrnn.connectome import read_celegans
from sparse_mrnn.interop import read_sonata, write_sonata


def test_round_trip_is_exact(tmp_path):
    g = rich_graph()
    write_sonata(g, tmp_path / "net")
    h, report = read_sonata(tmp_path / "net")
    assert_same(g, h)
    assert report.neurons == 9
    write_sonata(h, tmp_path / "again")
    for name in ("nodes.h5", "edges.h5", "node_types.csv", "edge_types.csv"):
        assert (tmp_path / "net" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    a, b = (sm.mRNN(x, device="cpu", seed=0, dtype=torch.float64) for x in (g, h))
    assert (a.rec.values == b.rec.values).all()
    assert (a.rec.dense() == b.rec.dense()).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_round_trip_of_any_matrix(tmp_path_factory, seed, sizes):
    g = two_matrices(np.random.default_rng(seed), sizes)
    folder = tmp_path_factory.mktemp("net") / "net"
    write_sonata(g, folder)
    assert_same(g, read_sonata(folder)[0])


def test_libsonata_reads_it(tmp_path):
    graph, _ = read_celegans()
    write_sonata(graph, tmp_path / "net")
    nodes = libsonata.NodeStorage(str(tmp_path / "net" / "nodes.h5")).open_population("units")
    ids = nodes.get_attribute("unit_id", nodes.select_all()).tolist()
    assert ids == [u for r in graph.regions() for u in r.unit_ids]
    regions = nodes.enumeration_values("region")
    of_units = [r.name for r in graph.regions() for _ in range(r.n)]
    assert [regions[k] for k in nodes.get_enumeration("region", nodes.select_all())] == of_units
    edges = libsonata.EdgeStorage(str(tmp_path / "net" / "edges.h5")).open_population("units_to_units")
    assert (edges.size, edges.source, edges.target) == (5062, "units", "units")
    first = dict(zip((r.name for r in graph.regions()), np.cumsum([0, *(r.n for r in graph.regions())]), strict=False))
    w = np.zeros((302, 302), np.float32)  # chemical and electrical synapses; of these, one direction between regions
    for p in graph.projections():
        here = slice(first[p.target], first[p.target] + p.pair.n_target), slice(first[p.source], first[p.source] + p.pair.n_source)
        w[here] += p.weights.toarray()
    found = np.zeros_like(w)
    everything = edges.select_all()
    ends = edges.target_nodes(everything), edges.source_nodes(everything)
    np.add.at(found, ends, edges.get_attribute("syn_weight", everything))
    assert (found == w).all()
    for unit in (0, 57, 120, ids.index("CANL")):
        onto, out = edges.afferent_edges([unit]), edges.efferent_edges([unit])
        assert set(edges.source_nodes(onto)) == set(np.flatnonzero(w[unit]))
        assert set(edges.target_nodes(out)) == set(np.flatnonzero(w[:, unit]))
        assert set(edges.target_nodes(onto)) <= {unit}
    config = libsonata.CircuitConfig.from_file(str(tmp_path / "net" / "circuit_config.json"))
    assert config.node_populations == {"units"}
    assert config.edge_population("units_to_units").size == 5062


def test_rules_are_drawn_as_the_model_draws_them(tmp_path):
    g = sm.RegionGraph()
    g.add_region("e", 30)
    g.add_region("i", 10, sign="neg")
    g.add_input("cue", 3)
    for s in "ei":
        for t in "ei":
            g.add_projection(s, t, density=0.3)
    g.add_projection("cue", "e")
    with refused(r"projection 'e' -> 'e' \(key 'default'\) has a rule and no synapses yet; give seed="):
        write_sonata(g, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
    write_sonata(g, tmp_path / "net", seed=3)
    a, b = sm.mRNN(g, device="cpu", seed=3), sm.mRNN(read_sonata(tmp_path / "net")[0], device="cpu")
    for kind in ("rec", "inp"):
        assert (getattr(a, kind).dense() == getattr(b, kind).dense()).all()


def test_writing_is_careful(tmp_path):
    g = rich_graph()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("words")
    with refused("mine exists"):
        write_sonata(g, tmp_path / "mine")
    with refused("is not a SONATA network; it is not overwritten"):
        write_sonata(g, tmp_path / "mine", overwrite=True)
    write_sonata(g, tmp_path / "net")
    write_sonata(read_celegans()[0], tmp_path / "net", overwrite=True)
    assert read_sonata(tmp_path / "net")[0].n_units == 302
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "net"]


def test_networks_of_others(tmp_path):
    graph, report = read_sonata(*bmtk_like(tmp_path))
    ids = {r.name: r.unit_ids for r in graph.regions()}
    assert ids == {"lgn": ("lgn/0", "lgn/1"), "v1": ("v1/0", "v1/1", "v1/2")}
    assert dense(graph) == {("1", "0"): 1.0, ("0", "2"): -1.0, ("2", "1"): 0.25}
    assert "population 'lgn' is virtual" in str(report)
    graph, _ = read_sonata(tmp_path / "nodes.h5", tmp_path / "edges.h5", regions="pop_name")
    assert list(graph) == ["Exc", "Pv alb", "tON"]
    graph, _ = read_sonata(tmp_path / "nodes.h5", tmp_path / "edges.h5", regions=("population", "layer"))
    assert "v1.L9" in graph


def test_damaged_networks(tmp_path):
    g = rich_graph()
    write_sonata(g, tmp_path / "net")
    net = tmp_path / "net"
    with refused("has its regions already; regions cannot be given"):
        read_sonata(net, regions="layer")
    with h5py.File(net / "edges.h5", "a") as f:
        f["edges/units_to_units/0/syn_weight"][0] = np.nan
    with refused("edge 0 has weight nan"):
        read_sonata(net)
    write_sonata(g, net, overwrite=True)
    with h5py.File(net / "edges.h5", "a") as f:
        f["edges/units_to_units/target_node_id"][0] = 8
    with refused("leads outside of the regions of its type"):
        read_sonata(net)
    write_sonata(g, net, overwrite=True)
    (net / "node_types.csv").write_text("node_type_id population\n0 units\n")
    with refused("node_types.csv, line 1: column 'region' is missing"):
        read_sonata(net)
    write_sonata(g, net, overwrite=True)
    (net / "nodes.h5").write_bytes((net / "nodes.h5").read_bytes()[:500])
    with refused("nodes.h5: cannot be read as SONATA"):
        read_sonata(net)
    config = json.loads((net / "circuit_config.json").read_text())
    config["networks"]["nodes"][0]["nodes_file"] = "$NETWORK_DIR/../../secret.h5"
    (net / "circuit_config.json").write_text(json.dumps(config))
    with refused("leads outside of the folder"):
        read_sonata(net)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "connections.csv").write_text(EDGES)
    (tmp_path / "neurons.csv").write_text(NEURONS)
    return tmp_path


def test_import_then_every_command(tables):
    net = tables / "net"
    text = run("import", "flywire", tables, "--regions", "super_class", "--out", net)
    assert "4 from 5 rows" in text
    table = [line for line in text.splitlines() if "wrote" not in line and "imported" not in line]
    assert max(map(len, table)) <= 80
    assert "central" in run("info", net)
    run("simulate", net, "--duration", 100, "--stim", "central:1", "--out", tables / "run.zarr")
    run("plot", "activity", tables / "run.zarr", "--out", tables / "activity.png")
    run("plot", "weights", net, "--out", tables / "weights.png")
    run("plot", "regions", net, "--out", tables / "regions.png")
    assert "exists" in run("import", "flywire", tables, "--out", net, code=1)
    choices = ("--select", "super_class=central", "--scale", "none", "--signs", "ach=-1,gaba=1")
    run("import", "flywire", tables, "--out", net, "--overwrite", *choices)
    graph = read_sonata(net)[0]
    assert dense(graph) == {("2", "1"): -7}


def test_import_of_the_other_kinds(tables):
    choices = ("--neurons", tables / "neurons.csv", "--regions", "super_class,side")
    run("import", "table", tables / "connections.csv", *choices, "--out", tables / "a")
    assert list(read_sonata(tables / "a")[0]) == ["central.left", "central.right", "optic.left"]
    run("import", "celegans", "--spectral-radius", 0.9, "--out", tables / "b")
    np.save(tables / "m.npy", np.array([[0, 1.0], [2.0, 0]]))
    run("import", "matrix", tables / "m.npy", "--orientation", "target_source", "--out", tables / "c")
    assert dense(read_sonata(tables / "c")[0]) == {("0", "1"): 1, ("1", "0"): 2}
    run("import", "sonata", tables / "c", "--out", tables / "d")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("table",), "table needs a path"),
        (("celegans", "x.csv"), "celegans takes no path"),
        (("matrix", "m.npy", "--extent", 4), "--extent is an option of flyvis, not of matrix"),
        (("tvb", "t.zip", "--scale", "log"), "tvb takes no --scale"),
        (("table", "nowhere.csv"), "nowhere.csv does not exist"),
        (("table", "connections.csv", "--select", "side"), "write COLUMN=VALUE"),
        (("table", "connections.csv", "--regions", "nuropil"), "Did you mean 'neuropil'"),
        (("flywire", "nowhere"), "not there; give the folder"),
    ],
)
def test_import_errors_are_one_message(tables, monkeypatch, args, message):
    monkeypatch.chdir(tables)
    assert message in run("import", *args, code=1)
    assert not (tables / "network").exists()


def test_a_folder_that_is_no_network(tmp_path):
    assert "no network" in run("info", tmp_path, code=1)
