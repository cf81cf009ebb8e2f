"""sparse-mrnn analyze at a width of 80: what it prints, saves and draws, and what it refuses."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from helpers.command_line import run
from sparse_mrnn import analysis


@pytest.fixture
def bistable(tmp_path):
    """Two units that excite themselves and inhibit each other, driven by an input; and a follower."""
    g = sm.RegionGraph(name="bistable")
    g.add_region("pair", 2, sign=None)
    g.add_region("follower", 3, sign=None)
    g.add_input("cue", 1, sign=None)
    g.add_projection("pair", "pair", weights=np.array([[2.0, -0.5], [-0.5, 2.0]]))
    g.add_projection("pair", "follower", weights=np.ones((3, 2)))
    g.add_projection("cue", "pair", weights=np.array([[1.0], [0.0]]))
    sm.mRNN(g, "tanh", device="cpu", seed=0).save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def narrow(text):
    lines = [line for line in text.splitlines() if not line.startswith(("wrote", "note"))]
    assert max(map(len, lines)) <= 80, text
    return text


def test_fixed_points(bistable, tmp_path):
    save, picture = tmp_path / "points.zarr", tmp_path / "points.png"
    args = ("analyze", "fixed-points", bistable, "--starts", 200, "--save", save)
    text = run(*args, "--out", picture)
    assert narrow(text).startswith("9 fixed points (4 stable, 5 unstable) from 200 starts.")
    assert picture.stat().st_size > 5000
    points = analysis.FixedPoints.load(save)
    assert len(points) == 9
    assert "exists; add --overwrite" in run(*args, code=1)
    few = run(*args, "--overwrite", "--stim", "cue:3", "--show", 1)
    assert "2 more; --show 3 lists all." in narrow(few)
    assert analysis.FixedPoints.load(save).inputs[:, 0].tolist() == [3.0] * 3
    held = run("analyze", "fixed-points", bistable, "--region", "follower", "--starts", 3)
    assert "3 fixed points (3 stable)" in held


def test_no_fixed_point_is_an_error(tmp_path):
    net = {"recurrent_regions": [{"name": "a", "num_units": 1, "base_firing": 1.0}]}
    net["recurrent_connections"] = [{"src_region": "a", "dst_region": "a"}]
    net["simulation"] = {"activation": "linear", "spectral_radius": 1.0}
    (tmp_path / "net.json").write_text(json.dumps(net))
    text = run("analyze", "fixed-points", tmp_path / "net.json", "--starts", 2, code=1)
    assert "no fixed point found from 2 starts" in text


def test_linearize(bistable, tmp_path):
    save, picture = tmp_path / "modes.zarr", tmp_path / "modes.png"
    text = run("analyze", "linearize", bistable, "--k", 2, "--save", save, "--out", picture)
    assert "5 units in 2 regions; speed |v| = 0 at the state" in narrow(text)
    assert "0.015 66.67 ms (grows) 0 Hz pair" in " ".join(text.split())  # at 0: (2.5 - 1) / 100 ms
    assert analysis.Modes.load(save).eigenvalues.real == pytest.approx([0.015, 0.005])
    assert picture.stat().st_size > 5000
    driven = run("analyze", "linearize", bistable, "--stim", "cue:1", "--kind", "step", "--region", "pair")
    assert "2 units in 1 region;" in driven
    run("analyze", "fixed-points", bistable, "--starts", 200, "--save", tmp_path / "points.zarr")
    run("analyze", "linearize", bistable, "--points", tmp_path / "points.zarr", "--point", 3)
    far = ("--points", tmp_path / "points.zarr", "--point", 9)
    assert "has points 0 to 8" in run("analyze", "linearize", bistable, *far, code=1)


@pytest.mark.parametrize("options", [(), ("--arrows", "--linear", "--region", "pair")])
def test_flow(bistable, tmp_path, options):
    save, picture = tmp_path / "flow.zarr", tmp_path / "flow.png"
    more = ("--grid", 8, "--save", save, "--out", picture, *options)
    text = narrow(run("analyze", "flow", bistable, "--duration", 300, "--trials", 5, *more))
    for part in ("axis 1: PC 1", "axis 2: PC 2", "speed on the grid", "fixed points"):
        assert part in text
    assert analysis.FlowField.load(save).velocity.shape == (1, 8, 8, 2)
    assert picture.stat().st_size > 5000


def test_lyapunov(bistable, tmp_path):
    save, picture = tmp_path / "exponents.zarr", tmp_path / "exponents.png"
    length = ("--steps", 200, "--transient", 50)
    text = run("analyze", "lyapunov", bistable, "--k", 9, *length, "--save", save, "--out", picture)
    assert "not chaotic" in narrow(text)
    assert len(analysis.LyapunovSpectrum.load(save).exponents) == 5
    assert picture.stat().st_size > 5000


def test_lesions(bistable, tmp_path):
    save, picture = tmp_path / "lesions.zarr", tmp_path / "lesions.png"
    drive = ("--stim", "cue:1:50:100", "--duration", 300)
    text = run("analyze", "lesions", bistable, *drive, "--save", save, "--out", picture)
    assert [line.split() for line in narrow(text).splitlines()][1:3] == [
        ["pair", "follower", "1"],
        ["follower", "no", "other", "region"],
    ]
    found = analysis.Perturbations.load(save)
    assert found.activity_change == pytest.approx(np.array([[1, 1], [0, 1]]))
    assert picture.stat().st_size > 5000
    assert run("analyze", "lesions", bistable, *drive, "--hold").split()[0] == "hold"
    some = ("--region", "touch", "--region", "layer_1")
    narrow(run("analyze", "lesions", "celegans", "--duration", 300, *some))


def test_currents(bistable, tmp_path):
    recording, save, picture = (tmp_path / name for name in ("run.zarr", "currents.zarr", "currents.png"))
    run("simulate", bistable, "--out", recording, "--stim", "cue:1", "--duration", 300, "--quiet")
    text = run("analyze", "currents", recording, "--save", save, "--out", picture, "--split")
    lines = [line.split() for line in narrow(text).splitlines()]
    assert " ".join(lines[1]) == "pair cue exc 0.5, pair exc 0.35, pair inh 0.087"
    assert picture.stat().st_size > 5000
    found = xr.open_zarr(save, chunks=None)["current"]
    assert found.sel(source="cue", sign="excitatory").values[0, :, 0].tolist() == [1.0] * 30
    assert found.shape == (2, 2, 1, 30, 5)
    again = ("analyze", "currents", recording, "--save", save)
    assert "exists; add --overwrite" in run(*again, code=1)
    run(*again, "--overwrite", "--net", bistable, "--by", "projection", "--target", "follower")
    assert xr.open_zarr(save, chunks=None)["current"].source.values.tolist() == ["pair"]
    other = sm.load(bistable, device="cpu")
    with torch.no_grad():
        other.rec.values.mul_(2)
    other.save(tmp_path / "other.safetensors")
    text = run("analyze", "currents", recording, "--net", tmp_path / "other.safetensors", code=1)
    assert "is of a network with other recurrent weights; name the one" in text
    assert "is not a recording" in run("analyze", "currents", bistable, code=1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fixed-points", "NET", "--stim", "cues:1"), "Did you mean 'cue'"),
        (("fixed-points", "NET", "--stim", "cue"), "expected a constant stimulus as REGION:AMPLITUDE"),
        (("fixed-points", "NET", "--stim", "cue:1:50"), "nothing is called 'cue:1'"),
        (("fixed-points", "NET", "--overwrite"), "say which with --save"),
        (("fixed-points", "NET", "--out", "x.gif"), ".png, .svg or .pdf"),
        (("linearize", "NET", "--kind", "map"), "kind is 'map'"),
        (("linearize", "NET", "--region", "pairs"), "unknown region 'pairs'"),
        (("linearize", "NET", "--points", "nowhere.zarr"), "is not a result of an analysis"),
        (("lyapunov", "nowhere.json"), "cannot read the file"),
        (("lesions", "NET"), "nothing drives this network"),
        (("lesions", "NET", "--stim", "cue:1", "--region", "piar"), "Did you mean 'pair'"),
    ],
)
def test_errors_are_one_message(bistable, args, message):
    assert message in run("analyze", *(bistable if a == "NET" else a for a in args), code=1)


def test_help_is_readable():
    for command in ((), ("fixed-points",), ("linearize",), ("flow",), ("lyapunov",), ("lesions",), ("currents",)):
        narrow(run("analyze", *command, "--help"))
