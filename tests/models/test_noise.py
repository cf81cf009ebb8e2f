"""Noise of forward: torch's global generator without a seed, generators of the network's own with one."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import sparse_mrnn as sm
from helpers.networks import small
from sparse_mrnn.errors import ConfigError

MODELS = [sm.mRNN, sm.ElmanmRNN]


def unseeded(model=sm.mRNN, **settings):
    return small(model, seed=None, noise_level_act=0.5, noise_level_inp=0.5, **settings)


def activity(net, inp, **options):
    found = net(inp, noise=True, **options)
    return found[-1] if isinstance(found, tuple) else found


@pytest.mark.parametrize("model", MODELS)
def test_manual_seed_repeats_the_noise_of_a_network_without_a_seed(model):
    net, inp = unseeded(model), torch.zeros(2, 6, 3)
    torch.manual_seed(3)
    first = activity(net, inp)
    assert not torch.equal(activity(net, inp), first)
    torch.manual_seed(3)
    assert torch.equal(activity(net, inp), first)


def test_noise_of_a_seed_leaves_the_global_generator_alone():
    net, inp = small(sm.mRNN), torch.zeros(2, 6, 3)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    activity(net, inp)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_torch_checkpoint_computes_the_same_noise_again(model, use_reentrant):
    net, inp = unseeded(model, dtype=torch.float64), torch.zeros(2, 6, 3, dtype=torch.float64).requires_grad_()

    def gradients(run):
        net.zero_grad()
        torch.manual_seed(5)
        out = run()
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in net.parameters())]

    expected = gradients(lambda: activity(net, inp))
    found = gradients(lambda: checkpoint(activity, net, inp, use_reentrant=use_reentrant))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_torch_checkpoint_of_noise_with_a_seed_is_refused(use_reentrant):
    net, inp = small(sm.mRNN), torch.zeros(2, 6, 3).requires_grad_()
    out = checkpoint(activity, net, inp, use_reentrant=use_reentrant)
    with pytest.raises(ConfigError, match=r"Build the network without seed=.*checkpoint_steps='auto'"):
        out.sum().backward()


def test_torch_checkpoint_without_noise_runs_with_a_seed():
    net, inp = small(sm.mRNN), torch.ones(2, 6, 3).requires_grad_()
    checkpoint(lambda u: net(u)[1], inp, use_reentrant=False).sum().backward()
    assert net.rec.values.grad.any()


@pytest.mark.parametrize("seed", [None, 1])
def test_checkpoint_steps_replay_the_noise(seed):
    net, inp = small(sm.mRNN, seed=seed, dtype=torch.float64), torch.zeros(2, 7, 3, dtype=torch.float64)
    x0 = net.batched_initial_condition(2)[0].detach()

    def loss(weights):
        if seed is None:
            torch.manual_seed(5)
        else:
            net.reset_noise()
        return net(inp, x0, noise=True, checkpoint_steps=3, W_rec=weights)[1].square().sum()

    weights = net.effective_W_rec.to_dense().detach().requires_grad_()
    torch.autograd.gradcheck(loss, weights, nondet_tol=0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", [{"checkpoint_steps": 7}, {"regions": ["spine"]}, {"regions": ["spine"], "checkpoint_steps": "auto"}])
def test_what_a_pass_keeps_or_returns_does_not_change_the_noise(model, grad, options):
    net, inp = unseeded(model), torch.zeros(2, 150, 3)
    found = []
    for more, with_grad in (({}, True), (options, grad)):
        torch.manual_seed(3)
        with torch.set_grad_enabled(with_grad):
            found.append(activity(net, inp, **more).detach())
    spine = found[1] if "regions" in options else net.get_region_activity(found[1], "spine")
    assert torch.equal(net.get_region_activity(found[0], "spine"), spine)


class Runs(torch.utils.data.Dataset):
    def __init__(self, net):
        self.net = net

    def __len__(self):
        return 8

    def __getitem__(self, k):
        with torch.no_grad():
            return activity(self.net, torch.zeros(1, 4, 3))[0]


def test_workers_of_a_data_loader_draw_noise_of_their_own():
    torch.manual_seed(1)
    loader = DataLoader(Runs(unseeded()), batch_size=1, num_workers=2)
    epochs = [torch.cat(list(loader)) for _ in range(2)]
    assert len(torch.cat(epochs).flatten(1).unique(dim=0)) == 16


def test_reset_noise_gives_a_network_generators_of_its_own():
    net, inp = unseeded(), torch.zeros(2, 6, 3)
    found = []
    for _ in range(2):
        net.reset_noise(4)
        found.append(activity(net, inp))
    assert torch.equal(*found)
    net.reset_noise()
    assert torch.equal(activity(net, inp), found[0])


def test_the_state_of_the_noise_without_a_seed():
    net, inp = unseeded(), torch.zeros(2, 6, 3)
    state = net.noise_state()
    first = activity(net, inp)
    net.set_noise_state(state)
    assert torch.equal(activity(net, inp), first)
    net.reset_noise(4)
    net.set_noise_state(state)
    assert torch.equal(activity(copy.deepcopy(net), inp), first)


def test_a_saved_network_without_a_seed_stays_so(tmp_path):
    net, inp = unseeded(), torch.zeros(2, 6, 3)
    net.save(tmp_path / "net.safetensors")
    other = sm.load(tmp_path / "net.safetensors", device="cpu")
    assert other.seed == net.seed
    torch.manual_seed(2)
    first = activity(net, inp)
    torch.manual_seed(2)
    assert torch.equal(activity(other, inp), first)


@pytest.mark.parametrize("rng", [True, False])
def test_a_checkpoint_of_training_has_the_noise_in_the_global_states(tmp_path, rng):
    net, inp = unseeded(), torch.zeros(2, 6, 3)
    sm.save_checkpoint(tmp_path / "c", net)
    first = activity(net, inp)
    torch.manual_seed(9)
    other = copy.deepcopy(net)
    other.reset_noise(1)
    before = torch.get_rng_state()
    sm.load_checkpoint(tmp_path / "c", other, rng=rng)
    if rng:
        assert torch.equal(activity(other, inp), first)
    else:
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        found = activity(other, inp)
        torch.manual_seed(2)
        assert torch.equal(activity(net, inp), found)
