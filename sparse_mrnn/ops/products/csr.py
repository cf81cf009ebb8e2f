"""Backend "csr": compiled loops on the CPU, where numba is installed; else torch CSR matrices.

Torch's are MKL on the CPU and cuSPARSE on CUDA, where they are operators (`device_products`).
"""

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

    @cached_property
    def trained_pattern(self) -> Pattern:
        """The pattern of the synapses that need a gradient."""
        return self.pattern if self.trained is None else self.pattern.select(self.trained)

    def bind(self, stored: Tensor) -> CsrProduct:
        return CsrProduct(self, stored)


class CsrProduct(Product):
    """A CSR matrix with values."""

    def __init__(self, operator: CsrOperator, values: Tensor) -> None:
        self.operator, self.values = operator, values.detach()
        self.pattern, self.empty = operator.pattern, operator.pattern.nnz == 0  # which MKL refuses
        self.factor = csr_factor(self.pattern, self.values)
        self.kernel = None if device_products.are_used(self.values) else kernels.load("sddmm")
        self._transposed: Factor | None = None
        # one entry per synapse where compiled, else one per place in the matrix
        self._grad: Tensor | None = None

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        if self.empty:
            out.zero_() if beta == 0 else torch.mul(y, beta, out=out)
        else:
            self.factor.multiply_add(y, h, beta=beta, alpha=alpha, out=out)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = g.new_zeros(self.pattern.shape[1], g.shape[1])
        if self.empty:
            return out.zero_()
        if self._transposed is None:
            pattern, order = self.pattern.transposed
            self._transposed = csr_factor(pattern, self.values.index_select(0, order))
        self._transposed.multiply_add(out, g, beta=0.0, alpha=1.0, out=out)
        return out

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        pattern = self.operator.trained_pattern
        if pattern.nnz == 0:
            return
        if self.kernel is not None:
            if self._grad is None:
                self._grad = self.values.new_zeros(pattern.nnz)
            rows = (t if t.stride(1) == 1 else t.contiguous() for t in (g, h))
            self.kernel.accumulate(pattern.crow, pattern.col, *rows, self._grad)
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


class Factor:
    """A CSR or dense matrix that others are multiplied by.

    On the CPU a CSR matrix is multiplied by a compiled loop, where numba is installed; but a vector of many
    rows by MKL, which is faster.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        compiled = matrix.layout == torch.sparse_csr and matrix.device.type == "cpu"
        self.kernel = kernels.load("products") if compiled else None
        if self.kernel is not None:
            parts = matrix.crow_indices(), matrix.col_indices(), matrix.values()
            self.arrays = [part.numpy() for part in parts]
            self.number = self.arrays[2].dtype.type

    def multiply_add(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        """Make out = beta * y + alpha * matrix h; in place without a copy where y is out."""
        vector = h.shape[1] == 1 and y.shape[0] >= VECTOR_ROWS
        if self.kernel is not None and not vector and h.is_contiguous() and out.is_contiguous():
            if out is not y and beta != 0:
                out.copy_(y)
            multiply = self.kernel.multiply_rows.of(len(self.arrays[1]) * h.shape[1])
            multiply(*self.arrays, h.numpy(), out.numpy(), self.number(beta), self.number(alpha))
        elif vector:
            torch.addmv(y[:, 0], self.matrix, h[:, 0], beta=beta, alpha=alpha, out=out[:, 0])
        else:
            torch.addmm(y, self.matrix, h, beta=beta, alpha=alpha, out=out)


class OperatorFactor(Factor):
    """A CSR matrix on another device than the CPU, by the operators of `device_products`."""

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        self.pattern, self.values = pattern, values

    def multiply_add(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        if out is not y and beta != 0:
            out.copy_(y)
        device_products.add_product(out, self.pattern, self.values, h, beta=beta, alpha=alpha)


def csr_factor(pattern: Pattern, values: Tensor) -> Factor:
    """Make a factor of a pattern with values, on the device of the values."""
    if device_products.are_used(values):
        return OperatorFactor(pattern, values)
    return Factor(pattern.matrix(values))
