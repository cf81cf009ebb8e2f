"""The fly's visual system: the network of flyvis, moving stimuli, a decoder, direction tuning, figures."""

from sparse_mrnn.fly_vision.decoder import FlowDecoder
from sparse_mrnn.fly_vision.moving_patterns import Grating, MovingEdge, Scene
from sparse_mrnn.fly_vision.network import read_flyvis
from sparse_mrnn.fly_vision.plots import plot_hex, plot_tuning
from sparse_mrnn.fly_vision.task import HexMotion
from sparse_mrnn.fly_vision.tuning import (
    DirectionTuning,
    EdgeResponses,
    adapted_state,
    direction_tuning,
    edge_responses,
)

__all__ = [
    "DirectionTuning", "EdgeResponses", "FlowDecoder", "Grating", "HexMotion", "MovingEdge", "Scene",
    "adapted_state", "direction_tuning", "edge_responses", "plot_hex", "plot_tuning", "read_flyvis",
]
