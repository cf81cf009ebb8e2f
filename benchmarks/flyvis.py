"""The fly's visual system with flyvis' 734 parameters: the same numbers as flyvis, in how much time and
memory.

    python benchmarks/flyvis.py --data fib25-fib19_v2.2.json --flyvis PYTHON [--write
    docs/connectome_constrained.md]

PYTHON is an interpreter that has flyvis and torch (``pip install --no-deps flyvis`` and what it imports).
Both networks get the same parameters and the same random movie. States and gradients are compared in float64
at a small extent, then both train in turns, one process each, at extent 15: forward and backward of the mean
of the squared activity in all parameters. Time is the median of the rounds; memory is the largest resident
size of a process that does nothing else. Without ``--flyvis`` only ours is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import arguments, own_peak, progress, replace_in_page, table_head, table_row

EXTENT, BATCH, STEPS, DT = 15, 4, 40, 20.0
SMALL = 3
ROUNDS = 21
WORKERS = {
    "shared gains": "734 parameters",
    "per synapse": "a parameter per synapse",
    "flyvis": "734 parameters",
}
Step = Callable[[], Any]


# ---------------------------------------------------------------- the networks, each in a process of its own


def movie(extent: int, dtype: torch.dtype) -> torch.Tensor:
    """Light of every column, shape (batch, time, columns)."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((BATCH, STEPS, 3 * extent * (extent + 1) + 1))).to(dtype)


def mean_square(rate: torch.Tensor) -> torch.Tensor:
    """The loss, by the norm, which takes fewer passes over the activity than its squares."""
    return torch.linalg.vector_norm(rate).square() / rate.numel()


def ours(
    data: str, extent: int, dtype: torch.dtype, shared: bool
) -> tuple[Step, Callable[[], dict[str, Any]]]:
    """One training pass, and the states and gradients of one, by flyvis' names."""
    import sparse_mrnn as sm
    from sparse_mrnn.fly_vision import read_flyvis

    graph, _ = read_flyvis(data, extent, share=True, inputs=True)
    for source, _, attrs in graph.edges(data=True):
        if source != "light" and dtype == torch.float64:  # exactly as flyvis keeps them
            counts = attrs["weights"].tocsr()
            counts.data = counts.data.astype(np.float32).astype(np.float64)
            attrs |= {"weights": counts, "gain": 0.01 / float(np.abs(counts.data).mean())}
        if source != "light" and not shared:
            for name in ("share", "gain", "gain_low"):
                del attrs[name]
    net = sm.mRNN(graph, "relu", dt=DT, dtype=dtype, seed=0, device="cpu")
    light = movie(extent, dtype)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        net.zero_grad()
        potential, rate = net(light, net.tonic_inp.expand(BATCH, -1))
        mean_square(rate).backward()
        return potential, rate

    def found() -> dict[str, Any]:
        potential, _ = run()
        layout = net.layout()
        pairs = [f"{source} -> {target}" for source, target, _, _ in net.rec.gain_names]
        tau = torch.tensor([net.time_constants[name] for name in net.hid_regions])
        by_tau = net.tau_logit.grad / (tau.to(dtype) - DT)  # alpha = dt / tau = sigmoid(-tau_logit)
        return {
            "types": net.hid_regions,
            "sizes": np.diff(layout.ptr).tolist(),
            "pairs": pairs,
            "potential": potential.detach().numpy(),
            "bias": net.bias.grad.numpy(),
            "time constant": 1000 * by_tau.numpy(),  # by seconds
            "strength": net.rec.gains.grad.numpy(),
        }

    return run, found


def flyvis(
    data: str, extent: int, dtype: torch.dtype, shared: bool
) -> tuple[Step, Callable[[], dict[str, Any]]]:
    """The same of flyvis' own network."""
    del shared
    from unittest.mock import MagicMock

    sys.path.remove(str(Path(__file__).parent))  # this script has the package's name
    os.environ.setdefault("FLYVIS_ROOT_DIR", tempfile.mkdtemp())
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, MagicMock())  # renders its movies; not used here
    from datamate import Namespace
    from flyvis.network.network import Network

    connectome = Namespace(type="ConnectomeFromAvgFilters", file=Path(data).name, extent=extent, n_syn_fill=1)
    net = Network(connectome=connectome).to(dtype)
    _set_exactly(net, dtype)
    torch.set_default_dtype(dtype)
    light = movie(extent, dtype)
    net.stimulus.zero(BATCH, STEPS)

    def run() -> torch.Tensor:
        net.zero_grad()
        net.stimulus.zero()
        net.stimulus.add_input(light[:, :, None])
        potential = net(net.stimulus(), DT / 1000)
        mean_square(potential.relu()).backward()
        return potential

    def found() -> dict[str, Any]:
        potential = run()
        types = net.node_params["bias"].keys
        sizes = [len(net.stimulus.layer_index[name]) for name in types]
        return {
            "types": types,
            "sizes": sizes,
            "pairs": [f"{source} -> {target}" for source, target in net.edge_params["syn_strength"].keys],
            "potential": potential.detach()[
                ..., np.concatenate([net.stimulus.layer_index[n] for n in types])
            ].numpy(),
            "bias": net.nodes_bias.grad.numpy(),
            "time constant": net.nodes_time_const.grad.numpy(),
            "strength": net.edges_syn_strength.grad.numpy(),
        }

    return run, found


def _set_exactly(net: Any, dtype: torch.dtype) -> None:
    """Parameters as they are in our network, where flyvis has rounded them to float32."""
    counts = torch.as_tensor(net.connectome.edges.n_syn[:], dtype=torch.float64)
    of_edge = {name: net.edge_params[name].indices.long() for name in ("syn_count", "syn_strength")}
    with torch.no_grad():
        exact = torch.zeros(len(net.edges_syn_count), dtype=torch.float64).scatter_(
            0, of_edge["syn_count"], counts
        )
        net.edges_syn_count.copy_(exact.log().to(dtype))
        pairs = len(net.edges_syn_strength)
        sums = torch.zeros(pairs, dtype=torch.float64).index_add_(0, of_edge["syn_strength"], counts)
        mean = sums / torch.bincount(of_edge["syn_strength"], minlength=pairs)
        net.edges_syn_strength.copy_((0.01 / mean).to(dtype))
        net.nodes_time_const.fill_(0.05)


def work(name: str, data: str) -> None:
    """Answer a parent: a line with an extent for states and gradients, or "train" for the seconds of a
    pass."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    make = flyvis if name == "flyvis" else ours
    step: Step | None = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "compare":
            _, found = make(data, SMALL, torch.float64, True)
            np.savez(argument, **{key: np.asarray(value) for key, value in found().items()})
            answer: dict[str, Any] = {}
        else:
            if step is None:
                step, _ = make(data, EXTENT, torch.float32, name != "per synapse")
            step()  # after the others' turns caches are cold and threads asleep, unlike in a loop
            start = time.perf_counter()
            step()
            answer = {"seconds": time.perf_counter() - start}
        answer["peak"] = own_peak()
        print("answer", json.dumps(answer), flush=True)


# ---------------------------------------------------------------- the comparison


class Worker:
    """A process with one network that does one thing at a time."""

    def __init__(self, name: str, data: Path, python: str) -> None:
        command = [python, __file__, "--worker", name, "--data", str(data)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for the answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        print(command, file=stdin, flush=True)
        for line in stdout:  # flyvis prints, too
            if line.startswith("answer "):
                answer: dict[str, Any] = json.loads(line.removeprefix("answer "))
                return answer
        sys.exit(f"a worker ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def compare(data: Path, python: str, folder: Path) -> list[str]:
    """Largest differences of states and gradients, relative to the largest value of each."""
    found = []
    for name, interpreter in (("shared gains", sys.executable), ("flyvis", python)):
        worker = Worker(name, data, interpreter)
        worker.ask(f"compare {folder / name}.npz")
        worker.close()
        found.append(dict(np.load(folder / f"{name}.npz")))
    mine, theirs = found
    rows = table_head("", "numbers", "largest difference, relative")
    for what in ("potential", "bias", "time constant", "strength"):
        a, b = _aligned(mine, what), _aligned(theirs, what)
        difference = np.abs(a - b).max() / np.abs(b).max()
        rows.append(
            table_row([what if what == "potential" else f"gradient of {what}", a.size, f"{difference:.1e}"])
        )
        if difference > 1e-9:
            sys.exit("\n".join([*rows, f"{what} differs; nothing was timed."]))
    return rows


def _aligned(found: dict[str, Any], what: str) -> np.ndarray[Any, Any]:
    """Values in the alphabetical order of types, or of pairs of types."""
    order = np.argsort(found["pairs"] if what == "strength" else found["types"])
    if what != "potential":
        return found[what][order]
    start = np.concatenate([[0], np.cumsum(found["sizes"])])
    return np.concatenate([found[what][..., start[k] : start[k + 1]] for k in order], axis=-1)


def measure(data: Path, python: str | None) -> list[str]:
    """Seconds of a pass in turns, and peak memory, of every network."""
    workers = {
        name: Worker(name, data, python if name == "flyvis" else sys.executable)
        for name in WORKERS
        if name != "flyvis" or python is not None
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    peak = {}
    for k in range(ROUNDS):
        for name in (*workers,)[:: -1 if k % 2 else 1]:  # nobody always runs after the largest
            answer = workers[name].ask("train")
            seconds[name].append(answer["seconds"])
            peak[name] = answer["peak"]
        progress(f"round {k + 1} of {ROUNDS}: " + ", ".join(f"{n} {s[-1]:.3f} s" for n, s in seconds.items()))
    for worker in workers.values():
        worker.close()
    base = seconds["shared gains"]
    rows = table_head("network", "learnt", "forward + backward", "time of the first", "peak memory")
    for name, taken in seconds.items():
        ratio = median(a / b for a, b in zip(taken, base, strict=True))
        gigabytes = f"{peak[name] / 1e9:.2f} GB"
        rows.append(table_row([name, WORKERS[name], f"{median(taken):.3f} s", f"{ratio:.2f}x", gigabytes]))
    return rows


def main() -> None:
    """Compare, measure and print; with --write, also into a page."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="fib25-fib19_v2.2.json of flyvis")
    parser.add_argument("--flyvis", metavar="PYTHON", help="interpreter that has flyvis")
    parser.add_argument("--write", type=Path, help="page to refresh")
    options = parser.parse_args()
    from sparse_mrnn.benchmark import describe_machine, machine_line

    parts = [machine_line(describe_machine())]
    if options.flyvis is not None:
        with tempfile.TemporaryDirectory() as folder:
            parts.append("\n".join(compare(options.data, options.flyvis, Path(folder))))
    parts.append("\n".join(measure(options.data, options.flyvis)))
    text = "\n\n".join(parts)
    print(text)
    if options.write is not None:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        work(sys.argv[sys.argv.index("--worker") + 1], sys.argv[sys.argv.index("--data") + 1])
    else:
        main()
