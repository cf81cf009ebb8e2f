"""Tasks of the field as data: one a file.

Trials of one batch (`flip_flop`, `delayed_response`, `context_integration`, `ring_task`), of which
`TrialDataset` makes a torch data set, or a data set of its own: `HexMotion`, with what it shows, a decoder
for it, and the direction tuning of a network that sees it.
"""

from sparse_mrnn.tasks.context_integration import context_integration
from sparse_mrnn.tasks.delayed_response import delayed_response
from sparse_mrnn.tasks.direction_tuning import (
    DirectionTuning,
    EdgeResponses,
    adapted_state,
    direction_tuning,
    edge_responses,
)
from sparse_mrnn.tasks.flip_flop import flip_flop
from sparse_mrnn.tasks.flow_decoder import FlowDecoder
from sparse_mrnn.tasks.hex_motion import HexMotion
from sparse_mrnn.tasks.moving_patterns import Grating, MovingEdge, Scene
from sparse_mrnn.tasks.ring_tasks import RULES, ring_task
from sparse_mrnn.tasks.trial_dataset import TrialDataset
from sparse_mrnn.tasks.trials import Trials

__all__ = [
    "RULES", "DirectionTuning", "EdgeResponses", "FlowDecoder", "Grating", "HexMotion", "MovingEdge", "Scene",
    "TrialDataset", "Trials", "adapted_state", "context_integration", "delayed_response", "direction_tuning",
    "edge_responses", "flip_flop", "ring_task",
]
