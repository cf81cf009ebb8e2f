"""Low-rank projections against a dense float64 reference: alone, parallel, delayed, from inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn import training
from sparse_mrnn.declaration.config import read_config, to_config
from sparse_mrnn.errors import GraphError, TrainingError, UnknownNameError, WeightError
from sparse_mrnn.models.delays import delay_groups


def declared(delay, sparse=True):
    graph = sm.RegionGraph()
    graph.add_region("a", 5, base_firing=0.3)
    graph.add_region("b", 3, sign=None)
    graph.add_input("i", 2, sign=None)
    if sparse:
        graph.add_projection("a", "b", density=0.5)
        graph.add_projection("i", "a", density=0.5)
    graph.add_projection("b", "a", rank=2, sign="free", delay=delay)
    graph.add_projection("b", "a", rank=1, sign="free", key="second")
    graph.add_projection("b", "b", rank=3, sign="free", trainable=False)
    graph.add_projection("i", "b", rank=1, sign="free", delay=delay)
    return graph


def dense_run(net, delay, inp, x0):
    """With dense matrices made from U and V; differentiable."""
    delayed, delayed_in = torch.zeros(8, 8, dtype=torch.float64), torch.zeros(8, 2, dtype=torch.float64)
    u, v = net.rec.low_rank.factors(source="b", target="a")
    delayed[:5, 5:] = u @ v.T
    u, v = net.inp.low_rank.factors(source="i", target="b")
    delayed_in[5:] = u @ v.T
    w, w_in = net.rec.dense() - delayed, net.inp.dense() - delayed_in
    steps = 1 if delay is None else round(delay / 10)
    x, past = x0, [torch.tanh(x0)] * steps
    u_past = [torch.zeros(len(inp), 2, dtype=torch.float64)] * (steps - 1)
    states = []
    for t in range(inp.shape[1]):
        u_past.append(inp[:, t])
        current = past[-1] @ w.T + past[-steps] @ delayed.T + inp[:, t] @ w_in.T + u_past[-steps] @ delayed_in.T
        x = x + 0.1 * (current + net.tonic_inp - x)
        past.append(torch.tanh(x))
        states.append(past[-1])
    return torch.stack(states, 1)


@given(st.sampled_from([None, 10.0, 30.0]), st.sampled_from(["csr", "dense", "hybrid"]), st.booleans(), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_states_and_gradients(delay, backend, sparse, steps):
    net = sm.mRNN(declared(delay, sparse), "tanh", device="cpu", dtype=torch.float64, seed=0, backend=backend)
    rng = np.random.default_rng(steps)
    inp, x0 = torch.from_numpy(rng.normal(size=(2, steps, 2))), torch.from_numpy(rng.normal(size=(2, 8)))
    target = torch.from_numpy(rng.normal(size=(2, steps, 8)))
    found, wanted = net(inp, x0)[1], dense_run(net, delay, inp, x0)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    learnt = [p for p in net.parameters() if p.requires_grad and p.numel()]
    mine, theirs = (torch.autograd.grad((h * target).sum(), learnt, allow_unused=True) for h in (found, wanted))
    for a, b in zip(mine, theirs, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(zero if a is None else a, torch.zeros_like(zero if a is None else a) if b is None else b)


@pytest.mark.parametrize("delay", [None, 30.0])
def test_frozen_synapses_beside_low_rank_cost_no_gradient(delay):
    net = sm.mRNN(declared(delay), "tanh", device="cpu", dtype=torch.float64, seed=0, backend="csr")
    training.freeze(net, "a", "b")
    training.freeze(net, "i", "a")
    inp, x0 = torch.ones(2, 4, 2, dtype=torch.float64), torch.ones(2, 8, dtype=torch.float64)
    factors = list(net.rec.low_rank.parameters())
    found, wanted = net(inp, x0)[1], dense_run(net, delay, inp, x0)
    mine, theirs = (torch.autograd.grad(h.square().sum(), [p for p in factors if p.requires_grad]) for h in (found, wanted))
    torch.testing.assert_close(mine, theirs)
    groups = delay_groups(net.rec, net.dt, net.rec.operand("csr").operator)
    operators = [getattr(group.operator, "matrix", group.operator) for group in groups]
    assert [operator.trained.numel() for operator in operators] == [0] * len(groups)


def test_gradcheck():
    net = sm.mRNN(declared(30.0), "tanh", device="cpu", dtype=torch.float64, seed=0)
    names = [name for name, _ in net.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in net.parameters()]
    inp, x0 = torch.rand(2, 4, 2, dtype=torch.float64), torch.rand(2, 8, dtype=torch.float64)

    def run(*values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (inp, x0))[1]

    assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize("delay", [None, 30.0])
def test_simulation_gains_and_saving(delay):
    net = sm.mRNN(declared(delay), "tanh", device="cpu", dtype=torch.float64, seed=0)
    x0 = net.batched_initial_condition(1)[0]
    wanted = net(torch.zeros(1, 6, 2, dtype=torch.float64), x0)[1][0].detach()
    np.testing.assert_allclose(sm.simulate(net, 60, seed=0)["h"].values.reshape(6, 8), wanted, rtol=1e-12)
    cut = sm.simulate(net, 60, seed=0, interventions=[sm.Gain("b", "a", 0.0, key="second")])["h"].values
    other = sm.mRNN(declared(delay), "tanh", device="cpu", dtype=torch.float64, seed=1)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.rec.low_rank.factors(source="b", target="a", key="second")[0].zero_()
    np.testing.assert_allclose(sm.simulate(other, 60, seed=0)["h"].values, cut, rtol=1e-12)


def test_queries_give_the_dense_matrix_or_refuse():
    net = sm.mRNN(declared(None), device="cpu", dtype=torch.float64, seed=0)
    u, v = net.rec.low_rank.factors(source="b", target="b")
    torch.testing.assert_close(net.get_projection("b", "b"), u @ v.T)
    torch.testing.assert_close(net.get_weight_subset("b"), net.rec.dense()[5:, 5:])
    assert net.get_projection("b", "a", sparse=True).shape == (3, 5)
    for call in (
        lambda: net.effective_W_rec,
        lambda: net.get_projection("a", "b", sparse=True),
        lambda: net.gen_w(net.region_dict),
    ):
        with pytest.raises(WeightError, match="'b' -> .* has low rank"):
            call()
    with pytest.raises(UnknownNameError, match="there are: projection 'b' -> 'a'"):
        net.rec.low_rank.factors(source="a", target="b")


def test_freezing_and_what_needs_synapses():
    net = sm.mRNN(declared(None), device="cpu", seed=0)
    training.freeze(net, "b", "a")
    assert not any(f.requires_grad for f in net.rec.low_rank.factors(source="b", target="a"))
    training.unfreeze(net, "b", "a", key="second")
    assert all(f.requires_grad for f in net.rec.low_rank.factors(source="b", target="a", key="second"))
    groups = training.parameter_groups(net, {("b", "a"): {"lr": 0.1}}, lr=1e-3)
    assert sum(p.numel() for p in groups[1]["params"]) == 2 * (5 + 3) + 1 * (5 + 3)
    for call in (training.prune, training.rewire):
        with pytest.raises(TrainingError, match="have low rank"):
            call(net, 0.5, "b", "a")


def test_configuration_and_refusals():
    config = to_config(declared(20.0))
    assert to_config(read_config(config)) == config
    graph = sm.RegionGraph()
    graph.add_region("a", 4)
    graph.add_region("b", 3, sign=None)
    for options, message in [
        ({"rank": 4, "sign": "free"}, "use 1 to 3"),
        ({"rank": 0, "sign": "free"}, "whole number of at least 1"),
        ({"rank": 1}, "Dale's law"),
        ({"rank": 1, "sign": "free", "density": 0.5}, "exclude each other"),
        ({"rank": 1, "sign": "free", "share": "projection"}, "no synapses"),
    ]:
        with pytest.raises(GraphError, match=message):
            graph.add_projection("a", "b", **options)


@pytest.mark.slow
def test_no_array_of_units_by_units():
    graph = sm.RegionGraph()
    graph.add_region("a", 200_000, sign=None)
    graph.add_projection("a", "a", rank=2)
    net = sm.mRNN(graph, "tanh", device="cpu", seed=0)
    h = net(torch.zeros(1, 2, 0), torch.ones(1, 200_000))[1]
    h.sum().backward()
    assert sum(p.numel() for p in net.parameters()) == 2 * 2 * 200_000
