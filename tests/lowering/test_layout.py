"""Names of a network: regions, parents, inputs and unit ids, text or integers, resolved in one way."""

import networkx as nx
import numpy as np
import pytest

import sparse_mrnn as sm
from sparse_mrnn.checks import name_text, names_of
from sparse_mrnn.errors import RecordingError, StimulusError, UnknownNameError, WeightError
from sparse_mrnn.lowering.layout import UnitNames, find_ids
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.models.queries import UnitLocation

ROOT_IDS = [720575940653971835, 720575940653971836, 720575940653971837]


def graph():
    g = sm.RegionGraph()
    g.add_region("touch", 3, unit_ids=ROOT_IDS, parent_region="sensory")
    g.add_region("motor", 2, unit_ids=["M1", ROOT_IDS[0]])
    g.add_region("heat", 2, parent_region="sensory")
    g.add_input("u", 2, )
    g.add_projection("u", "touch")
    g.add_projection("touch", "motor")
    return g


def test_every_name_has_its_kind_and_units():
    names = UnitNames(graph())
    for name, kind, units in [
        ("touch", "recurrent", [0, 1, 2]),
        ("sensory", "recurrent", [0, 1, 2, 5, 6]),
        ("u", "input", [0, 1]),
        (ROOT_IDS[1], "recurrent", [1]),
        (str(ROOT_IDS[1]), "recurrent", [1]),
        (np.int64(ROOT_IDS[2]), "recurrent", [2]),
        ("heat[1]", "recurrent", [6]),
        ("u[1]", "input", [1]),
    ]:
        found = names.find(name)
        assert (found[0], found[1].tolist()) == (kind, units)
    assert names.members("u", "sensory", "heat") == ("u", "touch", "heat")
    assert (names.kind_of("sensory"), names.kind_of("u")) == ("recurrent", "input")


def test_a_missing_or_ambiguous_name_says_where_it_looked():
    names = UnitNames(graph())
    with pytest.raises(UnknownNameError, match=r"here: nothing is called 'toch'; looked at 3 regions, 1 parents, 1 inputs and the ids of 9 units. Did you mean 'touch'"):
        names.find("toch", "here")
    with pytest.raises(UnknownNameError, match=r"nothing is called 72057594065397183; .* Did you mean '72057594065397183"):
        names.unit(72057594065397183)
    with pytest.raises(UnknownNameError, match="is used in 'touch' and 'motor'; name the region too"):
        names.unit(ROOT_IDS[0])
    with pytest.raises(UnknownNameError, match="here: unit id .* name the region, and the unit in units="):
        names.find(ROOT_IDS[0], "here")
    with pytest.raises(UnknownNameError, match="unknown region 'M1'"):
        names.kind_of("M1")
    with pytest.raises(UnknownNameError):
        names.unit(0.5)


def test_integers_work_wherever_ids_do():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    assert net.find_unit(ROOT_IDS[1]) == UnitLocation("touch", 1) == net.find_unit(str(ROOT_IDS[1]))

    def run(*, text):
        form = str if text else int
        return sm.simulate(
            net,
            50,
            stimulus=[
                sm.Stimulus("touch", 1.0, units=[form(ROOT_IDS[0]), form(ROOT_IDS[2])]),
                sm.Stimulus(form(ROOT_IDS[1]), 2.0),
            ],
            interventions=[sm.Lesion(form(ROOT_IDS[2])), sm.Clamp("motor", 0.5, units=form(ROOT_IDS[0]))],
            record=sm.Record(regions=["touch", "motor"], units=[form(unit) for unit in ROOT_IDS]),
            seed=0,
        )

    as_text, as_numbers = run(text=True), run(text=False)
    assert as_numbers["unit_id"].values.tolist() == [str(unit) for unit in (*ROOT_IDS, ROOT_IDS[0])]
    assert as_text.equals(as_numbers)
    assert sm.Stimulus("touch", 1.0, units=np.array(ROOT_IDS)) == sm.Stimulus("touch", 1.0, units=list(map(str, ROOT_IDS)))


def test_a_configuration_takes_integers_for_ids():
    entry = {"region": "touch", "type": "constant", "amplitude": 1.0, "units": [ROOT_IDS[0], "b"]}
    config = sm.NetworkConfig.model_validate(
        {"recurrent_regions": [{"name": "touch", "num_units": 2}], "simulation": {"stimulus": [entry]}}
    )
    assert config.simulation.stimulus[0].to_stimulus().units == (str(ROOT_IDS[0]), "b")


def test_weights_of_a_networkx_graph_have_integers_as_nodes():
    edges = nx.DiGraph()
    edges.add_edge(7, 8, weight=2.0)
    g = sm.RegionGraph()
    g.add_region("a", 2, unit_ids=[7, 8])
    g.add_projection("a", "a", weights=edges)
    assert lower(g).to_scipy().toarray().tolist() == [[0, 0], [2, 0]]
    edges.add_edge(7, 9)
    with pytest.raises(WeightError, match="9 is not a unit of the target"):
        g.add_projection("a", "a", weights=edges, key="again")


def test_unit_ids_among_those_of_a_region():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    for stimulus, message in [
        (sm.Stimulus("touch", 1.0, units=[ROOT_IDS[0], 5]), r"stimulus on 'touch': region 'touch' has no unit '5'; looked at 3 units. Known unit ids"),
        (sm.Stimulus("heat", 1.0, units=["heat[2]"]), r"no unit 'heat\[2\]'; looked at 2 units. Did you mean 'heat"),
    ]:
        with pytest.raises(StimulusError, match=message):
            sm.simulate(net, 50, stimulus=stimulus)
    with pytest.raises(RecordingError, match="record: touch, u has no unit 'x'"):
        find_ids(["x"], np.array(["y"]), "record: touch, u", RecordingError)


def test_text_of_names():
    assert [name_text(value) for value in ("a", 3, np.uint64(2**63), True, 1.0, None, b"a")] == [
        "a", "3", str(2**63), None, None, None, None
    ]
    assert names_of(5, "units", StimulusError) == ("5",)
    with pytest.raises(StimulusError, match="units: 0.5 is not a name"):
        names_of([0.5], "units", StimulusError)


def test_names_follow_a_network_that_is_still_declared():
    net = sm.mRNN(config_finalize=False, device="cpu")
    net.add_recurrent_region("a", 2)
    assert net.unit_indices("a").tolist() == [0, 1]
    net.add_recurrent_region("b", 1)
    assert net.unit_indices("b").tolist() == [2]
