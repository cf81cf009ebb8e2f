"""sparse-mrnn info."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from rich.filesize import decimal
from typer import Option

from sparse_mrnn.cli.common import Json, Network, app, command, out, print_json, report_errors, say
from sparse_mrnn.cli.networks import load_network


@command(app, examples=(
    "info celegans",
    "info net.json --batch 32 --steps 500 --json",
    "info net.json --ranks 8",
))
def info(
    config: Network,
    batch: Annotated[int, Option(min=1, help="Batch size of the estimate.")] = 1,
    steps: Annotated[int, Option(min=1, help="Time steps of the estimate.")] = 100,
    ranks: Annotated[int | None, Option(min=1, help="Estimate so many processes; draw nothing.")] = None,
    partition: Annotated[str, Option(help="With --ranks: balanced, metis or regions.")] = "balanced",
    as_json: Json = False,
) -> None:
    """Show regions, projections, realised density and the memory a run needs."""
    with report_errors():
        named = load_network(config)
        if ranks is not None:
            from sparse_mrnn.distributed import estimate as estimate_ranks

            itemsize, dt = 8 if named.settings.dtype == "float64" else 4, named.settings.dt
            found = estimate_ranks(named.graph, ranks, partition, dt=dt, batch=batch, itemsize=itemsize)
            out.print(found.table())
            if as_json:
                print_json(asdict(found))
            return
        net = named.build("cpu", spectral_radius=None)
        out.print(named.graph)
        recurrent, inputs = net.weight_matrices()
        n = recurrent.shape[0]
        density = f"realised density {recurrent.nnz / n**2:.3%}, {recurrent.nnz / n:.1f} per unit"
        say(f"recurrent synapses: {recurrent.nnz:,} ({density})")
        say(f"input synapses: {inputs.nnz:,} from {inputs.shape[1]} channels")
        memory = {
            what: net.memory_estimate(batch, steps, training).total
            for what, training in (("simulating", False), ("training", True))
        }
        for what, total in memory.items():
            say(f"memory for {what} {steps} steps, batch {batch}: {decimal(total)}")
        say(f"the same weights dense: {decimal(4 * n * n)}, and more for mask and sign")
        if as_json:
            graph = named.graph
            print_json({
                "name": graph.name,
                "regions": {region.name: region.n for region in graph.regions()},
                "inputs": {region.name: region.n for region in graph.regions("input")},
                "units": n,
                "projections": sum(1 for _ in graph.projections()),
                "recurrent_synapses": recurrent.nnz,
                "input_synapses": inputs.nnz,
                "density": recurrent.nnz / n**2,
                "batch": batch,
                "steps": steps,
                "memory_bytes": memory,
            })
