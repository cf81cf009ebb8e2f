"""sparse-mrnn spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse_mrnn.cli.common import ConfigArgument, app, err, load_network, out, report_errors, settings_of


@app.command()
def spectrum(
    config: ConfigArgument,
    k: Annotated[int, typer.Option("--k", help="Leading eigenvalues to find.")] = 12,
    rtol: Annotated[float, typer.Option(help="Relative error allowed.")] = 1e-4,
    seed: Annotated[int | None, typer.Option(help="Of the network. Default: the configuration's, else 0.")] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="Picture of the eigenvalues to write: .png, .svg or .pdf.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time for each search.")] = None,
) -> None:
    """Show the spectral radius and abscissa, the radius of each region, and the leading eigenvalues."""
    with report_errors():
        from rich.table import Table

        from sparse_mrnn.errors import ConfigError, SpectralError
        from sparse_mrnn.simulation import build_network
        from sparse_mrnn.spectral import disc_radius, leading_eigenpairs, spectral_search
        from sparse_mrnn.spectral.api import SearchOptions

        if out_path is not None and out_path.suffix not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--out {out_path}: the picture's name must end in .png, .svg or .pdf.")
        graph, simulation = load_network(config)
        settings = settings_of(simulation, seed=seed)
        net = build_network(graph, settings.model_copy(update={"seed": settings.seed or 0}), "cpu")
        layout = net.layout()
        with err.status("searching") as status:

            def show(products: int, best: float) -> None:
                status.update(f"{products:,} products, best so far {best:.5g}")

            common: SearchOptions = {"rtol": rtol, "max_seconds": max_seconds, "progress": show}
            within = common.copy()
            radius, abscissa = (spectral_search(net, which, **common) for which in ("LM", "LR"))
            values, _ = leading_eigenpairs(net, min(k, layout.n), vectors=False, **common)
            disc = disc_radius(net, layout.ptr)
            rows = []
            for region in layout.regions:
                within["regions"] = region.name
                try:
                    found = spectral_search(net, **within)
                    rows.append((region.name, f"{region.n:,}", f"{found.value:.5g}", found.method))
                except SpectralError as error:
                    rows.append((region.name, f"{region.n:,}", "?", str(error)))
        bounds = "" if radius.lower is None or radius.upper is None else f", between {radius.lower:.6g} and {radius.upper:.6g}"
        out.print(f"spectral radius    {radius.value:.6g} ({radius.method}{bounds})", highlight=False)
        out.print(f"spectral abscissa  {abscissa.value:.6g} ({abscissa.method})", highlight=False)
        out.print(f"disc radius        {disc:.6g} (a random net of these variances)", highlight=False)
        table = Table("region", "units", "radius", "method", title="each region by itself", title_justify="left", box=None)
        for row in rows:
            table.add_row(*row)
        out.print(table)
        table = Table("eigenvalue", "modulus", title=f"{len(values)} leading eigenvalues", title_justify="left", box=None)
        for value in values:
            sign = "-" if value.imag < 0 else "+"
            table.add_row(f"{value.real:.6g} {sign} {abs(value.imag):.6g}i", f"{abs(value):.6g}")
        out.print(table)
        if out_path is not None:
            from sparse_mrnn import plot as figures

            figures._pyplot().switch_backend("agg")
            ax = figures.plot_spectrum(values, disc, radius.value)
            ax.set_title(f"{net.graph.name or 'network'}: {len(values)} leading eigenvalues of {layout.n:,}")
            out_path.parent.mkdir(parents=True, exist_ok=True)
            ax.figure.savefig(out_path, dpi=150)  # type: ignore[union-attr]
            out.print(f"wrote {out_path}", soft_wrap=True, highlight=False)
