"""Figures of weights, activity, eigenvalues and regions.

Every function draws on given axes (or new ones) and returns them. Large nets are binned before they are
drawn, so no picture needs a dense matrix.
"""

from sparse_mrnn.plot.activity import plot_activity
from sparse_mrnn.plot.regions import plot_regions
from sparse_mrnn.plot.spectrum import plot_spectrum
from sparse_mrnn.plot.weights import plot_weights

__all__ = ["plot_activity", "plot_regions", "plot_spectrum", "plot_weights"]
