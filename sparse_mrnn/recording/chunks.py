"""Chunk files of a recording: compressed by Blosc, with a checksum in front; damage is found here.

A checksum tells if a chunk is as it was written. A digest of all checksums, in the metadata, tells if the
chunks are the ones that were written.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparse_mrnn.files.atomic import reason
from sparse_mrnn.files.digest import Digest
from sparse_mrnn.recording.events import EVENTS
from sparse_mrnn.recording.metadata import Metadata, damaged

CHECKSUM, BLOSC_HEADER = 4, 16
"""Bytes of the checksum, and of Blosc's header, which ends in the size of header and data."""


def codecs() -> dict[str, Any]:
    """Return the codecs for `zarr.Group.create_array`: compression, then a checksum of the result."""
    from numcodecs import CRC32, Blosc

    return {"filters": [Blosc("lz4", 1, Blosc.BITSHUFFLE)], "compressors": CRC32()}


@dataclass(frozen=True)
class ChunkFiles:
    """Chunk files of one array, up to the last recorded sample.

    ``counts`` are the chunks along each axis, ``length`` the samples, or events, of a chunk along ``axis``.
    ``begun`` says if the run was stopped in the middle of the last chunks there.
    """

    store: Path
    name: str
    counts: tuple[int, ...]
    length: int
    begun: bool
    axis: int = 0

    @classmethod
    def of(cls, metadata: Metadata, name: str) -> ChunkFiles:
        """Find the chunk files of an array of a store."""
        description, attributes = metadata.array(name)
        chunks, dims = description["chunks"], attributes["_ARRAY_DIMENSIONS"]
        sizes, length, begun, axis = list(description["shape"]), 1, False, 0
        if "time" in dims and name != "time":  # times are there from the start
            axis, recorded = dims.index("time"), metadata.attributes["recorded"]
            length = chunks[axis]
            begun = recorded < sizes[axis] and recorded % length > 0
            sizes[axis] = recorded
        elif name in EVENTS:
            sizes, length = [metadata.attributes["spikes"]], chunks[0]
            begun = not metadata.attributes["complete"] and sizes[0] % length > 0
        counts = tuple(math.ceil(size / chunk) for size, chunk in zip(sizes, chunks, strict=True))
        return cls(metadata.path, name, counts, length, begun, axis)

    def covering(self, start: int, stop: int) -> Iterator[Path]:
        """Return the files of the samples, or events, ``start:stop`` of a variable."""
        return self._files(range(start // self.length, math.ceil(stop / self.length)))

    def __iter__(self) -> Iterator[Path]:
        return self._files(None)

    def _files(self, times: range | None) -> Iterator[Path]:
        axes = [range(count) for count in self.counts]
        axes[self.axis] = axes[self.axis] if times is None else times
        folder = self.store / self.name
        return (folder / ".".join(map(str, index)) for index in itertools.product(*axes))

    def checksum(self, file: Path) -> bytes:
        """Read the checksum in front of a file; a RecordingError says if it is missing or cut short.

        It reads 20 bytes.
        """
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
        return head[:CHECKSUM]

    def check(self, files: Iterable[Path]) -> None:
        """Raise a RecordingError if a file is missing or not as it was written; reads all of it."""
        from numcodecs import CRC32

        for file in files:
            self.checksum(file)
            try:
                CRC32().decode(file.read_bytes())
            except (OSError, RuntimeError, ValueError) as error:
                differs = "is not as it was written: its checksum differs"
                unread = f"cannot be read: {reason(error)}"
                raise self._damaged(file, unread if isinstance(error, OSError) else differs) from error

    @property
    def whole(self) -> ChunkFiles:
        """The same without the begun chunks."""
        if not self.begun:
            return self
        counts = [count - (k == self.axis) for k, count in enumerate(self.counts)]
        return replace(self, counts=tuple(counts), begun=False)

    def check_digests(self, metadata: Metadata) -> None:
        """Raise a RecordingError if a file is missing or cut short, or not the one that was written."""
        stored = metadata.chunk_digests[self.name]
        found = self.digests(self.checksum)
        if found[0] != stored[0] or (self.begun and found != stored):
            self.check(self)  # which names the one that is damaged
            raise damaged(self.store, f"chunks of {self.name} are not those that were written")

    def digests(self, checksum: Callable[[Path], bytes]) -> list[str]:
        """Return the digest of the checksums of the whole files, and the checksums of the begun ones."""
        found = Digest()
        for file in self.whole:
            found.add(checksum(file))
        last = self._files(range(self.counts[self.axis] - 1, self.counts[self.axis])) if self.begun else ()
        return [found.hexdigest(), "".join(checksum(file).hex() for file in last)]

    def _damaged(self, file: Path, what: str) -> Exception:
        return damaged(self.store, f"chunk {self.name}/{file.name} {what}")
