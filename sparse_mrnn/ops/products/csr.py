"""Backend "csr": torch CSR matrices, which are MKL on the CPU and cuSPARSE on CUDA (`device_products`)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import device_products
from sparse_mrnn.ops.products.base import Operator, Product

VECTOR_ROWS = 1000
"""Rows from which on one column is multiplied as a vector; below, making vectors of columns costs more."""
BAND_BYTES = 2**20
"""Bytes of the activity that an SDDMM reads at a time: they should stay in cache (docs/decisions/0001)."""
OWN_COLUMNS = 64
"""Columns from which the compiled product is used: it is faster than MKL's, by up to 1.6 times at 128."""


class CsrOperator(Operator):
    """A CSR matrix; its SDDMM is compiled where numba is installed.

    Parameters
    ----------
    pattern : Pattern
    trained : Tensor of int, shape (trained synapses,), or None
        Which stored values need a gradient, ascending; None: all. The others cost no work.

    Examples
    --------
    >>> p = Pattern(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), (2, 2))
    >>> product = CsrOperator(p).bind(torch.tensor([2.0, 3.0]))
    >>> product.rmatmul(torch.ones(2, 1)).tolist()
    [[3.0], [2.0]]
    """

    name = "csr"

    def __init__(self, pattern: Pattern, trained: Tensor | None = None) -> None:
        self.pattern, self.trained, self.shape = pattern, trained, pattern.shape
        self._bands: tuple[int, Tensor] | None = None

    @cached_property
    def trained_pattern(self) -> Pattern:
        """The pattern of the synapses that need a gradient."""
        return self.pattern if self.trained is None else self.pattern.select(self.trained)

    def bands(self, row_bytes: int) -> Tensor:
        """The bands of the compiled SDDMM for rows of activity of so many bytes, or fewer."""
        if self._bands is None or row_bytes > self._bands[0]:
            p, height = self.trained_pattern, max(1, BAND_BYTES // row_bytes)
            made = kernels.load("sddmm").bands(p.crow, p.col, columns=p.shape[1], height=height)
            self._bands = row_bytes, made
        return self._bands[1]

    def bind(self, stored: Tensor) -> CsrProduct:
        return CsrProduct(self, stored)


class CsrProduct(Product):
    """A CSR matrix with values."""

    def __init__(self, operator: CsrOperator, values: Tensor) -> None:
        self.operator, self.values = operator, values.detach()
        self.pattern, self.empty = operator.pattern, operator.pattern.nnz == 0  # which MKL refuses
        self.on_device = device_products.are_used(self.values)
        self.matrix = None if self.on_device else self.pattern.matrix(self.values)
        self.kernel = None if self.on_device else kernels.load("sddmm")
        self._transposed: CsrProduct | None = None
        # one entry per synapse where compiled, else one per place in the matrix
        self._grad: Tensor | None = None

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        if self.empty:
            out.zero_() if beta == 0 else torch.mul(y, beta, out=out)
        elif self.matrix is not None:
            multiply_add(self.matrix, y, h, beta=beta, alpha=alpha, out=out)
        else:
            if out is not y and beta != 0:
                out.copy_(y)
            device_products.add_product(out, self.pattern, self.values, h, beta=beta, alpha=alpha)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = g.new_zeros(self.pattern.shape[1], g.shape[1])
        if self.empty:
            return out.zero_()
        if self._transposed is None:
            pattern, order = self.pattern.transposed
            self._transposed = CsrProduct(CsrOperator(pattern), self.values.index_select(0, order))
        self._transposed.addmm(out, g, beta=0.0, alpha=1.0, out=out)
        return out

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        pattern = self.operator.trained_pattern
        if pattern.nnz == 0:
            return
        if self.kernel is not None:
            if self._grad is None:
                self._grad = self.values.new_zeros(pattern.nnz)
            bands = self.operator.bands(h.shape[1] * h.element_size())
            self.kernel.accumulate(bands, pattern.col, g, h, self._grad)
            return
        if self._grad is None:
            self._grad = self.values.new_zeros(pattern.unique[0].nnz)
        device_products.add_sampled(self._grad, pattern.unique[0], g, h)

    def grad(self) -> Tensor:
        if self._grad is None:
            return torch.zeros_like(self.values)
        grad = self._grad
        if self.kernel is None:
            merged = self.operator.trained_pattern.unique[1]
            grad = grad if merged is None else grad.index_select(0, merged)
        if self.operator.trained is None:
            return grad
        return torch.zeros_like(self.values).index_copy_(0, self.operator.trained.long(), grad)


def multiply_add(matrix: Tensor, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
    """out = beta * y + alpha * matrix h for a CSR or dense matrix; in place without a copy where y is out."""
    own = matrix.layout == torch.sparse_csr and h.shape[1] >= OWN_COLUMNS and h.device.type == "cpu"
    kernel = kernels.load("products") if own and h.is_contiguous() and out.is_contiguous() else None
    if kernel is not None:
        if out is not y and beta != 0:
            out.copy_(y)
        arrays = [t.numpy() for t in (matrix.crow_indices(), matrix.col_indices(), matrix.values(), h, out)]
        scalar = arrays[-1].dtype.type
        kernel.multiply_rows.of(matrix.values().numel() * h.shape[1])(*arrays, scalar(beta), scalar(alpha))
    elif h.shape[1] == 1 and y.shape[0] >= VECTOR_ROWS:
        torch.addmv(y[:, 0], matrix, h[:, 0], beta=beta, alpha=alpha, out=out[:, 0])
    else:
        torch.addmm(y, matrix, h, beta=beta, alpha=alpha, out=out)
