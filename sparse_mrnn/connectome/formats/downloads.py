"""Downloads: folders and zip archives, which of the usual files they hold, and the content of one.

Nothing is extracted from an archive to disk; names and sizes are checked before anything is unpacked.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sparse_mrnn.errors import ConnectomeError

SUFFIXES = (".csv.gz", ".csv", ".parquet", ".feather")
LARGEST = 4 << 30
"""Bytes an archive may hold in all."""
SPARED, RATIO = 16 << 20, 1000
"""A member of more bytes than the first may be this many times larger than its compressed bytes."""
DAMAGE = (
    zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, OverflowError,
    MemoryError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""Exceptions of zipfile for archives that are damaged, or of a kind that it cannot read."""


def folder_of(folder: str | os.PathLike[str], contents: str) -> Path:
    """Return the folder as a path; a ConnectomeError says what should be in it."""
    root = Path(folder)
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "not there"
        raise ConnectomeError(f"{root} is {problem}; give the folder with {contents}.")
    return root


def first_file(root: Path, names: Iterable[str]) -> Path | None:
    """Find the first file of these names, with any suffix of a table and what a browser adds to a name."""
    names = list(names)
    candidates = (root / (name + suffix) for name in names for suffix in SUFFIXES)
    exact = next((path for path in candidates if path.exists()), None)
    if exact is not None:
        return exact
    tables = sorted(path for path in root.iterdir() if path.name.endswith(SUFFIXES))
    for name in names:
        found = [path for path in tables if stem_of(path) == name]
        if len(found) > 1:
            listed = ", ".join(path.name for path in found)
            raise ConnectomeError(f"{root}: there are several tables of {name} ({listed}); keep one.")
        if found:
            return found[0]
    return None


def stem_of(path: Path) -> str:
    """Return a table's name without suffixes, and without what a browser or a file manager adds to a copy's.

    >>> stem_of(Path("neurons (1).csv.gz"))
    'neurons'
    """
    stem = next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.name)
    return re.sub(r"( ?\(\d+\)| - Copy.*| copy( \d+)?)$", "", stem)


def listing(root: Path) -> str:
    """Name the first files of a folder, for messages."""
    return ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"


def checked(path: Path) -> dict[str, zipfile.ZipInfo]:
    """List a zip archive's members; refuse names that lead outside, and sizes that look like a bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            for info in infos:
                if not info.flag_bits & 1:
                    archive.open(info).close()  # its header must agree with the directory
    except FileNotFoundError:
        raise ConnectomeError(f"{path} does not exist.") from None
    except DAMAGE as error:
        problem = f"cannot be read as a zip archive: {error}. Download it again."
        raise ConnectomeError(f"{path}: {problem}") from None
    members = {info.filename: info for info in infos}
    if len(members) < len(infos):
        raise ConnectomeError(f"{path}: two members have the same name; make the archive again.")
    for name, info in members.items():
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
            raise ConnectomeError(f"{path}: member {name!r} leads outside of the archive; it is not opened.")
        if info.flag_bits & 1:
            problem = "is encrypted; make the archive without a password."
            raise ConnectomeError(f"{path}: member {name!r} {problem}")
        if info.file_size > max(SPARED, RATIO * info.compress_size):
            growth = f"unpacks from {info.compress_size:,} to {info.file_size:,} bytes"
            raise ConnectomeError(f"{path}: member {name!r} {growth}; this looks like a zip bomb.")
    total = sum(info.file_size for info in members.values())
    if total > LARGEST:
        growth = f"unpacks to {total:,} bytes, more than {LARGEST:,}"
        raise ConnectomeError(f"{path}: the archive {growth}; this looks like a zip bomb.")
    return members


def content(path: Path, member: str, limit: int = LARGEST, *, cut: bool = False) -> bytes:
    """Read a folder's file, or a member of an archive that `checked` accepted.

    It may have ``limit`` bytes, or is ``cut`` to so many.
    """
    where = f"{path / member}" if path.is_dir() else f"{path}: member {member!r}"
    try:
        if path.is_dir():
            with (path / member).open("rb") as file:
                data = file.read(limit + 1)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                data = stream.read(limit + 1)
        if member.endswith(".bz2"):
            unpacker = bz2.BZ2Decompressor()
            data = unpacker.decompress(data, max_length=limit + 1)
            if not unpacker.eof and len(data) <= limit:
                raise EOFError("it is cut short")
    except DAMAGE as error:
        raise ConnectomeError(f"{where} cannot be read: {error}. Download it again.") from None
    if cut:
        return data[:limit]
    if len(data) > limit:
        raise ConnectomeError(f"{where} holds more than the {limit:,} bytes that it may.")
    return data
