"""Processes that run a simulation together, one process alone, and signals that end a run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """Processes of which the first saves and reports, such as `sparse_mrnn.distributed.Ranks`."""

    rank: int
    size: int

    @property
    def device(self) -> torch.device:
        """Device of the tensors in messages."""

    def broadcast(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0, and return its value on every rank."""

    def run_on_all(self, function: Callable[[], None]) -> None:
        """Call a function on every rank; if it fails on one, all end."""

    def gather_rows(self, rows: Tensor, sizes: Sequence[int], to: int | None = None) -> Tensor:
        """Return the rows of all ranks, ``sizes`` of each, on rank ``to``; an empty tensor elsewhere."""

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the tensors of rank 0 on every rank; the others give None."""

    def gather(self, value: Any) -> list[Any]:
        """Return a small object of each rank, on every rank."""

    def any_rank(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag if it is set on any rank."""


class OneProcess:
    """This process alone."""

    rank, size, device = 0, 1, torch.device("cpu")

    def broadcast(self, function: Callable[[], T]) -> T:
        return function()

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return tensors or {}

    def run_on_all(self, function: Callable[[], None]) -> None:
        function()

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int], to: int | None = None) -> Tensor:
        return rows

    def any_rank(self, flags: Sequence[bool]) -> list[bool]:
        return list(flags)


class Interrupt:
    """End a run between two steps: the first SIGINT or SIGTERM only sets ``requested``.

    A second SIGINT stops at once, if ``running``: before, modules are imported, some of which turn an
    interruption into an ImportError. A SIGTERM takes effect after the block, if the run ended without an
    error. A handler that a program around Python has set is left in place: Python could not set it again.
    """

    def __init__(self) -> None:
        self.requested = self.running = self._terminate = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python delivers no signals
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._terminate and kind is None:
            signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self.running and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        self._terminate |= number == signal.SIGTERM
