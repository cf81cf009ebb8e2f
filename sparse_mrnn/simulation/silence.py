"""Whether anything drives a network in a run."""

from __future__ import annotations

from collections.abc import Sequence

from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.stimulus import Clamp, Intervention, Stimulus


def stays_at_zero(
    net: mRNNBase, stimuli: Sequence[Stimulus], acts: Sequence[Intervention], *, noise: bool
) -> bool:
    """Whether a run cannot but stay at 0: no stimulus, noise, tonic input or clamp, and it starts at 0.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, device="cpu")
    >>> stays_at_zero(net, [], [], noise=False)
    True
    """
    if stimuli or noise or any(isinstance(act, Clamp) and act.value != 0 for act in acts):
        return False
    start = net.batched_initial_condition(1)  # h0 = f(x0) is not 0 where f(0) is not, as of a sigmoid
    return not any(bool(part.any()) for part in (net.tonic_inp, *start))
