"""A network divided among the processes of torch.distributed, with the results of one process."""

from sparse_mrnn.distributed.checkpoint import load_checkpoint, save_checkpoint
from sparse_mrnn.distributed.estimate import Estimate, RankEstimate, estimate
from sparse_mrnn.distributed.network import HaloReport, ShardedRNN, sharded_network
from sparse_mrnn.distributed.partition import Partition, partition
from sparse_mrnn.distributed.ranks import Ranks, is_started_by_torchrun, joined
from sparse_mrnn.distributed.streaming import simulate

__all__ = [
    "Estimate",
    "HaloReport",
    "Partition",
    "RankEstimate",
    "Ranks",
    "ShardedRNN",
    "estimate",
    "is_started_by_torchrun",
    "joined",
    "load_checkpoint",
    "partition",
    "save_checkpoint",
    "sharded_network",
    "simulate",
]
