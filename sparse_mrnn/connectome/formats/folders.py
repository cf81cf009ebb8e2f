"""Folders of downloads: which of the usual file names are there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sparse_mrnn.errors import ConnectomeError

SUFFIXES = (".csv.gz", ".csv", ".parquet", ".feather")


def folder_of(folder: str | os.PathLike[str], contents: str) -> Path:
    """The folder as a path; a ConnectomeError says what should be in it."""
    root = Path(folder)
    if not root.is_dir():
        problem = "no folder" if root.exists() else "not there"
        raise ConnectomeError(f"{root} is {problem}; give the folder with {contents}.")
    return root


def first_file(root: Path, names: Iterable[str]) -> Path | None:
    """The first file of these names, with any suffix of a table."""
    candidates = (root / (name + suffix) for name in names for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def listing(root: Path) -> str:
    """The first files of a folder, for messages."""
    return ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
