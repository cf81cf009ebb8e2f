"""The interface of a backend: an Operator is what is prepared once for a pattern, a Product has values too.

Activity is (units, batch), so a row is contiguous and one time step is one sparse-dense product (SpMM); a
batch of one goes through matrix-vector kernels, which take half the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Product(ABC):
    """W with the values of one forward pass: y = W h, its transpose, and the gradient of the values."""

    @abstractmethod
    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        """out = beta * y + alpha * W h. h is (sources, batch), y and out (targets, batch).

        y may be out, and with beta 0 it may hold anything.
        """

    @abstractmethod
    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        """W^T g for g of shape (targets, batch), into ``out`` where given."""

    @abstractmethod
    def sddmm(self, g: Tensor, h: Tensor) -> None:
        """Add sum_k g[i, k] h[j, k] to the gradient of every synapse (i, j); g and h are contiguous."""

    @abstractmethod
    def grad(self) -> Tensor:
        """The gradient gathered by `sddmm`, of the shape of the values; 0 for synapses not trained."""


class Operator(ABC):
    """Multiplies by a weight matrix of a shape (targets, sources) on one backend."""

    name: str
    shape: tuple[int, int]

    @abstractmethod
    def bind(self, stored: Tensor) -> Product:
        """A product with these values, in the operator's own order."""
