"""A surrogate-gradient step of a spiking network beside a loop that multiplies by torch.sparse in each step.

    python benchmarks/spiking_training.py [--units N] [--fan-in K] [--batch B] [--steps T] [--rounds R]

Both have the same weights, drive and surrogate; loss, spikes and gradients are compared before anything is
timed. Each is a process of its own; they take turns, and a turn is a pass that is not timed and one that is.
The loop is what snnTorch and btorch do on top of torch.sparse: torch differentiates it step by step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import own_peak

DT, TAU_M, TAU_SYN, REST, THRESHOLD = 1.0, 20.0, 5.0, -52.0, -45.0
Step = Callable[[], tuple[float, float, torch.Tensor]]


def problem(size: argparse.Namespace) -> tuple[Any, torch.Tensor]:
    """Weights as a scipy matrix, mV, and the drive of every step, (batch, steps, units)."""
    import scipy.sparse as sp

    rng, n, k = np.random.default_rng(0), size.units, size.fan_in
    col = np.concatenate([np.sort(rng.choice(n, k, replace=False)) for _ in range(n)])
    values = rng.normal(0, 8 / np.sqrt(k), n * k).astype(np.float32)
    weights = sp.csr_array((values, col, np.arange(n + 1) * k), shape=(n, n))
    drive = (rng.random((size.batch, size.steps, n)) < 0.1).astype(np.float32) * 15
    return weights, torch.from_numpy(drive)


def ours(size: argparse.Namespace) -> Step:
    """`LIF`, a network of one region."""
    import sparse_mrnn as sm

    weights, drive = problem(size)
    graph = sm.RegionGraph()
    graph.add_region("all", size.units, sign=None)
    graph.add_projection("all", "all", weights=weights, sign="free")
    net = sm.LIF(graph, dt=DT, tau_m=TAU_M, tau_syn=TAU_SYN, t_ref=0, device="cpu")
    none = torch.zeros(size.batch, size.steps, 0)

    def step() -> tuple[float, float, torch.Tensor]:
        net.zero_grad()
        _, h = net(none, stim_input=drive)
        loss = (h.mean(1) - 0.1).square().mean()
        loss.backward()
        return loss.item(), h.sum().item(), net.rec.values.grad  # type: ignore[union-attr, return-value]

    return step


class Spike(torch.autograd.Function):
    """The fast sigmoid."""

    @staticmethod
    def forward(ctx: Any, excess: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(excess)
        return (excess >= 0).float()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad / (1 + ctx.saved_tensors[0].abs()) ** 2


def torch_loop(size: argparse.Namespace) -> Step:
    """A loop over steps with a COO matrix of torch."""
    weights, drive = problem(size)
    coo = weights.tocoo()
    index = torch.from_numpy(np.stack(coo.coords)).long()
    values = torch.from_numpy(coo.data).requires_grad_()
    keep_v, keep_g = np.exp(-DT / TAU_M), np.exp(-DT / TAU_SYN)
    feed = TAU_SYN / (TAU_M - TAU_SYN) * (keep_v - keep_g)

    def step() -> tuple[float, float, torch.Tensor]:
        values.grad = None
        matrix = torch.sparse_coo_tensor(index, values, weights.shape, is_coalesced=True)
        v = torch.full((size.units, size.batch), REST)
        g, h, spikes = torch.zeros_like(v), torch.zeros_like(v), []
        for t in range(size.steps):
            v = REST + keep_v * (v - REST) + feed * g
            g = keep_g * g + torch.sparse.mm(matrix, h) + drive[:, t].t()
            h = Spike.apply(v - THRESHOLD)
            v = torch.where(h.detach() > 0, REST, v)
            spikes.append(h)
        loss = (torch.stack(spikes).mean(0) - 0.1).square().mean()
        loss.backward()
        return loss.item(), sum(h.sum().item() for h in spikes), values.grad  # type: ignore[return-value]

    return step


ENTRIES: dict[str, Callable[[argparse.Namespace], Step]] = {"LIF": ours, "torch.sparse": torch_loop}


def worker(name: str, size: argparse.Namespace, folder: Path) -> None:
    """Save the results of a pass, then time one for every line read."""
    step = ENTRIES[name](size)
    loss, spikes, grad = step()
    np.savez(folder / f"{name}.npz", loss=loss, spikes=spikes, grad=grad.numpy())
    print("ready", flush=True)
    for _ in sys.stdin:
        step()
        start = time.perf_counter()
        step()
        print(json.dumps([time.perf_counter() - start, own_peak()]), flush=True)


def main() -> None:
    """Compare and time, or be a worker."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    for name, default in (("units", 10_000), ("fan-in", 100), ("batch", 32), ("steps", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--worker", help="for the script's own use")
    parser.add_argument("--folder", type=Path)
    size = parser.parse_args()
    if size.worker:
        worker(size.worker, size, size.folder)
        return
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        given = [*sys.argv[1:], "--folder", name]
        pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, __file__, *given, "--worker"]
        running = {entry: subprocess.Popen([*command, entry], **pipe) for entry in ENTRIES}
        times: dict[str, list[tuple[float, float]]] = {entry: [] for entry in ENTRIES}
        for process in running.values():
            process.stdout.readline()
        first, second = (np.load(Path(name) / f"{entry}.npz") for entry in ENTRIES)
        off = np.abs(first["grad"] - second["grad"]).max() / np.abs(second["grad"]).max()
        print(f"spikes {first['spikes']:.0f} and {second['spikes']:.0f}; gradients differ by {off:.1e}")
        for _ in range(size.rounds):
            for entry, process in running.items():
                print("go", file=process.stdin, flush=True)
                times[entry].append(json.loads(process.stdout.readline()))
        for process in running.values():
            process.communicate()
    seconds = {entry: median(t for t, _ in taken) for entry, taken in times.items()}
    for entry, taken in times.items():
        ratio = seconds[entry] / seconds["LIF"]
        print(f"{entry}: {seconds[entry]:.3f} s, {ratio:.1f}x; {max(m for _, m in taken) / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
