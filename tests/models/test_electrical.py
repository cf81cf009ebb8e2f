"""Electrical synapses against a dense float64 reference, an ODE solved tightly, and their conservation laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import sparse_mrnn as sm
from sparse_mrnn.distributed.network import _check_shardable
from sparse_mrnn.errors import (
    ConfigError,
    GraphError,
    SparseMRNNError,
    StepSizeWarning,
    UnknownNameError,
    WeightError,
)
from sparse_mrnn.ops.electrical import ElectricalPairs


def symmetric(rng: np.random.Generator, n: int, scale: float = 0.2, density: float = 0.6) -> np.ndarray:
    upper = np.triu(scale * rng.random((n, n)) * (rng.random((n, n)) < density), 1)
    return upper + upper.T


def example(sizes=(5, 4), seed=0, **more) -> tuple[sm.RegionGraph, np.ndarray, np.ndarray]:
    """A graph, its dense conductances that conduct both ways, and those into rows that rectify."""
    rng = np.random.default_rng(seed)
    graph, ptr = sm.RegionGraph(), np.cumsum([0, *sizes])
    both, one_way = np.zeros((2, ptr[-1], ptr[-1]))
    for k, n in enumerate(sizes):
        graph.add_region(f"r{k}", n, tau=40.0 + 10 * k, base_firing=0.1 * k, **more)
    graph.add_input("u", 2)
    graph.add_projection("u", "r0")
    for a in range(len(sizes)):
        for b in range(len(sizes)):
            rows, cols = slice(ptr[b], ptr[b + 1]), slice(ptr[a], ptr[a + 1])
            ends = f"r{a}", f"r{b}"
            graph.add_projection(*ends)
            if a <= b:
                w = symmetric(rng, sizes[a]) if a == b else 0.2 * rng.random((sizes[b], sizes[a]))
                graph.add_projection(*ends, weights=w, kind="electrical", key="gap")
                both[rows, cols] += w
                if a != b:
                    both[cols, rows] += w.T
            w = 0.2 * rng.random((sizes[b], sizes[a]))
            w = w * (1 - np.eye(len(w))) if a == b else w
            graph.add_projection(*ends, weights=w, kind="electrical", key="one way", rectifies=True)
            one_way[rows, cols] += w
    return graph, both, one_way


def exchanged(x: torch.Tensor, both: torch.Tensor, one_way: torch.Tensor) -> torch.Tensor:
    """Current into each unit of one state, from dense matrices."""
    difference = x[None, :] - x[:, None]  # x_j - x_i
    flow = one_way * difference.clamp(min=0)
    return (both * difference).sum(1) + flow.sum(1) - flow.sum(0)


def dense_run(net, u, x, both, one_way):
    """States and activity over time of one trial, in plain torch."""
    w, w_in = (m.detach().to_dense() for m in (net.effective_W_rec, net.effective_W_inp))
    alpha, bias = net.unit_alpha().expand(len(x), 1)[:, 0], net.tonic_inp
    h, xs = torch.tanh(x), []
    for now in u:
        x = x + alpha * (-x + w @ h + w_in @ now + bias + exchanged(x, both, one_way))
        h = torch.tanh(x)
        xs.append(x)
    return torch.stack(xs)


@pytest.fixture(scope="module")
def built():
    graph, both, one_way = example()
    net = sm.mRNN(graph, "tanh", seed=0, device="cpu", dtype=torch.float64)
    return net, torch.from_numpy(both), torch.from_numpy(one_way)


@pytest.mark.parametrize("checkpoint", [None, 3])
def test_values_and_gradients_are_those_of_a_dense_network(built, checkpoint):
    net, both, one_way = built
    rng = torch.Generator().manual_seed(0)
    u = torch.randn(3, 7, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    x0 = torch.randn(3, 9, generator=rng, dtype=torch.float64, requires_grad=True)
    x, _ = net(u, x0, checkpoint_steps=checkpoint)
    matrices = both.clone().requires_grad_(), one_way.clone().requires_grad_()
    expected = torch.stack([dense_run(net, u[k], x0[k], *matrices) for k in range(3)])
    torch.testing.assert_close(x, expected)
    weight = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    found = torch.autograd.grad((x * weight).sum(), [u, x0, *net.electrical.conductances])
    wanted = torch.autograd.grad((expected * weight).sum(), [u, x0, *matrices])
    torch.testing.assert_close(found[:2], wanted[:2])
    pairs, ptr = net.electrical, net.electrical.ptr.tolist()
    for k, name in enumerate(pairs.names):
        i, j = (t[ptr[k] : ptr[k + 1]] for t in (pairs.rows, pairs.cols))
        grad = wanted[3][i, j] if name[2] == "one way" else wanted[2][i, j] + wanted[2][j, i]
        torch.testing.assert_close(found[2 + k], grad)


def test_gradients_of_the_recurrence_pass_gradcheck():
    graph, _, _ = example((3, 2))
    net = sm.mRNN(graph, "tanh", seed=0, device="cpu", dtype=torch.float64)
    names = [f"electrical.conductances.{k}" for k in range(len(net.electrical))]
    u, x0 = torch.zeros(2, 3, 2, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def run(x0, *values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (u, x0))[0]

    values = [p.detach().clone().requires_grad_() for p in net.electrical.conductances]
    assert torch.autograd.gradcheck(run, (x0.requires_grad_(), *values))


def test_a_step_a_call_is_forward(built):
    net, _, _ = built
    u = torch.randn(2, 5, 2, dtype=torch.float64)
    x, _ = net(u)
    state = net.initial_state(2)
    for t in range(5):
        state = net.step(u[:, t], state)
    torch.testing.assert_close(state.x, x[:, -1])
    wanted = torch.autograd.grad(x[:, -1].square().sum(), list(net.electrical.conductances))
    found = torch.autograd.grad(state.x.square().sum(), list(net.electrical.conductances))
    torch.testing.assert_close(found, wanted)


def test_forward_and_simulation_agree_with_an_ode_solved_tightly():
    graph, both, one_way = example()
    net = sm.mRNN(graph, "tanh", seed=0, device="cpu", dtype=torch.float64, dt=0.01)
    matrices, w = [torch.from_numpy(m) for m in (both, one_way)], net.effective_W_rec.detach().to_dense()
    tau, bias = net.unit_time_constants()[:, 0], net.tonic_inp.detach()
    x0 = np.linspace(-1, 1, 9)

    def velocity(_, x):
        x = torch.from_numpy(x)
        return ((-x + w @ torch.tanh(x) + bias + exchanged(x, *matrices)) / tau).numpy()

    exact = solve_ivp(velocity, (0, 20), x0, rtol=1e-10, atol=1e-12).y[:, -1]
    start = torch.from_numpy(x0)[None]
    x, _ = net(torch.zeros(1, 2000, 2, dtype=torch.float64), start)
    np.testing.assert_allclose(x[0, -1].detach().numpy(), exact, atol=2e-4)
    record = sm.Record(variables=["x"])
    run = sm.simulate(net, 20.0, x0=start, record=record, progress=False)
    np.testing.assert_allclose(run.x.values[0, -1], x[0, -1].detach().numpy(), atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    units=st.integers(1, 9), pairs=st.integers(0, 20), batch=st.integers(1, 19), rectify=st.booleans(),
    kind=st.sampled_from([torch.float32, torch.float64]), seed=st.integers(0, 99),
)  # fmt: skip
def test_compiled_and_plain_currents_agree_and_conserve(units, pairs, batch, rectify, kind, seed):
    rng = torch.Generator().manual_seed(seed)
    i, j = torch.randint(units, (2, pairs), generator=rng)
    i, j = i[i != j], j[i != j]
    flags = (torch.rand(len(i), generator=rng) < 0.5) & rectify
    found = ElectricalPairs(units, i, j, flags)
    x = torch.randn(units, batch, generator=rng, dtype=kind).requires_grad_()
    g = torch.rand(len(i), generator=rng, dtype=kind).requires_grad_()
    expected, weight = found.plain_current(x, g), torch.randn(units, batch, generator=rng, dtype=kind)
    of_x, of_g = torch.autograd.grad((expected * weight).sum(), (x, g))
    given_x, given_g = x.detach(), g.detach()
    current = found.bind(given_g).current(given_x)
    torch.testing.assert_close(current, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(current.sum(0), torch.zeros(batch, dtype=kind), atol=1e-5, rtol=0)
    for compiled in (True, False):
        exchange = found.bind(given_g)
        if not compiled:
            exchange.kernel, exchange.rest, exchange.rest_conductance = None, found, given_g
        grad_x = torch.zeros_like(given_x)
        exchange.pull_back(given_x, weight, grad_x)
        exchange.gather(given_x, weight)
        torch.testing.assert_close((grad_x, exchange.gradient()), (of_x, of_g), atol=1e-4, rtol=1e-4)
    equal = torch.full((units, batch), 0.1, dtype=kind)
    assert not found.bind(given_g).current(equal).any()


def test_units_in_equal_states_exchange_nothing_over_time():
    graph = sm.RegionGraph()
    graph.add_region("a", 4, init=0.3)
    w = np.ones((4, 4)) - np.eye(4)
    graph.add_projection("a", "a", weights=w, kind="electrical")
    net = sm.mRNN(graph, "tanh", device="cpu")
    alone = sm.RegionGraph()
    alone.add_region("a", 4, init=0.3)
    x, _ = net(torch.zeros(1, 20, 0))
    assert torch.equal(x, sm.mRNN(alone, "tanh", device="cpu")(torch.zeros(1, 20, 0))[0])


def test_conductances_stay_at_zero_or_above_whatever_an_optimiser_does():
    graph, _, _ = example()
    net = sm.mRNN(graph, "tanh", seed=0, device="cpu")
    gap = net.electrical.conductances[0]
    optimizer = torch.optim.SGD([gap], lr=1.0)
    gap.sum().backward()  # as if the loss fell with the conductances
    optimizer.step()
    assert gap.max() < 0 <= net.electrical.values().min()
    run = [p.detach().clone() for p in (gap, gap.abs())]
    with torch.no_grad():
        found = []
        for values in run:
            gap.copy_(values)
            found.append(net(torch.ones(1, 3, 2))[0])
    assert torch.equal(*found)


def test_saved_checkpointed_and_exported_networks_compute_the_same(built, tmp_path):
    net, _, _ = built
    u = torch.randn(2, 4, 2, dtype=torch.float64)
    expected, _ = net(u)
    net.save(tmp_path / "net.safetensors")
    loaded = sm.load(tmp_path / "net.safetensors", device="cpu")
    assert torch.equal(loaded(u)[0], expected)
    assert [p.rectifies for p in loaded.graph.electrical_projections()] == [
        p.rectifies for p in net.graph.electrical_projections()
    ]
    other = sm.mRNN(example(seed=1)[0], "tanh", seed=1, device="cpu", dtype=torch.float64)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(u)[0], expected)
    again = sm.mRNN(net.to_graph(), "tanh", device="cpu", dtype=torch.float64)
    torch.testing.assert_close(again(u)[0], expected)
    graph = sm.read_config(sm.to_config(net))
    torch.testing.assert_close(sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64)(u)[0], expected)
    sm.interop.write_sonata(net, tmp_path / "sonata")
    graph = sm.interop.read_sonata(tmp_path / "sonata")[0]
    torch.testing.assert_close(sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64)(u)[0], expected)
    x, h = net.batched_initial_condition(2)
    stepped = sm.interop.step_module(net)(x, h, u[:, 0])
    torch.testing.assert_close(stepped[0], expected[:, 0])


def test_a_state_with_pairs_outside_their_regions_is_refused(built):
    net, _, _ = built
    state = net.state_dict()
    state["electrical.rows"] = state["electrical.rows"] + 1
    with pytest.raises(RuntimeError, match="rows and cols have a pair that is not one of projection 'r0'"):
        net.load_state_dict(state)


def test_names_of_regions_decide_and_not_their_order():
    """Regions declared in another order give the same currents to the same units."""
    w = np.array([[0.1, 0.3, 0.0]])
    runs = []
    for order in (("a", "b"), ("b", "a")):
        graph = sm.RegionGraph()
        for name in order:
            graph.add_region(name, {"a": 3, "b": 1}[name], init={"a": [1.0, 2.0, 3.0], "b": -1.0}[name])
        graph.add_projection("a", "b", weights=w, kind="electrical")
        net = sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64)
        x, _ = net(torch.zeros(1, 5, 0, dtype=torch.float64))
        runs.append(torch.cat([x[..., net.layout().indices(name)] for name in "ab"], -1))
    torch.testing.assert_close(*runs)


def test_lesions_silence_electrical_synapses_and_gains_scale_them(built):
    net, *matrices = built
    x0 = torch.linspace(-1, 1, 9, dtype=torch.float64)[None]
    record = sm.Record(variables=["x"])
    lesion = sm.Lesion("r1", start=0)
    found = sm.simulate(net, steps=4, x0=x0, interventions=lesion, record=record, progress=False)
    gains = [sm.Gain("r0", "r1", 0.0), sm.Gain("r1", "r0", 0.0)]
    cut = sm.simulate(net, steps=4, x0=x0, interventions=gains, record=record, progress=False)
    np.testing.assert_allclose(found.x.values[..., :5], cut.x.values[..., :5], atol=1e-12)
    expected = [m.clone() for m in matrices]
    for m in expected:
        m[:5, 5:], m[5:, :5] = 0, 0
    w = net.effective_W_rec.detach().to_dense().clone()
    w[:5, 5:] = 0
    x, alpha = x0[0], net.unit_alpha().detach()[:, 0]
    for _ in range(4):
        x = x + alpha * (-x + w @ torch.tanh(x) + net.tonic_inp.detach() + exchanged(x, *expected))
    np.testing.assert_allclose(found.x.values[0, -1, :5], x[:5].numpy(), atol=1e-12)


def test_freezing_and_groups_reach_conductances(built):
    graph, _, _ = example()
    net = sm.mRNN(graph, "tanh", seed=0, device="cpu")
    sm.training.freeze(net, "r1", "r0", "gap")  # declared from r0 to r1
    trained = dict(zip(net.electrical.names, net.electrical.conductances, strict=True))
    assert not trained["r0", "r1", "gap"].requires_grad
    assert trained["r0", "r0", "gap"].requires_grad
    loaded = sm.mRNN(graph, "tanh", seed=0, device="cpu")
    loaded.load_state_dict(net.state_dict())
    assert [p.requires_grad for p in loaded.electrical.conductances] == [
        p.requires_grad for p in net.electrical.conductances
    ]
    sm.training.unfreeze(net, None, None)
    assert all(p.requires_grad for p in net.electrical.conductances)
    groups = sm.training.parameter_groups(net, {("r0", "r0", "gap"): {"lr": 0.1}}, lr=1.0)
    assert groups[1]["params"][0] is trained["r0", "r0", "gap"]


def test_a_whole_matrix_is_divided_among_pairs_of_regions():
    rng = np.random.default_rng(0)
    w = symmetric(rng, 6, density=1.0)
    graph = sm.RegionGraph()
    for name, n in (("a", 2), ("b", 3), ("c", 1)):
        graph.add_region(name, n)
    graph.add_projections(w, key="gap", kind="electrical")
    assert all(p.kind == "electrical" for p in graph.projections())
    net = sm.mRNN(graph, device="cpu", dtype=torch.float64)
    np.testing.assert_allclose(net.electrical.matrix().to_dense().numpy(), w)
    gap = net.electrical.projection_conductances(source="a", target="b", key="gap")
    np.testing.assert_allclose(gap.detach().numpy(), w[2:5, :2].ravel())
    with pytest.raises(UnknownNameError, match="no electrical projection 'b' -> 'a' \\(key 'gap'\\)"):
        net.electrical.projection_conductances(source="b", target="a", key="gap")


ONES = np.ones((2, 2)) - np.eye(2)
BAD = [
    (dict(weights=-ONES), WeightError, "a conductance is never negative, and there is -1 between unit 1 and"),
    (dict(weights=np.array([[0, 1.0], [2.0, 0]])), WeightError, "not symmetric: 1 from unit 1 to unit 0"),
    (dict(weights=np.ones((2, 2))), WeightError, "unit 0 has an electrical synapse with itself"),
    (dict(weights=ONES, delay=5.0), GraphError, "an electrical current has no delay; leave out delay"),
    (dict(rank=1), GraphError, "electrical synapses have no rank"),
    (dict(weights=ONES, sign="neg"), GraphError, "sign is 'neg', and conductances are never negative"),
    (dict(density=0.5), GraphError, "conductances are explicit; give weights="),
    (dict(weights=ONES, share="source"), GraphError, "conductances are explicit"),
    (dict(weights=ONES, kind="chemical", rectifies=True), GraphError, "rectifies is for electrical synapses"),
    (dict(weights=ONES, kind="gap junction"), GraphError, "kind"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_declarations_are_refused_by_name(settings, error, message):
    graph = sm.RegionGraph()
    graph.add_region("a", 2)
    with pytest.raises(error, match=f"projection 'a' -> 'a'.*{message}"):
        graph.add_projection("a", "a", **{"kind": "electrical", **settings})
    assert not list(graph.projections())


def test_electrical_projections_need_states_at_both_ends():
    graph = sm.RegionGraph()
    graph.add_region("a", 2)
    graph.add_region("b", 2)
    graph.add_input("u", 2)
    with pytest.raises(GraphError, match="projection 'u' -> 'a'.*'u' is an input, which has no state"):
        graph.add_projection("u", "a", weights=ONES, kind="electrical")
    graph.add_projection("a", "b", weights=ONES, kind="electrical")
    with pytest.raises(GraphError, match="projection 'a' -> 'b' is this projection already"):
        graph.add_projection("b", "a", weights=ONES, kind="electrical")
    with pytest.raises(ConfigError, match="projection 'a' -> 'b' is electrical.*needs the leaky model"):
        sm.ElmanmRNN(graph, device="cpu")


def test_what_cannot_hold_electrical_synapses_says_so(built):
    net, _, _ = built
    refused = [
        lambda: sm.interop.to_mrnntorch(net),
        lambda: net.to_networkx(),
        lambda: sm.analysis.currents(net, torch.zeros(1, 3, 9)),
    ]
    for call in refused:
        with pytest.raises(SparseMRNNError, match="electrical"):
            call()
    assert net.to_networkx("regions").edges["r0", "r1", "gap"]["kind"] == "electrical"


def test_conductances_too_large_for_the_time_step_warn():
    graph = sm.RegionGraph()
    graph.add_region("a", 2)
    graph.add_projection("a", "a", weights=20 * ONES, kind="electrical")
    with pytest.warns(StepSizeWarning, match="conductances of unit 'a\\[0\\]' add up to 20"):
        sm.mRNN(graph, device="cpu")


def test_a_sonata_folder_with_one_direction_missing_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    graph = sm.RegionGraph()
    graph.add_region("a", 2)
    graph.add_projection("a", "a", weights=ONES, kind="electrical")
    sm.interop.write_sonata(graph, tmp_path / "net")
    with h5py.File(tmp_path / "net" / "edges.h5", "r+") as file:
        file["edges/units_to_units/0/syn_weight"][0] = 5.0
    with pytest.raises(sm.errors.ConnectomeError, match="edges.h5: projection 'a' -> 'a'.*not symmetric"):
        sm.interop.read_sonata(tmp_path / "net")


def test_ranks_refuse_electrical_projections_by_name():
    graph = sm.RegionGraph()
    graph.add_region("a", 2)
    graph.add_projection("a", "a", weights=ONES, kind="electrical")
    with pytest.raises(ConfigError, match="projection 'a' -> 'a' is electrical: .* not divided among ranks yet"):
        _check_shardable(graph, {})
    with pytest.raises(ConfigError, match="projection 'a' -> 'a' is electrical.*needs the leaky model"):
        sm.LIF(graph, device="cpu")
