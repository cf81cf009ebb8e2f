"""mRNNTorch's state dicts: its dense weight matrices with their masks and signs, read and checked."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import ConversionError, suggest

StateDict = Mapping[str, Any] | str | os.PathLike[str]
MATRICES = {"recurrent": "W_rec", "input": "W_inp"}
PARTS = ("", "_mask", "_sign_matrix")
"""Ends of the names of a weight matrix, of its mask and of its signs."""


@dataclass(frozen=True, eq=False)
class DenseMatrix:
    """One of mRNNTorch's weight matrices (target, source); where ``mask`` is False there is no synapse."""

    name: str
    weight: Tensor
    mask: NDArray[np.bool_]
    sign: NDArray[np.int8]

    def block(self, block: tuple[slice, slice]) -> DenseMatrix:
        """Some rows and columns."""
        return DenseMatrix(self.name, self.weight[block], self.mask[block], self.sign[block])


def read_matrices(state: StateDict, prefix: str | None = None) -> dict[str, DenseMatrix]:
    """The "recurrent" and, where there is one, the "input" matrix of a state dict or file.

    Raises
    ------
    ConversionError
        If the file cannot be read, or a matrix is missing, or not one of mRNNTorch.
    """
    tensors, where = _tensors(state)
    prefixes = [name[:-5] for name in tensors if f".{name}".endswith(".W_rec")]
    if not prefixes:
        shown = ", ".join(list(tensors)[:6]) or "no tensor"
        raise ConversionError(f"{where} is none of mRNNTorch: it has no W_rec, but {shown}.")
    if prefix is None:
        if len(prefixes) > 1:
            names = ", ".join(repr(name.rstrip(".")) for name in prefixes)
            raise ConversionError(f"{where}: there are several networks, under {names}; give prefix=.")
        chosen = prefixes[0]
    else:
        chosen = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        if chosen not in prefixes:
            hint = suggest(chosen, [name.rstrip(".") for name in prefixes], what="prefixes")
            raise ConversionError(f"{where}: there is no {chosen}W_rec. {hint}")
    n = tensors[f"{chosen}W_rec"].shape[0] if tensors[f"{chosen}W_rec"].dim() else 0
    found = {"recurrent": _matrix(tensors, f"{chosen}W_rec", where, (n, n))}
    if any(f"{chosen}W_inp{part}" in tensors for part in PARTS):
        found["input"] = _matrix(tensors, f"{chosen}W_inp", where, (n, None))
    return found


def _tensors(state: StateDict) -> tuple[dict[str, Tensor], str]:
    """All tensors by their names joined with dots, and what they are from."""
    if isinstance(state, Mapping):
        return _flat(state), "the state dict"
    path = Path(state)
    if not path.is_file():
        raise ConversionError(f"{path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's advice, weights_only=False, would run code
        raise ConversionError(
            f"{path} holds more than tensors. A pickled module or other code in it is not run; save "
            "net.state_dict() where the network was made."
        ) from None
    except Exception as error:  # damage of a pickle or archive raises anything
        reason = str(error).partition("\n")[0] or "it is cut short"
        raise ConversionError(f"{path} cannot be read as a file of torch.save: {reason}") from None
    if not isinstance(content, Mapping):
        raise ConversionError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return _flat(content), str(path)


def _flat(state: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
    return found


def _matrix(
    tensors: dict[str, Tensor], name: str, where: str, shape: tuple[int, int | None]
) -> DenseMatrix:
    for part in PARTS:
        if name + part not in tensors:
            raise ConversionError(f"{where}: {name}{part} is missing.")
        tensor = tensors[name + part]
        size = tuple(tensor.shape)
        if len(size) != 2 or size[0] != shape[0] or shape[1] not in (None, size[1]):
            expected = f"{shape[0]} x {'inputs' if shape[1] is None else shape[1]}"
            raise ConversionError(f"{where}: {name}{part} has shape {size}; it must be {expected}.")
        numeric = tensor.is_floating_point() or (part and not tensor.is_complex())
        if tensor.layout != torch.strided or tensor.is_quantized or not numeric:
            raise ConversionError(f"{where}: {name}{part} is no dense matrix of floating-point numbers.")
        shape = size
    weight, mask, sign = (tensors[name + part].detach().cpu() for part in PARTS)
    mask, sign = (part.to(torch.int8) if part.dtype == torch.bool else part for part in (mask, sign))
    for part, tensor, known in (("_mask", mask, (0, 1)), ("_sign_matrix", sign, (-1, 0, 1))):
        if not torch.isin(tensor, torch.tensor(known, dtype=tensor.dtype)).all():
            expected = ", ".join(map(str, known))
            raise ConversionError(f"{where}: {name}{part} has other values than {expected}.")
    if not torch.isfinite(weight[mask != 0]).all():
        raise ConversionError(f"{where}: {name} has synapses whose weight is not finite.")
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return DenseMatrix(name, weight.to(dtype), (mask != 0).numpy(), sign.to(torch.int8).numpy())
