"""LIF: spikes and gradients are those of dense loops in float64; settings, files and states that go on."""

import copy
import math

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, GraphError, SavedFileError, ShapeError

DT = 0.1


class Surrogate(torch.autograd.Function):
    """A spike whose derivative is written down a second time."""

    @staticmethod
    def forward(ctx, u, kind, s):
        ctx.save_for_backward(u)
        ctx.kind, ctx.s = kind, s
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        u, s = ctx.saved_tensors[0], ctx.s
        slope = {
            "fast_sigmoid": lambda: 1 / (1 + abs(s * u)) ** 2,
            "arctan": lambda: 1 / (1 + (math.pi / 2 * s * u) ** 2),
            "gaussian": lambda: torch.exp(-((s * u) ** 2) / 2),
        }[ctx.kind]()
        return grad * slope, None, None


def dense(net, w, w_inp, delays, u, tau_m, bias, constants):
    """v and h after each step, one unit and one step after another's equation; W by delay in steps, dense."""
    rest, reset, threshold, t_ref, tau_syn = (torch.as_tensor(c, dtype=torch.float64) for c in constants)
    keep_v, keep_g = torch.exp(-DT / tau_m), torch.exp(-DT / tau_syn)
    feed = torch.where((tau_m - tau_syn).abs() < 1e-9, DT / tau_m * keep_v, tau_syn / (tau_m - tau_syn + 1e-300) * (keep_v - keep_g))
    batch, steps, _ = u.shape
    v = torch.zeros(batch, len(rest), dtype=torch.float64) + rest
    g, left = torch.zeros_like(v), torch.zeros_like(v)
    hs, vs = [], []
    for t in range(steps):
        arrived = u[:, t] @ w_inp.T
        for delay, part in zip(delays, w, strict=True):
            if t + 1 - delay > 0:
                arrived = arrived + hs[t - delay] @ part.T
        free = left == 0
        new = rest + keep_v * (v - rest) + (1 - keep_v) * bias
        kept = torch.zeros_like(g) if net.synapse == "jump" else keep_g * g
        new = new + (arrived if net.synapse == "jump" else feed * g)
        if net.synapse != "jump":
            kept = kept + arrived
        if net.reset_g:
            kept = torch.where(free, kept, g)
        spike = torch.where(free, Surrogate.apply(new - threshold, net.surrogate, net.surrogate_slope), torch.zeros_like(new))
        fired = spike.detach().bool()
        v = torch.where(fired | ~free, reset.expand_as(new), new)
        g = torch.where(fired, torch.zeros_like(kept), kept) if net.reset_g else kept
        left = torch.where(fired, torch.ceil(t_ref / DT - 1e-6).expand_as(left), (left - 1).clamp(min=0))
        hs.append(spike)
        vs.append(v)
    return torch.stack(vs, 1), torch.stack(hs, 1)


def network(**settings):
    g = sm.RegionGraph()
    g.add_region("e", 6, base_firing=9.0, learnable_bias=True, tau=15.0, learnable_tau=True, t_ref=[0, 0.1, 0.5, 1, 2, 3])
    g.add_region("i", 4, sign="neg", threshold=-47.0, v_reset=-55.0, v_rest=-53.0, tau_syn=[2.0, 5.0, 15.0, 20.0], base_firing=8.0)
    g.add_input("u", 3)
    for k, (source, delay) in enumerate((("e", 0.1), ("e", 0.4), ("i", 0.4))):
        w = sm.Uniform(1.0, 6.0)
        g.add_projection(source, "ei"[k % 2], density=0.7, delay=delay, initializer=w)
    g.add_projection("u", "e", density=0.8, initializer=sm.Uniform(5.0, 20.0))
    return sm.LIF(g, device="cpu", seed=3, dtype=torch.float64, **settings)


def parts_of(net):
    """Effective recurrent weights by delay, dense and differentiable, as functions of the parameters."""
    rec, inp = net.weights("recurrent"), net.weights("input")
    row, col, values = rec.pattern.row.long(), rec.col.long(), rec.stored_values(rec.operand("csr"))
    block, delays = rec.projection_of_entry(), torch.tensor([round(t / DT) for t in rec.delay_times])
    dense_of = []
    for delay in (1, 4):
        chosen = delays[block.long()] == delay
        dense_of.append(torch.zeros(10, 10, dtype=torch.float64).index_put((row[chosen], col[chosen]), values[chosen], accumulate=True))
    into = torch.zeros(10, 3, dtype=torch.float64).index_put((inp.pattern.row.long(), inp.col.long()), inp.stored_values(inp.operand("csr")))
    return dense_of, into


def constants_of(net):
    def each(name):
        parts = [getattr(r, name) if getattr(r, name) is not None else getattr(net, name) for r in net.layout().regions]
        return np.concatenate([np.broadcast_to(p, r.n) for p, r in zip(parts, net.layout().regions, strict=True)])

    return [each(name) for name in ("v_rest", "v_reset", "threshold", "t_ref", "tau_syn")]


@pytest.mark.parametrize("settings", [
    {}, {"reset_g": True, "surrogate": "arctan", "surrogate_slope": 0.5}, {"synapse": "jump", "surrogate": "gaussian"},
    {"backend": "dense"}, {"tau_m": 5.0},
], ids=str)  # fmt: skip
def test_spikes_and_gradients_are_those_of_a_dense_loop(settings):
    net = network(**settings)
    u = (torch.rand(3, 60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) < 0.15).double()
    given = torch.randn(3, 60, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = {}
    for how in ("ours", "checkpoints", "dense"):
        net.zero_grad()
        if how == "dense":
            w, into = parts_of(net)
            tau_m = -DT / torch.log1p(-net.unit_alpha()[:, 0])
            v, h = dense(net, w, into, (1, 4), u, tau_m, net.tonic_inp, constants_of(net))
        else:
            v, h = net(u, checkpoint_steps=None if how == "ours" else 7)
        (h * given).sum().backward()
        found[how] = [v.detach(), h.detach(), *(p.grad.clone() for p in net.parameters())]
    assert 20 < found["dense"][1].sum() < 1500
    assert torch.equal(found["ours"][1], found["dense"][1])
    for how in ("ours", "checkpoints"):
        for a, b in zip(found[how], found["dense"], strict=True):
            assert bool(b.any())
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_rate_of_a_constant_drive():
    """The time between spikes is t_ref + tau_m ln(b / (b - threshold + v_rest)), in steps."""
    g = sm.RegionGraph()
    drives = np.array([7.5, 9.0, 15.0, 40.0])
    g.add_region("a", 4, base_firing=drives)
    g.add_region("silent", 1, base_firing=6.9)
    _, h = sm.LIF(g, device="cpu", dtype=torch.float64)(torch.zeros(1, 20_000, 0, dtype=torch.float64))
    for k, drive in enumerate(drives):
        between = np.diff(np.flatnonzero(h[0, :, k].numpy()))
        exact = 2.2 + 20 * math.log(drive / (drive - 7))
        assert set(between) == {22 + math.ceil((exact - 2.2) / DT)}
    assert h[0, :, 4].sum() == 0


def test_units_in_another_order_do_the_same():
    rng = np.random.default_rng(0)
    w, order = rng.normal(0, 4, (8, 8)) * (rng.random((8, 8)) < 0.6), rng.permutation(8)
    fields = {"base_firing": rng.uniform(6, 20, 8), "tau": rng.uniform(5, 30, 8), "t_ref": rng.uniform(0.1, 3, 8),
              "threshold": rng.uniform(-50, -44, 8), "v_reset": rng.uniform(-60, -52, 8), "tau_syn": rng.uniform(1, 9, 8)}  # fmt: skip
    found = []
    for chosen in (np.arange(8), order):
        g = sm.RegionGraph()
        g.add_region("a", 8, sign=None, **{name: values[chosen] for name, values in fields.items()})
        g.add_projection("a", "a", weights=w[np.ix_(chosen, chosen)], sign="free", delay=0.3)
        net = sm.LIF(g, device="cpu", dtype=torch.float64)
        found.append(net(torch.zeros(1, 800, 0, dtype=torch.float64))[1][0])
    assert found[0].sum() > 20
    assert torch.equal(found[0][:, order], found[1])


def test_passes_go_on_from_each_other_and_agree():
    net = network()
    u = (torch.rand(2, 90, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) < 0.2).double()
    v, h = net(u)
    v1, h1, state = net(u[:, :40], return_state=True)
    v2, h2 = net(u[:, 40:], state)
    assert torch.equal(torch.cat([h1, h2], 1), h)
    assert torch.equal(torch.cat([v1, v2], 1), v)
    with torch.no_grad():
        state = net.initial_state(2)
        for t in range(90):
            state = net.step(u[:, t], state)
            assert torch.equal(state.h, h[:, t])
    some, _ = net(u, regions="i")
    assert torch.equal(some, v[:, :, 6:])
    v0 = torch.full((2, 10), -48.0, dtype=torch.float64)
    assert net(u[:, :1], v0)[0][:, 0].min() > -50
    with pytest.raises(ShapeError, match="v0 has shape"):
        net(u, v0[:, :3])


@pytest.mark.parametrize("event_driven", [True, False])
@pytest.mark.parametrize("reset_g", [True, False])
def test_a_simulation_has_the_spikes_of_forward(event_driven, reset_g):
    net = network(reset_g=reset_g)
    pulses = sm.Stimulus("u", 1.0, start=1.0, stop=1.5)
    record = sm.Record(what=["units", "spikes"], variables=["v", "h"])
    run = sm.simulate(net, 20.0, stimulus=pulses, record=record, event_driven=event_driven, progress=False)
    u = torch.zeros(1, 200, 3, dtype=torch.float64)
    u[:, 10:15] = 1
    v, h = net(u)
    assert h.sum() > 8
    np.testing.assert_array_equal(run["h"][0], h[0].detach())
    np.testing.assert_array_equal(run["v"][0], v[0].detach())
    step, unit = np.nonzero(h[0].detach().numpy())
    np.testing.assert_allclose(run["spike_time"], (step + 1) * DT)
    np.testing.assert_array_equal(run["spike_unit"], unit)


def test_files_copies_and_configurations(tmp_path):
    net = network(reset_g=True, surrogate="arctan")
    u = (torch.rand(1, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    h = net(u)[1]
    net.save(tmp_path / "net.safetensors")
    loaded = sm.load(tmp_path / "net.safetensors", device="cpu")
    assert loaded.settings() == net.settings()
    assert "activation" not in net.settings()
    for other in (loaded, copy.deepcopy(net), sm.from_config(sm.to_config(net), device="cpu")):
        assert torch.equal(other(u)[1], h)
    again = network(reset_g=True, surrogate="arctan")
    again.load_state_dict(net.state_dict())
    with pytest.raises(SavedFileError, match="activation"):
        sm.load(tmp_path / "net.safetensors", device="cpu", activation=torch.tanh)
    exported = net.to_graph()
    assert exported.region("e").init == 0
    again = sm.LIF(exported, device="cpu", seed=3, dtype=torch.float64, reset_g=True)
    torch.testing.assert_close(again(u)[1], h)


@pytest.mark.parametrize(("fields", "settings", "message"), [
    ({"threshold": -60.0}, {}, "region 'a': .*threshold"),
    ({"v_reset": [-52.0, -40.0, -52.0]}, {}, "region 'a': .*-40 mV"),
    ({"t_ref": 0.05}, {}, "region 'a': t_ref = 0.05 ms is shorter than a time step of 0.1 ms"),
    ({"activation": "relu"}, {}, "region 'a': activation"),
    ({}, {"tau_m": -1.0}, "tau_m is -1.0"),
    ({}, {"synapse": "alpha"}, "synapse"),
    ({}, {"surrogate": "step"}, "surrogate"),
    ({}, {"surrogate_slope": 0}, "surrogate_slope"),
    ({}, {"t_ref": -1}, "t_ref"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(fields, settings, message):
    g = sm.RegionGraph()
    g.add_region("a", 3, **fields)
    with pytest.raises(ConfigError, match=message):
        sm.LIF(g, device="cpu", **settings)


def test_fields_are_checked():
    with pytest.raises(GraphError, match="region 'a': tau_syn is 0"):
        sm.RegionGraph().add_region("a", 3, tau_syn=0)
    with pytest.raises(GraphError, match="t_ref is -1"):
        sm.RegionGraph().add_region("a", 3, t_ref=-1)


def test_settings_change_after_building():
    net = network()
    u = torch.zeros(1, 300, 3, dtype=torch.float64)
    before = net(u)[1].sum()
    net.tau_syn = 1.0
    net.threshold = -50.0
    assert net(u)[1].sum() != before
    g = sm.RegionGraph()
    g.add_region("a", 2, base_firing=9.0)
    other = sm.LIF(g, device="cpu", dtype=torch.float64)
    first = other(u[..., :0])[1].sum()
    other.tau_m = 10.0
    assert other(u[..., :0])[1].sum() > first
    with pytest.raises(ConfigError):
        other.threshold = -60.0
    assert other.threshold == -45.0
