"""Constraints, penalties, clipping by region, NaN detection, truncated backpropagation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.common import values_of
from helpers.networks import under_way
from helpers.training_nets import build, loss
from sparse_mrnn.errors import (
    DivergenceError,
    FinalizeError,
    ShapeError,
    SkippedWarning,
    TrainingError,
    UnknownNameError,
)
from sparse_mrnn.training import (
    activity_penalty,
    check_finite,
    clamp_weights_,
    clip_grad_by_region_,
    detect_nan,
    freeze,
    limit_norm_,
    rate_penalty,
    truncated,
    weight_penalty,
)

ALL = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop"]


# ---------------------------------------------------------------- constraints


@given(st.sampled_from(ALL), st.floats(1e-3, 10.0), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_dales_law_and_mask_hold_after_every_step(name, rate, seed):
    net = build(seed=seed)
    mask = net.W_rec_mask.to_dense() != 0
    sign = torch.tensor([1.0] * 5 + [-1.0] * 5 + [0.0] * 5, dtype=torch.float64)
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=rate)
    for _ in range(4):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
        w = net.effective_W_rec.detach().to_dense()
        assert (w[~mask] == 0).all()
        assert (w * sign >= 0).all()
        assert (net.effective_W_inp.detach().to_dense() >= 0).all()


def test_clamp_and_norm():
    net = build()
    with torch.no_grad():
        net.rec.values.mul_(10)
    other = net.rec.projection_values(source="c", target="c").detach().clone()
    clamp_weights_(net, 0.05, "ab", "c")
    assert net.get_projection("c", "ab").abs().max() <= 0.05
    assert torch.equal(net.rec.projection_values(source="c", target="c"), other)
    norms = limit_norm_(net, 1.0)
    assert norms["c", "c", "default"] == pytest.approx(other.norm().item())
    for name in net.rec.projections:
        assert values_of(net.rec, name).norm() <= 1.0 + 1e-12
    assert net.rec.projection_values(source="c", target="c").norm().item() == pytest.approx(1.0)
    scaled = net.rec.projection_values(source="c", target="c").detach()
    torch.testing.assert_close(scaled, other / other.norm())
    clamp_weights_(net, 0.0, "i")
    assert (net.inp.projection_values(source="i", target="a") == 0).all()
    with pytest.raises(TrainingError, match="high is -1"):
        clamp_weights_(net, -1)
    with pytest.raises(TrainingError, match="max_norm is nan"):
        limit_norm_(net, float("nan"))
    freeze(net, "c", "c")
    with pytest.raises(TrainingError, match="projection 'c' -> 'c' is frozen; call unfreeze first"):
        limit_norm_(net, 1.0, "c", "c")


def test_bounds_say_which_weights_they_leave_alone():
    g = sm.RegionGraph()
    g.add_region("a", 4, sign=None)
    g.add_region("b", 3, sign=None)
    g.add_projection("a", "a")
    g.add_projection("a", "b", share="projection", initializer=sm.Constant(0.5))
    g.add_projection("b", "a", rank=2, sign="free")
    g.add_projection("b", "b", share="projection", initializer=sm.Constant(0.5), trainable=False)
    net = sm.mRNN(g, device="cpu", seed=0)
    for call in (clamp_weights_, limit_norm_):
        with pytest.warns(SkippedWarning, match="'a' -> 'b', projection 'b' -> 'a' share gains or have low") as found:
            call(net, 0.01)
        assert found[0].filename == __file__
    assert net.get_projection("a", "a").norm() <= 0.01 + 1e-6
    clamp_weights_(net, 0.001, "a", "a")  # nothing is left alone, nor is there a warning
    with pytest.raises(TrainingError, match="has gains that its synapses share"):
        clamp_weights_(net, 1.0, "a", "b")


# ---------------------------------------------------------------- penalties


def test_penalties_equal_their_formulas():
    net = build()
    h = torch.randn(3, 6, 15, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(activity_penalty(net, h), h.square().mean())
    selected = h[..., [*range(10, 15), *range(5)]]
    torch.testing.assert_close(activity_penalty(net, h, "c", "a", norm="l1"), selected.abs().mean())
    rates = torch.arange(5.0, dtype=torch.float64)
    expected = (h.mean((0, 1))[:10] - 2).square().mean() + (h.mean((0, 1))[10:] - rates).square().mean()
    torch.testing.assert_close(rate_penalty(net, h, {"ab": 2.0, "c": rates}), expected)
    assert torch.autograd.gradcheck(lambda h: rate_penalty(net, h, {"ab": 2.0, "c": rates}), (h,))
    w = torch.cat([net.rec.projection_values(source="a", target="b", key=k) for k in ("default", "second")])
    torch.testing.assert_close(weight_penalty(net, "a", "b", norm="l1"), w.abs().mean())
    second = net.rec.projection_values(source="a", target="b", key="second")
    torch.testing.assert_close(weight_penalty(net, "a", "b", "second"), second.square().mean())
    torch.testing.assert_close(weight_penalty(net), net.rec.values.square().mean())
    from_j = net.inp.projection_values(source="j", target="a")
    torch.testing.assert_close(weight_penalty(net, "j"), from_j.square().mean())


def test_weight_penalty_reaches_trainable_weights_only_and_shrinks_them():
    net = build()
    freeze(net, "b", None)
    net.zero_grad()
    weight_penalty(net, "ab", None).backward()
    n = sum(net.rec.projection_values(source=s, target=t).numel() for s in "ab" for t in "abc")
    n += net.rec.projection_values(source="a", target="b", key="second").numel()
    start = net.rec.projections.index(("a", "a", "default"))
    part = slice(net.rec.ptr[start], net.rec.ptr[start + 1])
    torch.testing.assert_close(net.rec.values.grad[part], 2 * net.rec.values.detach()[part] / n)
    before = weight_penalty(net, norm="l1").item()
    torch.optim.SGD([net.rec.values], lr=0.1).step()
    assert weight_penalty(net, norm="l1").item() < before


def test_penalties_refuse_bad_arguments():
    net = build()
    h = torch.zeros(1, 1, 15)
    with pytest.raises(TrainingError, match="norm is 'l3'; use 'l1' or 'l2'"):
        activity_penalty(net, h, norm="l3")
    with pytest.raises(UnknownNameError, match="unknown region 'd'"):
        rate_penalty(net, h, {"d": 1.0})
    with pytest.raises(ShapeError, match="'a' has 5 units; its target has shape \\(4,\\)"):
        rate_penalty(net, h, {"a": torch.zeros(4)})


# ---------------------------------------------------------------- clipping


@pytest.mark.parametrize("by", ["target", "source"])
def test_clipping_by_region(by):
    net, other = build(), build()
    loss(net, 100.0).backward()
    loss(other, 100.0).backward()

    def squares(net):
        """Norms of the gradient by region, projection by projection."""
        sums = {}
        for part in (net.rec, net.inp):
            for k, (source, target, _) in enumerate(part.projections):
                g = part.values.grad[part.ptr[k] : part.ptr[k + 1]]
                region = target if by == "target" else source
                sums[region] = sums.get(region, 0) + g.square().sum().item()
        if by == "target":
            for region, part in zip("ab", net.bias.grad.split(5), strict=True):
                sums[region] += part.square().sum().item()
        return {name: value**0.5 for name, value in sums.items()}

    expected = squares(other)
    limit = sorted(expected.values())[len(expected) // 2]
    norms = clip_grad_by_region_(net, limit, by=by)
    assert norms == pytest.approx(expected)
    assert squares(net) == pytest.approx({name: min(value, limit) for name, value in expected.items()})
    net.zero_grad()
    assert set(clip_grad_by_region_(net, 1.0, by=by).values()) == {0.0}


def test_clipping_some_regions():
    net = build()
    loss(net, 100.0).backward()
    before = clip_grad_by_region_(net, float("inf"))
    assert clip_grad_by_region_(net, {"b": 0.0}) == pytest.approx(before)
    after = clip_grad_by_region_(net, float("inf"))
    assert after == pytest.approx({**before, "b": 0.0})
    with pytest.raises(UnknownNameError, match="unknown region 'bb'. Did you mean 'b'?"):
        clip_grad_by_region_(net, {"bb": 1.0})
    with pytest.raises(TrainingError, match="max_norm of 'a' is -1.0"):
        clip_grad_by_region_(net, -1)
    with pytest.raises(TrainingError, match="by is 'region'"):
        clip_grad_by_region_(net, 1.0, by="region")


# ---------------------------------------------------------------- NaN


def states(net, **where):
    x0, h0 = net.batched_initial_condition(2)
    inp = torch.zeros(2, 6, 3, dtype=torch.float64)
    for (trial, step, channel), value in where.get("inp", {}).items():
        inp[trial, step, channel] = value
    return net(inp, x0, h0)


def test_check_finite_names_step_and_region():
    net = build()
    h = torch.zeros(2, 6, 15)
    check_finite(net, h)
    check_finite(net, torch.full((2, 6, 15), 3e38))  # the sum overflows, the states do not
    h[1, 4, 7] = float("inf")
    h[1, 3, 12], h[0, 3, 6] = float("nan"), float("nan")
    where = "x is NaN at step 3 \\(40 ms\\) in region 'b' \\(1 of 5 units, trial 0, also in 'c'\\)"
    with pytest.raises(DivergenceError, match=where) as caught:
        check_finite(net, h, "x")
    assert (caught.value.step, caught.value.time, caught.value.region) == (3, 40, "b")
    assert isinstance(caught.value, ArithmeticError)
    net.batch_first = False
    with pytest.raises(DivergenceError, match="step 3"):
        check_finite(net, h.transpose(0, 1))
    with pytest.raises(ShapeError, match="15 units last"):
        check_finite(net, h[..., :3])


def test_detect_nan_in_forward():
    net = build()
    with detect_nan(net):
        states(net)
        with pytest.raises(DivergenceError, match="inp is not finite at step 2 in input 'j', channel 2"):
            states(net, inp={(0, 2, 2): float("nan")})
        with torch.no_grad():
            net.rec.projection_values(source="b", target="c")[1] = float("inf")
        what = "the weights of projection 'b' -> 'c' are not finite \\(1 of "
        with pytest.raises(DivergenceError, match=what) as caught:
            states(net)
        assert caught.value.projection == ("b", "c", "default")
        assert caught.value.region == "c"
    states(net)  # outside of the context nothing is checked
    g = sm.RegionGraph()
    g.add_region("a", 2)
    g.add_region("b", 2, base_firing=1.0)
    g.add_projection("b", "b", initializer=sm.Constant(1e30))
    g.add_projection("b", "a", initializer=sm.Constant(1.0))
    elman, where = sm.ElmanmRNN(g, device="cpu"), "h is infinite at step 2 \\(3 ms\\) in region 'b'"
    with detect_nan(elman), pytest.raises(DivergenceError, match=where) as caught:
        elman(torch.zeros(1, 5, 0), torch.zeros(1, 4))
    assert caught.value.time == 3.0


def test_detect_nan_in_backward():
    net = build()
    with detect_nan(net):
        x, _ = states(net)
        where = "respect to x is infinite at step 4 \\(50 ms\\) in region 'c'"
        with pytest.raises(DivergenceError, match=f"gradient of the loss with {where}"):
            (x[0, 4, 11] - x[0, 4, 11].detach()).sqrt().backward()
    g = sm.RegionGraph()
    g.add_region("a", 2, base_firing=1.0, learnable_bias=True)
    g.add_projection("a", "a", initializer=sm.Constant(1e15), key="strong")
    strong = sm.ElmanmRNN(g, "linear", device="cpu")
    with detect_nan(strong):
        h = strong(torch.zeros(1, 2, 0), torch.ones(1, 2) * 1e5)
        what = "the gradient of projection 'a' -> 'a' \\(key 'strong'\\) is not finite"
        with pytest.raises(DivergenceError, match=what) as caught:
            (h[:, 1] * 1e20).sum().backward()
    assert caught.value.projection == ("a", "a", "strong")
    with torch.no_grad():
        strong.bias[1] = float("nan")
    what = "the learnt bias is not finite in region 'a'"
    with detect_nan(strong), pytest.raises(DivergenceError, match=what):
        strong(torch.zeros(1, 2, 0), torch.ones(1, 2))


# ---------------------------------------------------------------- truncated


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("window", [1, 3, 7, 20])
def test_windows_are_the_run_in_one_piece(model, batch_first, window):
    net = build(model)
    net.batch_first = batch_first
    time = 1 if batch_first else 0
    inp = torch.randn(2, 7, 3, dtype=torch.float64)
    stim = torch.randn(2, 7, 15, dtype=torch.float64)
    inp, stim = (inp, stim) if batch_first else (inp.transpose(0, 1), stim.transpose(0, 1))
    start = net.batched_initial_condition(2)
    whole = net(inp, *(start if model is sm.mRNN else (start,)), stim_input=stim, noise=True)
    net.reset_noise()
    windows = list(truncated(net, inp, start, window, stim_input=stim, noise=True))
    assert len(windows) == -(-7 // window)
    if model is sm.mRNN:
        for k in (0, 1):
            torch.testing.assert_close(torch.cat([w[k] for w in windows], time), whole[k])
    else:
        torch.testing.assert_close(torch.cat(windows, time), whole)
    torch.testing.assert_close(
        next(truncated(net, inp, start[0 if model is sm.mRNN else 1], window)),
        next(truncated(net, inp, start, window)),
    )


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_windows_of_a_network_with_delays(model, window):
    net = under_way(model)
    inp, x0 = torch.randn(2, 16, 3, dtype=torch.float64), torch.randn(2, 12, dtype=torch.float64)
    whole = net(inp, x0, noise=True)
    net.reset_noise()
    windows = list(truncated(net, inp, x0, window, noise=True))
    assert len(windows) == -(-16 // window)
    if model is sm.mRNN:
        windows, whole = [h for _, h in windows], whole[1]
    torch.testing.assert_close(torch.cat(windows, 1), whole, rtol=1e-12, atol=1e-13)
    begun = net(inp[:, :5], x0, return_state=True)[-1]
    found = list(truncated(net, inp[:, 5:], begun, window))
    found = torch.cat([h if model is sm.ElmanmRNN else h[1] for h in found], 1)
    whole = net(inp, x0)
    torch.testing.assert_close(found, (whole if model is sm.ElmanmRNN else whole[1])[:, 5:], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_gradient_stays_in_its_window(model):
    net = build(model)
    inp = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    x0, h0 = (t.clone().requires_grad_() for t in net.batched_initial_condition(2))
    for k, out in enumerate(truncated(net, inp, (x0, h0), 3)):
        h = out if model is sm.ElmanmRNN else out[1]
        (gradient,) = torch.autograd.grad(h.sum(), inp, retain_graph=True)
        assert gradient[:, 3 * k : 3 * k + 3].abs().min() > 0
        gradient[:, 3 * k : 3 * k + 3] = 0
        assert (gradient == 0).all()
        reaches = torch.autograd.grad(h.sum(), h0, allow_unused=True)[0]
        assert (reaches is None) == (k > 0)


def test_a_step_between_windows_counts_in_the_next():
    net = build()
    inp = torch.zeros(1, 4, 3, dtype=torch.float64)
    start = net.batched_initial_condition(1)
    windows = truncated(net, inp, start, 2)
    next(windows)
    with torch.no_grad():
        net.bias.add_(5)
    _, changed = next(windows)
    assert not torch.allclose(changed, net(inp, *start)[1][:, 2:])


def test_truncated_refuses():
    net = build()
    x0, _ = net.batched_initial_condition(1)
    inp = torch.zeros(1, 4, 3, dtype=torch.float64)
    for window in (0, -1, 2.0, True):
        with pytest.raises(TrainingError, match="window is"):
            truncated(net, inp, x0, window)
    with pytest.raises(ShapeError, match="three dimensions"):
        truncated(net, inp[0], x0, 2)
    with pytest.raises(TrainingError, match="leave h0 out"):
        truncated(net, inp, net.initial_state(1), 2, h0=x0)
    with pytest.raises(TrainingError, match="Linear gives no state"):
        truncated(torch.nn.Linear(2, 2), inp, x0, 2)
    with pytest.raises(ShapeError, match="0 time steps"):
        next(truncated(net, inp[:, :0], x0, 2))


def test_a_net_that_is_not_finalised():
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    with pytest.raises(FinalizeError, match="call finalize_rec_connectivity"):
        weight_penalty(net)
