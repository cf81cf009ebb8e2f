"""Figures: what is in them, from every kind of source they take."""

import warnings
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import scipy.sparse as sp
import torch

matplotlib.use("agg")
import matplotlib.pyplot as plt
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn import fly_vision, plot
from sparse_mrnn.analysis import currents
from sparse_mrnn.errors import GraphError, RecordingError, ShapeError, TrainingError, UnknownNameError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns
from sparse_mrnn.plot.figure import EXCITATORY, INHIBITORY, short, spread
from sparse_mrnn.plot.regions import synapses_by_sign


def graph(n_regions=4, size=6):
    g = sm.RegionGraph(name="net")
    for k in range(n_regions):
        g.add_region(f"r{k}", size, sign="neg" if k % 2 else "pos", parent_region="odd" if k % 2 else "even")
    g.add_input("cue", 2)
    g.add_projection("cue", "r0")
    for k in range(n_regions):
        g.add_projection(f"r{k}", f"r{(k + 1) % n_regions}", density=0.5)
        g.add_projection(f"r{k}", f"r{k}", density=0.5)
    return g


def record(g, **options):
    net = sm.mRNN(g, device="cpu", seed=0)
    stimulus = [sm.Stimulus("cue", 1.0, start=20, stop=60), sm.Stimulus("r1", 0.5)]
    lesion = sm.Lesion("r2", start=50)
    run = dict(stimulus=stimulus, interventions=lesion, progress=False, batch=2)
    return net, sm.simulate(net, 100, **run, **options)


def texts(ax):
    return [t.get_text() for t in ax.texts]


# ---------------------------------------------------------------- labels


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0.1, 3))
def test_spread_keeps_order_and_distance(positions, apart):
    positions = sorted(positions)
    found = spread(positions, apart, 0, 100)
    assert (np.diff(found) >= apart * (1 - 1e-9)).all()
    if len(positions) * apart < 100:
        assert (found >= -1e-9).all()
        assert (found <= 100 + 1e-9).all()
    if all(b - a >= apart for a, b in pairwise(positions)):
        np.testing.assert_allclose(found, positions, atol=1e-9)


def test_long_names_lose_their_middle():
    assert short("x" * 32) == "x" * 32
    assert len(short("x" * 100)) == 33


@pytest.mark.parametrize("regions", [3, 17, 65])
def test_every_region_is_named(regions):
    g = graph(regions)
    net, recording = record(g)
    names = {f"r{k}" for k in range(regions)}
    assert names <= set(texts(plot.plot_weights(net)))
    assert names <= set(texts(plot.plot_activity(recording)))
    table = plot.plot_connectivity(g)
    assert [t.get_text() for t in table.get_yticklabels()] == [f"r{k}" for k in range(regions)]
    assert [t.get_text() for t in table.get_xticklabels()] == [*(f"r{k}" for k in range(regions)), "cue"]


def test_more_regions_than_fit_are_counted():
    g = sm.RegionGraph()
    for k in range(400):
        g.add_region(f"r{k}", 2 if k == 7 else 1)
    g.add_projection("r0", "r1")
    ax = plot.plot_weights(g)
    assert "r7" in texts(ax)
    assert "largest of 400 regions are named" in ax.get_ylabel()
    assert "of 400 regions" in ax.get_ylabel()


# ---------------------------------------------------------------- weights


def test_weights_of_every_source_are_the_same_picture():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    matrix = net.effective_W_rec.detach()
    sources = [net, graph(), matrix, matrix.to_dense(), matrix.to_dense().numpy()]
    sources.append(sp.csr_array(matrix.to_dense().numpy()))
    images = [plot.plot_weights(source).images[0].get_array() for source in sources]
    for image in images[1:]:
        np.testing.assert_allclose(image, images[0], rtol=1e-6)
    ax = plot.plot_weights(net, regions=["odd"])
    assert texts(ax) == ["r1", "r3"]
    units = net.layout().indices("odd")
    np.testing.assert_allclose(ax.images[0].get_array(), matrix.to_dense().numpy()[units][:, units])
    with pytest.raises(UnknownNameError, match="Did you mean 'odd'"):
        plot.plot_weights(net, regions=["od"])
    with pytest.raises(ShapeError, match="square"):
        plot.plot_weights(np.ones((2, 3)))


def test_the_colour_bar_is_in_units_of_the_weight():
    w = np.zeros((3, 3))
    w[0, 1], w[1, 2] = 0.3, -0.3
    ax = plot.plot_weights(w)
    bar = ax.figure.axes[1]
    labels = [t.get_text() for t in bar.get_yticklabels()]
    assert labels == ["-0.2", "-0.1", "-0.02", "0", "0.02", "0.1", "0.2"]
    assert bar.get_ylabel() == "weight"


def test_low_rank_weights_are_drawn():
    g = sm.RegionGraph()
    g.add_region("a", 5, sign=None)
    g.add_projection("a", "a", rank=2)
    net = sm.mRNN(g, device="cpu", seed=0)
    expected = net.weights("recurrent").dense().detach().numpy()
    np.testing.assert_allclose(plot.plot_weights(net).images[0].get_array(), expected, rtol=1e-6)


def test_weight_change():
    before = sp.csr_array(np.array([[0.0, 1.0], [2.0, 0.0]]))
    after = sp.csr_array(np.array([[3.0, 1.0], [0.0, 0.0]]))
    ax = plot.plot_weight_change(before, after)
    assert ax.get_title() == "3 synapses: 67% changed, 1 gone, 1 new"
    net = sm.mRNN(graph(), device="cpu", seed=0)
    old = net.effective_W_rec.detach().clone()
    assert plot.plot_weight_change(old, net).get_title().endswith(": 0% changed")
    with pytest.raises(ShapeError, match="not of the same units"):
        plot.plot_weight_change(before, np.ones((3, 3)))


def test_degrees():
    w = np.zeros((4, 4))
    w[0, 1:] = 1
    ax = plot.plot_degrees(w)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["in: mean 0.75, largest 3, none 75%", "out: mean 0.75, largest 1, none 25%"]
    ticks = {t.get_text() for t in ax.get_yticklabels()}
    assert {"1", "0.5"} <= ticks


# ---------------------------------------------------------------- regions


def test_synapses_by_sign():
    g = sm.RegionGraph()
    g.add_region("mixed", 4, sign=np.array([1, 1, -1, 0], dtype=np.int8))
    g.add_region("b", 3)
    g.add_projection("mixed", "b")
    g.add_projection("mixed", "b", key="neg", sign="neg", density=0.5)
    explicit = np.zeros((4, 4))
    explicit[0, :], explicit[1, 3] = (1.0, 1.0, -1.0, 1.0), -2.0
    g.add_projection("mixed", "mixed", weights=sp.csr_array(explicit))
    found = synapses_by_sign(g)
    assert found["mixed", "b"].tolist() == [6.0, 3.0 + 6.0, 3.0]
    assert found["mixed", "mixed"].tolist() == [3.0, 2.0, 0.0]


def test_few_regions_are_a_circle_with_loops_and_many_a_table():
    few = plot.plot_regions(graph(3))
    colours = {matplotlib.colors.to_hex(p.get_edgecolor()) for p in few.patches}
    assert {EXCITATORY, INHIBITORY} <= colours
    loops = [p for p in few.patches if isinstance(p, matplotlib.patches.Arc)]
    assert len(loops) == 3
    assert texts(few) == ["r0\n6 units", "r1\n6 units", "r2\n6 units", "cue\n2 channels"]
    assert few.get_legend_handles_labels()[1] == ["excitatory", "inhibitory"]
    many = plot.plot_regions(graph(13))
    assert many.get_title() == "net: synapses between 14 regions"
    assert plot.plot_regions(graph(13), style="circle").get_title().startswith("net: 14 regions")
    with pytest.raises(GraphError, match="Did you mean 'circle'"):
        plot.plot_regions(graph(), style="circel")


def test_connectivity_values():
    g = sm.RegionGraph()
    g.add_region("a", 4)
    g.add_region("b", 2, sign="neg")
    g.add_projection("a", "b", density=0.5)
    for value, text in (("synapses", "4"), ("density", "0.5"), ("fan_in", "2")):
        assert texts(plot.plot_connectivity(g, value)) == [text]
    assert texts(plot.plot_connectivity(g, regions=["b"])) == []
    with pytest.raises(GraphError, match="Did you mean 'density'"):
        plot.plot_connectivity(g, "densty")
    with pytest.raises(UnknownNameError, match="unknown region 'c'"):
        plot.plot_connectivity(g, regions=["c"])


@pytest.mark.parametrize("draw", [plot.plot_regions, plot.plot_connectivity])
def test_graphs_without_projections_or_regions(draw):
    g = sm.RegionGraph()
    draw(g)
    g.add_region("only", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(g).figure.canvas.draw()


# ---------------------------------------------------------------- activity


def test_stimuli_and_interventions_are_marked():
    _, recording = record(graph())
    ax = plot.plot_activity(recording)
    assert {"cue", "r1", "lesion r2"} <= set(texts(ax))
    spans = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert {(20.0, 60.0), (0.0, 100.0), (50.0, 100.0)} <= set(spans)
    assert ax.get_title() == "activity h, trial 0"


def test_stimuli_that_overlap_have_rows_of_their_own():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    stimuli = [sm.Stimulus("r0", 1.0, start=a, stop=b) for a, b in ((0, 30), (40, 60), (20, 50))]
    ax = plot.plot_activity(sm.simulate(net, 100, stimulus=stimuli, progress=False))
    rows = {line.get_xdata()[0]: line.get_ydata()[0] for line in ax.lines if line.get_linewidth() == 4}
    assert rows[0.0] == rows[40.0] < rows[20.0]


def test_activity_of_every_source(tmp_path):
    net = sm.mRNN(graph(), device="cpu", seed=0)
    sm.simulate(net, 100, progress=False, batch=2, out=tmp_path / "run.zarr")
    on_disk = sm.open_recording(tmp_path / "run.zarr").h.values
    path = tmp_path / "run.zarr"
    for source in (path, str(path), on_disk, torch.from_numpy(on_disk), on_disk[1]):
        ax = plot.plot_activity(source, net=net)
        assert ax.images[0].get_array().shape == (24, 10)
        assert ax.images[0].get_extent()[:2] == [0, 100]
        assert [t for t in texts(ax) if t.startswith("r")] == ["r0", "r1", "r2", "r3"]
    np.testing.assert_allclose(plot.plot_activity(on_disk, 1).images[0].get_array(), on_disk[1].T)
    assert plot.plot_activity(on_disk[0]).images[0].get_extent()[:2] == [0, 10]  # steps, without a network


def test_a_choice_of_regions_units_and_time():
    _, recording = record(graph())
    ax = plot.plot_activity(recording, regions=["odd"], start=30, stop=70)
    assert ax.images[0].get_array().shape == (12, 4)
    assert ax.get_xlim() == (30, 70)
    assert {"r1[0]", "r3[5]"} <= set(texts(ax))
    expected = recording.h[0, 3:7, np.isin(recording.region, ["r1", "r3"])].values.T
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    assert plot.plot_activity(recording, units=["r0[2]"]).images[0].get_array().shape == (1, 10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(regions=["r9"]), UnknownNameError, "the recording has no region 'r9'"),
        (dict(units=["r0[9]"]), UnknownNameError, "the recording has no unit 'r0[9]'"),
        (dict(start=200), RecordingError, "between 200 and inf ms; the recording ends at 100 ms"),
        (dict(variable="y"), RecordingError, "no variable 'y'"),
        (dict(trial=2), RecordingError, "trial 2 does not exist; the recording has 2, counted from 0"),
    ],
)
def test_choices_that_are_not_there(options, error, message):
    _, recording = record(graph())
    with pytest.raises(error) as found:
        plot.plot_activity(recording, **options)
    assert message in str(found.value)


def test_arrays_that_are_no_activity():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    with pytest.raises(ShapeError, match="give \\(trial, time, units\\)"):
        plot.plot_activity(np.zeros(3))
    with pytest.raises(ShapeError, match="activity of 5 units is not of a network of 24"):
        plot.plot_activity(np.zeros((4, 5)), net=net)
    with pytest.raises(RecordingError, match="nothing to draw"):
        plot.plot_activity(np.zeros((2, 0, 5)))


def test_traces_of_regions_and_units():
    _, recording = record(graph())
    ax = plot.plot_traces(recording, regions=["r0", "r1"], trial=1)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines if line.get_label() in ("r0", "r1")}
    h = recording.h[1].values
    np.testing.assert_allclose(lines["r0"], h[:, :6].mean(axis=1), rtol=1e-5)
    low, high = np.quantile(h[:, 6:12], (0.1, 0.9), axis=1)
    band = ax.collections[1].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(high.max(), rel=1e-5)
    assert band[:, 1].min() == pytest.approx(low.min(), abs=1e-7)
    ax = plot.plot_traces(recording, units=["r0[1]", "r2[3]"])
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["r2[3]"], recording.h.values[:, :, 15].mean(axis=0), rtol=1e-5)
    assert not ax.collections


def test_traces_of_statistics_have_their_deviation():
    _, recording = record(graph(), record=sm.Record(what=["mean", "variance"]))
    ax = plot.plot_traces(recording, regions=["r0"], trial=0)
    deviation = np.sqrt(recording.h_variance[0, :, 0].values)
    top = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx((recording.h_mean[0, :, 0].values + deviation).max(), rel=1e-5)
    assert ax.get_legend().get_title().get_text() == "mean, standard deviation"
    with pytest.raises(RecordingError, match="has no units"):
        plot.plot_traces(recording, units=["r0"])


def test_traces_of_many_regions_are_those_that_vary():
    _, recording = record(graph(14))
    ax = plot.plot_traces(recording)
    assert "the 10 of 14 regions that vary most" in ax.get_title()
    assert "r1" in ax.get_legend_handles_labels()[1]


def test_a_trajectory_is_the_principal_components():
    rng = np.random.default_rng(0)
    scores = np.stack([10 * np.cos(np.arange(40) / 6), 3 * np.sin(np.arange(40) / 6)], axis=1)
    axes = np.linalg.qr(rng.standard_normal((30, 2)))[0]
    ax = plot.plot_trajectory(scores @ axes.T)
    drawn = np.array([segment[0] for segment in ax.collections[0].get_segments()])
    centred = scores - scores.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(drawn), np.abs(u * s)[:-1], atol=1e-9)
    shares = s**2 / (s**2).sum()
    assert ax.get_xlabel() == f"PC 1 ({shares[0]:.0%} of variance)"
    with pytest.raises(RecordingError, match="does not change"):
        plot.plot_trajectory(np.ones((5, 4)))
    with pytest.raises(RecordingError, match="record more"):
        plot.plot_trajectory(np.ones((1, 4)))


def test_a_long_recording_is_thinned():
    ax = plot.plot_trajectory(np.random.default_rng(0).random((3, 5000, 3)))
    assert sum(len(c.get_segments()) for c in ax.collections) < 2100


# ---------------------------------------------------------------- training and spectra


def test_training_curves():
    ax = plot.plot_training({"loss": np.exp(-np.arange(200) / 40), "accuracy": np.linspace(0.5, 1, 200)})
    assert ax.get_yscale() == "log"
    assert len(ax.lines) == 4  # thin and thick
    assert plot.plot_training([1.0, 0.9]).get_yscale() == "linear"
    assert plot.plot_training([1.0, 0.01], log=False).get_yscale() == "linear"
    with pytest.raises(TrainingError, match="a number for each iteration"):
        plot.plot_training({"loss": []})
    with pytest.raises(TrainingError, match="curves is empty"):
        plot.plot_training({})


def test_spectrum_of_a_network_is_that_of_its_eigenvalues():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    ax = plot.plot_spectrum(net, k=5)
    drawn = ax.lines[0].get_xdata() + 1j * ax.lines[0].get_ydata()
    expected = np.linalg.eigvals(net.effective_W_rec.detach().to_dense().double().numpy())
    for value in drawn:
        assert np.abs(expected - value).min() < 1e-4
    assert f"spectral radius, {np.abs(expected).max():.4g}" in ax.get_legend_handles_labels()[1]
    np.testing.assert_allclose(plot.plot_spectrum(graph(), k=5).lines[0].get_xdata(), ax.lines[0].get_xdata())


def test_axes_given_are_drawn_on():
    _, axes = plt.subplots(1, 2)
    net, recording = record(graph())
    assert plot.plot_weights(net, axes[0]) is axes[0]
    assert plot.plot_activity(recording, ax=axes[1]) is axes[1]


# ---------------------------------------------------------------- columns of an eye


def test_hexagons_lie_at_their_columns():
    values = np.arange(19.0) - 9
    values[3] = np.nan
    ax = fly_vision.plot_hex(values, flow=np.outer(np.arange(19) > 0, [0.0, 2.0]), label="potential (mV)")
    cells, arrows = ax.collections
    corners = np.array([path.vertices[:6] for path in cells.get_paths()])
    np.testing.assert_allclose(corners.mean(axis=1), hex_centres(hex_columns(2)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(np.diff(corners, axis=1), axis=2), 1 / np.sqrt(3))
    assert cells.get_clim() == (-9, 9)
    assert (arrows.scale, arrows.N) == (2, 18)  # the fastest is one column long
    assert ax.figure.axes[1].get_ylabel() == "potential (mV)"
    ax.figure.canvas.draw()
    colours = cells.get_facecolors()
    np.testing.assert_allclose(colours[3], matplotlib.colors.to_rgba("0.85"), atol=0.01)
    some = fly_vision.plot_hex([1.0, 1.0], columns=[[0, 0], [1, 0]], limits=(0, 4)).collections[0]
    assert some.get_clim() == (0, 4)
    assert fly_vision.plot_hex(np.ones(7), flow=np.ones((7, 2)), speed=10).collections[1].scale == 10


def test_tuning_curves_are_closed_and_marked():
    ax = fly_vision.plot_tuning([270, 0, 90, 180], {"T4a": [1, 2, 3, 4], "T4b": [0, 0, 0, 0]}, preferred={"T4a": 180, "T4b": np.nan})
    first, mark, second = ax.lines
    np.testing.assert_allclose(first.get_xdata(), np.radians([0, 90, 180, 270, 0]))
    assert first.get_ydata().tolist() == [2, 3, 4, 1, 2]
    assert second.get_ydata().tolist() == [0] * 5
    np.testing.assert_allclose(mark.get_xdata(), np.radians([180]))
    assert mark.get_color() == first.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["T4a", "T4b"]
    assert fly_vision.plot_tuning([0, 180], {"x": [1, 2]}, ax) is ax


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fly_vision.plot_hex(np.ones((7, 2))), ShapeError, r"values have shape \(7, 2\)"),
        (lambda: fly_vision.plot_hex(np.ones(8)), GraphError, "8 columns do not fill a hexagon"),
        (lambda: fly_vision.plot_hex(np.ones(7), flow=np.ones(7)), ShapeError, r"flow has shape \(7,\)"),
        (lambda: fly_vision.plot_hex([1.0], columns=[[0.5, 1.0]]), GraphError, "columns has dtype float64"),
        (lambda: fly_vision.plot_tuning([], {}), ShapeError, "directions have shape"),
        (lambda: fly_vision.plot_tuning([0, 1], {"x": [1, -1]}), ShapeError, "'x'.*2 responses of at least 0"),
        (lambda: fly_vision.plot_tuning([0], {"x": [1]}, preferred={"y": 1}), GraphError, "preferred has 'y', which is not among the curves"),
        (lambda: fly_vision.plot_tuning([0], {"x": [1]}, plt.subplots()[1]), GraphError, "not polar"),
    ],
)
def test_columns_and_tuning_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_currents(tmp_path):
    """Each line is a mean current, scaled by the largest of its row; units or means, in memory or on disk."""
    g = graph()
    net = sm.mRNN(g, "tanh", device="cpu", seed=0)
    run = sm.simulate(net, 100, batch=2, stimulus=sm.Stimulus("cue", 1.0), progress=False)
    mean = currents(net, run, what="mean").isel(region=[2, 0, 1, 3])
    ax = plot.plot_currents(mean)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["r2", "r0", "r1", "r3"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["r0", "r1", "r2", "r3", "cue"]
    top = float(np.abs(mean.mean("trial").sel(region="r0")).max())
    assert f"±{top:.2g}" in [t.get_text() for t in ax.texts]
    [lines] = [c for c in ax.collections if len(c.get_segments())]
    drawn = {(int(s[0, 0]), int(np.floor(s[0, 1]))): s[:, 1] for s in lines.get_segments()}
    expected = mean.mean("trial").sel(source="cue", region="r0").values
    np.testing.assert_allclose(1.5 - drawn[4, 1], 0.44 * expected / top, atol=1e-6)
    by_unit = currents(net, run, sign="split", by="projection", out=tmp_path / "currents.zarr")
    ax = plot.plot_currents(by_unit, trial=1)
    assert "trial 1" in ax.get_title()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["excitatory", "inhibitory"]
    with pytest.raises(RecordingError, match="trial 2 does not exist"):
        plot.plot_currents(mean, trial=2)


def test_currents_of_many_regions_are_the_strongest():
    net = sm.mRNN(graph(30), "tanh", device="cpu", seed=0)
    run = sm.simulate(net, 100, stimulus=sm.Stimulus("r7", 1.0), progress=False)
    ax = plot.plot_currents(currents(net, run))
    assert len(ax.get_xticklabels()) == len(ax.get_yticklabels()) == 24
    assert "the strongest" in ax.get_title()
    assert "r7" in [t.get_text() for t in ax.get_xticklabels()]
