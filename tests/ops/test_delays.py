"""Delays of projections: shifted closed forms, a dense reference with a whole history, ring buffers."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, GraphError, RoundingWarning
from sparse_mrnn.ops.delays import RingHistory
from sparse_mrnn.simulation import simulate
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.stimulus import Constant, Sine, Stimulus


def test_a_delayed_projection_answers_the_same_later():
    """x' = (-x + a(t - d)) / tau with a(t) = c (1 - exp(-t / tau)): c (1 - (1 + s / tau) exp(-s / tau)), s = t - d."""
    dt, tau, c = 0.1, 20.0, 2.0
    g = sm.RegionGraph()
    g.add_region("a", 1, sign=None)
    for delay in (5.0, 30.0):
        g.add_region(f"b{delay:g}", 1, sign=None)
        g.add_projection("a", f"b{delay:g}", weights=[[1.0]], delay=delay)
    net = sm.mRNN(g, "linear", dt=dt, tau=tau, device="cpu", dtype=torch.float64)
    run = simulate(net, 150, stimulus=Stimulus("a", Constant(c)))
    t = run.time.values
    for k, delay in ((1, 5.0), (2, 30.0)):
        s = np.maximum(t - delay, 0)
        np.testing.assert_allclose(run.h[0, :, k], c * (1 - (1 + s / tau) * np.exp(-s / tau)), atol=0.01 * c)
    early, late = run.h.values[0, :, 1], run.h.values[0, :, 2]
    np.testing.assert_allclose(late[250:], early[:-250], atol=1e-14)  # exactly the same, 25 ms later


def delayed(seed=0, dtype=torch.float64, **options):
    rng = np.random.default_rng(seed)
    g = sm.RegionGraph()
    for name, n in (("a", 4), ("b", 3), ("c", 5)):
        g.add_region(name, n, sign=None, init=float(rng.normal()), base_firing=0.1, learnable_bias=name == "c", tau=40 if name == "b" else None)
    g.add_input("i", 2, sign=None)
    blocks = [("a", "b", 30), ("a", "a", None), ("b", "a", 10), ("b", "c", 70), ("c", "c", 30), ("c", "a", 50), ("i", "a", 20), ("i", "c", None)]
    for k, (s, t, delay) in enumerate(blocks):
        shape = (g.region(t).n, g.region(s).n)
        g.add_projection(s, t, weights=rng.normal(size=shape) * (rng.random(shape) < 0.7) * 0.5, delay=delay, key=f"k{k}")
    return sm.mRNN(g, "tanh", device="cpu", dtype=dtype, seed=1, **options), g


def reference(net, g, steps, u, stim, x0=None):
    """One unit vector at a time, with the whole history in a list."""
    place, channel = net.layout(), net.layout("input")
    n, alpha = place.n, net.alpha.numpy().ravel() if net.alpha.numel() > 1 else np.full(place.n, float(net.alpha))
    x = net.initial_condition.numpy().copy() if x0 is None else x0
    hs, us, xs = [np.tanh(x)], [], []
    for t in range(steps):
        us.append(u[t])
        current = np.full(n, 0.1) + stim[t]
        for p in g.projections():
            d = round((p.delay or net.dt) / net.dt)
            kind = p.source == "i"
            past = (us[t + 1 - d] if t + 1 - d >= 0 else np.zeros(2)) if kind else hs[max(t + 1 - d, 0)]
            source = (channel if kind else place).slice(p.source)
            current[place.slice(p.target)] += p.weights.toarray() @ past[source]
        x = (1 - alpha) * x + alpha * current
        xs.append(x)
        hs.append(np.tanh(x))
    return np.stack(xs), np.stack(hs[1:])


@pytest.mark.parametrize("backend", ["auto", "csr", "dense"])
def test_delays_equal_a_reference_with_the_whole_history(backend):
    net, g = delayed(backend=backend)
    steps = 40
    t = np.arange(steps) * net.dt
    u = np.zeros((steps, 2))
    u[5:20] = 0.7
    stim = np.zeros((steps, 12))
    stim[:, 4:7] = np.sin(2 * np.pi * 5 * t / 1000)[:, None]
    run = simulate(net, steps=steps, stimulus=[Stimulus("i", 0.7, start=50, stop=200), Stimulus("b", Sine(1.0, frequency=5))])
    np.testing.assert_allclose(run.h[0], reference(net, g, steps, u, stim)[1], atol=1e-12)


def sequences(net, steps, batch, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: torch.from_numpy(rng.normal(size=shape))  # noqa: E731
    return draw(batch, steps, 2), draw(batch, 12), draw(batch, 12), draw(batch, steps, 12)


@pytest.mark.parametrize("steps", [1, 4, 30])
@pytest.mark.parametrize("checkpoint_steps", [None, 1, 3, 7])
def test_forward_equals_the_reference(steps, checkpoint_steps):
    net, g = delayed()
    u, x0, _, stim = sequences(net, steps, 3)
    x, h = net(u, x0, stim_input=stim, checkpoint_steps=checkpoint_steps)
    for k in range(3):
        expected = reference(net, g, steps, u[k].numpy(), stim[k].numpy(), x0[k].numpy())
        np.testing.assert_allclose(x[k].detach(), expected[0], atol=1e-12)
        np.testing.assert_allclose(h[k].detach(), expected[1], atol=1e-12)
    some = net(u, x0, stim_input=stim, checkpoint_steps=checkpoint_steps, regions=["c", "a"])[1]
    torch.testing.assert_close(some, h[..., [7, 8, 9, 10, 11, 0, 1, 2, 3]])


@pytest.mark.parametrize("checkpoint_steps", [None, 2, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_through_delays(batch, checkpoint_steps):
    net, _ = delayed()
    parameters = dict(net.named_parameters())
    arguments = [t.requires_grad_() for t in sequences(net, 11, batch)]

    def run(u, x0, h0, stim, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(net, named, (u, x0, h0, stim), dict(checkpoint_steps=checkpoint_steps))

    whole = checkpoint_steps == 2 and batch == 1  # the others are compared along random directions
    assert torch.autograd.gradcheck(run, (*arguments, *parameters.values()), fast_mode=not whole)


def test_gradients_of_a_loss_on_some_steps_and_frozen_projections():
    net, _ = delayed()
    u, x0, h0, stim = sequences(net, 20, 2)
    net(u, x0, h0, stim)[1][:, [3, 17]].square().sum().backward()
    whole = net.rec.values.grad.clone()
    net.zero_grad()
    net(u, x0, h0, stim, checkpoint_steps="auto")[1][:, [3, 17]].square().sum().backward()
    torch.testing.assert_close(net.rec.values.grad, whole)
    eps, loss = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            net.rec.projection_values(source="b", target="c", key="k3").view(-1)[0] += sign * eps
            loss.append(net(u, x0, h0, stim)[1][:, [3, 17]].square().sum())
            net.rec.projection_values(source="b", target="c", key="k3").view(-1)[0] -= sign * eps
    start = next(e.start for e, name in zip(net.rec.extents(), net.rec.projections, strict=True) if name == ("b", "c", "k3"))
    assert float(whole[start]) == pytest.approx(float(loss[0] - loss[1]) / (2 * eps), rel=1e-6)


@pytest.mark.parametrize("backend", ["csr", "dense"])
def test_noise_of_forward_and_simulation_agree(backend):
    net, _ = delayed(backend=backend, noise_level_act=0.3, noise_level_inp=0.2)
    run = simulate(net, steps=30, batch=2, noise=True, seed=4, stimulus=Stimulus("i", 1.0, start=50))
    u = torch.zeros(1, 30, 2, dtype=torch.float64)
    u[:, 5:] = 1.0
    for checkpoint_steps in (None, 4):
        net.reset_noise(4)
        h = net(u, *net.batched_initial_condition(1), noise=True, checkpoint_steps=checkpoint_steps)[1]
        np.testing.assert_allclose(run.h[:1], h.detach(), atol=1e-12)


def test_what_delays_do_not_go_with():
    net, _ = delayed()
    u, x0, _, _ = sequences(net, 5, 1)
    with pytest.raises(ConfigError, match="W_rec does not say which synapse has which delay"):
        net(u, x0, W_rec=torch.zeros(12, 12, dtype=torch.float64))


def test_delays_go_with_a_function_of_ones_own():
    g = sm.RegionGraph()
    g.add_region("a", 2, sign=None)
    g.add_projection("a", "a", delay=20)
    found = []
    for activation in ("tanh", lambda x: torch.tanh(x)):
        net = sm.mRNN(g, activation, device="cpu", seed=0, dtype=torch.float64)
        x, h = net(torch.zeros(1, 5, 0, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
        (x.sum() + h.square().sum()).backward()
        found.append((x, h, net.rec.values.grad))
    for own, named in zip(*found, strict=True):
        torch.testing.assert_close(own, named)


def test_memory_is_what_the_delays_need():
    net, _ = delayed()
    simulator = Simulator(net, 3, None, event_driven=False)
    history = simulator.stepper.recurrent.history
    assert {units: len(ring) for units, ring in history.rings.items()} == {(0, 4): 3, (4, 7): 7, (7, 12): 5}  # b for 7 steps, a for 3, c for 5; nothing else
    assert history.nbytes == 8 * 3 * (4 * 3 + 3 * 7 + 5 * 5)
    assert list(simulator.stepper.inputs.history.rings) == [(0, 2)]
    simulator.set_factors({"recurrent": {}, "input": {}})
    assert [group.delay for group, _ in simulator.stepper.recurrent.products] == [1, 3, 5, 7]  # one product each


def test_history():
    rng = np.random.default_rng(0)
    past = [torch.from_numpy(rng.normal(size=(6, 2)))]
    history = RingHistory({(3, 6): 2, (0, 2): 4}, past[0])
    for _ in range(11):
        past.append(torch.from_numpy(rng.normal(size=(6, 2))))
        history.push(past[-1])
        out = torch.zeros(6, 2, dtype=torch.float64)
        history.gather([(0, 2), (3, 6)], 2, out)
        torch.testing.assert_close(out[[0, 1, 3, 4, 5]], past[-2][[0, 1, 3, 4, 5]])
        assert not out[2].any()
        history.gather([(0, 2)], 4, out)
        torch.testing.assert_close(out[:2], past[-4 if len(past) > 4 else 0][:2])


def test_a_history_whose_steps_come_later():
    rng = np.random.default_rng(1)
    start = torch.from_numpy(rng.normal(size=(6, 2)))
    at_once, later = (RingHistory({(3, 6): 3, (0, 2): 5}, start) for _ in range(2))
    found, expected = torch.zeros_like(start), torch.zeros_like(start)
    steps = []
    for _ in range(12):
        steps.append(torch.from_numpy(rng.normal(size=(6, 2))))
        at_once.push(steps[-1])
        later.count += 1
        if len(steps) % 3 == 0:
            later.put(steps[-3:])
        later.gather([(0, 2), (3, 6)], 3, found)  # a delay as long as the time between two of them
        at_once.gather([(0, 2), (3, 6)], 3, expected)
        torch.testing.assert_close(found, expected)


def test_config_and_round_trip():
    config = {
        "recurrent_regions": [{"name": "a", "num_units": 2, "noise_level": 0.3}],
        "recurrent_connections": [{"src_region": "a", "dst_region": "a", "delay": 20}],
    }
    g = sm.read_config(config)
    assert next(g.projections()).delay == 20.0
    assert sm.to_config(g)["recurrent_connections"][0]["delay"] == 20.0
    assert sm.to_config(g)["recurrent_regions"][0]["noise_level"] == 0.3


def test_bad_delays():
    g = sm.RegionGraph()
    g.add_region("a", 2)
    for delay in (0, -1, float("nan")):
        with pytest.raises(GraphError, match="delay is"):
            g.add_projection("a", "a", delay=delay)
    with pytest.raises(GraphError, match="noise_level is -1"):
        g.add_region("b", 2, noise_level=-1)
    g.add_projection("a", "a", delay=4)
    with pytest.raises(ConfigError, match=r"'a' -> 'a': delay 4 ms is shorter than a time step, dt = 10 ms"):
        simulate(sm.mRNN(g, device="cpu"), 100)
    with pytest.warns(RoundingWarning, match=r"'a' -> 'a': delay 4 ms .* rounded to 3 ms"):
        simulate(sm.mRNN(g, device="cpu", dt=3.0), 99)
