"""plot_screen: the changes of rates that a screen found, targets by regions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_mrnn.errors import AnalysisError, suggest
from sparse_mrnn.plot.figure import Axes, axes_or_new, short
from sparse_mrnn.recording.reading import need

if TYPE_CHECKING:
    import xarray


def plot_screen(
    source: xarray.Dataset | str | os.PathLike[str], ax: Axes | None = None, *, kind: str | None = None
) -> Axes:
    """Draw how the activity of each region (a column) changes as each target (a row) is perturbed.

    Colours follow the square root of the change, so that weak and strong effects both show; a dot marks the
    region that is itself perturbed.

    Parameters
    ----------
    source : Dataset of `sparse_mrnn.analysis.screen`, or path of its Zarr store
    ax : Axes, optional
    kind : str, optional
        "activation" or "silencing". Default: the first of the screen.

    Raises
    ------
    AnalysisError
        If the source is not a screen, or does not have this kind.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_region("b", 3); g.add_projection("a", "b")
    >>> found = sm.analysis.screen(sm.mRNN(g, device="cpu"), 200, progress=False)
    >>> plot_screen(found, kind="activation").get_title()
    'activation: 2 targets'
    """
    found: Any = source
    if isinstance(source, (str, os.PathLike)):
        try:
            found = need("xarray", "labelled results").open_zarr(source, chunks=None).load()
        except (OSError, KeyError, ValueError) as error:
            raise AnalysisError(f"{source} is not a screen: {error}.") from None
    if "change" not in found or set(found["change"].dims) != {"kind", "target", "region"}:
        raise AnalysisError(f"{source if found is not source else 'the dataset'} is not a screen.")
    kinds = found["kind"].values.tolist()
    kind = kinds[0] if kind is None else kind
    if kind not in kinds:
        hint = suggest(kind, kinds, what="kinds")
        raise AnalysisError(f"plot_screen: the screen has no kind {kind!r}. {hint}")
    change = found["change"].sel(kind=kind).transpose("target", "region")
    targets, regions = change["target"].values.tolist(), change["region"].values.tolist()
    ax = axes_or_new(ax, (3 + 0.25 * len(regions), 1.8 + 0.2 * len(targets)))
    from matplotlib.colors import FuncNorm

    values = np.ma.masked_invalid(change.values)
    largest = float(np.abs(values).max()) if values.count() else 0.0
    largest = largest or 1.0

    def forward(x: Any) -> Any:
        return 0.5 + 0.5 * np.sign(x) * np.sqrt(np.abs(x) / largest)

    def back(y: Any) -> Any:
        return np.sign(y - 0.5) * (2 * (y - 0.5)) ** 2 * largest

    norm = FuncNorm((forward, back), -largest, largest)
    drawn = ax.imshow(values, cmap="RdBu_r", norm=norm, aspect="auto", interpolation="nearest")
    same = [(regions.index(name), k) for k, name in enumerate(targets) if name in regions]
    if same:
        ax.plot(*zip(*same, strict=True), ls="", marker="o", ms=2, color="0.2")
    ax.set_xticks(range(len(regions)), list(map(short, regions)), rotation=90, fontsize=7)
    ax.set_yticks(range(len(targets)), list(map(short, targets)), fontsize=7)
    ax.set(xlabel="region", ylabel=f"target of the {kind}", title=f"{kind}: {len(targets)} targets")
    bar = ax.figure.colorbar(drawn, ax=ax, label="change of mean activity")
    bar.set_ticks([-largest, -largest / 4, 0, largest / 4, largest])
    bar.ax.set_yticklabels([f"{x:.2g}" for x in (-largest, -largest / 4, 0, largest / 4, largest)])
    return ax
