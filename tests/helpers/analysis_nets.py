"""Small networks that the tests of the analysis share, and a step of the network itself to compare with."""

import numpy as np
import torch

import sparse_mrnn as sm

MODELS = [sm.mRNN, sm.ElmanmRNN]


def net_of(w, model=sm.mRNN, activation="tanh", inputs=None, **options):
    g = sm.RegionGraph()
    g.add_region("a", len(w), sign=None, base_firing=options.pop("base_firing", 0.0))
    g.add_projection("a", "a", weights=np.asarray(w, dtype=float))
    if inputs is not None:
        g.add_input("u", np.shape(inputs)[1], sign=None)
        g.add_projection("u", "a", weights=np.asarray(inputs, dtype=float))
    return model(g, activation, device="cpu", dtype=torch.float64, **options)


def regions_net(model=sm.mRNN, activation="tanh", n=(6, 4, 5), seed=0, **options):
    """Three regions of their own activations and time constants, a parent, two inputs, biases."""
    g = sm.RegionGraph()
    own = dict(zip("abc", [{}, {"tau": 40.0}, {"activation": "sigmoid"}], strict=True))
    for name, size in zip("abc", n, strict=True):
        more = {k: v for k, v in own[name].items() if not (model is sm.ElmanmRNN and k == "tau")}
        parent = "ab" if name in "ab" else None
        g.add_region(name, size, sign=None, base_firing=0.3, parent_region=parent, **more)
    g.add_input("u", 2, sign=None)
    g.add_input("v", 1, sign=None)
    for source in "abc":
        for target in "abc":
            g.add_projection(source, target, density=0.6, initializer=sm.Normal(0.5))
    g.add_projection("a", "a", key="second", density=0.5, initializer=sm.Normal(0.3))
    g.add_projection("u", "a")
    g.add_projection("v", "c")
    return model(g, activation, device="cpu", dtype=torch.float64, seed=seed, **options)


def one_step(net, state, inputs, stim=None):
    """The state after a step of the network itself."""
    columns = state.shape[0]
    u = torch.as_tensor(inputs, dtype=torch.float64).expand(columns, -1)[:, None]
    current = None if stim is None else torch.as_tensor(stim).expand(columns, -1)[:, None]
    if isinstance(net, sm.ElmanmRNN):
        return net(u, state, current)[:, 0]
    return net(u, state, None, current)[0][:, 0]


def ring(n, gain=2.0):
    """Weights gain * 2 / n * cos(a - b) over n angles."""
    angle = 2 * np.pi * np.arange(n) / n
    return gain * 2 / n * np.cos(angle[:, None] - angle)


def with_delayed_inputs(model=sm.mRNN, delays=(1, 3)):
    """Two inputs whose projections take so many steps, onto four connected units."""
    g = sm.RegionGraph()
    g.add_region("a", 4, sign=None, base_firing=0.1)
    g.add_projection("a", "a", initializer=sm.Normal(0.3))
    for name, steps in zip("uv", delays, strict=True):
        g.add_input(name, 1, sign=None)
        g.add_projection(name, "a", initializer=sm.Normal(0.5), delay=steps * model().dt)
    return model(g, "tanh", device="cpu", dtype=torch.float64, seed=0)
