"""Columns of neuron tables on units: all by default, whatever their rows' order, types, sizes and encodings."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from sparse_mrnn import mRNN
from sparse_mrnn.connectome import read_flywire, read_matrix, read_table, table_files
from sparse_mrnn.connectome.formats import edge_list
from sparse_mrnn.errors import ConnectomeError

EDGES = {"pre": ["a", "b", "c", "d"], "post": ["b", "c", "d", "a"], "weight": [1, 2, 3, 4]}
NEURONS = pd.DataFrame({
    "id": ["a", "b", "c", "d"], "type": ["x", "y", "x", "y"], "side": ["left", "right", None, "left"],
    "n": [3, 1, 2, 5], "size": [0.25, np.nan, 1.5, 0.12345678901234566], "code": ["007", "1", "2", "3"],
    "soma": pd.array([720575940600000001, None, 3, 4], "Int64"), "far": [2**60 + 1, 2, 3, 4],
})  # fmt: skip


def units_of(edges, neurons, **options):
    graph, report = read_table(edges, neurons, scale="none", **options)
    net = mRNN(graph, device="cpu", seed=0)
    return net.units.set_index("unit_id"), report


def written(neurons, path):
    writer = {".csv": "to_csv", ".tsv": "to_csv", ".parquet": "to_parquet", ".feather": "to_feather"}[path.suffix]
    options = {"sep": "\t", "encoding": "utf-16"} if path.suffix == ".tsv" else {}
    getattr(neurons, writer)(path, **options, **({} if path.suffix == ".feather" else {"index": False}))
    return path


@pytest.mark.parametrize("name", ["memory", "n.csv", "n.tsv", "n.parquet", "n.feather"])
@pytest.mark.parametrize("regions", [None, "type"])
def test_all_columns_of_permuted_rows(tmp_path, name, regions):
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        neurons = NEURONS.iloc[order].reset_index(drop=True)
        table = neurons if name == "memory" else written(neurons, tmp_path / name)
        units, report = units_of(EDGES, table, regions=regions)
        assert report.not_read == {}
        assert list(units.columns) == ["region", *NEURONS.columns[1:]]
        for unit, row in NEURONS.set_index("id").iterrows():
            got = units.loc[unit]
            assert (got["side"], got["n"], got["code"]) == ("" if pd.isna(row["side"]) else row["side"], row["n"], row["code"])
            np.testing.assert_equal(got["size"], row["size"])
            assert got["soma"] == ("" if row["soma"] is pd.NA else str(row["soma"]))  # digits are kept
            assert got["far"] == row["far"]


def test_fewer_columns_by_choice():
    for keep, left in (((), []), ("side", ["side"]), (["n", "side"], ["side", "n"])):
        units, report = units_of(EDGES, NEURONS, regions="type", keep=keep)
        assert list(units.columns) == ["region", "type", *left]
        assert set(report.not_read["neurons"]) == set(NEURONS.columns) - {"id", "type", *left}
    with pytest.raises(ConnectomeError, match="column 'sides' is missing"):
        units_of(EDGES, NEURONS, keep="sides")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", "memory"])
def test_the_largest_columns_stay_out_beyond_the_room(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(edge_list, "ROOM", 1000)
    neurons = NEURONS.assign(note=["long text " * 50 + k for k in "abcd"])
    table = neurons if suffix == "memory" else written(neurons, tmp_path / f"n{suffix}")
    units, report = units_of(EDGES, table)
    assert {"side", "n"} < set(units)
    assert [*report.not_read.values()] == [("note",)]
    assert any("without 'note', which keep= can name" in note for note in report.notes)
    assert units_of(EDGES, table, keep="note")[0].loc["c", "note"] == neurons["note"][2]


def test_columns_that_are_no_text_or_numbers_are_named(tmp_path):
    odd = NEURONS.assign(place=[[1, 2]] * 4, when=pd.Timestamp("2020-01-01"))
    for table in (odd, written(odd, tmp_path / "n.parquet")):
        units, report = units_of(EDGES, table)
        assert "side" in units
    assert [*report.not_read.values()] == [("place", "when")]
    mixed = NEURONS.assign(mixed=["a", 1, 2.5, b"x"])
    assert units_of(EDGES, mixed)[1].not_read == {"neurons": ("mixed",)}
    (tmp_path / "latin.csv").write_bytes("id,name,side\na,Müller,l\nb,x,r\nc,y,r\nd,z,l\n".encode("latin-1"))
    units, report = units_of(EDGES, tmp_path / "latin.csv")
    assert report.not_read == {"latin.csv": ("name",)}
    assert units["side"].tolist() == ["l", "r", "r", "l"]


def test_numbers_in_one_part_of_a_file_and_text_in_another(monkeypatch):
    parts = [["1.10", "1.5", "2"], ["1.1", "x", "y"], ["7", "8", "9"]]
    others = table_files.Others(["v"], 1 << 20)
    arrow = table_files.arrow()
    for part in parts:
        others.add(arrow.table({"v": part}).to_batches()[0])
    assert others.beside(arrow.table({"id": range(9)}), ["id", "v"]).column("v").to_pylist() == [*itertools.chain(*parts)]


def test_columns_of_several_tables(tmp_path):
    other = pd.DataFrame({"id": ["d", "c", "b", "a"], "volume": [4.0, 3.0, 2.0, 1.0], "side": list("wxyz")})
    units, _ = units_of(EDGES, [NEURONS, other])
    assert units["volume"].to_dict() == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert units.loc["d", "side"] == "left"  # of the first table
    twice = pd.concat([other, other])
    units, report = units_of(EDGES, [NEURONS, twice])
    assert "volume" not in units
    assert any("neurons several times" in note for note in report.notes)
    with pytest.raises(ConnectomeError, match="is there 2 times"):
        units_of(EDGES, [NEURONS, twice], keep="volume")
    codex = {
        "connections": {"pre_root_id": [1, 2], "post_root_id": [2, 1], "syn_count": [3, 4]},
        "neurons": {"root_id": [1, 2], "nt_type": ["ACH", "GABA"]},
        "classification": {"root_id": [2, 1], "super_class": ["optic", "central"], "nerve": ["q", "p"]},
    }
    graph, _ = read_flywire(codex)
    assert mRNN(graph, device="cpu").units.set_index("unit_id")["nerve"].to_dict() == {"1": "p", "2": "q"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_unicode_text_of_excel(tmp_path, encoding):
    text = "pre\tpost\tweight\r\nä\tb\t1\r\nb\tä\t2\r\n"
    (tmp_path / "e.txt").write_bytes(text.encode(encoding))
    graph, report = read_table(tmp_path / "e.txt", scale="none")
    assert report.synapses == 3
    assert set(graph.regions()[0].unit_ids) == {"ä", "b"}
    (tmp_path / "m.txt").write_bytes("\tä\tb\r\nä\t0\t1\r\nb\t2\t0\r\n".encode(encoding))
    (tmp_path / "labels.txt").write_bytes("ü\r\nv\r\n".encode(encoding))
    graph, report = read_matrix(tmp_path / "m.txt", orientation="target_source")
    assert report.synapses == 3
    assert graph.regions()[0].unit_ids == ("ä", "b")
    graph, _ = read_matrix(np.eye(2), labels=tmp_path / "labels.txt")
    assert graph.regions()[0].unit_ids == ("ü", "v")
