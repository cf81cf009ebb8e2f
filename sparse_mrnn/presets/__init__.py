"""Published spiking models with their parameters and the sources of them, one a file."""

from sparse_mrnn.presets.potjans_diesmann import potjans_diesmann_2014
from sparse_mrnn.presets.shiu import shiu2024

__all__ = ["potjans_diesmann_2014", "shiu2024"]
