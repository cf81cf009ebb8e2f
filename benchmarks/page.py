"""Measure everything and write a page of the documentation with its figure.

    python benchmarks/page.py --write docs/benchmarks.md [--device cuda]
"""

from __future__ import annotations

import sys
from pathlib import Path

import large_nets
import library
import torch
import training
from common import arguments, progress

from sparse_mrnn import benchmark as b
from sparse_mrnn.benchmark.advice import advice
from sparse_mrnn.benchmark.plots import plot_crossover

SIZES, DENSITY = [125, 250, 500, 1000, 2000, 4000], 0.05
DENSITIES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
ENTRIES = "sparse-mrnn backend-csr backend-hybrid backend-dense mrnntorch loop-dense loop-coo loop-csr"
GPU_MISSING = "no CUDA device here: torch.cuda.is_available() is False. Nothing was measured or written."


def crossover(device: str, figure: Path) -> str:
    """Measure two ladders, draw them, and say what they mean."""
    entries, how = b.select_entries(ENTRIES.split()), dict(repeats=7, progress=progress)
    cases = library.ladder(SIZES, DENSITY, device=device)
    cases += library.density_ladder(1000, DENSITIES, device=device)
    results = [b.measure(case, entries, memory=case.group == "units", **how) for case in cases]
    plot_crossover(results).savefig(figure, dpi=80)
    return advice(results)


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", type=Path, required=True)
    options = parser.parse_args()
    gpu = torch.device(options.device).type == "cuda"
    if gpu and not torch.cuda.is_available():
        sys.exit(GPU_MISSING)
    figure = options.write.parent / "figures" / ("crossover_gpu.png" if gpu else "crossover.png")
    sections = [] if gpu else [LARGE.format(table=large_nets.table())]
    text, bounds = training.table(options.device)
    sections.append(TRAINING.format(table=text.partition("\n\n")[0], summary=summary(bounds)))
    sections.append(CROSSOVER.format(advice=crossover(options.device, figure), figure=figure.name))
    sections.append(DETAILS.format(table=text.partition("\n\n")[2]))
    sections.append("" if gpu else END)
    title = "# Benchmarks on a GPU" if gpu else "# Benchmarks"
    line = b.machine_line(b.describe_machine(options.device))
    made = HEAD.format(title=title, command="make bench-gpu" if gpu else "make bench", machine=line)
    if not gpu:
        made += "\n\nA GPU: not measured here; `make bench-gpu` runs the same cases on one."
    options.write.write_text("\n\n".join([made, *filter(None, sections)]) + "\n", encoding="utf-8")
    print(options.write.read_text(encoding="utf-8"))


def summary(bounds: list[training.Bound]) -> str:
    """How many bounds are met."""
    bounds = [bound for bound in bounds if bound.target is not None]
    unknown = [bound for bound in bounds if bound.value is None]
    missed = [bound for bound in bounds if bound.missed]
    met = len(bounds) - len(unknown) - len(missed)
    text = f"{met} of {len(bounds)} bounds are met, {len(missed)} are missed"
    if unknown:
        text += f", and {len(unknown)} were not measured, for an entry they need was left out"
    return text + "."


HEAD = """{title}

Made by `{command}`, which compares what every entry computes, states and gradients, with a float64
reference before it is timed.

Measured on: {machine}."""

LARGE = """## Building and simulating

`benchmarks/large_nets.py`. Each case runs in a process of its own, batch 1, float32, with every state kept;
figures are medians of three runs. The last column is the process's peak resident memory less that of one
which only imports torch: the network, its states x and h over all steps, and what building needed.

{table}

Building includes the declaration. The last case is about the number of projections: they are sampled
together, rule by rule, so 100,000 of them take seconds."""

TRAINING = """## Training and inference

`benchmarks/training.py`: forward and backward of the mean of h squared, float32, tanh, batch 32 unless the
line says otherwise; the bare times are [below](#every-entry). A ratio is the other's time over that of
sparse-mrnn. "The dense loop" is mRNNTorch's masked update with its states stacked at the end; mRNNTorch 0.1
writes them into arrays made beforehand, which is slower under autograd. Both are written anew after its
source. A step of one trial is bound by reading the weights, and since csr reads 8 bytes a synapse and
hybrid 4, twice as fast is about as much as there is. Lines without a bound are there to compare with; a
step of `forward` writes all states to new memory, which a step of a simulation does not.

{table}

{summary}"""

CROSSOVER = """## Where the crossover lies

Random networks of two regions: at 5% density over the number of units, and at 1,000 units over density.

![Time and memory against units, and the speed-up over dense against density](figures/{figure})

{advice}

[Dense or sparse?](compare.md) measures your own network in the same way."""

DETAILS = """## Every entry

Medians, and the quartiles of forward and backward. Memory is the peak of a new process above what it held
before; the entries are explained in [Dense or sparse?](compare.md#what-is-compared).

{table}"""

END = """`benchmarks/backends.py` measures where a dense backend is faster; the figures are in
[a decision](decisions/0002-backends.md)."""


if __name__ == "__main__":
    main()
