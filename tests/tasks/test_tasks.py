"""Task data: targets recomputed from the inputs, epochs, reproducibility, and a net that learns."""

from functools import partial

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.tasks import RULES, TrialDataset, context_integration, delayed_response, flip_flop, ring_task


def test_flip_flop_holds_the_last_pulse():
    trials = flip_flop(8, 120, bits=2, rate=0.05, width=3, settle=6, seed=0)
    assert trials.inp.shape == trials.target.shape == trials.mask.shape == (8, 120, 2)
    pulses = 0
    parts = (t.permute(0, 2, 1).reshape(-1, 120).tolist() for t in (trials.inp, trials.target, trials.mask))
    for inp, target, mask in zip(*parts, strict=True):
        last, begun = 0, 0
        for t in range(120):
            if inp[t] != 0 and (t == 0 or inp[t - 1] == 0 or inp[t] != inp[t - 1] or t - begun == 3):
                last, begun, pulses = inp[t], t, pulses + 1
                assert inp[t : t + 3] == [last] * len(inp[t : t + 3])
            assert target[t] == last
            assert mask[t] == (t - begun >= 6)
    assert 8 * 2 * (1 + 4) < pulses < 8 * 2 * (1 + 7)


def test_delayed_response_epochs():
    trials = delayed_response(200, seed=0)
    inp, target, mask = trials.inp, trials.target[..., 0], trials.mask[..., 0]
    side = target[:, -1]
    assert set(side.tolist()) == {-1.0, 1.0}
    quiet = delayed_response(200, noise=0.0, seed=0)
    distracted = 0
    for k in range(200):
        bounds = {name: (int(a[k]), int(b[k])) for name, (a, b) in trials.epochs.items()}
        (s0, s1), (d0, d1), (x0, x1), (r0, r1) = bounds.values()
        assert list(bounds) == ["sample", "delay", "distractor", "response"]
        assert s1 == d0
        assert d1 == r0
        assert r1 == 60
        assert 15 <= d1 - d0 <= 30
        assert d0 < x0 <= x1 <= d1
        assert (target[k, :r0] == 0).all()
        assert (target[k, r0:] == side[k]).all()
        assert (mask[k, :r0]).all()
        assert not mask[k, r0 : r0 + 5].any()
        assert mask[k, r0 + 5 :].all()
        cue = quiet.inp[k, :, :2]
        chosen = int(side[k] > 0)
        assert (cue[s0:s1, chosen] == 1).all()
        assert (cue[s0:s1, 1 - chosen] == 0).all()
        outside = cue.clone()
        outside[s0:s1] = 0
        assert (outside[x0:x1].sum(1) == 0.5).all()
        outside[x0:x1] = 0
        assert (outside == 0).all()
        assert torch.equal(inp[k, :, 2], (torch.arange(60) >= r0).float())
        distracted += x1 > x0
    assert 70 < distracted < 130
    residual = (trials.inp - quiet.inp)[..., :2]
    assert residual.std().item() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("task", [partial(flip_flop, 3, 40), partial(delayed_response, 3)])
def test_seeds(task):
    def make(seed):
        return task(seed=seed)

    assert torch.equal(make(1).inp, make(1).inp)
    assert not torch.equal(make(1).inp, make(2).inp)
    assert torch.equal(make(np.random.default_rng(1)).inp, make(1).inp)
    torch.manual_seed(4)
    first = make(None).inp
    torch.manual_seed(4)
    assert torch.equal(make(None).inp, first)


def test_loss_counts_only_what_counts():
    trials = delayed_response(2, seed=0)
    output = trials.target.clone()
    output[~trials.mask] = 100
    assert trials.loss(output) == 0
    assert trials.loss(trials.target + 2) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flip_flop(0, 10), "batch is 0; it must be at least 1"),
        (lambda: flip_flop(1, 10, rate=1.5), "rate is 1.5; it must be a probability"),
        (lambda: delayed_response(0), "batch 0 and sample 10"),
        (lambda: delayed_response(1, delay=(5, 4)), "delay (5, 4) must be"),
        (lambda: delayed_response(1, steps=50), "the longest trial takes 51 steps; steps is 50"),
        (lambda: delayed_response(1, distractor_probability=2), "must be a probability"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(TrainingError) as caught:
        call()
    assert message in str(caught.value)


def test_a_small_net_learns_one_bit_with_plain_adam():
    torch.manual_seed(0)
    g = sm.RegionGraph()
    g.add_region("a", 40, sign=None, learnable_bias=True)
    g.add_input("pulse", 1, sign=None)
    g.add_projection("a", "a", density=0.3)
    g.add_projection("pulse", "a")
    net = sm.mRNN(g, "tanh", tau=30, spectral_radius=1.1, seed=0, device="cpu")
    readout = torch.nn.Linear(40, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=5e-3)
    start = net.batched_initial_condition(32)
    for step in range(60):
        trials = flip_flop(32, 30, bits=1, settle=5, seed=step)
        out = readout(net(trials.inp, *start)[1])
        optimizer.zero_grad()
        trials.loss(out).backward()
        optimizer.step()
    assert ((out > 0) == (trials.target > 0))[trials.mask].float().mean() > 0.95


def test_context_integration_reports_the_stream_that_counts():
    trials = context_integration(300, noise=0.0, seed=0)
    inp, target = trials.inp, trials.target[..., 0]
    context = inp[:, 0, 2:].argmax(1)
    assert set(context.tolist()) == {0, 1}
    assert (inp[:, :, 2:] == inp[:, :1, 2:]).all()
    counts = inp[torch.arange(300), 20, context]
    torch.testing.assert_close(target[:, 45:], counts.sign()[:, None].expand(-1, 15))
    assert (target[:, :45] == 0).all()
    assert (inp[:, :5, :2] == 0).all()
    assert (inp[:, 45:, :2] == 0).all()
    other = inp[torch.arange(300), 20, 1 - context]
    assert 0.3 < (other.sign() == counts.sign()).float().mean() < 0.7
    assert trials.mask[0, :, 0].nonzero()[:, 0].tolist() == [*range(5), *range(50, 60)]
    noisy = context_integration(400, coherences=(0.5,), seed=1)
    assert abs(float(noisy.inp[:, 5:45, :2].mean()) - 0.5) < 0.03


def direction_of(activity):
    """The angle of a bump, and its height."""
    units = activity.shape[-1]
    angles = 2 * np.pi * torch.arange(units) / units
    vector = (activity * torch.exp(1j * angles)).sum(-1)
    return torch.angle(vector), activity.max(-1).values


def apart(a, b):
    return float(torch.remainder(a - b + np.pi, 2 * np.pi).sub(np.pi).abs())


@pytest.mark.parametrize("rule", RULES)
def test_ring_tasks_are_answered_as_their_rule_says(rule):
    trials = ring_task(rule, 60, noise=0.0, seed=3)
    inp, target, mask = trials.inp, trials.target, trials.mask
    rule_input = torch.zeros(len(RULES))
    rule_input[RULES.index(rule)] = 1
    assert (inp[:, :, 33:] == rule_input).all()
    fixated = 0
    for k in range(60):
        epochs = {name: (int(a[k]), int(b[k])) for name, (a, b) in trials.epochs.items()}
        (on, off), (go, _end) = epochs["stimulus"], epochs["response"]
        assert (inp[k, :on, 1:33] == 0).all()
        assert (target[k, :go, 0] == 0.85).all()
        assert (target[k, :go, 1:] == 0.05).all()
        assert (inp[k, :go, 0] == 1).all()
        assert (inp[k, go:, 0] == float(rule.startswith("reaction"))).all()
        assert mask[k, :go].all()
        assert not mask[k, go : go + 5].any()
        assert mask[k, go + 5 :].all()
        shown, _ = direction_of(inp[k, on, 1:33])
        answer, height = direction_of(target[k, -1, 1:] - 0.05)
        if target[k, -1, 0] > 0.5:
            fixated += 1
            assert height < 1e-6
            continue
        if rule.endswith("anti"):
            assert apart(answer, shown + np.pi) < 1e-3
        elif rule == "decision":
            ring = inp[k, on, 1:33]
            assert apart(answer, 2 * np.pi * ring.argmax() / 32) < np.pi / 32 + 1e-3
        elif rule == "non-match":
            assert apart(answer, direction_of(inp[k, go, 1:33])[0]) < 1e-3 < apart(answer, shown)
        else:
            assert apart(answer, shown) < 1e-3
        remembered = rule.startswith("delay") or rule in ("match", "non-match")
        assert (off < go) == remembered
        assert bool((inp[k, go - 1, 1:33] == 0).all()) == (remembered or rule.startswith("reaction"))
    assert (10 < fixated < 50) == (rule in ("match", "non-match"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: context_integration(0), "batch 0"),
        (lambda: context_integration(1, steps=50), "takes 51 steps"),
        (lambda: context_integration(1, coherences=(0.1, 0.0)), "none may be 0"),
        (lambda: context_integration(1, noise=-1), "noise is -1"),
        (lambda: ring_task("delay goo", 1), "Did you mean 'delay go'"),
        (lambda: ring_task("go", 0), "batch 0"),
        (lambda: ring_task("go", 1, dt=0), "dt 0"),
        (lambda: TrialDataset(flip_flop, -1), "length -1"),
        (lambda: TrialDataset(partial(ring_task, "go"), 1, pad_to=3)[0], "pad_to is 3"),
    ],
)
def test_tasks_refuse(call, message):
    with pytest.raises(TrainingError, match=message):
        call()


def test_a_dataset_of_trials_depends_on_seed_and_index_only():
    from torch.utils.data import DataLoader

    data = TrialDataset(partial(ring_task, "delay go"), 12, seed=5, pad_to=150)
    inp, target, mask = data[7]
    assert inp.shape[0] == target.shape[0] == mask.shape[0] == 150
    order = [7, 2, 11]
    batch = next(iter(DataLoader(data, batch_size=3, sampler=order)))
    for part, one in zip(batch, (inp, target, mask), strict=True):
        assert torch.equal(part[0], one)
    shorter = ring_task("delay go", 1, seed=np.random.default_rng([5, 7]))
    assert torch.equal(inp[: shorter.inp.shape[1]], shorter.inp[0])
    assert not mask[shorter.inp.shape[1] :].any()
    assert not torch.equal(data[7][0], TrialDataset(partial(ring_task, "delay go"), 12, seed=6, pad_to=150)[7][0])
    with pytest.raises(IndexError):
        data[12]
    workers = DataLoader(TrialDataset(flip_flop, 8, steps=30), batch_size=4, num_workers=0)
    assert sum(1 for _ in workers) == 2
