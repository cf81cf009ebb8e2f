"""What is in a file is read right or refused with a specific error: a test for each fault that was found."""

import bz2
import gzip
import io
import json
import signal
import time
import zipfile

import h5py
import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
import scipy.io
import scipy.sparse as sp

import sparse_mrnn as sm
from helpers.common import refused, resident
from helpers.connectome_files import SMALL, TVB, W, dense, tvb
from helpers.graphs import assert_same, bmtk_like, rich_graph
from sparse_mrnn.connectome import (
    from_networkx,
    read_flywire,
    read_graphml,
    read_matrix,
    read_table,
    read_tvb,
)
from sparse_mrnn.errors import ConfigError, ConnectomeError, GraphError, WeightError
from sparse_mrnn.fly_vision import read_flyvis
from sparse_mrnn.interop import read_sonata, write_sonata

HEAD = "pre,post,weight\n"


def table(path, text, **options):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, scale="none", **options)


def ids(graph):
    return {unit for region in graph.regions() for unit in region.unit_ids}


# ---------------------------------------------------------------- text tables


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_line_breaks_end_lines(tmp_path, separator):
    graph, report = table(tmp_path / "e.csv", separator + "\n" + HEAD + f"a,b,3\nc,d{separator}e,4\n")
    assert dense(graph) == {("b", "a"): 3, ("e", "c"): 4}
    assert report.edges == 2


def test_ids_are_text_unless_every_one_is_a_canonical_integer(tmp_path):
    rows = [("01", "1", 3), ("1", "2", 4), ("2", "01", 5)]
    frame = pd.DataFrame(rows, columns=["pre", "post", "weight"])
    frame.to_csv(tmp_path / "e.csv", index=False)
    for source in (frame, tmp_path / "e.csv"):
        assert ids(read_table(source, scale="none")[0]) == {"01", "1", "2"}
    for odd in ("--5", "²", "٣", "+5", "-0", "9" * 5000, "0x10", "1_0"):
        assert ids(table(tmp_path / "e.csv", HEAD + f"{odd},2,1\n")[0]) == {odd, "2"}
    late = HEAD + "10,11,1\n" * 300_000 + "010,11,1\n"  # in another block of the file
    assert ids(table(tmp_path / "e.csv", late)[0]) == {"10", "11", "010"}
    graph, _ = table(tmp_path / "e.csv", HEAD + "10,9,1\n 9 ,-1,1\n")
    assert graph.region("neurons").unit_ids == ("-1", "9", "10")  # integers, in their order


def test_na_is_a_name_in_files_and_dataframes(tmp_path):
    cells = pd.DataFrame({"id": ["NA", "b", "c"], "area": ["NA", "V1", ""]})
    edges = pd.DataFrame({"pre": ["NA", "b"], "post": ["b", "c"], "weight": [3, 4]})
    cells.to_csv(tmp_path / "cells.csv", index=False)
    edges.to_csv(tmp_path / "edges.csv", index=False)
    for sources in ((edges, cells), (tmp_path / "edges.csv", tmp_path / "cells.csv")):
        with refused(r"column 'id': the id is missing, 'NA' .* give missing_ids='keep'"):
            read_table(*sources, regions="area")
        graph, _ = read_table(*sources, regions="area", scale="none", missing_ids="keep")
        members = {r.name: r.unit_ids for r in graph.regions()}
        assert members == {"NA": ("NA",), "V1": ("b",), "unassigned": ("c",)}
    with refused("'NA' is not a number"):
        table(tmp_path / "e.csv", HEAD + "a,b,NA\n")


def test_headers_with_line_breaks_and_without_ids(tmp_path):
    text = '\n"pre",post,"the\nweight"\na,b,3\n'
    assert dense(table(tmp_path / "e.csv", text, weight="the\nweight")[0]) == {("b", "a"): 3}
    (tmp_path / "connections.csv").write_text("pre_root_id,post_root_id,syn_count\n1,2,3\n")
    (tmp_path / "neurons.csv").write_text("id,nt_type\n1,ACH\n2,ACH\n")
    with refused("neurons.csv: column 'root_id' is missing"):
        read_flywire(tmp_path, regions=None)


@pytest.mark.parametrize(
    "columns",
    [
        {"pre": ["a", "b"], "post": ["b"], "weight": [1, 2]},
        {"pre": ["a", 1], "post": ["b", "c"], "weight": [1, 2]},
        {"pre": ["a", "b"], "post": ["b", "c"], "weight": [1, 2j]},
        {"pre": [[1], [2]], "post": ["b", "c"], "weight": [1, 2]},
        {"pre": ["a", "b"], "post": ["b", "c"], "weight": ["1_0", "2"]},
        {"pre": [True, False], "post": ["b", "c"], "weight": [1, 2]},
    ],
)
@pytest.mark.parametrize("frame", [True, False])
def test_odd_columns_in_memory(columns, frame):
    if frame and len(columns["post"]) < 2:
        pytest.skip("pandas refuses it")
    with refused("edges"):
        read_table(pd.DataFrame(columns) if frame else columns)


def test_unused_categories_are_no_neurons():
    pre = pd.Categorical(["a", "b"], categories=["a", "b", "ghost"])
    assert ids(read_table(pd.DataFrame({"pre": pre, "post": ["b", "c"]}), scale="none")[0]) == {"a", "b", "c"}


# ---------------------------------------------------------------- overflow


def test_counts_beyond_what_a_number_holds(tmp_path):
    with refused("line 2, column 'weight': the synapse count 1e.308 is too large"):
        table(tmp_path / "e.csv", HEAD + "a,b,1e308\nc,b,1e308\n")
    with refused("the counts onto a neuron add to more than a number can hold"):
        edges = {"pre": ["a", "c"], "post": ["b", "b"], "weight": [1e308, 1.5e308]}
        read_table(edges, counts=False, scale="fraction")
    with refused("from neuron a to neuron b is too large for a number"):
        read_table({"pre": ["a"], "post": ["b"], "weight": [3]}, scale="none", gain=1e300)
    with refused("from neuron a to neuron b rounds to 0"):
        read_table({"pre": ["a"], "post": ["b"], "weight": [3]}, scale="none", gain=1e-300)


def test_weights_beyond_float32_are_refused_by_the_model():
    graph, _ = read_table({"pre": ["a"], "post": ["b"], "weight": [1e39]}, counts=False, scale="none")
    with pytest.raises(WeightError, match="'neurons' -> 'neurons': a weight of 1e.39 is too large for float"):
        sm.mRNN(graph, device="cpu")


# ---------------------------------------------------------------- matrices


def csr_file(path, pointers, indices=(1, 0, 2), shape=(3, 3)):
    arrays = {"indptr": pointers, "indices": indices, "data": range(1, len(indices) + 1), "shape": shape}
    np.savez(path, format=b"csr", **{name: np.array(values) for name, values in arrays.items()})
    return path


POINTERS = [[0, 2, 1, 3], [0, 10**9, 2, 3], [0, -1, 2, 3], [0, 1, 2], [1, 1, 2, 3], [0, 1, 2, 2]]


@pytest.mark.parametrize("pointers", POINTERS)
def test_npz_with_row_pointers_that_do_not_rise(tmp_path, pointers):
    with refused("net.npz: cannot be read as npz: indptr"):
        read_matrix(csr_file(tmp_path / "net.npz", pointers), orientation="target_source")


def test_npz_with_other_damage(tmp_path):
    path = tmp_path / "net.npz"
    with refused("an index lies outside of the matrix"):
        read_matrix(csr_file(path, [0, 1, 2, 3], indices=(1, 0, 7)), orientation="target_source")
    sp.save_npz(path, sp.csr_array(W))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with refused("encrypted"):
        read_matrix(path)
    data[at + 8] &= ~1
    data[at + 10] = 99
    path.write_bytes(data)
    with refused("cannot be read"):
        read_matrix(path)


def header(shape, kind="<f8"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("shape", ["(1000000000, 1000000000)", "(3, -1)", "(3, 3.5)", "((((", "(3,) * 10**9"])
def test_npy_headers_are_checked_before_memory_is_taken(tmp_path, shape):
    (tmp_path / "net.npy").write_bytes(header(shape) + bytes(72))
    with refused("net.npy: cannot be read as npy: .*header"):
        read_matrix(tmp_path / "net.npy", orientation="target_source")


def test_labels_that_are_no_text(tmp_path):
    labels = np.array(["a", "b"]).view(np.uint32)
    labels[1] = 0x950000
    np.savez(tmp_path / "net.npz", w=np.eye(2), labels=labels.view("U1"))
    with refused("numbers that are not letters"):
        read_matrix(tmp_path / "net.npz")


def test_npy_of_an_old_name_of_a_type(tmp_path):
    np.save(tmp_path / "net.npy", np.zeros((2, 2), "S1"))
    data = (tmp_path / "net.npy").read_bytes().replace(b"|S1", b"|a1")
    (tmp_path / "net.npy").write_bytes(data)
    with refused("net.npy"):
        read_matrix(tmp_path / "net.npy")


def test_npy_cut_short(tmp_path):
    np.save(tmp_path / "net.npy", W)
    data = (tmp_path / "net.npy").read_bytes()
    for n in (1, 7, 11, 60, len(data) - 1):
        (tmp_path / "net.npy").write_bytes(data[:n])
        with refused("net.npy: cannot be read as npy"):
            read_matrix(tmp_path / "net.npy")


MARKET = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MARKET + "2 2 2\n1 1 1\n2 2 1 x", "something else than numbers"),
        (MARKET + "2 2 2\n1 1 1\n2 2 1%junk", "something else than numbers"),
        (MARKET + "1000000000 1000000000 1\n1 2 0.5\n", "does not fit a file"),
        (MARKET + "2 2 1000000000\n1 2 0.5\n", "promises 1,000,000,000 entries"),
        (MARKET + "2 2 1\n1 3 0.5\n", "outside"),
        (MARKET + "2\r2\r1\n1 2 0.5\n", "the line of sizes"),
        (MARKET + "2 2 1\n1 2\n", "Expected 3 columns"),
        (MARKET.replace("coordinate", "array") + "1000000000 1000000000\n1\n", "promises"),
        (MARKET.replace("real", "complex") + "2 2 1\n1 2 0.5 1\n", "real numbers"),
        (MARKET.replace("general", "symmetric") + "2 2 1\n1 2 0.5\n", "below the diagonal"),
    ],
)
def test_matrix_market_is_checked_line_by_line(tmp_path, text, message):
    (tmp_path / "net.mtx").write_text(text)
    with refused(message):
        read_matrix(tmp_path / "net.mtx", orientation="target_source")


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("layout", [np.asarray, sp.coo_array])
def test_matrix_market_as_scipy_writes_it(tmp_path, symmetry, layout):
    w = {"general": W, "symmetric": W + W.T, "skew-symmetric": W - W.T}[symmetry]
    scipy.io.mmwrite(tmp_path / "net.mtx", layout(w), symmetry=symmetry)
    graph, _ = read_matrix(tmp_path / "net.mtx", orientation="target_source", labels=list("012"))
    assert dense(graph) == {(str(i), str(j)): w[i, j] for i in range(3) for j in range(3) if w[i, j]}


def test_damaged_mat_files_cannot_take_the_process_down(tmp_path):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"W": sp.csc_array(W)})
    path, rng, reached = tmp_path / "net.mat", np.random.default_rng(0), set()
    for _ in range(4):
        data = bytearray(buffer.getvalue())
        for at in rng.integers(128, len(data), 3):
            data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            read_matrix(path, orientation="target_source")
        except ValueError as error:
            reached.add(type(error).__name__)
    assert reached == {"ConnectomeError"}
    path.write_bytes(buffer.getvalue())
    assert len(dense(read_matrix(path, orientation="target_source")[0])) == 4


def test_a_reader_that_crashes_hangs_or_grows_is_named(tmp_path, monkeypatch):
    from sparse_mrnn.connectome import sandbox

    scipy.io.savemat(tmp_path / "net.mat", {"W": W})
    script = tmp_path / "child.py"
    monkeypatch.setattr(sandbox, "__file__", str(script))
    script.write_text(f"import os, signal; os.kill(os.getpid(), {signal.SIGSEGV.value})")
    with refused(r"net.mat: cannot be read as mat: it crashes the reader \(signal 11\)"):
        read_matrix(tmp_path / "net.mat")
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(sandbox, "SECONDS", 0.5)
    with refused("takes more than 0.5 s"):
        read_matrix(tmp_path / "net.mat")


def test_headerless_numbers_are_a_matrix(tmp_path):
    np.savetxt(tmp_path / "net.csv", W, delimiter=",")
    graph, _ = read_matrix(tmp_path / "net.csv", orientation="target_source")
    assert dense(graph) == {("0", "1"): 2, ("1", "0"): 0.5, ("1", "2"): -1, ("2", "2"): 0.25}


def test_labels_of_a_large_matrix_take_no_time(tmp_path):
    n = 100_000
    sp.save_npz(tmp_path / "net.npz", sp.csr_array((n, n)))
    names = [f"n{k}" for k in range(n - 1)] + ["n7"]
    start = time.process_time()
    with refused("label 'n7' names rows 7 and 99999"):
        read_matrix(tmp_path / "net.npz", labels=names)
    assert time.process_time() - start < 5
    with refused("labels are 5"):
        read_matrix(tmp_path / "net.npz", labels=5)


# ---------------------------------------------------------------- Feather, compressed text


def test_feather_with_a_damaged_dictionary(tmp_path):
    bad = pa.DictionaryArray.from_arrays(pa.array([0, 1000], pa.int32()), pa.array(["a", "b"]), safe=False)
    data = pa.table({"pre": bad, "post": pa.array(["b", "a"]), "weight": pa.array([1, 2])})
    pa.feather.write_feather(data, tmp_path / "e.feather")
    with refused("e.feather: cannot be read as feather"):
        read_table(tmp_path / "e.feather")


def test_a_small_file_cannot_unpack_to_much(tmp_path):
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(HEAD.encode() + b"1,2,3\n" * 4_000_000))
    with refused("decompression bomb"):
        read_table(tmp_path / "e.csv.gz")


# ---------------------------------------------------------------- GraphML


def graphml(path, inside, head='<?xml version="1.0"?>', encoding="utf-8"):
    text = head + '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">' + inside + "</graphml>"
    path.write_bytes(text.encode(encoding))
    return path


NODES = '<node id="a"/><node id="b"/>'
GRAPH = '<graph edgedefault="directed">%s</graph>'


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (GRAPH % NODES + GRAPH % NODES, "second or nested graph"),
        (GRAPH % (NODES + GRAPH % ""), "second or nested graph"),
        (GRAPH % (NODES + '<edge source="a" target="c"/>'), "'c', which is not declared"),
        (GRAPH % (NODES + '<node id="a"/>'), "the node 'a' is there twice"),
        (GRAPH % "<node/>", "a node has no id"),
        (
            '<key id="w" for="edge" attr.name="weight" attr.type="double"/>'
            + GRAPH % (NODES + '<edge source="a" target="b"><data key="w">2<data key="x">1</data></data></edge>'),
            "a data element within data of key 'w'",
        ),
        ('<key id="w" for="edga" attr.name="weight" attr.type="double"/>' + GRAPH % NODES, "a key is for 'edga'"),
        (
            '<key id="w" for="node" attr.name="weight" attr.type="double"/>'
            + GRAPH % (NODES + '<edge source="a" target="b"><data key="w">1</data></edge>'),
            "data of key 'w', for a node, is in an element edge",
        ),
    ],
)
def test_graphml_that_networkx_would_read_in_part(tmp_path, inside, message):
    with refused(message):
        read_graphml(graphml(tmp_path / "g.graphml", inside))


def test_graphml_document_types_in_any_encoding(tmp_path):
    entity = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    for encoding in ("utf-8", "utf-16"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>{entity}'
        path = graphml(tmp_path / "g.graphml", GRAPH % NODES, head, encoding)
        with refused("declares a document type or entities"):
            read_graphml(path)
    with refused("encoding"):
        read_graphml(graphml(tmp_path / "g.graphml", "", '<?xml version="1.0" encoding="x-none"?>'))


def test_graphml_defaults_are_applied(tmp_path):
    key = '<key id="w" for="edge" attr.name="weight" attr.type="double"><default>4</default></key>'
    edges = '<edge source="a" target="b"><data key="w">2</data></edge><edge source="b" target="a"/>'
    path = graphml(tmp_path / "g.graphml", key + GRAPH % (NODES + edges))
    graph, _ = read_graphml(path, scale="none")
    assert dense(graph) == {("b", "a"): 2, ("a", "b"): 4}


def test_networkx_only():
    with refused("a networkx graph is needed, not dict"):
        from_networkx({"a": 1})
    with refused("attribute 'weight'"):
        from_networkx(nx.DiGraph([("a", "b", {"weight": 10**400})]))


# ---------------------------------------------------------------- flyvis


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["nodes"][0].update(pattern=["stride", [0, 0]]), "pattern"),
        (lambda s: s["nodes"][0].update(pattern=["stride", [1.5, 1]]), "pattern"),
        (lambda s: s["nodes"][0].update(pattern=["tile", True]), "pattern"),
        (lambda s: s["nodes"][0].update(name=["R1"]), r"nodes\[0\].name"),
        (lambda s: s["nodes"][1].update(name="R1"), "'R1' is there twice"),
        (lambda s: s.update(input_units=["R9"]), r"input_units\[0\]: unknown cell type 'R9'"),
        (lambda s: s.update(output_units=[["L1"]]), r"output_units\[0\]: unknown cell type"),
        (lambda s: s["edges"][0].update(src=["R1"]), r"edges\[0\].src"),
        (lambda s: s["edges"][1]["offsets"].append([[20_000, 20_000], 1]), "20000"),
        (lambda s: s["edges"][1]["offsets"].append([[0, 0], 1]), "there twice"),
        (lambda s: s["edges"][1]["offsets"].append([[10**400, 0], 1]), "whole du, dv"),
    ],
)
def test_flyvis_entries_are_what_they_should_be(tmp_path, change, message):
    spec = json.loads(json.dumps(SMALL))
    change(spec)
    (tmp_path / "fly.json").write_text(json.dumps(spec))
    with refused(message):
        read_flyvis(tmp_path / "fly.json", 2)


def test_json_that_is_deep_or_says_things_twice(tmp_path):
    path = tmp_path / "fly.json"
    path.write_text("[" * 100_000)
    with refused("nested too deeply"):
        read_flyvis(path)
    path.write_text('{"nodes": [], "nodes": []}')
    with refused("the key 'nodes' is there twice"):
        read_flyvis(path)
    path.write_text('{"nodes": ' + "9" * 5000 + "}")
    with refused("too many digits"):
        read_flyvis(path)


def test_far_offsets_take_no_memory(tmp_path):
    spec = json.loads(json.dumps(SMALL))
    spec["edges"][1]["offsets"] = [[[0, 0], 5], [[9_999, 0], 3], [[0, 9_999], 1.5]]
    (tmp_path / "fly.json").write_text(json.dumps(spec))
    before = resident("VmRSS", forget_peak=True)
    read_flyvis(tmp_path / "fly.json", 2)
    assert resident("VmHWM") - before < 100 << 20
    with refused("extent is 10000000"):
        read_flyvis(tmp_path / "fly.json", 10_000_000)


# ---------------------------------------------------------------- The Virtual Brain


def test_tvb_archives_that_unpack_to_much_or_not_at_all(tmp_path):
    path = tmp_path / "net.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("centres.txt", TVB["centres.txt"])
        archive.writestr("weights.txt.bz2", bz2.compress(bytes(257 << 20)))
    assert path.stat().st_size < 1000
    with refused("holds more than the .* bytes that it may"):
        read_tvb(path)
    tvb(path, **{"centres.txt": "caf\xe9 1 2 3\n"})
    data = zipfile.ZipFile(path).read("centres.txt").decode().encode("latin-1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("centres.txt", data)
        archive.writestr("weights.txt", "0")
    with refused("centres.txt is not UTF-8 text"):
        read_tvb(path)
    tvb(path)
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 255
    path.write_bytes(damaged)
    with refused("net.zip"):
        read_tvb(path)
    with refused("a number other than 0"):
        read_tvb(tvb(path, **{"hemispheres.txt": "1\n2\n0\n"}))


# ---------------------------------------------------------------- SONATA


def changed(folder, file, name, data, **attributes):
    with h5py.File(folder / file, "a") as f:
        del f[name]
        f[name] = data
        if isinstance(f[name], h5py.Dataset):
            f[name].attrs.update(attributes)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("source_node_id", [0.5, 2.0], "of type float64"),
        ("source_node_id", [0 + 1j, 2], "of type complex128"),
        ("source_node_id", 1, "not a dataset of one dimension"),
        ("target_node_id", [0, 1, 2], "has 3 values; 2 are needed"),
        ("target_node_id", [0, 2**63], "outside of 0..2"),
        ("edge_group_index", [0, -1], "has 2 values, but others are used"),
        ("edge_type_id", np.array([b"a", b"b"]), "of type"),
        ("0/nsyns", [-1, 2], "nsyns"),
    ],
)
def test_sonata_datasets_of_odd_types(tmp_path, name, data, message):
    nodes, edges = bmtk_like(tmp_path)
    if isinstance(data, list) and max(map(abs, data)) >= 2**63:
        data = np.array(data, dtype=np.uint64)
    changed(tmp_path, "edges.h5", f"edges/v1_v1/{name}", data, node_population="v1")
    with refused(message):
        read_sonata(nodes, edges)


def test_sonata_edges_must_say_where_they_end(tmp_path):
    nodes, edges = bmtk_like(tmp_path)
    changed(tmp_path, "edges.h5", "edges/v1_v1/source_node_id", [0, 2])
    with refused("has sources in None, which nodes.h5 does not have; there are 'lgn', 'v1'"):
        read_sonata(nodes, edges)


def test_sonata_names_survive(tmp_path):
    graph = sm.RegionGraph(name="NULL")
    graph.add_region("null", 2, unit_ids=["", "NULL"], parent_region='q"uo te')
    graph.add_region("a\u2028b", 2, unit_ids=["a\nb", "\u2028"], parent_region=" NULL region ")
    graph.add_region("\\x\x85ü", 1)
    graph.add_projection("null", "a\u2028b", weights=np.ones((2, 2)), key="NULL ")
    graph.add_projection("\\x\x85ü", "a\u2028b", weights=np.ones((2, 1)), key=" ")
    write_sonata(graph, tmp_path / "net")
    assert_same(graph, read_sonata(tmp_path / "net")[0])


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"name": "NULL"}, "the name 'NULL' is empty, means no value"),
        ({"name": "a\rb"}, r"the name 'a\\rb' is empty, .*control character.*, which SONATA cannot hold; rename it"),
        ({"name": "\\x\tü"}, r"tü' is empty, .*control character"),
        ({"parent": "NULL"}, "the name 'NULL'"),
        ({"parent": "a\nb"}, "control character"),
        ({"key": ""}, "the name '' is empty"),
        ({"key": "NULL"}, "the name 'NULL'"),
        ({"key": "a\tb"}, "control character"),
        ({"unit": "nul\0"}, "a character that HDF5 cannot hold"),
    ],
)
def test_sonata_refuses_names_that_it_would_change(tmp_path, declared, problem):
    names = {"name": "a", "parent": "p", "key": "k", "unit": "u", **declared}
    graph = sm.RegionGraph()
    graph.add_region(names["name"], 1, unit_ids=[names["unit"]], parent_region=names["parent"])
    graph.add_projection(names["name"], names["name"], weights=np.ones((1, 1)), key=names["key"])
    with refused(problem):
        write_sonata(graph, tmp_path / "other")
    assert not (tmp_path / "other").exists()


LINKS = [h5py.ExternalLink("secret.h5", "/x"), h5py.SoftLink("/nodes"), "external data"]


@pytest.mark.parametrize("link", LINKS)
def test_sonata_links_are_not_followed(tmp_path, link):
    nodes, edges = bmtk_like(tmp_path)
    (tmp_path / "secret.h5").write_bytes(bytes(64))
    with h5py.File(nodes, "a") as file:
        del file["nodes/v1/0/layer"]
        if isinstance(link, str):
            storage = [(str(tmp_path / "secret.h5"), 0, 64)]
            file.create_dataset("nodes/v1/0/layer", shape=(2,), dtype="i8", external=storage)
        else:
            file["nodes/v1/0/layer"] = link
    with refused("may lead out of the file is not followed"):
        read_sonata(nodes, edges)


def test_sonata_datasets_that_promise_too_much(tmp_path):
    nodes, edges = bmtk_like(tmp_path)
    with h5py.File(nodes, "a") as file:
        del file["nodes/v1/node_type_id"]
        file["nodes/v1"].create_dataset("node_type_id", shape=(10**12,), dtype="i8", chunks=(1024,))
    with refused("promises 1,000,000,000,000 values"):
        read_sonata(nodes, edges)


def test_a_sonata_file_whose_name_is_too_long(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    config = tmp_path / "net" / "circuit_config.json"
    config.write_text(config.read_text().replace("nodes.h5", "a" * 300 + ".h5"))
    with refused("File name too long"):
        read_sonata(tmp_path / "net")


def test_sonata_types_without_a_line_and_weights_that_are_infinite(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    types = tmp_path / "net" / "edge_types.csv"
    text = types.read_text()
    types.write_text("")
    with refused("column .* is missing"):
        read_sonata(tmp_path / "net")
    types.write_text(text)
    import h5py

    with h5py.File(tmp_path / "net" / "edges.h5", "r+") as file:
        (weights,) = [part for group in file["edges"].values() for name, part in group["0"].items() if name == "syn_weight"][:1]
        weights[0] = np.inf
    with refused("is not finite"):
        read_sonata(tmp_path / "net")


def test_sonata_parts_that_contradict_each_other(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    types = tmp_path / "net" / "edge_types.csv"
    text = types.read_text()
    types.write_text(text.replace(" 1.5 ", " -1.5 "))
    with refused("delay is -1.5"):
        read_sonata(tmp_path / "net")
    types.write_text("\n".join(line for line in text.splitlines() if "inputs_to_units" not in line) + "\n")
    with refused("edge_type_ids|populations"):
        read_sonata(tmp_path / "net")
    types.write_text(text.replace("units_to_units", "units_to_unlts", 1))
    with refused("populations"):
        read_sonata(tmp_path / "net")


# ---------------------------------------------------------------- configurations


def config(tmp_path, text):
    (tmp_path / "net.json").write_text(text)
    return sm.read_config(tmp_path / "net.json")


REGIONS = '"recurrent_regions": [{"name": "a", "num_units": 3}]'
CONNECTION = "{" + REGIONS + ', "recurrent_connections": [{"src_region": "a", "dst_region": "a", %s}]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "JSON list"),
        ("3", "JSON int"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": "a", "name": "b"}', "the key 'name' is there twice"),
        ('{"recurrent_regions": [{"num_units": 1, "num_units": 2}]}', "the key 'num_units' is there twice"),
        (CONNECTION % '"initializer": {"type": ["constant"]}', "the type is"),
        (CONNECTION % '"rule": {"type": {}}', "the type is"),
        (CONNECTION % '"initializer": {"type": "constant", "value": NaN}', "must be finite"),
        (CONNECTION % '"initializer": {"type": "constant", "value": [1]}', "constant"),
        (CONNECTION % '"rule": {"type": "fixed_fan_in", "fan_in": "x"}', "fan_in"),
        ('{"recurrent_regions": [{"num_units": 3, "tau": Infinity}]}', "finite"),
        ('{"recurrent_regions": [{"num_units": 1000000000000000}]}', "too many"),
    ],
)
def test_configurations_that_are_odd(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, text)


def test_units_are_numbered_in_32_bits():
    graph = sm.RegionGraph()
    for k in range(3):
        graph.add_region(f"r{k}", 2**30)
    with pytest.raises(GraphError, match="3,221,225,472 units are more than a network can have"):
        sm.mRNN(graph, device="cpu")


@pytest.mark.parametrize("n", [4_000, 10_000])
def test_a_ring_of_many_regions_is_read_in_seconds(n):
    regions = [{"name": f"r{k}", "num_units": 2, "parent_region": f"p{k // 10}"} for k in range(n)]
    ring = [{"src_region": f"r{k}", "dst_region": f"r{(k + 1) % n}"} for k in range(n)]
    start = time.process_time()
    graph = sm.read_config({"recurrent_regions": regions, "recurrent_connections": ring})
    assert time.process_time() - start < 5
    assert graph.number_of_edges() == n


def test_a_quote_in_a_header_that_is_not_closed(tmp_path):
    """It would make all rows part of a column's name, and the table an empty one."""
    (tmp_path / "edges.csv").write_text("pre,post,count\na,b,3\n")
    (tmp_path / "neurons.csv").write_text('neuron,"class\na,x\nb,y\n')
    with pytest.raises(ConnectomeError, match="neurons.csv, line 1: a quote in the header is not closed"):
        read_table(tmp_path / "edges.csv", tmp_path / "neurons.csv")
