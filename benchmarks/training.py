"""One training step (forward, backward) against the two ways it is usually written.

    python benchmarks/training.py

Compared, on the same network, in one process, alternately and in random order:

- ours: the sequence-level recurrence on CSR weights;
- per step: a Python loop of torch.sparse CSR products under autograd;
- dense: a Python loop with a masked dense matrix, mask * |W| * sign, as mRNNTorch writes it.

Gradients are compared first. Figures are medians; a ratio is the other's time over ours.
"""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

import sparse_mrnn as sm

warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
SIZES = ((2_000, 0.05, 50, True), (5_000, 0.02, 20, True), (10_000, 0.01, 20, False), (50_000, 0.002, 5, False))
"""units, density, steps, whether the dense loop runs too."""
BATCH, REPEATS = 32, 5
ALPHA = 0.1


def loop(product: Callable[[Tensor], Tensor], bias: Tensor, x: Tensor, steps: int) -> Tensor:
    """The leaky update, step by step; state is (units, batch). Returns the loss."""
    h, loss = torch.tanh(x), x.new_zeros(())
    for _ in range(steps):
        x = (1 - ALPHA) * x + ALPHA * (product(h) + bias[:, None])
        h = torch.tanh(x)
        loss = loss + h.square().sum()
    return loss / (steps * x.numel())


def entries(units: int, density: float, steps: int, dense: bool) -> dict[str, Callable[[], Tensor]]:
    """A function per way that does one step and returns the gradient by synapse."""
    g = sm.RegionGraph()
    g.add_region("exc", units * 4 // 5, sign="pos", base_firing=0.1)
    g.add_region("inh", units // 5, sign="neg", base_firing=0.1)
    for source in ("exc", "inh"):
        for target in ("exc", "inh"):
            g.add_projection(source, target, density=density, init=sm.Normal())
    net = sm.mRNN(g, "tanh", device="cpu", seed=0, backend="csr")
    x0 = torch.rand(BATCH, units, generator=torch.Generator().manual_seed(0))
    inp, bias = torch.zeros(BATCH, steps, 0), net.tonic_inp
    pattern = net.W_rec.detach()
    crow, col = pattern.crow_indices(), pattern.col_indices()
    row = torch.repeat_interleave(torch.arange(units), crow.diff().long())
    sign = net.W_rec_sign_matrix.values()
    start = pattern.values().clone()

    def ours() -> Tensor:
        net.zero_grad()
        net(inp, x0)[1].square().mean().backward()  # type: ignore[no-untyped-call]
        values = net.rec.values  # type: ignore[union-attr]
        perm = net.rec.perm  # type: ignore[union-attr]
        return values.grad if perm is None else values.grad[perm.long()]  # type: ignore[index,return-value]

    def per_step() -> Tensor:
        w = start.clone().requires_grad_()
        matrix = torch.sparse_csr_tensor(crow, col, w.abs() * sign, (units, units), check_invariants=False)
        loop(lambda h: matrix @ h, bias, x0.t(), steps).backward()  # type: ignore[no-untyped-call]
        return w.grad  # type: ignore[return-value]

    ways: dict[str, Callable[[], Tensor]] = {"ours": ours, "per step": per_step}
    if dense:
        full = torch.zeros(units, units)
        mask, signs = torch.zeros(units, units), torch.zeros(units, units)
        full[row, col.long()], mask[row, col.long()], signs[row, col.long()] = start, 1.0, sign

        def dense_loop() -> Tensor:
            w = full.clone().requires_grad_()
            matrix = mask * w.abs() * signs
            loop(lambda h: matrix @ h, bias, x0.t(), steps).backward()  # type: ignore[no-untyped-call]
            return w.grad[row, col.long()]  # type: ignore[index]

        ways["dense"] = dense_loop
    return ways


def table() -> str:
    """Measure, and return a Markdown table."""
    rows = ["| units | synapses per unit | steps | ours (ms) | per-step torch.sparse | dense loop |", "|---|---|---|---|---|---|"]
    order = random.Random(0)
    for units, density, steps, dense in SIZES:
        ways = entries(units, density, steps, dense)
        reference = ways["ours"]().clone()
        for name in list(ways)[1:]:
            torch.testing.assert_close(ways[name](), reference, rtol=1e-3, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name in order.sample(list(ways), len(ways)):
                start = time.perf_counter()
                ways[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
        middle = {name: statistics.median(t) for name, t in times.items()}
        ratios = [f"{middle[name] / middle['ours']:.1f}x" if name in middle else "not run" for name in ("per step", "dense")]
        rows.append(f"| {units:,} | {units * density:.0f} | {steps} | {middle['ours']:.0f} | {' | '.join(ratios)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
