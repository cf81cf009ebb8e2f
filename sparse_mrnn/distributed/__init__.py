"""A network divided among the processes of torch.distributed, with the results of one process."""

from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.partition import Partition, partition
from sparse_mrnn.distributed.ranks import Ranks, joined

__all__ = ["Partition", "Ranks", "ShardedRNN", "joined", "partition"]
