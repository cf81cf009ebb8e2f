"""Pictures of a comparison: the entries of one network, and where the crossover lies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sparse_mrnn.benchmark.advice import crossover, dense_over_sparse, percent
from sparse_mrnn.benchmark.measure import CaseResult
from sparse_mrnn.plot.figure import label_decades, new_figure

COLOURS = {
    "sparse-mrnn": "#c0392b", "backend-csr": "#e67e22", "backend-hybrid": "#8e44ad",
    "backend-torch_sparse": "#d98cb3", "backend-dense": "#6d4c41", "mrnntorch": "#1b4f72",
    "loop-dense": "#2e86c1", "loop-coo": "#7f8c8d", "loop-csr": "#27ae60", "loop-torch-sparse": "#95a5a6",
    "loop-scipy": "#58d68d",
}
DENSE = ("mrnntorch", "loop-dense", "backend-dense")


def plot_crossover(results: Sequence[CaseResult]) -> Any:
    """A figure: time and memory against units, speed-up of sparse over dense against density.

    Panels without data are left out.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    sizes = sorted((r for r in results if r.group in ("units", "network")), key=lambda r: r.units)
    densities = sorted((r for r in results if r.group in ("density", "network")), key=lambda r: r.density)
    panels: list[Any] = []
    if len({r.units for r in sizes}) > 1:
        panels.append(partial(_over_units, cases=sizes, what="time"))
        if any(e.memory_mb for r in sizes for e in r.entries):
            panels.append(partial(_over_units, cases=sizes, what="memory"))
    if len({r.density for r in densities}) > 1:
        panels.append(partial(_over_density, cases=densities))
    figure = new_figure((4.6 * max(1, len(panels)), 4.3))
    for k, draw in enumerate(panels):
        draw(figure.add_subplot(1, len(panels), k + 1))
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        handles.update(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    names = [name for name in COLOURS if name in handles]
    if names:
        rows = -(-len(names) // (3 * len(panels)))  # three names fit below a panel
        columns = -(-len(names) // rows)
        style: dict[str, Any] = dict(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
        figure.legend([handles[n] for n in names], names, **style)
    return figure


def plot_entries(case: CaseResult) -> Any:
    """A figure: time, with quartiles, and peak memory of every entry of one case, the fastest on top.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    measured = sorted((e for e in case.entries if case.timing(e)), key=case.median, reverse=True)
    with_memory = any(e.memory_mb is not None for e in measured)
    doing = "forward and backward" if case.trained else "forward"
    figure = new_figure((9 if with_memory else 6, 1.5 + 0.32 * len(measured)))
    axes = figure.subplots(1, 2 if with_memory else 1, sharey=True, squeeze=False)[0]
    timings = [t for e in measured if (t := case.timing(e)) is not None]
    quartiles = [[t.median - t.q1 for t in timings], [t.q3 - t.median for t in timings]]
    bars: list[Any] = [(f"{doing}, ms", [t.median for t in timings], quartiles, 6)]
    bars += [("peak memory, MB", [e.memory_mb or 0.0 for e in measured], None, 3)]
    names = [e.entry for e in measured]
    colours = [COLOURS.get(name, "0.5") for name in names]
    for ax, (label, widths, error, padding) in zip(axes, bars, strict=False):
        ax.barh(names, widths, xerr=error, color=colours, ecolor="0.3", capsize=2)
        ax.set_xlabel(label)
        ax.bar_label(ax.containers[-1], fmt="{:.3g}", padding=padding, fontsize=8)
        ax.margins(x=0.18)
        ax.spines[["top", "right"]].set_visible(False)
    size = f"{case.units:,} units, {case.synapses:,} synapses, batch {case.batch}, {case.steps} steps"
    figure.suptitle(f"{case.label}: {size}", fontsize=10)
    return figure


def _over_units(ax: Any, cases: Sequence[CaseResult], what: str) -> None:
    """"time" or "memory" of every entry, on logarithmic axes."""
    from matplotlib.ticker import NullLocator

    for name, colour in COLOURS.items():
        timed = [(r, e) for r in cases for e in r.entries if e.entry == name and r.timing(e) is not None]
        values = ((r.units, r.median(e) if what == "time" else e.memory_mb) for r, e in timed)
        line = [(units, value) for units, value in values if value is not None]
        if line:
            style = "--" if name in DENSE else "-"
            ax.plot(*zip(*line, strict=True), color=colour, ls=style, marker="o", ms=3.5, lw=1.6, label=name)
    doing = "forward and backward" if any(r.trained for r in cases) else "forward"
    ylabel = f"{doing} (ms)" if what == "time" else "peak memory (MB)"
    ax.set(xscale="log", yscale="log", xlabel="units", ylabel=ylabel)
    if what == "memory" and ax.get_ylim()[0] < 1 < ax.get_ylim()[1]:
        ax.set_ylim(bottom=1)  # less is the allocator's, not the entry's
    units = sorted({r.units for r in cases})
    label_decades(ax.yaxis, *ax.get_ylim())
    ax.set_xticks(units, [f"{u:,}" if u < 10_000 else f"{u / 1000:g}k" for u in units], fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = min(r.density for r in cases), max(r.density for r in cases)
    density = percent(cases[-1].density) if high < 1.2 * low else f"{percent(low)} to {percent(high)}"
    ax.set_title(f"{what}, density {density}", fontsize=10)
    if what == "time":
        _mark_crossover(ax, cases, "units")
    _grid_and_network(ax, cases, "units")


def _over_density(ax: Any, cases: Sequence[CaseResult]) -> None:
    """Speed-up of the fastest sparse over the fastest dense entry."""
    ratios = {case.density: r for case in cases if (r := dense_over_sparse(case)) is not None}
    x, y = list(ratios), [r.median for r in ratios.values()]
    ax.axhline(1, color="0.4", lw=0.8)
    error = [[r.median - r.low for r in ratios.values()], [r.high - r.median for r in ratios.values()]]
    style = dict(color=COLOURS["sparse-mrnn"], marker="o", ms=3.5, lw=1.6, elinewidth=0.8, capsize=2)
    ax.errorbar(x, y, error, **style)
    ax.set(xscale="log", yscale="log", xlabel="density", ylabel="time of the best dense / the best sparse")
    ax.set_title(f"speed-up over dense, {cases[0].units:,} units", fontsize=10)
    _mark_crossover(ax, cases, "density")
    _percent_and_ratio_ticks(ax, x, y)
    _grid_and_network(ax, cases, "density")


def _grid_and_network(ax: Any, cases: Sequence[CaseResult], group: str) -> None:
    ax.grid(True, which="major", color="0.9", lw=0.6)
    for case in cases:
        if case.group == "network" and len(cases) > 1:
            ax.axvline(getattr(case, group), color="0.75", lw=5, alpha=0.4, zorder=0)


def _mark_crossover(ax: Any, cases: Sequence[CaseResult], group: str) -> None:
    found = crossover(cases, group)
    if found is None or found.at is None:
        return
    ax.axvline(found.at, color="0.4", lw=0.8, ls=":")
    text = f"equal at\n{found.at:,.0f} units" if group == "units" else f"equal at\n{percent(found.at)}"
    left = ax.transAxes.inverted().transform(ax.transData.transform((found.at, 1)))[0] < 0.5
    ax.annotate(
        text, (found.at, 0.03), xycoords=("data", "axes fraction"), xytext=(4 if left else -4, 0),
        textcoords="offset points", ha="left" if left else "right", va="bottom", fontsize=8, color="0.25",
    )


def _percent_and_ratio_ticks(ax: Any, x: Sequence[float], y: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter, StrMethodFormatter

    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}x"))
    for axis, values in ((ax.xaxis, x), (ax.yaxis, y)):
        span = max(values) / min(values)
        steps = (1, 3) if span > 30 else (1, 2, 5) if span > 5 else (1, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize=8)
