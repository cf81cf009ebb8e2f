"""Processes that share a network: their messages, and an error if one of them has ended."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sparse_mrnn.errors import DistributedError, SparseMRNNError

T = TypeVar("T")
TIMEOUT = 300.0
"""Seconds a rank waits for the others by default."""
LAST_WORK = 0.2
"""Seconds that gloo's threads have at the end to release the Python objects of their last work.

They need the interpreter for it; one that still waits when the interpreter ends aborts the process
(torch 2.13)."""


@contextmanager
def joined(timeout: float = TIMEOUT, backend: str | None = None) -> Iterator[Ranks]:
    """Join the processes that torchrun started, as ranks, until the end of the block.

    Parameters
    ----------
    timeout : float
        Seconds to wait for a rank that does not answer; one that has ended is noticed at once.
    backend : str, optional
        Default: "nccl" with CUDA, else "gloo".

    Raises
    ------
    DistributedError
        If torchrun has not started this process, or the others do not come.
    """
    if not is_started_by_torchrun():
        what = "this process has no rank: RANK and WORLD_SIZE are not set"
        raise DistributedError(f"{what}; start it with torchrun --nproc-per-node 2 script.py.")
    chosen = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    try:
        dist.init_process_group(chosen, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"the ranks did not come together: {_first_line(error)}.") from error
    try:
        yield Ranks()
    finally:
        time.sleep(LAST_WORK)
        dist.destroy_process_group()


def is_started_by_torchrun() -> bool:
    """Return True if torchrun, or a launcher like it, has started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


class Ranks:
    """Processes of a torch.distributed group; this is one of them.

    Parameters
    ----------
    group : ProcessGroup, optional
        Default: all processes.

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    DistributedError
        If a process group is missing, or this process is not in it.
    """

    def __init__(self, group: Any = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            advice = "start with torchrun and sparse_mrnn.distributed.joined()"
            raise DistributedError(f"a process group is missing; {advice}, or torch's init_process_group.")
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise DistributedError("this process is not in the group given.")

    def exchange(
        self, received: Tensor, sent: Tensor, sizes: tuple[Sequence[int], Sequence[int]],
        then: Callable[[Tensor], Tensor] | None = None,
    ) -> Exchange:
        """Begin to send rows to every rank and to receive from every rank.

        Parameters
        ----------
        received, sent : Tensor, contiguous
            Rank after rank along the first dimension.
        sizes : (sequence of int, sequence of int)
            Rows received from, and sent to, each rank.
        then : callable, optional
            What is done with the rows received once they are there.
        """
        work = None
        if self.size == 1:
            received.copy_(sent)
        else:
            with self._reporting():
                arguments = received, sent, list(sizes[0]), list(sizes[1])
                work = dist.all_to_all_single(*arguments, group=self.group, async_op=True)
        return Exchange(self, work, received, then)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all ranks, in place."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        """Maximum over all ranks, in place."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def any_rank(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag if it is set on any rank."""
        given = torch.tensor(flags, dtype=torch.int32, device=self.device)
        return [bool(flag) for flag in self.max(given).tolist()]

    def _reduce(self, values: Tensor, operation: Any) -> Tensor:
        if self.size > 1 and values.numel():
            with self._reporting():
                dist.all_reduce(values, operation, group=self.group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return a small object of each rank, on every rank: numbers, text, lists or dictionaries."""
        found: list[Any] = [None] * self.size
        if self.size == 1:
            return [value]
        with self._reporting():
            dist.all_gather_object(found, value, group=self.group)
        return found

    def broadcast(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0, and return its value on every rank: something small, as for `gather`.

        Raises
        ------
        DistributedError
            On the other ranks, if the function raises an error on rank 0, which raises that.
        """
        found: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.rank == 0:
            try:
                found = [function(), None]
            except BaseException as error:
                failure, found = error, [None, f"{type(error).__name__}: {error}"]
        if self.size > 1:
            with self._reporting():
                dist.broadcast_object_list(found, group=self.group, group_src=0)
        if failure is not None:
            raise failure
        if found[1] is not None:
            raise DistributedError(f"rank {self.rank} ends, for rank 0 did: {found[1]}")
        result: T = found[0]
        return result

    def run_on_all(self, function: Callable[[], T], refusal: type[SparseMRNNError] | None = None) -> T:
        """Call a function on every rank and return its value, unless it raises an error on any.

        Raises
        ------
        DistributedError
            On the other ranks, if the function raises an error on one, which raises that; with a ``refusal``
            that error instead, after which the ranks can go on.
        """
        failure: BaseException | None = None
        try:
            result = function()
        except BaseException as error:
            failure = error
        found = self.gather(None if failure is None else (type(failure).__name__, str(failure)))
        if failure is not None:
            raise failure
        for rank, said in enumerate(found):
            if said is not None and refusal is not None:
                raise refusal(f"rank {rank}: {said[1]}")
            if said is not None:
                raise DistributedError(f"rank {self.rank} ends, for rank {rank} did: {': '.join(said)}")
        return result

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the tensors of rank 0 on every rank; the others give None."""
        shapes = self.broadcast(lambda: {name: (t.shape, t.dtype) for name, t in (tensors or {}).items()})
        found = {}
        for name, (shape, dtype) in shapes.items():
            given = None if tensors is None else tensors[name].contiguous()
            found[name] = torch.empty(shape, dtype=dtype) if given is None else given
            if self.size > 1:
                there = found[name].to(self.device)
                with self._reporting():
                    dist.broadcast(there, group=self.group, group_src=0)
                found[name] = there.cpu()
        return found

    def gather_rows(self, rows: Tensor, sizes: Sequence[int], to: int | None = None) -> Tensor:
        """Return the rows of all ranks, rank after rank, on every rank or only on rank ``to``.

        Parameters
        ----------
        rows : Tensor, shape (rows of this rank, ...)
        sizes : sequence of int
            Rows of each rank.
        """
        here = to is None or to == self.rank
        wanted = [to is None or rank == to for rank in range(self.size)]
        received = rows.new_empty(sum(sizes) if here else 0, *rows.shape[1:])
        sent = torch.cat([rows for there in wanted if there] or [rows[:0]])
        row_counts = [len(rows) if there else 0 for there in wanted]
        return self.exchange(received, sent, (sizes if here else [0] * self.size, row_counts)).wait()

    def agree(self, digests: dict[str, int]) -> None:
        """Check that all ranks have the same numbers, by name.

        Raises
        ------
        DistributedError
            Naming what differs.
        """
        values = torch.tensor([*digests.values()], dtype=torch.int64)
        largest = self.max(torch.cat([values, -values]).to(self.device)).cpu()
        n = len(values)
        differing = [name for k, name in enumerate(digests) if largest[k] != -largest[n + k]]
        if differing:
            what = ", ".join(differing)
            raise DistributedError(f"the ranks differ in: {what}. Give every rank the same arguments.")

    @property
    def device(self) -> torch.device:
        """Device of the tensors in messages of this group."""
        nccl = dist.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.lost(error)

    def lost(self, error: Exception) -> NoReturn:
        """Raise the error of a rank that has ended or does not answer."""
        what = f"rank {self.rank} of {self.size}: another rank has ended, or does not answer"
        advice = "Its own message says why; start all ranks anew, and resume from the last checkpoint"
        raise DistributedError(f"{what} ({_first_line(error)}). {advice}.") from error


class Exchange:
    """Messages on their way."""

    def __init__(
        self, ranks: Ranks, work: Any, received: Tensor, then: Callable[[Tensor], Tensor] | None
    ) -> None:
        self._ranks, self._work, self._received, self._then = ranks, work, received, then

    def wait(self) -> Tensor:
        """Return what arrived, once it has; a DistributedError says that another rank has ended."""
        if self._work is not None:
            try:
                self._work.wait()
            except RuntimeError as error:
                self._ranks.lost(error)
        return self._received if self._then is None else self._then(self._received)


def _first_line(error: Exception) -> str:
    """Return the first line of a message, without the line of gloo's source and its advice."""
    text = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[\S+:\d+\] ", "", text).split(". This is typically")[0].rstrip(".")
