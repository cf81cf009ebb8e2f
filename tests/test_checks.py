"""What a user may pass, of any type: the right answer, or an error that says what is wrong."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import sparse_mrnn as sm
from sparse_mrnn.checks import names_of, path_of, real_number, seed_number, whole_number
from sparse_mrnn.errors import (
    ConfigError,
    InterventionError,
    RecordingError,
    ShapeError,
    StimulusError,
)
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Clamp, Constant, Function, Gain, Lesion, PulseTrain, Samples, Sine, Stimulus


def network(**options):
    g = sm.RegionGraph()
    g.add_region("a", 4)
    g.add_region("b", 3, sign="neg")
    g.add_input("i", 2)
    for source, target in ("ab", "ba", "ia"):
        g.add_projection(source, target)
    return sm.mRNN(g, **{"device": "cpu", "seed": 0, **options})


X0, INP = torch.zeros(1, 7), torch.zeros(1, 5, 2)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((None, X0), {}, "inp is of type NoneType; give a tensor"),
        ((INP, "x0"), {}, "x0 is of type str"),
        ((INP, (X0,)), {}, r"tuple of 1; give \(x0, h0\), or x0"),
        ((np.zeros((1, 5, 2)), X0), {}, "inp is of type ndarray"),
        ((INP, X0, "h0"), {}, "h0 is of type str"),
        ((INP, X0), dict(W_rec="w"), "W_rec is of type str"),
        ((INP.to_sparse(), X0), {}, r"inp is sparse \(torch.sparse_coo\).*inp.to_dense"),
        ((INP, X0.to_sparse_csr()), {}, r"x0 is sparse \(torch.sparse_csr\)"),
        ((INP, X0), dict(stim_input=torch.zeros(1, 5, 7).to_sparse()), "stim_input is sparse"),
        ((INP.half(), X0), {}, "inp is torch.float16"),
        ((INP, X0.bfloat16()), {}, "x0 is torch.bfloat16"),
        ((INP.to("meta"), X0), {}, "inp is torch.float32 on meta"),
        ((INP.to(torch.complex64), X0), {}, "inp is torch.complex64"),
        ((INP.long(), X0), {}, "inp is torch.int64"),
    ],
)
def test_what_forward_is_given(args, options, message):
    with pytest.raises(ShapeError, match=message):
        network()(*args, **options)
    if message.startswith("inp is of type"):
        with pytest.raises(ShapeError, match=message), torch.autocast("cpu"):
            network()(*args, **options)
    elman = sm.ElmanmRNN(network().graph, device="cpu")
    if args[1] is None:
        with pytest.raises(ShapeError, match="NoneType"):
            elman(*args)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors():
    with pytest.raises(ShapeError, match="inp is nested"):
        network()(torch.nested.nested_tensor([torch.zeros(5, 2)]), X0)


@pytest.mark.parametrize(
    "convert",
    [lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.to(torch.float16), lambda m: m.to("meta")],
)
def test_precisions_and_devices_without_products_are_refused_and_change_nothing(convert):
    net = network()
    before = net(INP, X0)[1]
    for module in (net, torch.nn.Sequential(net)):
        with pytest.raises(ConfigError, match="do not run"):
            convert(module)
    assert torch.equal(net(INP, X0)[1], before)
    assert {p.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seed=-1), "seed is -1; it must be a whole number of at least 0"),
        (dict(seed="a"), "seed is 'a'"),
        (dict(seed=1.5), "seed is 1.5"),
        (dict(seed=True), "seed is True"),
        (dict(seed=10**5000), "seed is an int too long to show; .* at most"),
        (dict(dtype=torch.float16), "do not run in dtype torch.float16"),
        (dict(device="meta"), "meta device"),
        (dict(device="mps"), "device 'mps': this torch has none"),
        (dict(device=[1]), "not a torch device"),
        (dict(dt="a"), "dt is 'a'; it must be a finite number"),
        (dict(dt=float("inf")), "dt is inf"),
        (dict(tau=None), "tau is None"),
        (dict(tau=-3), "tau is -3; it must be a positive time"),
        (dict(noise_level_act="x"), "noise_level_act is 'x'"),
        (dict(noise_level_inp=-1), "noise_level_inp is -1; it must not be negative"),
    ],
)
def test_what_a_network_is_made_with(options, message):
    with pytest.raises(ConfigError, match=message):
        network(**options)


@pytest.mark.parametrize("batch", [2.5, 0, -1, None, "a", True, torch.ones(2)])
def test_batch_sizes(batch):
    for call in (network().batched_initial_condition, network().memory_estimate, lambda b: simulate(network(), 100, batch=b)):
        with pytest.raises(ShapeError, match="batch.* must be a whole number of at least 1"):
            call(batch)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(duration="10"), StimulusError, "duration is '10'"),
        (dict(duration=float("nan")), StimulusError, "duration is nan"),
        (dict(duration=1e300), StimulusError, "use at most 9.0e.15 time steps"),
        (dict(duration=1e300, record=Record(what=["mean"], every=10**9), allow_large=True), StimulusError, "at most"),
        (dict(steps=10**30), StimulusError, "at most 9007199254740992"),
        (dict(steps=2.5), StimulusError, "steps is 2.5"),
        (dict(duration=1e15, record=Record(every=100)), RecordingError, "GiB free"),
        (dict(duration=100, batch=10**12, record=Record(what=["mean"], every=10)), RecordingError, "GiB free"),
        (dict(duration=100, batch=5 * 10**8, record=Record(what=["mean"], regions=["a"], every=10), out="OUT"), ShapeError, "the states of 9 units take"),
        (dict(duration=100, batch=10**12, out="OUT", allow_large=True), RecordingError, "one recorded time takes"),
        (dict(duration=100, seed="a"), ConfigError, "seed is 'a'"),
        (dict(duration=100, seed=-1), ConfigError, "seed is -1"),
        (dict(duration=100, stimulus=5), StimulusError, "int is not a Stimulus"),
        (dict(duration=100, stimulus="a:1"), StimulusError, "str is not a Stimulus"),
        (dict(duration=100, interventions=["x"]), InterventionError, "str is not an intervention"),
        (dict(duration=100, interventions=Stimulus("a", 1)), InterventionError, "Stimulus is not an intervention"),
        (dict(duration=100, record={"what": ["mean"]}), RecordingError, "dict is not a Record"),
        (dict(duration=100, checkpoint_seconds=-1), RecordingError, "checkpoint_seconds is -1"),
        (dict(duration=100, out=5), RecordingError, "out is 5, which is not a path"),
        (dict(duration=100, out="/"), RecordingError, "/ cannot be a recording"),
        (dict(duration=100, out="a\0b"), RecordingError, "which is not a path: .*embedded null"),
        (dict(duration=100, out="x" * 5000), RecordingError, "cannot be reached: File name too long"),
        (dict(duration=100, log=5.5), RecordingError, "log is 5.5, which is not a path"),
        (dict(duration=100, mode=[1]), RecordingError, r"mode is \[1\]"),
        (dict(duration=100, noise="no"), ConfigError, "noise is 'no'; use True or False"),
        (dict(duration=100, allow_large="no"), ConfigError, "allow_large is 'no'"),
        (dict(duration=100, event_driven=0), ConfigError, "event_driven is 0"),
        (dict(duration=100, progress=None), ConfigError, "progress is None"),
    ],
)
def test_what_simulate_is_given(tmp_path, options, error, message):
    if options.get("out") == "OUT":
        options = {**options, "out": tmp_path / "run.zarr"}
    with pytest.raises(error, match=message):
        simulate(network(), **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_network_or_recording():
    with pytest.raises(ConfigError, match="net is of type NoneType"):
        simulate(None, 100)
    with pytest.raises(RecordingError, match="path is 5, which is not a path"):
        open_recording(5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Record(regions=[]), RecordingError, "record: regions is empty"),
        (lambda: Record(regions=0.5), RecordingError, "regions: 0.5 is not a name"),
        (lambda: Record(what=[["mean"]]), RecordingError, r"what: \['mean'\] is not a name"),
        (lambda: Record(every=1.5), RecordingError, "every is 1.5"),
        (lambda: Record(dtype=np.float16), RecordingError, "dtype: <class 'numpy.float16'> is not a name"),
        (lambda: Stimulus(["a"], 1), StimulusError, r"region is \['a'\]; give a name"),
        (lambda: Stimulus("a", "x"), StimulusError, "amplitude is 'x'"),
        (lambda: Stimulus("a", float("nan")), StimulusError, "amplitude is nan"),
        (lambda: Stimulus("a", 1, start="x"), StimulusError, "start is 'x'"),
        (lambda: Stimulus("a", 1, stop=np.inf), StimulusError, "stop is inf"),
        (lambda: Stimulus("a", 1, fraction="x"), StimulusError, "fraction is 'x'"),
        (lambda: Stimulus("a", 1, units=[[1]]), StimulusError, r"units: \[1\] is not a name"),
        (lambda: Stimulus("a", 1, units=[]), StimulusError, "units is empty"),
        (lambda: Stimulus.parse("a:nan"), StimulusError, "amplitude is nan"),
        (lambda: Sine("a", 4), StimulusError, "Sine: amplitude is 'a'"),
        (lambda: Constant(None), StimulusError, "Constant: amplitude is None"),
        (lambda: PulseTrain(1, None, 2), StimulusError, "PulseTrain: period is None"),
        (lambda: Clamp("a", "x"), InterventionError, "value is 'x'"),
        (lambda: Gain("a", 5, 1), InterventionError, "target is 5"),
        (lambda: Gain("a", "b", None), InterventionError, "factor is None"),
        (lambda: Gain("a", "b", 1, key=5), InterventionError, "key is 5"),
        (lambda: Lesion(None), InterventionError, "give a region, or units"),
        (lambda: Lesion(0.5, units=["a"]), InterventionError, "region is 0.5; give a name"),
        (lambda: Lesion("a", start=-1), InterventionError, "not an interval"),
    ],
)
def test_what_a_declaration_is_given(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (Samples("abc"), "not an array of numbers: could not convert"),
        (Samples([[1], [1, 2]]), "not an array of numbers"),
        (Samples(path=5), "cannot read 5"),
        (Function("x"), "'x' cannot be called"),
        (Function(lambda t: "x"), "returns str at 0 ms"),
        (Function(lambda t: [1, 2, 3] if t > 20 else 1), r"shape \(3,\) at 30 ms of it; expected \(\), \(4,\)"),
    ],
)
def test_what_a_waveform_makes(waveform, message):
    with pytest.raises(StimulusError, match=message):
        simulate(network(), 100, stimulus=Stimulus("a", waveform, stop=80))


def test_damaged_files_of_samples(tmp_path):
    path = tmp_path / "s.npy"
    np.save(path, np.linspace(0, 1, 20))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    whole = simulate(network(), 100, stimulus=Stimulus("a", Samples(path=path, interval=10))).h.values
    for k in range(300):
        broken = bytearray(data[: rng.integers(len(data))] if k % 3 == 0 else data)
        for at in rng.integers(len(broken) + 1, size=2) if k % 3 else ():
            broken[at % 128] = rng.integers(256)  # the header
        path.write_bytes(broken)
        refused = ""
        try:
            run = simulate(network(), 100, stimulus=Stimulus("a", Samples(path=path, interval=10)))
        except StimulusError as error:
            refused = str(error)
        assert "Samples" in refused if refused else bytes(broken) != data or np.array_equal(run.h.values, whole)
    np.savez(tmp_path / "s.npz", a=np.ones(3))
    with pytest.raises(StimulusError, match="an archive of several arrays"):
        simulate(network(), 100, stimulus=Stimulus("a", Samples(path=tmp_path / "s.npz")))


NUMPY = [np.float32, np.float64, np.array, torch.tensor]


@pytest.mark.parametrize("real", NUMPY)
@pytest.mark.parametrize("whole", [np.int8, np.uint64, np.array, torch.tensor])
def test_numbers_of_numpy_and_torch_are_as_good_as_pythons(tmp_path, real, whole):
    def run(real, whole, out):
        net = network(dt=real(5.0), tau=real(50.0), seed=whole(7), noise_level_act=real(0.5))
        return simulate(
            net,
            real(100.0),
            batch=whole(2),
            stimulus=[
                Stimulus("a", real(0.5), start=real(10.0), stop=real(60.0), fraction=real(0.5)),
                Stimulus("b", Sine(real(1.0), frequency=real(4.0))),
            ],
            interventions=[Clamp("b", real(0.25), stop=real(20.0)), Gain("a", "b", real(0.5))],
            record=Record(every=whole(2)),
            noise=np.True_,
            seed=whole(3),
            out=out,
        ).load()

    expected = run(float, int, tmp_path / "python.zarr")
    xr.testing.assert_identical(run(real, whole, tmp_path / "numpy.zarr"), expected)
    assert json.loads(expected.attrs["options"])["seed"] == 3
    steps = simulate(network(), steps=whole(4), seed=whole(0))
    assert steps.sizes["time"] == 4


def test_the_helpers():
    for value in (3, np.int64(3), np.array(3), torch.tensor(3)):
        assert whole_number(value, "n", ShapeError) == 3
        assert type(whole_number(value, "n", ShapeError)) is int
        assert real_number(value, "n", ShapeError) == 3.0
    for value in (True, 2.0, "3", None, [3], np.ones(2), 2**63, 0):
        with pytest.raises(ShapeError, match="n is"):
            whole_number(value, "n", ShapeError)
    for value in (True, np.True_, "3", None, [3], 1j, float("nan"), 10**400, np.ones(1)):
        with pytest.raises(ShapeError, match="n is"):
            real_number(value, "n", ShapeError)
    assert seed_number(2**128 - 1, ConfigError) == 2**128 - 1
    assert names_of(np.array(["a", "b"]), "x", ConfigError) == ("a", "b")
    assert path_of(b"/tmp/run", "out", ConfigError).name == "run"


@pytest.mark.parametrize(
    ("acts", "message"),
    [
        ([Gain("a", "b", 1e308)], "gain of 'a' -> 'b': the factor, with those of other gains.* is 1e[+]308, which torch.float32 cannot hold"),
        ([Gain("a", "b", 1e30), Gain("a", "b", 1e30, start=20)], "is 1e[+]60, which"),
        ([Clamp("a", -1e308)], "clamp of 'a': the value is -1e[+]308"),
    ],
)
def test_interventions_that_the_precision_cannot_hold(acts, message):
    net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}, {"name": "b", "num_units": 2}], "recurrent_connections": [{"src_region": "a", "dst_region": "b"}]}, device="cpu", seed=0)
    with pytest.raises(InterventionError, match=message):
        sm.simulate(net, 50, interventions=acts, progress=False)
