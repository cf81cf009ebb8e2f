"""Arithmetic on a state dict: what tools of averaging do to one, and what is refused when it is loaded."""

import copy

import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import sharing
from sparse_mrnn.errors import StateDictError


def network(seed=0):
    """A network whose numbers of synapses do not depend on the seed."""
    g = sm.RegionGraph()
    g.add_region("a", 8, base_firing=0.3)
    g.add_region("b", 6, sign="neg")
    g.add_projection("a", "a", fan_in=3)
    g.add_projection("a", "b", fan_in=2, trainable=False)
    g.add_projection("b", "a", fan_in=2)
    return sm.mRNN(g, "tanh", device="cpu", seed=seed)


def output(net):
    with torch.no_grad():
        return net(torch.ones(1, 5, net.total_num_inputs))[1]


@pytest.mark.parametrize("make", [network, sharing])
def test_an_average_within_the_tensors_of_a_state_dict_leaves_the_structure(make):
    net = make()
    average, expected = copy.deepcopy(net), output(net)
    structure = {name: t.clone() for name, t in net.rec.persistent_tensors().items()}
    for _ in range(20):  # as timm's ModelEmaV2 does
        with torch.no_grad():
            for own, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                own.copy_(0.999 * own + 0.001 * new)
    assert all(torch.equal(t, structure[name]) for name, t in average.rec.persistent_tensors().items())
    torch.testing.assert_close(output(average), expected)


def averaged(states, kind):
    """The mean entry by entry, but for the description, in one type or in that of each entry."""
    found = {}
    for name, first in states[0].items():
        mean = sum(state[name].double() for state in states) / len(states)
        found[name] = first if name == "_extra_state" else mean.to(first.dtype if kind is None else kind)
    return found


def test_structure_that_became_fractions_is_refused():
    with pytest.raises(RuntimeError, match=r"rec.col is float16 and not int32: the state dict was computed.*named_parameters"):
        network().load_state_dict(averaged([network().state_dict()], torch.float16))


def test_the_mean_of_two_structures_is_refused_whatever_its_types():
    states = [network(seed).state_dict() for seed in (0, 1)]
    net = network(5)
    before = output(net)
    with pytest.raises(StateDictError, match="damaged or computed: the synapses of rec .*AveragedModel"):
        net.load_state_dict(averaged(states, None))
    assert torch.equal(output(net), before)


def test_the_mean_of_one_structure_is_loaded():
    nets = network(), network()
    with torch.no_grad():
        nets[1].rec.values.mul_(3)
    net = network(5)
    net.load_state_dict(averaged([n.state_dict() for n in nets], None))
    torch.testing.assert_close(net.rec.values, 2 * nets[0].rec.values)
    assert torch.equal(net.rec.col, nets[0].rec.col)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_of_another_precision_is_loaded(dtype):
    state = sharing(dtype=torch.float64 if dtype == torch.float32 else torch.float32).state_dict()
    net = sharing(dtype=dtype)
    net.load_state_dict(state)
    assert net.rec.values.dtype == dtype
