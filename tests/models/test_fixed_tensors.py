"""Structure and constants are in the state dict, but not among the buffers that tools average, send or cast."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sparse_mrnn as sm
from sparse_mrnn.training import freeze, prune, unfreeze


def network(seed=0, **options):
    g = sm.RegionGraph()
    g.add_region("a", 12, base_firing=0.3, learnable_bias="region", learnable_tau=True, tau=30.0)
    g.add_region("b", 8, sign=None, init=0.1, learnable_init=True)
    g.add_input("cue", 2)
    g.add_projection("cue", "a")
    g.add_projection("a", "b", density=0.5, share="source", bounds=(0.1, 3.0))
    g.add_projection("b", "a", density=0.5, sign="neg")
    g.add_projection("a", "a", density=0.4, trainable=False)
    g.add_projection("b", "b", rank=2)
    return sm.mRNN(g, device="cpu", seed=seed, dt=10, **options)


def output(net, **options):
    generator = torch.Generator().manual_seed(0)
    inp = torch.rand(2, 6, 2, generator=generator).to(net.dtype)
    return net(inp, net.batched_initial_condition(2)[0], **options)[1]


def train(net, steps=3):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        output(net).square().mean().backward()
        optimizer.step()


def test_networks_have_no_buffers():
    assert list(network().buffers()) == []


@pytest.mark.parametrize("average", [{"multi_avg_fn": get_ema_multi_avg_fn(0.9999)}, {"avg_fn": lambda a, b, n: 0.9 * a + 0.1 * b}])
def test_the_average_of_a_network_that_never_changes_is_that_network(average):
    net = network()
    averaged = AveragedModel(net, use_buffers=True, **average)
    for _ in range(50):
        averaged.update_parameters(net)
    exact = "multi_avg_fn" in average  # 0.9 a + 0.1 a is a to rounding
    for name, tensor in net.state_dict().items():
        own = averaged.module.state_dict()[name]
        if exact or name not in dict(net.named_parameters()):
            assert torch.equal(own, tensor), name
    torch.testing.assert_close(output(averaged.module), output(net), rtol=0, atol=0 if exact else 1e-5)


def test_the_average_of_two_trained_networks_is_of_their_values_only():
    first, second = network(), network()
    train(first, 2), train(second, 5)
    averaged = AveragedModel(first, use_buffers=True)
    averaged.update_parameters(first), averaged.update_parameters(second)
    found, parameters = averaged.module.state_dict(), dict(first.named_parameters())
    for name, tensor in first.state_dict().items():
        expected = (tensor + second.state_dict()[name]) / 2 if name in parameters else tensor
        torch.testing.assert_close(found[name], expected, msg=name)
    train(averaged.module)  # it is a network like any other
    network(seed=9).load_state_dict({name.removeprefix("module."): t for name, t in averaged.state_dict().items() if name != "n_averaged"})


@pytest.mark.parametrize("assign", [False, True])
def test_a_network_of_another_seed_takes_the_whole_structure(assign):
    net = network()
    train(net)
    prune(net, 0.3, "b", "a")
    freeze(net, "a", "b")
    other = network(seed=7)
    state = net.state_dict()
    other.load_state_dict(state, assign=assign)
    assert torch.equal(output(other), output(net))
    assert other.rec.trained_projections == net.rec.trained_projections
    before = {name: t.clone() for name, t in state.items()}
    if not assign:  # nothing is shared with the state dict
        with torch.no_grad():
            other.rec.frozen.zero_()
        assert all(torch.equal(state[name], t) for name, t in before.items())
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    third = network(seed=8)
    third.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(output(third), output(net))
    assert torch.equal(output(copy.deepcopy(third)), output(net))


def test_indices_stay_whole_numbers_whatever_the_module_is_cast_to():
    net = network()
    expected = {name: t.dtype for name, t in net.state_dict().items() if not t.is_floating_point()}
    double = copy.deepcopy(net).type(torch.float64)
    assert {name: t.dtype for name, t in double.state_dict().items() if not t.is_floating_point()} == expected
    assert double.base_firing.dtype == double.rec.frozen.dtype == double.alpha_low.dtype == torch.float64
    torch.testing.assert_close(output(double).float(), output(net))
    assert torch.equal(output(double.float()), output(net))


def test_a_size_that_does_not_fit_is_named():
    state = network().state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for rec.sign"):
        network().load_state_dict({**state, "rec.sign": state["rec.sign"][1:]})
    with pytest.raises(RuntimeError, match='Missing key.*"base_alpha"'):
        network().load_state_dict({name: t for name, t in state.items() if name != "base_alpha"})
    with pytest.raises(RuntimeError, match='Unexpected key.*"rec.more"'):
        network().load_state_dict({**state, "rec.more": state["rec.sign"]})


def own_entries(weights):
    """The state of a matrix, without its projections of low rank, which torch loads for themselves."""
    return {name: tensor for name, tensor in weights.state_dict().items() if "low_rank" not in name}


def state_without(net, *names):
    return {name: tensor for name, tensor in net.state_dict().items() if name not in names}


@pytest.mark.parametrize("left_out", ["rec.perm", "inp.perm"])
def test_a_part_of_a_state_dict_leaves_the_order_of_the_synapses(left_out):
    net, before = network(), output(network())
    keep = ("rec.values", "rec.frozen", "rec.gains") if left_out == "rec.perm" else ("base_firing",)
    part = {name: tensor for name, tensor in net.state_dict().items() if name in keep}
    other = network()
    assert other.rec.perm is not None
    other.load_state_dict(part, strict=False)
    assert torch.equal(output(other), before)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [("rec.values", "rec.crow comes without rec.values"), ("rec.col", "rec.crow comes without rec.col"),
     ("rec.gains", "rec.frozen_gains comes without rec.gains")],
)  # fmt: skip
@pytest.mark.parametrize("strict", [True, False])
def test_parts_that_belong_together_are_loaded_together(left_out, message, strict):
    net, other = network(), network(seed=4)
    before = {name: tensor.clone() for name, tensor in own_entries(other.rec).items()}
    with pytest.raises(RuntimeError, match=message):
        other.load_state_dict(state_without(net, left_out), strict=strict)
    assert all(torch.equal(tensor, before[name]) for name, tensor in own_entries(other.rec).items())


def test_a_pruned_network_takes_the_state_dict_of_one_pruned_alike():
    nets = [network(seed) for seed in (0, 0, 5)]
    for net in nets:
        torch.nn.utils.prune.l1_unstructured(net.rec, "values", 0.5)
    with torch.no_grad():
        nets[0].rec.values_orig.mul_(0.7)
    nets[1].load_state_dict(nets[0].state_dict())
    assert torch.equal(output(nets[1]), output(nets[0]))
    before = {name: tensor.clone() for name, tensor in own_entries(nets[2].rec).items()}
    with pytest.raises(RuntimeError, match="size mismatch for rec.values_orig"):
        nets[2].load_state_dict(nets[0].state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in own_entries(nets[2].rec).items())


@pytest.mark.parametrize("name", ["col", "ptr", "order", "values", "sign", "gain_index", "perm"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_refused_state_dict_leaves_the_matrix_whole(name, strict):
    net, other = network(), network(seed=4)
    before = {n: t.clone() for n, t in own_entries(other.rec).items()}
    state = net.state_dict()
    state[f"rec.{name}"] = state[f"rec.{name}"][:-1]
    with pytest.raises(RuntimeError, match=f"size mismatch for rec.{name}|size mismatch for rec.col"):
        other.load_state_dict(state, strict=strict)
    assert all(torch.equal(tensor, before[n]) for n, tensor in own_entries(other.rec).items())
    state = net.state_dict()
    state["rec.order"] = torch.zeros_like(state["rec.order"])
    with pytest.raises(RuntimeError, match="order does not number the 3 projections"):
        other.load_state_dict(state, strict=strict)


def test_a_state_dict_says_which_projections_of_low_rank_are_frozen():
    net, other = network(), network(seed=4)
    freeze(net, "b", "b")
    other.load_state_dict(net.state_dict())
    assert not any(p.requires_grad for p in other.rec.low_rank.parameters())
    unfreeze(net, "b", "b")
    other.load_state_dict(net.state_dict())
    assert all(p.requires_grad for p in other.rec.low_rank.parameters())
    net.requires_grad_(False)  # of a teacher, say: no part of the state, as of any other parameter
    other.load_state_dict(net.state_dict())
    assert all(p.requires_grad for p in other.parameters())


def empty(case):
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_region("b", 2)
    nothing = np.zeros((2, 3))
    if case == "labels":
        g.add_projection("a", "b", weights=nothing, share=np.full((2, 3), "x"))
    elif case == "shared and frozen":
        g.add_projection("a", "b", density=0.0, share="projection")
        g.add_projection("a", "a", density=0.0, trainable=False)
    elif case == "frozen before":
        g.add_projection("a", "a", density=0.0, trainable=False)
        g.add_projection("a", "b", density=0.0, share="source", trainable=False)
        g.add_projection("b", "b", density=0.0, share="source")
        g.add_projection("b", "a", density=0.0)
    else:
        g.add_projection("a", "b", weights=nothing, share=np.full((2, 3), "x"), trainable=False)
        g.add_projection("a", "a", weights=np.zeros((3, 3)), trainable=False)
        g.add_projection("b", "b", density=1.0, share="target")
    return sm.mRNN(g, device="cpu", seed=0)


@pytest.mark.parametrize("case", ["labels", "shared and frozen", "frozen before", "of all kinds"])
def test_projections_without_synapses_are_saved_and_loaded(case, tmp_path):
    net = empty(case)
    net.save(tmp_path / "net")
    back = sm.load(tmp_path / "net", device="cpu")
    assert back.rec.projections == net.rec.projections
    assert back.rec.trained_projections == net.rec.trained_projections
    assert back.rec.gain_names == net.rec.gain_names
    back.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()
    empty(case).load_state_dict(back.state_dict())
