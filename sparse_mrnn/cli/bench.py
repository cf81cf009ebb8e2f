"""sparse-mrnn bench."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer import Argument, Option

from sparse_mrnn.cli.common import app, check_out, command, err, out, report_errors, say
from sparse_mrnn.cli.networks import load_network
from sparse_mrnn.errors import BenchmarkError

if TYPE_CHECKING:
    from sparse_mrnn.benchmark import Case, CaseResult
    from sparse_mrnn.declaration.graph import RegionGraph

SIZES, DENSITY, DENSITIES = [250, 500, 1000, 2000, 4000], 0.05, [0.01, 0.03, 0.1, 0.3, 1]
"""Sizes and densities that are measured without a network; the densities at the middle one of the sizes."""
CONFIG_HELP = "A JSON configuration or a shipped example; without one, random networks."


@command(app, examples=(
    "bench celegans",
    "bench --sizes 500,1000,2000 --fan-in 100 --out results",
))
def bench(
    config: Annotated[str | None, Argument(metavar="[CONFIG]", help=CONFIG_HELP)] = None,
    sizes: Annotated[str | None, Option(help="Units of a ladder, as 500,1000,2000.")] = None,
    density: Annotated[float | None, Option(help="Of the random networks.")] = None,
    fan_in: Annotated[int | None, Option(help="Synapses a unit, instead of a density.")] = None,
    densities: Annotated[str | None, Option(help="A ladder over density, as 0.01,0.1,1.")] = None,
    ladders: Annotated[bool, Option("--ladders/--alone", help="Also other sizes and densities.")] = True,
    batch: Annotated[int, Option(help="Trials.")] = 32,
    steps: Annotated[int, Option(help="Time steps.")] = 20,
    backward: Annotated[bool, Option("--backward/--forward-only", help="Also measure training.")] = True,
    memory: Annotated[bool, Option("--memory/--no-memory", help="Measure peak memory.")] = True,
    entries: Annotated[str | None, Option(help="As sparse-mrnn,loop-dense; default: all.")] = None,
    repeats: Annotated[int, Option(help="Rounds, in a new random order each.")] = 7,
    patience: Annotated[float, Option(help="Seconds more, a case, to tell sparse and dense apart.")] = 15.0,
    seed: Annotated[int, Option(help="Makes synapses, weights and inputs.")] = 0,
    device: Annotated[str | None, Option(help="cpu, cuda, ...; default: CUDA if there is one.")] = None,
    max_seconds: Annotated[float, Option(help="Leave out an entry whose one run would take longer.")] = 10.0,
    max_memory: Annotated[float | None, Option(help="... or more GB; default: a quarter.")] = None,
    out_path: Annotated[Path | None, Option("--out", help="Folder for figures and pictures.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace results in that folder.")] = False,
) -> None:
    """Dense or sparse? Time and memory of every way to run a network, and where the crossover lies."""
    with report_errors():
        from sparse_mrnn import benchmark as b
        from sparse_mrnn.benchmark import report

        results_file = None if out_path is None else out_path / "results.json"
        check_out(results_file, overwrite=overwrite)
        if max_seconds <= 0 or (max_memory is not None and max_memory <= 0):
            raise BenchmarkError("--max-seconds and --max-memory must be positive.")
        if patience < 0:
            raise BenchmarkError("--patience must not be negative.")
        names = None if entries is None else [name.strip() for name in entries.split(",")]
        selected = b.select_entries(names)
        device = b.usable_device(device)
        run: dict[str, Any] = dict(batch=batch, steps=steps, seed=seed, device=device)
        ladder = (_numbers("--sizes", sizes, int), _numbers("--densities", densities, float))
        if config is None and not ladders:
            raise BenchmarkError("--alone measures a CONFIG alone; name one.")
        if config is None:
            cases = _random(*ladder, density=density, fan_in=fan_in, run=run)
        elif density is not None or fan_in is not None:
            raise BenchmarkError("--density and --fan-in are for random networks; use --densities.")
        else:
            cases = [_network(config, run)]
            cases += _variants(cases[0], *ladder) if ladders else []
        limits = b.Limits(max_seconds, patience)
        if max_memory is not None:
            limits = replace(limits, bytes=1e9 * max_memory)
        machine = b.describe_machine(device)
        say(b.machine_line(machine))
        results: list[CaseResult] = []
        stop: KeyboardInterrupt | BenchmarkError | None = None
        try:
            with err.status("starting") as status:
                how: dict[str, Any] = dict(training=backward, repeats=repeats, limits=limits)
                how["progress"] = lambda text: status.update(escape(text))
                for case in cases:
                    how["memory"] = memory and case.group != "density"
                    results.append(b.measure(case, selected, **how))
        except (KeyboardInterrupt, BenchmarkError) as problem:  # what is measured by then is kept
            stop = problem
            if results or isinstance(stop, KeyboardInterrupt):
                err.print(f"[yellow]stopped; {len(results)} of {len(cases)} cases are measured[/]")
        _show(results)
        if out_path is not None and results:
            settings: dict[str, Any] = dict(config=config and Path(config).stem, backward=backward, seed=seed)
            settings |= dict(repeats=repeats, patience=patience, max_seconds=max_seconds)
            settings["max_memory_gb"] = limits.bytes / 1e9
            for path in report.write(results, machine, settings, out_path):
                say(f"wrote {path}", wrap=False)
        if isinstance(stop, BenchmarkError):
            raise stop
        if stop is not None:
            raise typer.Exit(130)


def _show(results: list[CaseResult]) -> None:
    from sparse_mrnn.benchmark import report
    from sparse_mrnn.benchmark.advice import advice

    tables = [report.case_table(result) for result in results if result.group == "network"]
    for group in ("units", "density"):
        tables += report.ladder_tables(results, group)
    for table in tables:
        out.print(table)
    for reason in report.skipped(results):
        out.print(escape(reason), style="dim", highlight=False)
    if (warning := report.unsteady(results)) is not None:
        out.print(f"[yellow]{warning}[/]", highlight=False)
    if results:
        out.print(f"[bold]{escape(advice(results))}[/]", highlight=False)


def _numbers(option: str, text: str | None, kind: type[int] | type[float]) -> list[Any] | None:
    if text is None:
        return None
    try:
        found = sorted({kind(part.replace("_", "")) for part in text.split(",")})
    except ValueError:
        what = "whole numbers, as 500,1000" if kind is int else "numbers, as 0.01,0.1,1"
        raise BenchmarkError(f"{option} {text!r}: give {what}.") from None
    if found[0] <= 0 or (kind is float and found[-1] > 1):
        what = "units must be positive" if kind is int else "a density is above 0 and at most 1"
        raise BenchmarkError(f"{option} {text!r}: {what}.")
    return found


def _random(
    sizes: list[int] | None, densities: list[float] | None, *, density: float | None, fan_in: int | None,
    run: dict[str, Any],
) -> list[Case]:
    """Random networks of several sizes, and one of the sizes at several densities."""
    from sparse_mrnn.benchmark import Case, two_regions

    if density is None and fan_in is None:
        density = DENSITY
    if densities is None:
        densities = DENSITIES if sizes is None else []
    sizes = SIZES if sizes is None else sizes
    kind = f"density {density:g}" if density is not None else f"{fan_in} synapses a unit"
    made = [(f"{n:,} units, {kind}", partial(two_regions, n, density, fan_in), "units") for n in sizes]
    n = sizes[len(sizes) // 2]
    made += [(f"{n:,} units, density {d:g}", partial(two_regions, n, d), "density") for d in densities]
    for _, make, _ in made:
        make()  # raises before anything is measured
    return [Case(label, make, group=group, **run) for label, make, group in made]


def _network(config: str, run: dict[str, Any]) -> Case:
    from sparse_mrnn.benchmark import Case

    named = load_network(config)
    names = ("model", "activation", "dt", "tau", "spectral_radius")
    dynamics = {name: getattr(named.settings, name) for name in names}
    if not any(named.graph.projections("recurrent")):
        raise BenchmarkError(f"{config} has no recurrent projections; there is nothing to compare.")
    return Case(Path(config).stem, partial(graph_of, config), **dynamics, **run)


def _variants(case: Case, sizes: list[int] | None, densities: list[float] | None) -> list[Case]:
    from sparse_mrnn.benchmark import BlockModel, variants

    if sizes is None and densities is None:
        graph = case.make()
        here = BlockModel.of(graph).mean_density
        several = (round(graph.n_units * factor) for factor in (0.25, 0.5, 2, 4))
        sizes = [n for n in several if n >= len(graph.regions())]
        densities = [d for d in DENSITIES if not 0.8 < d / here < 1.25]
    return variants(case, sizes or [], densities or [])


def graph_of(config: str) -> RegionGraph:
    """Return the graph that a user names; processes that measure memory call it again.

    A dense network has a weight matrix and nothing else, so electrical synapses are left out.
    """
    return load_network(config).graph.without_electrical()
