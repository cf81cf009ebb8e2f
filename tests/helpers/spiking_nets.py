"""Spiking networks, and their equations over dense matrices in numpy."""

import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.models.delays import synaptic_delays
from sparse_mrnn.ops import philox
from sparse_mrnn.stimulus import Clamp, Gain, Lesion, Poisson, PulseTrain, SpikeTimes, Stimulus


def network(n=80, delay=1.8, std=0.5, dtype=torch.float64, **options):
    """Excitatory and inhibitory units with values of their own, drawn delays, and inputs with delays."""
    g = sm.RegionGraph()
    t_ref = np.where(np.arange(n) < 10, 0.0, 2.2)
    g.add_region("e", n, t_ref=t_ref, background_rate=300.0, background_weight=8.0)
    g.add_region("i", n // 4, sign="neg", base_firing=3.0, tau=10.0, tau_syn=2.0, threshold=-46.0)
    g.add_input("cue", 3)
    for source, weight in (("e", 3.0), ("i", 12.0)):
        for target in "ei":
            own = dict(delay=delay, delay_std=std if source == "e" else 0.0, initializer=sm.Constant(weight))
            g.add_projection(source, target, density=0.2, **own)
    g.add_projection("cue", "e", density=0.3, delay=0.5, initializer=sm.Constant(1.0))
    return sm.LIF(g, device="cpu", dtype=dtype, **{"seed": 0, **options})


STIMULI = (
    Stimulus("e", Poisson(400.0, amplitude=10.0), fraction=0.3, start=1, stop=30),
    Stimulus("i", 0.05, start=10, stop=20),
    Stimulus("e", SpikeTimes([5.0, 5.1, 20.0], amplitude=20.0)),
    Stimulus("cue", PulseTrain(2.0, period=10, width=5), start=3, stop=35),
)
INTERVENTIONS = (
    Lesion("i", start=15, stop=22), Gain("e", "e", 2.0, start=10.3, stop=30.2),
    Clamp("e", -60.0, variable="x", start=33, stop=35),
)


def dense(net, steps, key):
    """Spikes (steps, units) and potentials of a network without inputs, with its background under a key."""
    rec, layout, dt = net.weights("recurrent"), net.layout(), net.dt
    n = layout.n
    weights = rec.csr_values().detach().double().numpy()
    row, col = rec.pattern.row.numpy(), rec.pattern.col.numpy()
    late = synaptic_delays(rec, dt).steps(rec.projection_of_entry().numpy(), row, col)
    matrices = [np.zeros((n, n)) for _ in range(late.max() + 1)]
    for w, i, j, d in zip(weights, row, col, late, strict=True):
        matrices[d][i, j] += w

    def own(name, default):
        values = [getattr(r, name) for r in layout.regions]
        pairs = zip(values, layout.regions, strict=True)
        return np.concatenate([np.broadcast_to(default if v is None else v, r.n) for v, r in pairs])

    tau, tau_syn = own("tau", net.tau_m), own("tau_syn", net.tau_syn)
    rest, threshold, reset = (own(name, getattr(net, name)) for name in ("v_rest", "threshold", "v_reset"))
    drive, dead = own("base_firing", 0.0), np.ceil(own("t_ref", net.t_ref) / dt - 1e-6)
    keep_v, keep_g = np.exp(-dt / tau), np.exp(-dt / tau_syn)
    feed = tau_syn / (tau - tau_syn) * (keep_v - keep_g)
    rate, weight = own("background_rate", 0.0) * dt / 1000, own("background_weight", 0.0)
    v, g, left = rest.copy(), np.zeros(n), np.zeros(n)
    spikes, potentials = np.zeros((steps + 1, n)), np.zeros((steps, n))
    events = philox.Levels.poisson(rate.max())
    for t in range(steps):
        arriving = weight * np.where(rate > 0, events.counts(philox.words(np.arange(n), t, 0, key)), 0)
        for d in range(1, len(matrices)):
            if t + 1 - d >= 0:
                arriving = arriving + matrices[d] @ spikes[t + 1 - d]
        free = left == 0
        new = rest + keep_v * (v - rest) + (0 if net.synapse == "jump" else feed * g) + (1 - keep_v) * drive
        if net.synapse == "jump":
            new = new + arriving
        else:
            g = np.where(free | (not net.reset_g), keep_g * g + arriving, g)
        fired = free & (new >= threshold)
        v = np.where(fired | ~free, reset, new)
        g = np.where(fired & net.reset_g, 0, g)
        left = np.where(fired, dead, np.maximum(left - 1, 0))
        spikes[t + 1], potentials[t] = fired, v
    return spikes[1:], potentials
