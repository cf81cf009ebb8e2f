"""sparse-mrnn info."""

from __future__ import annotations

from typing import Annotated

from rich.filesize import decimal
from typer import Option

from sparse_mrnn.cli.common import Network, app, load_network, out, report_errors, say


@app.command()
def info(
    config: Network,
    batch: Annotated[int, Option(min=1, help="Batch size of the estimate.")] = 1,
    steps: Annotated[int, Option(min=1, help="Time steps of the estimate.")] = 100,
) -> None:
    """Show regions, projections, realised density and the memory a run needs."""
    with report_errors():
        from sparse_mrnn.simulation import build_network

        graph, settings = load_network(config)
        net = build_network(graph, settings.model_copy(update={"spectral_radius": None}), "cpu")
        out.print(graph)
        recurrent, inputs = net.weight_matrices()
        n = recurrent.shape[0]
        density = f"realised density {recurrent.nnz / n**2:.3%}, {recurrent.nnz / n:.1f} per unit"
        say(f"recurrent synapses: {recurrent.nnz:,} ({density})")
        say(f"input synapses: {inputs.nnz:,} from {inputs.shape[1]} channels")
        for what, training in (("simulating", False), ("training", True)):
            estimate = net.memory_estimate(batch, steps, training)
            say(f"memory for {what} {steps} steps, batch {batch}: {decimal(estimate.total)}")
        say(f"the same weights dense: {decimal(4 * n * n)}, and more for mask and sign")
