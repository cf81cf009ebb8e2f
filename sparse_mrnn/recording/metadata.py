"""Metadata of a recording: zarr's consolidated metadata with a digest, so that damage is seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.files.atomic import reason, replacing
from sparse_mrnn.files.digest import digest

CONSOLIDATED = ".zmetadata"
DIGEST, CHUNKS = "digest", "chunks"
"""Keys beside zarr's own: a digest of the content, and one of the chunks of each array."""


@dataclass(frozen=True, eq=False)
class Metadata:
    """Content of ``.zmetadata`` without its digest: the file that counts; zarr's other files repeat it."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Metadata:
        """Read the metadata of a store; a RecordingError says if they are missing, or not as written."""
        file = path / CONSOLIDATED
        try:
            content = json.loads(file.read_bytes())
            found = content.pop(DIGEST, None)
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise damaged(path, f"cannot read {file.name}: {reason(error)}") from error
        if found != digest(content):
            raise damaged(path, f"{file.name} is not as it was written")
        return cls(path, content)

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return digest(self.content)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the recording; change them, then `write`."""
        found: dict[str, Any] = self.content["metadata"][".zattrs"]
        return found

    @property
    def chunk_digests(self) -> dict[str, list[str]]:
        """Digests of the checksums of the chunks of each array; see `ChunkFiles.digests`."""
        found: dict[str, list[str]] = self.content.setdefault(CHUNKS, {})
        return found

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the variables and coordinates."""
        files = self.content["metadata"]
        return tuple(name.removesuffix("/.zarray") for name in files if "/.zarray" in name)

    def array(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the description and the attributes of an array."""
        files = self.content["metadata"]
        return files[f"{name}/.zarray"], files[f"{name}/.zattrs"]

    def write(self) -> None:
        """Write the file that counts, and the attributes in zarr's own file."""
        text = json.dumps({**self.content, DIGEST: self.digest}, indent=1)
        for name, data in ((CONSOLIDATED, text), (".zattrs", json.dumps(self.attributes, indent=1))):
            with replacing(self.path / name) as partial:
                partial.write_bytes(data.encode())

    def restore(self, arrays: tuple[str, ...] | None = None) -> None:
        """Write zarr's metadata files anew, of all or of these arrays, if they are lost or differ."""
        for name, entry in self.content["metadata"].items():
            if arrays is not None and name.partition("/")[0] not in arrays:
                continue
            file = self.path / name
            text = json.dumps(entry, indent=1).encode()
            if not file.is_file() or file.read_bytes() != text:
                file.parent.mkdir(exist_ok=True)
                with replacing(file) as partial:
                    partial.write_bytes(text)


def damaged(path: Path, what: str) -> RecordingError:
    """Make the error of a recording that is not as it was written."""
    advice = "Restore it from a copy, or make the run anew (mode='overwrite')."
    return RecordingError(f"the recording {path} is damaged: {what}. {advice}")

