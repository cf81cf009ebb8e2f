"""Is this installation sound? Its packages, the correctness of every backend, and its speed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial

import torch

from sparse_mrnn.benchmark.cases import Case, two_regions
from sparse_mrnn.benchmark.entries import LibraryEntry, entries, select_entries
from sparse_mrnn.benchmark.machine import describe_machine, version_of
from sparse_mrnn.benchmark.measure import Limits, check, measure
from sparse_mrnn.benchmark.problem import Problem, reference
from sparse_mrnn.benchmark.timing import Ratio
from sparse_mrnn.errors import BenchmarkError, MissingExtraError
from sparse_mrnn.ops.idle_threads import waiting_policy

EXTRAS = {
    "numba": ("numba", "[fast]", "gradients and steps are compiled with it"),
    "matplotlib": ("matplotlib", "[plot]", "figures"),
    "zarr": ("zarr", "[io]", "recordings on disk"),
    "xarray": ("xarray", "[io]", "recordings"),
    "pyarrow": ("pyarrow", "[connectome]", "importing tables"),
    "h5py": ("h5py", "[connectome]", "SONATA"),
    "torch_sparse": ("torch-sparse", "", "the backend of that name"),
}
USUAL = 2.5
"""Times as fast as the dense loop at least, where nothing is wrong (docs/benchmarks.md: 5.5 on two cores)."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: the thing looked at, what was found, and "ok", "note" or "problem"."""

    what: str
    found: str
    verdict: str = "ok"


def environment(device: str = "cpu") -> list[Finding]:
    """Versions, MKL, threads, device and optional packages.

    Examples
    --------
    >>> environment()[0].what
    'sparse-mrnn'
    """
    machine = describe_machine(device)
    versions = ("sparse-mrnn", "python", "torch", "numpy", "scipy")
    found = [Finding(name.replace("python", "Python"), machine[name] or "a checkout") for name in versions]
    found.append(Finding("processor", f"{machine['cpu']}, {machine['memory_gb']:.0f} GB of memory"))
    threads, cores = machine["threads"], machine["cores"] or 1
    found.append(Finding("threads", f"{threads} of {cores} cores", "note" if threads < cores else "ok"))
    found.append(Finding("idle threads", waiting_policy()))
    mkl = "yes" if machine["mkl"] else "no: sparse products on the CPU are slower without it"
    found.append(Finding("MKL", mkl, "ok" if machine["mkl"] else "note"))
    no_gpu = "none that torch sees; the CPU is used"
    found.append(Finding("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else no_gpu))
    for module, (package, extra, use) in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            found.append(Finding(module, version_of(package) or "installed"))
        else:
            install = f"pip install 'sparse-mrnn{extra}'" if extra else f"pip install {package}"
            found.append(Finding(module, f"not installed ({use}): {install}", "note"))
    return found


def self_check(device: str = "cpu") -> list[Finding]:
    """States and gradients of every backend against the float64 reference, on a small network."""
    found = []
    for model in ("leaky", "elman"):
        make = partial(two_regions, 200, 0.1)
        problem = Problem(Case("self-check", make, batch=4, steps=10, model=model, device=device))
        expected = reference(problem, True)
        for entry in entries().values():
            if not issubclass(entry, LibraryEntry):
                continue
            what = f"{model}, backend {entry.backend}"
            try:
                check(entry(problem), expected, True)
                found.append(Finding(what, "states and gradients agree with float64"))
            except MissingExtraError:
                found.append(Finding(what, "not installed", "note"))
            except BenchmarkError as error:
                found.append(Finding(what, str(error), "problem"))
    return found


def speed_check(device: str = "cpu") -> Finding:
    """Training of 2,000 units at 5% density, against the dense loop."""
    case = Case("speed", partial(two_regions, 2_000, 0.05), steps=5, device=device)
    which = select_entries(["sparse-mrnn", "loop-dense"])
    result = measure(case, which, memory=False, repeats=7, limits=Limits(patience=3.0))
    dense, sparse = result["loop-dense"].training, result["sparse-mrnn"].training
    what = "speed, 2,000 units at 5%"
    if dense is None or sparse is None:
        why = next((e.skipped for e in result.entries if e.skipped), "not measured")
        return Finding(what, f"not measured: {why}", "note")
    ratio = Ratio.of(dense, sparse)
    took = f"a training step of 5 time steps takes {sparse.median:.3g} ms"
    if ratio.verdict == "unclear":
        between = f"{ratio.low:.2g} to {ratio.high:.2g} times as fast as the dense loop"
        return Finding(what, f"{took}, {between}: the machine is too busy to tell", "note")
    times = f"{took}, {ratio.median:.2g} times as fast as the dense loop"
    why = f"; at least {USUAL:g} is usual: is numba or MKL missing, or is one thread used?"
    return Finding(what, times) if ratio.median >= USUAL else Finding(what, times + why, "note")
