"""Which backend is fastest: one training step and one forward by size, density, blocks and batch.

    python benchmarks/backends.py

The data behind ``backend="auto"``. Random networks first, then networks whose synapses are full blocks:
eight regions, some of the 64 pairs connected all to all. The backends run alternately in one process,
checked against a float64 reference; figures are medians in ms, the fastest of a row in bold.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import training
from common import progress, table_head, table_row

from sparse_mrnn import benchmark as b

UNITS = (50, 100, 200, 300, 500, 1000)
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
BLOCK_UNITS, SHARES = (80, 160, 320, 640, 1600), (0.1, 0.25, 0.5, 0.75)
BATCHES = (1, 32)


def cases() -> Iterator[b.Case]:
    """Random networks, then networks of full blocks."""
    random = {
        f"{units:,} units, {density:.0%} at random": partial(b.two_regions, units, density)
        for units, density in product(UNITS, DENSITIES)
    }
    full = {
        f"{units:,} units, {share:.0%} of 8 x 8 blocks": partial(training.blocks, (units // 8,) * 8, share)
        for units, share in product(BLOCK_UNITS, SHARES)
    }
    for label, make in {**random, **full}.items():
        for batch in BATCHES:
            yield b.Case(label, make, batch)


def table() -> str:
    """Measure; a Markdown table."""
    backends = ("csr", "hybrid", "dense")
    entries = b.select_entries([f"backend-{name}" for name in backends])
    columns = [f"{name}, {how}" for how in ("forward", "training") for name in backends]
    rows = table_head("network", "batch", *columns)
    for case in cases():
        result = b.measure(case, entries, memory=False)
        cells = []
        for how in ("forward", "training"):
            ms = [getattr(e, how).median for e in result.entries]
            cells += [f"**{t:.3g}**" if t == min(ms) else f"{t:.3g}" for t in ms]
        rows.append(table_row([case.label, case.batch, *cells]))
        progress(rows[-1])
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
