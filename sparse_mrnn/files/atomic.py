"""Files and folders that are on disk whole, or as they were before."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give an empty file to write to, which becomes ``path`` when the block ends without an exception.

    It lies in a folder of its own, ``<path>.partial``, which is removed; so is a folder that a killed process
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


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``path`` when the block ends without an exception.

    It is ``<path>.partial`` until then; what was at ``path`` is moved to ``<path>.old`` for a moment. A
    process killed in that moment has left it there: call `restore_folder` before looking for ``path``.

    Raises
    ------
    OSError
        If the system cannot; ``path`` is then as it was, and nothing is left beside it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "run")
    ...     for text in ("one", "two"):
    ...         with replacing_folder(path) as partial:
    ...             _ = (partial / text).write_text(text)
    ...     [file.name for file in path.iterdir()], [file.name for file in Path(folder).iterdir()]
    (['two'], ['run'])
    """
    partial, old = (path.with_name(path.name + end) for end in (".partial", ".old"))
    restore_folder(path)
    for left_by_a_kill in (partial, old):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except BaseException:
        _remove_surely(partial)
        restore_folder(path)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def restore_folder(path: Path) -> None:
    """Bring back a folder that `replacing_folder` had moved out of the way when its process was killed."""
    old = path.with_name(path.name + ".old")
    if old.exists() and not path.exists():
        old.rename(path)


def _remove_surely(folder: Path) -> None:
    """Remove a folder into which zarr's threads may still be writing other files than the one that failed."""
    absent = 0
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        absent = 0 if folder.exists() else absent + 1
        if absent == 3:
            break
        time.sleep(0.005)


def _remove(folder: Path, name: str) -> None:
    """Remove a folder with a half-written file; one that has anything else in it stays, with an OSError."""
    for file in folder.iterdir():
        if file.name == name or file.name.startswith(".tmp"):
            file.unlink()
    folder.rmdir()


def reason(error: BaseException) -> str:
    """Say what went wrong, in the system's words.

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
