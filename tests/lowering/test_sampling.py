"""Drawing by bands of rows: any rows alone are those of the whole net, and distributions stay what they were."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, hypergeom

import sparse_mrnn as sm
from sparse_mrnn.declaration import connectivity
from sparse_mrnn.declaration.connectivity import share_of
from sparse_mrnn.errors import GraphError
from sparse_mrnn.lowering import sampling
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower, lower_shard


class Diagonal(sm.ConnectionRule):
    """A rule of one's own, which knows nothing of bands."""

    def expected(self, pair):
        return pair.n_target

    def sample(self, rng, pair):
        rows = np.arange(pair.n_target)
        return rows, rng.integers(pair.n_source, size=pair.n_target)


def everything():
    """A graph with every rule, explicit weights, signs of projections, shared gains and frozen projections."""
    rng = np.random.default_rng(1)
    g = sm.RegionGraph()
    for k, (n, sign) in enumerate([(30, "pos"), (20, "neg"), (25, None)]):
        g.add_region(f"r{k}", n, sign=sign, positions=rng.uniform(size=(n, 2)))
    g.add_input("u", 6)
    g.add_projection("r0", "r0", density=0.3, self_connections=False)
    g.add_projection("r0", "r1", fan_in=4, initializer=sm.Gamma())
    g.add_projection("r1", "r0", rule=sm.FixedFanOut(5), trainable=False)
    g.add_projection("r1", "r1", rule=sm.FixedNumber(50), self_connections=False, initializer=sm.BalancedEI(1.2))
    g.add_projection("r2", "r0", rule=sm.DistanceDependent(0.2), initializer=sm.Normal(1.0))
    g.add_projection("r2", "r2", rule=sm.OneToOne(), initializer=sm.XavierNormal())
    g.add_projection("r0", "r2", weights=rng.uniform(size=(25, 30)) * (rng.random((25, 30)) < 0.2))
    g.add_projection("r1", "r2", density=0.5, sign="free", initializer=sm.Normal(1.0))
    g.add_projection("r0", "r1", key="s", fan_in=3, share="source", initializer=sm.Gamma())
    g.add_projection("r2", "r1", rule=sm.Explicit((1, 3, 5), (0, 2, 4)))
    g.add_projection("u", "r0", density=0.5)
    return g


def everything_else():
    g = everything()
    g.add_projection("r0", "r0", key="own", rule=Diagonal())
    g.add_projection("r0", "r0", key="out", rule=sm.FixedFanOut(7), self_connections=False, trainable=False)
    weights = np.arange(1.0, 21.0)[:, None] * np.ones((20, 30))
    g.add_projection("r0", "r1", key="labels", weights=weights, share=np.arange(600) % 7)
    g.add_projection("r0", "r1", key="target", weights=weights, share="target", trainable=False)
    g.add_projections(np.triu(np.ones((75, 75))) * np.where(np.arange(75) < 30, 1, np.where(np.arange(75) < 50, -1, 2)), key="all")
    return g


def test_a_net_of_one_band_is_drawn_as_it_always_was():
    digests = []
    for kind in ("recurrent", "input"):
        b = lower(everything(), kind, seed=3)
        found = hashlib.blake2b(digest_size=8)
        for array in (b.ptr, b.values, b.group, b.crow, b.col, b.perm, b.synapse_sign):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        digests.append(found.hexdigest())
    assert digests == ["9530134b91be717f", "fa8fb0ba6649e719"]


def synapses(block, rows):
    """(row in the network, column, projection, value, sign, gain) of every synapse, sorted."""
    perm = np.arange(len(block.col)) if block.perm is None else block.perm
    row = rows[np.repeat(np.arange(len(block.crow) - 1), np.diff(block.crow))]
    projection = np.searchsorted(block.ptr, perm, side="right") - 1
    sign = np.zeros(len(row)) if block.synapse_sign is None else block.synapse_sign
    shared = perm - block.trainable_synapses
    gain = np.full(len(row), -1)
    inside = (shared >= 0) & (shared < len(block.group))
    gain[inside] = block.group[shared[inside]]
    return sorted(zip(row, block.col, projection, block.values[perm], sign, gain, strict=True))


@given(st.integers(3, 40), st.lists(st.integers(0, 74), unique=True), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_rows_alone_are_those_of_the_whole(band, rows, seed):
    g, rows = everything_else(), np.array(sorted(rows), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "BAND_ROWS", band)
        whole, part = lower(g, seed=seed), lower(g, seed=seed, rows=rows)
    chosen = set(rows.tolist())
    assert synapses(part, rows) == [s for s in synapses(whole, np.arange(75)) if s[0] in chosen]
    assert part.shape == (len(rows), 75)
    assert [r.n for r in part.targets.regions] == np.histogram(rows, [0, 30, 50, 75])[0].tolist()
    assert part.gains.names == whole.gains.names
    lengths = np.diff(part.ptr)
    for k, (start, n, _, _) in enumerate(part.extents().tolist()):
        here = slice(part.ptr[k], part.ptr[k + 1])
        of_entry = np.repeat(np.arange(len(rows)), np.diff(part.crow))
        inside = of_entry if part.perm is None else of_entry[np.argsort(part.perm)]
        assert lengths[k] == 0 or ((inside[here] >= start) & (inside[here] < start + n)).all()


@given(st.integers(3, 40), st.lists(st.integers(0, 74), unique=True))
@settings(max_examples=20, deadline=None)
def test_a_shard_has_its_rows_apart_by_source(band, rows):
    g, rows = everything_else(), np.array(sorted(rows), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "BAND_ROWS", band)
        part, shard = lower(g, seed=2, rows=rows), lower_shard(g, 2, rows)
    own = [(s[0], rows[s[1]], *s[2:]) for s in synapses(shard.own, rows)]
    halo = [(s[0], shard.halo_units[s[1]], *s[2:]) for s in synapses(shard.halo, rows)]
    assert sorted(own + halo) == synapses(part, rows)
    assert not set(shard.halo_units) & set(rows)
    assert set(shard.halo.col) == set(range(len(shard.halo_units)))
    for block, units in ((shard.own, rows), (shard.halo, shard.halo_units)):
        assert block.shape == (len(rows), len(units))
        assert block.sources.unit_signs.tolist() == Layout.of(g).unit_signs[units].tolist()
        assert (block.gains.of_block == part.gains.of_block).all()


@pytest.mark.parametrize("band", [7, 100])
def test_values_are_row_major_within_a_projection(band, monkeypatch):
    monkeypatch.setattr(sampling, "BAND_ROWS", band)
    block = lower(everything_else(), seed=1)
    order = np.argsort(block.perm)
    row = np.repeat(np.arange(75), np.diff(block.crow))[order]
    place = row * 75 + block.col[order]
    for k in range(len(block.blocks)):
        assert (np.diff(place[block.ptr[k] : block.ptr[k + 1]]) > 0).all()
    assert block.ptr[-1] == len(block.values) == len(block.col)


def test_a_single_projection_of_several_bands_needs_no_permutation(monkeypatch):
    monkeypatch.setattr(sampling, "BAND_ROWS", 4)
    g = sm.RegionGraph()
    g.add_region("a", 11)
    g.add_projection("a", "a", density=0.5)
    assert lower(g, seed=0).perm is None
    g.add_region("b", 3)
    g.add_projection("a", "b", density=0.5)
    assert lower(g, seed=0).perm is None  # its rows all come after


def counted(rule, *, n=9, m=6, exclude=False, band=4, draws=600):
    """How often each synapse was drawn, and the numbers by row and by column of each draw."""
    g = sm.RegionGraph()
    g.add_region("a", n)
    g.add_region("b", n if exclude else m)
    g.add_projection("a" if exclude else "b", "a", rule=rule, self_connections=not exclude)
    times = np.zeros((n, g.n_units))
    by_row, by_col = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "BAND_ROWS", band)
        for seed in range(draws):
            matrix = lower(g, seed=seed).to_scipy()[:n] != 0
            times += matrix.toarray()
            by_row.append(matrix.sum(axis=1))
            by_col.append(matrix.sum(axis=0))
    return times, np.array(by_row), np.array(by_col)


def test_bands_of_a_fixed_number_share_it():
    times, by_row, _ = counted(sm.FixedNumber(20))
    assert (by_row.sum(axis=1) == 20).all()
    assert chisquare(times[:, 9:].ravel()).pvalue > 1e-3
    first = by_row[:, :4].sum(axis=1)  # slots of the first band: 24 of 54
    seen = np.bincount(first, minlength=25)
    expected = hypergeom.pmf(np.arange(25), 54, 24, 20) * len(first)
    often = expected > 5
    assert chisquare(seen[often], expected[often] * seen[often].sum() / expected[often].sum()).pvalue > 1e-3


@pytest.mark.parametrize("exclude", [False, True])
def test_bands_of_a_fan_out_share_it(exclude):
    times, by_row, by_col = counted(sm.FixedFanOut(3), exclude=exclude)
    sources = slice(0, 9) if exclude else slice(9, 15)
    assert (by_col[:, sources] == 3).all()
    of_sources = times[:, sources]
    if exclude:
        assert (np.diagonal(of_sources) == 0).all()
        of_sources = of_sources[~np.eye(9, dtype=bool)]
    assert chisquare(of_sources.ravel()).pvalue > 1e-3
    targets = 8 if exclude else 9  # of source 0, the first band has 3 or 4
    expected = hypergeom(targets, 3 if exclude else 4, 3).var()
    matrix = by_row[:, :4].sum(axis=1)
    assert matrix.var() / (9 if exclude else 6) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("rule", [sm.Bernoulli(0.4), sm.FixedFanIn(3)])
@pytest.mark.parametrize("exclude", [False, True])
def test_independent_rows_stay_uniform(rule, exclude):
    times, _, _ = counted(rule, exclude=exclude)
    possible = times[:, :9][~np.eye(9, dtype=bool)] if exclude else times[:, 9:]
    assert chisquare(possible.ravel()).pvalue > 1e-3
    assert not exclude or not np.diagonal(times).any()


def test_shares_of_more_slots_than_numpy_draws_from(monkeypatch):
    monkeypatch.setattr(connectivity, "NUMPY_SLOTS", 12)
    rng = np.random.default_rng(0)
    seen = np.bincount([share_of(rng, 15, 20, 30) for _ in range(4000)], minlength=16)
    expected = hypergeom.pmf(np.arange(16), 50, 20, 15) * 4000
    often = expected > 5
    assert chisquare(seen[often], expected[often] * seen[often].sum() / expected[often].sum()).pvalue > 1e-3
    monkeypatch.undo()
    assert share_of(rng, 10**6, 10**12, 10**12) == pytest.approx(5e5, rel=0.01)


def test_rows_that_are_no_units_are_refused():
    for rows in ([3, 1], [0, 75], [-1], [[1]], [2, 2]):
        with pytest.raises(GraphError, match=r"ascending, within 0..74"):
            lower(everything(), seed=0, rows=rows)
