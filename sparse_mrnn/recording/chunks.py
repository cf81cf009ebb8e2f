"""Chunk files of a recording: compressed by Blosc, with a checksum in front, and how damage is found."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_mrnn.atomic import reason
from sparse_mrnn.recording.metadata import Metadata, damaged

CHECKSUM, BLOSC_HEADER = 4, 16
"""Bytes of the checksum, and of Blosc's header, which ends in the size of header and data."""


def codecs() -> dict[str, Any]:
    """Codecs as `zarr.Group.create_array` takes them: compression, then a checksum of what comes out."""
    from numcodecs import CRC32, Blosc

    return {"filters": [Blosc("lz4", 1, Blosc.BITSHUFFLE)], "compressors": CRC32()}


@dataclass(frozen=True)
class ChunkFiles:
    """The chunk files of one array that hold what is recorded.

    Parameters
    ----------
    store : Path
    name : str
    counts : tuple of int
        Chunks along each axis.
    length : int
        Samples of a chunk, along the axis of time.
    """

    store: Path
    name: str
    counts: tuple[int, ...]
    length: int

    @classmethod
    def of(cls, metadata: Metadata, name: str, recorded: int) -> ChunkFiles:
        """Those of an array of a store in which so many samples are recorded."""
        description, attributes = metadata.array(name)
        chunks, dims = description["chunks"], attributes["_ARRAY_DIMENSIONS"]
        sizes = [
            recorded if dim == "time" and name != "time" else size
            for dim, size in zip(dims, description["shape"], strict=True)
        ]
        counts = tuple(math.ceil(size / chunk) for size, chunk in zip(sizes, chunks, strict=True))
        length = chunks[dims.index("time")] if "time" in dims else 1
        return cls(metadata.path, name, counts, length)

    def covering(self, start: int, stop: int) -> Iterator[Path]:
        """Files of the samples ``start:stop`` of a variable (trial, time, unit)."""
        return self._files(range(start // self.length, math.ceil(stop / self.length)))

    def __iter__(self) -> Iterator[Path]:
        return self._files(None)

    def _files(self, times: range | None) -> Iterator[Path]:
        axes = [range(count) for count in self.counts]
        if times is not None:
            axes[1] = times
        folder = self.store / self.name
        return (folder / ".".join(map(str, index)) for index in itertools.product(*axes))

    def check_sizes(self, files: Iterator[Path]) -> None:
        """Raise a RecordingError if a file is missing or cut short; reads 20 bytes of each."""
        for file in files:
            try:
                with open(file, "rb") as opened:
                    head = opened.read(CHECKSUM + BLOSC_HEADER)
                    size = os.fstat(opened.fileno()).st_size
            except FileNotFoundError:
                raise self._damaged(file, "is missing") from None
            except OSError as error:
                raise self._damaged(file, f"cannot be read: {reason(error)}") from error
            if size - CHECKSUM != int.from_bytes(head[-4:], "little") or len(head) < CHECKSUM + BLOSC_HEADER:
                raise self._damaged(file, f"is cut short or damaged ({size:,} bytes)")

    def check(self, files: Iterator[Path]) -> None:
        """Raise a RecordingError if a file is missing or not as it was written; reads all of it."""
        from numcodecs import CRC32

        for file in files:
            self.check_sizes(iter((file,)))
            try:
                CRC32().decode(file.read_bytes())
            except OSError as error:
                raise self._damaged(file, f"cannot be read: {reason(error)}") from error
            except (RuntimeError, ValueError) as error:
                raise self._damaged(file, "is not as it was written: its checksum differs") from error

    def _damaged(self, file: Path, what: str) -> Exception:
        return damaged(self.store, f"chunk {self.name}/{file.name} {what}")
