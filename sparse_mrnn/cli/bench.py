"""sparse-mrnn bench."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_mrnn.cli.common import app, err, load_network, out, plain, report_errors

if TYPE_CHECKING:
    from sparse_mrnn.benchmark import Case
    from sparse_mrnn.graph import RegionGraph

SIZES, DENSITY, DENSITIES = "250,500,1000,2000,4000", 0.05, "0.01,0.03,0.1,0.3,1"
"""What is measured without a network; the densities at the middle one of the sizes."""


@app.command()
def bench(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="A JSON configuration or a shipped example; without one, random networks.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help="Units of a ladder, as 500,1000,2000.")] = None,
    density: Annotated[float | None, typer.Option(help="Density of the random networks.")] = None,
    fan_in: Annotated[int | None, typer.Option(help="Synapses a unit of the random networks, instead of a density.")] = None,
    densities: Annotated[str | None, typer.Option(help="A ladder over density, as 0.01,0.1,1.")] = None,
    ladders: Annotated[bool, typer.Option("--ladders/--alone", help="Also other sizes and densities, or CONFIG alone.")] = True,
    batch: Annotated[int, typer.Option(help="Trials.")] = 32,
    steps: Annotated[int, typer.Option(help="Time steps.")] = 20,
    backward: Annotated[bool, typer.Option("--backward/--forward-only", help="Measure forward and backward too.")] = True,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory, each in a new process.")] = True,
    entries: Annotated[str | None, typer.Option(help="Which ways to run it, as ours,loop-dense; default: all.")] = None,
    repeats: Annotated[int, typer.Option(help="Repeats, in a new random order each.")] = 7,
    seed: Annotated[int, typer.Option(help="Makes synapses, weights and inputs.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: CUDA where there is one.")] = None,
    max_seconds: Annotated[float, typer.Option(help="Leave out an entry whose one run would take longer.")] = 10.0,
    max_memory: Annotated[float | None, typer.Option(help="... or more GB; default: a quarter of the machine's memory.")] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="Folder for results.json, results.csv, crossover.png.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results in that folder.")] = False,
) -> None:
    """Dense or sparse? Time and memory of every way to run a network, and where the crossover lies."""
    with report_errors():
        from sparse_mrnn import benchmark as b
        from sparse_mrnn.benchmark import report
        from sparse_mrnn.benchmark.advice import advice
        from sparse_mrnn.errors import BenchmarkError

        if out_path is not None and (out_path / "results.json").exists() and not force:
            raise BenchmarkError(f"{out_path} already holds results; choose another folder or add --force.")
        if max_seconds <= 0 or (max_memory is not None and max_memory <= 0):
            raise BenchmarkError("--max-seconds and --max-memory must be positive.")
        which = b.chosen(_names(entries))
        device = b.usable_device(device)
        run: dict[str, Any] = dict(batch=batch, steps=steps, seed=seed, device=device)
        grid = (_numbers("--sizes", sizes, int), _numbers("--densities", densities, float))
        if config is None:
            cases = _random(*grid, density, fan_in, ladders, run)
        elif density is not None or fan_in is not None:
            raise BenchmarkError("--density and --fan-in are for random networks; leave CONFIG out, or use --densities.")
        else:
            cases = _network(config, *grid, ladders, run)
        limits = b.Limits(max_seconds) if max_memory is None else b.Limits(max_seconds, 1e9 * max_memory)
        settings = dict(
            config=None if config is None else Path(config).stem,
            backward=backward, repeats=repeats, seed=seed, max_seconds=max_seconds, max_memory_gb=limits.bytes / 1e9,
        )
        machine = b.machine_facts(device)
        out.print(b.machine_line(machine), highlight=False)
        results: list[b.CaseResult] = []
        stop: KeyboardInterrupt | BenchmarkError | None = None
        try:
            with err.status("starting") as status:
                for case in cases:
                    result = b.measure(
                        case, which, training=backward, memory=memory and case.group != "density", repeats=repeats, limits=limits,
                        progress=lambda text: status.update(plain_text(text)),
                    )
                    results.append(result)
        except (KeyboardInterrupt, BenchmarkError) as problem:  # what is measured by then is shown and written
            stop = problem
            if results or isinstance(stop, KeyboardInterrupt):
                err.print(f"[yellow]stopped; {len(results)} of {len(cases)} cases are measured[/]")
        for result in results:
            if result.group == "network":
                out.print(report.case_table(result))
        for group in ("units", "density"):
            for table in report.ladder_tables(results, group):
                out.print(table)
        for reason in report.skipped(results):
            out.print(plain_text(reason), style="dim", highlight=False)
        if (warning := report.unsteady(results)) is not None:
            out.print(f"[yellow]{warning}[/]", highlight=False)
        if results:
            out.print(f"[bold]{plain_text(advice(results))}[/]", highlight=False)
        if out_path is not None and results:
            for path in report.write(results, machine, settings, out_path):
                out.print(f"wrote {path}", soft_wrap=True, highlight=False)
        if isinstance(stop, BenchmarkError):
            raise stop
        if stop is not None:
            raise typer.Exit(130)


def plain_text(text: str) -> str:
    """Text with nothing that rich would take for markup."""
    return plain(ValueError(text))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def _numbers(option: str, text: str | None, kind: type[int] | type[float]) -> list[Any] | None:
    from sparse_mrnn.errors import BenchmarkError

    if text is None:
        return None
    try:
        found = sorted({kind(part.replace("_", "")) for part in text.split(",")})
    except ValueError:
        what = "whole numbers, as 500,1000" if kind is int else "numbers, as 0.01,0.1,1"
        raise BenchmarkError(f"{option} {text!r}: give {what}.") from None
    if found[0] <= 0 or (kind is float and found[-1] > 1):
        raise BenchmarkError(f"{option} {text!r}: {'units must be positive' if kind is int else 'a density is above 0 and at most 1'}.")
    return found


def _random(
    sizes: list[int] | None, densities: list[float] | None, density: float | None, fan_in: int | None, ladders: bool, run: dict[str, Any]
) -> list[Case]:
    from sparse_mrnn.benchmark import density_ladder, ladder
    from sparse_mrnn.errors import BenchmarkError

    if not ladders:
        raise BenchmarkError("--alone measures a CONFIG alone; name one.")
    given = sizes is not None or densities is not None
    if density is None and fan_in is None:
        density = DENSITY
    chosen: list[int] = sizes if sizes is not None else _numbers("--sizes", SIZES, int) or []
    cases = ladder(chosen, density, fan_in, **run)
    if densities is None and not given:
        densities = _numbers("--densities", DENSITIES, float)
    return cases + density_ladder(chosen[len(chosen) // 2], densities or [], **run)


def _network(config: str, sizes: list[int] | None, densities: list[float] | None, ladders: bool, run: dict[str, Any]) -> list[Case]:
    from sparse_mrnn.benchmark import BlockModel, Case, relatives
    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.errors import BenchmarkError

    settings = load_network(config)[1] or SimulationConfig()
    case = Case(
        Path(config).stem, partial(graph_of, config), model=settings.model, activation=settings.activation, dt=settings.dt,
        tau=settings.tau, spectral_radius=settings.spectral_radius, **run,
    )
    graph = case.make()
    if not graph.regions() or not any(graph.projections("recurrent")):
        raise BenchmarkError(f"{config} has no recurrent projections; there is nothing to compare.")
    if not ladders:
        return [case]
    if sizes is None and densities is None:
        here = BlockModel.of(graph).mean_density
        sizes = [n for n in (round(graph.n_units * factor) for factor in (0.25, 0.5, 2, 4)) if n >= len(graph.regions())]
        densities = [d for d in _numbers("--densities", DENSITIES, float) or [] if not 0.8 < d / here < 1.25]
    return [case, *relatives(case, sizes or [], densities or [])]


def graph_of(config: str) -> RegionGraph:
    """The graph of a configuration, example or imported network; called again in the processes that measure memory."""
    return load_network(config)[0]
