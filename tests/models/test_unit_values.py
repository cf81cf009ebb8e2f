"""Noise levels, gains and thresholds of units: declared, learnt, saved, exported, and theirs whatever the order."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import (
    ConfigError,
    ConversionError,
    GraphError,
    ResumeError,
    SettingError,
    TrainingError,
)
from sparse_mrnn.interop import read_sonata, step_module, to_mrnntorch, write_sonata
from sparse_mrnn.simulation import simulate
from sparse_mrnn.training import Recorded, regress_weights

N = 6
VALUES = {
    "tau": [20.0, 30, 40, 50, 60, 70], "noise_level": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "activation_gain": [0.5, 0.75, 1.0, 1.25, 1.5, 2.0], "activation_threshold": [-0.3, -0.2, 0, 0.1, 0.2, 0.3],
    "base_firing": [0.3, 0.1, 0.5, -0.2, 0.4, 0.2], "init": [0.2, -0.1, 0.4, 0.3, 0.1, -0.2],
}  # fmt: skip
LEARNT = dict.fromkeys(("learnable_noise", "learnable_activation_gain", "learnable_activation_threshold"), True)


def weights():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, N)) * (rng.random((N, N)) < 0.5)


def graph(order=range(N), **fields):
    """Six units of their own values in this order, and a region of one value each."""
    order, g = list(order), sm.RegionGraph()
    g.add_region("other", 2, sign=None, activation_gain=1.2, noise_level=0.2)
    given = {name: np.array(values)[order] for name, values in VALUES.items()}
    g.add_region("a", N, sign=None, unit_ids=[f"u{k}" for k in order], **{**given, **fields})
    g.add_projection("a", "a", weights=weights()[np.ix_(order, order)])
    g.add_projection("other", "a", weights=np.outer(np.arange(1, N + 1)[order] / N, [0.3, -0.4]))
    g.add_projection("a", "other", weights=np.outer([0.5, -0.2], np.arange(1, N + 1)[order] / N))
    return g


def make(order=range(N), model=sm.mRNN, activation="tanh", **fields):
    if model is sm.ElmanmRNN:
        fields = {"tau": None, **fields}
    return model(graph(order, **fields), activation, device="cpu", seed=0, dtype=torch.float64)


def test_values_belong_to_their_units_in_any_order(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    nets = make(), make(order)
    h = [simulate(net, 300, x0=None).h.sel(unit=slice(None)).values[0] for net in nets]
    place = [0, 1, *(2 + k for k in order)]
    np.testing.assert_allclose(h[1], h[0][:, place], rtol=1e-9)
    for net, ids in zip(nets, (range(N), order), strict=True):
        write_sonata(net, tmp_path / "net", overwrite=True)
        net.save(tmp_path / "net.safetensors")
        sm.write_config(net, tmp_path / "net.json")
        graphs = [net.to_graph(), read_sonata(tmp_path / "net")[0], sm.load(tmp_path / "net.safetensors", device="cpu").graph]
        graphs.append(sm.read_config(tmp_path / "net.json"))
        for found in graphs:
            region = found.region("a")
            assert region.unit_ids == tuple(f"u{k}" for k in ids)
            for name, values in VALUES.items():
                np.testing.assert_allclose(getattr(region, name), np.array(values)[list(ids)], rtol=1e-12)
            assert found.region("other").activation_gain == 1.2
            assert found.region("other").activation_threshold is None


def test_columns_of_other_software(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_sonata(make(), tmp_path / "net")
    with h5py.File(next((tmp_path / "net").glob("*nodes.h5"))) as file:
        own = file["nodes/units/0"]
        np.testing.assert_allclose(own["activation_gain"][2:], VALUES["activation_gain"])
        np.testing.assert_allclose(own["noise_level"][2:], VALUES["noise_level"])
        assert own["activation_gain"][:2].tolist() == [1.2, 1.2]
        assert np.isnan(own["activation_threshold"][:2]).all()  # not declared


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("by", ["unit", "region"])
@pytest.mark.parametrize("options", [{}, {"checkpoint_steps": 2}, {"steps": True}])
def test_gradients_of_noise_levels_gains_and_thresholds(model, by, options):
    """Against differences, with the same noise each time."""
    one = {} if by == "unit" else {"noise_level": 0.3, "activation_gain": 1.3, "activation_threshold": 0.2}
    net = make(model=model, activation=torch.sin if by == "unit" else "tanh", **dict.fromkeys(LEARNT, by), **one)
    names = ["noise_log", "gain_log", "x_threshold"]
    assert [getattr(net, name).numel() for name in names] == [N if by == "unit" else 1] * 3
    start = torch.randn(2, N + 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u = torch.zeros(2, 4, 0, dtype=torch.float64)

    def loss(*values):
        net.reset_noise(3)
        inside = dict(zip(names, values, strict=True))
        if "steps" not in options:
            out = torch.func.functional_call(net, inside, (u, start), {"noise": True, **options})
            return (out[1] if isinstance(out, tuple) else out).square().sum()
        with torch.no_grad():
            for name, value in inside.items():
                getattr(net, name).copy_(value)
        state, total = start, 0
        for _ in range(4):
            state = net.step(u[:, 0], state, noise=True)
            total = total + state.h.square().sum()
        return total

    values = [getattr(net, name).detach().clone().requires_grad_() for name in names]
    if "steps" not in options:
        assert torch.autograd.gradcheck(loss, values)
        return
    loss(*values).backward()
    for k, name in enumerate(names):
        for entry in range(values[k].numel()):
            sides = []
            for sign in (1, -1):
                moved = [value.detach().clone() for value in values]
                moved[k][entry] += sign * 1e-6
                sides.append(float(loss(*moved).detach()))
            assert getattr(net, name).grad[entry] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_learnt_noise_is_that_of_the_declared_level():
    fixed, learnt = make(), make(**LEARNT)
    assert (fixed.noise_log, fixed.x_threshold) == (None, None)
    torch.testing.assert_close(learnt.unit_noise_level[2:], torch.tensor(VALUES["noise_level"], dtype=torch.float64))
    u = torch.zeros(3, 5, 0, dtype=torch.float64)
    found = []
    for net in (fixed, learnt):
        net.reset_noise(7)
        x0, _ = net.batched_initial_condition(3)
        found += [net(u, x0, noise=True)[1], net(u, x0, noise=True)[1], net.step(u[:, 0], x0, noise=True).h]
    for a, b in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(a, b)
    runs = [simulate(net, 100, noise=True, seed=1).h.values for net in (fixed, learnt)]
    np.testing.assert_allclose(*runs)


def test_trained_values_are_saved_and_declared(tmp_path):
    net = make(**LEARNT)
    u, x0 = torch.zeros(2, 5, 0, dtype=torch.float64), torch.ones(2, N + 2, dtype=torch.float64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(u, x0, noise=True)[1].square().sum().backward()
    optimizer.step()
    assert not np.allclose(net.activation_gain[2:].detach(), VALUES["activation_gain"])
    net.save(tmp_path / "net.safetensors")
    same = sm.load(tmp_path / "net.safetensors", device="cpu")
    other = sm.mRNN(net.to_graph(), "tanh", device="cpu", dtype=torch.float64)
    for name in ("unit_noise_level", "activation_gain", "activation_threshold"):
        torch.testing.assert_close(getattr(same, name), getattr(net, name), rtol=0, atol=0)
        torch.testing.assert_close(getattr(other, name), getattr(net, name))
    assert other.graph.region("a").learnable_noise is True
    for again in (same, other):
        torch.testing.assert_close(again(u, x0)[1], net(u, x0)[1])
    groups = sm.training.parameter_groups(net, {"gain_log": {"lr": 0.0}}, lr=1.0)
    assert any(group["lr"] == 0 for group in groups)
    with pytest.raises(SettingError, match="declare it, or write net.gain_log"):
        net.activation_gain = 1.0
    with pytest.raises(SettingError, match="declare activation_gain and learnable_activation_gain"):
        make().gain_log = torch.nn.Parameter(torch.zeros(N))


def test_analysis_and_export():
    net = make()
    x = torch.linspace(-0.5, 0.8, N + 2, dtype=torch.float64)[:, None]
    module = step_module(net)
    state = net.initial_state(1)
    x0, h0 = net.batched_initial_condition(1)
    after = net.step(torch.zeros(1, 0, dtype=torch.float64), state)
    torch.testing.assert_close(module(x0, h0, torch.zeros(1, 0, dtype=torch.float64))[1], after.h)
    linear = sm.analysis.linearize(net, x[:, 0])

    def step(x):
        return net(torch.zeros(1, 1, 0, dtype=torch.float64), x[None])[0][0, 0]

    jacobian = torch.autograd.functional.jacobian(step, x[:, 0])
    found = linear.jacobian("step").toarray()
    torch.testing.assert_close(torch.as_tensor(found), jacobian)


def test_what_cannot_be():
    for fields, message in (
        ({"activation_gain": 0.0}, "activation_gain is 0.0; it must be a finite number above 0"),
        ({"activation_gain": [1.0, 2]}, "activation_gain is an array of shape"),
        ({"learnable_noise": "region"}, "needs one noise_level for the region"),
        ({"learnable_activation_threshold": "each"}, "learnable_activation_threshold is 'each'"),
    ):
        with pytest.raises(GraphError, match=message):
            make(**fields)
    with pytest.raises(ConfigError, match="region 'a': learnable_noise needs noise levels above 0"):
        make(noise_level=[0, 1, 1, 1, 1, 1], learnable_noise=True)
    with pytest.raises(ConversionError, match="mRNNTorch has no .*activation_gain"):
        to_mrnntorch(make())
    net, h = make(tau=None), np.random.default_rng(0).uniform(0, 0.5, (2, 30, N + 2))
    with pytest.raises(TrainingError, match="does not follow from h through the activation 'tanh with a gain"):
        regress_weights(net, Recorded(h, net.unit_ids, 10.0))


@pytest.mark.parametrize("change", ["gain_log", "x_threshold", "noise_log", "declared"])
def test_a_run_is_not_resumed_with_other_values(tmp_path, change):
    out = tmp_path / "run.zarr"
    net = make(**LEARNT)
    simulate(net, 50, noise=True, seed=1, out=out)
    if change == "declared":
        net = make(**LEARNT | {"activation_gain": 1.0})
    else:
        with torch.no_grad():
            getattr(net, change)[0] += 0.1
    with pytest.raises(ResumeError, match={"noise_log": "unit noise", "x_threshold": "activation threshold"}.get(change, "activation gain")):
        simulate(net, 100, noise=True, seed=1, out=out, mode="resume")
