"""Matrices as R, Excel, pandas, numpy and MRtrix write them, and in memory: read right, or refused with what to do."""

import gzip
import time

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from helpers.common import refused
from helpers.connectome_files import by_unit
from sparse_mrnn.connectome import read_matrix, read_table
from sparse_mrnn.errors import ConnectomeError

W = np.array([[0, 3.0, 0], [1, 0, 2], [0, 0, 0]])
ABC = {("a", "b"): 3, ("b", "a"): 1, ("b", "c"): 2}
NUMBERED = {("0", "1"): 3, ("1", "0"): 1, ("1", "2"): 2}
RECTANGLE = {("a", "y"): 3, ("b", "x"): 1, ("b", "z"): 2}
SYMMETRIC = {("0", "1"): 12, ("0", "2"): 3, ("1", "2"): 7, ("1", "0"): 12, ("2", "0"): 3, ("2", "1"): 7}
ROWS = "0,3,0\n1,0,2\n0,0,0\n"
LABELLED = "a,0,3,0\nb,1,0,2\nc,0,0,0\n"
QUOTED = '"a" 0 3 0\n"b" 1 0 2\n"c" 0 0 0\n'
MRTRIX = "# command_history: tck2connectome a.tck nodes.mif out.csv  (version=3.0.3)\n"


def matrix(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_matrix(path, **{"orientation": "source_target", **options})


READ = {
    "MRtrix": (MRTRIX + "0 12 3\n12 0 7\n3 7 0\n", SYMMETRIC, {"orientation": None}),
    "MRtrix, commas": (MRTRIX + "0,12,3\n12,0,7\n3,7,0\n", SYMMETRIC, {"orientation": None}),
    "MRtrix, half": (MRTRIX + "0 12 3\n0 0 7\n0 0 0\n", SYMMETRIC, {"orientation": None, "triangle": "mirror"}),
    "a comment of three words": ("# three short words\n" + ROWS, NUMBERED, {}),
    "comment %": ("% mine\n" + ROWS, NUMBERED, {}),
    "comment //": ("// mine\n" + ROWS, NUMBERED, {}),
    "comment given": ("! mine\n" + ROWS, NUMBERED, {"comment": "!"}),
    "comments between": ("# mine\n0,3,0\n# and\n1,0,2\n0,0,0\n", NUMBERED, {}),
    "pandas": (",a,b,c\n" + LABELLED, ABC, {}),
    "pandas, index=False": ("a,b,c\n" + ROWS, ABC, {}),
    "pandas, header=False": (LABELLED, ABC, {}),
    "pandas, numbers": (",0,1,2\n0,0,3,0\n1,1,0,2\n2,0,0,0\n", NUMBERED, {}),
    "pandas, numbers, index=False": ("0,1,2\n" + ROWS, NUMBERED, {}),
    "pandas, numbers, header=False": ("0,0,3,0\n1,1,0,2\n2,0,0,0\n", NUMBERED, {}),
    "pandas, rows are numbers": (",a,b,c\n0,0,3,0\n1,1,0,2\n2,0,0,0\n", ABC, {}),
    "pandas, ids": (",720575940600000001,7\n720575940600000001,0,3\n7,1,0\n", {("720575940600000001", "7"): 3, ("7", "720575940600000001"): 1}, {}),
    "ids with a corner": ("skid,101,102\n101,0,3\n102,1,0\n", {("101", "102"): 3, ("102", "101"): 1}, {}),
    "a corner": ("pre/post,a,b,c\n" + LABELLED, ABC, {"orientation": None}),
    "R write.table": ('"a" "b" "c"\n' + QUOTED, ABC, {}),
    "R write.table, quote=FALSE": ("a b c\na 0 3 0\nb 1 0 2\nc 0 0 0\n", ABC, {}),
    "R write.table, row.names=FALSE": ('"a" "b" "c"\n0 3 0\n1 0 2\n0 0 0\n', ABC, {}),
    "R write.table, col.names=FALSE": (QUOTED, ABC, {}),
    "R write.table, neither": ("0 3 0\n1 0 2\n0 0 0\n", NUMBERED, {}),
    "R write.table, no names": (
        '"V1" "V2" "V3"\n"1" 0 3 0\n"2" 1 0 2\n"3" 0 0 0\n', {("1", "2"): 3, ("2", "1"): 1, ("2", "3"): 2}, {},
    ),
    "R write.csv": ('"","a","b","c"\n' + QUOTED.replace(" ", ","), ABC, {}),
    "R names with blanks": ('"a x" "b"\n"a x" 0 3\n"b" 1 0\n', {("a x", "b"): 3, ("b", "a x"): 1}, {}),
    "Excel trailing commas": (",a,b,c,,\na,0,3,0,,\nb,1,0,2,,\nc,0,0,0,,\n,,,,,\n", ABC, {}),
    "Excel title": ("My matrix,,,\n,,,\n,a,b,c\n" + LABELLED, ABC, {}),
    "a title": ("My matrix of weights\n\n,a,b,c\n" + LABELLED, ABC, {}),
    "Excel trailing commas, ids": ("Mine,,,,\n,7,3,,\n7,0,4,,\n3,5,0,,\n", {("7", "3"): 4, ("3", "7"): 5}, {}),
    "Excel trailing commas, few": (",a,b,,,\na,,,,,\nb,4,,,,\n", {("b", "a"): 4}, {}),
    "R ids, row.names=FALSE": ('"41" "328"\n0 3\n1 0\n', {("41", "328"): 3, ("328", "41"): 1}, {}),
    "ids, no names of rows": (
        "12,15,19\n0,3,0\n1,0,2\n0,0,0\n", {("12", "15"): 3, ("15", "12"): 1, ("15", "19"): 2}, {},
    ),
    "ids that ascend": (
        "2 5 7 9\n1 3 0 0\n0 1 2 0\n0 0 1 0\n4 0 0 1\n",
        {**{(k, k): 1 for k in "2579"}, ("2", "5"): 3, ("5", "7"): 2, ("9", "2"): 4}, {},
    ),
    "ids as floats": (",1.0,2.0\n1.0,0,3\n2.0,1,0\n", {("1", "2"): 3, ("2", "1"): 1}, {}),
    "ids as floats in one": (",1.0,2.0\n1,0,3\n2,1,0\n", {("1", "2"): 3, ("2", "1"): 1}, {}),
    "a neuron called all": (",a,b,all\na,0,3,1\nb,1,0,1\nall,1,3,0\n", {
        ("a", "b"): 3, ("b", "a"): 1, ("a", "all"): 1, ("b", "all"): 1, ("all", "a"): 1, ("all", "b"): 3,
    }, {}),
    "Excel blank cells": (",a,b,c\na,,3,\nb,1,,2\nc,,,\n", ABC, {}),
    "blank cells, no names": ("0,3,\n1,,2\n,,0\n", NUMBERED, {}),
    "Excel semicolons and decimal commas": (
        "\ufeff;a;b\r\na;0;3,5\r\nb;1;0\r\n", {("a", "b"): 3.5, ("b", "a"): 1}, {},
    ),
    "Excel sep=": ("sep=;\n;a;b;c\n" + LABELLED.replace(",", ";"), ABC, {}),
    "numpy": ("0.0e+00 3.0e+00 0.0e+00\n1.0e+00 0.0e+00 2.0e+00\n0.0e+00 0.0e+00 0.0e+00\n", NUMBERED, {}),
    "padded": ("   0   3   0\n   1   0   2\n   0   0   0\n", NUMBERED, {}),
    "tabs at the end": ("0\t3\t0\t\n1\t0\t2\t\n0\t0\t0\t\n", NUMBERED, {}),
    "blank cells between tabs": ("\ta\tb\tc\na\t\t3\t\nb\t1\t\t2\nc\t\t\t\n", ABC, {}),
    "commas and blanks": ("0, 3, 0\n1, 0, 2\n0, 0, 0\n", NUMBERED, {}),
    "plus signs": (ROWS.replace("3", "+3"), NUMBERED, {}),
    "columns in another order": (",b,c,a\na,3,0,0\nb,0,2,1\nc,0,0,0\n", ABC, {}),
    "rectangle": (",x,y,z\na,0,3,0\nb,1,0,2\n", RECTANGLE, {}),
    "rectangle of targets": (
        ",x,y,z\na,0,3,0\nb,1,0,2\n", {(t, s): n for (s, t), n in RECTANGLE.items()}, {"orientation": "target_source"},
    ),
    "rectangle of ids": (",1,2,3\n10,0,3,0\n11,1,0,2\n", {("10", "2"): 3, ("11", "1"): 1, ("11", "3"): 2}, {}),
    "rectangle, R": ('"x" "y" "z"\n"a" 0 3 0\n"b" 1 0 2\n', RECTANGLE, {}),
    "rectangle with neurons in both": (",a,b,z\na,0,3,0\nb,1,0,2\n", {("a", "b"): 3, ("b", "a"): 1, ("b", "z"): 2}, {}),
    "two names": (",a,b\na,0,3\nb,1,0\n", {("a", "b"): 3, ("b", "a"): 1}, {}),
    "one name": (",a\na,5\n", {("a", "a"): 5}, {}),
    "NA is a name": (",NA,b\nNA,0,3\nb,1,0\n", {("NA", "b"): 3, ("b", "NA"): 1}, {}),
    "directed": ("0 12 3\n0 0 7\n0 0 0\n", {("0", "1"): 12, ("0", "2"): 3, ("1", "2"): 7}, {"triangle": "directed"}),
    "compressed": (gzip.compress((",a,b,c\n" + LABELLED).encode()), ABC, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read_at_the_first_try(tmp_path, name):
    content, expected, options = READ[name]
    suffix = ".csv.gz" if isinstance(content, bytes) else ".txt"
    assert by_unit(matrix(tmp_path / f"net{suffix}", content, **options)[0]) == expected


REFUSED = {
    "half": (MRTRIX + "0 12 3\n0 0 7\n0 0 0\n", "all entries are above the diagonal. Give triangle='mirror'", {}),
    "the other half": ("0 0 0\n12 0 0\n3 7 0\n", "all entries are below the diagonal", {"orientation": None}),
    "mirror of both": (ROWS, "there are entries on both sides", {"triangle": "mirror"}),
    "triangle of no kind": (ROWS, "triangle is 'upper'", {"triangle": "upper"}),
    "directed, but which way": ("0 1 3\n0 0 7\n0 0 0\n", "it is not known whether", {"triangle": "directed", "orientation": None}),
    "short header": ("a,b\n" + ROWS, "the line of names has 2 cells, but most lines have 3", {}),
    "short header of a square": ("a,b\n0,3,0\n1,0,2\n", "the line of names has 2 cells", {}),
    "long header": ("a,b,c,d,e\n" + ROWS, "the line of names has 5 cells", {}),
    "rectangle without names": ("0,3,0\n1,0,2\n", "the matrix is 2 x 3 and has no names", {}),
    "rectangle with names of columns": ("x,y,z\n0,3,0\n1,0,2\n", "has names for one of them only", {}),
    "other names": (",a,b,d\n" + LABELLED, "column 2 is 'd', which is not a row", {}),
    "a name twice": ("a,b,a\n" + ROWS, "label 'a' names rows 0 and 2", {}),
    "a name that is blank": (",a,,c\n" + LABELLED, "column 2 has no name", {}),
    "a line that is short": ("0,3,0\n1,0\n0,0,0\n", "line 2: 2 columns, but most lines have 3", {}),
    "rectangle of small numbers": ("5,3,9\n1,2,3\n4,5,6\n7,8,9\n", "4 x 3 and has no names", {}),
    "a word": ("a,b,c\n0,3,0\n1,x,2\n0,0,0\n", "line 3, column 2: 'x' is not a number", {}),
    "a word below blank lines": (
        "# made\n\na,b,c\n\n0,3,0\n# more\n\n1,x,2\n0,0,0\n", "line 8, column 2: 'x' is not a number", {},
    ),
    "a word below a title": ("Mine,,,\n,,,\n\n,a,b\na,0,1\n \nb,x,0\n", "line 7, column 2: 'x' is not a number", {}),
    "NA": ('"a" "b"\n"a" NA 3\n"b" 1 0\n', "line 2, column 2: 'NA' is not a number", {}),
    "nan": (ROWS.replace("2", "nan"), r"entry \(1, 2\) is nan", {}),
    "names or numbers": (",12,3\n12,,7\n3,7,\n", "may be names or numbers", {}),
    "UTF-16 without a mark": (ROWS.encode("utf-16-le"), "not UTF-8", {}),
    "UTF-16 cut": (ROWS.encode("utf-16") + b"\0", "not UTF-16", {}),
    "sums in Excel": (",a,b,Total\na,0,3,3\nb,1,0,1\nTotal,1,3,4\n", "'Total', the last row, has the sums of the others", {}),
    "a column of sums": (",a,b,sum\na,0,3,3\nb,1,0,1\n", "'sum', the last column, has the sums of the others", {}),
    "names only": ("a,b,c\n", "no rows", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_do(tmp_path, name):
    content, message, options = REFUSED[name]
    with refused(message):
        matrix(tmp_path / "net.txt", content, **options)


def test_rows_and_columns_with_names_of_their_own_are_two_regions(tmp_path):
    text = ",x,y,z\na,0,3,0\nb,1,0,2\n"
    graph, _ = matrix(tmp_path / "n.csv", text)
    assert [(r.name, r.unit_ids) for r in graph.regions()] == [("sources", ("a", "b")), ("targets", ("x", "y", "z"))]
    assert [(p.source, p.target) for p in graph.projections()] == [("sources", "targets")]
    assert list(matrix(tmp_path / "n.csv", text, orientation="target_source")[0]) == ["sources", "targets"]
    cells = {"id": list("azxby"), "kind": ["k"] * 5}
    assert list(matrix(tmp_path / "n.csv", text, neurons=cells, regions="kind")[0]) == ["k"]


def test_the_report_says_what_was_left_out_or_assumed(tmp_path):
    text = str(matrix(tmp_path / "n.csv", MRTRIX + "My matrix,,,\n,a,b,c\na,,3,\nb,1,,2\nc,,,\n")[1])
    for part in ("start with '#' were left out: 'command_history", "left out: 'My matrix'", "6 blank cells were taken as 0"):
        assert part in text
    assert "the first line was read as names" in str(matrix(tmp_path / "n.csv", "0,1,2\n" + ROWS)[1])


def test_labels_on_one_line_or_in_quotes(tmp_path):
    for text in ("a,b,c\n", "a b c", "a\tb\tc\n", '"a"\n"b"\n"c"\n', "a\nb\n\nc\n"):
        (tmp_path / "labels.txt").write_text(text)
        assert by_unit(matrix(tmp_path / "n.csv", ROWS, labels=tmp_path / "labels.txt")[0]) == ABC


def named(frame):
    frame.index.name, frame.columns.name = "pre", "post"
    return frame


GRAPH = nx.DiGraph()
GRAPH.add_weighted_edges_from([(s, t, n) for (s, t), n in ABC.items()])
FRAME = pd.DataFrame(W, index=list("abc"), columns=list("abc"))
IN_MEMORY = {
    "array": (W, NUMBERED), "list": (W.tolist(), NUMBERED), "csr_matrix": (sp.csr_matrix(W), NUMBERED),
    "csc_array": (sp.csc_array(W), NUMBERED), "tensor": (torch.tensor(W), NUMBERED), "DataFrame": (FRAME, ABC),
    "DataFrame, numbered": (pd.DataFrame(W), NUMBERED), "DataFrame, rows numbered": (FRAME.reset_index(drop=True), ABC),
    "DataFrame, names in a column": (FRAME.reset_index(), ABC), "DataFrame, orientation": (named(FRAME.copy()), ABC),
    "DataFrame, rectangle": (pd.DataFrame(W[:2], index=list("ab"), columns=list("xyz")), RECTANGLE),
    "networkx": (GRAPH, ABC),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_MEMORY)
def test_matrices_in_memory(name):
    source, expected = IN_MEMORY[name]
    stated = None if name in ("DataFrame, orientation", "networkx") else "source_target"
    assert by_unit(read_matrix(source, orientation=stated)[0]) == expected
    if stated:
        with refused("it is not known whether"):
            read_matrix(source)


def test_what_is_no_matrix():
    for source in ({"a": 1}, b"text", 3, np.zeros(3), np.array([[1j]]), pd.DataFrame({"a": ["x"], "b": ["y"]})):
        with refused("cannot be read as a matrix|no names|is 1 x"):
            read_matrix(source, orientation="target_source")
    with refused(r"entry \(0, 0\) is nan"):
        read_matrix(np.full((2, 2), np.nan))


def test_what_nobody_asked_for_in_a_npz(tmp_path):
    about = np.array({"lab": 1}, dtype=object)
    np.savez(tmp_path / "n.npz", W=W, about=about, table=np.array([["a", 1]], dtype=object))
    assert by_unit(read_matrix(tmp_path / "n.npz", orientation="source_target")[0]) == NUMBERED
    np.savez(tmp_path / "n.npz", W=W, labels=np.array(list("abc"), dtype=object))
    with refused("'labels' is an array of Python objects, which is never read. Give labels="):
        read_matrix(tmp_path / "n.npz", orientation="source_target")
    graph, _ = read_matrix(tmp_path / "n.npz", orientation="source_target", labels=list("abc"))
    assert by_unit(graph) == ABC


@pytest.mark.slow
def test_many_columns_and_blocks_against_pandas(tmp_path):
    rng = np.random.default_rng(0)
    n = 1500
    values = np.where(rng.random((n, n)) < 0.2, rng.normal(size=(n, n)), 0)
    names = [f"neuron number {k}" for k in range(n)]
    pd.DataFrame(values, index=names, columns=names).to_csv(tmp_path / "n.csv")
    start = time.process_time()
    graph, _ = read_matrix(tmp_path / "n.csv", orientation="target_source")
    taken = time.process_time() - start
    (projection,) = graph.projections()
    assert (projection.weights.toarray() == values).all()
    start = time.process_time()
    pd.read_csv(tmp_path / "n.csv", index_col=0)
    assert taken < 5 * (time.process_time() - start) + 0.5  # cell by cell it was 16 times as long


@pytest.mark.parametrize(
    ("text", "message"),
    [('""\n', "there are no numbers, only empty cells"), ("0\r\n0,0\r\n", "line 1: 1 columns, but most lines have 2"),
     ("to/from,n0\nn0, ,0\n", "the line of names has 2 cells, but most lines have 3"),
     ("-0/5,1.5\n0,0\n", "the id 1.5 was written as a floating-point number")],
)  # fmt: skip
def test_small_files_that_the_fuzzer_found(tmp_path, text, message):
    (tmp_path / "net.csv").write_text(text, newline="")
    with pytest.raises(ConnectomeError, match=message):
        read_matrix(tmp_path / "net.csv", orientation="target_source")


def test_a_lone_comma_after_a_number_is_no_decimal_sign(tmp_path):
    (tmp_path / "edges.csv").write_text("pre;post;n_syn\na;b;8\nb;a;3,\n")
    with pytest.raises(ConnectomeError, match="line 3, column 'n_syn': '3,' is not a number"):
        read_table(tmp_path / "edges.csv")


@pytest.mark.parametrize(
    "text",
    [
        "0\ta\n1\tb\n2\tc\n", "1,a\n2,b\n3,c\n", '"1" "a"\n"2" "b"\n"3" "c"\n', "id,name\n1,a\n2,b\n3,c\n", '"x"\n"a"\n"b"\n"c"\n',
        "name\na\nb\nc\n", "a;b;c\n", "['a', 'b', 'c']\n", "a\nb\nc", "\na\n\nb\nc\n\n",
    ],
)  # fmt: skip
def test_labels_beside_numbers_and_below_headers(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    assert by_unit(matrix(tmp_path / "m.txt", ROWS, labels=tmp_path / "labels.txt")[0]) == ABC


def test_labels_of_several_columns_are_refused(tmp_path):
    (tmp_path / "lut.txt").write_text("1 a 25 5 25\n2 b 25 5 26\n3 c 25 5 27\n")
    with refused("lut.txt: its lines have 5 columns, and names are wanted"):
        matrix(tmp_path / "m.txt", ROWS, labels=tmp_path / "lut.txt")


def test_missing_values_of_a_data_frame_are_blank_cells():
    rows = pd.DataFrame({"pre": ["a", "b"], "post": ["b", "a"], "weight": [1.5, 2]})
    graph, report = read_matrix(rows.pivot_table(index="pre", columns="post", values="weight"))
    assert by_unit(graph) == {("a", "b"): 1.5, ("b", "a"): 2}
    assert "2 missing values were taken as 0" in str(report)
    gaps = pd.DataFrame({"a": pd.array([None, 3], "Int64"), "b": pd.array([1, None], "Int64")}, index=["a", "b"])
    assert by_unit(read_matrix(gaps, orientation="source_target")[0]) == {("a", "b"): 1, ("b", "a"): 3}
    with refused("the last row, has the sums"):
        read_matrix(pd.crosstab(rows["pre"], rows["post"], margins=True))
