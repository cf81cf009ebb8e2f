"""The processes that run a simulation together: what a run asks of them, and the case of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """Processes of which the first records, saves and reports; `sparse_mrnn.distributed.Ranks` are such."""

    rank: int

    def first(self, function: Callable[[], T]) -> T:
        """What a function returns on rank 0, on every rank."""

    def share(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Tensors of rank 0 on every rank, which gives None."""

    def gather(self, value: Any) -> list[Any]:
        """A small object of each rank, on every rank."""

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Whether each of these holds on any rank."""


class OneProcess:
    """This process alone."""

    rank = 0

    def first(self, function: Callable[[], T]) -> T:
        return function()

    def share(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return tensors or {}

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def any(self, flags: Sequence[bool]) -> list[bool]:
        return list(flags)
