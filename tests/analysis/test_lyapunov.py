"""Lyapunov exponents against closed forms, a dense computation, and the transition to chaos."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.analysis_nets import MODELS, net_of, one_step, regions_net, with_delayed_inputs
from sparse_mrnn.analysis import LyapunovSpectrum, lyapunov_spectrum, run_states
from sparse_mrnn.errors import AnalysisError, DivergenceError, ShapeError, UnknownNameError


@pytest.mark.parametrize("model", MODELS)
def test_exponents_of_a_linear_map_are_logarithms_of_its_eigenvalues(model):
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4, 4))
    w = v @ np.diag([0.9, 0.7, -0.5, 0.2]) @ np.linalg.inv(v)
    net = net_of(w, model, "linear")
    found = lyapunov_spectrum(net, 4, steps=2000, transient=500, interval=2)
    step = w if model is sm.ElmanmRNN else np.eye(4) + 0.1 * (w - np.eye(4))
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(step))))[::-1] / net.dt
    assert found.exponents == pytest.approx(exact, rel=1e-3)
    assert (found.error < 1e-3 * np.abs(exact)).all()
    assert found.kaplan_yorke == 0
    assert (found.units, found.dt) == (4, net.dt)


def test_a_rotation_has_two_equal_exponents():
    turn = 0.98 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    found = lyapunov_spectrum(net_of(turn, sm.ElmanmRNN, "linear"), 2, steps=500)
    assert found.exponents * found.dt == pytest.approx(np.log([0.98, 0.98]))


def test_the_tent_map_has_the_exponent_of_its_slope():
    """s (1 - 2 |z - 1/2|) of two rectified units z = a - c: slope +-2 s everywhere, chaotic for 2 s > 1."""
    slope = 1.9
    net = net_of([[slope, -slope], [2 * slope, -2 * slope]], sm.ElmanmRNN, "relu", base_firing=[0.0, -slope])
    found = lyapunov_spectrum(net, 1, x0=[0.3, 0.0], steps=2000)
    assert found.exponents * found.dt == pytest.approx([np.log(slope)])


@pytest.mark.parametrize("model", MODELS)
def test_the_whole_spectrum_is_that_of_dense_jacobians(model):
    """QR of autograd's Jacobians along the network's own trajectory; and the sum is that of log |det|."""
    w = 1.8 * np.random.default_rng(3).standard_normal((8, 8)) / np.sqrt(8)
    net, x0 = net_of(w, model), 0.1 * np.arange(8.0) - 0.3
    found = lyapunov_spectrum(net, 8, x0=x0, steps=200, transient=200, interval=1)
    state, q = torch.from_numpy(x0), np.linalg.qr(np.random.default_rng(5).standard_normal((8, 8)))[0]
    logs, determinants = np.zeros(8), 0.0
    for t in range(400):
        jacobian = torch.autograd.functional.jacobian(lambda s: one_step(net, s[None], [])[0], state).numpy()
        q, r = np.linalg.qr(jacobian @ q)
        if t >= 200:
            logs += np.log(np.abs(np.diag(r)))
            determinants += np.linalg.slogdet(jacobian)[1]
        state = one_step(net, state[None], [])[0].detach()
    per_ms = 200 * net.dt
    assert found.exponents == pytest.approx(np.sort(logs)[::-1] / per_ms, abs=2e-2 / net.dt)
    assert found.exponents.sum() == pytest.approx(determinants / per_ms)


@pytest.mark.parametrize(("g", "chaotic"), [(0.7, False), (0.9, False), (1.5, True), (2.0, True)])
def test_the_largest_exponent_changes_sign_at_g_1(g, chaotic):
    """Sompolinsky, Crisanti & Sommers 1988; below 1 it is that of the fixed point at 0."""
    net = net_of(g * np.random.default_rng(3).standard_normal((200, 200)) / np.sqrt(200), dt=20)
    found = lyapunov_spectrum(net, 1, steps=1500, transient=500)
    assert (found.exponents[0] > 3 * found.error[0]) == chaotic
    if not chaotic:
        lead = sm.analysis.linearize(net, np.zeros(200)).modes(1).eigenvalues
        assert found.exponents[0] == pytest.approx(np.log(np.abs(lead[0])) / 20, rel=0.02)
        assert found.kaplan_yorke == 0


def test_a_driven_net_uses_each_input_in_turn():
    """A period of two inputs: the exponent is the mean of the logarithms at the two points of the orbit."""
    net = net_of([[0.5]], sm.ElmanmRNN, inputs=[[1.0]])
    found = lyapunov_spectrum(net, 1, np.array([[1.0], [-0.2]]), steps=400, interval=2)
    h = torch.zeros(1, 1, dtype=torch.float64)
    for t in range(200):
        before, h = h, one_step(net, h, [1.0] if t % 2 == 0 else [-0.2]).detach()
    slopes = [0.5 * (1 - float(value) ** 2) for value in (before, h)]
    assert found.exponents[0] * net.dt == pytest.approx(np.log(slopes).mean())


def test_constant_input_stimulation_and_several_regions():
    net = regions_net()
    length = dict(steps=300, transient=300)
    silent = lyapunov_spectrum(net, 3, **length)
    driven = lyapunov_spectrum(net, 3, {"u": 1.0}, stim={"b": 2.0}, **length)
    point = sm.analysis.find_fixed_points(net, {"u": 1.0}, stim={"b": 2.0}, starts=3)
    assert point.stability.tolist() == ["stable"]
    assert driven.exponents[0] * net.dt == pytest.approx(np.log(np.abs(point.eigenvalues[0, 0])), rel=0.01)
    assert not np.allclose(silent.exponents, driven.exponents)


def of(exponents, units=9):
    k = len(exponents)
    return LyapunovSpectrum(np.array(exponents), np.zeros(k), np.ones((3, k)), np.arange(3.0), 1.0, units)


def test_the_kaplan_yorke_dimension():
    assert of([1.0, 0.0, -2.0]).kaplan_yorke == 2.5
    assert of([-0.1, -0.2]).kaplan_yorke == 0
    assert np.isnan(of([1.0, 0.5]).kaplan_yorke)
    assert of([1.0, 0.5], units=2).kaplan_yorke == 2


def test_save_load_and_plot(tmp_path):
    found = lyapunov_spectrum(regions_net(), 3, steps=100, transient=10)
    found.save(tmp_path / "exponents.zarr")
    again = LyapunovSpectrum.load(tmp_path / "exponents.zarr")
    assert np.array_equal(again.history, found.history)
    assert again.exponents.tolist() == found.exponents.tolist() == found.history[-1].tolist()
    assert (again.dt, again.units) == (10, 15)
    ax = found.plot()
    assert ax.get_ylabel() == "Lyapunov exponents (1/s)"
    assert len(ax.get_legend().get_texts()) == 2
    again = lyapunov_spectrum(regions_net(), 3, steps=100, transient=10)
    assert np.array_equal(again.exponents, found.exponents)  # the same draws


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(k=0), AnalysisError, "needs 1 <= k <= 15"),
        (dict(k=16), AnalysisError, "needs 1 <= k <= 15"),
        (dict(steps=5), AnalysisError, "steps >= 10"),
        (dict(interval=0), AnalysisError, "interval >= 1"),
        (dict(x0=np.zeros(3)), ShapeError, "x0 has shape (3,); expected 15 units last"),
        (dict(x0=np.zeros((2, 15))), ShapeError, "expected one state"),
        (dict(inputs=[1.0]), ShapeError, "inputs have shape (1, 1)"),
        (dict(inputs={"w": 1.0}), UnknownNameError, "unknown input 'w'"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error) as caught:
        lyapunov_spectrum(regions_net(), **options)
    assert message in str(caught.value)


def test_growth_without_end_is_said():
    with pytest.raises(DivergenceError, match=r"not finite after \d+ steps"):
        lyapunov_spectrum(net_of([[3.0]], sm.ElmanmRNN, "linear"), 1, steps=2000)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("delays", [(1, 3), (5, 3)])
def test_delayed_inputs_arrive_later(model, delays):
    """The exponents are those of the same network without delays under inputs that are moved in time."""
    late, prompt = (with_delayed_inputs(model, d) for d in (delays, (1, 1)))
    u = 4 * np.random.default_rng(0).standard_normal((3, 2))
    moved = np.stack([np.roll(u[:, k], d - 1) for k, d in enumerate(delays)], axis=1)
    options = dict(steps=300, transient=300, x0=np.zeros(4))
    found, same, other = (
        lyapunov_spectrum(net, 1, given, **options).exponents
        for net, given in ((late, u), (prompt, moved), (prompt, u))
    )
    assert found == pytest.approx(same, rel=1e-6)
    assert abs(found - other).max() > 1e-5 * abs(found).max()


@pytest.mark.parametrize("model", MODELS)
def test_runs_with_delayed_inputs_are_those_of_the_network(model):
    net = with_delayed_inputs(model, (4, 2))
    x0 = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = run_states(net, 8, [0.5, -1.0], x0=x0)
    out = net(torch.tensor([0.5, -1.0], dtype=torch.float64).expand(3, 8, 2), x0)
    torch.testing.assert_close(found[:, 1:], (out if model is sm.ElmanmRNN else out[0]).detach())
