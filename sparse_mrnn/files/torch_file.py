"""Reading files of torch.save: tensors, containers and numbers; code in them is not run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from sparse_mrnn.errors import SparseMRNNError


def read_torch_file(path: Path, refuse: type[SparseMRNNError], *, allowed: tuple[Any, ...] = ()) -> Any:
    """The content of a file of torch.save, on the CPU, read with ``weights_only=True``.

    Parameters
    ----------
    path : Path
    refuse : type of exception
    allowed : tuple
        Classes and functions that may be in it besides, as for ``torch.serialization.safe_globals``.

    Raises
    ------
    refuse
        If the file does not exist, cannot be read, or holds more than that.
    """
    if not path.is_file():
        raise refuse(f"{path} does not exist.")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's advice, weights_only=False, would run code
        raise refuse(
            f"{path} holds more than tensors. A pickled module or other code in it is not run; save "
            "net.state_dict() where the network was made."
        ) from None
    except Exception as error:  # damage of a pickle or archive raises anything
        reason = str(error).partition("\n")[0] or "it is cut short"
        raise refuse(f"{path} cannot be read as a file of torch.save: {reason}") from None
