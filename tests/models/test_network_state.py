"""The state that a network goes on from: runs in pieces are the run in one, with all that is under way."""

import copy
import io

import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import small, under_way
from sparse_mrnn.errors import ConfigError, ShapeError
from sparse_mrnn.models.network_state import NetworkState

MODELS = [sm.mRNN, sm.ElmanmRNN]


def arguments(net, batch=3, steps=17):
    generator = torch.Generator().manual_seed(5)
    shapes = (batch, steps, net.layout("input").n), (batch, steps, net.layout().n), (batch, net.layout().n)
    return [torch.randn(shape, generator=generator, dtype=net.dtype) for shape in shapes]


def pieces(net, u, stim, start, lengths, **options):
    found = []
    for part, added in zip(u.split(lengths, 1), stim.split(lengths, 1), strict=True):
        *out, start = net(part, start, stim_input=added, return_state=True, **options)
        found.append(out)
    return [torch.cat(each, 1) for each in zip(*found, strict=True)], start


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("lengths", [[17], [1] * 17, [2, 1, 9, 5], [10, 7]])
@pytest.mark.parametrize("noise", [False, True])
def test_pieces_are_the_run_in_one(model, lengths, noise):
    net = under_way(model)
    u, stim, x0 = arguments(net)
    whole = net(u, x0, stim_input=stim, noise=noise)
    net.reset_noise()
    found, state = pieces(net, u, stim, x0, lengths, noise=noise)
    for one, other in zip(found, whole if model is sm.mRNN else (whole,), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(state.h, found[-1][:, -1])
    assert (len(state.past_h), len(state.past_inputs)) == (6, 3)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("lengths", [[1] * 17, [2, 1, 9, 5]])
@pytest.mark.parametrize("checkpoint_steps", [None, 2])
def test_gradients_through_pieces_are_those_of_one_run(model, lengths, checkpoint_steps):
    net = under_way(model)
    given = [t.requires_grad_() for t in arguments(net)]
    options = dict(checkpoint_steps=checkpoint_steps)
    u, stim, x0 = given
    whole = net(u, x0, stim_input=stim)
    found, _ = pieces(net, u, stim, x0, lengths, **options)
    learnt = [p for name, p in net.named_parameters() if name != "init"]
    weights = torch.randn_like(found[-1])
    results = [torch.autograd.grad((h * weights).sum(), [*given, *learnt]) for h in (found[-1], whole[-1] if model is sm.mRNN else whole)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_a_detached_past_gets_no_gradient_and_gives_none_to_the_start():
    net = under_way()
    u, _, x0 = arguments(net)
    x0.requires_grad_()
    state = net(u, x0, return_state=True)[-1]
    later = state.detach()
    later.past_h[2].requires_grad_()
    net(u[:, :2], later)[1].sum().backward()
    assert x0.grad is None
    assert later.past_h[2].grad.abs().max() > 0


def test_the_state_at_the_start_is_the_initial_condition():
    net = under_way()
    u, stim, _ = arguments(net)
    torch.testing.assert_close(net(u, net.initial_state(3), stim_input=stim), net(u, stim_input=stim))
    x, h = net.initial_state(3)
    assert torch.equal(x, net.batched_initial_condition(3)[0])
    assert torch.equal(h, net.batched_initial_condition(3)[1])


def test_regions_and_layout_with_a_state():
    net = under_way(batch_first=False)
    u, _, x0 = arguments(net)
    x, h, state = net(u.transpose(0, 1), x0, regions=["c"], return_state=True)
    whole, _, same = net(u.transpose(0, 1), x0, return_state=True)
    torch.testing.assert_close(x, whole[..., net.unit_indices("c")])
    assert torch.equal(state.x, same.x)
    assert state.x.shape == (3, 12)
    assert torch.equal(state.h[:, 8:], h[-1])


def test_trials_follow_a_permutation():
    net = under_way()
    u, _, x0 = arguments(net)
    first, second = u[:, :9], u[:, 9:]
    state = net(first, x0, return_state=True)[-1]
    whole = net(second, state)[1]
    order = [2, 0]
    for trials in (order, torch.tensor(order)):
        torch.testing.assert_close(net(second[order], state[trials])[1], whole[order])
    torch.testing.assert_close(net(second[1:], state[1:])[1], whole[1:])
    torch.testing.assert_close(net(second[1:2], state[1])[1], whole[1:2])
    mask = torch.tensor([True, False, True])
    torch.testing.assert_close(net(second[mask], state[mask])[1], whole[mask])
    mixed = net(second, state.where(mask, net.initial_state(3)))[1]
    torch.testing.assert_close(mixed[mask], whole[mask])
    torch.testing.assert_close(mixed[1:2], net(second[1:2])[1])
    other = net(second, net.initial_state(3).where(mask, state))[1]
    torch.testing.assert_close(other[1:2], whole[1:2])
    torch.testing.assert_close(other[mask], net(second[mask])[1])


def test_a_state_is_saved_copied_and_moved():
    net = under_way()
    u, _, x0 = arguments(net)
    state = net(u, x0, return_state=True)[-1].detach()
    file = io.BytesIO()
    torch.save(state.tensors(), file)
    file.seek(0)
    for other in (NetworkState.of(torch.load(file)), copy.deepcopy(state), state.clone(), state.to(torch.float32).to(torch.float64)):
        torch.testing.assert_close(net(u, other)[1], net(u, state)[1], rtol=1e-5, atol=1e-6)
    assert state.to(torch.float32).past_h[0].dtype == torch.float32
    assert repr(state) == "NetworkState(x, h of 3 trials, 12 units; h of 6 steps before; inputs of 3 steps before)"


def test_the_state_copies_what_it_was_made_from():
    net = under_way()
    u, _, x0 = arguments(net, batch=1)
    state = net(u[:, :2], x0, return_state=True)[-1]
    wanted = net(u, state)[1]
    with torch.no_grad():
        u_later = u.clone()
        x0.fill_(7), u.fill_(7)
    torch.testing.assert_close(net(u_later, state)[1], wanted)


def test_without_delays_a_state_is_the_pair():
    net = small(sm.mRNN, noise_level_act=0.1)
    u = torch.randn(2, 6, 3)
    x, h, state = net(u, return_state=True)
    one, other = state
    assert torch.equal(one, x[:, -1])
    assert torch.equal(other, h[:, -1])
    assert len(state) == 2
    assert not state.past_h
    assert not state.past_inputs


def test_what_a_state_refuses():
    net, elman = under_way(), under_way(sm.ElmanmRNN)
    u, _, x0 = arguments(net)
    state = net(u, x0, return_state=True)[-1]
    with pytest.raises(ConfigError, match="pass it on as it is"):
        list(state)
    with pytest.raises(ConfigError, match="leave h0 out"):
        net(u, state, x0)
    with pytest.raises(ShapeError, match=r"x0 has shape \(3, 12\).*\(2, 12\)"):
        net(u[:2], state)
    with pytest.raises(ShapeError, match="float32"):
        net(u, state.to(torch.float32))
    with pytest.raises(ShapeError, match="selects no trials of 3"):
        state[5]
    with pytest.raises(AttributeError, match="has no 'y'"):
        state.y  # noqa: B018
    with pytest.raises(ConfigError, match="return_state"):
        net(u, return_state=1)
    assert elman(u, state, return_state=True)[1].x.shape == (3, 12)
    with pytest.raises(ShapeError, match="at least x and h"):
        NetworkState.of({"h": x0})
    for name, wrong in (("x", x0[:2]), ("h", x0[0]), ("past_h", x0), ("past_inputs", x0[:1, None])):
        with pytest.raises(ShapeError, match="has shape"):
            NetworkState.of({"x": x0, "h": x0, name: wrong})
    other = NetworkState.of({**state.tensors(), "past_inputs": torch.zeros(3, 2, 4, dtype=torch.float64)})
    with pytest.raises(ShapeError, match=r"past_inputs has shape \(4, 3\)"):
        net(u, other)
