"""Flow fields and planes against closed forms and the network's own step."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.analysis_nets import MODELS, net_of, one_step, regions_net
from sparse_mrnn.analysis import (
    FlowField,
    Plane,
    axes_plane,
    find_fixed_points,
    flow_field,
    plane_of,
    principal_plane,
)
from sparse_mrnn.errors import AnalysisError, ShapeError, UnknownNameError


def paths(n=15, trials=3, steps=8, seed=0):
    return np.random.default_rng(seed).standard_normal((trials, steps, n))


def grid_states(field, origin=None):
    """States of the regions analysed at every point of the grid: (rows, columns, units)."""
    plane = field.plane if origin is None else Plane(origin, field.basis)
    return plane.lift(np.stack(np.meshgrid(field.axis1, field.axis2), axis=-1))


@pytest.mark.parametrize("model", MODELS)
def test_the_flow_of_a_linear_net(model):
    """(W - 1) x / tau, and the linearisation about any state is the flow itself."""
    w = np.array([[0.5, -0.8], [0.8, 0.5]])
    net = net_of(w, model, "linear", inputs=np.eye(2))
    field = flow_field(net, paths(2), [0.3, -0.2], plane=(0, 1), grid=(7, 5), about=[1.0, 2.0])
    assert field.velocity.shape == (1, 5, 7, 2)
    tau = net.dt if model is sm.ElmanmRNN else 100
    points = np.stack(np.meshgrid(field.axis1, field.axis2), axis=-1) + field.origin
    exact = (points @ (w - np.eye(2)).T + [0.3, -0.2]) / tau
    assert field.velocity[0] == pytest.approx(exact)
    assert field.linear[0] == pytest.approx(exact)
    assert field.speed[0] == pytest.approx(np.linalg.norm(exact, axis=-1))
    assert field.about[0] + field.origin == pytest.approx([1.0, 2.0])
    assert field.labels == ("unit a[0]", "unit a[1]")


def test_the_flow_vanishes_at_the_fixed_points_of_a_bistable_net():
    net = net_of([[2.0, -0.5], [-0.5, 2.0]])
    points = find_fixed_points(net, starts=200)
    for point in points.state:
        square = point + np.array([[[-1e-3, -1e-3], [1e-3, 1e-3]]])
        field = flow_field(net, square, plane=(0, 1), grid=3, margin=0.0, others=point)
        assert field.speed[0, 1, 1] < 1e-8
        assert field.velocity[0] == pytest.approx(field.linear[0], abs=1e-7)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("regions", [None, "b", ["a", "c"]])
def test_the_flow_is_that_of_a_step(model, regions):
    """On a plane of some regions; the others, and directions left out, at the mean of the trajectories."""
    net, given = regions_net(model), 0.3 * paths()
    u = [0.5, -0.3, 1.0]
    field = flow_field(net, given, u, regions=regions, grid=4)
    units = field.units
    assert set(field.region) == set(net.hid_regions if regions is None else regions)
    mean = given.reshape(-1, 15).mean(0)
    assert field.origin == pytest.approx(mean[units])
    states = np.tile(mean, (16, 1))
    states[:, units] = grid_states(field).reshape(16, -1)
    after = one_step(net, torch.from_numpy(states), u).detach().numpy()
    change = (after - states)[:, units]
    if model is sm.mRNN:
        tau = np.repeat([100.0, 40.0, 100.0], [6, 4, 5])[units]
        velocity = change / net.alpha.expand(15, 1).numpy()[units, 0] / tau
    else:
        velocity = change / net.dt
    assert field.velocity.reshape(16, 2) == pytest.approx(velocity @ field.basis)
    assert field.speed.ravel() == pytest.approx(np.linalg.norm(velocity, axis=1))


def test_the_linearisation_is_tangent_to_the_flow():
    net, given = regions_net(), 0.3 * paths()
    for width, close in ((1e-2, 1e-3), (1e-4, 1e-7)):
        about = given[0, 3]
        near = about + width * np.random.default_rng(1).standard_normal((1, 20, 15))
        field = flow_field(net, near, others=about, about=about, grid=3)
        assert np.abs(field.velocity - field.linear).max() < close * np.abs(field.velocity).max()


def test_other_regions_that_follow():
    """A field for every time asked for, in which the other regions have the state of the first trajectory."""
    net, given = regions_net(), paths()
    found = flow_field(net, given, regions="b", others="following", times=[0, 5], grid=3)
    assert found.time.tolist() == [0, 5]
    for k, t in enumerate((0, 5)):
        one = flow_field(net, given, regions="b", others=given[0, t], grid=3)
        assert found.velocity[k] == pytest.approx(one.velocity[0])
    assert flow_field(net, given, others="following", grid=3).time.tolist() == [0, 1, 3, 5, 7]
    assert not np.allclose(found.velocity[0], found.velocity[1])


def test_a_batch_of_the_grid_at_a_time(monkeypatch):
    net, given = regions_net(), paths()
    whole = flow_field(net, given, grid=(6, 5))
    monkeypatch.setattr("sparse_mrnn.analysis.flow.COLUMNS", 15 * 7)
    assert flow_field(net, given, grid=(6, 5)).velocity == pytest.approx(whole.velocity)


def test_save_load_and_plot(tmp_path):
    net, given = regions_net(), paths()
    field = flow_field(net, given, regions="ab", grid=5)
    field.save(tmp_path / "flow.zarr")
    again = FlowField.load(tmp_path / "flow.zarr")
    for name in FlowField.dimensions():
        assert np.array_equal(getattr(again, name), getattr(field, name)), name
    assert again.labels == field.labels
    points = find_fixed_points(net, starts=5)
    for kind in ("stream", "quiver"):
        for linear in (False, True):
            ax = again.plot(kind=kind, linear=linear, fixed_points=points)
            assert ax.get_xlabel().startswith("PC 1 (")
            assert [text.get_text() for text in ax.get_legend().get_texts()] == ["stable (1)"]
            assert len(ax.lines) == 3
    with pytest.raises(AnalysisError, match="kind is 'arrows'"):
        field.plot(kind="arrows")


# ---------------------------------------------------------------- planes


def test_planes():
    flat = np.random.default_rng(0).standard_normal((40, 2)) @ np.diag([3.0, 1.0])
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 2)))[0]
    plane = principal_plane(flat @ basis.T + 1.0)
    assert plane.lift(plane.project(flat @ basis.T + 1.0)) == pytest.approx(flat @ basis.T + 1.0)
    share = np.sort(np.linalg.eigvalsh(np.cov(flat.T)))[::-1]
    labels = [f"PC {k + 1} ({100 * share[k] / share.sum():.0f}% of variance)" for k in (0, 1)]
    assert list(plane.labels) == labels
    skew = plane_of(np.zeros(3), np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    assert skew.basis == pytest.approx(np.eye(3)[:, :2])
    assert axes_plane(np.zeros(3), (2, 0)).project([1.0, 2.0, 3.0]).tolist() == [3.0, 1.0]
    with pytest.raises(ShapeError, match="expected 6 units last"):
        plane.project(np.zeros((2, 5)))


LINE = np.arange(8.0)[:, None] * np.ones(15)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(trajectories=paths(3)), ShapeError, "trajectories has shape (3, 8, 3); expected 15 units last"),
        (dict(trajectories=np.zeros(15)), ShapeError, "expected (trials, steps, units)"),
        (dict(trajectories=LINE), AnalysisError, "too few for a plane"),
        (dict(trajectories=LINE[:1]), AnalysisError, "too few for a plane"),
        (dict(trajectories=np.full((2, 15), np.inf)), AnalysisError, "NaN or infinite"),
        (dict(plane="pc"), AnalysisError, "plane is 'pc'; use 'pca'"),
        (dict(plane=(0, 0)), AnalysisError, "rank below 2"),
        (dict(plane=(0, 15)), AnalysisError, "units go from 0 to 14"),
        (dict(plane=np.ones((15, 2))), AnalysisError, "rank below 2"),
        (dict(plane=np.eye(3)[:, :2]), ShapeError, "needs a basis of shape (15, 2)"),
        (dict(plane=np.eye(15)[:, :2], regions="a"), ShapeError, "needs a basis of shape (6, 2)"),
        (dict(plane=Plane(np.zeros(3), np.eye(3)[:, :2])), ShapeError, "a plane of 3 units"),
        (dict(regions="d"), UnknownNameError, "unknown region 'd'"),
        (dict(grid=1), AnalysisError, "at least two points along each axis"),
        (dict(others="free"), AnalysisError, "others is 'free'"),
        (dict(others=np.zeros(3)), ShapeError, "others has shape (3,)"),
        (dict(others="following", times=[8]), AnalysisError, "has steps 0 to 7"),
        (dict(about=np.zeros(3)), ShapeError, "about has shape (3,)"),
        (dict(inputs=np.zeros((2, 3))), ShapeError, "one input and one current; got 2"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error) as caught:
        flow_field(regions_net(), **{"trajectories": paths(), **options})
    assert message in str(caught.value)
