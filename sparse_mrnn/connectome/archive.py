"""Zip archives opened with care: nothing is extracted to disk, names and sizes are checked first."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from sparse_mrnn.errors import ConnectomeError

LARGEST = 4 << 30
"""Bytes an archive may hold in all."""
RATIO = 1000
"""A member of more than 64 MiB may be this many times larger than its compressed bytes."""


def checked(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Members of a zip archive by name; refused if a name leads outside, or it would unpack to too much."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    except FileNotFoundError:
        raise ConnectomeError(f"{path} does not exist.") from None
    except (zipfile.BadZipFile, OSError) as error:
        problem = f"cannot be read as a zip archive: {error}. Download it again."
        raise ConnectomeError(f"{path}: {problem}") from None
    for name, info in members.items():
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
            raise ConnectomeError(f"{path}: member {name!r} leads outside of the archive; it is not opened.")
        if info.file_size > 64 << 20 and info.file_size > RATIO * max(info.compress_size, 1):
            growth = f"unpacks from {info.compress_size:,} to {info.file_size:,} bytes"
            raise ConnectomeError(f"{path}: member {name!r} {growth}; this looks like a zip bomb.")
    total = sum(info.file_size for info in members.values())
    if total > LARGEST:
        growth = f"unpacks to {total:,} bytes, more than {LARGEST:,}"
        raise ConnectomeError(f"{path}: the archive {growth}; this looks like a zip bomb.")
    return members


def text(path: Path, member: str) -> str:
    """A member of an archive that `checked` accepted, as text (.bz2 members decompressed)."""
    limit = checked(path)[member].file_size
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            data = file.read(limit + 1)
        if member.endswith(".bz2"):
            import bz2

            unpacker = bz2.BZ2Decompressor()
            data = unpacker.decompress(data, max_length=LARGEST)
            if not unpacker.eof:
                problem = f"is cut short or unpacks to more than {LARGEST:,} bytes."
                raise ConnectomeError(f"{path}: member {member!r} {problem}")
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        problem = f"cannot be read: {error}. Download the archive again."
        raise ConnectomeError(f"{path}: member {member!r} {problem}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConnectomeError(f"{path}: member {member!r} is not UTF-8 text.") from None
