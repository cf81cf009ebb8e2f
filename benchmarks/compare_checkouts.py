"""Compare two checkouts of the library side by side, alternating between them: times, and lines of code.

    git worktree add /tmp/before fd2fc4b
    python benchmarks/compare_checkouts.py /tmp/before . --rounds 5

Each round starts one process per checkout and measurement, first one checkout and then the other, so that
other load on the machine falls on both. It prints medians and the ratio of the second to the first.
"""

from __future__ import annotations

import ast
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

from common import arguments, progress, table_head, table_row

START = """
import gc, json, sys, time, warnings
warnings.simplefilter("ignore")
import torch
import sparse_mrnn as sm

def seconds(function, least=0.5):
    function()
    times, begun = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]

def random_graph(units, fan_in, regions=4):
    g = sm.RegionGraph()
    for k in range(regions):
        g.add_region(f"r{k}", units // regions, sign="pos" if k % 2 else "neg")
    for k in range(regions):
        g.add_projection(f"r{k}", f"r{(k + 1) % regions}", fan_in=fan_in)
    g.add_input("u", 3)
    g.add_projection("u", "r0")
    return g

def training(graph, batch, steps):
    net = sm.mRNN(graph, activation="tanh", seed=0, device="cpu")
    u = torch.randn(batch, steps, net.layout("input").n)
    x0, h0 = net.batched_initial_condition(batch)
    def step():
        net.zero_grad()
        net(u, x0, h0)[1].norm().backward()
    return seconds(step)
"""
MEASURES = {
    "training, 340 units (ms)": "result = 1e3 * training(random_graph(340, 60), 32, 20)",
    "training, 2,000 units (ms)": "result = 1e3 * training(random_graph(2000, 100), 32, 20)",
    "training, 10,000 units (ms)": "result = 1e3 * training(random_graph(10_000, 100), 32, 20)",
    "training, flyvis (ms)": """
try:
    from sparse_mrnn.fly_vision import read_flyvis
except ImportError:
    from sparse_mrnn.connectome import read_flyvis
graph, _ = read_flyvis(DATA + "/flyvis/fib25-fib19_v2.2.json", 15, share=True, inputs=True)
net = sm.mRNN(graph, dt=20, tau=50, seed=0, device="cpu")
u = torch.rand(4, 40, net.layout("input").n)
x0, h0 = net.batched_initial_condition(4)
def step():
    net.zero_grad()
    net(u, x0, h0)[1].norm().backward()
result = 1e3 * seconds(step, 2)
""",
    "simulate, one step, 10^6 synapses (ms)": """
net = sm.mRNN(random_graph(10_000, 100), seed=0, device="cpu")
record = sm.Record(what=["mean"])
result = 1e3 * seconds(lambda: sm.simulate(net, steps=1, record=record, progress=False))
""",
    "build, 100,000 units (s)": """
graph = random_graph(100_000, 100)
result = seconds(lambda: sm.mRNN(graph, seed=0, device="cpu"))
""",
    "load, 10^6 synapses (ms)": """
import tempfile
sm.mRNN(random_graph(10_000, 100), seed=0, device="cpu").save(path := tempfile.mkdtemp() + "/net.safetensors")
result = 1e3 * seconds(lambda: sm.load(path, device="cpu"))
""",
    "import, over torch (ms)": """
import subprocess
def imported(what):
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {what}"], check=True)
    return time.perf_counter() - begun
pairs = [(imported("torch"), imported("torch, sparse_mrnn as sm; sm.mRNN")) for _ in range(5)]
result = 1e3 * sorted(b - a for a, b in pairs)[2]
""",
    "command line, --help (ms)": """
import subprocess
def once():
    subprocess.run([sys.executable, "-m", "sparse_mrnn", "--help"], check=True, stdout=subprocess.DEVNULL)
result = 1e3 * seconds(once)
""",
}


def lines(checkout: Path) -> tuple[Counter[str], Counter[str]]:
    """Count the lines of Python by package, and how many are code and docstrings."""
    packages: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for path in (checkout / "sparse_mrnn").rglob("*.py"):
        parts = path.relative_to(checkout / "sparse_mrnn").parts
        text = path.read_text(encoding="utf-8")
        whole = text.splitlines()
        strings = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
        documented = {
            number
            for string in strings
            if isinstance(string, ast.Constant) and isinstance(string.value, str)
            for number in range(string.lineno, (string.end_lineno or 0) + 1)
        }
        left = (line.strip() for number, line in enumerate(whole, 1) if number not in documented)
        packages[parts[0] if len(parts) > 1 else "(top level)"] += len(whole)
        kinds["all"] += len(whole)
        kinds["code"] += sum(bool(line) and not line.startswith("#") for line in left)
        kinds["docstrings"] += len(documented)
    return packages, kinds


def measure(checkout: Path, code: str, data: Path) -> float:
    """Run one measurement in a process of its own that imports the library of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    whole = f"DATA = {str(data)!r}\n{START}{code}\nprint(json.dumps(result))"
    command = [sys.executable, "-c", whole]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    if run.returncode:
        sys.exit(run.stderr)
    found: float = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("../shared/data").resolve(), help="published data")
    parser.add_argument("--only", default="", help="measurements whose names contain this")
    options = parser.parse_args()
    checkouts = options.before, options.after
    print("\n".join(table_head("", "before", "after", "after / before")))
    for name, code in MEASURES.items():
        if options.only not in name or ("flyvis" in name and not options.data.exists()):
            continue
        found: tuple[list[float], list[float]] = [], []
        for k in range(options.rounds):
            progress(f"{name}: round {k + 1}")
            for times, checkout in zip(found, checkouts, strict=True):
                times.append(measure(checkout, code, options.data))
        before, after = map(statistics.median, found)
        print(table_row([name, f"{before:.3g}", f"{after:.3g}", f"{after / before:.2f}"]), flush=True)
    print("\n" + "\n".join(table_head("lines", "before", "after")))
    for old, new in zip(*map(lines, checkouts), strict=True):
        for name in sorted(old.keys() | new.keys()):
            print(table_row([name, f"{old[name]:,}", f"{new[name]:,}"]))


if __name__ == "__main__":
    main()
