"""Zip archives opened with care: nothing is extracted to disk, names and sizes are checked first."""

from __future__ import annotations

import bz2
import lzma
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from sparse_mrnn.errors import ConnectomeError

LARGEST = 4 << 30
"""Bytes an archive may hold in all."""
SPARED, RATIO = 16 << 20, 1000
"""A member of more bytes than the first may be this many times larger than its compressed bytes."""
DAMAGE = (
    zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, OverflowError,
    MemoryError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""What zipfile raises for archives that are damaged or of an unsupported kind (a RuntimeError)."""


def checked(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Members of a zip archive by name; refused if a name leads outside, or it would unpack to too much."""
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


def content(path: Path, member: str, limit: int = LARGEST) -> bytes:
    """The bytes, at most ``limit``, of a member of an archive that `checked` accepted or a folder's file."""
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
    if len(data) > limit:
        raise ConnectomeError(f"{where} holds more than the {limit:,} bytes that it may.")
    return data
