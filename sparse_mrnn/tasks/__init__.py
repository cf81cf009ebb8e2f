"""Tasks of the field as data: one a file, each a function that makes a batch of `Trials`."""

from sparse_mrnn.tasks.delayed_response import delayed_response
from sparse_mrnn.tasks.flip_flop import flip_flop
from sparse_mrnn.tasks.trials import Trials

__all__ = ["Trials", "delayed_response", "flip_flop"]
