"""Bands of compiled steps are the equation, for any division of a run and any number of threads."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.spiking_nets import INTERVENTIONS, STIMULI, dense, network
from sparse_mrnn.lowering.random_streams import run_streams
from sparse_mrnn.ops import kernels, spiking
from sparse_mrnn.ops.philox import key_of

pytestmark = pytest.mark.skipif(kernels.load("lif") is None, reason="without numba")
SPIKES = sm.Record(what=["spikes"])


def train(recording):
    return np.stack([recording[name].values for name in ("spike_time", "spike_trial", "spike_unit")])


def key_of_background(seed=0):
    """Key of the only random stimulus of a run."""
    return key_of(run_streams(seed)[0].spawn(1)[0].spawn(2)[1])


@pytest.mark.parametrize("options", [{}, {"reset_g": True}, {"synapse": "jump"}, {"std": 0.0, "delay": 0.1}])
def test_spikes_are_those_of_the_dense_equation(options):
    net, steps = network(**options), 400
    record = sm.Record(what=["units", "spikes"], variables=["v"])
    run = sm.simulate(net, steps=steps, record=record, progress=False)
    spikes, potentials = dense(net, steps, key_of_background())
    when, unit = np.nonzero(spikes)
    assert len(when) > 50
    np.testing.assert_array_equal(np.rint(run.spike_time.values / net.dt), when + 1)
    np.testing.assert_array_equal(run.spike_unit.values, unit)
    np.testing.assert_allclose(run.v.values[0], potentials, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"reset_g": True, "std": 0.0}])
def test_events_are_the_products_bit_for_bit(options):
    record = sm.Record(what=["units", "spikes", "mean"], variables=["v", "g", "refractory", "h", "rate"], every=20)
    given = dict(steps=400, batch=2, stimulus=STIMULI, interventions=INTERVENTIONS, record=record, progress=False)
    runs = [sm.simulate(network(**options), event_driven=flag, **given) for flag in (True, False)]
    for name in runs[0].data_vars:
        np.testing.assert_array_equal(runs[0][name].values, runs[1][name].values)
    assert runs[0].rate.mean() > 1


@pytest.mark.parametrize("band", [1, 7])
def test_a_run_may_be_cut_into_any_bands(band, monkeypatch):
    given = dict(steps=360, stimulus=STIMULI, interventions=INTERVENTIONS, record=SPIKES, progress=False)
    whole = sm.simulate(network(), **given)
    monkeypatch.setattr(spiking, "BAND", band)
    monkeypatch.setattr(spiking, "BLOCK_STATES", 2000 if band == 7 else 2**22)
    np.testing.assert_array_equal(train(whole), train(sm.simulate(network(), **given)))


def test_a_trial_does_not_depend_on_how_many_there_are():
    runs = {
        n: train(sm.simulate(network(), steps=200, batch=n, stimulus=STIMULI, record=SPIKES, progress=False))
        for n in (1, 3)
    }
    np.testing.assert_array_equal(runs[1], runs[3][:, runs[3][1] == 0])
    assert not np.array_equal(runs[3][0, runs[3][1] == 1], runs[3][0, runs[3][1] == 2])


def test_more_spikes_than_a_call_holds():
    net = network(std=0.0)
    simulator = _stepper(net)
    whole = simulator.stepper
    whole._out = whole._out[: whole.h.numel() * whole.block]
    whole.advance(200)
    other = _stepper(net).stepper
    other.advance(200)
    np.testing.assert_array_equal(whole.spikes, other.spikes)
    assert torch.equal(whole.x, other.x)


def _stepper(net):
    from sparse_mrnn.simulation.simulator import Simulator

    simulator = Simulator(net, 1, None, event_driven=True)
    simulator.set_factors({"recurrent": {}, "input": {}})
    units = np.arange(30)
    key = np.array([1, 2], np.uint32)
    simulator.stepper.set_drives([spiking.PoissonDrive(units, 0.5, 30.0, key, 0, 10**6)])
    return simulator


@pytest.mark.slow  # the threaded loops take some seconds to compile
def test_the_result_does_not_depend_on_threads():
    given = dict(steps=200, record=SPIKES, progress=False, stimulus=STIMULI)
    threads = torch.get_num_threads()
    found = {}
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found[count] = train(sm.simulate(network(4000, dtype=torch.float32), **given))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_array_equal(found[1], found[3])
    assert found[1].shape[1] > 1000
