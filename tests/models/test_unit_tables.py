"""Tables of units: kept by files, and units chosen by their columns."""

import numpy as np
import pytest

import sparse_mrnn as sm
from helpers.common import refused
from sparse_mrnn.connectome import from_networkx, read_table
from sparse_mrnn.errors import GraphError, RecordingError, StimulusError, UnknownNameError
from sparse_mrnn.interop import read_sonata, write_sonata
from sparse_mrnn.plot import plot_traces
from sparse_mrnn.plot.sources import Activity
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Lesion, Stimulus

BIG = 2**62 + 1
TABLE = {
    "cell type": ["KC", "KC", "MBON", "MBON"], "side": ["left", "right", "left", None], "layer": [1, 2, 2, None],
    "root/id": [BIG, BIG + 1, BIG + 2, BIG + 3],
}  # fmt: skip


def graph():
    g = sm.RegionGraph()
    g.add_region("MB", 4, unit_ids=list("abcd"), unit_table=TABLE)
    g.add_region("LH", 2)
    g.add_projection("MB", "LH", fan_in=2)
    g.add_projection("LH", "MB", fan_in=1)
    return g


@pytest.fixture(scope="module")
def net():
    return sm.mRNN(graph(), device="cpu", seed=0)


def check(units):
    assert units.region.tolist() == ["MB"] * 4 + ["LH"] * 2
    assert units.unit_id.tolist() == ["a", "b", "c", "d", "LH[0]", "LH[1]"]
    assert units["cell type"].tolist() == ["KC", "KC", "MBON", "MBON", "", ""]
    assert units.side.tolist() == ["left", "right", "left", "", "", ""]
    assert np.array_equal(units.layer, [1, 2, 2, np.nan, np.nan, np.nan], equal_nan=True)
    assert units["root/id"].tolist()[:4] == [str(BIG + k) for k in range(4)]


def test_every_file_keeps_the_table(tmp_path, net):
    check(net.units)
    net.save(tmp_path / "net")
    check(sm.load(tmp_path / "net", device="cpu").units)
    write_sonata(net, tmp_path / "sonata")
    check(sm.mRNN(read_sonata(tmp_path / "sonata")[0], device="cpu").units)
    sm.write_config(graph(), tmp_path / "net.json")
    again = sm.read_config(tmp_path / "net.json")
    check(sm.mRNN(again, device="cpu").units)
    assert again.region("MB").unit_table["root/id"].dtype == np.int64
    check(sm.mRNN(net.to_graph(), device="cpu").units)


@pytest.mark.parametrize(
    ("wanted", "units"),
    [
        ({"cell type": "MBON", "side": "left"}, [2]), ({"layer": [1, 2]}, [0, 1, 2]), ({"layer": 2.0}, [1, 2]),
        ({"region": "LH"}, [4, 5]), ({"unit_id": ["d", "a"]}, [0, 3]), ({"root/id": BIG + 2}, [2]),
        ({"cell type": ["KC", "MBON"], "region": ["LH", "MB"], "layer": 2}, [1, 2]),
    ],
)  # fmt: skip
def test_units_by_their_columns(net, wanted, units):
    assert net.names.where(wanted).tolist() == units
    kind, found = net.names.find(wanted)
    assert (kind, found.tolist()) == ("recurrent", units)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"cell typ": "KC"}, "stim: units have no column 'cell typ'. Did you mean 'cell type'"),
        ({"cell type": "MBN"}, "no unit has the cell type 'MBN'. Did you mean 'MBON'"),
        ({"layer": "deep"}, "no unit has the layer 'deep'"),
        ({"cell type": "KC", "unit_id": "c"}, "no unit has {'cell type': 'KC', 'unit_id': 'c'}"),
        ({"region": "MBB"}, "unknown region 'MBB'"),
    ],
)
def test_columns_and_values_that_are_not_there(net, wanted, message):
    with pytest.raises(UnknownNameError, match=message):
        net.names.where(wanted, "stim")


def test_stimuli_lesions_and_records_choose_by_columns(net):
    left = Stimulus("MB", 1.0, units={"cell type": "MBON", "side": "left"})
    lesion = Lesion("MB", units={"cell type": "KC"})
    record = Record(units={"cell type": ("KC", "MBON")})
    found = simulate(net, 50, stimulus=[left], interventions=[lesion], record=record)
    assert found.unit_id.values.tolist() == list("abcd")
    assert found.cell_type.values.tolist() == ["KC", "KC", "MBON", "MBON"]
    by_ids = simulate(
        net, 50, stimulus=[Stimulus("MB", 1.0, units=["c"])], interventions=[Lesion("MB", units=["a", "b"])],
        record=Record(regions=["MB"]),
    )  # fmt: skip
    assert np.array_equal(found.h, by_ids.h)
    assert (found.h[0, 0].values > 0).tolist() == [False, False, True, False]
    with pytest.raises(StimulusError, match="no unit of 'LH' has"):
        simulate(net, 50, stimulus=[Stimulus("LH", 1.0, units={"side": "left"})])
    with pytest.raises(RecordingError, match="no unit of LH has"):
        simulate(net, 50, record=Record(regions=["LH"], units={"side": "left"}))


@pytest.mark.parametrize("units", [{}, {"side": []}, {3: "left"}, {"side": {"a": 1}, "layer": [[1]]}])
def test_choices_that_are_none(units):
    with pytest.raises(StimulusError):
        Stimulus("MB", 1.0, units=units)
    with pytest.raises(RecordingError):
        Record(units=units)


def test_plots_choose_by_columns(net):
    recording = simulate(net, 50, stimulus=[Stimulus("MB", 1.0)])
    found = Activity.of(recording).select(None, {"cell_type": ["MBON", "KC"], "side": "left"}, None, None)
    assert found.label.tolist() == ["a", "c"]
    assert np.array_equal(found.values, recording.h[:, :, [0, 2]])
    found = Activity.of(recording).select(["MB"], {"side": "right"}, None, None)
    assert found.label.tolist() == ["b"]
    with pytest.raises(UnknownNameError, match="no unit has the side 'lef'"):
        plot_traces(recording, units={"side": "lef"})
    with pytest.raises(RecordingError, match="no unit"):
        Activity.of(recording).select(["LH"], {"side": "right"}, None, None)


def test_recordings_on_disk_have_the_columns(tmp_path, net):
    simulate(net, 50, out=tmp_path / "run.zarr", record=Record(regions=["MB"]))
    found = sm.recording.open_recording(tmp_path / "run.zarr")
    assert found.side.values.tolist() == ["left", "right", "left", ""]
    assert found.layer.values[:3].tolist() == [1, 2, 2]
    assert found.root_id.values.tolist() == [str(BIG + k) for k in range(4)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1]}, "column 'a' must have 2 values"), ({"a": ["x", 1]}, "each of text or of numbers"),
        ({"region": ["x", "y"]}, "cannot be called 'region'"), ({"": ["x", "y"]}, "cannot be called ''"),
        (["x", "y"], "must be columns by name"), ({"a": [[1], [2]]}, "must have 2 values|each of text"),
    ],
)  # fmt: skip
def test_what_is_not_a_table(table, message):
    with pytest.raises(GraphError, match=message):
        sm.RegionGraph().add_region("a", 2, unit_table=table)


def test_importers_keep_columns(tmp_path):
    edges = {"pre": [11, 12, 13], "post": [12, 13, 11], "weight": [1, 2, 3]}
    neurons = {"id": [13, 12, 11], "type": ["x", "y", "x"], "side": ["l", None, "r"]}
    neurons |= {"size": [1.5, 2, 3], "n": ["1", "2", "3"]}
    g, report = read_table(edges, neurons, regions="type", keep=["side", "size", "n"])
    units = sm.mRNN(g, device="cpu").units.set_index("unit_id")
    assert units.loc[["11", "12", "13"], "side"].tolist() == ["r", "", "l"]
    assert units.loc[["11", "12", "13"], "size"].tolist() == [3, 2, 1.5]
    assert units.loc[["11", "12", "13"], "n"].tolist() == [3, 2, 1]
    assert "units have the columns type, side, size, n" in str(report)
    with refused("column 'sides' is missing. Did you mean 'side'"):
        read_table(edges, neurons, keep="sides")
    import networkx as nx

    graph = nx.DiGraph([("a", "b"), ("b", "a")])
    nx.set_node_attributes(graph, {"a": {"kind": "K", "region": "MB"}, "b": {"kind": "M", "spot": (1, 2)}})
    units = sm.mRNN(from_networkx(graph)[0], device="cpu").units
    assert units.kind.tolist() == ["K", "M"]
    assert units["region (table)"].tolist() == ["MB", ""]
    assert "spot" not in units
