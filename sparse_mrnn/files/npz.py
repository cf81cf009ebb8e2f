"""Reading .npz files: damage becomes an error that names the file, and no pickle in it is run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import SparseMRNNError
from sparse_mrnn.files.atomic import reason


def read_npz(path: Path, refuse: type[SparseMRNNError]) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name.

    Raises
    ------
    refuse
        If the file cannot be read as an archive of arrays, or an array is of Python objects.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except MemoryError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise refuse(f"cannot read {path} as an .npz file: {reason(error)}.") from error
