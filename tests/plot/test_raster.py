"""Rasters: every spike is a dot in the row of its unit and the colour of its region."""

import numpy as np
import pytest

import sparse_mrnn as sm
from sparse_mrnn.errors import RecordingError, UnknownNameError
from sparse_mrnn.plot import plot_raster
from sparse_mrnn.stimulus import SpikeTimes, Stimulus


@pytest.fixture(scope="module")
def events():
    g = sm.RegionGraph()
    g.add_region("b", 3)
    g.add_region("a", 2)
    trains = SpikeTimes([[1.0], [], [2.0, 20.0]], amplitude=1e5)
    drive = [Stimulus("b", trains), Stimulus("a", SpikeTimes([5.0], amplitude=1e5))]
    net = sm.LIF(g, device="cpu", reset_g=True)
    return sm.simulate(net, 40, stimulus=drive, batch=2, progress=False)


def dots(ax):
    return [np.stack(line.get_data()).T.round(3).tolist() for line in ax.lines]


def test_dots_are_spikes_in_rows_of_their_units(events):
    ax = plot_raster(events, trial=1)
    assert sorted(dots(ax)[0]) == [[1.2, 0], [2.2, 2], [20.2, 2]]
    assert sorted(dots(ax)[1]) == [[5.2, 3], [5.2, 4]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]


def test_regions_come_in_the_order_given_and_times_are_cut(events):
    ax = plot_raster(events, regions=["a", "b"], start=3, stop=30)
    assert sorted(dots(ax)[0]) == [[5.2, 0], [5.2, 1]]
    assert dots(ax)[1] == [[20.2, 4]]


def test_at_most_so_many_units_are_drawn(events):
    assert plot_raster(events, most=3).get_ylim() == (2.5, -0.5)


def test_what_is_not_there_is_refused(events):
    with pytest.raises(UnknownNameError, match="'c'"):
        plot_raster(events, regions=["c"])
    with pytest.raises(RecordingError, match="no trial 2"):
        plot_raster(events, trial=2)
    with pytest.raises(RecordingError, match="no spikes"):
        plot_raster(events.drop_vars("spike_time"))
