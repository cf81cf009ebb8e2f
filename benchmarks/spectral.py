"""Spectral radius: errors and times over families of matrices, time and memory of large nets, and ARPACK's.

    python benchmarks/spectral.py [--size 2000]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from argparse import SUPPRESS
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from common import arguments, table_head, table_row
from scipy.sparse.linalg import eigs

import sparse_mrnn as sm

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from helpers.spectral_families import CLOSED_FORMS, FAMILIES, FLYVIS, exact_radius, sparse

LARGE = ((10_000, 3.0), (50_000, 40.0))
"""Units, each with 100 synapses, and the seconds a search may take."""


def families(size: int) -> str:
    """Relative error and time of each family against dense eigenvalues."""
    found = ("spectral radius", "error", "estimated error", "method", "products", "seconds")
    rows = table_head("family", "units", *found, "dense `eigvals`, s")
    sm.spectral_radius(sparse(450))  # load what is loaded once
    for name, make in FAMILIES.items():
        if name == "flyvis" and not FLYVIS.exists():
            rows.append(table_row(["flyvis", "", "not measured: no data", *[""] * 6]))
            continue
        w = make(size)
        dense = w if isinstance(w, np.ndarray) else w.toarray()
        start = time.perf_counter()
        eigenvalues = np.linalg.eigvals(dense)
        slow = time.perf_counter() - start
        exact = exact_radius(name, size, eigenvalues)
        off = abs(float(np.abs(eigenvalues).max()) - exact) / max(exact, 1e-300)
        note = f" (off by {off:.1e})" if name in CLOSED_FORMS else ""
        result = sm.spectral_search(w)
        error = abs(result.value - exact) / max(exact, 1e-300)
        errors = (f"{error:.1e}", f"{result.error:.1e}")
        effort = (result.method, f"{result.matvecs:,}", f"{result.seconds:.2f}", f"{slow:.2f}{note}")
        rows.append(table_row([name, f"{dense.shape[0]:,}", f"{result.value:.6g}", *errors, *effort]))
        print(rows[-1], flush=True)
    return "\n".join(rows)


def random_net(n: int, degree: int = 100) -> sp.csr_array:
    """An i.i.d. net with that many synapses a unit."""
    rng = np.random.default_rng(0)
    row, col = np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree)
    return sp.csr_array((rng.standard_normal(n * degree) / np.sqrt(degree), (row, col)), shape=(n, n))


def one(n: int) -> None:
    """Print what one large search took and found, as JSON; run in a process of its own."""
    w = random_net(n)
    sm.spectral_radius(sparse(450))  # load what is loaded once
    result = sm.spectral_search(w)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = dict(seconds=result.seconds, products=result.matvecs, peak=peak / 2**10)
    print(json.dumps({**found, "value": result.value, "upper": result.upper}))


def large() -> str:
    """Time and memory at 10,000 and 50,000 units."""
    found = ("spectral radius", "upper bound", "products", "seconds", "peak of the process, MB")
    rows = table_head("units", "synapses", *found)
    for n, limit in LARGE:
        run = subprocess.run([sys.executable, __file__, "--one", str(n)], capture_output=True, check=True)
        m = json.loads(run.stdout)
        bounds = (f"{m['value']:.6f}", f"{m['upper']:.4f}")
        effort = (f"{m['products']:,}", f"{m['seconds']:.2f}", f"{m['peak']:.0f}")
        rows.append(table_row([f"{n:,}", f"{100 * n:,}", *bounds, *effort]))
        print(rows[-1], "" if m["seconds"] < limit else f"SLOWER THAN {limit} s", flush=True)
    return "\n".join(rows)


def against(n: int = 5000) -> str:
    """Dense eigenvalues and one plain ARPACK call, at one size."""
    w = random_net(n)
    sm.spectral_radius(sparse(450))  # load what is loaded once
    runs = sorted((sm.spectral_search(w) for _ in range(3)), key=lambda r: r.seconds)
    result = runs[1]
    start = time.perf_counter()
    exact = float(np.abs(np.linalg.eigvals(w.toarray())).max())
    dense = time.perf_counter() - start
    start = time.perf_counter()
    v0 = np.random.default_rng(0).standard_normal(n)
    plain = float(np.abs(eigs(w, k=1, v0=v0, return_eigenvectors=False)[0]))
    arpack = time.perf_counter() - start
    rows = table_head(f"{n:,} units, 100 synapses each", "radius", "relative error", "seconds")
    for name, value, seconds in (
        ("`sm.spectral_radius`", result.value, result.seconds),
        ("`numpy.linalg.eigvals`", exact, dense),
        ("`scipy.sparse.linalg.eigs(k=1)`", plain, arpack),
    ):
        error = abs(value - exact) / exact
        rows.append(table_row([name, f"{value:.7f}", f"{error:.1e}", f"{seconds:.2f}"]))
    print("\n".join(rows), f"\ndense / sparse: {dense / result.seconds:.0f}x", flush=True)
    return "\n".join(rows)


def table(size: int = 2000) -> str:
    """All three tables, in Markdown."""
    return f"{large()}\n\n{against()}\n\n{families(size)}\n"


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, default=2000, help="units of the families")
    parser.add_argument("--part", choices=("large", "against", "families"), help="only this table")
    parser.add_argument("--one", type=int, help=SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    print(f"{os.cpu_count()} cores")
    if options.part == "families":
        families(options.size)
    elif options.part:
        {"large": large, "against": against}[options.part]()
    else:
        table(options.size)


if __name__ == "__main__":
    main()
