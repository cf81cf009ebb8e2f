"""Fixed points against closed forms, autograd and simulation; what is not found is said."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.analysis_nets import MODELS, net_of, one_step, regions_net, ring
from sparse_mrnn.analysis import (
    FixedPoints,
    SolverOptions,
    find_fixed_points,
    linearize,
    run_states,
    sample_states,
)
from sparse_mrnn.analysis.gmres import gmres
from sparse_mrnn.errors import AnalysisError, KinkWarning, ShapeError, UnknownNameError

# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("model", MODELS)
def test_a_linear_net_has_the_one_fixed_point_of_its_linear_system(model):
    rng = np.random.default_rng(0)
    w, b = 0.6 * rng.standard_normal((30, 30)) / np.sqrt(30), rng.standard_normal((30, 2))
    net = net_of(w, model, "linear", b, base_firing=0.5)
    u = np.array([1.0, -2.0])
    points = find_fixed_points(net, u, starts=5, eigenvalues=30)
    exact = np.linalg.solve(np.eye(30) - w, b @ u + 0.5)
    assert len(points) == 1
    assert points.state[0] == pytest.approx(exact, abs=1e-7)
    assert points.speed[0] < 1e-8
    assert points.q[0] == pytest.approx(points.speed[0] ** 2 / 2)
    step = w if model is sm.ElmanmRNN else np.eye(30) + 0.1 * (w - np.eye(30))
    assert np.sort(np.abs(points.eigenvalues[0])) == pytest.approx(np.sort(np.abs(np.linalg.eigvals(step))))
    assert points.stability.tolist() == ["stable"]
    assert points.starts_here.tolist() == [5]


def bistable(g, model=sm.mRNN):
    """Two units that excite themselves and inhibit each other."""
    return net_of([[g, -0.5], [-0.5, g]], model)


@pytest.mark.parametrize("model", MODELS)
def test_a_bistable_net_of_two_units(model):
    """On the diagonals x = (g -+ 0.5) tanh x, as of one unit; with a point, its mirror images are fixed."""
    points = find_fixed_points(bistable(2.0, model), starts=400)
    assert len(points) == 9
    assert (points.stability == "stable").sum() == 4

    def root(gain):
        low, high = 1e-6, 10.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if gain * np.tanh(middle) > middle else (low, middle)
        return low

    stable = {tuple(x) for x in points.x[points.stable].round(6).tolist()}
    same, opposite = round(root(1.5), 6), round(root(2.5), 6)
    assert stable == {(same, same), (-same, -same), (opposite, -opposite), (-opposite, opposite)}
    mirrored = {tuple(np.round(-x, 4) + 0.0) for x in points.x}
    assert mirrored == {tuple(np.round(x, 4) + 0.0) for x in points.x}
    one = find_fixed_points(net_of([[0.5]], model), starts=20)  # below the bifurcation
    assert len(one) == 1
    assert one.stable.all()
    slope = 0.5 if model is sm.ElmanmRNN else 0.95
    assert one.eigenvalues[0, 0] == pytest.approx(slope)


def test_a_ring_attractor_has_a_marginal_mode_along_the_ring():
    """Ben-Yishai et al. 1995: w cos(a - b) with tanh units; a bump may stand at any angle."""
    n = 60  # of fewer units, some angles are a little more stable than others
    net = net_of(ring(n))
    angle = 2 * np.pi * np.arange(n) / n
    starts = np.stack([np.cos(angle - shift) for shift in np.linspace(0, 6, 7)])
    points = find_fixed_points(net, x0=starts)
    assert len(points) == 7  # each start finds the bump at its own angle
    assert set(points.stability) == {"marginal"}
    assert np.abs(points.eigenvalues[:, 0]) == pytest.approx(1, abs=1e-9)
    assert (np.abs(points.eigenvalues[:, 1]) < 0.999).all()
    mode = linearize(net, points.state[0]).modes(1).vectors[:, 0].real
    shift = np.arctan2(points.state[0] @ np.sin(angle), points.state[0] @ np.cos(angle))
    assert abs(mode @ np.sin(angle - shift)) / np.linalg.norm(np.sin(angle)) == pytest.approx(1, abs=1e-3)


# ---------------------------------------------------------------- against the network itself


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "linear", torch.sin])
def test_points_stay_where_they_are(model, activation):
    net = regions_net(model, activation)
    points = find_fixed_points(net, {"u": 0.5, "v": [1.0]}, stim={"b": 0.2}, starts=30, eigenvalues=1)
    assert len(points)
    stim = np.where(points.region == "b", 0.2, 0.0)
    state = torch.from_numpy(points.state)
    after = one_step(net, state, [0.5, 0.5, 1.0], stim)
    torch.testing.assert_close(after, state, rtol=0, atol=1e-7)
    assert points.inputs.tolist() == [[0.5, 0.5, 1.0]] * len(points)
    own = "h" if model is sm.ElmanmRNN else "x"
    assert np.array_equal(getattr(points, own), points.state)
    if model is sm.mRNN:
        expected = net.activation_segments.apply(torch.from_numpy(points.x).t()).t()
        assert points.h == pytest.approx(expected.numpy())


@pytest.mark.parametrize("model", MODELS)
def test_stability_is_what_a_simulation_shows(model):
    net = regions_net(model, seed=3)
    points = find_fixed_points(net, starts=60)
    assert "unknown" not in points.stability
    rng = np.random.default_rng(0)
    for point, stability in zip(points.state, points.stability, strict=True):
        state = torch.from_numpy(point + 1e-5 * rng.standard_normal(point.shape))[None]
        for _ in range(3000):
            state = one_step(net, state, [0.0, 0.0, 0.0]).detach()
        returned = float((state[0] - torch.from_numpy(point)).abs().max()) < 1e-5
        assert returned == (stability == "stable")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("regions", ["b", "ab", ["c", "a"]])
def test_a_subset_with_the_others_held(model, regions):
    net = regions_net(model)
    x0 = torch.randn(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = find_fixed_points(net, x0=x0, regions=regions, unique=1e-9)
    units = net.layout().indices(*([regions] if isinstance(regions, str) else regions))
    held = np.setdiff1d(np.arange(15), units)
    for start, point in zip(x0.numpy(), points.start_point, strict=True):
        assert point >= 0
        assert np.array_equal(points.state[point][held], start[held])  # each start has points of its own
        after = one_step(net, torch.from_numpy(points.state[point])[None], [0.0, 0.0, 0.0])[0]
        assert after[units].detach().numpy() == pytest.approx(points.state[point][units], abs=1e-8)
    assert points.regions == tuple(name for name in "abc" if name in set(points.region[units]))


def test_float32_and_the_other_layout_of_batches_give_the_same():
    double = regions_net()
    single = regions_net(batch_first=False).to(torch.float32)
    a, b = (find_fixed_points(net, starts=10) for net in (double, single))
    assert a.state == pytest.approx(b.state, abs=1e-4)


def test_inputs_and_starts_pair_up():
    net = net_of([[0.5]], inputs=[[1.0]])
    points = find_fixed_points(net, np.array([[0.0], [1.0], [2.0], [1.0]]), x0=np.zeros((4, 1)))
    assert len(points) == 3  # of the same input, the same point
    assert points.start_point[1] == points.start_point[3]
    with pytest.raises(ShapeError, match="inputs has 2 columns, others 4"):
        find_fixed_points(net, np.zeros((2, 1)), x0=np.zeros((4, 1)))


def test_gradient_descent_where_newton_stalls():
    """From some starts, Newton steps end at a kink that no step gets across; after descents more arrive."""
    w = 1.5 * np.random.default_rng(0).standard_normal((20, 20)) / np.sqrt(20)
    net = net_of(w, activation="relu", base_firing=0.3)
    few, more = (
        find_fixed_points(net, starts=60, eigenvalues=0, options=SolverOptions(rounds=rounds))
        for rounds in (0, 2)
    )
    stalled = few.start_point < 0
    assert stalled.any()
    assert np.array_equal(more.start_descents > 0, stalled)
    assert (more.start_point >= 0).sum() > (few.start_point >= 0).sum()
    assert f"{(more.start_point < 0).sum()} did not reach" in more.diagnostics


# ---------------------------------------------------------------- the result


def test_save_load_filter_and_plot(tmp_path):
    points = find_fixed_points(bistable(2.0), starts=300)
    points.save(tmp_path / "points.zarr")
    again = FixedPoints.load(tmp_path / "points.zarr")
    for name in FixedPoints.dimensions():
        assert np.array_equal(getattr(again, name), getattr(points, name)), name
    assert (again.regions, again.tol) == (("a",), 1e-8)
    with pytest.raises(AnalysisError, match="exists; pass overwrite=True"):
        points.save(tmp_path / "points.zarr")
    points.save(tmp_path / "points.zarr", overwrite=True)
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(AnalysisError, match="not a result of an analysis"):
            FixedPoints.load(bad)
    with pytest.raises(AnalysisError, match="cannot write"):
        points.save(tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "points.zarr"]
    dataset = points.to_dataset()
    assert dataset.x.sel(unit=dataset.region == "a").shape == (9, 2)

    stable = again.filter(stability="stable", outlier=False, max_q=1.0)
    assert len(stable) == 4
    assert (stable.start_point >= 0).sum() == stable.starts_here.sum()
    assert np.array_equal(stable[[1]].state, stable.state[1:2])
    with pytest.raises(AnalysisError, match="stability is 'stabel'"):
        again.filter(stability="stabel")

    ax = points.plot()
    assert ax.get_xlabel().startswith("PC 1 (")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["stable (4)", "unstable (5)"]
    with pytest.raises(AnalysisError, match="too few for a plane"):
        stable[[0]].plot()


def test_outliers_are_flagged():
    points = find_fixed_points(bistable(2.0), x0=1e-3 * np.random.default_rng(0).standard_normal((50, 2)))
    far = np.abs(points.x).max(1) > 0.1
    assert np.array_equal(points.outlier, far)


def test_nothing_found_is_said():
    """x = x + 1 has no solution: a linear net of radius 1 under constant drive."""
    points = find_fixed_points(net_of([[1.0]], activation="linear", base_firing=1.0), starts=3)
    assert len(points) == 0
    assert points.diagnostics.startswith("no fixed point found from 3 starts; 3 did not reach |v| < 1e-08")
    assert "|v| = 1 " in points.diagnostics
    assert points.start_point.tolist() == [-1, -1, -1]
    with pytest.raises(AnalysisError, match="nothing to draw: no fixed point found"):
        points.plot()


def test_kinks_are_said():
    net = net_of(np.zeros((2, 2)) + 0.1, activation="relu")
    with pytest.warns(KinkWarning, match="fixed point 0, 2 units lie at a kink"):
        points = find_fixed_points(net, starts=2)
    assert points.kinks.tolist() == [2]


def delayed():
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_projection("a", "a", delay=30.0)
    return sm.mRNN(g, device="cpu")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: find_fixed_points(regions_net(), regions="d"), UnknownNameError, "unknown region 'd'"),
        (lambda: find_fixed_points(regions_net(), regions=[]), AnalysisError, "regions is empty"),
        (lambda: find_fixed_points(regions_net(), {"w": 1}), UnknownNameError, "unknown input 'w'"),
        (lambda: find_fixed_points(regions_net(), {"u": [1, 2, 3]}), ShapeError, "'u' has shape (1, 3)"),
        (lambda: find_fixed_points(regions_net(), [1, 2]), ShapeError, "or (columns, 3): u 2, v 1"),
        (lambda: find_fixed_points(regions_net(), x0=[[1.0] * 3]), ShapeError, "expected 15 units last"),
        (lambda: find_fixed_points(regions_net(), x0=[np.nan] * 15), AnalysisError, "entries that are NaN"),
        (lambda: find_fixed_points(regions_net(), stim=[1.0]), ShapeError, "stim has shape (1,)"),
        (lambda: find_fixed_points(regions_net(), starts=0), AnalysisError, "starts at least 1"),
        (lambda: find_fixed_points(delayed()), AnalysisError, "the network has delays"),
        (lambda: find_fixed_points(sm.mRNNBase(seed=0)), AnalysisError, "has no dynamics"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_delay_of_one_step_is_none():
    g = sm.RegionGraph()
    g.add_region("a", 3, base_firing=0.1)
    g.add_projection("a", "a", delay=10.0)
    assert len(find_fixed_points(sm.mRNN(g, "tanh", device="cpu", dt=10), starts=3))


def test_sample_states():
    states = torch.arange(24.0).reshape(2, 3, 4)
    drawn = sample_states(states, 5, seed=1)
    assert {tuple(row) for row in drawn.tolist()} <= {tuple(row) for row in states.reshape(-1, 4).tolist()}
    assert torch.equal(drawn, sample_states(states, 5, seed=1))
    assert not torch.equal(drawn, sample_states(states, 5, noise=0.1, seed=1))


@pytest.mark.parametrize("model", MODELS)
def test_run_states_are_those_of_the_network(model):
    net, u = regions_net(model), [0.5, -0.3, 1.0]
    found = run_states(net, 6, u, trials=3, stim={"b": 0.2}, seed=1)
    assert found.shape == (3, 7, 15)
    state, stim = found[:, 0], np.where(np.isin(np.arange(15), range(6, 10)), 0.2, 0.0)
    for t in range(1, 7):
        state = one_step(net, state, u, stim).detach()
        torch.testing.assert_close(found[:, t], state)
    assert torch.equal(run_states(net, 2, u, x0=found[1, 2], stim={"b": 0.2})[0], found[1, 2:5])
    with pytest.raises(AnalysisError, match="steps is 0"):
        run_states(net, 0)
    with pytest.raises(ShapeError, match="2 inputs for 3 trials"):
        run_states(net, 1, np.zeros((2, 3)), trials=3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 1000))
def test_gmres_solves_each_column(n, columns, seed):
    rng = np.random.default_rng(seed)
    matrices = torch.from_numpy(rng.standard_normal((columns, n, n)) + 3 * np.eye(n))
    rhs = torch.from_numpy(rng.standard_normal((n, columns)) * (rng.random(columns) < 0.8))
    tol = torch.full((columns,), 1e-9, dtype=torch.float64)
    x, residual = gmres(lambda v: torch.einsum("cij,jc->ic", matrices, v), rhs, tol)
    for k in range(columns):
        off = float((matrices[k] @ x[:, k] - rhs[:, k]).norm())
        assert off <= 1e-8 * max(float(rhs[:, k].norm()), 1e-300) or residual[k] > 1e-9
    assert (residual <= 1e-9).all()
