"""Shiu et al.'s model on small graphs: weights, delays, refractory times and drive."""

import numpy as np
import pytest

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, UnknownNameError
from sparse_mrnn.presets import shiu2024
from sparse_mrnn.stimulus import SpikeTimes, Stimulus


def chain(split):
    """Units a -> b -> c with 200 and -80 synapses, in one region or in two."""
    g = sm.RegionGraph()
    weights = np.diag([200.0, -80.0], -1)
    if split:
        g.add_region("one", 2, unit_ids=["a", "b"], sign=[1, -1])
        g.add_region("two", 1, unit_ids=["c"])
        g.add_projections(weights)
    else:
        g.add_region("brain", 3, unit_ids=["a", "b", "c"], sign=[1, -1, 1])
        g.add_projection("brain", "brain", weights=weights)
    return g


@pytest.mark.parametrize("split", [False, True])
def test_counts_become_weights_and_the_graph_stays(split):
    graph = chain(split)
    before = [p.weights.toarray().tolist() for p in graph.projections()]
    net, stimulus = shiu2024(graph, ["b"], device="cpu")
    np.testing.assert_allclose(net.weights("recurrent").dense().detach(), 0.275 * np.diag([200.0, -80.0], -1))
    assert [p.weights.toarray().tolist() for p in graph.projections()] == before
    assert {p.delay for p in net.graph.projections()} == {1.8}
    assert {p.delay for p in graph.projections()} == {None}
    t_ref = np.concatenate([r.t_ref for r in net.graph.regions()])
    np.testing.assert_allclose(t_ref, [2.1, 0.0, 2.1])
    assert stimulus[0].units == ("b",)


def test_an_event_is_a_spike_in_the_next_step_and_arrives_after_the_delay():
    net, (drive,) = shiu2024(chain(False), ["a"], device="cpu")
    events = SpikeTimes([5.0, 5.2, 9.0], amplitude=drive.waveform.amplitude)
    record = sm.Record(what=["units", "spikes"], variables=["g"])
    run = sm.simulate(net, 12, stimulus=Stimulus(units=["a"], waveform=events), record=record, progress=False)
    of_a = run.spike_time.values[run.spike_unit.values == 0]
    np.testing.assert_allclose(of_a, [5.2, 5.4, 9.2], atol=1e-9)
    g = run.g.values[0, :, 1]
    np.testing.assert_allclose(run.time.values[np.flatnonzero(g)[0]], 5.2 + 1.8, atol=1e-9)
    np.testing.assert_allclose(g[np.flatnonzero(g)[0]], 55.0, rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownNameError, match="nobody"):
        shiu2024(chain(False), ["nobody"])
    with pytest.raises(ConfigError, match="rate = -1"):
        shiu2024(chain(False), ["a"], rate=-1)
    drawn = chain(False)
    drawn.add_projection("brain", "brain", key="drawn", fan_in=1)
    with pytest.raises(ConfigError, match="no explicit weights"):
        shiu2024(drawn)
    drawn = chain(False)
    drawn.add_input("u", 1)
    with pytest.raises(ConfigError, match="input 'u'"):
        shiu2024(drawn)
