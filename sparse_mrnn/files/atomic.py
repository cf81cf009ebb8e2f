"""Files that are on disk whole, or as they were before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file to write to, which is renamed to ``path`` when the block ends without an exception.

    It lies in a folder of its own, ``<path>.partial``, which is removed; so is the one that a killed process
    has left. A writer may therefore have temporary files beside it, whose names begin with ".tmp".

    Raises
    ------
    OSError
        If the system cannot; ``path`` is then as it was, and nothing is left beside it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     with replacing(path) as partial:
    ...         _ = partial.write_text("whole")
    ...     path.read_text(), [file.name for file in Path(folder).iterdir()]
    ('whole', ['a.txt'])
    """
    path = Path(os.path.realpath(path))  # of a link, what it leads to is replaced
    folder = path.with_name(path.name + ".partial")
    partial = folder / path.name
    if folder.is_dir():
        _remove(folder, path.name)
    try:
        folder.mkdir()
        partial.touch()
        mode = partial.stat().st_mode  # a writer may make a file that only its owner can read
        yield partial
        partial.chmod(mode)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            _remove(folder, path.name)


def _remove(folder: Path, name: str) -> None:
    """Remove a folder with a half-written file; one that has anything else in it stays, with an OSError."""
    for file in folder.iterdir():
        if file.name == name or file.name.startswith(".tmp"):
            file.unlink()
    folder.rmdir()


def reason(error: BaseException) -> str:
    """What an error of the system says.

    >>> reason(OSError(28, "No space left on device"))
    'No space left on device'
    """
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def sync(path: Path) -> None:
    """Force a file or folder out of the system's cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
