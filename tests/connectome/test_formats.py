"""Every format on a small file: FlyWire, neuPrint, matrices, GraphML, TVB, flyvis, C. elegans."""

import csv
import gzip
import itertools
import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
import torch

import sparse_mrnn as sm
from helpers import ROOT
from helpers.common import refused
from helpers.connectome_files import BIG, COUNTS, EDGES, NEURONS, SMALL, W, dense, tvb
from sparse_mrnn.connectome import (
    read_celegans,
    read_flywire,
    read_graphml,
    read_matrix,
    read_neuprint,
    read_tvb,
)
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.fly_vision import read_flyvis
from sparse_mrnn.fly_vision.lattice import hex_columns, hex_positions
from sparse_mrnn.fly_vision.network import columns_of, filled_offsets

SOURCE_DATA = Path(os.environ.get("SPARSE_MRNN_DATA", ROOT.parent / "shared" / "data"))


def source_file(name):
    """A published file that is not part of the package; the test is skipped without it."""
    path = SOURCE_DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not there (SPARSE_MRNN_DATA names the folder)")
    return path


# ---------------------------------------------------------------- FlyWire


@pytest.fixture
def codex(tmp_path):
    rows = [line.split(",") for line in NEURONS.splitlines()]
    (tmp_path / "connections.csv.gz").write_bytes(gzip.compress(EDGES.encode()))
    frame = pd.DataFrame(rows[1:], columns=rows[0])
    types = {"root_id": [BIG + 1, BIG + 9], "primary_type": ["DA1", "gone"], "additional_type(s)": ["", ""]}
    tables = {
        "neurons": frame[["root_id", "nt_type", "nt_type_score"]].assign(group="AL.LH"),
        "classification": frame[["root_id", "super_class", "side"]].iloc[::-1],
        "consolidated_cell_types": pd.DataFrame(types),
    }
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv.gz", index=False)
    return tmp_path


def test_flywire(codex):
    graph, report = read_flywire(codex, scale="none")
    assert list(graph) == ["central", "optic"]
    assert dense(graph) == COUNTS
    assert report.rows == {"neurons.csv.gz": 4, "connections.csv.gz": 5}
    graph, report = read_flywire(codex, regions="primary_type", parent="super_class")
    assert {r.name: r.n for r in graph.regions()} == {"DA1": 1, "unassigned": 3}
    assert graph.region("DA1").parent_region == "central"
    assert "1 neurons of consolidated_cell_types.csv.gz are not in neurons.csv.gz" in str(report)


def test_flywire_confidence_is_of_its_own_transmitters(codex):
    frame = pd.read_csv(codex / "neurons.csv.gz").assign(own=["neg", "pos", "pos", "neg"], nt=["GLUT", "ACH", None, "GABA"])
    frame["nt_type_score"] = [0.9, None, None, 0.3]
    frame.to_csv(codex / "neurons.csv.gz", index=False)
    for options in ({"sign": "own"}, {"transmitter": "nt"}):
        assert dense(read_flywire(codex, scale="none", unknown_sign="error" if "sign" in options else "free", **options)[0]) == COUNTS
    report = read_flywire(codex, min_confidence=0.5, scale="none")[1]
    assert {why: n for why, n in report.signs.items() if "score" in why} == {
        "neurons: nt_type_score below 0.5, so the sign is unknown": 1, "neurons without a nt_type_score: sign unknown": 1
    }  # fmt: skip
    with refused("min_confidence is given, but neurons.csv.gz has no confidence column"):
        read_flywire(codex, transmitter="nt", min_confidence=0.5)


def test_flywire_from_connections_alone(codex):
    for name in ("neurons", "classification", "consolidated_cell_types"):
        (codex / f"{name}.csv.gz").unlink()
    with refused("say regions='neuropil'"):
        read_flywire(codex)
    graph, _ = read_flywire(codex, regions="neuropil", scale="none")
    assert dense(graph) == COUNTS


def test_flywire_folders_that_are_not_right(codex, tmp_path):
    with refused("not there; give the folder"):
        read_flywire(tmp_path / "nowhere")
    (codex / "connections_princeton.csv.gz").write_bytes((codex / "connections.csv.gz").read_bytes())
    with refused(r"several tables of connections \(connections.csv.gz, connections_princeton.csv.gz\)"):
        read_flywire(codex)
    assert read_flywire(codex, connections="connections_princeton.csv.gz")[1].merged == 4
    (codex / "empty").mkdir()
    with refused(r"connections.csv.gz is missing .* the folder has nothing"):
        read_flywire(codex / "empty")


# ---------------------------------------------------------------- neuPrint

CT1, FS4C, OTHER = 200326126, 202916528, 203253072
CELLS = [(CT1, "CT1", "CT1_L"), (FS4C, "FS4C", "FS4C_R"), (OTHER, None, "x")]
BODIES = pd.DataFrame(CELLS, columns=["bodyId", "type", "instance"])
ENDS = ["bodyId_pre", "bodyId_post"]
TOTAL = pd.DataFrame([(CT1, FS4C, 13), (FS4C, CT1, 4), (OTHER, OTHER, 1)], columns=[*ENDS, "weight"])
BY_ROI = pd.DataFrame(
    [(CT1, FS4C, "FB", 10), (CT1, FS4C, "NO", 3), (FS4C, CT1, "FB", 4)], columns=[*ENDS, "roi", "weight"]
)


def totals(graph, *attributes):
    """Sum of the weights of every projection, by some of its attributes."""
    return {tuple(getattr(p, name) for name in attributes): p.weights.sum() for p in graph.projections()}


@pytest.mark.parametrize("start", ["traced-", ""])
def test_neuprint(tmp_path, start):
    for name, frame in (("neurons", BODIES), ("total-connections", TOTAL), ("roi-connections", BY_ROI)):
        frame.to_csv(tmp_path / f"{start}{name}.csv", index=False)
    graph, _ = read_neuprint(tmp_path, scale="none")
    ids = {r.name: r.unit_ids for r in graph.regions()}
    assert ids == {"CT1": (f"{CT1}",), "FS4C": (f"{FS4C}",), "unassigned": (f"{OTHER}",)}
    expected = {("CT1", "FS4C"): 13, ("FS4C", "CT1"): 4, ("unassigned", "unassigned"): 1}
    assert totals(graph, "source", "target") == expected
    graph, _ = read_neuprint(tmp_path, scale="none", parallel="roi")
    assert totals(graph, "source", "key") == {("CT1", "FB"): 10, ("CT1", "NO"): 3, ("FS4C", "FB"): 4}


def test_neuprint_dataframes_as_neuprint_python_returns_them():
    transmitters = ["gaba", "acetylcholine", "unclear"]
    bodies = BODIES.assign(roiInfo=[{"FB": {"pre": 1}}, {}, {}], predictedNt=transmitters)
    graph, report = read_neuprint((bodies, BY_ROI), transmitter="predictedNt", scale="none")
    assert graph.region("CT1").sign == "neg"
    assert graph.region("FS4C").sign == "pos"
    assert report.signs["neurons: predictedNt 'unclear', sign unknown"] == 1
    with refused("traced-neurons.csv .* is missing"):
        read_neuprint(Path(__file__).parent)


# ---------------------------------------------------------------- matrices

LABELS = ["a", "b", "c"]
EXPECTED = {("a", "b"): 2, ("b", "a"): 0.5, ("b", "c"): -1, ("c", "c"): 0.25}


def write_matrix(path):
    if path.suffix == ".npz" and "sparse" in path.name:
        sp.save_npz(path, sp.csr_array(W))
    elif path.suffix == ".npz":
        np.savez(path, weights=W, labels=np.array(LABELS))
    elif path.suffix == ".npy":
        np.save(path, W)
    elif path.suffix == ".mtx":
        scipy.io.mmwrite(path, sp.coo_array(W))
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"W": W, "labels": np.array(LABELS, dtype=object)})
    elif "bare" in path.name:
        np.savetxt(path, W)
    else:
        pd.DataFrame(W, index=LABELS, columns=LABELS).to_csv(path)
    return path


@pytest.mark.parametrize("name", ["sparse.npz", "m.npz", "m.npy", "m.mtx", "m.mat", "bare.txt", "m.csv"])
def test_matrix(tmp_path, name):
    path = write_matrix(tmp_path / name)
    with refused("it is not known whether entry"):
        read_matrix(path)
    given = None if name in ("m.npz", "m.mat", "m.csv") else LABELS
    graph, report = read_matrix(path, orientation="target_source", labels=given)
    assert dense(graph) == EXPECTED
    assert graph.region(next(iter(graph))).unit_ids == ("a", "b", "c")
    transposed, _ = read_matrix(path, orientation="source_target", labels=given)
    assert dense(transposed) == {(s, t): w for (t, s), w in EXPECTED.items()}
    assert "rows of the matrix are targets (as stated)" in str(report)


def test_matrix_orientation_from_the_file(tmp_path):
    path = tmp_path / "m.csv"
    frame = pd.DataFrame(W, index=LABELS, columns=LABELS)
    frame.to_csv(path, index_label="pre/post")
    graph, report = read_matrix(path)
    assert dense(graph)["b", "a"] == 2
    assert "corner cell says 'pre/post'" in str(report)
    frame.to_csv(path, index_label="target \\ source")
    assert dense(read_matrix(path)[0]) == EXPECTED
    with refused(r"orientation='source_target' is given, but the corner cell"):
        read_matrix(path, orientation="source_target")
    np.save(tmp_path / "s.npy", np.abs(W + W.T))
    assert "symmetric" in str(read_matrix(tmp_path / "s.npy")[1])


def test_matrix_that_is_not_right(tmp_path):
    path = write_matrix(tmp_path / "m.npy")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with refused(r"labels.txt: there are 2 labels for a matrix of 3 x 3"):
        read_matrix(path, labels=tmp_path / "labels.txt", orientation="target_source")
    with refused("label 'a' names rows 0 and 2"):
        read_matrix(path, labels=["a", "b", "a"], orientation="target_source")
    np.save(path, W[:2])
    with refused("the matrix is 2 x 3"):
        read_matrix(path)
    np.save(path, np.array([[np.nan, 1], [2, 3]]))
    with refused(r"entry \(0, 0\) is nan"):
        read_matrix(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with refused("cannot be read as npy.*allow_pickle"):
        read_matrix(path)
    (tmp_path / "m.csv").write_text(",a,b\na,1,2\nb,3,x\n")
    with refused(r"m.csv, line 3, column 3: 'x' is not a number"):
        read_matrix(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text(",a,b\na,1,2\nc,3,4\n")
    with refused("labelled differently"):
        read_matrix(tmp_path / "m.csv")
    np.savez(tmp_path / "two.npz", a=W, b=W)
    with refused(r"2 matrices \(a, b\); choose one with variable="):
        read_matrix(tmp_path / "two.npz")
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros((3200, 3200)))
    with refused("zip bomb"):
        read_matrix(tmp_path / "bomb.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:100])
    with refused("cannot be read as a zip archive"):
        read_matrix(tmp_path / "cut.npz")


# ---------------------------------------------------------------- GraphML


def test_graphml(tmp_path):
    g = nx.DiGraph()
    g.add_node("n0", kind="x")
    g.add_node("n1", kind="y")
    g.add_edge("n0", "n1", weight=4)
    nx.write_graphml(g, tmp_path / "g.graphml")
    graph, _ = read_graphml(tmp_path / "g.graphml", regions="kind", scale="none")
    assert dense(graph) == {("1", "0"): 4}
    assert list(graph) == ["x", "y"]
    (tmp_path / "cut.graphml").write_text((tmp_path / "g.graphml").read_text()[:-20])
    with refused(r"cut.graphml, line \d+, column \d+: not valid XML"):
        read_graphml(tmp_path / "cut.graphml")
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><graphml>&a;</graphml>'
    (tmp_path / "bomb.graphml").write_text(entity)
    with refused("declares a document type or entities"):
        read_graphml(tmp_path / "bomb.graphml")


# ---------------------------------------------------------------- The Virtual Brain

def test_tvb(tmp_path):
    units = {"rV1": 10, "lV1": 20, "lA1": 5}
    graph, report = read_tvb(tvb(tmp_path / "three.zip"), units=units, fan_in=4, speed=3.0, gain=0.5)
    areas = [(r.name, r.n, r.parent_region) for r in graph.regions()]
    assert areas == [("rV1", 10, "right"), ("lV1", 20, "left"), ("lA1", 5, "left")]
    edges = {(s, t): (d["weight"], d["length"], d["delay"]) for s, t, d in graph.edges(data=True)}
    assert edges == {("lV1", "rV1"): (2, 30, 10), ("rV1", "lV1"): (1, 30, 10), ("lV1", "lA1"): (3, 12, 4)}
    net = sm.mRNN(graph, device="cpu", seed=0)
    w = net.get_projection(to="lA1", from_="lV1")
    assert w.sum(dim=1).tolist() == pytest.approx([1.5] * 5)
    assert any("not used: areas.txt" in note for note in report.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights.txt": None}, "weights.txt is missing"),
        ({"weights.txt": "0 1\n1 0\n"}, "weights.txt is 2 x 2, but centres.txt has 3 areas"),
        ({"weights.txt": "0 2 0\n1 nan 0\n0 3 0\n"}, "weights.txt, line 2, column 2: nan is not finite"),
        ({"weights.txt": "0 2 0\n1 -4 0\n0 3 0\n"}, "weights.txt, line 2, column 2: -4 is negative"),
        ({"weights.txt": "0 2 0\n1 0\n0 3 0\n"}, "weights.txt, line 2: 2 columns"),
        ({"centres.txt": "a 1 2 3\na 1 2 3\nb 1 2 3\n"}, "centres.txt, line 2: area 'a' is there twice"),
        ({"hemispheres.txt": "1\n0\n"}, "hemispheres.txt has 2 lines for 3 areas"),
        ({"../evil.txt": "x"}, "leads outside of the archive"),
    ],
)
def test_tvb_that_is_not_right(tmp_path, changes, message):
    with refused(message.replace("(", "\\(")):
        read_tvb(tvb(tmp_path / "bad.zip", **changes))


def test_tvb_bomb_and_fan_in(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.txt", b"0" * (80 << 20))
    with refused("zip bomb"):
        read_tvb(tmp_path / "bomb.zip")
    with refused("fan_in is 10, but area 'rV1' has 5 units"):
        read_tvb(tvb(tmp_path / "three.zip"), units=5)


# ---------------------------------------------------------------- flyvis

def by_hand(spec, extent, fill):
    """flyvis's loops, written out: {(source, target): count}."""
    cells = {}
    for node in spec["nodes"]:
        kind, value = node["pattern"]
        steps, n = (value, extent) if kind == "stride" else ((1, 1), 0)
        inside = [(u, v) for u in range(-n, n + 1) for v in range(max(-n, -n - u), min(n, n - u) + 1)]
        cells[node["name"]] = [(u, v) for u, v in inside if u % steps[0] == 0 and v % steps[1] == 0]
    edges = {}
    for e in spec["edges"]:
        there = set(cells[e["tar"]])
        for (du, dv), count in e["offsets"] + [(gap, fill) for gap in e.get("gaps", ())]:
            for u, v in cells[e["src"]]:
                if (u + du, v + dv) in there:
                    edges[f"{e['src']}[{u},{v}]", f"{e['tar']}[{u + du},{v + dv}]"] = e["alpha"] * count
    return cells, edges


def by_id(graph):
    ids = {r.name: r.unit_ids for r in graph.regions()}
    out = {}
    for p in graph.projections():
        coo = p.weights.tocoo()
        for i, j, w in zip(coo.row, coo.col, coo.data, strict=True):
            out[ids[p.source][j], ids[p.target][i]] = float(w)
    return out


def test_flyvis_against_loops(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    spec = json.loads(json.dumps(SMALL))
    spec["edges"][1]["gaps"] = [(0, 1), (1, 1)]  # (1, 0) is on the hull's lowest edge, which does not count
    graph, report = read_flyvis(path, 4, fill=1.0, scale="none")
    cells, edges = by_hand(spec, 4, 1.0)
    assert {r.name: r.n for r in graph.regions()} == {name: len(c) for name, c in cells.items()}
    assert by_id(graph) == pytest.approx(edges)
    assert {p.sign for p in graph.projections() if p.source == "R1"} == {"neg"}
    assert [graph.region(r).parent_region for r in ("R1", "L1", "W")] == ["input", "output", "intermediate"]
    assert report.merged == len(edges)
    near = graph.region("L1").positions
    assert np.sort(np.linalg.norm(near - near[30], axis=1))[1:7] == pytest.approx([1] * 6)


def test_flyvis_with_its_own_parameters(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    graph, _ = read_flyvis(path, 4, share=True, inputs=True, seed=3)
    net = sm.mRNN(graph, "relu", dt=20.0, device="cpu", dtype=torch.float64, seed=0)
    assert sum(p.numel() for p in net.parameters()) == 4 + 4 + 4  # pairs of types, biases, time constants
    for p in graph.projections("recurrent"):  # each starts at 0.01 over the mean count
        gain = net.rec.projection_gains(source=p.source, target=p.target, key=p.key)
        assert gain.item() == pytest.approx(0.01 / np.abs(p.weights.data).mean())
    potential = torch.normal(torch.full((4,), 0.5), torch.full((4,), 0.05), generator=torch.Generator().manual_seed(3))
    names = [node["name"] for node in SMALL["nodes"]]
    assert {r.name: r.base_firing for r in graph.regions()} == pytest.approx(dict(zip(names, potential.tolist(), strict=True)))
    assert set(net.time_constants.values()) == {50.0}
    columns = hex_columns(4)
    light = net.get_projection("R1", "light")
    assert torch.equal(light.sum(1), torch.ones(61))
    by_hand = [f"R1[{u},{v}]" for u, v in columns[light.argmax(1).numpy()].tolist()]
    assert list(graph.region("R1").unit_ids) == by_hand
    assert hex_positions(graph.region("R1").positions).tolist() == columns[light.argmax(1).numpy()].tolist()
    with refused("share=True decides scale"):
        read_flyvis(path, 4, share=True, scale="none")
    for regions in ("role", None, ["role", "type"]):
        with refused("inputs=True adds light to cell types, but regions is "):
            read_flyvis(path, 4, inputs=True, regions=regions)
    shared, _ = read_flyvis(path, 4, share="cell types", scale="none")
    assert sm.mRNN(shared, device="cpu").rec.gains.numel() == 4
    with refused("share is True; use"):
        ImportSettings.of({"share": True})


def test_flyvis_has_734_parameters():
    graph, _ = read_flyvis(source_file("flyvis/fib25-fib19_v2.2.json"), 4, share=True, inputs=True)
    net = sm.mRNN(graph, "relu", dt=20.0, device="cpu", seed=0)
    assert {n: p.numel() for n, p in net.named_parameters() if p.numel()} == {"bias": 65, "tau_logit": 65, "rec.gains": 604}


def test_flyvis_columns_lie_in_the_visual_field():
    """T4a-d and T5a-d are wired for their published preferred directions: from Mi9 to Mi4, from Tm9 to CT1."""
    graph, _ = read_flyvis(source_file("flyvis/fib25-fib19_v2.2.json"), 5, scale="none")
    weights = {(p.source, p.target): abs(p.weights.tocsr()) for p in graph.projections()}
    for kind, inputs in (("T4", ("Mi9", "Mi4")), ("T5", ("Tm9", "CT1(Lo1)"))):
        for subtype, preferred in {"a": 180, "b": 0, "c": 90, "d": 270}.items():
            target = graph.region(kind + subtype)
            centre = np.flatnonzero((hex_positions(target.positions) == 0).all(axis=1))
            middle = []
            for source in inputs:
                row = weights[source, target.name][centre].toarray()[0]
                middle.append(row @ graph.region(source).positions / row.sum())
            x, y = middle[1] - middle[0]
            found = np.degrees(np.arctan2(y, x))
            assert abs((found - preferred + 180) % 360 - 180) < 45, target.name  # nearest of the four


def test_flyvis_published_numbers():
    path = source_file("flyvis/fib25-fib19_v2.2.json")
    spec = json.loads(path.read_text())
    graph, report = read_flyvis(path, scale="none")
    assert graph.n_units == 45_669
    assert report.merged == 1_513_231  # published: flyvis, examples/01_flyvision_connectome
    assert any("Lawf1 -> Lawf1" in note for note in report.notes)
    assert read_flyvis(path, fill=0)[1].merged == 1_357_269
    _, edges = by_hand({**spec, "edges": spec["edges"][:40]}, 15, 1.0)
    found = by_id(graph)
    assert len(edges) > 30_000
    for pair, weight in list(edges.items())[::37]:
        assert found[pair] == pytest.approx(weight)
    closed = 0  # all of the closed hull: what the rule leaves out
    from scipy.spatial import ConvexHull

    cells = {n["name"]: {tuple(c) for c in columns_of(n["pattern"], 15, "").tolist()} for n in spec["nodes"]}
    for e in spec["edges"]:
        offsets = np.array([o for o, _ in e["offsets"]])
        if len(offsets) >= 3 and np.linalg.matrix_rank(offsets - offsets[0]) == 2:
            hull = ConvexHull(offsets).equations
            axes = [range(axis.min(), axis.max() + 1) for axis in offsets.T]
            inside = {p for p in itertools.product(*axes) if (hull[:, :2] @ p + hull[:, 2] <= 1e-9).all()}
            lost = inside - {tuple(o) for o in [*offsets.tolist(), *filled_offsets(offsets).tolist()]}
            source, target = cells[e["src"]], cells[e["tar"]]
            closed += sum((u + du, v + dv) in target for du, dv in lost for u, v in source)
    assert 1_513_231 + closed == 1_517_786


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("edges"), "there is no list 'edges'"),
        (lambda s: s["edges"][0].update(tar="L11"), r"edges\[0\].tar: unknown cell type 'L11'. Did you mean"),
        (lambda s: s["edges"][0].update(alpha=0.5), r"edges\[0\].alpha is 0.5"),
        (lambda s: s["edges"][0].update(offsets=[[[0, 0.5], 1]]), r"edges\[0\].offsets"),
        (lambda s: s["nodes"][0].update(pattern=["spiral", 2]), "node 'R1': pattern"),
    ],
)
def test_flyvis_that_is_not_right(tmp_path, change, message):
    spec = json.loads(json.dumps(SMALL))
    change(spec)
    (tmp_path / "bad.json").write_text(json.dumps(spec))
    with refused(message):
        read_flyvis(tmp_path / "bad.json", 2)


# ---------------------------------------------------------------- C. elegans


def test_celegans_against_the_published_edge_list():
    """An independent count: plain csv, the shipped names, nothing of the code that prepared the network."""
    graph, report = read_celegans()
    neurons = {unit for r in graph.regions() for unit in r.unit_ids}
    assert len(neurons) == 302

    def name(text):
        text = text.strip()
        letters = text.rstrip("0123456789")
        without_zeros = letters + text[len(letters) :].lstrip("0")
        return without_zeros if without_zeros in neurons else text

    chemical, electrical = Counter(), Counter()
    total = outside = 0
    with source_file("celegans/herm_full_edgelist.csv").open() as file:
        for row in csv.DictReader(file):
            total += 1
            pair = name(row["Source"]), name(row["Target"])
            if not (pair[0] in neurons and pair[1] in neurons):
                outside += 1
            elif row["Type"].strip() == "chemical":
                chemical[pair] += int(row["Weight"])
            else:
                electrical[pair] += int(row["Weight"])
    both_ways = [*electrical, *(pair[::-1] for pair in electrical)]
    symmetric = {pair: max(electrical[pair], electrical[pair[::-1]]) for pair in both_ways}
    assert (total, outside) == (7379, 1573)
    assert (len(chemical), len(symmetric)) == (3638, 2173)
    found = {"chemical": {}, "electrical": {}}
    for p in graph.projections():
        ids = graph.region(p.source).unit_ids, graph.region(p.target).unit_ids
        coo = p.weights.tocoo()
        for i, j, w in zip(coo.row, coo.col, coo.data, strict=True):
            found[p.key][ids[0][j], ids[1][i]] = abs(w)
    both = {pair: round(w / 118, 6) for pair, w in symmetric.items() if pair[0] != pair[1]}  # of the leak
    assert {**found["electrical"], **{pair[::-1]: w for pair, w in found["electrical"].items()}} == both
    assert found["chemical"] == chemical
    declared = sum(found["electrical"].values())
    assert report.synapses == pytest.approx(sum(chemical.values()) + declared, abs=1e-3)
    assert report.isolated == 2


def test_celegans_scaled():
    graph, _ = read_celegans(spectral_radius=0.9)
    net = sm.mRNN(graph, device="cpu")
    assert sm.spectral_radius(net.rec.dense().detach().numpy()) == pytest.approx(0.9, rel=1e-4)
