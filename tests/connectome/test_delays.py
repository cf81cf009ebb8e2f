"""Delays of the rows of an edge table, and the columns that an import does not read."""

import numpy as np
import pandas as pd
import pytest

from helpers.common import refused
from helpers.connectome_files import dense
from sparse_mrnn.connectome import read_table

EDGES = {"pre": ["a", "b", "c", "a"], "post": ["b", "c", "a", "b"], "weight": [1, 2, 3, 4]}


def delays_of(graph):
    return {key: data.get("delay") for *_, key, data in graph.edges(keys=True, data=True)}


@pytest.mark.parametrize("delay", [[1, 2, 1, 1], ["1", "2.0", "1.0", "1"], [1.0, 2, 1, 1]])
def test_rows_of_different_delays_are_parallel_projections(delay):
    graph, report = read_table(EDGES | {"delay": delay}, delay="delay", scale="none")
    assert delays_of(graph) == {"1 ms": 1, "2 ms": 2}
    assert dense(graph) == {("b", "a"): 5, ("c", "b"): 2, ("a", "c"): 3}
    assert "delays, of column 'delay', are 1 to 2 ms: 2 different ones" in str(report)


def test_one_delay_needs_no_key():
    graph, _ = read_table(EDGES | {"delay": [0.3] * 4}, delay="delay", scale="none")
    assert delays_of(graph) == {"default": 0.3}
    options = dict(delay="delay", scale="none", self_connections=False)
    edges = {"pre": ["a", "b"], "post": ["b", "b"], "weight": [1, 2], "delay": [3, 4]}
    assert delays_of(read_table(edges, **options)[0]) == {"default": 3}  # the other row is left out


def test_delays_beside_signs_and_keys():
    signed = EDGES | {"delay": [1, 2, 0, None], "sign": [1, -1, 1, -1], "kind": ["x", "x", "y", "y"]}
    options = dict(delay="delay", sign="sign", sign_per="synapse", parallel="kind", scale="none")
    graph, _ = read_table(pd.DataFrame(signed), **options)
    expected = {"x excitatory 1 ms": 1, "x inhibitory 2 ms": 2, "y excitatory": None, "y inhibitory": None}
    assert delays_of(graph) == expected
    assert dense(graph) == {("b", "a"): -3, ("c", "b"): -2, ("a", "c"): 3}


def test_many_delays_are_rounded():
    delay = np.random.default_rng(0).uniform(1, 2, 300)
    edges = {"pre": range(300), "post": np.roll(range(300), 1), "weight": [1] * 300, "delay": delay}
    graph, report = read_table(edges, delay="delay", scale="none")
    assert sorted(delays_of(graph).values()) == pytest.approx(np.arange(10, 21) / 10)
    assert "300 different delays were rounded to multiples of 0.1 ms" in str(report)
    ids = {unit: k for k, unit in enumerate(next(iter(graph.regions())).unit_ids)}
    for p in graph.projections():
        source = p.weights.tocoo().col
        assert all(abs(delay[k] - p.delay) <= 0.05001 for k in range(300) if ids[str(k)] in source)
    graph, _ = read_table(edges, delay="delay", scale="none", delay_step=1.0)
    assert delays_of(graph) == {"1 ms": 1, "2 ms": 2}


@pytest.mark.parametrize(
    ("delay", "options", "message"),
    [
        ([1, -2, 1, 1], {}, "row 1, column 'delay': the delay -2 is not a time"),
        ([1, 2, 1, "inf"], {}, "the delay inf is not a time|inf"),
        (["1", "soon", "1", "1"], {}, "the delay 'soon' is not a number"),
        ([1, 2, 3, 4], {"delay": "dealy"}, "Did you mean 'delay'"),
        ([1, 2, 3, 4], {"delay_step": 0}, "delay_step is 0"),
    ],
)
def test_what_is_not_a_delay(delay, options, message):
    with refused(message):
        read_table(pd.DataFrame(EDGES | {"delay": delay}), **{"delay": "delay", **options})


def test_columns_that_are_not_read(tmp_path):
    (tmp_path / "edges.csv").write_text("pre,post,weight,size,roi\na,b,1,2,x\n")
    neurons = pd.DataFrame({"id": ["a", "b"], "type": ["x", "y"], "side": ["l", "r"]})
    _, report = read_table(tmp_path / "edges.csv", neurons, regions="type", keep=())
    assert report.not_read == {"neurons": ("side",), "edges.csv": ("size", "roi")}
    _, report = read_table(tmp_path / "edges.csv", neurons, regions="type")
    assert report.not_read == {"edges.csv": ("size", "roi")}
    assert "not read: edges.csv: size, roi" in str(report)
    assert report.to_dict()["not_read"] == {"edges.csv": ("size", "roi")}
