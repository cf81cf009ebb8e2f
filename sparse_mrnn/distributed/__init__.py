"""A network divided among the processes of torch.distributed, with the results of one process."""

from sparse_mrnn.distributed.estimate import Estimate, RankEstimate, estimate
from sparse_mrnn.distributed.network import HaloReport, ShardedRNN
from sparse_mrnn.distributed.partition import Partition, partition
from sparse_mrnn.distributed.ranks import Ranks, joined

__all__ = [
    "Estimate", "HaloReport", "Partition", "RankEstimate", "Ranks", "ShardedRNN", "estimate", "joined",
    "partition",
]
