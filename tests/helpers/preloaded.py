"""What the process imports from which children are forked (see children.py); it computes nothing itself."""

import torch

import helpers.long_runs
import helpers.networks
import helpers.recorded_runs  # noqa: F401

torch.set_num_threads(1)
