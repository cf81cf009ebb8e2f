"""Time constants: of a region or of each unit, trained or not, always valid, with the right gradient."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn import training
from sparse_mrnn.analysis.dynamics import Dynamics
from sparse_mrnn.errors import ConfigError, StateDictError, StepSizeWarning, UnknownNameError
from sparse_mrnn.interop import read_sonata, write_sonata
from sparse_mrnn.simulation import simulate


def graph(**second):
    g = sm.RegionGraph()
    g.add_region("a", 3, sign=None, base_firing=0.2, tau=50.0, learnable_tau=True)
    g.add_region("b", 2, sign=None, **second)
    for s in "ab":
        for t in "ab":
            g.add_projection(s, t, initializer=sm.Normal())
    return g


def make(**second):
    return sm.mRNN(graph(**second), "tanh", device="cpu", seed=0, dtype=torch.float64)


@pytest.mark.parametrize("integrator", ["euler", "exponential_euler"])
def test_starts_at_the_declared_time_constants(integrator):
    net = sm.mRNN(graph(), device="cpu", seed=0, integrator=integrator)
    fixed = sm.mRNN(graph(), device="cpu", seed=0, integrator=integrator)
    fixed.tau_logit = None
    assert net.time_constants == pytest.approx({"a": 50.0, "b": 100.0})
    torch.testing.assert_close(net.alpha, fixed.alpha)
    x0, inp = torch.ones(2, 5), torch.zeros(2, 7, 0)
    for got, expected in zip(net(inp, x0), fixed(inp, x0), strict=True):
        torch.testing.assert_close(got, expected)


def test_only_learnable_regions_change_and_stay_valid():
    net = make(tau=20.0)
    with torch.no_grad():
        for value in (-50.0, 3.0, 50.0):
            net.tau_logit.fill_(value)
            assert ((net.alpha >= 0) & (net.alpha <= 1)).all()
            assert net.time_constants["b"] == pytest.approx(20.0)
            assert net.time_constants["a"] >= 10


@pytest.mark.parametrize("options", [{}, {"checkpoint_steps": 2}, {"regions": "a"}])
def test_gradient_is_right(options):
    net = make(learnable_tau=True, tau=15.0)
    x0 = torch.randn(2, 5, dtype=torch.float64)
    inp = torch.zeros(2, 5, 0, dtype=torch.float64)

    def run(tau_logit):
        return torch.func.functional_call(net, {"tau_logit": tau_logit}, (inp, x0), options)

    assert torch.autograd.gradcheck(run, (net.tau_logit.detach().clone().requires_grad_(),))


def test_the_declared_time_constant_is_found_again_by_training():
    true = sm.mRNN(graph(), "tanh", device="cpu", seed=0)
    net = sm.mRNN(graph(), "tanh", device="cpu", seed=0)
    x0, inp = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(8, 20, 0)
    goal = true(inp, x0)[1].detach()
    with torch.no_grad():
        net.tau_logit -= 1.0
    assert net.time_constants["a"] < 30
    optimizer = torch.optim.Adam(training.parameter_groups(net, {"tau_logit": {"lr": 0.05}}, lr=0.0))
    for _ in range(150):
        optimizer.zero_grad()
        (net(inp, x0)[1] - goal).square().mean().backward()
        training.clip_grad_by_region_(net, 1.0)
        optimizer.step()
    assert net.time_constants["a"] == pytest.approx(50.0, rel=0.02)


def test_clipping_counts_the_time_constant_with_its_region():
    net = make()
    net.tau_logit.grad = torch.tensor([3.0], dtype=torch.float64)
    net.rec.values.grad = torch.zeros_like(net.rec.values)
    assert training.clip_grad_by_region_(net, 1.0) == {"a": 3.0, "b": 0.0}
    assert net.tau_logit.grad.item() == pytest.approx(1.0)


def test_simulation_and_state_dict_have_the_trained_one():
    net = make()
    with torch.no_grad():
        net.tau_logit += 1.0
    other = make()
    other.load_state_dict(net.state_dict())
    assert other.time_constants == net.time_constants != make().time_constants
    with torch.no_grad():
        h = other(torch.zeros(2, 6, 0, dtype=torch.float64), *other.batched_initial_condition(2))[1]
    torch.testing.assert_close(torch.from_numpy(simulate(net, 60.0, batch=2).h.values), h)


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(ConfigError, match=r"'b': learnable_tau needs dt < tau.*exponential_euler"):
        make(learnable_tau=True, tau=10.0)
    with pytest.raises(ConfigError, match="'a': learnable_tau, but an Elman network has no time constants"):
        sm.ElmanmRNN(graph(), device="cpu")


def test_config_keeps_it(tmp_path):
    path = tmp_path / "net.json"
    sm.write_config(graph(), path)
    assert [r.learnable_tau for r in sm.mRNN(str(path), device="cpu").layout().regions] == [True, False]


TAU, LEVEL = np.array([30.0, 50.0, 200.0]), np.array([0.0, 0.1, 0.4])


def by_unit(**more):
    """Two regions; one has a time constant and a noise level for each unit."""
    g = sm.RegionGraph()
    g.add_region("a", 3, sign=None, tau=TAU, noise_level=LEVEL, base_firing=0.2, init=1.0, **more)
    g.add_region("b", 2, sign=None)
    g.add_projection("a", "b", initializer=sm.Normal())
    return g


@pytest.mark.parametrize("integrator", ["euler", "exponential_euler"])
def test_time_constants_by_unit(integrator):
    """What the equation of the leak says of each unit, alone; and training moves each of them."""
    net = sm.mRNN(by_unit(learnable_tau="unit", tau_bounds=(20, 300)), "tanh", device="cpu", seed=0, dtype=torch.float64, integrator=integrator)
    tau = net.time_constants
    np.testing.assert_allclose(tau["a"], TAU)
    assert (tau["b"], net.tau_logit.shape) == (100.0, (3,))
    alpha = 10 / TAU if integrator == "euler" else 1 - np.exp(-10 / TAU)
    x0, inp = net.batched_initial_condition(1)[0], torch.zeros(1, 8, 0, dtype=torch.float64)
    x = net(inp, x0)[0].detach().numpy()[0, :, :3]
    steps = np.arange(1, 9)[:, None]
    np.testing.assert_allclose(x, 0.2 + 0.8 * (1 - alpha) ** steps, rtol=1e-9)
    np.testing.assert_allclose(simulate(net, 80.0, record=sm.Record(variables=["x"])).x.values[0, :, :3], x)

    def run(tau_logit):
        return torch.func.functional_call(net, {"tau_logit": tau_logit}, (inp, x0))

    assert torch.autograd.gradcheck(run, (net.tau_logit.detach().clone().requires_grad_(),))
    with torch.no_grad():
        net.tau_logit += torch.tensor([50.0, 0, -50.0])
    np.testing.assert_allclose(net.time_constants["a"], [300, 50, 20])


def test_noise_by_unit():
    """x after one step from 0 has the variance 2 alpha level^2 of each unit; a unit of level 0 has no noise."""
    g = by_unit()
    g.add_node("a", base_firing=0.0)
    net = sm.mRNN(g, "linear", device="cpu", seed=0)
    x = net(torch.zeros(20_000, 1, 0), torch.zeros(20_000, 5), noise=True)[0].detach().double().numpy()[:, 0]
    tau, level = np.concatenate([TAU, [100, 100]]), np.concatenate([LEVEL, [0.01, 0.01]])
    np.testing.assert_allclose(x.var(axis=0), 2 * 10 / tau * level**2, rtol=0.05, atol=1e-7)
    h = simulate(net, 10.0, batch=20_000, noise=True, seed=1).h.values[:, 0]
    np.testing.assert_allclose(h.var(axis=0), 2 * 10 / tau * level**2, rtol=0.05, atol=1e-7)


def test_files_keep_values_by_unit(tmp_path):
    net = sm.mRNN(by_unit(learnable_tau="unit"), device="cpu", seed=0)
    with torch.no_grad():
        net.tau_logit += 0.3
    net.save(tmp_path / "net.safetensors")
    write_sonata(net, tmp_path / "sonata")
    graphs = sm.load(tmp_path / "net.safetensors", device="cpu").to_graph(), net.to_graph(), read_sonata(tmp_path / "sonata")[0], sm.read_config(sm.to_config(net))
    for graph in graphs:
        region = graph.region("a")
        assert (region.learnable_tau, graph.region("b").tau, graph.region("b").noise_level) == ("unit", None, None)
        np.testing.assert_array_equal(region.noise_level, LEVEL)
        np.testing.assert_array_equal(region.tau, net.time_constants["a"])
    other = by_unit(learnable_tau="unit")
    other.add_node("a", noise_level=LEVEL + 0.1)
    with pytest.raises(StateDictError, match="noise"):
        sm.mRNN(other, device="cpu").load_state_dict(net.state_dict())
    lesioned = sm.mRNN(by_unit(), "linear", device="cpu", seed=0)
    np.testing.assert_allclose(Dynamics.of(lesioned).tau[:, 0], [*TAU, 100, 100])


def test_the_shortest_time_constant_of_a_unit_limits_the_step():
    g = by_unit()
    g.add_node("a", tau=[30, 4, 100])
    with pytest.raises(ConfigError, match="'a': dt = 10 ms is above 2 tau = 8 ms"):
        sm.mRNN(g, device="cpu")
    g.add_node("a", tau=[30, 8, 100])
    with pytest.warns(StepSizeWarning, match="above tau = 8 ms"):
        sm.mRNN(g, device="cpu")


@pytest.mark.parametrize("integrator", ["euler", "exponential_euler"])
def test_set_time_constants(integrator):
    g = graph(tau=30.0, learnable_tau=True, tau_bounds=(20.0, 60.0))
    net = sm.mRNN(g, "tanh", dt=10.0, integrator=integrator, device="cpu", seed=0, dtype=torch.float64)
    net.set_time_constants({"b": 45.0, "a": 25.0})
    assert net.time_constants == pytest.approx({"a": 25.0, "b": 45.0})
    kept = net.tau_logit.detach().clone()
    with pytest.raises(ConfigError, match="region 'b': tau = 70 ms is not above dt = 10 ms, or not within"):
        net.set_time_constants({"a": 30.0, "b": 70.0})
    with pytest.raises(ConfigError, match="region 'b': tau"):
        net.set_time_constants({"b": -1.0})
    with pytest.raises(UnknownNameError, match="'c'"):
        net.set_time_constants({"c": 30.0})
    assert torch.equal(net.tau_logit, kept)


@pytest.mark.parametrize("logit", [-14.0, -9.0, 0.0, 9.0, 14.0])
def test_the_gradient_of_a_learnt_alpha_does_not_cancel_near_its_bounds(logit):
    found = []
    for dtype in (torch.float32, torch.float64):
        g = sm.RegionGraph()
        g.add_region("a", 2, learnable_tau=True)
        net = sm.mRNN(g, device="cpu", dtype=dtype)
        with torch.no_grad():
            net.tau_logit.fill_(logit)
        net.unit_alpha().sum().backward()
        found.append(net.tau_logit.grad.double())
    torch.testing.assert_close(*found, rtol=1e-5, atol=0)
