"""Weights a user passes in or asks for: dense, COO, CSR and scipy, converted without a dense detour."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.errors import ShapeError
from sparse_mrnn.ops.pattern import Pattern


def split_sparse(weight: Tensor) -> tuple[Pattern | None, Tensor]:
    """Pattern and values of a torch weight matrix; (None, matrix) for a dense one. Differentiable."""
    if weight.layout == torch.strided:
        return None, weight
    if weight.layout == torch.sparse_csr:
        return Pattern(weight.crow_indices(), weight.col_indices(), (weight.shape[0], weight.shape[1])), weight.values()
    if weight.layout == torch.sparse_coo:
        weight = weight.coalesce()
        row, col = weight.indices()
        kind = torch.int32 if row.numel() < 2**31 else torch.int64
        crow = torch.zeros(weight.shape[0] + 1, dtype=kind, device=weight.device)
        torch.cumsum(torch.bincount(row, minlength=weight.shape[0]), 0, dtype=kind, out=crow[1:])
        return Pattern(crow, col.to(kind), (weight.shape[0], weight.shape[1])), weight.values()
    raise ShapeError(f"a weight matrix of layout {weight.layout} is not supported; use dense, COO or CSR.")


def to_scipy(weight: Any) -> sp.csr_array:
    """A torch (any layout), numpy or scipy matrix as scipy CSR; parallel entries are added."""
    if isinstance(weight, Tensor):
        pattern, values = split_sparse(weight.detach().cpu())
        if pattern is None:
            return sp.csr_array(values.numpy())
        parts = (values.numpy(), pattern.col.numpy(), pattern.crow.numpy())
        weight = sp.csr_array(parts, shape=pattern.shape, copy=True)
        weight.sum_duplicates()
        return weight
    return sp.csr_array(np.asarray(weight)) if not sp.issparse(weight) else sp.csr_array(weight)
