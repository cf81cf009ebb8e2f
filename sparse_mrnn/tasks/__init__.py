"""Tasks of the field as data, one a file.

`flip_flop`, `delayed_response`, `context_integration` and `ring_task` make the trials of one batch;
`TrialDataset` makes a torch data set of them.
"""

from sparse_mrnn.tasks.context_integration import context_integration
from sparse_mrnn.tasks.delayed_response import delayed_response
from sparse_mrnn.tasks.flip_flop import flip_flop
from sparse_mrnn.tasks.ring_tasks import RULES, ring_task
from sparse_mrnn.tasks.trials import TrialDataset, Trials

__all__ = [
    "RULES", "TrialDataset", "Trials", "context_integration", "delayed_response", "flip_flop", "ring_task",
]
