"""The processes that run a simulation together: what a run asks of them, and the case of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """Processes of which the first saves and reports; `sparse_mrnn.distributed.Ranks` are such."""

    rank: int
    size: int

    @property
    def device(self) -> torch.device:
        """Where tensors of messages are."""

    def first(self, function: Callable[[], T]) -> T:
        """What a function returns on rank 0, on every rank."""

    def each(self, function: Callable[[], None]) -> None:
        """Call a function on every rank; if it fails on one, all end."""

    def gather_rows(self, rows: Tensor, sizes: Sequence[int], to: int | None = None) -> Tensor:
        """Rows of all ranks, of so many each, on rank ``to``; elsewhere none."""

    def share(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Tensors of rank 0 on every rank, which gives None."""

    def gather(self, value: Any) -> list[Any]:
        """A small object of each rank, on every rank."""

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Whether each of these holds on any rank."""


class OneProcess:
    """This process alone."""

    rank, size, device = 0, 1, torch.device("cpu")

    def first(self, function: Callable[[], T]) -> T:
        return function()

    def share(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return tensors or {}

    def each(self, function: Callable[[], None]) -> None:
        function()

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int], to: int | None = None) -> Tensor:
        return rows

    def any(self, flags: Sequence[bool]) -> list[bool]:
        return list(flags)
