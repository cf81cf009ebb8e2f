"""Time constants that are trained: one parameter a region, always valid, with the right gradient."""

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn import training
from sparse_mrnn.errors import ConfigError
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
