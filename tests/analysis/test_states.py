"""Dimensions, principal components and rotations of states, in memory and out of core from a recording."""

import numpy as np
import pytest

import sparse_mrnn as sm
from helpers.analysis_nets import net_of
from sparse_mrnn.analysis import (
    PrincipalComponents,
    Rotation,
    dimensionality,
    principal_components,
    rotational_plane,
)
from sparse_mrnn.errors import AnalysisError, RecordingError, ShapeError
from sparse_mrnn.recording import Record, open_recording


def spread(n=30, trials=4, steps=50, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((trials, steps, n)) @ np.diag(0.8 ** np.arange(n)) + 2.0


def covariance(states):
    return np.cov(states.reshape(-1, states.shape[-1]).T)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few states, so that nothing is read as a whole."""
    monkeypatch.setattr("sparse_mrnn.analysis.components.BLOCK_BYTES", 8 * 30 * 7)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A run of two trials on disk, with noise, of 20 units."""
    path = tmp_path_factory.mktemp("runs") / "run.zarr"
    w = np.random.default_rng(0).standard_normal((20, 20)) / np.sqrt(20)
    net = net_of(1.5 * w, noise_level_act=0.1)
    sm.simulate(net, 1500, batch=2, noise=True, record=Record(variables=("h", "x")), out=path, progress=False)
    return path


# ---------------------------------------------------------------- dimensionality


@pytest.mark.parametrize("states", [spread(), spread(n=60, trials=1, steps=25)], ids=["tall", "wide"])
def test_the_participation_ratio_is_that_of_the_eigenvalues(states, small_blocks):
    values = np.linalg.eigvalsh(covariance(states))
    assert dimensionality(states) == pytest.approx(values.sum() ** 2 / (values**2).sum())


def test_known_dimensions():
    assert dimensionality(np.outer(np.arange(5.0), np.ones(7))) == pytest.approx(1)
    assert dimensionality(np.concatenate([np.eye(9), -np.eye(9)])) == pytest.approx(9)  # alike on all axes


def test_states_of_a_recording(recording, small_blocks):
    dataset = open_recording(recording)
    for variable in ("h", "x"):
        states = dataset[variable].values.astype(float)
        assert dimensionality(dataset[variable]) == pytest.approx(dimensionality(states))
        lazy, loaded = principal_components(dataset[variable], 4), principal_components(states, 4)
        assert lazy.variance == pytest.approx(loaded.variance)
    first = next(name for name in dataset.data_vars)
    assert dimensionality(recording) == pytest.approx(dimensionality(dataset[first].values.astype(float)))
    assert dimensionality(dataset) == pytest.approx(dimensionality(recording))


# ---------------------------------------------------------------- principal components


@pytest.mark.parametrize("n", [30, 1100])
def test_components_are_the_eigenvectors_of_the_covariance(n, tmp_path):
    rng = np.random.default_rng(0)
    states = rng.standard_normal((3, 40, 12)) @ np.diag(0.6 ** np.arange(12)) @ rng.standard_normal((12, n))
    found = principal_components(states, 5)
    flat = states.reshape(-1, n) - states.reshape(-1, n).mean(0)
    _, size, vectors = np.linalg.svd(flat, full_matrices=False)
    values = size**2 / (len(flat) - 1)
    assert found.variance == pytest.approx(values[:5])
    assert np.abs(np.diag(found.components @ vectors[:5].T)) == pytest.approx(np.ones(5))
    assert found.total == pytest.approx(values.sum())
    assert found.explained == pytest.approx(values[:5] / values.sum())
    scores = found.project(states)
    assert scores.shape == (3, 40, 5)
    assert np.cov(scores.reshape(-1, 5).T) == pytest.approx(np.diag(found.variance), abs=1e-8)
    found.save(tmp_path / "pca.zarr")
    assert PrincipalComponents.load(tmp_path / "pca.zarr").total == found.total
    plane = found.plane(1, 0)
    assert plane.project(states) == pytest.approx(scores[..., [1, 0]])
    assert found.plot().get_ylabel() == "variance (%)"
    with pytest.raises(AnalysisError, match="components 0 and 5 of 5 do not span a plane"):
        found.plane(0, 5)


# ---------------------------------------------------------------- rotation


def spiral(frequency=2.0, noise=0.0, n=10):
    """Two trials that turn at a frequency in Hz, on a plane of n units; sampled every 5 ms for a second."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((n, 2)))[0]
    angle = 2 * np.pi * frequency * np.arange(0, 1, 0.005)
    turns = [np.stack([np.cos(angle + phase), np.sin(angle + phase)], axis=1) for phase in (0, 1)]
    states = np.stack(turns) @ basis.T
    return states + noise * rng.standard_normal(states.shape), basis


def test_the_plane_of_a_rotation(tmp_path):
    states, basis = spiral(noise=1e-3)
    found = rotational_plane(states, 5.0, components=4)
    assert found.frequency == pytest.approx(2, rel=0.01)
    cosines = np.linalg.svd(found.basis.T @ basis)[1]
    assert cosines == pytest.approx([1, 1], abs=1e-3)
    assert found.r2 > 0.95
    assert found.r2_any >= found.r2
    found.save(tmp_path / "rotation.zarr")
    assert Rotation.load(tmp_path / "rotation.zarr").frequency == found.frequency
    assert found.plane.labels == ("rotation 1", "rotation 2")


def test_what_decays_does_not_rotate():
    t = np.arange(0, 1, 0.005)
    decay = np.exp(-t[:, None] * [1.0, 3.0, 7.0])
    found = rotational_plane(np.stack([decay, -decay]), 5.0, components=3)
    assert found.r2 < 0.3
    assert found.r2_any > 0.999


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dimensionality(np.zeros(5)), ShapeError, "expected at least (time, units)"),
        (lambda: dimensionality(np.ones((1, 5))), AnalysisError, "1 states have no variance"),
        (lambda: dimensionality(np.full((9, 5), 3.3)), AnalysisError, "the states are all the same"),
        (lambda: dimensionality(np.full((9, 5), np.nan)), RecordingError, "unit 0 is not finite in trial 0 at time step 0"),
        (lambda: principal_components(spread(3, 1, 9), 4), AnalysisError, "9 states of 3 units have 3"),
        (lambda: principal_components(spread(), 0), AnalysisError, "k is 0"),
        (lambda: rotational_plane(spread(), 0.0), AnalysisError, "a dt above 0"),
        (lambda: rotational_plane(spread(), 1.0, components=1), AnalysisError, "at least two components"),
        (lambda: rotational_plane(spread(3, 5, 2), 1.0, components=2), AnalysisError, "three times"),
    ],
)
def test_bad_states(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_recording_without_units(tmp_path):
    run = sm.simulate(net_of(np.eye(2)), 100, record=Record(what=("mean",)), progress=False)
    with pytest.raises(RecordingError, match="no variable by unit, but h_mean; record what="):
        dimensionality(run)
