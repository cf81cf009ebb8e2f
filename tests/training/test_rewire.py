"""Pruning and rewiring: what stays, what comes, and where, over odd graphs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.common import values_of
from helpers.training_nets import build, loss
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.training import freeze, parameter_groups, prune, rewire, unfreeze
from sparse_mrnn.training.candidates import CandidateSlots


@st.composite
def nets(draw):
    """Regions of one unit; empty, thin, full, parallel and frozen projections; signs or not."""
    g = sm.RegionGraph()
    sizes = draw(st.lists(st.sampled_from([1, 1, 2, 5, 9]), min_size=1, max_size=3))
    for k, n in enumerate(sizes):
        g.add_region(f"r{k}", n, sign=draw(st.sampled_from(["pos", "neg", None])))
    g.add_input("i", 3, sign=draw(st.sampled_from(["pos", None])))
    for number in range(draw(st.integers(0, 5))):
        source = draw(st.sampled_from(["i", *map("r{}".format, range(len(sizes)))]))
        target = f"r{draw(st.integers(0, len(sizes) - 1))}"
        g.add_projection(
            source, target, key=f"k{number}", density=draw(st.sampled_from([0.0, 0.3, 0.8, 1.0])),
            sign=draw(st.sampled_from(["inherit", "inherit", "neg", "free"])),
            trainable=draw(st.sampled_from([True, True, False])), self_connections=draw(st.booleans()),
        )  # fmt: skip
    return sm.mRNN(g, "tanh", device="cpu", seed=draw(st.integers(0, 99)), dtype=torch.float64, backend="csr")


def pairs(net, part):
    """Rows and columns of the synapses of every projection, by name."""
    table = part.table()
    slots = torch.stack([table.row, table.col], 1).split(table.lengths.tolist())
    return {name: [tuple(p) for p in slots[k].tolist()] for k, name in enumerate(part.projections)}


def run(net):
    inp = torch.linspace(-1, 1, 2 * 4 * 3, dtype=torch.float64).view(2, 4, 3)
    x0, _ = net.batched_initial_condition(2)
    return net(inp, x0 + 0.3)[1].square().sum()


def check_pattern(net):
    for part, kind in ((net.rec, "recurrent"), (net.inp, "input")):
        edges = {(p.source, p.target, p.key): p for p in net.graph.projections(kind)}
        for name, slots in pairs(net, part).items():
            assert slots == sorted(set(slots)), f"{name}: repeated or not row-major"
            rows, cols = net.layout().slice(name[1]), net.layout(kind).slice(name[0])
            for row, col in slots:
                assert rows.start <= row < rows.stop
                assert cols.start <= col < cols.stop
                assert not (edges[name].pair.exclude_self and row - rows.start == col - cols.start)
        pattern = part.pattern
        key = pattern.row.long() * max(part.shape[1], 1) + pattern.col
        assert (key[1:] >= key[:-1]).all()
        assert int(part.crow[-1]) == part.nnz == int(part.ptr[-1]) == part.all_values().numel()
        reference = torch.zeros(part.shape, dtype=torch.float64)
        constrained = net.rec_constrained if kind == "recurrent" else net.inp_constrained
        for name in part.projections:
            values, edge = values_of(part, name).detach(), edges[name]
            for (row, col), v in zip(pairs(net, part)[name], values.tolist(), strict=True):
                signs = {"pos": 1, "neg": -1, "free": 0, "inherit": int(part.sign[col])}
                sign = signs[edge.sign]
                reference[row, col] += abs(v) * sign if constrained and sign else v
        torch.testing.assert_close(part.dense().detach(), reference)


@given(
    nets(), st.sampled_from(["set", "rigl", "deepr"]), st.sampled_from([0.0, 0.3, 1.0]), st.booleans(),
    st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rewiring_invariants(net, method, fraction, inputs, seed):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.3)
    source = "i" if inputs else None
    part = net.inp if inputs else net.rec
    if inputs and not part.projections:
        return
    names = part.projections
    if names and part.trainable_projections == 0:
        with pytest.raises(TrainingError, match="frozen; call unfreeze first"):
            rewire(net, fraction, source, seed=seed)
        return
    for turn in range(2):
        optimizer.zero_grad()
        value = run(net)
        if value.requires_grad:
            value.backward()
            optimizer.step()
        before, lengths = pairs(net, part), torch.diff(part.ptr).tolist()
        old = {name: dict(zip(before[name], values_of(part, name).tolist(), strict=True)) for name in names}
        averages = optimizer.state.get(part.values, {}).get("exp_avg")
        moments = {} if averages is None else {
            name: dict(zip(before[name], averages[part.ptr[k] : part.ptr[k + 1]].tolist(), strict=True))
            for k, name in enumerate(names[: part.trainable_projections])
        }
        options = {"fraction": None} if method == "deepr" else {"fraction": fraction}
        if method == "rigl":
            options["loss"] = lambda: run(net)
            if not part.nnz and not value.requires_grad:
                continue
        moved = rewire(net, source=source, method=method, optimizer=optimizer, seed=seed + turn, **options)
        check_pattern(net)
        assert torch.diff(part.ptr).tolist() == lengths
        assert part.projections == names
        after = pairs(net, part)
        if method == "deepr" and turn == 0:
            assert moved == 0
        elif method != "deepr":
            assert moved == sum(int(fraction * n + 0.5) for n in lengths[: part.trainable_projections])
        come = 0
        for k, name in enumerate(names):
            frozen = k >= part.trainable_projections
            assert not frozen or after[name] == before[name]
            values = dict(zip(after[name], values_of(part, name).tolist(), strict=True))
            kept = {pair for pair in values if pair in old[name] and values[pair] == old[name][pair]}
            come += len(values) - len(kept)
            if moments and not frozen:
                state = optimizer.state[part.values]["exp_avg"][part.ptr[k] : part.ptr[k + 1]].tolist()
                for pair, m in zip(after[name], state, strict=True):
                    assert m in (0.0, moments[name].get(pair)), f"{name} {pair}: not its moment"
        assert come <= moved


def test_set_removes_the_weakest_and_keeps_the_magnitudes():
    g = sm.RegionGraph()
    g.add_region("a", 40)
    g.add_region("b", 30, sign=None)
    g.add_projection("a", "b", density=0.2)
    g.add_projection("b", "a", density=0.2)
    net = sm.mRNN(g, device="cpu", seed=0)
    slots_of = pairs(net, net.rec)
    before = {name: (slots, values_of(net.rec, name).detach().clone()) for name, slots in slots_of.items()}
    rewire(net, 0.25, seed=1)
    for name, (slots, values) in before.items():
        n = int(0.25 * len(values) + 0.5)
        stayed = {p for p, m in zip(slots, values.abs().argsort().argsort().tolist(), strict=True) if m >= n}
        assert stayed <= set(pairs(net, net.rec)[name])
        now = values_of(net.rec, name).detach()
        torch.testing.assert_close(now.abs().sort()[0], values.abs().sort()[0])
    new = net.rec.projection_values(source="b", target="a").detach()
    assert (new < 0).any()
    assert (new > 0).any()


@pytest.mark.slow
def test_rewiring_is_reproducible_and_uniform():
    def drawn(rng):
        g = sm.RegionGraph()
        g.add_region("a", 6)
        g.add_projection("a", "a", weights=np.eye(6))
        net = sm.mRNN(g, device="cpu", seed=0)
        rewire(net, 1.0, seed=rng)
        return pairs(net, net.rec)["a", "a", "default"]

    assert drawn(3) == drawn(3) != drawn(4)
    torch.manual_seed(0)
    first = drawn(None)
    torch.manual_seed(0)
    assert drawn(None) == first
    rng = np.random.default_rng(0)
    counts = np.zeros((6, 6))
    for _ in range(600):
        for row, col in drawn(rng):
            counts[row, col] += 1
    assert abs(counts - 100).max() < 5 * np.sqrt(100)  # 600 draws of 6 of 36 slots: 100 each


def test_free_slots_by_brute_force():
    rng = np.random.default_rng(0)
    for trial in range(30):
        net = build(seed=trial)
        table = net.rec.table()
        slots = CandidateSlots.of(net, net.rec, table)
        kept_mask = rng.random(len(table.row)) < 0.5
        kept = (slots.start[slots.block] + slots.occupied(table))[kept_mask]
        assert (np.diff(kept) > 0).all()
        counts = np.bincount(slots.block[kept_mask], minlength=len(slots.size))
        want = (slots.size - counts) * rng.integers(0, 2, len(counts))  # none, or every free slot
        got = slots.draw_free(rng, kept, counts, want)
        for k in range(len(counts)):
            all_slots = set(range(slots.start[k], slots.start[k] + slots.size[k]))
            inside = set(got[(got >= slots.start[k]) & (got < slots.start[k] + slots.size[k])].tolist())
            assert inside == (all_slots - set(kept.tolist()) if want[k] else set())


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [None, 3])
def test_rigl_grows_where_the_loss_falls_most_steeply(model, batch_first, steps):
    """Against the gradient of a net that has every synapse, those of the sparse one and zeros elsewhere."""
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random((8, 8)) < 0.3, rng.normal(size=(8, 8)), 0)
    inputs = np.where(rng.random((8, 2)) < 0.5, rng.normal(size=(8, 2)), 0)

    def make(full):
        g = sm.RegionGraph()
        g.add_region("a", 8, sign=None)
        g.add_input("i", 2, sign=None)
        for source, w in (("a", sparse), ("i", inputs)):
            weights = np.where(w == 0, 1.0, w) if full else w
            delay = None if steps is None else steps * model().dt
            g.add_projection(source, "a", weights=weights, delay=delay)
        net = model(g, "tanh", batch_first=batch_first, device="cpu", dtype=torch.float64)
        if full:
            with torch.no_grad():
                net.rec.values.copy_(torch.from_numpy(sparse.flatten()))
                net.inp.values.copy_(torch.from_numpy(inputs.flatten()))
        return net

    inp = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inp = inp if batch_first else inp.transpose(0, 1)
    start = torch.linspace(-1, 1, 24, dtype=torch.float64).view(3, 8)

    def value(net):
        out = net(inp, start)
        return (out if model is sm.ElmanmRNN else out[1]).sum()

    full = make(True)
    value(full).backward()
    cases = [("a", full.rec.values.grad.view(8, 8), sparse), ("i", full.inp.values.grad.view(8, 2), inputs)]
    for source, gradient, w in cases:
        net = make(False)
        weak = np.argsort(np.where(w == 0, np.inf, abs(w)).flatten())[: int(0.5 * (w != 0).sum() + 0.5)]
        kept = (w != 0).flatten()
        kept[weak] = False
        slope = np.where(kept, -1, gradient.abs().numpy().flatten())
        expected = set(np.argsort(-slope)[: len(weak)].tolist()) | set(np.flatnonzero(kept).tolist())
        rewire(net, 0.5, source, "a", method="rigl", loss=lambda net=net: value(net), candidates=1000, seed=0)
        part = net.rec if source == "a" else net.inp
        table = part.table()
        assert set((table.row * w.shape[1] + table.col).tolist()) == expected
        new = ~torch.from_numpy(kept)[table.row * w.shape[1] + table.col]
        assert (table.values[new] == 0).all()


def test_rigl_respects_the_direction_dales_law_allows():
    """A positive source that should inhibit gains nothing by a new synapse; one that should excite does."""
    g = sm.RegionGraph()
    g.add_region("a", 2)
    g.add_region("b", 2)
    g.add_projection("a", "b", weights=np.array([[0.1, 0.0], [0.0, 0.2]]))
    net = sm.mRNN(g, "linear", device="cpu", dtype=torch.float64)

    def value():
        _, h = net(torch.zeros(1, 3, 0, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64))
        return 5 * h[..., 2].sum() - h[..., 3].sum()  # unit 0 of b should fall (steep), unit 1 rise

    rewire(net, 0.5, method="rigl", loss=value, seed=0)
    assert pairs(net, net.rec)["a", "b", "default"] == [(3, 0), (3, 1)]


def test_deep_r_moves_what_changed_sign():
    g = sm.RegionGraph()
    g.add_region("a", 5, sign="neg")
    g.add_projection("a", "a", weights=-np.eye(5))  # negative parameters from the start are no change of sign
    net = sm.mRNN(g, device="cpu")
    assert rewire(net, method="deepr", seed=0) == 0
    assert rewire(net, method="deepr", seed=0) == 0
    with torch.no_grad():
        net.rec.values[2] = 0.5
    assert rewire(net, method="deepr", seed=0) == 1
    slots = pairs(net, net.rec)["a", "a", "default"]
    assert {(0, 0), (1, 1), (3, 3), (4, 4)} <= set(slots)
    table = net.rec.table()
    k = int((table.values == 0).nonzero()[0, 0])
    with torch.no_grad():
        net.rec.values[k] = -0.1  # a new one counts as positive, so it has crossed at once
    freeze(net, "a", "a")
    with pytest.raises(TrainingError, match="'a' -> 'a' is frozen"):
        rewire(net, method="deepr", seed=0)
    unfreeze(net, "a", "a")
    assert rewire(net, method="deepr", seed=0) == 1


def test_a_rewired_net_loads_into_a_fresh_one_and_trains_on():
    net, fresh = build(), build(seed=5)
    optimizer = torch.optim.Adam(parameter_groups(net, {("a", "b"): {"lr": 0.0}}, lr=1e-2))
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(net)
        value.backward()
        optimizer.step()
        rewire(net, 0.4, optimizer=optimizer, seed=0)
        prune(net, 0.1, "i", optimizer=optimizer)
    fresh.load_state_dict(net.state_dict())
    torch.testing.assert_close(loss(fresh), loss(net))
    loss(fresh).backward()
    loss(net).backward()


@given(nets(), st.sampled_from([0.0, 0.4, 0.5, 1.0]), st.sampled_from(["projection", "network"]))
@settings(max_examples=30, deadline=None)
def test_pruning_removes_the_weakest(net, fraction, scope):
    part = net.rec
    if part.projections and part.trainable_projections == 0:
        return
    before = {name: values_of(part, name).detach().abs() for name in part.projections}
    trainable = part.projections[: part.trainable_projections]
    removed = prune(net, fraction, scope=scope)
    check_pattern(net)
    for name in part.projections[part.trainable_projections :]:
        if before[name].numel():
            assert torch.equal(values_of(part, name).abs(), before[name])
    groups = [[name] for name in trainable] if scope == "projection" else [list(trainable)]
    total = 0
    for group in groups:
        values = torch.cat([before[name] for name in group]) if group else torch.zeros(0)
        n = int(fraction * len(values) + 0.5)
        total += n
        left = torch.cat([torch.zeros(0), *(values_of(part, name).detach().abs() for name in group)])
        torch.testing.assert_close(left.sort()[0].to(values), values.sort()[0][n:])
    assert removed == total


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.5}, "fraction is 1.5; it must be between 0 and 1"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({}, "'set' needs a fraction"),
        ({"fraction": 0.1, "method": "sett"}, "method is 'sett'; use one of 'set', 'rigl', 'deepr'"),
        ({"fraction": 0.1, "method": "deepr"}, "leave fraction out"),
        ({"fraction": 0.1, "method": "rigl"}, "'rigl' needs loss="),
        ({"fraction": 0.1, "loss": lambda: None}, "the others take none"),
        ({"fraction": 0.1, "method": "rigl", "loss": lambda: torch.zeros(())}, "did not run the network"),
        ({"fraction": 0.1, "method": "rigl", "loss": lambda: None, "candidates": 0}, "candidates is 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TrainingError) as caught:
        rewire(build(), **arguments)
    assert message in str(caught.value)
    with pytest.raises(TrainingError, match="scope is 'all'"):
        prune(build(), 0.5, scope="all")


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("start", ["none", "pair", "state"])
def test_rigl_takes_every_start_of_a_run(model, start):
    g = sm.RegionGraph()
    g.add_region("a", 6, sign=None, init=0.4)
    g.add_projection("a", "a", density=0.5)
    inp = torch.zeros(2, 4, 0, dtype=torch.float64)
    moved = []
    for how in ("none", start):
        net = model(g, "tanh", device="cpu", dtype=torch.float64, seed=0)
        pair = net.batched_initial_condition(2)
        options = {"none": (), "pair": (pair,), "state": (pair[1 if model is sm.ElmanmRNN else 0],)}[how]

        def value(net=net, options=options):
            out = net(inp, *options)
            return (out if model is sm.ElmanmRNN else out[1]).square().sum()

        rewire(net, 0.5, method="rigl", loss=value, seed=0)
        moved.append(pairs(net, net.rec))
    assert moved[0] == moved[1]
