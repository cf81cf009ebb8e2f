"""A state dict says what its network was declared with, and a network declared otherwise refuses it."""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import StateDictError, StateDictWarning
from sparse_mrnn.state.differences import differences

BASE = dict(
    a=dict(sign="pos", base_firing=0.3, init=0.1),
    b=dict(sign="neg", tau=50.0, noise_level=0.2),
    c=dict(sign=None, activation="tanh", unit_ids=["c1", "c2", "c3"]),
)
PROJECTIONS = {("a", "b"): dict(delay=20.0), ("b", "a"): {}, ("a", "c"): dict(sign="free"), ("c", "a"): {}, ("i", "a"): {}}


def network(*, seed=1, model=sm.mRNN, regions=None, projections=None, inputs=None, **options):
    """Equal sizes whatever the options, so that torch alone would load each into each."""
    g = sm.RegionGraph()
    for name, declared in (regions or BASE).items():
        g.add_region(name, 3, **declared)
    for name, sign in (inputs or {"i": "pos"}).items():
        g.add_input(name, 2, sign=sign)
    for (source, target), declared in (projections or PROJECTIONS).items():
        g.add_projection(source, target, density=0.7, **declared)
    options = {"dt": 10.0, **({"tau": 100.0} if model is sm.mRNN else {}), **options}
    return model(g, device="cpu", seed=seed, **options)


def with_region(name, **declared):
    return {**BASE, name: {**BASE[name], **declared}}


def with_projection(name, **declared):
    return {**PROJECTIONS, name: declared}


OTHERS = {
    "sign": (dict(regions=with_region("b", sign="pos")), 'regions.b.sign: "neg" then, "pos" now'),
    "mixed signs": (dict(regions=with_region("b", sign=[1, -1, 1])), 'regions.b.sign: "neg" then'),
    "names": (dict(regions={"z" if k == "b" else k: v for k, v in BASE.items()}, projections={tuple("z" if n == "b" else n for n in k): v for k, v in PROJECTIONS.items()}), "regions.b: .*null now"),
    "order": (dict(regions={k: BASE[k] for k in "acb"}), r'order of regions\[1\]: "b" then, "c" now'),
    "tonic input": (dict(regions=with_region("a", base_firing=0.4)), "regions.a.tonic input: 0.3 then, 0.4 now"),
    "tonic inputs": (dict(regions=with_region("a", base_firing=[0.3, 0.3, 0.31])), "regions.a.tonic input: 0.3 then"),
    "initial state": (dict(regions=with_region("a", init=0.2)), "regions.a.initial state: 0.1 then, 0.2 now"),
    "own tau": (dict(regions=with_region("b", tau=60.0)), "regions.b.tau: 50.0 then, 60.0 now"),
    "tau": (dict(tau=90.0), "input noise: .*regions.a.tau: 100.0 then, 90.0 now"),
    "dt": (dict(dt=5.0), "dt: 10.0 then, 5.0 now"),
    "integrator": (dict(integrator="exponential_euler"), 'integrator: "euler" then, "exponential_euler" now'),
    "activation": (dict(activation="sigmoid"), 'regions.a.activation: "relu" then, "sigmoid" now'),
    "own activation": (dict(regions=with_region("c", activation="relu")), 'regions.c.activation: "tanh" then'),
    "noise of units": (dict(noise_level_act=0.5), "regions.a.noise: 0.01 then, 0.5 now"),
    "own noise": (dict(regions=with_region("b", noise_level=0.3)), "regions.b.noise: 0.2 then, 0.3 now"),
    "noise of inputs": (dict(noise_level_inp=0.5), "input noise: "),
    "Dale's law": (dict(rec_constrained=False), "Dale's law.recurrent: true then, false now"),
    "Dale's law of inputs": (dict(inp_constrained=False), "Dale's law.input: true then, false now"),
    "delay": (dict(projections=with_projection(("a", "b"), delay=30.0)), "projection 'a' -> 'b'.delay: 20.0 then, 30.0 now"),
    "projection sign": (dict(projections=with_projection(("a", "c"), sign="neg")), "projection 'a' -> 'c'.sign: \"free\" then, \"neg\" now"),
    "sign of an input": (dict(inputs={"i": "neg"}), 'inputs.i.sign: "pos" then, "neg" now'),
    "unit ids": (dict(regions=with_region("c", unit_ids=["c2", "c1", "c3"])), "regions.c.unit ids: "),
    "model": (dict(model=sm.ElmanmRNN), 'model: "leaky" then, "elman" now'),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_declared_otherwise_refuses_it_and_says_why(name):
    options, message = OTHERS[name]
    saved, other = network(seed=1).state_dict(), network(seed=2, **options)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(StateDictError, match=message):
        other.load_state_dict(saved)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize("name", OTHERS)
def test_strict_false_takes_weights_and_leaves_the_declaration(name):
    options, message = OTHERS[name]
    net, other = network(seed=1), network(seed=2, **options)
    own = {key: getattr(other, key).clone() for key in ("base_alpha", "base_firing", "initial_x")}
    sign = other.rec.sign.clone()
    with pytest.warns(StateDictWarning, match=message):
        other.load_state_dict(net.state_dict(), strict=False)
    assert torch.equal(other.rec.values, net.rec.values)
    assert torch.equal(other.rec.col, net.rec.col)
    assert all(torch.equal(getattr(other, key), value) for key, value in own.items())
    assert torch.equal(other.rec.sign, sign)


def same(a, b):
    x0, h0 = a.batched_initial_condition(2)
    inp = torch.rand(2, 9, 2)
    return torch.equal(a(inp, x0, h0)[1], b(inp, *b.batched_initial_condition(2))[1])


def test_one_declared_alike_takes_it_whatever_its_seed_backend_and_signs_by_projection():
    net, other = network(seed=1), network(seed=2, backend="csr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(net.state_dict())
        copy.deepcopy(net).load_state_dict(pickle.loads(pickle.dumps(net)).state_dict())
    torch.testing.assert_close(other.effective_W_rec.to_dense(), net.effective_W_rec.to_dense(), rtol=0, atol=0)
    torch.testing.assert_close(network(seed=3, regions={**BASE, "c": dict(sign=None, activation="tanh")}).load_state_dict(net.state_dict()), net.load_state_dict(net.state_dict()))
    written = network(seed=4, regions=with_region("a", sign=[1, 1, 1], base_firing=[0.3] * 3, tau=100.0))  # in other words
    written.load_state_dict(net.state_dict())
    assert same(net, written)


def test_it_is_a_plain_state_dict(tmp_path):
    net = network()
    state = net.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    torch.save(state, tmp_path / "net.pt")
    other = network(seed=2)
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert same(net, other)
    within = torch.nn.ModuleDict({"net": network(seed=3), "readout": torch.nn.Linear(9, 1)})
    again = torch.nn.ModuleDict({"net": network(seed=4), "readout": torch.nn.Linear(9, 1)})
    again.load_state_dict(within.state_dict())
    assert same(within["net"], again["net"])
    with pytest.raises(StateDictError, match="dt"):
        torch.nn.ModuleDict({"net": network(dt=5.0), "readout": torch.nn.Linear(9, 1)}).load_state_dict(within.state_dict())


def test_safetensors_take_it(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    net, other = network(), network(seed=2)
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    other.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))
    assert same(net, other)
    with pytest.raises(StateDictError, match="tau"):
        network(tau=80.0).load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))


def test_a_state_dict_without_a_description_is_refused_and_one_of_another_precision_loads():
    net, other = network(), network(seed=2)
    state = net.state_dict()
    without = {key: value for key, value in state.items() if key != "_extra_state"}
    with pytest.raises(RuntimeError, match="Missing key.*_extra_state"):
        other.load_state_dict(without)
    other.load_state_dict(without, strict=False)
    assert same(net, other)
    double = network(seed=3).double()
    double.load_state_dict(state)
    assert {value.dtype for key, value in double.state_dict().items() if value.is_floating_point()} == {torch.float64}
    assert torch.equal(double.rec.values.float(), net.rec.values)


def test_functions_of_the_users_are_compared_by_name():
    def mine(x):
        return torch.sin(x)

    def yours(x):
        return torch.cos(x)

    network(activation=mine, projections={k: {} for k in PROJECTIONS}).load_state_dict(network(activation=mine, projections={k: {} for k in PROJECTIONS}).state_dict())
    with pytest.raises(StateDictError, match="mine.*yours"):
        network(activation=yours, projections={k: {} for k in PROJECTIONS}).load_state_dict(network(activation=mine, projections={k: {} for k in PROJECTIONS}).state_dict())


def test_which_regions_learn_is_compared():
    nets = [network(regions=with_region(name, learnable_bias=True, learnable_tau=True)) for name in "ab"]
    with pytest.raises(StateDictError, match="regions.a.learnable bias: \"unit\" then, null now"):
        nets[1].load_state_dict(nets[0].state_dict())


def says_the_same(one, two):
    try:
        return not differences(json.loads(bytes(one.tolist())), json.loads(bytes(two.tolist())))
    except ValueError:
        return False


def test_gains_and_factors_of_low_rank_are_compared():
    def net(order, **options):
        g = sm.RegionGraph()
        for name in "abc":
            g.add_region(name, 3)
        for s, t in order:
            g.add_projection(s, t, weights=np.ones((3, 3)), **{"share": "source", **options.get(s + t, {})})
            g.add_projection("b", t, key="low", rank=2, sign="free")
        return sm.mRNN(g, device="cpu", seed=0)

    state = net(["ab", "bc"]).state_dict()
    net(["ab", "bc"]).load_state_dict(state)
    for other, message in (
        (net(["bc", "ab"]), r"projections.recurrent.order of low rank\[0\]"),
        (net(["ab", "bc"], ab=dict(bounds=(0, 2))), "projection 'a' -> 'b'.bounds"),
        (net(["ab", "bc"], ab=dict(share="target")), "projection 'a' -> 'b'.share: \"source\" then, \"target\" now"),
    ):
        with pytest.raises(StateDictError, match=message):
            other.load_state_dict(state)


@pytest.mark.parametrize("declared", [dict(learnable_init=True), dict(learnable_bias="region"), dict(learnable_tau=True, tau_bounds=(20, 200))])
def test_what_is_learnt_is_compared(declared):
    with pytest.raises(StateDictError, match="regions.a.(learnable|bounds)"):
        network(regions=with_region("a", **declared)).load_state_dict(network().state_dict())


def test_a_damaged_description_is_an_error():
    state = network().state_dict()
    whole = state["_extra_state"]
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = whole.clone()
        broken[rng.integers(len(broken))] = int(rng.integers(256))
        if not says_the_same(broken, whole):
            with pytest.raises(StateDictError):
                network().load_state_dict({**state, "_extra_state": broken})
    for broken in (whole[:-3], whole[:0], torch.zeros(3), None, "text", torch.tensor(list(b"[" * 100_000), dtype=torch.uint8)):
        with pytest.raises(StateDictError, match="damaged"):
            network().load_state_dict({**state, "_extra_state": broken})


def test_many_projections_are_compared_by_a_digest():
    def ring(delay):
        g = sm.RegionGraph()
        for k in range(30):
            g.add_region(f"r{k}", 2)
        for s in range(30):
            for t in range(30):
                g.add_projection(f"r{s}", f"r{t}", delay=delay if (s, t) == (3, 4) else None)
        return sm.mRNN(g, device="cpu", seed=0)

    state = ring(20.0).state_dict()
    ring(20.0).load_state_dict(state)
    assert state["_extra_state"].numel() < 10_000
    with pytest.raises(StateDictError, match="projections.recurrent.digest"):
        ring(30.0).load_state_dict(state)
