"""Crossover plots: time and memory over units, and the speed-up over density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparse_mrnn.benchmark.advice import crossover, percent, point
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult
from sparse_mrnn.errors import MissingExtraError

COLOURS = {
    "ours": "#c0392b", "ours-csr": "#e67e22", "ours-hybrid": "#8e44ad", "ours-torch_sparse": "#d98cb3", "ours-dense": "#6d4c41",
    "mrnntorch": "#1b4f72", "loop-dense": "#2e86c1", "loop-coo": "#7f8c8d", "loop-csr": "#27ae60", "loop-torch-sparse": "#95a5a6",
    "loop-scipy": "#58d68d",
}


def plot_crossover(results: Sequence[CaseResult]) -> Any:
    """A figure: time and memory against units, speed-up of sparse over dense against density. Panels without data are left out.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("plots need matplotlib; install it with: pip install 'sparse-mrnn[plot]'") from None
    sizes = sorted((r for r in results if r.group in ("units", "network")), key=lambda r: r.units)
    densities = sorted((r for r in results if r.group in ("density", "network")), key=lambda r: r.density)
    trained = any(e.training for r in results for e in r.entries)
    panels: list[Any] = []
    if len({r.units for r in sizes}) > 1:
        panels.append(lambda ax: _over_units(ax, sizes, "time", trained))
        if any(e.memory_mb for r in sizes for e in r.entries):
            panels.append(lambda ax: _over_units(ax, sizes, "memory", trained))
    if len({r.density for r in densities}) > 1:
        panels.append(lambda ax: _over_density(ax, densities))
    figure = Figure(figsize=(4.6 * max(1, len(panels)), 4.3), layout="constrained")
    for k, draw in enumerate(panels):
        draw(figure.add_subplot(1, len(panels), k + 1))
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        handles.update({label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True) if label in COLOURS})
    names = [name for name in COLOURS if name in handles]
    if names:
        columns = len(names) if len(names) <= 8 else -(-len(names) // 2)
        figure.legend([handles[n] for n in names], names, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _over_units(ax: Any, cases: Sequence[CaseResult], what: str, trained: bool) -> None:
    def value(e: EntryResult) -> float | None:
        if trained and e.training is None:
            return None
        if what == "memory":
            return e.memory_mb
        found = e.training if trained else e.forward
        return None if found is None else found.median

    for name, colour in COLOURS.items():
        line = [(r.units, v) for r in cases for e in r.entries if e.entry == name and (v := value(e))]
        if line:
            dense = name in ("mrnntorch", "loop-dense", "ours-dense")
            ax.plot(*zip(*line, strict=True), color=colour, ls="--" if dense else "-", marker="o", ms=3.5, lw=1.6, label=name)
    doing = "forward and backward" if trained else "forward"
    ax.set(xscale="log", yscale="log", xlabel="units", ylabel=f"{doing} (ms)" if what == "time" else "peak memory (MB)")
    if what == "memory" and ax.get_ylim()[0] < 1 < ax.get_ylim()[1]:
        ax.set_ylim(bottom=1)  # less is the allocator's, not the entry's
    _unit_ticks(ax, sorted({r.units for r in cases}))
    low, high = min(r.density for r in cases), max(r.density for r in cases)
    spread = percent(cases[-1].density) if high < 1.2 * low else f"{percent(low)} to {percent(high)}"
    ax.set_title(f"{what}, density {spread}", fontsize=10)
    found = crossover(cases, "units") if what == "time" else None
    if found is not None and found.at is not None:
        ax.axvline(found.at, color="0.4", lw=0.8, ls=":")
        _note(ax, found.at, f"equal at\n{found.at:,.0f} units")
    ax.grid(True, which="major", color="0.9", lw=0.6)
    for r in cases:
        if r.group == "network" and len(cases) > 1:
            ax.axvline(r.units, color="0.75", lw=5, alpha=0.4, zorder=0)


def _over_density(ax: Any, cases: Sequence[CaseResult]) -> None:
    points = [p for p in map(point, cases) if p.speedup is not None]
    ax.axhline(1, color="0.4", lw=0.8)
    x, y = [p.case.density for p in points], [p.speedup for p in points]
    ax.plot(x, y, color=COLOURS["ours"], marker="o", ms=3.5, lw=1.6)
    units = {f"{p.case.units:,}" for p in points}
    ax.set(xscale="log", yscale="log", xlabel="density", ylabel="time of the best dense / the best sparse")
    ax.set_title(f"speed-up over dense, {' / '.join(sorted(units)[:1])} units", fontsize=10)
    found = crossover(cases, "density")
    if found is not None and found.at is not None:
        ax.axvline(found.at, color="0.4", lw=0.8, ls=":")
        _note(ax, found.at, f"equal at\n{percent(found.at)}")
    _plain_ticks(ax, x, [v for v in y if v is not None])
    ax.grid(True, which="major", color="0.9", lw=0.6)
    for r in cases:
        if r.group == "network" and len(cases) > 1:
            ax.axvline(r.density, color="0.75", lw=5, alpha=0.4, zorder=0)


def _note(ax: Any, x: float, text: str) -> None:
    left = ax.transAxes.inverted().transform(ax.transData.transform((x, 1)))[0] < 0.5
    ax.annotate(text, (x, 0.03), xycoords=("data", "axes fraction"), xytext=(4 if left else -4, 0), textcoords="offset points",
                ha="left" if left else "right", va="bottom", fontsize=8, color="0.25")


def _unit_ticks(ax: Any, units: list[int]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(units, [f"{u:,}" if u < 10_000 else f"{u / 1000:g}k" for u in units], fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())


def _plain_ticks(ax: Any, x: Sequence[float], y: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    fine: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    for axis, values, form in ((ax.xaxis, x, "{:g}%"), (ax.yaxis, y, "{:g}x")):
        scale = 100 if axis is ax.xaxis else 1
        span = max(values) / min(values)
        steps: tuple[float, ...] = (1.0, 3.0) if span > 30 else fine if span < 5 else (1.0, 2.0, 5.0)
        marks = [s * 10.0**k for k in range(-6, 7) for s in steps if 0.8 * min(values) <= s * 10.0**k <= 1.25 * max(values)]
        axis.set_ticks(marks, [form.format(round(scale * m, 6)) for m in marks])
        axis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize=8)
