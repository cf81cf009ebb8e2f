"""Weights from a recording of all units: true ones recovered, and scipy's solutions of each unit's problem."""

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

import sparse_mrnn as sm
from sparse_mrnn.errors import ShapeError, TrainingError, UnknownNameError
from sparse_mrnn.training import Recorded, freeze, regress_weights, regressors

DTYPE = torch.float64


def build(model=sm.mRNN, activation="tanh", seed=0, delays=False, dale=True, **more):
    """Two regions with signs and one without, two inputs, a parallel projection, and biases of units."""
    g = sm.RegionGraph()
    for name, sign in (("e", "pos"), ("i", "neg"), ("f", None)):
        own = dict(tau=40.0, learnable_bias="unit") if name == "e" else {}
        g.add_region(name, 8, sign=sign, base_firing=0.3, **own)
    g.add_input("u", 3)
    for k, (s, t) in enumerate((s, t) for s in "eif" for t in "eif"):
        g.add_projection(s, t, density=0.4, delay=10.0 * (1 + k % 3) if delays else None, initializer=sm.Normal(0.8))
    g.add_projection("e", "f", key="slow", fan_in=2, delay=50.0 if delays else None)
    g.add_projection("u", "e", delay=30.0 if delays else None)
    g.add_projection("u", "f")
    return model(g, activation, device="cpu", dtype=DTYPE, seed=seed, rec_constrained=dale, **more)


def run(net, trials=6, steps=80, seed=1, noise=0.0):
    gen = torch.Generator().manual_seed(seed)
    inp, stim = (torch.randn(trials, steps, n, generator=gen, dtype=DTYPE) for n in (3, 24))
    start = torch.randn(trials, 24, generator=gen, dtype=DTYPE)
    with torch.no_grad():
        found = net(inp, start, stim_input=stim)
    x, h = found if isinstance(found, tuple) else (None, found)
    return inp, stim, x, h + noise * torch.randn(h.shape, generator=gen, dtype=DTYPE)


def effective(net):
    return torch.cat([part.csr_values().detach() for part in net.weight_matrices()])


def forgotten(net):
    """The same network, of which the trained weights and biases are other ones."""
    import copy

    other = copy.deepcopy(net)
    with torch.no_grad():
        for part in other.weight_matrices():
            part.values.copy_(torch.rand_like(part.values))
        other.bias.fill_(0)
    return other


@pytest.mark.parametrize("delays", [False, True])
@pytest.mark.parametrize(("model", "activation"), [(sm.mRNN, "tanh"), (sm.mRNN, "softplus"), (sm.mRNN, "relu"), (sm.ElmanmRNN, "sigmoid"), (sm.ElmanmRNN, "relu")])
def test_true_weights_are_recovered(model, activation, delays):
    true = build(model, activation, delays=delays)
    inp, stim, x, h = run(true)
    net = forgotten(true)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    recorded = Recorded(h[..., order], [true.unit_ids[k] for k in order], interval=true.dt)
    # Parallel synapses of one pair without delays cannot be told apart; a ridge divides their sum.
    found = regress_weights(net, recorded, inp, stim_input=stim, ridge=0 if delays else 1e-13)
    assert found.unit.tolist() == list(range(24))
    assert (found.r2 > 1 - 1e-8).all()
    torch.testing.assert_close(net.rec.dense(), true.rec.dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.inp.dense(), true.inp.dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.tonic_inp, true.tonic_inp, rtol=1e-4, atol=1e-4)
    assert found.partners.sum() == true.rec.nnz + true.inp.nnz
    if x is not None:
        again = forgotten(true)
        regress_weights(again, Recorded(x, true.unit_ids, interval=10.0, variable="x"), inp, stim_input=stim, ridge=1e-13)
        torch.testing.assert_close(again.rec.dense(), true.rec.dense(), rtol=1e-4, atol=1e-4)


def test_the_layout_of_the_inputs_follows_the_network():
    true = build()
    inp, stim, _, h = run(true)
    recorded = Recorded(h, true.unit_ids, interval=10.0)
    one, other = forgotten(true), forgotten(true)
    regress_weights(one, recorded, inp, stim_input=stim)
    other.batch_first = False
    regress_weights(other, recorded, inp.transpose(0, 1), stim_input=stim.transpose(0, 1))
    torch.testing.assert_close(effective(one), effective(other), rtol=0, atol=0)


def test_frozen_weights_stay_and_count():
    true = build()
    inp, stim, _, h = run(true)
    freeze(true, "i", "e")
    freeze(true, "u", "f")
    net = forgotten(true)
    before = net.rec.frozen.clone()
    found = regress_weights(net, Recorded(h, true.unit_ids, interval=10.0), inp, stim_input=stim, ridge=1e-13)
    assert torch.equal(net.rec.frozen, before)
    torch.testing.assert_close(net.rec.dense(), true.rec.dense(), rtol=1e-5, atol=1e-5)
    assert found.partners.sum() == true.rec.values.numel() + true.inp.values.numel()


def written_out(net, h, inp, stim, unit, ridge, bounds):
    """The problem of one unit, made with dense arrays and solved by scipy. Returns weights of units, inputs, bias."""
    alpha = float(net.unit_alpha().expand(24, 1)[unit].detach())
    x = np.arctanh(h)
    rows, current = [], []
    for trial in range(len(h)):
        for t in range(1, h.shape[1]):
            y = (x[trial, t, unit] - (1 - alpha) * x[trial, t - 1, unit]) / alpha - stim[trial, t, unit]
            row = np.r_[h[trial, t - 1], inp[trial, t], 1.0]
            if np.isfinite(y) and np.isfinite(row[: len(bounds[0])][bounds[2]]).all():
                rows.append(np.nan_to_num(row))
                current.append(y)
    a, y = np.array(rows), np.array(current)
    n = len(y)
    learnt = unit < 8
    if not learnt:
        y = y - 0.3
    keep = np.r_[bounds[2], [learnt]]
    a, low, high = a[:, keep], np.r_[bounds[0], -np.inf][keep], np.r_[bounds[1], np.inf][keep]
    is_bias = np.zeros(a.shape[1], dtype=bool)
    is_bias[-1] = learnt
    mean = (a[:, ~is_bias] ** 2).mean(0).mean()
    penalty = np.diag(np.where(is_bias, 0, np.sqrt(ridge * mean * n)))
    solution = lsq_linear(np.r_[a, penalty], np.r_[y, np.zeros(len(penalty))], (low, high), method="bvls", tol=1e-14)
    found = np.zeros(28)
    found[keep] = solution.x
    return found, n


@pytest.mark.parametrize("dale", [True, False])
@pytest.mark.parametrize("gaps", [False, True])
def test_noisy_data_as_scipy(dale, gaps, monkeypatch):
    monkeypatch.setattr(regressors, "BLOCK_STEPS", 50)  # several blocks, across trials
    monkeypatch.setattr(regressors, "BLOCK_BYTES", 60_000)
    true = build(dale=dale)
    true.rec.values.data[:20] = 0  # so that signs are active
    inp, stim, _, h = run(true, noise=0.02)
    if gaps:
        h[torch.rand(h.shape, generator=torch.Generator().manual_seed(3)) < 0.01] = torch.nan
    net = forgotten(true)
    g = net.rec.table()
    double = {(r, c) for r, c in zip(g.row.tolist(), g.col.tolist(), strict=True)}
    assert len(double) < net.rec.nnz  # parallel synapses
    prune_parallel = net.rec.in_declared_order(g.take(*_without_parallel(net)), net.rec.is_trainable)
    net.rec.set_table(prune_parallel)
    found = regress_weights(net, Recorded(h, true.unit_ids, interval=10.0), inp, stim_input=stim, ridge=1e-3)
    w_rec, w_inp, tonic = net.rec.dense().detach().numpy(), net.inp.dense().detach().numpy(), net.tonic_inp.detach().numpy()
    has_rec, has_inp = (part.pattern.matrix(torch.ones(part.nnz)).to_dense().numpy() > 0 for part in (net.rec, net.inp))
    sign = net.rec.sign.numpy() if dale else np.zeros(24)
    low = np.r_[np.where(sign > 0, 0, -np.inf), np.zeros(3)]  # inputs are positive by default
    high = np.r_[np.where(sign < 0, 0, np.inf), np.full(3, np.inf)]
    active = 0
    with np.errstate(invalid="ignore"):
        for unit in range(24):
            partners = np.r_[has_rec[unit], has_inp[unit]]
            expected, n = written_out(net, h.numpy(), inp.numpy(), stim.numpy(), unit, 1e-3, (low, high, partners))
            assert found.samples[unit] == n
            np.testing.assert_allclose(np.r_[w_rec[unit], w_inp[unit]], expected[:-1], rtol=1e-6, atol=1e-7)
            assert tonic[unit] == pytest.approx(expected[-1] if unit < 8 else 0.3, rel=1e-6)
            active += (w_rec[unit][has_rec[unit]] == 0).sum()
    assert (active > 5) == dale


def _without_parallel(net):
    """Arguments of ``take`` that leave out the second of two synapses of a pair."""
    g = net.rec.table()
    keep = g.lengths.clone()
    slots = torch.arange(len(g.row))
    k = g.projections.index(("e", "f", "slow"))
    start = int(g.lengths[:k].sum())
    keep[k] = 0
    slots = torch.cat([slots[:start], slots[start + int(g.lengths[k]) :]])
    return slots, g.projections, keep, len(slots)


def test_partners_that_were_not_measured():
    true = build()
    inp, stim, _, h = run(true)
    net = forgotten(true)
    before = effective(net)
    seen = [k for k in range(24) if k not in (2, 9)]
    recorded = Recorded(h[..., seen], [true.unit_ids[k] for k in seen], interval=10.0)
    with pytest.raises(TrainingError, match=r"\d partners? of unit '\w\[\d\]' were not measured \(\d+ synapses of \d+ units in all\)"):
        regress_weights(net, recorded, inp, stim_input=stim)
    assert torch.equal(effective(net), before)
    found = regress_weights(net, recorded, inp, stim_input=stim, unrecorded="leave out")
    assert found.unit.tolist() == seen
    row, col = net.rec.pattern.row, net.rec.col
    hidden = torch.isin(col, torch.tensor([2, 9])) | torch.isin(row, torch.tensor([2, 9]))
    assert torch.equal(net.rec.csr_values()[hidden].detach(), before[: net.rec.nnz][hidden])
    assert (net.rec.csr_values()[~hidden].detach() != before[: net.rec.nnz][~hidden]).all()
    to_seen = torch.isin(col, torch.tensor([2, 9])) & ~torch.isin(row, torch.tensor([2, 9]))
    assert found.left_out.sum() == to_seen.sum()
    frame = found.to_pandas()
    assert list(frame.index) == [true.unit_ids[k] for k in seen]
    assert "22 units" in repr(found)


def test_what_cannot_be_fitted():
    net = build(delays=True)  # without delays, the two synapses of a pair depend on each other
    inp, stim, _, h = run(net)
    good = dict(values=h, channels=net.unit_ids, interval=10.0)

    def fit(net=net, inp=inp, stim=stim, ridge=1e-6, **change):
        return regress_weights(net, Recorded(**{**good, **change}), inp, stim_input=stim, ridge=ridge)

    with pytest.raises(TrainingError, match="samples are 20 ms apart and dt is 10 ms"):
        fit(interval=20.0)
    with pytest.raises(TrainingError, match="calcium"):
        fit(calcium=100.0)
    with pytest.raises(TrainingError, match="channel 'e' is the mean of 8 units"):
        fit(values=h[..., :1], channels=["e"])
    with pytest.raises(UnknownNameError, match="nothing is called 'z'"):
        fit(values=h[..., :1], channels=["z"])
    with pytest.raises(TrainingError, match="network has inputs"):
        fit(inp=None)
    with pytest.raises(ShapeError, match=r"inputs have shape \(6, 79, 3\)"):
        fit(inp=inp[:, 1:])
    with pytest.raises(ShapeError, match="stim_input have shape"):
        fit(stim=stim[..., :3])
    with pytest.raises(TrainingError, match="ridge is -1"):
        fit(ridge=-1)
    with pytest.raises(TrainingError, match="ridge is 'auto'"):
        fit(ridge="auto")
    with pytest.raises(TrainingError, match="inputs have NaN"):
        fit(inp=torch.full_like(inp, torch.nan))
    constant = h.clone()
    constant[..., 3] = 0.25
    with pytest.raises(TrainingError, match=r"unit '\w\[\d\]': its partner 'e\[3\]' is constant"):
        fit(values=constant, ridge=0)
    same = h.clone()
    same[..., 4] = same[..., 3]
    with pytest.raises(TrainingError, match=r"its partner 'e\[[34]\]' is a sum of the other partners"):
        fit(values=same, ridge=0)
    with pytest.raises(TrainingError, match="usable time steps for"):
        fit(values=h[:2, :7], inp=inp[:2], stim=stim[:2], ridge=0)
    gone = h.clone()
    gone[:, ::2, 5] = torch.nan
    with pytest.raises(TrainingError, match=r"unit 'e\[5\]' has no time step|has no time step at which"):
        fit(values=gone)
    with pytest.raises(TrainingError, match="x does not follow from h through the activation 'sin'"):
        regress_weights(build(activation=torch.sin), Recorded(**good), inp)
    for option, message in (
        (dict(share="source"), "share gains"), (dict(rank=2, sign="free"), "low rank"),
    ):
        g = sm.RegionGraph()
        g.add_region("a", 4)
        g.add_projection("a", "a", **option)
        with pytest.raises(TrainingError, match=message):
            regress_weights(sm.mRNN(g, "tanh", device="cpu"), Recorded(h[..., :4], [f"a[{k}]" for k in range(4)], interval=10.0))
    g = sm.RegionGraph()
    g.add_region("a", 4, learnable_bias="region")
    with pytest.raises(TrainingError, match="one learnt bias for all"):
        regress_weights(sm.mRNN(g, "tanh", device="cpu"), Recorded(h[..., :4], [f"a[{k}]" for k in range(4)], interval=10.0))
