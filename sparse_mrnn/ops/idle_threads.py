"""How idle threads wait: they spin while the cores are ours, and sleep while other processes want them.

Between two parallel loops the threads of GNU's OpenMP, which torch's Linux wheels and numba use, spin for
some milliseconds before they sleep. On an idle machine the next loop of a time step then starts at once. On a
busy one, a thread that spins takes its core from the thread that all others wait for, and a step takes up to
twenty times as long.

If a process has more OpenMP threads than cores, they spin for a hundred turns only
(``gomp_throttled_spin_count_var`` in libgomp's env.c). So while other processes compute, `share_cores` holds
a few threads more, which sleep. Unlike an environment variable, it works whatever was imported first
(docs/decisions/0023-waiting-threads.md).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from contextlib import suppress

import psutil
import torch

CHOSEN_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables that say how threads wait; if one is set, nothing is changed."""
WINDOW = 0.2
"""Seconds over which the use of the cores is measured, at least."""
CROWDED = 0.25
"""Cores that others must want in vain before threads sleep at once; less is noise of the clocks."""


class _IdleThreads:
    """The use of the cores by others, and the threads that are held meanwhile."""

    def __init__(self) -> None:
        self.measured = self.clock()
        self.held: list[threading.Event] = []

    @staticmethod
    def clock() -> tuple[float, float, float]:
        """Time, CPU time of all processes on the cores of this one, and that of this process, in seconds."""
        mine = os.sched_getaffinity(0)
        cores = (core for k, core in enumerate(psutil.cpu_times(percpu=True)) if k in mine)
        busy = sum(c.user + c.nice + c.system + c.irq + c.softirq + c.steal for c in cores)
        return time.monotonic(), busy, time.process_time()

    def update(self) -> None:
        """Measure what others use since the last time, and hold threads or let them go accordingly."""
        now = self.clock()
        passed, busy, own = (new - old for new, old in zip(now, self.measured, strict=True))
        if passed < WINDOW:
            return
        self.measured = now
        cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
        crowded = threads > 1 and (busy - own) / passed > cores - min(threads, cores) + CROWDED
        if crowded and not self.held:
            for _ in range(math.ceil(max(cores - threads + 1, 1) / (threads - 1))):
                self.hold(threads)
        elif not crowded:
            self.release()

    def hold(self, threads: int) -> None:
        """Start a thread that has OpenMP make it threads of its own, which end with it."""
        ready, leave = threading.Event(), threading.Event()

        def run() -> None:
            try:
                torch.zeros(threads * 32768).add_(1)  # torch gives a thread 32,768 entries at least
            finally:
                ready.set()
            leave.wait()

        self.held.append(leave)
        with suppress(RuntimeError):  # the system has no thread left: those that are there spin
            threading.Thread(target=run, name="sparse-mrnn idle threads", daemon=True).start()
            ready.wait()

    def release(self) -> None:
        """End what is held."""
        for leave in self.held:
            leave.set()
        self.held = []


_idle = None
if sys.platform == "linux" and not any(name in os.environ for name in CHOSEN_BY_USERS):
    _idle = _IdleThreads()
    # Threads do not survive a fork: a child has none to hold, and nothing is known of its cores' use.
    os.register_at_fork(after_in_child=_idle.__init__)  # type: ignore[misc]


def share_cores() -> None:
    """Let idle threads sleep at once while other processes want the cores, else spin.

    It looks at the use of the cores at most every 0.2 s, so it can be called before any work. Does nothing
    beyond Linux, or if the environment says how threads wait.

    Examples
    --------
    >>> share_cores()
    """
    if _idle is not None and time.monotonic() - _idle.measured[0] >= WINDOW:
        _idle.update()


def waiting_policy() -> str:
    """How idle threads wait, for a person.

    Examples
    --------
    >>> waiting_policy().partition(":")[0] in ("left as it is", "sleep while other processes compute")
    True
    """
    chosen = [f"{name}={os.environ[name]}" for name in CHOSEN_BY_USERS if name in os.environ]
    if chosen:
        return f"left as it is: {', '.join(chosen)}"
    if _idle is None:
        return f"left as it is: {sys.platform}"
    return "sleep while other processes compute"
