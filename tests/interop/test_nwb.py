"""NWB files that pynwb writes, read again: series, trials, channels, and spikes."""

import datetime

import numpy as np
import pytest

from sparse_mrnn.errors import RecordingError, TrainingError
from sparse_mrnn.interop import read_nwb

RNG = np.random.default_rng(0)
DATA = RNG.random((100, 3))
TRIALS = [(0.2, 0.6, "left"), (1.0, 1.5, "right"), (1.51, 1.9, "left")]


@pytest.fixture
def pynwb():
    return pytest.importorskip("pynwb")


def write(pynwb, path, *series, trials=True, spikes=()):
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    content = pynwb.NWBFile("test", "test", now)
    for one in series:
        content.add_acquisition(one)
    if trials:
        content.add_trial_column("side", "where")
        for start, stop, side in TRIALS:
            content.add_trial(start_time=start, stop_time=stop, side=side)
    for k, times in enumerate(spikes):
        content.add_unit(spike_times=times, id=7 + k)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(content)


def timeseries(pynwb, name="rates", data=DATA, **more):
    return pynwb.TimeSeries(name=name, data=data, unit="Hz", **({"rate": 50.0, "starting_time": 0.0} | more))


def test_a_series_in_trials(pynwb, tmp_path):
    write(pynwb, tmp_path / "a.nwb", timeseries(pynwb, conversion=2.0, offset=1.0))
    recorded = read_nwb(tmp_path / "a.nwb", condition="side", channels=["x", "y", "z"], calcium=100.0)
    assert (recorded.interval, recorded.channels, recorded.calcium) == (20.0, ("x", "y", "z"), 100.0)
    assert recorded.condition == ("left", "right", "left")
    assert recorded.values.shape == (3, 25, 3)
    np.testing.assert_allclose(recorded.values[0, :20], 2 * DATA[10:30] + 1)
    assert np.isnan(recorded.values[0, 20:]).all()
    np.testing.assert_allclose(recorded.values[1], 2 * DATA[50:75] + 1)
    np.testing.assert_allclose(recorded.values[2, :19], 2 * DATA[76:95] + 1)
    whole = read_nwb(tmp_path / "a.nwb", "rates", trials=False)
    np.testing.assert_allclose(whole.values, 2 * DATA[None] + 1)
    assert whole.channels == ("0", "1", "2")


def test_timestamps(pynwb, tmp_path):
    times = 0.5 + 0.01 * np.arange(100)
    write(pynwb, tmp_path / "a.nwb", timeseries(pynwb, rate=None, starting_time=None, timestamps=times), trials=False)
    assert read_nwb(tmp_path / "a.nwb").interval == pytest.approx(10)
    times[50:] += 0.005
    write(pynwb, tmp_path / "b.nwb", timeseries(pynwb, rate=None, starting_time=None, timestamps=times), trials=False)
    with pytest.raises(RecordingError, match="not evenly spaced"):
        read_nwb(tmp_path / "b.nwb")


def test_spikes_become_rates(pynwb, tmp_path):
    spikes = [[0.21, 0.25, 0.29, 1.05], [0.45], []]
    write(pynwb, tmp_path / "a.nwb", spikes=spikes)
    rates = read_nwb(tmp_path / "a.nwb", "units", interval=100.0)
    assert rates.channels == ("7", "8", "9")
    np.testing.assert_allclose(rates.values[0, :4], [[30, 0, 0], [0, 0, 0], [0, 10, 0], [0, 0, 0]])
    np.testing.assert_allclose(rates.values[1, 0], [10, 0, 0])
    with pytest.raises(RecordingError, match="give their width as interval"):
        read_nwb(tmp_path / "a.nwb")


def test_what_cannot_be_read(pynwb, tmp_path):
    write(pynwb, tmp_path / "a.nwb", timeseries(pynwb), timeseries(pynwb, "others"))
    with pytest.raises(RecordingError, match=r"has 2 series of several channels \('rates', 'others'\)|2 series"):
        read_nwb(tmp_path / "a.nwb")
    with pytest.raises(RecordingError, match="no series 'rate'.*Did you mean 'rates'"):
        read_nwb(tmp_path / "a.nwb", "rate")
    with pytest.raises(RecordingError, match="no column 'hand'"):
        read_nwb(tmp_path / "a.nwb", "rates", condition="hand")
    with pytest.raises(RecordingError, match="has no units"):
        read_nwb(tmp_path / "a.nwb", "units", interval=10.0)
    with pytest.raises(TrainingError, match="2 names of channels"):
        read_nwb(tmp_path / "a.nwb", "rates", channels=["a", "b"])
    with pytest.raises(RecordingError, match="does not exist"):
        read_nwb(tmp_path / "b.nwb")
    (tmp_path / "c.nwb").write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with pytest.raises(RecordingError, match="cannot be read as NWB"):
        read_nwb(tmp_path / "c.nwb")
    write(pynwb, tmp_path / "d.nwb", timeseries(pynwb, data=DATA[:20]))
    with pytest.raises(RecordingError, match="series 'rates' has no sample in trial 1"):
        read_nwb(tmp_path / "d.nwb")
