"""SONATA networks as BMTK, the examples of the specification and the Allen models of V1 write them."""

import json
from functools import partial

import h5py
import numpy as np
import pytest

import sparse_mrnn as sm
from helpers.command_line import run
from helpers.common import refused
from helpers.connectome_files import dense
from sparse_mrnn.interop import read_sonata

weights_of = partial(dense, whole=True)


def write_nodes(path, population, types, **columns):
    with h5py.File(path, "a") as file:
        group, n = file.create_group(f"nodes/{population}"), len(types)
        group["node_type_id"], group["node_id"] = np.array(types), np.arange(n, dtype=np.uint64)
        group["node_group_id"], group["node_group_index"] = np.zeros(n, np.uint32), np.arange(n, dtype=np.uint64)
        for name, values in columns.items():
            group[f"0/{name}"] = values
        group.require_group("0")


def write_edges(path, name, ends, pairs, types, groups=None, **columns):
    """Write edges; ``groups`` has the number of edges of each group, and columns are of the first group."""
    with h5py.File(path, "a") as file:
        group, n = file.create_group(f"edges/{name}"), len(pairs)
        for k, end in enumerate(("source", "target")):
            group[f"{end}_node_id"] = np.array([pair[k] for pair in pairs], dtype=np.uint64)
            group[f"{end}_node_id"].attrs["node_population"] = ends[k]
        sizes = groups or [n]
        group["edge_type_id"] = np.array(types)
        group["edge_group_id"] = np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)
        group["edge_group_index"] = np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes])
        for number in range(len(sizes)):
            group.require_group(str(number))
        for column, values in columns.items():
            group[f"0/{column}"] = values


V1_TYPES = "edge_type_id target_query syn_weight delay dynamics_params\n100 * 0.5 2.0 exc.json\n101 ei=='i' {} 1.0 inh.json\n"


def circuit(folder, v1="-1.5", network="network"):
    """Two populations, each in files of its own: v1 with delays by type, and lgn, whose edges have no nsyns."""
    net = folder / network
    net.mkdir(parents=True)
    write_nodes(net / "v1_nodes.h5", "v1", [100, 100, 101], x=[0.0, 1, 2], y=[3.0, 4, 5], tuning=[0.1, 0.2, 0.3])
    (net / "v1_node_types.csv").write_text(
        'node_type_id pop_name ei model_type\n100 "L4 exc" e point_neuron\n101 PV i point_neuron\n'
    )
    write_nodes(net / "lgn_nodes.h5", "lgn", [200, 200])
    (net / "lgn_node_types.csv").write_text("node_type_id pop_name model_type\n200 tON virtual\n")
    write_edges(net / "v1_v1_edges.h5", "v1_to_v1", ("v1", "v1"), [(0, 1), (1, 0), (2, 0)], [100, 100, 101],
                groups=[2, 1], nsyns=np.array([5, 3], np.uint16))  # fmt: skip
    (net / "v1_v1_edge_types.csv").write_text(V1_TYPES.format(v1))
    write_edges(net / "lgn_v1_edges.h5", "lgn_to_v1", ("lgn", "v1"), [(0, 0), (1, 2)], [100, 100],
                syn_weight=[3.0, 4.0])  # fmt: skip
    (net / "lgn_v1_edge_types.csv").write_text("edge_type_id delay\n100 2.0\n")
    return net


WEIGHTS = {
    ("v1/1", "v1/0"): 2.5, ("v1/0", "v1/1"): 1.5, ("v1/0", "v1/2"): -1.5, ("v1/0", "lgn/0"): 3,
    ("v1/2", "lgn/1"): 4,
}  # fmt: skip


def config(path, directory, **others):
    """Write the configuration of `circuit`, whose files are where ``directory`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = {"node": ("v1", "lgn"), "edge": ("v1_v1", "lgn_v1")}
    networks = {
        f"{what}s": [
            {f"{what}s_file": f"{directory}/{name}_{what}s.h5", f"{what}_types_file": f"{directory}/{name}_{what}_types.csv"}
            for name in names
        ]
        for what, names in pairs.items()
    }
    path.write_text(json.dumps({"networks": networks, **others}))
    return path


def check(*args, **options):
    graph, report = read_sonata(*args, **options)
    assert weights_of(graph) == WEIGHTS
    return graph, report


def test_values_of_units_from_node_attributes(tmp_path):
    net = circuit(tmp_path)
    config(tmp_path / "circuit_config.json", "network")
    of_units = {"noise_level": "tuning", "positions": ["y", "x"]}
    with refused("v1_nodes.h5, lgn_nodes.h5, row 3, column 'tuning': the noise_level is missing"):
        read_sonata(tmp_path, of_units=of_units)
    graph, _ = read_sonata(tmp_path, of_units=of_units, select={"population": "v1"})
    region = graph.region("v1")
    assert region.noise_level.tolist() == [0.1, 0.2, 0.3]
    assert region.positions.tolist() == [[3, 0], [4, 1], [5, 2]]
    types = "node_type_id ei tau_m\n100 e 10.0\n101 i 5.0\n"
    (net / "v1_node_types.csv").write_text(types)
    graph, _ = read_sonata(tmp_path, of_units={"tau": "tau_m"}, select={"population": "v1"})
    assert graph.region("v1").tau.tolist() == [10, 10, 5]


def test_several_files_and_populations(tmp_path):
    circuit(tmp_path)
    manifest = {"$BASE_DIR": ".", "$NETWORK_DIR": "$BASE_DIR/network"}
    config(tmp_path / "circuit_config.json", "$NETWORK_DIR", manifest=manifest, node_sets_file="sets.json")
    graph, report = check(tmp_path)
    assert {r.name: r.n for r in graph.regions()} == {"lgn": 2, "v1": 3}
    delays = {(s, t, k): d.get("delay") for s, t, k, d in graph.edges(keys=True, data=True)}
    assert delays == {("v1", "v1", "1 ms"): 1, ("v1", "v1", "2 ms"): 2, ("lgn", "v1", "2 ms"): 2}
    assert graph.region("v1").positions.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert graph.region("lgn").positions is None
    assert report.not_read == {
        "v1_v1_edge_types.csv": ("target_query",), "circuit_config.json": ("node_sets_file",),
    }  # fmt: skip
    assert "not read: v1_v1_edge_types.csv: target_query" in str(report)
    units = sm.mRNN(graph, device="cpu").units.query("region == 'v1'")
    assert units.tuning.tolist() == [0.1, 0.2, 0.3]
    assert units.pop_name.tolist() == ["L4 exc", "L4 exc", "PV"]
    assert "population 'lgn' is virtual" in str(report)
    graph, _ = read_sonata(tmp_path, regions="pop_name", delay=None)
    assert {r.name: r.n for r in graph.regions()} == {"L4 exc": 2, "PV": 1, "tON": 2}
    assert not any("delay" in data for *_, data in graph.edges(data=True))


@pytest.mark.parametrize("directory", ["${configdir}/network", "$NET", "${NET}", "network", "$workingdir/network", "{abs}"])
def test_variables_of_a_manifest(tmp_path, monkeypatch, directory):
    monkeypatch.chdir(tmp_path)
    circuit(tmp_path)
    manifest = {"NET": "${BASE}/network", "$BASE": "${configdir}", "${OTHER}": "x"}
    directory = directory.replace("{abs}", str(tmp_path / "network"))
    check(config(tmp_path / "my network.json", directory, manifest=manifest))
    check(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"$A": "$B"}, r"the variable \$B is not in its manifest"),
        ({"$A": "$B", "$B": "$A"}, "refer to each other without end"),
        ({"$A": "$A$A"}, "refer to each other without end"),
        ({"$A": 3}, "its manifest is not an object"),
        ([], "its manifest is not an object|is not in its manifest"),
        ({"$A": "../elsewhere"}, "leads outside of the folder, to .*elsewhere.*, which is not a file"),
        ({"$A": "nothing"}, "nothing.*(does not exist|No such file)"),
    ],
)
def test_variables_that_lead_nowhere(tmp_path, manifest, message):
    circuit(tmp_path / "sim")
    with refused(message):
        read_sonata(config(tmp_path / "sim" / "net.json", "$A", manifest=manifest))


def test_a_configuration_elsewhere_and_of_a_simulation(tmp_path):
    circuit(tmp_path)
    path = config(tmp_path / "sim" / "config.circuit.json", "../network")
    check(path)
    check(tmp_path / "sim")
    simulation = tmp_path / "sim" / "config.simulation.json"
    simulation.write_text(json.dumps({"manifest": {"$X": "."}, "network": "$X/config.circuit.json", "run": {"dt": 0.1}}))
    _, report = check(simulation)
    assert report.not_read["config.simulation.json"] == ("run",)
    check(tmp_path / "sim")  # both name the same files
    config(tmp_path / "sim" / "other.json", "../network2")
    circuit(tmp_path, network="network2")
    with refused("several configurations; name one of them: .*other.json"):
        read_sonata(tmp_path / "sim")
    simulation.write_text(json.dumps({"network": "config.simulation.json"}))
    with refused("is a configuration of itself"):
        read_sonata(simulation)
    simulation.write_text(json.dumps({"run": {}}))
    with refused("neither networks nor the configuration of a network"):
        read_sonata(simulation)


def test_files_as_the_builder_of_bmtk_leaves_them(tmp_path):
    net = circuit(tmp_path)
    check(net)
    names = [f"{net}/{name}.h5" for name in ("v1_nodes", "lgn_nodes", "v1_v1_edges", "lgn_v1_edges")]
    check(names[:2], names[2:])
    _, report = read_sonata(names[0], names[2])
    files = {"lgn_node_types.csv", "lgn_nodes.h5", "lgn_v1_edge_types.csv", "lgn_v1_edges.h5"}
    assert {name for name, columns in report.not_read.items() if not columns} == files
    with refused("2 files of nodes, but 1 of node_types"):
        read_sonata(names[:2], names[2:], node_types=[net / "v1_node_types.csv"])
    with refused("population 'v1' is in another file, too"):
        read_sonata([names[0], names[0]], names[2:])
    with refused("has sources in 'lgn', which v1_nodes.h5 does not have"):
        read_sonata(names[0], names[2:])
    with refused("edges= cannot be given"):
        read_sonata(net, names[2])


def test_populations_that_a_configuration_lists(tmp_path):
    circuit(tmp_path)
    path = config(tmp_path / "net.json", "network")
    content = json.loads(path.read_text())
    content["networks"]["nodes"][1]["populations"] = {"lgn": {"type": "virtual"}}
    content["networks"]["edges"][1]["enabled"] = False
    path.write_text(json.dumps(content))
    graph, report = read_sonata(path)
    assert weights_of(graph) == {pair: w for pair, w in WEIGHTS.items() if "lgn" not in pair[1]}
    assert report.not_read["lgn_v1_edges.h5"] == ()
    content["networks"]["nodes"][1]["populations"] = {"lgnn": {}}
    path.write_text(json.dumps(content))
    with refused("lgn_nodes.h5: the file has no population 'lgnn', only 'lgn'"):
        read_sonata(path)


def test_nodes_alone(tmp_path):
    circuit(tmp_path)
    path = config(tmp_path / "net.json", "network")
    content = json.loads(path.read_text())
    for edges in ([], None):
        content["networks"]["edges"] = edges
        (tmp_path / "cells.json").write_text(json.dumps(content))
        graph, report = read_sonata(tmp_path / "cells.json")
        assert (graph.n_units, graph.number_of_edges(), report.isolated) == (5, 0, 5)
    check(tmp_path)  # whose other configuration has edges, too
    content["networks"]["nodes"] = []
    path.write_text(json.dumps(content))
    with refused("a nodes_file is needed"):
        read_sonata(path)


def test_the_command_line_takes_such_networks(tmp_path):
    circuit(tmp_path)
    path = config(tmp_path / "net.json", "network")
    assert "lgn" in run("info", path)
    assert "lgn" in run("info", tmp_path)
    text = run("import", "sonata", path, "--delay-step", 2, "--weight", "syn_weight", "--out", tmp_path / "out")
    assert "not read: v1_v1_edge_types.csv: target_query" in text.replace("\n", " ")
    assert weights_of(read_sonata(tmp_path / "out")[0]) == WEIGHTS


# ---------------------------------------------------------------- delays, weights, signs


def pair_of_edges(folder, types="edge_type_id\n1\n", **columns):
    write_nodes(folder / "nodes.h5", "net", [1, 1])
    write_edges(folder / "edges.h5", "net_to_net", ("net", "net"), [(0, 1), (1, 0)], [1, 1], **columns)
    (folder / "node_types.csv").write_text("node_type_id\n1\n")
    (folder / "edge_types.csv").write_text(types)
    return folder / "nodes.h5", folder / "edges.h5"


def test_delays_of_edges_go_over_those_of_types(tmp_path):
    files = pair_of_edges(tmp_path, "edge_type_id delay\n1 9\n", delay=[1.5, np.nan], syn_weight=[0.5, -0.7])
    graph, report = read_sonata(*files)
    assert {k: d.get("delay") for *_, k, d in graph.edges(keys=True, data=True)} == {"1.5 ms": 1.5, "default": None}
    assert "1 connections without a delay" in str(report)
    with h5py.File(files[1], "a") as file:
        file["edges/net_to_net/0/delay"][:] = [2, -1]
    with refused("the delay -1 is not a time"):
        read_sonata(*files)


def test_an_edge_without_a_weight(tmp_path):
    files = pair_of_edges(tmp_path, nsyns=[2, 3])
    graph, report = read_sonata(*files)
    assert weights_of(graph) == {("net/1", "net/0"): 2, ("net/0", "net/1"): 3}
    assert "no edge has a syn_weight, so the weight of every synapse is 1" in str(report)
    (tmp_path / "edge_types.csv").write_text("edge_type_id syn_weight\n1 NULL\n")
    assert weights_of(read_sonata(*files)[0]) == weights_of(graph)
    (tmp_path / "edge_types.csv").write_text("edge_type_id syn_weight\n1 much\n")
    with refused("edge_types.csv: syn_weight of edge type 1 is 'much'"):
        read_sonata(*files)
    with refused("no edge has the weight 'syn_wieght'"):
        read_sonata(*files, weight="syn_wieght")


def test_some_edges_without_a_weight_are_refused(tmp_path):
    files = pair_of_edges(tmp_path, syn_weight=[0.5, np.nan])
    with refused(r"edge 1 of population 'net_to_net' \(type 1\) has no syn_weight, but others do \(1 have none\)"):
        read_sonata(*files)
    assert weights_of(read_sonata(*files, weight=None)[0]) == {("net/1", "net/0"): 1, ("net/0", "net/1"): 1}


def test_conductances(tmp_path):
    files = pair_of_edges(tmp_path, conductance=[0.5, 2.0], decay_time=[1.0, 2.0])
    graph, report = read_sonata(*files)
    assert weights_of(graph) == {("net/1", "net/0"): 0.5, ("net/0", "net/1"): 2}
    assert "so the weight of an edge is its conductance" in str(report)
    assert report.not_read == {"edges.h5": ("decay_time",)}
    with h5py.File(files[1], "a") as file:
        file["edges/net_to_net/0/syn_weight"] = [3.0, 4.0]
    graph, report = read_sonata(*files)
    assert weights_of(graph) == {("net/1", "net/0"): 3, ("net/0", "net/1"): 4}
    assert report.not_read == {"edges.h5": ("conductance", "decay_time")}


def test_weights_that_are_conductances_are_said_to_be(tmp_path):
    types = "edge_type_id syn_weight model_template dynamics_params\n1 0.002 Exp2Syn GABA.json\n"
    _, report = read_sonata(*pair_of_edges(tmp_path, types))
    assert "the weights of 2 edges are conductances" in str(report)
    assert "models of synapses that were not found: GABA.json" in str(report)


@pytest.mark.parametrize("model", [{"level_of_detail": "exp2syn", "erev": -70.0}, {"sign": -1}])
def test_models_of_synapses_say_what_inhibits(tmp_path, model):
    circuit(tmp_path, v1="1.5")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "inh.json").write_text(json.dumps(model))
    (tmp_path / "models" / "exc.json").write_text(json.dumps({"erev": 0.0}))
    components = {"synaptic_models_dir": "$HERE/models"}
    path = config(tmp_path / "net.json", "network", manifest={"$HERE": "."}, components=components)
    _, report = check(path)
    assert "1 edges inhibit, by the model of their synapses" in str(report)
    graph, _ = read_sonata(path, sign="ei", regions="pop_name", unknown_sign="pos")
    assert weights_of(graph) == WEIGHTS
    (tmp_path / "models" / "inh.json").write_text("{")
    with refused("inh.json: line 1"):
        read_sonata(path)


@pytest.mark.parametrize(
    "text",
    [
        "node_type_id pop_name \n1 E \n2 I \n", "node_type_id\tpop_name\n1\tE\n2\tI\n",
        "pop_name,node_type_id\r\nE,1\r\nI,2\r\n", 'node_type_id  "pop_name"\n1  "E"\n2 I  \n',
        "\ufeffnode_type_id pop_name\n2 I\n1 E\n", "node_type_id params pop_name\n1  E\n2 a.json I\n",
        'node_type_id pop_name layer\n1 E "L 4"\n2 I \n\n',
    ],
)  # fmt: skip
def test_types_between_blanks_tabs_or_commas(tmp_path, text):
    write_nodes(tmp_path / "nodes.h5", "net", [1, 2])
    write_edges(tmp_path / "edges.h5", "e", ("net", "net"), [(0, 1)], [1], syn_weight=[1.0])
    (tmp_path / "node_types.csv").write_bytes(text.encode())
    graph, _ = read_sonata(tmp_path / "nodes.h5", tmp_path / "edges.h5", regions="pop_name")
    assert {r.name: r.unit_ids for r in graph.regions()} == {"E": ("net/0",), "I": ("net/1",)}
