"""Stimuli against closed forms of the leaky integrator, interventions and their order, and the JSON of both."""

import json

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.declaration.config import load_config
from sparse_mrnn.errors import ConfigError, InterventionError, StimulusError, UnknownNameError
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import (
    Chirp,
    Clamp,
    Constant,
    Function,
    Gain,
    Lesion,
    OrnsteinUhlenbeck,
    Poisson,
    PulseTrain,
    Ramp,
    Samples,
    Sine,
    Stimulus,
    WhiteNoise,
)

DT, TAU = 0.1, 20.0


def integrator(n=1, **options):
    """Units that only leak: dx/dt = (-x + current) / tau."""
    g = sm.RegionGraph()
    g.add_region("a", n, sign=None, unit_ids=[f"u{k}" for k in range(n)])
    g.add_input("i", n)
    g.add_projection("i", "a", weights=2 * np.eye(n))
    return sm.mRNN(g, "linear", device="cpu", **{"dt": DT, "tau": TAU, "dtype": torch.float64, **options})


def respond(waveform, duration, start=0.0, stop=None, integrator=integrator, **options):
    run = simulate(integrator(), duration, stimulus=Stimulus("a", waveform, start=start, stop=stop), **options)
    return run.time.values, run.h.values[0, :, 0]


def lag(t, frequency, phase=0.0):
    """Response of the leaky integrator to sin(w t + phase) from t = 0 on, at rest before."""
    w = 2 * np.pi * frequency / 1000
    gain, shift = 1 / np.sqrt(1 + (w * TAU) ** 2), np.arctan(w * TAU)
    return gain * (np.sin(w * t + phase - shift) - np.sin(phase - shift) * np.exp(-t / TAU))


def pulses(t):
    x = np.zeros_like(t)
    for k in range(4):
        for at, sign in ((25 * k, 1), (25 * k + 10, -1)):
            x += np.where(t > at, sign * 3 * (1 - np.exp(-(t - at) / TAU)), 0)
    return x


CLOSED = {
    "constant": (Constant(2.0), lambda t: 2 * (1 - np.exp(-t / TAU))),
    "pulse train": (PulseTrain(3.0, period=25, width=10), pulses),
    "ramp": (Ramp(0.0, 5.0), lambda t: 0.05 * (t - TAU * (1 - np.exp(-t / TAU)))),
    "sine": (Sine(1.5, frequency=30, phase=0.4, offset=1.0), lambda t: 1 - np.exp(-t / TAU) + 1.5 * lag(t, 30, 0.4)),
    "chirp of one frequency": (Chirp(1.5, first=30, last=30), lambda t: 1.5 * lag(t, 30)),
    "samples": (Samples(np.repeat([1.0, 0.0], [50, 50])), lambda t: np.where(t <= 50, 1 - np.exp(-t / TAU), (1 - np.exp(-50 / TAU)) * np.exp(-(t - 50) / TAU))),
    "function": (Function(lambda t: np.exp(-t / 10)), lambda t: (np.exp(-t / TAU) - np.exp(-t / 10)) / (TAU / 10 - 1)),
}


@pytest.mark.parametrize("integrator_name", ["euler", "exponential_euler"])
@pytest.mark.parametrize("name", CLOSED)
def test_a_leaky_integrator_answers_by_its_closed_form(name, integrator_name):
    waveform, form = CLOSED[name]
    t, x = respond(waveform, 100, integrator=lambda: integrator(integrator=integrator_name))
    assert np.abs(x - form(t)).max() < 0.03 * np.abs(form(t)).max()  # first order in dt / tau = 0.005
    _, later = respond(waveform, 150, start=50, integrator=lambda: integrator(integrator=integrator_name))
    assert (later[:499] == 0).all()
    np.testing.assert_allclose(later[500:], x, atol=1e-12)


def test_exponential_euler_is_exact_for_a_constant_at_any_step():
    for dt in (5.0, 50.0):
        t, x = respond(2.0, 200, integrator=lambda: integrator(dt=dt, integrator="exponential_euler"))  # noqa: B023
        np.testing.assert_allclose(x, 2 * (1 - np.exp(-t / TAU)), rtol=1e-12)


def test_a_chirp_sweeps():
    t = np.arange(0, 1000, 0.1)
    values = np.array([Chirp(1.0, first=5, last=45).value(s, 1000) for s in t])
    crossings = t[1:][(values[1:] > 0) & (values[:-1] <= 0)]
    instantaneous = 1000 / np.diff(crossings)
    middle = (crossings[1:] + crossings[:-1]) / 2
    np.testing.assert_allclose(instantaneous, 5 + 40 * middle / 1000, rtol=0.15)


def statistics(waveform, steps=20_000, n=40):
    net = integrator(n, tau=10.0, dt=1.0)
    run = simulate(net, steps=steps, stimulus=Stimulus("a", waveform), record=Record(variables=["x"], dtype="float64"))
    return run.x.values[0, 200:]


def test_white_noise_has_the_variance_of_an_ar1_process():
    x = statistics(WhiteNoise(0.5, mean=1.0))
    a = 0.1
    assert x.mean() == pytest.approx(1.0, abs=0.01)
    assert x.var() == pytest.approx(a / (2 - a) * 0.25, rel=0.03)
    assert abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1]) < 0.1


def test_ornstein_uhlenbeck_filters_as_two_leaks_in_a_row():
    x = statistics(OrnsteinUhlenbeck(0.5, tau=30.0, mean=-1.0))
    keep, a = np.exp(-1 / 30), 0.1  # AR(1) with coefficient 1 - a, driven by AR(1) with coefficient keep
    r = 1 - a
    expected = 0.25 * a * a / (1 - r * r) * (1 + r * keep) / (1 - r * keep)
    assert x.mean() == pytest.approx(-1.0, abs=0.02)
    assert x.var() == pytest.approx(expected, rel=0.06)
    y = np.stack([OrnsteinUhlenbeck(0.5, tau=30.0).draw(np.random.default_rng(0), (5, 2000), 1.0, None)])
    assert y.std() == pytest.approx(0.5, rel=0.03)  # stationary from the first step on


def test_poisson_has_the_mean_and_variance_of_its_counts():
    x = statistics(Poisson(200.0, amplitude=2.0))
    assert x.mean() == pytest.approx(2 * 0.2, rel=0.03)
    assert x.var() == pytest.approx(0.1 / 1.9 * 4 * 0.2, rel=0.05)


def test_shared_noise_is_the_same_for_all_units_and_trials_differ():
    run = simulate(integrator(3, dt=1.0), 50, batch=2, stimulus=Stimulus("a", WhiteNoise(1.0, shared=True))).h.values
    assert (run[..., :1] == run).all()
    assert not (run[0] == run[1]).any()


def test_through_input_weights_and_to_parts_of_a_region():
    net = integrator(10, dt=1.0)
    direct = simulate(net, 50, stimulus=Stimulus("a", 2.0)).h.values
    through = simulate(net, 50, stimulus=Stimulus("i", 1.0)).h.values  # its weights are 2
    np.testing.assert_allclose(direct, through, rtol=1e-12)
    some = simulate(net, 50, stimulus=Stimulus("a", 2.0, units=["u7", "u2"])).h.values[0, -1]
    assert np.flatnonzero(some).tolist() == [2, 7]
    part = [np.flatnonzero(simulate(net, 5, seed=s, stimulus=Stimulus("a", 1.0, fraction=0.3)).h.values[0, -1]).tolist() for s in (0, 0, 1)]
    assert len(part[0]) == 3
    assert part[0] == part[1] != part[2]
    both = simulate(net, 50, stimulus=[Stimulus("a", 2.0), Stimulus("i", 1.0)]).h.values
    np.testing.assert_allclose(both, 2 * direct, rtol=1e-12)  # they add
    own = simulate(net, 50, batch=2, stimulus=Stimulus("a", Samples(np.ones((50, 10, 2)) * np.arange(2)))).h.values
    np.testing.assert_allclose(own[1], direct[0] / 2, rtol=1e-12)
    assert (own[0] == 0).all()


def test_samples_from_a_file(tmp_path):
    np.save(tmp_path / "s.npy", np.linspace(0, 1, 20).astype(np.float32))
    net = integrator(2, dt=1.0)
    one = simulate(net, 40, stimulus=Stimulus("a", Samples(path=tmp_path / "s.npy")))
    two = simulate(net, 40, stimulus=Stimulus("a", Samples(np.linspace(0, 1, 20).astype(np.float32))))
    np.testing.assert_array_equal(one.h, two.h)
    with pytest.raises(StimulusError, match=r"cannot read .*t.npy"):
        simulate(net, 40, stimulus=Stimulus("a", Samples(path=tmp_path / "t.npy")))


def chain():
    """a -> b -> c, each one unit; linear, dt = tau, so that a step is x[t+1] = W h[t] + current."""
    g = sm.RegionGraph()
    for name in "abc":
        g.add_region(name, 1, sign=None, unit_ids=[name])
    g.add_input("i", 1, sign=None)
    g.add_projection("i", "a", weights=[[1.0]])
    g.add_projection("a", "b", weights=[[2.0]])
    g.add_projection("a", "b", weights=[[1.0]], key="second")
    g.add_projection("b", "c", weights=[[1.0]])
    return sm.mRNN(g, "linear", dt=1, tau=1, device="cpu")


def run(*acts, steps=8, drive="a"):
    found = simulate(chain(), steps=steps, stimulus=Stimulus(drive, 1.0), interventions=acts, record=Record(variables=["h", "x"]))
    return {name: found.h.values[0, :, k].tolist() for k, name in enumerate("abc")}, found


def test_lesion_holds_h_at_zero_from_start_to_stop():
    h, found = run(Lesion("b", start=4, stop=6))
    assert h["a"] == [1] * 8
    assert h["b"] == [0, 3, 3, 0, 0, 3, 3, 3]  # at the times 4 and 5 ms
    assert h["c"] == [0, 0, 3, 3, 0, 0, 3, 3]
    assert found.x.values[0, :, 1].tolist() == [0, 3, 3, 3, 3, 3, 3, 3]  # x goes on below
    assert run(Lesion("i", start=4, stop=6), drive="i")[0]["a"] == [1, 1, 1, 1, 0, 0, 1, 1]
    assert run(Lesion("a"))[0]["a"] == [0] * 8


def test_gain_acts_on_what_is_transmitted():
    assert run(Gain("a", "b", 0.0, start=4, stop=6))[0]["b"] == [0, 3, 3, 3, 0, 0, 3, 3]
    assert run(Gain("a", "b", 2.0, key="second", start=4))[0]["b"] == [0, 3, 3, 3, 4, 4, 4, 4]
    assert run(Gain("i", "a", 3.0, start=4), drive="i")[0]["a"] == [1, 1, 1, 1, 3, 3, 3, 3]
    twice = run(Gain("a", "b", 2.0, start=2), Gain("a", "b", 0.5, start=4))[0]["b"]  # they multiply
    assert twice == [0, 3, 6, 6, 3, 3, 3, 3]


def test_clamps_of_h_and_x():
    h, found = run(Clamp("b", 7.0, start=4, stop=6))
    assert h["b"] == [0, 3, 3, 7, 7, 3, 3, 3]
    assert found.x.values[0, 3:5, 1].tolist() == [3, 3]
    h, found = run(Clamp("b", 7.0, variable="x", start=4, stop=6))
    assert h["b"] == [0, 3, 3, 7, 7, 3, 3, 3]
    assert found.x.values[0, 3:5, 1].tolist() == [7, 7]
    assert run(Clamp("a", 5.0))[0]["b"][0] == 15  # from the initial state on


def test_the_order_of_application():
    """Gains, then dynamics, then clamps of x, clamps of h, lesions."""
    h, _ = run(Clamp("b", 7.0, variable="x", start=2), Clamp("b", 9.0, start=3), Lesion("b", start=5), Gain("b", "c", 2.0, start=2))
    assert h["b"] == [0, 7, 9, 9, 0, 0, 0, 0]
    assert h["c"] == [0, 0, 14, 18, 18, 0, 0, 0]
    order, _ = run(Gain("b", "c", 2.0, start=2), Lesion("b", start=5), Clamp("b", 9.0, start=3), Clamp("b", 7.0, variable="x", start=2))
    assert order == h  # whatever the order in which they are given


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Stimulus("a", 1, start=5, stop=5), StimulusError, "not an interval"),
        (lambda: Stimulus("a", 1, start=-1), StimulusError, "not an interval"),
        (lambda: Stimulus("a", 1, units=["u0"], fraction=0.5), StimulusError, "exclude each other"),
        (lambda: Stimulus("a", 1, fraction=1.5), StimulusError, "fraction is 1.5"),
        (lambda: Stimulus.parse("a"), StimulusError, "REGION:AMPLITUDE"),
        (lambda: Stimulus.parse("a:much"), StimulusError, "REGION:AMPLITUDE"),
        (lambda: Stimulus.parse("a:1:9:3"), StimulusError, "not an interval"),
        (lambda: PulseTrain(1.0, period=5, width=6), StimulusError, "width 6 ms"),
        (lambda: Sine(1.0, frequency=0), StimulusError, "frequency is 0"),
        (lambda: OrnsteinUhlenbeck(1.0, tau=0), StimulusError, "tau is 0; it must be positive"),
        (lambda: Poisson(-1.0), StimulusError, "rate is -1"),
        (lambda: Samples(), StimulusError, "either values or a path"),
        (lambda: Clamp("a", float("nan")), InterventionError, "must be a finite number"),
        (lambda: Clamp("a", 1.0, variable="y"), InterventionError, "use 'h' or 'x'"),
        (lambda: Gain("a", "b", -1.0), InterventionError, "at least 0"),
    ],
)
def test_what_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("stimulus", "acts", "error", "message"),
    [
        (Stimulus("aa", 1.0), (), UnknownNameError, "Did you mean 'a'"),
        (Stimulus("a", 1.0, units=["v"]), (), StimulusError, "region 'a' has no unit 'v'"),
        (Stimulus("a", 1.0, start=200), (), StimulusError, "starts at 200 ms, after the end at 8 ms"),
        (Stimulus("a", 1.0, fraction=0.1), (), StimulusError, "is less than one unit"),
        (Stimulus("a", Sine(1.0, frequency=600)), (), StimulusError, "600 Hz needs time steps of at most 0.833"),
        (Stimulus("a", PulseTrain(1.0, period=2, width=0.5)), (), StimulusError, "shorter than the time step"),
        (Stimulus("a", Samples(np.ones((9, 2)))), (), StimulusError, "do not fit 1 units"),
        (Stimulus("a", Samples(np.ones(3)), stop=8), (), StimulusError, "last 3 ms, the window 8 ms"),
        (Stimulus("a", Samples([1.0, np.inf])), (), StimulusError, "not finite"),
        (Stimulus("a", Function(lambda t: [1, 2])), (), StimulusError, r"returns shape \(2,\)"),
        ((), Lesion("bb"), UnknownNameError, r"lesion of 'bb': nothing is called 'bb'; looked at .* regions, .* inputs and the ids of .* units"),
        ((), Clamp("i", 1.0), InterventionError, "give it a stimulus"),
        ((), Gain("a", "c", 1.0), InterventionError, "no such projection"),
        ((), Gain("a", "b", 1.0, key="secondd"), InterventionError, "Did you mean 'second'"),
        ((), [Clamp("b", 1.0, start=1, stop=5), Clamp("b", 2.0, start=4)], InterventionError, "from 4 to 8 ms contradicts .* from 1 to 5 ms"),
    ],
)
def test_what_does_not_fit_a_network(stimulus, acts, error, message):
    with pytest.raises(error, match=message):
        simulate(chain(), steps=8, stimulus=stimulus, interventions=acts)


def test_json_says_the_same_as_objects():
    entries = [
        {"region": "a", "amplitude": 1.0, "start": 2, "stop": 4, "units": ["a"]},
        {"region": "i", "type": "sine", "amplitude": 1, "frequency": 4, "fraction": 1.0},
        {"region": "a", "type": "samples", "values": [[1.0], [2.0]], "interval": 2},
        {"region": "a", "type": "poisson", "rate": 5},
    ]
    acts = [{"type": "lesion", "region": "b"}, {"type": "gain", "source": "a", "target": "b", "factor": 0, "start": 3}, {"type": "clamp", "region": "c", "value": 1}]
    settings = load_config({"simulation": {"stimulus": entries, "interventions": acts, "record": {"what": ["mean"]}}}).simulation
    stimuli, found = settings.stimuli(), settings.intervention_objects()
    assert stimuli[0] == Stimulus("a", 1.0, start=2, stop=4, units=["a"])
    assert stimuli[1] == Stimulus("i", Sine(1, frequency=4), fraction=1.0)
    assert stimuli[2].waveform.array.tolist() == [[1.0], [2.0]]
    assert stimuli[2].stop == 4
    assert stimuli[3].waveform == Poisson(5)
    assert found == [Lesion("b"), Gain("a", "b", 0, start=3), Clamp("c", 1)]
    again = load_config({"simulation": json.loads(json.dumps(settings.model_dump(exclude_defaults=True)))}).simulation
    assert again == settings


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"stimulus": [{"region": "a", "type": "sinee"}]}, r"simulation.stimulus\[0\].type: unknown type 'sinee'. Did you mean 'sine'"),
        ({"stimulus": [{"region": "a", "type": "sine", "amplitude": 1, "freqency": 2}]}, r"stimulus\[0\].freqency: unknown key. Did you mean 'frequency'"),
        ({"stimulus": [{"region": "a"}]}, r"stimulus\[0\].amplitude: field required"),
        ({"interventions": [{"region": "a"}]}, r"interventions\[0\].type: field required"),
        ({"interventions": [{"type": "clamp", "region": "a", "value": "x"}]}, r"interventions\[0\].value: .*valid number"),
        ({"record": {"wat": 1}}, r"record.wat: unknown key. Did you mean 'what'"),
    ],
)
def test_json_errors_name_the_entry(section, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"simulation": section})


@pytest.mark.parametrize("waveform", [Ramp(-1.0, 3.0), Chirp(1.0, first=2.0, last=40.0, offset=0.3)])
@pytest.mark.parametrize("where", ["a", "i"])
def test_a_window_is_its_own_however_long_the_run(waveform, where):
    """The beginning of a long run is the short one, also where the window ends after it."""
    net = integrator(3, dt=1.0)
    stimulus = Stimulus(where, waveform, start=20, stop=220)
    runs = {n: simulate(net, n, stimulus=stimulus).h.values for n in (50, 100, 220, 400)}
    for n in (50, 100, 220):
        np.testing.assert_array_equal(runs[n], runs[400][:, :n])
    current = [waveform.value(t, 200.0) for t in range(200)]
    one = sm.mRNN(sm.RegionGraph(integrator(1, dt=1.0).graph), "linear", dt=1, tau=1, device="cpu", dtype=torch.float64)
    h = simulate(one, 100, stimulus=Stimulus("a", waveform, start=20, stop=220)).h.values[0, :, 0]
    np.testing.assert_allclose(h[20:], current[:80], rtol=1e-12)


def test_samples_longer_than_the_run():
    net = integrator(2, dt=1.0)
    stimulus = Stimulus("a", Samples(np.linspace(0, 1, 300)))
    np.testing.assert_array_equal(simulate(net, 50, stimulus=stimulus).h, simulate(net, 300, stimulus=stimulus).h[:, :50])


RANDOM = [WhiteNoise(1.0), WhiteNoise(1.0, shared=True), OrnsteinUhlenbeck(1.0, tau=10), Poisson(200.0)]


@pytest.mark.parametrize("units", [3, 40])
def test_a_trial_does_not_depend_on_how_many_there_are(units):
    net = integrator(units, dt=1.0)
    stimuli = [Stimulus("a" if k % 2 else "i", waveform, start=5 * k, fraction=0.5) for k, waveform in enumerate(RANDOM)]
    runs = {n: simulate(net, 60, batch=n, stimulus=stimuli, noise=True, seed=4).h.values for n in (1, 2, 4, 9)}
    for n, run in runs.items():
        np.testing.assert_allclose(run, runs[9][:n], rtol=1e-12, atol=1e-12)
    assert not np.isclose(runs[9][0], runs[9][1]).all(axis=0).any()


def of_neurons():
    """Two regions of neurons with integer ids and a column, whose values are in both."""
    g = sm.RegionGraph()
    ids = [720575940653971835, 720575940653971836, 720575940653971837, 720575940653971838]
    g.add_region("MB", 2, sign=None, unit_ids=ids[:2], unit_table={"side": ["left", "right"]})
    g.add_region("LH", 2, sign=None, unit_ids=ids[2:], unit_table={"side": ["left", "right"]})
    return sm.mRNN(g, "linear", dt=1, tau=10, device="cpu"), ids


def test_units_without_a_region(tmp_path):
    net, ids = of_neurons()
    file = tmp_path / "ids.txt"
    file.write_text(f"{ids[3]}\n{ids[1]}, {ids[2]}\n")
    for one, units in (
        (Stimulus(units=[ids[2], ids[1]], waveform=1.0), [1, 2]),
        (Stimulus(units=[str(ids[3])], waveform=1.0), [3]),
        (Stimulus(units={"side": "left"}, waveform=1.0), [0, 2]),
        (Stimulus("side=right", 1.0), [1, 3]),
        (Stimulus("side=left,right", 1.0), [0, 1, 2, 3]),
        (Stimulus.parse(f"@{file}:1"), [1, 2, 3]),
        (Stimulus(ids[0], 1.0), [0]),
    ):
        h = simulate(net, 5, stimulus=one, progress=False).h.values[0, -1]
        assert np.flatnonzero(h).tolist() == units
    drive = Stimulus(units=ids, waveform=1.0)
    for one, units in ((Lesion(units=[ids[2]]), [2]), (Lesion("side=left"), [0, 2]), (Clamp(units=ids[:2], value=0), [0, 1])):
        h = simulate(net, 5, stimulus=drive, interventions=one, progress=False).h.values[0, -1]
        assert np.flatnonzero(h == 0).tolist() == units
    for record, units in ((Record(units=ids[2:]), [2, 3]), (Record(regions=["side=left", "LH"]), [0, 2, 3])):
        found = simulate(net, 5, stimulus=drive, record=record, progress=False)
        assert found.unit_id.values.tolist() == [str(ids[k]) for k in units]


def test_units_without_a_region_are_checked(tmp_path):
    net, ids = of_neurons()
    (tmp_path / "none.txt").write_text("\n")
    for make, error, message in (
        (lambda: Stimulus(waveform=1.0), StimulusError, "give a region, or units"),
        (lambda: Stimulus("MB"), StimulusError, "it has no waveform"),
        (lambda: Clamp(units=ids), InterventionError, "value is None"),
        (lambda: Lesion(), InterventionError, "give a region, or units"),
        (lambda: Stimulus.parse(f"@{tmp_path}/no.txt:1"), StimulusError, "cannot read .*no.txt: No such file"),
        (lambda: Stimulus.parse(f"@{tmp_path}/none.txt:1"), StimulusError, "has no unit ids"),
        (lambda: Stimulus.parse("a:1:2h"), StimulusError, "REGION:AMPLITUDE"),
    ):
        with pytest.raises(error, match=message):
            make()
    for stimulus, message in (
        (Stimulus(units=[12], waveform=1.0), "nothing is called '12'"),
        (Stimulus("side=lft", 1.0), "no unit has the side 'lft'. Did you mean 'left'"),
        (Stimulus("syde=left", 1.0), "no column 'syde'. Did you mean 'side'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            simulate(net, 5, stimulus=stimulus, progress=False)


def test_times_may_have_units():
    parsed = Stimulus.parse("thal:0.5:50ms:2s")
    assert (parsed.start, parsed.stop) == (50.0, 2000.0)
    assert Lesion.parse("a:1s").start == 1000.0
