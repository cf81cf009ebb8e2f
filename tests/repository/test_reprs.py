"""What objects show of themselves: a short repr, a table when printed, HTML in a notebook."""

from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import sparse_mrnn as sm
from sparse_mrnn.connectome import read_celegans
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.recording import summary


def graph():
    g = sm.RegionGraph(name="motor <net>")
    g.add_region("a", 1200, tau=50.0, learnable_tau=True, parent_region="all")
    g.add_region("b", 4, sign=np.array([1, -1, 0, 1], dtype=np.int8))
    g.add_input("cue", 2)
    g.add_projection("a", "b", density=0.5)
    g.add_projection("cue", "a", density=0.5)
    return g


class Cells(HTMLParser):
    """Collects the cells of a table, and checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.cells.append(data)


def rendered(thing, width=80):
    console = Console(width=width, file=StringIO())
    console.print(thing)
    return console.file.getvalue()


def test_graph():
    g = graph()
    assert repr(g) == "<RegionGraph 'motor <net>': 1,204 units, 2 inputs, 2 projections>"
    lines = str(g).splitlines()
    assert lines[1].split() == ["region", "kind", "units", "sign", "parent", "in", "out", "synapses"]
    assert lines[2].split() == ["a", "1,200", "pos", "all", "1", "1", "1,200"]
    assert "per unit" in lines[3]
    html = g._repr_html_()
    assert "motor &lt;net&gt;" in html
    assert {"cue", "input", "1,200"} <= set(Cells(html).cells)
    assert repr(sm.RegionGraph()) == "<RegionGraph '': 0 units, 0 inputs, 0 projections>"
    assert "<table>" not in sm.RegionGraph()._repr_html_()


@pytest.mark.parametrize("name", ["celegans", "long"])
def test_no_name_is_truncated_at_80_columns(name):
    if name == "long":
        g = sm.RegionGraph()
        for space in " _":
            g.add_region("a very long name of a region that fills more than one line".replace(" ", space) * 2, 10**6)
    else:
        g, _ = read_celegans()
    lines = rendered(g).splitlines()
    assert "…" not in "".join(lines)
    assert all(len(line) <= 80 for line in lines)
    names = "".join(line.partition("  ")[0].replace(" ", "") for line in lines)  # a long name goes on in the next lines
    assert all(region.name.replace(" ", "") in names for region in g.regions())


def test_network():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    assert "1,204 units in 2 regions, 2 inputs, relu, backend=auto, float32 on cpu" in repr(net)
    assert "SparseWeights(1204 x 1204" in repr(net)
    assert "mRNN &#x27;motor" in net._repr_html_()
    assert "on cpu" in repr(sm.mRNNBase(device="cpu"))


def test_time_constants_are_round():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    assert net.time_constants == {"a": 50.0, "b": 100.0}
    exponential = sm.mRNN(graph(), device="cpu", seed=0, integrator="exponential_euler")
    assert exponential.time_constants == {"a": 50.0, "b": 100.0}


def test_import_report():
    _, report = read_celegans()
    assert repr(report).startswith("<ImportReport of the shipped C. elegans connectome")
    assert repr(report).endswith("302 neurons, 5,062 connections, 17 regions>")
    assert str(report).splitlines()[-1].startswith("canal")
    assert {"layer_1", "density"} <= set(Cells(report._repr_html_()).cells)


def test_recording():
    recording = sm.simulate(sm.mRNN(graph(), device="cpu", seed=0), 50, batch=2, progress=False)
    table = summary(recording)
    assert str(table).splitlines()[0] == "h by region: 2 trials, 50 ms in steps of 10 ms"
    assert {"a", "1,200"} <= set(Cells(table._repr_html_()).cells)
    net, means_only = sm.mRNN(graph(), device="cpu", seed=0), sm.Record(what=["mean"])
    means = sm.simulate(net, 50, record=means_only, progress=False)
    assert str(summary(means)).splitlines()[1].split() == ["region", "mean", "max"]


def test_summary_table():
    table = SummaryTable(["title", "more"], ["name", "share"], [["a", "5%"], ["bb", "10%"]], ["note"])
    assert str(table) == "title\nmore\nname  share\na        5%\nbb      10%\nnote"
    assert rendered(table, 20).split() == str(table).split()


def test_results_of_analyses_are_one_line():
    from sparse_mrnn.analysis import find_fixed_points

    net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 300}]}, "tanh", device="cpu", seed=0)
    assert repr(find_fixed_points(net, starts=2)).startswith("FixedPoints(point: 1, unit: 300")
