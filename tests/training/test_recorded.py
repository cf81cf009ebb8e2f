"""What was measured, from every source, and its loss against sums written out."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from helpers.training_nets import build
from sparse_mrnn.errors import RecordingError, ShapeError, TrainingError, UnknownNameError
from sparse_mrnn.training import Recorded, RecordedLoss
from sparse_mrnn.training.recorded_loss import exponential_filter

RNG = np.random.default_rng(0)
VALUES = RNG.random((3, 4, 5))
VALUES[1, 2:, 0] = VALUES[0, 0, 3] = np.nan
NAMES = ["b[2]", "a", "a[1]", "ab", "c"]


def states(trials=3, steps=9, dtype=torch.float64, seed=1):
    return torch.rand(trials, steps, 15, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def written_out(recorded, h, weights):
    """Loss of means and units, sample by sample; samples are every 2 steps, after steps 2, 4, 6, 8."""
    units = {"a": range(5), "b": range(5, 10), "c": range(10, 15), "ab": range(10)}
    total = weight_sum = 0.0
    for trial, sample, k in np.ndindex(recorded.values.shape):
        name = recorded.channels[k]
        who = units[name] if name in units else [units[name[0]][int(name[2])]]
        value = recorded.values[trial, sample, k]
        if not np.isnan(value):
            error = value - np.mean([h[trial, 2 * sample + 1, i] for i in who])
            total += weights[k] * error**2
            weight_sum += weights[k]
    return total / weight_sum


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0, 4, 2, 1]])
def test_loss_is_the_sum_written_out(order):
    net, h = build(), states()
    recorded = Recorded(VALUES[..., order], [NAMES[k] for k in order], interval=20.0)
    weights = {"b[2]": 2.0, "a": 3.0, "a[1]": 3.0, "ab": 0.5, "c": 0.0}
    loss = RecordedLoss(net, recorded, {"ab": 0.5, "a": 3.0, "b": 2.0, "c": 0.0})
    # A region goes before its parent; the mean of the parent is a channel with a weight of its own name.
    assert loss(h).item() == pytest.approx(written_out(recorded, h.numpy(), [weights[NAMES[k]] for k in order]), rel=1e-12)
    some = [2, 0]
    part = recorded.select(trials=some)
    assert loss(h[some], some).item() == pytest.approx(RecordedLoss(net, part, {"ab": 0.5, "a": 3.0, "b": 2.0, "c": 0.0})(h[some]).item())


def test_the_layout_and_the_variable_follow():
    net = build()
    recorded = Recorded(VALUES, NAMES, interval=20.0)
    x, h = states(), states(seed=2)
    of_h = RecordedLoss(net, recorded)(h).item()
    assert RecordedLoss(net, recorded)((x, h)).item() == of_h
    of_x = RecordedLoss(net, Recorded(VALUES, NAMES, interval=20.0, variable="x"))
    assert of_x((x, h)).item() == RecordedLoss(net, recorded)(x).item()
    net.batch_first = False
    assert RecordedLoss(net, recorded)(h.transpose(0, 1)).item() == of_h
    elman = build(sm.ElmanmRNN)
    with pytest.raises(TrainingError, match="Elman network has no x"):
        RecordedLoss(elman, Recorded(VALUES, NAMES, interval=20.0, variable="x"))


@pytest.mark.parametrize("steps", [1, 5, 300])
def test_filter_is_the_recursion(steps):
    s, d = states(2, steps), torch.tensor(0.9, dtype=torch.float64)
    c, found = s[:, 0], []
    for t in range(steps):
        c = d * c + (1 - d) * s[:, t]
        found.append(c)
    torch.testing.assert_close(exponential_filter(s, d), torch.stack(found, 1), rtol=1e-12, atol=0)


def test_gradcheck():
    net = build()
    recorded = Recorded(VALUES, NAMES, interval=20.0, calcium=70.0)
    loss = RecordedLoss(net, recorded, {"a": 2.0})
    assert torch.autograd.gradcheck(loss, states().requires_grad_())

    def of_decay(log):
        with torch.no_grad():
            loss.log_calcium.copy_(log)
        return torch.func.functional_call(loss, {"log_calcium": log}, (states(),))

    assert torch.autograd.gradcheck(of_decay, torch.tensor(4.0, dtype=torch.float64, requires_grad=True))
    assert loss.calcium == pytest.approx(np.exp(4.0))
    assert [p.requires_grad for p in RecordedLoss(net, recorded, learn_calcium=False).parameters()] == [False]


def test_calcium_decay_is_found():
    net = build()
    true = exponential_filter(states(3, 60)[..., :5], torch.tensor(np.exp(-10 / 50), dtype=torch.float64))
    loss = RecordedLoss(net, Recorded(true.numpy(), [f"a[{k}]" for k in range(5)], interval=10.0, calcium=20.0))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(states(3, 60)).backward()
        optimizer.step()
    assert loss.calcium == pytest.approx(50, rel=0.01)


# ---------------------------------------------------------------- sources


def test_a_simulation_is_recorded():
    net = build()
    run = sm.simulate(net, 100.0, record=sm.Record(what=("units", "mean"), every=2, regions=("b", "a")), batch=2, noise=False, progress=False)
    units = Recorded.from_xarray(run)
    assert units.values.shape == (2, 5, 10)
    assert units.interval == units.times[0] == 20
    np.testing.assert_array_equal(units.unit_numbers(net, "test"), [5, 6, 7, 8, 9, 0, 1, 2, 3, 4])
    means = Recorded.from_xarray(run, "h_mean")
    found, channel = means.channel_units(net)
    assert [sorted(found[channel == k]) for k in range(2)] == [list(net.layout().indices(name)) for name in means.channels]
    x, h = net(torch.zeros(2, 10, 3, dtype=torch.float64))
    assert RecordedLoss(net, units)((x, h)).item() < 1e-10
    assert RecordedLoss(net, means)((x, h)).item() < 1e-10


def test_pandas_with_trials_of_unequal_length():
    whole = pd.DataFrame({"a": [1.0, 2.0, 3.0], "c": [4.0, np.nan, 6.0]}, index=[20.0, 40.0, 60.0])
    recorded = Recorded.from_pandas(pd.concat({"second": whole, "first": whole[:2]}))
    np.testing.assert_array_equal(recorded.values[..., 0], [[1, 2, 3], [1, 2, np.nan]])
    assert (recorded.interval, recorded.start, recorded.channels) == (20, 20, ("a", "c"))


def test_npz_and_back(tmp_path):
    recorded = Recorded(VALUES, NAMES, 20.0, regions=["b", "", "a", "", ""], start=40.0, variable="x", calcium=100.0, condition=["l", "r", "l"])
    recorded.save(tmp_path / "one.npz")
    again = Recorded.load(tmp_path / "one.npz")
    np.testing.assert_array_equal(again.values, recorded.values)
    assert {k: v for k, v in vars(again).items() if k != "values"} == {k: v for k, v in vars(recorded).items() if k != "values"}
    assert again.select(trials=[2, 0]).condition == ("l", "l")
    assert again.select(channels=["c", "a"]).channels == ("a", "c")
    np.savez(tmp_path / "plain.npz", values=VALUES, channels=np.array([7, 8, 9, 10, 11]))
    assert Recorded.load(tmp_path / "plain.npz", interval=10.0).channels == ("7", "8", "9", "10", "11")


def test_a_unit_id_of_two_regions():
    g = sm.RegionGraph()
    for name in "pq":
        g.add_region(name, 2, unit_ids=["u", "v"])
    net = sm.mRNN(g, device="cpu")
    recorded = Recorded(np.ones((2, 2)), ["u", "u"], 10.0, regions=["q", "p"])
    assert recorded.unit_numbers(net, "test").tolist() == [2, 0]
    with pytest.raises(UnknownNameError, match="used in 'p' and 'q'"):
        Recorded(np.ones((2, 1)), ["u"], 10.0).channel_units(net)
    with pytest.raises(UnknownNameError, match="region 'p' has no unit 'w'"):
        Recorded(np.ones((2, 1)), ["w"], 10.0, regions=["p"]).channel_units(net)


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(values=np.ones(3)), r"shape \(3,\)"),
        (dict(values=np.ones((2, 0, 5))), "none of them 0"),
        (dict(values=[["x"]]), "not an array of numbers"),
        (dict(values=np.where(VALUES > 0.9, np.inf, VALUES)), r"sample \d of channel \d in trial \d is infinite"),
        (dict(values=np.where(np.arange(5) == 3, np.nan, VALUES)), "channel 'ab' has no value"),
        (dict(values=np.where(np.arange(3)[:, None, None] == 1, np.nan, VALUES)), "trial 1 has no value"),
        (dict(channels=NAMES[:4]), "4 names of channels"),
        (dict(channels=[*NAMES[:4], "a"]), "channel 'a' occurs twice"),
        (dict(channels=[*NAMES[:4], 0.5]), "0.5 is not a name"),
        (dict(interval=0), "interval is 0.*positive"),
        (dict(interval=float("nan")), "finite"),
        (dict(start=-1), "start is -1"),
        (dict(calcium="slow"), "calcium"),
        (dict(variable="rate"), "variable is 'rate'"),
        (dict(condition=["a"]), "1 conditions for 3 trials"),
        (dict(regions=["a"]), "1 regions for 5 channels"),
    ],
)
def test_what_cannot_be_recorded(change, message):
    with pytest.raises(TrainingError, match=message):
        Recorded(**{"values": VALUES, "channels": NAMES, "interval": 20.0, **change})


def test_what_does_not_fit_a_network():
    net = build()
    recorded = Recorded(VALUES, NAMES, interval=20.0)
    with pytest.raises(TrainingError, match="interval is 25 ms and dt 10 ms"):
        RecordedLoss(net, Recorded(VALUES, NAMES, interval=25.0))
    with pytest.raises(TrainingError, match="start is 5 ms"):
        RecordedLoss(net, Recorded(VALUES, NAMES, interval=20.0, start=5.0))
    with pytest.raises(UnknownNameError, match="nothing is called 'd'"):
        RecordedLoss(net, Recorded(VALUES, [*NAMES[:4], "d"], interval=20.0))
    with pytest.raises(TrainingError, match="'i' is an input"):
        RecordedLoss(net, Recorded(VALUES, [*NAMES[:4], "i"], interval=20.0))
    with pytest.raises(UnknownNameError, match="no region and no channel is called 'd'"):
        RecordedLoss(net, recorded, {"d": 1.0})
    with pytest.raises(TrainingError, match="must not be negative"):
        RecordedLoss(net, recorded, {"a": -1.0})
    with pytest.raises(TrainingError, match="nothing is left to fit"):
        RecordedLoss(net, recorded.select(channels=["c"]), {"c": 0})
    with pytest.raises(TrainingError, match="channel 'a' is the mean of 5 units"):
        recorded.unit_numbers(net, "test")
    loss = RecordedLoss(net, recorded)
    with pytest.raises(ShapeError, match="the last sample is at 80 ms, 8 time steps, and the states have 7"):
        loss(states()[:, :7])
    with pytest.raises(ShapeError, match="15 units last"):
        loss(states()[..., :9])
    with pytest.raises(ShapeError, match="of 2 trials, expected 3"):
        loss(states()[:2])
    with pytest.raises(UnknownNameError, match="no channel is called 'z'"):
        recorded.select(channels=["z"])


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"PK\x03\x04 damaged")
    np.savez(tmp_path / "other.npz", values=VALUES, intervall=1.0)
    np.savez(tmp_path / "few.npz", values=VALUES)
    np.savez(tmp_path / "objects.npz", values=VALUES, channels=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", VALUES)
    for name in ("no.npz", "absent.npz", "objects.npz", "array.npy"):
        with pytest.raises(RecordingError, match="cannot read"):
            Recorded.load(tmp_path / name)
    with pytest.raises(RecordingError, match="'intervall' is not a field.*Did you mean 'interval'"):
        Recorded.load(tmp_path / "other.npz")
    with pytest.raises(RecordingError, match="lacks channels, interval"):
        Recorded.load(tmp_path / "few.npz")
    time = [10.0, 20.0, 35.0]
    with pytest.raises(TrainingError, match="20 and 35 follow each other, others 10 apart"):
        Recorded.from_pandas(pd.DataFrame({"a": time}, index=time))
    with pytest.raises(TrainingError, match="time 10.0 of trial 0 occurs twice"):
        Recorded.from_pandas(pd.DataFrame({"a": [1.0, 2.0]}, index=[10.0, 10.0]))
    with pytest.raises(TrainingError, match="column 'a' is of"):
        Recorded.from_pandas(pd.DataFrame({"a": ["x", "y"]}, index=[10.0, 20.0]))
    with pytest.raises(TrainingError, match="time dimension"):
        Recorded.from_xarray(xr.DataArray(np.ones((2, 2)), dims=("trial", "unit")))
    with pytest.raises(TrainingError, match="no variable 'h'"):
        Recorded.from_xarray(xr.Dataset())
