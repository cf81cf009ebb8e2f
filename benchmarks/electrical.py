"""Training steps with electrical synapses beside as many chemical ones.

    python benchmarks/electrical.py [--units 5000] [--degree 50] [--batch 32]

Three networks of the same units: chemical synapses alone; as many again, chemical; and as many again,
electrical (a pair of units counts as two, one for each direction). Steps of the three alternate on one
thread, so that other work on the machine slows them alike; the medians of CPU time are compared.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.sparse as sp
import torch

import sparse_mrnn as sm


def network(units: int, degree: int, more: str) -> sm.mRNN:
    """A tanh network with ``degree`` chemical synapses a unit, and as many of another kind."""
    graph, rng = sm.RegionGraph(), np.random.default_rng(0)
    graph.add_region("a", units, sign=None)
    graph.add_input("u", 4)
    graph.add_projection("u", "a")
    graph.add_projection("a", "a", fan_in=degree, initializer=sm.Normal(0.8))
    if more == "chemical":
        graph.add_projection("a", "a", fan_in=degree, initializer=sm.Normal(0.1), key="more")
    if more == "electrical":
        pairs = units * degree // 2
        row, col = rng.integers(0, units, (2, 2 * pairs))
        number = np.unique(np.maximum(row, col)[row != col] * units + np.minimum(row, col)[row != col])
        row, col = np.divmod(rng.permutation(number)[:pairs], units)
        upper = sp.csr_array((np.full(len(row), 0.1 / degree), (row, col)), shape=(units, units))
        graph.add_projection("a", "a", weights=upper + upper.T, kind="electrical", key="more")
    return sm.mRNN(graph, "tanh", seed=0, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=5000)
    parser.add_argument("--degree", type=int, default=50)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="time steps of a sequence")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    nets = {more: network(args.units, args.degree, more) for more in ("none", "chemical", "electrical")}
    inputs = torch.randn(args.batch, args.steps, 4, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {more: [] for more in nets}
    for turn in range(args.rounds + 1):
        for more, net in nets.items():
            begin = time.process_time()
            net.zero_grad()
            net(inputs)[1].square().mean().backward()
            if turn:  # the first compiles
                times[more].append(time.process_time() - begin)
    found = {more: float(np.median(some)) for more, some in times.items()}
    print(f"{args.units} units, {args.degree} synapses a unit of each kind, batch {args.batch}")
    for more, seconds in found.items():
        print(f"  more synapses: {more:<10} {1000 * seconds:7.1f} ms of CPU time a training step")
    added = (found["electrical"] - found["none"]) / (found["chemical"] - found["none"])
    print(f"  the whole step: {found['electrical'] / found['chemical']:.2f}; what was added: {added:.2f}")


if __name__ == "__main__":
    main()
