"""Eigenvalues in the complex plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sparse_mrnn.plot.figure import INHIBITORY, Axes, axes_or_new


def plot_spectrum(
    values: ArrayLike, disc: float | None = None, radius: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw eigenvalues in the complex plane.

    Parameters
    ----------
    values : array of complex
    disc : float, optional
        Radius of the disc that theory expects, drawn filled; see `sparse_mrnn.spectral.disc_radius`.
    radius : float, optional
        Spectral radius, drawn as a dashed circle.
    ax : Axes, optional

    Examples
    --------
    >>> plot_spectrum([0.5, 0.2 + 0.3j, 0.2 - 0.3j], radius=0.5).get_xlabel()
    'real part'
    """
    ax = axes_or_new(ax, (5.4, 6.2))
    from matplotlib.patches import Circle

    if disc is not None:
        style = dict(color="#dfe6e9", lw=0, zorder=0)
        ax.add_patch(Circle((0, 0), disc, label=f"disc of theory, {disc:.4g}", **style))
    if radius is not None:
        style = dict(fill=False, ls="--", color="0.4")
        ax.add_patch(Circle((0, 0), radius, label=f"spectral radius, {radius:.4g}", **style))
    points = np.asarray(values)
    ax.plot(points.real, points.imag, "o", ms=3, color=INHIBITORY, label=f"{len(points)} eigenvalues")
    reach = 1.1 * max(float(np.abs(points).max(initial=0)), disc or 0, radius or 0) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, 1.3 * reach), aspect="equal")
    ax.set(xlabel="real part", ylabel="imaginary part")
    ax.legend(loc="upper center", ncols=2, fontsize=7, frameon=False)
    return ax
