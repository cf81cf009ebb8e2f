"""Where dense beats CSR: one training step (forward, backward) by network size, density and batch.

    python benchmarks/backends.py

The two backends run the same network alternately in one process; figures are medians, and the results of both
are compared first.
"""

from __future__ import annotations

import statistics
import time

import torch

import sparse_mrnn as sm


def step(net: sm.mRNN, inp: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """One training step's loss and gradient."""
    net.zero_grad()
    loss = net(inp, x0)[1].square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = net.rec.values.grad if net.rec is not None else None
    if gradient is None:
        raise RuntimeError("no gradient reached the weights")
    return gradient


def main() -> None:
    """Print a table."""
    print("| units | density | batch | csr (ms) | dense (ms) | dense is faster by |\n|---|---|---|---|---|---|")
    for units in (50, 100, 200, 300, 500, 1000):
        for density in (0.05, 0.2, 1.0):
            for batch in (1, 32):
                g = sm.RegionGraph()
                g.add_region("a", units, sign=None, base_firing=0.1)
                g.add_projection("a", "a", density=density)
                nets = {b: sm.mRNN(g, "tanh", device="cpu", seed=0, backend=b) for b in ("csr", "dense")}
                inp, x0 = torch.zeros(batch, 20, 0), torch.rand(batch, units)
                torch.testing.assert_close(step(nets["csr"], inp, x0), step(nets["dense"], inp, x0), rtol=1e-3, atol=1e-6)
                times: dict[str, list[float]] = {"csr": [], "dense": []}
                for _ in range(15):
                    for name, net in nets.items():
                        start = time.perf_counter()
                        step(net, inp, x0)
                        times[name].append(1e3 * (time.perf_counter() - start))
                csr, dense = (statistics.median(times[name]) for name in ("csr", "dense"))
                print(f"| {units} | {density:g} | {batch} | {csr:.2f} | {dense:.2f} | {csr / dense:.2f} |", flush=True)


if __name__ == "__main__":
    main()
