"""Peak memory of one entry, each in a process of its own."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from sparse_mrnn.benchmark.cases import Case, two_regions
from sparse_mrnn.benchmark.entries import LibraryEntry, entries
from sparse_mrnn.benchmark.problem import Problem
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import BenchmarkError
from sparse_mrnn.runtime import resident_memory

T = TypeVar("T")


def peak_memory(case: Case, name: str, training: bool) -> int:
    """Bytes that building and once running an entry takes, at its peak, above what the process holds before.

    By then everything is imported and small networks have run, so libraries, compiled kernels and threads are
    not counted, nor is drawing the synapses for a loop. On a CUDA device it is the memory allocated there.

    Parameters
    ----------
    case : Case
    name : str
        Of the entry; see `entries`.
    training : bool
        Whether a run is forward and backward, or forward alone.

    Raises
    ------
    BenchmarkError
        If the process died, as it does if the system ran out of memory.
    """
    return in_fresh_process(_peak, case, name, training, torch.get_num_threads())


def in_fresh_process(function: Callable[..., T], *args: Any) -> T:
    """``function(*args)`` in a new interpreter, which imports what it needs; both are sent to it.

    Raises
    ------
    BenchmarkError
        If the process died.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool:
            problem = "the process was stopped by the system, most likely for want of memory"
            raise BenchmarkError(problem) from None


class PeakMeter:
    """Peak resident memory (on CUDA: allocated there) from now on, above what is held now."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.before = self.restart()

    def restart(self) -> int:
        """Forget the peak until now, not what it is measured above; the bytes held now."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        with suppress(OSError):  # only Linux can
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            return resident_memory()
        return _resident_peak()

    def bytes(self) -> int:
        """The peak, less the base."""
        cuda = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if cuda else _resident_peak()
        return max(0, peak - self.before)


def _resident_peak() -> int:
    """The process's peak resident memory in bytes; that of getrusage begins at the peak of its parent."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _full_and_thin() -> RegionGraph:
    """Full blocks within regions, a thin one between them: every kernel of the hybrid backend."""
    g = RegionGraph()
    for name in ("a", "b"):
        g.add_region(name, 150)
        g.add_projection(name, name)
    g.add_projection("a", "b", density=0.05)
    return g


def _peak(case: Case, name: str, training: bool, threads: int) -> int:
    torch.set_num_threads(threads)
    case = replace(case, spectral_radius=None)  # to find it takes memory of its own, once
    entry = entries()[name]
    for make in (partial(two_regions, 50, 0.5), partial(two_regions, 300, 0.05), _full_and_thin):
        small = replace(case, batch=2, steps=2, make=make)
        entry(Problem(small)).run(training)  # whichever kernels the backend takes
    meter = PeakMeter(case.device)
    if issubclass(entry, LibraryEntry):
        entry(Problem(case, inputs_only=True)).run(training)
    else:
        problem = Problem(case)  # the network it was taken from is gone by now
        meter.restart()
        entry(problem).run(training)
    return meter.bytes()
