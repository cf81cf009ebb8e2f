"""Tools for a plain torch loop, and fits to recordings.

Groups, freezing, constraints, penalties, rewiring, clipping, NaN search.
"""

from sparse_mrnn.training.constraints import clamp_weights_, clip_grad_by_region_, limit_norm_
from sparse_mrnn.training.fit import fit
from sparse_mrnn.training.freeze import freeze, unfreeze
from sparse_mrnn.training.groups import parameter_groups
from sparse_mrnn.training.guard import check_finite, detect_nan
from sparse_mrnn.training.prune import prune
from sparse_mrnn.training.recorded import Recorded
from sparse_mrnn.training.recorded_loss import RecordedLoss
from sparse_mrnn.training.regression import WeightRegression, regress_weights
from sparse_mrnn.training.regularize import activity_penalty, rate_penalty, weight_penalty
from sparse_mrnn.training.rewire import rewire
from sparse_mrnn.training.truncate import truncated

__all__ = [
    "Recorded", "RecordedLoss", "WeightRegression",
    "activity_penalty", "check_finite", "clamp_weights_", "clip_grad_by_region_", "detect_nan", "fit",
    "freeze", "limit_norm_", "parameter_groups", "prune", "rate_penalty", "regress_weights", "rewire",
    "truncated", "unfreeze", "weight_penalty",
]
