"""Activations that are modules or functions of the user's."""

import copy
import pickle

import pytest
import torch
from torch import nn

import sparse_mrnn as sm
from helpers.networks import small
from sparse_mrnn.errors import ActivationError, SavedFileError
from sparse_mrnn.ops.activations import custom_activation


class Swish(nn.Module):
    """x sigmoid(beta x), with a parameter and a submodule that has another."""

    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.5))
        self.leak = nn.PReLU()

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x) + 0.1 * self.leak(x)


def activity(net, inp):
    found = net(inp)
    return found[-1] if isinstance(found, tuple) else found


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("module", [nn.PReLU, Swish])
@pytest.mark.parametrize("checkpoint_steps", [None, 2])
def test_a_module_is_trained_moved_and_in_the_state_dict(model, module, checkpoint_steps):
    net = small(model, activation=module())
    own = [f"activation_module.{name}" for name, _ in module().named_parameters()]
    assert set(own) <= dict(net.named_parameters()).keys() & net.state_dict().keys()
    net.double()
    parameters = dict(net.named_parameters())
    assert all(parameters[name].dtype == torch.float64 for name in own)
    inp = torch.randn(2, 5, 3, dtype=torch.float64)

    def loss(*values):
        states = torch.func.functional_call(
            net, dict(zip(own, values, strict=True)), (inp,), {"checkpoint_steps": checkpoint_steps}
        )
        return (states[-1] if isinstance(states, tuple) else states).square().sum()

    torch.autograd.gradcheck(loss, tuple(parameters[name].detach().requires_grad_() for name in own))
    activity(net, inp).sum().backward()
    assert all(parameters[name].grad.abs().sum() > 0 for name in own)
    before = activity(net, inp)
    torch.optim.SGD([parameters[name] for name in own], 0.1).step()
    assert not torch.equal(activity(net, inp), before)


def test_a_module_in_float32_equals_torch_step_by_step():
    net = small(sm.ElmanmRNN, activation=nn.ELU())
    inp, h = torch.randn(1, 4, 3), net.batched_initial_condition(1)[-1]
    found = activity(net, inp)
    with torch.no_grad():
        for t in range(4):
            current = net.effective_W_rec @ h.t() + net.effective_W_inp @ inp[:, t].t() + net.tonic_inp[:, None]
            h = nn.functional.elu(current).t()
            torch.testing.assert_close(found[:, t], h)


def test_copies_have_modules_of_their_own():
    net, inp = small(sm.mRNN, activation=Swish()), torch.ones(1, 4, 3)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(activity(other, inp), activity(net, inp))
        with torch.no_grad():
            other.activation_module.beta.fill_(0.0)
        assert not torch.equal(activity(other, inp), activity(net, inp))


def test_analysis_and_simulation_take_a_network_with_a_module():
    net = small(sm.mRNN, activation=nn.PReLU())
    sm.analysis.find_fixed_points(net, {"cue": 0.1, "go": 0.0}, starts=4)
    run = sm.simulate(net, steps=4, batch=2)
    torch.testing.assert_close(torch.as_tensor(run.h.values[0]), activity(net, torch.zeros(1, 4, 3))[0].detach())


def test_a_network_with_a_module_is_saved_by_its_name_and_state(tmp_path):
    net, path = small(sm.mRNN, activation=nn.PReLU(init=0.7)), tmp_path / "net.safetensors"
    net.save(path)
    with pytest.raises(SavedFileError, match=r"'PReLU'.*load\(path, activation=PReLU\)"):
        sm.load(path, device="cpu")
    other = sm.load(path, device="cpu", activation=nn.PReLU())
    assert other.activation_module.weight.item() == pytest.approx(0.7)
    with pytest.raises(SavedFileError, match="the network lacks activation_module.weight"):
        sm.load(path, device="cpu", activation=torch.sin)


class Scaled(nn.Module):
    """A buffer, and one parameter under two names."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("calls", torch.tensor(0))
        self.first = self.again = nn.PReLU()

    def forward(self, x):
        return self.scale * torch.tanh(self.first(self.again(x)))


def test_a_module_with_buffers_and_a_shared_parameter_is_saved_and_loaded(tmp_path):
    net, path, inp = small(sm.mRNN, activation=Scaled()), tmp_path / "net.safetensors", torch.ones(2, 4, 3)
    net.activation_module.scale.fill_(0.7)
    net.save(path)
    other = sm.load(path, device="cpu", activation=Scaled())
    assert torch.equal(activity(other, inp), activity(net, inp))


def test_a_module_that_torch_cannot_call_with_given_parameters_is_refused():
    with pytest.raises(ActivationError, match="'DataParallel' fails on a tensor"):
        small(sm.mRNN, activation=nn.DataParallel(nn.PReLU()))


@pytest.mark.parametrize(
    "function",
    [
        nn.Softmax(0), nn.Softmax(1), lambda x: torch.softmax(x, -1), lambda x: torch.cumsum(x, 0),
        lambda x: x - x.mean(), lambda x: x / x.norm(), lambda x: x / (x.abs().max() + 1e-3), nn.Dropout(0.5),
        lambda x: nn.functional.normalize(x, dim=0), lambda x: x.flip(1), nn.RReLU(), lambda x: x.roll(1, 0),
    ],
)  # fmt: skip
def test_functions_that_mix_units_or_trials_are_refused(function):
    with pytest.raises(ActivationError, match="not pointwise.*other trials.*each entry alone"):
        custom_activation(function)


@pytest.mark.parametrize("function", [nn.ELU(), nn.GELU(), nn.Hardtanh(), nn.SELU(), nn.PReLU(), nn.Softsign(), torch.sin, torch.sqrt, nn.Sequential(nn.Tanh(), nn.PReLU()), lambda x: torch.relu(x) ** 2])
def test_pointwise_functions_are_taken(function):
    custom_activation(function)


def test_a_module_with_a_parameter_for_each_trial_is_refused():
    with pytest.raises(ActivationError, match="'PReLU' fails on a tensor"):
        small(sm.mRNN, activation=nn.PReLU(4))
