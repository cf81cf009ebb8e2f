"""sparse-mrnn info."""

from __future__ import annotations

from typing import Annotated

from rich.filesize import decimal
from typer import Option

from sparse_mrnn.cli.common import Network, app, command, out, report_errors, say
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
) -> None:
    """Show regions, projections, realised density and the memory a run needs."""
    with report_errors():
        named = load_network(config)
        if ranks is not None:
            from sparse_mrnn.distributed import estimate as estimate_ranks

            itemsize, dt = 8 if named.settings.dtype == "float64" else 4, named.settings.dt
            found = estimate_ranks(named.graph, ranks, partition, dt=dt, batch=batch, itemsize=itemsize)
            out.print(found.table())
            return
        net = named.build("cpu", spectral_radius=None)
        out.print(named.graph)
        recurrent, inputs = net.weight_matrices()
        n = recurrent.shape[0]
        density = f"realised density {recurrent.nnz / n**2:.3%}, {recurrent.nnz / n:.1f} per unit"
        say(f"recurrent synapses: {recurrent.nnz:,} ({density})")
        say(f"input synapses: {inputs.nnz:,} from {inputs.shape[1]} channels")
        for what, training in (("simulating", False), ("training", True)):
            estimate = net.memory_estimate(batch, steps, training)
            say(f"memory for {what} {steps} steps, batch {batch}: {decimal(estimate.total)}")
        say(f"the same weights dense: {decimal(4 * n * n)}, and more for mask and sign")
