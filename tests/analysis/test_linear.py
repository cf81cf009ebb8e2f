"""Jacobians against autograd; modes, responses, Gramians against closed forms, simulation, dense ones."""

import numpy as np
import pytest
import scipy.linalg as sla
import torch

import sparse_mrnn as sm
from helpers.analysis_nets import MODELS, net_of, one_step, regions_net, with_delayed_inputs
from sparse_mrnn.analysis import find_fixed_points, linearize
from sparse_mrnn.errors import AnalysisError, KinkWarning, ShapeError, UnknownNameError

ACTIVATIONS = ["relu", "tanh", "sigmoid", "softplus", "linear", torch.sin]
SUBSETS = [None, "a", "b", "c", "ab", ["a", "c"], ["b", "c"], ["c", "b", "a"]]


def a_state(net, seed=0):
    state = torch.randn(net.layout().n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return net.activation_segments.apply(state) if isinstance(net, sm.ElmanmRNN) else state


def units_of(net, regions):
    names = net.hid_regions if regions is None else [regions] if isinstance(regions, str) else regions
    return torch.from_numpy(np.sort(net.layout().indices(*names)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("regions", SUBSETS, ids=str)
def test_the_jacobian_is_autograds(model, activation, regions):
    """At any state, of the network's own step; with parallel projections and time constants by region."""
    net = regions_net(model, activation)
    state, u = a_state(net), torch.tensor([0.5, -0.3, 1.0], dtype=torch.float64)
    units = units_of(net, regions)
    full = torch.autograd.functional.jacobian(lambda s: one_step(net, s[None], u)[0], state)
    by_input = torch.autograd.functional.jacobian(lambda v: one_step(net, state[None], v)[0], u)
    found = linearize(net, state, u, regions=regions)
    step = found.jacobian("step")
    assert np.abs(step.toarray() - full[units][:, units].numpy()).max() < 1e-10
    assert np.abs(found.torch_jacobian().to_dense().numpy() - step.toarray()).max() == 0
    if found.of == "x":
        assert np.abs(found.input_jacobian().toarray() - by_input[units].numpy()).max() < 1e-10
    v = np.random.default_rng(0).standard_normal((len(units), 2))
    operator = found.operator()
    assert operator @ v == pytest.approx(step @ v)
    assert operator.rmatvec(v[:, 0]) == pytest.approx(step.T @ v[:, 0])
    rest = np.setdiff1d(np.arange(15), units)
    slope = net_slope(net, state)
    held = found.held_jacobian().toarray()
    if found.of == "x":
        assert np.abs(held[:, rest] * slope[rest] - full[units][:, rest].numpy()).max(initial=0) < 1e-10
    else:
        assert np.abs(held[:, rest] - full[units][:, rest].numpy()).max(initial=0) < 1e-10
    assert not held[:, units].any()


def shared_and_low_rank(model, kind):
    """Gains by projection, source, target and name, or projections of low rank, beside ordinary ones."""
    g = sm.RegionGraph()
    g.add_region("a", 5, base_firing=0.2)
    g.add_region("b", 4, sign="neg", base_firing=0.3)
    g.add_region("c", 3, sign=None, activation="softplus")
    g.add_input("u", 2)
    g.add_projection("a", "b", density=0.7)
    g.add_projection("c", "a", density=0.7)
    if kind == "shared":
        for target, share in (("a", "projection"), ("b", "source"), ("c", "target")):
            g.add_projection("a", target, key="shared", density=0.8, share=share, gain=0.7)
        for target in "ab":
            g.add_projection("b", target, density=0.8, share="common", bounds=(0.1, 2.0), gain=1.3)
        g.add_projection("u", "a", share="source", gain=1.5)
    else:
        g.add_projection("c", "c", rank=2)
        g.add_projection("c", "a", key="second", rank=1)
        g.add_projection("u", "a", rank=1, sign="free")
    return model(g, "tanh", device="cpu", dtype=torch.float64, seed=1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["shared", "low rank"])
@pytest.mark.parametrize("regions", [None, "a", ["b", "c"]], ids=str)
def test_the_jacobian_of_shared_gains_and_low_rank(model, kind, regions):
    net = shared_and_low_rank(model, kind)
    state, u = a_state(net), torch.tensor([0.5, -0.3], dtype=torch.float64)
    units = units_of(net, regions)
    full = torch.autograd.functional.jacobian(lambda s: one_step(net, s[None], u)[0], state)
    by_input = torch.autograd.functional.jacobian(lambda v: one_step(net, state[None], v)[0], u)
    found = linearize(net, state, u, regions=regions)
    assert np.abs(found.jacobian().toarray() - full[units][:, units].numpy()).max() < 1e-10
    assert np.abs(found.input_jacobian().toarray() - by_input[units].numpy()).max() < 1e-10
    point = find_fixed_points(net, u, starts=3).state[:1]
    assert one_step(net, torch.from_numpy(point), u).detach().numpy() == pytest.approx(point, abs=1e-8)


def test_a_large_net_of_low_rank_is_refused():
    g = sm.RegionGraph()
    g.add_region("a", 5000, sign=None)
    g.add_projection("a", "a", rank=1)
    with pytest.raises(AnalysisError, match="'a' -> 'a' has low rank, so the Jacobian is not sparse"):
        linearize(sm.mRNN(g, device="cpu"), np.zeros(5000))


def net_slope(net, x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net.activation_segments.apply(x).sum(), x)
    return slope.numpy()


@pytest.mark.parametrize("model", MODELS)
def test_the_flow_and_the_other_coordinates(model):
    net = regions_net(model)
    point = find_fixed_points(net, starts=30).state[0]
    own, other = ("h", "x") if model is sm.ElmanmRNN else ("x", "h")
    a, b = linearize(net, point, of=own), linearize(net, point, of=other)
    assert a.speed < 1e-8
    step, flow = a.jacobian("step").toarray(), a.jacobian("flow").toarray()
    assert step == pytest.approx(np.eye(15) + net.dt * flow)  # Euler
    for kind in ("step", "flow"):
        one, two = (np.sort_complex(np.linalg.eigvals(lin.jacobian(kind).toarray())) for lin in (a, b))
        assert one == pytest.approx(two, abs=1e-8)
    pre = torch.from_numpy(point)
    if model is sm.ElmanmRNN:
        pre = a.dynamics.preactivation(pre[:, None])[:, 0]
    slope = net_slope(net, pre)
    x, h = (a, b) if own == "x" else (b, a)
    changed = slope[:, None] * x.jacobian("flow").toarray() / slope
    assert h.jacobian("flow").toarray() == pytest.approx(changed)
    if model is sm.ElmanmRNN:  # x[t+1] = W f(x[t]) + drive
        w = net.effective_W_rec.detach().to_dense()
        step_of_x = torch.autograd.functional.jacobian(lambda z: w @ net.activation_segments.apply(z), pre)
        assert x.jacobian().toarray() == pytest.approx(step_of_x.numpy(), abs=1e-10)


def test_exponential_euler():
    net = regions_net(integrator="exponential_euler")
    state = a_state(net)
    full = torch.autograd.functional.jacobian(lambda s: one_step(net, s[None], [0.0] * 3)[0], state)
    found = linearize(net, state)
    assert np.abs(found.jacobian().toarray() - full.numpy()).max() < 1e-10
    tau = np.repeat([100.0, 40.0, 100.0], [6, 4, 5])
    w, slope = net.effective_W_rec.detach().to_dense().numpy(), net_slope(net, state)
    assert found.jacobian("flow").toarray() == pytest.approx((w * slope - np.eye(15)) / tau[:, None])


# ---------------------------------------------------------------- modes


def two_regions(model=sm.mRNN):
    """An oscillating pair in one region, a slow unit in the other."""
    g = sm.RegionGraph()
    g.add_region("o", 2, sign=None)
    g.add_region("s", 1, sign=None)
    g.add_projection("o", "o", weights=np.array([[0.8, -0.6], [0.6, 0.8]]))
    g.add_projection("s", "s", weights=[[0.95]])
    options = dict(dt=1, tau=20) if model is sm.mRNN else {}
    return model(g, "linear", device="cpu", dtype=torch.float64, **options)


def test_modes_of_a_closed_form(tmp_path):
    found = linearize(two_regions(), np.zeros(3)).modes(3, "flow")
    assert found.eigenvalues == pytest.approx([-0.05 / 20, (-0.2 + 0.6j) / 20, (-0.2 - 0.6j) / 20])
    assert found.timescale == pytest.approx([400, 100, 100])
    assert found.frequency == pytest.approx([0, 30 / (2 * np.pi), 30 / (2 * np.pi)])
    assert found.participation == pytest.approx(np.array([[0, 1], [1, 0], [1, 0]]))
    step = linearize(two_regions(), np.zeros(3)).modes(3)
    assert step.eigenvalues == pytest.approx(1 + found.eigenvalues)
    assert step.timescale == pytest.approx(-1 / np.log(np.abs(step.eigenvalues)))
    found.save(tmp_path / "modes.zarr")
    assert type(found).load(tmp_path / "modes.zarr").participation == pytest.approx(found.participation)
    ax = found.plot()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["o", "s"]
    assert ax.get_yticklabels()[0].get_text() == "-0.0025, 400 ms"
    elman = linearize(two_regions(sm.ElmanmRNN), np.zeros(3)).modes(1)
    assert elman.eigenvalues == pytest.approx([1.0 * np.exp(1j * np.arctan2(0.6, 0.8))])
    assert np.isinf(elman.timescale).all()


def test_growing_modes_have_a_positive_timescale():
    found = linearize(net_of(np.diag([2.0, 1.0, 0.5]), activation="linear"), np.zeros(3)).modes(3, "flow")
    assert found.timescale == pytest.approx([100, np.inf, 200])
    assert found.grows.tolist() == [True, False, False]
    assert found.plot().get_yticklabels()[0].get_text() == "0.01, 100 ms (grows)"


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("source", ["u", "v"])
def test_the_response_to_a_delayed_input(model, step, source):
    net = with_delayed_inputs(model)
    point = find_fixed_points(net, starts=20).filter(stability="stable").state[0]
    steps = np.array([0, 1, 2, 3, 4, 10])
    response = linearize(net, point).response(source, steps * net.dt, step=step)
    small, u = 1e-6, torch.zeros(1, 10, 2, dtype=torch.float64)
    u[0, : 10 if step else 1, "uv".index(source)] = small
    out = net(u, torch.from_numpy(point)[None])
    states = (out if model is sm.ElmanmRNN else out[0])[0].detach().numpy()
    simulated = np.concatenate([point[None], states])[steps] - point
    assert response[..., 0] == pytest.approx(simulated / small, abs=1e-4)


def test_the_transfer_function_of_a_delayed_input():
    found = linearize(with_delayed_inputs(), np.zeros(4))
    prompt = linearize(with_delayed_inputs(delays=(1, 1)), np.zeros(4))
    hz = [0.0, 2.0, 7.0]
    assert found.transfer_function(hz, "u") == pytest.approx(prompt.transfer_function(hz, "u"))
    turned = np.exp(-2j * np.pi * np.array(hz) * 20 / 1000)[:, None, None]  # two steps of 10 ms later
    assert found.transfer_function(hz, "v") == pytest.approx(turned * prompt.transfer_function(hz, "v"))




@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("step", [False, True])
def test_the_response_is_that_of_a_small_current(model, step):
    net = regions_net(model)
    point = find_fixed_points(net, {"u": 0.2}, starts=40).filter(stability="stable").state[0]
    found = linearize(net, point, {"u": 0.2})
    times = np.array([0, 1, 2, 5, 20]) * net.dt
    response = found.response("b", times, step=step)
    small = 1e-6
    current = np.zeros(15)
    current[6:10] = small / np.sqrt(4)
    state, reached = torch.from_numpy(point)[None], []
    for t in range(21):
        reached.append((state[0].detach().numpy() - point) / small)
        state = one_step(net, state, [0.2, 0.2, 0.0], current if step or t == 0 else None).detach()
    simulated = np.array([reached[t] for t in (0, 1, 2, 5, 20)])
    assert response[..., 0] == pytest.approx(simulated, abs=1e-4)
    by_input = found.response("u", times)
    assert by_input.shape == (5, 15, 2)
    assert by_input[1] == pytest.approx(found.input_jacobian().toarray()[:, :2])


def test_the_transfer_function_of_a_leaky_unit():
    """1 / (1 + i w tau): unit gain at 0 Hz, half the power at the corner frequency."""
    found = linearize(net_of([[0.0]]), [0.0])
    corner = 1000 / (2 * np.pi * 100)
    gain = found.transfer_function([0.0, corner], "a")[:, 0, 0]
    assert gain == pytest.approx([1, 1 / (1 + 1j)])
    assert found.gain() == pytest.approx(np.array([[1.0]]))


def test_the_transfer_function_of_large_and_small_nets_agree(monkeypatch):
    net = regions_net()
    found = linearize(net, find_fixed_points(net, starts=40).filter(stability="stable").state[0])
    direct = found.transfer_function([0.0, 3.0], "u", ["c", "a"])
    assert direct.shape == (2, 11, 2)
    system = 6j * np.pi / 1000 * np.eye(15) - found.jacobian("flow").toarray()
    dense = np.linalg.solve(system, found.input_jacobian("flow").toarray())
    rows = [*range(6), *range(10, 15)]
    assert direct[1] == pytest.approx(dense[rows][:, :2])
    monkeypatch.setattr("sparse_mrnn.analysis.gmres.DIRECT", 0)
    assert found.transfer_function([0.0, 3.0], "u", ["c", "a"]) == pytest.approx(direct, abs=1e-7)
    gain = found.gain()
    assert gain.shape == (3, 3)
    assert gain[1, 0] == pytest.approx(np.linalg.norm(found.transfer_function(0.0, "a", "b")))


def test_an_undamped_frequency_is_said():
    net = net_of([[1.0]], activation="linear")
    with pytest.raises(AnalysisError, match="response at 0 Hz cannot be computed"):
        linearize(net, [0.0]).transfer_function(0.0, "a")


# ---------------------------------------------------------------- Gramians


@pytest.mark.parametrize("n", [15, 120])
def test_gramians_against_dense_lyapunov_solutions(n):
    rng = np.random.default_rng(n)
    w = 0.9 * rng.standard_normal((n, n)) / np.sqrt(n)
    net = net_of(w, sm.ElmanmRNN, "linear", rng.standard_normal((n, 2)))
    found = linearize(net, np.zeros(n))
    b = found.input_jacobian().toarray()
    c = rng.standard_normal((n, 1))
    for gramian, j, source in (
        (found.controllability("u", rank=n), w, b),
        (found.observability(c, rank=n), w.T, c),
    ):
        exact = sla.solve_discrete_lyapunov(j, source @ source.T)
        scale = np.abs(exact).max()
        assert np.abs(gramian.factor @ gramian.factor.T - exact).max() < 1e-5 * scale
        assert gramian.energy.sum() == pytest.approx(np.trace(exact), rel=1e-5)
        assert gramian.by_region == pytest.approx({"a": np.trace(exact)}, rel=1e-5)
        assert gramian.residual <= 1e-6


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("of", ["x", "h"])
def test_observability_of_a_region_is_that_of_its_mean_activity(model, of):
    net = regions_net(model)
    found = linearize(net, find_fixed_points(net, starts=40).filter(stability="stable").state[0], of=of)
    gramian = found.observability("b", rank=15)
    pre = found.dynamics.preactivation(found.state)[:, 0]
    readout = np.zeros(15)
    readout[6:10] = 1 / 4
    readout = readout * net_slope(net, pre) if of == "x" else readout
    exact = sla.solve_discrete_lyapunov(found.jacobian().toarray().T, np.outer(readout, readout))
    assert gramian.factor @ gramian.factor.T == pytest.approx(exact, abs=1e-5 * np.abs(exact).max())


def test_controllability_by_a_delayed_input():
    found, prompt = (linearize(with_delayed_inputs(delays=d), np.zeros(4)) for d in ((1, 3), (1, 1)))
    late, early = found.controllability("v", rank=4), prompt.controllability("v", rank=4)
    assert late.factor @ late.factor.T == pytest.approx(early.factor @ early.factor.T)
    g = found.net.graph.copy()
    g.add_projection("v", "a", key="fast")
    with pytest.raises(AnalysisError, match="have different delays"):
        linearize(sm.mRNN(g, "tanh", device="cpu"), np.zeros(4)).controllability("v")


def test_low_rank_gramians_say_what_they_cannot():
    rng = np.random.default_rng(0)
    slow = linearize(net_of(np.diag(np.linspace(0.5, 0.999, 50)), sm.ElmanmRNN, "linear"), np.zeros(50))
    with pytest.raises(AnalysisError, match="residual of .* at rank 3, above"):
        slow.controllability(rng.standard_normal(50), rank=3)
    unstable = linearize(net_of(np.diag([1.1, 0.5]), sm.ElmanmRNN, "linear"), np.zeros(2))
    with pytest.raises(AnalysisError, match="is unstable"):
        unstable.controllability([1.0, 1.0])
    hidden = unstable.controllability([0.0, 1.0])  # the unstable mode cannot be reached
    assert hidden.energy.sum() == pytest.approx(1 / (1 - 0.25))


# ---------------------------------------------------------------- bad input


def test_kinks_are_said_with_their_region():
    g = sm.RegionGraph()
    g.add_region("a", 2, base_firing=1.0)
    g.add_region("b", 3)
    net = sm.mRNN(g, "relu", device="cpu")
    with pytest.warns(KinkWarning, match="units of b \\(3\\) lie at a kink"):
        found = linearize(net, [1.0, 1.0, 0.0, 0.0, 0.0])
    assert found.kinks.tolist() == [False, False, True, True, True]
    assert not linearize(net, np.full(5, 0.1)).kinks.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: linearize(net, np.zeros(3)), ShapeError, "state has shape (3,); expected 15 units last"),
        (lambda net: linearize(net, np.zeros((2, 15))), ShapeError, "takes one state and one input; got 2"),
        (lambda net: linearize(net, np.zeros(15), of="y"), AnalysisError, "of is 'y'"),
        (lambda net: linearize(net, np.zeros(15), regions="x"), UnknownNameError, "unknown region 'x'"),
        (lambda net: linearize(net, np.zeros(15)).jacobian("map"), AnalysisError, "kind is 'map'"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call(regions_net())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "times", "error", "message"),
    [
        ("x", [0], UnknownNameError, "unknown region 'x'"),
        ("b", [0], AnalysisError, "'b' is held here"),
        (np.ones(4), [0], ShapeError, "a pattern has shape (4,)"),
        ("a", [-5.0], AnalysisError, "must not be negative"),
        ("a", [np.nan], AnalysisError, "must not be negative"),
    ],
)
def test_bad_sources_and_times(source, times, error, message):
    found = linearize(regions_net(), np.zeros(15), regions="a")
    with pytest.raises(error) as caught:
        found.response(source, times)
    assert message in str(caught.value)
