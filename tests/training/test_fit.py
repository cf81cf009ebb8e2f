"""fit: what it trains, when it stops, and that a resumed run is the run that was not stopped."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.training_nets import build
from sparse_mrnn.errors import DivergenceError, SavedFileError, ShapeError, TrainingError
from sparse_mrnn.training import Recorded, RecordedLoss, fit, freeze

DTYPE = torch.float64


def problem(trials=8, condition=None, **more):
    """A network, inputs, and what another one of the same graph did, half of whose units were recorded."""
    true, net = build(seed=0), build(seed=1)
    net.load_state_dict(true.state_dict())
    inp = torch.randn(trials, 12, 3, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    with torch.no_grad():
        _, h = true(inp)
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=DTYPE))
    seen = list(range(0, 15, 2))
    recorded = Recorded(h[..., seen], [true.unit_ids[k] for k in seen], interval=10.0, condition=condition, **more)
    return net, recorded, inp, h


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_fit_is_a_plain_loop():
    """Against Adam on the mean squared error, written out."""
    net, recorded, inp, h = problem()
    history = fit(net, recorded, inp, epochs=5, lr=0.02, held_out=[1, 6], clip=None, progress=False)
    other, *_ = problem()
    adam = torch.optim.Adam(other.parameters(), lr=0.02)
    train, test = [0, 2, 3, 4, 5, 7], [1, 6]
    losses, tested = [], []
    for _ in range(5):
        adam.zero_grad()
        loss = (other(inp[train])[1] - h[train])[..., ::2].square().mean()
        loss.backward()
        adam.step()
        losses.append(loss.item())
        tested.append((other(inp[test])[1] - h[test])[..., ::2].square().mean().item())
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-9)
    np.testing.assert_allclose(history["held_out"], tested, rtol=1e-9)
    assert history.index.tolist() == [1, 2, 3, 4, 5]
    assert history["best"].all()
    torch.testing.assert_close(parameters(net), parameters(other), rtol=1e-9, atol=1e-12)


def test_the_best_epoch_is_kept_and_ends_the_run():
    net, recorded, inp, _ = problem()
    noisy = Recorded(recorded.values + np.random.default_rng(0).normal(size=recorded.values.shape), recorded.channels, 10.0)
    history = fit(net, noisy, inp, epochs=200, lr=0.1, batch=2, held_out=0.5, patience=3, progress=False)
    assert len(history) < 200
    last = history.index[history["best"]][-1]
    assert last == len(history) - 3
    assert history["held_out"].idxmin() == last
    held = [k for k in range(8) if k not in _trained(noisy)]
    with torch.no_grad():
        again = RecordedLoss(net, noisy)(net(inp[held]), held).item()
    assert again == pytest.approx(history["held_out"].min(), rel=1e-12)


def _trained(recorded):
    from sparse_mrnn.training.fit import _held_out

    return np.setdiff1d(np.arange(8), _held_out(recorded, 0.5, np.random.default_rng(0)))


def test_each_condition_is_held_out():
    from sparse_mrnn.training.fit import _held_out

    recorded = Recorded(np.ones((12, 2, 1)), ["a"], 10.0, condition=["l"] * 8 + ["r"] * 4)
    for seed in range(5):
        held = _held_out(recorded, 0.25, np.random.default_rng(seed))
        assert ((held < 8).sum(), (held >= 8).sum()) == (2, 1)


def test_only_what_is_trainable_is_trained():
    net, recorded, inp, _ = problem()
    for source in "abc":
        for target in "abc":
            freeze(net, source, target)
    before = net.rec.csr_values().detach().clone()
    bias = net.bias.detach().clone()
    fit(net, recorded, inp, epochs=3, progress=False)
    assert torch.equal(net.rec.csr_values().detach(), before)
    assert not torch.equal(net.bias.detach(), bias)


@pytest.mark.parametrize("batch_first", [True, False])
def test_layouts_inputs_and_initial_states(batch_first):
    net, recorded, inp, _ = problem(calcium=40.0)
    net.batch_first = batch_first
    stim, x0 = torch.randn(8, 12, 15, dtype=DTYPE), torch.randn(8, 15, dtype=DTYPE)
    lay = (lambda t: t) if batch_first else (lambda t: t.transpose(0, 1))
    history = fit(net, recorded, lay(inp), epochs=2, stim_input=lay(stim), x0=x0, held_out=0, batch=3, progress=False)
    assert history["calcium"].iloc[-1] != 40
    assert history["held_out"].isna().all()
    other, *_ = problem()
    same = fit(other, recorded, inp, epochs=2, stim_input=stim, x0=x0, held_out=0, batch=3, progress=False)
    np.testing.assert_allclose(history["loss"], same["loss"], rtol=1e-9)


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path):
    path = tmp_path / "fit.safetensors"
    options = dict(lr=0.05, batch=2, progress=False, noise=True)
    whole, recorded, inp, _ = problem(calcium=50.0)
    history = fit(whole, recorded, inp, epochs=6, **options)
    net, *_ = problem()
    first = fit(net, recorded, inp, epochs=3, checkpoint=path, **options)
    net, *_ = problem()  # as in a new process
    second = fit(net, recorded, inp, epochs=6, checkpoint=path, mode="resume", **options)
    assert second.drop(columns="seconds").equals(history.drop(columns="seconds"))
    assert second.iloc[:3].equals(first)
    assert torch.equal(parameters(net), parameters(whole))
    net, *_ = problem()
    assert fit(net, recorded, inp, epochs=6, checkpoint=path, mode="resume", **options).equals(second)  # had ended
    assert torch.equal(parameters(net), parameters(whole))
    with pytest.raises(SavedFileError, match="exists; give mode='resume'"):
        fit(net, recorded, inp, checkpoint=path)
    before = parameters(net)
    for change in (dict(batch=3), dict(seed=1), dict(held_out=0.5)):
        with pytest.raises(SavedFileError, match="another fit"):
            fit(net, recorded, inp, checkpoint=path, mode="resume", **{**options, **change})
    with pytest.raises(SavedFileError, match="another fit: data"):
        fit(net, recorded, inp + 1, checkpoint=path, mode="resume", **options)
    assert torch.equal(parameters(net), before)
    sm.save_checkpoint(path, net)
    with pytest.raises(SavedFileError, match="not a checkpoint of a fit"):
        fit(net, recorded, inp, checkpoint=path, mode="resume", **options)
    fit(net, recorded, inp, epochs=1, checkpoint=path, mode="overwrite", **options)


def test_what_diverges_leaves_the_best_parameters():
    net, recorded, inp, _ = problem()
    net.activation = "relu"
    before = parameters(net)
    for size in (1e200, torch.inf):
        with pytest.raises(DivergenceError, match="best parameters"):
            fit(net, recorded, inp * size, epochs=9, lr=1e200, clip=None, progress=False)
        assert torch.equal(parameters(net), before)


def test_what_does_not_fit():
    net, recorded, inp, h = problem()

    def bad(error, match, *args, net=net, recorded=recorded, **more):
        with pytest.raises(error, match=match):
            fit(net, recorded, *args, **{"progress": False, **more})

    bad(ShapeError, r"inputs has shape \(7, 12, 3\); expected 8 trials", inp[1:])
    bad(ShapeError, "inputs has 11 time steps, and the last sample is after 12", inp[:, 1:])
    bad(ShapeError, "x0 has shape", inp, x0=torch.zeros(3, 15, dtype=DTYPE))
    bad(TrainingError, "held_out is 1.5", inp, held_out=1.5)
    bad(TrainingError, "held_out is 9", inp, held_out=[9])
    bad(TrainingError, "all 8 trials are held out", inp, held_out=range(8))
    bad(TrainingError, "epochs is 0", inp, 0)
    bad(TrainingError, "batch is 0", inp, batch=0)
    bad(TrainingError, "patience is 'long'", inp, patience="long")
    bad(TrainingError, "clip is 0", inp, clip=0)
    bad(TrainingError, "give a Recorded", inp, recorded=h)
    bad(TrainingError, "mode is 'append'", inp, mode="append")
    bad(TrainingError, "about a checkpoint", inp, mode="resume")
    bad(TrainingError, "one trial, which cannot be held out", inp[:1], recorded=recorded.select(trials=[0]))
    bad(TrainingError, "the loss is of 8 trials, the recording of 4", inp, recorded=recorded.select(trials=range(4)), loss=RecordedLoss(net, recorded))
    g = sm.RegionGraph()
    g.add_region("a", 15)
    g.add_projection("a", "a", trainable=False)
    fixed = sm.mRNN(g, device="cpu")
    bad(TrainingError, "nothing is trainable", net=fixed, recorded=Recorded(h, fixed.unit_ids, 10.0))


def test_a_bar_is_drawn_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    net, recorded, inp, _ = problem()
    fit(net, recorded, inp, epochs=2)
    assert "epochs" in capsys.readouterr().err
