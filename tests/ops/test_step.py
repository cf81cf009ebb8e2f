"""A model is its step: a third model with two states a unit, defined here alone, runs wherever the others do."""

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import sparse_mrnn as sm
from sparse_mrnn.analysis import find_fixed_points
from sparse_mrnn.errors import AnalysisError, ConfigError, ShapeError
from sparse_mrnn.interop import step_module
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.step import Adjoint, Advance, Step


class AdaptingStep(Step):
    """x' = (1 - alpha) x + alpha (current + b - a);  a' = (1 - beta) a + beta f(x');  h' = f(x')."""

    states = ("x", "a")

    def step(self, states, current, parameters):
        x, a = states
        alpha, beta = parameters["alpha"], parameters["beta"]
        x = (1 - alpha) * x + alpha * (current + parameters.get("bias", 0.0) - a)
        return x, (1 - beta) * a + beta * self.activation.apply(x)


class AdaptingRNN(mRNNBase):
    dt = 10.0

    @property
    def equation(self):
        return AdaptingStep(self.activation_segments)

    def step_parameters(self):
        if not hasattr(self, "rates"):
            self.rates = torch.nn.Parameter(torch.tensor([0.3, 0.1], dtype=self.dtype))
        return {"alpha": self.rates[:1, None], "beta": self.rates[1:, None], **super().step_parameters()}

    def forward(self, inp, x0=None, h0=None, stim_input=None, noise=False, **options):
        return self._run(inp, x0, h0, stim_input, noise, **options)


def graph(delay=None):
    g = sm.RegionGraph()
    g.add_region("a", 4, sign=None, base_firing=0.3, learnable_bias=True, init=0.2)
    g.add_region("b", 3, sign="neg", activation="softplus")
    g.add_input("cue", 2)
    g.add_projection("a", "b", density=0.7, delay=delay)
    g.add_projection("b", "a")
    g.add_projection("cue", "a")
    return g


def adapting(delay=None, dtype=torch.float64):
    return AdaptingRNN(graph(delay), "tanh", device="cpu", seed=0, dtype=dtype)


def dense(net, inp, states, h, stim, delay=1):
    """The equations over dense matrices, differentiated by torch: (batch, time, units)."""
    step, parameters, (w, v) = net.equation, net.step_parameters(), (net.rec.dense(), net.inp.dense())
    late = torch.zeros_like(w)
    if delay > 1:
        late[4:, :4] = 1
    xs, hs, past = [], [], [h] * delay
    for t in range(inp.shape[1]):
        current = (w * (1 - late)) @ past[-1] + (w * late) @ past[-delay] + v @ inp[:, t].T + stim[:, t].T
        x, a = states
        alpha, beta, f = parameters["alpha"], parameters["beta"], step.activation.apply
        x = x + alpha * (current + parameters["bias"] - a - x)
        a = a + beta * (f(x) - a)
        states = x, a
        past.append(f(x))
        xs.append(torch.stack(states)), hs.append(past[-1])
    return (*torch.stack(xs).permute(1, 3, 0, 2), torch.stack(hs).permute(2, 0, 1))


@pytest.mark.parametrize("options", [{}, {"checkpoint_steps": 2}, {"checkpoint_steps": "auto"}])
@pytest.mark.parametrize("delay", [None, 30.0])
def test_a_third_model_runs_forward_and_backward(options, delay):
    net = adapting(delay)
    inp = torch.randn(2, 5, 2, dtype=torch.float64).requires_grad_()
    stim = torch.randn(2, 5, 7, dtype=torch.float64).requires_grad_()
    start = [torch.randn(2, 7, dtype=torch.float64).requires_grad_() for _ in range(3)]
    net.step_parameters()
    tensors = [inp, stim, *start, *net.parameters()]
    found = net(inp, tuple(start), stim_input=stim, **options)
    wanted = dense(net, inp, (start[0].T, start[1].T), start[2].T, stim, 1 if delay is None else 3)
    to = [torch.randn_like(each) for each in found]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(each, tensors, to) for each in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_gradcheck_of_a_third_model():
    net = adapting()
    net.step_parameters()
    inp = torch.randn(1, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, *_: net(u)[2], (inp, *net.parameters()))


@pytest.mark.parametrize("delay", [None, 30.0])
def test_a_third_model_is_simulated_and_recorded(delay, tmp_path):
    net = adapting(delay)
    options = dict(steps=12, batch=2, stimulus=sm.Stimulus("a", 0.5), record=sm.Record(variables=["h", "x", "a"]), progress=False)
    run = sm.simulate(net, **options)
    stim = torch.zeros(2, 12, 7, dtype=torch.float64)
    stim[:, :, :4] = 0.5
    x, a, h = net(torch.zeros(2, 12, 2, dtype=torch.float64), stim_input=stim)
    for name, wanted in (("x", x), ("a", a), ("h", h)):
        np.testing.assert_allclose(run[name], wanted.detach(), rtol=1e-12, atol=1e-13)
    half = {**options, "record": sm.Record(variables=["a"], every=3)}
    stored = sm.simulate(net, **half, out=tmp_path / "run.zarr")
    np.testing.assert_array_equal(stored.a, run.a[:, 2::3])


@pytest.mark.parametrize("delay", [None, 30.0])
def test_a_third_model_steps_and_goes_on(delay):
    net = adapting(delay)
    inp, stim = torch.randn(2, 8, 2, dtype=torch.float64), torch.randn(2, 8, 7, dtype=torch.float64)
    state, found = None, []
    for u, added in zip(inp.unbind(1), stim.unbind(1), strict=True):
        state = net.step(u, state, added)
        found.append((state.x, state.a, state.h))
    grads = [torch.autograd.grad(sum(s.square().sum() for s in found[-1]), [*net.parameters()])]
    whole = net(inp, stim_input=stim)
    for k, wanted in enumerate(whole):
        torch.testing.assert_close(torch.stack([f[k] for f in found], 1), wanted, rtol=1e-12, atol=1e-13)
    grads.append(torch.autograd.grad(sum(s[:, -1].square().sum() for s in whole), [*net.parameters()]))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
    state = net(inp[:, :5], stim_input=stim[:, :5], return_state=True)[-1]
    torch.testing.assert_close(net(inp[:, 5:], state, stim_input=stim[:, 5:])[1], whole[1][:, 5:])


def test_a_third_model_with_noise_and_without_trials():
    net = adapting(dtype=torch.float32)
    x, a, h = net(torch.zeros(0, 4, 2))
    assert x.shape == a.shape == h.shape == (0, 4, 7)
    noisy = [(net.reset_noise(1), net(torch.zeros(1, 4, 2), noise=True)[2])[1] for _ in range(2)]
    assert torch.equal(*noisy)
    assert not torch.equal(noisy[0], net(torch.zeros(1, 4, 2))[2])
    with pytest.raises(AnalysisError, match=r"several states \(x, a\)"):
        find_fixed_points(net)
    with pytest.raises(ShapeError, match=r"tuple of 2; give \(x0, a0, h0\)"):
        net(torch.zeros(1, 4, 2), (torch.zeros(1, 7), torch.zeros(1, 7)))


# ---------------------------------------------------------------- the leaky step, plain and fused


class PlainLeaky(sm.mRNN):
    """mRNN by the passes and the adjoint that any step has."""

    @property
    def equation(self):
        step = super().equation
        step.sequence = lambda *args: Advance(step, *args)
        step.stream = lambda *args: Advance(step, *args)
        step.adjoint = lambda *args: Adjoint(step, *args)
        step.keeps = lambda needed: ("x", "current")
        return step


@pytest.mark.parametrize("tau", [None, 40.0])
@pytest.mark.parametrize("learnable_tau", [False, True])
def test_fused_passes_are_the_equation(tau, learnable_tau):
    g = graph(20.0)
    g.nodes["b"]["tau"], g.nodes["a"]["learnable_tau"] = tau, learnable_tau
    found = []
    for model in (sm.mRNN, PlainLeaky):
        net = model(g, "tanh", device="cpu", seed=0, dtype=torch.float64)
        torch.manual_seed(0)
        inp, stim = torch.randn(3, 6, 2, dtype=torch.float64), torch.randn(3, 6, 7, dtype=torch.float64)
        x, h = net(inp, stim_input=stim, noise=True)
        (x.square().sum() + h.sum()).backward()
        run = sm.simulate(net, steps=9, batch=2, noise=True, seed=3, stimulus=sm.Stimulus("a", 1.0), progress=False)
        found.append([x, h, torch.from_numpy(run.h.values), *(p.grad for p in net.parameters())])
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-11, atol=1e-12)


def test_gradients_of_tensors_inside_a_function_of_ones_own():
    gain = torch.tensor(0.7, requires_grad=True)
    net = sm.mRNN(graph(), lambda x: torch.tanh(gain * x), device="cpu", seed=0)
    inp, x0 = torch.randn(2, 6, 2), torch.randn(2, 7)

    def loss():
        x, h = net(inp, x0)
        return (h * torch.linspace(-1, 1, 7)).sum() + x.square().mean()

    loss().backward()
    with torch.no_grad():
        gain += 1e-2
        more = loss()
        gain -= 2e-2
        less = loss()
    assert float(gain.grad) == pytest.approx(float(more - less) / 2e-2, rel=1e-2)


@pytest.mark.parametrize("checkpoint_steps", [None, 4])
def test_gradient_of_a_slow_time_constant(checkpoint_steps):
    g = sm.RegionGraph()
    g.add_region("a", 6, sign=None, tau=1e5, learnable_tau=True, base_firing=0.5)
    g.add_projection("a", "a")
    found = []
    for dtype in (torch.float32, torch.float64):
        net = sm.mRNN(g, "tanh", device="cpu", seed=0, dtype=dtype)
        x0 = torch.linspace(-2, 2, 12, dtype=torch.float64).view(2, 6).to(dtype)
        h = net(torch.zeros(2, 50, 0, dtype=dtype), x0, checkpoint_steps=checkpoint_steps)[1]
        h.square().sum().backward()
        found.append(next(p.grad for name, p in net.named_parameters() if name.endswith("logit")).double())
    torch.testing.assert_close(*found, rtol=1e-5, atol=0)


# ---------------------------------------------------------------- preparation


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_where_a_run_starts(model):
    net = model(graph(), device="cpu", seed=0)
    inp, pair = torch.randn(2, 5, 2), net.batched_initial_condition(2)
    runs = [net(inp), net(inp, pair), net(inp, pair[0] if model is sm.mRNN else pair[1])]
    for run in runs[1:]:
        for one, other in zip(run, runs[0], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("noise", [0.1, 1, "yes", None])
def test_noise_is_true_or_false(model, noise):
    with pytest.raises(ConfigError, match="noise is .*; use True or False"):
        model(graph(), device="cpu")(torch.zeros(1, 2, 2), noise=noise)


def test_no_trials():
    net, rnn = sm.mRNN(graph(), device="cpu", seed=0), torch.nn.RNN(2, 3, batch_first=True)
    assert rnn(torch.zeros(0, 4, 2))[0].shape == (0, 4, 3)
    inp = torch.zeros(0, 4, 2, requires_grad=True)
    x, h = net(inp, torch.zeros(0, 7), regions="b")
    assert x.shape == h.shape == (0, 4, 3)
    h.sum().backward()
    assert inp.grad.shape == inp.shape
    assert all(not p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("checkpoint_steps", [None, 2])
def test_checkpointing_by_torch(checkpoint_steps):
    net, inp = sm.mRNN(graph(), device="cpu", seed=0), torch.randn(2, 5, 2)
    found = []

    def run(u):
        return net(u, checkpoint_steps=checkpoint_steps)[1]

    for reentrant in (None, False):
        net.zero_grad()
        (run(inp) if reentrant is None else checkpoint(run, inp, use_reentrant=False)).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_a_forward_pass_reads_nothing_from_the_device(model, monkeypatch):
    net, inp = model(graph(), device="cpu", seed=0), torch.zeros(1, 3, 2)
    net(inp)  # what is read once, and kept
    for name in ("__bool__", "__float__", "__int__", "item", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("waits for the device"))
    net(inp)
    net(inp, noise=True)


def test_a_third_model_is_exported_step_by_step():
    net = adapting()
    states, inp = net.batched_initial_condition(2), torch.randn(2, 3, 2, dtype=torch.float64)
    step, (x, a, h) = step_module(net), states
    for t in range(3):
        x, h, a = step(x, h, inp[:, t], a)
    for one, other in zip((x, a, h), net(inp), strict=True):
        torch.testing.assert_close(one, other[:, -1])
