"""SONATA read by rows: the synapses stay in their file, and each part of a network reads its own."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.common import refused
from helpers.graphs import assert_same, rich_graph, two_matrices
from sparse_mrnn.declaration.explicit_synapses import StoredBlock, coordinates, entries_onto
from sparse_mrnn.distributed.declared import graph_digests
from sparse_mrnn.distributed.partition import unit_work
from sparse_mrnn.interop import open_sonata, read_sonata, sonata_edges, write_sonata
from sparse_mrnn.lowering import sampling
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower, lower_shard


def bands_of(monkeypatch, rows):
    for module in (sampling, sonata_edges):
        monkeypatch.setattr(module, "BAND_ROWS", rows)
    monkeypatch.setattr(sonata_edges, "CHUNK", 3 * rows)


@pytest.fixture
def bands_read(monkeypatch):
    """Bands that were read again after the first time."""
    found, read = [], sonata_edges.StoredEdges._read

    def noted(self, band):
        if self._edges is None or self._band != band:
            found.append(band)
        return read(self, band)

    monkeypatch.setattr(sonata_edges.StoredEdges, "_read", noted)
    return found


@pytest.mark.parametrize("rows", [2, 4, 2**14])
def test_the_same_network(tmp_path, monkeypatch, rows):
    bands_of(monkeypatch, rows)
    write_sonata(rich_graph(), tmp_path / "net")
    g, h = read_sonata(tmp_path / "net")[0], open_sonata(tmp_path / "net")
    assert all(isinstance(p.synapses, StoredBlock) for p in h.projections())
    assert_same(g, h)
    one, two = (sm.mRNN(x, device="cpu", seed=0, dtype=torch.float64) for x in (g, h))
    assert all((x == y).all() for x, y in zip(one.parameters(), two.parameters(), strict=True))
    assert (one.rec.dense() == two.rec.dense()).all()
    assert (one.inp.dense() == two.inp.dense()).all()
    assert (unit_work(g, Layout.of(g)) == unit_work(h, Layout.of(h))).all()
    write_sonata(h, tmp_path / "again")
    assert (tmp_path / "again" / "edges.h5").read_bytes() == (tmp_path / "net" / "edges.h5").read_bytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 7), st.data())
def test_any_rows_of_any_network(tmp_path_factory, seed, sizes, rows, data):
    rng, n = np.random.default_rng(seed), sum(sizes)
    g = two_matrices(rng, sizes)
    folder = tmp_path_factory.mktemp("net") / "net"
    write_sonata(g, folder)
    own = np.flatnonzero(rng.random(n) < 0.5)
    with pytest.MonkeyPatch.context() as patch:
        bands_of(patch, rows)
        whole, stored = read_sonata(folder)[0], open_sonata(folder)
        for p, q in zip(whole.projections(), stored.projections(), strict=True):
            start = data.draw(st.integers(0, p.pair.n_target))
            stop = data.draw(st.integers(start, p.pair.n_target))
            entries = entries_onto(p.synapses, start, stop)
            assert entries_onto(q.synapses, start, stop) == entries
            for x, y in zip(coordinates(p.synapses, entries), coordinates(q.synapses, entries), strict=True):
                assert x.dtype == y.dtype
                assert x.tolist() == y.tolist()
        for a, b in zip(*([lower(x, "recurrent", 0, rows=own), lower(x, "recurrent", 0)] for x in (whole, stored)), strict=True):
            assert (a.to_scipy() != b.to_scipy()).nnz == 0
            assert (a.values == b.values).all()


def test_a_part_of_a_network_reads_its_own_rows(tmp_path, monkeypatch, bands_read):
    bands_of(monkeypatch, 4)
    g = two_matrices(np.random.default_rng(0), [6, 6])
    write_sonata(g, tmp_path / "net")
    stored = open_sonata(tmp_path / "net")
    graph_digests(stored)
    unit_work(stored, Layout.of(stored))
    assert bands_read == []
    shard = lower_shard(stored, 0, np.arange(4))
    assert bands_read == [0]
    alike = lower_shard(g, 0, np.arange(4))
    assert (shard.own.to_scipy() != alike.own.to_scipy()).nnz == 0
    assert shard.halo_units.tolist() == alike.halo_units.tolist()
    lower(stored, "recurrent", 0)
    assert bands_read == [0, 0, 1, 2]
    assert next(stored.projections()).synapses.stored._edges is None  # nothing stays in memory


def test_a_part_of_the_graph(tmp_path):
    """Its synapses are counted evenly over the units of a region, where the file counts those of all projections."""
    g = two_matrices(np.random.default_rng(0), [6, 6, 4])
    write_sonata(g, tmp_path / "net")
    whole, part = open_sonata(tmp_path / "net"), open_sonata(tmp_path / "net")
    part.remove_node("r1")
    g.remove_node("r1")
    assert (lower(part, "recurrent", 0).to_scipy() != lower(g, "recurrent", 0).to_scipy()).nnz == 0
    work, exact = unit_work(part, Layout.of(part)), unit_work(g, Layout.of(g))
    assert unit_work(whole, Layout.of(whole)).std() > 0
    np.testing.assert_allclose(np.add.reduceat(work, [0, 6]), np.add.reduceat(exact, [0, 6]))


def changed(folder, name, change):
    with h5py.File(folder / "edges.h5", "r+") as file:
        data = file[f"edges/units_to_units/{name}"]
        values = data[:]
        data[:] = change(values)


def swapped(values):
    values[[0, -1]] = values[[-1, 0]]
    return values


def test_files_that_change_meanwhile_are_refused(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    graph = open_sonata(tmp_path / "net")
    changed(tmp_path / "net", "0/syn_weight", lambda w: w * 2)
    with refused("has changed since it was read first; read the network again"):
        sm.mRNN(graph, device="cpu")
    (tmp_path / "net" / "edges.h5").unlink()
    with refused("edges.h5 does not exist"):
        sm.mRNN(graph, device="cpu")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("target_node_id", swapped, "not sorted by their targets, so they cannot be read by rows"),
        ("0/syn_weight", lambda w: w * np.nan, "edge 0 has weight nan, which is not finite or against"),
        ("0/syn_weight", np.negative, "against the sign of its source"),
        ("source_node_id", lambda s: s + 1000, "has a value outside of 0..8"),
        ("edge_type_id", lambda t: t + 1000, "some edges have a type that edge_types.csv does not have"),
        ("edge_type_id", lambda t: t[::-1], "leads outside of the regions of its type|not sorted by target and source"),
        ("edge_group_index", lambda k: k[::-1], "edge_group_index does not count from 0"),
    ],
)
def test_damaged_edges(tmp_path, name, change, says):
    write_sonata(rich_graph(), tmp_path / "net")
    changed(tmp_path / "net", name, change)
    with refused(says):
        open_sonata(tmp_path / "net")


def test_networks_of_others_are_imported_first(tmp_path):
    write_sonata(rich_graph(), tmp_path / "net")
    with h5py.File(tmp_path / "net" / "nodes.h5", "r+") as file:
        del file.attrs["sparse_mrnn"]
    with refused("only a network of write_sonata can be read by rows; import it"):
        open_sonata(tmp_path / "net")
