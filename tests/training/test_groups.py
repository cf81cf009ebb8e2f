"""Optimiser options by projection: as a plain optimiser trains that treats each projection apart."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import sparse_mrnn as sm
from helpers.common import values_of
from helpers.training_nets import build, loss
from sparse_mrnn.errors import TrainingError, UnknownNameError
from sparse_mrnn.training import freeze, parameter_groups, unfreeze

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.02, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"lr": 1e-2}, {"lr": 1e-3, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.01}, {"lr": 1e-3, "weight_decay": 0.2}),
}


class Apart:
    """The reference: an ordinary parameter per projection, updated from slices of the flat gradient."""

    def __init__(self, net, kind, common, special, chosen):
        self.net = net
        self.pieces = []
        groups = {False: [], True: []}
        for part in (net.rec, net.inp):
            for name in part.projections[: part.trainable_projections]:
                view = values_of(part, name)
                own = nn.Parameter(view.detach().clone())
                self.pieces.append((part, name, own))
                groups[name in chosen].append(own)
        groups[False].append(net.bias)
        self.optimizer = kind([{"params": groups[False]}, {"params": groups[True], **special}], **common)

    def step(self):
        for part, name, own in self.pieces:
            k = part.projections.index(name)
            own.grad = part.values.grad[part.ptr[k] : part.ptr[k + 1]].clone()
        self.optimizer.step()
        with torch.no_grad():
            for part, name, own in self.pieces:
                values_of(part, name).copy_(own)


CHOSEN = {("a", "b", "default"), ("a", "b", "second"), ("c", "a", "default"), ("i", "b", "default")}
KEYS = [("a", "b"), ("c", "a"), ("i", "b")]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("foreach", [False, True])
def test_equals_projections_apart(name, foreach):
    kind, common, special = OPTIMIZERS[name]
    net, other = build(), build()
    optimizer = kind(parameter_groups(net, dict.fromkeys(KEYS, special), **common), foreach=foreach)
    reference = Apart(other, kind, common, special, CHOSEN)
    start = net.rec.values.detach().clone()
    for _ in range(6):
        optimizer.zero_grad()
        other.zero_grad()
        loss(net).backward()
        loss(other).backward()
        optimizer.step()
        reference.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert (net.rec.values - start).abs().min() > 0


@pytest.mark.parametrize("clear", ["optimizer", "optimizer_zero", "net", "net_zero"])
def test_gradients_accumulate_and_are_cleared(clear):
    net, other = build(), build()
    optimizer = torch.optim.SGD(parameter_groups(net, {("a", "b"): {"lr": 0.0}}, lr=0.0))

    def zero():
        if clear.startswith("optimizer"):
            optimizer.zero_grad(set_to_none=not clear.endswith("zero"))
        else:
            net.zero_grad(set_to_none=not clear.endswith("zero"))

    for _ in range(3):
        zero()
        other.zero_grad()
        for scale in (1.0, 3.0):
            loss(net, scale).backward()
            loss(other, scale).backward()
        torch.testing.assert_close(net.rec.values.grad, other.rec.values.grad, rtol=0, atol=0)
        torch.testing.assert_close(net.inp.values.grad, other.inp.values.grad, rtol=0, atol=0)
        parts = [p.grad for group in optimizer.param_groups for p in group["params"]]
        assert sum(p.numel() for p in parts) == sum(p.numel() for p in net.parameters())
        storage = net.rec.values.grad.untyped_storage().data_ptr()
        assert sum(p.untyped_storage().data_ptr() == storage for p in parts) >= 3


def test_two_optimisers_each_clear_their_own_part():
    net, other = build(), build()
    rest, special = parameter_groups(net, {("a", "b"): {}}, lr=0.1)
    first, second = torch.optim.SGD([rest]), torch.optim.SGD([special])
    loss(net).backward()
    loss(other).backward()
    first.zero_grad()
    loss(net).backward()
    once = other.rec.values.grad
    expected = once.clone()
    for key in ("default", "second"):
        k = net.rec.projections.index(("a", "b", key))
        expected[net.rec.ptr[k] : net.rec.ptr[k + 1]] *= 2
    torch.testing.assert_close(net.rec.values.grad, expected)
    second.zero_grad()
    first.zero_grad()
    loss(net).backward()
    torch.testing.assert_close(net.rec.values.grad, once)


def test_clipping_the_net_clips_the_groups():
    net = build()
    optimizer = torch.optim.SGD(parameter_groups(net, {("a", "b"): {"lr": 1.0}}, lr=1.0))
    loss(net, 1e6).backward()
    before = [p.detach().clone() for p in net.parameters()]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    optimizer.step()
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, net.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_groups_by_parent_parameter_name_and_frozen():
    net = build(frozen=[("a", "a")])
    options = {("ab", "c"): {"lr": 2.0}, "bias": {"lr": 3.0}, ("a", "a"): {"lr": 4.0}}
    groups = parameter_groups(net, options, lr=1.0)
    by_name = {group["name"]: group for group in groups}
    rates = {name: group["lr"] for name, group in by_name.items()}
    assert rates == {"rest": 1.0, "ab -> c": 2.0, "bias": 3.0, "a -> a": 4.0}
    sizes = {name: sum(p.numel() for p in group["params"]) for name, group in by_name.items()}
    lengths = dict(zip(net.rec.projections, torch.diff(net.rec.ptr).tolist(), strict=True))
    assert sizes["ab -> c"] == sum(n for (s, t, _), n in lengths.items() if s in "ab" and t == "c")
    assert sizes["bias"] == 10
    assert sizes["a -> a"] == 0
    assert sum(sizes.values()) == sum(p.numel() for p in net.parameters())
    optimizer = torch.optim.SGD(groups)
    unfreeze(net, "a", "a", optimizer=optimizer)
    assert sum(p.numel() for p in by_name["a -> a"]["params"]) == lengths["a", "a", "default"]
    before = net.rec.projection_values(source="a", target="a").detach().clone()
    loss(net).backward()
    optimizer.step()
    k = net.rec.projections.index(("a", "a", "default"))
    gradient = net.rec.values.grad[net.rec.ptr[k] : net.rec.ptr[k + 1]]
    after = net.rec.projection_values(source="a", target="a").detach()
    torch.testing.assert_close(after, before - 4.0 * gradient)


def test_schedulers_and_optimiser_checkpoints_work():
    net, again = build(), build()
    options = {("a", "b"): {"lr": 1e-2}}
    optimizer = torch.optim.Adam(parameter_groups(net, options, lr=1e-3))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.00025, 0.0025])
    other = torch.optim.Adam(parameter_groups(again, options, lr=1e-3))
    again.load_state_dict(net.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch does not copy the moments
    for n, o in ((net, optimizer), (again, other)):
        o.zero_grad()
        loss(n).backward()
        o.step()
    torch.testing.assert_close(net.rec.values, again.rec.values)


def test_a_state_with_other_frozen_projections_loads_into_a_net_with_groups():
    net, again = build(), build(seed=1)
    freeze(net, "a", "b")
    freeze(net, "c", None)
    optimizer = torch.optim.SGD(parameter_groups(again, {("b", "b"): {"lr": 0.0}}, lr=0.1))
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(loss(again), loss(net))
    assert again.rec.values.numel() == net.rec.values.numel()
    before = [again.rec.projection_values(source=s, target=s).detach().clone() for s in "ba"]
    loss(again).backward()
    optimizer.step()
    assert torch.equal(again.rec.projection_values(source="b", target="b"), before[0])
    assert not torch.equal(again.rec.projection_values(source="a", target="a"), before[1])


def test_copies_pickles_and_conversions():
    net = build()
    optimizer = torch.optim.SGD(parameter_groups(net, {("a", "b"): {"lr": 0.1}}, lr=0.1))
    twin = copy.deepcopy(net)
    torch.save(net, io.BytesIO())
    loss(twin).backward()
    assert all(p.grad is None for group in optimizer.param_groups for p in group["params"])
    net.float()
    x0, h0 = net.batched_initial_condition(1)
    net(torch.ones(1, 3, 3), x0, h0)[1].sum().backward()
    before = net.rec.values.detach().clone()
    optimizer.step()
    torch.testing.assert_close(net.rec.values.detach(), before - 0.1 * net.rec.values.grad)


def test_a_later_call_replaces_the_groups():
    net = build()
    old = parameter_groups(net, {("a", "b"): {}}, lr=0.1)
    new = parameter_groups(net, {("b", "a"): {}}, lr=0.1)
    loss(net).backward()
    assert all(p.grad is not None for p in new[1]["params"])
    assert all(p.grad is None for p in old[1]["params"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({("a", "bb"): {}}, UnknownNameError, "unknown region 'bb'. Did you mean 'b'?"),
        ({("i", "c"): {}}, UnknownNameError, "no projection 'i' -> 'c'. Did you mean"),
        ({("a", "b", "secnd"): {}}, UnknownNameError, "with key 'secnd'. Did you mean 'a -> b (second)'?"),
        ({"biass": {}}, UnknownNameError, "unknown parameter 'biass'. Did you mean 'bias'?"),
        ({"rec.values": {}}, UnknownNameError, "unknown parameter 'rec.values'"),
        ({("ab", "c"): {}, ("a", "c"): {}}, TrainingError, "in the groups ('ab', 'c') and ('a', 'c')"),
        ({("a",): {}}, TrainingError, "('a',) is not a projection; use (source, target)"),
    ],
)
def test_bad_keys(options, error, message):
    with pytest.raises(error) as caught:
        parameter_groups(build(), options, lr=0.1)
    assert message in str(caught.value)


def new_data(net, groups):
    net.rec.values.data = net.rec.values.data.clone()


def one_vector(net, groups):
    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(vector.detach(), net.parameters())


def vector_of_groups(net, groups):
    parameters = [p for group in groups for p in group["params"]]
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(parameters).detach(), parameters)


def assigned(net, groups):
    state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)


@pytest.mark.parametrize("change", [new_data, one_vector, vector_of_groups, assigned])
def test_groups_train_on_after_the_weights_got_other_storage(change):
    trained = []
    for changed in (False, True):
        net = build()
        groups = parameter_groups(net, {("a", "b"): {"lr": 0.01}}, lr=0.1)
        optimizer = torch.optim.SGD(groups, momentum=0.9)
        for step in range(4):
            optimizer.zero_grad()
            value = loss(net)
            if changed and step == 2 and change is not assigned:  # between forward and backward
                change(net, groups)
            value.backward()
            optimizer.step()
            if changed and step == 0:
                change(net, groups)
        trained.append(nn.utils.parameters_to_vector(net.parameters()).detach())
    torch.testing.assert_close(*trained, rtol=0, atol=0)


def test_values_given_to_a_view_reach_the_network():
    net = build()
    groups = parameter_groups(net, {("a", "b"): {"lr": 0.01}}, lr=0.1)
    (view,) = (p for group in groups if group["name"] == "a -> b" for p in group["params"] if p.numel())
    view.data = torch.full_like(view, 0.25)
    assert (values_of(net.rec, ("a", "b", "default")) != 0.25).any()
    loss(net)
    assert (values_of(net.rec, ("a", "b", "default")) == 0.25).all()


@pytest.mark.parametrize("kind", ["shared", "low rank", "frozen"])
def test_groups_where_no_synapse_is_trained_by_itself(kind):
    options = {"shared": {"share": "projection"}, "low rank": {"rank": 2, "sign": "free"}, "frozen": {"trainable": False}}
    trained = []
    for grouped in (False, True):
        g = sm.RegionGraph()
        for name in "ab":
            g.add_region(name, 5, base_firing=0.3, learnable_bias=True)
        g.add_input("i", 3)
        g.add_projection("i", "a", trainable=False)
        for s, t in ("ab", "ba"):
            g.add_projection(s, t, **options[kind])
        net = sm.mRNN(g, "tanh", device="cpu", seed=0, dtype=torch.float64)
        chosen = {("a", "b"): {"lr": 0.1}, ("i", "a"): {"lr": 0.1}}
        parameters = parameter_groups(net, chosen, lr=0.1) if grouped else net.parameters()
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss(net).backward()
            optimizer.step()
        if kind == "frozen":
            unfreeze(net, "a", "b", optimizer=optimizer)
            if not grouped:  # the synapses are a parameter that the optimiser knows already
                assert net.rec.values.numel() == 25
            optimizer.zero_grad()
            loss(net).backward()
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*trained, rtol=0, atol=0)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_network_copied_with_its_optimiser_is_trained_by_the_copy(how):
    net = build()
    optimizer = torch.optim.Adam(parameter_groups(net, {key: {"lr": 0.1} for key in KEYS}), lr=0.01)

    def step(net, optimizer):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
        return net.rec.values.detach().clone()

    step(net, optimizer)
    other, copied = how((net, optimizer))
    for _ in range(2):
        assert torch.equal(step(net, optimizer), step(other, copied))
    kept = other.rec.values.detach().clone()
    step(net, optimizer)
    assert torch.equal(other.rec.values, kept)
