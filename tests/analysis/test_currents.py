"""Currents by source, against a dense float64 reference of its own; they sum to what a step receives."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.dense_reference import apply_sign
from sparse_mrnn.analysis import currents
from sparse_mrnn.errors import AnalysisError, MissingExtraError, RecordingError, ShapeError, UnknownNameError
from sparse_mrnn.recording import Record

xr = pytest.importorskip("xarray")
MODELS = [sm.mRNN, sm.ElmanmRNN]
SIGN = {"a": 1, "b": -1, "c": None, "d": 0}


class Reference:
    """A network, and each of its projections as a dense matrix that is made from the parameters alone."""

    def __init__(self, model, order="abcd", seed=0, batch_first=True):
        rng = np.random.default_rng(seed)
        size = dict(a=3, b=4, c=5, d=2)
        g = sm.RegionGraph()
        self.signs = {name: np.full(n, SIGN[name]) if name != "c" else rng.choice([-1, 0, 1], n) for name, n in size.items()}
        declared = {"a": "pos", "b": "neg", "c": self.signs["c"], "d": None}
        base = {name: rng.normal(size=n) if name in "ac" else 0.0 for name, n in size.items()}
        more = {name: {"tau": 40.0} if name == "b" and model is sm.mRNN else {} for name in size}
        masks = {(s, t): rng.random((size[t], size[s])) < 0.6 for s in size for t in size}
        for name in order:
            g.add_region(name, size[name], sign=declared[name], base_firing=base[name], init=0.2, parent_region="ab" if name in "ab" else None, **more[name])
        g.add_input("u", 2, sign=None)
        g.add_input("v", 1, sign="neg")
        dt = model().dt
        self.masks, self.kind = {}, {}
        for (s, t), mask in masks.items():
            if (s, t) in (("d", "a"), ("b", "d")):
                continue
            own = self.signs[s]
            w = apply_sign(rng.normal(size=mask.shape), own) * mask
            delay = {("a", "b"): 3 * dt, ("c", "c"): 2 * dt}.get((s, t))
            share = {("b", "c"): "source", ("a", "a"): "projection"}.get((s, t))
            g.add_projection(s, t, weights=w, delay=delay, share=share, gain=0.7 if share else 1.0, trainable=(s, t) != ("c", "a"))
            self.masks[s, t, "default"] = (w != 0, w)
        w = np.abs(rng.normal(size=(size["b"], size["a"]))) * masks["a", "b"]
        g.add_projection("a", "b", key="fast", weights=-w, sign="neg")
        self.masks["a", "b", "fast"] = (w != 0, -w)
        g.add_projection("d", "a", rank=2, delay=2 * dt)
        g.add_projection("c", "d", key="low", rank=1, sign="free")
        for s, t, n in (("u", "a", 2), ("u", "c", 2), ("v", "b", 1)):
            w = apply_sign(rng.normal(size=(size[t], n)), np.full(n, -1 if s == "v" else 0))
            g.add_projection(s, t, weights=w, delay=4 * dt if t == "c" else None)
            self.masks[s, t, "default"] = (w != 0, w)
        self.net = net = model(g, "tanh", device="cpu", dtype=torch.float64, seed=3, batch_first=batch_first)
        self.size, self.order, self.base, self.dt = size, order, base, dt
        with torch.no_grad():  # parameters of either sign, as an optimiser makes them
            for parameter in net.parameters():
                parameter.mul_(torch.from_numpy(rng.choice([-1.0, 1.0], tuple(parameter.shape)) * rng.uniform(0.5, 1.5, tuple(parameter.shape))))
        self.delays = {(p.source, p.target, p.key): round((p.delay or dt) / dt) for p in g.projections()}

    def weight(self, name):
        """Effective weights of a projection, dense."""
        s, t, key = name
        weights = self.net.weights(self.net.kind_of(s))
        if weights.low_rank is not None and name in weights.low_rank.names:
            u, v = weights.low_rank.factors(source=s, target=t, key=key)
            return u.detach().numpy() @ v.detach().numpy().T
        mask, declared = self.masks[name]
        w = np.zeros(mask.shape)
        if weights.is_shared(name):
            gains = weights.projection_gains(source=s, target=t, key=key).detach().numpy()
            w[mask] = (declared * gains[None, :] if len(gains) > 1 else declared * gains[0])[mask]
        else:
            w[mask] = weights.projection_values(source=s, target=t, key=key).detach().numpy()
        own = np.full(mask.shape[1], {"u": 0, "v": -1}[s]) if s in "uv" else self.signs[s]
        own = np.full(mask.shape[1], -1) if key == "fast" else np.where(own == None, 0, own).astype(int)  # noqa: E711
        return apply_sign(w, own)

    def units(self, name):
        start = sum(self.size[other] for other in self.order[: self.order.index(name)])
        return slice(start, start + self.size[name])

    def currents(self, h, u, stim, h0):
        """(source, key) -> excitatory and inhibitory current of each step, (2, trial, time, unit)."""
        found = {}
        trials, steps, n = h.shape
        past = np.concatenate([np.broadcast_to(h0, (10, trials, n)).transpose(1, 0, 2), h], axis=1)
        inputs = np.concatenate([np.zeros((trials, 10, 3)), u], axis=1)
        for name, delay in self.delays.items():
            s, t, key = name
            w = self.weight(name)
            into = found.setdefault((s, key), np.zeros((2, trials, steps, n)))
            for step in range(steps):
                if s in "uv":
                    sent = inputs[:, 10 + step - (delay - 1), slice(0, 2) if s == "u" else slice(2, 3)]
                else:
                    sent = past[:, 10 + step - delay, self.units(s)]
                for k, part in enumerate((np.maximum(w, 0), np.minimum(w, 0))):
                    into[k, :, step, self.units(t)] += sent @ part.T
        tonic = np.concatenate([np.broadcast_to(self.base[name], self.size[name]) for name in self.order])
        every = np.broadcast_to(tonic, (trials, steps, n))
        found["tonic", ""] = np.stack([np.maximum(every, 0), np.minimum(every, 0)])
        found["stimulus", ""] = np.stack([np.maximum(stim, 0), np.minimum(stim, 0)])
        return found


def run_of(ref, trials=2, steps=9, seed=1):
    """Inputs, direct currents, and x and h of a forward pass, as (trial, time, unit)."""
    rng = np.random.default_rng(seed)
    u, stim = rng.normal(size=(trials, steps, 3)), rng.normal(size=(trials, steps, 14))
    given = [torch.from_numpy(v if ref.net.batch_first else v.transpose(1, 0, 2).copy()) for v in (u, stim)]
    with torch.no_grad():
        found = ref.net(given[0], stim_input=given[1])
    x, h = (found, found) if isinstance(ref.net, sm.ElmanmRNN) else found
    h0 = ref.net.batched_initial_condition(trials)[-1].detach().numpy()
    return u, stim, x, h, h0, given


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("order", ["abcd", "cdba"])
@pytest.mark.parametrize("by", ["region", "projection"])
@pytest.mark.parametrize("sign", ["total", "split"])
def test_each_source_against_the_reference(model, order, by, sign):
    ref = Reference(model, order)
    u, stim, _, h, h0, _ = run_of(ref)
    found = currents(ref.net, h, inputs=u, stim=stim, by=by, sign=sign)
    expected = {}
    for (s, key), parts in ref.currents(h.numpy(), u, stim, h0).items():
        label = (s, key if by == "projection" else "")
        expected[label] = expected.get(label, 0) + parts
    keys = found.key.values.tolist() if by == "projection" else [""] * len(found.source)
    labels = list(zip(found.source.values.tolist(), keys, strict=True))
    assert set(labels) == set(expected)
    assert len(labels) == len(expected)
    for k, label in enumerate(labels):
        parts = expected[label] if sign == "split" else expected[label].sum(axis=0)
        np.testing.assert_allclose(found.values[k], parts, atol=1e-13, err_msg=str(label))
    kinds = dict(zip(found.source.values.tolist(), found.kind.values.tolist(), strict=True))
    assert kinds == dict(a="recurrent", b="recurrent", c="recurrent", d="recurrent", u="input", v="input", tonic="tonic", stimulus="stimulus")
    assert found.region.values.tolist() == [name for name in order for _ in range(ref.size[name])]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_sum_is_what_a_step_receives(model, batch_first):
    ref = Reference(model, batch_first=batch_first)
    net = ref.net
    _, _, x, h, h0, (u, stim) = run_of(ref)
    total = currents(net, h, inputs=u, stim=stim).sum("source").values
    x, h = (v.numpy() if batch_first else v.numpy().transpose(1, 0, 2) for v in (x, h))
    if model is sm.ElmanmRNN:
        np.testing.assert_allclose(np.tanh(total), h, atol=1e-13)
        return
    alpha = net.unit_alpha().detach().numpy()[:, 0]
    before = np.concatenate([np.full((2, 1, 14), 0.2), x[:, :-1]], axis=1)
    np.testing.assert_allclose((x - (1 - alpha) * before) / alpha, total, atol=1e-12)
    assert np.allclose(np.tanh(0.2), h0)


@pytest.mark.parametrize("sign", ["total", "split"])
def test_means_targets_and_blocks(sign, monkeypatch):
    ref = Reference(sm.mRNN)
    u, stim, _, h, _, _ = run_of(ref)
    given = dict(inputs=u, stim=stim, sign=sign, by="projection")
    whole = currents(ref.net, h, **given)
    mean = currents(ref.net, h, what="mean", **given)
    assert mean.region.values.tolist() == list("abcd")
    for name in "abcd":
        np.testing.assert_allclose(mean.sel(region=name), whole[..., whole.region == name].mean("unit"), atol=1e-13)
    some = currents(ref.net, h, targets=["c[1]", "ab"], **given)
    units = [*range(7), 8]
    there = [k for k, s in enumerate(whole.source.values) if (whole[k] != 0)[..., units].any() or s == "v"]
    np.testing.assert_allclose(some, whole.isel(unit=units, source=there), atol=1e-13)
    assert some.unit_id.values.tolist() == [ref.net.unit_ids[k] for k in units]
    only = currents(ref.net, h, targets="d", **given)
    assert only.source.values.tolist() == ["a", "c", "c", "d", "stimulus"]  # neither inputs nor tonic input reach d
    monkeypatch.setattr("sparse_mrnn.analysis.source_currents.BLOCK_BYTES", 1)
    np.testing.assert_allclose(currents(ref.net, h, **given), whole, rtol=1e-13, atol=1e-15)


def recorded(net, **options):
    stimuli = [sm.Stimulus("a", sm.stimulus.WhiteNoise(0.5), start=20), sm.Stimulus("u", sm.stimulus.Sine(1.0, frequency=5))]
    given = dict(steps=23, batch=3, stimulus=stimuli, record=Record(variables=["h", "x"]), seed=5, progress=False)
    return sm.simulate(net, **{**given, **options})


def same(one, two):
    """The same but for rounding, which differs with the number of columns that are multiplied at a time."""
    xr.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14)
    assert (one.dims, one.attrs, set(one.coords)) == (two.dims, two.attrs, set(two.coords))


def test_run_on_disk(tmp_path, monkeypatch):
    """The drive of a run is made again; a result on disk is the one in memory, whatever the chunks and blocks."""
    monkeypatch.setattr("sparse_mrnn.simulation.plan.LONGEST_CHUNK", 5)
    net = Reference(sm.mRNN).net
    lesions = [sm.Lesion("b", start=0, stop=100), sm.Lesion("v", start=50)]
    run = recorded(net, out=tmp_path / "run.zarr", interventions=lesions)
    found = currents(net, run)
    x, alpha = run.x.values, net.unit_alpha().detach().numpy()[:, 0]
    before = np.concatenate([np.full((3, 1, 14), 0.2), x[:, :-1]], axis=1)
    np.testing.assert_allclose(found.sum("source"), (x - (1 - alpha) * before) / alpha, atol=1e-12)
    assert (found.time.values == run.time.values).all()
    monkeypatch.setattr("sparse_mrnn.analysis.source_currents.BLOCK_BYTES", 20_000)
    stored = currents(net, tmp_path / "run.zarr", out=tmp_path / "currents.zarr")
    assert stored.dims == found.dims
    assert not stored._in_memory
    same(stored.load(), found)
    with pytest.raises(AnalysisError, match="exists; pass overwrite=True"):
        currents(net, run, out=tmp_path / "currents.zarr")
    same(currents(net, run.isel(trial=[0, 1, 2]), out=tmp_path / "currents.zarr", overwrite=True).load(), found)
    with pytest.raises(AnalysisError, match="run.zarr does not hold currents; it is not replaced"):
        currents(net, tmp_path / "run.zarr", out=tmp_path / "run.zarr", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["currents.zarr", "run.zarr"]


def test_labels_travel_with_the_activity():
    """Columns in another order, a window of time, and units that nothing needs."""
    net = Reference(sm.mRNN).net
    run = recorded(net)
    found = currents(net, run)
    order = np.random.default_rng(0).permutation(14)
    xr.testing.assert_allclose(currents(net, run.isel(unit=order)), found)
    late = currents(net, run.isel(time=slice(6, None)))
    xr.testing.assert_allclose(late, found.isel(time=slice(6 + 4, None)))
    some = currents(net, run.isel(unit=run.region != "b"), targets="d", inputs=np.zeros((3, 23, 3)))
    xr.testing.assert_allclose(some.drop_vars("kind"), found.isel(unit=[12, 13]).sel(source=some.source).drop_vars("kind"))
    bare = currents(net, run.h.drop_vars(["region", "unit_id", "time"]).drop_attrs())
    recurrent = bare.kind == "recurrent"
    np.testing.assert_allclose(bare[recurrent].values[:, :, 1:], found[found.kind == "recurrent"].values[:, :, 1:])


def test_recordings_that_do_not_fit(tmp_path):
    ref = Reference(sm.mRNN)
    net, run = ref.net, recorded(ref.net)
    cases = [
        (run.isel(unit=run.region != "b"), RecordingError, r"4 units .* not recorded, first 'b\[0\]' of region 'b'"),
        (run.isel(time=slice(None, None, 2)), RecordingError, "times are 20 ms apart, .* time step is 10 ms"),
        (run.isel(time=slice(3, 6)), RecordingError, "the first 4 of them are the past"),
        (run.isel(trial=[0]), RecordingError, "1 of the 3 trials of its run"),
        (run.drop_vars("h"), RecordingError, r"no h by unit, but x"),
        (run.isel(unit=[0, *range(14)]), RecordingError, "recorded twice"),
        (run.assign_coords(unit_id=("unit", [f"n{k}" for k in range(14)])), RecordingError, "unit 'n0' of region 'a' is recorded, but"),
        (run.h.isel(trial=0, time=0), ShapeError, "dimensions unit; expected trial, time, unit"),
        (np.zeros((2, 14)), ShapeError, r"shape \(2, 14\); expected \(trials, time, units\)"),
        (np.zeros((1, 2, 13)), ShapeError, "activity of 13 units; the network has 14"),
        (np.zeros((1, 0, 14)), ShapeError, "is empty"),
        (tmp_path / "none.zarr", RecordingError, "is not a recording"),
    ]
    for activity, error, text in cases:
        with pytest.raises(error, match=text):
            currents(net, activity)
    broken = run.copy(deep=True)
    broken.h[1, 4, 8] = np.nan
    with pytest.raises(RecordingError, match=r"unit 'c\[1\]' of region 'c' is not finite in trial 1 at 50 ms"):
        currents(net, broken, out=tmp_path / "currents.zarr")
    assert not list(tmp_path.iterdir())
    gain = recorded(net, interventions=sm.Gain("a", "b", 0.5))
    with pytest.raises(RecordingError, match="gains of projections changed"):
        currents(net, gain)
    for options in ("", "[]", '{"batch": 3}', '{"stimulus": 1, "interventions": [], "steps": 23, "batch": 3, "seed": 5}', "[" * 100_000):
        with pytest.raises(RecordingError, match="cannot be made again from its recording"):
            currents(net, run.assign_attrs(options=options))
    samples = recorded(net, stimulus=sm.Stimulus("a", sm.stimulus.Samples(np.ones(10), 10.0)))
    with pytest.raises(RecordingError, match="pass inputs= and stim="):
        currents(net, samples)
    assert "stimulus" not in currents(net, samples, inputs=np.zeros((3, 23, 3))).source


def test_arguments_that_do_not_fit():
    ref = Reference(sm.mRNN)
    _, _, _, h, _, _ = run_of(ref)
    cases = [
        (dict(by="regions"), AnalysisError, "by is 'regions'; use 'region' or 'projection'"),
        (dict(sign="both"), AnalysisError, "sign is 'both'"),
        (dict(what="variance"), AnalysisError, "what is 'variance'"),
        (dict(targets="e"), UnknownNameError, "nothing is called 'e'"),
        (dict(targets="u"), AnalysisError, "'u' is an input"),
        (dict(inputs=np.zeros((2, 9, 2))), ShapeError, r"inputs have .* \(2, 9, 2\); expected \(2, 9, 3\)"),
        (dict(stim=np.zeros((2, 8, 14))), ShapeError, r"stim have .* expected \(2, 9, 14\)"),
        (dict(h0=np.zeros((3, 14))), ShapeError, "h0 has 3 trials, the activity 2"),
    ]
    for options, error, text in cases:
        with pytest.raises(error, match=text):
            currents(ref.net, h, **options)


def test_result_too_large_for_memory(monkeypatch):
    monkeypatch.setattr("sparse_mrnn.analysis.source_currents.free_memory", lambda: 1000)
    ref = Reference(sm.mRNN)
    with pytest.raises(RecordingError, match=r"the currents take .* write them to disk \(out=\)"):
        currents(ref.net, run_of(ref)[3])


def test_without_xarray(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(MissingExtraError, match="currents need xarray"):
        currents(Reference(sm.mRNN).net, np.zeros((1, 2, 14)))
