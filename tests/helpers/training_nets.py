"""A network to train, and its loss."""

import torch

import sparse_mrnn as sm


def build(model=sm.mRNN, seed=0, frozen=()):
    g = sm.RegionGraph()
    for name, sign in (("a", "pos"), ("b", "neg"), ("c", None)):
        parent = "ab" if name != "c" else None
        g.add_region(name, 5, sign=sign, learnable_bias=name != "c", parent_region=parent, base_firing=0.3)
    g.add_input("i", 2)
    g.add_input("j", 1)
    for s in "abc":
        for t in "abc":
            g.add_projection(s, t, density=0.6, trainable=(s, t) not in frozen)
    g.add_projection("a", "b", key="second", density=0.5)
    for s, t in ("ia", "ib", "ja"):
        g.add_projection(s, t)
    return model(g, "tanh", device="cpu", seed=seed, dtype=torch.float64)


def loss(net, scale=1.0):
    batch = 3
    x0, h0 = net.batched_initial_condition(batch)
    inp = torch.linspace(-1, 1, batch * 6 * 3, dtype=torch.float64).view(batch, 6, 3)
    _, h = net(inp, x0, h0)
    return scale * (h - 0.5).square().mean()
