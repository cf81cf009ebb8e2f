"""Backends: how W h, its transpose and the gradient of W are computed. One a file, behind `base.Operator`."""

from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.products.csr import CsrOperator
from sparse_mrnn.ops.products.dense import DenseOperator
from sparse_mrnn.ops.products.event_driven import EventDrivenProduct, events_pay
from sparse_mrnn.ops.products.hybrid import Extent, HybridOperator, are_dense
from sparse_mrnn.ops.products.low_rank import LowRankBlock, LowRankSum
from sparse_mrnn.ops.products.torch_sparse import TorchSparseOperator

__all__ = [
    "CsrOperator",
    "DenseOperator",
    "EventDrivenProduct",
    "Extent",
    "HybridOperator",
    "LowRankBlock",
    "LowRankSum",
    "Operator",
    "Product",
    "TorchSparseOperator",
    "are_dense",
    "events_pay",
]
