"""Products of CSR matrices on devices other than the CPU, as operators of `torch.library`.

Fake tensors, graphs and other modes of torch cannot look into a sparse matrix. These operators take its
arrays, and say what they write. They are torch's own products, cuSPARSE on CUDA, or, within `using`, the
kernels of `ops.triton_kernels`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.checks import option
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.ops.pattern import Pattern, csr

KERNELS = ("torch", "triton")
_chosen = "torch"
_SCHEMAS = {
    "csr_addmm_": (
        "(Tensor(a!) y, Tensor crow, Tensor col, Tensor values, Tensor h, float beta, float alpha) -> ()"
    ),
    "csr_sddmm_": "(Tensor(a!) grad, Tensor crow, Tensor col, Tensor g, Tensor h) -> ()",
}


def are_used(values: Tensor) -> bool:
    """Tell if the products of a matrix with these values are operators; on the CPU they are called directly.

    A call of an operator takes 10 microseconds longer, which a step of a small network would feel, and
    compiled loops on the CPU need prepared arrays of their own.
    """
    return values.device.type != "cpu"


@contextmanager
def using(kernels: str) -> Iterator[None]:
    """Let operators within run "torch" (cuSPARSE on CUDA) or "triton", for every network.

    Raises
    ------
    ConfigError
        If it is another name.
    MissingExtraError
        If triton is not installed.

    Examples
    --------
    >>> with using("torch"):
    ...     pass
    """
    global _chosen
    before, chosen = _chosen, option(kernels, KERNELS, "kernels", ConfigError)
    if chosen == "triton":
        importlib.import_module("sparse_mrnn.ops.triton_kernels")
    _chosen = chosen
    try:
        yield
    finally:
        _chosen = before


def add_product(y: Tensor, pattern: Pattern, values: Tensor, h: Tensor, *, beta: float, alpha: float) -> None:
    """y = beta * y + alpha * W h, in place, for W of a pattern with values.

    With beta 0, y may hold anything.
    """
    torch.ops.sparse_mrnn.csr_addmm_(y, pattern.crow, pattern.col, values, h, beta, alpha)


def add_sampled(grad: Tensor, pattern: Pattern, g: Tensor, h: Tensor) -> None:
    """grad[e] += sum_k g[i, k] h[j, k] for entry e, at (i, j), of a pattern without repeats, in place."""
    torch.ops.sparse_mrnn.csr_sddmm_(grad, pattern.crow, pattern.col, g, h)


def _addmm(
    y: Tensor, crow: Tensor, col: Tensor, values: Tensor, h: Tensor, beta: float, alpha: float
) -> None:
    if _chosen == "triton":
        triton = importlib.import_module("sparse_mrnn.ops.triton_kernels")
        triton.add_product(y, crow, col, values, h, beta, alpha)
        return
    matrix = csr(crow, col, values, (len(y), len(h)))
    if h.shape[1] == 1:
        column = y[:, 0]  # one view: torch copies from one to another
        torch.addmv(column, matrix, h[:, 0], beta=beta, alpha=alpha, out=column)
    else:
        torch.addmm(y, matrix, h, beta=beta, alpha=alpha, out=y)


def _sddmm(grad: Tensor, crow: Tensor, col: Tensor, g: Tensor, h: Tensor) -> None:
    if _chosen == "triton":
        triton = importlib.import_module("sparse_mrnn.ops.triton_kernels")
        triton.add_sampled(grad, crow, col, g, h)
        return
    matrix = csr(crow, col, grad, (len(g), len(h)))
    torch.sparse.sampled_addmm(matrix, g, h.t(), beta=1.0, alpha=1.0, out=matrix)


def _nothing_to_return(*_: object) -> None:
    """Say what a fake operator returns: each changes its first tensor, whose shape stays."""


_library: Any = torch.library.Library("sparse_mrnn", "DEF")  # type: ignore[no-untyped-call]
for _name, _function in (("csr_addmm_", _addmm), ("csr_sddmm_", _sddmm)):
    _library.define(_name + _SCHEMAS[_name])
    _library.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"sparse_mrnn::{_name}", _nothing_to_return, lib=_library)
