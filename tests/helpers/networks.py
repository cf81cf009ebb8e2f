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
