"""Lesions against runs of the network with the same intervention, and by hand."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.analysis_nets import MODELS, regions_net
from sparse_mrnn.analysis import Perturbations, perturbation
from sparse_mrnn.errors import AnalysisError, ShapeError, UnknownNameError
from sparse_mrnn.stimulus import Lesion, Stimulus


def kept(runs):
    """A measure that keeps the activity it is given."""

    def measure(h):
        runs.append(h.clone())
        return h.mean()

    return measure


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("window", [None, (4, 9)])
def test_a_lesion_is_that_of_a_simulation(model, window):
    net, runs = regions_net(model), []
    inputs = torch.ones(1, 15, 3, dtype=torch.float64)
    found = perturbation(net, inputs, window=window, measures={"mean": kept(runs)})
    drive = [Stimulus("u", 1.0), Stimulus("v", 1.0)]
    times = {}
    if window is not None:  # a simulation's times are those at the end of a step
        times = {name: (t + 1) * net.dt for name, t in zip(("start", "stop"), window, strict=True)}
    by_hand = []
    for cut in (None, *(Lesion(name, **times) for name in "abc")):
        run = sm.simulate(net, steps=15, stimulus=drive, interventions=cut, progress=False)
        by_hand.append(run.h.values)
    for ours, other in zip(runs, by_hand, strict=True):
        assert ours.numpy() == pytest.approx(other, abs=1e-6)
    assert found.target.tolist() == found.region.tolist() == ["a", "b", "c"]
    assert found.control == pytest.approx([by_hand[0].mean()], abs=1e-6)
    assert found.value[:, 0] == pytest.approx([h.mean() for h in by_hand[1:]], abs=1e-6)
    for row, h in enumerate(by_hand[1:]):
        for column, name in enumerate("abc"):
            own = net.layout().slice(name)
            ratio = ((h - by_hand[0])[..., own] ** 2).mean() / (by_hand[0][..., own] ** 2).mean()
            assert found.activity_change[row, column] == pytest.approx(np.sqrt(ratio), rel=1e-4, abs=1e-6)


def chain(batch_first=True):
    """A tonic unit drives a second one, which drives a third: linear, 1 unit each, leak of a tenth a step."""
    g = sm.RegionGraph()
    for name in "abc":
        parent = "bc" if name in "bc" else None
        g.add_region(name, 1, sign=None, base_firing=float(name == "a"), init=1.0, parent_region=parent)
    g.add_input("u", 1, sign=None)
    g.add_projection("a", "b", weights=[[1.0]])
    g.add_projection("b", "c", weights=[[1.0]])
    g.add_projection("u", "a", weights=[[1.0]])
    return sm.mRNN(g, "linear", device="cpu", batch_first=batch_first, dtype=torch.float64)


def test_lesions_act_downstream_only():
    """All stay at 1; without its source, a unit decays as 0.9^t, and the one behind it later."""
    runs = []
    measures, regions = {"mean": kept(runs)}, ["a", "c", "bc"]
    found = perturbation(chain(), torch.zeros(2, 3, 1), measures=measures, regions=regions)
    left = np.array([0.9, 0.81, 0.729])
    without_a = np.stack([np.zeros(3), left, [1.0, 0.9 + 0.1 * 0.9, 0.9 * 0.99 + 0.1 * 0.81]], axis=1)
    assert runs[0].numpy() == pytest.approx(np.ones((2, 3, 3)))
    assert runs[1].numpy() == pytest.approx(np.tile(without_a, (2, 1, 1)))
    assert found.activity_change[1] == pytest.approx([0, 0, 1])
    assert found.activity_change[2] == pytest.approx([0, 1, 1])
    assert found.change[:, 0] == pytest.approx([without_a.mean() - 1, -1 / 3, -2 / 3])


def test_holding_keeps_what_a_region_sends_on_average():
    inputs = torch.zeros(1, 40, 1)
    inputs[0, ::2] = 4.0
    runs = []
    found = perturbation(chain(), inputs, kind="hold", regions=["a"], measures={"mean": kept(runs)})
    level = runs[0][0, :, 0].mean()
    assert runs[1][0, :, 0].numpy() == pytest.approx(np.full(40, float(level)))
    assert runs[1][0, -1, 1] == pytest.approx(float(level), rel=0.02)
    assert found.kind == "hold"


def test_a_window_for_every_trial():
    """As in tasks whose epochs differ between trials."""
    net, runs = chain(), []
    perturbation(net, torch.zeros(2, 6, 1), regions="a", window=([0, 3], [2, 6]), measures={"m": kept(runs)})
    silent = runs[1][..., 0] == 0
    assert silent.tolist() == [[True, True, *[False] * 4], [*[False] * 3, True, True, True]]
    assert torch.equal(runs[1][1, :3], runs[0][1, :3])


def test_the_other_layout_stimulation_and_starts():
    inputs = torch.rand(2, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stim, x0 = torch.rand(2, 5, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    a, b = [], []
    perturbation(chain(), inputs, x0=x0, stim=stim, measures={"m": kept(a)})
    swapped = dict(x0=x0, stim=stim.transpose(0, 1))
    perturbation(chain(False), inputs.transpose(0, 1), measures={"m": kept(b)}, **swapped)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one, other.transpose(0, 1))
    h = chain()(inputs, x0, None, stim)[1].detach()
    torch.testing.assert_close(a[0], h)


def test_inputs_of_low_rank_count():
    g = sm.RegionGraph()
    g.add_region("a", 4, sign=None)
    g.add_input("u", 3, sign=None)
    g.add_projection("u", "a", rank=2)
    net, runs = sm.mRNN(g, "tanh", device="cpu", seed=0, dtype=torch.float64), []
    inputs = torch.rand(2, 5, 3, dtype=torch.float64)
    perturbation(net, inputs, measures={"m": kept(runs)})
    torch.testing.assert_close(runs[0], net(inputs, torch.zeros(2, 4, dtype=torch.float64))[1].detach())


def test_the_table_save_load_and_plot(tmp_path):
    measures = {"mean": torch.mean, "a long measure": lambda h: h[..., 2].sum()}
    found = perturbation(chain(), torch.zeros(1, 3, 1), measures=measures)
    lines = str(found).splitlines()
    assert lines[0].split(maxsplit=1) == ["mean", "a long measure"]
    assert [line.split()[0] for line in lines[1:]] == ["control", "a", "b", "c"]
    assert len({len(line) for line in lines}) == 1
    found.save(tmp_path / "lesions.zarr")
    again = Perturbations.load(tmp_path / "lesions.zarr")
    assert str(again) == str(found)
    ax = again.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    ax = found.plot(measure="mean")
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(found.value[:, 0])
    with pytest.raises(AnalysisError, match="unknown measure 'median'; there are mean, a long measure"):
        found.plot(measure="median")
    assert str(perturbation(chain(), torch.zeros(1, 3, 1))).split() == ["control", "a", "b", "c"]


ZEROS = torch.zeros(2, 5, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(inputs=torch.zeros(5, 1)), ShapeError, "expected (trials, time, 1)"),
        (dict(inputs=torch.zeros(2, 0, 1)), ShapeError, "expected (trials, time, 1)"),
        (dict(regions=["d"]), UnknownNameError, "unknown region 'd'"),
        (dict(kind="silence"), AnalysisError, "kind is 'silence'; use 'lesion' or 'hold'"),
        (dict(window=([0, 1, 2], 4)), ShapeError, "one for each of 2 trials"),
        (dict(measures={"all": lambda h: h}), AnalysisError, "'all' returned a Tensor, not one number"),
        (dict(measures={"none": lambda h: None}), AnalysisError, "returned a NoneType"),
        (dict(x0=torch.zeros(3, 3)), ShapeError, "x0 has 3 states for 2 trials"),
        (dict(stim=torch.zeros(2, 4, 3)), ShapeError, "other trials or times"),
        (dict(stim=torch.zeros(2, 5, 2)), ShapeError, "expected (trials, time, 3)"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error) as caught:
        perturbation(chain(), **{"inputs": ZEROS, **options})
    assert message in str(caught.value)


def test_delayed_inputs_count_and_delays_between_units_are_refused():
    g = sm.RegionGraph()
    g.add_region("a", 3, sign=None, base_firing=0.2)
    g.add_input("u", 1)
    g.add_projection("u", "a", delay=30.0)
    net = sm.mRNN(g, "tanh", device="cpu", seed=0, dtype=torch.float64)
    u = torch.linspace(0, 1, 10, dtype=torch.float64).view(1, 10, 1)
    found = perturbation(net, u, measures={"mean": torch.mean})
    _, h = net(u, net.initial_condition[None])
    assert found.control == pytest.approx([h.mean().item()])
    g.add_projection("a", "a", delay=30.0)
    with pytest.raises(AnalysisError, match="the network has delays"):
        perturbation(sm.mRNN(g, device="cpu"), u)
