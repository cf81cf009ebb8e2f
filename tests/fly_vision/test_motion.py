"""Motion on the hexagonal lattice: what is shown, its optic flow, the decoder, and direction tuning."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import sparse_mrnn as sm
from sparse_mrnn.errors import GraphError, ShapeError, TrainingError, UnknownNameError
from sparse_mrnn.fly_vision import (
    FlowDecoder,
    Grating,
    HexMotion,
    MovingEdge,
    Scene,
    adapted_state,
    direction_tuning,
    edge_responses,
)
from sparse_mrnn.fly_vision.decoder import HexConv
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_extent, hex_positions

CENTRES = hex_centres(hex_columns(4))
BLUR = 1 / math.sqrt(8 * math.log(2))  # standard deviation at an acceptance of one column


# ---------------------------------------------------------------- the lattice


@given(st.integers(0, 9))
def test_columns_and_centres(extent):
    columns = hex_columns(extent)
    assert hex_extent(len(columns)) == extent
    centres = hex_centres(columns)
    assert (hex_positions(centres) == columns).all()
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    pairs = 3 * extent * (3 * extent + 1)  # neighbours inside of a hexagon
    assert np.isclose(apart, 1).sum() == 2 * pairs
    assert apart[~np.eye(len(columns), dtype=bool)].min(initial=1) > 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hex_extent(8), "8 columns do not fill a hexagon; it takes 1, 7, 19"),
        (lambda: hex_extent(0), "0 columns do not fill a hexagon"),
        (lambda: hex_columns(-1), "extent is -1"),
        (lambda: hex_positions(np.array([[0.3, 0.0]])), r"position 0, \(0.3, 0\), is not the centre of a column"),
        (lambda: hex_positions(np.zeros(3)), r"expected \(units, 2\)"),
    ],
)
def test_bad_lattice(call, message):
    with pytest.raises(GraphError, match=message):
        call()


# ---------------------------------------------------------------- patterns


PATTERNS = [
    MovingEdge(30, speed=7, start=-2),
    MovingEdge(200, speed=5, level=0.2),
    Grating(75, speed=12, wavelength=5, contrast=0.7, phase=1.0),
    Scene(310, speed=6, contrast=0.2, seed=3, waves=20),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{type(p).__name__}-{p.direction}")
def test_light_moves_with_the_velocity(pattern):
    """The light at x and t is that at x - v t and 0, and where it changes the flow is v."""
    angle = math.radians(pattern.direction)
    velocity = pattern.speed * np.array([math.cos(angle), math.sin(angle)])
    times = np.array([0.0, 150.0, 320.0])
    light = pattern.light(CENTRES, times, 1.0)
    flow = pattern.flow(CENTRES, times)
    assert light.shape == (3, len(CENTRES))
    assert flow.shape == (3, len(CENTRES), 2)
    assert ((light >= 0) & (light <= 1)).all()
    for k, t in enumerate(times):
        still = pattern.light(CENTRES - velocity * t / 1000, np.array([0.0]), 1.0)[0]
        np.testing.assert_allclose(light[k], still, atol=1e-12)
    assert light.std() > 0.05
    moving = flow.any(axis=2)
    np.testing.assert_allclose(flow[moving], np.broadcast_to(velocity, flow[moving].shape))
    later = pattern.light(CENTRES, times + 1e-3, 1.0)
    assert (np.abs(later - light)[~moving] < 1e-4 * pattern.speed).all()  # almost nothing changes there
    assert moving.all() != isinstance(pattern, MovingEdge)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{type(p).__name__}-{p.direction}")
def test_light_is_the_average_over_a_receptive_field(pattern):
    """Against a sum over fine points, each seen through a receptive field of almost no width."""
    axis = np.linspace(-6, 6, 241) * BLUR
    dx, dy = (part.ravel() for part in np.meshgrid(axis, axis))
    weight = np.exp(-0.5 * (dx**2 + dy**2) / BLUR**2)
    points = np.array([0.4, -0.3]) + np.stack([dx, dy], axis=1)
    fine = pattern.light(points, np.array([100.0]), 1e-6)[0]
    seen = pattern.light(np.array([[0.4, -0.3]]), np.array([100.0]), 1.0)[0, 0]
    assert abs((fine * weight).sum() / weight.sum() - seen) < 2e-3


def test_an_edge_crosses_each_column_when_it_should():
    edge = MovingEdge(60, speed=8, start=-3)
    along = CENTRES @ np.array([0.5, math.sqrt(3) / 2])
    crossing = (along + 3) / 8 * 1000
    for k in (0, 17, 30, 60):
        light = edge.light(CENTRES[[k]], crossing[[k]] + [-500.0, 0.0, 500.0], 1.0)[:, 0]
        np.testing.assert_allclose(light, [0.5, 0.75, 1.0], atol=1e-12)
        near = edge.flow(CENTRES[[k]], crossing[[k]] + [-130.0, -120.0, 120.0, 130.0])[:, 0].any(axis=1)
        assert near.tolist() == [False, True, True, False]  # one column is 125 ms


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 360), st.floats(0, 30), st.floats(1, 40), st.floats(0.2, 3))
def test_a_grating_loses_contrast_as_its_receptive_fields_say(direction, speed, wavelength, acceptance):
    times = np.linspace(0, 1000 * wavelength / max(speed, 1), 400)
    light = Grating(direction, speed, wavelength).light(np.zeros((1, 2)), times, acceptance)
    expected = 0.5 * math.exp(-0.5 * (2 * math.pi / wavelength * acceptance * BLUR) ** 2)
    assert np.abs(light - 0.5).max() <= expected + 1e-12
    if speed >= 1:
        assert np.abs(light - 0.5).max() > 0.99 * expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MovingEdge(math.nan, 1), "direction is nan"),
        (lambda: MovingEdge(0, -1), "speed is -1"),
        (lambda: MovingEdge(0, 1, level=1.5), "level is 1.5"),
        (lambda: MovingEdge(0, 1, start=math.inf), "start is inf"),
        (lambda: Grating(0, 1, 0), "wavelength is 0"),
        (lambda: Grating(0, 1, 5, contrast=2), "contrast is 2"),
        (lambda: Scene(0, 1, contrast=-0.1), "contrast is -0.1"),
        (lambda: Scene(0, 1, waves=0), "waves is 0; it must be a whole number of at least 1"),
        (lambda: Scene(0, 1, waves=2.5), "waves is 2.5"),
        (lambda: Scene(0, 1, seed=-1), "seed is -1"),
        (lambda: Grating("up", 1, 5), "direction is 'up'; it must be a finite number"),
        (lambda: Scene(0, 1, wavelengths=(3, 2)), r"wavelengths is \(3, 2\)"),
        (lambda: HexMotion(0), "length is 0; it must be a whole number of at least 1"),
        (lambda: HexMotion(2.5), "length is 2.5"),
        (lambda: HexMotion(3, seed="a"), "seed is 'a'"),
        (lambda: HexMotion(3, noise="a"), "noise is 'a'"),
        (lambda: HexMotion(3, kinds=["edges"]), "kind is 'edges'; use .* Did you mean 'edge'"),
        (lambda: HexMotion(3, kinds=0.5), "kinds: 0.5 is not a name"),
        (lambda: HexMotion(3, kinds=[]), "kinds is empty"),
        (lambda: HexMotion(3, directions=[]), "directions is"),
        (lambda: HexMotion(3, directions=["up"]), "directions is"),
        (lambda: HexMotion(3, speeds=(5, 2)), r"speeds is \(5, 2\)"),
        (lambda: HexMotion(3, speeds=4), "speeds is 4"),
        (lambda: HexMotion(3, wavelengths=(0, 2)), "wavelengths is"),
        (lambda: HexMotion(3, contrasts=(0.5, 1.2)), "contrasts is"),
        (lambda: HexMotion(3, contrasts=(0.5,)), "contrasts is"),
        (lambda: HexMotion(3, acceptance=0), "acceptance is 0"),
        (lambda: HexMotion(3, noise=-1), "noise is -1"),
        (lambda: HexMotion(3, duration=5, dt=20), "duration 5 and dt 20 are ms"),
        (lambda: direction_tuning([0, 90], [1.0]), "must be finite and have one length"),
        (lambda: direction_tuning([0, 90], [1.0, -1.0]), "is negative or not finite"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(TrainingError, match=message):
        call()


# ---------------------------------------------------------------- the data set


def test_items_do_not_depend_on_order_workers_or_batches():
    options = dict(extent=2, duration=200, noise=0.05, seed=7)
    data = HexMotion(12, **options)
    expected = [data[k] for k in range(12)]
    again = HexMotion(12, **options)
    for k in reversed(range(12)):
        for found, wanted in zip(again[k - 12], expected[k], strict=True):
            assert torch.equal(found, wanted)
    for workers in (0, 2):
        batches = list(DataLoader(data, batch_size=5, num_workers=workers))
        for part in range(2):
            loaded = torch.cat([batch[part] for batch in batches])
            assert torch.equal(loaded, torch.stack([item[part] for item in expected]))
    other = HexMotion(12, **{**options, "seed": 8})
    assert not torch.equal(other[0][0], expected[0][0])
    assert all(light.min() >= 0 and light.max() <= 1 for light, _ in expected)
    with pytest.raises(IndexError):
        data[12]
    assert len(list(data)) == 12


def test_items_are_what_was_asked_for():
    data = HexMotion(60, extent=3, kinds=["edge", "grating"], speeds=(5, 9), directions=[30, 210], seed=1)
    found = [data.pattern(k) for k in range(60)]
    assert {type(pattern) for pattern in found} == {MovingEdge, Grating}
    assert {pattern.direction for pattern in found} == {30, 210}
    assert all(5 <= pattern.speed <= 9 for pattern in found)
    levels = {pattern.level > 0.5 for pattern in found if isinstance(pattern, MovingEdge)}
    assert levels == {True, False}
    light, flow = data[3]
    expected = found[3].light(data.centres, data.times, 1.0)
    np.testing.assert_allclose(light, expected, atol=1e-6)
    np.testing.assert_allclose(flow, found[3].flow(data.centres, data.times), rtol=1e-6)


# ---------------------------------------------------------------- the decoder


def hex_net(extent=3, order=None, thin=False):
    """Two regions on the lattice, the first in another order of columns, the second perhaps on fewer."""
    columns = hex_columns(extent)
    g = sm.RegionGraph()
    order = np.arange(len(columns)) if order is None else order
    g.add_region("T4a", len(columns), positions=hex_centres(columns[order]), parent_region="output")
    some = columns[columns[:, 0] % 2 == 0] if thin else columns
    g.add_region("T4b", len(some), positions=hex_centres(some), parent_region="output")
    return sm.mRNN(g, device="cpu")


def test_hex_conv_sums_over_neighbours():
    torch.manual_seed(0)
    conv = HexConv(2, 3, radius=1)
    maps = torch.randn(2, 2, 9, 9)
    out = conv(maps)
    expected = torch.zeros(2, 3, 7, 7)
    for k, (du, dv) in enumerate(hex_columns(1)):
        moved = maps[:, :, 1 + du : 8 + du, 1 + dv : 8 + dv]
        expected += torch.einsum("oc,bcuv->bouv", conv.weight[:, :, k], moved)
    torch.testing.assert_close(out[:, :, 1:8, 1:8], expected)


def test_decoder_follows_positions_and_gives_flow_of_columns():
    rng = np.random.default_rng(0)
    order = rng.permutation(37)
    torch.manual_seed(0)
    plain = FlowDecoder(hex_net(thin=True), "output")
    shuffled = FlowDecoder(hex_net(order=order, thin=True), "output")
    shuffled.load_state_dict(plain.state_dict())
    h = torch.rand(2, 5, hex_net(thin=True).graph.n_units)
    moved = h.clone()
    moved[..., :37] = h[..., order]
    found = plain(h)
    assert found.shape == (2, 5, 37, 2)
    torch.testing.assert_close(shuffled(moved), found)
    found.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in plain.parameters())


def test_linear_decoder_of_one_column_is_a_linear_readout():
    torch.manual_seed(0)
    decoder = FlowDecoder(hex_net(), "T4a", "T4b", hidden=(), radius=0).eval()
    h = torch.rand(1, 2, 74)
    weight = decoder.layers[0].weight[:, :, 0]
    torch.testing.assert_close(decoder(h), torch.einsum("oc,btcn->btno", weight, h.unflatten(2, (2, 37))))


def test_decoder_learns_a_known_flow():
    """Flow that is a difference of two regions is found."""
    torch.manual_seed(0)
    decoder = FlowDecoder(hex_net(), "output", hidden=(), radius=0)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.05)
    for _ in range(200):
        h = torch.rand(4, 5, 74)
        a, b = h[..., :37], h[..., 37:]
        loss = (decoder(h) - torch.stack([a - b, a + b], dim=-1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01  # at first 0.8


def test_bad_decoders():
    net = hex_net()
    with pytest.raises(UnknownNameError, match="T9"):
        FlowDecoder(net, "T9")
    with pytest.raises(TrainingError, match="name the regions"):
        FlowDecoder(net)
    with pytest.raises(TrainingError, match="radius -1"):
        FlowDecoder(net, "output", radius=-1)
    with pytest.raises(ShapeError, match=r"expected \(batch, time, units\)"):
        FlowDecoder(net, "output")(torch.zeros(3, 74))
    g = sm.RegionGraph()
    g.add_region("nowhere", 2)
    g.add_region("off", 1, positions=[[0.2, 0.0]])
    g.add_region("twice", 2, positions=[[0.0, 0.0], [0.0, 0.0]])
    bad = sm.mRNN(g, device="cpu")
    for name, message in (("nowhere", "has no positions"), ("off", "not the centre of a column"), ("twice", "two units")):
        with pytest.raises(TrainingError, match=f"region '{name}'.*{message}"):
            FlowDecoder(bad, name)


# ---------------------------------------------------------------- direction tuning


@settings(deadline=None)
@given(st.integers(0, 359), st.floats(0.1, 5), st.sampled_from([8, 12, 24]))
def test_made_up_tuning_is_recovered(preferred, sharpness, n):
    directions = np.arange(n) * 360 / n
    responses = np.exp(sharpness * np.cos(np.radians(directions - preferred)))
    found = direction_tuning(directions, responses)
    assert abs((found.preferred - preferred + 180) % 360 - 180) < 3
    assert 0 < found.selectivity < 1
    order = np.random.default_rng(0).permutation(n)
    assert direction_tuning(directions[order], 7 * responses[order]).selectivity == pytest.approx(found.selectivity)


def test_no_response_has_no_preferred_direction():
    found = direction_tuning([0, 120, 240], [0, 0, 0])
    assert math.isnan(found.preferred)
    assert found.selectivity == 0


def detector(offset, extent=3):
    """Units that add a slow signal of the column at ``offset`` to a fast one of their own, less a threshold."""
    columns = hex_columns(extent)
    n = len(columns)
    index = {tuple(column): k for k, column in enumerate(columns.tolist())}
    pairs = [(k, index.get(tuple(column))) for k, column in enumerate((columns + offset).tolist())]
    rows, cols = zip(*[(row, col) for row, col in pairs if col is not None], strict=True)
    g = sm.RegionGraph()
    for name, tau in (("fast", 10.0), ("slow", 80.0)):
        g.add_region(name, n, tau=tau, positions=hex_centres(columns))
    g.add_region("T4", n, sign=None, tau=10.0, base_firing=-1.2, positions=hex_centres(columns))
    g.add_input("light", n)
    for name in ("fast", "slow"):
        g.add_projection("light", name, rule=sm.OneToOne(), initializer=sm.Constant(1.0))
    g.add_projection("fast", "T4", rule=sm.OneToOne(), initializer=sm.Constant(1.0))
    g.add_projection("slow", "T4", weights=sp.csr_array((np.ones(len(rows)), (rows, cols)), (n, n)))
    return sm.mRNN(g, "relu", dt=5, device="cpu")


@pytest.mark.parametrize(("offset", "preferred"), [((-1, 0), 270), ((1, 0), 90), ((1, -2), 0), ((-1, 2), 180)])
def test_a_motion_detector_prefers_motion_from_the_delayed_column(offset, preferred):
    """Its delayed input lies where motion in the preferred direction comes from."""
    off = edge_responses(detector(offset), ["T4"], level=0.0, speed=20)
    assert off.peaks().max() == 0
    net = detector(offset)
    fast = edge_responses(net, speed=20, directions=range(0, 360, 15), before=400, after=25)
    assert fast.regions == ("fast", "slow", "T4")
    tuning = fast.tuning()
    assert abs((tuning["T4"].preferred - preferred + 180) % 360 - 180) < 1
    assert tuning["T4"].selectivity > 0.05
    assert tuning["fast"].selectivity < 0.01
    assert fast.times[0] == -395
    assert fast.times[-1] == 25


def test_responses_begin_where_the_network_is_adapted():
    net = detector((1, 0))
    rest = adapted_state(net)
    torch.testing.assert_close(rest[: 2 * 37], torch.full((74,), 0.5), atol=1e-4, rtol=0)
    found = edge_responses(net, ["fast"], before=500, after=200)
    np.testing.assert_allclose(found.x[0, :, 0], found.rest_x[0], atol=1e-4)
    np.testing.assert_allclose(found.h[0, :, -1], 1.0, atol=1e-3)
    turned = sm.mRNN(net.graph, "relu", dt=5, device="cpu", batch_first=False)
    again = edge_responses(turned, ["fast"], before=500, after=200)
    np.testing.assert_allclose(again.h, found.h, atol=1e-6)


def test_bad_requests_for_responses():
    net = detector((1, 0))
    with pytest.raises(UnknownNameError, match="T9"):
        edge_responses(net, ["T9"])
    with pytest.raises(TrainingError, match="directions is empty"):
        edge_responses(net, directions=[])
    g = sm.RegionGraph()
    g.add_region("rim", 1, positions=[[0.0, 1.0]])
    g.add_input("light", 7)
    g.add_projection("light", "rim")
    rim = sm.mRNN(g, device="cpu")
    with pytest.raises(TrainingError, match="region 'rim' has no unit in the central column"):
        edge_responses(rim, ["rim"])
    with pytest.raises(TrainingError, match="no region has a unit"):
        edge_responses(rim)
    g = sm.RegionGraph()
    g.add_region("a", 8)
    g.add_input("light", 8)
    g.add_projection("light", "a")
    with pytest.raises(GraphError, match="8 columns do not fill a hexagon"):
        edge_responses(sm.mRNN(g, device="cpu"))
