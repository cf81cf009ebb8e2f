"""Shared gains, learnt biases and initial states, and bounds, against a dense float64 reference."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn import training
from sparse_mrnn.declaration.config import read_config, to_config
from sparse_mrnn.errors import GraphError, TrainingError, UnknownNameError
from sparse_mrnn.ops.products import hybrid

KINDS = ["projection", "source", "target", "labels", "common", None, "fixed", "fixed gain"]
SIGNS = {"a": 1, "b": -1, "c": 0}
SIZES = {"a": 4, "b": 3, "c": 2}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Let the hybrid backend have dense blocks in small nets."""
    monkeypatch.setattr(hybrid, "BLOCK_ENTRIES", 1)


def base_weights(rng, target, source, density):
    """Counts with the sign of the source, or any where it has none."""
    counts = rng.integers(1, 5, (SIZES[target], SIZES[source])) * (rng.random((SIZES[target], SIZES[source])) < density)
    sign = SIGNS[source] or rng.choice([-1, 1], (SIZES[target], SIZES[source]))
    return counts * sign


@st.composite
def shared_nets(draw):
    """A graph with every kind of sharing mixed, and what each projection was declared with."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph = sm.RegionGraph()
    for name, n in SIZES.items():
        how = {"learnable_bias": draw(st.sampled_from([False, True, "unit", "region"]))}
        how["learnable_init"] = draw(st.sampled_from([False, True, "region"]))
        sign = {1: "pos", -1: "neg", 0: None}[SIGNS[name]]
        graph.add_region(name, n, sign=sign, base_firing=0.2, init=0.1, learnable_tau=draw(st.booleans()), **how)
    graph.add_input("i", 2)
    graph.add_projection("i", "a", weights=np.ones((4, 2)), share="target", gain=0.7)
    declared = {}
    for k in range(draw(st.integers(1, 6))):
        target, source = (draw(st.sampled_from("abc")) for _ in range(2))
        kind = draw(st.sampled_from(KINDS))
        kind = kind if kind != "common" or source == "a" else "source"  # one sign under a name
        weights = base_weights(rng, target, source, draw(st.sampled_from([0.0, 0.5, 1.0])))
        options = {"delay": draw(st.sampled_from([None, None, 20.0]))}
        if kind not in (None, "fixed"):
            labels = rng.choice(["x", "y"], np.count_nonzero(weights))
            options["share"] = labels if kind == "labels" else "projection" if kind == "fixed gain" else kind
            bounds = [(None, None)] if kind == "common" else [(None, None), (0.1, None), (None, 0.5), (0.1, 0.9)]
            options |= {"gain": 0.3, "bounds": draw(st.sampled_from(bounds))}
        options["trainable"] = kind not in ("fixed", "fixed gain")
        graph.add_projection(source, target, key=f"k{k}", weights=weights, **options)
        declared[source, target, f"k{k}"] = (kind, weights, options)
    return graph, declared


def dense_run(net, declared, inp, x0):
    """The equations with dense matrices made from the declaration and the parameters; differentiable."""
    ptr = dict(zip("abc", net.layout().ptr.tolist(), strict=False))
    alpha, n = net.unit_alpha(), net.layout().n
    by_delay = {1: torch.zeros(n, n, dtype=torch.float64), 2: torch.zeros(n, n, dtype=torch.float64)}
    for (source, target, key), (kind, weights, options) in declared.items():
        base = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        if kind in (None, "fixed"):
            stored = net.rec.projection_values(source=source, target=target, key=key)
            matrix = torch.zeros_like(base).masked_scatter(base != 0, stored)
        else:
            gains = net.rec.projection_gains(source=source, target=target, key=key)
            index = {"source": np.arange(SIZES[source])[None, :], "target": np.arange(SIZES[target])[:, None]}
            of = np.broadcast_to(index.get(kind, 0), base.shape).copy()
            if kind == "labels" and len(options["share"]):
                of[base.numpy() != 0] = np.unique(options["share"], return_inverse=True)[1]
            matrix = base * (gains[torch.from_numpy(of)] if len(gains) else 0)
        if SIGNS[source]:
            matrix = matrix.abs() * SIGNS[source]
        rows, cols = slice(ptr[target], ptr[target] + SIZES[target]), slice(ptr[source], ptr[source] + SIZES[source])
        whole = torch.zeros(n, n, dtype=torch.float64)
        whole[rows, cols] = matrix
        by_delay[2 if options["delay"] else 1] = by_delay[2 if options["delay"] else 1] + whole
    w_inp = torch.zeros(n, 2, dtype=torch.float64)
    w_inp[:4] = net.inp.projection_gains(source="i", target="a").abs()[:, None]
    x, past = x0, [torch.tanh(x0), torch.tanh(x0)]
    states = []
    for t in range(inp.shape[1]):
        current = past[-1] @ by_delay[1].T + past[-2] @ by_delay[2].T + inp[:, t] @ w_inp.T + net.tonic_inp
        x = x + alpha[:, 0] * (current - x)
        past.append(torch.tanh(x))
        states.append(past[-1])
    return torch.stack(states, 1)


def gradients(net, value):
    net.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@given(case=shared_nets(), backend=st.sampled_from(["csr", "dense", "hybrid"]))
@settings(max_examples=60, deadline=None)
def test_states_and_gradients(case, backend):
    graph, declared = case
    net = sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64, seed=0, backend=backend)
    inp = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 4, 2)))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    target = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 4, 9)))
    x0 = net.batched_initial_condition(2)[0]
    found = net(inp, x0)[1]
    mine = gradients(net, (found * target).sum())
    x0 = net.batched_initial_condition(2)[0]
    wanted = dense_run(net, declared, inp, x0)
    theirs = gradients(net, (wanted * target).sum())
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    for name, gradient in theirs.items():
        found = mine.get(name, torch.zeros_like(gradient))  # none where no synapse depends on it
        torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("kind", ["projection", "source", "target", "labels", "bounds"])
def test_gradcheck(kind):
    rng = np.random.default_rng(0)
    graph = sm.RegionGraph()
    graph.add_region("a", 4, learnable_bias="region", learnable_init="region")
    weights = base_weights(rng, "a", "a", 0.7)
    labels = rng.integers(0, 3, np.count_nonzero(weights))
    share = {"labels": labels, "bounds": "projection"}.get(kind, kind)
    graph.add_projection("a", "a", weights=weights, share=share, gain=0.4, bounds=(0.1, 2.0) if kind == "bounds" else None)
    net = sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64, seed=0)
    names = [name for name, _ in net.named_parameters()]
    values = [torch.rand_like(p).add(0.1).requires_grad_() for p in net.parameters()]
    inp = torch.zeros(2, 3, 0, dtype=torch.float64)

    def run(*values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(net, parameters, (inp, values[1].repeat(2, 4)))[1]

    assert torch.autograd.gradcheck(run, values)


def test_parameters_are_counted_once():
    graph = sm.RegionGraph()
    graph.add_region("a", 50, learnable_bias="region", learnable_tau=True)
    graph.add_region("b", 50, learnable_bias="unit")
    graph.add_projection("a", "b", density=0.5, initializer=sm.Constant(1.0), share="projection")
    graph.add_projection("b", "a", density=0.5, initializer=sm.Constant(1.0), share="source")
    net = sm.mRNN(graph, device="cpu", seed=0)
    assert {name: p.numel() for name, p in net.named_parameters()} == {
        "bias": 51, "tau_logit": 1, "rec.values": 0, "rec.gains": 51, "inp.values": 0
    }
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 3, 0), net.batched_initial_condition(1)[0])[1].sum().backward()
    optimizer.step()
    state = sum(t.numel() for s in optimizer.state.values() for t in s.values() if t.dim())
    assert state == 2 * (51 + 1 + 51)


def test_a_name_shares_across_projections_and_the_gradient_adds_up():
    graph = sm.RegionGraph()
    for name in "ab":
        graph.add_region(name, 3)
    graph.add_projection("a", "b", weights=np.eye(3), share="one")
    graph.add_projection("b", "a", weights=2 * np.eye(3), share="one")
    net = sm.mRNN(graph, device="cpu", dtype=torch.float64)
    assert net.rec.gains.numel() == 1
    net.rec.csr_values().sum().backward()
    assert net.rec.gains.grad.item() == 9.0
    with torch.no_grad():
        net.rec.gains.fill_(0.5)
    assert net.get_projection("b", "a").diagonal().tolist() == [0.5] * 3
    assert net.get_projection("a", "b").diagonal().tolist() == [1.0] * 3


def test_dales_law_and_bounds_hold_whatever_the_optimiser_does():
    graph = sm.RegionGraph()
    graph.add_region("e", 3, learnable_tau=True, tau=50.0, tau_bounds=(20.0, 200.0))
    graph.add_region("i", 3, sign="neg")
    graph.add_projection("e", "i", weights=np.ones((3, 3)), share="target", bounds=(0.0, None))
    graph.add_projection("i", "e", weights=-np.ones((3, 3)), share="source", bounds=(0.5, 2.0))
    net = sm.mRNN(graph, device="cpu", seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_(0, 30, generator=generator)
        assert (net.get_projection("i", "e") >= 0).all()
        assert (net.get_projection("e", "i") <= 0).all()
        assert (net.rec.projection_gains(source="e", target="i") >= 0).all()
        inside = net.rec.projection_gains(source="i", target="e")
        assert ((inside >= 0.5) & (inside <= 2.0)).all()
        assert 20.0 <= net.time_constants["e"] <= 200.0 + 1e-3


def mixed_net():
    graph = sm.RegionGraph()
    for name in "abc":
        graph.add_region(name, 6, parent_region="all", learnable_bias="region")
    graph.add_projection("a", "b", density=0.5)
    graph.add_projection("b", "c", density=0.5, share="projection", initializer=sm.Constant(0.3))
    graph.add_projection("a", "c", density=0.5, share="common", initializer=sm.Constant(0.2))
    graph.add_projection("b", "a", density=0.5, share="common", initializer=sm.Constant(0.2))
    graph.add_projection("c", "c", density=0.3, trainable=False)
    return sm.mRNN(graph, "tanh", device="cpu", dtype=torch.float64, seed=0)


def train(net, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        h = net(torch.zeros(2, 4, 0, dtype=torch.float64), 0.3 + net.batched_initial_condition(2)[0])[1]
        (h - 0.3).square().mean().backward()
        optimizer.step()


def test_freezing_gains_keeps_weights_and_moments():
    net = mixed_net()
    optimizer = torch.optim.Adam(training.parameter_groups(net, {("b", "c"): {"lr": 1e-2}}, lr=1e-3))
    train(net, optimizer)
    before = net.rec.csr_values().detach().clone()
    moments = {k: v.clone() for k, v in optimizer.state[net.rec.gain_views.parameters[1]].items() if v.dim()}
    training.freeze(net, "b", "c", optimizer=optimizer)
    assert torch.equal(net.rec.csr_values(), before)
    assert net.rec.gains.numel() == 1
    frozen = net.rec.projection_gains(source="b", target="c").clone()
    train(net, optimizer)
    assert torch.equal(net.rec.projection_gains(source="b", target="c"), frozen)
    training.unfreeze(net, "b", "c", optimizer=optimizer)
    train(net, optimizer)
    assert not torch.equal(net.rec.projection_gains(source="b", target="c"), frozen)
    assert moments  # the group had a state before


def test_training_in_groups_is_training_without():
    one, two = mixed_net(), mixed_net()
    train(one, torch.optim.Adam(one.parameters(), lr=1e-2), 5)
    train(two, torch.optim.Adam(training.parameter_groups(two, {("b", "c"): {}, ("a", "b"): {}}, lr=1e-2)), 5)
    torch.testing.assert_close(one.rec.csr_values(), two.rec.csr_values(), rtol=1e-12, atol=0)


def test_pruning_weighs_by_base_times_gain_and_rewiring_leaves_shared_ones():
    net = mixed_net()
    with torch.no_grad():
        net.rec.gains.copy_(torch.tensor([0.01, 10.0]))  # of "common", and of b -> c
    dense = net.rec.dense().detach()
    training.prune(net, 0.5, scope="network")
    kept = net.rec.dense().detach()
    assert torch.equal(kept[kept != 0], dense[kept != 0])
    assert torch.equal(kept[12:, 6:12], dense[12:, 6:12])  # b -> c has the largest weights
    assert not kept[12:, :6].any()  # a -> c the smallest
    pattern = (kept[12:, 6:12] != 0).clone()
    assert training.rewire(net, 0.5, seed=0) > 0
    assert torch.equal(net.rec.dense()[12:, 6:12] != 0, pattern)
    train(net, torch.optim.Adam(net.parameters()))


def test_save_and_load_and_configuration():
    net, other = mixed_net(), mixed_net()
    train(net, torch.optim.Adam(net.parameters(), lr=0.1))
    training.prune(net, 0.2)
    training.freeze(net, "b", "c")
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.rec.dense(), net.rec.dense())
    assert other.rec.gains.numel() == 1
    graph = sm.RegionGraph()
    graph.add_region("a", 3, learnable_bias="region", learnable_init=True, learnable_tau=True, tau_bounds=(20.0, None))
    weights = np.array([[0, 2.0, 1], [3, 0, 0], [4, 5, 0]])
    graph.add_projection("a", "a", weights=weights, share=["x", "y", "x", "z", "y"], gain=0.5, bounds=(0, 2))
    config = to_config(graph)
    assert to_config(read_config(config)) == config
    config["recurrent_connections"][0]["weights"] = {"rows": [2, 0, 1, 0, 2], "cols": [0, 1, 0, 2, 1], "values": [4, 2, 3, 1, 5]}
    config["recurrent_connections"][0]["share"] = ["z", "x", "x", "y", "y"]  # any order, labels with their synapse
    assert to_config(read_config(config)) == to_config(graph)


def test_simulate_and_gain_interventions():
    net = mixed_net()
    whole = sm.simulate(net, 60, seed=0)["h"].values
    x0 = net.batched_initial_condition(1)[0]
    h = net(torch.zeros(1, 6, 0, dtype=torch.float64), x0)[1]
    np.testing.assert_allclose(whole.reshape(6, -1), h[0].detach(), rtol=1e-12)
    with_gain = sm.simulate(net, 60, seed=0, interventions=[sm.Gain("b", "c", 0.0)])["h"].values
    with torch.no_grad():
        net.rec.gains[1] = 0  # of b -> c; "common" is first
    np.testing.assert_allclose(with_gain, sm.simulate(net, 60, seed=0)["h"].values, rtol=1e-12)


def test_spectral_radius_of_shared_weights():
    net = mixed_net()
    radius = sm.spectral_radius(net)
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(net.rec.dense().detach().numpy())).max(), rel=1e-5)
    net.scale_spectral_radius_(0.5)
    assert sm.spectral_radius(net) == pytest.approx(0.5, rel=1e-5)


def refuse(message, **options):
    graph = sm.RegionGraph()
    graph.add_region("a", 3)
    graph.add_region("b", 2, sign="neg")
    graph.add_region("c", 3, sign=None)
    graph.add_projection("a", "b", weights=np.ones((2, 3)), share="taken", gain=0.5)
    ends = options.pop("ends", ("a", "a"))
    with pytest.raises(GraphError, match=message):
        graph.add_projection(*ends, **options)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("share has 2 labels; give one for each of the 9", {"weights": np.ones((3, 3)), "share": ["x", "y"]}),
        ("need explicit weights", {"density": 0.5, "share": ["x"]}),
        ("an entry for each synapse", {"weights": np.eye(3), "share": sp.csr_array(np.ones((3, 3)))}),
        ("but source signs differ", {"ends": ("b", "a"), "weights": -np.ones((3, 2)), "share": "taken", "gain": 0.5}),
        ("differ", {"weights": np.ones((3, 3)), "share": "taken", "gain": 0.5, "trainable": False}),
        ("differ", {"weights": np.ones((3, 3)), "share": "taken", "gain": 0.7}),
        ("base weights of one sign", {"ends": ("c", "a"), "density": 0.5, "share": "projection"}),
        ("outside of its bounds", {"weights": np.ones((3, 3)), "share": "projection", "bounds": (2, 3)}),
        ("least < largest", {"weights": np.ones((3, 3)), "share": "projection", "bounds": (3, 2)}),
        ("gain is nan", {"weights": np.ones((3, 3)), "share": "projection", "gain": float("nan")}),
        ("are for shared weights", {"weights": np.ones((3, 3)), "gain": 2.0}),
        ("share is ''", {"weights": np.ones((3, 3)), "share": ""}),
    ],
)
def test_bad_declarations(message, options):
    refuse(message, **options)


def test_bad_regions():
    graph = sm.RegionGraph()
    for options, message in [
        ({"learnable_bias": "all"}, "learnable_bias"),
        ({"learnable_bias": "region", "base_firing": [1.0, 2.0]}, "needs one base_firing"),
        ({"tau_bounds": (1.0, 2.0)}, "learnable_tau=True"),
        ({"tau_bounds": (30.0, 20.0), "learnable_tau": True}, "least < largest"),
    ]:
        with pytest.raises(GraphError, match=message):
            graph.add_region("a", 2, **options)


def test_tools_refuse_what_they_cannot_do():
    net = mixed_net()
    for call in (
        lambda: training.rewire(net, 0.5, "b", "c"),
        lambda: training.clamp_weights_(net, 0.1, "b", "c"),
        lambda: training.freeze(net, "a", "c"),
        lambda: training.parameter_groups(net, {("a", "c"): {}}),
    ):
        with pytest.raises(TrainingError, match="share"):
            call()
    with pytest.raises(UnknownNameError, match="declare it with share="):
        net.rec.projection_gains(source="a", target="b")


def test_clipping_and_nan_detection_know_the_region():
    net = mixed_net()
    net(torch.zeros(1, 4, 0, dtype=torch.float64), 0.3 + net.batched_initial_condition(1)[0])[1].sum().backward()
    assert set(training.clip_grad_by_region_(net, 1e-3)) == {"a", "b", "c"}
    again = training.clip_grad_by_region_(net, 1e-3)
    assert max(again.values()) <= 1e-3 * (1 + 1e-9)
    with torch.no_grad():
        net.bias[1] = float("nan")
    with training.detect_nan(net), pytest.raises(sm.errors.DivergenceError, match="learnt bias .* region 'b'"):
        net(torch.zeros(1, 4, 0, dtype=torch.float64), net.batched_initial_condition(1)[0])
