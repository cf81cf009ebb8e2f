"""Eigenvalues in the complex plane."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import INHIBITORY, Axes, axes_or_new
from sparse_mrnn.plot.sources import network_of
from sparse_mrnn.spectral import disc_radius, leading_eigenpairs

SpectrumSource: TypeAlias = "mRNNBase | RegionGraph | ArrayLike"


def plot_spectrum(
    source: SpectrumSource,
    disc: float | None = None,
    radius: float | None = None,
    ax: Axes | None = None,
    *,
    k: int = 60,
) -> Axes:
    """Draw eigenvalues in the complex plane: the leading ones of a network or a graph, or those given.

    Parameters
    ----------
    source : mRNN, ElmanmRNN, RegionGraph, or array of complex
        A graph gets the weights of seed 0.
    disc : float, optional
        Radius of the disc that theory expects, drawn filled; see `sparse_mrnn.spectral.disc_radius`. Of a
        network it is found.
    radius : float, optional
        Spectral radius, drawn as a dashed circle. Of a network it is found.
    ax : Axes, optional
    k : int
        Eigenvalues that are found of a network.

    Raises
    ------
    SpectralError
        If the eigenvalues of a network cannot be certified.

    Examples
    --------
    >>> plot_spectrum([0.5, 0.2 + 0.3j, 0.2 - 0.3j], radius=0.5).get_xlabel()
    'real part'
    """
    values, title = source, ""
    if isinstance(source, mRNNBase | RegionGraph):
        net = network_of(source)
        layout = net.layout()
        values, _ = leading_eigenpairs(net, min(k, layout.n), vectors=False)
        disc = disc_radius(net, layout.ptr) if disc is None else disc
        radius = float(np.abs(values).max(initial=0.0)) if radius is None else radius
        title = f"{net.graph.name or 'network'}: {len(values)} leading eigenvalues of {layout.n:,}"
    points = np.asarray(values)
    ax = axes_or_new(ax, (5.4, 6.2))
    from matplotlib.patches import Circle

    if disc is not None:
        look: dict[str, Any] = dict(color="#dfe6e9", lw=0, zorder=0)
        ax.add_patch(Circle((0, 0), disc, label=f"disc of theory, {disc:.4g}", **look))
    if radius is not None:
        look = dict(fill=False, ls="--", color="0.4")
        ax.add_patch(Circle((0, 0), radius, label=f"spectral radius, {radius:.4g}", **look))
    ax.plot(points.real, points.imag, "o", ms=3, color=INHIBITORY, label=f"{len(points)} eigenvalues")
    reach = 1.1 * max(float(np.abs(points).max(initial=0)), disc or 0, radius or 0) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, 1.3 * reach), aspect="equal", title=title)
    ax.set(xlabel="real part", ylabel="imaginary part")
    ax.legend(loc="upper center", ncols=2, fontsize=7, frameon=False)
    return ax
