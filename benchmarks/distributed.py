"""A network on several processes: peak memory, rate and what is exchanged, against one process.

    torchrun --nproc-per-node 2 benchmarks/distributed.py
    python benchmarks/distributed.py --threads 2

Prints one line of JSON from rank 0. Both build the same modular network: regions in modules, most synapses
within a module.
"""

import argparse
import json
import resource
import time

import torch

import sparse_mrnn as sm
from sparse_mrnn.distributed import ShardedRNN, is_started_by_torchrun, joined
from sparse_mrnn.distributed.streaming import ShardedSimulator
from sparse_mrnn.simulation.simulator import Simulator


def modular(units, synapses_per_unit, regions=40, modules=8, outside=0.1):
    """Regions in modules: of each unit's synapses, the share ``outside`` comes from one region elsewhere."""
    g, n = sm.RegionGraph(), units // regions
    for k in range(regions):
        g.add_region(f"r{k}", n, sign="neg" if k % 5 == 4 else "pos", base_firing=1.0)
    per_module = regions // modules
    within = round(synapses_per_unit * (1 - outside) / per_module)
    for k in range(regions):
        first = k - k % per_module
        for source in range(first, first + per_module):
            g.add_projection(f"r{source}", f"r{k}", fan_in=within)
        elsewhere = f"r{(k + per_module) % regions}"
        g.add_projection(elsewhere, f"r{k}", fan_in=max(1, synapses_per_unit - within * per_module))
    return g


def peak():
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(simulator, steps, repeats):
    """Best of several runs of so many steps: seconds a step."""
    simulator.set_factors({"recurrent": {}, "input": {}})
    stepper = simulator.stepper
    stepper.step(inputs=False)
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(steps):
            stepper.step(inputs=False)
        found.append((time.perf_counter() - begun) / steps)
    return min(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--synapses", type=int, default=100, help="of each unit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    g, options = modular(args.units, args.synapses), dict(seed=0, device="cpu", activation="tanh")
    found = {"units": args.units, "threads": args.threads, "base MB": round(peak() / 1e6)}
    begun = time.perf_counter()
    if not is_started_by_torchrun():
        net = sm.mRNN(g, **options)
        found |= {"ranks": 1, "synapses": net.weights("recurrent").nnz}
        found["build s"] = time.perf_counter() - begun
        found["s a step"] = timed(Simulator(net, 1, None, event_driven=False), args.steps, args.repeats)
        print(json.dumps({**found, "peak MB": round(peak() / 1e6)}))
        return
    with joined() as ranks:
        net = ShardedRNN(g, **options)
        report = net.halo_report()
        found |= {"ranks": ranks.size, "synapses": sum(report.synapses)}
        found["build s"] = time.perf_counter() - begun
        simulator = ShardedSimulator(net.shard, 1, None, event_driven=False)
        found["s a step"] = timed(simulator, args.steps, args.repeats)
        found |= {"units sent": report.volume, "all-gather": report.all_gather}
        found["peak MB"] = [round(p / 1e6) for p in ranks.gather(peak())]
        if ranks.rank == 0:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
