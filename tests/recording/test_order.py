"""Every number of a recording is of the unit, region and variable that its labels say, whatever was asked for."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Stimulus

REGIONS = {"a": (3, "left"), "b": (2, None), "c": (4, "left"), "d": (1, "right"), "e": (2, "right")}
ACTIVATIONS = {"a": np.tanh, "b": lambda x: np.maximum(x, 0), "c": np.tanh, "d": lambda x: x, "e": lambda x: np.maximum(x, 0)}
NAMES = {"a": "tanh", "b": "relu", "c": "tanh", "d": "linear", "e": "relu"}
STEPS, BATCH = 12, 2


def network():
    g = sm.RegionGraph()
    rng = np.random.default_rng(0)
    for name, (n, parent) in REGIONS.items():
        ids = None if name in "bd" else [f"{name.upper()}{k}" for k in rng.permutation(n)]
        g.add_region(name, n, sign=None, parent_region=parent, unit_ids=ids, activation=NAMES[name], init=rng.normal(size=n), base_firing=rng.normal(size=n))
    g.add_input("i", 2, sign=None)
    for s in REGIONS:
        for t in REGIONS:
            g.add_projection(s, t, weights=rng.normal(size=(REGIONS[t][0], REGIONS[s][0])) / 4)
    g.add_projection("i", "c", weights=rng.normal(size=(4, 2)))
    return sm.mRNN(g, dt=5, tau=20, device="cpu", dtype=torch.float64, seed=0)


def reference():
    """States by unit id, shape (trials, steps): plain sums over the projections as they were declared."""
    g = network().graph
    units = [(r.name, k, r.unit_ids[k] if r.unit_ids else f"{r.name}[{k}]") for r in g.regions() for k in range(r.n)]
    x = {(r.name, k): float(r.init[k]) for r in g.regions() for k in range(r.n)}
    h = {u: float(ACTIVATIONS[u[0]](v)) for u, v in x.items()}
    found = {"h": {uid: [] for *_, uid in units}, "x": {uid: [] for *_, uid in units}}
    for _ in range(STEPS):
        total = {(r.name, k): float(r.base_firing[k]) for r in g.regions() for k in range(r.n)}
        for p in g.projections():
            for (row, col), w in np.ndenumerate(p.weights.toarray()):
                total[p.target, row] += w * (0.7 if p.source == "i" else h[p.source, col])
        x = {u: v + 5 / 20 * (total[u] - v) for u, v in x.items()}
        h = {u: float(ACTIVATIONS[u[0]](v)) for u, v in x.items()}
        for name, k, uid in units:
            found["x"][uid].append(x[name, k])
            found["h"][uid].append(h[name, k])
    return units, {v: {uid: np.array(values) for uid, values in by_unit.items()} for v, by_unit in found.items()}


UNITS, STATES = reference()
IDS = [uid for *_, uid in UNITS]
OF_REGION = {name: [uid for region, _, uid in UNITS if region == name] for name in REGIONS}
OF_GROUP = {**OF_REGION, **{p: [u for r, (_, q) in REGIONS.items() if q == p for u in OF_REGION[r]] for p in ("left", "right")}}
REGION_OF = {uid: region for region, _, uid in UNITS}


def check(run, record):
    at = slice(record.every - 1, None, record.every)
    regions = list(REGIONS) if record.regions is None else list(record.regions)
    wanted = list(dict.fromkeys(u for r in regions for u in OF_GROUP[r]))
    if record.units is not None:
        wanted = [u for u in wanted if u in record.units]
    if "units" in record.what:
        assert run.unit_id.values.tolist() == wanted
        assert run.region.values.tolist() == [REGION_OF[u] for u in wanted]
    for variable in record.variables:
        states = STATES[variable]
        if "units" in record.what:
            for k, uid in enumerate(wanted):
                for trial in range(BATCH):
                    np.testing.assert_allclose(run[variable].values[trial, :, k], states[uid][at], rtol=1e-9, atol=1e-12)
        for what, statistic in (("mean", np.mean), ("variance", np.var)):
            if what in record.what:
                assert run.group.values.tolist() == regions
                for group in regions:
                    expected = statistic([states[u] for u in OF_GROUP[group]], axis=0)[at]
                    got = run[f"{variable}_{what}"].sel(group=group).values
                    np.testing.assert_allclose(got, np.tile(expected, (BATCH, 1)), rtol=1e-8, atol=1e-10)


def simulated(record, out=None):
    return simulate(network(), steps=STEPS, batch=BATCH, stimulus=Stimulus("i", 0.7), record=record, out=out)


some = st.lists(st.sampled_from([*REGIONS, "left", "right"]), min_size=1, unique=True) | st.permutations(list(REGIONS))
records = st.builds(
    dict,
    what=st.permutations(["units", "mean", "variance"]).flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])),
    variables=st.sampled_from([["h"], ["x"], ["h", "x"], ["x", "h"]]),
    regions=st.none() | some,
    every=st.sampled_from([1, 2, 5]),
)


@settings(max_examples=60, deadline=None)
@given(records, st.data())
def test_labels_and_values_agree_in_memory(chosen, data):
    if "units" in chosen["what"] and data.draw(st.booleans()):
        regions = chosen["regions"] or list(REGIONS)
        known = list(dict.fromkeys(u for r in regions for u in OF_GROUP[r]))
        chosen["units"] = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True) | st.permutations(known))
    record = Record(**chosen)
    check(simulated(record), record)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records)
def test_labels_and_values_agree_on_disk(tmp_path_factory, chosen):
    record = Record(**chosen)
    check(simulated(record, tmp_path_factory.mktemp("run") / "run.zarr"), record)


@pytest.mark.parametrize("order", ["abcde", "edcba", "cabed", ["right", "b", "left"], ["left", "right", "b"]])
@pytest.mark.parametrize("disk", [False, True])
def test_every_region_in_another_order(order, disk, tmp_path):
    record = Record(what=["units", "mean", "variance"], variables=["h", "x"], regions=list(order))
    check(simulated(record, tmp_path / "run.zarr" if disk else None), record)
