"""sparse-mrnn spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from sparse_mrnn.cli.common import (
    Json,
    Network,
    app,
    command,
    err,
    out,
    picture_writer,
    print_json,
    report_errors,
    say,
)
from sparse_mrnn.cli.networks import load_network


@command(app, examples=(
    "spectrum celegans",
    "spectrum net.json --k 30 --out spectrum.png",
))
def spectrum(
    config: Network,
    k: Annotated[int, Option("--k", help="Leading eigenvalues to find.")] = 12,
    rtol: Annotated[float, Option(help="Relative error allowed.")] = 1e-4,
    seed: Annotated[int | None, Option(help="Of the network; default: the configuration's, or 0.")] = None,
    out_path: Annotated[Path | None, Option("--out", help="Picture: .png, .svg or .pdf.")] = None,
    max_seconds: Annotated[float | None, Option(help="Seconds for each search.")] = None,
    as_json: Json = False,
) -> None:
    """Show the spectral radius and abscissa, the radius of each region, and the leading eigenvalues."""
    with report_errors():
        from rich.table import Table

        from sparse_mrnn.errors import SpectralError
        from sparse_mrnn.spectral import disc_radius, leading_eigenpairs, spectral_search
        from sparse_mrnn.spectral.api import SearchOptions
        from sparse_mrnn.spectral.inputs import among, as_weights

        write = None if out_path is None else picture_writer(out_path)
        named = load_network(config, seed=seed)
        net = named.build("cpu", seed=named.settings.seed or 0)
        layout = net.layout()
        with err.status("searching") as status:

            def show(products: int, best: float) -> None:
                status.update(f"{products:,} products, best so far {best:.5g}")

            common: SearchOptions = {"rtol": rtol, "max_seconds": max_seconds, "progress": show}
            electrical = net.electrical is not None
            # Once for all the regions, of which there may be thousands; of chemical synapses.
            weights = as_weights(net.to_scipy() if electrical else net)
            radius = spectral_search(weights, "LM", **common)
            abscissa = spectral_search(net if electrical else weights, "LR", **common)
            values, _ = leading_eigenpairs(weights, min(k, layout.n), vectors=False, **common)
            disc = disc_radius(weights, layout.ptr)
            rows: list[tuple[str, str, str, str]] = []
            alone: dict[str, Any] = {}
            for region in layout.regions:
                try:
                    found = spectral_search(among(weights, layout.slice(region.name)), **common)
                    rows.append((region.name, f"{region.n:,}", f"{found.value:.5g}", found.method))
                    alone[region.name] = {"radius": found.value, "method": found.method}
                except SpectralError as error:
                    rows.append((region.name, f"{region.n:,}", "?", str(error)))
                    alone[region.name] = {"radius": None, "method": str(error)}
        bounds = ""
        if radius.lower is not None and radius.upper is not None:
            bounds = f", between {radius.lower:.6g} and {radius.upper:.6g}"
        say(f"spectral radius    {radius.value:.6g} ({radius.method}{bounds})")
        say(f"spectral abscissa  {abscissa.value:.6g} ({abscissa.method})")
        if electrical:
            say("The radius is of the chemical synapses; the abscissa is of the electrical ones, too.")
        say(f"disc radius        {disc:.6g} (a random net of these variances)")
        style: dict[str, Any] = dict(title_justify="left", box=None)
        table = Table("region", "units", "radius", "method", title="each region by itself", **style)
        for row in rows:
            table.add_row(*row)
        out.print(table)
        table = Table("eigenvalue", "modulus", title=f"{len(values)} leading eigenvalues", **style)
        for value in values:
            sign = "-" if value.imag < 0 else "+"
            table.add_row(f"{value.real:.6g} {sign} {abs(value.imag):.6g}i", f"{abs(value):.6g}")
        out.print(table)
        if write is not None:
            from sparse_mrnn.plot import plot_spectrum

            ax = plot_spectrum(values, disc, radius.value)
            ax.set_title(f"{net.graph.name or 'network'}: {len(values)} leading eigenvalues of {layout.n:,}")
            write(ax)
        if as_json:
            whole = {"value": radius.value, "method": radius.method}
            print_json({
                "radius": {**whole, "lower": radius.lower, "upper": radius.upper},
                "abscissa": {"value": abscissa.value, "method": abscissa.method},
                "disc_radius": disc,
                "regions": alone,
                "eigenvalues": values,
            })
