"""Files that are whole or absent: written beside their path, synced, and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it is at its path, on the disk, once the block has ended, or the old one still is."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file or folder out of the system's cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: BaseException) -> str:
    """What an error of the system says."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
