"""sparse-mrnn info."""

from __future__ import annotations

from typing import Annotated

import typer

from sparse_mrnn.cli.common import ConfigArgument, app, load_network, out, report_errors, settings_of, size


@app.command()
def info(
    config: ConfigArgument,
    batch: Annotated[int, typer.Option(help="Batch size of the estimate.")] = 1,
    steps: Annotated[int, typer.Option(help="Time steps of the estimate.")] = 100,
) -> None:
    """Show regions, projections, realised density and the memory a run needs."""
    with report_errors():
        from sparse_mrnn.simulation import build_network

        graph, simulation = load_network(config)
        settings = settings_of(simulation)
        net = build_network(graph, settings.model_copy(update={"spectral_radius": None}), "cpu")
        out.print(graph)
        if net.rec is None or net.inp is None:
            return
        n, inputs = net.rec.shape[0], net.inp.shape[1]
        density = net.rec.nnz / n**2
        out.print(f"recurrent synapses: {net.rec.nnz:,} (realised density {density:.3%}, {net.rec.nnz / n:.1f} per unit)", highlight=False)
        out.print(f"input synapses: {net.inp.nnz:,} from {inputs} channels", highlight=False)
        for what, training in (("simulating", False), ("training", True)):
            estimate = net.memory_estimate(batch, steps, training)
            out.print(f"memory for {what} {steps} steps, batch {batch}: {size(estimate.total)}", highlight=False)
        out.print(f"the same weights dense: {size(4 * n * n)}, and more for mask and sign", highlight=False)
