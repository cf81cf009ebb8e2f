"""Spectral radius: errors and times over families of matrices, time and memory of large nets, against dense and ARPACK.

    python benchmarks/spectral.py [--size 2000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import eigs

import sparse_mrnn as sm

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from spectral_families import CLOSED_FORMS, FAMILIES, FLYVIS, exact_radius, sparse

LARGE = ((10_000, 3.0), (50_000, 40.0))
"""Units, each with 100 synapses, and the seconds a search may take."""


def families(size: int) -> str:
    """Relative error and time of each family against dense eigenvalues."""
    rows = ["| family | units | spectral radius | error | estimated error | method | products | seconds | dense `eigvals`, s |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    sm.spectral_radius(sparse(450))  # load what is loaded once
    for name, make in FAMILIES.items():
        if name == "flyvis" and not FLYVIS.exists():
            rows.append("| flyvis | | not measured: no data | | | | | | |")
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
        rows.append(
            f"| {name} | {dense.shape[0]:,} | {result.value:.6g} | {error:.1e} | {result.error:.1e} | {result.method} | "
            f"{result.matvecs:,} | {result.seconds:.2f} | {slow:.2f}{note} |"
        )
        print(rows[-1], flush=True)
    return "\n".join(rows)


def random_net(n: int, degree: int = 100) -> sp.csr_array:
    """An i.i.d. net with that many synapses a unit."""
    rng = np.random.default_rng(0)
    row, col = np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree)
    return sp.csr_array((rng.standard_normal(n * degree) / np.sqrt(degree), (row, col)), shape=(n, n))


def one(n: int) -> None:
    """Print time, products and added peak memory of one large search; run in a process of its own."""
    w = random_net(n)
    sm.spectral_radius(sparse(450))  # load what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = sm.spectral_search(w)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{result.seconds:.2f} {result.matvecs} {peak / 2**10:.0f} {(peak - before) / 2**10:.0f} {result.value!r} {result.upper!r}")


def large() -> str:
    """Time and memory at 10,000 and 50,000 units."""
    rows = ["| units | synapses | spectral radius | upper bound | products | seconds | peak of the process, MB |"]
    rows.append("|---|---|---|---|---|---|---|")
    for n, limit in LARGE:
        run = subprocess.run([sys.executable, __file__, "--one", str(n)], capture_output=True, text=True, check=True)
        seconds, products, peak, _, value, upper = run.stdout.split()
        rows.append(f"| {n:,} | {100 * n:,} | {float(value):.6f} | {float(upper):.4f} | {int(products):,} | {seconds} | {peak} |")
        print(rows[-1], "" if float(seconds) < limit else f"SLOWER THAN {limit} s", flush=True)
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
    plain = float(np.abs(eigs(w, k=1, v0=np.random.default_rng(0).standard_normal(n), return_eigenvectors=False)[0]))
    arpack = time.perf_counter() - start
    rows = [f"| {n:,} units, 100 synapses each | radius | relative error | seconds |", "|---|---|---|---|"]
    for name, value, seconds in (
        ("`sm.spectral_radius`", result.value, result.seconds),
        ("`numpy.linalg.eigvals`", exact, dense),
        ("`scipy.sparse.linalg.eigs(k=1)`", plain, arpack),
    ):
        rows.append(f"| {name} | {value:.7f} | {abs(value - exact) / exact:.1e} | {seconds:.2f} |")
    print("\n".join(rows), f"\ndense / ours: {dense / result.seconds:.0f}x", flush=True)
    return "\n".join(rows)


def table(size: int = 2000) -> str:
    """All three tables, in Markdown."""
    return f"{large()}\n\n{against()}\n\n{families(size)}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000, help="units of the families")
    parser.add_argument("--part", choices=("large", "against", "families"), help="only this table")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
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
