"""Edge lists as R, Excel, pandas, SNAP and KONECT write them: read right, or refused with what to do."""

import gzip

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import sparse_mrnn as sm
from helpers.common import refused
from helpers.connectome_files import by_unit
from sparse_mrnn.connectome import from_networkx, read_flywire, read_table

TWO = {("AVA", "AVB"): 3, ("AVB", "AVA"): 2}
ROWS = "AVA,AVB,3\nAVB,AVA,2\n"
R_ROWS = '"1" "AVA" "AVB" 3\n"2" "AVB" "AVA" 2\n'


def table(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, scale="none", **options)


READ = {
    # content, expected (None: TWO), options
    "R write.table": ('"pre" "post" "n_syn"\n' + R_ROWS, None, {}),
    "R write.table, quote=FALSE": ("pre post n_syn\n1 AVA AVB 3\n2 AVB AVA 2\n", None, {}),
    "R write.table, row.names=FALSE": ('"pre" "post" "n_syn"\n"AVA" "AVB" 3\n"AVB" "AVA" 2\n', None, {}),
    "R write.table, neither": ("pre post n_syn\nAVA AVB 3\nAVB AVA 2\n", None, {}),
    "R write.table, col.names=FALSE": ('"AVA" "AVB" 3\n"AVB" "AVA" 2\n', None, {}),
    "R write.table, sep tab": ('"pre"\t"post"\t"n_syn"\n' + R_ROWS.replace(" ", "\t"), None, {}),
    "R write.table, col.names=NA": ('""\t"pre"\t"post"\t"n_syn"\n' + R_ROWS.replace(" ", "\t"), None, {}),
    "R write.csv": ('"","pre","post","n_syn"\n' + R_ROWS.replace(" ", ","), None, {}),
    "R names with blanks": (
        '"pre" "post" "n_syn"\n"1" "AV  A" "AVB" 3\n', {("AV  A", "AVB"): 3}, {},
    ),
    "R large numbers": ("pre,post,n_syn\n1e+05,2,1\n2,1e+05,4\n", {("100000", "2"): 1, ("2", "100000"): 4}, {}),
    "pandas with index": (",pre,post,n_syn\n0,AVA,AVB,3\n1,AVB,AVA,2\n", None, {}),
    "pandas with index, blanks": (" pre post weight\n0 AVA AVB 3\n1 AVB AVA 2\n", None, {}),
    "pandas numbers of columns": (
        ",0,1,2\n0,AVA,AVB,3\n1,AVB,AVA,2\n", None, {"source": "0", "target": "1", "weight": "2"},
    ),
    "pandas floats": ("pre,post,weight\n1.0,2.0,3\n2.0,1.0,2\n", {("1", "2"): 3, ("2", "1"): 2}, {}),
    "Excel trailing commas": ("Source,Target,Weight,,\nAVA,AVB,3,,\nAVB,AVA,2,,\n,,,,\n", None, {}),
    "Excel without some": ("Source,Target,Weight,,\nAVA,AVB,3,,\nAVB,AVA,2\n", None, {}),
    "Excel title": ("The worm,,\n,,\nSource,Target,Weight\n" + ROWS, None, {}),
    "Excel title with commas": ('"Cook et al., 2019",,\nSource,Target,Weight\n' + ROWS, None, {}),
    "a title": ("The worm\n\nSource,Target,Weight\n" + ROWS, None, {}),
    "Excel semicolons": ("\ufeffSource;Target;Weight\r\nAVA;AVB;3\r\nAVB;AVA;2\r\n", None, {}),
    "Excel decimal commas": (
        "Source;Target;Weight\nAVA;AVB;1,5\nAVB;AVA;2\n", {("AVA", "AVB"): 1.5, ("AVB", "AVA"): 2}, {"counts": False},
    ),
    "Excel sep=": ("sep=;\nSource;Target;Weight\nAVA;AVB;3\nAVB;AVA;2\n", None, {}),
    "trailing commas below": ("pre,post,weight\nAVA,AVB,3,\nAVB,AVA,2,\n", None, {}),
    "SNAP": (
        "# Directed graph: x\n# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\n30\t1412\n30\t3352\n",
        {("30", "1412"): 1, ("30", "3352"): 1}, {},
    ),
    "SNAP, undirected": (
        "# Undirected graph (each unordered pair of nodes is saved once)\n# FromNodeId\tToNodeId\n0\t1\n1\t1\n",
        {("0", "1"): 1, ("1", "0"): 1, ("1", "1"): 1}, {},
    ),
    "SNAP without comments": ("0 1\n0 2\n1 2\n", {("0", "1"): 1, ("0", "2"): 1, ("1", "2"): 1}, {}),
    "KONECT": ("% asym positive\n% 2 3 3\n1 2 3\n3 1 5\n", {("1", "2"): 3, ("3", "1"): 5}, {}),
    "KONECT, mixed blanks": ("% asym positive\n1 2\t3 1082408561\n3 1\t5 1082408562\n", {("1", "2"): 3, ("3", "1"): 5}, {}),
    "KONECT, undirected": ("% sym weighted\n1 2 4\n", {("1", "2"): 4, ("2", "1"): 4}, {}),
    "comment with the header": ("# pre,post,weight\n" + ROWS, None, {}),
    "comment //": ("// mine\npre,post,weight\n" + ROWS, None, {}),
    "comments below": ("# mine\npre,post,weight\nAVA,AVB,3\n# and\nAVB,AVA,2\n", None, {}),
    "comment given": ("pre,post,weight\nAVA,AVB,3\n# AVB,AVA,7\nAVB,AVA,2\n", None, {"comment": "#"}),
    "another comment given": ("; x\npre,post,weight\nAVA,AVB,3\n;AVB,AVA,7\nAVB,AVA,2\n", None, {"comment": ";"}),
    "an id, not a comment": ("pre,post,weight\n#1,AVB,3\n", {("#1", "AVB"): 3}, {"comment": ""}),
    "no header": ("1,2,4\n2,3,1\n", {("1", "2"): 4, ("2", "3"): 1}, {}),
    "no header, named": ("1,2,4\n2,3,1\n", {("1", "2"): 4, ("2", "3"): 1}, {"columns": ["source", "target", "weight"]}),
    "runs of blanks": ("  pre   post  weight\n  AVA  AVB   3\n AVB AVA  2\n", None, {}),
    "names of a display": ("Pre Root ID,Post-Root ID,Syn Count\n" + ROWS, None, {}),
    "CAVE's root id 0": ("pre_pt_root_id,post_pt_root_id\n0,5\n7,5\n7,0\n", {("7", "5"): 1}, {}),
    "NA left out": (
        "pre,post,weight\n1,2,5\nNA,1,3\n2,NULL,3\nnan,#N/A,1\n", {("1", "2"): 5}, {"missing_ids": "drop"},
    ),
    "NA is a name": ("pre,post,weight\nNA,b,5\n", {("NA", "b"): 5}, {"missing_ids": "keep"}),
    "Gephi": ("Source,Target,Type,Id,Label,timeset,Weight\nAVA,AVB,Directed,0,,,3.0\nAVB,AVA,Directed,1,,,2.0\n", None, {}),
    "Gephi, some undirected": (
        "Source,Target,Type,Weight\nAVA,AVB,Undirected,3.0\n,,,\nAVB,AVC,Directed,2.0\nAVC,AVC,Undirected,1\n",
        {("AVA", "AVB"): 3, ("AVB", "AVA"): 3, ("AVB", "AVC"): 2, ("AVC", "AVC"): 1}, {},
    ),
    "Gephi, each row once": ("Source,Target,Type,Weight\nAVA,AVB,Undirected,3\n", {("AVA", "AVB"): 3}, {"undirected": False}),
    "a type of another kind": ("Neuron 1,Neuron 2,Type,Nbr\nAVA,AVB,S,3\nAVB,AVA,undirected,2\n", None, {}),
    "numpy savetxt": (
        "1.000000000000000000e+00 2.000000000000000000e+00 3.000000000000000000e+00\n"
        "2.000000000000000000e+00 1.200000000000000000e+01 4.000000000000000000e+00\n", {("1", "2"): 3, ("2", "12"): 4}, {},
    ),
    "C's %e": ("pre,post,weight\n1.000000e+00,1.234560e+05,3\n", {("1", "123456"): 3}, {}),
    "MATLAB -ascii": ("   1.0000000e+00   2.0000000e+00   3.0000000e+00\n", {("1", "2"): 3}, {}),
    "ids as formulas": ('pre,post,weight\n"=""720575940623374218""","=""5""",3\n', {("720575940623374218", "5"): 3}, {}),
    "CATMAID": ('"pre_skid","post_skid","count"\n1,2,3\n', {("1", "2"): 3}, {}),
    "no weight": ("pre,post,sections\nAVA,AVB,3\n", {("AVA", "AVB"): 1}, {"weight": ""}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read_at_the_first_try(tmp_path, name):
    content, expected, options = READ[name]
    graph, _ = table(tmp_path / "edges.txt", content, **options)
    assert by_unit(graph) == (expected or TWO)


REFUSED = {
    "row names, no header": ('"1" "AVA" "AVB" 3\n"2" "AVB" "AVA" 2\n', "looks like a row.*'row', 'source', 'target'", {}),
    "numbers of rows": ("1,10,20\n2,11,21\n3,10,21\n", "looks like a row", {}),
    "pandas' columns": ("0,1,2\n1,2,4\n", "names that pandas gives to columns", {}),
    "times": ("9 8 1082407921\n2 3 1082411222\n", "looks like a row", {}),
    "a row named as header": ("1,2,4\n2,3,1\n", "looks like a row", {"source": "1", "target": "2", "weight": "4"}),
    "a row of text named as header": ("AVA,AVB\nAVB,AVA\n", "columns=", {"source": "AVA", "target": "AVB"}),
    "a header that is short": ("pre,post\nAVA,AVB,3\nAVB,AVA,2\n", "the header has 2 columns, but the rows have 3", {}),
    "a header that is long": ("pre,post,weight,x\n" + ROWS, "3 columns, but the header has 4", {}),
    "a comment among rows": ("pre,post,weight\nAVA,AVB,3\n# AVB,AVA,7\n", "line 3, .* Give comment='#'", {}),
    "a row that is a comment": ("# x\npre,post,weight\nAVA,AVB,3\n# AVB,AVA,7\n", "like a row and like a comment", {}),
    "a short comment": ("pre,post,weight\nAVA,AVB,3\n% hello\n", "line 3: 1 columns.*comment='%'", {}),
    "thousands": ("Source;Target;Weight\nAVA;AVB;1,500\n", "decimal comma or a thousands", {"counts": False}),
    "thousands in quotes": ('pre,post,weight\nAVA,AVB,"1,500"\n', "'1,500' is not a number. Write it without", {}),
    "digits lost": ("pre,post,weight\n1.2345678e+11,2,1\n", "last digits may be lost", {}),
    "Excel's exponents": ("pre,post,weight\n1.23457E+11,2,1\n", "last digits may be lost", {}),
    "NA": ("pre_root_id,post_root_id,syn_count\n7,8,5\nNA,7,3\n", "line 3, .*'NA'.*missing_ids='drop'", {}),
    "bipartite": ("% bip unweighted\n1 2\n", "bipartite", {}),
    "undirected, perhaps twice": ("# undirected\n1 2\n2 1\n", "undirected=True", {}),
    "networkx": ("a b {'weight': 3}\n", "from_networkx", {}),
    "networkx, adjacency": ("# GMT Mon Nov 30\n5 6 7\n6 5\n", "looks like a row", {}),
    "a weight by another name": ("pre,post,sections\nAVA,AVB,3\n", "'sections' may be the weight", {}),
    "a misspelt weight": ("pre,post,weight\nAVA,AVB,3\n", "'wieght' .* Did you mean 'weight'", {"weight": "wieght"}),
    "an open quote": ('pre,"post\na,b\n', "a quote in the header is not closed", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_do(tmp_path, name):
    content, message, options = REFUSED[name]
    with refused(message):
        table(tmp_path / "edges.txt", content, **options)


def test_the_report_says_what_was_left_out_or_assumed(tmp_path):
    _, report = table(tmp_path / "e.txt", "# mine\nThe worm,,\nSource,Target,Weight\nAVA,AVB,3\nNA,AVA,2\n,,\n", missing_ids="drop")
    assert report.dropped == {"blank rows": 1, "edges whose source or target has no id": 1}
    assert list(report.rows.values()) == [3]
    for part in ("start with '#' were left out: 'mine'", "above the header were left out: 'The worm'"):
        assert part in str(report)
    assert "columns were taken as source, target" in str(table(tmp_path / "e.txt", "1 2\n")[1])
    assert "taken in both directions" in str(table(tmp_path / "e.txt", "% sym unweighted\n1 2\n")[1])


def test_lines_of_errors_count_what_was_left_out(tmp_path):
    text = "# a\n# b\n\nTitle\npre,post,weight\n\n,,\n1,2,3\n# c\n1,2,many\n"
    with refused("e.csv, line 10, column 'weight': 'many'"):
        table(tmp_path / "e.csv", text)
    with refused("e.csv, line 10, column 'weight': the synapse count -3 is negative"):
        table(tmp_path / "e.csv", text.replace("many", "-3"))


@pytest.mark.slow
def test_comments_and_blanks_in_later_blocks_of_a_file(tmp_path):
    rows = "".join(f"{k:>8} {k + 1:>8}   1\n" for k in range(1, 300_000))
    text = "# a\n   pre  post weight\n" + rows + "# late\n" + rows
    graph, report = table(tmp_path / "e.txt.gz", gzip.compress(text.encode()))
    assert (graph.n_units, report.synapses) == (300_000, 599_998)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_ids_that_are_exact_floats(missing):
    frame = pd.DataFrame({"pre": [1.0, 2.0, missing], "post": [2.0, 1.0, 1.0], "weight": [3, 2, 9]})
    with refused(r"edges, row 2, column 'pre': the id is missing \(1 are\)"):
        read_table(frame)
    graph, report = read_table(frame, scale="none", missing_ids="drop")
    assert by_unit(graph) == {("1", "2"): 3, ("2", "1"): 2}
    assert report.dropped == {"edges whose source or target has no id": 1}
    for wrong in (2.0**53, 0.5, np.inf):
        with refused("floating-point numbers"):
            read_table(pd.DataFrame({"pre": [wrong], "post": [1.0]}))
    with refused("floating-point numbers"):
        read_table({"pre": np.array([2.0**24], np.float32), "post": np.array([1])})


def test_neuron_rows_without_an_id_are_counted_and_repeats_chosen():
    edges = {"pre": ["1", "2"], "post": ["2", "1"], "weight": [3, 2]}
    cells = pd.DataFrame({"id": [1, np.nan, 2, 2], "kind": ["a", "x", "b", "c"]})
    with refused("neurons, row 1, column 'id': the id is missing"):
        read_table(edges, cells, regions="kind")
    with refused("neuron 2 is there 2 times"):
        read_table(edges, cells, regions="kind", missing_ids="drop")
    for choice, kinds in (("first", ["a", "b"]), ("drop", ["a"])):
        options = dict(missing_ids="drop", repeated_ids=choice, unknown="drop", regions="kind")
        graph, report = read_table(edges, cells, **options)
        assert list(graph) == kinds
        assert report.dropped["rows of neurons without a neuron's id"] == 1
    with refused("neurons, row 3, column 'id': neuron 2"):
        read_table(edges, cells.iloc[::-1].reset_index(drop=True).iloc[[2, 3, 0, 1]], missing_ids="drop")


def test_several_neuron_tables_are_joined_by_id():
    edges = {"pre": [1, 2], "post": [2, 1], "weight": [3, 2]}
    kinds, signs = {"bodyId": [2, 1], "kind": ["a", "b"]}, {"body": [1, 2, 3], "nt": ["gaba", "ach", "ach"]}
    graph, report = read_table(edges, [kinds, signs], regions="kind", transmitter="nt", signs="fly")
    assert [(r.name, r.sign) for r in graph.regions()] == [("a", "pos"), ("b", "neg")]
    assert "1 neurons of neurons are not in neurons and were left out" in str(report)


def test_edges_in_memory():
    array = np.array([[1, 2, 4], [2, 3, 1]])
    expected = {("1", "2"): 4, ("2", "3"): 1}
    frame = pd.DataFrame(array, columns=["pre", "post", "weight"])
    structured = np.array([(1, 2, 4.0), (2, 3, 1.0)], dtype=[("pre", "i8"), ("post", "i8"), ("weight", "f8")])
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(array.tolist())
    for source in (array, frame, frame.to_dict("list"), pa.Table.from_pandas(frame), structured, graph):
        assert by_unit(read_table(source, scale="none")[0]) == expected
    with refused("see read_matrix"):
        import scipy.sparse as sp

        read_table(sp.eye_array(3))
    with refused("has no names of columns"):
        read_table(np.zeros((2, 5), int))


def test_weights_of_networkx_are_not_missed():
    graph = nx.DiGraph([("a", "b", {"synapses": 4}), ("b", "a", {"synapses": 2})])
    assert by_unit(from_networkx(graph, scale="none")[0]) == {("a", "b"): 4, ("b", "a"): 2}
    with refused("'synapse' .* Did you mean 'synapses'"):
        from_networkx(graph, weight="synapse")
    with refused("'w' "):
        from_networkx(nx.DiGraph([("a", "b")]), weight="w")
    assert by_unit(from_networkx(graph, weight="synapses", scale="none")[0]) == {("a", "b"): 4, ("b", "a"): 2}
    assert by_unit(from_networkx(graph, weight=None, scale="none")[0]) == {("a", "b"): 1, ("b", "a"): 1}
    assert by_unit(from_networkx(nx.DiGraph([("nan", "b", {"kind": "x"})]), scale="none")[0]) == {("nan", "b"): 1}


def test_a_browsers_names_of_downloads(tmp_path):
    edges = pd.DataFrame({"pre_root_id": [1, 2], "post_root_id": [2, 1], "neuropil": "A", "syn_count": [3, 2], "nt_type": "ACH"})
    tables = {
        "connections (1)": edges, "Neurons Data": pd.DataFrame({"root_id": [1, 2], "nt_type": "ACH", "nt_type_score": 0.9}),
        "classification (2)": pd.DataFrame({"root_id": [1, 2], "super_class": ["optic", "central"]}),
        "labels": pd.DataFrame({"root_id": [1, 1], "label": ["x", "y"]}),
    }  # fmt: skip
    for name, frame in tables.items():
        frame.to_csv(tmp_path / f"{name}.csv.gz", index=False)
    graph, report = read_flywire(tmp_path, scale="none")
    assert list(graph) == ["central", "optic"]
    assert by_unit(graph) == {("1", "2"): 3, ("2", "1"): 2}
    given = {"connections": edges, "neurons": tables["Neurons Data"], "classification": tables["classification (2)"]}
    assert by_unit(read_flywire(given, scale="none")[0]) == by_unit(graph)
    tables["Neurons Data"].iloc[:1].to_csv(tmp_path / "neurons (1).csv.gz", index=False)
    with refused(r"several tables of neurons \(Neurons Data.csv.gz, neurons \(1\).csv.gz\); choose one with neurons="):
        read_flywire(tmp_path)
    options = dict(regions=None, unknown="drop")
    assert read_flywire(tmp_path, neurons="neurons (1).csv.gz", **options)[0].n_units == 1
    assert list(report.rows) == ["Neurons Data.csv.gz", "connections (1).csv.gz"]


@pytest.mark.parametrize("suffix", [".feather", ".parquet"])
def test_large_tables_are_read_by_record_batches(tmp_path, monkeypatch, suffix):
    from sparse_mrnn.connectome import table_files

    monkeypatch.setattr(table_files, "CHUNK", 1000)
    rng = np.random.default_rng(0)
    ids = rng.choice(10**9, 300, replace=False)
    ends = rng.integers(0, 300, (2, 20_000))
    frame = pd.DataFrame({"body_pre": ids[ends[0]], "body_post": ids[ends[1]], "weight": rng.integers(1, 5, 20_000).astype("i4")})
    table = pa.Table.from_pandas(frame)
    if suffix == ".feather":
        with pa.ipc.new_file(tmp_path / "e.feather", table.schema) as out:
            out.write_table(table, max_chunksize=777)
    else:
        frame.to_parquet(tmp_path / "e.parquet", row_group_size=777)
    graph, report = read_table(tmp_path / f"e{suffix}", scale="none")
    sums = frame.groupby(["body_pre", "body_post"]).weight.sum()
    assert by_unit(graph) == {(str(s), str(t)): n for (s, t), n in sums.items()}
    assert report.edges == 20_000
    few = {"body": ids[:100], "kind": ["a", "b"] * 50}
    graph, report = read_table(tmp_path / f"e{suffix}", few, regions="kind", unknown="drop", scale="none")
    known = set(ids[:100])
    assert by_unit(graph) == {(str(s), str(t)): n for (s, t), n in sums.items() if s in known and t in known}


def test_a_feather_file_without_rows(tmp_path):
    frame = pd.DataFrame({"pre": np.array([], "i8"), "post": np.array([], "i8"), "weight": np.array([], "i4")})
    frame.to_feather(tmp_path / "e.feather")
    with refused("header but no rows"):
        read_table(tmp_path / "e.feather")
    assert read_table(tmp_path / "e.feather", {"id": [1, 2]})[0].n_units == 2


def test_integers_where_text_works():
    big = 720575940600000001
    graph, _ = read_table({"pre": [big, big + 1], "post": [big + 1, big], "weight": [1, 2]})
    net = sm.mRNN(graph, device="cpu", seed=0)
    assert net.find_unit(np.int64(big)) == net.find_unit(str(big))
    runs = [
        sm.simulate(
            net, 100, stimulus=sm.Stimulus(unit, 1.0), interventions=[sm.Lesion(unit, start=50)],
            record=sm.Record(units=[unit]), progress=False,
        )
        for unit in (big, str(big))
    ]  # fmt: skip
    assert (runs[0].h.values == runs[1].h.values).all()
    assert runs[0].unit_id.values.tolist() == [str(big)]


@pytest.mark.parametrize("suffix", [".xlsx", ".json", ".csv.zip", ".gml", ".graphml", ".npz", ".pkl", ".TGF"])
def test_files_of_other_formats_say_what_to_do(tmp_path, suffix):
    with refused("is not a table of text, Parquet or Feather. (Save|Give|Unpack|Use|For|Write|Export)"):
        table(tmp_path / f"edges{suffix}", "pre,post\n1,2\n")


def test_named_indices_of_data_frames_are_columns():
    rows = pd.DataFrame({"pre": ["AVA", "AVB"], "post": ["AVB", "AVA"], "weight": [3, 2], "type": ["x", "y"]})
    for edges in (rows.set_index(["pre", "post"]), rows.set_index("pre"), rows.set_index("pre", drop=False)):
        assert by_unit(read_table(edges, scale="none")[0]) == TWO
    neurons = pd.DataFrame({"cell": ["AVB", "AVA"], "type": ["y", "x"]}).set_index("cell")
    graph, _ = read_table(rows, neurons, regions="type", scale="none")
    assert [(r.name, r.unit_ids) for r in graph.regions()] == [("x", ("AVA",)), ("y", ("AVB",))]
