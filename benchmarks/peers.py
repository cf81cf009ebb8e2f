"""The same network in other software, side by side: first values and gradients, then time and memory.

    python benchmarks/peers.py [--peers PYTHON] [--units N] [--fan-in K] [--write docs/peers.md]

PYTHON is an interpreter that has what is compared (``pip install jax brainevent reservoirpy nn4n torch
torch_sparse``); what it lacks is left out, and said. Each entry is a process of its own. All get the same
weights, inputs and initial state, and compute x <- (1 - a) x + a (W tanh(x) + u) for some steps. Training is
the forward and backward pass of the mean squared activity in the weights of the synapses, simulation the
forward pass of one trial. A result is compared with scipy's in float64 before anything is timed. Time is the
median of rounds in which the entries take turns; memory is the largest resident size of the process.
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
import scipy.sparse as sp
from common import arguments, own_peak, replace_in_page, table_head, table_row

ALPHA = 0.1
BATCH, STEPS = 32, 20
ROUNDS = 7
Step = Callable[[], Any]


def problem(units: int, fan_in: int) -> dict[str, Any]:
    """Weights as CSR (rows are targets), input of every step, initial state; float32."""
    rng = np.random.default_rng(0)
    col = np.concatenate([np.sort(rng.choice(units, fan_in, replace=False)) for _ in range(units)])
    ptr = np.arange(units + 1) * fan_in
    return {
        "values": (rng.standard_normal(len(col)) / np.sqrt(fan_in)).astype(np.float32),
        "col": col.astype(np.int32),
        "ptr": ptr.astype(np.int32),
        "u": rng.standard_normal((STEPS, BATCH, units)).astype(np.float32),
        "x0": rng.standard_normal((BATCH, units)).astype(np.float32),
    }


def reference(p: dict[str, Any]) -> dict[str, Any]:
    """Loss, gradient and the last activity of one trial; "r" that of a reservoir. In float64."""
    n = len(p["ptr"]) - 1
    w = sp.csr_array((p["values"].astype(float), p["col"], p["ptr"]), shape=(n, n))
    states = [p["x0"].astype(float).T]
    for u in p["u"]:
        x = states[-1]
        states.append((1 - ALPHA) * x + ALPHA * (w @ np.tanh(x) + u.astype(float).T))
    h = [np.tanh(x) for x in states]
    loss = np.mean(np.square(h[1:]))
    rows = np.repeat(np.arange(n), np.diff(p["ptr"]))
    delta, gradient = np.zeros_like(states[0]), np.zeros(w.nnz)
    for k in range(len(states) - 1, 0, -1):
        delta += 2 * h[k] * (1 - h[k] ** 2) / (STEPS * h[k].size)
        gradient += ALPHA * np.einsum("kb,kb->k", delta[rows], h[k - 1][p["col"]])
        delta = (1 - ALPHA) * delta + ALPHA * (w.T @ delta) * (1 - h[k - 1] ** 2)
    r = p["x0"][0].astype(float)
    for u in p["u"][:, 0]:
        r = (1 - ALPHA) * r + ALPHA * np.tanh(w @ r + u)
    return {"loss": float(loss), "gradient": gradient, "h": h[-1].T[:1], "r": r[None]}


# ---------------------------------------------------------------- entries: passes of each software


def torch_problem(p: dict[str, Any]) -> tuple[Any, Any, Any]:
    import torch

    n = len(p["ptr"]) - 1
    return n, torch.from_numpy(p["x0"]), torch.from_numpy(p["u"])


def sparse_mrnn(p: dict[str, Any]) -> dict[str, Step]:
    """This library: a network of one region."""
    import torch

    import sparse_mrnn as sm

    n, x0, u = torch_problem(p)
    g = sm.RegionGraph()
    g.add_region("all", n, sign=None)
    g.add_projection(
        "all", "all", weights=sp.csr_array((p["values"], p["col"], p["ptr"]), shape=(n, n)), sign="free"
    )
    net = sm.mRNN(g, "tanh", dt=ALPHA * 100, tau=100, device="cpu", batch_first=False)
    none = torch.zeros(STEPS, BATCH, 0)

    def training() -> tuple[float, Any]:
        net.zero_grad()
        _, h = net(none, x0, stim_input=u)
        loss = h.square().mean()
        loss.backward()
        return loss.item(), net.rec.values.grad.numpy()

    def simulation() -> Any:
        with torch.no_grad():
            return net(none[:, :1], x0[:1], stim_input=u[:, :1])[1][-1].numpy()

    return {"training": training, "simulation": simulation}


def torch_loop(p: dict[str, Any], product: Callable[[Any, Any], Callable[[Any], Any]]) -> dict[str, Step]:
    """A loop over steps, differentiated by torch; ``product(index, values)`` multiplies by the matrix."""
    import torch

    n, x0, u = torch_problem(p)
    rows = torch.repeat_interleave(torch.arange(n), torch.from_numpy(np.diff(p["ptr"])))
    index = torch.stack([rows, torch.from_numpy(p["col"]).long()])
    values = torch.from_numpy(p["values"]).requires_grad_()

    def run(x: Any, inputs: Any) -> list[Any]:
        multiply = product(index, values)
        out = []
        for current in inputs:
            x = (1 - ALPHA) * x + ALPHA * (multiply(torch.tanh(x).t()).t() + current)
            out.append(torch.tanh(x))
        return out

    def training() -> tuple[float, Any]:
        values.grad = None
        loss = torch.stack(run(x0, u)).square().mean()
        loss.backward()
        return loss.item(), values.grad.numpy()

    def simulation() -> Any:
        with torch.no_grad():
            return run(x0[:1], u[:, :1])[-1].numpy()

    return {"training": training, "simulation": simulation}


def torch_sparse_mm(p: dict[str, Any]) -> dict[str, Step]:
    """torch.sparse.mm at every step."""
    import torch

    n = len(p["ptr"]) - 1

    def product(index: Any, values: Any) -> Callable[[Any], Any]:
        w = torch.sparse_coo_tensor(index, values, (n, n), is_coalesced=True, check_invariants=False)
        return lambda h: torch.sparse.mm(w, h)

    return torch_loop(p, product)


def torch_sparse_package(p: dict[str, Any]) -> dict[str, Step]:
    """The package torch_sparse at every step: a SparseTensor, whose transpose is kept."""
    from torch_sparse import SparseTensor

    n = len(p["ptr"]) - 1

    def product(index: Any, values: Any) -> Callable[[Any], Any]:
        w = SparseTensor(row=index[0], col=index[1], value=values, sparse_sizes=(n, n), is_sorted=True)
        return lambda h: w @ h.contiguous()

    return torch_loop(p, product)


def dense_loop(p: dict[str, Any]) -> dict[str, Step]:
    """A dense matrix and a loop in Python, as mRNNTorch has them."""
    import torch

    n, x0, u = torch_problem(p)
    mask = torch.from_numpy(
        sp.csr_array((np.ones(len(p["col"]), np.float32), p["col"], p["ptr"]), shape=(n, n)).toarray()
    )
    weight = torch.from_numpy(
        sp.csr_array((p["values"], p["col"], p["ptr"]), shape=(n, n)).toarray()
    ).requires_grad_()
    rows = np.repeat(np.arange(n), np.diff(p["ptr"]))

    def run(x: Any, inputs: Any) -> list[Any]:
        w, out = mask * weight, []
        for current in inputs:
            x = (1 - ALPHA) * x + ALPHA * (torch.tanh(x) @ w.t() + current)
            out.append(torch.tanh(x))
        return out

    def training() -> tuple[float, Any]:
        weight.grad = None
        loss = torch.stack(run(x0, u)).square().mean()
        loss.backward()
        return loss.item(), weight.grad.numpy()[rows, p["col"]]

    def simulation() -> Any:
        with torch.no_grad():
            return run(x0[:1], u[:, :1])[-1].numpy()

    return {"training": training, "simulation": simulation}


def jax_entry(p: dict[str, Any], product: Callable[[Any], Callable[[Any], Any]]) -> dict[str, Step]:
    """A scan over the whole sequence, compiled; ``product`` makes W @ h of the values."""
    import jax
    import jax.numpy as jnp

    x0, u = jnp.asarray(p["x0"].T), jnp.asarray(p["u"].transpose(0, 2, 1))
    values = jnp.asarray(p["values"])

    def run(values: Any, x: Any, inputs: Any) -> Any:
        times = product(values)

        def step(x: Any, current: Any) -> tuple[Any, Any]:
            x = (1 - ALPHA) * x + ALPHA * (times(jnp.tanh(x)) + current)
            return x, jnp.tanh(x)

        return jax.lax.scan(step, x, inputs)[1]

    gradient = jax.jit(jax.value_and_grad(lambda values: jnp.mean(jnp.square(run(values, x0, u)))))
    forward = jax.jit(lambda x, inputs: run(values, x, inputs)[-1])

    def training() -> tuple[float, Any]:
        loss, found = gradient(values)
        return float(loss), np.asarray(found)

    return {"training": training, "simulation": lambda: np.asarray(forward(x0[:, :1], u[:, :, :1])).T}


def jax_bcsr(p: dict[str, Any]) -> dict[str, Step]:
    """JAX's own sparse matrices."""
    from jax.experimental import sparse

    n = len(p["ptr"]) - 1

    def product(values: Any) -> Any:
        w = sparse.BCSR((values, p["col"], p["ptr"]), shape=(n, n))
        return lambda h: w @ h

    return jax_entry(p, product)


def brainevent(p: dict[str, Any]) -> dict[str, Step]:
    """brainevent's CSR matrices on JAX."""
    import brainevent as be

    n = len(p["ptr"]) - 1

    def product(values: Any) -> Any:
        w = be.CSR((values, p["col"], p["ptr"]), shape=(n, n))
        return lambda h: w @ h

    return jax_entry(p, product)


def nn4n(p: dict[str, Any]) -> dict[str, Step]:
    """nn4n's hidden layer, which is dense, in its recurrence; the input is given as a current."""
    import torch
    from nn4n.layer import HiddenLayer

    n, x0, u = torch_problem(p)
    ones = torch.ones(n, n)
    dense = torch.from_numpy(sp.csr_array((p["values"], p["col"], p["ptr"]), shape=(n, n)).toarray())
    struct = {
        "input_dim": n, "output_dim": n, "weights": "zero", "biases": "zero", "ei_mask": None,
        "plasticity_mask": ones, "sparsity_mask": (dense != 0).float(),
    }  # fmt: skip
    layer = HiddenLayer(struct)
    layer.weight.data.copy_(dense)
    rows = np.repeat(np.arange(n), np.diff(p["ptr"]))

    def run(v: Any, inputs: Any) -> list[Any]:
        fr, out = torch.tanh(v), []
        for current in inputs:
            v = (1 - ALPHA) * v + ALPHA * (layer(fr) + current)
            fr = torch.tanh(v)
            out.append(fr)
        return out

    def training() -> tuple[float, Any]:
        layer.zero_grad()
        loss = torch.stack(run(x0, u)).square().mean()
        loss.backward()
        return loss.item(), layer.weight.grad.numpy()[rows, p["col"]]

    def simulation() -> Any:
        with torch.no_grad():
            return run(x0[:1], u[:, :1])[-1].numpy()

    return {"training": training, "simulation": simulation}


def reservoirpy(p: dict[str, Any]) -> dict[str, Step]:
    """A reservoir of these weights: its own equation, r <- (1 - a) r + a tanh(W r + u); simulation only."""
    from reservoirpy.nodes import Reservoir

    n = len(p["ptr"]) - 1
    w = sp.csr_array((p["values"], p["col"], p["ptr"]), shape=(n, n))
    identity = sp.eye_array(n, format="csr", dtype=np.float32)
    node = Reservoir(units=n, W=w, Win=identity, lr=ALPHA, input_dim=n, dtype=np.float32)
    inputs = p["u"][:, 0]
    node.initialize(inputs)

    def simulation() -> Any:
        node.state = {"out": p["x0"][0]}
        return node.run(inputs)[-1:]

    return {"simulation": simulation}


ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Step]], bool]] = {
    "sparse-mrnn": (sparse_mrnn, False),
    "torch.sparse, step by step": (torch_sparse_mm, False),
    "torch_sparse, step by step": (torch_sparse_package, True),
    "dense loop, as mRNNTorch": (dense_loop, False),
    "JAX BCSR, compiled scan": (jax_bcsr, True),
    "brainevent, compiled scan": (brainevent, True),
    "nn4n, dense": (nn4n, True),
    "reservoirpy, its own equation": (reservoirpy, True),
}
"""Entries, and whether they run in the peers' interpreter."""


# ---------------------------------------------------------------- processes


def worker(name: str, folder: Path) -> None:
    """Compute and save results, then a pass for every line read: its seconds and the peak memory so far."""
    p = dict(np.load(folder / "problem.npz"))
    runs = ENTRIES[name][0](p)
    results: dict[str, Any] = {}
    for kind, step in runs.items():
        found = step()
        if kind == "training":
            results |= {"loss": found[0], "gradient": found[1]}
        else:
            results["r" if name.startswith("reservoirpy") else "h"] = found
    np.savez(folder / f"{list(ENTRIES).index(name)}.npz", **results)
    print(json.dumps(sorted(runs)), flush=True)
    for line in sys.stdin:
        run = runs[line.strip()]
        run()  # after the others' turns, caches are cold and threads asleep, which they are not in a loop
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
        print(json.dumps([took, own_peak()]), flush=True)


def start(name: str, folder: Path, python: str) -> subprocess.Popen[str]:
    """A worker process."""
    root = str(Path(__file__).parent.parent)
    command = [python, __file__, "--worker", name, "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    errors = open(folder / f"{list(ENTRIES).index(name)}.log", "w")  # noqa: SIM115 - the child's
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    )


def answer(process: subprocess.Popen[str]) -> Any:
    """The next line of JSON of a worker; None where it has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("["):
            return json.loads(line)
    return None


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of loss, gradient and activity, relative to the largest value."""
    differences = [0.0]
    for key, value in found.items():
        right = np.asarray(expected[key])
        differences.append(float(np.abs(np.asarray(value) - right).max() / np.abs(right).max()))
    return max(differences)


def compare(peers: str, units: int, fan_in: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each entry: largest difference, seconds, memory; or why it is left out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        p = problem(units, fan_in)
        np.savez(folder / "problem.npz", **p)
        expected = reference(p)
        rows, running = [], {}
        for k, (entry, (_, other)) in enumerate(ENTRIES.items()):
            process = start(entry, folder, peers if other else sys.executable)
            kinds = answer(process)
            row: dict[str, Any] = {"entry": entry}
            rows.append(row)
            if kinds is None:
                lines = (folder / f"{k}.log").read_text().strip().splitlines()
                row["left out"] = lines[-1] if lines else f"exit status {process.wait()}"
                continue
            row["difference"] = largest_difference(dict(np.load(folder / f"{k}.npz")), expected)
            if row["difference"] > 1e-3:
                row["left out"] = f"its results differ by {row['difference']:.1g}"
                process.kill()
                continue
            running[entry] = (process, kinds, {kind: [] for kind in kinds}, row)
        for _ in range(rounds):
            for process, kinds, times, row in running.values():
                for kind in kinds:
                    assert process.stdin is not None
                    print(kind, file=process.stdin, flush=True)
                    took, row["memory"] = answer(process)
                    times[kind].append(took)
        for process, _, times, row in running.values():
            row |= {kind: median(taken) for kind, taken in times.items()}
            process.communicate()
        return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    own = rows[0]
    lines = table_head("", "training (s)", "", "one trial (s)", "", "memory (MB)", "largest difference")
    for row in rows:
        if "left out" in row:
            lines.append(table_row([row["entry"], f"left out: {row['left out'][:80]}", *[""] * 5]))
            continue
        cells = [row["entry"]]
        for kind in ("training", "simulation"):
            cells += [f"{row[kind]:.3f}", f"{row[kind] / own[kind]:.1f}x"] if kind in row else ["", ""]
        lines.append(table_row([*cells, f"{row['memory'] / 1e6:,.0f}", f"{row['difference']:.0e}"]))
    return "\n".join(lines)


def main() -> None:
    """Compare and print; with --write, also into a page."""
    parser = arguments(__doc__)
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has what is compared")
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--fan-in", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", type=Path, help="page to refresh")
    parser.add_argument("--worker", help="of a process of its own")
    parser.add_argument("--folder", type=Path, help="of a process of its own")
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.folder)
        return
    from sparse_mrnn.benchmark import describe_machine, machine_line

    rows = compare(options.peers, options.units, options.fan_in, options.rounds)
    sizes = f"{options.units:,} units, {options.fan_in} synapses each, batch {BATCH}, {STEPS} steps"
    text = f"{sizes}; medians of {options.rounds} rounds. {machine_line(describe_machine())}\n\n{table(rows)}"
    print(text)
    if options.write is not None:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    main()
