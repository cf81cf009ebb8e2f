"""Small networks of every kind."""

import numpy as np
import torch

import sparse_mrnn as sm
from helpers.graphs import rich_graph
from sparse_mrnn.training import freeze, prune


def small(model, **options):
    net = model(**{"device": "cpu", "seed": 0, **options})
    net.add_recurrent_region("ctx", 4, base_firing=1.0, parent_region="brain")
    net.add_recurrent_region("spine", 2, sign="neg", init=0.5, learnable_bias=True)
    net.add_recurrent_region("thal", 3, parent_region="brain", init=-0.2)
    net.add_input_region("cue", 2)
    net.add_input_region("go", 1, sign="neg")
    for src, dst in [("ctx", "ctx"), ("ctx", "spine"), ("spine", "thal"), ("thal", "ctx")]:
        net.add_recurrent_connection(src, dst, sparsity=0.8)
    net.add_input_connection("cue", "ctx")
    net.add_input_connection("go", "thal")
    net.finalize_connectivity()
    return net


def sharing(**options):
    """A network with shared gains of every kind, projections of low rank, and all that a region can learn."""
    rng = np.random.default_rng(1)
    g = sm.RegionGraph(name="shared")
    g.add_region("exc", 5, learnable_bias="region", learnable_init=True, tau=30.0, learnable_tau=True, tau_bounds=(15.0, None))
    g.add_region("inh", 3, sign="neg", learnable_bias=True, learnable_init="region", init=0.2)
    g.add_region("free", 4, sign=None)
    g.add_input("cue", 2)
    g.add_projection("exc", "inh", density=0.8, share="source", initializer=sm.Constant(0.3))
    g.add_projection("exc", "exc", weights=np.abs(rng.normal(size=(5, 5))), share="target", gain=0.5, bounds=(0.0, 2.0))
    w = -np.abs(rng.normal(size=(5, 3)))
    g.add_projection("inh", "exc", weights=w, share=np.where(w < -0.5, "strong", "weak"))
    for target, trainable in (("exc", True), ("inh", True)):
        g.add_projection("cue", target, share="cue gain", initializer=sm.Constant(1.0), gain=0.7, trainable=trainable)
    g.add_projection("inh", "inh", fan_in=2, share="projection", initializer=sm.Gamma(0.2), trainable=False)
    g.add_projection("exc", "free", density=0.5, trainable=False)
    g.add_projection("exc", "free", density=0.5, key="own")
    g.add_projection("free", "exc", rank=2, delay=20.0)
    g.add_projection("free", "inh", rank=1, trainable=False)
    return sm.mRNN(g, **{"device": "cpu", "seed": 3, "dt": 5, "tau": 60.0, **options})


def trained(model=sm.mRNN, **options):
    """Every kind of projection and region, after training; some frozen, some pruned."""
    g = rich_graph()
    g.edges["inh", "free", "gap"]["delay"] = 15.0
    g.add_projection("inh", "inh", density=0.7, self_connections=False)
    if model is sm.ElmanmRNN:
        g.nodes["inh"]["learnable_tau"] = False
    net = model(g, **{"activation": "tanh", "dt": 5, "device": "cpu", "seed": 3, **options})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(4):
        optimizer.zero_grad()
        states(net)[0].square().sum().backward()
        optimizer.step()
        if step == 1:
            freeze(net, "free", "inh", "second", optimizer=optimizer)
            prune(net, 0.3, "a b", "a b", optimizer=optimizer)
    return net


def states(net):
    torch.manual_seed(0)
    inp = torch.rand(2, 8, net.layout("input").n).to(net.dtype)
    start = net.batched_initial_condition(2)
    out = net(inp, start[0])
    return (out,) if isinstance(out, torch.Tensor) else out[::-1]


def under_way(model=sm.mRNN, activation="tanh", **options):
    """A network with delays of every kind of projection: sparse, shared, low rank, input; Dale's law, learnt tau."""
    rng = np.random.default_rng(2)
    leaky = model is sm.mRNN
    g = sm.RegionGraph()
    g.add_region("a", 5, sign="pos", learnable_bias=True, base_firing=0.2, tau=40.0 if leaky else None, learnable_tau="unit" if leaky else False)
    g.add_region("b", 3, sign="neg", init=0.4, learnable_init=True)
    g.add_region("c", 4, sign=None, init=-0.3, activation="softplus")
    g.add_input("i", 2, sign=None)
    g.add_input("j", 1)
    ms = 10.0
    for k, (source, target, steps) in enumerate([("a", "b", 3), ("a", "a", 1), ("b", "a", 2), ("b", "c", 7), ("c", "c", 3), ("c", "a", 5)]):
        g.add_projection(source, target, density=0.8, delay=steps * ms if steps > 1 else None, key=f"k{k}", initializer=sm.Gamma(0.5))
    g.add_projection("a", "c", share="target", gain=0.6, delay=4 * ms, initializer=sm.Constant(0.4))
    g.add_projection("c", "b", rank=2, delay=6 * ms, sign="free")
    g.add_projection("i", "a", weights=rng.normal(size=(5, 2)), delay=4 * ms)
    g.add_projection("i", "c", weights=rng.normal(size=(4, 2)))
    g.add_projection("j", "b", rank=1, delay=2 * ms, sign="free")
    return model(g, activation, dt=ms, **{"device": "cpu", "seed": 3, "dtype": torch.float64, **options})
