"""Freezing and thawing: dynamics unchanged, optimiser state kept, the state dict says it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.common import values_of
from helpers.training_nets import build, loss
from sparse_mrnn.errors import OptimizerError, UnknownNameError
from sparse_mrnn.training import freeze, parameter_groups, prune, rewire, unfreeze

CALLS = [("a", "b", None), ("a", "b", "second"), ("ab", "ab", None), (None, "c", None), ("c", None, None)]
CALLS += [(None, None, None), ("i", None, None), ("j", "a", None)]


def step(net, optimizer):
    optimizer.zero_grad()
    value = loss(net)
    value.backward()
    optimizer.step()
    return value  # its graph is still alive at the next change


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(CALLS)), max_size=6), st.booleans())
@settings(max_examples=30, deadline=None)
def test_dynamics_stay_and_only_trainable_weights_learn(calls, groups):
    net = build()
    options = {("a", "b"): {"lr": 2e-2}, ("j", "a"): {"lr": 0.0}}
    parameters = parameter_groups(net, options, lr=1e-2) if groups else net.parameters()
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    frozen = set()
    alive = [step(net, optimizer)]
    for thaw, (source, target, key) in calls:
        before, w = loss(net).detach(), net.effective_W_rec.detach().to_dense()
        (unfreeze if thaw else freeze)(net, source, target, key, optimizer=optimizer)
        torch.testing.assert_close(loss(net).detach(), before, rtol=1e-12, atol=0)
        torch.testing.assert_close(net.effective_W_rec.detach().to_dense(), w, rtol=1e-15, atol=1e-15)
        weights = net.inp if source in ("i", "j") else net.rec
        members = {"ab": "ab", None: "abc"}
        named = {
            name for name in weights.projections
            if name[0] in members.get(source, source or "")
            and name[1] in members.get(target, target or "")
            and key in (None, name[2])
        }
        frozen = frozen - named if thaw else frozen | named
        both = (net.rec, net.inp)
        assert all(part.values.requires_grad == (part.values.numel() > 0) for part in both)
        assert {n for part in both for n in part.projections[part.trainable_projections :]} == frozen
        values = {name: values_of(part, name).detach().clone() for part in both for name in part.projections}
        alive.append(step(net, optimizer))
        for part in (net.rec, net.inp):
            for name in part.projections:
                still = name in frozen or (groups and name == ("j", "a", "default"))
                assert torch.equal(values_of(part, name), values[name]) == still, name


@pytest.mark.parametrize("groups", [False, True])
def test_moments_follow_the_synapses(groups):
    """Freezing and thawing one projection leaves the training of the others as it is."""
    net, other = build(), build()

    def make(n):
        options = {("b", "b"): {"lr": 2e-2}}
        return torch.optim.Adam(parameter_groups(n, options, lr=1e-2) if groups else n.parameters(), lr=1e-2)

    first, second = make(net), make(other)
    for _ in range(3):
        step(net, first)
        step(other, second)
    held = other.rec.projection_values(source="c", target="b").detach().clone()
    freeze(net, "c", "b", optimizer=first)
    for _ in range(3):
        step(net, first)
        step(other, second)
        with torch.no_grad():
            other.rec.projection_values(source="c", target="b").copy_(held)
    ours, theirs = (n.effective_W_rec.to_dense() for n in (net, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)
    unfreeze(net, "c", "b", optimizer=first)
    assert net.rec.projections == other.rec.projections
    moments = {k: v for p, s in first.state.items() for k, v in s.items() if p is net.rec.values or groups}
    assert moments
    step(net, first)
    assert not torch.equal(net.rec.projection_values(source="c", target="b"), held)


def test_state_dict_round_trip():
    net, fresh = build(), build(seed=7)
    freeze(net, "a", None)
    fresh.load_state_dict(net.state_dict())
    assert fresh.rec.projections == net.rec.projections
    assert fresh.rec.trainable_projections == net.rec.trainable_projections
    for name in net.rec.projections:
        assert torch.equal(values_of(fresh.rec, name), values_of(net.rec, name))
    torch.testing.assert_close(loss(fresh), loss(net))
    unfreeze(fresh, "a", None)
    torch.testing.assert_close(loss(fresh), loss(net))
    back = build(seed=8)
    back.load_state_dict(fresh.state_dict())
    torch.testing.assert_close(loss(back), loss(net))


def test_everything_frozen_still_runs_and_thaws():
    net = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    step(net, optimizer)
    freeze(net, None, None, optimizer=optimizer)
    assert net.rec.values.numel() == 0
    step(net, optimizer)
    unfreeze(net, None, None, optimizer=optimizer)
    step(net, optimizer)


def test_gradients_go_with_the_synapses():
    net = build()
    loss(net).backward()
    k = net.rec.projections.index(("b", "c", "default"))
    expected = net.rec.values.grad[net.rec.ptr[k] : net.rec.ptr[k + 1]].clone()
    freeze(net, "a", None)
    k = net.rec.projections.index(("b", "c", "default"))
    assert torch.equal(net.rec.values.grad[net.rec.ptr[k] : net.rec.ptr[k + 1]], expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda n, o: freeze(n, "a", "b", optimizer=o),
        lambda n, o: prune(n, 0.5, optimizer=o),
        lambda n, o: rewire(n, 0.5, optimizer=o, seed=0),
    ],
)
def test_lbfgs_is_refused_before_anything_changes(change):
    net = build()
    optimizer = torch.optim.LBFGS(net.parameters())

    def closure():
        optimizer.zero_grad()
        value = loss(net)
        value.backward()
        return value

    optimizer.step(closure)
    before = net.state_dict()
    with pytest.raises(OptimizerError, match="LBFGS keeps .* not one number per synapse"):
        change(net, optimizer)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_unknown_names():
    net = build()
    with pytest.raises(UnknownNameError, match="no projection 'c' -> 'c' with key 'x'"):
        freeze(net, "c", "c", "x")
    with pytest.raises(UnknownNameError, match="unknown region 'd'"):
        unfreeze(net, "d", "c")


def test_signs_of_a_projection_survive():
    g = sm.RegionGraph()
    g.add_region("a", 4, sign="neg")
    g.add_projection("a", "a", density=0.7, sign="pos", key="gap")
    g.add_projection("a", "a", density=0.7, sign="free", key="free", initializer=sm.Normal(1.0))
    g.add_projection("a", "a", density=0.7)
    net = sm.mRNN(g, device="cpu", seed=0)
    before = net.effective_W_rec.to_dense().detach()
    freeze(net, "a", "a", "gap")
    # Parallel synapses are added in another order.
    torch.testing.assert_close(net.effective_W_rec.to_dense(), before)
    rewire(net, 1.0, seed=0)
    table = net.rec.table()
    signs = torch.empty(net.rec.nnz)
    signs[net.rec.perm.long()] = net.rec.csr_signs().float()
    for k, name in enumerate(net.rec.projections):
        part = signs[net.rec.ptr[k] : net.rec.ptr[k + 1]]
        assert (part == {"gap": 1, "free": 0, "default": -1}[name[2]]).all()
    assert len(table.row) == net.rec.nnz
