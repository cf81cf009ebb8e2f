"""From tables to a graph: options against sums by hand; bad tables refused with file, line and column."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.common import refused
from helpers.connectome_files import BIG, COUNTS, EDGES, NEURONS, dense
from sparse_mrnn.connectome import from_networkx, read_table


@pytest.fixture
def files(tmp_path):
    (tmp_path / "edges.csv").write_text(EDGES)
    (tmp_path / "neurons.csv").write_text(NEURONS)
    return tmp_path / "edges.csv", tmp_path / "neurons.csv"


def fly(files, **options):
    defaults = {"scale": "none", "transmitter": "nt_type", "signs": "fly", "regions": "super_class"}
    return read_table(*files, **{**defaults, **options})


def test_counts_signs_and_regions_by_hand(files):
    graph, report = fly(files)
    assert [(r.name, r.unit_ids) for r in graph.regions()] == [
        ("central", (f"{BIG + 1}", f"{BIG + 4}", f"{BIG + 2}")),
        ("optic", (f"{BIG + 3}",)),
    ]
    assert dense(graph) == COUNTS
    assert graph.region("central").unit_signs.tolist() == [1, 0, -1]
    assert graph.region("optic").sign == "neg"
    assert (report.neurons, report.isolated, report.edges, report.merged, report.synapses) == (4, 1, 5, 4, 18)
    assert report.density == 4 / 16
    assert report.signs["neurons: nt_type 'ACH', excitatory"] == 1
    assert report.signs["neurons without a nt_type: sign unknown"] == 1
    assert "left out: nothing" in str(report)


UNSURE = {"confidence": "nt_type_score", "min_confidence": 0.5}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scale": "fraction"}, {("2", "1"): 1, ("3", "2"): -0.8, ("3", "3"): -0.2, ("1", "3"): -1}),
        ({"scale": "log", "gain": 2.0}, {k: 2 * np.sign(n) * np.log(1 + abs(n)) for k, n in COUNTS.items()}),
        ({"min_count": 5}, {("2", "1"): 7, ("1", "3"): -6}),
        ({"self_connections": False}, {("2", "1"): 7, ("3", "2"): -4, ("1", "3"): -6}),
        ({"select": {"super_class": "central"}}, {("2", "1"): 7}),
        ({"select": {"super_class": ["central"], "side": ["left"]}}, {}),
        ({"select": [BIG + 1, BIG + 3]}, {("3", "3"): -1, ("1", "3"): -6}),
        ({"signs": {"ach": -1, "GABA": 1, "glutamate": 0}}, {pair: -n for pair, n in COUNTS.items()}),
        ({**UNSURE, "unknown_sign": "neg"}, COUNTS),
        (UNSURE, {**COUNTS, ("3", "2"): 4}),
        ({"sign_per": "synapse"}, COUNTS),
    ],
)
def test_options_by_hand(files, options, expected):
    graph, _ = fly(files, **options)
    assert dense(graph) == pytest.approx(expected)


def test_confidence_that_is_missing(files):
    files[1].write_text(NEURONS.replace("ACH,0.95", "ACH,"))
    _, report = fly(files, **UNSURE)
    expected = {"nt_type_score below 0.5, so the sign is unknown": 1, "nt_type 'ACH', excitatory": 0, "nt_type 'GABA', inhibitory": 0}
    assert {why: report.signs[f"neurons: {why}"] for why in expected} == expected
    assert report.signs["neurons without a nt_type_score: sign unknown"] == 1
    for least in (0.0, 0.5):
        with refused("column 'nt_type_scor' is missing. Did you mean 'nt_type_score'"):
            fly(files, confidence="nt_type_scor", min_confidence=least)
    with refused("confidence and min_confidence are of transmitters; name their column with transmitter="):
        fly(files, transmitter=None, **UNSURE)
    with refused("min_confidence is '0.5'; it must be a finite number"):
        fly(files, confidence="nt_type_score", min_confidence="0.5")
    neurons = pd.read_csv(files[1]).drop(columns="nt_type")  # the transmitters are those of the edges
    with refused("edges.csv: column 'nt_type_score' is missing"):
        fly((files[0], neurons), **UNSURE)


def test_spectral_radius(files):
    graph, _ = fly(files, spectral_radius=0.5)
    net = sm.mRNN(graph, device="cpu")
    assert sm.spectral_radius(net.rec.dense().detach().numpy()) == pytest.approx(0.5, rel=1e-4)
    with refused("no cycle"):
        fly(files, spectral_radius=0.5, select={"super_class": "central"})


def test_parallel_projections_by_neuropil(files):
    graph, report = fly(files, parallel="neuropil", min_count=2)
    assert [(p.source, p.target, p.key) for p in graph.projections()] == [
        ("central", "central", "AL_L"), ("central", "central", "AL_R"),
        ("central", "optic", "AL_L"), ("optic", "central", "LH_L"),
    ]  # fmt: skip
    assert dense(graph) == {("2", "1"): 7, ("3", "2"): -4, ("1", "3"): -6}
    assert report.dropped == {"pairs of neurons with fewer than 2 synapses": 1}
    graph, _ = fly(files, parallel="neuropil", sign_per="synapse")
    assert {(p.key, p.sign) for p in graph.projections()} == {
        ("AL_L excitatory", "pos"), ("AL_R excitatory", "pos"),
        ("AL_L inhibitory", "neg"), ("LH_L inhibitory", "neg"),
    }  # fmt: skip


def test_regions(files):
    assert list(fly(files, regions=None)[0]) == ["neurons"]
    graph, _ = fly(files, regions=("super_class", "side"))
    assert list(graph) == ["central.left", "central.right", "optic.left"]
    assert graph.members("central") == ["central.left", "central.right"]
    graph, _ = fly(files, regions="side", parent="super_class")
    assert [graph.region(r).parent_region for r in graph] == [None, "central"]
    graph, report = fly(files, regions="neuropil")
    # neuron 1: 7 synapses in AL (5 left) and 6 in LH; 2: 9 in AL_L; 3: 4 in AL_L and 8 in LH_L; 4: none
    members = {r.name: [u[-1] for u in r.unit_ids] for r in graph.regions()}
    assert members == {"AL_L": ["2"], "LH_L": ["3", "1"], "unassigned": ["4"]}
    assert any("without neuropil" in note for note in report.notes)


def test_isolated_and_unknown_neurons(files):
    graph, report = fly(files, keep_isolated=False)
    assert graph.n_units == 3
    assert report.dropped == {"neurons without a connection": 1}
    few = pd.read_csv(files[1]).iloc[:3]
    options = {"transmitter": None, "signs": None}
    with refused(f"edges.csv, line 2, column 'post_root_id': neuron {BIG + 2} is not in neurons"):
        fly((files[0], few), **options)
    graph, report = fly((files[0], few), unknown="drop", **options)
    assert report.dropped == {"edges with a neuron that the neuron table does not have": 3}
    assert dense(graph) == {("3", "3"): 1, ("1", "3"): 6}
    graph, report = fly((files[0], few), unknown="keep", **options)
    assert len(dense(graph)) == 4
    assert graph.region("unassigned").unit_ids == (f"{BIG + 2}",)


def test_sign_of_a_neuron_from_its_synapses(tmp_path):
    edges = {"pre": [*"aabc"], "post": [*"bcaa"], "weight": [3, 2, 1, 1], "nt": ["ACH", "GABA", "GABA", "DA"]}
    options = {"transmitter": "nt", "signs": "fly", "scale": "none"}
    with refused(r"neuron a has 3 excitatory and 2 inhibitory synapses \(1 neurons are mixed\)"):
        read_table(edges, **options)
    graph, _ = read_table(edges, mixed="majority", **options)
    assert dense(graph) == {("b", "a"): 3, ("c", "a"): 2, ("a", "b"): -1, ("a", "c"): 1}
    graph, report = read_table(edges, mixed="free", **options)
    assert graph.region("neurons").unit_signs.tolist() == [0, -1, 0]
    assert report.signs["neurons whose synapses disagree: unsigned"] == 1
    graph, _ = read_table(edges, sign_per="synapse", **options)
    synapses = {p.key: (p.sign, p.synapses.nnz) for p in graph.projections()}
    assert synapses == {"excitatory": ("pos", 1), "inhibitory": ("neg", 2), "unsigned": ("free", 1)}


def test_signed_weights(tmp_path):
    edges = {"source": ["a", "b", "b"], "target": ["b", "a", "b"], "weight": [0.5, -1.5, -0.25]}
    graph, _ = read_table(edges, counts=False, scale="none")
    assert graph.region("neurons").unit_signs.tolist() == [1, -1]
    assert dense(graph) == {("b", "a"): 0.5, ("a", "b"): -1.5, ("b", "b"): -0.25}
    with refused("is negative, but signs come from column 'source'"):
        read_table(edges, counts=False, sign="source")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".txt", ".parquet", ".feather", "frame"])
def test_every_format_gives_the_same(tmp_path, suffix):
    rows = [(BIG + 1, BIG + 2, 3), (BIG + 2, BIG + 1, 2), (BIG + 1, BIG + 1, 1)]
    frame = pd.DataFrame(rows, columns=["pre_root_id", "post_root_id", "syn_count"])
    path = tmp_path / f"edges{suffix}"
    if suffix == "frame":
        path = frame
    elif suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".feather":
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False, sep={".tsv": "\t", ".txt": ";"}.get(suffix, ","))
    graph, report = read_table(path, scale="none")
    assert dense(graph) == {("2", "1"): 3, ("1", "2"): 2, ("1", "1"): 1}
    assert list(report.rows.values()) == [3]


def test_awkward_text(tmp_path):
    path = tmp_path / "edges.csv"
    head = "\ufeffSource, Target ,Weight\r\n"
    path.write_bytes((head + " AS01 , DA01 ,2\r\n\r\n'x' ,AS01,1\r\nDA01,\"AS01\",4\r\n").encode())
    graph, _ = read_table(path, scale="none")
    assert set(graph.region("neurons").unit_ids) == {"AS01", "DA01", "'x'"}
    path.write_text("1 2 3\n2 1 5\n")
    graph, _ = read_table(path, columns=["pre", "post", "weight"], scale="none")
    assert dense(graph) == {("2", "1"): 3, ("1", "2"): 5}
    ids = [f"{k}" for k in range(300_000)] + ["soma", "18446744073709551615"]  # text, far down in the file
    path.write_text("pre,post\n" + "\n".join(f"{a},1" for a in ids))
    graph, report = read_table(path)
    assert {"soma", "18446744073709551615"} <= set(graph.region("neurons").unit_ids)
    assert "every row is one synapse" in str(report)


def test_one_row_per_synapse_as_caveclient_returns_it():
    rows = [(10, 1, 2, 100, [1, 2, 3]), (11, 1, 2, 30, [1, 2, 3]), (12, 2, 1, 5, [1, 2, 3])]
    frame = pd.DataFrame(rows, columns=["id", "pre_pt_root_id", "post_pt_root_id", "size", "ctr_pt_position"])
    cells = pd.DataFrame({"pt_root_id": [1, 2], "cell_type": ["23P", "BC"]})
    graph, _ = read_table(frame, cells, regions="cell_type", scale="none")
    assert dense(graph) == {("2", "1"): 2, ("1", "2"): 1}


HEAD = b"pre,post,weight\n"
BAD = {
    # file: content, what the message has after the name of the file
    "empty.csv": (b"", ["the file is empty"]),
    "blank.csv": (b"\n\n", ["the file is empty"]),
    "header.csv": (HEAD, ["header but no rows"]),
    "short.csv": (HEAD + b"1,2,3\n1,2\n", ["line 3: 2 columns, but the header has 3"]),
    "text.csv": (HEAD + b"1,2,3\n\n1,2,many\n", ["line 4, column 'weight': 'many' is not a number"]),
    "nan.csv": (HEAD + b"1,2,3\n1,2,NaN\n", ["line 3, column 'weight'", "missing or NaN"]),
    "negative.csv": (HEAD + b"1,2,3\n1,2,-3\n", ["line 3, column 'weight'", "-3 is negative"]),
    "fraction.csv": (HEAD + b"1,2,0.5\n", ["line 2, column 'weight'", "0.5 is not a whole number"]),
    "float.csv": (HEAD + b"7.205759406e17,2,1\n", ["line 2, column 'pre'", "7.205759406e17", "int64"]),
    "late.csv": (HEAD + b"1,2,1\n" * 2000 + b"7.5,2,1\n", ["line 2002, column 'pre': the id 7.5 was"]),
    "noid.csv": (HEAD + b"1,2,1\n,2,1\n", ["line 3, column 'pre': the id is missing"]),
    "twice.csv": (b"pre,post,pre\n1,2,3\n", ["line 1: column 'pre' is there twice"]),
    "names.csv": (b"alpha,beta,weight\n1,2,3\n", ["looks like the source", "'alpha', 'beta', 'weight'"]),
    "utf16.csv": ("pre,post\n1,2\n".encode("utf-16-le"), ["not UTF-8 text"]),
    "utf16-cut.csv": ("pre,post\n1,2\n".encode("utf-16") + b"\0", ["not UTF-16 text"]),
    "latin.csv": (HEAD + b"caf\xe9,b,1\n", ["line 2, column 'pre'", "not UTF-8"]),
    "cut.csv.gz": (gzip.compress(HEAD + b"1,2,3\n" * 99_999)[:200], ["cannot be read", "runcated"]),
    "no.csv.gz": (b"this is no gzip file", ["cannot be read"]),
    "bad.parquet": (b"PAR1 nothing", ["cannot be read as parquet"]),
    "bad.feather": (b"nothing", ["cannot be read as feather"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_file_line_and_column(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with refused(name) as error:
        read_table(tmp_path / name)
    for part in message:
        assert part in str(error.value)


def test_other_bad_input(files, tmp_path):
    with refused(r"edges.cvs does not exist.*Did you mean 'edges.csv'"):
        read_table(tmp_path / "edges.cvs")
    with refused(r"column 'syncount' \(weight=\) is missing. Did you mean 'syn_count'"):
        read_table(files[0], weight="syncount")
    with refused("column 'suprclass' is missing. Did you mean 'super_class'"):
        fly(files, regions="suprclass")
    (tmp_path / "semi.csv").write_text("pre;post\n1;2\n")
    with refused(r"with comma as delimiter there is one column.*looks like a semicolon"):
        read_table(tmp_path / "semi.csv", delimiter=",")
    frame = pd.read_csv(files[0])
    frame["pre_root_id"] = frame["pre_root_id"].astype(float)
    with refused(r"column 'pre_root_id': ids are floating-point numbers"):
        read_table(frame)
    with refused("unknown option 'region'. Did you mean 'regions'"):
        read_table(files[0], region="neuropil")
    with refused("scale is 'fractoin'"):
        read_table(files[0], scale="fractoin")
    with refused("glutamate excites in vertebrates"):
        read_table(files[0], transmitter="nt_type")
    with refused("column 'side' has no value 'lft'. Did you mean 'left'"):
        fly(files, select={"side": "lft"})
    files[1].write_text(NEURONS + "720575940600000003,optic,left,GLUT,0.9\n")
    with refused(f"neurons.csv, line 6, column 'root_id': neuron {BIG + 3} is there 2 times"):
        fly(files)
    files[1].write_text(NEURONS.replace("left,ACH", 'left,"ACH,GABA"'))
    with refused("line 3, column 'nt_type': 'ACH,GABA' names transmitters of different sign"):
        fly(files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": -1}, "min_count is -1; it cannot be negative"),
        ({"min_count": "5"}, "min_count is '5'; it must be a finite number"),
        ({"min_count": float("nan")}, "min_count is nan; it must be a finite number"),
        ({"min_count": True}, "min_count is True; it must be a finite number"),
        ({"gain": True}, "gain is True; it must be a finite number"),
        ({"gain": "2"}, "gain is '2'; it must be a finite number"),
        ({"spectral_radius": True}, "spectral_radius is True"),
        ({"delay": "d", "delay_step": "0.1"}, "delay_step is '0.1'"),
        ({"keep_isolated": "no"}, "keep_isolated is 'no'; use True or False"),
        ({"counts": 0}, "counts is 0; use True or False"),
        ({"regions": 3}, "regions is 3; give the name of a column"),
        ({"keep": ["side", 3]}, "keep is .*; give the name of a column"),
        ({"transmitter": 3}, "transmitter is 3; it must be text"),
        ({"name": None}, "name is None; it must be text"),
    ],
)
def test_options_of_another_kind(files, options, message):
    with refused(message):
        read_table(files[0], files[1], **options)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    from sparse_mrnn.connectome import table_files as tables

    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(HEAD + b"1,2,3\n" * 2_000_000))
    monkeypatch.setattr(tables, "GROWTH", 100)
    monkeypatch.setattr(tables, "SPARED", 1 << 20)
    with refused("decompression bomb"):
        read_table(path)


edge = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9), st.sampled_from("xyz"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(edge, min_size=1, max_size=40), st.sampled_from(["none", "fraction", "log"]),
    st.booleans(), st.sampled_from(["sum", "where"]),
)  # fmt: skip
def test_against_a_dense_sum(edges, scale, self_connections, parallel):
    frame = pd.DataFrame(edges, columns=["pre", "post", "n", "where"])
    cells = pd.DataFrame({"id": range(7), "kind": [*"abacba", None], "sign": [1, -1, 1, 0, -1, 1, 1]})
    options = dict(scale=scale, self_connections=self_connections, parallel=parallel)
    graph, report = read_table(frame, cells, weight="n", regions="kind", sign="sign", **options)
    parts = {key: np.zeros((7, 7)) for key in (frame["where"] if parallel == "where" else [None])}
    for s, t, n, where in edges:
        if self_connections or s != t:
            parts[where if parallel == "where" else None][t, s] += n
    total = sum(parts.values())
    expected = np.zeros((7, 7))
    for part in parts.values():
        if scale == "fraction":
            part = part / np.maximum(total.sum(axis=1, keepdims=True), 1)
        expected += (np.log1p(part) if scale == "log" else part) * np.where(cells["sign"] == -1, -1, 1)
    found = np.zeros((7, 7))
    for (i, j), w in dense(graph).items():
        found[int(i), int(j)] = w
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert report.synapses == total.sum()
    assert report.merged == sum(int((part > 0).sum()) for part in parts.values())


@pytest.mark.parametrize("sign_per", ["neuron", "synapse"])
def test_an_imported_network_trains_and_keeps_its_signs(files, sign_per):
    graph, _ = fly(files, scale="fraction", sign_per=sign_per, regions="super_class")
    net = sm.mRNN(graph, device="cpu", seed=0)
    before = net.rec.dense().detach()
    optimiser = torch.optim.SGD(net.parameters(), lr=5.0)
    for _ in range(3):
        x0, h0 = net.batched_initial_condition(2)
        stim = torch.ones(2, 8, net.graph.n_units)
        _, h = net(torch.zeros(2, 8, 0), x0, h0, stim, False)
        optimiser.zero_grad()
        (h - 3).square().mean().backward()
        assert net.rec.values.grad.shape == (4,)
        optimiser.step()
    after = net.rec.dense().detach()
    assert (after != before).sum() >= 3
    assert (torch.sign(after) == torch.sign(before)).all()


def test_from_networkx_matches_the_table():
    import networkx as nx

    g = nx.DiGraph(name="three")
    g.add_nodes_from([("a", {"kind": "x"}), ("b", {"kind": "y"}), ("c", {"kind": "x"})])
    g.add_weighted_edges_from([("a", "b", 2), ("b", "c", 3)])
    graph, _ = from_networkx(g, regions="kind", scale="none")
    assert dense(graph) == {("b", "a"): 2, ("c", "b"): 3}
    assert graph.name == "three"
    graph, report = from_networkx(g.to_undirected(), scale="none")
    assert len(dense(graph)) == 4
    assert "both directions" in str(report)
    g.add_edge("c", "a")
    with refused("edge 'c' -> 'a' has no 'weight'"):
        from_networkx(g)
