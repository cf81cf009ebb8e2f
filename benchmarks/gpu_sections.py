"""The sections of ``gpu_report.py``, which starts each of them in a process of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, table_head, table_row
from gpu_report import LIBRARY, ROOT, TESTS, missing, write

OPTIONAL = ("numba", "triton", "torch_sparse", "xarray", "zarr", "matplotlib")


class Result:
    """What a section has found so far; every addition is on the disk at once.

    Parameters
    ----------
    path : Path
    device : str
    small : bool
        Small networks, in a dry run.
    """

    def __init__(self, path: Path, device: str, small: bool) -> None:
        self.path, self.device, self.small = path, device, small
        self.lines: list[str] = []
        self.figures: dict[str, Any] = {}

    def add(self, *lines: str, **figures: Any) -> None:
        """Lines of Markdown, and figures by name."""
        self.lines += lines
        self.figures |= figures
        found = {"status": "running", "markdown": "\n".join(self.lines), "figures": self.figures}
        write(self.path, json.dumps(found, indent=1))
        print(*lines, sep="\n", flush=True)

    def bound(self, what: str, value: float, bound: str, reached: bool) -> None:
        """A figure that has to reach something; a dry run on the CPU has no verdict."""
        dry_run = self.device == "cpu" or self.small
        verdict = "no verdict" if dry_run else "reached" if reached else "**missed**"
        self.add(table_row([what, f"{value:.3g}", bound, verdict]), **{what: value})


# ---------------------------------------------------------------- is it right?


def device(result: Result) -> None:
    """What the device is, what is installed, and how fast memory is copied."""
    import torch

    rows = {"torch": torch.__version__, "CUDA of torch": torch.version.cuda, "Python": sys.version.split()[0]}
    if result.device != "cpu":
        p = torch.cuda.get_device_properties(result.device)
        rows |= {"GPU": p.name, "memory, GB": f"{p.total_memory / 1e9:.1f}"}
        rows |= {"multiprocessors": p.multi_processor_count, "compute capability": f"{p.major}.{p.minor}"}
        try:
            query = "--query-gpu=driver_version,clocks.max.sm,power.limit"
            command = ["nvidia-smi", query, "--format=csv,noheader"]
            smi = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            rows["driver, clock, power limit"] = smi.stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            rows["driver"] = f"unknown: {error}"
    rows["threads of the CPU"] = f"{torch.get_num_threads()} of {os.cpu_count()}"
    for what, names in (("missing", LIBRARY + TESTS), ("missing, optional", OPTIONAL)):
        rows[what] = ", ".join(missing(names)) or "nothing"
    result.add(*table_head("", ""), *(table_row(row) for row in rows.items()), **rows)
    result.add("", f"Memory is copied at {copy_bandwidth(result) / 1e9:,.0f} GB/s (read and written).")


def copy_bandwidth(result: Result) -> float:
    """Bytes read and written per second when a large tensor is copied."""
    import torch

    source = torch.zeros(2**20 if result.small else 2**28, device=result.device)
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), result.device, 20)
    result.add(copy_bytes_per_s=2 * 4 * source.numel() / seconds)
    return 2 * 4 * source.numel() / seconds


def median_seconds(run: Callable[[], object], device: str, rounds: int) -> float:
    """Of a function, waiting for the device; after two calls that may compile."""
    from sparse_mrnn.benchmark.timing import SideBySide, stopwatch

    run()
    timed = SideBySide({"run": run}, random.Random(0), stopwatch(device))
    timed.run(rounds)
    return timed.timings()["run"].median / 1e3


def tests(result: Result) -> None:
    """The tests marked gpu, in a dry run those of the same files on the CPU; the log has all of them."""
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in every if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    marked = "not gpu" if result.device == "cpu" else "gpu"
    options = ["-m", marked, "-q", "-rA", "-p", "no:cacheprovider", "-W", "default"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(run.stdout, run.stderr, sep="\n")
    lines = run.stdout.strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = lines[-1].strip("= ")
    result.add(f"`{summary}`", "", *(f"- {line}" for line in failed), exit_status=run.returncode)


def equality(result: Result) -> None:
    """Every backend on the device against the compiled dense backend on the CPU."""
    import torch

    import sparse_mrnn as sm
    from sparse_mrnn.errors import MissingExtraError
    from sparse_mrnn.models.network import BACKENDS
    from sparse_mrnn.ops.products import device_products

    def graph(*, delay: float | None) -> sm.RegionGraph:
        g = sm.RegionGraph()
        size = 20 if result.small else 200
        g.add_region("a", size, learnable_bias=True, base_firing=0.1, activation="tanh")
        g.add_region("b", size // 2, sign="neg", activation="softplus")
        g.add_region("c", size // 4, sign=None)
        g.add_input("i", 3)
        for source in "abc":
            for target in "abc":
                g.add_projection(source, target, density=1.0 if source == "a" else 0.2, delay=delay)
        g.add_projection("a", "b", density=0.3, key="parallel", trainable=False)
        g.add_projection("i", "a")
        return g

    def run(model: type[sm.mRNNBase], g: sm.RegionGraph, device: str, backend: str, dtype: Any) -> list[Any]:
        net = model(g, device=device, backend=backend, seed=0, dtype=dtype, spectral_radius=1.0)
        generator = torch.Generator().manual_seed(0)
        shapes = ((4, 12, 3), (4, g.n_units))
        drawn = (torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
        inp, x0 = (tensor.to(device, dtype).requires_grad_() for tensor in drawn)
        found = net(inp, x0)
        found = found if isinstance(found, tuple) else (found,)
        sum(t.square().sum() for t in found).backward()
        gradients = [p.grad for p in net.parameters()] + [inp.grad, x0.grad]
        return [t.detach().cpu().double() for t in (*found, *gradients)]

    cases = [(backend, "torch") for backend in BACKENDS]
    if result.device != "cpu" and not missing(("triton",)):
        cases += [("csr", "triton"), ("hybrid", "triton")]
    head = "model", "delays", "dtype", "backend", "kernels", "largest difference", "allowed", ""
    result.add(*table_head(*head))
    wrong, left_out = 0, {}
    for model in (sm.mRNN, sm.ElmanmRNN):
        for delay in (None, 30.0):
            g = graph(delay=delay)
            expected = run(model, g, "cpu", "dense", torch.float64)
            for dtype, allowed in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
                for backend, kernel in cases:
                    kind = str(dtype).removeprefix("torch.")
                    cells = [model.__name__, "yes" if delay else "no", kind, backend, kernel]
                    try:
                        with device_products.using(kernel):
                            found = run(model, g, result.device, backend, dtype)
                    except MissingExtraError as error:
                        left_out[backend] = str(error)
                        continue
                    except Exception as error:  # the other rows are worth having, whatever is wrong here
                        wrong += 1
                        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                        result.add(table_row([*cells, "", "", f"**failed**: {why}"]))
                        continue
                    pairs = zip(found, expected, strict=True)
                    worst = max(float((f - e).abs().max() / e.abs().max().clamp_min(1e-30)) for f, e in pairs)
                    wrong += not worst <= allowed
                    verdict = "equal" if worst <= allowed else "**different**"
                    result.add(table_row([*cells, f"{worst:.1e}", f"{allowed:.0e}", verdict]))
    result.add("", "All are equal." if not wrong else f"**{wrong} are different or failed.**", wrong=wrong)
    result.add(*(f"Left out: {why}" for why in left_out.values()))


# ---------------------------------------------------------------- is it fast?


BOUND_HEAD = ("measured", "value", "must reach", "")


def training(result: Result) -> None:
    """Forward and backward against mRNNTorch's loop and a sparse product a step."""
    from sparse_mrnn import benchmark as b

    units, steps = (300, 10) if result.small else (20_000, 100)
    label = f"{units:,} units, 100 synapses each, batch 32, T = {steps}"
    case = b.Case(label, partial(b.two_regions, units, None, 100), 32, steps, device=result.device)
    found = compare(result, case, b.select_entries(["sparse-mrnn", "mrnntorch", "loop-csr"]))
    result.add(*table_head(*BOUND_HEAD))
    others = (("mrnntorch", "mRNNTorch's loop", 50), ("loop-csr", "torch.sparse a step", 10))
    for other, what, target in others:
        if found[other].training is None:
            result.add(table_row([f"faster than {what}", "not measured", f"{target}x", found[other].skipped]))
        else:
            ratio = b.Ratio.of(found[other].training, found["sparse-mrnn"].training).median
            result.bound(f"{label}: times faster than {what}", ratio, f"at least {target}x", ratio >= target)


def compare(result: Result, case: Any, entries: list[Any]) -> Any:
    """Time entries of `sparse_mrnn.benchmark`, which first compares them with a float64 reference."""
    from sparse_mrnn import benchmark as b

    limits = b.Limits(seconds=20, bytes=0.8 * device_memory(result.device))
    repeats = 2 if result.small else 7
    found = b.measure(case, entries, memory=False, repeats=repeats, limits=limits, progress=print)
    result.add(*table_head(case.label, "forward, ms", "forward and backward, ms", "quartiles"))
    for e in found.entries:
        cells = [e.skipped or "", "", ""]
        if e.forward and e.training:
            quartiles = f"{e.training.q1:.4g} to {e.training.q3:.4g}"
            cells = [f"{e.forward.median:.4g}", f"{e.training.median:.4g}", quartiles]
        result.add(table_row([e.entry, *cells]))
    result.add("")
    return found


def device_memory(device: str) -> float:
    """Bytes of the device's memory."""
    import psutil
    import torch

    on_gpu = device != "cpu"
    return torch.cuda.get_device_properties(device).total_memory if on_gpu else psutil.virtual_memory().total


def step(result: Result) -> None:
    """A step of a simulation of 139,255 units, against the time in which its bytes are copied."""
    import simulation
    import torch

    from sparse_mrnn.simulation.simulator import Simulator

    if result.small:
        simulation.UNITS, simulation.REGIONS, simulation.SYNAPSES = 2_000, 8, 20_000
    net = simulation.network(result.device)
    simulator = Simulator(net, 1, None, event_driven=False)
    simulator.set_factors({"recurrent": {}, "input": {}})
    steps = 50

    def run() -> None:
        for _ in range(steps):
            simulator.stepper.step(inputs=False)

    with torch.no_grad():
        seconds = median_seconds(run, result.device, 10) / steps
    n, nnz = net.graph.n_units, net.rec.nnz
    needed = 8 * nnz + 4 * (n + 1) + 4 * 4 * n  # values and columns, row pointers, x and h read and written
    ideal = needed / copy_bandwidth(result)
    size = f"{n:,} units, {nnz:,} synapses, batch 1"
    copied = f"its {needed / 1e6:.0f} MB are copied in {1e3 * ideal:.4g} ms"
    result.add(f"{size}: {1e3 * seconds:.4g} ms a step; {copied}.", "")
    result.add(*table_head(*BOUND_HEAD), step_s=seconds, ideal_s=ideal)
    over = seconds / ideal
    result.bound("time of a step over that of reading its bytes", over, "at most 1.3x", over <= 1.3)


# ---------------------------------------------------------------- which kernels, and with graphs?


def random_pattern(units: int, fan_in: int, device: str) -> Any:
    """A random pattern without repeats, about so many synapses a unit, and values in float32."""
    import torch

    from sparse_mrnn.ops.pattern import Pattern

    generator = torch.Generator(device).manual_seed(0)
    place = torch.randint(units * units, (units * fan_in,), generator=generator, device=device).unique()
    pattern, _ = Pattern.from_coo(place // units, place % units, (units, units))
    return pattern, torch.randn(pattern.nnz, generator=generator, device=device)


def kernels(result: Result) -> None:
    """Triton's kernels against torch's, shape by shape: the faster one, and its blocks, are written down."""
    shapes = [(300, 10, 4)] if result.small else [(340, 80, 32), (20_000, 100, 1), (20_000, 100, 32)]
    shapes += [] if result.small else [(20_000, 100, 256), (139_255, 108, 1), (139_255, 108, 8)]
    triton: Any = None
    if result.device == "cpu":
        result.add("Triton's kernels are left out: they need a GPU.", "")
    elif missing(("triton",)):
        result.add("Triton's kernels are left out: triton is missing.", "")
    else:
        from sparse_mrnn.ops import triton_kernels as triton
    shape = "units, synapses a unit, columns"
    result.add(*table_head(shape, "product", "torch, ms", "Triton, ms", "blocks", "difference", "faster"))
    choices: dict[str, Any] = {}
    for units, fan_in, batch in shapes:
        for name, by_torch, by_triton, start, sizes in products(result, triton, units, fan_in, batch):
            expected, scratch = start.clone(), start.clone()
            by_torch(expected)
            seconds = median_seconds(partial(by_torch, scratch), result.device, 5)
            label = f"{units:,}, {fan_in}, {batch}"
            cells = [label, name, f"{1e3 * seconds:.4g}"]
            tried: list[tuple[float, float, dict[str, int]]] = []
            for blocks in sizes if triton is not None else []:
                found = start.clone()
                by_triton(found, **blocks)
                worst = float((found - expected).abs().max() / expected.abs().max())
                scratch.copy_(start)
                took = median_seconds(partial(by_triton, scratch, **blocks), result.device, 5)
                tried.append((took, worst, blocks))
            if not tried:
                result.add(table_row([*cells, "", "", "", ""]))
                continue
            took, worst, blocks = min(tried, key=lambda each: each[0])
            faster = f"Triton {seconds / took:.2f}x" if took < seconds else f"torch {took / seconds:.2f}x"
            text = ", ".join(f"{key.lower()} {value}" for key, value in blocks.items())
            result.add(table_row([*cells, f"{1e3 * took:.4g}", text, f"{worst:.1e}", faster]))
            measured = {"torch_s": seconds, "triton_s": took, "blocks": blocks}
            choices[f"{label}: {name}"] = {"kernels": "triton" if took < seconds else "torch", **measured}
            result.add(choices=choices)


def products(
    result: Result, triton: Any, units: int, fan_in: int, batch: int
) -> list[tuple[str, Callable[[Any], None], Callable[..., None], Any, list[dict[str, int]]]]:
    """Name, torch's and Triton's function, what they change, and the blocks to try, of each product."""
    import torch

    from sparse_mrnn.ops.products import device_products

    pattern, values = random_pattern(units, fan_in, result.device)
    arrays = pattern.crow, pattern.col, values
    h, g, x = (torch.rand(units, batch, device=result.device) for _ in range(3))
    spikes = (torch.rand_like(h) < 0.02).float()
    into, order = pattern.transposed
    by_source = into.crow, into.col, values.index_select(0, order)
    grad, tonic, activity = torch.zeros_like(values), torch.rand(units, device=result.device), h.clone()

    def product(y: Any, source: Any = h) -> None:
        device_products.add_product(y, pattern, values, source, beta=0.9, alpha=0.1)

    def leaky(y: Any) -> None:
        product(y)
        y.add_(tonic[:, None])
        torch.clamp(y, min=0, out=activity)

    def gradient(y: Any) -> None:
        device_products.add_sampled(y, pattern, g, h)

    def triton_product(y: Any, **blocks: int) -> None:
        triton.add_product(y, *arrays, h, 0.9, 0.1, **blocks)

    def triton_leaky(y: Any, **blocks: int) -> None:
        triton.leaky_step(y, activity, *arrays, h, 0.1, tonic, "relu", **blocks)

    def triton_gradient(y: Any, **blocks: int) -> None:
        triton.add_sampled(y, *arrays[:2], g, h, **blocks)

    def triton_spikes(y: Any) -> None:
        triton.add_spikes(y.mul_(0.9), *by_source, spikes, 0.1)

    several, of_gradient = [{}], [{}]
    if triton is not None:
        own = triton.blocks(pattern.nnz, units, batch)
        several = [own | {"SYNAPSES": s, "ROWS": r} for s in (8, 16, 32, 64) for r in (1, 4)]
        several = [blocks for blocks in several if blocks["SYNAPSES"] * blocks["TRIALS"] <= 4096]
        of_gradient = [{"ROWS": 1, "SYNAPSES": s, "COLUMNS": c} for s in (16, 32) for c in (16, 32, 64)]
    return [
        ("W h", product, triton_product, x, several),
        ("leaky step", leaky, triton_leaky, x, several),
        ("gradient of W", gradient, triton_gradient, grad, of_gradient),
        ("spikes, 2%", partial(product, source=spikes), triton_spikes, x, [{}]),
    ]


def graphs(result: Result) -> None:
    """A step of a simulation and a training step, launched kernel by kernel and as a CUDA graph."""
    from sparse_mrnn import benchmark as b
    from sparse_mrnn.ops.products import device_products

    on_gpu = result.device != "cpu"
    chosen = [k for k in device_products.KERNELS if k == "torch" or (on_gpu and not missing(("triton",)))]
    if not on_gpu:
        result.add("CUDA graphs and Triton's kernels are left out: they need a GPU.", "")
    sizes = [(300, 10, 5)] if result.small else [(340, 80, 100), (20_000, 100, 100)]
    columns = "one by one, ms", "as a graph, ms", "times faster", "difference"
    result.add(*table_head("what", "kernels", *columns))
    for units, fan_in, steps in sizes:
        case = b.Case("", partial(b.two_regions, units, None, fan_in), device=result.device)
        for kernel in chosen:
            with device_products.using(kernel):
                for what, measured in (
                    (f"{units:,} units, a step of a simulation, batch 1", simulated_steps),
                    (f"{units:,} units, forward and backward, batch 32, T = {steps}", trained_steps),
                ):
                    try:
                        eager, graphed, difference = measured(case.network("auto"), steps, result, on_gpu)
                    except Exception as error:  # the other rows are worth having, whatever is wrong here
                        why = f"**failed**: {type(error).__name__}: {str(error).splitlines()[0]}"
                        result.add(table_row([what, kernel, "", "", "", why]))
                        continue
                    cells = [what, kernel, f"{1e3 * eager:.4g}"]
                    more = ["", "", ""]
                    if graphed is not None:
                        more = [f"{1e3 * graphed:.4g}", f"{eager / graphed:.2f}", f"{difference:.1e}"]
                    result.add(table_row([*cells, *more]), **{f"{what}, {kernel}": [eager, graphed]})


Compared = tuple[float, float | None, float]
"""Seconds one by one, as a graph, and how the results differ."""


def simulated_steps(net: Any, steps: int, result: Result, with_graph: bool) -> Compared:
    """Seconds of a step of a simulation, alone and in a graph, and how their states differ."""
    from sparse_mrnn.ops.replay import ReplayedSteps, whole_bands
    from sparse_mrnn.simulation.simulator import Simulator

    one, other = (Simulator(net, 1, None, event_driven=False) for _ in range(2))
    for simulator in (one, other):
        simulator.set_factors({"recurrent": {}, "input": {}})
    count = whole_bands(one.stepper, steps)

    def run() -> None:
        for _ in range(count):
            one.stepper.step()

    run()
    if not with_graph:
        return median_seconds(run, result.device, 5) / count, None, 0.0
    band = ReplayedSteps(other.stepper, count)
    band.run()
    x, other_x = one.stepper.x, other.stepper.x
    difference = float((x - other_x).abs().max() / x.abs().max().clamp_min(1e-30))
    times = [median_seconds(each, result.device, 5) / count for each in (run, band.run)]
    return times[0], times[1], difference


def trained_steps(net: Any, steps: int, result: Result, with_graph: bool) -> Compared:
    """Seconds of forward and backward, alone and in a graph, and how the gradients of the weights differ."""
    import torch

    x0 = torch.rand(32, net.graph.n_units, generator=torch.Generator().manual_seed(0)).to(result.device)
    inp = torch.zeros(32, steps, net.layout("input").n, device=result.device)

    def run(call: Any = net) -> None:
        net.zero_grad()
        call(inp, x0)[1].square().mean().backward()

    run()
    expected = net.rec.values.grad.clone()
    if not with_graph:
        return median_seconds(run, result.device, 5), None, 0.0
    eager = median_seconds(run, result.device, 5)
    graphed = torch.cuda.make_graphed_callables(net, (inp, x0))
    run(graphed)
    worst = (net.rec.values.grad - expected).abs().max()
    difference = float(worst / expected.abs().max().clamp_min(1e-30))
    return eager, median_seconds(lambda: run(graphed), result.device, 5), difference


def compiled(result: Result) -> None:
    """340 units in eight regions against the dense loop whose step torch.compile has compiled."""
    import torch
    from training import EIGHT, blocks

    from sparse_mrnn import benchmark as b
    from sparse_mrnn.benchmark.entries import LoopDense

    class CompiledLoop(LoopDense):
        """The dense loop, its step compiled."""

        name, about = "loop-dense-compiled", "the dense loop, its step compiled by torch.compile"

        def build(self) -> None:
            super().build()
            self.step = torch.compile(self.step)

    entries = b.select_entries(["sparse-mrnn", "backend-dense", "loop-dense"])
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=result.device))
        entries.append(CompiledLoop)
    except Exception as error:  # whatever the compiler raises where it is incomplete
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        result.add(f"torch.compile does not work here: {why}", "")
    steps = 5 if result.small else 100
    label = f"340 units in 8 regions, half of the pairs full, batch 32, T = {steps}"
    case = b.Case(label, partial(blocks, EIGHT, 0.5), 32, steps, device=result.device)
    found = compare(result, case, entries)
    if CompiledLoop in entries and found[CompiledLoop.name].training is not None:
        ratio = b.Ratio.of(found[CompiledLoop.name].training, found["sparse-mrnn"].training).median
        result.add(*table_head(*BOUND_HEAD))
        what = "340 units: time of the compiled dense loop over that of sparse-mrnn"
        result.bound(what, ratio, "at least 1x", ratio >= 1)


def million(result: Result) -> None:
    """A million units and 100 million synapses, trained for some steps of Adam."""
    import torch

    from sparse_mrnn import benchmark as b

    units = 2_000 if result.small else 1_000_000
    start = time.perf_counter()
    net = b.Case("", partial(b.two_regions, units, None, 100), device=result.device).network("auto")
    size = f"{units:,} units, {net.rec.nnz:,} synapses, batch 8, T = 20"
    result.add(f"{size}: built in {time.perf_counter() - start:.1f} s.", "")
    x0 = torch.rand(8, units, generator=torch.Generator().manual_seed(0)).to(result.device)
    inp, adam = torch.zeros(8, 20, 0, device=result.device), torch.optim.Adam(net.parameters(), lr=1e-3)
    result.add(*table_head("step of Adam", "seconds", "loss"))
    losses = []
    for k in range(4):
        start = time.perf_counter()
        adam.zero_grad()
        loss = net(inp, x0)[1].square().mean()
        loss.backward()
        adam.step()
        losses.append(loss.item())  # waits for the device
        seconds = time.perf_counter() - start
        result.add(table_row([k + 1, f"{seconds:.3f}", f"{losses[-1]:.6g}"]), losses=losses)
    if result.device != "cpu":
        peak = torch.cuda.max_memory_allocated(result.device)
        result.add("", f"Peak memory of the device: {peak / 1e9:.1f} GB.", peak_bytes=peak)
    result.add("", *table_head(*BOUND_HEAD))
    fallen = losses[-1] / losses[0]
    result.bound(f"{size}: loss at the end over that at the beginning", fallen, "below 1", fallen < 1)


def profile(result: Result) -> None:
    """Operators of a training step by their own time, and a trace for chrome://tracing or Perfetto."""
    import torch
    from torch.profiler import ProfilerActivity

    from sparse_mrnn import benchmark as b
    from sparse_mrnn.benchmark.problem import Problem

    units, steps = (300, 10) if result.small else (20_000, 100)
    case = b.Case("", partial(b.two_regions, units, None, 100), 32, steps, device=result.device)
    entry = b.select_entries(["sparse-mrnn"])[0](Problem(case))
    for _ in range(3):
        entry.run(True)
    gpu = result.device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with torch.profiler.profile(activities=activities) as prof:
        entry.run(True)
        if gpu:
            torch.cuda.synchronize(result.device)
    table = prof.key_averages().table(sort_by=f"self_{'cuda' if gpu else 'cpu'}_time_total", row_limit=25)
    trace = result.path.with_name("trace.json")
    prof.export_chrome_trace(str(trace))
    size = f"{units:,} units, 100 synapses each, batch 32, T = {steps}"
    title = f"One forward and backward of {size}; {trace.name} has all."
    result.add(title, "", "```text", table, "```")


def main() -> None:
    """Run one section."""
    parser = arguments(__doc__)
    parser.add_argument("section")
    parser.add_argument("result", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} sees no CUDA device (torch.cuda.is_available() is False).")
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    globals()[options.section](Result(options.result, options.device, options.small))


if __name__ == "__main__":
    main()
