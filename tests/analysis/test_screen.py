"""Screens: rates are those of simulations of the same stimuli and lesions, by region, whatever their order."""

import numpy as np
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from sparse_mrnn.analysis import screen
from sparse_mrnn.errors import AnalysisError, RecordingError, ResumeError, UnknownNameError
from sparse_mrnn.plot import plot_screen


def network(order="abc", seed=0, model=sm.mRNN):
    """Three regions whose units are of two types, each in two regions; weights depend on names, not on order."""
    g = sm.RegionGraph()
    types = {"a": ["p", "p", "q"], "b": ["q", "q"], "c": ["p", "", "q", "q"]}
    for name in order:
        g.add_region(name, len(types[name]), sign="pos", unit_table={"cell_type": types[name]})
    for source, target, weight in (("a", "b", 0.3), ("b", "c", 0.2), ("c", "a", 0.1)):
        g.add_projection(source, target, initializer=sm.Constant(weight))
    options = {} if model is sm.ElmanmRNN else {"tau": 20}
    return model(g, "relu", dt=5, device="cpu", seed=seed, **options)


DRIVE = sm.Stimulus("a", 0.4)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_rates_are_those_of_simulations(model):
    net = network(model=model)
    found = screen(net, 100, stimulus=DRIVE, drive=0.7, start=20, stop=80, window=(40, 80), progress=False)

    def rate(*stimuli, lesion=None):
        h = sm.simulate(net, 100, stimulus=[DRIVE, *stimuli], interventions=lesion, progress=False).h
        window = h.sel(time=slice(40.01, 80))
        return np.array([float(window[..., h.region.values == name].mean()) for name in "abc"])

    control = rate()
    assert found.control.values == pytest.approx(control, rel=1e-6)
    for target in "abc":
        active = rate(sm.Stimulus(target, 0.7, start=20, stop=80))
        silent = rate(lesion=sm.Lesion(target, start=20, stop=80))
        assert found.rate.sel(kind="activation", target=target).values == pytest.approx(active, rel=1e-6)
        assert found.change.sel(kind="silencing", target=target).values == pytest.approx(silent - control, abs=1e-6)


def test_cell_types_of_a_column():
    net = network()
    found = screen(net, 100, by="cell_type", stimulus=DRIVE, progress=False)
    assert found.target.values.tolist() == ["p", "q"]
    h = sm.simulate(net, 100, stimulus=[DRIVE, sm.Stimulus("cell_type=q", 1.0)], progress=False).h
    rate = [float(h[..., h.region.values == name].mean()) for name in "abc"]
    assert found.rate.sel(kind="activation", target="q").values == pytest.approx(rate, rel=1e-6)
    only = screen(net, 100, by="cell_type", targets=["q"], stimulus=DRIVE, kinds=["silencing"], progress=False)
    xr.testing.assert_allclose(only.rate, found.rate.sel(kind=["silencing"], target=["q"]))


def test_the_order_of_regions_and_targets_does_not_matter():
    found = screen(network(), 60, stimulus=DRIVE, progress=False)
    other = screen(network("cab"), 60, stimulus=DRIVE, targets=["c", "b", "a"], progress=False)
    assert other.target.values.tolist() == ["c", "b", "a"]
    xr.testing.assert_allclose(other.change.sel(target=list("abc"), region=list("abc")), found.change)


def test_a_screen_on_disk_is_resumed_with_the_same_network_only(tmp_path):
    out = tmp_path / "screen.zarr"
    found = screen(network(), 60, stimulus=DRIVE, out=out, progress=False)
    xr.testing.assert_equal(screen(network(), 60, stimulus=DRIVE, out=out, mode="resume", progress=False), found)
    xr.testing.assert_equal(xr.open_zarr(out).control.load(), found.control)
    other = network()
    with torch.no_grad():
        other.weights("recurrent").values.mul_(1.5)
    for net, options in ((other, {}), (network(), {"drive": 2.0}), (network(), {"start": 10})):
        with pytest.raises(ResumeError, match="is another sweep"):
            screen(net, 60, stimulus=DRIVE, out=out, mode="resume", progress=False, **options)
    assert plot_screen(out, kind="silencing").get_title() == "silencing: 3 targets"
    with pytest.raises(AnalysisError, match="is not a screen"):
        plot_screen(tmp_path)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"kinds": ["activate"]}, AnalysisError, "Did you mean 'activation'"),
    ({"targets": ["d"]}, UnknownNameError, "screen: nothing is called 'd'"),
    ({"by": "type"}, UnknownNameError, "Did you mean 'cell_type'"),
    ({"by": "cell_type", "targets": ["r"]}, UnknownNameError, "no unit has the cell_type 'r'"),
    ({"window": (50, 200)}, AnalysisError, "not within 0 to 100 ms"),
    ({"window": 50}, AnalysisError, "give its start and stop"),
    ({"window": (51, 54)}, AnalysisError, "no time step of 5 ms"),
    ({"variable": "v"}, RecordingError, "v"),
])  # fmt: skip
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        screen(network(), 100, progress=False, **options)
