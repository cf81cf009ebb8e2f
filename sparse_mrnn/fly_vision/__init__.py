"""The fly's visual system: the network of flyvis, moving stimuli, a decoder, direction tuning, figures."""

from sparse_mrnn.fly_vision.decoder import FlowDecoder
from sparse_mrnn.fly_vision.ensemble import (
    EnsembleResponses,
    FlyvisParameters,
    ensemble_responses,
    flyvis_networks,
    load_flyvis_parameters,
    read_flyvis_parameters,
)
from sparse_mrnn.fly_vision.measures import (
    POLARITY,
    PREFERRED_DIRECTIONS,
    FlashResponses,
    MotionResponses,
    angular_distance,
    flash_responses,
    motion_responses,
)
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
    "POLARITY", "PREFERRED_DIRECTIONS",
    "DirectionTuning", "EdgeResponses", "EnsembleResponses", "FlashResponses", "FlowDecoder",
    "FlyvisParameters", "Grating", "HexMotion", "MotionResponses", "MovingEdge", "Scene",
    "adapted_state", "angular_distance", "direction_tuning", "edge_responses", "ensemble_responses",
    "flash_responses", "flyvis_networks", "load_flyvis_parameters", "motion_responses", "plot_hex",
    "plot_tuning", "read_flyvis", "read_flyvis_parameters",
]
