"""The command line takes a saved network, a SONATA folder, a configuration or an example; and what simulate can do to it."""

import json

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.command_line import SMALL, run
from helpers.networks import trained
from sparse_mrnn.connectome import read_celegans
from sparse_mrnn.interop import write_sonata
from sparse_mrnn.recording import open_recording

STIMULUS = sm.Stimulus("a b", 1.0, start=50, stop=150)
RUN = ("--duration", 300, "--stim", "a b:1:50:150", "--device", "cpu")


@pytest.fixture
def net():
    return trained(tau=40)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(SMALL))
    return path


def recorded(path):
    return open_recording(path).h.values


@pytest.mark.parametrize("form", ["saved", "sonata", "json"])
def test_a_network_trained_in_python_is_simulated(net, tmp_path, form):
    if form == "saved":
        net.save(tmp_path / "net.safetensors")
        path, exact = tmp_path / "net.safetensors", True
    elif form == "sonata":
        write_sonata(net, tmp_path / "folder")
        path, exact = tmp_path / "folder", False
    else:
        sm.write_config(net, tmp_path / "net.json")
        path, exact = tmp_path / "net.json", False
    expected = sm.simulate(net, 300, stimulus=STIMULUS, seed=net.seed, out=tmp_path / "expected.zarr")
    text = run("simulate", path, *RUN, "--out", tmp_path / "run.zarr")
    assert "9 units" in text
    found = open_recording(tmp_path / "run.zarr")
    assert (found.attrs["activation"], found.attrs["tau"], found.attrs["dt"]) == ("tanh", 40, 5)
    if exact:
        assert np.array_equal(found.h.values, expected.h.values)
        assert found.attrs["weights_hash"] == expected.attrs["weights_hash"]
    else:
        np.testing.assert_allclose(found.h.values, expected.h.values, rtol=1e-4, atol=1e-5)
    for command in (("info",), ("spectrum", "--k", 3), ("plot", "weights"), ("plot", "regions")):
        out = ("--out", tmp_path / "figure.png") if command[0] == "plot" else ()
        run(*command[:1], *(command[1:] if command[0] == "plot" else ()), path, *(command[1:] if command[0] != "plot" else ()), *out)


def test_a_saved_network_is_benchmarked(tmp_path):
    sm.mRNN(SMALL, device="cpu", seed=0).save(tmp_path / "net.safetensors")
    assert "backend-csr" in run("bench", tmp_path / "net.safetensors", "--alone", "--repeats", 3, "--no-memory", "--steps", 3, "--batch", 2)


def test_settings_over_those_of_a_saved_network(net, tmp_path):
    net.save(tmp_path / "net")
    run("simulate", tmp_path / "net", *RUN, "--out", tmp_path / "plain.zarr")
    run("simulate", tmp_path / "net", *RUN, "--seed", 9, "--out", tmp_path / "seed.zarr")
    assert np.array_equal(recorded(tmp_path / "plain.zarr"), recorded(tmp_path / "seed.zarr"))  # the synapses stay
    for seed in (net.seed, 8, 9):
        given = () if seed == net.seed else ("--seed", seed)
        text = run("simulate", tmp_path / "net", *RUN, "--noise", *given, "--out", tmp_path / f"{seed}.zarr")
        assert f"seed {seed}" in text
        expected = sm.simulate(net, 300, stimulus=STIMULUS, noise=True, seed=seed)
        assert np.array_equal(recorded(tmp_path / f"{seed}.zarr"), expected.h.values)
        assert open_recording(tmp_path / f"{seed}.zarr").attrs["seed"] == seed
    assert not np.array_equal(recorded(tmp_path / "8.zarr"), recorded(tmp_path / "9.zarr"))
    for option, value, name in (("--tau", 80, "tau"), ("--dt", 2.5, "dt"), ("--activation", "relu", "activation")):
        run("simulate", tmp_path / "net", *RUN, option, value, "--out", tmp_path / "other.zarr", "--overwrite")
        found = open_recording(tmp_path / "other.zarr")
        assert found.attrs[name] == value
        settings = {"dt": 5, "tau": 40, "activation": "tanh", **{name: value}}
        expected = sm.simulate(sm.mRNN(net.to_graph(), device="cpu", **settings), 300, stimulus=STIMULUS)
        np.testing.assert_allclose(found.h.values, expected.h.values, rtol=1e-4, atol=1e-5)
    run("simulate", tmp_path / "net", *RUN, "--spectral-radius", 0.5, "--out", tmp_path / "radius.zarr")
    assert json.loads(open_recording(tmp_path / "radius.zarr").attrs["spectral_radius"]) == 0.5
    scaled = sm.mRNN(net.to_graph(), device="cpu", dt=5, tau=40, activation="tanh", spectral_radius=0.5)
    np.testing.assert_allclose(recorded(tmp_path / "radius.zarr"), sm.simulate(scaled, 300, stimulus=STIMULUS).h.values, rtol=1e-4, atol=1e-6)


def test_an_elman_network(tmp_path):
    sm.ElmanmRNN(SMALL, device="cpu", seed=0).save(tmp_path / "net")
    run("simulate", tmp_path / "net", "--duration", 20, "--stim", "cue:1", "--out", tmp_path / "run.zarr")
    assert open_recording(tmp_path / "run.zarr").attrs["model"] == "ElmanmRNN"
    assert "--tau: an Elman network has no time constant" in run("simulate", tmp_path / "net", "--tau", 5, code=1)


@pytest.mark.parametrize(
    ("options", "acts"),
    [
        (("--lesion", "b"), [sm.Lesion("b")]),
        (("--lesion", "b:50", "--lesion", "a[1]:20:80"), [sm.Lesion("b", start=50), sm.Lesion("a[1]", start=20, stop=80)]),
        (("--clamp", "a:0.7:30:60"), [sm.Clamp("a", 0.7, start=30, stop=60)]),
        (("--clamp", "b[2]:1.5"), [sm.Clamp("b[2]", 1.5)]),
        (("--gain", "a:b:0:20:70", "--gain", "cue:a:2"), [sm.Gain("a", "b", 0, start=20, stop=70), sm.Gain("cue", "a", 2)]),
    ],
)
def test_interventions(config, tmp_path, options, acts):
    run("simulate", config, "--duration", 100, "--seed", 3, "--stim", "cue:1", "--device", "cpu", *options, "--out", tmp_path / "run.zarr")
    expected = sm.simulate(sm.mRNN(SMALL, device="cpu", seed=3), 100, stimulus=sm.Stimulus("cue", 1.0), interventions=acts, seed=3)
    assert np.array_equal(recorded(tmp_path / "run.zarr"), expected.h.values)
    assert json.loads(open_recording(tmp_path / "run.zarr").attrs["interventions"]) == [act.to_spec() for act in acts]


def test_a_neuron_by_name(tmp_path):
    path = tmp_path / "run.zarr"
    run("simulate", "celegans", "--duration", 200, "--stim", "AVAL:1:50:150", "--no-noise", "--unit", "AVAL", "--unit", "AVAR", "--device", "cpu", "--out", path)
    found = open_recording(path)
    assert found.unit_id.values.tolist() == ["AVAL", "AVAR"]
    aval = found.h[0, :, 0]
    assert not aval.sel(time=slice(0, 50)).any()
    assert aval.sel(time=150) > 0.3
    text = run("simulate", "celegans", "--stim", "AVALL:1", code=1)
    assert "stimulus on 'AVALL': nothing is called 'AVALL'; looked at 17 regions, " in text
    assert "the ids of 302 units. Did you mean 'AVAL'?" in text


SECTION = {
    "duration": 80,
    "tau": 33,
    "stimulus": [{"region": "a", "amplitude": 0.5, "units": ["a[0]"]}, {"region": "b[1]", "type": "ramp", "first": 0.0, "last": 1.0}],
    "interventions": [{"type": "gain", "source": "a", "target": "b", "factor": 0.5}],
    "record": {"variables": ["x"], "regions": ["b"], "every": 2},
}


@pytest.mark.parametrize("whole", [True, False])
def test_a_simulation_file_beside_any_network(config, tmp_path, whole):
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps({"simulation": SECTION} if whole else {"__comment": "an experiment", **SECTION}))
    net = sm.mRNN(SMALL, device="cpu", seed=3, tau=90, activation="tanh")
    net.save(tmp_path / "net")
    run("simulate", tmp_path / "net", "--simulation", file, "--device", "cpu", "--out", tmp_path / "run.zarr")
    found = open_recording(tmp_path / "run.zarr")
    assert found.x.shape == (1, 4, 3)
    assert (found.attrs["tau"], found.attrs["activation"]) == (33, "tanh")  # of the file; of the network
    settings = sm.load_config({"simulation": SECTION}).simulation
    same = sm.mRNN(net.to_graph(), device="cpu", tau=33, activation="tanh")
    expected = sm.simulate(same, 80, stimulus=settings.stimuli(), interventions=settings.intervention_objects(), record=settings.record.to_record())
    np.testing.assert_allclose(found.x.values, expected.x.values, rtol=1e-6)
    run("simulate", config, "--simulation", file, "--tau", 44, "--duration", 60, "--out", tmp_path / "other.zarr")  # options win
    assert open_recording(tmp_path / "other.zarr").attrs["tau"] == 44
    assert open_recording(tmp_path / "other.zarr").x.shape[1] == 3


def test_mistakes_in_a_simulation_file(config, tmp_path):
    file = tmp_path / "experiment.json"
    for content, message in (
        ('{"stimulus": [{"region": "a", "amplitud": 1}]}', "simulation.stimulus[0].amplitud: unknown key. Did you mean 'amplitude'"),
        ('{"durations": 3}', "Did you mean 'duration'"),
        ("[1]", "JSON list"),
        ("{", "line 1, column 2"),
    ):
        file.write_text(content)
        text = run("simulate", config, "--simulation", file, code=1)
        assert message in text
        assert str(file) in text.replace("\n", "")
    assert "cannot read" in run("simulate", config, "--simulation", tmp_path / "none.json", code=1)


def test_a_run_without_any_drive_says_so(config, tmp_path):
    text = run("simulate", config, "--duration", 50)
    assert "nothing drives this network" in text
    assert "--stim REGION:AMPLITUDE" in text
    assert "nothing drives" in run("simulate", config, "--duration", 50, "--quiet", "--lesion", "a", "--clamp", "b:0")
    for options in (("--stim", "cue:1"), ("--noise",), ("--clamp", "a:1"), ("--activation", "sigmoid")):
        assert "nothing drives" not in run("simulate", config, "--duration", 50, *options)
    write_sonata(read_celegans()[0], tmp_path / "worm")
    assert "nothing drives" in run("simulate", tmp_path / "worm", "--duration", 20)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--stim", "a"), "'a': expected a stimulus as REGION:AMPLITUDE[:START[:STOP]]"),
        (("--stim", "a:x"), "expected a stimulus as"),
        (("--lesion", ":5"), "expected a lesion as REGION[:START[:STOP]]"),
        (("--lesion", "aa"), "lesion of 'aa': nothing is called 'aa'"),
        (("--lesion", "a:50:20"), "are not an interval"),
        (("--clamp", "a"), "expected a clamp as REGION:VALUE[:START[:STOP]]"),
        (("--clamp", "cue:1"), "it is an input; give it a stimulus instead"),
        (("--gain", "a:b"), "expected a gain as SOURCE:TARGET:FACTOR[:START[:STOP]]"),
        (("--gain", "a:1"), "expected a gain as"),
        (("--gain", "a:a:1"), "the network has no such projection"),
        (("--gain", "a:b:-1"), "the factor is -1.0; it must be at least 0"),
        (("--tau", -5), "--tau"),
        (("--activation", "rely"), "Did you mean 'relu'"),
        (("--spectral-radius", 0), "--spectral-radius"),
        (("--region", "cue"), "'cue' is an input"),
        (("--region", "a[0]", "--what", "mean"), "'a[0]' is one unit; mean are of regions"),
        (("--unit", "a[7]"), "record: the network has no unit 'a[7]'; looked at 8 units. Did you mean"),
    ],
)
def test_mistakes(config, args, message):
    assert message in run("simulate", config, *args, code=1)


def test_files_that_are_no_networks(tmp_path):
    net = sm.mRNN(SMALL, device="cpu")
    sm.save_checkpoint(tmp_path / "run", net)
    assert "is a checkpoint of training, not a network; load it" in run("simulate", tmp_path / "run", code=1)
    net.save(tmp_path / "net")
    (tmp_path / "cut").write_bytes((tmp_path / "net").read_bytes()[:-5])
    assert "is cut short, damaged" in run("info", tmp_path / "cut", code=1)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert "of torch.save or pickle" in run("info", tmp_path / "net.pt", code=1)
    sm.mRNN(SMALL, activation=torch.sin, device="cpu").save(tmp_path / "own")
    assert "is a function, 'sin'" in run("simulate", tmp_path / "own", code=1)


# ---------------------------------------------------------------- names in Python


def test_names_of_units_in_python():
    g = sm.RegionGraph()
    g.add_region("touch", 3, unit_ids=["ALML", "ALMR", "AVM"], parent_region="sensory")
    g.add_region("motor", 2, parent_region="sensory")
    g.add_input("cue", 2)
    g.add_projection("cue", "motor")
    net = sm.mRNN(g, device="cpu", seed=0)

    def active(stimulus):
        return np.flatnonzero(sm.simulate(net, 50, stimulus=stimulus).h.values.any((0, 1))).tolist()

    assert active(sm.Stimulus("ALMR", 1.0)) == [1]
    assert active(sm.Stimulus("motor[1]", 1.0)) == [4]
    assert active(sm.Stimulus("sensory", 1.0)) == [0, 1, 2, 3, 4]
    assert active(sm.Stimulus("cue[0]", 1.0)) == [3, 4]
    recording = sm.simulate(net, 50, stimulus=sm.Stimulus("sensory", 1.0), interventions=[sm.Lesion("AVM"), sm.Clamp("ALML", 3.0)], record=sm.Record(regions=["motor", "AVM", "ALML"]))
    assert recording.unit_id.values.tolist() == ["motor[0]", "motor[1]", "AVM", "ALML"]
    assert recording.h.values[0, -1, 2:].tolist() == [0, 3]


def test_a_unit_of_two_regions_is_ambiguous():
    g = sm.RegionGraph()
    g.add_region("left", 1, unit_ids=["AVA"])
    g.add_region("right", 1, unit_ids=["AVA"])
    net = sm.mRNN(g, device="cpu")
    with pytest.raises(sm.errors.UnknownNameError, match=r"unit id 'AVA' is used in 'left' and 'right'; name the region, and the unit in units="):
        sm.simulate(net, 50, stimulus=sm.Stimulus("AVA", 1.0))
    sm.simulate(net, 50, stimulus=sm.Stimulus("left", 1.0, units=["AVA"]))


@pytest.mark.parametrize("text", ["layer:5:0.5:10:20", "layer:5:0.5", "a b:1", "x:1e-3:5"])
def test_names_with_colons(text):
    stimulus = sm.Stimulus.parse(text)
    parts = text.split(":")
    expected = {"layer:5:0.5:10:20": ("layer:5", 0.5, 10, 20), "layer:5:0.5": ("layer", 5, 0.5, None), "a b:1": ("a b", 1, 0, None), "x:1e-3:5": ("x", 0.001, 5, None)}[text]
    assert (stimulus.region, stimulus.waveform.amplitude, stimulus.start, stimulus.stop) == expected, parts


# ---------------------------------------------------------------- what ran


def test_a_recording_says_what_ran(tmp_path):
    g = read_celegans()[0]
    a = sm.simulate(sm.mRNN(g, device="cpu", seed=0), 50, stimulus=sm.Stimulus("AVAL", 1.0), out=tmp_path / "a.zarr")
    other = sm.mRNN(g, device="cpu", seed=0, activation="tanh", tau=500, integrator="exponential_euler", noise_level_act=0.2, rec_constrained=False)
    b = sm.simulate(other, 50, interventions=sm.Lesion("touch", start=10), noise=True, out=tmp_path / "run.zarr")
    for recording in (b, open_recording(tmp_path / "run.zarr")):
        attrs = recording.attrs
        assert (attrs["model"], attrs["dt"], attrs["tau"], attrs["activation"], attrs["integrator"]) == ("mRNN", 10, 500, "tanh", "exponential_euler")
        assert (attrs["noise"], attrs["noise_level_act"], attrs["rec_constrained"], attrs["dtype"]) == (1, 0.2, 0, "float32")
        assert json.loads(attrs["interventions"]) == [{"type": "lesion", "region": "touch", "start": 10}]
        network = json.loads(attrs["network"])
        assert network["regions"]["touch"]["n"] == g.region("touch").n
        assert len(network["projections"]) == g.number_of_edges()
        assert network["topology"]["recurrent"]["synapses"] == 3638
        assert set(json.loads(attrs["versions"])) >= {"sparse_mrnn", "torch", "numpy"}
    assert json.loads(a.attrs["stimulus"]) == [sm.Stimulus("AVAL", 1.0).to_spec()]
    assert a.attrs["topology_hash"] == b.attrs["topology_hash"]
    assert a.attrs["weights_hash"] == b.attrs["weights_hash"]  # the weights agree with their signs here
    with torch.no_grad():
        other.rec.values.mul_(2)
    assert sm.simulate(other, 50, out=tmp_path / "c.zarr").attrs["weights_hash"] != b.attrs["weights_hash"]
    assert all(isinstance(value, str | int | float) for value in b.attrs.values())
