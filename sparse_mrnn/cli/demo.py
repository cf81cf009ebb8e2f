"""sparse-mrnn demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from sparse_mrnn.cli.common import app, check_out, command, notes, picture_writer, report_errors, say
from sparse_mrnn.cli.networks import load_network


@command(app, examples=("demo", "demo --out /tmp/demo --overwrite"))
def demo(
    out_path: Annotated[Path, Option("--out", help="Folder to write.")] = Path("demo"),
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing recording there.")] = False,
) -> None:
    """Simulate the C. elegans connectome, and draw its activity, weights and regions."""
    with report_errors(), notes():
        recording = out_path / "celegans.zarr"
        check_out(recording, overwrite=overwrite)
        pictures = {kind: out_path / f"{kind}.png" for kind in ("activity", "weights", "regions")}
        write = {kind: picture_writer(path) for kind, path in pictures.items()}
        from sparse_mrnn import plot, simulate

        named = load_network("celegans")
        net, settings = named.build("cpu", seed=0), named.settings
        options: dict[str, Any] = dict(stimulus=settings.stimuli(), out=recording)
        options["mode"] = "overwrite" if overwrite else "create"
        run = simulate(net, settings.duration, **options)
        say(f"wrote {recording}", wrap=False)
        write["activity"](plot.plot_activity(run))
        write["weights"](plot.plot_weights(net))
        write["regions"](plot.plot_regions(net))
        say(f"\nOpen {pictures['activity']} first: the neurons' activity under stimulation. Then try")
        say(f"  sparse-mrnn plot traces {recording} --unit AVAL --unit AVAR", wrap=False)
        say("  sparse-mrnn simulate celegans --stim ALML:1:50:250 --out run.zarr", wrap=False)
        say("  sparse-mrnn screen celegans --stim ALML:1", wrap=False)
        say("and read docs/tutorial.md.")
