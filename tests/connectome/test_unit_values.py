"""Values of units from columns of neuron tables: time constants, noise, tonic input, initial state, positions."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from helpers.command_line import run
from sparse_mrnn import mRNN
from sparse_mrnn.connectome import from_networkx, read_matrix, read_table
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.interop.sonata import read_sonata

EDGES = {"pre": ["a", "b", "c", "d"], "post": ["b", "c", "d", "a"], "weight": [1, 2, 3, 4]}
NEURONS = pd.DataFrame({
    "id": ["a", "b", "c", "d"], "type": ["x", "y", "x", "y"], "tau_ms": [5.0, 7.5, 20.0, 7.5],
    "sd": [0, 0.1, 0.2, 0.3], "bias": [-1, 0, 1, 2], "px": [1.0, 2.0, 3.0, 4.0], "py": [0.5, 0.25, -1, 1e-3],
})  # fmt: skip
ALL = {"tau": "tau_ms", "noise_level": "sd", "base_firing": "bias", "positions": ["px", "py"]}


def values_of(graph):
    """Every unit's tau, noise level, tonic input and position, by name."""
    found = {}
    for region in graph.regions():
        of_units = [np.broadcast_to(v, region.n) for v in (region.tau, region.noise_level, region.base_firing)]
        for k, unit in enumerate(region.unit_ids):
            found[unit] = (*(float(v[k]) for v in of_units), *region.positions[k].tolist())
    return found


@pytest.mark.parametrize("suffix", ["memory", ".csv", ".csv2", ".parquet"])
@pytest.mark.parametrize("regions", [None, "type"])
def test_values_follow_their_neurons(tmp_path, suffix, regions):
    wanted = {row[0]: tuple(map(float, (row[2], row[3], row[4], row[5], row[6]))) for row in NEURONS.itertuples(index=False)}
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        table = NEURONS.iloc[order].reset_index(drop=True)
        if suffix == ".parquet":
            table.to_parquet(tmp_path / "n.parquet")
            table = tmp_path / "n.parquet"
        elif suffix != "memory":  # as R's write.csv and write.csv2
            table.to_csv(tmp_path / "n.csv", index=False, **({} if suffix == ".csv" else {"sep": ";", "decimal": ","}))
            table = tmp_path / "n.csv"
        graph, report = read_table(EDGES, table, regions=regions, of_units=ALL, scale="none")
        assert values_of(graph) == wanted
        assert any("positions of units is px py" in note for note in report.notes)
        if regions:
            assert graph.region("y").tau == 7.5  # one number of the region, which training may share
            assert graph.region("x").tau.tolist() == [{"a": 5.0, "c": 20.0}[u] for u in graph.region("x").unit_ids]


def test_values_of_further_tables_and_other_importers():
    of_units = {"tau": "tau_ms", "positions": "px"}
    first, second = NEURONS[["id", "type"]], NEURONS[["id", "tau_ms", "px"]].iloc[::-1]
    taus = dict(zip(NEURONS["id"], NEURONS["tau_ms"], strict=True))
    edges = pd.DataFrame(EDGES)
    matrix = edges.pivot(index="pre", columns="post", values="weight").fillna(0)
    network = nx.from_pandas_edgelist(edges, "pre", "post", "weight", nx.DiGraph)
    nx.set_node_attributes(network, NEURONS.set_index("id")[["tau_ms", "px"]].to_dict("index"))
    read = {
        "table": lambda: read_table(edges, [first, second], of_units=of_units),
        "matrix": lambda: read_matrix(matrix, neurons=second, orientation="source_target", of_units=of_units),
        "networkx": lambda: from_networkx(network, of_units=of_units),
    }
    for graph, _ in (reader() for reader in read.values()):
        region = graph.regions()[0]
        assert region.tau.tolist() == [taus[unit] for unit in region.unit_ids]
        assert region.positions.shape == (4, 1)
    net = mRNN(graph, device="cpu", seed=0, dt=1.0)
    assert net.units["tau_ms"].astype(float).tolist() == region.tau.tolist()


BAD = {
    "zero": ("0", "line 3, column 'tau_ms': the tau is 0 .* finite and above 0"),
    "negative": ("-3", "line 3, column 'tau_ms': the tau is -3"),
    "infinite": ("inf", "line 3, column 'tau_ms': the tau is inf"),
    "missing": ("", "line 3, column 'tau_ms': the tau is missing"),
    "NA": ("NA", "line 3, column 'tau_ms': the tau is missing"),
    "text": ("slow", "line 3, column 'tau_ms': the tau 'slow' is not a number"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("further", [False, True])
def test_values_that_a_unit_cannot_have(tmp_path, name, further):
    cell, message = BAD[name]
    (tmp_path / "n.csv").write_text(f"id,tau_ms\nc,4\nb,{cell}\na,1\nd,1\n")
    tables = tmp_path / "n.csv"
    tables = [NEURONS[["id", "type"]], tables] if further else tables
    with pytest.raises(ConnectomeError, match=f"n.csv, {message}"):
        read_table(EDGES, tables, of_units={"tau": "tau_ms"})
    if name != "text":  # a neuron that is left out needs none
        graph, _ = read_table(EDGES, tables, of_units={"tau": "tau_ms"}, select=["a", "c", "d"])
        region = graph.regions()[0]
        assert dict(zip(region.unit_ids, region.tau.tolist(), strict=True)) == {"a": 1, "c": 4, "d": 1}


def test_noise_and_tonic_input_have_their_own_limits():
    for values, message in (([0, -0.5, 1, 1], "row 1, column 'v': the noise_level is -0.5 .* at least 0"),):
        with pytest.raises(ConnectomeError, match=message):
            read_table(EDGES, NEURONS.assign(v=values), of_units={"noise_level": "v"})
        assert read_table(EDGES, NEURONS.assign(v=values), of_units={"base_firing": "v"})


@pytest.mark.parametrize("form", ["list", "array", "[1 2 3]", "[1, 2, 3]", "(1, 2, 3)", ".parquet", ".csv"])
def test_positions_as_cave_and_codex_have_them(tmp_path, form):
    places = [[1, 2, 3], [4, 5, 6], [7.5, 8, 9], [10, 11, 12]]
    cells = {"array": [np.array(p) for p in places], "[1 2 3]": [f"[{p[0]} {p[1]}  {p[2]}]" for p in places]}
    cells |= {"(1, 2, 3)": [f"({p[0]}, {p[1]}, {p[2]})" for p in places], "[1, 2, 3]": [str(p) for p in places]}
    neurons = pd.DataFrame({"id": list("dbca"), "pt_position": cells.get(form, places), "side": "l"})
    if form == ".parquet":
        neurons.to_parquet(tmp_path / "n.parquet")
        neurons = tmp_path / "n.parquet"
    elif form == ".csv":
        neurons.to_csv(tmp_path / "n.csv", index=False)
        neurons = tmp_path / "n.csv"
    region = read_table(EDGES, neurons, of_units={"positions": "pt_position"})[0].regions()[0]
    found = dict(zip(region.unit_ids, region.positions.tolist(), strict=True))
    assert found == dict(zip("dbca", places, strict=True))
    assert ("pt_position" in region.unit_table) == (form in ("[1 2 3]", "[1, 2, 3]", "(1, 2, 3)", ".csv"))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["[1 2]", "[1]", "[1 2]", "[1 2]"], r"row 1, column 'at': the positions \['1'\] are not 2 numbers"),
        (["[1 2]", "[1 x]", "[1 2]", "[1 2]"], "row 1, column 'at': the positions .* are not 2 numbers"),
        ([[1, 2], None, [1, 2], [1, 2]], "row 1, column 'at': the position is missing"),
        ([[1, 2], [1, np.inf], [1, 2], [1, 2]], "row 1, column 'at': the position is inf"),
    ],
)
def test_positions_that_are_not(cells, message):
    neurons = NEURONS.assign(at=cells)
    with pytest.raises(ConnectomeError, match=message):
        read_table(EDGES, neurons, of_units={"positions": "at"})


def test_thresholds_and_gains():
    of_units = {"activation_threshold": "bias", "activation_gain": "tau_ms"}
    region = read_table(EDGES, NEURONS, of_units=of_units)[0].regions()[0]
    assert (region.activation_threshold.tolist(), region.activation_gain.tolist()) == ([-1, 0, 1, 2], [5, 7.5, 20, 7.5])
    with pytest.raises(ConnectomeError, match="row 1, column 'bias': the activation_gain is 0"):
        read_table(EDGES, NEURONS, of_units={"activation_gain": "bias"}, select=["b", "c", "d"])


def test_neurons_without_a_row():
    few = NEURONS.iloc[:3]
    with pytest.raises(ConnectomeError, match="neuron d: neurons has no row for it, so its tau is missing"):
        read_table(EDGES, few, unknown="keep", of_units={"tau": "tau_ms"})
    with pytest.raises(ConnectomeError, match=r"neurons, row 3 \(without a row in neurons\), column 'tau_ms'"):
        read_table(EDGES, [NEURONS[["id"]], few], of_units={"tau": "tau_ms"})
    with pytest.raises(ConnectomeError, match="tau is a column of the neuron table, and there is none"):
        read_table(EDGES, of_units={"tau": "weight"})


@pytest.mark.parametrize(
    ("of_units", "message"),
    [
        ({"taus": "tau_ms"}, "no field of units is called 'taus'. Did you mean 'tau'"),
        ({"tau": "tau"}, "column 'tau' is missing. Did you mean 'tau_ms'"),
        ({"tau": ["tau_ms"]}, r"tau is \['tau_ms'\]; give the name of one column"),
        ({"positions": []}, "positions is .*; give columns, such as"),
        ({"tau": 3}, "tau is 3; give the name of one column"),
        ({"unit_ids": "id"}, "no field of units is called 'unit_ids'"),
        ("tau", "of_units is 'tau'; give columns by field"),
    ],
)
def test_what_is_not_a_column(of_units, message):
    with pytest.raises(ConnectomeError, match=message):
        read_table(EDGES, NEURONS, of_units=of_units)


def test_on_the_command_line(tmp_path):
    pd.DataFrame(EDGES).to_csv(tmp_path / "e.csv", index=False)
    NEURONS.assign(**{"a/b": list("wxyz"), "note": "n"}).to_csv(tmp_path / "n.csv", index=False)
    args = ("import", "table", tmp_path / "e.csv", "--neurons", tmp_path / "n.csv", "--out", tmp_path / "net")
    values = ("--of-units", "tau=tau_ms", "--of-units", "positions=px,py", "--keep", "a/b, type")
    assert "not read: n.csv: sd, bias, note" in " ".join(run(*args, *values).split())
    region = read_sonata(tmp_path / "net")[0].regions()[0]
    assert sorted(region.unit_table) == ["a/b", "px", "py", "tau_ms", "type"]
    assert dict(zip(region.unit_ids, region.unit_table["a/b"].tolist(), strict=True)) == dict(zip("abcd", "wxyz", strict=True))
    assert dict(zip(region.unit_ids, region.tau.tolist(), strict=True)) == dict(zip("abcd", NEURONS["tau_ms"], strict=True))
    assert region.positions[:, 0].tolist() == [NEURONS.set_index("id")["px"][unit] for unit in region.unit_ids]
    run(*args, "--overwrite", "--keep", "")
    assert not read_sonata(tmp_path / "net")[0].regions()[0].unit_table
    text = run(*args, "--overwrite", "--of-units", "tau", code=1)
    assert "--of-units tau: write FIELD=COLUMN" in text
    assert "no field of units is called 'taus'" in " ".join(run(*args, "--overwrite", "--of-units", "taus=sd", code=1).split())
