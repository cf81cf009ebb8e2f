"""Figures of weights, activity, eigenvalues, regions, and training.

Every function takes a network, a graph, a recording or an array, whichever has what it draws, draws on given
axes (or new ones) and returns them. Large nets are binned first, so no picture needs a dense matrix.
"""

from sparse_mrnn.plot.activity import plot_activity, plot_traces, plot_trajectory
from sparse_mrnn.plot.currents import plot_currents
from sparse_mrnn.plot.raster import plot_raster
from sparse_mrnn.plot.regions import plot_connectivity, plot_regions
from sparse_mrnn.plot.screen import plot_screen
from sparse_mrnn.plot.training import plot_training
from sparse_mrnn.plot.weights import plot_degrees, plot_spectrum, plot_weight_change, plot_weights

__all__ = [
    "plot_activity", "plot_connectivity", "plot_currents", "plot_degrees", "plot_raster",
    "plot_regions", "plot_screen", "plot_spectrum", "plot_traces", "plot_training", "plot_trajectory",
    "plot_weight_change", "plot_weights",
]
