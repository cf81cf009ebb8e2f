"""Which backend is fastest: one training step and one forward by size, density, blocks and batch.

    python benchmarks/backends.py

The data behind ``backend="auto"``. Random networks first, then networks whose synapses are full blocks: eight regions,
some of the 64 pairs connected all to all. The backends run alternately in one process, checked against a float64
reference; figures are medians in ms, the fastest of a row in bold.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import training

from sparse_mrnn import benchmark as b

UNITS, DENSITIES = (50, 100, 200, 300, 500, 1000), (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
BLOCK_UNITS, SHARES = (80, 160, 320, 640, 1600), (0.1, 0.25, 0.5, 0.75)
BATCHES = (1, 32)


def cases() -> Iterator[b.Case]:
    """Random networks, then networks of full blocks."""
    for units in UNITS:
        for density in DENSITIES:
            for batch in BATCHES:
                yield b.Case(f"{units:,} units, {density:.0%} at random", partial(b.two_regions, units, density), batch)
    for units in BLOCK_UNITS:
        for share in SHARES:
            for batch in BATCHES:
                yield b.Case(f"{units:,} units, {share:.0%} of 8 x 8 blocks", partial(training.blocks, (units // 8,) * 8, share), batch)


def table() -> str:
    """Measure; a Markdown table."""
    entries = [e for name, e in b.entries().items() if name in ("ours-csr", "ours-hybrid", "ours-dense")]
    names = [e.name.removeprefix("ours-") for e in entries]
    rows = [f"| network | batch | {' | '.join(f'{n}, forward' for n in names)} | {' | '.join(f'{n}, training' for n in names)} |"]
    rows.append("|---|---|" + "---|" * (2 * len(names)))
    for case in cases():
        result = b.measure(case, entries, memory=False, repeats=7)
        cells = []
        for how in ("forward", "training"):
            ms = [getattr(e, how).median for e in result.entries]
            cells += [f"**{t:.3g}**" if t == min(ms) else f"{t:.3g}" for t in ms]
        rows.append(f"| {case.label} | {case.batch} | {' | '.join(cells)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
