"""Trained parameters of flyvis in its network, and the measures of Lappalainen et al., against dense loops."""

import json

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers import ROOT
from helpers.connectome_files import SMALL
from sparse_mrnn.errors import ConfigError, ConnectomeError, TrainingError
from sparse_mrnn.fly_vision import (
    POLARITY,
    EnsembleResponses,
    FlashResponses,
    MotionResponses,
    ensemble_responses,
    flash_responses,
    flyvis_networks,
    load_flyvis_parameters,
    motion_responses,
    read_flyvis,
    read_flyvis_parameters,
)
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns
from sparse_mrnn.fly_vision.moving_patterns import MovingEdge

PAIRS = [("R1", "L1"), ("L1", "L1"), ("W", "L1"), ("L1", "CT")]
DT = 10.0


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


def arrays(models=2, seed=0):
    """Parameters in the order of the file, which is not that of the network's regions."""
    rng = np.random.default_rng(seed)
    return {
        "types": np.array(["R1", "L1", "W", "CT"]),
        "source": np.array([s for s, _ in PAIRS]),
        "target": np.array([t for _, t in PAIRS]),
        "sign": np.array([-1, 1, 1, -1]),
        "bias": rng.uniform(0.2, 0.8, (models, 4)),
        "time_constant": rng.uniform(0.015, 0.06, (models, 4)),
        "strength": rng.uniform(0.001, 0.02, (models, 4)),
    }


def network(path, dtype=torch.float64, extent=2):
    graph, _ = read_flyvis(path, extent, fill=0, share=True, inputs=True)
    return sm.mRNN(graph, "relu", dt=DT, seed=0, device="cpu", dtype=dtype)


class Dense:
    """flyvis' equations with dense matrices in float64, units by type and column as the file has them."""

    def __init__(self, given, model, extent=2):
        self.columns = [tuple(c) for c in hex_columns(extent).tolist()]
        cells = {"R1": self.columns, "L1": self.columns, "CT": [(0, 0)]}
        cells["W"] = [(u, v) for u, v in self.columns if u % 3 == 0 and v % 2 == 0]
        self.units = [(t, c) for t in given["types"].tolist() for c in cells[t]]
        at = {unit: k for k, unit in enumerate(self.units)}
        self.W = np.zeros((len(at), len(at)))
        strength = dict(zip(PAIRS, given["strength"][model], strict=True))
        for edge in SMALL["edges"]:
            for (du, dv), count in edge["offsets"]:
                for u, v in cells[edge["src"]]:
                    target = at.get((edge["tar"], (u + du, v + dv)))
                    if target is not None:
                        weight = edge["alpha"] * count * strength[edge["src"], edge["tar"]]
                        self.W[target, at[edge["src"], (u, v)]] += weight
        kind = [given["types"].tolist().index(t) for t, _ in self.units]
        self.bias, self.tau = given["bias"][model][kind], 1000 * given["time_constant"][model][kind]

    def run(self, light, state=None):
        """States after each step, (steps, units), for light (steps, columns)."""
        x, out = self.bias if state is None else state, []
        for frame in light:
            seen = np.array([frame[self.columns.index(c)] if t == "R1" else 0.0 for t, c in self.units])
            x = x + DT / self.tau * (-x + self.bias + self.W @ np.maximum(x, 0) + seen)
            out.append(x)
        return np.array(out)


@pytest.mark.parametrize("model", [0, 1])
def test_states_are_those_of_the_equations(small, model):
    given = arrays()
    net, dense = network(small), Dense(given, model)
    load_flyvis_parameters(net, given, model)
    light = np.random.default_rng(1).random((30, 19))
    x, _ = net(torch.from_numpy(light)[None], *net.batched_initial_condition(1))
    expected = dense.run(light)
    ids = [f"{t}[{u},{v}]" for t, (u, v) in dense.units]
    own = [list(net.unit_ids).index(name) for name in ids]
    np.testing.assert_allclose(x[0].detach().numpy()[:, own], expected, rtol=0, atol=1e-12)


def test_order_of_the_arrays_does_not_count(small, tmp_path):
    given = arrays(3)
    rng = np.random.default_rng(5)
    types, pairs = rng.permutation(4), rng.permutation(4)
    other = {name: given[name][..., types] for name in ("types", "bias", "time_constant")}
    other |= {name: given[name][..., pairs] for name in ("source", "target", "sign", "strength")}
    np.savez(tmp_path / "other.npz", **other)
    one, two = network(small), network(small)
    found = [model for model, _ in flyvis_networks(two, tmp_path / "other.npz")]
    assert found == [0, 1, 2]
    load_flyvis_parameters(one, given, 2)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    two.save(tmp_path / "fly.safetensors")
    assert torch.equal(sm.load(tmp_path / "fly.safetensors").initial_condition, one.initial_condition)


def checkpoint(path, given, model, **more):
    """A file as flyvis' solver writes it."""
    parts = {"nodes_bias": "bias", "nodes_time_const": "time_constant", "edges_syn_strength": "strength"}
    state = {tensor: torch.from_numpy(given[name][model]).float() for tensor, name in parts.items()}
    state["edges_sign"] = torch.from_numpy(given["sign"]).float()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"network": state, "decoder": {}, "val_loss": np.float64(5.2), **more}, path)
    return path


def test_checkpoints_of_an_installation(small, tmp_path):
    given = arrays(2)
    for model, name in enumerate(("000", "001")):
        checkpoint(tmp_path / "flow" / name / "chkpts" / "chkpt_00000", given, model)
    found = read_flyvis_parameters(tmp_path / "flow", connectome=small)
    assert found.pairs == tuple(PAIRS)
    for name in ("bias", "time_constant", "strength"):
        np.testing.assert_array_equal(getattr(found, name), given[name].astype(np.float32))
    one = read_flyvis_parameters([tmp_path / "flow" / "001"], connectome=small)
    np.testing.assert_array_equal(one.bias, found.bias[1:])
    net = network(small)
    load_flyvis_parameters(net, tmp_path / "flow" / "000" / "chkpts" / "chkpt_00000", connectome=small)
    assert net.rec.projection_gains(source="W", target="L1", key="excitatory").item() == found.strength[0, 2]


class Code:
    def __reduce__(self):
        return print, ("code of a checkpoint ran",)


def test_bad_checkpoints(small, tmp_path, capsys):
    given = arrays(1)
    good = checkpoint(tmp_path / "a" / "chkpts" / "chkpt_00000", given, 0)

    def refused(match, path, connectome=small):
        with pytest.raises(ConnectomeError, match=match):
            read_flyvis_parameters(path, connectome=connectome)

    refused("has no names of cell types; give connectome=", good, None)
    refused("holds more than tensors", checkpoint(tmp_path / "code", given, 0, more=Code()))
    assert "ran" not in capsys.readouterr().out
    refused("does not exist", tmp_path / "nothing")
    refused("neither the folder nor one in it has 'chkpts'", small.parent / "a" / "chkpts")
    checkpoint(tmp_path / "a" / "chkpts" / "chkpt_00001", given, 0)
    refused("there are 2 checkpoints in", tmp_path / "a")
    torch.save({"model": {}}, tmp_path / "other")
    refused("no state dict 'network'", tmp_path / "other")
    refused("sign of W -> L1 is not that in", checkpoint(tmp_path / "b", given | {"sign": np.array([-1, 1, -1, -1])}, 0))
    refused("nodes_bias has shape", checkpoint(tmp_path / "c", given | {"bias": np.ones((1, 3))}, 0))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"strength": None}, "there is no array 'strength'"),
        ({"types": np.array(["R1", "L1", "W", "Mi1"])}, "cell types are not the network's.*: CT missing; Mi1 not in"),
        ({"source": np.array(["R1", "L1", "W", "W"])}, "pairs are not.*L1 -> CT missing; W -> CT not in the network"),
        ({"source": np.array(["R1", "L1", "R1", "L1"])}, "pair R1 -> L1 is there twice"),
        ({"sign": np.array([1, 1, 1, -1])}, "R1 -> L1 is excitatory, and inhibitory in the network"),
        ({"sign": np.array([2, 1, 1, -1])}, "sign must be 1 or -1 for each of 4 pairs"),
        ({"strength": np.full((2, 4), -1.0)}, "strength of R1 -> L1 is -1 in model 0; it must be at least 0"),
        ({"bias": np.full((2, 4), np.nan)}, "bias of 'R1' is nan in model 0; it must be finite"),
        ({"time_constant": np.zeros((2, 4))}, "time_constant of 'R1' is 0 in model 0"),
        ({"bias": np.ones((2, 5))}, r"bias has shape \(2, 5\); expected \(2, 4\)"),
        ({"target": np.array(["L1", "L1", "L1"])}, "4 sources and 3 targets"),
        ({"bias": np.ones((0, 4))}, "there is no model"),
    ],
)
def test_parameters_of_another_network(small, change, match):
    net = network(small)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    given = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(ConnectomeError, match=match):
        load_flyvis_parameters(net, given)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_other_refusals(small):
    net, given = network(small), arrays()
    with pytest.raises(ConnectomeError, match=r"there is no model 2; it has 0\.\.1"):
        load_flyvis_parameters(net, given, 2)
    before = net.bias.detach().clone()
    fast = given | {"time_constant": np.full((2, 4), 0.009)}
    with pytest.raises(ConfigError, match="tau = 9 ms is not above dt = 10 ms"):
        load_flyvis_parameters(net, fast)
    assert torch.equal(net.bias, before)
    with pytest.raises(TrainingError, match="a speed is 0"):
        motion_responses(net, ["L1"], speeds=[0.0])
    with pytest.raises(TrainingError, match="motion_responses: levels, speeds and directions"):
        motion_responses(net, ["L1"], speeds=[])
    with pytest.raises(ConfigError, match="tau is not trained"):
        sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 2}]}, device="cpu").set_time_constants({"a": 50.0})


def test_motion_against_loops(small):
    """Peaks of every speed, polarity and direction, one trial after the other."""
    given = arrays()
    net, dense = network(small), Dense(given, 0)
    load_flyvis_parameters(net, given)
    speeds, directions = (9.7, 19.0, 4.8), (0.0, 75.0, 220.0)
    found = motion_responses(net, ["CT", "L1"], speeds=speeds, directions=directions)
    rest = dense.run(np.full((200, 19), 0.5))[-1]
    centres, led = hex_centres(hex_columns(2)), 2.25 / 5.8
    central = [dense.units.index((name, (0, 0))) for name in ("CT", "L1")]
    for a, level in enumerate((0.0, 1.0)):
        for b, speed in enumerate(speeds):
            at = np.linspace(0, 20, int(21 * led / speed / (DT / 1000))).astype(int) * led
            for c, direction in enumerate(directions):
                light = MovingEdge(direction, 1.0, level, -10 * led).light(centres, 1000 * at, 0.62)
                peaks = np.maximum(dense.run(light, rest), 0).max(axis=0)[central]
                np.testing.assert_allclose(found.peaks[:, a, b, c], peaks, atol=1e-9)


def test_flashes_against_loops(small):
    given = arrays()
    net, dense = network(small), Dense(given, 1)
    load_flyvis_parameters(net, given, 1)
    found = flash_responses(net, ["L1"], radius=1, duration=200.0)
    rest = dense.run(np.full((200, 19), 0.5))[-1]
    near = (np.linalg.norm(hex_centres(hex_columns(2)), axis=1) < 1.1)[None].repeat(20, axis=0)
    k = dense.units.index(("L1", (0, 0)))
    for own, level in ((found.on, 1.0), (found.off, 0.0)):
        expected = dense.run(np.where(near, level, 0.5), rest)[:, k]
        np.testing.assert_allclose(own[0], [rest[k], *expected], atol=1e-9)


def test_indices_by_hand():
    peaks = np.zeros((1, 2, 2, 4))
    peaks[0, 0], peaks[0, 1] = [[1, 0, 0, 0], [0, 0, 0, 0]], [[2, 1, 2, 1], [0, 3, 0, 1]]
    found = MotionResponses(("a",), np.array([0.0, 1.0]), np.ones(2), np.array([0.0, 90, 180, 270]), peaks)
    assert found.selectivity() == pytest.approx(np.array([[1 / 6 / 2, 2 / 4 / 2]]))
    np.testing.assert_allclose(found.preferred_directions(), [[0, 90]])
    on, off = np.array([[0.0, 3.0, 1.0]]), np.array([[0.0, -1.0, 0.5]])
    assert FlashResponses(("a",), np.arange(3.0), on, off).index() == pytest.approx((4 - 1.5) / (4 + 1.5))


def test_one_table_over_an_ensemble(small):
    found = ensemble_responses(network(small), arrays(), ["CT", "L1"], speeds=(9.7, 25.0), radius=1)
    rows = found.rows()
    assert [(row["model"], row["region"]) for row in rows] == [(0, "CT"), (0, "L1"), (1, "CT"), (1, "L1")]
    assert rows[3]["flash_index"] == found.flash_index[1, 1]
    assert found.right_polarity({"L1": -1}).tolist() == [float(f < 0) for f in found.flash_index[:, 1]]


def test_directions_are_judged_by_the_right_polarity():
    preferred = np.array([[[10.0, 170.0], [350.0, 100.0]]])
    found = EnsembleResponses(("T4a", "T5b"), np.array([0.0, 1.0]), preferred, preferred, np.zeros((1, 2)))
    assert {name: error.tolist() for name, error in found.direction_errors().items()} == {"T4a": [10.0], "T5b": [10.0]}
    assert (len(POLARITY), sum(POLARITY.values())) == (32, 4)


@pytest.mark.slow
def test_published_ensemble():
    """The best network has the published preferred directions; those with the largest error do not."""
    folder = ROOT.parent / "shared" / "data" / "flyvis"
    if not (folder / "ensemble_0000.npz").exists():
        pytest.skip("needs the ensemble of flyvis")
    graph, _ = read_flyvis(folder / "fib25-fib19_v2.2.json", 8, share=True, inputs=True)
    net = sm.mRNN(graph, "relu", dt=10.0, seed=0, device="cpu")
    read = read_flyvis_parameters(folder / "ensemble_0000.npz")
    assert (len(read), len(read.types), len(read.pairs)) == (50, 65, 604)
    load_flyvis_parameters(net, read, 0)
    types = [f"T{k}{x}" for k in "45" for x in "abcd"]
    motion = motion_responses(net, types).preferred_directions()[None]
    found = EnsembleResponses(tuple(types), np.array([0.0, 1.0]), motion, motion, np.zeros((1, 8)))
    assert max(error[0] for error in found.direction_errors().values()) < 30
