"""Null models of a wiring: synapses exchanged at random within projections, with what is asked for kept.

Degrees are kept by exchanging the targets of pairs of synapses (Maslov & Sneppen 2002, Science 296:910), many
pairs at a time. Every step is reversible with equal probability, so that in the long run all wirings with the
same degrees are equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import Seed, names_of, option
from sparse_mrnn.declaration.connectivity import sample_distinct
from sparse_mrnn.declaration.explicit_synapses import SynapseArrays, SynapseBlock, coordinates
from sparse_mrnn.declaration.projections import Projection, projection_label, source_signs
from sparse_mrnn.declaration.regions import Region
from sparse_mrnn.declaration.sharing import SynapseLabels
from sparse_mrnn.errors import GraphError

KEEP = ("blocks", "degrees", "signs", "weights", "geometry")
EXCHANGES, MOST_ROUNDS, SMALL = 2, 200, 100
"""A projection is done after so many exchanges per synapse, which move each one twice as often; or after so
many rounds, in each of which half of the synapses are offered an exchange; or after a tenth of them without
any. Small ones, of so many synapses, have a quarter of the rounds: to stop after an exchange would favour
wirings from which few lead away."""
LENGTH_BINS = 20
FILTER_BITS = 20
"""A table of so many bits of a key's hash stays in cache."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Wiring:
    """Synapses of some projections, one projection after the other.

    ``source`` and ``target`` number the units of the whole graph; ``number`` is that of the projection,
    ``label`` that of a shared gain, and ``parallel`` tells projections between the same regions apart.
    ``counts`` are the synapses of each projection.
    """

    source: Ints
    target: Ints
    values: NDArray[np.floating[Any]]
    label: NDArray[np.int32]
    number: NDArray[np.int32]
    parallel: Ints
    counts: Ints
    units: int


def shuffled_edges(
    projections: Sequence[Projection], regions: Sequence[Region], keep: Any, seed: Seed
) -> list[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Shuffle the synapses of explicit projections; see `RegionGraph.shuffled`.

    Returns, for each projection, its name and the attributes that replace those of its edge.
    """
    names = names_of(keep, "shuffled: keep", GraphError)
    kept = {option(name, KEEP, "shuffled: keep", GraphError) for name in names}
    if "blocks" in kept and len(kept) > 1:
        raise GraphError("shuffled: 'blocks' keeps least of all; name it alone, or leave it out.")
    for p in projections:
        if p.synapses is None:
            drawn = "has low rank, and so no synapses" if p.rank else "is drawn by a rule"
            advice = "shuffle the graph of a network, net.to_graph(), which has its synapses"
            advice = "remove it first" if p.rank else advice
            raise GraphError(f"shuffled: {projection_label(p.source, p.target, p.key)} {drawn}; {advice}.")
    starts = np.cumsum([0, *(r.n for r in regions)]).tolist()
    first = dict(zip((r.name for r in regions), starts, strict=False))
    named = {region.name: region for region in regions}
    rng = np.random.default_rng(seed)
    # Within a region the matrix of electrical synapses is symmetric, and stays so.
    both_ways = [p for p in projections if p.kind == "electrical" and not p.rectifies and p.source == p.target]
    for p in both_ways:
        if kept - {"degrees", "blocks", "signs"}:
            what = f"{projection_label(p.source, p.target, p.key)} is electrical, and keeps degrees only"
            raise GraphError(f"shuffled: {what}; leave out {', '.join(sorted(kept - {'degrees', 'signs'}))}.")
    of_pairs = [_pairs_exchanged(p, rng, degrees="blocks" not in kept) for p in both_ways]
    projections = [p for p in projections if p not in both_ways]
    if not projections:
        return of_pairs
    wiring = _wiring(projections, first, starts[-1])
    if "blocks" in kept:
        wiring = _redrawn(wiring, projections, named, first, rng)
    else:
        positions = _positions(projections, named) if "geometry" in kept else None
        wiring = _exchanged(wiring, kept, positions, rng)
    return _edges(wiring, projections, named, first) + of_pairs


def _pairs_exchanged(
    p: Projection, rng: np.random.Generator, *, degrees: bool
) -> tuple[tuple[str, str, str], dict[str, Any]]:
    """Shuffle the pairs of units of a symmetric matrix; without ``degrees``, draw them anew.

    Two pairs (a, b) and (c, d), in a random direction, become (a, d) and (c, b) if both are new pairs
    (Maslov & Sneppen 2002, Science 296:910); conductances stay with a.
    """
    coo, n = p.weights.tocoo(), p.pair.n_target  # type: ignore[union-attr]
    once = coo.row > coo.col
    row, col = coo.row[once].astype(np.int64), coo.col[once].astype(np.int64)
    if not degrees:
        number = sample_distinct(rng, np.array([len(row)]), np.array([n * (n - 1) // 2]))
        row = np.floor((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
        row -= row * (row - 1) // 2 > number
        col = number - row * (row - 1) // 2

    def key(a: Ints, b: Ints) -> Ints:
        return np.maximum(a, b) * n + np.minimum(a, b)

    order = np.arange(len(row)) if degrees else rng.permutation(len(row))
    for _ in range(MOST_ROUNDS // 2 if degrees else 0):
        turn = rng.permutation(len(row))
        row, col, order = row[turn], col[turn], order[turn]
        swap = rng.random(len(row)) < 0.5
        row, col = np.where(swap, col, row), np.where(swap, row, col)
        a, b = slice(0, len(row) // 2), slice(len(row) // 2, len(row) // 2 * 2)
        new = np.concatenate([key(row[a], col[b]), key(row[b], col[a])])
        repeated = _repeats(np.concatenate([key(row, col), new]))
        half = len(new) // 2
        fits = (row[a] != col[b]) & (row[b] != col[a]) & ~repeated(new[:half]) & ~repeated(new[half:])
        left, right = np.flatnonzero(fits), np.flatnonzero(fits) + half
        col[left], col[right] = col[right], col[left]
    values = coo.data[once][order]
    both = np.append(row, col), np.append(col, row)
    places = np.lexsort(both[::-1])
    arrays = SynapseArrays(
        both[0][places].astype(np.int32), both[1][places].astype(np.int32), np.append(values, values)[places]
    )
    return (p.source, p.target, p.key), {"weights": SynapseBlock(arrays, 0, len(places), (n, n))}


def _wiring(projections: Sequence[Projection], first: dict[str, int], units: int) -> Wiring:
    """Collect the synapses of projections."""
    types = np.int64, np.int64, np.float32, np.int32
    parts: list[tuple[Any, ...]] = [tuple(np.empty(0, kind) for kind in types)]
    counts, layers, parallel = [], dict[tuple[str, str], int](), []
    for p in projections:
        rows, cols, values = coordinates(p.synapses, slice(0, p.synapses.nnz))  # type: ignore[union-attr,arg-type]
        labels = None if p.share is None else p.share.labels
        codes = np.zeros(len(rows), np.int32) if labels is None else labels.codes
        parts.append((cols + np.int64(first[p.source]), rows + np.int64(first[p.target]), values, codes))
        counts.append(len(rows))
        layers[p.source, p.target] = layer = layers.get((p.source, p.target), -1) + 1
        parallel.append(layer)
    source, target, values, label = (np.concatenate(each) for each in zip(*parts, strict=True))
    number = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    sizes = np.array(counts, dtype=np.int64)
    return Wiring(source, target, values, label, number, np.array(parallel, dtype=np.int64), sizes, units)


def _edges(
    wiring: Wiring, projections: Sequence[Projection], named: dict[str, Region], first: dict[str, int]
) -> list[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Attributes of the edges of a wiring, whose synapses become row-major within each projection."""
    number = wiring.number
    start = np.array([[first[p.target], first[p.source]] for p in projections], dtype=np.int64).reshape(-1, 2)
    width = np.array([named[p.source].n for p in projections], dtype=np.int64)
    row = wiring.target - np.repeat(start[:, 0], wiring.counts)
    col = wiring.source - np.repeat(start[:, 1], wiring.counts)
    space = np.array([named[p.target].n for p in projections], dtype=np.int64) * width
    before = np.cumsum(space) - space  # the place of a synapse among all possible ones
    order = np.argsort(before[number] + row * width[number] + col)
    values, label = wiring.values[order], wiring.label[order]
    arrays = SynapseArrays(row[order].astype(np.int32), col[order].astype(np.int32), values)
    end, found = np.cumsum(wiring.counts).tolist(), []
    for p, stop, count in zip(projections, end, wiring.counts.tolist(), strict=True):
        here = slice(stop - count, stop)
        shape = named[p.target].n, named[p.source].n
        attrs: dict[str, Any] = {"weights": SynapseBlock(arrays, here.start, here.stop, shape)}
        if p.share is not None and p.share.labels is not None:
            attrs["share_labels"] = SynapseLabels(label[here], p.share.labels.names)
        found.append(((p.source, p.target, p.key), attrs))
    return found


# ---------------------------------------------------------------- only the number of synapses kept


def _redrawn(
    wiring: Wiring, projections: Sequence[Projection], named: dict[str, Region], first: dict[str, int],
    rng: np.random.Generator,
) -> Wiring:
    """Draw the pairs of units anew within each projection, from the sources of each sign as many as before.

    Weights are dealt to the new pairs at random; synapses of a unit onto itself stay.
    """
    source, target = wiring.source.copy(), wiring.target.copy()
    order = np.arange(len(source))
    stop = np.cumsum(wiring.counts)
    for k, p in enumerate(projections):
        here = slice(int(stop[k] - wiring.counts[k]), int(stop[k]))
        signs, within = source_signs(p.sign, named[p.source]), p.source == p.target
        free = np.flatnonzero(source[here] != target[here]) + here.start
        sign_of = signs[source[free] - first[p.source]]
        n = named[p.target].n - within  # targets of each source
        for sign in np.unique(sign_of):
            slots, units = free[sign_of == sign], np.flatnonzero(signs == sign)
            pair = sample_distinct(rng, np.array([len(slots)]), np.array([len(units) * n]))
            unit, other = units[pair // n], pair % n
            other += within & (other >= unit)
            source[slots], target[slots] = first[p.source] + unit, first[p.target] + other
            order[slots] = rng.permutation(slots)
    dealt = replace(wiring, values=wiring.values[order], label=wiring.label[order])
    return replace(dealt, source=source, target=target)


# ---------------------------------------------------------------- degrees kept


def _positions(projections: Sequence[Projection], named: dict[str, Region]) -> NDArray[np.float64]:
    """Positions of all units; 0 in regions without synapses here."""
    used = dict.fromkeys(name for p in projections for name in (p.target, p.source))
    dimensions: dict[str, int] = {}
    for name in used:
        where = named[name].positions
        if where is None:
            what = f"shuffled: keep='geometry' needs positions, and region {name!r} has none"
            raise GraphError(f"{what}; declare the region with positions=.")
        dimensions[name] = where.shape[1]
    if len(set(dimensions.values())) > 1:
        raise GraphError(f"shuffled: positions of regions have other dimensions: {dimensions}.")
    d = next(iter(dimensions.values()), 1)
    parts = (named[n].positions if n in used else np.zeros((named[n].n, d)) for n in named)
    return np.concatenate([np.empty((0, d)), *(np.asarray(part, dtype=np.float64) for part in parts)])


class _Lengths:
    """Lengths of synapses in bins that hold equally many, and cells of space that change from round to round.

    Two synapses exchange their targets if their lengths come to lie in the same two bins as before, which is
    likely if their sources lie in the same cell.
    """

    def __init__(self, positions: NDArray[np.float64], source: Ints, target: Ints) -> None:
        self.positions = positions
        length = self._length(source, target)
        self.edges = np.quantile(length, np.linspace(0, 1, LENGTH_BINS + 1)[1:-1]) if len(length) else length
        self.scale = float(length.mean()) if len(length) else 1.0

    def _length(self, source: Ints, target: Ints) -> NDArray[np.float64]:
        total = np.zeros(len(source))
        for axis in self.positions.T:
            total += (axis[source] - axis[target]) ** 2
        return np.sqrt(total)

    def bins(self, source: Ints, target: Ints) -> Ints:
        """Number of the bin of each synapse."""
        return np.searchsorted(self.edges, self._length(source, target), side="right")

    def cells(self, rng: np.random.Generator) -> Ints:
        """Number the cell that each unit is in: of random size, on a randomly shifted grid."""
        size = max(self.scale, 1e-300) * 2.0 ** rng.uniform(-3, 2)
        at = np.floor(self.positions / size + rng.random(self.positions.shape[1]))
        return np.unique(at, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _exchanged(
    wiring: Wiring, kept: set[str], positions: NDArray[np.float64] | None, rng: np.random.Generator
) -> Wiring:
    """Exchange the targets of synapses, within groups that have in common what is kept."""
    slot = np.flatnonzero(wiring.source != wiring.target)  # a synapse of a unit onto itself stays
    source, target, number = wiring.source[slot], wiring.target[slot], wiring.number[slot]
    group = number.astype(np.int64)
    if "weights" in kept:
        group = _combined(group, np.unique(wiring.values[slot], return_inverse=True)[1].reshape(-1))
    elif "signs" in kept:
        group = group * 3 + np.sign(wiring.values[slot]).astype(np.int64) + 1
    lengths = None if positions is None else _Lengths(positions, source, target)
    many = np.bincount(group, minlength=1)[group] > 1
    size = np.bincount(number[many], minlength=len(wiring.counts))
    done, small = np.zeros(len(size)), size < SMALL
    # A synapse has the key of its source, in its projection, plus its target.
    of_source = (wiring.parallel[number] * wiring.units + source) * wiring.units
    targets = wiring.target.copy()
    for turn in range(MOST_ROUNDS):
        going = np.where(small, turn < MOST_ROUNDS // 4, (done < EXCHANGES * size) & (done > 0))
        going = (size > 0) & (going | (turn < MOST_ROUNDS // 10) & (done < EXCHANGES * size))
        alike = group if lengths is None else _combined(group, lengths.cells(rng)[source])
        order = np.argsort((alike << 32) | rng.integers(0, 2**32, len(alike), dtype=np.uint32))
        if lengths is not None or turn == 0:  # else they are in order already
            group, number, alike = group[order], number[order], alike[order]
        if not going.all():
            still = going[number]
            gone = order[~still]
            targets[slot[gone]] = target[gone]
            order, group, number, alike = order[still], group[still], number[still], alike[still]
        if not len(order):
            break
        slot, source, target = slot.take(order), source.take(order), target.take(order)
        of_source = of_source.take(order)
        # Neighbours in the random order of a group are pairs, every other one, and half of them are offered.
        first = int(rng.integers(2))
        pair = slice(first, len(order) - 1, 2), slice(first + 1, len(order), 2)
        source_a, source_b, target_a, target_b = (each[k] for each in (source, target) for k in pair)
        fits = (alike[pair[0]] == alike[pair[1]]) & (source_a != target_b) & (source_b != target_a)
        fits &= rng.random(len(fits), dtype=np.float32) < 0.5
        if lengths is not None:
            pairs = ((source_a, target_a), (source_b, target_b), (source_a, target_b), (source_b, target_a))
            p, q, r, s = (lengths.bins(x, y) for x, y in pairs)
            fits &= ((p == r) & (q == s)) | ((p == s) & (q == r))
        a = 2 * np.flatnonzero(fits) + first
        b = a + 1
        there = of_source + target
        new = of_source[a] + target[b], of_source[b] + target[a]
        # An exchange is made if each of its four synapses, old and new, occurs once among all old and new
        # ones: a rule that says the same of undoing it.
        repeated = _repeats(np.concatenate([there, *new]))
        single = ~(repeated(there[a]) | repeated(there[b]) | repeated(new[0]) | repeated(new[1]))
        a, b = a[single], b[single]
        target[a], target[b] = target[b], target[a]
        done += np.bincount(number[a], minlength=len(size))
    targets[slot] = target
    if not done.any():
        what = "no two synapses of a projection can exchange their targets"
        raise GraphError(f"shuffled: {what} with {', '.join(sorted(kept))} kept; keep less.")
    return replace(wiring, target=targets)


def _combined(first: Ints, second: Ints) -> Ints:
    """Number of each pair, below the number of pairs."""
    pair = first * (int(second.max(initial=0)) + 1) + second
    found: Ints = np.unique(pair, return_inverse=True)[1].reshape(-1)
    return found


def _repeats(keys: Ints) -> Any:
    """A function that tells which of some keys occur more than once among ``keys``."""
    keys = np.sort(keys)
    again = np.unique(keys[1:][keys[1:] == keys[:-1]])
    bits = min(FILTER_BITS, 6 + len(again).bit_length())
    table = np.zeros(2**bits, dtype=bool)  # most keys that are not repeated are told by it

    def place(some: Ints) -> Any:
        return (some * np.int64(0x2545F4914F6CDD1D)).view(np.uint64) >> np.uint64(64 - bits)

    table[place(again)] = True

    def repeated(some: Ints) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = table[place(some)]
        maybe = np.flatnonzero(found)
        found[maybe] = again[np.searchsorted(again, some[maybe]).clip(max=len(again) - 1)] == some[maybe]
        return found

    return repeated
