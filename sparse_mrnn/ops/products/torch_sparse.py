"""Backend "torch_sparse": products by the package of that name, where it is installed; an optional peer."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.errors import MissingExtraError
from sparse_mrnn.ops.products.csr import CsrOperator, CsrProduct

NOT_INSTALLED = "backend 'torch_sparse' needs the package torch_sparse; install it, or use backend='auto'."


def available() -> bool:
    """True if torch_sparse is installed."""
    return importlib.util.find_spec("torch_sparse") is not None


@cache
def package() -> Any:
    """The package, imported without the deprecation warnings that torch shows for its scripted functions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return importlib.import_module("torch_sparse")


class TorchSparseOperator(CsrOperator):
    """A CSR matrix multiplied by torch_sparse; the SDDMM, which it does not have, is that of "csr".

    Raises
    ------
    MissingExtraError
        If torch_sparse is not installed.

    Examples
    --------
    >>> from sparse_mrnn.ops.pattern import Pattern
    >>> p = Pattern(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), (2, 2))
    >>> operator = TorchSparseOperator(p) if available() else CsrOperator(p)
    >>> operator.bind(torch.tensor([2.0, 3.0])).rmatmul(torch.ones(2, 1)).tolist()
    [[3.0], [2.0]]
    """

    name = "torch_sparse"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not available():
            raise MissingExtraError(NOT_INSTALLED)
        super().__init__(*args, **kwargs)

    def bind(self, stored: Tensor) -> TorchSparseProduct:
        return TorchSparseProduct(self, stored)


class TorchSparseProduct(CsrProduct):
    """A torch_sparse matrix with values."""

    def __init__(self, operator: CsrOperator, values: Tensor) -> None:
        super().__init__(operator, values)
        self.package = package()
        self.sparse = self._tensor(self.pattern.crow, self.pattern.col, self.values, self.pattern.shape)
        self.sparse_transposed: Any = None

    def _tensor(self, crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Any:
        rowptr, columns = crow.long(), col.long()
        of, more = self.package.SparseTensor, {"sparse_sizes": shape, "is_sorted": True}
        return of(rowptr=rowptr, col=columns, value=values, **more)

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        product = self.package.matmul(self.sparse, h)
        if beta == 0:
            torch.mul(product, alpha, out=out)
        else:
            torch.add(y * beta, product, alpha=alpha, out=out)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        if self.sparse_transposed is None:
            pattern, order = self.pattern.transposed
            values = self.values.index_select(0, order)
            self.sparse_transposed = self._tensor(pattern.crow, pattern.col, values, pattern.shape)
        result: Tensor = self.package.matmul(self.sparse_transposed, g)
        return result if out is None else out.copy_(result)
