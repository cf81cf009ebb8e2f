"""Spike statistics against loops over trains in numpy, and in whatever order spikes and regions come."""

import numpy as np
import pytest
import xarray as xr

from sparse_mrnn.analysis import spike_statistics
from sparse_mrnn.errors import AnalysisError


def recording(seed=0, spikes=3000, n=12, trials=2, stop=1000):
    """Random spikes of three regions, whose units are not in the order of their names."""
    rng = np.random.default_rng(seed)
    region = np.array(["b"] * 5 + ["a"] * 4 + ["c"] * (n - 9))
    columns = {
        "time": rng.integers(1, stop * 10, spikes) / 10, "unit": rng.integers(0, n - 1, spikes),
        "trial": rng.integers(0, trials, spikes),
    }
    data = {f"spike_{name}": ("spike", values) for name, values in columns.items()}
    ids = np.array([f"u{k}" for k in range(n)])
    return xr.Dataset(data, {"region": ("unit", region), "unit_id": ("unit", ids), "trial": np.arange(trials)})


def test_against_loops_over_trains():
    events, start, stop, width = recording(), 100.0, 900.0, 5.0
    found = spike_statistics(events, start, stop, bin_ms=width)
    time, unit, trial = (events[f"spike_{name}"].values for name in ("time", "unit", "trial"))
    edges = start + width * np.arange(round((stop - start) / width) + 1)
    for t in range(2):
        binned = []
        for k in range(12):
            train = np.sort(time[(unit == k) & (trial == t) & (time > start) & (time <= stop)])
            assert found.rate.values[t, k] == pytest.approx(len(train) / 0.8)
            gaps = np.diff(train)
            cv = gaps.std() / gaps.mean() if len(gaps) >= 3 else np.nan
            assert found.cv.values[t, k] == pytest.approx(cv, nan_ok=True)
            binned.append(np.histogram(-train, -edges[::-1])[0][::-1])  # bins are closed at their end
        for name in "abc":
            here = np.flatnonzero(events.region.values == name)
            of_region = found.sel(group=name).isel(trial=t)
            counts = np.array([binned[k] for k in here])
            np.testing.assert_allclose(of_region.population_rate, counts.sum(0) / (0.005 * len(here)))
            pairs = np.corrcoef(counts[counts.sum(1) > 0])
            if len(pairs) > 1:
                mean = pairs[np.triu_indices(len(pairs), 1)].mean()
                assert float(of_region.correlation) == pytest.approx(mean)
            assert float(of_region.rate_mean) == pytest.approx(found.rate.values[t, here].mean())
            assert float(of_region.cv_mean) == pytest.approx(np.nanmean(found.cv.values[t, here]))


def test_the_order_of_spikes_does_not_matter():
    events = recording()
    order = np.random.default_rng(1).permutation(events.sizes["spike"])
    xr.testing.assert_allclose(
        spike_statistics(events, stop=1000), spike_statistics(events.isel(spike=order), stop=1000)
    )


def test_without_spikes_rates_are_zero_and_the_rest_unknown():
    found = spike_statistics(recording().isel(spike=slice(0, 0)), 0, 100)
    assert not found.rate.values.any()
    assert np.isnan(found.cv.values).all()
    assert np.isnan(found.correlation.values).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [((500.0, 400.0), "no bin of 2 ms"), ((0.0, 1.0), "no bin"), ((float("nan"), 1.0), "start")],
)
def test_empty_windows_are_refused(given, message):
    with pytest.raises(AnalysisError, match=message):
        spike_statistics(recording(), *given)


def test_a_recording_without_spikes_is_refused():
    with pytest.raises(AnalysisError, match="no spikes"):
        spike_statistics(xr.Dataset({"h": 1.0}))
