"""Leaky integrate-and-fire units: many time steps a call, and their spikes over columns of synapses.

As many steps as the shortest delay has are a block: within it no spike of the block arrives, so rows of units
advance on their own, a tile that fits the first-level cache through all steps of the block. Then the spikes
of the block are put in the order of steps and units, and delivered in this order by bands of target rows. A
sum has the same order for any number of threads, and for any division of a run into calls.

Arithmetic is not contracted or reordered: spikes are those of the equation in torch, bit for bit.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sparse_mrnn.ops.kernels.loop import loop

TILE = 512
"""Units of a tile: their states and parameters take 26 KiB in float32."""
CHUNK = 4096
"""Units that a thread takes at a time; a multiple of `TILE`."""
COLUMNS = 2048
"""Columns of synapses that are filled at a time."""


# ---------------------------------------------------------------- numbered random words


@njit(cache=True, inline="always")
def _philox(c0, c1, c2, c3, k0, k1):  # pragma: no cover - compiled
    """Four words of 32 bits from a counter and a key: Philox4x32-10 (Salmon et al. 2011)."""
    for _ in range(10):
        first = np.uint64(0xD2511F53) * np.uint64(c0)
        second = np.uint64(0xCD9E8D57) * np.uint64(c2)
        c0 = np.uint32(second >> np.uint64(32)) ^ c1 ^ k0
        c1 = np.uint32(second)
        c2 = np.uint32(first >> np.uint64(32)) ^ c3 ^ k1
        c3 = np.uint32(first)
        k0 = np.uint32(k0 + np.uint32(0x9E3779B9))
        k1 = np.uint32(k1 + np.uint32(0xBB67AE85))
    return c0, c1, c2, c3


@njit(cache=True)
def words_of(first, step, trial, key, words):  # pragma: no cover - compiled
    """Words of the units from ``first`` (a multiple of 4) on, into ``words`` (uint32, a multiple of 4).

    Unit i has word i % 4 of the counter (i // 4, step, step >> 32, trial); ``key`` has two words.
    """
    low, high = np.uint32(step & 0xFFFFFFFF), np.uint32(step >> 32)
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    begin, own = np.uint32(first // 4), np.uint32(trial)
    for k in range(len(words) // 4):
        a, b, c, d = _philox(np.uint32(begin + np.uint32(k)), low, high, own, k0, k1)
        words[4 * k], words[4 * k + 1], words[4 * k + 2], words[4 * k + 3] = a, b, c, d


@njit(cache=True)
def count_events(units, step, key, levels, least, counts):  # pragma: no cover - compiled
    """Count the events of units, ascending, in a step, into ``counts`` (units, trials): `philox.Levels`."""
    word = np.empty(4, np.uint32)
    for trial in range(counts.shape[1]):
        last = -1
        for k in range(len(units)):
            unit = units[k]
            if unit // 4 != last:
                last = unit // 4
                words_of(4 * last, step, trial, key, word)
            number = least
            for level in levels:
                number += word[unit & 3] >= level
            counts[k, trial] = number


@njit(cache=True)
def _add_events(  # pragma: no cover - compiled
    units, step, trial, key, levels, least, weight, begin, current, words, counts
):
    """Add weight times a count to the current of some units, ascending; the first of the tile is ``begin``.

    A count is ``least`` and the number of ``levels`` that do not exceed the unit's word.
    """
    if len(units) == 0:
        return
    first = units[0] // 4 * 4
    n = units[-1] - units[0] + 1
    if n == len(units):  # one range: four units a counter
        size = (units[-1] // 4 + 1) * 4 - first
        drawn, offset = words[:size], units[0] - first
        words_of(first, step, trial, key, drawn)
        own, count = drawn[offset : offset + n], counts[:n]
        count[:] = least
        for level in levels:
            for i in range(n):
                count[i] += own[i] >= level
        add = current[units[0] - begin : units[-1] - begin + 1]
        for i in range(n):
            add[i] += weight * current.dtype.type(count[i])
        return
    low, high, own_trial = np.uint32(step & 0xFFFFFFFF), np.uint32(step >> 32), np.uint32(trial)
    for k in range(len(units)):
        unit = units[k]
        a, b, c, d = _philox(np.uint32(unit >> 2), low, high, own_trial, np.uint32(key[0]), np.uint32(key[1]))
        which, number = unit & 3, least
        word = (a if which == 0 else b) if which < 2 else (c if which == 2 else d)
        for level in levels:
            number += word >= level
        if number:
            current[unit - begin] += weight * current.dtype.type(number)


# ---------------------------------------------------------------- a block of steps


@njit(cache=True)
def _copy(source, to):  # pragma: no cover - compiled
    """Copy a row: a loop, which unlike the assignment of a slice uses vector instructions."""
    for i in range(len(source)):
        to[i] = source[i]


@njit(cache=True, error_model="numpy")
def _advance_tile(work, jump, freeze):  # pragma: no cover - compiled
    """Advance the units of a tile by one step; return how many have fired.

    All arrays lie in one, so that the compiler sees that they do not overlap, and uses vector instructions.
    """
    zero, one, half = work.dtype.type(0), work.dtype.type(1), work.dtype.type(0.5)
    v, g, refractory = work[:TILE], work[TILE : 2 * TILE], work[2 * TILE : 3 * TILE]
    current, fired = work[3 * TILE : 4 * TILE], work[4 * TILE : 5 * TILE]
    rest, keep_v, keep_g = work[5 * TILE : 6 * TILE], work[6 * TILE : 7 * TILE], work[7 * TILE : 8 * TILE]
    feed, tonic = work[8 * TILE : 9 * TILE], work[9 * TILE : 10 * TILE]
    threshold, reset = work[10 * TILE : 11 * TILE], work[11 * TILE : 12 * TILE]
    dead = work[12 * TILE : 13 * TILE]
    count = np.int32(0)
    for i in range(TILE):
        now, synaptic, left, arrived = v[i], g[i], refractory[i], current[i]
        free = left <= half
        new = rest[i] + keep_v[i] * (now - rest[i]) + feed[i] * synaptic + tonic[i]
        decayed = keep_g[i] * synaptic
        new = new + arrived if jump else new
        decayed = decayed if jump else decayed + arrived
        decayed = synaptic if freeze and not free else decayed
        new = new if free else reset[i]
        spike = free and new >= threshold[i]
        v[i] = reset[i] if spike else new
        g[i] = zero if spike and freeze else decayed
        refractory[i] = dead[i] if spike else (zero if free else left - one)
        fired[i] = one if spike else zero
        count += np.int32(spike)
    return count


@njit(cache=True)
def _advance_rows(  # pragma: no cover - compiled
    begin, end, first, block, trial, states, ring, extra, held, silent, units, jump, freeze, events, spikes,
):
    """Advance the units ``begin:end`` by a block of steps; return how many spikes were written to ``spikes``.

    A spike is written as step within the block * units + unit, tile by tile.
    """
    drive_units, drive_ptr, drive_window, drive_key, levels, level_ptr, drive_least, drive_weight = events
    n, slots, written = ring.shape[2], ring.shape[1], 0
    words, counts = np.empty(TILE + 8, np.uint32), np.empty(TILE, np.int32)
    work, here = np.empty(13 * TILE, ring.dtype), np.empty((len(drive_weight), 2), np.int64)
    for tile in range(begin, end, TILE):
        stop = min(end, tile + TILE)
        size = stop - tile
        if size < TILE:
            work[:] = 0
            work[10 * TILE : 11 * TILE] = np.inf  # threshold of places without a unit
        for k in range(3):
            _copy(states[k][trial, tile:stop], work[k * TILE : k * TILE + size])
        for k in range(8):
            _copy(units[k, tile:stop], work[(5 + k) * TILE : (5 + k) * TILE + size])
        v, fired = work[:size], work[4 * TILE : 4 * TILE + size]
        current = work[3 * TILE : 3 * TILE + size]
        for d in range(len(drive_weight)):  # units of each drive in the tile
            targets = drive_units[drive_ptr[d] : drive_ptr[d + 1]]
            here[d, 0] = drive_ptr[d] + np.searchsorted(targets, tile)
            here[d, 1] = drive_ptr[d] + np.searchsorted(targets, stop)
        for s in range(block):
            step = first + s
            arriving = ring[trial, step % slots, tile:stop]
            _copy(arriving, current)
            for i in range(size):
                arriving[i] = 0
            for d in range(len(drive_weight)):
                if here[d, 0] < here[d, 1] and drive_window[d, 0] <= step < drive_window[d, 1]:
                    targets = drive_units[here[d, 0] : here[d, 1]]
                    of_count = levels[level_ptr[d] : level_ptr[d + 1]]
                    _add_events(
                        targets, step, trial, drive_key[d], of_count, drive_least[d], drive_weight[d], tile,
                        current, words, counts,
                    )
            if extra.shape[1]:
                more = extra[trial, tile:stop]
                for i in range(size):
                    current[i] += more[i]
            count = _advance_tile(work, jump, freeze)
            if len(held):
                for i in range(size):
                    if not np.isnan(held[tile + i]):
                        v[i] = held[tile + i]
            if count:
                for i in range(size):
                    if fired[i] > 0 and not (len(silent) and silent[tile + i]):
                        spikes[written] = s * n + tile + i
                        written += 1
        for k in range(3):
            _copy(work[k * TILE : k * TILE + size], states[k][trial, tile:stop])
    return written


@njit(cache=True)
def _deliver(  # pragma: no cover - compiled
    spikes, first, n, start, pointers, row_of, weights, delay_of, delay, ring, late
):
    """Add the synapses of spikes onto a band of target rows from ``start`` on to what they will receive.

    Spikes are as `_advance_rows` writes them, in order. Only delays above ``late`` are looked at.
    """
    slots = ring.shape[0]
    for spike in spikes:
        step, unit = first + spike // n, spike % n
        begin, end = pointers[unit], pointers[unit + 1]
        rows, values = row_of[begin:end], weights[begin:end]
        now = step % slots
        if len(delay_of):
            delays, e = delay_of[begin:end], 0
            while e < len(rows):  # one delay after another: a time step of the ring stays in the cache
                own = delays[e]
                last = e + 1
                while last < len(rows) and delays[last] == own:
                    last += 1
                if own > late:
                    slot = now + np.int64(own)
                    slot = slot - slots if slot >= slots else slot
                    to = ring[slot, start:]
                    for k in range(e, last):
                        to[rows[k]] += values[k]
                e = last
        elif delay > late:
            slot = now + delay
            slot = slot - slots if slot >= slots else slot
            to = ring[slot, start:]
            for e in range(len(rows)):
                to[rows[e]] += values[e]


@loop()
def advance(  # pragma: no cover - compiled
    first, steps, longest, states, ring, extra, held, silent, units, jump, freeze, events, columns, delay,
    spikes, found, total, out,
):
    """Advance by up to ``steps`` steps in blocks of at most ``longest``; return how many were made.

    It stops before a block whose spikes might not fit ``out``.

    Parameters
    ----------
    first : int
        Number of the first step.
    states : v, g and refractory, each (trials, units)
        A unit whose ``refractory`` is above 0.5 is refractory.
    ring : array, shape (trials, slots, units)
        Input that arrives at the end of step t, in slot t % slots; as many slots as the longest delay.
    extra : array, shape (trials, units) or (trials, 0)
        Current of each of these steps.
    held : array, shape (units,) or (0,)
        Values that v is held at; NaN for none.
    silent : array of uint8, shape (units,) or (0,)
        Units whose spikes are not transmitted.
    units : array, shape (8, units)
        v_rest, P_vv, P_gg, P_vg, P_vi b, threshold, v_reset, and steps of refractory time + 0.5.
    jump, freeze : bool
        Input is added to v; g is kept while refractory and set to 0 by a spike.
    events : arrays of the Poisson drives
        Their units and where each begins, steps (first, stop), keys, levels and where each begins, least
        counts, weights.
    columns : limits, pointers, rows, weights, delays
        Synapses by source in bands of target rows (`by_column`).
    delay : int
        That of all synapses, if there are no ``delays``.
    spikes, found : int64, shape (trials, units * longest) each
        Scratch.
    total : int64, shape (1,)
        Spikes in ``out``; written.
    out : int64, shape (spikes, 3)
        Step, trial, unit of each spike, in this order.
    """
    v = states[0]
    trials, n = v.shape
    limits, pointers, row_of, weights, delay_of = columns
    bands, chunks = len(limits) - 1, (n + CHUNK - 1) // CHUNK
    written = np.zeros((trials, chunks), np.int64)
    ends = np.zeros((trials, longest + 1), np.int64)
    done = 0
    while done < steps:
        block, now = min(longest, steps - done), first + done
        if total[0] + trials * n * block > len(out):
            break
        for task in prange(trials * chunks):
            trial, chunk = task // chunks, task % chunks
            begin, end = chunk * CHUNK, min(n, (chunk + 1) * CHUNK)
            written[trial, chunk] = _advance_rows(
                begin, end, now, block, trial, states, ring, extra, held, silent, units, jump, freeze, events,
                spikes[trial, begin * longest : end * longest],
            )
        some = False
        for trial in range(trials):  # a stable counting sort by step
            place = ends[trial]
            place[:] = 0
            for chunk in range(chunks):
                for spike in spikes[trial, chunk * CHUNK * longest :][: written[trial, chunk]]:
                    place[spike // n + 1] += 1
            for s in range(longest):
                place[s + 1] += place[s]
            some |= place[longest] > 0
            if place[longest]:
                for chunk in range(chunks):
                    for spike in spikes[trial, chunk * CHUNK * longest :][: written[trial, chunk]]:
                        found[trial, place[spike // n]] = spike
                        place[spike // n] += 1
                for s in range(longest, 0, -1):
                    place[s] = place[s - 1]
                place[0] = 0
        if some:
            for task in prange(trials * bands):
                trial, band = task // bands, task % bands
                _deliver(
                    found[trial, : ends[trial, longest]], now, n, limits[band], pointers[band], row_of,
                    weights, delay_of, delay, ring[trial], 0,
                )
            count = total[0]
            for s in range(block):
                for trial in range(trials):
                    for k in range(ends[trial, s], ends[trial, s + 1]):
                        out[count, 0], out[count, 1], out[count, 2] = now + s, trial, found[trial, k] % n
                        count += 1
            total[0] = count
        done += block
    return done


@loop()
def deliver_past(  # pragma: no cover - compiled
    past, now, columns, delay, ring
):
    """Deliver what has yet to arrive of spikes before step ``now``: (step, trial, unit), in order."""
    limits, pointers, row_of, weights, delay_of = columns
    n = ring.shape[2]
    for band in prange(len(limits) - 1):
        spike = np.empty(1, np.int64)
        for k in range(len(past)):
            spike[0] = past[k, 2]
            late = now - past[k, 0] - 1
            _deliver(
                spike, past[k, 0], n, limits[band], pointers[band], row_of, weights, delay_of, delay,
                ring[past[k, 1]], late,
            )


# ---------------------------------------------------------------- synapses by source


@njit(cache=True)
def _sort_by_delay(pointers, row_of, weights, delay_of):  # pragma: no cover - compiled
    """Sort the synapses of each column by their delay, stably."""
    widest = 0
    for c in range(len(pointers) - 1):
        widest = max(widest, pointers[c + 1] - pointers[c])
    rows, values = np.empty(widest, row_of.dtype), np.empty(widest, weights.dtype)
    delays, place = np.empty(widest, delay_of.dtype), np.empty(2**16 + 1, np.int64)
    for c in range(len(pointers) - 1):
        own = slice(pointers[c], pointers[c + 1])
        row, value, delay = row_of[own], weights[own], delay_of[own]
        if len(row) == 0:
            continue
        least, most = np.int64(delay.min()), np.int64(delay.max())
        if least == most:
            continue
        place[: most - least + 2] = 0
        for e in range(len(row)):
            rows[e], values[e], delays[e] = row[e], value[e], delay[e]
            place[np.int64(delay[e]) - least + 1] += 1
        for k in range(1, most - least + 2):
            place[k] += place[k - 1]
        for e in range(len(row)):
            to = place[np.int64(delays[e]) - least]
            place[np.int64(delays[e]) - least] = to + 1
            row[to], value[to], delay[to] = rows[e], values[e], delays[e]


@loop()
def by_column(  # pragma: no cover - compiled
    limits, crow, col, values, perm, sign, synapse_sign, block_ptr, least, levels, level_ptr, keys,
    pointers, row_of, weights, delay_of,
):
    """Bring a CSR matrix into columns, for each band of rows; a column's delays ascend, and rows of each.

    Entry e has the value of place ``perm[e]`` (e without a perm), under Dale's law with the sign of its
    column or, if there are any, ``synapse_sign[e]``; without signs as it is. ``pointers`` (bands, columns +
    1) is zero on entry, ``row_of`` numbers rows from the first of the band. ``delay_of`` may be empty; else
    an entry's delay is that of the block of its place: ``least`` and the number of ``levels`` that do not
    exceed the word of its row at step (column), trial (repeat), with the block's key.
    """
    for band in prange(len(limits) - 1):
        ptr, first, last = pointers[band], limits[band], limits[band + 1]
        columns, begin = len(ptr) - 1, crow[first]
        for e in range(begin, crow[last]):
            ptr[col[e] + 1] += 1
        ptr[0] = begin
        for c in range(1, columns + 1):
            ptr[c] += ptr[c - 1]
        seen = np.empty(last - first, np.int64)  # first entry of each row that is not placed yet
        for row in range(first, last):
            seen[row - first] = crow[row]
        word = np.empty(4, np.uint32)
        # By blocks of columns, so that the places that are written next stay in the cache.
        for bound in range(COLUMNS, columns + COLUMNS, COLUMNS):
            for row in range(first, last):
                e, stop, repeat = seen[row - first], crow[row + 1], 0
                while e < stop and col[e] < bound:
                    c = col[e]
                    to = ptr[c]
                    ptr[c] = to + 1
                    place = np.int64(perm[e]) if len(perm) else np.int64(e)
                    value, s = values[place], np.int8(0)
                    if len(synapse_sign):
                        s = synapse_sign[e]
                    elif len(sign):
                        s = sign[c]
                    row_of[to] = row - first
                    weights[to] = value if s == 0 else (abs(value) if s > 0 else -abs(value))
                    if len(delay_of):
                        repeat = repeat + 1 if e > crow[row] and col[e - 1] == c else 0
                        block = np.searchsorted(block_ptr, place, side="right") - 1
                        steps = least[block]
                        if level_ptr[block] < level_ptr[block + 1]:
                            words_of(row // 4 * 4, c, repeat, keys[block], word)
                            own = levels[level_ptr[block] : level_ptr[block + 1]]
                            steps += np.searchsorted(own, word[row % 4], side="right")
                        delay_of[to] = steps
                    e += 1
                seen[row - first] = e
        for c in range(columns, 0, -1):
            ptr[c] = ptr[c - 1]
        ptr[0] = begin
        if len(delay_of):
            _sort_by_delay(ptr, row_of, weights, delay_of)
